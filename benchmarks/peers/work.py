"""The work that every system is given: configurations of the lean CNN, the images, and Keras's `fit`."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import backend, datasets
from pipelines.images import Scaling

SPACE_SEED = 9
TOLD = "told.json"
MODEL_ARGUMENTS = ("filters1", "filters2", "filters3", "filters4", "dropout", "l2")


@dataclass(frozen=True)
class Workload:
    """So many configurations, each trained for so many epochs on a data set."""

    dataset: str
    configurations: int
    epochs: int


WORKLOADS = {"tiny": Workload("mnist-5k", 2, 1), "short": Workload("mnist-5k", 6, 6), "lean": Workload("mnist", 1, 15)}


def workload() -> Workload:
    """Return the workload that this process was given."""
    return WORKLOADS[os.environ["WORKLOAD"]]


def folder() -> Path:
    """Return where this process may write."""
    return Path(os.environ["FOLDER"])


def configurations() -> list[dict[str, Any]]:
    """Return the workload's configurations: points of the search space of the study `lean_cnn`; the first is the recipe."""
    random = np.random.default_rng(SPACE_SEED)
    found: list[dict[str, Any]] = [
        dict(filters1=32, filters2=32, filters3=32, filters4=16, dropout=0.4, l2=1e-3, learning_rate=1e-3)
        | dict(lr_decay=1.0, batch_size=128)
    ]
    while len(found) < workload().configurations:
        widths = {name: 8 * int(random.integers(1, 9)) for name in MODEL_ARGUMENTS[:4]}
        rates = {"dropout": float(random.uniform(0, 0.6)), "lr_decay": float(random.uniform(0.5, 1.0))}
        scales = {"l2": float(10 ** random.uniform(-6, -2)), "learning_rate": float(10 ** random.uniform(-3.5, -2))}
        found.append(widths | rates | scales | {"batch_size": 32 * int(random.integers(1, 9))})
    return found


class Images:
    """The workload's images as floats, held out as every system here holds them out."""

    def __init__(self) -> None:
        backend.configure()
        dataset = datasets.load(workload().dataset)
        scaling = Scaling("by_255", dataset.train.x)
        self.train = scaling(dataset.train.x), dataset.train.y
        self.validation = scaling(dataset.validation.x), dataset.validation.y
        self.test = scaling(dataset.test.x), dataset.test.y


def build(configuration: dict[str, Any]) -> Any:
    """Return the compiled model of a configuration."""
    import keras

    from models import lean_cnn

    keras.utils.set_random_seed(0)
    model = lean_cnn.build(**{name: configuration[name] for name in MODEL_ARGUMENTS})
    optimizer = keras.optimizers.Adam(configuration["learning_rate"])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def fit(model: Any, configuration: dict[str, Any], images: Images, callbacks: Sequence[Any] = ()) -> float:
    """Train as long as the workload says; return the best validation accuracy."""
    history = model.fit(
        *images.train,
        batch_size=configuration["batch_size"],
        epochs=workload().epochs,
        validation_data=images.validation,
        verbose=0,
        callbacks=[learning_rates(configuration), *callbacks],
    )
    return float(max(history.history["val_accuracy"]))


def learning_rates(configuration: dict[str, Any]) -> Any:
    """Return the callback that lets the learning rate decay."""
    import keras

    return keras.callbacks.LearningRateScheduler(
        lambda epoch: configuration["learning_rate"] * configuration["lr_decay"] ** epoch
    )


def tell(ended: float, accuracies: Sequence[float], epochs: int, versions: dict[str, str]) -> None:
    """Say when the work was done (Unix seconds), and what came of it."""
    told = {"ended": ended, "trials": len(accuracies), "epochs": epochs}
    told |= {"best": max(accuracies), "worst": min(accuracies)}
    (folder() / TOLD).write_text(json.dumps(told | {"versions": versions}))
