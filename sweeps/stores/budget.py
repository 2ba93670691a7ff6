"""The epochs that a study has begun, counted in a table beside Optuna's: one atomic UPDATE before all epochs that begin together.

Of the other two budgets, trials are tickets (`Store.claim`), and hours are what parents have noted (`Store.seconds_spent`),
made a deadline in `running/launch.py`.
"""

import sqlalchemy

_tables = sqlalchemy.MetaData()
_ledger = sqlalchemy.Table(
    "epochs_begun",  # by our own id of a study, which a rename in Optuna's dashboard leaves as it is
    _tables,
    sqlalchemy.Column("uid", sqlalchemy.String(32), primary_key=True),
    sqlalchemy.Column("spent", sqlalchemy.Integer, nullable=False),
)
_former_ledger = sqlalchemy.table("epoch_ledger", sqlalchemy.column("study_id"), sqlalchemy.column("spent"))  # of 0.1.0


class Ledger:
    """One study's line in the table, by our own id of the study."""

    def __init__(self, engine: sqlalchemy.Engine, uid: str, study_id: int):
        self._engine, self._uid, self._study_id = engine, uid, study_id

    def open(self) -> None:
        """Make the line if it is missing, with what one of an earlier version has, by Optuna's id of the study."""
        _tables.create_all(self._engine)
        former = sqlalchemy.select(_former_ledger.c.spent).where(_former_ledger.c.study_id == self._study_id)
        with self._engine.begin() as connection:
            if connection.execute(sqlalchemy.select(_ledger.c.spent).where(_ledger.c.uid == self._uid)).first() is None:
                had = sqlalchemy.inspect(connection).has_table(_former_ledger.name)
                spent = connection.execute(former).scalar() if had else None
                connection.execute(_ledger.insert().values(uid=self._uid, spent=spent or 0))

    def spend(self, wanted: int, limit: int | None) -> int:
        """Count up to `wanted` epochs, atomically; return how many: fewer where `limit` leaves no room for all."""
        while wanted > 0:
            count = _ledger.update().where(_ledger.c.uid == self._uid).values(spent=_ledger.c.spent + wanted)
            if limit is not None:
                count = count.where(_ledger.c.spent + wanted <= limit)
            with self._engine.begin() as connection:
                if connection.execute(count).rowcount == 1:
                    return wanted
            wanted = min(wanted - 1, (limit or 0) - self.spent())
        return 0

    def spent(self) -> int:
        """Return the number of epochs begun in this study, replayed ones included."""
        now = sqlalchemy.select(_ledger.c.spent).where(_ledger.c.uid == self._uid)
        former = sqlalchemy.select(_former_ledger.c.spent).where(_former_ledger.c.study_id == self._study_id)
        with self._engine.begin() as connection:
            for table, spent in ((_ledger.name, now), (_former_ledger.name, former)):
                if sqlalchemy.inspect(connection).has_table(table):
                    found = connection.execute(spent).scalar()
                    if found is not None:
                        return int(found)
        return 0

    def overwrite(self, epochs: int) -> None:
        """Write down how many epochs were begun, for a study that was copied from elsewhere."""
        with self._engine.begin() as connection:
            connection.execute(_ledger.update().where(_ledger.c.uid == self._uid).values(spent=epochs))

    def close(self) -> None:
        """Delete the line, for a study that is deleted."""
        with self._engine.begin() as connection:
            connection.execute(_ledger.delete().where(_ledger.c.uid == self._uid))
