"""Any metric rules a study: kept epoch, ranking, confirmation, verdict, report and champion; real sweeps with real stores."""

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState
from rich.console import Console

import models
from pipelines import datasets, metrics
from pipelines.datasets import Examples
from pipelines.errors import UserError
from pipelines.metrics import Metric
from pipelines.tracking import registry
from pipelines.tracking import store as tracking
from sweeps.results import leaderboard, report, systems
from sweeps.results.frames import best_runs, runs
from sweeps.running.resources import ThisMachine
from sweeps.stores.record import StoredStudy
from sweeps.study import study_file
from sweeps.tasks import champion, confirm, rerun
from tests.conftest import TINY, let_compare

SMALL: dict[str, Any] = {
    "model": "tests.tiny_model",
    "training": {"epochs": 3, "batch_size": 500, "learning_rate": 0.01},
    "search": {"units": {"choice": [2, 8, 32]}, "activation": {"choice": ["relu", "tanh"]}},
    "start": [{"units": 2, "activation": "relu"}, {"units": 32, "activation": "tanh"}],
    "budget": {"trials": 3},
    "targets": [],
}


def study(**changes: Any) -> Any:
    return study_file.check(TINY | SMALL | changes, "test")


def said(show: Callable[..., Any], *arguments: Any) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    show(*arguments, console)
    return console.export_text()


@pytest.mark.slow
def test_a_minimised_loss_rules_all(run_here: Any, here: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept epoch, ranking, keep_models, confirmation, verdict, report, champion and rerun follow the loss downwards."""
    let_compare(monkeypatch)
    targets = [
        {"metric": "loss", "value": 5.0, "name": "easy"},
        {"metric": "loss", "value": 0.001, "name": "hard"},
        {"accuracy": 1.0, "name": "more than chance"},
    ]
    store = run_here(study(objectives=[{"name": "loss", "direction": "minimize"}], keep_models=1, targets=targets))
    assert store.directions() == ["minimize"]
    frame = runs("tiny")
    assert list(frame.columns[3:7]) == ["val_loss", "test_loss", "val_accuracy", "test_accuracy"]
    assert frame.val_loss.is_monotonic_increasing and frame.val_loss.nunique() == 3
    for trial in store.trials():
        curve = tracking.history(trial.user_attrs["run_id"], "epoch_val_loss")
        assert trial.value == min(curve.values()) and curve == trial.intermediate_values
        row = frame[frame.trial == trial.number].iloc[0]
        assert row.val_loss == trial.value and curve[row.kept_epoch] == trial.value
        assert (row.run_id == frame.run_id[0]) == ("model.keras" in tracking.artifacts(row.run_id))  # the best is kept
    assert list(best_runs("tiny", 2).run_id) == list(frame.run_id[:2])

    confirm.run("tiny", 2, 3, ThisMachine(device="cpu"), Console(quiet=True), final=True)
    best_two = [f"tiny-confirm-{number}" for number in frame.trial[:2]]
    assert {name.rpartition(" ")[0] for name in here} >= set(best_two)
    seeds = systems.confirmations("tiny")
    means = seeds[seeds.phase == "confirm"].groupby("trial").val_loss.mean()
    found = systems.systems("tiny")
    assert (
        found[0].chosen
        and found[0].name == f"trial {means.idxmin()}"
        and found[0].val_mean == pytest.approx(means.min())
    )
    judged = systems.verdicts("tiny")
    own = judged[judged.chosen]
    words = {row.target: (row.verdict, row.beyond) for row in own.itertuples()}
    assert words == {
        "easy": ("reached", "reached"),  # below
        "hard": ("not reached", "not reached"),
        "more than chance": ("reached", "reached"),
    }
    as_system = own.set_index("target").as_system
    assert as_system["easy"] != "worse" and as_system["hard"] != "better"
    assert own.set_index("target").better.to_dict() == {"easy": 3, "hard": 0, "more than chance": 3}
    ensemble = judged[judged.system.str.startswith("ensemble")]
    assert (ensemble.low < ensemble.test_mean).all() and (ensemble.test_mean < ensemble.high).all()

    text = said(leaderboard.show, "tiny")
    assert (
        "validation loss" in text
        and f"{frame.val_loss[0]:#.4g}" in text
        and re.search(r"5 loss  easy\n  reached ", text)
    )
    assert text.index(f"{frame.val_loss[0]:#.4g}") < text.index(f"{frame.val_loss[2]:#.4g}")
    page = report.Report("tiny").text()
    assert "By validation loss." in page and "0.001 loss, hard" in page and "below their mean" in page
    assert f"The best by test loss is trial {frame.trial[frame.test_loss.idxmin()]} " in page

    line = champion.promote("tiny")
    assert line.startswith("champion of mnist-5k-loss: version 1") and "loss" in line
    version = registry.champion("mnist-5k-loss")
    assert version is not None
    assert sorted(json.loads(version.tags["val_loss"])) == sorted(
        seeds[seeds.trial == means.idxmin()].val_loss.dropna()
    )

    again = rerun.study_of(tracking.get_run(frame.run_id[1]))
    assert again.objective.name == "loss" and again.settings.epochs == 3


@pytest.mark.fast
def test_a_pruner_ends_what_has_the_larger_loss(run_here: Any) -> None:
    pruner = {"name": "median", "n_startup_trials": 1, "n_warmup_steps": 0}
    start = [{"units": 32, "activation": "relu"}, {"units": 2, "activation": "tanh"}]
    store = run_here(study(objectives=["loss"], pruner=pruner, start=start, budget={"trials": 2}))
    better, worse = store.trials()
    assert (better.state, worse.state) == (TrialState.COMPLETE, TrialState.PRUNED)
    assert worse.intermediate_values[1] > better.intermediate_values[1]


@pytest.mark.slow
def test_several_metrics_and_a_cost(run_here: Any) -> None:
    """The first rules; the others are objectives too, and columns."""
    wanted = study(objectives=["f1_macro", "auc", "parameters"], metrics=["balanced_accuracy"], budget={"trials": 2})
    store = run_here(wanted)
    frame = runs("tiny")
    for name in ("f1_macro", "auc", "accuracy", "loss", "balanced_accuracy"):
        assert frame[f"val_{name}"].notna().all() and frame[f"test_{name}"].notna().all()
    for trial in store.trials():
        row = frame[frame.trial == trial.number].iloc[0]
        assert trial.values == [row.val_f1_macro, row.val_auc, row.parameters]
        curve = tracking.history(row.run_id, "epoch_val_f1_macro")
        assert row.val_f1_macro == max(curve.values())
    text = said(leaderboard.show, "tiny")
    assert "validation macro F1" in text and "validation AUC" in text
    assert "on the front of val_f1_macro, val_auc, parameters" in text


@pytest.mark.fast
def test_a_metric_is_one_entry(run_here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is added to METRICS is known to study files, runs, leaderboard and report, and changed nowhere else."""

    def error_rate(labels: Any, predicted: Any) -> float:
        return float(np.mean(predicted.argmax(axis=1) != labels))

    entry = Metric("error_rate", "minimize", "error rate", error_rate, "classification")
    monkeypatch.setitem(metrics.METRICS, entry.name, entry)
    run_here(study(objectives=["error_rate"], budget={"trials": 2}))
    frame = runs("tiny")
    np.testing.assert_allclose(frame.val_error_rate, 1 - frame.val_accuracy)
    assert frame.val_error_rate.is_monotonic_increasing
    assert "validation error rate" in said(leaderboard.show, "tiny")
    assert "By validation error rate." in report.Report("tiny").text()
    monkeypatch.delitem(metrics.METRICS, entry.name)  # whoever reads it with a version that has none
    with pytest.raises(UserError, match="the study's objective 'error_rate' is not a metric of this version"):
        runs("tiny")


COST = """
WEIGHTS = [0.5] * 5 + [2.0] * 5


def weighted_cost(labels, predictions):
    import numpy as np

    wrong = predictions.argmax(axis=1) != labels
    return np.mean(wrong * np.array(WEIGHTS)[labels])
"""
OBJECTIVE = {"name": "metric.py:weighted_cost", "direction": "minimize"}


@pytest.fixture
def cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of the user's with a metric, in the current folder."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "metric.py"
    file.write_text(COST)
    yield file
    models._adopted.pop(OBJECTIVE["name"], None)


@pytest.mark.slow
def test_a_metric_of_the_users_is_kept_with_the_study(run_here: Any, cost: Path) -> None:
    """Its source resumes the study where its file is gone; another source under the name is another study."""
    shipped: dict[str, Any] = {"model": "softmax", "search": {"learning_rate": {"float": [1e-4, 0.1]}}, "start": []}
    shipped["training"] = {"epochs": 2, "batch_size": 500}
    content = TINY | SMALL | shipped | {"objectives": [OBJECTIVE]}
    first = study_file.check(content | {"budget": {"trials": 2}}, "test", [cost.parent])
    run_here(first)
    cost.unlink()
    models._adopted.pop(OBJECTIVE["name"], None)
    stored = StoredStudy("tiny")
    resumed = stored.resumable({"trials": 3})
    assert resumed.definition() == first.definition()
    run_here(resumed)
    frame = runs("tiny")
    assert list(frame.state) == ["complete"] * 3 and frame.val_weighted_cost.is_monotonic_increasing
    with np.load(tracking.artifact_folder(frame.run_id[0], "probabilities.npz", cost.parent)) as file:
        expected = metrics.get(OBJECTIVE["name"]).compute(datasets.load("mnist-5k").test.y, file["test"])
    assert frame.test_weighted_cost[0] == expected
    assert "validation weighted_cost" in said(leaderboard.show, "tiny")
    models._adopted.pop(OBJECTIVE["name"], None)
    again = rerun.study_of(tracking.get_run(frame.run_id[0]))  # from the run alone
    assert (again.objective.name, again.objective.direction) == ("weighted_cost", "minimize")

    cost.write_text(COST.replace("2.0", "3.0"))
    changed = study_file.check(content | {"budget": {"trials": 4}}, "test", [cost.parent])
    with pytest.raises(UserError, match=r"trials under another definition \(objectives was .*weighted_cost of source"):
        run_here(changed)


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ("float('nan')", "MetricError: metric weighted_cost returns nan, expected a finite number (metric.py:5)"),
        (
            "labels / 2",
            "MetricError: metric weighted_cost returns an array of shape (500,), expected one number (metric.py:5)",
        ),
        ("labels[9999]", "MetricError: metric weighted_cost raises IndexError: index 9999 is out of bounds for axis 0"),
    ],
)
def test_a_metric_that_fails_is_its_trials_failure(run_here: Any, cost: Path, returned: str, reason: str) -> None:
    """After the second epoch: the first stays logged, and the line names the place in the user's file."""
    body = f"    if getattr(weighted_cost, 'calls', 0):\n        return {returned}\n    weighted_cost.calls = 1\n    return 0.5\n"
    cost.write_text(f"import numpy as np\n\n\n\ndef weighted_cost(labels, predictions):\n{body}")
    content = TINY | SMALL | {"objectives": [OBJECTIVE], "budget": {"trials": 1}}
    store = run_here(study_file.check(content, "test", [cost.parent]))
    (trial,) = store.trials()
    assert trial.state == TrialState.FAIL
    frame = runs("tiny")
    assert str(frame.failure[0]).replace(f"{cost.parent}/", "").startswith(reason) and "metric.py:" in str(
        frame.failure[0]
    )
    assert tracking.history(frame.run_id[0], "epoch_val_weighted_cost") == {1: 0.5}
    assert "traceback.txt" in tracking.artifacts(frame.run_id[0])


# Regression


@pytest.fixture
def numbers(tmp_path: Path) -> dict[str, Any]:
    """An archive whose labels are how dark an image is: floats (n,)."""
    whole = datasets.load("mnist-5k")

    def part(name: str, examples: Examples, most: int) -> dict[str, Any]:
        x = examples.x[:most]
        return {f"x_{name}": x, f"y_{name}": x.mean(axis=(1, 2, 3)).astype(np.float32) / 50}

    parts = part("train", whole.train, 800) | part("validation", whole.validation, 200) | part("test", whole.test, 200)
    np.savez(tmp_path / "dark.npz", **parts)
    return parts


MODEL = """
def build(*, units: int = 8):
    import keras
    from keras import layers

    return keras.Sequential(
        [keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(units, activation="relu"), layers.Dense(1)]
    )
"""


@pytest.mark.slow
def test_a_regression_is_swept_confirmed_and_judged(
    run_here: Any, here: list[str], numbers: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reg_model.py").write_text(MODEL)
    content = {
        "name": "tiny",
        "model": "reg_model.py",
        "dataset": "dark.npz",
        "task": "regression",
        "objectives": ["rmse", "parameters"],
        "training": {"epochs": 3, "batch_size": 100},
        "search": {"units": {"choice": [2, 4, 16]}},
        "sampler": "grid",
        "budget": {"trials": 3},
        "start": [],
        "targets": [
            {"metric": "rmse", "value": 100.0, "name": "easy"},
            {"metric": "mae", "value": 0.0, "name": "perfect"},
        ],
    }
    store = run_here(study_file.check(content, "test", [tmp_path]))
    frame = runs("tiny")
    assert list(frame.columns[3:9]) == ["val_rmse", "test_rmse", "val_loss", "test_loss", "val_mae", "test_mae"]
    assert "val_accuracy" not in frame and set(frame.task) == {"regression"}
    np.testing.assert_allclose(frame.val_rmse**2, frame.val_loss, rtol=1e-4)
    assert sorted(trial.values[0] for trial in store.trials()) == sorted(frame.val_rmse)
    files = tracking.artifacts(frame.run_id[0])
    assert {"predictions.npz", "learning_curves.png", "model.keras"} <= files and "confusion.png" not in files
    assert "probabilities.npz" not in files
    with np.load(tracking.artifact_folder(frame.run_id[0], "predictions.npz", tmp_path)) as file:
        rmse = np.sqrt(np.mean((file["test"][:, 0] - numbers["y_test"]) ** 2))
    assert frame.test_rmse[0] == pytest.approx(rmse, rel=1e-5)

    confirm.run("tiny", 1, 3, ThisMachine(device="cpu"), Console(quiet=True))
    judged = systems.verdicts("tiny")
    assert set(judged.verdict[judged.target == "easy"]) == {"reached"}
    assert "reached" not in set(judged.verdict[judged.target == "perfect"])
    assert any(judged.system.str.startswith("ensemble"))
    assert "validation RMSE" in said(leaderboard.show, "tiny")
    assert "100 RMSE, easy" in report.Report("tiny").text()
    assert champion.promote("tiny").startswith("champion of dark-")
    (name,) = registry.champions()
    assert re.fullmatch(r"dark-[0-9a-f]{8}-rmse", name)
    with pytest.raises(UserError, match="predicts numbers, not classes"):
        champion.predict([tmp_path / "any.png"], "dark", False)


def test_top5_of_few_classes_is_refused_before_anything_is_written(tmp_path: Path, outputs: Path) -> None:
    from sweeps.running import launch

    np.savez(tmp_path / "three.npz", x=np.random.default_rng(0).random((30, 28, 28, 1)), y=np.arange(30) % 3)
    with pytest.raises(UserError, match="study 'tiny': metric top5 needs 6 classes or more, and the data set has 3"):
        launch.run(
            study(metrics=["top5"], dataset=f"{tmp_path}/three.npz"), ThisMachine(device="cpu"), Console(quiet=True)
        )
    assert not (outputs / "optuna.db").exists() and not (outputs / "mlflow.db").exists()
