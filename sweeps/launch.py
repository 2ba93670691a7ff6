"""The parent of a sweep: prepares the stores, keeps workers alive, releases what was lost, shows progress, and ends."""

import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock
from optuna.trial import TrialState
from rich.console import Console

from pipelines import backend, checkpoint, data, figures, paths, provenance
from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from pipelines.tracking.run import TrackedRun
from sweeps.executors.processes import Ended, ProcessExecutor
from sweeps.lease import Lease
from sweeps.progress import Display, Snapshot
from sweeps.store import STORE_ERRORS, Lost, Store
from sweeps.study import Study
from sweeps.worker import HUNG, RUN_STATUS, STORE_AWAY, USER_ERROR, Assignment, work

POLL = 0.5  # seconds between looks at the stores
REST = 9  # and at least so many times what a look takes: supervising costs at most a tenth of a core
SESSION_NOTE_INTERVAL = 5.0  # seconds; so much running time may go uncounted when the parent is killed
STILLBIRTHS = 3  # workers in a row that end before they claim a trial
STORE_PAUSE = 5.0  # seconds to leave a store alone that did not answer
STORE_PATIENCE = 600.0  # seconds without any progress after which the sweep gives up on it


@dataclass(frozen=True)
class Result:
    """Where a study stands when its parent ends, and whether Ctrl-C ended it."""

    snapshot: Snapshot
    interrupted: bool


def run(study: Study, workers: int, device: backend.Device, console: Console) -> Result:
    """Run a study until its budget is used up or Ctrl-C; return where it stands. Raises UserError before anything is written."""
    if workers < 1:
        raise UserError(f"WORKERS={workers}: expected at least 1")
    dataset = data.load(study.dataset)
    backend.name()
    folder = paths.make_mlruns()
    with FileLock(folder / ".lock"):  # two parents that begin at once make one study and one parent run
        tracking.find_experiment(study.name)  # MLflow first: it may refuse, and then nothing is written
        store = Store.create(study.name)
        _check_definition(store, study)
        uid = store.attributes()["uid"]
        experiment = tracking.open_experiment(study.name)
        tags = {
            "study": study.name,
            "study_digest": study.digest(),
            "dataset": dataset.name,
            "dataset_digest": dataset.digest,
        }
        parent = tracking.open_parent(experiment, uid, tags | provenance.code())
        store.remember("study", study.model_dump(mode="json", by_alias=True))  # budget and targets as in this run

    threads = max(1, backend.cores() // workers) if workers > 1 else None
    deadline = time.time() + 3600 * study.budget.hours - store.seconds_spent() if study.budget.hours else None
    assignment = Assignment(study, uid, experiment.experiment_id, parent, device, threads, deadline)
    logs = folder / "logs" / study.name / time.strftime("%Y%m%d-%H%M%S")
    executor = ProcessExecutor(work, assignment, workers, logs)
    sweep = _Sweep(store, assignment, executor, console)
    crew = "1 worker" if workers == 1 else f"{workers} workers"
    console.print(f"study {study.name}: model {study.model}, data set {study.dataset}, {crew}")
    try:
        sweep.supervise()
    finally:
        executor.kill()
        sweep.settle()
    return Result(sweep.snapshot(), sweep.interrupted)


class _Sweep:
    """One parent's supervision of a study."""

    def __init__(self, store: Store, assignment: Assignment, executor: ProcessExecutor, console: Console):
        self._store, self._assignment, self._executor, self._console = store, assignment, executor, console
        self._study = assignment.study
        self._interrupts = 0
        self._fates: dict[int, str | None] = {}  # process id -> how it ended; None: no fault of its trial
        self._stillbirths = 0
        self._reached = (0, 0)  # epochs spent, trials done
        self._away_since: float | None = None
        self._paused_until = 0.0

    def supervise(self) -> None:
        """Keep workers at work until nothing is left to claim and nobody's trial is left behind."""
        session, began, noted, told = uuid.uuid4().hex[:8], time.time(), 0.0, False
        with Display(self._console, self._study.longest_training) as display, self._interruptible():
            over = False
            while not over:
                looked = time.monotonic()
                if self.interrupted and not told:
                    told = True
                    display.say(
                        "stopping after the running epochs; Ctrl-C again stops at once. Nothing is lost either way."
                    )
                try:
                    over = self._look(display)
                    if over or time.time() - noted > SESSION_NOTE_INTERVAL:
                        noted = time.time()
                        self._store.note_session(session, began)
                except STORE_ERRORS as error:
                    self._bear_with_stores(str(error).strip().splitlines()[0], display)
                if not over:
                    time.sleep(max(POLL, REST * (time.monotonic() - looked)))

    def _look(self, display: Display) -> bool:
        """Take note of what ended, release what was lost, start what is missing; return whether all is over."""
        for ended in self._executor.collect_ended():
            self._take_note(ended, display)
        for lost in self._store.lost(os.getpid(), self._fates):
            self._release(lost, display)
        snapshot = self.snapshot()
        display.show(snapshot)
        if (reached := (snapshot.epochs_spent, snapshot.done)) != self._reached:
            self._reached, self._away_since = reached, None
        claimable, running = self._claimable(snapshot), self._store.running()
        if not self.interrupted and time.monotonic() >= self._paused_until:
            held = sum(lease is not None and lease.parent.pid == os.getpid() for _, lease in running)
            self._executor.start_up_to(held + claimable)
        if self._executor.alive():
            return False
        left_behind = [trial for trial, lease in running if lease is None or not lease.worker.alive]
        return self.interrupted or (claimable == 0 and not left_behind)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._interrupts > 0

    def snapshot(self) -> Snapshot:
        """Return where the study stands; without a budget of trials, queue as many as the workers can take."""
        limit = self._study.budget.trials
        trials = self._store.trials()
        waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        wanted = limit if limit is not None else len(trials) - waiting + self._executor.size
        if len(trials) < wanted:
            self._store.queue(wanted)
            trials = self._store.trials()
        held = [trial for trial in trials if limit is None or trial.number < limit]
        return Snapshot(held, limit, self._store.epochs_spent())

    def settle(self) -> None:
        """When no worker is left: release what they held, give every run its true end state, draw the study's figures."""
        try:
            for ended in self._executor.collect_ended():
                self._fates[ended.pid] = None
            for lost in self._store.lost(os.getpid(), self._fates):
                self._release(lost, None)
            self._tidy()
            snapshot = self.snapshot()
            parent = TrackedRun(self._assignment.parent_run_id)
            _log_study(parent, self._study, snapshot)
            if snapshot.count(TrialState.RUNNING) == 0:  # else another parent goes on
                parent.close("SCHEDULED" if self._claimable(snapshot) else "FINISHED")
        except STORE_ERRORS as error:
            reason = str(error).strip().splitlines()[0]
            self._console.print(f"a store did not answer at the end ({reason}); the next call puts it right")

    def _release(self, lost: Lost, display: Display | None) -> None:
        """Give a lost trial back, and its run the state that the trial then has; the run first, for soon it may run again."""
        final = lost.reason is not None and not self._store.may_retry(lost.trial)
        run_id = lost.trial.user_attrs.get("run_id")
        if run_id is not None:
            run = TrackedRun(run_id)
            run.set_tags({"ended": "failed"} if final else {})
            run.close(RUN_STATUS[TrialState.FAIL if final else TrialState.WAITING])
        self._store.release(lost.trial, lost.reason)
        lease = Lease.parse(lost.trial.user_attrs.get("lease", ""))
        if lease is not None:
            self._fates.pop(lease.worker.pid, None)  # a fate is charged once
        if lost.reason and display:
            outcome = "it has failed, its retries are used up" if final else "it goes on from its last checkpoint"
            display.say(f"trial {lost.trial.number}: {lost.reason}; {outcome}")

    def _tidy(self) -> None:
        """Finish what a worker left between telling Optuna and closing the run: the run's state, the checkpoint."""
        trials = {trial.number: trial for trial in self._store.trials()}
        own = f"tags.phase = 'sweep' and tags.study_uid = '{self._assignment.study_uid}'"
        for run in tracking.all_runs(self._assignment.experiment_id, f"attributes.status = 'RUNNING' and {own}"):
            trial = trials[int(run.data.tags["trial"])]
            if trial.state == TrialState.RUNNING:  # another parent's
                continue
            tracked = TrackedRun(run.info.run_id)
            if trial.state.is_finished():
                tracked.set_tags({"ended": trial.user_attrs["ended"].partition(":")[0]})
            tracked.close(RUN_STATUS[trial.state])
        for path in paths.checkpoint(self._study.name, 0).parent.glob("*.npz"):
            if trials[int(path.stem)].state.is_finished():
                checkpoint.remove(path)

    def _claimable(self, snapshot: Snapshot) -> int:
        limit = self._study.budget.epochs
        late = self._assignment.deadline is not None and time.time() >= self._assignment.deadline
        if late or (limit is not None and snapshot.epochs_spent >= limit):
            return 0
        return snapshot.count(TrialState.WAITING)

    def _take_note(self, ended: Ended, display: Display) -> None:
        """Decide whose fault a worker's end was."""
        hung = f"no epoch ended within {self._study.trial_timeout:g} s"
        fault = hung if ended.exit_code == HUNG else f"its worker {ended.how}"
        message = _last_line(ended.log) if ended.exit_code > 0 else ""
        blameless = self.interrupted or ended.exit_code == STORE_AWAY
        self._fates[ended.pid] = None if blameless else fault
        if self.interrupted or ended.exit_code == 0:
            return
        if ended.exit_code == STORE_AWAY:
            self._bear_with_stores(message, display)
            return
        if ended.exit_code == USER_ERROR:
            raise UserError(message)
        display.say(f"a worker {ended.how}{message and f' ({message})'}; its log is {ended.log}")
        held_a_trial = any(lease and lease.worker.pid == ended.pid for _, lease in self._store.running())
        self._stillbirths = 0 if held_a_trial else self._stillbirths + 1
        if self._stillbirths >= STILLBIRTHS:
            raise UserError(f"{STILLBIRTHS} workers in a row ended before they had a trial: see {ended.log}")

    def _bear_with_stores(self, reason: str, display: Display) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            display.say(f"a store does not answer ({reason}); trying again, for up to {STORE_PATIENCE / 60:g} minutes")
        if now - self._away_since > STORE_PATIENCE:
            minutes = f"{STORE_PATIENCE / 60:g} minutes"
            raise UserError(f"a store has not answered for {minutes} ({reason}): the same command goes on when it does")
        self._paused_until = now + STORE_PAUSE

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        def on_interrupt(*_: Any) -> None:
            self._interrupts += 1
            if self._interrupts == 1:
                self._executor.ask_to_stop()
            else:
                self._executor.kill()

        before = signal.signal(signal.SIGINT, on_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def farewell(study: Study, result: Result) -> list[str]:
    """Return what was found, and which commands come next."""
    snapshot, lines = result.snapshot, []
    if snapshot.best:
        found = f"best by validation: trial {snapshot.best.number} with {100 * (snapshot.best.value or 0):.2f} %"
        lines.append(f"{found}, of {snapshot.done} trials and {snapshot.epochs_spent} epochs")
    if result.interrupted:
        lines.append(
            f"stopped; the same command goes on where it was ({snapshot.done} of {snapshot.tickets or '∞'} trials done)"
        )
    else:
        lines.append("the budget is used up; a larger one continues the study")
    lines.append(f"next: make best STUDY={study.name} (leaderboard), make ui (curves, runs, artifacts)")
    return lines


def _check_definition(store: Store, study: Study) -> None:
    stored = store.attributes().get("definition")
    if stored is None:
        store.remember("definition", study.definition())
        return
    now = study.definition()
    changed = [f"{key} was {stored.get(key)!r}, is {now[key]!r}" for key in now if stored.get(key) != now[key]]
    if changed:
        raise UserError(
            f"study {study.name!r} has trials under another definition ({'; '.join(changed)}): "
            "give the changed study another name, or change it back"
        )


def _log_study(parent: TrackedRun, study: Study, snapshot: Snapshot) -> None:
    curves = {
        t.number: [value for _, value in sorted(t.intermediate_values.items())]
        for t in snapshot.trials
        if t.intermediate_values
    }
    early = {t.number for t in snapshot.trials if t.state != TrialState.COMPLETE}
    with TemporaryDirectory() as name:
        folder = Path(name)
        if curves:
            title = f"{study.name}: {len(curves)} trials, {snapshot.epochs_spent} epochs"
            figures.study_curves(curves, early, title, folder / "study_curves.png")
        (folder / "study.yaml").write_text(study_as_yaml(study))
        parent.log_artifacts(folder)


def study_as_yaml(study: Study) -> str:
    """Return the study, every default spelled out."""
    import yaml

    return str(yaml.safe_dump(study.model_dump(mode="json", by_alias=True), sort_keys=False))


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else ""
