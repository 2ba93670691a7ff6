"""MLflow's model registry: a registered model for each data set, the best of its versions under the alias `champion`.

A version is a Keras model with its scaling inside: examples as they are kept, as floats -> class probabilities (n, classes). Its
files are artifacts of the run that trained it. `mlflow models serve -m models:/NAME@champion` serves it.
"""

import logging
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

import models
from models import Source
from models.quiet import quiet
from pipelines.errors import UserError, first_line
from pipelines.tracking import places, served, store

CODE = "code"  # folder of a version's files: the source of a user's model
ALIAS = "champion"  # of the version; also the folder of its files in the run's artifacts


@dataclass(frozen=True)
class Version:
    """A version of a registered model, and the run that trained it."""

    name: str
    number: str
    run_id: str
    tags: Mapping[str, str]


def champion(name: str) -> Version | None:
    """Return the champion of the registered model `name`; None where there is none."""
    try:
        return _version(store.client().get_model_version_by_alias(name, ALIAS))
    except MlflowException as error:
        if store.refused(error):
            return None
        raise


def champions() -> list[str]:
    """Return the registered models that have a champion."""
    return [model.name for model in store.client().search_registered_models() if ALIAS in model.aliases]


def find(name: str, run_id: str) -> Version | None:
    """Return the version of `name` that a run's model is; None where there is none."""
    found = list(store.client().search_model_versions(f"name = '{name}' and run_id = '{run_id}'"))
    return _version(found[0]) if found else None


def register(name: str, run_id: str, model: Any, example: Any, source: Source | None) -> Version:
    """Make a version of `name` of a run's model, and return it.

    `example`: an image or more as the model takes them, or a dict of several inputs; with what the model returns for it, it makes
    the signature. `source`: of a user's model; its files go with the version, so that whoever serves it finds its classes.
    """
    client = store.client()
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    with tempfile.TemporaryDirectory() as folder:
        _save(model, example, Path(folder) / ALIAS, source)
        client.log_artifacts(run_id, folder)
    uri = client.get_run(run_id).info.artifact_uri
    return _version(client.create_model_version(name, source=f"{uri}/{ALIAS}", run_id=run_id))


def promote(version: Version, tags: Mapping[str, str]) -> None:
    """Make a version the champion, with what is known of it as tags."""
    for key, value in tags.items():
        store.client().set_model_version_tag(version.name, version.number, key, value)
    store.client().set_registered_model_alias(version.name, ALIAS, version.number)


def load(version: Version, model: str) -> Any:
    """Return a version's Keras model, read in Keras's safe mode; raises UserError where its files are gone or damaged.

    `model`: its name; of a user's, the source is known by it, and the classes of saved layers with it.
    """
    import keras
    import mlflow.artifacts
    import mlflow.keras

    try:
        custom: dict[str, Any] = {}
        source = places.here(store.client().get_model_version_download_uri(version.name, version.number))
        with tempfile.TemporaryDirectory() as folder:
            path = mlflow.artifacts.download_artifacts(source, dst_path=folder, tracking_uri=store.uri())
            with suppress(models.NoModel):  # it may need nothing of its own
                custom = models.custom_objects(model)
            with keras.saving.custom_object_scope(custom):
                return mlflow.keras.load_model(path)
    except Exception as error:  # every kind of artifact store, and Keras, raises its own
        raise UserError(
            f"the files of version {version.number} of registered model {version.name!r} cannot be read ({first_line(error)}): "
            f"give the alias {ALIAS!r} to another version in the MLflow UI, or delete this one and run sweep confirm again"
        ) from error


def _save(model: Any, example: Any, path: Path, source: Source | None) -> None:
    import keras
    import mlflow.keras
    from mlflow.models import Model, infer_signature

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    path.mkdir()  # MLflow writes the example before it makes the folder
    used = ("keras", keras.backend.backend(), "numpy")
    with quiet():  # to save a model Keras loads TensorFlow, whatever its backend
        mlflow.keras.save_model(
            model,
            str(path),
            signature=infer_signature(example, model.predict(example, verbose=0)),
            input_example=example,
            pip_requirements=[f"{library}=={metadata.version(library)}" for library in used],
        )
    if source and source.files:  # MLflow's Keras flavor takes no code, but whatever serves the model heeds it
        source.write(path / CODE)
        (path / CODE / f"{served.NAME}.py").write_bytes(Path(served.__file__).read_bytes())
        described = Model.load(str(path))
        described.flavors["python_function"] |= {"code": CODE, "loader_module": served.NAME}
        described.save(str(path / "MLmodel"))


def _version(found: ModelVersion) -> Version:
    return Version(found.name, str(found.version), str(found.run_id), dict(found.tags))
