"""What is kept of predictions: all of few classes, of very many the probable ones and the right one."""

import numpy as np
import pytest

from pipelines import evaluate, metrics, predictions
from pipelines.predictions import KEPT, packed, unpacked
from sweeps.results import ensemble
from sweeps.results.verdict import on_further_images

CLASSES, N = 1_500, 400


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities as a trained model gives them, often of a wrong class."""
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(0).integers(0, CLASSES, N)
    logits = rng.normal(size=(N, CLASSES)).astype(np.float32)
    logits[np.arange(N), labels] += rng.normal(3, 3, N)
    return evaluate.softmax(2 * logits), labels


@pytest.mark.parametrize("classes", [2, KEPT, KEPT + 1])
def test_few_classes_are_kept_as_they_are(classes: int) -> None:
    predicted = evaluate.softmax(np.random.default_rng(0).normal(size=(20, classes)).astype(np.float32))
    kept = packed("test", predicted, np.zeros(20, np.uint8), regression=False)
    assert [*kept] == ["test"] and unpacked("test", kept) is predicted
    numbers = np.random.default_rng(0).normal(size=(20, 300)).astype(np.float32)
    assert [*packed("test", numbers, numbers, regression=True)] == ["test"]


def test_of_very_many_the_likeliest_and_the_right_one_are_kept_exactly() -> None:
    predicted, labels = drawn(1)
    kept = packed("test", predicted, labels, regression=False)
    assert sum(array.nbytes for array in kept.values()) < 0.15 * predicted.nbytes
    found = unpacked("test", kept)
    likeliest = np.argsort(-predicted, axis=1)[:, :KEPT]
    for which in (likeliest, labels[:, np.newaxis]):
        np.testing.assert_array_equal(
            np.take_along_axis(found, which, axis=1), np.take_along_axis(predicted, which, axis=1)
        )
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-4)
    assert (found >= 0).all()
    for name in ("accuracy", "loss", "top5", "f1_macro", "balanced_accuracy"):
        metric = metrics.METRICS[name]
        assert metric.compute(labels, found) == pytest.approx(metric.compute(labels, predicted), abs=1e-6), name


def test_equal_probabilities_have_the_class_that_they_had() -> None:
    predicted = np.full((3, CLASSES), 1 / CLASSES, np.float32)
    found = unpacked("test", packed("test", predicted, np.array([7, 1_400, 0]), regression=False))
    assert (found.argmax(axis=1) == predicted.argmax(axis=1)).all()


def test_ensembles_and_intervals_of_what_is_kept_are_those_of_all() -> None:
    seeds, labels = [drawn(seed)[0] for seed in range(4)], drawn(0)[1]
    whole = np.stack(seeds)
    kept = np.stack([unpacked("x", packed("x", each, labels, regression=False)) for each in seeds])
    for name in ("accuracy", "loss"):
        metric = metrics.METRICS[name]
        values = [metric.scale * metric.compute(labels, each) for each in seeds]
        assert ensemble.value([kept], labels, metric) == pytest.approx(
            ensemble.value([whole], labels, metric), abs=0.003
        ), name
        ours, theirs = (on_further_images(metric, values, labels, each) for each in (kept, whole))
        assert ours is not None and theirs is not None
        own, whole_ones = ours.interval(), theirs.interval()
        assert (own.low, own.high) == pytest.approx((whole_ones.low, whole_ones.high), rel=1e-3)
    chosen = [ensemble.choose({0: each[:2], 1: each[2:]}, labels) for each in (whole, kept)]
    assert chosen[0] == chosen[1]
    assert predictions.KEPT == 100  # as docs/your_data.md says
