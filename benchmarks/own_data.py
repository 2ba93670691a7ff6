"""Data of one's own at size: memory of a training on photographs larger than it, the index of many files, and speed.

    python -m benchmarks.own_data memory      # a generated folder of 3 GB decoded, an epoch of a small CNN
    python -m benchmarks.own_data index       # 200,000 files: read the first time, and found again
    python -m benchmarks.own_data speed       # beside Keras's image_dataset_from_directory with cache(), in turn

Memory counted is the process's own: pages of the mapped file can be taken from it at any time. Both ways of `speed` train the
same network on the same photographs, already decoded once, in batches of 64, an epoch of each in turn, each first in every other
pair; only an idle machine says anything. Lines go to `results/own_data.csv`. Generated folders are removed.
"""

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import recording

RESULTS = recording.RESULTS / "own_data.csv"
LARGE = (4_000, 512)  # photographs, and their sides: 3.1 GB decoded
MANY = 200_000
SMALL = (6_000, 64)
CLASSES, BATCH, ROUNDS = 10, 64, 8


def main() -> None:
    """Measure what is named, and print all."""
    from pipelines import backend

    backend.configure("cpu")
    for what in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder, _outputs_in(Path(folder)):
            for line in {"memory": memory, "index": index, "speed": speed}[what](Path(folder) / "photos"):
                recording.append(RESULTS, {"what": what, **line})
    for line in recording.read(RESULTS):
        print(", ".join(f"{key} {value}" for key, value in line.items()))


@contextmanager
def _outputs_in(folder: Path) -> Iterator[None]:
    import os

    os.environ["MLRUNS_DIR"] = str(folder / "mlruns")
    yield
    del os.environ["MLRUNS_DIR"]


def generate(folder: Path, number: int, side: int) -> None:
    """Write so many JPEGs of smooth noise, in ten folders."""
    from PIL import Image

    for label in range(CLASSES):
        (folder / str(label)).mkdir(parents=True)

    def one(index: int) -> None:
        noise = np.random.default_rng(index).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(noise).resize((side, side)).save(folder / str(index % CLASSES) / f"{index:06}.jpg")

    with ThreadPoolExecutor() as threads:
        list(threads.map(one, range(number)))


def network(side: int) -> Any:
    """Return a small compiled CNN."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    images = keras.Input((side, side, 3))
    pooled = layers.MaxPooling2D(2)(layers.Conv2D(8, 5, strides=max(1, side // 32), activation="relu")(images))
    return keras.Model(images, layers.Dense(CLASSES, activation="softmax")(layers.Flatten()(pooled)))


def _training(dataset: Any, folder: Path, side: int) -> Any:
    from pipelines.config import TrainingSettings
    from pipelines.train import Training, compile_model

    settings = TrainingSettings.model_validate({"batch_size": BATCH, "epochs": 1 + 2 * ROUNDS, "keep": "last"})
    model = network(side)
    logits = compile_model(model, settings)
    return Training(model, dataset, settings, 0, folder / "0.npz", "benchmark", logits)


def memory(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the most memory of its own that this process has, in GiB, while it decodes and while it trains an epoch."""
    from pipelines import datasets

    generate(folder, *LARGE)
    with _peak() as decoding:
        dataset = datasets.load({"folder": str(folder)})
    training = _training(dataset, folder.parent, LARGE[1])
    with _peak() as an_epoch:
        training.run_epoch()
    size = sum(map(len, dataset.parts.values())) * LARGE[1] ** 2 * 3 / 2**30
    for when, most in (("decoding", decoding), ("an epoch", an_epoch)):
        yield {"way": when, "number": LARGE[0], "value": round(max(most), 2), "unit": f"GiB of {size:.1f}"}


@contextmanager
def _peak() -> Iterator[list[float]]:
    from pipelines import device

    found, over = [device.own_memory()], threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            found.append(device.own_memory())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def index(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the seconds in which many files are read the first time, and found again."""
    from pipelines import datasets

    generate(folder, MANY, 8)
    for way in ("first", "again"):
        began = time.perf_counter()
        datasets.load({"folder": str(folder)})
        yield {"way": way, "number": MANY, "value": round(time.perf_counter() - began, 1), "unit": "s"}


def speed(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the median seconds of an epoch in both ways, with the fastest and the slowest."""
    import keras

    from pipelines import datasets

    generate(folder, *SMALL)
    dataset = datasets.load({"folder": str(folder)})
    training = _training(dataset, folder.parent, SMALL[1])
    theirs = network(SMALL[1])
    theirs.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    held_out = (len(dataset.validation) + len(dataset.test)) / SMALL[0]
    parts = keras.utils.image_dataset_from_directory(
        folder, image_size=(SMALL[1],) * 2, batch_size=BATCH, validation_split=held_out, subset="both", seed=0
    )
    scaled = [part.map(lambda x, y: (x / 255, y)).cache() for part in parts]
    validation = scaled[1].take(-(-len(dataset.validation) // BATCH))
    ways = {
        "from the cache": training.run_epoch,
        "image_dataset_from_directory": lambda: theirs.fit(scaled[0], validation_data=validation, verbose=0),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(1 + ROUNDS):  # the first compiles, and fills Keras's cache
        for way in sorted(ways, reverse=bool(number % 2)):
            began = time.perf_counter()
            ways[way]()
            seconds[way].append(time.perf_counter() - began)
    for way, each in seconds.items():
        timed = each[1:]
        spread = f"s an epoch ({min(timed):.2f} to {max(timed):.2f}, n = {len(timed)})"
        yield {"way": way, "number": SMALL[0], "value": round(statistics.median(timed), 2), "unit": spread}


if __name__ == "__main__":
    main()
