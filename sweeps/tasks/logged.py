"""A logged run, read back from its id: its configuration, and its trained model with the images it was trained on."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models
from pipelines import datasets, serving
from pipelines.config import RunConfig
from pipelines.datasets.dataset import Dataset
from pipelines.errors import UserError, first_line
from pipelines.images import scaling
from pipelines.tracking import store as tracking
from pipelines.tracking.records import RunFacts
from pipelines.tracking.run import MODEL_FILE


@dataclass(frozen=True)
class Trained:
    """A run's Keras model, as saved, and its images; of a run that trained several models, the first."""

    model: Any
    config: RunConfig
    dataset: Dataset
    scaling: Any


def find(run_id: str) -> RunFacts:
    """Return a trial's MLflow run by its id; raises UserError where there is none, and for one that has not ended."""
    if not tracking.exists() or tracking.lifecycle(run_id) is None:
        raise UserError(
            f"there is no run {run_id!r}: sweep report lists the ids of a study's runs, and the MLflow UI has all"
        )
    run = tracking.get_run(run_id)
    if "trial" not in run.tags:
        raise UserError(f"run {run_id} is a study's parent run, or another program's: expected the run of a trial")
    if run.status in ("RUNNING", "SCHEDULED"):
        raise UserError(f"run {run_id} has not ended yet: wait for it, or resume its study")
    return run


def configuration(run: RunFacts) -> RunConfig:
    """Return what a run trained; raises UserError where its parameters are no training's, or its images other ones here."""
    try:
        if source := tracking.source_of(run.run_id):
            models.adopt(source)
        for source in tracking.functions_of(run.run_id):
            models.adopt(source)
        config = RunConfig.from_params(run.params)
    except (ValueError, TypeError, models.NoModel) as error:
        raise UserError(
            f"the parameters of run {run.run_id} are not those of a training ({first_line(error)})"
        ) from error
    then, now = run.tags.get("dataset_digest"), datasets.under(config.protocol, config.dataset, config.seed).digest
    if then != now:
        raise UserError(
            f"run {run.run_id} was trained on {config.dataset.name} with digest {then}, and here it has {now}: point "
            "MNIST_DIR, or its like, at the same images"
        )
    return config


def load(run: RunFacts) -> Trained:
    """Return the trained model of a run; raises UserError where its file is gone or damaged, and as `configuration` does."""
    config = configuration(run)
    file = f"model_1/{MODEL_FILE}" if len(config.seeds()) > 1 else MODEL_FILE
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = tracking.artifact_folder(run.run_id, file, Path(folder))
            model = serving.load(path, config.model)
        except Exception as error:  # every kind of artifact store, and Keras, raises its own
            raise UserError(
                f"the model of run {run.run_id} is gone, or cannot be read in Keras's safe mode ({first_line(error)}): "
                f"sweep rerun {run.run_id} trains it again"
            ) from error
    dataset = datasets.of_run(config, 0, config.seed)
    return Trained(model, config, dataset, scaling(config.training.pixels, dataset.train.x))
