"""The verdict's rule, line by line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipelines.metrics import ACCURACY, METRICS
from sweeps.results import verdict
from sweeps.results.statistics import Interval, summary
from sweeps.results.verdict import (
    SHARES,
    NextTraining,
    Published,
    Seeds,
    beyond_these_images,
    decide,
    luck_of_the_best,
    next_training,
    of_the_ensemble,
    on_further_images,
    reproduction,
    share_of,
)

ACCURACIES = st.lists(st.integers(9_000, 10_000).map(lambda images: images / 100), min_size=3, max_size=10)
TARGETS = st.integers(9_000, 10_000).map(lambda images: images / 100)


def of(values: list[float], planned: int | None = None, images: int | None = 10_000) -> Seeds:
    return Seeds(values, len(values) if planned is None else planned, images)


@given(ACCURACIES, TARGETS, st.sampled_from(["printed", "about", "above", "goal"]))
def test_a_verdict_is_where_the_whole_interval_lies(accuracies: list[float], target: float, kind: str) -> None:
    found = of(accuracies).interval()
    word = Published(target, kind).verdict(found)
    assert found.low < np.mean(accuracies) < found.high
    if word == "reached":
        assert found.low > target and np.mean(accuracies) > target
    elif word == "not reached":
        assert found.high < target
    elif kind != "about":
        assert found.low <= target <= found.high


@given(ACCURACIES, TARGETS, st.integers(1, 20))
def test_the_interval_knows_no_order_mirrors_and_grows_no_bolder_with_more_comparisons(
    accuracies: list[float], target: float, comparisons: int
) -> None:
    found, published = of(accuracies).interval(), Published(target)
    word = published.verdict(found)
    assert published.verdict(of(accuracies[::-1]).interval()) == word
    mirrored = [2 * target - accuracy for accuracy in accuracies]
    opposite = {"reached": "not reached", "not reached": "reached", "undecided": "undecided"}
    if min(abs(found.low - target), abs(found.high - target)) > 1e-9:  # else rounding decides
        assert published.verdict(of(mirrored).interval()) == opposite[word]
    assert published.verdict(of(accuracies).interval(0.05 / comparisons)) in (word, "undecided")


@given(ACCURACIES, TARGETS, st.integers(1, 500))
def test_a_higher_target_is_never_easier(accuracies: list[float], target: float, higher: int) -> None:
    order = ["not reached", "undecided", "reached"]
    found = of(accuracies).interval()
    harder = Published(target + higher / 100).verdict(found)
    assert order.index(harder) <= order.index(Published(target).verdict(found))


def test_the_interval_is_scipys_as_planned_and_wider_at_any_other_number() -> None:
    accuracies = [99.31, 99.26, 99.40, 99.35, 99.29]
    low, high = stats.ttest_1samp(accuracies, 0).confidence_interval(0.95)
    assert vars(of(accuracies).interval()) == pytest.approx({"low": low, "high": high})
    corrected_low, _ = stats.ttest_1samp(accuracies, 0).confidence_interval(1 - 0.05 / 4)
    assert of(accuracies).interval(0.05 / 4).low == pytest.approx(corrected_low)
    watched = of(accuracies, planned=3).interval()
    assert watched.high - watched.low == pytest.approx((high - low) * 8.45 / 2.776, rel=1e-3)
    assert of(accuracies[:4], planned=3).interval() is None  # the sequence begins at five


def test_a_lost_seed_counts_as_trained() -> None:
    values = [99.31, None, 99.26, 99.40, 99.35]
    as_planned, more = Seeds(values, 5), Seeds([*values, 99.29], 5)
    assert as_planned.as_planned and not more.as_planned
    low, high = stats.ttest_1samp([99.31, 99.26, 99.40, 99.35], 0).confidence_interval(0.95)
    assert vars(as_planned.interval()) == pytest.approx({"low": low, "high": high})


def test_few_or_equal_seeds_decide_nothing_by_themselves() -> None:
    assert of([99.9, 99.9]).interval() is None and Published(90.0).verdict(None) == "undecided"
    equal = of([99.27] * 3).interval()
    assert Published(99.27).verdict(equal) == "undecided" and Published(99.26).verdict(equal) == "reached"
    assert Published(97.9).verdict(of([98.0] * 3, images=500).interval()) == "undecided"  # an image is 0.2 points


@pytest.mark.parametrize(
    ("kind", "target", "decimals", "word"),
    [
        ("printed", 99.1, None, "reached"),
        ("about", 99.1, None, "undecided"),
        ("about", 98.9, None, "reached"),
        ("about", 99.3, None, "not reached"),
        ("about", 99.0, None, "undecided"),  # 98.5 to 99.5
        ("about", 99.0, 1, "reached"),  # 98.95 to 99.05
    ],
)
def test_a_rounded_number_stands_for_all_that_round_to_it(
    kind: str, target: float, decimals: int | None, word: str
) -> None:
    assert Published(target, kind, decimals=decimals).verdict(Interval(99.12, 99.2)) == word


@given(ACCURACIES, TARGETS, st.sampled_from(["printed", "about"]))
def test_what_is_to_be_small_is_reached_from_above(accuracies: list[float], target: float, kind: str) -> None:
    """The lines on losses are those on what they leave of 200, the other way round; a published one turned round alike."""
    losses = [200 - accuracy for accuracy in accuracies]
    found, mirrored = of(accuracies), of(losses)
    up, down = Published(target, kind), Published(round(200 - target, 2), kind, "minimize")
    if min(abs(end - target) for end in (found.interval().low, found.interval().high, *accuracies)) > 0.1:
        assert down.verdict(mirrored.interval()) == up.verdict(found.interval())
        one, other = next_training(found, up), next_training(mirrored, down)
        if kind == "printed":
            assert (one.better, one.trained) == (other.better, other.trained)
            assert one.chance == pytest.approx(other.chance, abs=1e-6)
    reached = [Published(value, direction="minimize").verdict(Interval(0.1, 0.2)) for value in (0.3, 0.05, 0.15)]
    assert reached == ["reached", "not reached", "undecided"]


class TestDecide:
    published = Published(99.0)

    def test_a_word_once_said_stays_and_is_that_of_the_first_seeds_that_decide(self) -> None:
        clear = [99.30, 99.31, 99.29]
        later = [*clear, 98.0, 97.0, 99.3, 99.3]
        found = decide(Seeds(later, 3), self.published)
        assert found.word == "reached" and found.seeds.values == clear
        assert Published(99.0).verdict(Seeds(later, 3).interval()) == "undecided"
        assert decide(Seeds(later, 4), self.published).word == "undecided"

    def test_seeds_enter_by_number(self) -> None:
        """Whoever trains seven at once has the verdict of who trains one after the other."""
        values = list(np.random.default_rng(3).normal(99.12, 0.06, 12))
        one_by_one = [decide(Seeds(values[:n], 5), self.published) for n in range(3, 13)]
        first = next(found for found in one_by_one if found.word != "undecided")
        assert decide(Seeds(values, 5), self.published) == first and first.seeds.trained < 12

    def test_undecided_is_of_all(self) -> None:
        found = decide(Seeds([98.9, 99.1, 99.0, 98.95, 99.05, 99.0], 5), self.published)
        assert (found.word, found.seeds.trained) == ("undecided", 6)


class TestNextTraining:
    def test_five_of_five_are_at_least_48_percent(self) -> None:
        found = next_training(of([99.31, 99.26, 99.40, 99.35, 99.29]), Published(99.2))
        assert (found.better, found.trained) == (5, 5) and found.chance > 0.9
        assert (found.low, found.high) == (pytest.approx(0.478, abs=1e-3), 1.0)

    def test_lost_seeds_are_not_better(self) -> None:
        whole = next_training(of([99.31, 99.26, 99.40, 99.35]), Published(99.2))
        lost = next_training(Seeds([99.31, None, 99.26, 99.40, 99.35], 5, 10_000), Published(99.2))
        assert (lost.better, lost.trained) == (4, 5) and lost.chance == pytest.approx(0.8 * whole.chance)
        assert lost.low < whole.low

    def test_a_rounded_number_is_beaten_beyond_what_rounds_to_it(self) -> None:
        found = next_training(of([99.03, 99.04, 99.06]), Published(99.0, "about", decimals=1))
        assert isinstance(found, NextTraining) and found.better == 1
        assert next_training(of([99.0, 99.1]), Published(99.0)) is None


@pytest.mark.parametrize(
    ("value", "kind", "measured", "word"),
    [
        (99.14, "printed", (99.10, 99.14, 99.18), "agrees"),
        (99.14, "printed", (99.20, 99.21, 99.22), "better"),
        (99.14, "printed", (99.00, 99.01, 99.02), "worse"),
        (99.14, "printed", (99.18, 99.20, 99.22), "agrees"),  # its mean is above, and yet it could be one of them
        (99.14, "printed", (99.00,), "undecided"),
        (97, "about", (97.40, 97.42, 97.44), "agrees"),  # rounds to 97
        (97, "about", (97.60, 97.61, 97.62), "better"),
        (98, "above", (98.10, 98.11, 98.12), "agrees"),  # a bound says nothing against more
        (98, "above", (97.50, 97.51, 97.52), "worse"),
        (98, "goal", (98.10, 98.11, 98.12), "reached"),
        (98, "goal", (97.90, 98.10, 98.20), "undecided"),
    ],
)
def test_a_published_run_agrees_with_seeds_it_could_be_one_of(
    value: float, kind: str, measured: tuple[float, ...], word: str
) -> None:
    assert reproduction(summary(measured), Published(value, kind)) == word


def test_the_shares_of_the_error_are_all_of_it() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    for configurations in (1, 2, 5):
        whole = configurations * share_of("configuration", configurations) + share_of("final", configurations)
        assert whole + share_of("ensemble", configurations) == pytest.approx(0.05)


@pytest.mark.parametrize("name", ["accuracy", "loss", "f1_macro"])
def test_the_interval_on_further_images_covers_a_metric_on_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of accuracy as `beyond_these_images` has it; of others by a bootstrap, about as wide as new images make it."""
    metric, images, seeds = METRICS[name], 500, 4
    monkeypatch.setattr(verdict, "REPLICATES", 30)

    def drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 3, images)
        hard = rng.normal(1.5, 1.0, (1, images, 1)) * np.eye(3)[labels]  # of each image, for every seed
        logits = hard + 0.5 * rng.normal(size=(seeds, images, 3))
        powers = np.exp(logits)
        return labels, powers / powers.sum(axis=2, keepdims=True)

    rng, covered, values = np.random.default_rng(0), 0, []
    worlds = [drawn(rng) for _ in range(20 if name == "f1_macro" else 150)]
    for labels, predicted in worlds:
        values.append([metric.scale * metric.compute(labels, each) for each in predicted])
    truth = np.mean(values)
    for of_seeds, (labels, predicted) in zip(values, worlds, strict=True):
        found = on_further_images(metric, of_seeds, labels, predicted).interval()
        covered += found.low <= truth <= found.high
    assert 0.88 <= covered / len(worlds) <= (1 if name == "f1_macro" else 0.99)
    if metric is ACCURACY:
        labels, predicted = worlds[0]
        rightly = predicted.argmax(axis=2) == labels
        assert on_further_images(metric, values[0], labels, predicted) == beyond_these_images(rightly)


def test_the_bootstrap_over_images_is_the_formula_of_the_accuracy() -> None:
    """Balanced accuracy of classes that are equally many is the accuracy."""
    rng = np.random.default_rng(0)
    labels = np.arange(3_000) % 2
    predicted = trained(rng, 4, 0.6, 0.05, 3_000)
    predicted = np.where(labels[:, None] == 1, predicted, predicted[:, :, ::-1])
    metric = METRICS["balanced_accuracy"]
    values = [100 * ACCURACY.compute(labels, each) for each in predicted]
    drawn, known = (on_further_images(each, values, labels, predicted).interval() for each in (metric, ACCURACY))
    assert drawn.high - drawn.low == pytest.approx(known.high - known.low, rel=0.15)


def test_all_right_has_an_interval_on_further_images() -> None:
    found = beyond_these_images(np.ones((3, 1_000), bool)).interval()
    assert 99 < found.low < 99.9 and found.high == pytest.approx(100)
    assert beyond_these_images(np.ones((2, 1_000), bool)) is None


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
        return 100 * correct.mean(), found.interval()

    drawn = [accuracy() for _ in range(400)]
    truth = np.mean([mean for mean, _ in drawn])
    assert sum(interval.low > truth for _, interval in drawn) <= 0.04 * 400  # promised are 2.5 %, found about 1


def test_an_ensemble_of_equal_models_has_the_interval_of_rounding_and_few_seeds_have_none() -> None:
    equal = np.stack([trained(np.random.default_rng(0), 1, 0.3, 0.0)[0]] * 5)
    labels = np.ones(4_000, np.uint8)
    here, beyond = (of_the_ensemble([equal], labels, further).interval() for further in (False, True))
    assert 0 < here.high - here.low < 0.05 < beyond.high - beyond.low
    assert of_the_ensemble([equal, equal[:2]], labels) is None
    assert of_the_ensemble([equal], labels).interval(0.01).high > here.high
