"""What is found inside a network: against networks whose inside is known."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import models
from pipelines import backend, datasets, inside
from pipelines.errors import UserError
from pipelines.images import Scaling
from pipelines.inside import Network

SMALL = datasets.load("mnist-5k").test


def network(name: str, **arguments: object) -> Network:
    keras.utils.set_random_seed(1)
    return Network(models.load(name).build(**arguments), Scaling("by_255", SMALL.x))


def test_the_gradient_is_that_of_the_function() -> None:
    x = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    found = backend.gradient(lambda tensor: keras.ops.sum(tensor**3), x)
    np.testing.assert_allclose(found, 3 * x**2, rtol=1e-5)


def test_the_saliency_of_a_linear_model_is_its_weights() -> None:
    linear = network("softmax")
    kernel = np.asarray(linear.model.layers[-1].weights[0])
    favoured, against = np.array([3, 7], np.uint8), np.array([5, 1], np.uint8)
    expected = (kernel[:, favoured] - kernel[:, against]).T.reshape(2, 28, 28) / 255
    np.testing.assert_allclose(linear.saliency(SMALL.x[:2], favoured, against), expected, atol=1e-7)
    assert linear.model.layers[-1].activation is keras.activations.softmax, "the model is left as it was"


def test_the_saliency_is_of_scores_however_the_softmax_is_written() -> None:
    linear = network("softmax")
    kernel, bias = linear.model.layers[-1].get_weights()
    apart = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10), keras.layers.Softmax()]
    )
    apart.layers[1].set_weights([50 * kernel, bias])  # so that its softmax is saturated
    images, labels = SMALL.x[:3], SMALL.y[:3]
    expected = 50 * linear.saliency(images, (labels + 1) % 10, labels)
    found = Network(apart, Scaling("by_255", SMALL.x)).saliency(images, (labels + 1) % 10, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    odd = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10), keras.layers.Reshape((10,))]
    )
    with pytest.raises(UserError, match="does not end in a layer with a softmax"):
        Network(odd, Scaling("by_255", SMALL.x)).saliency(images, labels, labels)


def test_the_pattern_of_a_linear_model_is_where_its_weights_are_positive() -> None:
    linear = network("softmax")
    last = linear.model.layers[-1]
    kernel = np.asarray(last.weights[0])[:, [2, 4]].T.reshape(2, 28, 28)
    found = linear.patterns(last, [2, 4], seed=0)
    assert found.shape == (2, 28, 28, 1) and found.min() >= 0 and found.max() <= 255
    strong = np.abs(kernel) > 0.02
    assert np.array_equal(found[..., 0][strong], np.where(kernel > 0, 255, 0)[strong])


@pytest.mark.parametrize("name", ["lean_cnn", "strided_bn_cnn"])
def test_a_pattern_excites_its_feature_map_more_than_any_digit(name: str) -> None:
    deep = network(name, filters1=4, filters2=4, filters3=6)
    layer = deep.convolutions[-1]
    found = deep.patterns(layer, [0, 3], seed=0)
    reached = deep.mean_responses(layer, found)[[0, 1], [0, 3]]
    assert np.all(reached > deep.mean_responses(layer, SMALL.x)[:, [0, 3]].max(axis=0))
    assert np.array_equal(found, deep.patterns(layer, [0, 3], seed=0))


def test_responses_are_those_behind_normalisation_and_activation() -> None:
    deep = network("strided_bn_cnn", filters1=3, filters2=4, filters3=5)
    found = deep.responses(SMALL.x[:2])
    assert [response.shape for _, response in found] == [(2, 28, 28, 3), (2, 14, 14, 4), (2, 7, 7, 5)]
    assert [name for name, _ in found] == [layer.name for layer in deep.convolutions]
    first, norm, relu = deep.model.layers[:3]
    expected = keras.ops.convert_to_numpy(relu(norm(first(SMALL.x[:2] / np.float32(255)))))
    np.testing.assert_allclose(found[0][1], expected, atol=1e-6)


def test_what_the_last_layer_sees_makes_the_probabilities() -> None:
    deep = network("lean_cnn", dense=12)
    features = deep.last_features(SMALL.x[:5])
    kernel, bias = (np.asarray(weight) for weight in deep.model.layers[-1].weights)
    scores = features @ kernel + bias
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(deep.probabilities(SMALL.x[:5]), expected, atol=1e-5)


def test_first_kernels_of_a_dense_layer_are_images() -> None:
    dense = network("mlp_512")
    name, kernels = dense.first_kernels()
    layer = dense.model.get_layer(name)
    assert kernels.shape == (28, 28, 512)
    assert np.array_equal(kernels[3, 5], np.asarray(layer.weights[0])[3 * 28 + 5])


@pytest.mark.parametrize("name", models.MODELS)
def test_every_model_of_the_project_can_be_looked_into(name: str) -> None:
    any_ = network(name)
    assert any_.first_kernels()[1].ndim == 3
    assert any_.last_features(SMALL.x[:3]).shape[0] == 3
    assert all(response.ndim == 4 for _, response in any_.responses(SMALL.x[:3]))
    labels = SMALL.y[:3]
    slopes = any_.saliency(SMALL.x[:3], (labels + 1) % 10, labels)
    assert slopes.shape == (3, 28, 28) and np.abs(slopes).max() > 0


@pytest.mark.parametrize(
    "feature, message",
    [
        ("conv2d_9:1", "there is no layer 'conv2d_9'.*expected one of conv2d"),
        ("nothing", "there is no layer ''"),
        ("CONV:32", "expected a number from 0 to 31 after the colon"),
        ("CONV:-1", "expected a number from 0 to 31 after the colon"),
        ("CONV:x", "expected a number from 0 to 31 after the colon"),
    ],
)
def test_a_feature_that_there_is_not(feature: str, message: str) -> None:
    keras.backend.clear_session()
    deep = network("lean_cnn")
    with pytest.raises(UserError, match=message):
        deep.feature(feature.replace("CONV", deep.convolutions[0].name))
    layer, number = deep.feature(f"{deep.convolutions[1].name}:7")
    assert layer is deep.convolutions[1] and number == 7


def test_a_model_that_keras_cannot_trace_is_one_line() -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(10)

        def call(self, x: object) -> object:
            return self.dense(x)

    with pytest.raises(UserError, match="expected a Sequential or functional model"):
        Network(Own(), Scaling("by_255", SMALL.x))


def test_shuffled_kernels_are_found_again_and_others_are_not() -> None:
    draws = np.random.default_rng(0)
    kernels, order = draws.normal(size=(5, 5, 16)), draws.permutation(16)
    found = inside.match(kernels, kernels[..., order] * 2 + 0.1 * draws.normal(size=(5, 5, 16)))
    assert all(order[second] == first for first, second in found.pairs)
    assert found.cosines.min() > 0.95 and list(found.cosines) == sorted(found.cosines, reverse=True)
    assert found.by_chance.max() < found.cosines.mean() and found.p == pytest.approx(1 / 201)
    beyond = [inside.match(*draws.normal(size=(2, 3, 3, 8))).p <= 0.05 for _ in range(60)]
    assert sum(beyond) <= 9, "of kernels that have nothing in common, about one in twenty"


def test_kernels_of_one_pixel_cannot_be_turned() -> None:
    with pytest.raises(UserError, match="single pixels"):
        inside.match(np.ones((1, 1, 4)), np.ones((1, 1, 4)))


def test_by_chance_kernels_are_turned_and_mirrored_in_every_way() -> None:
    kernel = np.arange(9.0).reshape(3, 3)
    ways = {np.rot90(side, quarters).tobytes() for side in (kernel, np.fliplr(kernel)) for quarters in range(4)}
    turned = inside._turned(np.stack([kernel] * 200, axis=-1), np.random.default_rng(0))
    assert {np.ascontiguousarray(turned[..., i]).tobytes() for i in range(200)} == ways and len(ways) == 8
    assert inside._turned(np.ones((2, 3, 5)), np.random.default_rng(0)).shape == (2, 3, 5)


@pytest.mark.long
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_the_other_backends_find_the_same(name: str) -> None:
    pytest.importorskip(name)
    chosen = "gradient or linear or responses"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", chosen, Path(__file__)],
        env=os.environ | {"KERAS_BACKEND": name},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(done.stdout.split(" passed")[0].split()[-1]) >= 4
