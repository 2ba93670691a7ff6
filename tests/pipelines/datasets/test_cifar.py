"""CIFAR as Keras keeps it: split, named, and verified by the files' checksums; its network is not needed here."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from pipelines import datasets
from pipelines.datasets import cifar
from pipelines.errors import DatasetUnavailable, UserError


@pytest.fixture(autouse=True)
def fresh_cache() -> Any:
    datasets._known.cache_clear()
    yield
    datasets._known.cache_clear()


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keras's cache with a CIFAR-100 of 12,000 images, and its loader, which finds it there."""
    folder = tmp_path / "datasets" / "cifar-100-python-target" / "cifar-100-python"
    folder.mkdir(parents=True)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    files = {}
    for name in cifar.FILES_100:
        (folder / name).write_text(name)
        files[name] = hashlib.md5(name.encode()).hexdigest()
    monkeypatch.setattr(cifar, "FILES_100", files)

    def loaded() -> Any:
        def part(n: int) -> tuple[np.ndarray, np.ndarray]:
            return np.zeros((n, 32, 32, 3), np.uint8), (np.arange(n) % 100)[:, np.newaxis]

        return part(12_000), part(1_000)

    monkeypatch.setattr(keras.datasets, "cifar100", SimpleNamespace(load_data=loaded))
    return folder


def test_it_is_split_and_its_classes_have_names(kept: Path) -> None:
    dataset = datasets.load("cifar100")
    assert [len(part) for part in dataset.parts.values()] == [7_000, 5_000, 1_000]
    assert dataset.shape == (32, 32, 3) and dataset.comparable and dataset.has_images
    assert len(dataset.classes) == 100 and dataset.classes[:2] == ("apple", "aquarium_fish")
    assert list(dataset.classes) == sorted(dataset.classes)
    assert np.bincount(dataset.validation.y).tolist() == [50] * 100


def test_a_changed_file_is_named(kept: Path) -> None:
    (kept / "train").write_text("another")
    with pytest.raises(UserError, match=r"train is damaged, or not that of cifar100 .*: delete it and fetch it again"):
        datasets.load("cifar100")


def test_without_it_and_a_network_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # refuses at once
    with pytest.raises(
        DatasetUnavailable, match=r"cifar10 is not in Keras's cache .*: fetch it where there is a network"
    ):
        datasets.load("cifar10")
