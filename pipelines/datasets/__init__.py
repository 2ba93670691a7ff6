"""The data sets: known ones by their names, and one's own from folders, archives, functions and arrays.

One file a kind; `spec` is how a study names them, `arrays` and `cache` are where data of one's own is checked and kept.
Which examples train and test is the protocol's affair:
`held_out`: a part of the training examples is held out for validation. Every sweep has it.
`official`: all training examples train; the test examples are watched as validation. Many published systems have it.
`reshuffled`: training and test examples are pooled and shuffled anew, by the run's seed, into as many to train and to test as
before; the new test examples are watched. Its accuracies are of other test examples, and never compared with the official ones.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from models import Protocol
from pipelines.datasets import cache, folder, function, npz, splits
from pipelines.datasets.arrays import keep
from pipelines.datasets.dataset import Bytes, Dataset, Examples, Inputs, Rows, digest_of, on_disk
from pipelines.datasets.known import KNOWN
from pipelines.datasets.spec import (
    ArraysDataset,
    FolderDataset,
    FunctionDataset,
    KnownDataset,
    NpzDataset,
    OwnDataset,
    Spec,
    as_text,
    parse,
)
from pipelines.errors import UserError

if TYPE_CHECKING:
    from pipelines.config import RunConfig

__all__ = [
    "Bytes",
    "Dataset",
    "Examples",
    "Inputs",
    "KnownDataset",
    "Rows",
    "Spec",
    "as_text",
    "parse",
]  # besides what is defined here

_READERS: dict[type[OwnDataset], Callable[[Any], Dataset]] = {
    FolderDataset: folder.load,
    NpzDataset: npz.load,
    FunctionDataset: function.load,
}


def load(wanted: Spec | str | Mapping[str, Any]) -> Dataset:
    """Return a data set; raises UserError when it is unknown, damaged or not to be had, or no longer what it was.

    One's own is read anew, unless `wanted` says what was found before: then that is taken from the cache.
    """
    spec = parse(wanted)
    if isinstance(spec, KnownDataset):
        return _known(spec.name)
    if spec.found is not None:
        return _kept(spec)
    return _read(spec)


@functools.lru_cache(maxsize=len(KNOWN))
def _known(name: str) -> Dataset:
    return KNOWN[name].load()


@functools.lru_cache(maxsize=8)
def _kept(spec: OwnDataset) -> Dataset:
    assert spec.found
    dataset = cache.load(spec.found.digest, spec.name)
    if dataset is None:
        dataset = _read(spec)
    if dataset.digest != spec.found.digest:
        raise UserError(
            f"data set {spec.name} had digest {spec.found.digest} when it was first read, and {spec.place} has {dataset.digest} "
            "now: put the former data back, or give the study another name"
        )
    return dataclasses.replace(dataset, comparable=spec.found.comparable)


def _read(spec: OwnDataset) -> Dataset:
    if isinstance(spec, ArraysDataset):
        raise UserError(
            f"the arrays of data set {spec.name} are no longer in {cache.folder()}: give them again, from Python, to a study of "
            "this name"
        )
    dataset = _READERS[type(spec)](spec)
    given = spec.given_comparable
    return dataset if given is None else dataclasses.replace(dataset, comparable=given)


def of_arrays(found: Any, name: str, **options: Any) -> OwnDataset:
    """Keep arrays that were given from Python; return how a study names them. Raises UserError."""
    spec = parse({"arrays": name, **options})
    assert isinstance(spec, OwnDataset)
    return spec.found_as(keep(found, spec, "arrays"))


def under(protocol: Protocol, wanted: Spec | str, seed: int) -> Dataset:
    """Return a data set as `protocol` divides it; `seed` matters to `reshuffled` alone."""
    spec = parse(wanted)
    if protocol == "held_out":
        return load(spec)
    divide = _watched if _is_settled(spec) else _watched.__wrapped__
    return divide(protocol, spec, seed if protocol == "reshuffled" else 0)


def of_run(config: "RunConfig", number: int, seed: int) -> Dataset:
    """Return the examples, as they are divided, of model `number` of a run (from 0), which is trained from `seed`."""
    if config.folds:
        return fold(config.dataset, number, config.folds)
    return under(config.protocol, config.dataset, seed)


@functools.lru_cache(maxsize=2)
def _watched(protocol: Protocol, spec: Spec, seed: int) -> Dataset:
    whole = load(spec)
    train, test = whole.train.followed_by(whole.validation), whole.test
    if protocol == "reshuffled":
        everything = train.followed_by(test)
        order = np.random.default_rng([splits.SEED, seed]).permutation(len(everything))
        train, test = (everything[part] for part in np.split(order, [len(train)]))
    return _divided(whole, train, test, test, watched=True)


def fold(wanted: Spec | str, number: int, folds: int) -> Dataset:
    """Return a data set with fold `number` (from 0) of its training and validation examples held out, and the rest to train.

    The folds are stratified, equal for all studies, and leave the test examples alone. What belongs together by its groups is in
    one fold. Raises UserError where that cannot be.
    """
    spec = parse(wanted)
    return (_fold if _is_settled(spec) else _fold.__wrapped__)(spec, number, folds)


def _is_settled(spec: Spec) -> bool:
    """Whether reading it again finds the same: a known one, or one that says what was found before."""
    return isinstance(spec, KnownDataset) or spec.found is not None


@functools.lru_cache(maxsize=32)
def _fold(spec: Spec, number: int, folds: int) -> Dataset:
    whole = load(spec)
    examples = whole.train.followed_by(whole.validation)
    if whole.grouped and examples.groups is None:
        raise UserError(
            f"data set {whole.name} has validation examples of no known group, so it has no folds: leave folds out, or give no "
            f"validation part (delete {cache.folder() / whole.digest} if an earlier version kept the data)"
        )
    train, held_out = splits.folds(examples.y, number, folds, bool(whole.classes), examples.groups)
    return _divided(whole, examples[train], examples[held_out], whole.test)


def _divided(whole: Dataset, train: Examples, validation: Examples, test: Examples, watched: bool = False) -> Dataset:
    digest = digest_of([train, validation, test], whole.classes if on_disk(whole.train.x) else None)
    return dataclasses.replace(whole, train=train, validation=validation, test=test, digest=digest, watched=watched)
