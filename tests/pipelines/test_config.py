"""A configuration and the flat texts that stand for it."""

import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import options
from pipelines.config import RunConfig, TrainingSettings
from sweeps.study import study_file

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = (
    st.none() | st.booleans() | st.integers() | NUMBERS | st.sampled_from(["relu", "stride", "batch_norm", "flatten"])
)
SETTINGS = st.builds(
    TrainingSettings,
    learning_rate=st.floats(1e-9, 10, exclude_min=True),
    patience=st.none() | st.integers(1, 9),
    optimizer=st.sampled_from(["adam", "sgd"]),
    epochs=st.integers(1, 99),
)
CONFIGURATIONS = st.builds(
    RunConfig,
    model=st.just("lean_cnn"),
    hyperparameters=st.fixed_dictionaries(
        {},
        optional={
            "filters1": st.integers(),
            "dropout": NUMBERS | st.none(),
            "batch_norm": st.booleans(),
            "activation": st.sampled_from(["relu", "3", "None", "1_000", "'q'"]),
        },
    ),
    dataset=st.sampled_from(["mnist", "mnist-5k"]),
    training=SETTINGS,
    seed=st.integers(0, 2**53),
    repeats=st.integers(1, 3),
    folds=st.none() | st.integers(2, 5),
)


@given(CONFIGURATIONS)
def test_the_texts_that_are_tracked_give_the_configuration_back(config: RunConfig) -> None:
    assert RunConfig.from_params({name: str(value) for name, value in config.params().items()}) == config


def test_a_protocol_is_read_back_too() -> None:
    settings = TrainingSettings(keep="last")
    config = RunConfig(
        model="softmax", hyperparameters={}, dataset="mnist", protocol="official", training=settings, seed=1
    )
    assert RunConfig.from_params({name: str(value) for name, value in config.params().items()}) == config


@pytest.mark.parametrize("params", [{}, {"model": "softmax"}, {"model": "softmax", "dataset": "mnist", "seed": "x"}])
def test_what_is_no_configuration_is_an_error(params: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        RunConfig.from_params(params)


EARLIER = {  # as the version before these settings wrote a run's parameters
    "optimizer": "sgd",
    "learning_rate": 0.001,
    "lr_decay": 1.0,
    "lr_floor": 0.0,
    "momentum": 0.9,
    "batch_size": 200,
    "epochs": 2,
    "pixels": "by_255",
    "rotation": 0.0,
    "shift": 0.0,
    "shear": 0.0,
    "zoom": 0.0,
    "patience": None,
    "keep": "best",
}


def test_what_earlier_versions_stored_stays_as_it_is() -> None:
    training = TrainingSettings(optimizer="sgd", momentum=0.9, batch_size=200, epochs=2)
    config = RunConfig(model="softmax", hyperparameters={}, dataset="mnist", training=training, seed=1)
    assert training.model_dump() == training.model_dump(mode="json") == EARLIER
    assert list(training.model_dump()) == list(EARLIER)
    assert config.params() == {"model": "softmax", "dataset": "mnist", "seed": 1, **EARLIER}
    assert RunConfig.from_params({name: str(value) for name, value in config.params().items()}) == config
    assert config.model_dump_json(exclude_defaults=True) == (  # in the fingerprints of checkpoints
        '{"model":"softmax","hyperparameters":{},"dataset":"mnist",'
        '"training":{"optimizer":"sgd","momentum":0.9,"batch_size":200,"epochs":2},"seed":1}'
    )


def test_options_are_read_back_and_their_order_is_nothing() -> None:
    given = {"optimizer": {"name": "lion", "weight_decay": 0.1, "beta_1": 0.8}, "schedule": {"warmup": 2.0}}
    nested = TrainingSettings.model_validate(given)
    flat = TrainingSettings.model_validate(
        {"schedule.warmup": 2.0, "optimizer.beta_1": 0.8, "optimizer.weight_decay": 0.1, "optimizer": "lion"}
    )
    assert nested == flat and nested.model_dump_json() == flat.model_dump_json()
    assert nested.options_of("optimizer") == {"weight_decay": 0.1, "beta_1": 0.8}
    assert (
        nested.model_dump()
        == flat.model_dump()
        == {**TrainingSettings().model_dump(), **nested.model_extra, "optimizer": "lion"}
    )
    config = RunConfig(model="softmax", hyperparameters={}, dataset="mnist", training=nested, seed=1)
    assert RunConfig.from_params({name: str(value) for name, value in config.params().items()}) == config


def test_without_a_learning_rate_an_optimizer_has_keras_s() -> None:
    assert TrainingSettings(optimizer="schedulefreeadamw").learning_rate == 0.0025
    assert TrainingSettings(optimizer="schedulefreeadamw", learning_rate=0.1).learning_rate == 0.1
    assert TrainingSettings(optimizer="sgd").learning_rate == 0.001  # as ever


def test_options_are_those_of_keras_s_signatures() -> None:
    import keras

    assert options.optimizers().keys() == options.default_rates().keys()
    for name, known in options.optimizers().items():
        signature = inspect.signature(getattr(keras.optimizers, options.optimizer_class(name))).parameters
        plain = {key: each.default for key, each in signature.items() if each.default is not each.empty}
        assert plain.pop("learning_rate") == options.default_rates()[name]
        assert known == {key: value for key, value in plain.items() if key not in options.NOT_PLAIN}
    exported = {
        name.lower()
        for name, each in vars(keras.optimizers).items()
        if inspect.isclass(each) and issubclass(each, keras.optimizers.Optimizer)
    }
    assert exported - options.optimizers().keys() == {"optimizer", "lossscaleoptimizer", "multioptimizer"}
    for name, known in options.losses().items():
        if name == options.CROSSENTROPY:
            continue
        signature = inspect.signature(getattr(keras.losses, options.loss_class(name))).parameters
        assert known == {key: each.default for key, each in signature.items() if key not in options.FOR_US}


def test_a_model_of_an_earlier_version_keeps_its_argument_called_as_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_loss_model.py").write_text("def build(*, loss: str = 'a', schedule: int = 3):\n    ...\n")
    monkeypatch.chdir(tmp_path)
    study = study_file.check(
        {
            "name": "own",
            "model": "own_loss_model",
            "dataset": "mnist-5k",
            "search": {"loss": {"choice": ["a", "b"]}, "schedule": {"int": [2, 4]}},
            "budget": {"trials": 2},
        },
        "own",
    )
    assert study.start_points == [{"loss": "a", "schedule": 3}]
    config = study.run_config({"loss": "b"}, seed=1)
    assert config.hyperparameters == {"loss": "b", "schedule": 3} and config.training.schedule == "exponential"
    assert RunConfig.from_params({name: str(value) for name, value in config.params().items()}) == config
