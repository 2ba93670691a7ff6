"""One run, from data to artifacts. Who decides which run, and what becomes of it, is not known here."""

import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import models
from pipelines import backend, callbacks, checkpoint, datasets, drawing, evaluate, metrics, predictions
from pipelines.config import RunConfig
from pipelines.datasets.dataset import Examples, on_disk
from pipelines.figures.of_run import Gathering
from pipelines.images import Floats
from pipelines.metrics import Metric
from pipelines.tracking.names import gap_name
from pipelines.tracking.run import MODEL_FILE, PREDICTIONS, PROBABILITIES, TrackedRun
from pipelines.train import End, Epochs, Training, compile_model, train

TEST, VALIDATION, TRAINING = "test", "val", "train"  # of the kept weights, in the metrics' names
TRAINING_IMAGES = 10_000  # TRAINING is of so many: all would cost 2 % of a lean training


@dataclass(frozen=True)
class Outcome:
    """What became of a run: why it ended, and what it measured (shares 0 to 1); nothing where no epoch was kept."""

    end: End
    measured: Mapping[str, float]

    def values(self, objectives: Sequence[str]) -> list[float]:
        """Return what a study optimises, the means over the run's models; metrics are those of the kept weights.

        Where no images were held out, they are of the test images: such runs are not chosen among.
        """
        found = [(f"{VALIDATION}_{name}", f"{TEST}_{name}", name) for name in objectives]
        return [next(self.measured[key] for key in keys if key in self.measured) for keys in found]


def execute(
    config: RunConfig,
    run: TrackedRun,
    checkpoint_path: Path,
    targets: Sequence[tuple[str, float]],
    keep_model_after: Collection[End],
) -> Epochs[Outcome]:
    """Build, train, evaluate and track one run; leave its epochs, what ends it early, its figures (`drawing`), and closing it.

    All of that is the caller's.

    `targets`: published values on test images, each with its metric's name and in percent where that is shown so, for the gaps
    to them; ignored where the data set is not comparable, or the metric not measured.
    `keep_model_after`: the ends after which the trained model is an artifact too.
    """
    import keras

    keras.utils.clear_session(free_memory=False)  # which the worker does, when no other trial is under way
    trainings = [
        _training(config, number, seed, checkpoint.part(checkpoint_path, number))
        for number, seed in enumerate(config.seeds())
    ]
    end = yield from train(trainings)
    if not end.final or any(training.kept_epoch is None for training in trainings):
        return Outcome(end, {})

    keep_model = end in keep_model_after
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gathering = Gathering(folder)
        each = [
            _evaluate(
                training, end, folder if len(trainings) == 1 else folder / f"model_{number}", keep_model, gathering
            )
            for number, training in enumerate(trainings, 1)
        ]
        measured = _summary(each) | _cost(trainings)
        if trainings[0].dataset.comparable:
            known = {metric.name: metric for metric in config.measured}
            measured |= dict(_gap(known[name], target, measured) for name, target in targets if name in known)
        kept = [training.kept_epoch or 0 for training in trainings]
        gathering.write(config, [training.history for training in trainings], kept)
        (folder / "config.json").write_text(json.dumps(config.model_dump(), indent=2))
        run.log_artifacts(folder)
    run.log_summary(measured)
    drawing.owe(run)
    return Outcome(end, measured)


def _gap(metric: Metric, target: float, measured: Mapping[str, float]) -> tuple[str, float]:
    """Return name and size of the gap to a published value; positive: the run is above it."""
    return gap_name(metric.name, target), metric.scale * measured[f"{TEST}_{metric.name}"] - target


def count_parameters(config: RunConfig) -> int:
    """Return the number of parameters of a configuration's model, by building it."""
    import keras

    dataset = datasets.load(config.dataset).for_task(config.task)
    model = models.build(config.model, config.hyperparameters, dataset.shape, len(dataset.classes))
    count = int(model.count_params())
    keras.utils.clear_session(free_memory=False)
    return count


def _training(config: RunConfig, number: int, seed: int, checkpoint_path: Path) -> Training:
    import keras

    dataset = datasets.of_run(config, number, seed).for_task(config.task)
    keras.utils.set_random_seed(seed)
    with backend.precision(config.training.mixed_precision):
        model = models.build(config.model, config.hyperparameters, dataset.shape, len(dataset.classes))
    logits = compile_model(model, config.training, config.task)
    fingerprint = f"{config.fingerprint()} {dataset.digest} {keras.backend.backend()}"
    own = callbacks.build(config.model, config.training)
    return Training(model, dataset, config.training, seed, checkpoint_path, fingerprint, logits, config.measured, own)


def _evaluate(training: Training, end: End, folder: Path, keep_model: bool, gathering: Gathering) -> dict[str, float]:
    """Return every metric of the kept weights; write predictions and model to `folder`, and gather what figures show."""
    # The training images tell how much was memorised: of interest where training ran its course.
    parts = {"test": TEST} | ({"train": TRAINING} if end == End.COMPLETED else {})
    if not training.dataset.watched:
        parts["validation"] = VALIDATION
    predicted: dict[str, Floats] = {}
    measured: dict[str, float] = {}
    penalty = evaluate.penalty(training.model)
    for part, name in parts.items():
        images = getattr(training.dataset, part)
        images = _some(images) if part == "train" else images
        x, y = images.x, images.y
        predicted[part] = training.probabilities(x)
        values = metrics.measure(training.measured, y, predicted[part], penalty)
        measured |= {f"{name}_{metric}": value for metric, value in values.items()}
    folder.mkdir(exist_ok=True)
    predicted.pop("train", None)
    regression = metrics.is_regression(training.dataset.test.y)
    kept = {
        name: array
        for part, values in predicted.items()
        for name, array in predictions.packed(part, values, getattr(training.dataset, part).y, regression).items()
    }
    np.savez_compressed(folder / (PREDICTIONS if regression else PROBABILITIES), **kept)  # type: ignore[arg-type]
    if keep_model:
        training.save(folder / MODEL_FILE)
        if training.settings.pixels == "standardized":
            np.savez(folder / "pixels.npz", **training.scaling.moments())
    if end == End.COMPLETED and not regression:
        gathering.add_results(folder, training.dataset, predicted["test"], training.probabilities)
    return measured


def _some(examples: Examples) -> Examples:
    """Return some training examples: the first; of one's own data, which may lie in the order of classes, spread ones."""
    n = min(len(examples), TRAINING_IMAGES)
    if not on_disk(examples.x):
        return examples[np.arange(n)]
    return examples[np.linspace(0, len(examples) - 1, n).astype(np.int64)]


def _summary(each: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean over models and, of several, the standard deviation."""
    summary = {name: sum(measured[name] for measured in each) / len(each) for name in each[0]}
    if len(each) > 1:
        summary |= {f"{name}_sd": float(np.std([m[name] for m in each], ddof=1)) for name in each[0]}
    return summary


def _cost(trainings: Sequence[Training]) -> dict[str, float]:
    epochs = [metrics for training in trainings for metrics in training.history]
    images = sum(len(training.history) * len(training.dataset.train) for training in trainings)
    seconds = sum(metrics.epoch_seconds for metrics in epochs)
    kept = {"kept_epoch": (trainings[0].kept_epoch or 0) + 1} if len(trainings) == 1 else {}  # as people count
    return {
        "parameters": trainings[0].model.count_params(),
        "test_reads": sum(1 + len(training.history) * training.dataset.watched for training in trainings),
        "epochs_trained": len(epochs),
        **kept,
        "seconds": seconds,
        "samples_per_second": images / seconds,
    }
