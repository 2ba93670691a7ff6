"""A user's own callbacks: told of true epochs and of validation, and of the same after a resume."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from optuna.trial import TrialState

from pipelines import backend, callbacks, datasets
from pipelines.callbacks import Callbacks
from pipelines.config import TrainingSettings
from pipelines.datasets import Dataset
from pipelines.errors import UserError
from pipelines.train import Training, compile_model
from sweeps.running import population
from sweeps.stores import names
from sweeps.stores.store import Store
from sweeps.study import study_file
from sweeps.study.study import Study


class Recorder(keras.callbacks.Callback):
    """Notes what it is told, and can be told again of it."""

    def __init__(self, stop_at: int | None = None):
        super().__init__()
        self.told: list[Any] = []
        self.stop_at = stop_at

    def on_train_begin(self, logs: Any = None) -> None:
        self.told = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.told.append(epoch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.told.append([epoch, logs["val_accuracy"], logs["val_loss"], logs["loss"]])
        if epoch == self.stop_at:
            self.model.stop_training = True

    def get_state(self) -> Any:
        return {"told": self.told}

    def set_state(self, state: Any) -> None:
        self.told = state["told"]


class PerBatch(keras.callbacks.Callback):
    """Counts batches, and notices the ends."""

    seen, begun, ended = 0, 0, 0

    def on_train_begin(self, logs: Any = None) -> None:
        self.begun += 1

    def on_train_end(self, logs: Any = None) -> None:
        self.ended += 1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        assert logs["loss"] > 0 and self.params["steps"] == 8
        self.seen += 1


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Some of the 5k images, in whole batches."""
    whole = datasets.load("mnist-5k")
    return dataclasses.replace(whole, name="few", train=whole.train[np.arange(512)], digest="few")


@pytest.fixture
def start(dataset: Dataset, tmp_path: Path) -> Callable[..., Training]:
    def made(file: str, *each: Any) -> Training:
        keras.utils.set_random_seed(3)
        layers = [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
        model, settings = keras.Sequential(layers), TrainingSettings(batch_size=64, epochs=4, keep="last")
        compile_model(model, settings)
        return Training(model, dataset, settings, 7, tmp_path / file, "same", callbacks=Callbacks(each))

    return made


def test_they_are_told_of_true_epochs_and_of_validation_also_after_a_resume(start: Callable[..., Training]) -> None:
    whole, alone = Recorder(), start("alone.npz")
    uninterrupted = start("whole.npz", whole)
    for _ in range(4):
        uninterrupted.run_epoch()
        alone.run_epoch()
    assert whole.told[::2] == [0, 1, 2, 3]
    assert whole.told[-1] == [3, *(alone.history[3].flat()[name] for name in ("val_accuracy", "val_loss", "loss"))]
    for one, other in zip(alone.model.get_weights(), uninterrupted.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    first = start("cut.npz", Recorder())
    first.run_epoch()
    first.run_epoch()
    again = Recorder()
    resumed = start("cut.npz", again)
    resumed.run_epoch()
    resumed.run_epoch()
    assert again.told == whole.told


def test_one_that_stops_the_training_has_stopped_it_for_good(start: Callable[..., Training]) -> None:
    trained = start("stop.npz", Recorder(stop_at=1))
    trained.run_epoch()
    assert not trained.finished(1)
    trained.run_epoch()
    assert trained.finished(2) and not trained.finished(1)
    assert start("stop.npz", Recorder(stop_at=1)).finished(2)


def test_hooks_of_batches_are_called_for_each(start: Callable[..., Training], monkeypatch: pytest.MonkeyPatch) -> None:
    counter = PerBatch()
    trained = start("batches.npz", counter, Recorder())
    monkeypatch.setattr(backend, "batches_a_call", lambda: 1 / 0)  # nobody asks
    trained.run_epoch()
    trained.run_epoch()
    assert (counter.seen, counter.begun, counter.ended) == (16, 1, 0)
    trained.restore_kept()
    assert counter.ended == 1
    assert not Callbacks([Recorder()]).see_batches
    assert Callbacks([keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: None)]).see_batches


def test_a_state_that_is_not_plain_data_is_said_in_a_line(start: Callable[..., Training]) -> None:
    class Odd(Recorder):
        def get_state(self) -> Any:
            return np.zeros(3)

    with pytest.raises(UserError, match="get_state of callback Odd returns what is not plain data"):
        start("odd.npz", Odd()).run_epoch()


MODEL = """
from tests.tiny_model import build


class Failing:
    pass


def callbacks(settings):
    import keras

    class Fails(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if settings.learning_rate > 0.01:
                raise RuntimeError("too fast for me")
            if epoch == 1:
                self.model.stop_training = True

    return {RETURNED}
"""


@pytest.fixture
def study(tmp_path: Path, write_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Study]:
    """Return a study of a model with callbacks."""
    monkeypatch.chdir(tmp_path)

    def made(name: str, returned: str = "[Fails()]", **changes: Any) -> Study:
        (tmp_path / f"{name}.py").write_text(MODEL.replace("{RETURNED}", returned))
        content = {
            "model": name,
            "training": {"epochs": 3, "batch_size": 1000},
            "search": {"learning_rate": {"float": [0.001, 0.1]}},
            "start": [{"learning_rate": 0.002}, {"learning_rate": 0.02}],
        }
        return study_file.load(str(write_study(**(content | changes))))

    return made


def test_callbacks_of_a_models_file_are_heard(study: Callable[..., Study], run_here: Callable[[Study], Store]) -> None:
    stopped, failed = run_here(study("with_callbacks")).trials()
    assert stopped.state == TrialState.COMPLETE and len(stopped.intermediate_values) == 2
    assert failed.state == TrialState.FAIL
    assert "RuntimeError: too fast for me" in failed.user_attrs[names.ENDED]
    assert "with_callbacks.py:15" in failed.user_attrs[names.ENDED]


def test_what_are_no_callbacks_is_said_in_a_line(study: Callable[..., Study]) -> None:
    for number, (returned, said) in enumerate({"3": "returns 3: expected a list", "1 / 0": "raises ZeroDiv"}.items()):
        name = f"no_callbacks_{number}"
        settings = study(name, returned).settings
        with pytest.raises(UserError, match=f"callbacks of model {name} {said}") as error:
            callbacks.build(name, settings)
        assert "\n" not in str(error.value)


def test_a_population_has_no_callbacks(study: Callable[..., Study]) -> None:
    asked = study("in_population", population=2)
    with pytest.raises(UserError, match="population: model in_population has callbacks"):
        population.check(asked, "jax")
    population.check(study("in_population"), "tensorflow")


def test_a_checkpoint_of_an_earlier_version_is_read(start: Callable[..., Training], tmp_path: Path) -> None:
    trained = start("earlier.npz")
    trained.run_epoch()
    with np.load(tmp_path / "earlier.npz") as file:
        arrays = dict(file)
    header = json.loads(arrays["header"].tobytes())
    del header["callbacks"], header["stopped"]
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(tmp_path / "earlier.npz", **arrays)
    assert len(start("earlier.npz", Recorder()).history) == 1
