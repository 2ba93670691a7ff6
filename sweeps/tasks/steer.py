"""What is asked of a study while it runs, from any terminal or machine that reaches its stores: stop, enqueue."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState

from pipelines import paths
from pipelines.config import RunConfig
from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from pipelines.tracking.run import TrackedRun
from sweeps.running.worker import RUN_STATUS
from sweeps.stores import names, record, sessions
from sweeps.stores.record import StoredStudy, owned_by
from sweeps.stores.store import Store
from sweeps.study import point, samplers
from sweeps.tasks import status


@dataclass(frozen=True)
class Enqueued:
    """The number of the trial that has the point, and the command that trains it; None: the study runs, and will."""

    number: int
    params: Mapping[str, Any]
    command: str | None


def stop(name: str, now: bool = False) -> int:
    """Ask every `sweep run` of a study to end, after its running epochs or `now`; return how many there are.

    Raises UserError for a study that nobody runs.
    """
    stored = StoredStudy(name)
    parents = sessions.live(stored.attributes)
    if not parents:
        own = [each.name for each in owned_by(stored.name) if sessions.live(each.attributes)]
        hint = f"; what runs is {', '.join(own)}, which has a name of its own" if own else ""
        raise UserError(f"nobody runs study {name!r}: there is nothing to stop{hint}")
    stored.store.requests.stop(now)
    return len(parents)


def stop_trial(name: str, number: int, now: bool = False) -> None:
    """End a running trial for good: after its epoch, or `now`: without waiting for the epoch, which is lost.

    Raises UserError for a trial that does not run.
    """
    store = Store(name)
    if not now:
        if not store.requests.stop_trial(number):
            raise UserError(_not_running(store, number))
        return
    held = {trial.number: trial for trial, _ in store.running()}
    taken = store.take_lease(held[number]) if number in held else None
    if taken is None:
        raise UserError(_not_running(store, number))
    if not store.finish(taken, TrialState.PRUNED, ended="stopped"):
        raise UserError(_not_running(store, number))  # its worker was told of its end just before
    run_id = str(taken.user_attrs.get(names.RUN_ID, ""))
    if tracking.lifecycle(run_id) == "active":
        run = TrackedRun(run_id)
        run.set_tags({"ended": "stopped"})
        run.discard_checkpoint()
        run.close(RUN_STATUS[TrialState.PRUNED])


def enqueue(name: str, given: Mapping[str, Any], *, trials: int | None = None) -> Enqueued:
    """Let the next trial that begins have the point `given`: some searched values, or all; the sampler chooses the rest.

    Texts are read as YAML. `trials`: a larger budget, whose ticket the point may take. Raises UserError for a point outside the
    search space or its constraints, and where no ticket is left.
    """
    stored = StoredStudy(name)
    store, study = stored.store, stored.as_begun()
    if not study.search:
        raise UserError(f"study {name!r} searches nothing: there is no point to enqueue")
    record.adopt_source(stored.attributes)
    texts = {key: value for key, value in given.items() if isinstance(value, str)}
    params = point.checked(study, {**given, **point.read(study, texts)}, _parameters)
    state = status.of(name)
    again = paths.command(f"run {stored.name} --stored")
    if state.state == "deleting":
        raise UserError(f"study {name!r} is being deleted: {state.why}")
    if state.state == "ended":
        raise UserError(
            f"study {name!r} has ended ({state.why}): change stop in its file, and resume it, before you enqueue"
        )
    if state.state == "finished" and not state.why.endswith("trials"):
        used = state.why.rpartition(" ")[2]
        raise UserError(
            f"study {name!r} has used its budget of {state.why}: resume it with more (--{used}) before you enqueue"
        )
    first, limit = len(samplers.points(study)), samplers.tickets(study)
    if samplers.chosen_sampler(study).name == samplers.GRID:
        raise UserError(f"study {name!r} is a grid: each of its trials has a point of its own already")
    larger = max(limit, trials or 0) if limit is not None else None
    number = store.requests.enqueue(params, first, larger)
    known = len(store.trials())
    while number is None and (larger is None or known < larger):
        store.queue_ahead(larger, known)
        known = len(store.trials())
        number = store.requests.enqueue(params, first, larger)
    if number is None:
        more = max(first, larger or 0) + 1
        raise UserError(
            f"no ticket of study {name!r} is left: each of its {larger} trials has begun, or has a point of its own; "
            f"sweep enqueue {name} --trials {more} … adds one"
        )
    beyond = limit is not None and number >= limit
    runs = state.state == "running" and not beyond
    return Enqueued(number, params, None if runs else again + (f" --trials {number + 1}" if beyond else ""))


def _parameters(config: RunConfig) -> int:
    """Return the number of parameters of a configuration's model, by building it."""
    from pipelines import backend
    from pipelines.execute import count_parameters

    backend.configure("cpu")
    backend.load()
    return count_parameters(config)


def _not_running(store: Store, number: int) -> str:
    trials = {trial.number: trial for trial in store.trials()}
    if number not in trials:
        return f"study {store.study_name!r} has no trial {number}"
    running = ", ".join(str(trial.number) for trial, _ in store.running()) or "none"
    return f"trial {number} does not run (it is {trials[number].state.name.lower()}): running are {running}"
