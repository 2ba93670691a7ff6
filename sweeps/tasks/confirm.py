"""Confirm: the best configurations of a study, by validation, trained again from fresh seeds.

Each is a study without a search: one configuration, a trial a seed. It runs, resumes, and is mended as every study; its runs
belong to the experiment and the parent run of the study that it confirms. The final training is one too: the chosen
configuration on training and validation images together. Nothing here reads a test accuracy.
"""

import statistics
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from pipelines import datasets
from pipelines.errors import UserError
from sweeps.results.choice import chosen, clearly_behind, complete, confirmed_trials, values
from sweeps.results.verdict import FEWEST_SEEDS
from sweeps.running import launch
from sweeps.running.resources import Resources
from sweeps.stores import names
from sweeps.stores.record import StoredStudy, find
from sweeps.stores.store import Store, best_first, curve
from sweeps.study import study_file
from sweeps.study.study import Study

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
    for trial in best_first(found, owner.objective.direction):
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


def run(name: str, top: int, seeds: int, resources: Resources, console: Console, final: bool = False) -> bool:
    """Train what is missing; return False when Ctrl-C ended it. The same call resumes it.

    First FEWEST_SEEDS seeds of every configuration, or as many as train together; then a seed more of each that is not clearly
    behind, until there are `seeds`.
    `final`: and then the one that validation chooses, from as many seeds, on training and validation images together.
    """
    owner = StoredStudy(name).resumable()
    together, direction = owner.population, owner.objective.direction
    fewest = min(max(FEWEST_SEEDS, together), seeds)
    for so_far in range(fewest, seeds + 1):
        racing = candidates(name, top, so_far)
        if so_far == fewest:  # what is asked for is possible
            _caution(Store(name), seeds, console)
        if so_far > fewest:
            behind = clearly_behind({each.number: values(each.study.name, so_far - 1) for each in racing}, direction)
            for each in racing:
                if each.number in behind and ended(each) < so_far:
                    said = (
                        f"trial {each.number} is clearly behind by validation after {ended(each)} seeds: no more of it"
                    )
                    console.print(said)
            racing = [each for each in racing if each.number not in behind]
        for each in racing:
            if ended(each) >= so_far:
                continue
            console.print(f"confirming trial {each.number} of {name}: seed {ended(each) + 1} to {so_far} of {seeds}")
            if launch.run(each.study, resources, console, "confirm", owner=name).stopped:
                return False
    if not final:
        return True
    chosen = final_of(name, seeds)
    if ended(chosen) >= seeds:
        return True
    epochs = chosen.study.settings.epochs
    console.print(f"final training of trial {chosen.number} of {name}: all training images, {epochs} epochs")
    return not launch.run(chosen.study, resources, console, "final", owner=name).stopped


def _caution(store: Store, seeds: int, console: Console) -> None:
    """Remember how many seeds are planned; say what it does to a verdict to plan more once some have been seen."""
    planned = store.attributes().get(names.SEEDS_PLANNED)
    if planned is None:
        store.remember(names.SEEDS_PLANNED, seeds)
    elif seeds > planned:
        console.print(
            f"{planned} seeds were planned, now {seeds}: more seeds after a look make a wrong verdict likelier "
            "(docs/verdicts.md says how much)",
            soft_wrap=True,
        )


def final_of(name: str, seeds: int) -> Candidate:
    """Return the final training of the configuration that validation chooses among all that were confirmed.

    It trains for the median of the epochs that validation kept; as many as when it began, where it has begun.
    """
    confirmed = confirmed_trials(name)
    number = chosen(name)
    if number is None:
        raise UserError(f"no seed of study {name!r} is complete: none can be chosen for the final training")
    stored = StoredStudy(name)
    owner = stored.resumable()
    (trial,) = [trial for trial in stored.store.trials() if trial.number == number]
    kept = [_kept_epoch(seed, study_of(owner, trial, seeds)) for seed in complete(confirmed[number])]
    study = study_of(owner, trial, seeds, statistics.median_low(kept))
    if find(study.name):
        begun = StoredStudy(study.name).resumable()
        study = study_of(owner, trial, seeds, begun.settings.epochs)
    return Candidate(name, number, study)


def ended(candidate: Candidate) -> int:
    """Return how many seeds have ended for good; one that diverged counts, for another in its place would be choosing."""
    stored = find(candidate.study.name)
    return sum(trial.state.is_finished() for trial in stored.store.trials()) if stored else 0


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
