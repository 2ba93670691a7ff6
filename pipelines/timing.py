"""About how long an epoch of a configuration takes here, from a few batches. Nothing is written."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

import models
from pipelines import backend, datasets
from pipelines.config import RunConfig
from pipelines.datasets import Dataset, Examples
from pipelines.train import Training, compile_model

BATCHES, ROUNDS = 20, 3  # that are timed, after a round that compiles


def seconds_an_epoch(config: RunConfig) -> float:
    """Time some batches, and as large a share of the validation images; return what all of them would take."""
    import keras

    whole = datasets.of_run(config, 0, config.seed).for_task(config.task)
    part = _part(whole, min(len(whole.train), BATCHES * config.training.batch_size))
    with backend.precision(config.training.mixed_precision):
        model = models.build(config.model, config.hyperparameters, whole.shape, len(whole.classes))
    logits = compile_model(model, config.training, config.task)
    with tempfile.TemporaryDirectory() as folder:
        training = Training(
            model, part, config.training, config.seed, Path(folder) / "0.npz", "check", logits, config.measured
        )
        timed = [training.run_epoch().epoch_seconds for _ in range(1 + ROUNDS)]
    keras.utils.clear_session()
    return min(timed[1:]) * len(whole.train) / len(part.train)


def _part(dataset: Dataset, examples: int) -> Dataset:
    validated = max(1, round(len(dataset.validation) * examples / len(dataset.train)))
    train, validation = _spread(dataset.train, examples), _spread(dataset.validation, validated)
    return dataclasses.replace(dataset, train=train, validation=validation)


def _spread(examples: Examples, number: int) -> Examples:
    """Return so many of them, evenly spread: they may be in the order of their classes."""
    return examples[np.linspace(0, len(examples) - 1, number).astype(np.int64)]
