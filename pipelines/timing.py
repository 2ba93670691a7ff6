"""About how long an epoch of a configuration takes here, from a few batches. Nothing is written."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

import models
from pipelines import datasets
from pipelines.config import RunConfig
from pipelines.datasets import Dataset
from pipelines.train import Training, compile_model

BATCHES, ROUNDS = 20, 3  # that are timed, after a round that compiles


def seconds_an_epoch(config: RunConfig) -> float:
    """Time some batches, and as large a share of the validation images; return what all of them would take."""
    import keras

    whole = datasets.of_run(config, 0, config.seed).for_task(config.task)
    part = _part(whole, min(len(whole.train), BATCHES * config.training.batch_size))
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
    train, validation = dataset.train[np.arange(examples)], dataset.validation[np.arange(validated)]
    return dataclasses.replace(dataset, train=train, validation=validation)
