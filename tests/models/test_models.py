"""The contract that every model keeps."""

import numpy as np
import pytest

import models
from pipelines.config import TrainingSettings

PARAMETERS = {"lean_cnn": 43_290}
OTHER_VALUES = {int: lambda value: value + 1, float: lambda value: value / 2}
IMAGES = np.random.default_rng(0).random((3, 28, 28, 1), dtype=np.float32)


@pytest.mark.parametrize("name", models.MODELS)
class TestEveryModel:
    def test_has_the_published_number_of_parameters(self, name: str) -> None:
        assert models.load(name).build().count_params() == PARAMETERS[name]

    def test_gives_probabilities(self, name: str) -> None:
        predicted = models.load(name).build().predict(IMAGES, verbose=0)
        assert predicted.shape == (3, 10)
        np.testing.assert_allclose(predicted.sum(axis=1), 1, rtol=1e-5)

    def test_heeds_every_argument(self, name: str) -> None:
        published = models.load(name).build()
        for argument, value in models.arguments(name).items():
            allowed = models.options(name).get(argument)
            others = [o for o in allowed if o != value] if allowed else [OTHER_VALUES[type(value)](value)]
            for other in others:
                built = models.load(name).build(**{argument: other})
                assert str(built.get_config()["layers"]) != str(published.get_config()["layers"]), argument

    def test_has_equal_weights_from_equal_seeds(self, name: str) -> None:
        import keras

        def weights(seed: int) -> list[np.ndarray]:
            keras.utils.set_random_seed(seed)
            return models.load(name).build().get_weights()

        for first, second in zip(weights(1), weights(1), strict=True):
            np.testing.assert_array_equal(first, second)
        assert any((first != second).any() for first, second in zip(weights(1), weights(2), strict=True))

    def test_predicts_the_same_after_saving(self, name: str, tmp_path) -> None:
        import keras

        model = models.load(name).build()
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
        np.testing.assert_array_equal(loaded.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0))

    def test_has_recipes_in_known_settings(self, name: str) -> None:
        recipes = models.load(name).RECIPES
        assert name in recipes
        for recipe in recipes.values():
            TrainingSettings(**recipe.training)

    def test_arguments_and_settings_have_different_names(self, name: str) -> None:
        assert not models.arguments(name).keys() & TrainingSettings.model_fields.keys()

    def test_says_in_its_docstring_what_it_is(self, name: str) -> None:
        docstring = models.load(name).__doc__
        assert "Published in" in docstring and "make sweep" in docstring
        assert f"{PARAMETERS[name]:,}" in docstring
