"""A data set as training sees it: three parts of examples and labels, in memory or read from disk batch by batch."""

import dataclasses
import hashlib
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Index = NDArray[np.int64]
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


@dataclass(frozen=True)
class Examples:
    """Examples (n, …) and their labels: class numbers (n,), or the numbers (n,) or (n, k) that are to be predicted.

    Images are (n, height, width, channels) bytes.
    """

    x: "NDArray[Any] | Rows"
    y: NDArray[Any]

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: Index) -> "Examples":
        x = self.x.chosen(rows) if isinstance(self.x, Rows) else self.x[rows]
        return Examples(x, self.y[rows])

    def followed_by(self, others: "Examples") -> "Examples":
        """Return these examples and then `others`, of the same data set."""
        both = isinstance(self.x, Rows) and isinstance(others.x, Rows)
        x = self.x.followed_by(others.x) if both else np.concatenate([self.x, others.x])  # type: ignore[union-attr, arg-type]
        return Examples(x, np.concatenate([self.y, others.y]))


@dataclass(frozen=True)
class Dataset:
    """A verified, split data set.

    `classes`: the names of the classes, by number; () where numbers are predicted. `comparable`: its test examples are those of
    published results. `digest` covers examples, labels and split. Where `watched`, `validation` are the test examples.
    `remarks`: what was found when it was read, in words. `grouped`: it was divided by groups, which stay in one part.
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
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.train.x.shape[1:])

    def for_task(self, task: str) -> Self:
        """Return it as a task sees it: where numbers are predicted, labels are no classes but numbers."""
        if task != "regression" or not self.classes:
            return self
        train, validation, test = (Examples(part.x, part.y.astype(np.float32)) for part in self.parts.values())
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
        shape = " × ".join(map(str, self.shape)) or "one number"
        into = f"in {len(self.classes):,} classes" if self.classes else "with numbers to predict"
        return f"data set {self.name}: {sum(map(len, self.parts.values())):,} {what} of {shape} {into} ({sizes})"


def is_images(x: "NDArray[Any] | Rows") -> bool:
    """Whether an array holds images: (n, height, width, 1, 3 or 4) bytes."""
    return x.dtype == np.uint8 and x.ndim == 4 and x.shape[-1] in (1, 3, 4)


def chunks(x: "NDArray[Any] | Rows") -> Iterator[NDArray[Any]]:
    """Yield all rows in their order, so many at a time as are read at once."""
    size = max(1, CHUNK // max(1, x[:1].nbytes))
    for begin in range(0, len(x), size):
        yield x[begin : begin + size]


def digest_of(parts: "list[Examples]", classes: tuple[str, ...] | None = None) -> str:
    """Return a short digest of parts in their order; `classes`: with their names, and shape and type of what there is."""
    digest = hashlib.sha256()
    if classes is not None:
        x = parts[0].x
        digest.update(json.dumps([list(x.shape[1:]), str(x.dtype), str(parts[0].y.dtype), list(classes)]).encode())
    for part in parts:  # in their order: a different split is a different digest
        digest.update(struct.pack(">q", len(part)))
        for chunk in chunks(part.x):
            digest.update(np.ascontiguousarray(chunk).data)
        digest.update(np.ascontiguousarray(part.y).data)
    return digest.hexdigest()[:16]
