"""A folder of images, one folder a class: decoded once, into the cache.

Links that lead out of the folder are not followed, hidden files and files without an image's ending are passed over.
"""

import hashlib
import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.datasets import arrays, cache
from pipelines.datasets.dataset import Dataset
from pipelines.datasets.decode import ENDINGS, read, size_of
from pipelines.datasets.spec import FolderDataset
from pipelines.errors import UserError

PARTS = {"train": "train", "validation": "validation", "val": "validation", "valid": "validation", "test": "test"}
FEW = 3  # that are named in a message
AT_ONCE = 256  # images that wait to be written


class _File:
    """An image file: its part, its class, its path below the folder, and what tells whether it has changed."""

    __slots__ = ("changed", "label", "name", "part", "path", "size")

    def __init__(self, entry: "os.DirEntry[str]", root: Path, part: str, label: str):
        facts = entry.stat()
        self.path, self.part, self.label = entry.path, part, label
        self.name = os.path.relpath(entry.path, root)
        self.size, self.changed = facts.st_size, facts.st_mtime_ns


def load(spec: FolderDataset) -> Dataset:
    """Return the data set of a folder; raises UserError."""
    root, where = spec.path(), spec.name
    files, remarks = _listed(root, where)
    key = spec.identity | {"folder": str(root), "digest": None}
    listing = hashlib.sha256()
    for file in files:
        listing.update(f"{file.name}\0{file.size}\0{file.changed}\n".encode("utf-8", "surrogateescape"))

    def read_anew() -> Dataset:
        with cache.new() as room:
            return arrays.finish(_decoded(files, remarks, spec, room, where), spec, room, where)

    return cache.kept_or_read(key, listing.hexdigest(), spec.name, read_anew)


def _listed(root: Path, where: str) -> tuple[list[_File], list[str]]:
    """Return the image files, in the order of parts, classes and names, and what was passed over, in words."""
    if not root.is_dir():
        raise UserError(f"dataset: there is no folder {root}: expected one with a folder of images for each class")
    passed: Counter[str] = Counter()
    top = _folders(root, root, passed)
    parts = {PARTS[name]: path for name, path in top.items() if name in PARTS} if "train" in top else {}
    if parts and len(parts) < len(top):
        others = ", ".join(sorted(top.keys() - PARTS.keys())[:FEW]) or "two names of one part"
        raise UserError(
            f"{where}: folder {root.name} has train/ and {others}: expected one folder a class, or train/, validation/ and "
            "test/ alone"
        )
    files: list[_File] = []
    for part in arrays.PARTS if parts else ("train",):
        if parts and part not in parts:
            continue
        classes = _folders(parts[part], root, passed) if parts else top
        if not classes:
            place = parts[part] if parts else root
            raise UserError(f"{where}: {place} has no folders: expected one folder a class, with its images")
        for label in sorted(classes, key=_in_order(classes)):
            found = sorted(_images(classes[label], root, passed, part, label), key=lambda file: file.name)
            if not found:
                raise UserError(f"{where}: class folder {label!r} has no image ({', '.join(sorted(ENDINGS))})")
            files += found
    return files, [f"passed over: {count:,} {what}" for what, count in sorted(passed.items())]


def _folders(place: Path, root: Path, passed: Counter[str]) -> dict[str, Path]:
    """Return the folders in a folder by their names."""
    found = {}
    for entry in _entries(place):
        if entry.is_symlink() and (not _exists(entry) or _leaves(entry.path, root)):
            passed["links that lead out of the folder"] += 1
        elif entry.is_dir():
            found[entry.name] = Path(entry.path)
    return found


def _entries(place: Path | str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(place) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"dataset: {place} cannot be read ({error.strerror}): make it readable") from error


def _exists(entry: "os.DirEntry[str]") -> bool:
    """Whether what a link leads to is there; one that leads to itself leads nowhere."""
    try:
        entry.stat()
    except OSError:
        return False
    return True


def _leaves(path: str, root: Path) -> bool:
    return not Path(path).resolve().is_relative_to(root.resolve())


def _images(place: Path, root: Path, passed: Counter[str], part: str, label: str) -> Iterator[_File]:
    """Yield the images in a folder, and in those below it; a folder that is a link is entered only at the top."""
    for entry in _entries(place):
        if entry.is_dir(follow_symlinks=False):
            yield from _images(Path(entry.path), root, passed, part, label)
        elif entry.is_symlink() and (not _exists(entry) or entry.is_dir() or _leaves(entry.path, root)):
            passed["links that lead out of the folder, or to folders"] += 1
        elif Path(entry.name).suffix.lower() not in ENDINGS or not entry.is_file():
            passed["files that are not images"] += 1
        else:
            yield _File(entry, root, part, label)


def _in_order(names: Iterable[str]) -> Any:
    """Return a key that sorts class names: as numbers where all are, else as words."""
    return int if all(name.isdecimal() for name in names) else str


def _decoded(
    files: Sequence[_File], remarks: list[str], spec: FolderDataset, room: cache.Room, where: str
) -> arrays.Draft:
    """Decode all files to the cache; raises UserError for those that cannot be read, or that have several sizes and no `size`."""
    size = spec.size or _common_size(files, spec, where)
    shape = (*size, 1 if spec.color == "grey" else 3)
    x = room.allocate((len(files), *shape), np.uint8)
    unreadable: list[str] = []
    readable: list[_File] = []

    def decoded(file: _File) -> Any:
        try:
            return read(Path(file.path), shape, spec.fit)
        except UserError as error:
            return error

    from pipelines import device  # which loads NVML; whoever reads a study's definition comes past here

    with _quiet(), ThreadPoolExecutor(device.cores()) as threads:
        for begin in _progress(range(0, len(files), AT_ONCE), where):
            some = files[begin : begin + AT_ONCE]
            for file, image in zip(some, threads.map(decoded, some), strict=True):
                if isinstance(image, UserError):
                    unreadable.append(file.name)
                else:
                    x[len(readable)] = image
                    readable.append(file)
    if unreadable and not spec.skip_unreadable:
        raise UserError(
            f"{where}: {_named(unreadable)} cannot be read as images ({len(unreadable):,} of {len(files):,}): mend or remove "
            "them, or give skip_unreadable: true"
        )
    if unreadable:
        remarks.append(f"passed over: {len(unreadable):,} unreadable images ({_named(unreadable)})")
    names = sorted({file.label for file in files}, key=_in_order({file.label for file in files}))
    gone = set(names) - {file.label for file in readable}
    if gone:
        raise UserError(f"{where}: no image of class {min(gone)!r} can be read")
    counts = Counter(file.part for file in readable)
    return arrays.Draft(
        x[: len(readable)],
        np.array([file.label for file in readable]),
        {part: counts[part] for part in arrays.PARTS if counts[part]},
        names,
        _groups(readable, spec, where, remarks),
        remarks,
    )


def _common_size(files: Sequence[_File], spec: FolderDataset, where: str) -> tuple[int, int]:
    def size(file: _File) -> tuple[int, int] | None:
        try:
            return size_of(Path(file.path))
        except UserError:
            return None

    from pipelines import device

    with _quiet(), ThreadPoolExecutor(device.cores()) as threads:
        found = Counter(each for each in threads.map(size, files) if each)
    if len(found) == 1:
        ((only, _),) = found.items()
        return only
    if not found:
        raise UserError(f"{where}: none of {len(files):,} files can be read as an image")
    smallest, largest = min(found), max(found)
    raise UserError(
        f"{where}: images have {len(found):,} sizes, from {smallest[0]} × {smallest[1]} to {largest[0]} × {largest[1]} (height × "
        f"width): say which all get, as size: [{found.most_common(1)[0][0][0]}, {found.most_common(1)[0][0][1]}]"
    )


def _groups(files: Sequence[_File], spec: FolderDataset, where: str, remarks: list[str]) -> Any:
    """Return for each file what it belongs to, by the pattern on its name; a file without has a group of its own."""
    if spec.groups is None:
        return None
    pattern = re.compile(spec.groups)
    found = [(match, file) for file in files for match in [pattern.search(Path(file.name).name)]]
    without = sum(match is None for match, _ in found)
    if without == len(files):
        raise UserError(
            f"{where}: groups: {spec.groups!r} is found in no file name, such as {Path(files[0].name).name!r}"
        )
    if without:
        remarks.append(f"{without:,} images are in no group, each alone")
    texts = [file.name if match is None else match[1 if pattern.groups else 0] or "" for match, file in found]
    return np.unique(texts, return_inverse=True)[1]


@contextmanager
def _quiet() -> Iterator[None]:
    """Let nothing be said of metadata, nor of images that are large and no bombs; for all threads, whose warnings are one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:FEW]) + (" …" if len(names) > FEW else "")


def _progress(steps: Sequence[int], where: str) -> Iterable[int]:
    """Yield steps, and show on a terminal how far they are."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(steps, f"decoding {where}", console=console, disable=not sys.stderr.isatty(), transient=True)
