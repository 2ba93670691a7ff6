"""From search space to Optuna: distributions, a trial's parameters, and whether they meet the constraints."""

from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from pipelines.config import RunConfig
from sweeps.study.study import PARAMETERS, Choice, Constraint, Entry, IntRange, Study

Params = dict[str, Any]
Feasible = Callable[[Mapping[str, Any]], bool]


def suggest(trial: optuna.Trial, search: Mapping[str, Entry]) -> Params:
    """Return the trial's parameters: those it has already, a fixed point's, or the sampler's; none whose condition is not met."""
    params: Params = {}
    for name, entry in search.items():
        if entry.active(params):
            params[name] = _suggest(trial, name, entry)
    return params


def _suggest(trial: optuna.Trial, name: str, entry: Entry) -> Any:
    if isinstance(entry, IntRange):
        return trial.suggest_int(name, entry.bounds[0], entry.bounds[1], step=entry.step, log=entry.log)
    if isinstance(entry, Choice):
        return trial.suggest_categorical(name, entry.choice)
    return entry.exact(trial.suggest_float(name, entry.bounds[0], entry.bounds[1], step=entry.step, log=entry.log))


def distribution(entry: Entry) -> BaseDistribution:
    """Return Optuna's distribution for an entry of the search space."""
    if isinstance(entry, IntRange):
        return IntDistribution(entry.bounds[0], entry.bounds[1], step=entry.step, log=entry.log)
    if isinstance(entry, Choice):
        return CategoricalDistribution(entry.choice)
    return FloatDistribution(entry.bounds[0], entry.bounds[1], step=entry.step, log=entry.log)


def feasibility(study: Study, parameters: Callable[[RunConfig], int]) -> Feasible:
    """Return whether a point meets the study's constraints, each where its names exist; `parameters` counts a model's."""
    constraints = [Constraint.parse(text) for text in study.constraints]
    counted = any(PARAMETERS in constraint.names for constraint in constraints)

    def feasible(params: Mapping[str, Any]) -> bool:
        config = study.run_config(params, seed=0)
        values = config.training.everything() | config.hyperparameters
        if not all(constraint.holds(values) for constraint in constraints if values.keys() >= {*constraint.names}):
            return False
        if counted:
            values |= {PARAMETERS: parameters(config)}
        return all(constraint.holds(values) for constraint in constraints if values.keys() >= {*constraint.names})

    return feasible
