"""One run, from data to artifacts. Who decides which run, and what becomes of it, is not known here."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import models
from pipelines import data, evaluate, figures
from pipelines.config import RunConfig
from pipelines.tracking.run import TrackedRun
from pipelines.train import Control, EpochMetrics, Trained, compile_model, pixels, train


@dataclass(frozen=True)
class Outcome:
    """What became of a run; `val_accuracy` (0 to 1) of the kept epoch, None without one."""

    trained: Trained
    val_accuracy: float | None


def execute(
    config: RunConfig, run: TrackedRun, control: Control, checkpoint_path: Path, targets: Sequence[float]
) -> Outcome:
    """Build, train, evaluate and track one run; leave closing it to the caller.

    `targets`: published test accuracies in percent, for the gaps to them; ignored where the data set is not comparable.
    """
    import keras

    dataset = data.load(config.dataset)
    keras.utils.clear_session()
    keras.utils.set_random_seed(config.seed)
    model = models.load(config.model).build(**config.hyperparameters)
    compile_model(model, config.training)
    fingerprint = f"{config.model_dump_json()} {dataset.digest} {keras.backend.backend()}"
    trained = train(model, dataset, config.training, config.seed, control, checkpoint_path, fingerprint)
    if not trained.end.final or trained.kept_epoch is None:
        return Outcome(trained, None)

    kept = trained.history[trained.kept_epoch]
    # The training images tell how much was memorised: of interest where training ran its course.
    parts = ("train", "validation", "test") if trained.end == "completed" else ("validation", "test")
    summary = _cost(trained.history, len(dataset.train), model, trained.kept_epoch)
    predicted = {}
    for part in parts:
        images = getattr(dataset, part)
        predicted[part] = evaluate.probabilities(model, pixels(images))
        summary[f"final_{part}_accuracy"] = evaluate.accuracy(predicted[part], images.y)
        summary[f"final_{part}_loss"] = evaluate.loss(model, predicted[part], images.y)
    summary["test_accuracy"], summary["test_loss"] = summary.pop("final_test_accuracy"), summary.pop("final_test_loss")
    if dataset.name in data.COMPARABLE:
        summary |= {f"gap_to_{target:.2f}": 100 * summary["test_accuracy"] - target for target in targets}

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures.learning_curves(trained.history, trained.kept_epoch, folder / "learning_curves.png")
        (folder / "config.json").write_text(json.dumps(config.model_dump(), indent=2))
        np.savez_compressed(folder / "probabilities.npz", validation=predicted["validation"], test=predicted["test"])
        model.save(folder / "model.keras")
        run.log_artifacts(folder)
    run.log_summary(summary)
    return Outcome(trained, kept.val_accuracy)


def _cost(history: list[EpochMetrics], images: int, model: Any, kept_epoch: int) -> dict[str, float]:
    seconds = sum(metrics.epoch_seconds for metrics in history)
    return {
        "parameters": model.count_params(),
        "epochs_trained": len(history),
        "kept_epoch": kept_epoch + 1,  # as people count
        "seconds": seconds,
        "samples_per_second": len(history) * images / seconds,
    }
