"""A table that can tell strategies apart: 200 configurations, 15 epochs each, validated on 6,000 images.

    python -m benchmarks.strategies.wide      # records what is missing, about three hours on two cores

The configurations are drawn at random from the lean CNN's search space, the recipe first. Each trains on 4,000 MNIST images
(stratified) and is validated on the 6,000 that every study on `mnist` holds out. The 500 validation images of `curves.csv` decide
its target by one image. Recorded with each curve: the processor seconds of its epochs, which other work on the machine changes
less than wall time.
"""

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from sklearn.model_selection import train_test_split

from benchmarks import recording
from benchmarks.strategies import table
from pipelines import backend, datasets
from pipelines.datasets import splits
from sweeps.study import samplers, space

CURVES = recording.RESULTS / "curves-6000.csv"
CONFIGURATIONS, EPOCHS, TRAINING_IMAGES = 200, 15, 4_000


def dataset() -> datasets.Dataset:
    """Return 4,000 of MNIST's training images, and its validation and test images as every study has them."""
    whole = datasets.load("mnist")
    chosen, _ = train_test_split(
        np.arange(len(whole.train)), train_size=TRAINING_IMAGES, stratify=whole.train.y, random_state=splits.SEED
    )
    chosen = np.sort(chosen)
    return dataclasses.replace(whole, train=datasets.Examples(whole.train.x[chosen], whole.train.y[chosen]))


def record() -> None:
    """Train every configuration that the file lacks, and append its curve."""
    import keras

    from pipelines.train import Training, compile_model

    study = table.study(dataset="mnist", sampler="random", pruner="none", start=["recipe"], targets=[])
    images = dataset()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    done = len(recording.read(CURVES))
    for number in range(done, CONFIGURATIONS):
        params: dict[str, Any] = study.start_points[0] if number == 0 else _drawn(study, number)
        config = study.run_config(params, study.seed_of(number))
        keras.utils.clear_session()
        keras.utils.set_random_seed(config.seed)
        from models import load

        model = load(config.model).build(**config.hyperparameters)
        compile_model(model, config.training)
        with tempfile.TemporaryDirectory() as folder:
            training = Training(model, images, config.training, config.seed, Path(folder) / "0.npz", "")
            began = time.process_time()
            accuracies = [training.run_epoch().validation["accuracy"] for _ in range(EPOCHS)]
            seconds = time.process_time() - began
        curve = {f"epoch {epoch}": accuracy for epoch, accuracy in enumerate(accuracies, 1)}
        recording.append(CURVES, {"number": number, **params, **curve, "processor_seconds": round(seconds, 1)})


def _drawn(study: Any, number: int) -> dict[str, Any]:
    trial = optuna.create_study(sampler=samplers.sampler(study, number)).ask()
    return space.suggest(trial, study.search)


if __name__ == "__main__":
    backend.configure("cpu")
    backend.load()
    record()
