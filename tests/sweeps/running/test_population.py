"""Trials that train together, on Keras's JAX backend: each as if it were alone.

Under another backend one test runs this file under JAX, in a process of its own.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState, create_trial

import models
from pipelines import datasets, options
from pipelines.config import TrainingSettings
from pipelines.datasets import Dataset
from pipelines.tracking import store as tracking
from pipelines.train import Training, compile_model
from sweeps.results import frames, systems
from sweeps.running import population
from sweeps.stores.store import Store, curve
from sweeps.study import study_file
from sweeps.study.study import Study
from sweeps.tasks import baselines, confirm
from tests.conftest import Sweep, eventually
from tests.sweeps.looking import check_consistent, epochs_reported, workers_of

JAX = os.environ.get("KERAS_BACKEND") == "jax"
under_jax = pytest.mark.skipif(not JAX, reason="runs in a process of its own, under JAX")
Check = Callable[..., Study]
SMALL = {"filters1": 4, "filters2": 4, "filters3": 4, "filters4": 4, "dense": 8, "dense1": 8, "dense2": 8, "dense3": 8}
DIFFERING: list[dict[str, Any]] = [{"dropout": 0.4, "l2": 1e-3}, {"dropout": 0.0, "l2": 1e-5}]


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.skipif(JAX, reason="this is that process")
@pytest.mark.parametrize("part", ["equals", "not equals"])
def test_this_file_under_jax(part: str) -> None:
    pytest.importorskip("jax")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-k",
        part,
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        __file__,
    ]
    done = subprocess.run(command, env=os.environ | {"KERAS_BACKEND": "jax"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    assert int(done.stdout.split(" passed")[0].split()[-1]) >= 10


@pytest.fixture
def check(write_study: Callable[..., Path]) -> Check:
    """Return a study of the tiny model whose trials train three at a time."""

    def checked(**changes: Any) -> Study:
        content = {
            "model": "tests.tiny_model",
            "search": {"units": {"int": [8, 9]}, "learning_rate": {"float": [1e-3, 1e-1], "log": True}},
            "training": {"epochs": 3, "batch_size": 500},
            "budget": {"trials": 6},
            "pruner": "none",
            "start": [],
            "population": 3,
        }
        return study_file.load(str(write_study(**(content | changes))))

    return checked


@pytest.fixture(scope="module")
def few() -> Dataset:
    """Some of the 5k images, in no whole number of batches."""
    whole = datasets.load("mnist-5k")
    some = np.random.default_rng(0).permutation(len(whole.train))[:200]
    train = datasets.Examples(whole.train.x[some], whole.train.y[some])
    return replace(whole, train=train, validation=datasets.Examples(whole.validation.x[:200], whole.validation.y[:200]))


# What a member gets


def training(
    model: str, dataset: Dataset, path: Path, seed: int, arguments: dict[str, Any], **settings: Any
) -> Training:
    import keras

    keras.utils.set_random_seed(seed)
    recipe = models.recipe(model)
    built = models.load(model).build(**(models.arguments(model) | arguments))
    checked = TrainingSettings(**{**recipe.training, "batch_size": 64, "epochs": 2, **settings})
    compile_model(built, checked)
    return Training(built, dataset, checked, seed, path, "same")


def train_both(alone: list[Training], together: list[Training], size: int, epochs: int) -> None:
    """Train some each by itself, and as many as a population with `size` places."""
    from pipelines.population import Population, shape_of

    whole = Population(together[0], size)
    for member in together:
        assert shape_of(member.model, member.settings) == whole.shape
        whole.seat(member)
    for _ in range(epochs):
        for member in alone:
            member.run_epoch()
        whole.run_epoch()


@under_jax
@pytest.mark.parametrize(
    "model", {models.MODELS[name]: name for name in models.MODELS}.values()
)  # the last of each file
def test_a_member_equals_the_same_training_alone(model: str, few: Dataset, tmp_path: Path) -> None:

    known = models.arguments(model)
    small = {name: width for name, width in SMALL.items() if known.get(name)}
    differing = [{name: value for name, value in each.items() if name in known} for each in DIFFERING]

    def members(folder: str) -> list[Training]:
        own = {"rotation": 5.0} if "augmented" in model else {}
        return [
            training(model, few, tmp_path / folder / f"{seed}.npz", seed, small | each, learning_rate=rate, **own)
            for seed, (each, rate) in enumerate(zip(differing, (1e-3, 3e-3), strict=True))
        ]

    alone, together = members("alone"), members("together")
    train_both(alone, together, size=3, epochs=2)
    for one, other in zip(alone, together, strict=True):
        for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
            expected, got = ([metrics.flat()[name] for metrics in each.history] for each in (one, other))
            np.testing.assert_allclose(got, expected, rtol=1e-3, atol=5e-3, err_msg=f"{model} {name}")
        one.restore_kept()
        other.restore_kept()
        for mine, its in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
            np.testing.assert_allclose(its, mine, atol=5e-3)
        for mine, its in zip(one.model.optimizer.variables, other.model.optimizer.variables, strict=True):
            assert mine.shape == its.shape


@under_jax
def test_members_may_differ_in_momentum(few: Dataset, tmp_path: Path) -> None:
    from pipelines.population import shape_of

    def members(folder: str, *momenta: float) -> list[Training]:
        settings = {"optimizer": "sgd", "learning_rate": 0.1, "epochs": 2}
        return [
            training(
                "tests.tiny_model", few, tmp_path / folder / f"{momentum}.npz", 1, {}, momentum=momentum, **settings
            )
            for momentum in momenta
        ]

    alone, together = members("alone", 0.5, 0.9), members("together", 0.5, 0.9)
    train_both(alone, together, size=2, epochs=2)
    losses = [[metrics.loss for metrics in member.history] for member in together]
    np.testing.assert_allclose(losses, [[metrics.loss for metrics in member.history] for member in alone], rtol=1e-4)
    assert abs(losses[0][1] - losses[1][1]) > 1e-3
    (without,) = members("without", 0.0)
    assert shape_of(without.model, without.settings) != shape_of(together[0].model, together[0].settings)


@under_jax
@pytest.mark.parametrize("optimizer", options.optimizers())
def test_members_may_differ_in_the_numbers_of_their_optimizer(optimizer: str, few: Dataset, tmp_path: Path) -> None:
    from pipelines.population import traced_options

    own: dict[str, Any] = {"optimizer.weight_decay": 0.01} | ({"optimizer.momentum": 0.2} if optimizer == "sgd" else {})
    numbers = traced_options(TrainingSettings(optimizer=optimizer, **own))
    assert len(numbers) > 1
    changed = {f"optimizer.{name}": 0.9 * value or 0.05 for name, value in numbers.items()}

    def members(folder: str) -> list[Training]:
        return [
            training("tests.tiny_model", few, tmp_path / folder / f"{n}.npz", 1, {}, optimizer=optimizer, **each)
            for n, each in enumerate((own, changed))
        ]

    alone, together = members("alone"), members("together")
    train_both(alone, together, size=2, epochs=2)
    losses = [[metrics.loss for metrics in member.history] for member in together]
    np.testing.assert_allclose(losses, [[metrics.loss for metrics in member.history] for member in alone], rtol=1e-3)
    assert losses[0] != losses[1]


@under_jax
def test_members_may_differ_in_their_schedules(few: Dataset, tmp_path: Path) -> None:

    schedules: list[dict[str, Any]] = [
        {"schedule": {"name": "cosine", "warmup": 0.5, "horizon": 2.0}, "flip": "horizontal"},
        {"schedule": {"name": "linear", "horizon": 1.0}, "lr_floor": 1e-4, "crop": 2},
        {"schedule": {"warmup": 1.0}, "lr_decay": 0.5, "rotation": 3.0},
        {"schedule": {"name": "plateau", "patience": 1, "min_delta": 1.0, "monitor": "loss"}, "zoom": 0.1},
    ]

    def members(folder: str) -> list[Training]:
        return [
            training(
                "tests.tiny_model", few, tmp_path / folder / f"{n}.npz", 1, {}, learning_rate=0.01, epochs=3, **own
            )
            for n, own in enumerate(schedules)
        ]

    alone, together = members("alone"), members("together")
    train_both(alone, together, size=4, epochs=3)
    for one, other in zip(alone, together, strict=True):
        for name in ("loss", "learning_rate"):
            expected, got = ([getattr(metrics, name) for metrics in each.history] for each in (one, other))
            np.testing.assert_allclose(got, expected, rtol=1e-3)
        for mine, its in zip(one.model.optimizer.variables, other.model.optimizer.variables, strict=True):
            assert mine.shape == its.shape


@under_jax
def test_members_may_differ_in_smoothing_and_class_weights(few: Dataset, tmp_path: Path) -> None:

    each: list[dict[str, Any]] = [
        {"class_weight": "balanced", "loss.label_smoothing": 0.2},
        {"class_weight": "balanced"},
        {"loss.label_smoothing": 0.1},
    ]

    def members(folder: str) -> list[Training]:
        return [
            training("tests.tiny_model", few, tmp_path / folder / f"{n}.npz", 1, {}, epochs=2, **own)
            for n, own in enumerate(each)
        ]

    alone, together = members("alone"), members("together")
    train_both(alone, together, size=3, epochs=2)
    losses = [[metrics.loss for metrics in member.history] for member in together]
    np.testing.assert_allclose(losses, [[metrics.loss for metrics in member.history] for member in alone], rtol=1e-3)
    assert len({values[0] for values in losses}) == 3


@under_jax
def test_a_member_that_raises_fails_alone(few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.population import Population

    members = [training("tests.tiny_model", few, tmp_path / f"{seed}.npz", seed, {}) for seed in range(3)]
    whole = Population(members[0], size=3)
    for member in members:
        whole.seat(member)
    monkeypatch.setattr(members[1], "note", lambda *_: 1 / 0)
    told = whole.run_epoch()
    assert [type(each).__name__ for each in told] == ["EpochMetrics", "ZeroDivisionError", "EpochMetrics"]
    assert [len(member.history) for member in members] == [1, 0, 1]


@under_jax
@pytest.mark.parametrize("changes", [{"kernel": 2}, {"pooling": "stride"}], ids=["even kernels", "strides"])
def test_convolutions_as_slices_train_the_same(changes: dict[str, Any], few: Dataset, tmp_path: Path) -> None:
    from pipelines.population import Population

    small = {name: 2 for name in ("filters1", "filters2", "filters3", "filters4")} | {"dense": 4}
    expected, got = (training("lean_cnn", few, tmp_path / f"{each}.npz", 1, small | changes, epochs=1) for each in "ab")
    expected.run_epoch()
    whole = Population(got, 2)
    whole.seat(got)
    whole.run_epoch()
    np.testing.assert_allclose(got.history[0].training["loss"], expected.history[0].training["loss"], rtol=1e-4)
    np.testing.assert_allclose(got.history[0].validation["loss"], expected.history[0].validation["loss"], rtol=1e-3)


@under_jax
@pytest.mark.parametrize("options", [{}, {"pool_size": 3}, {"padding": "same"}, {"strides": 1}], ids=str)
def test_pooling_and_its_gradient_are_those_of_keras_where_maxima_are_equal(options: dict[str, Any]) -> None:
    import jax
    from keras import layers

    from pipelines.population import SlicedMaxPooling2D

    images = np.random.default_rng(0).integers(0, 3, (2, 7, 6, 2)).astype(np.float32)  # full of equal ones
    weights = np.random.default_rng(1).normal(size=layers.MaxPooling2D(**options)(images).shape)
    results = []
    for kind in (layers.MaxPooling2D, SlicedMaxPooling2D):
        layer = kind(**options)
        value, gradient = jax.value_and_grad(lambda x, layer=layer: (layer(x) * weights).sum())(images)
        results.append(
            (float(value), np.asarray(gradient), np.isnan(np.asarray(layer(np.full_like(images, np.nan)))).all())
        )
    (value, gradient, nan), (own_value, own_gradient, own_nan) = results
    assert own_value == pytest.approx(value, rel=1e-6) and own_nan == nan
    np.testing.assert_allclose(own_gradient, gradient, rtol=1e-6)


@under_jax
def test_a_population_that_is_too_large_is_split(
    few: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.population import Population

    def members(folder: str) -> list[Training]:
        return [training("tests.tiny_model", few, tmp_path / folder / f"{i}.npz", i, {}, epochs=1) for i in range(5)]

    losses = []
    for folder, room in (("all", 5), ("few", 2)):
        trained = members(folder)
        whole = Population(trained[0], 5)
        enough = whole._epoch

        def epoch(members: Any, *images: Any, room: int = room, enough: Any = enough) -> Any:
            if len(members[1]) > room:
                raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 byte.")
            return enough(members, *images)

        whole._epoch = epoch
        for member in trained:
            whole.seat(member)
        whole.run_epoch()
        losses.append([member.history[0].loss for member in trained])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    said = capsys.readouterr().out
    assert "5 trainings at a time need more memory than there is: now 2 at a time" in said


@under_jax
def test_a_member_goes_on_alone_from_its_checkpoint_and_back(few: Dataset, tmp_path: Path) -> None:
    from pipelines.population import Population

    def at(path: str) -> Training:
        return training("tests.tiny_model", few, tmp_path / path, 3, {"units": 8}, epochs=4)

    whole = at("whole.npz")
    for _ in range(4):
        whole.run_epoch()
    for together in (True, False, True, False):
        part = at("part.npz")
        if together:
            others = Population(part, size=2)
            others.seat(part)
            others.run_epoch()
        else:
            part.run_epoch()
    for expected, got in zip(whole.history, part.history, strict=True):
        np.testing.assert_allclose(got.loss, expected.loss, rtol=1e-4)


# Which trials train together


@under_jax
def test_what_decides_shapes_is_shared() -> None:
    assert population.shared(study_file.load("lean_cnn")) == [f"filters{i}" for i in (1, 2, 3, 4)] + ["batch_size"]
    stronger = study_file.load("strided_bn_augmented")
    assert {"rotation", "shift", "zoom", "learning_rate"} <= stronger.search.keys() - set(population.shared(stronger))


@under_jax
def test_trials_train_in_groups_of_a_shape(check: Check, run_here: Callable[..., Store]) -> None:
    store = run_here(check(budget={"trials": 12}))
    trials = store.trials()
    assert {trial.state for trial in trials} == {TrialState.COMPLETE} and len(trials) == 12
    assert [len(curve(trial)) for trial in trials] == [3] * 12 and store.epochs_spent() == 36
    units = [trial.params["units"] for trial in trials]
    assert len(set(units[:9])) == 1  # three times the population, then another shape may have its turn
    assert len({trial.params["learning_rate"] for trial in trials}) == 12
    frame = frames.runs("tiny")
    assert frame.test_accuracy.notna().all() and (frame.epochs == 3).all() and len(frame) == 12


@under_jax
def test_trials_of_one_model_train_together(
    check: Check, run_here: Callable[..., Store], capsys: pytest.CaptureFixture[str]
) -> None:
    both = {"choice": ["tests.tiny_model", "softmax"]}
    search = {"units": {"choice": [8, 16]}, "rate": {"float": [0.0, 0.5]}, "learning_rate": {"float": [1e-3, 1e-1]}}
    study = check(model=both, search=search, budget={"trials": 8})
    assert population.shared(study) == ["model", "units"]
    trials = run_here(study).trials()
    assert {trial.state for trial in trials} == {TrialState.COMPLETE} and "trains alone" not in capsys.readouterr().out
    assert all(("units" in trial.params) == (trial.params["model"] == "tests.tiny_model") for trial in trials)


@under_jax
def test_pruned_trials_make_room_for_new_ones(check: Check, run_here: Callable[..., Store]) -> None:
    pruner = {"name": "percentile", "percentile": 30.0, "n_startup_trials": 2, "n_warmup_steps": 0}
    store = run_here(check(budget={"trials": 9}, pruner=pruner, training={"epochs": 5, "batch_size": 500}))
    trials = store.trials()
    lengths = [len(curve(trial)) for trial in trials]
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert len(trials) == 9 and pruned and all(trial.state.is_finished() for trial in trials)
    assert store.epochs_spent() == sum(lengths) < 45
    assert {5} == {len(curve(trial)) for trial in trials if trial.state == TrialState.COMPLETE}


@under_jax
def test_one_that_diverges_ends_alone(check: Check, run_here: Callable[..., Store]) -> None:
    sgd = {"epochs": 2, "batch_size": 500, "optimizer": "sgd"}
    rates = {"choice": [1e-2, 1e25]}
    start = [{"learning_rate": 1e-2}, {"learning_rate": 1e25}, {"learning_rate": 1e-2}]
    store = run_here(check(search={"learning_rate": rates}, training=sgd, budget={"trials": 3}, start=start))
    states = [trial.state for trial in store.trials()]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]
    assert store.trials()[1].user_attrs["ended"] == "diverged"


@under_jax
def test_the_budget_of_epochs_is_exact(check: Check, run_here: Callable[..., Store]) -> None:
    store = run_here(check(budget={"epochs": 7}))
    assert store.epochs_spent() == 7 == sum(len(curve(trial)) for trial in store.trials())


@under_jax
def test_a_start_point_of_another_shape_begins_the_next_group(check: Check, run_here: Callable[..., Store]) -> None:
    points = [{"units": units, "learning_rate": 1e-2} for units in (8, 8, 9, 8)]
    store = run_here(check(budget={"trials": 4}, start=points))
    assert [trial.params["units"] for trial in store.trials()] == [8, 8, 9, 8]
    assert {trial.state for trial in store.trials()} == {TrialState.COMPLETE}


@under_jax
def test_what_cannot_be_vectorised_trains_alone_and_says_why(
    check: Check, run_here: Callable[..., Store], capsys: pytest.CaptureFixture[str]
) -> None:
    store = run_here(check(model="tests.nested_model", search={"units": {"int": [4, 5]}}, budget={"trials": 2}))
    assert [trial.state for trial in store.trials()] == [TrialState.COMPLETE] * 2
    assert "a model of its own" in capsys.readouterr().out


class AfterTwoEpochs:
    """Asks the worker to stop when two epochs of each of three trials have begun."""

    def is_set(self) -> bool:
        return Store("tiny").epochs_spent() >= 6


@under_jax
def test_an_interrupted_population_goes_on_where_it_was(
    check: Check, run_here: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from sweeps.running import worker

    study = check(budget={"trials": 3})
    with monkeypatch.context() as patch:
        patch.setattr(worker._Worker, "run_trials", stopped(worker._Worker.run_trials))
        store = run_here(study)
    assert [len(curve(trial)) for trial in store.trials()] == [2, 2, 2]
    assert {trial.state for trial in store.trials()} == {TrialState.WAITING}
    interrupted = run_here(study)
    assert interrupted.epochs_spent() == 9
    curves = [list(curve(trial).values()) for trial in interrupted.trials()]
    monkeypatch.setenv("MLRUNS_DIR", str(tmp_path / "whole"))
    np.testing.assert_allclose([list(curve(trial).values()) for trial in run_here(study).trials()], curves, atol=2e-3)


def stopped(run_trials: Any) -> Any:
    def until(self: Any) -> None:
        self._stop = self._control._stop = AfterTwoEpochs()
        run_trials(self)

    return until


def test_fresh_seeds_train_together_as_the_studys_trials_do(check: Check) -> None:
    trial = create_trial(state=TrialState.WAITING)
    trial.number = 0
    study = check()
    owner = study.model_copy(update={"search": {}})
    again = confirm.study_of(owner, trial, seeds=5)
    assert again.population == 3 and population.shared(again) == []
    plan = baselines.Plan(["softmax", "augmented_cnn"], population=4)
    assert [baselines.study(plan, name, "cpu").population for name in plan.recipes] == [4, 4]
    reshuffled = [name for name in models.MODELS if models.recipe(name).protocol == "reshuffled"]
    assert {baselines.study(plan, name, "cpu").population for name in reshuffled} == {1}


@pytest.mark.long
@pytest.mark.skipif(JAX, reason="starts processes of its own")
def test_a_killed_population_loses_an_epoch_of_each_and_fresh_seeds_train_together_too(
    check: Check, sweep: Callable[..., Sweep], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jax")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    check(training={"epochs": 6, "batch_size": 100}, search={"learning_rate": {"float": [1e-3, 1e-1]}})
    command = sweep("run", tmp_path / "tiny.yaml")
    eventually(lambda: epochs_reported() >= 4, timeout=180)
    workers_of(command)[0].kill()
    code, out, err = command.wait()
    assert (code, err) == (0, "") and out.count("a worker was killed by SIGKILL") == 1
    check_consistent(trials=6, epochs=6)
    assert 36 <= Store("tiny").epochs_spent() <= 36 + 3

    code, out, err = sweep("confirm", "tiny", "--top", "1", "--seeds", "3").wait()
    assert (code, err) == (0, ""), out
    seeds = systems.confirmations("tiny")
    assert list(seeds.state) == ["complete"] * 3
    told = [tracking.client().get_metric_history(run_id, "epoch_val_accuracy") for run_id in seeds.run_id]
    assert max(each[0].timestamp for each in told) < min(each[-1].timestamp for each in told)


# What cannot be


@pytest.mark.skipif(JAX, reason="about the other backends")
def test_another_backend_is_refused(check: Check, run_here: Callable[..., Store]) -> None:
    from pipelines.errors import UserError

    with pytest.raises(
        UserError, match="population: 3 needs Keras's JAX backend, and this is tensorflow: set KERAS_BACKEND=jax"
    ):
        population.check(check(), "tensorflow")


@pytest.mark.parametrize("changes", [{"repeats": 2}, {"folds": 2}])
def test_several_models_a_trial_are_refused(check: Check, changes: dict[str, Any]) -> None:
    from pipelines.errors import UserError

    with pytest.raises(UserError, match="population: its trials share their images, and are one model each"):
        check(**changes)
