"""MLflow's store: one experiment a study, one parent run an experiment. No fluent global state."""

import functools
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy.exc import SQLAlchemyError

from models import Source
from pipelines import addresses, paths
from pipelines.errors import StoreUnavailable, UserError, first_line
from pipelines.tracking import database, names
from pipelines.tracking.database import FILE as FILE
from pipelines.tracking.database import VARIABLE as VARIABLE
from pipelines.tracking.database import exists as exists
from pipelines.tracking.database import shared as shared
from pipelines.tracking.database import uri as uri
from pipelines.tracking.records import ExperimentFacts, RunFacts

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.artifact.artifact_repo import ArtifactRepository
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}
STUDY_UID, LAST_USED, PHASE = "sweeps.study_uid", "sweeps.last_used", "sweeps.phase"  # tags of an experiment
DESCRIPTION = names.NOTE  # tag of a run, which the UI shows as its description
Phase = Literal["sweep", "baseline", "confirm", "final", "rerun"]  # what runs are for
OF_TRIALS = "tags.phase != 'study'"  # filter of runs: all but the parents
PAGE = 1_000  # runs or experiments a request
SOURCE_FOLDER, SOURCE_FILE = "source", "source.json"  # artifacts of a run of a user's model
FUNCTIONS_FOLDER = "functions"  # and of their functions, a folder each
RETRIES = "2"  # of a request to a server, a matter of seconds; MLflow's own seven hold training up for minutes


def __getattr__(name: str) -> Any:
    """Give `TrackingError`: what every call of the store may raise, when it is away, locked, or refuses. It loads MLflow."""
    if name == "TrackingError":
        from mlflow.exceptions import MlflowException

        return MlflowException
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def client() -> "MlflowClient":
    """Return a client of the store; made and migrated on first use."""
    return client_of(uri())


@functools.cache
def client_of(uri: str) -> "MlflowClient":
    """Return a client of the store at `uri`; raises StoreUnavailable."""
    from alembic.util.exc import CommandError
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.store.db import utils as databases

    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs pages of what it also raises
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", RETRIES)
    databases.MAX_RETRY_COUNT = int(RETRIES)  # of its own ten, the last takes minutes
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # of every run that ends, with the password in it
    try:
        opened = MlflowClient(tracking_uri=uri, registry_uri=uri)  # whatever another project's variables say
        opened.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, CommandError, ImportError, OSError, ValueError) as error:
        reason = first_line(error)
        raise StoreUnavailable(
            f"MLflow's store cannot be opened ({reason}): {addresses.advice(VARIABLE, uri)}"
        ) from error
    return opened


def opened_database() -> "SqlAlchemyStore | None":
    """Return MLflow's own store where it is a database that this process has open, None for a server."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    found = client()._tracking_client.store
    return found if isinstance(found, SqlAlchemyStore) else None


def preload() -> None:
    """Load what opening a store loads, but open none: an open one does not survive a fork."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def is_tracking_error(error: BaseException) -> bool:
    """Whether MLflow raised an error: only where it is loaded can it have."""
    if "mlflow" not in sys.modules:
        return False
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException)


def refused(error: BaseException) -> bool:
    """Whether the store answers, and says no: the run is in the trash, say. Asking again gives the same."""
    return is_tracking_error(error) and getattr(error, "error_code", None) in REFUSALS


def all_experiments() -> list[ExperimentFacts]:
    """Return every active experiment."""
    known = database.experiments()
    if known is not None:
        return [each for each in known if each.active]
    from mlflow.entities import ViewType

    experiments: list[ExperimentFacts] = []
    token: str | None = None
    while True:
        page = client().search_experiments(ViewType.ACTIVE_ONLY, max_results=PAGE, page_token=token)
        experiments.extend(map(ExperimentFacts.of, page))
        token = page.token
        if not token:
            return experiments


def open_experiment(name: str, study_uid: str | None = None) -> ExperimentFacts:
    """Return the experiment of a study, made and called `name` if missing; a local store has artifacts in `mlruns/artifacts`."""
    experiment = find_experiment(name, study_uid)
    if experiment is None:
        folder = None if shared() else (paths.mlruns() / "artifacts" / name).as_uri()
        made = client().create_experiment(name, artifact_location=folder)
        experiment = ExperimentFacts.of(client().get_experiment(made))
    return experiment


def find_experiment(name: str, study_uid: str | None = None) -> ExperimentFacts | None:
    """Return the experiment of a study, whatever it is called now, else the one called `name`; None where there is none.

    Raises UserError for one in MLflow's trash.
    """
    experiment = (find_by_uid(study_uid) if study_uid else None) or _called(name)
    if experiment is not None and not experiment.active:
        raise UserError(
            f"MLflow's experiment {experiment.name!r} is in the trash: sweep doctor {name} --fix takes it out, or give the study "
            "another name"
        )
    return experiment


def find_by_uid(study_uid: str) -> ExperimentFacts | None:
    """Return the experiment of the study with our id `study_uid`, one in the trash too; None where there is none."""
    known = database.experiments()
    if known is None:
        from mlflow.entities import ViewType

        found = client().search_experiments(ViewType.ALL, filter_string=f"tags.`{STUDY_UID}` = '{study_uid}'")
        known = [*map(ExperimentFacts.of, found)]
    return next((each for each in known if each.tags.get(STUDY_UID) == study_uid), None)


def uid_of(name: str) -> str | None:
    """Return our id of the study whose experiment is called `name` now; None where there is none."""
    experiment = _called(name)
    return experiment.tags.get(STUDY_UID) if experiment else None


def _called(name: str) -> ExperimentFacts | None:
    """Return the experiment called `name` now, one in the trash too; None where there is none."""
    known = database.experiments()
    if known is not None:
        return next((each for each in known if each.name == name), None)
    found = client().get_experiment_by_name(name)
    return ExperimentFacts.of(found) if found else None


def restore_experiment(experiment_id: str) -> None:
    """Take an experiment out of MLflow's trash."""
    client().restore_experiment(experiment_id)


def open_parent(
    experiment: ExperimentFacts, study_uid: str, phase: Phase, tags: dict[str, str], within: str | None = None
) -> str:
    """Return the id of the one parent run of a study, made if missing, and mark the study as the experiment's current one.

    `study_uid` tells the study from an earlier one of the same name whose trials are gone. `within`: the parent run of the study
    that this one belongs to, which stays the experiment's current one.
    """
    if within is None:
        client().set_experiment_tag(experiment.experiment_id, STUDY_UID, study_uid)
        client().set_experiment_tag(experiment.experiment_id, PHASE, phase)
    client().set_experiment_tag(experiment.experiment_id, LAST_USED, f"{time.time():.0f}")
    found = parent_runs(experiment.experiment_id, study_uid)
    if found:
        client().update_run(found[0].run_id, status="RUNNING")
        return found[0].run_id
    run = client().create_run(
        experiment.experiment_id,
        tags={
            names.RUN_NAME: tags.get("study", experiment.name),
            "phase": "study",
            "study_uid": study_uid,
            **({names.PARENT_RUN: within} if within else {}),
            **tags,
        },
    )
    return str(run.info.run_id)


def all_runs(experiment_id: str, condition: str = "") -> list[RunFacts]:
    """Return every active run of an experiment that meets an MLflow filter, however many there are."""
    from mlflow.entities import ViewType

    runs: list[RunFacts] = []
    token: str | None = None
    while True:
        page = client().search_runs([experiment_id], condition, ViewType.ACTIVE_ONLY, PAGE, page_token=token)
        runs.extend(map(RunFacts.of, page))
        token = page.token
        if not token:
            return runs


def current_study(experiment_id: str) -> str | None:
    """Return the uid of the study that an experiment is now of; None where another program made it."""
    known = database.experiments()
    own = [each for each in known or () if each.experiment_id == experiment_id]
    tags: Mapping[str, str] = own[0].tags if own else client().get_experiment(experiment_id).tags
    return tags.get(STUDY_UID) or None


def trial_runs(experiment_id: str) -> list[RunFacts]:
    """Return the runs of the trials of an experiment's current study."""
    uid = current_study(experiment_id)
    return study_runs(experiment_id, uid) if uid else all_runs(experiment_id, OF_TRIALS)


def any_trial(experiment_id: str) -> RunFacts | None:
    """Return any one trial's run of an experiment's current study; one is asked for, however many there are. None of none."""
    uid = current_study(experiment_id)
    own = _of_study(uid) if uid else OF_TRIALS  # active ones, as MLflow takes it where nothing is said
    return next(map(RunFacts.of, client().search_runs([experiment_id], own, max_results=1)), None)


def parent_runs(experiment_id: str, study_uid: str) -> list[RunFacts]:
    """Return the parent runs of a study, the oldest first; there should be one."""
    found = all_runs(experiment_id, f"tags.phase = 'study' and tags.study_uid = '{study_uid}'")
    return sorted(found, key=lambda run: run.start_time)


def study_runs(experiment_id: str, study_uid: str, condition: str = "") -> list[RunFacts]:
    """Return the runs of a study's trials that meet an MLflow filter, whatever their phase, the oldest first."""
    own = _of_study(study_uid) + (f" and {condition}" if condition else "")
    return sorted(all_runs(experiment_id, own), key=lambda run: run.start_time)


def _of_study(study_uid: str) -> str:
    return f"{OF_TRIALS} and tags.study_uid = '{study_uid}'"


def get_run(run_id: str) -> RunFacts:
    """Return a run, one in the trash too. Raises TrackingError where there is none."""
    return RunFacts.of(client().get_run(run_id))


def set_tags(run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run, one by one."""
    for key, value in tags.items():
        client().set_tag(run_id, key, value)


def delete_tag(run_id: str, key: str) -> None:
    """Delete a tag of a run, if it has it."""
    from mlflow.exceptions import MlflowException

    try:
        client().delete_tag(run_id, key)
    except MlflowException as error:
        if not refused(error):
            raise


def lifecycle(run_id: str) -> str | None:
    """Return "active" or "deleted" (in MLflow's trash, until `mlflow gc`); None for a run that there is not."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client().get_run(run_id).info.lifecycle_stage)
    except MlflowException as error:
        if refused(error):  # there is none, or the text is no run's id
            return None
        raise


def discard_run(run_id: str) -> None:
    """Put a run into MLflow's trash."""
    client().delete_run(run_id)


def restore_run(run_id: str) -> None:
    """Take a run out of MLflow's trash."""
    client().restore_run(run_id)


def history(run_id: str, metric: str) -> dict[int, float]:
    """Return the values of a metric by step, in the order of the steps; of a step logged twice, the later value.

    `metric`: its present name, of a run under the names of before too.
    """
    found = client().get_metric_history(run_id, metric) or (
        client().get_metric_history(run_id, names.former(metric)) if names.former(metric) != metric else []
    )
    points = sorted(found, key=lambda point: (point.step, point.timestamp))
    return {point.step: point.value for point in points}


def artifacts(run_id: str) -> set[str]:
    """Return the paths of a run's artifacts: files, and files in its folders."""
    found = artifact_store(run_id)
    top = found.list_artifacts()
    inside = [entry for folder in top if folder.is_dir for entry in found.list_artifacts(folder.path)]
    return {entry.path for entry in [*top, *inside] if not entry.is_dir}


def artifact_folder(run_id: str, path: str, into: Path) -> Path:
    """Download one artifact of a run; return where it lies."""
    into.mkdir(parents=True, exist_ok=True)
    return Path(artifact_store(run_id).download_artifacts(path, str(into)))  # type: ignore[no-untyped-call]


def delete_artifacts(run_id: str, path: str) -> None:
    """Delete a file of a run, or a folder of them; a store that does not let itself be deleted from keeps it."""
    try:
        artifact_store(run_id).delete_artifacts(path)  # type: ignore[no-untyped-call]
    except Exception as error:  # every kind of artifact store raises its own
        print(f"{path} of run {run_id} could not be deleted ({first_line(error)})")


def artifact_store(run_id: str) -> "ArtifactRepository":
    """Return what holds a run's files, where they lie now: it lists, downloads, and deletes, which MLflow's client cannot."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    from pipelines.tracking import places

    return get_artifact_repository(places.here(client().get_run(run_id).info.artifact_uri), tracking_uri=uri())


def functions_of(run_id: str) -> list[Source]:
    """Return the sources of the user's functions, such as losses, that a run trained with."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for each in artifact_store(run_id).list_artifacts(FUNCTIONS_FOLDER):
            file = artifact_folder(run_id, f"{each.path}/{SOURCE_FILE}", Path(folder))
            found.append(Source(**json.loads(file.read_text())))
    return found


def source_of(run_id: str) -> Source | None:
    """Return the source of the user's model that a run trained; None where it has none: the model is a shipped one."""
    if not artifact_store(run_id).list_artifacts(SOURCE_FOLDER):
        return None
    with tempfile.TemporaryDirectory() as folder:
        return Source(**json.loads(artifact_folder(run_id, f"{SOURCE_FOLDER}/{SOURCE_FILE}", Path(folder)).read_text()))
