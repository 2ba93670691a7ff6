"""MLflow's store where it is a database: its address, and the tables of MLflow's that are read here without MLflow.

Importing MLflow takes two seconds, which a table on the terminal has not to spare. What is read so, and never written, is named
in this file alone; `tests/pipelines/test_facts.py` compares it with MLflow's own.
"""

import functools

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Engine,
    Float,
    Integer,
    MetaData,
    NullPool,
    String,
    Table,
    create_engine,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from pipelines import addresses
from pipelines.tracking.records import ExperimentFacts

VARIABLE, FILE = "MLFLOW_TRACKING_URI", "mlflow.db"
PATIENCE = 20  # seconds to wait for a locked file, as MLflow does

_tables = MetaData()
EXPERIMENTS = Table(
    "experiments",
    _tables,
    Column("experiment_id", Integer),
    Column("name", String),
    Column("lifecycle_stage", String),
    Column("last_update_time", BigInteger),
)
EXPERIMENT_TAGS = Table(
    "experiment_tags", _tables, Column("experiment_id", Integer), Column("key", String), Column("value", String)
)
RUNS = Table(
    "runs",
    _tables,
    Column("run_uuid", String),
    Column("experiment_id", Integer),
    Column("status", String),
    Column("lifecycle_stage", String),
)
TAGS = Table("tags", _tables, Column("run_uuid", String), Column("key", String), Column("value", String))
PARAMS = Table("params", _tables, Column("run_uuid", String), Column("key", String), Column("value", String))
LATEST_METRICS = Table(
    "latest_metrics",
    _tables,
    Column("run_uuid", String),
    Column("key", String),
    Column("value", Float),
    Column("is_nan", Boolean),
)


def uri() -> str:
    """Return MLFLOW_TRACKING_URI, or that of the SQLite file under `mlruns/`."""
    return addresses.of(VARIABLE, FILE)


def shared() -> bool:
    """Whether other machines reach the store too; an SQLite file they do not."""
    return addresses.backend(uri()) != "sqlite"


def exists() -> bool:
    """Whether there is a store to read; reading must not make one."""
    return addresses.is_there(uri())


def engine() -> Engine | None:
    """Return the store's database; None of a server, and where MLflow has to open it: to make it, or to say what is wrong."""
    address = uri()
    if not addresses.backend(address) or not exists():
        return None
    try:
        opened = _engine(address)
        with opened.connect() as connection:
            connection.execute(select(EXPERIMENTS.c.experiment_id).limit(1))
    except (SQLAlchemyError, ImportError, ValueError):
        return None
    return opened


@functools.cache
def _engine(address: str) -> Engine:
    waits = {"connect_args": {"timeout": PATIENCE}} if addresses.backend(address) == "sqlite" else {}
    return create_engine(address, poolclass=NullPool, **waits)  # a file may be another one by the next look


def experiments() -> list[ExperimentFacts] | None:
    """Return every experiment, those in MLflow's trash too, the one changed last first; None where no database can be asked."""
    database = engine()
    if database is None:
        return None
    latest_first = select(EXPERIMENTS).order_by(
        EXPERIMENTS.c.last_update_time.desc(), EXPERIMENTS.c.experiment_id.asc()
    )
    with database.connect() as connection:
        found = {
            row.experiment_id: ExperimentFacts(str(row.experiment_id), row.name, row.lifecycle_stage == "active", {})
            for row in connection.execute(latest_first)
        }
        for row in connection.execute(select(EXPERIMENT_TAGS)):
            if row.experiment_id in found:
                found[row.experiment_id].tags[row.key] = row.value
    return list(found.values())
