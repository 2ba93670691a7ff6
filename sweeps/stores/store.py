"""The door to Optuna's storage: tickets, claims, leases, retries and the count of epochs.

A ticket is a trial number: a budget of N trials is the trials 0 to N-1, queued as WAITING. A lost trial goes back from RUNNING to
WAITING in one transaction and keeps its number, parameters and run. docs/architecture.md has the table of events.
"""

import functools
import json
import os
import shlex
import signal
import time
import uuid
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, get_storage
from optuna.storages._rdb.models import (
    TrialHeartbeatModel,
    TrialIntermediateValueModel,
    TrialModel,
    TrialSystemAttributeModel,
    TrialUserAttributeModel,
)
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.orm import Session

from pipelines import addresses, paths
from pipelines.errors import StoreUnavailable, UserError, without_passwords
from pipelines.metrics import Direction
from pipelines.tracking import store as tracking
from sweeps.stores import names
from sweeps.stores.budget import Ledger
from sweeps.stores.lease import GRACE_PERIOD, HEARTBEAT_INTERVAL, Lease
from sweeps.stores.requests import Requests, enqueued
from sweeps.stores.requests import note as _note
from sweeps.stores.sessions import seconds_spent
from sweeps.stores.snapshot import Snapshot
from sweeps.stores.storage import open_storage, study_names, url
from sweeps.stores.trials import best_first as best_first
from sweeps.stores.trials import curve as curve
from sweeps.stores.trials import deleted as deleted
from sweeps.stores.trials import fingerprint
from sweeps.stores.trials import first_value as first_value
from sweeps.stores.trials import front as front

AHEAD = 10  # trials that wait, at least, while there are any left
TAKEN = "seized:"  # a lease that says: who wrote this sees to the trial, whose worker is gone
MAX_RETRIES = 2


@dataclass(frozen=True)
class Lost:
    """A running trial whose worker is gone; `reason` None: no fault of the trial, so no retry is used up."""

    trial: FrozenTrial
    reason: str | None


class Store:
    """One study in Optuna's storage, by the name that it has or, if it was renamed in a UI, had.

    `study_name`: its name in the storage now; `asked`: the one that it was asked for by.
    """

    def __init__(self, study_name: str, at: str | None = None):
        self.asked = study_name
        if not addresses.is_there(at or url()):
            where = without_passwords(at or url())
            raise UserError(f"there is no study {study_name!r} in {where}: begin with {paths.command('run')}")
        self._rdb = open_storage(at or url())
        self._storage = get_storage(self._rdb)
        self._stale_since: dict[int, float] = {}
        found = _find(self._storage, study_name)
        if found is None:
            known = ", ".join(study_names()) or "(none)"
            raise UserError(f"there is no study {study_name!r} yet: expected one of {known}; sweep run begins one")
        self._study_id, self.study_name = found
        with suppress(UserError):  # known while the study can be asked
            _ = self.uid

    @property
    def note_on_name(self) -> str | None:
        """A line for the user where the study has another name now than the one that it was asked for by."""
        if self.asked == self.study_name:
            return None
        return (
            f"study {self.asked} is called {self.study_name} in Optuna's storage now, and is resumed; to start over, give the "
            "study file a name that no study has had"
        )

    @classmethod
    def create(cls, study_name: str, directions: Sequence[Direction] = ("maximize",), at: str | None = None) -> "Store":
        """Return the study, made if missing; raises UserError when another program made one of that name.

        `at`: the URL of another storage than that of `url`.
        """
        storage = open_storage(at or url())
        known = _find(storage, study_name)
        try:
            study = optuna.create_study(
                storage=storage, study_name=known[1] if known else study_name, directions=list(directions)
            )
        except optuna.exceptions.DuplicatedStudyError as error:
            study = optuna.load_study(storage=storage, study_name=known[1] if known else study_name)
            differs = [direction.name.lower() for direction in study.directions] != list(directions)
            if names.UID not in study.user_attrs and (differs or study.get_trials(deepcopy=False)):
                raise UserError(
                    f"Optuna's storage holds a study {study_name!r} that another program made: "
                    "give this one another name, or set OPTUNA_STORAGE to another database"
                ) from error
        storage.remove_session()
        store = cls(study_name, at)
        if names.UID not in store.attributes():
            store.remember(names.UID, uuid.uuid4().hex)
        store._ledger.open()
        return store

    @functools.cached_property
    def uid(self) -> str:
        """Our own id of the study; raises UserError where another program made it."""
        try:
            return str(self.attributes()[names.UID])
        except KeyError as error:
            raise UserError(f"stored study {self.study_name!r} was not made by this program") from error

    def gone(self) -> str | None:
        """Return a line for the user where the study was deleted, or renamed, since it was opened; None where it is there."""
        try:
            self._storage.get_study_name_from_id(self._study_id)
        except KeyError:
            studies = self._storage.get_all_studies()
            now = next(
                (study.study_name for study in studies if study.user_attrs.get(names.UID) == self.__dict__.get("uid")),
                None,
            )
            if now is None:
                return f"study {self.study_name!r} was deleted from Optuna's storage while it ran"
            again = f"sweep run {shlex.quote(now)} --stored"
            return f"study {self.study_name!r} was renamed to {now!r} while it ran: resume it with {again}"
        return None

    def become(self, uid: str) -> None:
        """Take the id of the study that this one is a copy of."""
        self.remember(names.UID, uid)
        self.__dict__.pop("uid", None)
        self._ledger.open()

    def study(self, **options: Any) -> optuna.Study:
        """Return Optuna's own view of the study."""
        return optuna.load_study(study_name=self.study_name, storage=self._storage, **options)

    def attributes(self) -> dict[str, Any]:
        """Return what is remembered of the study: its definition, its MLflow ids, its sessions."""
        return self._storage.get_study_user_attrs(self._study_id)

    def remember(self, key: str, value: Any) -> None:
        """Remember something of the study."""
        self._storage.set_study_user_attr(self._study_id, key, value)

    def directions(self) -> list[Direction]:
        """Return which way each objective goes."""
        return [
            "maximize" if direction == StudyDirection.MAXIMIZE else "minimize" for direction in self._study_directions
        ]

    @functools.cached_property
    def _study_directions(self) -> list[StudyDirection]:  # they never change
        return self._storage.get_study_directions(self._study_id)

    def trials(self) -> list[FrozenTrial]:
        """Return all trials, those without a ticket too."""
        return self._storage.get_all_trials(self._study_id, deepcopy=False)

    def failed_in_a_row(self, known: Collection[int]) -> list[FrozenTrial]:
        """Return the trials that ended last, as far as all failed for one reason; those in `known` do not count."""
        ended = [trial for trial in self.trials() if trial.state.is_finished() and trial.number not in known]
        row: list[FrozenTrial] = []
        for trial in sorted(ended, key=lambda trial: trial.datetime_complete or datetime.min, reverse=True):
            last = row[0].user_attrs.get(names.FAILURE) if row else trial.user_attrs.get(names.FAILURE)
            if trial.state != TrialState.FAIL or trial.user_attrs.get(names.FAILURE) != last:
                break
            row.append(trial)
        return row

    def retry(self, numbers: Collection[int]) -> list[int]:
        """Let failed trials, all if none is named, wait again under their numbers, in one transaction; return their numbers.

        Their parameters stay; what they reported, their faults and their runs are forgotten. Only while nobody runs the study: a
        living process never reads a finished trial again.
        """
        return self._begin_anew(TrialState.FAIL, numbers)

    def forget_progress(self) -> list[int]:
        """Let trials that wait with epochs behind them begin from their seeds; return their numbers."""
        begun = [trial.number for trial in self.trials() if trial.state == TrialState.WAITING and curve(trial)]
        return self._begin_anew(TrialState.WAITING, begun) if begun else []

    def _begin_anew(self, state: TrialState, numbers: Collection[int]) -> list[int]:
        forgotten = (names.FAULTS, names.ENDED, names.FAILURE, names.RUN_ID, names.LEASE, names.STOPPING)
        of_state = sqlalchemy.select(TrialModel).where(TrialModel.study_id == self._study_id, TrialModel.state == state)
        gone = {trial.number for trial in self.trials() if deleted(trial)}
        with Session(self._rdb.engine) as session, session.begin():
            found = [each for each in session.scalars(of_state) if each.number not in gone]
            trials = [each for each in found if not numbers or each.number in numbers]
            for trial in trials:
                trial.state, trial.datetime_start, trial.datetime_complete = TrialState.WAITING, None, None
                reported, noted = TrialIntermediateValueModel, TrialUserAttributeModel
                session.execute(sqlalchemy.delete(reported).where(reported.trial_id == trial.trial_id))
                own = noted.trial_id == trial.trial_id
                curves = noted.key.startswith(names.CURVE) | noted.key.startswith(names.FORMER_CURVE)
                named = noted.key.in_(forgotten) | curves
                session.execute(sqlalchemy.delete(noted).where(own, named))
            return sorted(int(trial.number) for trial in trials)

    # Requests

    @property
    def requests(self) -> Requests:
        """What people ask of the study from beside it."""
        return Requests(self._rdb.engine, self._study_id)

    def stops(self) -> dict[str, bool]:
        """Return the requests to end that were ever made, by id; whether at once."""
        asked = self.attributes().items()
        return {key: bool(value["now"]) for key, value in asked if key.startswith(names.STOP)}

    def delete(self) -> None:
        """Delete the study with all its trials, and its count of epochs."""
        self._ledger.close()
        self._storage.delete_study(self._study_id)

    # Tickets

    def queue_ahead(self, limit: int | None, claimed: int) -> None:
        """Queue a few more than `claimed`, within the budget of `limit`: Optuna reads all that wait whenever it reads."""
        self.queue(claimed + AHEAD if limit is None else min(limit, claimed + AHEAD))

    def queue(self, tickets: int) -> None:
        """Queue trials until there are `tickets`. Several parents may do so at once: numbers beyond the budget go unclaimed."""
        missing = tickets - len(self.trials())
        self.study().add_trials([create_trial(state=TrialState.WAITING) for _ in range(missing)])

    def claim(self, limit: int | None, lease: Lease) -> FrozenTrial | None:
        """Claim a waiting trial numbered below `limit`; None when all of them have been claimed, or the study is being deleted.

        One that was begun before comes first, then one that somebody enqueued, then the lowest number.
        State, heartbeat and lease are written in one transaction: a running trial is never without.
        """
        while True:
            trial_id = self._claim_waiting(limit, lease)
            if trial_id is not None:
                # From among all: Optuna's cache knows no parameters of a trial that it has not read so.
                return next(trial for trial in self.trials() if trial._trial_id == trial_id)
            known = len(self.trials())
            if (limit is not None and known >= limit) or self.attributes().get(names.DELETING):
                return None
            self.queue_ahead(limit, known)

    def _claim_waiting(self, limit: int | None, lease: Lease) -> int | None:
        waiting = sqlalchemy.select(TrialModel).where(
            TrialModel.study_id == self._study_id, TrialModel.state == TrialState.WAITING
        )
        if limit is not None:
            waiting = waiting.where(TrialModel.number < limit)
        urgency = sqlalchemy.case((TrialModel._datetime_start_utc.is_not(None), 0), (enqueued(), 1), else_=2)
        next_one = waiting.order_by(urgency, TrialModel.number).limit(1).with_for_update(skip_locked=True)
        with Session(self._rdb.engine) as session, session.begin():
            if self.requests.retired(session):
                return None
            trial = session.scalars(next_one).first()
            if trial is None:
                return None
            trial.state, trial.datetime_start = TrialState.RUNNING, datetime.now()
            heartbeat = TrialHeartbeatModel.where_trial_id(int(trial.trial_id), session)
            heartbeat = heartbeat or TrialHeartbeatModel(trial_id=trial.trial_id)
            heartbeat.heartbeat = session.scalar(sqlalchemy.select(sqlalchemy.func.now()))
            session.add(heartbeat)
            _note(trial, names.LEASE, str(lease), session)
            return int(trial.trial_id)

    def ask(
        self,
        claimed: FrozenTrial,
        start: list[dict[str, Any]],
        sampler: optuna.samplers.BaseSampler,
        pruner: optuna.pruners.BasePruner,
    ) -> optuna.Trial:
        """Return the claimed trial as one that suggests parameters and reports values. Start point k belongs to trial k."""
        point = start[claimed.number] if claimed.number < len(start) else claimed.user_attrs.get(names.ENQUEUED)
        if point is not None:
            self._storage.set_trial_system_attr(claimed._trial_id, "fixed_params", point)
        return optuna.Trial(self.study(sampler=sampler, pruner=pruner), claimed._trial_id)

    def beat(self, trial: FrozenTrial) -> None:
        """Record a heartbeat."""
        self._rdb.record_heartbeat(trial._trial_id)

    def held(self, trials: Sequence[FrozenTrial], lease: Lease) -> dict[int, bool]:
        """Return which of the running `trials` are still held under `lease`, by number: whether somebody asked that it end."""
        ids = [trial._trial_id for trial in trials]
        noted = TrialUserAttributeModel
        lasting = sqlalchemy.select(TrialModel.number, noted.key, noted.value_json).where(
            *(noted.trial_id == TrialModel.trial_id, noted.key.in_((names.LEASE, names.STOPPING))),
            *(TrialModel.trial_id.in_(ids), TrialModel.state == TrialState.RUNNING),
        )
        with self._rdb.engine.begin() as connection:
            found = {(number, key): json.loads(value) for number, key, value in connection.execute(lasting)}
        ours = [number for (number, key), value in found.items() if key == names.LEASE and value == str(lease)]
        return {number: (number, names.STOPPING) in found for number in ours}

    def owns(self, trial: FrozenTrial, lease: Lease) -> bool:
        """Whether the trial is still held under `lease`."""
        return trial.number in self.held([trial], lease)

    def reread(self, trial: FrozenTrial) -> FrozenTrial:
        """Return the trial as it is stored now."""
        return self._storage.get_trial(trial._trial_id)

    def note(self, trial: FrozenTrial, key: str, value: Any) -> None:
        """Remember something of a trial."""
        self._storage.set_trial_user_attr(trial._trial_id, key, value)

    def report(self, reports: Iterable[tuple[FrozenTrial, int, float]]) -> None:
        """Report the first objective of trials as (trial, epochs trained, value), in one transaction; see `curve`."""
        alone, reported = len(self.directions()) == 1, TrialIntermediateValueModel
        rows: list[dict[str, Any]] = []
        for trial, step, value in reports:
            if alone:
                stored, kind = reported.intermediate_value_to_stored_repr(value)
                own: dict[str, Any] = {"step": step, "intermediate_value": stored, "intermediate_value_type": kind}
            else:  # Optuna takes no reports then, and its TPE sampler trips over any
                own = {"key": f"{names.CURVE}{step}", "value_json": json.dumps(value)}
            rows.append({"trial_id": trial._trial_id, **own})
        self._put(reported if alone else TrialUserAttributeModel, rows, "step" if alone else "key")

    def to_prune(self, trials: Sequence[FrozenTrial], pruner: optuna.pruners.BasePruner) -> set[int]:
        """Return the numbers of those of the running `trials` that `pruner` stops, by what has been reported until now.

        Each sees what the pruner has noted of those before it; all of that is written in one transaction.
        """
        snapshot = Snapshot(self._storage, self._study_id, self._study_directions)
        study = optuna.Study(self.study_name, snapshot, pruner=pruner)  # type: ignore[arg-type]
        pruned = {trial.number for trial in trials if pruner.prune(study, snapshot.get_trial(trial._trial_id))}
        noted = [
            {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
            for (trial_id, key), value in snapshot.noted.items()
        ]
        self._put(TrialSystemAttributeModel, noted, "key")
        return pruned

    def _put(self, table: Any, rows: Sequence[Mapping[str, Any]], by: str) -> None:
        """Write rows about trials, in one transaction, in place of those of the same trial and the same `by`."""
        if not rows:
            return
        pairs = [(row["trial_id"], row[by]) for row in rows]
        former = sqlalchemy.tuple_(table.trial_id, getattr(table, by)).in_(pairs)
        with Session(self._rdb.engine) as session, session.begin():
            session.execute(sqlalchemy.delete(table).where(former))
            session.execute(sqlalchemy.insert(table), list(rows))

    def finish(
        self, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None = None, *, ended: str
    ) -> bool:
        """Tell a trial's end, for good; `ended` says in a word why. Return False where somebody else has ended it meanwhile."""
        self.note(trial, names.ENDED, ended)
        with warnings.catch_warnings():  # a pruned trial without a value is what we mean
            warnings.simplefilter("ignore", UserWarning)
            told = self.study().tell(trial.number, values=values, state=state, skip_if_finished=True)
        return told.state == state

    def release(self, trial: FrozenTrial, reason: str | None = None) -> bool:
        """Put a running trial back into the queue; with a `reason`, fail it when its retries are used up.

        Returns whether it was queued; False also when somebody else released it first. One transaction: whoever does this may be
        ended in the midst of it, by a thread of its own process too.
        """
        with Session(self._rdb.engine) as session, session.begin():
            now = self._held(trial, session)
            if now is None:
                return False
            faults = trial.user_attrs.get(names.FAULTS, [])
            queued = reason is None or len(faults) < MAX_RETRIES
            noted: dict[str, Any] = {names.LEASE: ""}
            if reason is not None:
                noted |= {names.FAULTS: [*faults, reason], names.FAILURE: reason}
            now.state = TrialState.WAITING
            if not queued:
                now.state, now.datetime_complete = TrialState.FAIL, datetime.now()
                noted[names.ENDED] = f"failed: {reason}"
            for key, value in noted.items():
                _note(now, key, value, session)
        return queued

    def take_lease(self, trial: FrozenTrial) -> FrozenTrial | None:
        """Take the lease of a running trial away, in one transaction, and return it as it then is, for `release`.

        None when the lease is no longer the one that `trial` has: then it is somebody else's to release.
        """
        with Session(self._rdb.engine) as session, session.begin():
            now = self._held(trial, session)
            if now is None:
                return None
            _note(now, names.LEASE, f"{TAKEN}{uuid.uuid4().hex}", session)
        return self.reread(trial)

    def _held(self, trial: FrozenTrial, session: Session) -> TrialModel | None:
        """Return the trial, locked, if it runs under the lease that `trial` has."""
        now = session.get(TrialModel, trial._trial_id, with_for_update=True)
        if now is None or now.state != TrialState.RUNNING:
            return None
        noted = TrialUserAttributeModel.find_by_trial_and_key(now, names.LEASE, session)
        lease = json.loads(str(noted.value_json)) if noted else None
        return now if lease == trial.user_attrs.get(names.LEASE) else None

    def may_retry(self, trial: FrozenTrial) -> bool:
        """Whether a trial survives one more fault."""
        return len(trial.user_attrs.get(names.FAULTS, [])) < MAX_RETRIES

    def running(self) -> list[tuple[FrozenTrial, Lease | None]]:
        """Return the running trials with who holds them (None: somebody seized it, and is about to release it)."""
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False, states=(TrialState.RUNNING,))
        return [(trial, Lease.parse(trial.user_attrs.get(names.LEASE, ""))) for trial in trials]

    def lost(self, worker_exits: Mapping[str, str | None]) -> list[Lost]:
        """Return the running trials whose worker is gone, as far as it is for this parent to release them.

        `worker_exits`: how the workers ended that this parent saw end: name -> reason, None for no fault of their trial.
        A living parent's workers are for that parent alone, so that a fault is counted once and by who saw it.
        """
        stale = self._stale()
        lost = []
        for trial, lease in self.running():
            gone = lease is not None and lease.worker.here and not lease.worker.alive
            if lease is not None and lease.name in worker_exits:
                lost.append(Lost(trial, worker_exits[lease.name]))
            elif lease is not None and gone and not lease.parent.alive:
                lost.append(Lost(trial, None))
            elif trial._trial_id in stale:
                if lease is not None and lease.worker.here and not gone:
                    with suppress(ProcessLookupError):  # it may have ended this moment
                        os.kill(lease.worker.pid, signal.SIGKILL)
                silent = f"its worker gave no heartbeat for {GRACE_PERIOD} s"
                lost.append(Lost(trial, silent if lease and not gone else None))
        return lost

    def _stale(self) -> set[int]:
        """Return the ids of running trials that have been without heartbeat for long, by the clock and by our own watching.

        By our own watching too: a machine that wakes from sleep finds every heartbeat old, and its workers about to beat.
        """
        now = time.monotonic()
        stale = self._without_heartbeat()
        self._stale_since = {trial_id: self._stale_since.get(trial_id, now) for trial_id in stale}
        return {trial_id for trial_id, since in self._stale_since.items() if now - since > HEARTBEAT_INTERVAL}

    def _without_heartbeat(self) -> set[int]:
        """Return the ids of running trials without a heartbeat lately; a rename in Optuna's dashboard leaves them none at all."""
        with self._rdb.engine.begin() as connection:
            clock = connection.execute(sqlalchemy.select(sqlalchemy.func.now())).scalar_one()
            beats = connection.execute(
                sqlalchemy.select(TrialModel.trial_id, TrialHeartbeatModel.heartbeat)
                .outerjoin(TrialHeartbeatModel, TrialHeartbeatModel.trial_id == TrialModel.trial_id)
                .where(TrialModel.study_id == self._study_id, TrialModel.state == TrialState.RUNNING)
            ).all()
        oldest = clock.replace(tzinfo=None) - timedelta(seconds=GRACE_PERIOD)
        return {trial_id for trial_id, beat in beats if beat is None or beat.replace(tzinfo=None) < oldest}

    def importances(self) -> dict[str, float]:
        """Return the share of the first objective's variance that each hyperparameter explains (fANOVA), largest first.

        Empty when nothing can be said. It is computed once for the same trials: what is remembered of it, `sweep best` shows.
        """
        of = fingerprint(self.trials())
        kept = self.attributes().get(names.IMPORTANCES)
        if kept and kept["of"] == of:
            return dict(kept["weights"])
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        try:
            weights = optuna.importance.get_param_importances(self.study(), evaluator=evaluator, target=first_value)
        except RuntimeError:  # every trial has the same value
            weights = {}
        with suppress(
            sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError
        ):  # it may only be read here
            self.remember(names.IMPORTANCES, {"of": of, "weights": weights})
        return weights

    # Budget

    @property
    def _ledger(self) -> Ledger:
        return Ledger(self._rdb.engine, self.uid, self._study_id)

    def spend_epochs(self, wanted: int, limit: int | None) -> int:
        """Count up to `wanted` epochs, atomically; return how many: fewer where `limit` leaves no room for all."""
        return self._ledger.spend(wanted, limit)

    def epochs_spent(self) -> int:
        """Return the number of epochs begun in this study, replayed ones included."""
        return self._ledger.spent()

    def set_epochs_spent(self, epochs: int) -> None:
        """Write down how many epochs were begun, for a study that was copied from elsewhere."""
        self._ledger.overwrite(epochs)

    def note_session(self, session: str, began: float, ended: bool = False) -> None:
        """Remember that this study has been running from `began` (Unix seconds) until now; `ended`: and does no longer."""
        self.remember(names.SESSION + session, [began, time.time(), *(["ended"] if ended else [])])

    def seconds_spent(self) -> float:
        """Return for how long the study has been running, over all sessions; overlapping ones count once."""
        return seconds_spent(self.attributes())


def _first_name(study: FrozenStudy) -> str | None:
    """Return the name that one of our studies began with."""
    definition = study.user_attrs.get(names.STUDY)
    return definition.get("name") if isinstance(definition, dict) else None


def _find(storage: BaseStorage, name: str) -> tuple[int, str] | None:
    """Return id and present name of the study called `name`, or of the one that had this name when it began; None where none is.

    The names that a study has in a UI may change; the name in its definition, by which its files are called, stays. A name that
    only its experiment in MLflow has leads to it too.
    """
    with suppress(KeyError):
        return storage.get_study_id_from_name(name), name
    studies = storage.get_all_studies()
    known = [each for each in studies if _first_name(each) == name]
    if not known and tracking.exists():  # renamed in MLflow's UI, perhaps
        with suppress(tracking.TrackingError, StoreUnavailable):
            uid = tracking.uid_of(name)
            known = [each for each in studies if uid is not None and each.user_attrs.get(names.UID) == uid]
    return (known[0]._study_id, known[0].study_name) if known else None
