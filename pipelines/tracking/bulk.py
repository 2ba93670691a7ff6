"""Metrics of many runs logged at once: by three statements where this process has MLflow's database itself.

MLflow's own `log_batch` is for one run, in some ten statements and a transaction of its own.
"""

import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import delete, insert, select, tuple_

from pipelines.tracking import store

LARGEST = sys.float_info.max  # in infinity's place, as MLflow has it


class MetricRow(NamedTuple):
    """One value of one run's metric; `timestamp` in Unix milliseconds."""

    run_id: str
    key: str
    value: float
    timestamp: int
    step: int


def log(rows: Sequence[MetricRow]) -> set[str]:
    """Log new values, each the latest of its metric; return the runs whose values were logged, all in one transaction.

    Left out are runs in MLflow's trash and, where the store is a server, all. Raises TrackingError.
    """
    opened = store.opened_database()
    if opened is None or not rows:
        return set()
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlRun

    values = [_columns(row) for row in sorted(rows, key=lambda row: row.step)]
    latest = {(each["run_uuid"], each["key"]): each for each in values}
    active: Any = select(SqlRun.run_uuid).where(
        SqlRun.run_uuid.in_({row.run_id for row in rows}), SqlRun.lifecycle_stage == "active"
    )
    former = tuple_(SqlLatestMetric.run_uuid, SqlLatestMetric.key).in_(list(latest))
    with opened.ManagedSessionMaker() as session:
        # Writing comes first: SQLite gives up at once where two have read and both want to write.
        session.execute(delete(SqlLatestMetric).where(former, SqlLatestMetric.run_uuid.in_(active)))
        written = set(session.scalars(active))
        for table, lines in ((SqlMetric, values), (SqlLatestMetric, list(latest.values()))):
            own = [line for line in lines if line["run_uuid"] in written]
            if own:
                session.execute(insert(table), own)
    return written


def _columns(row: MetricRow) -> dict[str, Any]:
    nan = math.isnan(row.value)
    value = 0.0 if nan else min(max(row.value, -LARGEST), LARGEST)
    own = {"run_uuid": row.run_id, "key": row.key, "value": value, "is_nan": nan}
    return {**own, "timestamp": row.timestamp, "step": row.step}
