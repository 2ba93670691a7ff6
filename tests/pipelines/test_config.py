"""A configuration and the flat texts that stand for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import RunConfig, TrainingSettings

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
