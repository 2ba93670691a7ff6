"""Where studies stand: what runs, where, how far it is; read from Optuna's storage alone, and nothing is written."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.console import Console

from pipelines import paths
from pipelines.errors import UserError
from sweeps.running.progress import Display, Snapshot, duration
from sweeps.stores import names, sessions
from sweeps.stores.lease import Lease
from sweeps.stores.seen import SeenStudy, study_names
from sweeps.stores.trials import State, deleted, first_value
from sweeps.study import tickets
from sweeps.study.study import Study

LOOK = 1.0  # seconds between two looks of a watch


@dataclass(frozen=True)
class Status:
    """Where a study stands. `state`: running, stopping, stopped, finished, ended (by its rules), new, deleting, or unreadable.

    `why`: what there is to say of the state. `trials`, `epochs`: used of the budget (None: without limit). `left`: seconds until
    the end of its trials, at the mean pace so far; None where it does not run, or nothing is known yet. `workers`: how many train
    a trial, by the name of their machine.
    """

    study: str
    state: str
    why: str = ""
    trials: tuple[int, int | None] = (0, None)
    epochs: tuple[int, int | None] = (0, None)
    best: str | None = None
    left: float | None = None
    workers: Mapping[str, int] = field(default_factory=dict)


def of_all() -> list[Status]:
    """Return where every stored study stands; of those of other programs, that they cannot be read."""
    found = []
    for name in study_names():
        try:
            found.append(of(name))
        except UserError as error:
            found.append(Status(name, "unreadable", str(error)))
    return found


def of(name: str) -> Status:
    """Return where a study stands. Raises UserError for an unknown one."""
    stored = SeenStudy(name)
    study = stored.as_begun()
    now = snapshot(stored, study)
    state, why = _state(stored, study, now)
    left = None
    if state == "running" and now.done and now.tickets:
        left = stored.seconds_spent() / now.done * (now.tickets - now.done)
    running = [trial for trial in now.trials if trial.state == State.RUNNING]
    leases = [Lease.parse(trial.user_attrs.get(names.LEASE, "")) for trial in running]
    held = {lease.name: lease.worker.machine.partition("/")[0] for lease in leases if lease}
    return Status(
        stored.study_name,
        state,
        why,
        (now.done, now.tickets),
        (now.epochs_spent, study.budget.epochs),
        now.shown(first_value(now.best)) if now.best else None,
        left,
        Counter(held.values()),
    )


def snapshot(stored: SeenStudy, study: Study) -> Snapshot:
    """Return the trials of a study that have tickets, as its parents see them; `study`: as it began."""
    limit = tickets.tickets(study)
    held = [trial for trial in stored.trials() if limit is None or trial.number < limit]
    return Snapshot(held, limit, stored.epochs_spent(), study.objective, searches=bool(study.search))


def watch(name: str, console: Console) -> None:
    """Show a study as `sweep run` does, without training, until nobody runs it any more. Raises UserError for an unknown one."""
    stored = SeenStudy(name)
    study = stored.as_begun()
    with Display(console, study.longest_training) as display:
        while True:
            display.show(snapshot(stored, study))
            if not sessions.live(stored.attributes):
                break
            time.sleep(LOOK)
            stored.look()
    state = of(name)
    console.print(f"study {name}: {state.state}" + (f" ({state.why})" if state.why else ""), soft_wrap=True)


def _state(stored: SeenStudy, study: Study, now: Snapshot) -> tuple[str, str]:
    budget, again = study.budget, paths.command(f"run {stored.name} --stored")
    attributes = stored.attributes
    if attributes.get(names.DELETING):
        return "deleting", f"{paths.command(f'delete {stored.name}')} completes it"
    if began := sessions.live(attributes):
        asked = [value["at"] for key, value in attributes.items() if key.startswith(names.STOP)]
        since = max((_seconds(at) for at in asked), default=0.0)
        return ("stopping", "after the running epochs") if since > max(began) else ("running", "")
    if attributes.get(names.ENDED_BY):
        return "ended", str(attributes[names.ENDED_BY])
    if now.tickets is not None and now.done >= now.tickets:
        return "finished", f"{now.tickets} trials"
    if budget.epochs is not None and now.epochs_spent >= budget.epochs:
        return "finished", f"{budget.epochs} epochs"
    if budget.hours is not None and stored.seconds_spent() >= 3600 * budget.hours:
        return "finished", f"{budget.hours:g} hours"
    begun = any(trial.state != State.WAITING or trial.params for trial in now.trials if not deleted(trial))
    return ("stopped" if begun else "new"), f"{again} {'resumes' if begun else 'begins'} it"


def _seconds(at: str) -> float:
    """Return a time of the database as Unix seconds; one without a zone is in UTC."""
    when = datetime.fromisoformat(at)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def row(status: Status) -> tuple[str, ...]:
    """Return a study's line of the table that `sweep status` prints."""
    share = [f"{used} of {limit}" if limit else str(used) for used, limit in (status.trials, status.epochs)]
    best = status.best or ""
    where = ", ".join(f"{count} on {machine}" for machine, count in sorted(status.workers.items()))
    eta = f"ETA {duration(status.left)}" if status.left is not None else ""
    return status.study, status.state, *share, best, where, status.why or eta


COLUMNS = ("study", "state", "trials", "epochs", "best", "workers", "")
