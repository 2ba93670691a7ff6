"""Where the files of runs lie: MLflow stores absolute places, and `mlruns/` may have been moved, renamed or copied since.

Only the store that lies in `mlruns/` itself is looked after, and only what this project wrote: its files lie beside it.
"""

from typing import Any

from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlExperimentTag, SqlLoggedModel, SqlRun
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import func, literal, select, update

from pipelines import addresses, paths
from pipelines.tracking import store

PLACES: tuple[Any, ...] = (
    SqlExperiment.artifact_location,
    SqlRun.artifact_uri,
    SqlLoggedModel.artifact_location,
    SqlModelVersion.source,
    SqlModelVersion.storage_location,
)
_INSIDE = "/artifacts/"


def here(uri: str) -> str:
    """Return the place of a run's files as it is now; reading it writes nothing."""
    for former in former_roots():
        if uri.startswith(f"{former}/"):
            return _root() + uri[len(former) :]
    return uri


def former_roots() -> list[str]:
    """Return where `mlruns/` was, as URIs, by the experiments of this project's studies; none where it is in its place."""
    database = _database()
    if database is None:
        return []
    own: Any = select(SqlExperiment.artifact_location).join(
        SqlExperimentTag, SqlExperimentTag.experiment_id == SqlExperiment.experiment_id
    )
    with database.ManagedSessionMaker() as session:
        locations = session.scalars(own.where(SqlExperimentTag.key == store.STUDY_UID)).all()
    roots = {location.rpartition(_INSIDE)[0] for location in locations if _INSIDE in location}
    return sorted(root for root in roots if root != _root() and root.startswith("file:"))


def rewrite() -> int:
    """Let every stored place say where the files are now; return how many were rewritten."""
    database, changed = _database(), 0
    for former in former_roots():
        assert database is not None
        with database.ManagedSessionMaker() as session:
            for column in PLACES:
                moved = literal(_root()) + func.substr(column, len(former) + 1)
                table = update(column.class_).where(column.startswith(f"{former}/", autoescape=True))
                changed += session.execute(table.values({column.key: moved})).rowcount
    return changed


def _root() -> str:
    return paths.mlruns().as_uri()


def _database() -> SqlAlchemyStore | None:
    if store.uri() != addresses.sqlite(paths.mlruns() / store.FILE) or not store.exists():
        return None
    return store.opened_database()
