"""Data of one's own as arrays: checked, divided, and kept in the cache. Every kind of data ends here."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.datasets import cache
from pipelines.datasets.dataset import Dataset, Index, Inputs, Rows, X, arrays_of, chunks
from pipelines.datasets.labels import encode
from pipelines.datasets.spec import OwnDataset
from pipelines.datasets.splits import hold_out
from pipelines.errors import UserError, first_line, nearest

PARTS = ("train", "validation", "test")
KEYS = ("x", "y", *(f"{axis}_{part}" for part in PARTS for axis in "xy"), "classes", "groups")
FEW = 3  # that are named in a remark
INPUT = re.compile(r"[A-Za-z]\w{0,99}")  # the name of one of several inputs


@dataclass
class Draft:
    """Data as it was found, before it is divided.

    `x`: all examples, those of each given part together, in the order of PARTS; `sizes`: how many each has, of which those of
    `train` may still be divided. `groups`: for each of these, what it belongs to.
    """

    x: X
    labels: NDArray[Any]
    sizes: dict[str, int]
    classes: Sequence[str] | None = None
    groups: NDArray[Any] | None = None
    remarks: list[str] = field(default_factory=list)


def keep(found: Any, spec: OwnDataset, where: str) -> Dataset:
    """Check the arrays that a function or a person gave, and return them as a data set from the cache; raises UserError."""
    arrays = as_dict(found, where)
    with cache.new() as room:
        return finish(_drafted(arrays, room, where), spec, room, where)


def as_dict(found: Any, where: str) -> dict[str, Any]:
    """Return as a dict what may be one, or (x, y), (x, y, x_test, y_test) or ((x, y), (x_test, y_test)); raises UserError."""
    if isinstance(found, Mapping):
        for key in found:
            if key not in KEYS:
                raise UserError(f"{where}: {key!r} is not known{nearest(str(key), KEYS)}; expected {', '.join(KEYS)}")
        return {str(key): value for key, value in found.items() if value is not None}
    if isinstance(found, tuple | list):
        pairs = len(found) == 2 and all(isinstance(pair, tuple) and len(pair) == 2 for pair in found)
        flat = [each for pair in found for each in pair] if pairs else [*found]
        names = {2: ("x", "y"), 4: ("x_train", "y_train", "x_test", "y_test")}.get(len(flat))
        if names:
            return dict(zip(names, flat, strict=True))
    raise UserError(
        f"{where}: expected a dict with x_train, y_train, x_test and y_test, or x and y; or a tuple (x, y) or "
        f"(x, y, x_test, y_test); got {_a(found)}"
    )


def _a(value: Any) -> str:
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, tuple | list) else "")


def _drafted(arrays: Mapping[str, Any], room: cache.Room, where: str) -> Draft:
    """Write x to the cache, checked, and return all of it."""
    given = parts_of(arrays, where)
    xs = {part: _inputs(arrays[name_of("x", part, arrays)], where, name_of("x", part, arrays)) for part in given}
    ys = {part: as_array(arrays[name_of("y", part, arrays)], where, name_of("y", part, arrays)) for part in given}
    _check_inputs({name_of("x", part, arrays): inputs for part, inputs in xs.items()}, where)
    sizes = {part: len(next(iter(inputs.values()))) for part, inputs in xs.items()}
    check_lengths(given, sizes, ys, arrays, where)
    whole = {name: _written([inputs[name] for inputs in xs.values()], room, name) for name in xs[given[0]]}
    return Draft(whole[""] if "" in whole else Inputs(whole), joined(ys, arrays, where), sizes, *named(arrays, where))


def _inputs(value: Any, where: str, key: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of x by the names of the inputs, in their order; one array under ""."""
    if not isinstance(value, Mapping):
        return {"": as_array(value, where, key)}
    for name in value:
        if not isinstance(name, str) or not INPUT.fullmatch(name):
            raise UserError(f"{where}: {key} has an input {name!r}: expected a name of letters, digits and _")
    if not value:
        raise UserError(f"{where}: {key} has no inputs: expected an array for each, by its name")
    return {name: as_array(value[name], where, _label(key, name)) for name in sorted(value)}


def _label(key: str, name: str) -> str:
    return f"{key}[{name!r}]" if name else key


def _check_inputs(found: Mapping[str, Mapping[str, NDArray[Any]]], where: str) -> None:
    """Raise UserError unless all parts have the same inputs, of one shape and type, and each part as many of every one."""
    first, names = next((key, [*inputs]) for key, inputs in found.items())
    for key, inputs in found.items():
        if [*inputs] != names:
            said = [", ".join(each) or "one array" for each in (names, inputs)]
            raise UserError(f"{where}: {first} has {said[0]}, and {key} {said[1]}: expected the same inputs")
        if len({len(x) for x in inputs.values()}) > 1:
            counts = ", ".join(f"{len(x):,} of {name}" for name, x in inputs.items())
            raise UserError(f"{where}: {key} has {counts}: expected as many examples of every input")
    for name in names:
        check_alike({_label(key, name): (each[name].shape, each[name].dtype) for key, each in found.items()}, where)


def _written(parts: Sequence[NDArray[Any]], room: cache.Room, name: str) -> NDArray[Any]:
    """Return what is kept of an input: its parts, one after the other."""
    x = room.allocate((sum(map(len, parts)), *parts[0].shape[1:]), kept_type(parts[0].dtype), name)
    begin = 0
    for part in parts:
        for chunk in chunks(part):
            x[begin : begin + len(chunk)] = chunk
            begin += len(chunk)
    return x


def named(arrays: Mapping[str, Any], where: str) -> tuple[list[str] | None, NDArray[Any] | None]:
    """Return the names of the classes and the groups, where they are given."""
    classes, groups = arrays.get("classes"), arrays.get("groups")
    if classes is not None:
        classes = [str(name) for name in np.asarray(classes).ravel().tolist()]
        if len(set(classes)) < len(classes):
            raise UserError(f"{where}: classes has a name twice: {', '.join(classes)}")
    return classes, None if groups is None else as_array(groups, where, "groups")


def name_of(axis: str, part: str, arrays: Mapping[str, Any]) -> str:
    """Return the key under which a part's x or y is given."""
    return axis if part == "train" and axis in arrays else f"{axis}_{part}"


def parts_of(keys: Mapping[str, Any], where: str) -> list[str]:
    """Return the parts that are given, in their order; raises UserError where x or y of one is missing."""
    if ("x" in keys) == ("x_train" in keys):
        raise UserError(f"{where}: expected either x_train and y_train, or x and y; got {', '.join(keys) or 'nothing'}")
    parts = [part for part in PARTS if part == "train" or f"x_{part}" in keys or f"y_{part}" in keys]
    for part in parts:
        for axis in "xy":
            if name_of(axis, part, keys) not in keys or ("x" in keys and f"{axis}_train" in keys):
                raise UserError(
                    f"{where}: x and y go together, and {axis} of the {part} part is missing; got {', '.join(keys)}"
                )
    return parts


def as_array(value: Any, where: str, name: str) -> NDArray[Any]:
    """Return a value as an array; raises UserError for what is none."""
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever a library's own array raises
        raise UserError(f"{where}: {name} is not an array ({first_line(error)})") from error
    if array.ndim == 0:
        raise UserError(f"{where}: {name} is {value!r}, not an array")
    return array


def kept_type(dtype: Any) -> np.dtype[Any]:
    """Return as what examples are kept: bytes, which are scaled when they are trained on, or floats, which are not."""
    return np.dtype(np.uint8 if dtype == np.uint8 else np.float32)


def check_alike(found: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]], where: str) -> None:
    """Raise UserError unless the x of all parts can be trained on, and have one shape and type."""
    first, (shape, dtype) = next(iter(found.items()))
    for name, (other, kind) in found.items():
        if kind.kind not in "biuf":
            said = "objects (ragged rows, or texts)" if kind.kind == "O" else str(kind)
            raise UserError(f"{where}: {name} holds {said}: expected numbers of one shape for each example")
        if other[0] == 0:
            raise UserError(f"{where}: {name} has no examples")
        if other[1:] != shape[1:]:
            raise UserError(
                f"{where}: examples of {first} have shape {shape[1:]}, and of {name} {other[1:]}: expected one shape"
            )
        if kept_type(kind) != kept_type(dtype):
            raise UserError(
                f"{where}: {first} is {dtype} and {name} {kind}: expected one type, and so one range of values"
            )
    if 0 in shape[1:]:
        raise UserError(f"{where}: examples of {first} have shape {shape[1:]}: nothing in them")
    if (
        dtype == np.uint8
        and len(shape) == 4
        and shape[1] in (1, 3)
        and shape[3] not in (1, 3, 4)
        and min(shape[2:]) > 4
    ):
        raise UserError(
            f"{where}: images of {first} have shape {shape[1:]}, channels first: expected channels last, so give "
            f"{first}.transpose(0, 2, 3, 1)"
        )


def check_lengths(
    parts: Sequence[str], sizes: Mapping[str, int], ys: Mapping[str, Any], arrays: Mapping[str, Any], where: str
) -> None:
    """Raise UserError unless there are as many labels as examples, and as many groups as can be divided."""
    for part in parts:
        if len(ys[part]) != sizes[part]:
            x, y = (name_of(axis, part, arrays) for axis in "xy")
            raise UserError(
                f"{where}: {x} has {sizes[part]:,} examples and {y} {len(ys[part]):,} labels: expected as many"
            )
    groups = arrays.get("groups")
    if groups is not None and len(groups) != sizes["train"]:
        raise UserError(
            f"{where}: groups has {len(groups):,} entries for {sizes['train']:,} examples: expected as many"
        )


def joined(ys: Mapping[str, NDArray[Any]], arrays: Mapping[str, Any], where: str) -> NDArray[Any]:
    """Return the labels of all parts, one part after the other."""
    first, *others = ys.values()
    for part, other in ys.items():
        if other.shape[1:] != first.shape[1:] or (other.dtype.kind in "OSU") != (first.dtype.kind in "OSU"):
            names = name_of("y", "train", arrays), name_of("y", part, arrays)
            raise UserError(f"{where}: labels of {names[0]} and {names[1]} differ in kind or shape: expected the same")
    return np.concatenate([first, *others])


def finish(draft: Draft, spec: OwnDataset, room: cache.Room, where: str) -> Dataset:
    """Divide a draft as `spec` says, and keep it in the cache; return it as it is kept. Raises UserError."""
    _check_values(draft.x, where)
    y, classes = encode(draft.labels, draft.classes, spec.labels, f"{where}: labels")
    parts = _divide(draft, y, classes, spec, where)
    remarks = [*draft.remarks, *_remarks(draft.x, parts)]
    if classes:
        remarks += _check_classes(y, parts, classes, where)
    return room.keep(spec.name, y, parts, classes, "test" in draft.sizes, remarks, draft.groups)


def _divide(draft: Draft, y: NDArray[Any], classes: Sequence[str], spec: OwnDataset, where: str) -> dict[str, Index]:
    """Return which examples each part has: what is given, and for what is missing shares of the training examples."""
    bounds = np.cumsum([0, *draft.sizes.values()])
    parts = {part: np.arange(*bounds[i : i + 2]) for i, part in enumerate(draft.sizes)}
    rest, n = parts["train"], draft.sizes["train"]
    _check_counts(y[rest], 1 + len(PARTS) - len(parts), classes, where)
    for part, share in (("test", spec.test), ("validation", spec.validation)):
        if part in parts:
            continue
        held_out = max(1, round(share * n))
        groups = None if draft.groups is None else draft.groups[rest]
        if held_out >= len(rest):
            raise UserError(f"{where}: {n} examples cannot be divided into {', '.join(PARTS)}: give more of them")
        try:
            kept, held = hold_out(y[rest], held_out, classes, groups)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        parts[part], rest = rest[held], rest[kept]
    return {"train": rest, "validation": parts["validation"], "test": parts["test"]}


def _check_counts(y: NDArray[Any], parts: int, classes: Sequence[str], where: str) -> None:
    """Raise UserError where a class has fewer training examples than `parts` that they are divided into."""
    counts = np.bincount(y, minlength=len(classes)) if classes else np.empty(0, int)
    few = np.flatnonzero((counts > 0) & (counts < parts))
    if len(few):
        others = f", and {len(few) - 1} others too few" if len(few) > 1 else ""
        raise UserError(
            f"{where}: class {classes[few[0]]!r} has {counts[few[0]]} to be divided into {parts} parts{others}: give at least "
            f"{parts} of each class, or leave it out"
        )


def _check_values(x: X, where: str) -> None:
    for name, each in arrays_of(x).items():
        if each.dtype != np.float32:
            continue
        bad = sum(int(np.count_nonzero(~np.isfinite(part).reshape(len(part), -1).all(axis=1))) for part in chunks(each))
        if bad:
            of = f" of {name}" if name else ""
            raise UserError(
                f"{where}: {bad:,} examples have values{of} that are NaN or infinite: fill them in, or leave them out"
            )


def _check_classes(y: NDArray[Any], parts: Mapping[str, Index], classes: Sequence[str], where: str) -> list[str]:
    """Raise UserError where a class has nothing to train on; return what is missing elsewhere, in words."""
    remarks = []
    for part, index in parts.items():
        missing = np.flatnonzero(np.bincount(y[index], minlength=len(classes)) == 0)
        if not len(missing):
            continue
        names = ", ".join(repr(classes[number]) for number in missing[:FEW]) + (" …" if len(missing) > FEW else "")
        if part == "train":
            raise UserError(f"{where}: class {names} has no training example: give it some, or leave it out")
        remarks.append(f"no {part} example of class {names}")
    return remarks


def _remarks(x: X, parts: Mapping[str, Index]) -> list[str]:
    """Return how many examples of a part are equal to one that is trained on, or validated on, in words."""
    digests = [b"".join(of_inputs) for of_inputs in zip(*map(_row_digests, arrays_of(x).values()), strict=True)]
    in_part = {part: {digests[row] for row in index} for part, index in parts.items()}
    found = []
    for part, others in (("validation", ("train",)), ("test", ("train", "validation"))):
        for other in others:
            equal = sum(digests[row] in in_part[other] for row in parts[part])
            if equal:
                found.append(
                    f"{equal:,} {part} example{'s are' if equal > 1 else ' is'} equal to one of the {other} part"
                )
    return found


def _row_digests(x: "NDArray[Any] | Rows") -> Iterator[bytes]:
    for chunk in chunks(x):
        yield from (hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=12).digest() for row in chunk)
