"""From study file to Optuna: distributions, sampler, pruner, and the seed of each trial."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna

from sweeps.study import Choice, Entry, IntRange, Study


def suggest(trial: optuna.Trial, search: Mapping[str, Entry]) -> dict[str, Any]:
    """Return the trial's parameters: those it has already, a start point's, or the sampler's."""
    return {name: _suggest(trial, name, entry) for name, entry in search.items()}


def sampler(study: Study, trial_number: int) -> optuna.samplers.BaseSampler:
    """Return the study's sampler, seeded for one trial: equal seeds in two workers would suggest the same point twice."""
    seed = trial_seed(study.seed, trial_number)
    if study.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed)


def pruner(study: Study) -> optuna.pruners.BasePruner:
    """Return the study's pruner; it sees validation accuracy after every epoch."""
    if study.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=study.longest_training, reduction_factor=3)
    if study.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=3)
    return optuna.pruners.NopPruner()


def trial_seed(study_seed: int, trial_number: int) -> int:
    """Return the seed of a trial: of its weights, data order, dropout and of the sampler that chose it."""
    return int(np.random.SeedSequence([study_seed, trial_number]).generate_state(1)[0])


def _suggest(trial: optuna.Trial, name: str, entry: Entry) -> Any:
    if isinstance(entry, IntRange):
        return trial.suggest_int(name, entry.bounds[0], entry.bounds[1], step=entry.step)
    if isinstance(entry, Choice):
        return trial.suggest_categorical(name, entry.choice)
    return trial.suggest_float(name, entry.bounds[0], entry.bounds[1], log=entry.log)
