"""A point that a person gives to a study: some of its searched values, read and checked; the sampler chooses the rest."""

from collections.abc import Callable, Mapping
from typing import Any

import models
from pipelines.config import RunConfig
from pipelines.errors import UserError, nearest
from sweeps.study.study import MODEL, PARAMETERS, Constraint, FloatRange, Study
from sweeps.study.study_file import in_a_line, shown, value_of


def read(study: Study, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return values as YAML reads them; as text where a choice has it so."""
    params: dict[str, Any] = {}
    for name, text in texts.items():
        value, entry = value_of(text, name), study.search.get(name)
        params[name] = text if entry and not entry.contains(value) and entry.contains(text) else value
    return params


def checked(study: Study, given: Mapping[str, Any], parameters: Callable[[RunConfig], int]) -> dict[str, Any]:
    """Return the point as trials have it. Raises UserError where the study does not search it, or its constraints forbid it.

    `parameters` counts those of a configuration's model; asked only where a constraint needs it. A constraint on values that are
    left to the sampler is the sampler's to meet.
    """
    if not given:
        raise UserError(f"give at least one searched value, as NAME=VALUE: {', '.join(study.search)}")
    params: dict[str, Any] = {}
    for name in given:
        if name not in study.search:
            raise UserError(
                f"study {study.name!r} does not search {name!r}{nearest(name, study.search)}; known: {', '.join(study.search)}"
            )
    for name, entry in study.search.items():
        if name not in given:
            continue
        if not entry.contains(given[name]):
            raise UserError(f"{name}={given[name]!r} is outside {shown(study, name)}: choose a value within it")
        if not entry.active(params):
            raise UserError(
                f"{name} is searched only where {in_a_line(entry.when)}: give that too, or leave {name} out"
            )
        params[name] = float(given[name]) if isinstance(entry, FloatRange) else entry.exact(given[name])
    _check_constraints(study, params, parameters)
    return params


def _check_constraints(study: Study, params: Mapping[str, Any], parameters: Callable[[RunConfig], int]) -> None:
    left = {name for name, entry in study.search.items() if name not in params and _may_be_active(study, name, params)}
    config = study.run_config(params, seed=0)
    values: dict[str, Any] = config.training.everything() | config.hyperparameters
    of_models = {PARAMETERS, *(name for model in study.models for name in models.arguments(model))}
    for text in study.constraints:
        constraint = Constraint.parse(text)
        names = {*constraint.names}
        if left & names or (PARAMETERS in names and left & of_models) or (MODEL in left and names & of_models):
            continue
        if PARAMETERS in names and PARAMETERS not in values:
            values[PARAMETERS] = parameters(config)
        if names <= values.keys() and not constraint.holds(values):
            found = ", ".join(f"{name} is {values[name]}" for name in constraint.names)
            raise UserError(f"the point breaks the constraint {text!r} ({found}): choose another")


def _may_be_active(study: Study, name: str, params: Mapping[str, Any]) -> bool:
    """Whether a name that is not given is searched, or may be by what the sampler chooses."""
    entry = study.search[name]
    return entry.active(params) or any(other not in params for other in entry.when)
