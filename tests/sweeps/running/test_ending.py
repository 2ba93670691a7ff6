"""What ends a study before its budget does: its rules, decided once, and the minutes of a trial."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from pipelines.errors import UserError
from sweeps import runs
from sweeps.running import ending
from sweeps.stores import names
from sweeps.stores.store import Store
from sweeps.study import study_file
from sweeps.tasks import status
from tests.conftest import TINY, Sweep
from tests.sweeps.looking import check_consistent
from tests.sweeps.test_cli import call

IDLE = "trials_without_improvement"


def study(**changes: Any) -> Any:
    return study_file.check(TINY | changes, "tiny.yaml")


def ended(*values: float | str) -> list[FrozenTrial]:
    """Return trials that ended one after the other: complete with a value, or as the word says."""
    trials = []
    for number, value in enumerate(values):
        complete = isinstance(value, float)
        state = TrialState.COMPLETE if complete else TrialState.FAIL if value == "failed" else TrialState.PRUNED
        attrs = {names.ENDED: value if isinstance(value, str) else "completed"}
        trial = create_trial(state=state, values=[value] if complete else None, user_attrs=attrs)
        trial.number, trial.datetime_complete = number, datetime(2026, 1, 1) + timedelta(minutes=number)
        trials.append(trial)
    return trials


@pytest.mark.parametrize(
    ("rules", "values", "said"),
    [
        ({"val_accuracy": 0.9}, (0.5, 0.89), None),
        ({"val_accuracy": 0.9}, (0.5, 0.91), "stop: trial 1 has val_accuracy 0.91 (val_accuracy: 0.9)"),
        ({"val_accuracy": 0.9}, (0.5, 0.9), "stop: trial 1 has val_accuracy 0.9 (val_accuracy: 0.9)"),
        ({IDLE: 2}, (), None),
        ({IDLE: 2}, ("pruned", "pruned", "pruned"), None),  # there is no best yet
        ({IDLE: 2}, (0.5, 0.4, 0.6, 0.6), None),
        ({IDLE: 2}, (0.5, "pruned", "failed", "infeasible"), None),  # of which two tell nothing
        (
            {IDLE: 2},
            (0.5, "pruned", "failed", 0.5),
            f"stop: 2 trials have ended since the best one, without improvement ({IDLE}: 2)",
        ),
        (
            {IDLE: 3, "val_accuracy": 0.6},
            (0.5, 0.4, 0.7),
            f"stop: trial 2 has val_accuracy 0.7 ({IDLE}: 3, val_accuracy: 0.6)",
        ),
    ],
)
def test_a_rule_is_met_or_not(rules: dict[str, float], values: tuple[float | str, ...], said: str | None) -> None:
    assert ending.reached(study(stop=rules), ended(*values)) == said


def test_a_rule_on_what_is_to_be_small_is_met_from_above() -> None:
    small = study(stop={"parameters": 500}, objectives=["val_accuracy", "parameters"])
    trials = ended(0.5, 0.5)
    for trial, parameters in zip(trials, (501.0, 500.0), strict=True):
        trial.values = [0.5, parameters]
    assert ending.reached(small, trials[:1]) is None
    assert ending.reached(small, trials) == "stop: trial 1 has parameters 500 (parameters: 500)"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"stop": {"f1": 0.9}},
            "stop: 'f1' is not an objective of this study: expected one of val_accuracy, trials_",
        ),
        ({"stop": {IDLE: 1.5}}, f"stop.{IDLE}: expected a whole number of at least 1, got 1.5"),
        ({"stop": {"val_accuracy": "high"}}, "stop.val_accuracy: Input should be a valid number, got 'high'"),
        ({"stop": 0.9}, "stop must hold keys and values, got 0.9"),
        (
            {"stop": {"val_accuracy": 0.9}, "search": {}, "start": []},
            "without a search no trial is better than another: leave stop out",
        ),
        ({"trial_minutes": 0}, "trial_minutes: Input should be greater than 0, got 0"),
    ],
)
def test_a_rule_that_cannot_be_is_one_line(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        study(**changes)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_rules_are_no_part_of_the_definition() -> None:
    assert study(stop={IDLE: 3}, trial_minutes=2.0).definition() == study().definition()


@pytest.mark.slow
def test_a_study_ends_by_its_rule_says_so_and_goes_on_under_another(
    sweep: Callable[..., Sweep], write_study: Callable[..., Path], made_stores: None
) -> None:
    tiny = {"training": {"epochs": 2, "batch_size": 500}, "budget": {"trials": 4}}
    path = write_study(**tiny, stop={"val_accuracy": 0.05})
    code, out, err = sweep("run", path, "--device", "cpu", "--workers", 2).wait()
    why = "has val_accuracy 0."
    assert code == 0 and "the study ends, by its rules: stop: trial " in out and why in out, err
    assert "the study has ended, by its rules" in out
    done = sum(trial.state.is_finished() for trial in Store("tiny").trials())
    assert 1 <= done <= 3
    frame = check_consistent(4)
    assert status.of("tiny").state == "ended" and why in status.of("tiny").why
    assert "stop in its file" in call("enqueue", "tiny", "dropout=0.1")[1]
    code, out, _ = sweep("run", "tiny", "--stored", "--device", "cpu").wait()  # says why, and trains nothing
    assert code == 0 and why in out and runs("tiny").state.tolist() == frame.state.tolist()
    code, out, err = sweep("run", write_study(**tiny, stop={IDLE: 50}), "--device", "cpu").wait()
    assert code == 0 and "4 of 4 trials done" in out and "the budget is used up" in out, err
    check_consistent(4)


@pytest.mark.slow
def test_a_trial_ends_after_its_own_minutes_as_by_a_budget(run_here: Callable[..., Store]) -> None:
    store = run_here(study(trial_minutes=1e-6, training={"epochs": 3, "batch_size": 500}))
    assert [trial.user_attrs[names.ENDED] for trial in store.trials()] == ["budget", "budget"]
    assert runs("tiny").epochs.tolist() == [1, 1] and store.epochs_spent() == 2
