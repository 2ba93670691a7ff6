"""Every row of docs/training.md: a setting resumes exactly, and trains as Keras's own `fit` does under it."""

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import backend, datasets, losses, options
from pipelines.config import ALWAYS, RunConfig, TrainingSettings
from pipelines.datasets import Dataset
from pipelines.images import Epoch
from pipelines.train import Training, compile_model
from sweeps.study import study_file

EPOCHS, BATCH = 3, 64
QUICK = ("optimizer lion", "optimizer.use_ema", "schedule cosine", "loss.label_smoothing", "class_weight", "mixup")


@dataclass(frozen=True)
class Case:
    """Settings, and what says the same to Keras: how to `compile`, and what else `fit` is given."""

    settings: dict[str, Any]
    optimizer: Callable[[Any], Any] = lambda keras: keras.optimizers.Adam(1e-3)
    loss: Callable[[Any], Any] = lambda keras: "sparse_categorical_crossentropy"
    one_hot: bool = False
    fit: Callable[[Any], dict[str, Any]] = lambda labels: {}
    changed: Callable[[Training, int, Any, Any], tuple[Any, Any]] | None = None  # an epoch's scaled images, and labels
    exact: bool = True  # bit for bit
    logits: bool = False
    mixed: str | None = None  # precision


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


def loss_case(name: str, logits: bool) -> Case:
    def made(keras: Any) -> Any:
        if name == options.CROSSENTROPY:
            return keras.losses.CategoricalCrossentropy(from_logits=logits)
        kind = getattr(keras.losses, options.loss_class(name))
        if "from_logits" in inspect.signature(kind).parameters:
            return kind(from_logits=logits)
        own = kind()
        return (lambda labels, predicted: own.call(labels, keras.ops.softmax(predicted))) if logits else own

    return Case({"loss": name}, loss=made, one_hot=name not in options.OF_LABELS, logits=logits)


def balanced(labels: Any) -> dict[str, Any]:
    counts = np.bincount(labels, minlength=10)
    return {"class_weight": {label: len(labels) / (10 * count) for label, count in enumerate(counts.tolist()) if count}}


def mixed(trained: Training, epoch: int, x: Any, labels: Any) -> tuple[Any, Any]:
    draws = np.random.default_rng([trained.seed, epoch, 2])
    for begin in range(0, len(x), BATCH):
        part = slice(begin, begin + BATCH)
        share, other = np.float32(draws.beta(0.4, 0.4)), draws.permutation(BATCH)
        x[part] = share * x[part] + (1 - share) * x[part][other]
        labels[part] = share * labels[part] + (1 - share) * labels[part][other]
    return x, labels


def distorted_case(name: str, value: Any) -> Case:
    settings = TrainingSettings.model_validate({name: value})

    def changed(trained: Training, epoch: int, x: Any, labels: Any) -> tuple[Any, Any]:
        seen = Epoch(x, np.arange(len(x)), settings, trained.seed, epoch, np.asarray)
        return seen(slice(None)), labels

    return Case({name: value}, changed=changed, exact=False)


def mixed_case(precision: str) -> Case:
    """With an average, since under float16 Keras puts the optimizer that has it inside another."""
    settings = {"mixed_precision": precision, "optimizer": {"use_ema": True}}
    return Case(settings, lambda keras: keras.optimizers.Adam(1e-3, use_ema=True), mixed=precision)


CASES: dict[str, Case] = {
    **{f"optimizer {name}": optimizer_case(name) for name in options.optimizers()},
    "optimizer.weight_decay": adam(weight_decay=0.1),
    "optimizer.clipnorm": adam(clipnorm=0.01),
    "optimizer.gradient_accumulation_steps": adam(gradient_accumulation_steps=3),
    "optimizer.use_ema": adam(use_ema=True, ema_momentum=0.9),
    "optimizer.ema_overwrite_frequency": adam(use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=5),
    "schedule cosine": Case(
        {"learning_rate": 0.01, "lr_floor": 0.001, "schedule": {"name": "cosine", "warmup": 1.0, "horizon": 2.5}},
        lambda keras: keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(0.0, 12, alpha=0.1, warmup_target=0.01, warmup_steps=8)
        ),
        exact=False,  # rates are computed in another order
    ),
    "schedule linear": Case(
        {"learning_rate": 0.01, "lr_floor": 0.001, "schedule": {"name": "linear", "horizon": 2.5}},
        lambda keras: keras.optimizers.Adam(keras.optimizers.schedules.PolynomialDecay(0.01, 20, 0.001)),
        exact=False,
    ),
    "schedule exponential": Case(
        {"learning_rate": 0.01, "lr_decay": 0.5},
        lambda keras: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.01, 8, 0.5, staircase=True)),
        exact=False,
    ),
    "schedule.warmup": Case(
        {"learning_rate": 0.01, "schedule.warmup": 1.5},
        lambda keras: keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(0.0, 10**6, alpha=1.0, warmup_target=0.01, warmup_steps=12)
        ),
        exact=False,
    ),
    "loss.label_smoothing": Case(
        {"loss.label_smoothing": 0.1},
        loss=lambda keras: keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        one_hot=True,
    ),
    "loss.label_smoothing of logits": Case(
        {"loss.label_smoothing": 0.1},
        loss=lambda keras: keras.losses.CategoricalCrossentropy(label_smoothing=0.1, from_logits=True),
        one_hot=True,
        logits=True,
    ),
    **{
        f"loss {name}{' of logits' if logits else ''}": loss_case(name, logits)
        for name in options.losses()
        for logits in (False, True)
    },
    "class_weight": Case({"class_weight": "balanced"}, fit=balanced),
    "class_weight with a dense loss": Case(
        {"class_weight": "balanced", "loss": "categorical_focal_crossentropy"},
        loss=lambda keras: keras.losses.CategoricalFocalCrossentropy(),
        one_hot=True,
        fit=balanced,
    ),
    "mixup": Case(
        {"mixup": 0.4},
        loss=lambda keras: keras.losses.CategoricalCrossentropy(),
        one_hot=True,
        changed=mixed,
        exact=False,  # blended before the pixels are divided
    ),
    "mixed_precision float16": mixed_case("float16"),
    "mixed_precision bfloat16": mixed_case("bfloat16"),
    **{name: distorted_case(name, value) for name, value in {"flip": "horizontal_and_vertical", "crop": 3}.items()},
}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Some of the 5k images, in whole batches."""
    whole = datasets.load("mnist-5k")
    some = np.random.default_rng(0).permutation(len(whole.train))[:512]
    return dataclasses.replace(whole, name="few", train=whole.train[some], digest="few")


def network(logits: bool = False, mixed: str | None = None) -> Any:
    import keras
    from keras import layers

    keras.utils.clear_session()
    keras.utils.set_random_seed(3)
    with backend.precision(mixed):
        last = layers.Dense(10, activation=None if logits else "softmax")
        return keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(8, activation="relu"), last])


def training(case: Case, dataset: Dataset, file: Path) -> Training:
    settings = TrainingSettings(**({"epochs": EPOCHS, "batch_size": BATCH, "keep": "last"} | case.settings))
    model = network(case.logits, case.mixed)
    return Training(model, dataset, settings, 7, file, "same", compile_model(model, settings))


def kept(trained: Training) -> list[Any]:
    trained.restore_kept()
    return list(trained.model.get_weights())


def fitted(case: Case, trained: Training) -> list[Any]:
    """Return the weights that one `fit` of Keras gives, on the same images in the same order."""
    import keras

    model, images = network(case.logits, case.mixed), trained.dataset.train
    parts = []
    for epoch in range(EPOCHS):
        order = trained.order_of(epoch)
        x, y = trained.scaling(images.x[order]), images.y[order]
        y = np.eye(10, dtype=np.float32)[y] if case.one_hot else y
        parts.append(case.changed(trained, epoch, x, y) if case.changed else (x, y))
    x, y = (np.concatenate(each) for each in zip(*parts, strict=True))
    model.compile(case.optimizer(keras), case.loss(keras))
    model.optimizer.build(model.trainable_variables)  # else schedulefreeadamw forgets the weights that it begins with
    more = case.fit(images.y)
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, **more)
    return list(model.get_weights())


def _mark(name: str) -> str:
    """Of Keras's optimizers and losses, one after the other takes minutes."""
    return "long" if name.startswith(("optimizer ", "loss ")) else "slow"


@pytest.mark.skipif(backend.name() != "tensorflow", reason="exactness is promised on TensorFlow's CPU")
@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=getattr(pytest.mark, _mark(name))) for name in CASES],
)
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


@pytest.mark.slow
def test_a_plateau_lowers_the_rate_as_keras_does(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    monkeypatch.setattr(Training, "order_of", lambda trained, epoch: np.arange(len(trained.dataset.train)))
    options = {"factor": 0.5, "patience": 1, "min_delta": 0.05, "cooldown": 1}
    case = Case({"epochs": 9, "learning_rate": 0.02, "lr_floor": 0.003, "schedule": {"name": "plateau", **options}})
    trained = training(case, dataset, tmp_path / "whole.npz")
    for epoch in range(9):
        trained.run_epoch()
        if epoch in (2, 5):
            trained = training(case, dataset, tmp_path / "whole.npz")
    model, train, validation = network(), dataset.train, dataset.validation
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    its = model.fit(
        trained.scaling(train.x),
        train.y,
        batch_size=BATCH,
        epochs=9,
        shuffle=False,
        verbose=0,
        validation_data=(trained.scaling(validation.x), validation.y),
        callbacks=[keras.callbacks.ReduceLROnPlateau(min_lr=0.003, **options)],
    )
    rates = [metrics.learning_rate for metrics in trained.history]
    assert len({round(rate, 6) for rate in rates}) >= 3
    np.testing.assert_allclose(rates, its.history["learning_rate"], rtol=1e-5)
    for ours, other in zip(kept(trained), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-3, atol=1e-5)


# The table

TABLE = [
    [cell.strip().strip("`") for cell in line.strip("|\n ").split("|")]
    for line in (Path(__file__).parents[2] / "docs" / "training.md").read_text().splitlines()
    if line.startswith("| `") and line.count("|") == 6
]
SEARCHED: dict[str, list[Any]] = {  # two values of each
    "optimizer": ["adam", "lion"],
    "optimizer.beta_1": [0.8, 0.9],
    "optimizer.weight_decay": [0.1, 0.2],
    "optimizer.clipnorm": [0.1, 0.2],
    "optimizer.use_ema": [True, False],
    "schedule": ["exponential", "plateau"],
    "schedule.warmup": [0.5, 1.0],
    "schedule.horizon": [2.0, 3.0],
    "loss": ["categorical_hinge", "huber"],
    "loss.label_smoothing": [0.1, 0.2],
    "mixup": [0.1, 0.2],
    "class_weight": ["balanced", None],
    "flip": ["horizontal", "vertical"],
    "crop": [1, 2],
    "mixed_precision": ["float16", "bfloat16"],
}


def test_the_table_has_every_setting() -> None:
    rows = [row[0] for row in TABLE]
    assert len(rows) == len(set(rows)) > 10
    later = [name for name in TrainingSettings.model_fields if name not in ALWAYS]
    assert {"optimizer", *later} <= set(rows)
    assert {row[2] for row in TABLE} == {*SEARCHED, "no"}
    for setting, _, searched, resumes, _ in TABLE:
        own = setting.removesuffix(".OPTION")
        assert searched == "no" or resumes == "yes"
        assert setting in ("callbacks", "schedule.horizon") or any(name.startswith(own) for name in CASES), setting


@pytest.mark.parametrize("row", [row for row in TABLE if row[2] in SEARCHED], ids=lambda row: row[0])
def test_a_setting_is_searched_and_has_its_place_in_a_population(row: list[str]) -> None:
    setting, _, searched, _, population = row
    values = SEARCHED[searched]
    training: dict[str, Any] = {"epochs": 1}
    if searched == "schedule.horizon":
        training["schedule"] = "cosine"
    content = {
        "name": "table",
        "model": "tests.tiny_model",
        "dataset": "mnist-5k",
        "budget": {"trials": 1},
        "start": [],
    }
    study = study_file.check(content | {"training": training, "search": {searched: {"choice": values}}}, "table")
    trained = [study.run_config({searched: value}, seed=1).training for value in values]
    for value, settings in zip(values, trained, strict=True):
        assert settings.everything()[searched] == value
    jax = pytest.importorskip("jax")
    assert jax
    from pipelines.population import NotVectorisable, shape_of

    shapes = []
    for settings in trained:
        try:
            shapes.append(shape_of(network(), settings))
        except NotVectorisable:
            shapes.append("alone")
    expected = {
        "decides the shape": len(set(shapes)) == len(shapes) and "alone" not in shapes,
        "differs by trial": len(set(shapes)) == 1 and "alone" not in shapes,
        "numbers differ by trial; the rest decides the shape": len(set(shapes)) == 1 and "alone" not in shapes,
        "trains alone": "alone" in shapes,
    }
    assert expected[population], (setting, shapes)


@pytest.mark.parametrize("protocol", ["official", "reshuffled"])
def test_a_plateau_does_not_look_at_test_images(protocol: Any) -> None:
    def config(**schedule: Any) -> RunConfig:
        settings = TrainingSettings(keep="last", schedule={"name": "plateau", **schedule})
        return RunConfig(
            model="softmax", hyperparameters={}, dataset="mnist", protocol=protocol, training=settings, seed=1
        )

    assert config(monitor="loss")
    with pytest.raises(ValueError, match=r"so schedule plateau cannot: give it monitor: loss"):
        config()


def test_a_model_trained_by_another_loss_is_saved_so_that_keras_reads_it(dataset: Dataset, tmp_path: Path) -> None:
    import keras

    trained = training(Case({"loss.label_smoothing": 0.1, "schedule.warmup": 1.0}), dataset, tmp_path / "state.npz")
    trained.run_epoch()
    trained.restore_kept()
    trained.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    loss, _ = model.evaluate(trained.scaling(dataset.validation.x), dataset.validation.y, verbose=0)
    assert abs(loss - trained.history[0].val_loss) < 1e-4


def test_what_makes_the_losses_differ_is_said() -> None:
    assert losses.differs_by(TrainingSettings()) == []
    settings = TrainingSettings(mixup=0.2, class_weight="balanced", **{"loss.label_smoothing": 0.1})
    assert losses.differs_by(settings) == ["label smoothing", "mixup", "class weights"]
    assert losses.differs_by(TrainingSettings(loss="huber")) == ["huber"]


def test_precision_is_put_back_after_each_model() -> None:
    import keras

    with pytest.raises(ZeroDivisionError), backend.precision("bfloat16"):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
        1 / 0  # noqa: B018 - a build that raises
    with backend.precision(None):
        assert keras.layers.Dense(1).compute_dtype == "float32"
    assert keras.layers.Dense(1).compute_dtype == "float32"
