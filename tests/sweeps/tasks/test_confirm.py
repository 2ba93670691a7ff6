"""Confirming: the best by validation, from fresh seeds, racing; and what is read back of it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState
from rich.console import Console

from pipelines import datasets, schedules
from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from sweeps import runs, verdicts
from sweeps.results import choice, frames, leaderboard, systems
from sweeps.running import launch
from sweeps.running.resources import ThisMachine
from sweeps.stores import record
from sweeps.stores.store import Store, first_value
from sweeps.study import study_file
from sweeps.tasks import champion, confirm, doctor
from tests.conftest import let_compare, run_in_process


def start(top: int, seeds: int, final: bool = False) -> bool:
    return confirm.run("tiny", top, seeds, ThisMachine(device="cpu"), Console(quiet=True), final)


def test_the_best_by_validation_are_trained_from_fresh_seeds(seeded: Store, here: list[str]) -> None:
    study = seeded
    ranked = sorted(study.trials(), key=lambda trial: (-first_value(trial), trial.number))
    numbers = [trial.number for trial in ranked[:2]]
    assert sorted(runs("tiny").trial) == [0, 1, 2, 3]  # the study's own trials, and no others
    assert list(frames.studies().study) == ["tiny"]

    found = systems.confirmations()
    measured = ["val_accuracy", "test_accuracy", "val_loss", "test_loss"]
    assert list(found.columns) == [*systems.OF_A_SEED[:5], *measured, *systems.OF_A_SEED[5:]]
    assert found.trial.tolist() == sorted(numbers * 3) and found.seed.tolist() == [0, 1, 2] * 2
    assert set(found.state) == {"complete"} and found.run_id.is_unique

    parent = tracking.parent_runs(tracking.find_experiment("tiny").experiment_id, study.attributes()["uid"])[0]
    trained = {run.run_id: run for run in tracking.all_runs(parent.experiment_id, "tags.phase = 'confirm'")}
    assert set(trained) == set(found.run_id)
    seeds_used = set()
    for trial in ranked[:2]:
        wanted = record.restore("tiny", study.attributes()).run_config(trial.params, seed=0).params()
        of_it = [trained[run_id] for run_id in found[found.trial == trial.number].run_id]
        for run in of_it:
            same = {key: value for key, value in run.params.items() if key != "seed"}
            assert same == {key: str(value) for key, value in wanted.items() if key != "seed"}
            seeds_used.add(run.params["seed"])
            own_parent = tracking.get_run(run.tags["mlflow.parentRunId"])
            assert own_parent.tags["mlflow.parentRunId"] == parent.run_id
    assert len(seeds_used) == 6
    own = record.restore("tiny", study.attributes())
    assert not seeds_used & {str(own.seed_of(number)) for number in range(1000)}

    assert start(top=2, seeds=3) and here == []  # nothing is left to do
    assert not [found.what for name in ("tiny", f"tiny-confirm-{numbers[0]}") for found in doctor.problems(Store(name))]


@pytest.mark.usefixtures("seeded")
def test_a_verdict_for_every_target_from_seeds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdicts("tiny").empty  # the test images of mnist-5k are its own
    let_compare(monkeypatch)
    found = verdicts("tiny")
    assert list(found.columns) == systems.OF_A_VERDICT
    assert found.chosen.tolist() == [True, False, False] and found.comparisons.tolist() == [2, 3, 3]
    assert found.system[1].startswith("ensemble of trial ")
    assert set(found.verdict) <= {"not reached", "undecidable"} and set(found.target) == {"goal"}
    seeds = systems.confirmations("tiny")
    chosen = found[found.chosen].iloc[0]
    means = seeds.groupby("trial").val_accuracy.mean()
    assert chosen.val_mean == pytest.approx(100 * means.max()) and chosen.system == f"trial {means.idxmax()}"
    assert chosen.low < chosen.test_mean < chosen.high
    assert chosen.beyond_high - chosen.beyond_low > 0
    console = Console(record=True, width=200)
    systems.show("tiny", console)
    said = console.export_text()
    assert f"{chosen.system} *" in said and f"goal: {chosen.verdict} (95 % interval of the mean" in said
    of_it = seeds[seeds.trial == means.idxmax()]
    images = datasets.load("mnist-5k")
    predicted = systems.Predicted.of(list(of_it.run_id), images)
    rightly = predicted.test.argmax(axis=2) == images.test.y
    np.testing.assert_allclose(rightly.mean(axis=1), of_it.test_accuracy)


@pytest.mark.slow
def test_random_test_labels_change_no_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watch: Any, empty_stores: Path, here: list[str]
) -> None:
    """From the first trial to the champion: whatever looked at test labels would choose otherwise."""
    images = datasets.load("mnist-5k")
    labels = np.random.default_rng(0).permutation(images.test.y)
    shuffled = dataclasses.replace(images, test=dataclasses.replace(images.test, y=labels))
    study = study_file.check(
        {
            "name": "tiny",
            "model": "softmax",
            "dataset": "mnist-5k",
            "training": {"epochs": 2, "patience": 1},
            "search": {"learning_rate": {"float": [1e-4, 1.0], "log": True}, "batch_size": {"int": [100, 1000]}},
            "sampler": {"name": "tpe", "n_startup_trials": 2},
            "pruner": {"name": "median", "n_startup_trials": 2, "n_warmup_steps": 1},
            "budget": {"trials": 5},
            "start": [],
        },
        "test",
    )

    def choices(folder: Path, dataset: datasets.Dataset) -> tuple[list[Any], list[float]]:
        monkeypatch.setenv("MLRUNS_DIR", str(folder))
        monkeypatch.setattr(datasets, "load", lambda _: dataset)
        datasets._watched.cache_clear()
        here.clear()
        store = run_in_process(study, watch, empty_stores)
        trials = [(trial.params, trial.state, trial.values) for trial in store.trials()]
        assert start(top=2, seeds=3, final=True)
        seeds, said = systems.confirmations("tiny"), champion.promote("tiny")
        kept = seeds[["trial", "phase", "seed", "val_accuracy", "kept_epoch", "epochs"]].to_dict("list")
        judged = [(system.name, system.chosen, system.val_mean) for system in systems.systems("tiny")]
        chosen = [list(runs("tiny").trial), str(list(runs("tiny").kept_epoch)), str(kept), judged, list(here), said]
        return [trials, *chosen], list(seeds.test_accuracy)

    true, random = (choices(tmp_path / name, found) for name, found in (("true", images), ("random", shuffled)))
    datasets._watched.cache_clear()
    assert true[0] == random[0]
    assert {TrialState.PRUNED, TrialState.COMPLETE} == {state for _, state, _ in true[0][0]}
    assert min(true[1]) > 0.5 > 0.2 > max(random[1])


@pytest.mark.usefixtures("seeded")
def test_the_final_training_has_all_images_and_the_epochs_that_validation_chose(
    here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start(top=2, seeds=3, final=True)
    found = systems.confirmations("tiny")
    final = found[found.phase == "final"]
    (number,) = set(final.trial)
    assert here == [f"tiny-final-{number} 3"] and final.val_accuracy.isna().all() and set(final.epochs) == {1}
    own = found[(found.trial == number) & (found.phase == "confirm")]
    assert own.val_accuracy.mean() == found[found.phase == "confirm"].groupby("trial").val_accuracy.mean().max()
    runs_of_it = {run_id: tracking.get_run(run_id) for run_id in found.run_id}
    trained = runs_of_it[final.run_id.iloc[0]]
    assert trained.params["protocol"] == "official" and trained.params["keep"] == "last"
    assert trained.metrics["test_reads"] == 2  # after its epoch, and at the end
    seeds = {run_id: run.params["seed"] for run_id, run in runs_of_it.items()}
    assert len(set(seeds.values())) == 9

    monkeypatch.setattr(confirm.statistics, "median_low", lambda _: 7)  # more seeds may change it: too late
    here.clear()
    assert start(top=2, seeds=3, final=True) and here == []
    let_compare(monkeypatch)
    judged = verdicts("tiny").set_index("system")
    row = judged.loc[f"trial {number}, all training images"]
    assert row.comparisons == 4 and np.isnan(row.val_mean) and row.models == 3
    assert row.test_mean == pytest.approx(100 * final.test_accuracy.mean())


@pytest.mark.usefixtures("seeded")
def test_one_that_is_clearly_behind_gets_no_more_seeds(here: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = [each.number for each in confirm.candidates("tiny", 2, 3)]
    monkeypatch.setattr(confirm, "clearly_behind", lambda accuracies, _: {second} & set(accuracies))
    start(top=2, seeds=5)
    assert here == [f"tiny-confirm-{first} 4", f"tiny-confirm-{first} 5"]


@pytest.mark.parametrize(
    ("accuracies", "behind"),
    [
        ({1: [0.991, 0.992, 0.993], 2: [0.981, 0.982, 0.983]}, {2}),
        ({1: [0.991, 0.992, 0.993], 2: [0.990, 0.992, 0.993]}, set()),
        ({1: [0.99, 0.99, 0.99], 2: [0.98, 0.98, 0.98]}, {2}),
        ({1: [0.99, 0.99, 0.99], 2: [0.99, 0.99, 0.99]}, set()),
        ({1: [0.991, 0.992], 2: [0.5, 0.5, 0.51]}, set()),  # two seeds say nothing
        ({}, set()),
    ],
)
def test_who_is_clearly_behind(accuracies: dict[int, list[float]], behind: set[int]) -> None:
    assert choice.clearly_behind(accuracies) == behind


@pytest.mark.parametrize(
    ("top", "seeds", "complaint"),
    [
        (9, 3, "has 4 complete trials, and 9 are to be confirmed: resume it"),
        (0, 3, "--top 0: expected at least 1"),
        (1, 0, "--seeds 0: expected at least 1"),
    ],
)
def test_what_cannot_be_confirmed_is_one_line(study: Store, top: int, seeds: int, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        start(top, seeds)


@pytest.mark.parametrize(
    ("accuracies", "chosen"),
    [
        ({1: [0.990] * 4 + [0.991], 2: [0.9903, 0.9904, 0.9902, 0.9903]}, 2),  # one seed of the second diverged
        ({1: [0.99], 2: [0.98, 0.98, 0.98]}, 2),  # one seed is luck
        ({1: [0.99], 2: [0.98, 0.98]}, 1),
        ({1: [], 2: []}, None),
        ({}, None),
    ],
)
def test_who_is_chosen(accuracies: dict[int, list[float]], chosen: int | None) -> None:
    assert choice.choose(accuracies) == chosen


def test_equal_configurations_are_confirmed_once(study: Store) -> None:
    trials = study.trials()
    trials[1].params.update(trials[0].params)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "trials", lambda _: trials)
        assert {each.number for each in confirm.candidates("tiny", 3, 3)} < {0, 1, 2, 3}
        with pytest.raises(UserError, match="have 3 configurations, and 4 are to be confirmed"):
            confirm.candidates("tiny", 4, 3)


@pytest.mark.usefixtures("seeded")
def test_predictions_that_are_gone_are_one_line_and_the_leaderboard_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> Path:
        raise OSError("gone")

    monkeypatch.setattr(systems.tracking, "artifact_folder", gone)
    with pytest.raises(UserError, match=r"the predictions of run \w+ are gone or damaged \(gone\): sweep rerun"):
        verdicts("tiny")
    console = Console(record=True, width=200)
    leaderboard.show("tiny", console)
    said = console.export_text()
    assert "no verdict: the predictions of run" in said and "validation" in said


@pytest.mark.usefixtures("seeded")
def test_lost_seeds_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = systems.confirmations("tiny")
    state = ["diverged" if index == 0 else value for index, value in enumerate(seeds.state)]
    monkeypatch.setattr(systems, "confirmations", lambda _=None: seeds.assign(state=state))
    found = {system.name: systems.cells(system)[0] for system in systems.systems("tiny")}
    assert found[f"trial {seeds.trial[0]}"] == "2 (1 lost)"


def test_another_data_set_under_the_same_name_is_refused(study: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    other = dataclasses.replace(confirm.datasets.load("mnist-5k"), digest="another")
    monkeypatch.setattr(confirm.datasets, "load", lambda _: other)
    with pytest.raises(UserError, match=r"was trained on mnist-5k with digest .*, and here it has another"):
        start(1, 3)


@pytest.mark.usefixtures("seeded")
def test_more_seeds_than_planned_are_cautioned_against(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "run", lambda *_, **__: launch.Result(None, True, "random"))  # Ctrl-C at once
    console = Console(record=True, width=300)
    confirm.run("tiny", 2, 4, ThisMachine(device="cpu"), console)
    assert "3 seeds were planned, now 4: more seeds after a look" in console.export_text()
    confirm.run("tiny", 2, 3, ThisMachine(device="cpu"), console)
    assert "planned" not in console.export_text()


@pytest.mark.usefixtures("seeded")
def test_the_leaderboard_of_seeds_is_their_owners() -> None:
    (confirming, *_) = choice.confirmed_trials("tiny").values()
    with pytest.raises(
        UserError, match=f"study '{confirming}' trains again what 'tiny' found: sweep best tiny shows it"
    ):
        leaderboard.show(confirming, Console(quiet=True))


def test_a_system_of_too_few_seeds_is_one_line() -> None:
    known = {"system": "trial 1, all training images", "chosen": False, "comparisons": 3, "low": float("nan")}
    lines = list(systems.in_lines([known | {"published": 99.1}, known | {"published": 99.26}], {}))
    assert lines == ["trial 1, all training images, one of 3 systems compared:", "  too few seeds for a verdict"]


def test_a_final_training_follows_the_curve_that_was_chosen(write_study: Callable[..., Path]) -> None:
    training = {"epochs": 6, "schedule": {"name": "cosine", "warmup": 1.0, "horizon": 8.0}}
    owner = study_file.load(str(write_study(training=training)))
    trial: Any = SimpleNamespace(params={"filters1": 4, "learning_rate": 0.005}, number=3)
    chosen, final = owner.run_config(trial.params, 0).training, confirm.study_of(owner, trial, 2, epochs=4).settings
    assert (chosen.epochs, final.epochs) == (6, 4)
    for epoch in range(4):
        behind = [None] * epoch
        np.testing.assert_array_equal(schedules.rates(final, behind, 10), schedules.rates(chosen, behind, 10))
