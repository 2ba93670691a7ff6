"""What people ask of a study from beside it, while it runs or not: stop, enqueue, delete. Each is one transaction."""

import json
import time
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy
from optuna.storages._rdb.models import (
    StudyModel,
    StudyUserAttributeModel,
    TrialIntermediateValueModel,
    TrialModel,
    TrialParamModel,
    TrialUserAttributeModel,
    TrialValueModel,
)
from optuna.trial import TrialState
from sqlalchemy.orm import Session

from sweeps.stores import names


class Requests:
    """One study's, by Optuna's id of it."""

    def __init__(self, engine: sqlalchemy.Engine, study_id: int):
        self._engine, self._study_id = engine, study_id

    def stop(self, now: bool) -> None:
        """Ask every parent that runs the study to end: after the running epochs, or `now`.

        Under a key of its own, so that of two requests none is lost. A parent heeds those that it did not find when it began.
        """
        with Session(self._engine) as session, session.begin():
            asked = {"now": now, "at": str(session.scalar(sqlalchemy.select(sqlalchemy.func.now())))}
            self._remember(names.STOP + uuid.uuid4().hex[:12], asked, session)

    def stop_trial(self, number: int) -> bool:
        """Ask whoever trains trial `number` to end it for good after its epoch; False, and nothing asked, unless it runs."""
        with Session(self._engine) as session, session.begin():
            trial = self._locked(number, session)
            if trial is None or trial.state != TrialState.RUNNING:
                return False
            note(trial, names.STOPPING, True, session)
            return True

    def enqueue(self, params: Mapping[str, Any], first: int, limit: int | None) -> int | None:
        """Give `params` to the lowest trial from number `first` on that waits, was never begun and has no such point yet.

        Returns its number; None where no trial below `limit` is such a one.
        """
        begun = sqlalchemy.exists().where(TrialParamModel.trial_id == TrialModel.trial_id)
        waiting = sqlalchemy.select(TrialModel).where(
            *(TrialModel.study_id == self._study_id, TrialModel.state == TrialState.WAITING),
            *(TrialModel.number >= first, TrialModel._datetime_start_utc.is_(None), ~begun, ~enqueued()),
        )
        if limit is not None:
            waiting = waiting.where(TrialModel.number < limit)
        with Session(self._engine) as session, session.begin():
            # No claim meanwhile: it would pass over the trial that is locked here, and find that none is left.
            session.get(StudyModel, self._study_id, with_for_update=True)
            lowest = waiting.order_by(TrialModel.number).limit(1).with_for_update(skip_locked=True)
            trial = session.scalars(lowest).first()
            if trial is None:
                return None
            note(trial, names.ENQUEUED, dict(params), session)
            return int(trial.number)

    def delete_trial(self, number: int) -> bool:
        """Let a trial that does not run keep nothing but its number, which stays used; False, and nothing done, where it runs."""
        with Session(self._engine) as session, session.begin():
            trial = self._locked(number, session)
            if trial is None or trial.state == TrialState.RUNNING:
                return False
            for table in (TrialParamModel, TrialValueModel, TrialIntermediateValueModel, TrialUserAttributeModel):
                session.execute(sqlalchemy.delete(table).where(table.trial_id == trial.trial_id))
            now = datetime.now()
            trial.state, trial.datetime_start, trial.datetime_complete = (
                TrialState.FAIL,
                trial.datetime_start or now,
                now,
            )
            note(trial, names.ENDED, names.DELETED, session)
            return True

    def retire(self) -> int | None:
        """Let no trial be claimed any more, as the study is being deleted; or return the number of one that runs.

        A claim locks the study's row too, so it is either before this, and seen here, or after it, and sees this.
        """
        with Session(self._engine) as session, session.begin():
            session.get(StudyModel, self._study_id, with_for_update=True)
            running = sqlalchemy.select(TrialModel.number).where(
                TrialModel.study_id == self._study_id, TrialModel.state == TrialState.RUNNING
            )
            held = session.scalar(running.limit(1))
            if held is None:
                self._remember(names.DELETING, True, session)
            return held

    def remember_first(self, key: str, value: Any) -> Any:
        """Remember something of the study, unless somebody has; return what is remembered."""
        with Session(self._engine) as session, session.begin():
            session.get(StudyModel, self._study_id, with_for_update=True)
            known = self._attribute(key, session)
            if known is not None and (before := json.loads(str(known.value_json))) is not None:
                return before
            self._remember(key, value, session)
            return value

    def hold(self, key: str, holder: str, seconds: float) -> bool:
        """Let `holder` hold what `key` stands for, unless somebody else does, and has said so in the last `seconds`."""
        with Session(self._engine) as session, session.begin():
            session.get(StudyModel, self._study_id, with_for_update=True)
            known = self._attribute(key, session)
            other, when = json.loads(str(known.value_json)) if known else ("", 0.0)
            if other != holder and time.time() - when < seconds:
                return False
            self._remember(key, [holder, time.time()], session)
            return True

    def retired(self, session: Session) -> bool:
        """Whether the study is being deleted; it is not, then, before `session` ends."""
        of_study = sqlalchemy.select(StudyModel).where(StudyModel.study_id == self._study_id)
        session.execute(of_study.with_for_update(read=True))
        mark = self._attribute(names.DELETING, session)
        return mark is not None and bool(json.loads(str(mark.value_json)))

    def _locked(self, number: int, session: Session) -> TrialModel | None:
        of_number = sqlalchemy.select(TrialModel).where(
            TrialModel.study_id == self._study_id, TrialModel.number == number
        )
        return session.scalars(of_number.with_for_update()).first()

    def _attribute(self, key: str, session: Session) -> StudyUserAttributeModel | None:
        own = StudyUserAttributeModel.study_id == self._study_id
        return session.scalars(
            sqlalchemy.select(StudyUserAttributeModel).where(own, StudyUserAttributeModel.key == key)
        ).first()

    def _remember(self, key: str, value: Any, session: Session) -> None:
        known = self._attribute(key, session) or StudyUserAttributeModel(study_id=self._study_id, key=key)
        known.value_json = json.dumps(value)
        session.add(known)


def enqueued() -> sqlalchemy.Exists:
    """Return the condition that a trial has a point that somebody enqueued."""
    noted = TrialUserAttributeModel
    return sqlalchemy.exists().where(noted.trial_id == TrialModel.trial_id, noted.key == names.ENQUEUED)


def note(trial: TrialModel, key: str, value: Any, session: Session) -> None:
    """Note something of a trial, within `session`'s transaction."""
    noted = TrialUserAttributeModel.find_by_trial_and_key(trial, key, session)
    noted = noted or TrialUserAttributeModel(trial_id=trial.trial_id, key=key)
    noted.value_json = json.dumps(value)
    session.add(noted)
