"""Which of the confirmed configurations validation chooses. Nothing here reads a test accuracy."""

import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from pipelines.metrics import Direction, as_cost
from pipelines.tracking import store as tracking
from sweeps.results.verdict import FEWEST_SEEDS
from sweeps.stores import names
from sweeps.stores.record import StoredStudy, find, owned_by
from sweeps.stores.store import best_first, first_value

CLEARLY = 0.05  # p value at which a configuration is behind the champion
EQUAL = 1e-12  # values that differ by less are equal: means of the same images, added up in another order


def confirmed_trials(name: str) -> dict[int, str]:
    """Return the trials of study `name` whose configurations have been trained again, each with the study that did."""
    return _belonging(name, "confirm")


def final_trials(name: str) -> dict[int, str]:
    """Return the trials of study `name` that have a final training, each with its study."""
    return _belonging(name, "final")


def planned(name: str, phase: tracking.Phase, trial: int, ended: int) -> int:
    """Return how many seeds of a trial's configuration were planned before the first was trained.

    `ended`: how many have ended, which is the answer for those that an early version trained without a note.
    """
    attributes = StoredStudy(name).attributes
    own = attributes.get(names.planned(phase, trial))
    return int(own or attributes.get(names.FORMER_SEEDS_PLANNED) or ended)


def chosen(name: str) -> int | None:
    """Return the trial of study `name` whose configuration validation chooses among all that were confirmed; None of none.

    Among those that have as many seeds as were planned, where there are any: one that was dropped from the race has fewer. By the
    first seeds, as many as all of these have: what came after, to decide a verdict, chooses nothing. By Optuna's storage, as
    everything here: a run that was deleted in MLflow changes no choice, unless the values are equal.
    """
    seeds = {number: ended(study) for number, study in confirmed_trials(name).items()}
    whole = {
        number: trials
        for number, trials in seeds.items()
        if len(trials) >= planned(name, "confirm", number, len(trials))
    }
    among = whole or seeds
    if not among:
        return None
    first = min(map(len, among.values()))
    known = {
        number: [trial for trial in trials[:first] if trial.state == TrialState.COMPLETE]
        for number, trials in among.items()
    }
    by_value = {number: [first_value(trial) for trial in trials] for number, trials in known.items()}
    direction = StoredStudy(name).store.directions()[0]
    return choose(by_value, direction, lambda number: float(np.mean([validation_loss(each) for each in known[number]])))


def ended(study: str) -> list[FrozenTrial]:
    """Return the seeds of a confirming study that have ended, by number, up to the first that has not.

    Lost ones are among them: another in place of one that diverged would be choosing. One that is ready before a lower number
    waits for it: else the fast ones would be chosen.
    """
    stored = find(study)
    trials = sorted(stored.store.trials(), key=lambda trial: trial.number) if stored else []
    return list(itertools.takewhile(lambda trial: trial.state.is_finished(), trials))


def complete(study: str) -> list[FrozenTrial]:
    """Return the complete among those seeds."""
    return [trial for trial in ended(study) if trial.state == TrialState.COMPLETE]


def values(study: str, first: int | None = None) -> list[float]:
    """Return the objective on validation images of the complete seeds of a confirming study, among its `first` or all."""
    return [first_value(trial) for trial in complete(study) if first is None or trial.number < first]


def validation_loss(trial: FrozenTrial) -> float:
    """Return the loss on validation images by which trials of equal value are ranked; infinite where it is gone."""
    run_id = trial.user_attrs.get(names.RUN_ID)
    try:
        return float(tracking.get_run(run_id).metrics.get("val_loss", math.inf)) if run_id else math.inf
    except tracking.TrackingError:
        return math.inf


def ranked(trials: Sequence[FrozenTrial], direction: Direction) -> list[FrozenTrial]:
    """Return complete trials, the best by validation first; of equal ones, that with the smaller validation loss."""
    found = []
    for _, equal in itertools.groupby(best_first(trials, direction), key=first_value):
        several = list(equal)
        found += sorted(several, key=validation_loss) if len(several) > 1 else several
    return found


def choose(
    by_configuration: Mapping[int, Sequence[float]],
    direction: Direction = "maximize",
    loss: Callable[[int], float] | None = None,
) -> int | None:
    """Return the configuration with the best mean validation value; None of none.

    `direction`: of the objective; `loss`: on validation images, by which equal ones are ranked. One with fewer than FEWEST_SEEDS
    seeds is chosen only where all have fewer.
    """
    left = {number: values for number, values in by_configuration.items() if values}
    enough = {number: values for number, values in left.items() if len(values) >= FEWEST_SEEDS} or left
    costs = {number: as_cost(float(np.mean(values)), direction) for number, values in enough.items()}
    best = [number for number, cost in costs.items() if math.isclose(cost, min(costs.values()), abs_tol=EQUAL)]
    return (
        min(best, key=loss, default=None) if loss and len(best) > 1 else min(best, key=costs.__getitem__, default=None)
    )


def tied(by_configuration: Mapping[int, Sequence[float]], direction: Direction = "maximize") -> set[int]:
    """Return which configurations go on after the first seeds: the best by mean validation value, and those tied with it.

    Tied: worse by no more than one standard error of the difference of the two means. Those with fewer than FEWEST_SEEDS seeds,
    of which some were lost, go on only where all have fewer.
    """
    known = {number: values for number, values in by_configuration.items() if len(values) >= FEWEST_SEEDS}
    if not known:
        return set(by_configuration)
    best = min(known, key=lambda number: as_cost(float(np.mean(known[number])), direction))

    def is_tied(values: Sequence[float]) -> bool:
        behind = as_cost(float(np.mean(values)), direction) - as_cost(float(np.mean(known[best])), direction)
        squares = sum(float(np.var(each, ddof=1)) / len(each) for each in (values, known[best]))
        return bool(behind <= squares**0.5 + EQUAL)

    return {number for number, values in known.items() if is_tied(values)}


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
