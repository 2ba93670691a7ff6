"""Figures: that each shows what it says, and that one which fails costs nothing else."""

import dataclasses
import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pipelines import datasets, inside
from pipelines.config import RunConfig, TrainingSettings
from pipelines.datasets.cifar import OBJECTS_100
from pipelines.datasets.mnist import CLOTHES, DIGITS
from pipelines.figures import curves, dataset, fonts, network, of_run, result, style
from pipelines.metrics import ACCURACY, METRICS
from pipelines.train import EpochMetrics

MEASURED = [ACCURACY, METRICS["loss"]]


@pytest.fixture(scope="module")
def small() -> datasets.Dataset:
    return datasets.load("mnist-5k")


def texts(figure: Figure) -> list[str]:
    return [artist.get_text() for artist in figure.findobj(lambda a: hasattr(a, "get_text")) if artist.get_text()]


def cut_off(figure: Figure) -> list[str]:
    """Return the texts, and the axes, that reach beyond the figure's edges."""
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    shown = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    for axes in figure.axes:
        shown += [axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title]
    shown = [artist for artist in shown if artist.get_visible() and artist.get_text()]
    boxes = {artist.get_text(): artist.get_window_extent() for artist in shown}
    boxes |= {f"axes {number}": axes.get_tightbbox() for number, axes in enumerate(figure.axes)}
    return [
        name for name, box in boxes.items() if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]


def certain(labels: Any, wrong: dict[int, tuple[int, float]] | None = None) -> Any:
    """Return probabilities that are right and sure, but for `wrong`: image -> the class it is taken for, and how surely."""
    predicted = np.full((len(labels), 10), 0.001, np.float32)
    predicted[np.arange(len(labels)), labels] = 0.991
    for image, (taken, sure) in (wrong or {}).items():
        predicted[image] = (1 - sure) / 9
        predicted[image, taken] = sure
    return predicted


def wrong_images(predicted: Any, of: datasets.Dataset, classes: Any) -> Figure:
    return result.wrong_images(predicted, result.tiles(predicted, of.test.x, of.test.y), of.test.y, classes)


def test_confusion_counts_each_error(small: datasets.Dataset) -> None:
    labels = small.test.y
    first, second = np.flatnonzero(labels == 4)[:2]
    figure = result.confusion(certain(labels, {first: (9, 0.8), second: (9, 0.7)}), labels, DIGITS)
    assert "2 of 500 test images are wrong; most often 4 is taken for 9 (2 times)" in texts(figure)
    (axes,) = figure.axes
    counts = {(t.get_position()[1], t.get_position()[0]): t.get_text() for t in axes.texts}
    assert counts[4, 9] == "2" and counts[4, 4] == str((labels == 4).sum() - 2) and (9, 4) not in counts


def test_wrong_images_come_first_the_surest_before_all(small: datasets.Dataset) -> None:
    labels = small.test.y
    taken = {int(i): (int(labels[i] + 1) % 10, sure) for i, sure in ((7, 0.6), (3, 0.95))}
    figure = wrong_images(certain(labels, taken), small, DIGITS)
    (axes,) = figure.axes
    said = [text.get_text() for text in axes.texts]
    assert said[0] == f"{taken[3][0]}  95 %\nis {labels[3]}" and said[1] == f"{taken[7][0]}  60 %\nis {labels[7]}"
    colors = [text.get_color() for text in axes.texts]
    assert colors[:2] == [style.WRONG] * 2 and set(colors[2:]) == {"black"}
    assert len(said) == result.TILES
    whole, width = np.asarray(axes.images[0].get_array()), 28 + round(28 * result.BESIDE)
    first, first_right = whole[:28, :28], whole[:28, 2 * width : 2 * width + 28]
    assert np.array_equal(first[..., 2], 255 - small.test.x[3, ..., 0]) and first[..., 0].min() > 200  # red on white
    assert (first_right == first_right[..., :1]).all() and first_right.min() == 0  # black on white
    expected = "2 of 500 test images are wrong (red); then the 58 right ones of which it is least sure"
    assert expected in texts(figure)
    none = wrong_images(certain(labels), small, DIGITS)
    assert "0 of 500 test images are wrong; then the 60 right ones of which it is least sure" in texts(none)


def test_accuracy_by_class_has_wilsons_intervals(small: datasets.Dataset) -> None:
    labels = small.test.y
    sixes = np.flatnonzero(labels == 6)
    figure = result.classes_and_calibration(certain(labels, {i: (0, 0.55) for i in sixes[:5]}), labels, DIGITS)
    by_class, by_confidence = figure.axes
    (ends,) = (line[:, 0] for line in by_class.collections[0].get_segments() if list(line[:, 1]) == [6, 6])
    n, share, z = len(sixes), 1 - 5 / len(sixes), 1.959964
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    assert ends == pytest.approx([100 * (middle - half), 100 * (middle + half)], abs=1e-3)
    gap = 495 / 500 * abs(1 - 0.991) + 5 / 500 * 0.55
    assert by_confidence.get_title(loc="left") == f"expected calibration error: {100 * gap:.2f} points"
    assert {text.get_text() for text in by_confidence.texts} == {"5", "495"}


def test_font_digits_are_made_as_mnist_was() -> None:
    images = fonts.digits()
    assert images.shape == (len(fonts.FONTS) * 10, 28, 28, 1) and len(fonts.LABELS) == len(images)
    for image in images[..., 0]:
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)
        weights = image / image.sum()
        centre = [(weights.sum(axis=1 - axis) * np.arange(28)).sum() for axis in (0, 1)]
        assert np.abs(np.array(centre) - 13.5).max() <= 0.51
    assert len({image.tobytes() for image in images}) == len(images)
    predicted = certain(fonts.LABELS, {13: (7, 0.9)})
    said = texts(fonts.predictions(predicted))
    assert f"{len(images) - 1} of {len(images)} are right" in said[0] or any("119 of 120 are right" in s for s in said)
    assert "7" in said and f"{list(fonts.FONTS.values())[1]}\n9 of 10" in said


def test_the_mosaic_holds_every_image_in_order(small: datasets.Dataset) -> None:
    whole = np.asarray(dataset.all_images(small.test.x))
    columns = 23  # 500 images, about as wide as high
    assert whole.shape == (28 * 22, 28 * 23)
    for number in (0, 22, 23, 499):
        row, column = divmod(number, columns)
        tile = whole[28 * row : 28 * row + 28, 28 * column : 28 * column + 28]
        assert np.array_equal(tile, 255 - small.test.x[number, ..., 0])
    assert dataset.all_images(small.train.x, 14).size == (64 * 14, 63 * 14)


def test_class_counts_are_those_of_the_data(small: datasets.Dataset) -> None:
    figure = dataset.by_class(small)
    counts = figure.axes[1]
    widths = np.array([bar.get_width() for bar in counts.patches]).reshape(3, 10)
    expected = [np.bincount(part.y) for part in (small.train, small.validation, small.test)]
    assert np.array_equal(widths, expected)


KERNELS = [np.random.default_rng(seed).normal(size=(3, 3, 20)) for seed in (0, 1)]


def history(epochs: int) -> list[EpochMetrics]:
    return [
        EpochMetrics(
            {"loss": 1 / (e + 1), "accuracy": 0.9},
            {"accuracy": 0.9 + e / 1000, "loss": 1 / (e + 2)},
            0.001 * 0.9**e,
            3.0,
        )
        for e in range(epochs)
    ]


def responses(n: int) -> list[tuple[str, Any]]:
    return [(f"conv2d_{i}", np.random.default_rng(i).random((28 // (i + 1), 28 // (i + 1), 4 + i))) for i in range(n)]


def large(small: datasets.Dataset) -> datasets.Dataset:
    """A data set whose name and sizes take as much room as any's."""
    repeated = datasets.Examples(np.repeat(small.test.x, 120, axis=0), np.repeat(small.test.y, 120))
    return datasets.Dataset.of("fashion-mnist", [repeated] * 3, DIGITS, True, "")


def photographs() -> datasets.Dataset:
    """Three hundred photographs in each part, of a hundred classes with long names."""
    draws = np.random.default_rng(0)
    parts = [
        datasets.Examples(draws.integers(0, 256, (300, 40, 36, 3), np.uint8), np.arange(300) % 100) for _ in range(3)
    ]
    return datasets.Dataset.of("photographs", parts, OBJECTS_100, False, "")


def guessed() -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(100), 300).astype(np.float32)


DRAWN: dict[str, Any] = {
    "confusion of a hundred classes": lambda _: result.confusion(guessed(), photographs().test.y, OBJECTS_100),
    "classes of a hundred": lambda _: result.classes_and_calibration(guessed(), photographs().test.y, OBJECTS_100, "rows"),
    "wrong_images of photographs": lambda _: wrong_images(guessed(), photographs(), OBJECTS_100),
    "by_class of photographs": lambda _: dataset.by_class(photographs()),
    "learning_curves": lambda d: curves.learning_curves([history(15)], [12], "validation", MEASURED),
    "learning_curves of another loss": lambda d: curves.learning_curves(
        [history(5)], [2], "validation", MEASURED, ["label smoothing", "mixup"]
    ),
    "learning_curves of several": lambda d: curves.learning_curves([history(5), history(6)], [2, 5], "test", MEASURED),
    "study_curves": lambda d: curves.study_curves({0: [0.9, 0.95], 1: [0.8]}, {1}, 0, "tiny: 2 trials", "validation", ACCURACY),
    "confusion": lambda d: result.confusion(certain(d.test.y, {0: (3, 0.9)}), d.test.y, DIGITS),
    "confusion of clothes": lambda d: result.confusion(certain(d.test.y, {0: (3, 0.9)}), d.test.y, CLOTHES),
    "wrong_images": lambda d: wrong_images(certain(d.test.y), d, CLOTHES),
    "classes": lambda d: result.classes_and_calibration(certain(d.test.y), d.test.y, CLOTHES),
    "fonts": lambda d: fonts.predictions(certain(fonts.LABELS)),
    "by_class": lambda d: dataset.by_class(dataclasses.replace(d, classes=CLOTHES)),
    "by_class of the largest": lambda d: dataset.by_class(large(d)),
    "maps": lambda d: dataset.maps({"PCA": np.random.rand(500, 2)} | {}, d.test.y, d.test.y == 1, CLOTHES),
    "kernels": lambda d: network.kernels("conv2d", np.random.default_rng(0).normal(size=(5, 5, 70))),
    "activations": lambda d: network.activations("Noise", d.test.x[0], responses(4), certain([3])[0], DIGITS),
    "activations without convolutions": lambda d: network.activations("N", d.test.x[0], [], certain([3])[0], DIGITS),
    "codes": lambda d: network.codes(
        d.test.x[:20].reshape(10, 2, 28, 28, 1), d.test.x[:2], np.ones((10, 2, 3, 3, 4)), np.ones((2, 3, 3, 4)), "c", DIGITS
    ),
    "codes of negative responses": lambda d: network.codes(
        d.test.x[:20].reshape(10, 2, 28, 28, 1), d.test.x[:2], -np.ones((10, 2, 3, 3, 4)), -np.ones((2, 3, 3, 4)), "c", DIGITS
    ),
    "study_curves of a long name": lambda d: curves.study_curves(
        {0: [0.9]}, set(), 0, f"{'m' * 40}…: 40 trials", "test", ACCURACY
    ),
    "patterns": lambda d: network.patterns("conv2d_3", range(9), d.test.x[:9] * 1.0, np.ones(9), np.ones(9), 1000),
    "saliency": lambda d: network.saliency(d.test.x[:8], np.ones((8, 28, 28)), d.test.y[:8], d.test.y[1:9], CLOTHES),
    "matched": lambda d: network.matched(*KERNELS, inside.match(*KERNELS), ("seed 4294967295", "seed 2")),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_no_text_is_cut_off(name: str, small: datasets.Dataset, tmp_path: Path) -> None:
    figure = DRAWN[name](small)
    assert cut_off(figure) == []
    drawn = style.Drawn(tmp_path)
    drawn.draw(tmp_path / "figure.png", lambda: figure)
    assert drawn.failed == [] and drawn.seconds > 0
    with Image.open(tmp_path / "figure.png") as image:
        assert 850 <= image.width <= 950, "what the UI has room for"


def test_the_style_is_applied_to_these_figures_alone() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    assert curves.learning_curves([history(2)], [1], "validation", MEASURED).dpi == style.SHEET["figure.dpi"]
    assert dict(mpl.rcParams) == before


def test_a_users_own_style_changes_no_size(tmp_path: Path) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"savefig.dpi": 300, "savefig.bbox": "tight"}):
        drawn = style.Drawn(tmp_path)
        drawn.draw(tmp_path / "figure.png", lambda: curves.learning_curves([history(2)], [1], "validation", MEASURED))
    with Image.open(tmp_path / "figure.png") as image:
        assert image.width == 902


def test_a_figure_that_fails_is_noted_and_the_next_is_drawn(tmp_path: Path, capsys: Any) -> None:
    drawn = style.Drawn(tmp_path)
    (tmp_path / "model_1").mkdir()
    bad = tmp_path / "model_1" / "bad.png"
    drawn.draw(bad, lambda: result.confusion(np.zeros((3, 10)), np.zeros(2, np.uint8), DIGITS))
    drawn.draw(tmp_path / "good.png", lambda: curves.learning_curves([history(2)], [1], "validation", MEASURED))
    assert [line.split(":")[:2] for line in drawn.failed] == [["model_1/bad.png", " IndexError"]]
    assert [path.name for path in tmp_path.rglob("*.png")] == ["good.png"]
    assert "Traceback" in capsys.readouterr().out


@pytest.mark.parametrize("of_photographs", [False, True])
def test_figures_drawn_from_what_was_gathered_equal_those_drawn_at_once(
    of_photographs: bool, small: datasets.Dataset, tmp_path: Path
) -> None:
    of = photographs() if of_photographs else dataclasses.replace(small, classes=DIGITS)
    predicted = guessed() if of_photographs else certain(of.test.y, {3: (1, 0.8)})
    config = RunConfig(model="lean_cnn", dataset="mnist-5k", hyperparameters={}, training=TrainingSettings(), seed=0)
    of_fonts = certain(fonts.LABELS, {5: (0, 0.7)})
    given, later, at_once = (tmp_path / name for name in ("given", "later", "at_once"))
    for folder in (given / "model_1", later, at_once / "model_1"):
        folder.mkdir(parents=True)
    gathering = of_run.Gathering(given)
    gathering.add_results(given / "model_1", of, predicted, lambda _: of_fonts)
    gathering.write(config, [history(3)], [1])
    drawn = of_run.ToDraw.read(given / of_run.FOLDER).draw(later, {"model_1": predicted})
    assert drawn.failed == [] and drawn.seconds > 0

    direct, results = style.Drawn(at_once), at_once / "model_1"
    y, classes = of.test.y, of.classes
    direct.draw(
        at_once / "learning_curves.png", lambda: curves.learning_curves([history(3)], [1], "validation", MEASURED)
    )
    direct.draw(results / "confusion.png", lambda: result.confusion(predicted, y, classes))
    direct.draw(results / "wrong_images.png", lambda: wrong_images(predicted, of, classes))
    direct.draw(results / "accuracy_by_class.png", lambda: result.classes_and_calibration(predicted, y, classes))
    if not of_photographs:
        direct.draw(results / "font_digits.png", lambda: fonts.predictions(of_fonts))
    files = {path.relative_to(at_once): path.read_bytes() for path in at_once.rglob("*.png")}
    assert files == {path.relative_to(later): path.read_bytes() for path in later.rglob("*.png")}


def test_a_full_disk_is_not_the_figures_fault(tmp_path: Path) -> None:
    def full() -> Figure:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        style.Drawn(tmp_path).draw(tmp_path / "figure.png", full)
