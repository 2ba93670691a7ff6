"""Trials as they are stored, to be looked at: Optuna's own, or ours, which are read without loading Optuna."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol, TypeVar

import numpy as np

from pipelines.metrics import Direction, as_cost
from sweeps.stores import names


class State(IntEnum):
    """A trial's state; its names and numbers are those of Optuna's `TrialState`, with which it compares."""

    RUNNING = 0
    COMPLETE = 1
    PRUNED = 2
    FAIL = 3
    WAITING = 4

    def is_finished(self) -> bool:
        """Whether it is final."""
        return self not in (State.RUNNING, State.WAITING)


class StoredTrial(Protocol):
    """What a trial has, whoever read it."""

    number: int

    @property
    def state(self) -> Any:
        """Its state, `State` or Optuna's."""

    @property
    def values(self) -> Any:
        """Its objectives' values, the first objective's first."""

    @property
    def params(self) -> Mapping[str, Any]:
        """Its hyperparameters."""

    @property
    def user_attrs(self) -> Mapping[str, Any]:
        """What is noted of it, see `names.py`."""

    @property
    def intermediate_values(self) -> Mapping[int, float]:
        """What it has reported, by epochs trained."""


@dataclass
class SeenTrial:
    """A trial that was read without Optuna."""

    number: int
    state: State
    values: list[float] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    user_attrs: dict[str, Any] = field(default_factory=dict)
    intermediate_values: dict[int, float] = field(default_factory=dict)


AnyTrial = TypeVar("AnyTrial", bound=StoredTrial)


def deleted(trial: StoredTrial) -> bool:
    """Whether a trial was deleted: of such a one there is nothing but its number."""
    return bool(trial.user_attrs.get(names.ENDED) == names.DELETED)


def first_value(trial: StoredTrial) -> float:
    """Return a complete trial's first objective, always a metric on validation images."""
    return float(trial.values[0])


def best_first(trials: Iterable[AnyTrial], direction: Direction) -> list[AnyTrial]:
    """Return complete trials in the order of their first objective, whose `direction` that is; of equals, the earlier first."""
    return sorted(trials, key=lambda trial: (as_cost(first_value(trial), direction), trial.number))


def curve(trial: StoredTrial) -> dict[int, float]:
    """Return the values of the first objective that a trial has reported, by epochs trained."""
    noted = {
        int(key.removeprefix(prefix)): value
        for prefix in (names.FORMER_CURVE, names.CURVE)
        for key, value in trial.user_attrs.items()
        if key.startswith(prefix)
    }
    return dict(sorted((noted or trial.intermediate_values).items()))


def front(values: Iterable[Sequence[float]], directions: Sequence[Direction]) -> list[bool]:
    """Return for each trial's `values` whether no other trial is better in one objective and as good in the others."""
    costs = np.array([[as_cost(value, way) for value, way in zip(each, directions, strict=True)] for each in values])
    return [not bool(((costs <= own).all(axis=1) & (costs < own).any(axis=1)).any()) for own in costs]


def fingerprint(trials: Iterable[StoredTrial]) -> str:
    """Return what tells complete trials from others: which they are, and what came of them."""
    known = [(trial.number, list(trial.values)) for trial in trials if trial.state == State.COMPLETE]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]
