"""What was logged of many runs at once, fast: by a few statements where MLflow's store is a database, else as MLflow gives it.

`search_runs` builds every run with all that it has, a thousand at a time, and takes seconds for thousands. Where this process has
the database itself, the same values are read from MLflow's own tables: those asked for, and no others.
"""

import dataclasses
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlParam, SqlRun, SqlTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import ColumnElement, Integer, Select, and_, case, cast, func, or_, select
from sqlalchemy.orm import Session, aliased

from pipelines.metrics import Direction
from pipelines.tracking import names, store
from pipelines.tracking.records import RunFacts

FINISHED = "FINISHED"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The metrics, beside those that say what a run came to, and the tags to read; of parameters, all are read."""

    metrics: Collection[str]
    tags: Collection[str]


def of_trials(experiment_id: str, wanted: Wanted, study_uid: str | None = None) -> list[RunFacts]:
    """Return the facts of a study's trials, in no order; without `study_uid`, of the experiment's current study."""
    open_here = database()
    if open_here is None:
        return store.study_runs(experiment_id, study_uid) if study_uid else store.trial_runs(experiment_id)
    own = _own(experiment_id, study_uid or store.current_study(experiment_id))
    with open_here.ManagedSessionMaker() as session:
        return _read(session, own, own.with_only_columns(SqlRun.run_uuid), wanted)


def any_trial(experiment_id: str, wanted: Wanted) -> RunFacts | None:
    """Return the facts of any one trial of an experiment's current study; None where none has begun."""
    open_here = database()
    if open_here is None:
        return store.any_trial(experiment_id)
    one = _own(experiment_id, store.current_study(experiment_id)).limit(1)
    with open_here.ManagedSessionMaker() as session:
        ids = [run_id for run_id, _ in session.execute(one)]
        return next(iter(_read(session, _of_these(ids), ids, wanted)), None)


def of_best_trials(experiment_id: str, wanted: Wanted, metric: str, direction: Direction, most: int) -> list[RunFacts]:
    """Return the facts of the `most` best finished trials of an experiment's current study, in no order.

    Best are those with the best `metric`, of the kept epoch; of equal ones those with the lower number; those without it come
    last. A server gives all of them: the choice is the caller's.
    """
    open_here = database()
    if open_here is None:
        return [each for each in of_trials(experiment_id, wanted) if each.status == FINISHED]
    present, curve, former = aliased(SqlLatestMetric), aliased(SqlLatestMetric), aliased(SqlLatestMetric)
    number = aliased(SqlTag)
    # Without a curve of the present name, the metric of this name is the curve of before.
    value: Any = func.coalesce(former.value, case((curve.value.is_not(None), present.value)))
    best = (
        _own(experiment_id, store.current_study(experiment_id))
        .where(SqlRun.status == FINISHED)
        .outerjoin(present, _belongs(present, metric) & ~present.is_nan)
        .outerjoin(curve, _belongs(curve, names.CURVE + metric))
        .outerjoin(former, _belongs(former, names.former(metric)) & ~former.is_nan)
        .join(number, _belongs(number, "trial"))
        .order_by(value.is_(None), value.desc() if direction == "maximize" else value, cast(number.value, Integer))
        .limit(most)
    )
    with open_here.ManagedSessionMaker() as session:
        ids = [run_id for run_id, _ in session.execute(best)]
        return _read(session, _of_these(ids), ids, wanted)


def database() -> SqlAlchemyStore | None:
    """Return the store where it is a database that this process has open, None for a server."""
    found = store.client()._tracking_client.store
    return found if isinstance(found, SqlAlchemyStore) else None


def _own(experiment_id: str, study_uid: str | None) -> Select[Any]:
    """Select run id and status of the active trials of a study."""
    phase, uid = aliased(SqlTag), aliased(SqlTag)
    columns: Any = (SqlRun.run_uuid, SqlRun.status)
    runs = (
        select(*columns)
        .join(phase, _belongs(phase, "phase") & (phase.value != "study"))
        .where(SqlRun.experiment_id == int(experiment_id), SqlRun.lifecycle_stage == "active")
    )
    return runs if study_uid is None else runs.join(uid, _belongs(uid, "study_uid") & (uid.value == study_uid))


def _of_these(ids: Collection[str]) -> Select[Any]:
    """Select run id and status of these runs."""
    columns: Any = (SqlRun.run_uuid, SqlRun.status)
    return select(*columns).where(SqlRun.run_uuid.in_(ids))


def _belongs(facts: Any, key: str) -> ColumnElement[bool]:
    return and_(facts.run_uuid == SqlRun.run_uuid, facts.key == key)


def _read(session: Session, runs: Select[Any], ids: Any, wanted: Wanted) -> list[RunFacts]:
    found = {run_id: RunFacts(run_id, status, {}, {}, {}) for run_id, status in session.execute(runs)}
    texts: list[tuple[Any, str, Collection[str] | None]] = [(SqlParam, "params", None), (SqlTag, "tags", wanted.tags)]
    for table, name, keys in texts:
        rows = session.execute(_facts(table, (table.value,), ids, keys))
        _file(found, name, ((run_id, key, value) for run_id, key, value in rows))
    measured: Any = SqlLatestMetric.key
    numbers = session.execute(
        _facts(SqlLatestMetric, (SqlLatestMetric.value, SqlLatestMetric.is_nan), ids, None).where(
            or_(measured.in_(list(wanted.metrics)), *map(measured.like, names.READ))
        )
    )
    _file(found, "metrics", ((run_id, key, float("nan") if nan else value) for run_id, key, value, nan in numbers))
    return [dataclasses.replace(run, metrics=names.present(run.metrics)) for run in found.values()]


def _facts(table: Any, values: tuple[Any, ...], ids: Any, keys: Collection[str] | None) -> Select[Any]:
    rows = select(table.run_uuid, table.key, *values).where(table.run_uuid.in_(ids))
    return rows if keys is None else rows.where(table.key.in_(list(keys)))


def _file(found: dict[str, RunFacts], name: str, rows: Iterable[tuple[str, str, Any]]) -> None:
    names: dict[str, str] = {}  # each key once, not once a run
    for run_id, key, value in rows:
        if run_id in found:  # else it was begun since
            getattr(found[run_id], name)[names.setdefault(key, key)] = value
