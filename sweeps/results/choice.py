"""Which of the confirmed configurations validation chooses. Nothing here reads a test accuracy."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from pipelines.metrics import Direction, as_cost
from pipelines.tracking import store as tracking
from sweeps.results.verdict import FEWEST_SEEDS
from sweeps.stores.record import StoredStudy, find, owned_by
from sweeps.stores.store import first_value

CLEARLY = 0.05  # p value at which a configuration is behind the best


def confirmed_trials(name: str) -> dict[int, str]:
    """Return the trials of study `name` whose configurations have been trained again, each with the study that did."""
    return _belonging(name, "confirm")


def final_trials(name: str) -> dict[int, str]:
    """Return the trials of study `name` that have a final training, each with its study."""
    return _belonging(name, "final")


def chosen(name: str) -> int | None:
    """Return the trial of study `name` whose configuration validation chooses among all that were confirmed; None of none.

    By Optuna's storage, as everything here: a run that was deleted in MLflow changes no choice.
    """
    confirmed = {trial: values(study) for trial, study in confirmed_trials(name).items()}
    return choose(confirmed, StoredStudy(name).store.directions()[0]) if confirmed else None


def complete(study: str) -> list[FrozenTrial]:
    """Return the seeds of a confirming study that are complete."""
    stored = find(study)
    return [trial for trial in stored.store.trials() if trial.state == TrialState.COMPLETE] if stored else []


def values(study: str, first: int | None = None) -> list[float]:
    """Return the objective on validation images of the complete seeds of a confirming study, among its `first` or all."""
    return [first_value(trial) for trial in complete(study) if first is None or trial.number < first]


def choose(by_configuration: Mapping[int, Sequence[float]], direction: Direction = "maximize") -> int | None:
    """Return the configuration with the best mean validation value among those that are not clearly behind; None of none.

    `direction`: of the objective. One with fewer than FEWEST_SEEDS seeds is chosen only where all have fewer.
    """
    behind = clearly_behind(by_configuration, direction)
    left = {number: values for number, values in by_configuration.items() if number not in behind and values}
    enough = {number: values for number, values in left.items() if len(values) >= FEWEST_SEEDS} or left
    return min(enough, key=lambda number: as_cost(float(np.mean(enough[number])), direction), default=None)


def clearly_behind(by_configuration: Mapping[int, Sequence[float]], direction: Direction = "maximize") -> set[int]:
    """Return the configurations whose mean validation value is worse than the best's beyond doubt (Welch's test, one-sided).

    Those with fewer than FEWEST_SEEDS seeds are neither best nor behind.
    """
    from scipy.stats import ttest_ind

    known = {number: values for number, values in by_configuration.items() if len(values) >= FEWEST_SEEDS}
    if not known:
        return set()
    best = min(known, key=lambda number: as_cost(float(np.mean(known[number])), direction))
    behind = set()
    for number, values in known.items():
        with warnings.catch_warnings():  # equal values have no deviation; then p is 0, or no number
            warnings.simplefilter("ignore", RuntimeWarning)
            better = "greater" if direction == "maximize" else "less"
            p = ttest_ind(known[best], values, equal_var=False, alternative=better).pvalue
        if number != best and p < CLEARLY:
            behind.add(number)
    return behind


def _belonging(name: str, phase: tracking.Phase) -> dict[int, str]:
    found = {}
    for study in owned_by(name):
        number = study.name.removeprefix(f"{name}-{phase}-")
        if study.name != number and number.isdigit():
            found[int(number)] = study.name
    return dict(sorted(found.items()))
