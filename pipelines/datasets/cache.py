"""Data of one's own, kept once it was read: `mlruns/datasets/DIGEST/`, mapped into memory by whoever trains on it.

A folder there is whole or not there: it is written under another name, and renamed. The digest covers examples, labels, names of
the classes and the split, so two studies that divide one data set differently keep it twice.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines import paths
from pipelines.datasets.dataset import Dataset, Examples, Index, Inputs, Rows, digest_of
from pipelines.errors import UserError, first_line

SPARE = 2**26  # bytes of the disk that are left free
WHOLE = "facts.json"  # written last
GROUPS = "groups"  # beside the indices of the parts
LEFT_BEHIND = 86_400  # seconds after which nobody makes it any more


def folder() -> Path:
    """Return where data sets are kept (not made)."""
    return paths.mlruns() / "datasets"


def load(digest: str, name: str) -> Dataset | None:
    """Return the data set with this digest, called `name`, comparable if it came with test examples; None if not kept here."""
    place = folder() / digest
    try:
        facts = json.loads((place / WHOLE).read_text(encoding="utf-8"))
        names = facts.get("inputs", [""])
        xs = {name: np.load(place / _file(name), mmap_mode="r", allow_pickle=False) for name in names}
        y = np.load(place / "y.npy", allow_pickle=False)
        with np.load(place / "parts.npz", allow_pickle=False) as file:
            groups = file.get(GROUPS)
            parts = [_examples(xs, y, file[part], groups) for part in ("train", "validation", "test")]
        found = Dataset.of(name, parts, tuple(facts["classes"]), facts["test_given"], digest, facts["remarks"])
        return dataclasses.replace(found, grouped=facts["grouped"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{place} is damaged ({first_line(error)}): delete that folder, and it is made again"
        ) from error


def _file(name: str) -> str:
    return f"x-{name}.npy" if name else "x.npy"


def _examples(xs: Mapping[str, NDArray[Any]], y: NDArray[Any], index: Index, groups: NDArray[Any] | None) -> Examples:
    """Return these of all examples; those of which no group is known have none."""
    rows = {name: Rows(x, index) for name, x in xs.items()}
    own = groups[index] if groups is not None and (len(index) == 0 or index.max() < len(groups)) else None
    return Examples(rows[""] if "" in rows else Inputs(rows), y[index], own)


class Room:
    """A folder in the making."""

    def __init__(self, place: Path):
        self._place, self._xs, self._wanted = place, dict[str, NDArray[Any]](), 0

    def allocate(self, shape: tuple[int, ...], dtype: Any, name: str = "") -> NDArray[Any]:
        """Return an array on disk for all examples, to be filled; images without channels get one. Raises UserError.

        `name`: of several inputs, that of this one.
        """
        flat = shape
        if len(shape) == 1 or (len(shape) == 3 and dtype == np.uint8):
            shape = (*shape, 1)
        self._wanted += int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        free = shutil.disk_usage(self._place).free  # what is allocated takes none before it is filled
        if self._wanted + SPARE > free:
            raise UserError(
                f"the data set needs {self._wanted / 2**30:.1f} GiB in {folder()}, and the disk has {free / 2**30:.1f}: make "
                "room, or set MLRUNS_DIR to another disk"
            )
        self._xs[name] = x = np.lib.format.open_memmap(self._place / _file(name), "w+", dtype, shape)
        return x[..., 0] if len(flat) < len(shape) else x

    def keep(
        self,
        name: str,
        y: NDArray[Any],
        parts: Mapping[str, Index],
        classes: tuple[str, ...],
        test_given: bool,
        remarks: Sequence[str],
        groups: NDArray[Any] | None,
    ) -> Dataset:
        """Write the rest, and give the folder its name; return what it holds. `groups`: (m,) of the first m examples."""
        for x in self._xs.values():
            x.flush()  # type: ignore[attr-defined]
        digest = digest_of([_examples(self._xs, y, index, None) for index in parts.values()], classes)
        np.save(self._place / "y.npy", y, allow_pickle=False)
        indices = {part: index.astype(np.int64) for part, index in parts.items()}
        indices |= {} if groups is None else {GROUPS: np.unique(groups, return_inverse=True)[1]}
        np.savez(self._place / "parts.npz", **indices)  # type: ignore[arg-type]
        facts = {"classes": classes, "test_given": test_given, "remarks": [*remarks], "grouped": groups is not None}
        facts |= {} if "" in self._xs else {"inputs": [*self._xs]}
        (self._place / WHOLE).write_text(json.dumps(facts, indent=2), encoding="utf-8")
        whole = folder() / digest
        self._place.chmod(0o777 & ~_umask())  # that of a temporary folder is for one user alone
        try:
            self._place.rename(whole)
        except OSError:  # it is there: another process was faster, or one was ended while it deleted
            if not (whole / WHOLE).exists():
                shutil.rmtree(whole, ignore_errors=True)
                self._place.rename(whole)
        found = load(digest, name)
        assert found is not None
        return found


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def new() -> Iterator[Room]:
    """Yield a folder in which a data set is made; what is not kept is removed, and nothing is left where it fails."""
    for left in folder().glob(".making-*"):  # of a process that was killed
        if time.time() - left.stat().st_mtime > LEFT_BEHIND:
            shutil.rmtree(left, ignore_errors=True)
    there = next(each for each in (folder(), *folder().parents) if each.exists())
    paths.make_mlruns()
    folder().mkdir(exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=".making-", dir=folder()))
    try:
        yield Room(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
        for each in (folder(), *folder().parents):
            if each == there:
                break
            try:
                each.rmdir()
            except OSError:  # it holds something
                break


def kept_or_read(key: Mapping[str, Any], state: str, name: str, read: Callable[[], Dataset]) -> Dataset:
    """Return the data set that was kept of files in this `state`, called `name`; else what `read` returns, and remember it."""
    digest = _known(key, state)
    if digest and (found := load(digest, name)):
        return found
    dataset = read()
    _remember(key, state, dataset.digest)
    return dataset


def _known(key: Mapping[str, Any], state: str) -> str | None:
    """Return the digest under which what `key` says was kept, if its files were in `state` then and it is still there."""
    try:
        entry = json.loads(_entry(key).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if entry.get("state") != state or not (folder() / entry["digest"] / WHOLE).exists():
        return None
    return str(entry["digest"])


def _remember(key: Mapping[str, Any], state: str, digest: str) -> None:
    """Remember under which digest what `key` says was kept, its files being in `state`."""
    entry = _entry(key)
    entry.parent.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=entry.parent, delete=False, encoding="utf-8") as file:
        json.dump({"state": state, "digest": digest}, file)
    Path(file.name).replace(entry)


def _entry(key: Mapping[str, Any]) -> Path:
    text = json.dumps(key, sort_keys=True, default=str)
    return folder() / "index" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
