"""Confirm: the best configurations of a study, by validation, trained again from fresh seeds.

Each is a study without a search: one configuration, a trial a seed. It runs, resumes, and is mended as every study; its runs
belong to the experiment and the parent run of the study that it confirms. The final training is one too: the chosen
configuration on training and validation images together. Test values choose nothing: they end the seeds of `--until-decided`.
"""

import statistics
from dataclasses import dataclass
from typing import Literal

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from pipelines import datasets
from pipelines.errors import UserError
from sweeps.results.choice import chosen, complete, confirmed_trials, ended, planned, ranked, tied, values
from sweeps.results.verdict import FEWEST_SEEDS
from sweeps.running import launch
from sweeps.running.resources import Resources
from sweeps.stores import names
from sweeps.stores.record import StoredStudy, find
from sweeps.stores.store import Store, curve
from sweeps.study import study_file
from sweeps.study.study import Study
from sweeps.tasks import planning
from sweeps.tasks.planning import Until

OWN_SEEDS = 0xC0F1  # sets the seeds of confirming apart from those of the study's own trials


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
    for option, number in (("top", top), ("seeds", seeds)):
        if number < 1:
            raise UserError(f"--{option} {number}: expected at least 1, and {FEWEST_SEEDS} seeds for a verdict")
    stored = StoredStudy(name)
    owner = stored.resumable()
    if stored.owner:
        raise UserError(f"study {name!r} belongs to another: name {stored.owner!r}")
    if not owner.search:
        raise UserError(f"study {name!r} searches nothing: it is several seeds of one configuration already")
    found = [trial for trial in stored.store.trials() if trial.state == TrialState.COMPLETE]
    if len(found) < top:
        raise UserError(
            f"study {name!r} has {len(found)} complete trials, and {top} are to be confirmed: resume it (sweep run "
            f"{name} --stored), or ask for fewer (--top)"
        )
    _check_dataset(owner, stored)
    best: list[Candidate] = []
    for trial in ranked(found, owner.objective.direction):
        candidate = Candidate(name, trial.number, study_of(owner, trial, seeds))
        if not any(_same_configuration(candidate.study, other.study) for other in best):
            best.append(candidate)
    if len(best) < top:
        raise UserError(
            f"the {len(found)} complete trials of study {name!r} have {len(best)} configurations, and {top} are to be confirmed: "
            "ask for fewer (--top)"
        )
    return best[:top]


def study_of(owner: Study, trial: FrozenTrial, seeds: int, epochs: int | None = None) -> Study:
    """Return the study that trains a trial's configuration again, a trial a seed.

    `epochs`: that of the final training instead, on the validation images too, for so many epochs.
    """
    config = owner.run_config(trial.params, seed=0)
    training, phase, of_phase = config.training, "confirm", []
    if epochs is not None:
        training = training.model_copy(update={"epochs": epochs, "keep": "last", "patience": None})
        phase, of_phase = "final", [1]
    own_seed = np.random.SeedSequence([OWN_SEEDS, owner.seed, trial.number, *of_phase])
    return study_file.check(
        {
            "name": f"{owner.name}-{phase}-{trial.number}",
            "model": config.model,
            "dataset": owner.dataset.content(),
            "protocol": "held_out" if epochs is None else "official",
            "arguments": config.changed_arguments(),
            "training": training.model_dump(),
            "search": {},
            "task": owner.task,
            "objectives": [owner.model_dump()["objectives"][0]],
            "metrics": config.metrics,
            "budget": {"trials": seeds},
            "targets": [target.model_dump() for target in owner.targets],
            "seed": int(own_seed.generate_state(1)[0]),
            "trial_timeout": owner.trial_timeout,
            "keep_models": 0 if owner.keep_models == 0 else None,
            "population": owner.population,
        },
        f"trial {trial.number} of {owner.name}",
    )


def run(
    name: str,
    top: int,
    seeds: int,
    resources: Resources,
    console: Console,
    final: bool = False,
    until: Until | None = None,
) -> bool:
    """Train what is missing; return False when Ctrl-C ended it. The same call resumes it.

    First FEWEST_SEEDS seeds of every configuration, or as many as train together. Then the rest of `seeds`, of the best of them
    by validation and of those that are tied with it: the others keep the seeds that they have, and get no more. So which seeds
    are trained does not depend on how many workers train them.
    `until`: and then seeds of the chosen one until a target is decided. `final`: and then the chosen one, from `seeds` seeds, on
    training and validation images together.
    """
    owner = StoredStudy(name).resumable()
    fewest = min(max(FEWEST_SEEDS, owner.population), seeds)
    racing = candidates(name, top, fewest)  # raises where what is asked for is not possible
    if until:
        planning.check(owner, until, seeds)
    for each in racing:
        if not _train(each, "confirm", seeds, resources, console):
            return False
    ahead = tied({each.number: values(each.study.name, fewest) for each in racing}, owner.objective.direction)
    for each in candidates(name, top, seeds):
        if each.number not in ahead:
            if fewest < seeds:
                console.print(f"trial {each.number} is behind by validation after {fewest} seeds: no more of it")
        elif not _train(each, "confirm", seeds, resources, console):
            return False
    if until and not _until_decided(name, until, resources, console):
        return False
    return not final or _train(final_of(name, seeds), "final", seeds, resources, console)


def _train(
    candidate: Candidate, phase: Literal["confirm", "final"], planned: int, resources: Resources, console: Console
) -> bool:
    """Train the seeds of a candidate that are missing; return False when it was stopped. `planned`: noted, before the first."""
    wanted, before = candidate.study.budget.trials or 0, len(ended(candidate.study.name))
    if before >= wanted:
        return True
    owner, note = Store(candidate.owner), names.planned(phase, candidate.number)
    if note not in owner.attributes() and find(candidate.study.name) is None:
        owner.remember(note, planned)
    what = "confirming" if phase == "confirm" else "final training of"
    epochs = "" if phase == "confirm" else f"; all training images, {candidate.study.settings.epochs} epochs"
    which = f"seed {wanted}" if before + 1 == wanted else f"seeds {before + 1} to {wanted}"
    of = f" of {planned}" if wanted <= planned else ""
    console.print(f"{what} trial {candidate.number} of {candidate.owner}: {which}{of}{epochs}")
    return not launch.run(candidate.study, resources, console, phase, owner=candidate.owner).stopped


def _until_decided(name: str, until: Until, resources: Resources, console: Console) -> bool:
    """Train seeds of the chosen configuration until a target is decided; return False when it was stopped.

    As many at a time as there are workers, or as train together: the verdict takes them in the order of their numbers.
    """
    aim = planning.aim(name, until)
    console.print(aim.expected(until.most), soft_wrap=True)
    if aim.published is None:
        return True
    owner = StoredStudy(name).resumable()
    (trial,) = [trial for trial in StoredStudy(name).store.trials() if trial.number == aim.trial]
    at_once = max(owner.population, resources.workers or 1)
    while aim.is_open and aim.seeds.trained < until.most:
        more = study_of(owner, trial, min(aim.seeds.trained + at_once, until.most))
        if not _train(Candidate(name, aim.trial, more), "confirm", aim.seeds.planned, resources, console):
            return False
        aim = aim.now()
        console.print(aim.so_far(), soft_wrap=True)
    return True


def final_of(name: str, seeds: int) -> Candidate:
    """Return the final training of the configuration that validation chooses among all that were confirmed.

    It trains for the median of the epochs that validation kept in the seeds that were planned; as many as when it began, where
    it has begun.
    """
    confirmed = confirmed_trials(name)
    number = chosen(name)
    if number is None:
        raise UserError(f"no seed of study {name!r} is complete: none can be chosen for the final training")
    stored = StoredStudy(name)
    owner = stored.resumable()
    (trial,) = [trial for trial in stored.store.trials() if trial.number == number]
    own = complete(confirmed[number])
    first = planned(name, "confirm", number, len(own))
    kept = [_kept_epoch(seed, study_of(owner, trial, seeds)) for seed in own if seed.number < first]
    study = study_of(owner, trial, seeds, statistics.median_low(kept))
    if find(study.name):
        begun = StoredStudy(study.name).resumable()
        study = study_of(owner, trial, seeds, begun.settings.epochs)
    return Candidate(name, number, study)


def _same_configuration(first: Study, second: Study) -> bool:
    return (first.model, first.arguments, first.settings) == (second.model, second.arguments, second.settings)


def _kept_epoch(trial: FrozenTrial, study: Study) -> int:
    """Return the epoch whose weights a complete seed kept, from 1."""
    reached = curve(trial)
    if study.settings.keep == "last":
        return max(reached)
    return min(reached, key=lambda epoch: study.objective.cost(reached[epoch]))


def _check_dataset(owner: Study, stored: StoredStudy) -> None:
    """Refuse to confirm on other images than the study's."""
    then, now = stored.parent_run().tags.get("dataset_digest"), datasets.load(owner.dataset).digest
    if then is not None and then != now:
        raise UserError(
            f"study {owner.name!r} was trained on {owner.dataset.name} with digest {then}, and here it has {now}: point "
            "MNIST_DIR, or its like, at the same images"
        )
