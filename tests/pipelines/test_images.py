"""What a model sees: scaled pixels, and distorted images in training alone."""

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest

from pipelines import datasets, mixup
from pipelines.config import TrainingSettings
from pipelines.datasets.dataset import Rows
from pipelines.images import Epoch, Scaling, affine_maps

DRAWS = 300


@pytest.fixture(scope="module")
def digits() -> Any:
    return datasets.load("mnist-5k").train.x[:500]


def distorted(x: np.ndarray, settings: TrainingSettings, seed: int, epoch: int) -> np.ndarray:
    """Return all images of an epoch, in the order of `x`, unscaled."""
    return Epoch(x, np.arange(len(x)), settings, seed, epoch, np.asarray)(slice(None))


def bars(count: int = DRAWS, width: int = 2) -> np.ndarray:
    """Images of an upright bar in the middle."""
    images = np.zeros((count, 28, 28, 1), np.uint8)
    images[:, 8:20, 14 - width // 2 : 14 + width // 2] = 200
    return images


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return mass, centre in x and y (pixels from the middle), and lean (how much x grows with y) of each image."""
    images = images[..., 0].astype(float)
    y, x = np.mgrid[:28, :28] - 13.5
    mass = images.sum(axis=(1, 2))
    cx, cy = (images * x).sum(axis=(1, 2)) / mass, (images * y).sum(axis=(1, 2)) / mass
    dx, dy = x - cx[:, None, None], y - cy[:, None, None]
    lean = (images * dx * dy).sum(axis=(1, 2)) / (images * dy * dy).sum(axis=(1, 2))
    return mass, cx, cy, lean


def distort(**settings: float) -> np.ndarray:
    return np.asarray(distorted(bars(), TrainingSettings(**settings), seed=1, epoch=0))


def test_pixels_are_divided(digits: np.ndarray) -> None:
    for pixels, divisor in (("by_255", 255), ("by_256", 256)):
        scaled = Scaling(pixels, digits)(digits)
        assert scaled.dtype == np.float32
        np.testing.assert_allclose(scaled, digits.astype(float) / divisor, rtol=1e-6)


def test_pixels_are_standardised_over_the_training_images(digits: np.ndarray) -> None:
    scaling = Scaling("standardized", digits)
    scaled = scaling(digits).astype(float)
    varies = digits.std(axis=0) > 0
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(axis=0)[varies], 1, rtol=1e-3)
    assert (scaled[:, ~varies] == 0).all()
    expected = (digits[7].astype(float) - digits.mean(axis=0)) / np.where(varies, digits.std(axis=0), 1)
    np.testing.assert_allclose(scaling(digits[7:8])[0], expected, rtol=1e-3, atol=1e-4)


def test_nothing_is_distorted_unless_asked_for(digits: np.ndarray) -> None:
    np.testing.assert_array_equal(distorted(digits, TrainingSettings(), seed=1, epoch=0), digits)


def test_distortions_depend_on_seed_and_epoch_alone(digits: np.ndarray) -> None:
    settings = TrainingSettings(rotation=10.0, zoom=0.1)
    first = distorted(digits, settings, seed=1, epoch=3)
    np.testing.assert_array_equal(distorted(digits, settings, seed=1, epoch=3), first)
    for seed, epoch in ((1, 4), (2, 3)):
        assert (distorted(digits, settings, seed, epoch) != first).any()
    parts = Epoch(digits, np.arange(len(digits)), settings, 1, 3, np.asarray)
    in_parts = [parts(slice(begin, begin + 64)) for begin in range(0, len(digits), 64)]
    np.testing.assert_array_equal(np.concatenate(in_parts), first)


def test_images_that_are_not_square_are_moved_by_their_own_sides() -> None:
    wide = np.zeros((DRAWS, 20, 60, 3), np.uint8)
    wide[:, 8:12, 28:32] = 200
    moved = distorted(wide, TrainingSettings(shift=0.1), seed=1, epoch=0)[..., 1]
    mass = moved.sum(axis=(1, 2))
    y, x = np.mgrid[:20, :60]
    assert 5 < np.abs((moved * x).sum(axis=(1, 2)) / mass - 29.5).max() <= 6.01
    assert 1.6 < np.abs((moved * y).sum(axis=(1, 2)) / mass - 9.5).max() <= 2.01


def test_floats_are_taken_as_they_are_unless_standardised() -> None:
    numbers = np.random.default_rng(0).normal(3, 2, (50, 7)).astype(np.float32)
    np.testing.assert_array_equal(Scaling("by_255", numbers)(numbers), numbers)
    np.testing.assert_allclose(Scaling("standardized", numbers)(numbers).std(axis=0), 1, rtol=1e-3)


def test_single_numbers_are_standardised_too() -> None:
    numbers = np.array([[10.0], [12.0], [14.0]], np.float32)
    np.testing.assert_allclose(Scaling("standardized", numbers)(numbers).mean(), 0, atol=1e-6)


def test_rows_on_disk_are_standardised_as_arrays_are(digits: np.ndarray) -> None:
    rows = Rows(digits, np.arange(len(digits)))
    found, expected = Scaling("standardized", rows), Scaling("standardized", digits)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-5)
    np.testing.assert_allclose(found.deviation, expected.deviation, rtol=1e-5)


def test_shifts_move_both_ways_up_to_their_limit() -> None:
    mass, cx, cy, lean = moments(distort(shift=0.1))
    for moved in (cx, cy):
        assert np.abs(moved).max() <= 2.8 + 1e-3
        assert moved.max() > 2.2 and moved.min() < -2.2
    assert abs(np.corrcoef(cx, cy)[0, 1]) < 0.3  # drawn apart
    np.testing.assert_allclose(mass, bars(1).sum(), rtol=1e-3)
    np.testing.assert_allclose(lean, 0, atol=1e-3)


def test_rotations_turn_about_the_middle_up_to_their_limit() -> None:
    mass, cx, cy, lean = moments(distort(rotation=20.0))
    degrees = np.degrees(np.arctan(lean))
    assert np.abs(degrees).max() < 21 and degrees.max() > 15 and degrees.min() < -15
    np.testing.assert_allclose([cx, cy], 0, atol=0.05)
    np.testing.assert_allclose(mass, bars(1).sum(), rtol=0.02)


def test_shear_leans_the_bar_and_leaves_its_height() -> None:
    _, cx, cy, lean = moments(distort(shear=20.0))
    degrees = np.degrees(np.arctan(lean))
    assert np.abs(degrees).max() < 21 and degrees.max() > 15 and degrees.min() < -15
    np.testing.assert_allclose([cx, cy], 0, atol=0.05)
    rows = np.asarray(distort(shear=20.0))[..., 0].sum(axis=2) > 20
    assert set(rows.sum(axis=1)) == {12}


def test_zoom_scales_width_and_height_apart() -> None:
    images = np.asarray(distorted(bars(width=12), TrainingSettings(zoom=0.2), seed=1, epoch=0))
    _, cx, cy, _ = moments(images)
    np.testing.assert_allclose([cx, cy], 0, atol=0.05)
    sides = images[..., 0].sum(axis=2).max(axis=1) / 2400, images[..., 0].sum(axis=1).max(axis=1) / 2400
    for lengths in sides:  # between 1/1.2 and 1/0.8
        assert 0.82 < lengths.min() < 0.88 and 1.15 < lengths.max() < 1.27
    assert abs(np.corrcoef(*sides)[0, 1]) < 0.3


def test_what_enters_from_outside_repeats_the_edge() -> None:
    white = np.full((20, 28, 28, 1), 255, np.uint8)
    moved = distorted(white, TrainingSettings(shift=0.5, rotation=45.0), seed=1, epoch=0)
    np.testing.assert_allclose(moved, 255, rtol=1e-5)


def test_maps_of_square_images_are_to_the_bit_those_before_there_were_others() -> None:
    settings = TrainingSettings(rotation=10.0, shift=0.1, shear=5.0, zoom=0.1)
    maps = affine_maps(1000, (28, 28), settings, seed=3, epoch=2)
    draws = np.random.default_rng([3, 2, 1])
    angle, shear, zoom_x, zoom_y, *shift = (draws.uniform(-limit, limit, 1000) for limit in (10, 5, 0.1, 0.1, 0.1, 0.1))
    angle, shear = np.radians(angle), np.tan(np.radians(shear))
    xx, xy = np.cos(angle) * (1 + zoom_x), (np.cos(angle) * shear - np.sin(angle)) * (1 + zoom_y)
    x0 = 13.5 + 28 * shift[0] - 13.5 * (xx + xy)
    np.testing.assert_array_equal(maps[:, :3], np.stack([xx, xy, x0], axis=1).astype(np.float32))


@pytest.mark.parametrize("shape", [(28, 28, 1), (20, 31, 3), (9, 4, 2)])
def test_flips_mirror_one_image_in_two_whatever_the_shape(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (200, *shape), np.uint8)
    for flip, axes in (("horizontal", (1,)), ("vertical", (0,)), ("horizontal_and_vertical", (0, 1))):
        flipped = np.asarray(distorted(images, TrainingSettings(flip=flip), seed=1, epoch=0))
        ways = [turned for each in range(len(axes) + 1) for turned in itertools.combinations(axes, each)]
        how = [
            [turned for turned in ways if (np.flip(image, turned) == result).all()]
            for image, result in zip(images, flipped, strict=True)
        ]
        assert all(len(found) == 1 for found in how)
        counts = [sum(found == [turned] for found in how) for turned in ways]
        assert min(counts) > 150 / len(ways)


def test_crops_move_by_whole_pixels_up_to_their_limit_and_repeat_the_edge() -> None:
    images = np.random.default_rng(0).integers(0, 256, (300, 12, 17, 3), np.uint8)
    moved = np.asarray(distorted(images, TrainingSettings(crop=2), seed=1, epoch=0))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    seen = set()
    for number, result in enumerate(moved):
        places = itertools.product(range(5), range(5))
        seen.add(next(p for p in places if (padded[number, p[0] : p[0] + 12, p[1] : p[1] + 17] == result).all()))
    assert len(seen) == 25


def test_images_of_any_shape_are_distorted(digits: np.ndarray) -> None:
    wide = np.repeat(digits[:50], 3, axis=3)[:, 4:24]
    settings = TrainingSettings(rotation=30.0, shift=0.1, zoom=0.1, shear=5.0)
    turned = np.asarray(distorted(wide, settings, seed=1, epoch=0))
    assert turned.shape == wide.shape
    np.testing.assert_allclose(turned[..., 0], turned[..., 2])
    tall = np.asarray(distorted(wide.transpose(0, 2, 1, 3), TrainingSettings(rotation=180.0), seed=1, epoch=0))
    assert abs(tall[:, 9:19, 5:15].mean() / wide[:, 5:15, 9:19].mean() - 1) < 0.1  # it turns about its own middle


def test_blended_labels_are_made_batch_by_batch_as_of_all_at_once() -> None:
    labels, classes = np.random.default_rng(1).integers(0, 7, 103).astype(np.uint8), 7
    blends = mixup.draw(len(labels), 10, 0.4, 3, 5)
    blended = mixup.Labels(blends, labels, classes)
    one_hot = np.eye(classes, dtype=np.float32)[labels]
    share = blends.shares[:, None]
    whole = share * one_hot + (1 - share) * one_hot[blends.partners]
    assert blended.shape == whole.shape and len(blended) == 103 and blended.dtype == whole.dtype
    batches = [blended[slice(begin, begin + 10)] for begin in range(0, 103, 10)]
    np.testing.assert_array_equal(np.concatenate(batches), whole)
    numbers = np.random.default_rng(2).normal(size=(103, 2)).astype(np.float32)
    found = mixup.Labels(blends, numbers, 0)
    np.testing.assert_array_equal(found[slice(0, 103)], share * numbers + (1 - share) * numbers[blends.partners])


def test_labels_of_thousands_of_classes_are_never_blended_all_at_once() -> None:
    labels = np.arange(200_000) % 5_000
    blended = mixup.Labels(mixup.draw(len(labels), 100, 0.4, 0, 0), labels, 5_000)
    tracemalloc.start()
    for begin in (0, 100, 199_900):
        assert blended[slice(begin, begin + 100)].shape == (100, 5_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25  # of all, 4 GB
