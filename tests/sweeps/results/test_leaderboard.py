"""What stands beside the published numbers: the trial that validation chose, and how far it is from each."""

import io
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from pipelines.tracking import store as tracking
from pipelines.tracking.run import TrackedRun
from sweeps.results import frames, leaderboard, report
from sweeps.stores.store import Store
from sweeps.study import study_file
from sweeps.tasks import explain
from tests.conftest import Sweep


def printed(study: str) -> str:
    out = io.StringIO()
    leaderboard.show(study, Console(file=out, width=160))
    return out.getvalue()


def add_trial(study: Any, number: int, validation: float, test: float, status: str = "FINISHED") -> None:
    experiment = tracking.open_experiment(study.name)
    tags = {"phase": "sweep", "study": study.name, "trial": str(number), "dataset": study.dataset.name, "device": "cpu"}
    run = tracking.client().create_run(experiment.experiment_id, tags=tags).info.run_id
    config = study.run_config(study.start_points[0], seed=number)
    for name, value in config.params().items():
        tracking.client().log_param(run, name, value)
    metrics = {"final_validation_accuracy": validation, "test_accuracy": test, "epochs_trained": 15, "kept_epoch": 9}
    for name, value in (metrics | {"seconds": 120.0, "parameters": 43_290}).items():
        tracking.client().log_metric(run, name, value)
    tracking.client().set_terminated(run, status)


@pytest.fixture
def study(made_stores: None) -> Any:
    lean = study_file.load("lean_cnn")
    Store.create(lean.name).remember("study", lean.model_dump(mode="json", by_alias=True))
    experiment = tracking.open_experiment(lean.name)
    tracking.client().set_experiment_tag(experiment.experiment_id, "sweeps.last_used", "1")
    return lean


def test_validation_chooses_and_the_highest_test_accuracy_does_not(study: Any) -> None:
    add_trial(study, 0, validation=0.9920, test=0.9960)
    add_trial(study, 1, validation=0.9930, test=0.9915)
    add_trial(study, 2, validation=0.9990, test=0.9990, status="KILLED")  # pruned trials are no candidates
    text = printed("lean_cnn")
    assert "trial 1, chosen by validation among 3: test accuracy 99.15 %, unconfirmed (one seed)" in text
    assert "99.10 %  lean CNN's aim: +0.05 points (+5 images), unconfirmed" in text
    assert "99.26 %  lean CNN: -0.11 points (-11 images), unconfirmed" in text
    assert "99.55 %  augmented CNN: -0.40 points (-40 images), unconfirmed" in text
    rows = [line.split()[0] for line in text.splitlines() if line[:1].isdigit() and "%" in line]
    assert rows == ["1", "0"]


def test_without_a_complete_trial_it_says_what_to_do(study: Any) -> None:
    assert "no trial has begun yet" in printed("lean_cnn")
    add_trial(study, 0, 0.99, 0.99, status="KILLED")
    assert "sweep run lean_cnn --stored" in printed("lean_cnn")


def test_names_are_words_even_when_they_look_like_numbers(made_stores: None) -> None:
    study = study_file.load("lean_cnn").model_copy(update={"name": "007"})
    tracking.open_parent(tracking.open_experiment("007"), "uid", "sweep", {})
    tracking.client().set_experiment_tag(tracking.find_experiment("007").experiment_id, tracking.STUDY_UID, "")
    add_trial(study, 0, 0.99, 0.99)
    assert frames.runs().study.tolist() == ["007"]


def test_importance_says_nothing_where_nothing_can_be_said(outputs: Path) -> None:
    outputs.mkdir()
    store = Store.create("flat")
    for _ in range(9):
        trial = store.study().ask()
        trial.suggest_float("dropout", 0, 1)
        store.study().tell(trial, 0.97)
    assert store.importances() == {}


def test_gaps_in_points_and_images() -> None:
    quick, lean = study_file.load("quickstart"), study_file.load("lean_cnn")
    chosen = pd.Series({"test_accuracy": 0.9926})
    assert [(gap.published, gap.gap, gap.images) for gap in leaderboard.gaps(lean, chosen)] == [
        ("99.10 %", "+0.16 points", "+16"),
        ("99.26 %", "+0.00 points", "+0"),
        ("99.55 %", "-0.29 points", "-29"),
    ]
    assert leaderboard.gaps(quick, chosen)[0].images == "+1"  # of 500


@pytest.mark.slow
@pytest.mark.usefixtures("made_stores")
def test_a_trial_on_the_full_mnist_carries_its_gaps(
    mnist_dir: Path, sweep: Callable[..., Sweep], write_study: Callable[..., Path]
) -> None:
    path = write_study(
        model="tests.tiny_model",
        dataset="mnist",
        training={"epochs": 1},
        search={"units": {"choice": [8]}},
        start=["recipe"],
        budget={"trials": 1},
    )
    assert sweep("run", path).wait()[0] == 0
    (run,) = tracking.all_runs(tracking.find_experiment("tiny").experiment_id, "tags.phase = 'sweep'")
    accuracy = run.metrics["test_accuracy"]
    assert 0.5 < accuracy < 1
    assert run.metrics["gap_to_99.10"] == pytest.approx(100 * accuracy - 99.1)
    assert f"test accuracy {100 * accuracy:.2f} %, unconfirmed" in printed("tiny")


def test_the_front_of_several_objectives_comes_first(
    run_here: Callable[..., Store], write_study: Callable[..., Path]
) -> None:
    search = {"units": {"int": [2, 40]}, "learning_rate": {"float": [1e-4, 1e-2], "log": True}}
    path = write_study(
        model="tests.tiny_model",
        training={"epochs": 1, "batch_size": 500},
        search=search,
        objectives=["val_accuracy", "parameters"],
        start=[
            {"units": 2, "learning_rate": 1e-4},
            {"units": 39, "learning_rate": 1e-2},
            {"units": 40, "learning_rate": 2e-3},
        ],
        budget={"trials": 3},
        keep_models=2,
    )
    store = run_here(study_file.load(str(path)))
    frame = frames.runs("tiny")
    assert frame.trial.tolist() == [1, 0, 2] and frame.on_front.tolist() == [True, True, False]
    assert frames.best_runs("tiny", top=2).trial.tolist() == [1, 0]
    text = printed("tiny")
    assert "1 *" in text and "0 *" in text and "2 *" not in text
    assert "on the front of val_accuracy, parameters" in text
    assert frame.val_accuracy[2] > frame.val_accuracy[1], (
        "the third is more accurate than the second, but larger and no winner"
    )
    assert store.attributes()["models_removed"] == [2]
    for run_id, kept in zip(frame.run_id, [True, True, False], strict=True):
        names = {file.path for file in tracking.client().list_artifacts(run_id)}
        assert ("model.keras" in names) == kept and "probabilities.npz" in names


def test_gpu_hours_are_counted_where_there_are_any(study: Any) -> None:
    for number in range(3):
        add_trial(study, number, 0.99, 0.99)
    assert "gpu_hours" not in frames.runs("lean_cnn") and "GPU hours" not in printed("lean_cnn")
    for hours, run_id in zip((0.25, 1.5), frames.runs("lean_cnn").run_id, strict=False):
        TrackedRun(run_id).log_summary({"gpu_hours": hours})
    assert frames.runs("lean_cnn").gpu_hours.dropna().tolist() == [0.25, 1.5]
    assert "; 1.75 GPU hours" in printed("lean_cnn")


def test_means_are_shown_with_their_deviation(
    run_here: Callable[..., Store], write_study: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_study(
        model="tests.tiny_model",
        training={"epochs": 2, "batch_size": 500},
        search={"units": {"int": [8, 9]}},
        repeats=3,
        start=["recipe"],
        budget={"trials": 1},
    )
    store = run_here(study_file.load(str(path)))
    (row,) = frames.runs("tiny").itertuples()
    run = tracking.get_run(row.run_id)
    each = [run.metrics[f"epoch_val_accuracy_{number}"] for number in (1, 2, 3)]
    curves = [tracking.client().get_metric_history(row.run_id, f"epoch_val_accuracy_{number}") for number in (1, 2, 3)]
    kept = [max(metric.value for metric in curve) for curve in curves]
    assert len(set(each)) > 1, "three seeds, three models"
    assert row.val_accuracy == pytest.approx(sum(kept) / 3) == pytest.approx(store.trials()[0].value)
    assert row.val_accuracy_sd == pytest.approx(statistics.stdev(kept)) and row.test_accuracy_sd > 0
    assert row.epochs == 6 == store.epochs_spent()
    text = printed("tiny")
    assert f"{100 * row.val_accuracy:.2f} ± {100 * row.val_accuracy_sd:.2f} %" in text
    assert "means and standard deviations of 3 seeds a trial" in text and "0 saved by ending trials early" in text
    files = {
        file.path for number in (1, 2, 3) for file in tracking.client().list_artifacts(row.run_id, f"model_{number}")
    }
    each = ["model.keras", "probabilities.npz"]
    each += [f"{name}.png" for name in ("confusion", "wrong_images", "accuracy_by_class", "font_digits")]
    assert files == {f"model_{number}/{name}" for number in (1, 2, 3) for name in each}
    report.log("tiny")
    (parent,) = tracking.all_runs(tracking.find_experiment("tiny").experiment_id, "tags.phase = 'study'")
    page = tracking.artifact_folder(parent.run_id, "report.html", tmp_path).read_text()
    assert (
        "chosen by validation (results: model 1 of 3)" in page and page.count('<img src="data:image/png;base64,') == 7
    )
    explain.run(row.run_id, None, explain.Asked(7, only=["kernels"]), None, console := Console(record=True, width=200))
    assert "(model 1 of 3), explain/: kernels.png" in console.export_text()


def test_the_parents_plots_need_no_network(
    run_here: Callable[..., Store], write_study: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_study(
        model="tests.tiny_model",
        training={"epochs": 1, "batch_size": 500},
        search={"units": {"int": [2, 40]}, "rate": {"float": [0.0, 0.9]}},
        start=[],
        budget={"trials": 8},
    )
    run_here(study_file.load(str(path)))
    experiment = tracking.find_experiment("tiny").experiment_id
    (parent,) = tracking.all_runs(experiment, "tags.phase = 'study'")
    report.log("tiny")
    page = tracking.artifact_folder(parent.run_id, "report.html", tmp_path).read_text()
    titles = ["History", "Curves over epochs", "Importance of the hyperparameters", "Slices", "Parallel coordinates"]
    for title in [*titles, "Accuracy against parameters", "Accuracy against seconds"]:
        assert f"<h3>{title}</h3>" in page
    assert "Cannot be drawn" not in page and page.count("Plotly.newPlot(") == 7
    assert len(page) < 8e6, "the library is there once"
    assert not re.search(r"<(script|link)[^>]+(src|href)=", page)
    model = tracking.artifact_folder(parent.run_id, "model.py", tmp_path).read_text()
    assert model == (Path(__file__).parents[2] / "tiny_model.py").read_text()
