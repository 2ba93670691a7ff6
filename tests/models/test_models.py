"""The contract that every model and every recipe keeps."""

import inspect
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import models
from pipelines.config import TrainingSettings

PARAMETERS = {  # as published, or counted from the published layers
    "softmax": 7_850,
    "dense_sigmoid": 169_670,
    "dense_relu": 169_670,
    "dense_noisy": 169_670,
    "dense_decay": 169_670,
    "dense_dropout": 183_770,
    "mlp_70_30": 57_390,
    "mlp_512": 669_706,
    "strided_cnn": 354_002,
    "strided_cnn_dropout": 354_002,
    "strided_cnn_valid": 41_082,
    "strided_bn_cnn": 354_538,
    "chollet_cnn": 96_844,
    "keras_cnn": 600_810,
    "lean_cnn": 43_290,
    "augmented_cnn": 594_922,
    "augmented_cnn_bn": 597_738,
}
FILES = sorted({*models.MODELS.values()})
OTHER_VALUES = {
    int: lambda value: value - 1 if value > 1 else value + 1,
    float: lambda value: value / 2 or 0.1,
    bool: lambda value: not value,
}
IMAGES = np.random.default_rng(0).random((3, 28, 28, 1), dtype=np.float32)


def anatomy(model: Any) -> list[Any]:
    """What a model is made of, without the names that Keras counts up."""
    layers = [(type(layer).__name__, layer.get_config(), layer.output.shape) for layer in model.layers]
    return [(kind, {k: v for k, v in config.items() if k != "name"}, shape) for kind, config, shape in layers]


@pytest.mark.parametrize("name", models.MODELS)
class TestEveryRecipe:
    def test_has_the_published_number_of_parameters(self, name: str) -> None:
        assert models.load(name).build(**models.arguments(name)).count_params() == PARAMETERS[name]
        assert f"{PARAMETERS[name]:,}" in (models.load(name).__doc__ or "")

    def test_is_in_known_settings(self, name: str) -> None:
        recipe = models.load(name).RECIPES[name]
        assert recipe is models.recipe(name)
        TrainingSettings(**recipe.training)
        assert not {"keep", "patience"} & recipe.training.keys()  # the protocol's affair
        assert recipe.protocol in get_args(models.Protocol)
        assert recipe.arguments.keys() <= inspect.signature(models.load(name).build).parameters.keys()

    def test_says_what_was_published(self, name: str) -> None:
        recipe = models.recipe(name)
        assert recipe.targets or recipe.remark
        for target in recipe.targets:
            assert 85 < target.accuracy < 100 and target.name and target.source and target.conditions


@pytest.mark.parametrize("file", FILES)
class TestEveryFile:
    def test_gives_probabilities_and_the_same_ones_after_saving(self, file: str, tmp_path: Path) -> None:
        import keras

        model = models.load(file).build()
        predicted = model.predict(IMAGES, verbose=0)
        assert predicted.shape == (3, 10)
        np.testing.assert_allclose(predicted.sum(axis=1), 1, rtol=1e-5)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
        np.testing.assert_array_equal(loaded.predict(IMAGES, verbose=0), predicted)

    @pytest.mark.slow
    def test_heeds_every_argument(self, file: str) -> None:
        build, options = models.load(file).build, models.options(file)
        defaults = {key: parameter.default for key, parameter in inspect.signature(build).parameters.items()}
        defaults = {key: value for key, value in defaults.items() if key not in models.OF_THE_DATA}
        published = anatomy(build())
        for argument, value in defaults.items():
            others = [option for option in options.get(argument, ()) if option != value]
            for other in others or [OTHER_VALUES[type(value)](value)]:
                assert anatomy(build(**{argument: other})) != published, (argument, other)

    def test_is_built_for_the_data_at_hand(self, file: str) -> None:
        model = models.build(file, {}, (40, 36, 3), 7)
        assert model.input_shape == (None, 40, 36, 3) and model.output_shape == (None, 7)

    def test_has_equal_weights_from_equal_seeds(self, file: str) -> None:
        import keras

        def weights(seed: int) -> list[np.ndarray]:
            keras.utils.set_random_seed(seed)
            return models.load(file).build().get_weights()

        for first, second in zip(weights(1), weights(1), strict=True):
            np.testing.assert_array_equal(first, second)
        assert any((first != second).any() for first, second in zip(weights(1), weights(2), strict=True))

    def test_has_arguments_that_are_no_training_settings(self, file: str) -> None:
        assert not inspect.signature(models.load(file).build).parameters.keys() & TrainingSettings.model_fields.keys()

    def test_says_in_its_docstring_what_it_is(self, file: str) -> None:
        docstring = models.load(file).__doc__ or ""
        assert "Published" in docstring and "make sweep STUDY=" in docstring and "sweep baselines" in docstring
        assert "| layer" in docstring

    def test_lists_all_its_recipes(self, file: str) -> None:
        assert set(models.load(file).RECIPES) == {name for name, own in models.MODELS.items() if own == file}


def test_every_file_is_listed() -> None:
    others = {f"models.{name}" for name in ("__init__", "cells", "errors", "quiet", "sources")}
    assert {f"models.{path.stem}" for path in Path(models.__file__).parent.glob("*.py")} - others == set(FILES)


def test_a_user_s_own_recipe_without_a_name_is_its_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "from models import Recipe\ndef build(*, a=1): ...\nRECIPES = {'x': Recipe(training={}, arguments={'a': 2})}\n"
    )
    (tmp_path / "of_mine.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert models.arguments("of_mine") == {"a": 2}


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("Recipe({}, Target(99, 'it', 'them', 'so'))", "targets as a list of models.Target"),
        ("Recipe({}, arguments=None)", "arguments as dicts"),
        ("Recipe({}, arguments={'b': 2})", "a recipe gives 'b', which is not an argument of its build"),
    ],
)
def test_a_wrong_recipe_gets_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, words: str
) -> None:
    name = f"wrong_{abs(hash(recipe))}"
    text = f"from models import Recipe, Target\ndef build(*, a=1): ...\nRECIPES = {{'x': {recipe}}}\n"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(models.NoModel, match=words):
        models.load(name)
