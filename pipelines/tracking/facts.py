"""What was logged of many runs at once, fast: by a few statements where MLflow's store is a database, else as MLflow gives it.

`search_runs` builds every run with all that it has, a thousand at a time, and takes seconds for thousands. Where this process
reaches the database itself, the same values are read from MLflow's own tables: those asked for, and no others.
"""

import dataclasses
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Select, Table, and_, case, cast, func, or_, select

from pipelines.metrics import Direction
from pipelines.tracking import database, names, store
from pipelines.tracking.database import LATEST_METRICS, PARAMS, RUNS, TAGS
from pipelines.tracking.records import RunFacts

FINISHED = "FINISHED"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The metrics, beside those that say what a run came to, and the tags to read; of parameters, all are read."""

    metrics: Collection[str]
    tags: Collection[str]


def of_trials(experiment_id: str, wanted: Wanted, study_uid: str | None = None) -> list[RunFacts]:
    """Return the facts of a study's trials, in no order; without `study_uid`, of the experiment's current study."""
    engine = database.engine()
    if engine is None:
        return store.study_runs(experiment_id, study_uid) if study_uid else store.trial_runs(experiment_id)
    own = _own(experiment_id, study_uid or store.current_study(experiment_id))
    with engine.connect() as connection:
        return _read(connection, own, own.with_only_columns(RUNS.c.run_uuid), wanted)


def any_trial(experiment_id: str, wanted: Wanted) -> RunFacts | None:
    """Return the facts of any one trial of an experiment's current study; None where none has begun."""
    engine = database.engine()
    if engine is None:
        return store.any_trial(experiment_id)
    one = _own(experiment_id, store.current_study(experiment_id)).limit(1)
    with engine.connect() as connection:
        ids = [run_id for run_id, _ in connection.execute(one)]
        return next(iter(_read(connection, _of_these(ids), ids, wanted)), None)


def of_best_trials(experiment_id: str, wanted: Wanted, metric: str, direction: Direction, most: int) -> list[RunFacts]:
    """Return the facts of the `most` best finished trials of an experiment's current study, in no order.

    Best are those with the best `metric`, of the kept epoch; of equal ones those with the lower number; those without it come
    last. A server gives all of them: the choice is the caller's.
    """
    engine = database.engine()
    if engine is None:
        return [each for each in of_trials(experiment_id, wanted) if each.status == FINISHED]
    present, curve, former = LATEST_METRICS.alias(), LATEST_METRICS.alias(), LATEST_METRICS.alias()
    number = TAGS.alias()
    # Without a curve of the present name, the metric of this name is the curve of before.
    value: Any = func.coalesce(former.c.value, case((curve.c.value.is_not(None), present.c.value)))
    best = (
        _own(experiment_id, store.current_study(experiment_id))
        .where(RUNS.c.status == FINISHED)
        .outerjoin(present, _belongs(present, metric) & ~present.c.is_nan)
        .outerjoin(curve, _belongs(curve, names.CURVE + metric))
        .outerjoin(former, _belongs(former, names.former(metric)) & ~former.c.is_nan)
        .join(number, _belongs(number, "trial"))
        .order_by(value.is_(None), value.desc() if direction == "maximize" else value, cast(number.c.value, Integer))
        .limit(most)
    )
    with engine.connect() as connection:
        ids = [run_id for run_id, _ in connection.execute(best)]
        return _read(connection, _of_these(ids), ids, wanted)


def _own(experiment_id: str, study_uid: str | None) -> Select[Any]:
    """Select run id and status of the active trials of a study."""
    phase, uid = TAGS.alias(), TAGS.alias()
    columns: Any = (RUNS.c.run_uuid, RUNS.c.status)
    runs = (
        select(*columns)
        .join(phase, _belongs(phase, "phase") & (phase.c.value != "study"))
        .where(RUNS.c.experiment_id == int(experiment_id), RUNS.c.lifecycle_stage == "active")
    )
    return runs if study_uid is None else runs.join(uid, _belongs(uid, "study_uid") & (uid.c.value == study_uid))


def _of_these(ids: Collection[str]) -> Select[Any]:
    """Select run id and status of these runs."""
    columns: Any = (RUNS.c.run_uuid, RUNS.c.status)
    return select(*columns).where(RUNS.c.run_uuid.in_(ids))


def _belongs(facts: Any, key: str) -> ColumnElement[bool]:
    return and_(facts.c.run_uuid == RUNS.c.run_uuid, facts.c.key == key)


def _read(connection: Connection, runs: Select[Any], ids: Any, wanted: Wanted) -> list[RunFacts]:
    found = {run_id: RunFacts(run_id, status, {}, {}, {}) for run_id, status in connection.execute(runs)}
    texts: list[tuple[Table, str, Collection[str] | None]] = [(PARAMS, "params", None), (TAGS, "tags", wanted.tags)]
    for table, name, keys in texts:
        rows = connection.execute(_facts(table, ids, keys))
        _file(found, name, ((run_id, key, value) for run_id, key, value in rows))
    measured = LATEST_METRICS.c.key
    numbers = connection.execute(
        _facts(LATEST_METRICS, ids, None).where(
            or_(measured.in_(list(wanted.metrics)), *map(measured.like, names.READ))
        )
    )
    _file(found, "metrics", ((run_id, key, float("nan") if nan else value) for run_id, key, value, nan in numbers))
    return [dataclasses.replace(run, metrics=names.present(run.metrics)) for run in found.values()]


def _facts(table: Table, ids: Any, keys: Collection[str] | None) -> Select[Any]:
    rows = select(table).where(table.c.run_uuid.in_(ids))
    return rows if keys is None else rows.where(table.c.key.in_(list(keys)))


def _file(found: dict[str, RunFacts], name: str, rows: Iterable[tuple[str, str, Any]]) -> None:
    names: dict[str, str] = {}  # each key once, not once a run
    for run_id, key, value in rows:
        if run_id in found:  # else it was begun since
            getattr(found[run_id], name)[names.setdefault(key, key)] = value
