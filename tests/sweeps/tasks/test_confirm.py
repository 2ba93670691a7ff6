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
from pipelines.metrics import METRICS
from pipelines.tracking import store as tracking
from sweeps import runs, verdicts
from sweeps.results import choice, frames, leaderboard, systems, verdict_lines
from sweeps.results.verdict import Published, Seeds, decide
from sweeps.running import launch
from sweeps.running.resources import ThisMachine
from sweeps.stores import record
from sweeps.stores.store import Store, first_value
from sweeps.study import study_file
from sweeps.tasks import champion, confirm, doctor, planning
from tests.conftest import TINY, let_compare, run_in_process


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
    assert found.chosen.tolist() == [True, False, False] and found.error.tolist() == pytest.approx([0.02, 0.005, 0.02])
    assert found.system[1].startswith("ensemble of trial ") and found.trained.tolist() == found.planned.tolist()
    assert set(found.verdict) <= {"not reached", "undecided"} and set(found.target) == {"goal"}
    seeds = systems.confirmations("tiny")
    chosen = found[found.chosen].iloc[0]
    means = seeds.groupby("trial").val_accuracy.mean()
    assert chosen.val_mean == pytest.approx(100 * means.max()) and chosen.system == f"trial {means.idxmax()}"
    assert chosen.low < chosen.test_mean < chosen.high
    assert chosen.beyond_high - chosen.beyond_low > 0
    console = Console(record=True, width=200)
    systems.show("tiny", console)
    said = console.export_text()
    lines = [line.strip() for line in said.splitlines()]
    at = lines.index("99.10 %  goal")
    assert f"{chosen.system} *" in said and lines[at + 1].startswith(f"{chosen.verdict}  ")
    labels = [line.partition("  ")[0] for line in lines[at + 2 : at + 5]]
    assert labels == ["next training", "as a system", "on other images"]
    interval = (
        f"mean of 3 seeds {chosen.test_mean:.2f} %, 95 % interval {chosen.low:.2f} to {chosen.high:.2f} (3 planned)"
    )
    assert interval in lines[at + 1] and "0 of 3 seeds are (0 to 71 % of all trainings)" in lines[at + 2]
    assert sum(line.startswith("99.10 %  goal: ") for line in lines) == 2  # the other systems have one line
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
    assert row.error == pytest.approx(0.005) and np.isnan(row.val_mean) and row.models == row.planned == 3
    assert row.test_mean == pytest.approx(100 * final.test_accuracy.mean())


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("both", [False, True])
def test_after_three_seeds_the_best_goes_on_and_what_is_tied_with_it(
    both: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [each.number for each in confirm.candidates("tiny", 2, 3)]
    monkeypatch.setattr(confirm, "tied", lambda accuracies, _: set(accuracies) - ({second} if not both else set()))
    here = []

    def launched(study: Any, *_: Any, **__: Any) -> launch.Result:
        here.append(f"{study.name} {study.budget.trials}")
        return launch.Result(None, False, "random")

    monkeypatch.setattr(launch, "run", launched)
    console = Console(record=True, width=200)
    confirm.run("tiny", 2, 5, ThisMachine(device="cpu"), console)
    on = [first, second] if both else [first]
    assert here == [f"tiny-confirm-{number} 5" for number in on]  # all at once, for as many workers as there are
    dropped = f"trial {second} is behind by validation after 3 seeds: no more of it"
    assert (dropped in console.export_text()) == (not both)
    assert {f"trial {first}", f"trial {second}"} < {
        system.name for system in systems.systems("tiny")
    }  # it keeps its seeds


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
    ("accuracies", "on"),
    [
        ({1: [0.991, 0.992, 0.993], 2: [0.990, 0.991, 0.992]}, {1}),  # 0.001 behind, and its standard error is 0.0008
        ({1: [0.991, 0.992, 0.993], 2: [0.990, 0.992, 0.993]}, {1, 2}),
        ({1: [0.99, 0.99, 0.99], 2: [0.99, 0.99, 0.99], 3: [0.98, 0.98, 0.98]}, {1, 2}),
        ({1: [0.991, 0.992], 2: [0.5, 0.5, 0.51]}, {2}),  # of the first a seed was lost: two say nothing
        ({1: [0.991, 0.992], 2: [0.5, 0.5]}, {1, 2}),
        ({}, set()),
    ],
)
def test_who_goes_on(accuracies: dict[int, list[float]], on: set[int]) -> None:
    assert choice.tied(accuracies) == on
    assert choice.tied({key: [-each for each in values] for key, values in accuracies.items()}, "minimize") == on


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


def test_of_equal_means_the_smaller_validation_loss_is_chosen() -> None:
    equal = {1: [0.990, 0.991, 0.992], 2: [0.992, 0.991, 0.990], 3: [0.98] * 3}
    assert choice.choose(equal, "maximize", {1: 0.04, 2: 0.03, 3: 0.01}.__getitem__) == 2


@pytest.mark.usefixtures("seeded")
def test_seeds_after_those_that_were_planned_and_dropped_configurations_choose_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = choice.confirmed_trials("tiny")

    def with_values(by_trial: dict[int, list[float]], planned: int) -> int | None:
        def ended(study: str) -> list[Any]:
            values = by_trial[int(study.rpartition("-")[2])]
            return [
                SimpleNamespace(state=TrialState.COMPLETE, values=[value], number=n) for n, value in enumerate(values)
            ]

        monkeypatch.setattr(choice, "ended", ended)
        monkeypatch.setattr(choice, "planned", lambda *_: planned)
        return choice.chosen("tiny")

    assert with_values({first: [0.98] * 3, second: [0.97] * 3}, 3) == first
    assert with_values({first: [0.98] * 3, second: [0.97] * 3 + [1.0] * 9}, 3) == first
    assert with_values({first: [0.98] * 3, second: [0.97] * 5}, 5) == second  # the first was dropped from the race
    assert with_values({first: [0.98] * 3, second: [0.97] * 4}, 5) == first  # under way


def test_of_equal_trials_that_with_the_smaller_validation_loss_is_confirmed_first(
    study: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = study.trials()
    monkeypatch.setattr(choice, "validation_loss", lambda trial: -trial.number)
    monkeypatch.setattr(choice, "first_value", lambda _: 0.5)
    monkeypatch.setattr(choice, "best_first", lambda found, _: list(found))
    assert [trial.number for trial in choice.ranked(trials, "maximize")] == [3, 2, 1, 0]


@pytest.mark.usefixtures("study")
def test_the_validation_loss_is_that_of_the_trials_run() -> None:
    store = Store("tiny")
    frame = runs("tiny").set_index("trial")
    for trial in store.trials():
        assert choice.validation_loss(trial) == frame.val_loss[trial.number]
    gone = SimpleNamespace(user_attrs={"run_id": "0" * 32})
    assert choice.validation_loss(gone) == float("inf")


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
def test_the_first_number_of_seeds_stays_the_planned_one(here: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants more after a look gets the anytime interval, and no advice to begin anew."""
    let_compare(monkeypatch)
    (first,) = confirm.candidates("tiny", 1, 5)
    console = Console(record=True, width=300)
    confirm.run("tiny", 1, 5, ThisMachine(device="cpu"), console)
    assert here == [f"{first.study.name} 5"] and "planned" not in console.export_text()
    row = verdicts("tiny").set_index("system").loc[f"trial {first.number}"]
    assert (row.planned, row.trained) == (3, 5)
    seeds, _ = systems.evidence("tiny", first.number, METRICS["accuracy"])
    now, student = seeds.interval(), seeds.summary().interval
    assert now.high - now.low > 2 * (student.high - student.low)


@pytest.mark.usefixtures("seeded")
def test_confirmations_of_before_open_with_the_number_they_planned_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """An early version noted one number for all configurations; the first noted none."""
    store = Store("tiny")
    number = next(iter(choice.confirmed_trials("tiny")))
    attributes = {key: value for key, value in store.attributes().items() if not key.startswith("seeds_planned")}
    monkeypatch.setattr(record.StoredStudy, "attributes", property(lambda _: attributes))
    assert choice.planned("tiny", "confirm", number, 3) == 3
    attributes["seeds_planned"] = 7
    assert choice.planned("tiny", "confirm", number, 3) == 7
    attributes[f"seeds_planned:confirm-{number}"] = 5
    assert choice.planned("tiny", "confirm", number, 3) == 5


@pytest.mark.usefixtures("seeded")
def test_the_chosen_one_is_compared_with_the_published_recipe_as_retrained_here(
    run_here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    let_compare(monkeypatch)
    found = systems.systems("tiny")
    assert [name for name, _ in systems.comparisons("tiny", found)] == [found[-1].name]  # the ensemble has no seeds
    recipe: dict[str, Any] = {"name": "baseline-lean_cnn", "model": "lean_cnn", "dataset": "mnist-5k", "search": {}}
    settings = {"protocol": "official", "training": {"epochs": 1, "keep": "last"}, "budget": {"trials": 3}}
    run_here(study_file.check(recipe | settings, "test"), phase="baseline")
    ((name, comparison),) = list(systems.comparisons("tiny", found))[1:]
    ours, theirs = found[0].test_mean, 100 * runs("baseline-lean_cnn").test_accuracy
    assert name == "lean_cnn as published, retrained"
    assert comparison.difference == pytest.approx(ours - theirs.mean())
    assert comparison.here.low < comparison.difference < comparison.here.high and comparison.beyond is not None
    said = verdict_lines.of_a_comparison(found[0].name, name, comparison, METRICS["accuracy"])
    assert f"{found[0].name} against {name}: {comparison.difference:+.2f} points on these images" in said


@pytest.mark.usefixtures("seeded")
class TestUntilDecided:
    def run(self, value: float | None, most: int = 40, workers: int = 1) -> tuple[bool, str]:
        console = Console(record=True, width=300)
        until = planning.Until(value, most)
        done = confirm.run("tiny", 2, 3, ThisMachine(workers, device="cpu"), console, until=until)
        return done, console.export_text()

    def test_what_is_decided_already_takes_no_seed(self, here: list[str]) -> None:
        done, said = self.run(99.9)
        assert done and here == [] and "99.90 %: not reached, mean of 3 seeds" in said

    def test_seeds_are_added_one_by_one_up_to_the_most(self, here: list[str]) -> None:
        seeds, _ = systems.evidence("tiny", choice.chosen("tiny"), METRICS["accuracy"])
        done, said = self.run(round(float(np.mean(seeds.complete)), 2), most=5)
        name = choice.confirmed_trials("tiny")[choice.chosen("tiny")]
        assert done and here == [f"{name} 4", f"{name} 5"]
        assert "5 at most; with a mean of" in said and "more than 5 are expected, so that it may stay undecided" in said
        assert "undecided, mean of 5 seeds" in said and "(3 planned, 5 trained)" in said
        here.clear()
        assert (
            self.run(round(float(np.mean(seeds.complete)), 2), most=5)[0] and here == []
        )  # the same call has nothing to do

    def test_several_workers_are_all_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        trained = [3]

        def train(candidate: confirm.Candidate, *_: Any) -> bool:
            trained.append(candidate.study.budget.trials)
            return True

        monkeypatch.setattr(
            systems, "evidence", lambda *_: (Seeds([98.0, 99.0, 100.0] * 2, 3).first(trained[-1]), 0.04)
        )
        monkeypatch.setattr(confirm, "_train", train)
        assert confirm._until_decided("tiny", planning.Until(99.0, 6), ThisMachine(2, "cpu"), Console(quiet=True))
        assert trained == [3, 5, 6]

    def test_it_ends_when_the_interval_does_and_ctrl_c_resumes(
        self, here: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seeds, _ = systems.evidence("tiny", choice.chosen("tiny"), METRICS["accuracy"])
        mean = float(np.mean(seeds.complete))
        drawn = [mean + 0.5 * offset for offset in (-2, 0, 2, 1, -1, 0, 0, 1, 0, -1, 1, 0)]
        value = mean - 1.3
        known = 3

        def evidence(*_: Any) -> tuple[Seeds, float]:
            return Seeds(drawn[:known], 3, 500), 0.04

        def train(*_: Any) -> bool:
            nonlocal known
            known += 1
            return known != 6  # Ctrl-C after that seed

        monkeypatch.setattr(systems, "evidence", evidence)
        monkeypatch.setattr(confirm, "_train", train)
        until = planning.Until(value, 12)
        assert not confirm._until_decided("tiny", until, ThisMachine(device="cpu"), Console(quiet=True)) and known == 6
        assert confirm._until_decided("tiny", until, ThisMachine(device="cpu"), Console(quiet=True))
        words = [decide(Seeds(drawn[:n], 3, 500), Published(value), 0.04).word for n in range(3, 13)]
        assert known == 3 + words.index("reached") > 6

    def test_without_a_value_it_is_the_nearest_target_that_the_mean_has_not_reached(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        let_compare(monkeypatch)
        mean = 90.0
        targets = [{"accuracy": accuracy, "name": str(accuracy)} for accuracy in (60, 89.9, 90.3, 91, 99)]
        definition = study_file.check(TINY | {"targets": targets}, "test")
        monkeypatch.setattr(record.StoredStudy, "read", lambda *_: definition)

        def nearest(deviation: float) -> str | None:
            seeds = Seeds([mean - deviation, mean, mean + deviation], 3, 500)
            monkeypatch.setattr(systems, "evidence", lambda *_: (seeds, 0.04))
            found = planning.aim("tiny", planning.Until(None, 40))
            return found.name if found.published else None

        assert nearest(0.5) == "90.30 %, 90.3"
        assert nearest(0.0) == "89.90 %, 89.9"  # above, all is decided
        targets[1:3] = []
        definition = study_file.check(TINY | {"targets": targets}, "test")
        assert nearest(0.0) is None

    @pytest.mark.parametrize(
        ("value", "most", "complaint"),
        [
            ("lean_cnn", None, "--until-decided lean_cnn: expected a number, such as 99.48"),
            (99.1, 2, "--most 2: expected at least 3"),
        ],
    )
    def test_what_is_no_number_is_one_line(self, value: Any, most: int | None, complaint: str) -> None:
        with pytest.raises(UserError, match=complaint):
            planning.until(value, most)

    @pytest.mark.parametrize(
        ("value", "most", "complaint"),
        [
            (0.99, 40, "--until-decided 0.99: expected accuracy between 0 and 100; percent, not a share"),
            (101.0, 40, "--until-decided 101: expected"),
            (99.0, 4, "--most 4 is less than the 5 seeds that are planned"),
            (None, 40, "published numbers are of other test images than those of mnist-5k"),
        ],
    )
    def test_what_can_never_be_decided_is_one_line(self, value: float | None, most: int, complaint: str) -> None:
        with pytest.raises(UserError, match=complaint):
            planning.check(study_file.check(TINY, "test"), planning.Until(value, most), 5)


@pytest.mark.usefixtures("seeded")
def test_the_plan_says_what_more_seeds_would_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    let_compare(monkeypatch)
    seeds = Seeds([99.50, 99.56, 99.62, 99.50, 99.62], 5, 10_000)
    monkeypatch.setattr(systems, "evidence", lambda *_: (seeds, 0.04))
    said = list(planning.lines("tiny"))
    assert said[0].endswith("5 seeds (5 planned): test accuracy 99.56 ± 0.06 %; the mean is known to ± 0.07")
    assert said[1] == "seeds added and watched (--until-decided): 10 ± 0.07, 20 ± 0.05, 40 ± 0.03"
    assert (
        said[2] == "seeds planned before the first was trained, as another study may: 10 ± 0.04, 20 ± 0.03, 40 ± 0.02"
    )
    assert said[3].startswith("planned seeds that tell a difference with probability 80 %: 0.01 points 285 seeds,")
    assert said[4] == "  99.10 %  goal: reached, 0.46 points away"


@pytest.mark.usefixtures("study")
def test_a_plan_without_seeds_is_one_line() -> None:
    with pytest.raises(UserError, match="has fewer than 3 fresh seeds of a configuration, and what more would tell"):
        list(planning.lines("tiny"))


@pytest.mark.usefixtures("seeded")
def test_seeds_that_are_ready_early_wait_for_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(iter(choice.confirmed_trials("tiny").values()))
    running = [
        SimpleNamespace(number=n, state=state) for n, state in enumerate(["FAIL", "COMPLETE", "RUNNING", "COMPLETE"])
    ]
    for each in running:
        each.state = TrialState[each.state]
    monkeypatch.setattr(Store, "trials", lambda _: running[::-1])
    assert [trial.number for trial in choice.ended(name)] == [0, 1]


@pytest.mark.usefixtures("seeded")
def test_how_far_the_best_of_the_search_stands_above_its_own_fresh_seeds() -> None:
    frame, seeds = runs("tiny"), systems.confirmations("tiny")
    best = frame.iloc[0]
    own = seeds[seeds.trial == best.trial].val_accuracy
    console = Console(record=True, width=250)
    leaderboard.show("tiny", console)
    by = 100 * (best.val_accuracy - own.mean())
    word = "good" if by >= 0 else "bad"
    assert f"from 3 fresh seeds: the search's number was {abs(by):.2f} points too {word}" in console.export_text()


@pytest.mark.usefixtures("seeded")
def test_the_leaderboard_of_seeds_is_their_owners() -> None:
    (confirming, *_) = choice.confirmed_trials("tiny").values()
    with pytest.raises(
        UserError, match=f"study '{confirming}' trains again what 'tiny' found: sweep best tiny shows it"
    ):
        leaderboard.show(confirming, Console(quiet=True))


def test_a_final_training_follows_the_curve_that_was_chosen(write_study: Callable[..., Path]) -> None:
    training = {"epochs": 6, "schedule": {"name": "cosine", "warmup": 1.0, "horizon": 8.0}}
    owner = study_file.load(str(write_study(training=training)))
    trial: Any = SimpleNamespace(params={"filters1": 4, "learning_rate": 0.005}, number=3)
    chosen, final = owner.run_config(trial.params, 0).training, confirm.study_of(owner, trial, 2, epochs=4).settings
    assert (chosen.epochs, final.epochs) == (6, 4)
    for epoch in range(4):
        behind = [None] * epoch
        np.testing.assert_array_equal(schedules.rates(final, behind, 10), schedules.rates(chosen, behind, 10))
