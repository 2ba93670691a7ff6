"""Data sets are found, verified and split; anything else is one clear line."""

import gzip
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines import datasets
from pipelines.datasets import mnist
from pipelines.errors import DatasetUnavailable, UserError


@pytest.fixture(autouse=True)
def fresh_cache():
    datasets._known.cache_clear()
    yield
    datasets._known.cache_clear()


def copied(mnist_dir: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in mnist_dir.glob("*.gz"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def copy(mnist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of MNIST that may be damaged."""
    folder = copied(mnist_dir, tmp_path / "mnist")
    monkeypatch.setenv("MNIST_DIR", str(folder))
    return folder


def test_mnist_is_split_54_6_10(mnist_dir: Path) -> None:
    dataset = datasets.load("mnist")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [54_000, 6_000, 10_000]
    assert dataset.train.x.shape == (54_000, 28, 28, 1)
    assert dataset.digest == "9229d616928f9c59"  # of images, labels and split: a new scikit-learn must not move it


def test_mnist_5k_is_split_4000_500_500() -> None:
    dataset = datasets.load("mnist-5k")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [4_000, 500, 500]
    assert dataset.digest == "4cebdde9711a2817"


def rows(*parts: datasets.Examples) -> list[bytes]:
    """Every image with its label, in an order of their own."""
    return sorted(x.tobytes() + bytes([y]) for part in parts for x, y in zip(part.x, part.y, strict=True))


def test_official_trains_on_all_training_images_and_watches_the_test_images() -> None:
    whole, official = datasets.load("mnist-5k"), datasets.under("official", "mnist-5k", 0)
    assert rows(official.train) == rows(whole.train, whole.validation)
    assert rows(official.test) == rows(official.validation) == rows(whole.test)
    assert official.watched and not whole.watched
    assert official.digest != whole.digest
    assert datasets.under("official", "mnist-5k", 1).digest == official.digest
    assert datasets.under("held_out", "mnist-5k", 1) is whole


def test_reshuffled_pools_all_images_and_divides_them_by_the_seed() -> None:
    whole, one, other = datasets.load("mnist-5k"), *(datasets.under("reshuffled", "mnist-5k", seed) for seed in (1, 2))
    assert rows(one.train, one.test) == rows(whole.train, whole.validation, whole.test)
    assert [len(one.train), len(one.test)] == [4_500, 500] and one.watched
    assert rows(one.test) == rows(one.validation) != rows(whole.test)
    assert one.digest != other.digest
    datasets._watched.cache_clear()
    assert datasets.under("reshuffled", "mnist-5k", 1).digest == one.digest


@pytest.mark.parametrize("name", ["mnist", "mnist-5k"])
def test_splits_are_stratified_and_disjoint(name: str, request: pytest.FixtureRequest) -> None:
    if name == "mnist":
        request.getfixturevalue("mnist_dir")
    dataset = datasets.load(name)
    share = np.bincount(dataset.train.y, minlength=10) / len(dataset.train)
    np.testing.assert_allclose(
        np.bincount(dataset.validation.y, minlength=10) / len(dataset.validation), share, atol=2e-3
    )
    seen = {image.tobytes() for image in dataset.train.x}
    assert len(seen) == len(dataset.train)
    assert not any(image.tobytes() in seen for image in dataset.validation.x)
    seen |= {image.tobytes() for image in dataset.validation.x}
    assert not any(image.tobytes() in seen for image in dataset.test.x)


def test_unpacked_files_serve_as_well(copy: Path) -> None:
    for path in copy.glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert datasets.load("mnist").digest == "9229d616928f9c59"


def test_npz_serves_as_well_from_folder_and_keras_cache(
    copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arrays = {part: mnist._read_idx(copy / f"{file}.gz") for part, (file, _, _) in mnist.MNIST_FILES.items()}
    folder = tmp_path / "keras" / "datasets"
    folder.mkdir(parents=True)
    np.savez(folder / "mnist.npz", **arrays)
    monkeypatch.setenv("MNIST_DIR", str(folder))
    assert datasets.load("mnist").digest == "9229d616928f9c59"
    datasets._known.cache_clear()
    monkeypatch.delenv("MNIST_DIR")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert datasets.load("mnist").digest == "9229d616928f9c59"


def test_one_changed_pixel_is_found(copy: Path) -> None:
    path = copy / "train-images-idx3-ubyte.gz"
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[1_000_000] ^= 1
    path.write_bytes(gzip.compress(bytes(raw), 1))
    with pytest.raises(UserError, match="x_train is damaged"):
        datasets.load("mnist")


def test_truncated_archive_is_named(copy: Path) -> None:
    path = copy / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte.gz cannot be read .* fetch it again"):
        datasets.load("mnist")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is not an IDX file"),
        (b"\x89PNG\r\n", "is not an IDX file"),
        (b"\x00\x00\x08\x03\x00\x00", "is not an IDX file"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x05abc", "holds 3 bytes of data where its header says"),
        (b"\x00\x00\x08\x01\xff\xff\xff\xffabc", "header says"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x03abc", r"has shape \(3,\), expected"),
    ],
)
def test_files_of_another_kind_or_size_are_named(copy: Path, content: bytes, complaint: str) -> None:
    (copy / "t10k-labels-idx1-ubyte.gz").unlink()
    (copy / "t10k-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(UserError, match=complaint):
        datasets.load("mnist")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x80\x04\x95"])
def test_damaged_npz_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    (tmp_path / "mnist.npz").write_bytes(content)
    monkeypatch.setenv("MNIST_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"mnist.npz cannot be read"):
        datasets.load("mnist")


def test_an_array_in_place_of_the_npz_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "mnist.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    monkeypatch.setenv("MNIST_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"mnist.npz cannot be read"):
        datasets.load("mnist")


def test_npz_without_the_arrays_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "mnist.npz", x_train=np.zeros(3))
    monkeypatch.setenv("MNIST_DIR", str(tmp_path))
    with pytest.raises(UserError, match="lacks y_train, x_test, y_test"):
        datasets.load("mnist")


def test_folder_without_the_files_says_what_it_should_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_DIR", str(tmp_path))
    with pytest.raises(DatasetUnavailable, match="put the four IDX files or mnist"):
        datasets.load("mnist")
    monkeypatch.setenv("MNIST_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(DatasetUnavailable, match="is not a folder"):
        datasets.load("mnist")


def test_without_files_and_network_the_way_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNIST_DIR", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # refuses at once
    with pytest.raises(DatasetUnavailable, match=r"set MNIST_DIR .* or use --dataset mnist-5k"):
        datasets.load("mnist")


def test_unknown_dataset() -> None:
    with pytest.raises(UserError, match="expected one of mnist, fashion-mnist, mnist-5k"):
        datasets.load("cifar")


def test_folds_hold_out_every_image_once_and_leave_the_test_images_alone() -> None:
    whole = datasets.load("mnist-5k")
    folds = [datasets.fold("mnist-5k", number, 4) for number in range(4)]
    held_out = sorted(image.tobytes() for fold in folds for image in fold.validation.x)
    assert held_out == sorted(image.tobytes() for part in (whole.train, whole.validation) for image in part.x)
    for fold in folds:
        assert len(fold.train) + len(fold.validation) == 4_500
        assert not {image.tobytes() for image in fold.train.x} & {image.tobytes() for image in fold.validation.x}
        np.testing.assert_array_equal(fold.test.x, whole.test.x)
        share = np.bincount(fold.validation.y, minlength=10) / len(fold.validation)
        np.testing.assert_allclose(share, np.bincount(whole.train.y, minlength=10) / len(whole.train), atol=3e-3)
    assert len({fold.digest for fold in folds}) == 4


@pytest.fixture
def clothes(mnist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MNIST's files in the place and under the names of Fashion-MNIST's, which are not to be had without a network."""
    folder = copied(mnist_dir, tmp_path / "fashion")
    monkeypatch.setenv("FASHION_MNIST_DIR", str(folder))
    return folder


def test_fashion_mnist_is_read_and_split_as_mnist_is(clothes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        part: (file, hashlib.md5((clothes / file).read_bytes()).hexdigest(), shape)
        for part, (file, _, shape) in mnist.FASHION_FILES.items()
    }
    monkeypatch.setattr(mnist, "FASHION_FILES", files)
    dataset = datasets.load("fashion-mnist")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [54_000, 6_000, 10_000]
    assert (
        dataset.name == "fashion-mnist" and dataset.digest == datasets.load("mnist").digest
    )  # its images are MNIST's here


def test_fashion_mnist_is_verified(clothes: Path) -> None:
    with pytest.raises(UserError, match=r"is damaged, or not Fashion-MNIST's .*fetch it again"):
        datasets.load("fashion-mnist")
    (clothes / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DatasetUnavailable, match=r"holds no train-images-idx3-ubyte.gz"):
        datasets.load("fashion-mnist")


def test_fashion_mnist_that_is_not_to_be_had_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FASHION_MNIST_DIR", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with pytest.raises(DatasetUnavailable, match=r"Fashion-MNIST is neither in FASHION_MNIST_DIR .*download failed"):
        datasets.load("fashion-mnist")
