"""Pruners: which there are, and which one a study has. Another is a line in PRUNERS."""

import warnings
from typing import Any

import optuna

from sweeps.study.chosen import WRAPPED, Chosen, named
from sweeps.study.study import Study

PRUNERS: dict[str, type[optuna.pruners.BasePruner]] = {
    "asha": optuna.pruners.SuccessiveHalvingPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "median": optuna.pruners.MedianPruner,
    "percentile": optuna.pruners.PercentilePruner,
    "patient": optuna.pruners.PatientPruner,
    "none": optuna.pruners.NopPruner,
}


def pruner(study: Study) -> optuna.pruners.BasePruner:
    """Return the study's pruner; it sees the objective on validation images after every epoch."""
    return _pruner(named(study.pruner), study.longest_training)


def _pruner(chosen: Chosen, longest_training: int) -> optuna.pruners.BasePruner:
    options: dict[str, Any] = dict(chosen.options)
    if chosen.name == "asha":
        options = {"min_resource": 2, "reduction_factor": 3} | options
    elif chosen.name == "hyperband":
        options = {"min_resource": 1, "max_resource": longest_training, "reduction_factor": 3} | options
    elif chosen.name == "median":
        options = {"n_startup_trials": 5, "n_warmup_steps": 3} | options
    elif chosen.name == "patient":
        wrapped = options.get(WRAPPED)
        options[WRAPPED] = _pruner(named(wrapped), longest_training) if wrapped is not None else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return PRUNERS[chosen.name](**options)
