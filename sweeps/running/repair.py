"""What a running study repairs of itself, and the doctor too: lost trials, runs left open, checkpoints left behind.

A lost trial is requeued by `Store.release`, at most `MAX_RETRIES` times for faults of its own (`stores/store.py`).
"""

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from pipelines import paths
from pipelines.tracking import store as tracking
from pipelines.tracking.records import RunFacts
from pipelines.tracking.run import TrackedRun, remove_models
from sweeps.running.worker import RUN_STATUS
from sweeps.stores import names, sessions
from sweeps.stores.storage import study_names
from sweeps.stores.store import Lost, Store
from sweeps.stores.trials import StoredTrial, best_first, curve, front
from sweeps.study.study import Study


@dataclass(frozen=True)
class Problem:
    """Something wrong: `what` it is, and what `fix` would do about it, in words as `remedy`."""

    what: str
    remedy: str
    fix: Callable[[], object]
    beyond: bool = False  # the doctor can only say so


def running() -> list[str]:
    """Return the studies that run, or did a moment ago: `examine` leaves them alone."""
    return [name for name in study_names() if sessions.last_alive(Store(name)) < sessions.REST_AFTER_SESSION]


def begin_anew(store: Store) -> list[int]:
    """Let trials that wait with epochs behind them begin from their seeds, in runs of their own; return their numbers."""
    sessions.check_at_rest(store)
    discard_runs([trial for trial in store.trials() if trial.state == TrialState.WAITING and curve(trial)])
    return store.forget_progress()


def discard_runs(trials: Iterable[FrozenTrial]) -> None:
    """Put the runs of trials into MLflow's trash."""
    for trial in trials:
        run_id = str(trial.user_attrs.get(names.RUN_ID, ""))
        if tracking.lifecycle(run_id) == "active":
            tracking.discard_run(run_id)


def requeue(store: Store, lost: Lost) -> Problem:
    """Return the problem of a trial whose worker is gone; fixing gives it back, its run the state that the trial then has."""
    final = is_final(store, lost)

    def fix() -> None:  # the run before the release, for then the trial may run again
        held = store.take_lease(lost.trial)
        if held is None:  # another is quicker, and sees to the run too
            return
        run_id = str(lost.trial.user_attrs.get(names.RUN_ID, ""))
        state = tracking.lifecycle(run_id)
        if state == "deleted":
            tracking.restore_run(run_id)
        if state is not None:
            run = TrackedRun(run_id)
            if final:
                run.set_tags({"ended": "failed", "failure": str(lost.reason)})
                run.discard_checkpoint()
            run.close(RUN_STATUS[TrialState.FAIL if final else TrialState.WAITING])
        store.release(held, lost.reason)

    what = f"trial {lost.trial.number} is running, and its worker is gone"
    return Problem(what, "fail it, its retries are used up" if final else "queue it again", fix)


def is_final(store: Store, lost: Lost) -> bool:
    """Whether a lost trial has failed: the fault was its own, and its retries are used up."""
    return lost.reason is not None and not store.may_retry(lost.trial)


def left_open(runs: Sequence[RunFacts], trials: Mapping[int, FrozenTrial]) -> Iterator[Problem]:
    """Yield the runs whose state is not that of their trial, as a killed worker or parent leaves them."""
    for run in runs:
        trial = trials.get(int(run.tags["trial"]))
        if trial is None or trial.state == TrialState.RUNNING:  # then it is somebody's
            continue
        status = RUN_STATUS[trial.state]
        if run.status != status:
            yield Problem(
                f"trial {trial.number} is {trial.state.name}, and its run {run.status}",
                f"set the run to {status}",
                functools.partial(close_run, run.run_id, trial),
            )


def left_checkpoints(study_name: str, trials: Mapping[int, FrozenTrial]) -> Iterator[Problem]:
    """Yield the checkpoints of trials that have ended, or that there are not."""
    for path in sorted(paths.checkpoint(study_name, 0).parent.glob("*")):
        number = path.name.partition(".")[0]
        trial = trials.get(int(number)) if number.isdigit() else None
        if trial.state.is_finished() if trial else untouched(path):
            delete = functools.partial(path.unlink, missing_ok=True)  # another parent may be quicker
            yield Problem(f"checkpoint {path.name} is of no unfinished trial", "delete it", delete)


def close_run(run_id: str, trial: FrozenTrial) -> None:
    """Give a run the state that its trial has, and its end."""
    run = TrackedRun(run_id)
    if trial.state.is_finished():
        run.set_tags({"ended": trial.user_attrs.get(names.ENDED, "unknown").partition(":")[0]})
        run.discard_checkpoint()
    run.close(RUN_STATUS[trial.state])


def surplus_models(store: Store, study: Study, trials: Sequence[StoredTrial], keep: int) -> list[StoredTrial]:
    """Return the complete trials that are not among the best `keep`, a front before all others, and still have their models."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    complete = best_first(complete, study.directions[0])
    ahead = front([trial.values for trial in complete], study.directions)
    ranked = sorted(zip(ahead, complete, strict=True), key=lambda pair: not pair[0])
    removed = set(store.attributes().get(names.MODELS_REMOVED, []))
    return [trial for _, trial in ranked[keep:] if trial.number not in removed]


def remove_model(store: Store, trial: StoredTrial) -> None:
    """Delete the models of a trial's run, and remember it; raises ArtifactError."""
    remove_models(trial.user_attrs[names.RUN_ID])
    removed = set(store.attributes().get(names.MODELS_REMOVED, [])) | {trial.number}
    store.remember(names.MODELS_REMOVED, sorted(removed))


def untouched(path: Path) -> bool:
    """Whether nothing was written to it lately: what has just begun may be unknown to whoever read the stores before."""
    inside = [each.stat().st_mtime for each in (path, *path.rglob("*")) if each.exists()]
    return time.time() - max(inside, default=0.0) > sessions.REST_AFTER_SESSION
