"""An `.npz` archive: its arrays are copied to the cache piece by piece, and never wholly in memory."""

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pipelines.datasets import arrays, cache
from pipelines.datasets.dataset import CHUNK, Dataset
from pipelines.datasets.spec import NpzDataset
from pipelines.errors import UserError, first_line, nearest, of_the_machine


def load(spec: NpzDataset) -> Dataset:
    """Return the data set of an archive; raises UserError."""
    path = spec.path()
    key = spec.identity | {"npz": str(path), "digest": None}
    return cache.kept_or_read(key, _state(path), spec.name, lambda: _read(path, spec))


def _state(path: Path) -> str:
    try:
        facts = path.stat()
    except OSError as error:
        raise UserError(f"dataset: {path} cannot be read ({error.strerror}): expected an .npz archive") from error
    return f"{facts.st_size} {facts.st_mtime_ns}"


def _read(path: Path, spec: NpzDataset) -> Dataset:
    where = path.name
    try:
        with zipfile.ZipFile(path) as archive, cache.new() as room:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            for name in members:
                if name not in arrays.KEYS:
                    known = ", ".join(arrays.KEYS)
                    raise UserError(f"{where}: {name!r} is not known{nearest(name, arrays.KEYS)}; expected {known}")
            return arrays.finish(_drafted(archive, members, room, where), spec, room, where)
    except UserError:
        raise
    except Exception as error:  # a damaged archive makes numpy and zipfile raise a dozen kinds
        if of_the_machine(error):
            raise
        raise UserError(
            f"{where} cannot be read ({first_line(error)}): expected an archive as np.savez writes it, whole"
        ) from error


def _drafted(archive: zipfile.ZipFile, members: Mapping[str, str], room: cache.Room, where: str) -> arrays.Draft:
    parts = arrays.parts_of(members, where)
    small = {key: _whole(archive, members[key], where) for key in members if not key.startswith("x")}
    heads = {}
    for part in parts:
        key = arrays.name_of("x", part, members)
        with archive.open(members[key]) as file:
            heads[key] = _head(file, key, where)
    arrays.check_alike({key: (shape, dtype) for key, (shape, _, dtype) in heads.items()}, where)
    sizes = {part: heads[arrays.name_of("x", part, members)][0][0] for part in parts}
    ys = {part: small[arrays.name_of("y", part, members)] for part in parts}
    arrays.check_lengths(parts, sizes, ys, small, where)
    shape, _, dtype = next(iter(heads.values()))
    x = room.allocate((sum(sizes.values()), *shape[1:]), arrays.kept_type(dtype))
    begin = 0
    for part in parts:
        with archive.open(members[arrays.name_of("x", part, members)]) as file:
            _copy(file, x[begin : begin + sizes[part]], arrays.name_of("x", part, members), where)
        begin += sizes[part]
    return arrays.Draft(x, arrays.joined(ys, members, where), sizes, *arrays.named(small, where))


def _head(file: IO[bytes], key: str, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the head of an array's file: its shape, whether its first axis is the fastest, and its type."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise UserError(f"{where}: {key} is pickled, and pickles are not read: save it as an array of numbers or texts")
    return shape, fortran, dtype


def _whole(archive: zipfile.ZipFile, member: str, where: str) -> NDArray[Any]:
    with archive.open(member) as file:
        _head(file, member.removesuffix(".npy"), where)
    with archive.open(member) as file:
        return np.asarray(npy.read_array(file, allow_pickle=False))


def _copy(file: IO[bytes], x: NDArray[Any], key: str, where: str) -> None:
    """Copy an array's file to `x`, so many rows at a time."""
    shape, fortran, dtype = _head(file, key, where)
    if fortran and len(shape) > 1:
        raise UserError(f"{where}: {key} lies in Fortran's order: save np.ascontiguousarray({key})")
    row = max(1, math.prod(shape[1:]) * dtype.itemsize)
    rows = max(1, CHUNK // row)
    for begin in range(0, len(x), rows):
        size = min(rows, len(x) - begin)
        content = file.read(size * row)
        if len(content) < size * row:
            raise UserError(f"{where}: {key} ends before its {shape[0]:,} examples do: the archive is cut off")
        x[begin : begin + size] = np.frombuffer(content, dtype).reshape(size, *shape[1:])
    file.read(1)  # lets the archive's own checksum be checked
