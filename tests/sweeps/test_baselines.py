"""Published recipes, trained as published: what is asked for, what runs, what the tables say."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import models
from models import Recipe, Target
from pipelines import data
from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from sweeps import baselines, baselines_report, leaderboard, results
from sweeps.baselines import Plan
from sweeps.baselines_report import Row, judged
from sweeps.statistics import summary
from tests.conftest import Sweep

QUICK = {"dataset": "mnist-5k", "epochs": 2}


def target(accuracy: float, kind: Any = "printed") -> Target:
    return Target(accuracy=accuracy, kind=kind, name="it", source="them", protocol="theirs")


def some_row(name: str, accuracies: tuple[float, ...] = (98.9, 99.0, 99.1), place: str = "cpu") -> Row:
    protocol = models.recipe(name).protocol
    return Row(name, protocol, place, f"a {place}", accuracies, 1_234, 5, (1.0, 2.0, 3.0), ("abc",))


@pytest.mark.parametrize("name", models.MODELS)
def test_a_recipe_is_trained_as_published(name: str) -> None:
    recipe, study = models.recipe(name), baselines.study(Plan([name], seeds=4), name, "cpu")
    config = study.run_config({}, seed=1)
    assert config.hyperparameters == models.arguments(name)
    assert {key: getattr(config.training, key) for key in recipe.training} == dict(recipe.training)
    assert config.training.keep == "last" and config.training.patience is None
    assert config.protocol == recipe.protocol and config.dataset == "mnist"
    assert study.budget.trials == 4 and study.search == {} and study.pruner == "none"
    assert [entry.accuracy for entry in study.targets] == [published.accuracy for published in recipe.targets]


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
    arguments = ["baselines", "--only", "softmax", "--only", "chollet_cnn", "--dataset", "mnist-5k", "--epochs", 2]
    page = tmp_path / "page.md"
    code, out, err = sweep(*arguments, "--seeds", 1, "--output", page).wait()
    assert code == 0, err
    assert "one seed: no interval" in out and not page.exists()
    assert "the published numbers are of something else" in out
    code, out, err = sweep(*arguments, "--seeds", 3, "--output", page).wait()
    assert code == 0, err
    assert "1 of 3 trials done" in out and "best" not in out  # it went on, and chose none
    code, out, err = sweep(*arguments, "--seeds", 3).wait()
    assert code == 0 and "trials" not in out and "±" in out  # nothing was left to train

    with pytest.raises(UserError, match="no study has been run yet"):
        results.runs()  # the latest sweep: there is none
    frame = results.runs("baseline-softmax-mnist-5k-2epochs")
    assert (
        list(frame.trial) == [0, 1, 2] and frame.val_accuracy.isna().all() and frame.test_accuracy.between(0.3, 1).all()
    )
    assert set(frame.protocol) == {"official"} and set(frame.kept_epoch) == {2}
    assert len(set(frame.seed)) == 3
    experiment = tracking.find_experiment("baseline-chollet_cnn-mnist-5k-2epochs")
    assert experiment is not None
    runs = tracking.trial_runs(experiment.experiment_id)
    assert {run.data.tags["phase"] for run in runs} == {"baseline"}
    assert {run.data.tags["protocol"] for run in runs} == {"reshuffled"}
    assert {run.data.tags["dataset_digest"] for run in runs} == {
        data.under("reshuffled", "mnist-5k", int(run.data.params["seed"])).digest for run in runs
    }  # each seed has other test images
    assert all("final_validation_accuracy" not in run.data.metrics for run in runs)
    assert all(run.data.metrics["val_accuracy"] == run.data.metrics["test_accuracy"] for run in runs)  # watched

    text = io.StringIO()
    leaderboard.show("baseline-softmax-mnist-5k-2epochs", Console(file=text, width=120))
    assert "3 seeds of one configuration: test accuracy" in text.getvalue() and "chosen" not in text.getvalue()


def test_what_is_read_back_is_what_was_trained(run_here: Callable[[Any], Any]) -> None:
    plan = Plan(["softmax"], seeds=2, dataset="mnist-5k", epochs=1)
    run_here(baselines.study(plan, "softmax", "cpu"))
    (row,) = baselines_report._rows(plan)
    frame = results.runs("baseline-softmax-mnist-5k-1epochs")
    assert row.accuracies == tuple(100 * frame.test_accuracy)
    assert (row.parameters, row.epochs, row.place) == (7_850, 1, "cpu")
    assert 0 < row.epoch_seconds[0] <= row.epoch_seconds[1] <= row.epoch_seconds[2]
    assert math.isclose(sum(frame.seconds), sum(row.epoch_seconds[::2]), rel_tol=1e-6)  # two epochs: lowest and highest


@pytest.mark.parametrize(
    ("published", "measured", "words"),
    [
        (target(99.14), (99.10, 99.14, 99.18), "inside"),
        (target(99.14), (99.20, 99.21, 99.22), "outside: measured higher"),
        (target(99.14), (99.00, 99.01, 99.02), "outside: measured lower"),
        (target(99.14), (99.00,), "one seed: no interval"),
        (target(97, "about"), (97.40, 97.42, 97.44), "inside"),  # rounds to 97
        (target(97, "about"), (97.60, 97.61, 97.62), "outside: measured higher"),
        (target(98.9, "about"), (98.97, 98.98, 98.99), "outside: measured higher"),
        (target(98, "above"), (98.10, 98.11, 98.12), "holds"),
        (target(98, "above"), (97.90, 98.10, 98.20), "inside"),
        (target(98, "above"), (97.50, 97.51, 97.52), "outside: measured lower"),
    ],
)
def test_where_a_published_number_lies(published: Target, measured: tuple[float, ...], words: str) -> None:
    assert judged(published, summary(measured)) == words


def test_the_tables_keep_protocols_apart_and_report_every_seed() -> None:
    rows = [some_row(name) for name in models.MODELS]
    official, other = baselines_report.markdown(rows).split("### On other test images")
    assert "`chollet_cnn`" not in official and "`chollet_cnn`" in other.split("###")[0]
    assert official.count("98.90, 99.00, 99.10") == len(models.MODELS) - 1
    assert "99.55 % (of 9,984 images)<br>99.48 %" in official
    assert "converges badly" in official and "human reading 99.7 %, state of the art 99.79 %" in other


def test_times_of_both_devices_stand_beside_the_published_ones() -> None:
    rows = [some_row("lean_cnn"), some_row("lean_cnn", (99.2, 99.3), place="gpu")]
    text = baselines_report.markdown(rows)
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

    def test_without_marks_is_left_alone(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text("mine")
        with pytest.raises(UserError, match="has no lines"):
            baselines_report.write([some_row("softmax")], page)
        assert page.read_text() == "mine"

    def test_waits_for_every_recipe(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seeds = dict.fromkeys(models.MODELS, (98.9, 99.0, 99.1)) | {"keras_cnn": (99.1, 99.2)}
        monkeypatch.setattr(
            baselines_report, "_row", lambda _, name, place: some_row(name, seeds[name]) if place == "cpu" else None
        )
        out = io.StringIO()
        baselines_report.show(Plan(["softmax"]), Console(file=out, width=200), tmp_path / "page.md")
        assert "still to train: keras_cnn" in out.getvalue() and not (tmp_path / "page.md").exists()
        seeds["keras_cnn"] = (99.1, 99.2, 99.3)
        baselines_report.show(Plan(["softmax"]), Console(file=out, width=200), tmp_path / "page.md")
        assert "99.10, 99.20, 99.30" in (tmp_path / "page.md").read_text()


def test_a_recipe_of_one_s_own_can_have_targets() -> None:
    assert Recipe(training={}, targets=[target(99.0)]).targets[0].accuracy == 99.0
