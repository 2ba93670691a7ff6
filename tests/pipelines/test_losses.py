"""Losses of the user's own: found, looked at, and the same for probabilities and logits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import losses, options
from pipelines.config import TrainingSettings
from pipelines.errors import UserError

OWN = """
import keras


def focal(labels, probabilities, gamma=2.0):
    chosen = keras.ops.sum(probabilities * keras.ops.one_hot(labels, probabilities.shape[-1]), axis=-1)
    return -((1 - chosen) ** gamma) * keras.ops.log(chosen)


def of_logits(labels, predicted, from_logits=False):
    return keras.losses.sparse_categorical_crossentropy(labels, predicted, from_logits=from_logits)


def wide(labels, probabilities):
    return probabilities


def broken(labels, probabilities):
    return undefined


def lacking(labels, probabilities, gamma):
    return 0.0
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return a reference to a function of a file of the test's own."""
    file = tmp_path / f"losses_of_{tmp_path.name}.py".replace("-", "_")
    file.write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return lambda name: f"{file.name}:{name}"


def test_a_loss_of_ones_own_is_the_same_for_probabilities_and_logits(own: Callable[[str], str]) -> None:
    import keras

    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 4, 6), rng.normal(size=(6, 4)).astype(np.float32)
    probabilities = np.asarray(keras.ops.softmax(logits))
    chosen = probabilities[np.arange(6), labels]
    expected = {"focal": -((1 - chosen) ** 1.5) * np.log(chosen), "of_logits": -np.log(chosen)}
    for name, values in expected.items():
        given: dict[str, Any] = {"loss": own(name)} | ({"loss.gamma": 1.5} if name == "focal" else {})
        settings = TrainingSettings(**given)
        for made, predicted in ((False, probabilities), (True, logits)):
            loss = losses.of(settings, logits=made, outputs=4)
            np.testing.assert_allclose(np.asarray(loss(labels, predicted)), values, rtol=1e-4)
            np.testing.assert_allclose(np.asarray(loss(labels[:, None], predicted)), values, rtol=1e-4)


def test_options_are_the_arguments_of_the_function(own: Callable[[str], str]) -> None:
    assert options.options_of("loss", own("focal")) == {"gamma": 2.0}
    assert options.options_of("loss", own("of_logits")) == {}
    with pytest.raises(ValueError, match=r"has no option 'gama' .*did you mean 'gamma'"):
        TrainingSettings(**{"loss": own("focal"), "loss.gama": 1.0})
    with pytest.raises(ValueError, match="whose further arguments have defaults"):
        options.options_of("loss", own("lacking"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "wide",
            r"wide returns \(5, 3\) for 5 images of 3 classes: expected a number for each image, \(5,\), or one number",
        ),
        ("broken", r"broken raises NameError: name 'undefined' is not defined \(.*losses_of_.*\.py:19\)"),
    ],
)
def test_what_is_no_loss_is_said_in_a_line(own: Callable[[str], str], name: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        losses.of(TrainingSettings(loss=own(name)), logits=False, outputs=3)
    assert "\n" not in str(error.value)
