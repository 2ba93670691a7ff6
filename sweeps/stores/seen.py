"""A stored study, to be looked at: read from Optuna's tables without Optuna, which takes longer to load than a table to print.

What is read so, and nowhere written, is named in this file alone, as MLflow's tables are in `pipelines/tracking/database.py`;
`tests/sweeps/stores/test_seen.py` compares both with the libraries' own. A storage that another version of Optuna made is opened
by Optuna, which says what to do.
"""

import functools
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    NullPool,
    Select,
    String,
    Table,
    create_engine,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from pipelines import addresses, paths
from pipelines.errors import StoreUnavailable, UserError, without_passwords
from pipelines.tracking import store as tracking
from sweeps.stores import names, storage
from sweeps.stores.budget import Ledger
from sweeps.stores.described import Described
from sweeps.stores.sessions import seconds_spent
from sweeps.stores.trials import SeenTrial, State

SCHEMA = "v3.2.0.a"  # of Optuna's tables, as `alembic_version` has it

_tables = MetaData()


def _table(name: str, **columns: type[Any]) -> Table:
    return Table(name, _tables, *(Column(column, kind) for column, kind in columns.items()))


VERSION = _table("alembic_version", version_num=String)
STUDIES = _table("studies", study_id=Integer, study_name=String)
STUDY_ATTRIBUTES = _table("study_user_attributes", study_id=Integer, key=String, value_json=String)
TRIALS = _table("trials", trial_id=Integer, number=Integer, study_id=Integer, state=String)
ATTRIBUTES = _table("trial_user_attributes", trial_id=Integer, key=String, value_json=String)
PARAMS = _table("trial_params", trial_id=Integer, param_name=String, param_value=Float, distribution_json=String)
VALUES = _table("trial_values", trial_id=Integer, objective=Integer, value=Float, value_type=String)
REPORTS = _table(
    "trial_intermediate_values",
    trial_id=Integer,
    step=Integer,
    intermediate_value=Float,
    intermediate_value_type=String,
)
NOT_FINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}  # a column's type -> its value


class SeenStudy(Described):
    """A stored study, by the name that it has or had, as it is now. Raises UserError for an unknown one.

    `study_name`: its name in the storage; `attributes`: what is remembered of it.
    """

    def __init__(self, name: str):
        self.asked = name
        if not addresses.is_there(storage.url()):
            raise UserError(
                f"there is no study {name!r} in {without_passwords(storage.url())}: begin with {paths.command('run')}"
            )
        found = _find(name)
        if found is None:
            known = ", ".join(study_names()) or "(none)"
            raise UserError(f"there is no study {name!r} yet: expected one of {known}; sweep run begins one")
        self._id, self.study_name = found
        self._attributes: Mapping[str, Any] = {}
        self.look()

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What is remembered of it, as it was when it was asked for, or `look` was called."""
        return self._attributes

    @property
    def uid(self) -> str:
        """Our own id of it; raises UserError where another program made it."""
        if names.UID not in self.attributes:
            raise UserError(f"stored study {self.study_name!r} was not made by this program")
        return str(self.attributes[names.UID])

    def look(self) -> None:
        """Read again what is remembered of it. Raises UserError where it was deleted meanwhile."""
        own = select(STUDY_ATTRIBUTES).where(STUDY_ATTRIBUTES.c.study_id == self._id)
        with _engine().connect() as connection:
            self._attributes = {row.key: json.loads(row.value_json) for row in connection.execute(own)}
            if not self._attributes and connection.execute(select(STUDIES).where(_is(self._id))).first() is None:
                raise UserError(f"study {self.study_name!r} was deleted from Optuna's storage meanwhile")

    def trials(self) -> list[SeenTrial]:
        """Return all trials, those without a ticket too, in the order of their numbers."""
        with _engine().connect() as connection:
            return _trials(connection, self._id)

    def epochs_spent(self) -> int:
        """Return the number of epochs begun in this study, replayed ones included."""
        return Ledger(_engine(), self.uid, self._id).spent()

    def seconds_spent(self) -> float:
        """Return for how long the study has been running, over all sessions; overlapping ones count once."""
        return seconds_spent(self.attributes)


def study_names() -> list[str]:
    """Return the names of all stored studies."""
    if not addresses.is_there(storage.url()):
        return []
    with _engine().connect() as connection:
        return sorted(connection.scalars(select(STUDIES.c.study_name)))


def owned_by(name: str) -> Iterator[SeenStudy]:
    """Yield the studies that belong to study `name`, by the name that it began with."""
    for study_id, owner in _noted(names.OWNER):
        if owner == name:
            with _engine().connect() as connection:
                called = connection.scalar(select(STUDIES.c.study_name).where(_is(study_id)))
            yield SeenStudy(str(called))


def _find(name: str) -> tuple[int, str] | None:
    """Return id and present name of the study called `name`, or that began so, or whose experiment in MLflow is called so."""
    with _engine().connect() as connection:
        known = {own: study_id for study_id, own in connection.execute(select(STUDIES))}
    if name in known:
        return known[name], name
    began_so = [
        study_id for study_id, kept in _noted(names.STUDY) if isinstance(kept, dict) and kept.get("name") == name
    ]
    if not began_so and tracking.exists():  # renamed in MLflow's UI, perhaps
        with suppress(StoreUnavailable):
            uid = tracking.uid_of(name)
            began_so = [study_id for study_id, own in _noted(names.UID) if own == uid]
    return next(((study_id, own) for own, study_id in known.items() if study_id in began_so), None)


def _noted(key: str) -> list[tuple[int, Any]]:
    """Return what is remembered under a key, by study."""
    kept = select(STUDY_ATTRIBUTES.c.study_id, STUDY_ATTRIBUTES.c.value_json).where(STUDY_ATTRIBUTES.c.key == key)
    with _engine().connect() as connection:
        return [(study_id, json.loads(value)) for study_id, value in connection.execute(kept)]


def _is(study_id: int) -> ColumnElement[bool]:
    return STUDIES.c.study_id == study_id


def _trials(connection: Connection, study_id: int) -> list[SeenTrial]:
    found: dict[int, SeenTrial] = {}
    for trial_id, number, _, state in connection.execute(
        select(TRIALS).where(TRIALS.c.study_id == study_id).order_by(TRIALS.c.number)
    ):
        found[trial_id] = SeenTrial(number, State[state])
    own = select(TRIALS.c.trial_id).where(TRIALS.c.study_id == study_id)

    def rows(table: Table) -> Iterator[Any]:
        of_these: Select[Any] = select(table).where(table.c.trial_id.in_(own))
        return (row for row in connection.execute(of_these) if row.trial_id in found)

    for row in rows(ATTRIBUTES):
        found[row.trial_id].user_attrs[row.key] = json.loads(row.value_json)
    for row in rows(PARAMS):
        found[row.trial_id].params[row.param_name] = _param(row.param_value, row.distribution_json)
    for row in sorted(rows(VALUES), key=lambda row: row.objective):
        found[row.trial_id].values.append(NOT_FINITE.get(row.value_type, row.value))
    for row in rows(REPORTS):
        reported = found[row.trial_id].intermediate_values
        reported[row.step] = NOT_FINITE.get(row.intermediate_value_type, row.intermediate_value)
    return list(found.values())


def _param(value: float, distribution: str) -> Any:
    """Return a hyperparameter as it was given, from the number that Optuna stores."""
    described = json.loads(distribution)
    if described["name"] == "CategoricalDistribution":
        return described["attributes"]["choices"][int(value)]
    return int(value) if described["name"].startswith("Int") else value


def _engine() -> Engine:
    """Return the storage, once it is known that its tables are those named here. Raises StoreUnavailable."""
    address = storage.url()
    try:
        engine = _made(address)
        with engine.connect() as connection:
            current = connection.execute(select(VERSION)).scalar() == SCHEMA
    except (SQLAlchemyError, ImportError, RuntimeError, ValueError):
        current = False
    if not current:
        storage.open_storage(address)  # Optuna says what is wrong, if anything is
        engine = _made(address)
    return engine


@functools.cache
def _made(address: str) -> Engine:
    options = {key: value for key, value in storage.connections(address).items() if not key.startswith(("pool", "max"))}
    return create_engine(address, poolclass=NullPool, **options)  # a file may be another one by the next look
