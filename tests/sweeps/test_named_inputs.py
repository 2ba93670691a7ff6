"""Data of several named inputs, for models of several inputs: from the function to the champion."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from pipelines import backend, datasets, evaluate
from pipelines.config import TrainingSettings
from pipelines.errors import UserError
from pipelines.examine import examine
from pipelines.images import scaling
from pipelines.tracking import store as tracking
from pipelines.train import Training, compile_model
from sweeps import open_study, runs
from sweeps.running import launch
from sweeps.running.resources import ThisMachine
from sweeps.stores.store import Store
from sweeps.study import study_file
from sweeps.tasks import champion, confirm, explain, logged
from sweeps.tasks.explain import Asked

RNG = np.random.default_rng(0)
LABELS = np.arange(240) % 3
IMAGES = RNG.integers(0, 120, (240, 8, 8), np.uint8) + 40 * LABELS.astype(np.uint8)[:, None, None]
AGES = LABELS + RNG.normal(size=240)
NET = """
import keras
from keras import layers

def build(*, units=4, input_shape=None, classes=0):
    inputs = {name: keras.Input(shape, name=name) for name, shape in input_shape.items()}
    image = layers.Dense(units, "relu")(layers.Flatten()(inputs["image"]))
    both = layers.Concatenate()([image, layers.Dense(units, "relu")(inputs["age"])])
    return keras.Model(inputs, layers.Dense(classes, "softmax")(layers.Dropout(0.2)(both)))
"""
DATA = "import numpy as np\ndef load():\n    a = np.load('a.npz')\n    return {'image': a['image'], 'age': a['age']}, a['y']\n"
QUIET = Console(quiet=True)


def of_arrays(found: Any, **options: Any) -> datasets.Dataset:
    return datasets.load(datasets.of_arrays(found, "mine", **options))


def both() -> dict[str, Any]:
    return {"image": IMAGES, "age": AGES}


def write(place: Path, **changes: Any) -> Any:
    np.savez(place / "a.npz", image=IMAGES, age=AGES, y=LABELS)
    (place / "my_data.py").write_text(DATA)
    (place / "net.py").write_text(NET)
    content = {
        "name": "two",
        "model": "net.py",
        "dataset": "my_data.py:load",
        "training": {"epochs": 2, "batch_size": 20, "pixels": "standardized"},
        "search": {"units": {"int": [2, 8]}, "learning_rate": {"float": [0.001, 0.05], "log": True}},
        "pruner": "none",
        "start": [],
        "budget": {"trials": 2},
    }
    (place / "two.yaml").write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return study_file.load(str(place / "two.yaml"))


def test_a_data_set_of_one_array_keeps_its_digest() -> None:
    x, y = np.arange(60 * 4).reshape(60, 4) / 100, np.arange(60) % 3
    assert of_arrays((x, y)).digest == "84df94fe69630778"
    assert datasets.load("mnist-5k").digest == "4cebdde9711a2817"


def test_named_inputs_are_kept_divided_and_counted() -> None:
    dataset = of_arrays((both(), LABELS))
    assert dataset.shape == {"age": (1,), "image": (8, 8, 1)} and not dataset.has_images
    assert "240 examples of age 1, image 8 × 8 × 1 in 3 classes" in dataset.summary()
    again = of_arrays({"x": {"age": AGES, "image": IMAGES}, "y": LABELS})
    assert again.digest == dataset.digest and of_arrays((IMAGES, LABELS)).digest != dataset.digest
    assert of_arrays(({"image": IMAGES, "years": AGES}, LABELS)).digest != dataset.digest
    rows = [
        (age.item(), image[..., 0].tobytes())
        for part in dataset.parts.values()
        for age, image in zip(*(part.x[:][name] for name in ("age", "image")), strict=True)
    ]
    assert sorted(rows) == sorted(
        (np.float32(age).item(), image.tobytes()) for age, image in zip(AGES, IMAGES, strict=True)
    )
    fold = datasets.fold(datasets.of_arrays((both(), LABELS), "mine"), 1, 4)
    assert len(fold.train) + len(fold.validation) == 204 and fold.shape == dataset.shape
    whole = {
        f"x_{part}": {name: x[rows] for name, x in both().items()}
        for part, rows in (("train", slice(200)), ("test", slice(200, 240)))
    }
    given = of_arrays(whole | {"y_train": LABELS[:200], "y_test": LABELS[200:]})
    assert [len(part) for part in given.parts.values()] == [170, 30, 40] and given.comparable
    twice = {name: np.concatenate([x, x]) for name, x in both().items()}
    assert "equal to one of the train part" in " ".join(of_arrays((twice, np.tile(LABELS, 2))).remarks)
    twice["age"] = np.arange(480.0)  # one input alone is no equal example
    assert "equal" not in " ".join(of_arrays((twice, np.tile(LABELS, 2))).remarks)


BAD: dict[str, tuple[Any, str]] = {
    "no inputs": (({}, LABELS), r"arrays: x has no inputs: expected an array for each, by its name"),
    "no name": (({"a b": AGES}, LABELS), r"x has an input 'a b': expected a name of letters, digits and _"),
    "lengths": (
        ({"image": IMAGES, "age": AGES[:9]}, LABELS),
        r"x has 9 of age, 240 of image: expected as many examples",
    ),
    "ragged": (({"image": IMAGES, "age": [[1], [1, 2]]}, LABELS), r"x\['age'\] is not an array"),
    "NaN": (({"image": IMAGES, "age": AGES * np.nan}, LABELS), r"240 examples have values of age that are NaN"),
    "words": (({"image": IMAGES, "age": AGES.astype(str)}, LABELS), r"x\['age'\] holds <U\d+: expected numbers"),
    "of a part": (
        {"x_train": both(), "y_train": LABELS, "x_test": {"image": IMAGES}, "y_test": LABELS},
        r"x_train has age, image, and x_test image: expected the same inputs",
    ),
    "of another shape": (
        {"x_train": {"image": IMAGES}, "y_train": LABELS, "x_test": {"image": IMAGES[:, :4]}, "y_test": LABELS},
        r"examples of x_train\['image'\] have shape \(8, 8\), and of x_test\['image'\] \(4, 8\)",
    ),
    "an array in a part": (
        {"x_train": {"image": IMAGES}, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS},
        r"x_train has image, and x_test one array: expected the same inputs",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_said_in_a_line(name: str, outputs: Path) -> None:
    found, said = BAD[name]
    with pytest.raises(UserError, match=said) as error:
        of_arrays(found)
    assert "\n" not in str(error.value) and not (outputs / "datasets").exists()


@pytest.mark.parametrize("settings", [{"pixels": "standardized"}, {"mixup": 0.4, "batch_size": 50}], ids=str)
def test_a_training_resumes_exactly(tmp_path: Path, settings: dict[str, Any]) -> None:
    import keras

    dataset = of_arrays((both(), LABELS))
    asked = TrainingSettings(epochs=3, **{"batch_size": 32, **settings})

    def training(name: str) -> Training:
        keras.utils.set_random_seed(1)
        inputs = {name: keras.Input(shape, name=name) for name, shape in dataset.shape.items()}
        flat = keras.layers.Concatenate()([keras.layers.Flatten()(each) for each in inputs.values()])
        model = keras.Model(inputs, keras.layers.Dense(3, "softmax")(keras.layers.Dropout(0.3)(flat)))
        return Training(model, dataset, asked, 1, tmp_path / f"{name}.npz", "same", compile_model(model, asked))

    whole, cut = training("whole"), training("cut")
    [whole.run_epoch() for _ in range(3)]
    [cut.run_epoch() for _ in range(2)]
    resumed = training("cut")
    resumed.run_epoch()
    assert [each.loss for each in resumed.history] == [each.loss for each in whole.history]
    for ours, theirs in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    found = whole.probabilities(dataset.test.x)
    assert found.shape == (36, 3)
    np.testing.assert_allclose(found, whole.model.predict(whole.scaling(dataset.test.x[:]), verbose=0), atol=1e-6)


def test_a_model_must_take_the_inputs_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    dataset = of_arrays((both(), LABELS))
    examine("net.py", {"units": 2}, dataset, saved=True)
    shapes = "{'image': (8, 8, 1), 'years': (1,)}"
    (tmp_path / "one.py").write_text(
        NET.replace('"age"', '"years"').replace("input_shape.items()", f"{shapes}.items()")
    )
    with pytest.raises(
        UserError, match=r"model one.py takes image \(8, 8, 1\) and years \(1,\), and the examples of mine are"
    ):
        examine("one.py", {"units": 2}, dataset, saved=False)


def test_logits_of_several_inputs_are_told_from_probabilities() -> None:
    import keras

    inputs = [keras.Input((2,), name="a"), keras.Input((3,), name="b")]
    outputs = keras.layers.Activation("softmax")(keras.layers.Dense(4)(keras.layers.Concatenate()(inputs)))
    assert not evaluate.gives_logits(keras.Model(inputs, keras.layers.Reshape((4,))(outputs)))
    assert evaluate.inputs_of(keras.Model(inputs, outputs)) == {"a": (2,), "b": (3,)}


@pytest.mark.slow
def test_from_the_function_to_the_champion(
    tmp_path: Path, run_here: Callable[..., Store], here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = write(tmp_path)
    run_here(study)
    frame = runs("two")
    assert (frame.state == "complete").all()
    artifacts = tracking.artifacts(frame.run_id[0])
    assert "confusion.png" in artifacts and "wrong_images.png" not in artifacts
    found = open_study("two").predict(both())
    assert found.shape == (240, 3)
    with pytest.raises(UserError, match=r"examples with the inputs age, image are expected, each an array; got image"):
        open_study("two").predict({"image": IMAGES})
    with pytest.raises(UserError, match="which has no images in classes"):
        explain.run(str(frame.run_id[0]), None, Asked(), None, QUIET)
    confirm.run("two", 1, 3, ThisMachine(device="cpu"), QUIET)
    assert champion.promote("two").startswith("champion of my_data-")
    trained = logged.load(tracking.get_run(str(frame.run_id[0])))
    from pipelines import serving

    served = serving.with_scaling(trained.model, trained.scaling)
    raw = {"image": IMAGES[..., None].astype(np.float32), "age": AGES[:, None].astype(np.float32)}
    np.testing.assert_allclose(served.predict(raw, verbose=0), found, atol=1e-5)
    with pytest.raises(UserError, match="takes no images"):
        champion.predict([tmp_path / "x.png"], None, False)
    monkeypatch.setattr(backend, "name", lambda: "jax")
    with pytest.raises(UserError, match="population: its program takes one input, and data set mine has several"):
        launch.check_training(study.model_copy(update={"population": 2}), of_arrays((both(), LABELS)))
    rotated = dataclasses.replace(of_arrays((both(), LABELS)))
    with pytest.raises(UserError, match="rotation distorts images, and data set mine has none"):
        launch.check_training(write(tmp_path, training={"rotation": 5.0}), rotated)
    assert scaling("by_255", rotated.train.x).moments().keys() == {
        f"{n}_{m}" for n in both() for m in ("mean", "deviation")
    }
