"""One run, from data to artifacts. Who decides which run, and what becomes of it, is not known here."""

import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import models
from pipelines import backend, callbacks, checkpoint, data, evaluate, losses
from pipelines.config import RunConfig
from pipelines.figures import curves, fonts, result
from pipelines.figures.style import Drawn
from pipelines.images import Floats
from pipelines.tracking.run import MODEL_FILE, TrackedRun
from pipelines.train import Control, End, Epochs, Training, compile_model, train

TEST, VALIDATION, TRAINING = "test", "final_validation", "final_train"  # of the kept weights, in the metrics' names
TRAINING_IMAGES = 10_000  # TRAINING is of the first so many: all would cost 2 % of a lean training


@dataclass(frozen=True)
class Outcome:
    """What became of a run: why it ended, and what it measured (accuracies 0 to 1); nothing where no epoch was kept."""

    end: End
    measured: Mapping[str, float]

    def values(self, objectives: Sequence[str]) -> list[float]:
        """Return what a study optimises, the means over the run's models; `val_accuracy` is that of the kept weights.

        Where no images were held out, it is the test accuracy: such runs are not chosen among.
        """
        measured = self.measured
        known = {**measured, "val_accuracy": measured.get(f"{VALIDATION}_accuracy", measured[f"{TEST}_accuracy"])}
        return [known[objective] for objective in objectives]


def execute(
    config: RunConfig,
    run: TrackedRun,
    control: Control,
    checkpoint_path: Path,
    targets: Sequence[float],
    keep_model_after: Collection[End],
) -> Epochs[Outcome]:
    """Build, train, evaluate and track one run; leave its epochs, and closing it, to the caller.

    `targets`: published test accuracies in percent, for the gaps to them; ignored where the data set is not comparable.
    `keep_model_after`: the ends after which the trained model is an artifact too.
    """
    import keras

    keras.utils.clear_session()
    trainings = [
        _training(config, number, seed, checkpoint.part(checkpoint_path, number))
        for number, seed in enumerate(config.seeds())
    ]
    end = yield from train(trainings, control)
    if not end.final or any(training.kept_epoch is None for training in trainings):
        return Outcome(end, {})

    keep_model = end in keep_model_after
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = Drawn(folder)
        each = [
            _evaluate(training, end, folder if len(trainings) == 1 else folder / f"model_{number}", keep_model, drawn)
            for number, training in enumerate(trainings, 1)
        ]
        measured = _summary(each) | _cost(trainings)
        if config.dataset in data.COMPARABLE:
            measured |= {f"gap_to_{target:.2f}": 100 * measured["test_accuracy"] - target for target in targets}
        kept = [training.kept_epoch or 0 for training in trainings]
        histories = [training.history for training in trainings]
        watched = curves.watched_images(config.protocol)
        differs = losses.differs_by(config.training)
        drawn.draw(folder / "learning_curves.png", lambda: curves.learning_curves(histories, kept, watched, differs))
        (folder / "config.json").write_text(json.dumps(config.model_dump(), indent=2))
        run.log_artifacts(folder)
    if drawn.failed:
        run.set_tags({"figures_failed": "; ".join(drawn.failed)})
    run.log_summary(measured | {"figure_seconds": drawn.seconds})
    return Outcome(end, measured)


def count_parameters(model: str, hyperparameters: Mapping[str, Any]) -> int:
    """Return the number of parameters of a model, by building it."""
    import keras

    count = int(models.load(model).build(**hyperparameters).count_params())
    keras.utils.clear_session()
    return count


def _training(config: RunConfig, number: int, seed: int, checkpoint_path: Path) -> Training:
    import keras

    dataset = data.of_run(config, number, seed)
    keras.utils.set_random_seed(seed)
    with backend.precision(config.training.mixed_precision):
        model = models.load(config.model).build(**config.hyperparameters)
    logits = compile_model(model, config.training)
    fingerprint = f"{config.model_dump_json(exclude_defaults=True)} {dataset.digest} {keras.backend.backend()}"
    made = callbacks.build(config.model, config.training)
    return Training(model, dataset, config.training, seed, checkpoint_path, fingerprint, logits, made)


def _evaluate(training: Training, end: End, folder: Path, keep_model: bool, drawn: Drawn) -> dict[str, float]:
    """Return accuracies and losses of the kept weights; write probabilities, model and, if it finished, figures to `folder`."""
    # The training images tell how much was memorised: of interest where training ran its course.
    parts = {"test": TEST} | ({"train": TRAINING} if end == End.COMPLETED else {})
    if not training.dataset.watched:
        parts["validation"] = VALIDATION
    predicted, measured = {}, {}
    for part, name in parts.items():
        images = getattr(training.dataset, part)
        x, y = (images.x[:TRAINING_IMAGES], images.y[:TRAINING_IMAGES]) if part == "train" else (images.x, images.y)
        predicted[part] = training.probabilities(x)
        measured[f"{name}_accuracy"] = evaluate.accuracy(predicted[part], y)
        measured[f"{name}_loss"] = evaluate.loss(training.model, predicted[part], y)
    folder.mkdir(exist_ok=True)
    predicted.pop("train", None)
    np.savez_compressed(folder / "probabilities.npz", **predicted)  # type: ignore[arg-type]
    if keep_model:
        training.save(folder / MODEL_FILE)
        if training.settings.pixels == "standardized":
            np.savez(folder / "pixels.npz", mean=training.scaling.mean, deviation=training.scaling.deviation)
    if end == End.COMPLETED:
        _draw_results(training, predicted["test"], folder, drawn)
    return measured


def _draw_results(training: Training, predicted: Floats, folder: Path, drawn: Drawn) -> None:
    """Draw what the model gets right and wrong, into `folder`; `predicted`: of the test images."""
    test, classes = training.dataset.test, data.CLASSES[training.dataset.name]
    drawn.draw(folder / "confusion.png", lambda: result.confusion(predicted, test.y, classes))
    drawn.draw(folder / "wrong_images.png", lambda: result.wrong_images(predicted, test.x, test.y, classes))
    drawn.draw(folder / "accuracy_by_class.png", lambda: result.classes_and_calibration(predicted, test.y, classes))
    if classes == data.DIGITS:
        drawn.draw(
            folder / "font_digits.png",
            lambda: fonts.predictions(training.probabilities(fonts.digits())),
        )


def _summary(each: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean over models and, of several, the standard deviation of their accuracies."""
    summary = {name: sum(measured[name] for measured in each) / len(each) for name in each[0]}
    if len(each) > 1:
        accuracies = [name for name in summary if name.endswith("_accuracy")]
        summary |= {f"{name}_sd": float(np.std([m[name] for m in each], ddof=1)) for name in accuracies}
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
