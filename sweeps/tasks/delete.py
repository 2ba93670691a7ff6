"""Deleting a study, or a trial of one, from both stores and the disk. The same call resumes what was interrupted.

Optuna's storage goes last: by it the rest is found. What a registered model is made of stays.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress

from optuna.trial import TrialState

from pipelines import paths
from pipelines.errors import UserError
from pipelines.tracking import deleting
from pipelines.tracking import store as tracking
from sweeps.results import choice
from sweeps.stores import names, sessions
from sweeps.stores.record import StoredStudy, find, owned_by
from sweeps.stores.storage import study_lock
from sweeps.stores.store import deleted


def described(name: str, trial: int | None = None) -> str:
    """Return, in a line, what `study`, or `trial`, would delete. Raises UserError where it would refuse."""
    if trial is not None:
        _checked_trial(name, trial)
        return f"trial {trial} of study {name}: its run, its files and what Optuna knows of it; its number stays used"
    members = _members(StoredStudy(name))
    ended = sum(each.state.is_finished() for member in members for each in member.store.trials())
    others = [member.name for member in members[1:]]
    with_them = f", and {', '.join(others)}" if others else ""
    files = "models and figures, their checkpoints, logs and report"
    return f"study {name}{with_them}: {ended} trials that have ended, their runs, {files}"


def study(name: str) -> list[str]:
    """Delete a study, and what was confirmed of it; return what there is to say of what stays.

    Raises UserError while somebody runs it.
    """
    members = _members(StoredStudy(name))
    with study_lock():  # no parent begins meanwhile
        for count, member in enumerate(members):
            held = member.store.requests.retire()
            if held is not None:
                for other in members[:count]:
                    other.store.remember(names.DELETING, None)
                raise UserError(_held(member, held))
    return [line for member in reversed(members) for line in _delete(member)]


def trial(name: str, number: int) -> None:
    """Delete a trial: its run and files go, and what Optuna knows of it; its number stays, and its ticket is used.

    Raises UserError while somebody runs the study, and for a trial that something else is made of.
    """
    stored = _checked_trial(name, number)
    experiment = stored.experiment() if tracking.exists() else None
    for run in deleting.runs_of(experiment.experiment_id, stored.uid, number) if experiment else ():
        _delete_run(run.run_id, stored)
    if not stored.store.requests.delete_trial(number):
        raise UserError(_held(stored, number))
    for file in paths.checkpoint(stored.name, number).parent.glob(f"{number}.*"):
        file.unlink(missing_ok=True)


def _members(stored: StoredStudy) -> list[StoredStudy]:
    """Return a study and those that belong to it, all at rest."""
    members = [stored, *owned_by(stored.name)]
    for member in members:
        sessions.check_at_rest(member.store)
        for running, _ in member.store.running():
            raise UserError(_held(member, running.number))
    return members


def _checked_trial(name: str, number: int) -> StoredStudy:
    stored = StoredStudy(name)
    if stored.owner:
        raise UserError(
            f"trials of {name!r} are seeds that a verdict counts, and cannot be deleted one by one: delete the study"
        )
    sessions.check_at_rest(stored.store)
    trials = {each.number: each for each in stored.store.trials()}
    if number not in trials:
        raise UserError(f"study {name!r} has no trial {number}: it has {len(trials)}")
    if deleted(trials[number]):
        raise UserError(f"trial {number} of {name!r} was deleted already")
    if trials[number].state == TrialState.RUNNING:
        raise UserError(_held(stored, number))
    for further in (choice.confirmed_trials(stored.name), choice.final_trials(stored.name)):
        if number in further:
            raise UserError(f"trial {number} was trained again as study {further[number]!r}: delete that first")
    run_id = trials[number].user_attrs.get(names.RUN_ID)
    version = deleting.registered().get(run_id) if run_id and tracking.exists() else None
    if version:
        raise UserError(f"trial {number} is {version}, a registered model: delete that version first, in the MLflow UI")
    return stored


def _delete(stored: StoredStudy) -> Iterator[str]:
    if tracking.exists():
        yield from _delete_runs(stored)
    for folder in (paths.checkpoint(stored.name, 0).parent, paths.mlruns() / "logs" / stored.name):
        shutil.rmtree(folder, ignore_errors=True)
    paths.report(stored.name).unlink(missing_ok=True)
    stored.store.delete()


def _delete_runs(stored: StoredStudy) -> Iterator[str]:
    owner = find(stored.owner) if stored.owner else None
    experiment = tracking.find_by_uid((owner or stored).uid)
    if experiment is None:
        return
    versions = deleting.registered()
    for run in deleting.runs_of(experiment.experiment_id, stored.uid):
        if run.run_id in versions:
            yield f"run {run.run_id} stays: it is {versions[run.run_id]}, a registered model"
        else:
            _delete_run(run.run_id, stored)
    if owner is None:
        left = tracking.all_runs(experiment.experiment_id) if experiment.active else []  # models', or another program's
        what = "runs left of" if left else "deleted:"
        deleting.release_experiment(experiment, f"{what} {stored.name} {stored.uid[:8]}", trash=not left)
        with suppress(OSError):  # it holds files of runs that stay
            (paths.mlruns() / "artifacts" / stored.name).rmdir()


def _delete_run(run_id: str, stored: StoredStudy) -> None:
    """Delete a run with its files, and the folder that they were in where that is of this machine."""
    deleting.delete_run(run_id)
    if not tracking.shared():
        shutil.rmtree(paths.mlruns() / "artifacts" / (stored.owner or stored.name) / run_id, ignore_errors=True)


def _held(stored: StoredStudy, number: int) -> str:
    return (
        f"trial {number} of study {stored.name!r} is held by a worker: sweep stop {stored.name}, or, where it was killed, "
        f"sweep doctor {stored.name} --fix gives it back"
    )
