"""Confirm: the best configurations of a study, by validation, trained again from fresh seeds.

Each is a study without a search: one configuration, a trial a seed. It runs, resumes, and is mended as every study; its runs
belong to the experiment and the parent run of the study that it confirms. Nothing here reads a test accuracy.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from pipelines import backend, data
from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from sweeps import launch, study_file
from sweeps.store import Store, study_names, val_accuracy
from sweeps.study import Study
from sweeps.verdict import FEWEST_SEEDS

CLEARLY = 0.05  # p value at which a configuration is behind the best
OWN_SEEDS = 0xC0F1  # sets the seeds of confirming apart from those of the study's own trials
MARK = "-confirm-"  # between a study's name and the number of the trial confirmed


@dataclass(frozen=True)
class Candidate:
    """A configuration of study `owner`: that of its trial `number`; `study` trains it from fresh seeds."""

    owner: str
    number: int
    study: Study


def candidates(name: str, top: int, seeds: int) -> list[Candidate]:
    """Return the `top` best complete trials of study `name` by validation, the best first, each to be trained from `seeds` seeds.

    Raises UserError when there are not so many, or the data set is no longer the study's.
    """
    if top < 1 or seeds < 1:
        raise UserError(
            f"--top {top} --seeds {seeds}: expected at least 1 of each, and {FEWEST_SEEDS} seeds for a verdict"
        )
    store = Store(name)
    attributes = store.attributes()
    owner = study_file.restore(name, attributes)
    if not owner.search:
        raise UserError(f"study {name!r} searches nothing: it is several seeds of one configuration already")
    if launch.OWNER in attributes:
        raise UserError(f"study {name!r} confirms another: name {attributes[launch.OWNER]!r}")
    complete = [trial for trial in store.trials() if trial.state == TrialState.COMPLETE]
    if len(complete) < top:
        raise UserError(
            f"study {name!r} has {len(complete)} complete trials, and {top} are to be confirmed: go on with it (sweep run "
            f"{name} --stored), or ask for fewer (--top)"
        )
    _check_dataset(owner, attributes)
    best = sorted(complete, key=lambda trial: (-val_accuracy(trial), trial.number))[:top]
    return [Candidate(name, trial.number, study_of(owner, trial, seeds)) for trial in best]


def study_of(owner: Study, trial: FrozenTrial, seeds: int) -> Study:
    """Return the study that trains a trial's configuration again, a trial a seed."""
    config = owner.run_config(trial.params, seed=0)
    return study_file.check(
        {
            "name": f"{owner.name}{MARK}{trial.number}",
            "model": owner.model,
            "dataset": owner.dataset,
            "arguments": config.hyperparameters,
            "training": config.training.model_dump(),
            "search": {},
            "budget": {"trials": seeds},
            "targets": [target.model_dump() for target in owner.targets],
            "seed": int(np.random.SeedSequence([OWN_SEEDS, owner.seed, trial.number]).generate_state(1)[0]),
            "trial_timeout": owner.trial_timeout,
        },
        f"trial {trial.number} of {owner.name}",
    )


def run(name: str, top: int, seeds: int, workers: int, device: backend.Device, console: Console) -> bool:
    """Train what is missing; return False when Ctrl-C ended it. The same call goes on where it was.

    First FEWEST_SEEDS seeds of every configuration; then a seed more of each that is not clearly behind, until there are `seeds`.
    """
    for so_far in range(min(FEWEST_SEEDS, seeds), seeds + 1):
        racing = candidates(name, top, so_far)
        if so_far > FEWEST_SEEDS:
            behind = clearly_behind({each.number: accuracies(each) for each in racing})
            for each in racing:
                if each.number in behind and ended(each) < so_far:
                    console.print(
                        f"trial {each.number} is clearly behind by validation after {ended(each)} seeds: no more of it"
                    )
            racing = [each for each in racing if each.number not in behind]
        for each in racing:
            if ended(each) >= so_far:
                continue
            console.print(f"confirming trial {each.number} of {name}: seed {ended(each) + 1} to {so_far} of {seeds}")
            if launch.run(each.study, workers, device, console, "confirm", owner=name).interrupted:
                return False
    return True


def ended(candidate: Candidate) -> int:
    """Return how many seeds have ended for good; one that diverged counts, for another in its place would be choosing."""
    if candidate.study.name not in study_names():
        return 0
    return sum(trial.state.is_finished() for trial in Store(candidate.study.name).trials())


def accuracies(candidate: Candidate) -> list[float]:
    """Return the validation accuracies of the seeds that are complete, 0 to 1."""
    if candidate.study.name not in study_names():
        return []
    trials = Store(candidate.study.name).trials()
    return [val_accuracy(trial) for trial in trials if trial.state == TrialState.COMPLETE]


def clearly_behind(by_configuration: Mapping[int, Sequence[float]]) -> set[int]:
    """Return the configurations whose mean validation accuracy is below that of the best beyond doubt (Welch's test, one-sided).

    Those with fewer than FEWEST_SEEDS seeds are neither best nor behind.
    """
    from scipy.stats import ttest_ind  # type: ignore[import-untyped]

    known = {number: values for number, values in by_configuration.items() if len(values) >= FEWEST_SEEDS}
    if not known:
        return set()
    best = max(known, key=lambda number: float(np.mean(known[number])))
    behind = set()
    for number, values in known.items():
        with warnings.catch_warnings():  # equal values have no deviation; then p is 0, or no number
            warnings.simplefilter("ignore", RuntimeWarning)
            p = ttest_ind(known[best], values, equal_var=False, alternative="greater").pvalue
        if number != best and p < CLEARLY:
            behind.add(number)
    return behind


def _check_dataset(owner: Study, attributes: Mapping[str, Any]) -> None:
    """Refuse to confirm on other images than the study's."""
    experiment = tracking.find_experiment(owner.name)
    parents = tracking.parent_runs(experiment.experiment_id, attributes["uid"]) if experiment else []
    if not parents:
        raise UserError(f"study {owner.name!r} has no parent run in MLflow: sweep doctor {owner.name} --fix makes one")
    then, now = parents[0].data.tags.get("dataset_digest"), data.load(owner.dataset).digest
    if then is not None and then != now:
        raise UserError(
            f"study {owner.name!r} was trained on {owner.dataset} with digest {then}, and here it has {now}: point MNIST_DIR, or "
            "its like, at the same images"
        )
