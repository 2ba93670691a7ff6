"""Optuna's storage: where it is, how it is opened, which errors say that it is away, and the lock of whoever makes a study."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy
from filelock import FileLock

from pipelines import addresses, paths
from pipelines.errors import (
    ArtifactError,
    ErrorKind,
    StoreUnavailable,
    UserError,
    first_line,
    lasts,
    of_the_machine,
    root_cause,
    without_passwords,
)
from pipelines.tracking.store import is_tracking_error, refused
from sweeps.stores.lease import GRACE_PERIOD, HEARTBEAT_INTERVAL

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

VARIABLE, FILE = "OPTUNA_STORAGE", "optuna.db"
SQLITE_PATIENCE = 60  # seconds to wait for a locked database
SCHEMA_LOCK, STUDY_LOCK = 7_110_501, 7_110_502  # PostgreSQL's advisory locks are numbers
_STORE_ERRORS = (ArtifactError, sqlalchemy.exc.SQLAlchemyError, StoreUnavailable)


def url() -> str:
    """Return OPTUNA_STORAGE, or the URL of the SQLite file under `mlruns/`."""
    return addresses.of(VARIABLE, FILE)


def kind_of(error: BaseException) -> ErrorKind:
    """Return whose an error is."""
    if isinstance(error, _STORE_ERRORS) or is_tracking_error(error) or _is_optunas(error):
        return ErrorKind.LASTING if lasts(error) else ErrorKind.REFUSED if refused(error) else ErrorKind.AWAY
    if isinstance(error, UserError):
        return ErrorKind.MISTAKE
    return ErrorKind.WANT if of_the_machine(error) else ErrorKind.FAULT


def _is_optunas(error: BaseException) -> bool:
    """Whether Optuna's storage raised an error: only where it is loaded can it have."""
    if "optuna" not in sys.modules:
        return False
    from optuna.exceptions import StorageInternalError

    return isinstance(error, StorageInternalError)


def store_error_line(error: BaseException) -> str | None:
    """Return what to tell the user of a store's error; None of any other."""
    return {
        ErrorKind.LASTING: f"a store cannot be used ({first_line(root_cause(error))})",
        ErrorKind.REFUSED: f"MLflow refuses ({first_line(error)}): sweep doctor --fix may put it right",
        ErrorKind.AWAY: f"a store does not answer ({first_line(root_cause(error))}): try again when it does",
    }.get(kind_of(error))


def study_names() -> list[str]:
    """Return the names of all stored studies."""
    if not addresses.is_there(url()):
        return []
    from optuna.study import get_all_study_names

    return sorted(get_all_study_names(open_storage(url())))


@contextmanager
def study_lock() -> Iterator[None]:
    """Keep other parents out meanwhile, those on other machines too: two that begin at once make one study."""
    if addresses.backend(url()) == "sqlite":
        with FileLock(paths.mlruns() / ".lock"):
            yield
    else:
        with _locked(url(), STUDY_LOCK):
            yield


@contextmanager
def _locked(url: str, lock: int) -> Iterator[None]:
    """Hold one of PostgreSQL's advisory locks, which a connection that ends gives up; nothing on other databases."""
    if addresses.backend(url) != "postgresql":
        yield
        return
    with _opening(url):
        engine = sqlalchemy.create_engine(url, **connections(url))
        connection = engine.connect()
        connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(lock)))
    try:
        yield
    finally:
        connection.close()
        engine.dispose()


@contextmanager
def _opening(url: str) -> Iterator[None]:
    """Say in one line what an address is to which no connection can be made; raises StoreUnavailable."""
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except (
        sqlalchemy.exc.SQLAlchemyError,
        StorageInternalError,
        ImportError,
        RuntimeError,
        ValueError,  # a port that is none
    ) as error:
        missing = isinstance(error, ImportError)
        mend = 'python -m pip install "keras-sweeps[cluster]"' if missing else addresses.advice(VARIABLE, url)
        raise StoreUnavailable(
            f"Optuna's storage {without_passwords(url)} cannot be opened ({first_line(error)}): {mend}"
        ) from error


def connections(url: str) -> dict[str, Any]:
    """Return how SQLAlchemy is to connect: a worker keeps one connection open and has three at most, none of them dead."""
    if addresses.backend(url) == "sqlite":
        return {"connect_args": {"timeout": SQLITE_PATIENCE}}
    options: dict[str, Any] = {"pool_size": 1, "max_overflow": 2, "pool_pre_ping": True}
    if addresses.backend(url) == "postgresql":  # a network that swallows everything is noticed within a minute
        keepalives = {
            "keepalives_idle": 20,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
        }
        options["connect_args"] = {"connect_timeout": 10, "application_name": "sweep", **keepalives}
    return options


_opened: "dict[object, RDBStorage]" = {}


def open_storage(url: str) -> "RDBStorage":
    """Return the storage at `url`: one for all in this process, so that there is one pool of connections."""
    if _key(url) not in _opened:
        made = _opened_anew(url)
        _opened[_key(url)] = made  # the key is another one now, where that made the file
    return _opened[_key(url)]


def _key(url: str) -> object:
    file = addresses.file_of(url)
    place = file.stat() if file and file.exists() else None
    return url, place and (place.st_dev, place.st_ino)  # another file in its place is another storage


def _opened_anew(url: str) -> "RDBStorage":
    import optuna
    from optuna.storages import RDBStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    with _locked(url, SCHEMA_LOCK), _opening(url):  # whoever comes first makes the tables
        storage = RDBStorage(
            url, engine_kwargs=connections(url), heartbeat_interval=HEARTBEAT_INTERVAL, grace_period=GRACE_PERIOD
        )
    if addresses.backend(url) == "sqlite":
        _make_transactions_exclusive(storage)
    return storage


def _make_transactions_exclusive(storage: "RDBStorage") -> None:
    """Make reading a trial's state and writing it one transaction on SQLite, where Optuna's FOR UPDATE does nothing."""

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def leave_transactions_to_us(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @sqlalchemy.event.listens_for(storage.engine, "begin")
    def begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    storage.remove_session()
    storage.engine.dispose()
