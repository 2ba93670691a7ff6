"""Deleting what a study has in MLflow: files for good, runs and experiments into MLflow's trash, as MLflow deletes them."""

from mlflow.entities import ViewType

from pipelines.errors import ArtifactError, first_line
from pipelines.tracking import store
from pipelines.tracking.records import ExperimentFacts, RunFacts


def runs_of(experiment_id: str, study_uid: str, trial: int | None = None) -> list[RunFacts]:
    """Return the runs of a study, its parent run and those in the trash too; or those of one trial."""
    found: list[RunFacts] = []
    token: str | None = None
    own = f"tags.study_uid = '{study_uid}'" + (f" and tags.trial = '{trial}'" if trial is not None else "")
    while True:
        page = store.client().search_runs([experiment_id], own, ViewType.ALL, store.PAGE, page_token=token)
        found.extend(map(RunFacts.of, page))
        token = page.token
        if not token:
            return found


def registered() -> dict[str, str]:
    """Return the runs whose models are versions of registered models, each with the name of one such version."""
    found: dict[str, str] = {}
    token: str | None = None
    while True:
        page = store.client().search_model_versions(max_results=store.PAGE, page_token=token)
        found |= {version.run_id: f"version {version.version} of {version.name}" for version in page if version.run_id}
        token = page.token
        if not token:
            return found


def delete_run(run_id: str) -> None:
    """Delete a run's files, and put it into MLflow's trash. Doing so again changes nothing. Raises ArtifactError."""
    try:
        files = store.artifact_store(run_id)
        for entry in files.list_artifacts():
            files.delete_artifacts(entry.path)  # type: ignore[no-untyped-call]
    except store.TrackingError:
        raise
    except Exception as error:  # every kind of artifact store raises its own
        raise ArtifactError(f"the files of run {run_id} cannot be deleted ({first_line(error)})") from error
    if store.lifecycle(run_id) == "active":
        store.discard_run(run_id)


def release_experiment(experiment: ExperimentFacts, name: str, trash: bool) -> None:
    """Call an experiment `name`, so that its own is free: MLflow's trash keeps a name taken. Then put it into the trash.

    Without `trash` it stays, for the runs in it, and is no study's any more.
    """
    client = store.client()
    if not experiment.active:  # somebody put it into the trash in the UI, and there nothing can be renamed
        if experiment.name == name:
            return
        client.restore_experiment(experiment.experiment_id)
    if experiment.name != name:
        client.rename_experiment(experiment.experiment_id, name)
    if trash:
        client.delete_experiment(experiment.experiment_id)
        return
    for tag in (store.LAST_USED, store.STUDY_UID):  # the second last: by it an interrupted call is resumed
        client.delete_experiment_tag(experiment.experiment_id, tag)
