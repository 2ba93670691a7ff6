"""Ensembles: chosen by validation, the mean of the probabilities of all their models."""

import numpy as np
import pytest

from sweeps.results import ensemble

LABELS = np.array([0, 1, 0, 1], np.uint8)


def model(*of_the_right_class: float) -> np.ndarray:
    """Return the probabilities of two classes, images × classes, from those of the right one."""
    right = np.array(of_the_right_class, np.float32)
    found = np.stack([right, 1 - right], axis=1)
    found[LABELS == 1] = found[LABELS == 1][:, ::-1]
    return found


GOOD = model(0.9, 0.9, 0.9, 0.4)
ALSO_GOOD = model(0.4, 0.9, 0.9, 0.9)
BAD = model(0.4, 0.4, 0.4, 0.4)
WORSE = model(0.0, 0.0, 0.0, 0.0)


def test_the_subset_with_the_best_mean_on_the_validation_images_is_chosen() -> None:
    predicted = {7: np.stack([GOOD, GOOD]), 3: np.stack([ALSO_GOOD, ALSO_GOOD]), 5: np.stack([WORSE, WORSE])}
    assert ensemble.choose(predicted, LABELS) == (7, 3)
    assert ensemble.value([predicted[7], predicted[3]], LABELS) == 1.0
    assert ensemble.value([predicted[7]], LABELS) == 0.75


def test_of_equal_accuracies_the_smaller_loss_wins() -> None:
    predicted = {1: np.stack([model(0.6, 0.6, 0.6, 0.6)] * 2), 2: np.stack([model(0.9, 0.9, 0.9, 0.9)] * 2)}
    assert ensemble.choose(predicted, LABELS) == (2,)


def test_a_single_model_is_no_ensemble_and_two_of_one_configuration_are() -> None:
    assert ensemble.choose({1: np.stack([GOOD])}, LABELS) is None
    assert ensemble.choose({}, LABELS) is None
    assert ensemble.choose({1: np.stack([GOOD, GOOD])}, LABELS) == (1,)


def test_beyond_ten_configurations_the_first_ten_count() -> None:
    many = {number: np.stack([BAD, BAD]) for number in range(10)}
    assert 10 not in (ensemble.choose(many | {10: np.stack([GOOD, GOOD])}, LABELS) or ())


@pytest.mark.parametrize("sizes", [(2, 2), (1, 3)])
def test_every_model_counts_alike(sizes: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    members = [random.dirichlet([1, 1], (size, 4)) for size in sizes]
    flat = np.concatenate(members)
    assert ensemble.value(members, LABELS) == (flat.mean(axis=0).argmax(axis=1) == LABELS).mean()
