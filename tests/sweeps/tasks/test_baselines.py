"""Published recipes, trained as published: what is asked for, what runs, what the tables say."""

import dataclasses
import io
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import models
from models import Recipe, Target
from pipelines import datasets, device
from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from sweeps.results import frames, leaderboard
from sweeps.stores import record
from sweeps.stores.store import Store
from sweeps.tasks import baselines, baselines_report
from sweeps.tasks.baselines import Plan
from sweeps.tasks.baselines_report import Row
from tests.conftest import Sweep


def target(accuracy: float, kind: Any = "printed") -> Target:
    return Target(accuracy=accuracy, kind=kind, name="it", source="them", conditions="theirs")


def some_row(name: str, accuracies: tuple[float, ...] = (98.9, 99.0, 99.1), place: str = "cpu") -> Row:
    protocol = models.recipe(name).protocol
    return Row(
        name, protocol, place, (f"a {place}",), accuracies, 0, len(accuracies), 1_234, 5, (1.0, 2.0, 3.0), ("abc",)
    )


# What the sources say, copied by hand: optimizer, learning rate, decay, batch, epochs, pixels, protocol, activation, dropout,
# accuracies.
SGD, ADAM, DECAY = ("sgd", 0.01, 1.0), ("adam", 0.001, 1.0), ("adam", 0.01, 0.6)
PUBLISHED: dict[str, tuple[Any, ...]] = {
    "softmax": (*SGD, 128, 10, "by_256", "official", None, None, [90]),
    "dense_sigmoid": (*SGD, 128, 10, "by_256", "official", "sigmoid", 0, []),
    "dense_relu": (*ADAM, 128, 10, "by_256", "official", "relu", 0, [97]),
    "dense_noisy": ("adam", 0.01, 1.0, 128, 10, "by_256", "official", "relu", 0, []),
    "dense_decay": (*DECAY, 128, 10, "by_256", "official", "relu", 0, [98]),
    "dense_dropout": (*DECAY, 128, 10, "by_256", "official", "relu", 0.25, [97.75]),
    "mlp_70_30": (*ADAM, 128, 35, "by_255", "official", "sigmoid", 0, [97.7]),
    "mlp_512": ("rmsprop", 0.001, 1.0, 128, 20, "by_255", "official", "relu", 0.2, [98.43]),
    "strided_cnn": (*DECAY, 128, 10, "by_256", "official", "relu", 0, [98.9]),
    "strided_cnn_dropout": (*DECAY, 128, 10, "by_256", "official", "relu", 0.3, [99]),
    "strided_cnn_valid": (*DECAY, 128, 10, "by_256", "official", "relu", 0, []),
    "strided_bn_cnn": ("adam", 0.01, 0.666, 64, 15, "by_256", "official", "relu", 0.3, [99.5]),
    "chollet_cnn": ("rmsprop", 0.001, 1.0, 64, 5, "standardized", "reshuffled", "relu", 0, [99]),
    "keras_cnn": ("adadelta", 1.0, 1.0, 128, 12, "by_255", "official", "relu", None, [99.14]),
    "lean_cnn": (*ADAM, 128, 15, "by_255", "held_out", "relu", 0.4, [99.1, 99.26]),
    "augmented_cnn": (*ADAM, 64, 5, "by_255", "official", "relu", 0.2, [99.55, 99.48]),
    "augmented_cnn_bn": (*ADAM, 64, 5, "by_255", "official", "relu", 0.2, []),
}


@pytest.mark.parametrize("name", models.MODELS)
def test_a_recipe_is_trained_as_published(name: str) -> None:
    study = baselines.study(Plan([name], seeds=4), name, "cpu")
    config = study.run_config({}, seed=1)
    training, model = config.training, config.hyperparameters
    *settings, targets = PUBLISHED[name]
    assert settings == [
        *(training.optimizer, training.learning_rate, training.lr_decay, training.batch_size, training.epochs),
        *(training.pixels, config.protocol, model.get("activation"), model.get("dropout")),
    ]
    distortions = (training.rotation, training.shift, training.shear, training.zoom)
    assert distortions == ((8, 0.08, 0.3, 0.08) if name.startswith("augmented") else (0, 0, 0, 0))
    assert training.keep == "last" and training.patience is None and training.momentum == 0 and training.lr_floor == 0
    assert config.dataset.name == "mnist" and study.budget.trials == 4 and study.search == {}
    assert [entry.accuracy for entry in study.targets] == targets


def test_published_facts_beside_the_accuracies() -> None:
    goal, reached = models.recipe("lean_cnn").targets
    assert goal.kind == "goal" and (reached.loss, reached.seconds) == (0.0415, 59.3)
    assert models.recipe("chollet_cnn").targets[0].seconds == 20.6
    assert [target.test_images for target in models.recipe("augmented_cnn").targets] == [9_984, 10_000]
    assert models.REFERENCES == {"human reading": 99.7, "state of the art": 99.79}


def test_what_is_not_published_has_a_study_of_its_own() -> None:
    names = [
        baselines.study(plan, "chollet_cnn", place).name
        for plan, place in [
            (Plan(["chollet_cnn"]), "cpu"),
            (Plan(["chollet_cnn"]), "gpu"),
            (Plan(["chollet_cnn"], epochs=2), "cpu"),
            (Plan(["chollet_cnn"], dataset="mnist-5k"), "cpu"),
            (Plan(["chollet_cnn"], protocol="official"), "cpu"),
            (Plan(["chollet_cnn"], protocol="held_out"), "cpu"),
        ]
    ]
    assert len(set(names)) == len(names)
    assert names[0] == baselines.study(Plan(["chollet_cnn"], protocol="reshuffled"), "chollet_cnn", "cpu").name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recipes": ["sotfmax"]}, "no recipe 'sotfmax' (did you mean 'softmax'?)"),
        ({"seeds": 0}, "SEEDS=0: expected at least 1"),
        ({"epochs": 0}, "EPOCHS=0: expected at least 1"),
        ({"dataset": "cifar"}, "unknown dataset 'cifar'"),
        ({"recipes": ["chollet_cnn", "mlp_512"], "protocol": "reshuffled"}, "mlp_512 was published on the official"),
    ],
)
def test_a_plan_that_cannot_be_gets_one_clear_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as error:
        baselines.check_plan(Plan(**({"recipes": ["softmax"]} | changes)))
    assert words in str(error.value)


def test_a_mistake_at_the_command_line_is_one_line(sweep: Callable[..., Sweep], outputs: Path) -> None:
    code, out, err = sweep("baselines", "--only", "softmax", "--protocol", "reshuffled").wait()
    assert code == 2 and out == "" and len(err.splitlines()) == 1 and "softmax was published" in err
    assert not outputs.exists()


def test_baselines_run_go_on_and_are_no_sweep(
    sweep: Callable[..., Sweep], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    arguments = ["baselines", "--only", "chollet_cnn", "--dataset", "mnist-5k", "--epochs", 1]
    page = tmp_path / "page.md"
    code, out, err = sweep(*arguments, "--seeds", 1, "--output", page).wait()
    assert code == 0, err
    assert "(1)" in out and not page.exists()
    assert "nothing to compare with" in out and "undecided" not in out and "agrees" not in out
    code, out, err = sweep(*arguments, "--seeds", 2, "--output", page).wait()
    assert code == 0, err
    assert "1 of 2 trials done" in out and "best" not in out  # it went on, and chose none
    code, out, err = sweep(*arguments, "--seeds", 2).wait()
    assert code == 0 and "trials" not in out and "±" in out  # nothing was left to train

    with pytest.raises(UserError, match="only baselines have been run yet: name one of baseline-chollet_cnn"):
        frames.runs()  # the latest sweep: there is none
    name = "baseline-chollet_cnn-mnist-5k-1epochs"
    frame = frames.runs(name)
    assert list(frame.trial) == [0, 1] and frame.val_accuracy.isna().all()
    assert frame.test_accuracy.between(0.3, 1).all()
    assert set(frame.protocol) == {"reshuffled"} and len(set(frame.seed)) == 2
    experiment = tracking.find_experiment(name)
    assert experiment is not None
    runs = tracking.trial_runs(experiment.experiment_id)
    assert {run.tags["phase"] for run in runs} == {"baseline"}
    assert {run.tags["protocol"] for run in runs} == {"reshuffled"}
    assert {run.tags["dataset_digest"] for run in runs} == {
        datasets.under("reshuffled", "mnist-5k", int(run.params["seed"])).digest for run in runs
    }  # each seed has other test images
    assert all("val_accuracy" not in run.metrics for run in runs)
    assert all(run.metrics["epoch_val_accuracy"] == run.metrics["test_accuracy"] for run in runs)  # watched

    text = io.StringIO()
    leaderboard.show(name, Console(file=text, width=120))
    assert "2 seeds of one configuration: test accuracy" in text.getvalue() and "chosen" not in text.getvalue()


def test_what_is_read_back_is_what_was_trained(run_here: Callable[[Any], Any]) -> None:
    plan = Plan(["softmax"], seeds=2, dataset="mnist-5k", epochs=1)
    run_here(baselines.study(plan, "softmax", "cpu"))
    (row,) = baselines_report._rows(plan)
    frame = frames.runs("baseline-softmax-mnist-5k-1epochs")
    assert row.accuracies == tuple(100 * frame.test_accuracy)
    assert (row.parameters, row.epochs, row.place) == (7_850, 1, "cpu")
    assert 0 < row.epoch_seconds[0] <= row.epoch_seconds[1] <= row.epoch_seconds[2]
    assert math.isclose(sum(frame.seconds), sum(row.epoch_seconds[::2]), rel_tol=1e-6)  # two epochs: lowest and highest


@pytest.mark.parametrize(
    ("published", "accuracies", "word"),
    [
        (target(99.14), (99.18, 99.20, 99.22), "agrees"),  # a run of this recipe could have had it
        (target(99.14), (99.20, 99.21, 99.22), "better"),
        (target(99.14), (99.20, 99.21), "undecided"),  # of two seeds
        (target(98, "above"), (98.10, 98.11, 98.12), "agrees"),
        (target(99.1, "goal"), (99.20, 99.21, 99.22), "reached"),
    ],
)
def test_a_row_says_how_its_seeds_stand_to_a_published_number(
    published: Target, accuracies: tuple[float, ...], word: str
) -> None:
    assert some_row("keras_cnn", accuracies).word(published) == word


def test_the_tables_keep_protocols_apart_and_report_every_seed() -> None:
    rows = [some_row(name) for name in models.MODELS]
    official, other = baselines_report.sections(rows).split("### On other test images")
    assert "`chollet_cnn`" not in official and "`chollet_cnn`" in other.split("###")[0]
    assert official.count("98.90, 99.00, 99.10") == len(models.MODELS) - 1
    assert "99.55 % (of 9,984 images)<br>99.48 %" in official
    assert "converges badly" in official and "human reading 99.7 %, state of the art 99.79 %" in other


def test_a_seed_that_diverged_is_counted_and_not_replaced(
    run_here: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wild = Recipe(arguments={"activation": "relu"}, training={"optimizer": "sgd", "learning_rate": 1e30, "epochs": 1})
    monkeypatch.setitem(models.load("dense_relu").RECIPES, "dense_relu", wild)
    plan = Plan(["dense_relu"], seeds=2, dataset="mnist-5k")
    study = baselines.study(plan, "dense_relu", "cpu")
    run_here(study)
    assert baselines.ended(study) == 2 and baselines.finished_runs(study, "cpu") == []
    assert baselines_report._rows(plan) == []
    assert baselines.run(plan, Console(file=io.StringIO()))  # nothing is trained: this would need a worker

    row = dataclasses.replace(some_row("softmax"), lost=1)
    assert "99.00 ± 0.10 % (3; 1 diverged or failed)" in baselines_report.sections([row])


def test_times_of_both_devices_stand_beside_the_published_ones() -> None:
    rows = [some_row("lean_cnn"), some_row("lean_cnn", (99.2, 99.3), place="gpu")]
    text = baselines_report.sections(rows)
    assert "| `lean_cnn` | 1,234 | 5 | 59.3 | 2.0 (1.0 to 3.0) | 2.0 (1.0 to 3.0) |" in text
    assert "`lean_cnn` on a GPU" in text and "cpu: a cpu; gpu: a gpu" in text


class TestPage:
    def test_is_written_between_its_marks(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text(f"before\n{baselines_report.BEGIN}\nold\n{baselines_report.END}\nafter\n")
        for _ in range(2):
            baselines_report.write([some_row("softmax")], page)
        text = page.read_text()
        assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
        assert text.count("### What it cost") == 1

    def test_is_made_where_there_is_none(self, tmp_path: Path) -> None:
        baselines_report.write([some_row("softmax")], tmp_path / "docs" / "page.md")
        assert "`softmax`" in (tmp_path / "docs" / "page.md").read_text()

    def test_that_cannot_be_written_is_said_before_training(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"cannot be (read|written)"):
            baselines_report.check_page(tmp_path)
        if os.geteuid():  # root may write anywhere
            tmp_path.chmod(0o500)
            with pytest.raises(UserError, match="cannot be written"):
                baselines_report.check_page(tmp_path / "new" / "page.md")
            tmp_path.chmod(0o700)

    def test_without_marks_is_left_alone(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text("mine")
        with pytest.raises(UserError, match="has no lines"):
            baselines_report.write([some_row("softmax")], page)
        assert page.read_text() == "mine"

    def test_waits_for_every_recipe(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ended = dict.fromkeys(models.MODELS, 3) | {"keras_cnn": 2}
        monkeypatch.setattr(baselines, "ended", lambda study: ended[study.model])
        monkeypatch.setattr(baselines_report, "_row", lambda _, name, place: some_row(name) if place == "cpu" else None)
        out = io.StringIO()
        baselines_report.show(Plan(["softmax"]), Console(file=out, width=200), tmp_path / "page.md")
        assert "still to train: keras_cnn" in out.getvalue() and not (tmp_path / "page.md").exists()
        ended["keras_cnn"] = 3
        baselines_report.show(Plan(["softmax"]), Console(file=out, width=200), tmp_path / "page.md")
        assert "`keras_cnn`" in (tmp_path / "page.md").read_text()


def test_runs_under_other_settings_are_not_counted_as_the_recipe(
    run_here: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(["softmax"], seeds=1, dataset="mnist-5k", epochs=1)
    run_here(baselines.study(plan, "softmax", "cpu"))
    now = Recipe(training={"optimizer": "sgd", "learning_rate": 0.02, "pixels": "by_256"})
    monkeypatch.setitem(models.load("softmax").RECIPES, "softmax", now)
    with pytest.raises(UserError, match=r"has runs with learning_rate=0\.01, and the recipe now has 0\.02"):
        baselines.run(plan, Console(file=io.StringIO()))


def test_a_baseline_gone_on_with_by_its_name_stays_a_baseline(run_here: Callable[..., Any]) -> None:
    plan, name = Plan(["softmax"], seeds=1, dataset="mnist-5k", epochs=1), "baseline-softmax-mnist-5k-1epochs"
    run_here(baselines.study(plan, "softmax", "cpu"), phase="baseline")
    run_here(record.restore(name, Store(name).attributes(), {"trials": 2}))  # as `sweep run NAME --stored` does
    experiment = tracking.find_experiment(name)
    assert experiment is not None
    runs = tracking.trial_runs(experiment.experiment_id)
    assert [run.tags["phase"] for run in runs] == ["baseline", "baseline"]
    assert list(frames.studies().phase) == ["baseline"]


def test_the_backend_decides_where_a_baseline_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert baselines.place_of("cpu") == "cpu"
    monkeypatch.setattr(device, "gpus", lambda: ["0"])  # a driver answers, and the backend sees no GPU
    assert baselines.place_of("auto") == "cpu"
    assert baselines.place_of("cpu") == "cpu"
