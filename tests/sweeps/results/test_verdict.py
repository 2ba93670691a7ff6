"""The verdict's rule, and how often it is wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipelines.metrics import ACCURACY, METRICS
from sweeps.results.verdict import (
    Interval,
    beyond_these_images,
    luck_of_the_best,
    mcnemar,
    of_the_ensemble,
    of_the_mean,
    on_further_images,
    verdict,
)

ACCURACIES = st.lists(st.integers(9_000, 10_000).map(lambda images: images / 100), min_size=3, max_size=10)
TARGETS = st.integers(9_000, 10_000).map(lambda images: images / 100)


@given(ACCURACIES, TARGETS, st.sampled_from(["printed", "about", "above", "goal"]))
def test_a_verdict_is_where_the_whole_interval_lies(accuracies: list[float], target: float, kind: str) -> None:
    found = of_the_mean(accuracies, 10_000)
    word = verdict(found, target, kind)
    assert found.low < np.mean(accuracies) < found.high
    if word == "reached":
        assert found.low > target and np.mean(accuracies) > target
    elif word == "not reached":
        assert found.high < target
    elif kind != "about":
        assert found.low <= target <= found.high


@given(ACCURACIES, TARGETS, st.integers(1, 20))
def test_the_verdict_knows_no_order_mirrors_and_grows_no_bolder_with_more_comparisons(
    accuracies: list[float], target: float, comparisons: int
) -> None:
    word = verdict(of_the_mean(accuracies, 10_000), target)
    assert verdict(of_the_mean(accuracies[::-1], 10_000), target) == word
    mirrored = [2 * target - accuracy for accuracy in accuracies]
    opposite = {"reached": "not reached", "not reached": "reached", "undecidable": "undecidable"}
    found = of_the_mean(accuracies, 10_000)
    if min(abs(found.low - target), abs(found.high - target)) > 1e-9:  # else rounding decides
        assert verdict(of_the_mean(mirrored, 10_000), target) == opposite[word]
    corrected = verdict(of_the_mean(accuracies, 10_000, comparisons), target)
    assert corrected in (word, "undecidable")


@given(ACCURACIES, TARGETS, st.integers(1, 500))
def test_a_higher_target_is_never_easier(accuracies: list[float], target: float, higher: int) -> None:
    order = ["not reached", "undecidable", "reached"]
    found = of_the_mean(accuracies, 10_000)
    assert order.index(verdict(found, target + higher / 100)) <= order.index(verdict(found, target))


def test_the_interval_is_scipys() -> None:
    accuracies = [99.31, 99.26, 99.40, 99.35, 99.29]
    low, high = stats.ttest_1samp(accuracies, 0).confidence_interval(0.95)
    assert of_the_mean(accuracies, 10_000) == pytest.approx(Interval(low, high), abs=1e-9) or (
        of_the_mean(accuracies, 10_000).low == pytest.approx(low)
        and of_the_mean(accuracies, 10_000).high == pytest.approx(high)
    )
    corrected_low, _ = stats.ttest_1samp(accuracies, 0).confidence_interval(1 - 0.05 / 4)
    assert of_the_mean(accuracies, 10_000, 4).low == pytest.approx(corrected_low)


def test_few_or_equal_seeds_decide_nothing_by_themselves() -> None:
    assert of_the_mean([99.9, 99.9], 10_000) is None and verdict(None, 90.0) == "undecidable"
    equal = of_the_mean([99.27] * 3, 10_000)
    assert verdict(equal, 99.27) == "undecidable" and verdict(equal, 99.26) == "reached"
    assert verdict(of_the_mean([98.0] * 3, 500), 97.9) == "undecidable"  # a step of one image is 0.2 points


@pytest.mark.parametrize(
    ("kind", "target", "word"),
    [
        ("printed", 99.1, "reached"),
        ("about", 99.1, "undecidable"),
        ("about", 98.9, "reached"),
        ("about", 99.3, "not reached"),
    ],
)
def test_a_rounded_number_stands_for_all_that_round_to_it(kind: str, target: float, word: str) -> None:
    assert verdict(Interval(99.12, 99.2), target, kind) == word


@given(ACCURACIES, TARGETS, st.sampled_from(["printed", "about"]))
def test_what_is_to_be_small_is_reached_from_above(accuracies: list[float], target: float, kind: str) -> None:
    """The verdict on losses is that on what they leave of 200, the other way round; a published one turned round alike."""
    losses = [200 - accuracy for accuracy in accuracies]
    found, mirrored = of_the_mean(accuracies, 10_000), of_the_mean(losses, 10_000)
    if min(abs(found.low - target), abs(found.high - target)) > 0.1:  # else rounding decides
        assert verdict(mirrored, round(200 - target, 2), kind, "minimize") == verdict(found, target, kind)
    low, high = 0.1, 0.2
    assert verdict(Interval(low, high), 0.3, direction="minimize") == "reached"
    assert verdict(Interval(low, high), 0.05, direction="minimize") == "not reached"
    assert verdict(Interval(low, high), 0.15, direction="minimize") == "undecidable"


@pytest.mark.parametrize("name", ["accuracy", "loss", pytest.param("auc", marks=pytest.mark.slow)])
def test_the_interval_on_further_images_covers_a_metric_on_them(name: str) -> None:
    """Of accuracy as `beyond_these_images` has it; of others by a jackknife, about as wide as new images make it."""
    metric, images, seeds = METRICS[name], 500, 4

    def drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 3, images)
        hard = rng.normal(1.5, 1.0, (1, images, 1)) * np.eye(3)[labels]  # of each image, for every seed
        logits = hard + 0.5 * rng.normal(size=(seeds, images, 3))
        powers = np.exp(logits)
        return labels, powers / powers.sum(axis=2, keepdims=True)

    rng, covered, values = np.random.default_rng(0), 0, []
    worlds = [drawn(rng) for _ in range(24)]
    for labels, predicted in worlds:
        values.append([metric.scale * metric.compute(labels, each) for each in predicted])
    truth = np.mean(values)
    for of_seeds, (labels, predicted) in zip(values, worlds, strict=True):
        found = on_further_images(metric, of_seeds, labels, predicted)
        covered += found.low <= truth <= found.high
    assert covered / len(worlds) >= 0.9
    if metric is ACCURACY:
        labels, predicted = worlds[0]
        rightly = predicted.argmax(axis=2) == labels
        assert on_further_images(metric, values[0], labels, predicted) == beyond_these_images(rightly)


def draw(shape: str, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return accuracies around 99.26, in steps of an image, as seeds give them, or with an unlucky tail."""
    if shape == "normal":
        drawn = rng.normal(99.26, 0.08, size)
    elif shape == "barely any":
        drawn = rng.normal(99.26, 0.003, size)
    else:  # unlucky seeds are further off than lucky ones: a skewness of -0.5
        drawn = 99.26 + 0.02 * (16 - rng.gamma(16, 1, size))
    return np.round(drawn, 2)


@pytest.mark.parametrize("shape", ["normal", "barely any", "skewed"])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_configuration_that_only_equals_the_target_is_rarely_called_better(shape: str, seeds: int) -> None:
    drawn = draw(shape, np.random.default_rng(seeds), (4_000, seeds))
    words = [verdict(of_the_mean(list(row), 10_000), 99.26) for row in drawn]
    assert words.count("reached") / len(words) <= 0.05
    if shape == "normal":
        assert 0.015 < words.count("reached") / len(words) < 0.035  # half of ERROR on each side


def test_of_several_configurations_rarely_any_is_wrongly_called_better() -> None:
    drawn = draw("normal", np.random.default_rng(0), (3_000 * 4, 5)).reshape(3_000, 4, 5)
    wrong = sum(any(verdict(of_the_mean(list(row), 10_000, 4), 99.26) == "reached" for row in four) for four in drawn)
    assert wrong / len(drawn) <= 0.05


def test_what_is_clearly_better_is_called_so() -> None:
    drawn = draw("normal", np.random.default_rng(1), (1_000, 5)) + 0.2
    assert np.mean([verdict(of_the_mean(list(row), 10_000), 99.26) == "reached" for row in drawn]) > 0.9


def test_beyond_these_images_covers_the_accuracy_on_new_ones() -> None:
    rng, covered = np.random.default_rng(0), 0
    truth = 100 * (0.97 + 0.03 * 0.5)
    for _ in range(400):
        easy = rng.random(1_000) < 0.97
        by_image = np.where(easy, 1.0, rng.uniform(0, 1, 1_000))  # some images are hard for every seed
        by_seed = rng.normal(0, 0.002, 5)
        correct = rng.random((5, 1_000)) < np.clip(by_image + by_seed[:, None], 0, 1)
        found = beyond_these_images(correct)
        assert found.high - found.low > 0
        covered += found.low <= truth <= found.high
    assert covered / 400 >= 0.95


def test_mcnemar_is_a_sign_test_of_the_images_that_one_alone_gets_right() -> None:
    first = np.array([True] * 90 + [True] * 9 + [False] * 1)
    second = np.array([True] * 90 + [False] * 9 + [True] * 1)
    assert mcnemar(first, second) == pytest.approx(stats.binomtest(9, 10).pvalue) == mcnemar(second, first)
    assert mcnemar(first, first) == 1.0


def test_the_luck_of_the_best_is_that_of_simulation() -> None:
    best = np.random.default_rng(0).normal(0, 0.08, (20_000, 40)).max(axis=1).mean()
    assert luck_of_the_best(40, 0.08) == pytest.approx(best, rel=0.02)
    assert luck_of_the_best(1, 0.08) == pytest.approx(0, abs=1e-12)


def trained(random: np.random.Generator, seeds: int, noise: float, shared: float, shape: int = 4_000) -> np.ndarray:
    """Return probabilities of two classes, seeds × images × classes; the right one is class 1.

    Images differ in difficulty (always the same ones), models by `noise` on each image and by `shared` on all.
    """
    difficulty = np.random.default_rng(1).normal(2.6, 1.0, shape)
    margin = difficulty + noise * random.normal(size=(seeds, shape)) + shared * random.normal(size=(seeds, 1))
    right = 1 / (1 + np.exp(-margin))
    return np.stack([1 - right, right], axis=2)


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "shared"), [(0.3, 0.02), (0.6, 0.05), (1.0, 0.1)])
def test_how_often_an_ensemble_is_wrongly_above_what_it_reaches_on_average(noise: float, shared: float) -> None:
    """Two configurations with five seeds each; the jackknife errs on the wide side. The mean is that of other 400 ensembles."""
    random = np.random.default_rng(0)
    labels = np.ones(4_000, np.uint8)

    def accuracy() -> tuple[float, Interval]:
        members = [trained(random, 5, noise, shared), trained(random, 5, noise, shared)]
        correct = np.concatenate(members).mean(axis=0).argmax(axis=1) == labels
        found = of_the_ensemble(members, labels)
        assert found is not None
        return 100 * correct.mean(), found

    drawn = [accuracy() for _ in range(400)]
    truth = np.mean([mean for mean, _ in drawn])
    assert sum(interval.low > truth for _, interval in drawn) <= 0.04 * 400  # promised are 2.5 %, found about 1


def test_an_ensemble_of_equal_models_has_the_interval_of_rounding_and_few_seeds_have_none() -> None:
    equal = np.stack([trained(np.random.default_rng(0), 1, 0.3, 0.0)[0]] * 5)
    labels = np.ones(4_000, np.uint8)
    here, beyond = (of_the_ensemble([equal], labels, further) for further in (False, True))
    assert here is not None and beyond is not None
    assert 0 < here.high - here.low < 0.05 < beyond.high - beyond.low
    assert of_the_ensemble([equal, equal[:2]], labels) is None
    wider = of_the_ensemble([equal], labels, comparisons=5)
    assert wider is not None and wider.high > here.high
