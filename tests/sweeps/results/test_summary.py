"""What is computed once and kept; and what the parent run says of its study in MLflow's UI."""

import http.server
import io
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from rich.console import Console

from pipelines.tracking import store as tracking
from pipelines.tracking import views
from sweeps import best_runs
from sweeps.results import choice, leaderboard, rows, summary, systems
from sweeps.running import tags
from sweeps.stores import names
from sweeps.stores.record import StoredStudy
from sweeps.stores.seen import SeenStudy
from sweeps.stores.store import Store
from sweeps.study import study_file
from sweeps.tasks import ui
from tests.conftest import ROOT, eventually, let_compare


def printed(study: str) -> str:
    out = io.StringIO()
    leaderboard.show(study, Console(file=out, width=160))
    return out.getvalue()


def parent() -> Any:
    return StoredStudy("tiny").parent_run()


def test_verdicts_are_computed_once_for_the_same_seeds(seeded: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    let_compare(monkeypatch)
    assert systems.known("tiny") is None
    first = printed("tiny")
    assert "goal: " in first

    def gone(*_: Any) -> Any:
        raise AssertionError("the predictions were read again")

    with monkeypatch.context() as patch:
        patch.setattr(systems.Predicted, "of", gone)
        assert printed("tiny") == first
        assert systems.verdicts("tiny").verdict.tolist()
    kept = SeenStudy("tiny").attributes[names.SYSTEMS]
    monkeypatch.setattr(systems, "STATISTICS", ("verdict",))  # another version of them
    assert systems.known("tiny") is None
    assert printed("tiny") == first and SeenStudy("tiny").attributes[names.SYSTEMS]["of"] != kept["of"]


def test_a_seed_more_is_another_verdict(seeded: Store) -> None:
    systems.systems("tiny")
    assert systems.known("tiny")
    first = systems.confirmations("tiny").run_id[0]
    tracking.client().set_terminated(first, "FAILED")
    assert systems.known("tiny") is None


@pytest.mark.parametrize("change", ["planned", "queued and lost"])
def test_other_seeds_planned_or_one_that_was_lost_are_another_verdict(seeded: Store, change: str) -> None:
    found = systems.systems("tiny")
    kept = systems.known("tiny")
    assert kept and [each.measured for each in kept] == [each.measured for each in found]
    trial, confirming = next(iter(choice.confirmed_trials("tiny").items()))
    if change == "planned":
        seeded.remember(names.planned("confirm", trial), 9)
    else:  # as --until-decided adds seeds
        own = Store(confirming).study()
        own.tell(own.ask(), state=TrialState.FAIL)
    assert systems.known("tiny") is None
    again = next(each for each in systems.systems("tiny") if each.name == f"trial {trial}")
    assert (again.planned, again.trained) == ((9, 3) if change == "planned" else (3, 4))


def test_a_confirmed_study_is_looked_at_without_a_heavy_library(seeded: Store) -> None:
    systems.systems("tiny")
    script = (
        "import sys; from sweeps.cli import main\n"
        "try: main(['best', 'tiny'])\n"
        "except SystemExit as ended: assert not ended.code\n"
        "print([m for m in ('keras', 'mlflow', 'optuna', 'pandas', 'scipy.stats') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "means and standard deviations over fresh seeds" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_importances_are_computed_once_for_the_same_trials(outputs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs.mkdir()
    store = Store.create("many")
    own = store.study()
    for number in range(8):
        trial = own.ask()
        own.tell(trial, trial.suggest_float("a", 0, 1) + 0.1 * number)
    first = store.importances()
    with monkeypatch.context() as patch:
        patch.delattr("optuna.importance.FanovaImportanceEvaluator")
        assert store.importances() == first == leaderboard.importances(SeenStudy("many")) != {}
    own.tell(own.ask(), 0.5)
    asked: list[str] = []
    monkeypatch.setattr(Store, "importances", lambda store: asked.append(store.study_name) or {})
    leaderboard.importances(SeenStudy("many"))
    assert asked == ["many"]


def test_the_parent_run_says_what_the_leaderboard_says(seeded: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    let_compare(monkeypatch)
    systems.systems("tiny")
    summary.write("tiny")
    run, best = parent(), best_runs("tiny").iloc[0]
    reached = [run.metrics[f"best_{part}_accuracy"] for part in ("val", "test")]
    assert reached == [best.val_accuracy, best.test_accuracy]
    assert run.metrics["gap_to_99.10"] == pytest.approx(100 * best.test_accuracy - 99.1)
    assert run.metrics["trials"] == 4 and run.metrics["epochs_trained"] == 4
    said = run.tags[tracking.DESCRIPTION]
    assert said.startswith("4 trials: 4 complete.") and "  - 99.10 %  goal: not reached, mean of 3 seeds" in said
    order = [line.split("|")[1].strip() for line in said.split("| trial |")[1].splitlines()[2:]]
    assert order == [str(trial) for trial in best_runs("tiny").trial]
    before = tracking.history(run.run_id, "trials")
    summary.write("tiny")
    assert tracking.history(run.run_id, "trials") == before  # nothing has changed


def test_a_description_fits_a_tag(study: Store) -> None:
    definition = SeenStudy("tiny").read().model_copy(update={"description": "By its author. " + "x" * 7_700})
    said = summary.description(rows.of_study("tiny"), definition, None)
    assert len(said) <= summary.LONGEST and said.startswith("By its author. ") and "| trial |" in said
    assert said.count("\n| ") < 5  # rows are left out


def test_one_parent_of_many_writes(study: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = summary.Writer("tiny"), summary.Writer("tiny")
    assert [each._is_mine() for each in (first, second, first, second)] == [True, False, True, False]
    monkeypatch.setattr(summary, "STALE", -summary.EVERY)  # the first is gone
    assert second._is_mine()


def test_a_store_that_is_away_is_tried_again_and_anything_else_is_said(study: Store, monkeypatch: Any) -> None:
    monkeypatch.setattr(summary, "EVERY", 0.05)
    monkeypatch.setattr(summary, "REST", 0)
    answers: list[Exception | None] = [OSError(28, "No space left on device"), None, ValueError("wrong")]
    wrote: list[Exception | None] = []

    def write(name: str) -> None:
        wrote.append(answers[len(wrote)])
        if wrote[-1]:
            raise wrote[-1]

    monkeypatch.setattr(summary, "write", write)
    with summary.Writer("tiny") as writer:
        eventually(lambda: writer.failed)
    assert (writer.failed, len(wrote)) == ("wrong", 3)


def test_the_view_of_a_study_is_kept_with_its_experiment(study: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = tracking.find_experiment("tiny")
    view = json.loads(experiment.tags[views.TAG])
    assert view["searchFilter"] == f"tags.study_uid = '{study.uid}' and tags.phase != 'study'"
    assert view["orderByKey"] == "metrics.`val_accuracy`" and view["orderByAsc"] is False
    assert view["selectedColumns"][:2] == ["metrics.`val_accuracy`", "metrics.`test_accuracy`"]
    assert view["selectedColumns"][-4:] == [f"params.`{name}`" for name in SeenStudy("tiny").read().search]
    assert [chart["type"] for chart in view["compareRunCharts"]] == ["LINE", "LINE", "PARALLEL"]
    name, table, charts = ui.latest("http://here") or ("", "", "")
    runs = f"http://here/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
    assert (name, table) == ("tiny", f"{runs}&compareRunsMode=TABLE&viewStateShareKey=sweeps")
    assert charts == f"{runs}&compareRunsMode=CHART&viewStateShareKey=sweeps"
    monkeypatch.setattr(views, "TRIED", "0.")  # another version of MLflow
    assert ui.latest("http://here") == ("tiny", f"{runs}&compareRunsMode=TABLE", f"{runs}&compareRunsMode=CHART")


def test_gaps_are_columns_where_they_can_be_compared() -> None:
    view = tags.view(study_file.load("lean_cnn"), "uid")
    assert [name for name in view.metrics if name.startswith("gap")] == ["gap_to_99.10", "gap_to_99.26", "gap_to_99.55"]
    assert not [name for name in tags.view(study_file.load("quickstart"), "uid").metrics if name.startswith("gap")]
    assert tags.view(study_file.load("accuracy_vs_size"), "uid").metrics[:2] == ["val_accuracy", "test_accuracy"]


def test_the_browser_is_opened_once_the_server_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {seen}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ui.open_later(f"http://127.0.0.1:{port}/#/here")  # returns at once
    assert not seen.exists()
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert eventually(lambda: seen.exists() and seen.read_text()) == f"http://127.0.0.1:{port}/#/here\n"
        server.shutdown()
