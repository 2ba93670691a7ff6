"""Every row of docs/training.md: a setting resumes exactly, and trains as Keras's own `fit` does under it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import backend, data, options
from pipelines.config import TrainingSettings
from pipelines.data import Dataset, Images
from pipelines.train import EpochMetrics, Training, compile_model

EPOCHS, BATCH = 3, 64
slow = pytest.mark.slow


@dataclass(frozen=True)
class Case:
    """Settings, and what says the same to Keras: how to `compile`, and what else `fit` is given."""

    settings: dict[str, Any]
    optimizer: Callable[[Any], Any] = lambda keras: keras.optimizers.Adam(1e-3)
    loss: Callable[[Any], Any] = lambda keras: "sparse_categorical_crossentropy"
    one_hot: bool = False
    fit: Callable[[Any], dict[str, Any]] = lambda labels: {}
    exact: bool = True  # bit for bit
    logits: bool = False


def optimizer_case(name: str) -> Case:
    """An optimizer with the first number among its options at another value than Keras's."""
    known, rate = options.optimizers()[name], options.default_rates()[name]
    option = next(key for key, value in known.items() if isinstance(value, float))
    value = 0.9 * float(known[option]) or 0.01
    cls = options.optimizer_class(name)
    settings = {"optimizer": {"name": name, option: value}} | ({"learning_rate": rate} if name == "sgd" else {})
    return Case(settings, lambda keras: getattr(keras.optimizers, cls)(**{option: value}))


def adam(**given: Any) -> Case:
    return Case({"optimizer": given}, lambda keras: keras.optimizers.Adam(1e-3, **given))


CASES: dict[str, Case] = {
    **{f"optimizer {name}": optimizer_case(name) for name in options.optimizers()},
    "optimizer.weight_decay": adam(weight_decay=0.1),
    "optimizer.clipnorm": adam(clipnorm=0.01),
    "optimizer.gradient_accumulation_steps": adam(gradient_accumulation_steps=3),
    "optimizer.use_ema": adam(use_ema=True, ema_momentum=0.9),
    "optimizer.ema_overwrite_frequency": adam(use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=5),
}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Some of the 5k images, in whole batches."""
    whole = data.load("mnist-5k")
    return Dataset("few", Images(whole.train.x[:512], whole.train.y[:512]), whole.validation, whole.test, "few")


def network(logits: bool = False) -> Any:
    import keras
    from keras import layers

    keras.utils.clear_session()
    keras.utils.set_random_seed(3)
    last = layers.Dense(10, activation=None if logits else "softmax")
    return keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(8, activation="relu"), last])


def training(case: Case, dataset: Dataset, file: Path) -> Training:
    settings = TrainingSettings(**({"epochs": EPOCHS, "batch_size": BATCH, "keep": "last"} | case.settings))
    model = network(case.logits)
    return Training(model, dataset, settings, 7, file, "same", compile_model(model, settings))


def kept(trained: Training) -> list[Any]:
    trained.restore_kept()
    return list(trained.model.get_weights())


def fitted(case: Case, trained: Training) -> list[Any]:
    """Return the weights that one `fit` of Keras gives, on the same images in the same order."""
    import keras

    model, images = network(case.logits), trained.dataset.train
    order = np.concatenate([trained.order_of(epoch) for epoch in range(EPOCHS)])
    labels = np.eye(10, dtype=np.float32)[images.y] if case.one_hot else images.y
    model.compile(case.optimizer(keras), case.loss(keras))
    model.optimizer.build(model.trainable_variables)  # else schedulefreeadamw forgets the weights that it begins with
    more = case.fit(images.y)
    model.fit(trained.scaling(images.x[order]), labels[order], batch_size=BATCH, shuffle=False, verbose=0, **more)
    return list(model.get_weights())


@pytest.mark.skipif(backend.name() != "tensorflow", reason="exactness is promised on TensorFlow's CPU")
@pytest.mark.parametrize("name", CASES)
def test_a_setting_resumes_exactly_and_trains_as_keras_does(name: str, dataset: Dataset, tmp_path: Path) -> None:
    case = CASES[name]
    whole = training(case, dataset, tmp_path / "whole.npz")
    for _ in range(EPOCHS):
        whole.run_epoch()
    training(case, dataset, tmp_path / "cut.npz").run_epoch()
    resumed = training(case, dataset, tmp_path / "cut.npz")
    assert len(resumed.history) == 1
    for _ in range(EPOCHS - 1):
        resumed.run_epoch()
    expected = kept(whole)
    for one, other in zip(expected, kept(resumed), strict=True):
        np.testing.assert_array_equal(other, one)
    for ours, its in zip(expected, fitted(case, whole), strict=True):
        if case.exact:
            np.testing.assert_array_equal(ours, its)
        else:
            np.testing.assert_allclose(ours, its, rtol=1e-4, atol=1e-6)
