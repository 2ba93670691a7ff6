"""Kind 6: what a user's `build` returns is looked at before the first trial."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from pipelines import datasets, evaluate, serving
from pipelines.errors import UserError
from pipelines.examine import examine
from pipelines.images import Scaling
from sweeps.stores.store import Store
from sweeps.study import study_file

HEAD = "import keras\nfrom keras import layers\nI = keras.Input((28, 28, 1))\n"
BODY = {
    "an int": ("    return 3", "returns an int, not a keras.Model"),
    "nothing": ("    pass", "returns a NoneType, not a keras.Model"),
    "not built": (
        "    return keras.Sequential([layers.Flatten(), layers.Dense(10)])",
        "is not built: let it begin with",
    ),
    "another image": (
        "    return keras.Sequential([keras.Input((32, 32, 3)), layers.Flatten(), layers.Dense(10)])",
        r"takes \(32, 32, 3\), and the images of mnist-5k are \(28, 28, 1\)",
    ),
    "three classes": (
        "    return keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(3)])",
        r"returns \(3,\), expected one output \(10,\)",
    ),
    "two outputs": (
        "    x = layers.Flatten()(I)\n    return keras.Model(I, [layers.Dense(10)(x), layers.Dense(10)(x)])",
        r"returns \(10,\) and \(10,\), expected one output",
    ),
    "compiled": (
        "    m = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10)])\n"
        "    m.compile('adam', 'mse')\n    return m",
        "comes compiled: the study's training settings say how it is trained",
    ),
    "sigmoids": (
        "    return keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10, 'sigmoid')])",
        "neither probabilities, which sum to 1, nor logits .its last layer is Dense, sigmoid",
    ),
    "a class of its own inside": (
        "    class Twice(layers.Layer):\n        def call(self, x):\n            return 2 * x\n"
        "    return keras.Sequential([I, layers.Flatten(), Twice(), layers.Dense(10)])",
        "a saved copy of model .* cannot be read back .*: define its layers and functions at the top of a module",
    ),
    "a mistake": ("    return 1 / 0", r"raises ZeroDivisionError: division by zero \(.*net.*py:5\) for "),
}


def of(body: str, tmp_path: Path, name: str) -> str:
    file = tmp_path / f"net_{abs(hash(name))}.py"
    file.write_text(f"{HEAD}def build(*, units: int = 4):\n{body}\n")
    models.resolve(str(file), [tmp_path])
    return str(file)


@pytest.mark.parametrize("what", BODY)
def test_a_model_that_cannot_be_trained_is_one_line(what: str, tmp_path: Path) -> None:
    body, words = BODY[what]
    with pytest.raises(UserError, match=words):
        examine(of(body, tmp_path, what), {"units": 4}, datasets.load("mnist-5k"), saved=True)


SOUND = {
    "softmax": ("layers.Dense(10, 'softmax')", False),
    "an activation behind": ("layers.Dense(10), layers.Activation('softmax')", False),
    "logits": ("layers.Dense(10)", True),
    "logits behind an activation": ("layers.Dense(10), layers.Activation('linear')", True),
}


@pytest.mark.parametrize("what", SOUND)
def test_probabilities_and_logits_are_told_apart_and_served_as_probabilities(what: str, tmp_path: Path) -> None:
    end, logits = SOUND[what]
    name = of(f"    return keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), {end}])", tmp_path, what)
    examine(name, {"units": 4}, datasets.load("mnist-5k"), saved=True)
    model = models.load(name).build()
    assert evaluate.gives_logits(model) is logits
    images = datasets.load("mnist-5k").test.x[:5]
    served = serving.with_scaling(model, Scaling("by_255", images)).predict(images.astype(np.float32), verbose=0)
    assert np.allclose(served.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(served, evaluate.probabilities(model, images / 255, logits), atol=1e-5)


def test_logits_train_as_the_same_model_with_softmax_does(
    tmp_path: Path, write_study: Callable[..., Path], run_here: Callable[..., Store]
) -> None:
    values = []
    for what in ("softmax", "logits"):
        end, _ = SOUND[what]
        body = f"    return keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), {end}])"
        path = write_study(
            name=what,
            model=of(body, tmp_path, what),
            search={"units": {"int": [2, 4]}},
            training={"epochs": 2, "batch_size": 200},
            budget={"trials": 1},
            start=[],
        )
        (trial,) = run_here(study_file.load(str(path))).trials()
        values.append(trial.value)
    assert values[0] == pytest.approx(values[1], abs=0.01) and values[0] > 0.6


@pytest.mark.slow
def test_a_sweep_of_such_a_model_ends_before_its_first_trial(
    tmp_path: Path, write_study: Callable[..., Path], sweep: Any
) -> None:
    name = of(BODY["three classes"][0], tmp_path, "three classes")
    command = sweep("run", write_study(model=name, search={"units": {"int": [2, 4]}}, start=[]))
    code, _, err = command.wait()
    assert code == 2 and "expected one output (10,)" in err and err.count("\n") == 1, err
    assert all(trial.user_attrs == {} for trial in Store("tiny").trials())
