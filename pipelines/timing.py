"""About how long an epoch of a configuration takes here, from a few batches. Nothing is written."""

import dataclasses
import tempfile
from pathlib import Path

import models
from pipelines import data
from pipelines.config import RunConfig
from pipelines.data import Dataset, Images
from pipelines.train import Training, compile_model

BATCHES, ROUNDS = 20, 3  # that are timed, after a round that compiles


def seconds_an_epoch(config: RunConfig) -> float:
    """Time some batches, and as large a share of the validation images; return what all of them would take."""
    import keras

    whole = data.of_run(config, 0, config.seed)
    part = _part(whole, min(len(whole.train), BATCHES * config.training.batch_size))
    model = models.load(config.model).build(**config.hyperparameters)
    logits = compile_model(model, config.training)
    with tempfile.TemporaryDirectory() as folder:
        training = Training(model, part, config.training, config.seed, Path(folder) / "0.npz", "check", logits)
        timed = [training.run_epoch().epoch_seconds for _ in range(1 + ROUNDS)]
    keras.utils.clear_session()
    return min(timed[1:]) * len(whole.train) / len(part.train)


def _part(dataset: Dataset, images: int) -> Dataset:
    validated = max(1, round(len(dataset.validation) * images / len(dataset.train)))
    train, validation = dataset.train, dataset.validation
    return dataclasses.replace(
        dataset,
        train=Images(train.x[:images], train.y[:images]),
        validation=Images(validation.x[:validated], validation.y[:validated]),
    )
