"""A running study in hand, from beside it: real sweeps that are stopped, watched and given points while they train."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.trial import TrialState
from rich.console import Console

from pipelines.errors import UserError
from sweeps import api, runs
from sweeps.results import tables
from sweeps.stores import names
from sweeps.stores.store import Store
from sweeps.study import point, study_file
from sweeps.tasks import logs, status, steer
from tests.conftest import TINY, Sweep, eventually
from tests.sweeps.looking import check_consistent, epochs_begun
from tests.sweeps.test_cli import call

ENDLESS = {"training": {"epochs": 400, "batch_size": 200}, "budget": {"trials": 3}, "start": []}


@pytest.mark.slow
def test_a_study_is_watched_and_stopped_from_beside_it_and_resumes(
    sweep: Callable[..., Sweep], write_study: Callable[..., Path], made_stores: None
) -> None:
    running = sweep("run", write_study(**ENDLESS), "--device", "cpu")
    eventually(epochs_begun)
    seen = eventually(lambda: (now := status.of("tiny")).workers and now)
    assert (seen.state, seen.trials, [*seen.workers.values()]) == ("running", (0, 3), [1])
    watching = sweep("watch", "tiny")
    watching.lines_until("1 running")
    with pytest.raises(UserError, match="study 'tiny' was running"):
        api.open_study("tiny").delete()
    code, out = call("stop", "tiny")
    assert code == 0 and out == "study tiny: 1 sweep run of it ends after the running epochs; sweep status shows when\n"
    assert status.of("tiny").state in ("stopping", "stopped")
    code, out, _ = running.wait(90)
    assert code == 130 and "sweep stop was called" in out and "stopped; the same command resumes it" in out
    assert "study tiny: stopped" in watching.wait(90)[1]
    check_consistent(3, epochs=400)
    said = status.of("tiny")
    assert said.state == "stopped" and "run tiny --stored resumes it" in said.why and said.epochs[0] == epochs_begun()
    code, out = call("stop", "tiny")
    assert code == 2 and out == "error: nobody runs study 'tiny': there is nothing to stop\n"
    begun = epochs_begun()
    again = sweep("run", "tiny", "--stored", "--device", "cpu")  # the old request is not for it
    eventually(lambda: epochs_begun() > begun)
    eventually(lambda: status.of("tiny").state == "running")
    assert call("stop", "tiny", "--now")[0] == 0
    code, out, _ = again.wait(60)
    assert code == 130 and "stopping at once" in out
    check_consistent(3, epochs=400)
    assert "== trial 0 begins" in api.open_study("tiny").logs(0)


@pytest.mark.slow
def test_one_trial_is_stopped_for_good_and_the_next_has_the_enqueued_point(
    sweep: Callable[..., Sweep], write_study: Callable[..., Path], made_stores: None
) -> None:
    running = sweep("run", write_study(**ENDLESS), "--device", "cpu")
    eventually(epochs_begun)
    code, out = call("enqueue", "tiny", "filters1=3", "dropout=0.125")
    assert code == 0 and out == "trial 1 of tiny has filters1=3 dropout=0.125: it is the next to begin\n"
    assert call("stop", "tiny", "--trial", 2)[1] == "error: trial 2 does not run (it is waiting): running are 0\n"
    assert call("stop", "tiny", "--trial", 0)[1] == "trial 0 ends after its epoch, for good\n"

    def trial(number: int):
        return Store("tiny").trials()[number]

    eventually(lambda: trial(0).state == TrialState.PRUNED)
    eventually(lambda: trial(1).intermediate_values)
    assert (trial(1).params["filters1"], trial(1).params["dropout"]) == (3, 0.125) and len(trial(1).params) == 4
    assert call("stop", "tiny", "--trial", 1, "--now")[1] == "trial 1 has ended, for good\n"
    assert trial(1).state == TrialState.PRUNED
    eventually(lambda: trial(2).state == TrialState.RUNNING)
    steer.stop("tiny")
    assert running.wait(90)[0] == 130
    found = runs("tiny").set_index("trial").state
    assert (found[0], found[1], found[2]) == ("stopped", "stopped", "waiting")
    check_consistent(3, epochs=400)


def test_where_studies_stand_and_what_is_asked_of_one_that_has_finished(study: Store, outputs: Path) -> None:
    code, out = call("status")
    assert code == 0 and out.splitlines()[0].split() == ["study", "state", "trials", "epochs", "best", "workers"]
    assert "tiny   finished  4 of 4  4" in out and out.rstrip().endswith("4 trials")
    frame = api.status()
    assert frame.study.tolist() == ["tiny"] and frame.state.tolist() == ["finished"]
    code, out = call("enqueue", "tiny", "dropout=0.1")
    assert code == 2 and out.startswith("error: no ticket of study 'tiny' is left: ") and "--trials 5 … adds one" in out
    code, out = call("enqueue", "tiny", "dropout=0.1", "--trials", 5)
    assert code == 0 and out.startswith("trial 4 of tiny has dropout=0.1: ") and "run tiny --stored --trials 5" in out
    assert status.of("tiny").trials == (4, 4)  # the budget is what it was
    shown = io.StringIO()
    status.watch("tiny", Console(file=shown, width=200))
    assert "4 of 4 trials done" in shown.getvalue() and shown.getvalue().endswith("study tiny: finished (4 trials)\n")
    with pytest.raises(UserError, match=r"no log of study 'tiny' in .*logs/tiny"):
        list(logs.lines("tiny"))
    code, out = call("logs", "tiny", 77)
    assert code == 2 and "there is no log of trial 77 for there is no such trial: there are 5" in out
    study.remember(names.SESSION + "elsewhere", [time.time() - 9, time.time()])
    study.remember(names.SESSION + "elsewhere too", [time.time() - 9, time.time()])
    assert status.of("tiny").state == "running"
    assert call("stop", "tiny")[1].startswith("study tiny: 2 sweep run of it end after")
    assert call("stop", "tiny", "--now")[1].startswith("study tiny: 2 sweep run of it end at once")  # another terminal
    assert sorted(study.stops().values()) == [False, True] and status.of("tiny").state == "stopping"


def test_a_study_that_was_not_begun_is_new_and_other_programs_are_passed_over(outputs: Path) -> None:
    outputs.mkdir()
    assert call("status")[1] == "error: there is no study yet: sweep run begins one\n"
    store = Store.create("tiny")
    assert status.of_all()[0].state == "unreadable"
    tiny = study_file.check(dict(TINY), "test")
    store.remember(names.STUDY, tiny.model_dump(mode="json", by_alias=True))
    store.remember(names.DEFINITION, tiny.definition())
    (found,) = status.of_all()
    assert (found.state, found.trials, found.left) == ("new", (0, 2), None) and "begins it" in found.why
    assert tables.terminal([status.COLUMNS, status.row(found)]).row_count == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["filter1=3"], "does not search 'filter1' (did you mean 'filters1'?)"),
        (["filters1=9"], "filters1=9 is outside {int: [2, 4]}: choose a value within it"),
        (["filters1=2.5"], "filters1=2.5 is outside {int: [2, 4]}"),
        (["filters2=relu"], "filters2='relu' is outside {choice: [2, 4]}"),
        (["filters1"], "'filters1' is not NAME=VALUE"),
        (["filters1=3", "filters1=4"], "filters1 is given twice"),
        (["filters1=[3"], "filters1=[3 is not a YAML value"),
    ],
)
def test_a_point_outside_the_space_is_one_line(study: Store, values: list[str], expected: str) -> None:
    code, out = call("enqueue", "tiny", *values, "--trials", 9)
    assert code == 2 and expected in out and out.count("\n") == 1
    assert not [trial for trial in study.trials() if names.ENQUEUED in trial.user_attrs]


def test_points_are_read_and_checked_against_conditions_and_constraints() -> None:
    search = {
        "optimizer": {"choice": ["adam", "sgd"]},
        "momentum": {"float": [0.5, 0.95], "when": {"optimizer": "sgd"}},
        "filters1": {"int": [2, 8]},
        "filters2": {"int": [2, 8]},
        "dropout": {"float": [0.0, 0.5]},
    }
    limits = ["filters1 <= filters2", "parameters <= 5000"]
    study = study_file.check(TINY | {"search": search, "start": [], "constraints": limits}, "test")
    counted = []

    def parameters(values) -> int:
        counted.append(dict(values))
        return 6000

    def checked(**texts: str):
        return point.checked(study, point.read(study, texts), parameters)

    assert checked(optimizer="sgd", momentum="0.9", dropout="0") == {
        "optimizer": "sgd",
        "momentum": 0.9,
        "dropout": 0.0,
    }
    assert type(checked(dropout="0")["dropout"]) is float and checked(filters1="8") == {"filters1": 8} and not counted
    with pytest.raises(UserError, match=r"momentum is searched only where {optimizer: sgd}: give that too"):
        checked(momentum="0.9")
    with pytest.raises(UserError, match=r"breaks the constraint 'filters1 <= filters2' .filters1 is 5, filters2 is 3"):
        checked(filters1="5", filters2="3")
    with pytest.raises(UserError, match=r"breaks the constraint 'parameters <= 5000' .parameters is 6000"):
        checked(filters1="2", filters2="3", dropout="0.1")
    with pytest.raises(UserError, match="give at least one searched value"):
        checked()
