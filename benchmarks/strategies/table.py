"""The table of recorded learning curves: made by a sweep that prunes nothing, and asked by searches in place of training."""

import csv
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from optuna.trial import TrialState

from benchmarks import processes, recording
from pipelines import paths
from sweeps.stores.store import Store, curve
from sweeps.study import study_file
from sweeps.study.study import Choice, Study

CURVES = recording.RESULTS / "curves.csv"
CONFIGURATIONS, EPOCHS = 60, 15
BEST_SHARE = 0.05  # of the configurations, whose best epoch reaches the target


class Over(BaseException):
    """The target is reached, or the table used up; not for the searching library to catch."""


@dataclass(frozen=True)
class Row:
    """A configuration, and its validation accuracy after each epoch."""

    configuration: Mapping[str, Any]
    accuracies: Sequence[float]


class Trainer:
    """What a search has in place of training: the curve of the row next to what it asks for; counts, and says when it is over."""

    def __init__(self, rows: Sequence[Row], goal: float):
        self._rows, self._goal, self._untried = rows, goal, list(range(len(rows)))
        self.epochs = self.trials = 0
        self.reached = False

    def begin(self, wanted: Mapping[str, Any]) -> int:
        """Return the number of the row, among those not had yet, that lies next to `wanted`; raises Over."""
        if not self._untried:
            raise Over
        self.trials += 1
        places = distances(wanted, [self._rows[number].configuration for number in self._untried])
        return self._untried.pop(int(places.argmin()))

    def train(self, row: int, epoch: int) -> float:
        """Return the accuracy of a row after `epoch`, counted from 1; raises Over where it is the target's."""
        self.epochs += 1
        accuracy = self._rows[row].accuracies[epoch - 1]
        if accuracy >= self._goal:
            self.reached = True
            raise Over
        return accuracy


def target(rows: Sequence[Row]) -> float:
    """Return the validation accuracy that one configuration in twenty reaches."""
    return float(np.quantile([max(row.accuracies) for row in rows], 1 - BEST_SHARE))


def distances(wanted: Mapping[str, Any], known: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return how far each configuration is from `wanted`, each dimension scaled to the range that is searched."""
    squares = np.zeros(len(known))
    for name, entry in study().search.items():
        assert not isinstance(entry, Choice), "the lean CNN's space has numbers alone"
        scale = np.log if entry.log else np.asarray
        places = scale(np.array([float(wanted[name]), *(float(each[name]) for each in known)]))
        low, high = scale(np.array(entry.bounds, dtype=float))
        squares += ((places[1:] - places[0]) / (high - low)) ** 2
    return np.sqrt(squares)


def study(**changes: Any) -> Study:
    """Return the lean CNN's study on `mnist-5k`, without start points, with `changes`."""
    return study_file.check(content(**changes), "strategies")


def content(**changes: Any) -> dict[str, Any]:
    """Return what a file of that study holds."""
    own = {"dataset": "mnist-5k", "training": {"epochs": EPOCHS}, "budget": {"trials": CONFIGURATIONS}, "start": []}
    return {**study_file._read(study_file.find("lean_cnn")), **own, **changes}


def record() -> None:
    """Train the configurations by a sweep, in `mlruns/curves/`, and write their curves; goes on where it was."""
    folder = paths.make_mlruns() / "curves"
    folder.mkdir(exist_ok=True)
    file = folder / "study.yaml"
    changes = {"name": "curves", "sampler": "random", "pruner": "none", "start": ["recipe"], "seed": 0}
    file.write_text(yaml.safe_dump(content(**changes), sort_keys=False))
    os.environ["MLRUNS_DIR"] = str(folder)
    swept = subprocess.run(processes.sweep("run", file), check=False)
    if swept.returncode:
        raise SystemExit(swept.returncode)
    with CURVES.open("w", newline="") as opened:
        writer = csv.writer(opened)
        names = list(study().search)
        writer.writerow([*names, *(f"epoch {number}" for number in range(1, EPOCHS + 1))])
        for trial in Store("curves").trials():
            if trial.state == TrialState.COMPLETE:
                writer.writerow([*(trial.params[name] for name in names), *curve(trial).values()])


def read() -> list[Row]:
    """Return the table, the recipe first."""
    if not CURVES.exists():
        raise SystemExit(f"{CURVES} is not there: python -m benchmarks.strategies record makes it")
    return [_row(line) for line in recording.read(CURVES)]


def _row(line: dict[str, str]) -> Row:
    accuracies = [float(line.pop(f"epoch {number}")) for number in range(1, EPOCHS + 1)]
    return Row(
        {name: float(text) if "." in text or "e" in text else int(text) for name, text in line.items()}, accuracies
    )
