"""CIFAR-10 and CIFAR-100: 50,000 + 10,000 colour photographs of 32 × 32, from Keras's cache, else its download.

A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images (2009). Of the training images 5,000 are held out for
validation. Checksums: md5 of the unpacked files, as they are widely published.
"""

import hashlib
from pathlib import Path

import numpy as np

from pipelines.datasets.dataset import Dataset, Examples, digest_of
from pipelines.datasets.mnist import keras_cache, patient
from pipelines.datasets.splits import hold_out
from pipelines.errors import DatasetUnavailable, UserError, first_line

OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# fmt: off
OBJECTS_100 = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle",
    "bottle", "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle",
    "caterpillar", "cattle", "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab",
    "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox", "girl",
    "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard",
    "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange",
    "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy",
    "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea",
    "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel",
    "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman",
    "worm",
)
# fmt: on
FILES_10 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
FILES_100 = {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"}


def cifar10() -> Dataset:
    """Return CIFAR-10; raises UserError where it is damaged or not to be had."""
    return _load("cifar10", Path("cifar-10-batches-py-target") / "cifar-10-batches-py", FILES_10, OBJECTS)


def cifar100() -> Dataset:
    """Return CIFAR-100 with its 100 fine classes; raises UserError where it is damaged or not to be had."""
    return _load("cifar100", Path("cifar-100-python-target") / "cifar-100-python", FILES_100, OBJECTS_100)


def _load(name: str, place: Path, files: dict[str, str], classes: tuple[str, ...]) -> Dataset:
    import keras

    try:
        with patient():
            (x, y), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras wraps what urllib raises in bare Exceptions
        raise DatasetUnavailable(
            f"{name} is not in Keras's cache ({keras_cache()}), or damaged there, and its download failed "
            f"({first_line(error)}): fetch it where there is a network, or copy {place} there"
        ) from error
    for file, md5 in files.items():
        path = keras_cache() / place / file
        if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != md5:
            raise UserError(
                f"{path} is damaged, or not that of {name} (its md5 is not {md5}): delete it and fetch it again"
            )
    whole, test = (Examples(images, labels[:, 0].astype(np.uint8)) for images, labels in ((x, y), (x_test, y_test)))
    train, validation = hold_out(whole.y, 5_000, classes)
    parts = [whole[train], whole[validation], test]
    return Dataset.of(name, parts, classes, True, digest_of(parts))
