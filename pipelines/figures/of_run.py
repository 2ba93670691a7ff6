"""The figures of a run: what they are drawn from, gathered where it is trained, and drawn from that elsewhere and later.

Drawing needs neither the model, nor the data set, nor any code of the user's: what it takes of them is gathered here.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import losses
from pipelines.config import RunConfig
from pipelines.datasets.dataset import Bytes, Dataset
from pipelines.datasets.mnist import DIGITS
from pipelines.figures import curves, fonts, result
from pipelines.figures.style import Drawn
from pipelines.images import Floats
from pipelines.metrics import Metric
from pipelines.train import EpochMetrics

FOLDER, FACTS = "to_draw", "run.json"  # among a run's files, until its figures are drawn
OF_A_METRIC = ("name", "direction", "label", "scale", "form")  # what a figure says of it
CURVES, CONFUSION, WRONG = "learning_curves.png", "confusion.png", "wrong_images.png"
BY_CLASS, FONT_DIGITS = "accuracy_by_class.png", "font_digits.png"


class Gathering:
    """What the figures of a run are drawn from, on its way to `folder`, where the run's other files are."""

    def __init__(self, folder: Path):
        self._root, self._to_draw = folder, folder / FOLDER
        self._to_draw.mkdir()
        self._gathered = Drawn(folder)
        self._facts: dict[str, Any] = {"places": []}

    def add_results(
        self, folder: Path, dataset: Dataset, predicted: Floats, predict: Callable[[Bytes], Floats]
    ) -> None:
        """Gather what a model gets right and wrong, for figures in `folder`.

        `predicted`: its probabilities (n, classes) of the test examples; `predict` returns those of other images.
        """
        test, place = dataset.test, folder.relative_to(self._root).as_posix()
        arrays = {"labels": test.y}
        if dataset.has_images:
            self._gathered.attempt(folder / WRONG, lambda: arrays.update(tiles=result.tiles(predicted, test.x, test.y)))
        if (
            dataset.classes is DIGITS
        ):  # MNIST itself: no other data set, whatever its classes are called, has this tuple
            self._gathered.attempt(folder / FONT_DIGITS, lambda: arrays.update(font_digits=predict(fonts.digits())))
        np.savez(self._to_draw / _file(place), **arrays)  # type: ignore[arg-type]
        self._facts["places"].append(place)
        self._facts |= {"classes": dataset.classes, "what": "images" if dataset.has_images else "examples"}

    def write(self, config: RunConfig, histories: Sequence[Sequence[EpochMetrics]], kept_epochs: Sequence[int]) -> None:
        """Write it all, with what the learning curves show; see `curves.learning_curves`."""
        self._facts |= {
            "histories": [
                [{name: float(value) for name, value in epoch.flat().items()} for epoch in history]
                for history in histories
            ],
            "kept_epochs": list(kept_epochs),
            "watched": curves.watched_images(config.protocol),
            "measured": [{name: getattr(metric, name) for name in OF_A_METRIC} for metric in config.measured],
            "losses_differ_by": losses.differs_by(config.training),
            "failed": self._gathered.failed,
            "seconds": self._gathered.seconds,
        }
        (self._to_draw / FACTS).write_text(json.dumps(self._facts))


@dataclass(frozen=True)
class ToDraw:
    """What was gathered, read back from `folder`, its copy."""

    folder: Path
    facts: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "ToDraw":
        """Read what a `Gathering` wrote. Raises whatever damaged files make `json` raise."""
        return cls(folder, json.loads((folder / FACTS).read_text()))

    @property
    def places(self) -> list[str]:
        """Where, below the run's files, the figures of its models' results belong: ".", or one folder for each model."""
        return list(self.facts["places"])

    def draw(self, folder: Path, predicted: Mapping[str, Floats]) -> Drawn:
        """Draw all figures into `folder`; `predicted`: for each place the probabilities (n, classes) of the test examples."""
        facts, drawn = self.facts, Drawn(folder)
        drawn.failed += facts["failed"]
        drawn.seconds += facts["seconds"]
        histories = [[EpochMetrics.of(epoch) for epoch in history] for history in facts["histories"]]
        measured = [Metric(compute=_elsewhere, task=None, **metric) for metric in facts["measured"]]
        drawn.draw(
            folder / CURVES,
            lambda: curves.learning_curves(
                histories, facts["kept_epochs"], facts["watched"], measured, facts["losses_differ_by"]
            ),
        )
        for place in self.places:
            (folder / place).mkdir(exist_ok=True)
            with np.load(self.folder / _file(place)) as arrays:
                self._draw_results(folder / place, predicted[place], dict(arrays), drawn)
        return drawn

    def _draw_results(self, folder: Path, predicted: Floats, arrays: Mapping[str, Any], drawn: Drawn) -> None:
        """Draw what a model gets right and wrong."""
        labels, classes, what = arrays["labels"], self.facts["classes"], self.facts["what"]
        drawn.draw(folder / CONFUSION, lambda: result.confusion(predicted, labels, classes, what))
        if "tiles" in arrays:
            drawn.draw(folder / WRONG, lambda: result.wrong_images(predicted, arrays["tiles"], labels, classes))
        drawn.draw(folder / BY_CLASS, lambda: result.classes_and_calibration(predicted, labels, classes, what))
        if "font_digits" in arrays:
            drawn.draw(folder / FONT_DIGITS, lambda: fonts.predictions(arrays["font_digits"]))


def _file(place: str) -> str:
    return "model.npz" if place == "." else f"{place}.npz"


def _elsewhere(*_: Any) -> float:
    raise NotImplementedError("a metric is measured where a run is trained; here its values are drawn")
