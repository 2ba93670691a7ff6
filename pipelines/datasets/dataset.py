"""A data set as training sees it: three parts of examples and labels, in memory or read from disk batch by batch."""

import dataclasses
import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Index = NDArray[np.int64]
Shape = Any  # of an example: tuple[int, ...]; of several inputs, a dict of them by their names
CHUNK = 2**24  # bytes that are read from disk at a time, where all of a part is gone through


class Rows:
    """Rows of an array that lies on disk, in an order of their own. They are read when they are asked for."""

    def __init__(self, array: NDArray[Any], index: Index):
        self._array, self._index = array, index
        self.shape, self.dtype, self.ndim = (len(index), *array.shape[1:]), array.dtype, array.ndim

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, rows: "slice | Index | int") -> NDArray[Any]:
        """Return these rows, or this one, as an array in memory."""
        return np.asarray(self._array[self._index[rows]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)

    def chosen(self, rows: Index) -> "Rows":
        """Return these rows, unread."""
        return Rows(self._array, self._index[rows])

    def followed_by(self, others: "Rows") -> "Rows":
        """Return these rows and then `others`, of the same array, unread."""
        return Rows(self._array, np.concatenate([self._index, others._index]))


class Inputs:
    """Examples of several inputs: by its name, each input's (n, …) array or rows."""

    def __init__(self, by_name: "Mapping[str, NDArray[Any] | Rows]"):
        self.by_name = dict(sorted(by_name.items()))

    def __len__(self) -> int:
        return len(next(iter(self.by_name.values())))

    def __getitem__(self, rows: "slice | Index") -> dict[str, NDArray[Any]]:
        """Return each input of these examples, as an array in memory."""
        return {name: each[rows] for name, each in self.by_name.items()}


X = Any  # examples: NDArray[Any] | Rows | Inputs


@dataclass(frozen=True)
class Examples:
    """Examples (n, …) and their labels: class numbers (n,), or the numbers (n,) or (n, k) that are to be predicted.

    Images are (n, height, width, channels) bytes. `groups`: (n,) numbers, equal where examples belong together, if that is known.
    """

    x: X
    y: NDArray[Any]
    groups: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: Index) -> "Examples":
        return Examples(_chosen(self.x, rows), self.y[rows], None if self.groups is None else self.groups[rows])

    def followed_by(self, others: "Examples") -> "Examples":
        """Return these examples and then `others`, of the same data set."""
        groups = None
        if self.groups is not None and others.groups is not None:
            groups = np.concatenate([self.groups, others.groups])
        return Examples(_joined(self.x, others.x), np.concatenate([self.y, others.y]), groups)


def _chosen(x: Any, rows: Index) -> Any:
    if isinstance(x, Inputs):
        return Inputs({name: _chosen(each, rows) for name, each in x.by_name.items()})
    return x.chosen(rows) if isinstance(x, Rows) else x[rows]


def _joined(x: Any, others: Any) -> Any:
    if isinstance(x, Inputs):
        return Inputs({name: _joined(each, others.by_name[name]) for name, each in x.by_name.items()})
    both = isinstance(x, Rows) and isinstance(others, Rows)
    return x.followed_by(others) if both else np.concatenate([x, others])


@dataclass(frozen=True)
class Dataset:
    """A verified, split data set.

    `classes`: the names of the classes, by number; () where numbers are predicted. `comparable`: its test examples are those of
    published results. `digest` covers examples, labels and split. Where `watched`, `validation` are the test examples.
    `remarks`: what was found when it was read, in words. `grouped`: it was divided by groups, which stay in one part or fold.
    """

    name: str
    train: Examples
    validation: Examples
    test: Examples
    classes: tuple[str, ...]
    comparable: bool
    digest: str
    watched: bool = False
    remarks: tuple[str, ...] = ()
    grouped: bool = False

    @classmethod
    def of(
        cls,
        name: str,
        parts: Sequence[Examples],
        classes: tuple[str, ...],
        comparable: bool,
        digest: str,
        remarks: Sequence[str] = (),
    ) -> Self:
        """Return a data set of its three parts, in the order of training."""
        train, validation, test = parts
        return cls(name, train, validation, test, classes, comparable, digest, remarks=tuple(remarks))

    @property
    def shape(self) -> Shape:
        """The shape of one example; of several inputs, theirs by their names."""
        return example_shape(self.train.x)

    def for_task(self, task: str) -> Self:
        """Return it as a task sees it: where numbers are predicted, labels are no classes but numbers."""
        if task != "regression" or not self.classes:
            return self
        train, validation, test = (
            dataclasses.replace(part, y=part.y.astype(np.float32)) for part in self.parts.values()
        )
        return dataclasses.replace(self, train=train, validation=validation, test=test, classes=())

    @property
    def has_images(self) -> bool:
        """Whether the examples are images: bytes, in one channel, three, or four."""
        return is_images(self.train.x)

    @property
    def parts(self) -> dict[str, Examples]:
        """The parts by their names."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def summary(self) -> str:
        """Return in a line what it holds: how many examples, of which shape, in how many classes, in which parts."""
        sizes = ", ".join(f"{len(part):,} {name}" for name, part in self.parts.items())
        what = "images" if self.has_images else "examples"
        shape = self.shape
        by_name = {f"{name} ": each for name, each in shape.items()} if isinstance(shape, dict) else {"": shape}
        shapes = ", ".join(name + (" × ".join(map(str, each)) or "one number") for name, each in by_name.items())
        into = f"in {len(self.classes):,} classes" if self.classes else "with numbers to predict"
        return f"data set {self.name}: {sum(map(len, self.parts.values())):,} {what} of {shapes} {into} ({sizes})"


def is_images(x: X) -> bool:
    """Whether an array holds images: (n, height, width, 1, 3 or 4) bytes. One of several inputs does not count."""
    return not isinstance(x, Inputs) and x.dtype == np.uint8 and x.ndim == 4 and x.shape[-1] in (1, 3, 4)


def on_disk(x: X) -> bool:
    """Whether examples lie on disk: data of one's own."""
    return any(isinstance(each, Rows) for each in arrays_of(x).values())


def arrays_of(x: X) -> "dict[str, NDArray[Any] | Rows]":
    """Return every array that examples consist of, by its name; of one input, that is empty."""
    return x.by_name if isinstance(x, Inputs) else {"": x}


def example_shape(x: X) -> Shape:
    """Return the shape of one example; of several inputs, theirs by their names."""
    if isinstance(x, Inputs):
        return {name: tuple(each.shape[1:]) for name, each in x.by_name.items()}
    return tuple(x.shape[1:])


def numbers_in(shape: Shape) -> int:
    """Return how many numbers an example of this shape has."""
    return sum(map(math.prod, shape.values())) if isinstance(shape, dict) else math.prod(shape)


def chunks(x: "NDArray[Any] | Rows") -> Iterator[NDArray[Any]]:
    """Yield all rows in their order, so many at a time as are read at once."""
    size = max(1, CHUNK // max(1, x[:1].nbytes))
    for begin in range(0, len(x), size):
        yield x[begin : begin + size]


def digest_of(parts: "list[Examples]", classes: tuple[str, ...] | None = None) -> str:
    """Return a short digest of parts in their order; `classes`: with their names, and shape and type of what there is."""
    digest = hashlib.sha256()
    if classes is not None:
        kinds: Any = {name: [list(x.shape[1:]), str(x.dtype)] for name, x in arrays_of(parts[0].x).items()}
        kinds = kinds.get("", [kinds])
        digest.update(json.dumps([*kinds, str(parts[0].y.dtype), list(classes)]).encode())
    for part in parts:  # in their order: a different split is a different digest
        digest.update(struct.pack(">q", len(part)))
        for x in arrays_of(part.x).values():
            for chunk in chunks(x):
                digest.update(np.ascontiguousarray(chunk).data)
        digest.update(np.ascontiguousarray(part.y).data)
    return digest.hexdigest()[:16]
