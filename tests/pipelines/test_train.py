"""Training is a pure function of configuration and seed, and goes on exactly where it was interrupted."""

import dataclasses
import gc
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from pipelines import backend, checkpoint, datasets, evaluate, metrics
from pipelines import train as training
from pipelines.config import TrainingSettings
from pipelines.datasets import Dataset, Examples
from pipelines.images import Epoch
from pipelines.metrics import ACCURACY, METRICS
from pipelines.train import (
    BeforeEpoch,
    End,
    EpochMetrics,
    Epochs,
    Question,
    Training,
    attempt,
    compile_model,
    kept_epoch,
    tell,
    train,
)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """The 5k images, fewer of them."""
    whole = datasets.load("mnist-5k")
    return dataclasses.replace(whole, name="few", train=whole.train[np.arange(600)], digest="few")


def epoch(loss: float, accuracy: float) -> EpochMetrics:
    """Return an epoch of this loss and validation accuracy."""
    return EpochMetrics({"loss": loss, "accuracy": 0.5}, {"accuracy": accuracy, "loss": loss}, 0.1, 1.0)


class Witness:
    """A control that remembers, and ends the training where it is told to."""

    def __init__(self, before: dict[int, End] | None = None, after: dict[int, End] | None = None):
        self.before, self.after = before or {}, after or {}
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.told: list[list[float]] = []

    def answer(self, question: Question) -> End | None:
        if isinstance(question, BeforeEpoch):
            return self.before_epoch(question.epoch)
        return self.after_epoch(question.epoch, question.metrics)

    def before_epoch(self, epoch: int) -> End | None:
        if epoch not in self.before:
            self.begun.append(epoch)
        return self.before.get(epoch)

    def after_epoch(self, epoch: int, metrics: Sequence[EpochMetrics]) -> End | None:
        self.ended.append(epoch)
        self.told.append([one.validation.get("accuracy", math.nan) for one in metrics])
        return self.after.get(epoch)


def in_turn(epochs: Epochs[End], control: Witness) -> End:
    """Give every training the epochs that it wants, and the answers of `control`."""
    told: Any = None
    try:
        while True:
            wanted = tell(epochs, told)
            told = attempt(wanted) if isinstance(wanted, Training) else control.answer(wanted)
    except StopIteration as stop:
        return End(stop.value)


@dataclass
class Trained:
    end: End
    trainings: list[Training]

    @property
    def history(self) -> list[EpochMetrics]:
        return self.trainings[0].history

    @property
    def kept_epoch(self) -> int | None:
        return self.trainings[0].kept_epoch


def small() -> Any:
    """Return a model with a layer of every kind that has a state: Keras prepares a large one for a second, each time."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(4, 3, strides=4, activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.4),
            layers.Dense(10, activation="softmax", kernel_regularizer=keras.regularizers.L2(1e-3)),
        ]
    )


def lean() -> Any:
    """Return the lean CNN, with few filters."""
    return models.load("lean_cnn").build(filters1=4, filters2=4, filters3=4, filters4=4, dense=8)


@pytest.fixture
def run(dataset: Dataset, tmp_path: Path) -> Callable[..., tuple[Any, Trained]]:
    def go(
        control: Witness,
        seed: int = 5,
        file: str = "state.npz",
        models_at_once: int = 1,
        measured: Sequence[metrics.Metric] = (ACCURACY, METRICS["loss"]),
        build: Callable[[], Any] = small,
        **settings: Any,
    ) -> tuple[Any, Trained]:
        import keras

        keras.utils.clear_session()
        checked = TrainingSettings(**({"epochs": 4, "batch_size": 64, "learning_rate": 0.01} | settings))
        trainings = []
        for index in range(models_at_once):
            keras.utils.set_random_seed(seed + index)
            model = build()
            compile_model(model, checked)
            path = tmp_path / (f"{index}-{file}" if index else file)
            trainings.append(Training(model, dataset, checked, seed + index, path, "same", measured=measured))
        end = in_turn(train(trainings), control)
        return trainings[0].model, Trained(end, trainings)

    return go


@pytest.mark.parametrize(
    "optimizer", ["adam", *(pytest.param(name, marks=pytest.mark.slow) for name in ("rmsprop", "sgd", "adadelta"))]
)
def test_a_resumed_training_equals_the_uninterrupted_one_bit_for_bit(run: Callable[..., Any], optimizer: str) -> None:
    settings: dict[str, Any] = {
        "optimizer": optimizer,
        "momentum": 0.9,
        "lr_decay": 0.7,
        "keep": "last",
        "rotation": 10.0,
    }
    settings |= {"build": lean}  # with pooling, and dropout in three places
    whole, _ = run(Witness(), file="whole.npz", **settings)
    _, first = run(Witness(before={2: End.PAUSED}), **settings)
    second = Witness()
    resumed, trained = run(second, **settings)
    assert first.end == End.PAUSED and trained.end == End.COMPLETED
    assert second.begun == [2, 3]
    assert second.ended == [0, 1, 2, 3]  # told again of what is behind it
    for expected, got in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "objective",
    [
        "loss",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name, metric in METRICS.items()
            if metric.task == "classification"
        ),
        pytest.param("numpy_metric.py:error", marks=pytest.mark.slow),
    ],
)
def test_a_training_ruled_by_any_metric_resumes_exactly(
    run: Callable[..., Any], objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Curve, kept epoch and kept weights are those of the uninterrupted one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "numpy_metric.py").write_text(
        "def error(labels, taken):\n    return (labels != taken.argmax(1)).mean()\n"
    )
    names = dict.fromkeys([objective, "accuracy", "loss"])
    measured = [metrics.get(name, "minimize") for name in names]
    settings = {"lr_decay": 0.7, "epochs": 3, "patience": 2, "measured": measured}
    whole, expected = run(Witness(), file="whole.npz", **settings)
    run(Witness(before={1: End.PAUSED}), **settings)
    resumed, trained = run(Witness(), **settings)
    metric = measured[0]
    assert [m.validation for m in trained.history] == [m.validation for m in expected.history]
    values = [m.validation[metric.name] for m in expected.history]
    best = min(values) if metric.direction == "minimize" else max(values)
    assert trained.kept_epoch == expected.kept_epoch == values.index(best)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(other, one)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [name for name, metric in METRICS.items() if metric.task != "classification"])
def test_a_regression_ruled_by_any_metric_resumes_exactly(dataset: Dataset, tmp_path: Path, objective: str) -> None:
    import keras

    def numbers(images: Examples) -> Examples:
        return Examples(images.x, images.x.mean(axis=(1, 2, 3)) / 50)

    parts = (numbers(part) for part in (dataset.train, dataset.validation, dataset.test))
    dark, settings = (
        Dataset.of("dark", [*parts], (), False, "dark"),
        TrainingSettings(epochs=3, batch_size=100, patience=2),
    )
    measured = [METRICS[name] for name in dict.fromkeys([objective, "loss", "mae"])]

    def go(control: Witness, file: str) -> tuple[Any, Trained]:
        keras.utils.clear_session()
        keras.utils.set_random_seed(5)
        model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
        compile_model(model, settings, "regression")
        trained = [Training(model, dark, settings, 5, tmp_path / file, "same", measured=measured)]
        return model, Trained(in_turn(train(trained), control), trained)

    whole, expected = go(Witness(), "whole.npz")
    go(Witness(before={1: End.PAUSED}), "state.npz")
    resumed, trained = go(Witness(), "state.npz")
    assert trained.history[0].training.keys() == {"loss"}
    assert [m.validation for m in trained.history] == [m.validation for m in expected.history]
    values = [m.validation[objective] for m in expected.history]
    assert trained.kept_epoch == expected.kept_epoch == values.index(min(values))
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(other, one)


@pytest.mark.parametrize("batches", [2, 4, 100])
def test_how_many_batches_a_call_has_changes_nothing(
    run: Callable[..., Any], batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    for many in (1, batches):  # of ten batches an epoch, the last of which is smaller
        monkeypatch.setattr(backend, "batches_a_call", lambda many=many: many)
        trained.append(run(Witness(), file=f"{many}.npz", epochs=2, keep="last"))
    (expected, told), (got, told_too) = trained
    for one, other in zip(expected.get_weights(), got.get_weights(), strict=True):
        np.testing.assert_array_equal(other, one)
    for one, other in zip(told.history, told_too.history, strict=True):
        assert (other.training, other.validation) == (one.training, one.validation)


@pytest.mark.skipif(backend.name() != "tensorflow", reason="others are given whole arrays")
@pytest.mark.parametrize(
    "settings", [{}, {"pixels": "standardized"}, {"rotation": 10.0}], ids=["", "standardized", "turned"]
)
def test_training_equals_that_on_whole_arrays(
    run: Callable[..., Any], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fed, _ = run(Witness(), file="fed.npz", epochs=2, keep="last", **settings)
    monkeypatch.setattr(backend, "batches", whole_arrays)
    plain, _ = run(Witness(), file="plain.npz", epochs=2, keep="last", **settings)
    for expected, got in zip(plain.get_weights(), fed.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)


@contextmanager
def whole_arrays(
    prepared: Callable[[slice], Any], shape: tuple[int, ...], y: Any, size: int
) -> Iterator[dict[str, Any]]:
    yield {"x": prepared(slice(None)), "y": y, "batch_size": size}


@pytest.mark.skipif(backend.name() != "tensorflow", reason="how TensorFlow is fed")
def test_tensorflow_is_fed_without_tuning_and_lets_go_of_the_images(dataset: Dataset) -> None:
    x, y = dataset.train.x[:250].copy(), dataset.train.y[:250].copy()
    held = weakref.ref(x)
    seen = Epoch(x, np.arange(250), TrainingSettings(), 0, 0, lambda each: each / np.float32(255))
    with backend.batches(seen, seen.shape, y, 100) as fed:
        (pipeline,) = fed.values()
        assert not pipeline.options().autotune.enabled  # else fit may return seconds late: benchmarks.md
        batches = list(pipeline.as_numpy_iterator())
        assert [len(labels) for _, labels in batches] == [100, 100, 50]
        np.testing.assert_array_equal(np.concatenate([images for images, _ in batches]), x / np.float32(255))
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), y)
    del x, seen, fed, pipeline, batches
    gc.collect()
    assert held() is None


def test_probabilities_are_those_of_keras(
    run: Callable[..., Any], dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "BATCH", 200)  # of 500 images
    model, _ = run(Witness(), epochs=1)
    x = dataset.validation.x / np.float32(255)
    np.testing.assert_array_equal(evaluate.probabilities(model, x), model.predict(x, batch_size=200, verbose=0))


def test_seeds_matter(run: Callable[..., Any]) -> None:
    (_, one), (_, same), (_, other) = (
        run(Witness(), file="1"),
        run(Witness(), file="2"),
        run(Witness(), seed=6, file="3"),
    )
    losses = [[metrics.loss for metrics in trained.history] for trained in (one, same, other)]
    assert losses[0] == losses[1] != losses[2]


def test_a_checkpoint_of_another_configuration_is_not_used(run: Callable[..., Any], tmp_path: Path) -> None:
    run(Witness(before={2: End.PAUSED}))
    state = checkpoint.load(tmp_path / "state.npz", "same")
    assert state is not None and len(state.history) == 2
    assert checkpoint.load(tmp_path / "state.npz", "another") is None


@pytest.mark.slow
@pytest.mark.parametrize(("damage", "lost"), [(b"", 1), (b"PK\x03\x04", 2), (None, 1)])
def test_a_damaged_checkpoint_costs_an_epoch_and_two_cost_all(
    run: Callable[..., Any], tmp_path: Path, damage: bytes | None, lost: int
) -> None:
    _, whole = run(Witness(), file="whole.npz")
    run(Witness(before={2: End.PAUSED}))
    for path in [tmp_path / "state.npz", tmp_path / "state.before.npz"][:lost]:
        path.write_bytes(path.read_bytes()[:-2000] if damage is None else damage)
    control = Witness()
    _, trained = run(control)
    assert control.begun == [0, 1, 2, 3][2 - lost :]
    assert [m.loss for m in trained.history] == [m.loss for m in whole.history]


def test_a_second_damage_finds_the_good_one_still_there(run: Callable[..., Any], tmp_path: Path) -> None:
    run(Witness(before={2: End.PAUSED}))
    path = tmp_path / "state.npz"
    path.write_bytes(b"torn")
    run(Witness(before={2: End.PAUSED}))  # trains epoch 1 again, and saves
    path.write_bytes(b"torn again")
    state = checkpoint.load(path, "same")
    assert state is not None and len(state.history) == 1


def test_a_writer_that_fails_half_way_leaves_the_old_state(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(Witness(before={2: End.PAUSED}))

    def fail(file: Any, **_: Any) -> None:
        file.write(b"PK half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="No space left"):
        run(Witness())
    state = checkpoint.load(tmp_path / "state.npz", "same")
    assert state is not None and len(state.history) == 2
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("error", [MemoryError(), OSError(24, "Too many open files")])
def test_a_machine_in_want_does_not_make_a_checkpoint_damaged(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    run(Witness(before={2: End.PAUSED}))

    def fail(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(np, "load", fail)
        with pytest.raises(type(error)):
            checkpoint.load(tmp_path / "state.npz", "same")
    state = checkpoint.load(tmp_path / "state.npz", "same")
    assert state is not None and len(state.history) == 2


def test_a_checkpoint_leaves_nothing_behind(run: Callable[..., Any], tmp_path: Path) -> None:
    run(Witness())
    (tmp_path / "state.123.tmp").write_bytes(b"of a killed writer")
    checkpoint.remove(tmp_path / "state.npz")
    assert list(tmp_path.glob("state*")) == []


def test_blow_up_ends_the_training_at_once(run: Callable[..., Any]) -> None:
    control = Witness()
    _, trained = run(control, optimizer="sgd", learning_rate=1e30)
    assert trained.end == End.DIVERGED
    assert control.begun == [0]
    assert trained.kept_epoch is None


def test_pruning_leaves_the_weights_of_the_best_epoch(run: Callable[..., Any], tmp_path: Path) -> None:
    run(Witness(before={1: End.PAUSED}))
    state = checkpoint.load(tmp_path / "state.npz", "same")
    state.history[0]["val_accuracy"] = 1.0  # whatever follows is worse
    checkpoint.save(tmp_path / "state.npz", "same", state)
    model, trained = run(Witness(after={2: End.PRUNED}))
    assert trained.end == End.PRUNED and len(trained.history) == 3 and trained.kept_epoch == 0
    for expected, got in zip(state.weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_training_that_has_just_finished_is_not_pruned(run: Callable[..., Any]) -> None:
    assert run(Witness(after={3: End.PRUNED}))[1].end == End.COMPLETED
    assert run(Witness(after={3: End.PRUNED}))[1].end == End.COMPLETED  # nor when it is resumed at its end


def test_patience_stops_and_survives_a_resume(run: Callable[..., Any]) -> None:
    settings = {"learning_rate": 1e-9, "epochs": 9, "patience": 2}  # nothing improves
    _, whole = run(Witness(), file="whole.npz", **settings)
    run(Witness(before={1: End.PAUSED}), **settings)
    _, resumed = run(Witness(), **settings)
    assert len(whole.history) == len(resumed.history) < 9


@pytest.mark.slow
def test_models_side_by_side_train_as_alone_and_resume_where_each_was(run: Callable[..., Any]) -> None:
    control = Witness()
    _, together = run(control, models_at_once=2, file="together")
    alone = [run(Witness(), seed=seed, file=f"alone{seed}")[1] for seed in (5, 6)]
    for beside, single in zip(together.trainings, alone, strict=True):
        assert [m.loss for m in beside.history] == [m.loss for m in single.history]
    assert control.begun == [0, 0, 1, 1, 2, 2, 3, 3] and control.ended == [0, 1, 2, 3]
    assert control.told == [[t.history[e].validation["accuracy"] for t in together.trainings] for e in range(4)]

    class Stopping(Witness):
        def before_epoch(self, epoch: int) -> End | None:
            return End.PAUSED if len(self.begun) == 5 else super().before_epoch(epoch)

    run(Stopping(), models_at_once=2)  # the first model has begun its third epoch, the second has not
    second = Witness()
    _, resumed = run(second, models_at_once=2)
    assert second.begun == [2, 3, 3] and second.told == control.told
    for beside, whole in zip(resumed.trainings, together.trainings, strict=True):
        for expected, got in zip(whole.model.get_weights(), beside.model.get_weights(), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_of_the_epochs_behind_a_resumed_training_the_last_word_counts(run: Callable[..., Any]) -> None:
    run(Witness(before={2: End.PAUSED}))
    _, trained = run(
        Witness(after={0: End.PRUNED})
    )  # the pruner compares with other trials, which have gone on meanwhile
    assert trained.end == End.COMPLETED and len(trained.history) == 4


def test_a_model_that_has_finished_waits_for_the_others(run: Callable[..., Any], tmp_path: Path) -> None:
    settings = {"patience": 1, "learning_rate": 0.002}
    run(Witness(before={2: End.PAUSED}), models_at_once=2, **settings)
    for file, best in (
        ("state.npz", 1),
        ("1-state.npz", 0),
    ):  # so the second model has run out of patience, the first has not
        state = checkpoint.load(tmp_path / file, "same")
        state.history[best]["val_accuracy"] = 1.0
        checkpoint.save(tmp_path / file, "same", state)
    control = Witness()
    _, resumed = run(control, models_at_once=2, **settings)
    first, second = resumed.trainings
    assert len(first.history) > len(second.history) == 2
    assert control.begun == list(range(2, len(first.history)))  # of the first model alone
    assert [told[1] for told in control.told[2:]] == [second.history[-1].validation["accuracy"]] * (
        len(first.history) - 2
    )


def test_models_side_by_side_end_together(run: Callable[..., Any]) -> None:
    _, pruned = run(Witness(after={1: End.PRUNED}), models_at_once=2, file="pruned")
    assert pruned.end == End.PRUNED and [len(t.history) for t in pruned.trainings] == [2, 2]
    control = Witness()
    _, patient = run(control, models_at_once=2, file="patient", epochs=9, patience=1, learning_rate=0.005)
    lengths = [len(t.history) for t in patient.trainings]
    assert len(control.ended) == max(lengths) and len(control.begun) == sum(lengths)
    assert control.told[-1] == [
        t.history[-1].validation["accuracy"] for t in patient.trainings
    ]  # one waits for the other


def test_images_are_distorted_in_training_alone(run: Callable[..., Any], dataset: Dataset) -> None:
    settings = {"epochs": 1, "pixels": "standardized"}
    _, plain = run(Witness(), file="plain", **settings)
    model, turned = run(Witness(), file="turned", rotation=180.0, shift=0.5, **settings)
    assert turned.history[0].training["loss"] > plain.history[0].training["loss"]
    scaling = turned.trainings[0].scaling
    np.testing.assert_allclose(scaling.mean, dataset.train.x.mean(axis=0), rtol=1e-4)
    predicted = evaluate.probabilities(model, scaling(dataset.validation.x))
    assert turned.history[0].validation["accuracy"] == ACCURACY.compute(dataset.validation.y, predicted)


def test_every_epoch_and_seed_has_an_order_and_distortions_of_its_own(
    run: Callable[..., Any], dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[tuple[int, int], list[int]] = {}

    def noted(x: Any, order: Any, settings: TrainingSettings, seed: int, epoch: int, scaled: Any) -> Any:
        drawn[seed, epoch] = order.tolist()
        return Epoch(x, order, settings, seed, epoch, scaled)

    monkeypatch.setattr(training, "Epoch", noted)
    run(Witness(), epochs=2, zoom=0.1)
    run(Witness(), seed=6, file="another.npz", epochs=1)
    assert [*drawn] == [(5, 0), (5, 1), (6, 0)]
    whole = [*range(len(dataset.train))]
    assert all(sorted(order) == whole for order in drawn.values())
    assert len({tuple(order) for order in (whole, *drawn.values())}) == 4


def test_kept_epoch() -> None:
    history = [epoch(1.0, accuracy) for accuracy in (0.7, 0.9, 0.9, 0.8)]
    assert kept_epoch(history, TrainingSettings(keep="best"), ACCURACY) == 1
    assert kept_epoch(history, TrainingSettings(keep="last"), ACCURACY) == 3
    assert kept_epoch([], TrainingSettings(), ACCURACY) is None
    falling = [epoch(loss, 0.5) for loss in (0.7, 0.2, 0.2, 0.4)]
    assert kept_epoch(falling, TrainingSettings(), METRICS["loss"]) == 1


def test_learning_rate_decays_to_its_floor() -> None:
    settings = TrainingSettings(learning_rate=0.01, lr_decay=0.5, lr_floor=0.002)
    assert [settings.learning_rate_of(epoch) for epoch in range(4)] == [0.01, 0.005, 0.0025, 0.002]


def test_the_optimizer_uses_the_rate_of_each_epoch(run: Callable[..., Any]) -> None:
    model, trained = run(Witness(), lr_decay=0.5)
    assert [metrics.learning_rate for metrics in trained.history] == [0.01, 0.005, 0.0025, 0.00125]
    assert math.isclose(float(np.asarray(model.optimizer.learning_rate)), 0.00125, rel_tol=1e-6)


class Recorded:
    """A training that has, or will have, these losses."""

    def __init__(self, losses: Sequence[float], behind: int):
        self.metrics = [epoch(loss, 0.5) for loss in losses]
        self.history, self.restored = self.metrics[:behind], False

    def finished(self, epochs: int) -> bool:
        return epochs >= len(self.metrics)

    def restore_kept(self) -> None:
        self.restored = True


@pytest.mark.parametrize(
    ("losses", "behind", "lost_after"),
    [([1, 1, 1], 0, 2), ([1, math.nan, 1], 0, 1), ([1, 1, 1], 3, 1), ([1, 1, 1], 3, 2)],
    ids=["in its last epoch", "with a NaN loss", "in replay", "in the last epoch of a replay"],
)
def test_a_training_that_lost_its_lease_is_abandoned_whatever_else_there_is_to_say(
    losses: list[float], behind: int, lost_after: int
) -> None:
    recorded: Any = Recorded(losses, behind)
    epochs, control = train([recorded]), Witness(after={lost_after: End.ABANDONED})
    told: Any = None
    with pytest.raises(StopIteration) as stop:
        while True:
            wanted: Any = tell(epochs, told)
            if wanted is not recorded:
                told = control.answer(wanted)
                continue
            told = recorded.metrics[len(recorded.history)]
            recorded.history.append(told)
    assert stop.value.value == End.ABANDONED
