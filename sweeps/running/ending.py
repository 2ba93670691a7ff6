"""The rules that end a study before its budget does (`stop` in a study file), judged by Optuna's storage alone."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from pipelines.metrics import as_cost
from sweeps.stores import names
from sweeps.stores.store import Store, first_value
from sweeps.study.study import TRIALS_WITHOUT_IMPROVEMENT, Objective, Study


def reached(study: Study, trials: Sequence[FrozenTrial]) -> str | None:
    """Return, in words, which of the study's rules its trials have met; None where it goes on."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    for metric, wanted in study.stop.items():
        if metric == TRIALS_WITHOUT_IMPROVEMENT:
            idle = _since_best(study, trials)
            if len(idle) >= wanted:
                return f"stop: {len(idle)} trials have ended since the best one, without improvement ({_said(study)})"
            continue
        objective = study.objective_called(metric)
        for trial in complete:
            reached, at_most = (
                as_cost(value, objective.direction) for value in (_value(study, trial, objective), wanted)
            )
            if reached <= at_most:
                return f"stop: trial {trial.number} has {metric} {_value(study, trial, objective):.6g} ({_said(study)})"
    return None


def decision(store: Store, study: Study) -> str | None:
    """Return why the study has ended, in words; decided once, by whichever parent sees it first. None where it goes on."""
    if not study.stop:
        return None
    if known := store.attributes().get(names.ENDED_BY):
        return str(known)
    why = reached(study, store.trials())
    return str(store.requests.remember_first(names.ENDED_BY, why)) if why else None


def reconsider(store: Store, study: Study) -> None:
    """Forget why a study had ended where its rules, as they are now, say that it goes on."""
    if store.attributes().get(names.ENDED_BY) and reached(study, store.trials()) is None:
        store.remember(names.ENDED_BY, None)


def _since_best(study: Study, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that ended after the best so far, by the first objective; failed ones tell nothing."""
    told = (TrialState.COMPLETE, TrialState.PRUNED)
    ended = [trial for trial in trials if trial.state in told and trial.user_attrs.get(names.ENDED) != names.INFEASIBLE]
    best, idle = float("inf"), list[FrozenTrial]()
    for trial in sorted(ended, key=lambda trial: (trial.datetime_complete or datetime.min, trial.number)):
        complete = trial.state == TrialState.COMPLETE
        cost = as_cost(first_value(trial), study.objectives[0].direction) if complete else float("inf")
        if cost < best:
            best, idle = cost, []
        else:
            idle.append(trial)
    return idle if best < float("inf") else []


def _value(study: Study, trial: FrozenTrial, objective: Objective) -> float:
    """Return what a complete trial reached in one of the study's objectives."""
    return float(trial.values[study.objectives.index(objective)])


def _said(study: Study) -> str:
    rules: Mapping[str, Any] = study.stop
    return ", ".join(f"{name}: {value:g}" for name, value in rules.items())
