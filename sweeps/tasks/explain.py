"""The inside of a run's trained model, drawn and logged with the run: `explain/` among its artifacts."""

import functools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from pipelines import inside
from pipelines.datasets.dataset import Bytes
from pipelines.errors import UserError, nearest
from pipelines.figures import dataset as of_dataset
from pipelines.figures import network as draw
from pipelines.figures.style import Drawn
from pipelines.inside import Network
from pipelines.tracking import store as tracking
from pipelines.tracking.run import TrackedRun
from sweeps.results import frames, rows
from sweeps.tasks import logged

FOLDER = "explain"  # of the run's artifacts
FIGURES = ("kernels", "activations", "noise", "codes", "patterns", "saliency", "maps", "same_filters")
OF_CONVOLUTIONS = ("activations", "codes")
BEST = "best"
DIGIT = 7  # or the last class: whose image is shown
MAPPED = 2_000  # test images: t-SNE takes seconds for so many, minutes for all
CODES = 20  # classes whose codes are compared
LOOKED_AT = 1_000  # of them, for how strongly images excite a feature map
SHOWN_WRONG = 8
SEED = 0  # of noise, and of the maps


@dataclass(frozen=True)
class Asked:
    """What is asked: the class whose image is shown, a feature map as "LAYER:NUMBER", another run's id, these figures alone."""

    digit: int | None = None
    feature: str | None = None
    against: str | None = None
    only: Sequence[str] = ()


class Explained:
    """A run's model, and the figures of it."""

    def __init__(self, run_id: str, asked: Asked):
        self.run = logged.find(run_id)
        self.trained = logged.load(self.run)
        self.dataset, self.classes = self.trained.dataset, self.trained.dataset.classes
        if not self.dataset.has_images or not self.classes:
            raise UserError(
                f"run {run_id} was trained on {self.dataset.name}, which has no images in classes: sweep explain draws what is "
                "inside a classifier of images"
            )
        self.digit = min(DIGIT, len(self.classes) - 1) if asked.digit is None else asked.digit
        if not 0 <= self.digit < len(self.classes):
            raise UserError(f"--digit {asked.digit}: expected a class from 0 to {len(self.classes) - 1}")
        self.network = Network(self.trained.model, self.trained.scaling)
        self.feature = self.network.feature(asked.feature) if asked.feature else None
        self.other = self._other(asked.against) if asked.against else None
        self.noise = np.random.default_rng(SEED).integers(0, 256, (2, *self.dataset.test.x.shape[1:]), np.uint8)

    @functools.cached_property
    def predicted(self) -> NDArray[np.float32]:
        """The class probabilities of the test images: (n, classes)."""
        return self.network.probabilities(self.dataset.test.x)

    def _other(self, run_id: str) -> tuple[Any, NDArray[np.float32]]:
        """Return another run and its first kernels; raises UserError where they are of another shape than this run's."""
        run = logged.find(run_id)
        theirs = logged.load(run)
        ours, second = (n.first_kernels()[1] for n in (self.network, Network(theirs.model, theirs.scaling)))
        if ours.shape != second.shape:
            raise UserError(
                f"--against {run_id}: its first layer has kernels of shape {second.shape}, this run's {ours.shape}: "
                "expected two trainings of one configuration"
            )
        return run, second

    def kernels(self) -> Any:
        """Return the first layer's kernels."""
        return draw.kernels(*self.network.first_kernels())

    def activations(self) -> Any:
        """Return the responses to the chosen digit: the first test image of its class that is right, if any is."""
        of_class = self.dataset.test.y == self.digit
        right = of_class & (self.predicted.argmax(axis=1) == self.digit)
        index = int(np.flatnonzero(right if right.any() else of_class)[0])
        image = self.dataset.test.x[index]
        return self._responses_to(image, f"Test image {index}, {self.classes[self.digit]},", self.predicted[index])

    def noise_response(self) -> Any:
        """Return the responses to white noise."""
        probabilities = self.network.probabilities(self.noise[:1])[0]
        return self._responses_to(self.noise[0], "White noise", probabilities)

    def codes(self) -> Any:
        """Return the last convolution's codes of two images of every class, and of noise."""
        test = self.dataset.test
        shown = range(min(len(self.classes), CODES))
        of_class = [np.flatnonzero(test.y == label)[:2] for label in shown]
        lacking = [self.classes[label] for label in shown if len(of_class[label]) < 2]
        if lacking:
            raise UserError(f"class {lacking[0]!r} has fewer than two test images: no two codes to compare")
        pairs = np.stack([test.x[two] for two in of_class])
        flat = np.concatenate([pairs.reshape(-1, *pairs.shape[2:]), self.noise])
        layer, found = self.network.responses(flat)[-1]
        of_pairs = found[:-2].reshape(*pairs.shape[:2], *found.shape[1:])
        return draw.codes(pairs, self.noise, of_pairs, found[-2:], layer, [self.classes[label] for label in shown])

    def patterns(self) -> Any:
        """Return the inputs that most excite the chosen feature map, or the first ones of the last convolution.

        A network without convolutions has units in their place: those of its last layer, one a class.
        """
        weighted = [layer for layer in self.trained.model.layers if layer.weights]
        layers = self.network.convolutions or weighted
        if self.feature:
            layer, channels = self.feature[0], [self.feature[1]]
        else:
            layer = layers[-1]
            channels = list(range(min(draw.FILTERS, layer.output.shape[-1])))
        found = self.network.patterns(layer, channels, SEED)
        reached = self.network.mean_responses(layer, found)[range(len(channels)), channels]
        looked_at = self.dataset.test.x[:LOOKED_AT]
        usual = self.network.mean_responses(layer, looked_at)[:, channels].max(axis=0)
        return draw.patterns(layer.name, channels, found, reached, usual, len(looked_at))

    def saliency(self) -> Any:
        """Return what in the surest wrong predictions speaks for them."""
        test, taken = self.dataset.test, self.predicted.argmax(axis=1)
        wrong = np.flatnonzero(taken != test.y)
        if not len(wrong):
            raise UserError("no test image is taken wrongly: there is nothing to explain")
        shown = wrong[np.argsort(-self.predicted[wrong].max(axis=1))][:SHOWN_WRONG]
        slopes = self.network.saliency(test.x[shown], taken[shown], test.y[shown])
        return draw.saliency(test.x[shown], slopes, taken[shown], test.y[shown], self.classes)

    def maps(self) -> Any:
        """Return maps of the test images: of their pixels, and of what the last layer sees of them."""
        test = self.dataset.test
        n = min(MAPPED, len(test))
        pixels = test.x[:n].reshape(n, -1) / np.float32(255)
        features = self.network.last_features(test.x[:n])
        points: dict[str, NDArray[np.floating]] = {}
        for what, values in (("pixels", pixels), (f"the network's {features.shape[1]} last features", features)):
            points |= {f"{kind} of {what}": at for kind, at in _flat_maps(values).items()}
        wrong = self.predicted[:n].argmax(axis=1) != test.y[:n]
        return of_dataset.maps(points, test.y[:n], wrong, self.classes)

    def same_filters(self) -> Any:
        """Return this run's first kernels beside those of the run it is compared with, matched."""
        assert self.other is not None
        run, second = self.other
        ours = self.network.first_kernels()[1]
        names = f"seed {self.run.params['seed']}", f"seed {run.params['seed']}"
        return draw.matched(ours, second, inside.match(ours, second), names)

    def _responses_to(self, image: Bytes, what: str, probabilities: NDArray[np.float32]) -> Any:
        responses = [(name, found[0]) for name, found in self.network.responses(image[np.newaxis])]
        taken = f"{self.classes[probabilities.argmax()]} ({100 * probabilities.max():.0f} %)"
        return draw.activations(f"{what} is taken for {taken}", image, responses, probabilities, self.classes)


def run(run_id: str, study: str | None, asked: Asked, output: Path | None, console: Console) -> None:
    """Draw what is inside a run's model; log it with the run and, if asked, write it to the folder `output` too.

    `run_id`: or "best", the complete trial of `study` (the latest if not named) that validation prefers.
    Raises UserError for a run without its model, and for a figure asked for by name that its model cannot have.
    """
    for name in asked.only:
        if name not in FIGURES:
            raise UserError(f"--only {name}: expected one of {', '.join(FIGURES)}{nearest(name, FIGURES)}")
    explained = Explained(best_of(study) if run_id == BEST else run_id, asked)
    only = asked.only
    wanted = list(only) or [name for name in FIGURES if name != "same_filters" or asked.against]
    if "same_filters" in wanted and not asked.against:
        raise UserError("--only same_filters compares two runs: name the other with --against RUN")
    if asked.against and "same_filters" not in wanted:
        raise UserError("--against is for the figure same_filters: ask for it too, with --only same_filters")
    lacking = [name for name in wanted if name in OF_CONVOLUTIONS and not explained.network.convolutions]
    if lacking and only:
        raise UserError(
            f"model {explained.trained.config.model!r} has no convolution, so no {' and no '.join(lacking)}: expected one of "
            f"{', '.join(name for name in FIGURES if name not in OF_CONVOLUTIONS)}"
        )
    if lacking:
        console.print(f"left out, for the model has no convolution: {', '.join(lacking)}")
    draws: dict[str, Callable[[], Any]] = {
        name: getattr(explained, "noise_response" if name == "noise" else name)
        for name in wanted
        if name not in lacking
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / FOLDER
        folder.mkdir()
        drawn = Drawn(folder)
        for name, figure in draws.items():
            drawn.draw(folder / f"{name}.png", figure)
        TrackedRun(explained.run.run_id).log_artifacts(Path(temporary))
        made = sorted(path.name for path in folder.iterdir())
        if output:
            _write(folder, output)
    if made:
        several = len(explained.trained.config.seeds())
        which = f" (model 1 of {several})" if several > 1 else ""
        console.print(f"run {explained.run.run_id}{which}, {FOLDER}/: {', '.join(made)}", soft_wrap=True)
    if only and drawn.failed:
        raise UserError("; ".join(drawn.failed))
    for line in drawn.failed:
        console.print(f"not drawn: {line}", soft_wrap=True)


def best_of(study: str | None) -> str:
    """Return the run of the complete trial of a study (the latest if not named) that validation prefers."""
    best: Any = frames.best_runs(study, top=1)
    if best.empty:
        raise UserError("no trial of the study is complete yet: resume it, or name a run")
    (objective, *_) = rows.objectives_of(tracking.get_run(str(best.run_id.iloc[0])))
    if np.isnan(best[objective.column].iloc[0]):
        raise UserError(
            f"study {best.study.iloc[0]!r} holds no images out, so none of its runs is the best: name a run"
        )
    return str(best.run_id.iloc[0])


def _flat_maps(values: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    components = PCA(min(50, *values.shape), random_state=SEED).fit_transform(values)
    with threadpool_limits(1):  # its threads would wait for each other wherever a core is busy
        neighbours = TSNE(random_state=SEED, init="pca").fit_transform(components)
    return {"PCA": components[:, :2], "t-SNE": neighbours}


def _write(folder: Path, output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            shutil.copy(path, output)
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error.strerror}): name another folder with --output") from error
