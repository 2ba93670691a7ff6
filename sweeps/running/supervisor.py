"""The parent at work: keeps workers alive, releases what was lost, waits for stores that are away, and ends in order."""

import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from optuna.trial import TrialState
from rich.console import Console

import models
from pipelines import datasets, drawing, paths
from pipelines.errors import ArtifactError, UserError, first_line, root_cause
from pipelines.figures import dataset as of_dataset
from pipelines.figures.curves import study_curves, watched_images
from pipelines.figures.style import Drawn
from pipelines.tracking import store as tracking
from pipelines.tracking.run import TrackedRun
from sweeps.running import ending, repair
from sweeps.running.assignment import Assignment
from sweeps.running.executors import Executor, WorkerExit
from sweeps.running.exit_codes import DISK_FULL, HUNG, OUT_OF_MEMORY, STORE_AWAY, USER_ERROR
from sweeps.running.figures import FigureProcesses
from sweeps.running.progress import Display, Snapshot
from sweeps.stores import names
from sweeps.stores.lease import Lease
from sweeps.stores.storage import kind_of
from sweeps.stores.store import AHEAD, Lost, Store, curve

POLL = 0.5  # seconds between looks at the stores
FIGURES_POLL = 0.1  # seconds between looks at the figures that are waited for
LONGEST_REST = 5.0  # seconds: a look at a locked database takes a minute
REST = 9  # and at least so many times what a look takes: supervising costs at most a tenth of a core
SESSION_NOTE_INTERVAL = 5.0  # seconds; so much running time may go uncounted when the parent is killed
LAST_EPOCH = 20.0  # seconds from SIGTERM on; schedulers kill what has not ended after thirty
ECHO = 2.0  # seconds within which a second SIGTERM is the first
FAILED_STARTS = 3  # workers in a row that end before they claim a trial
STORE_PAUSE = 5.0  # seconds to leave a store alone that did not answer
LONG_NAME = 40  # characters that a figure has room for
IMAGES = ("images_by_class", "training_images", "test_images")  # figures of the data set, on the parent run
FULL_IN_VAIN = 3  # times that a worker may find no space where there is room, before its trial is blamed


class Supervisor:
    """One parent's supervision of a study. `stays`: until every trial has ended, those too that workers of others hold."""

    def __init__(
        self,
        store: Store,
        assignment: Assignment,
        executor: Executor,
        figures: FigureProcesses,
        console: Console,
        *,
        stays: bool = True,
    ):
        self._store, self._assignment, self._executor, self._console = store, assignment, executor, console
        self._figures, self._begun_here = figures, set[str]()  # the names of the workers that were started here
        self._drawn = set(assignment.ended_before)  # trials whose figures are seen to
        self._study = assignment.study
        self._stays = stays
        self._interrupts = 0
        self._terminated: float | None = None  # when SIGTERM came, on the monotonic clock
        self._worker_exits: dict[str, str | None] = {}  # worker -> how it ended; None: no fault of its trial
        self._failed_starts = 0
        self._told = set(assignment.ended_before)  # trials whose end was said, if there was anything to say
        self.paused: str | None = None  # why no more trials are begun
        self.ended: str | None = None  # the rule that has ended the study
        self._stops_before = frozenset(store.stops())
        self._unremovable: set[int] = set()  # trials whose models could not be deleted
        self._reached = (0, 0)  # epochs spent, trials done
        self._away = False
        self._paused_until = 0.0
        self._disk_full = False
        self._full_in_vain = 0  # workers in a row that found the disk full where there is room

    def supervise(self) -> None:
        """Keep workers at work until nothing is left to claim and nobody's trial is left behind."""
        session, began, noted, told = uuid.uuid4().hex[:8], time.time(), 0.0, False
        self._draw_owed()
        with Display(self._console, self._study.longest_training) as display, self._interruptible():
            over = False
            while not over:
                looked = time.monotonic()
                if self._terminated and looked > self._terminated + LAST_EPOCH:
                    self._executor.kill()
                if self.interrupted and not told:
                    told = True
                    display.say(
                        "stopping after the running epochs; Ctrl-C again stops at once. Nothing is lost either way."
                        if self._interrupts == 1
                        else "stopping at once"
                    )
                try:
                    over = self._look(display)
                    if over or time.time() - noted > SESSION_NOTE_INTERVAL:
                        noted = time.time()
                        self._store.note_session(session, began, ended=over)
                except Exception as error:
                    if not kind_of(error).passes:
                        if isinstance(error, LookupError) and (gone := self._store.gone()):
                            raise UserError(gone) from error
                        raise
                    self._pause(first_line(root_cause(error)), display)
                    over = self.interrupted and not self._executor.workers()
                if not over:
                    time.sleep(min(LONGEST_REST, max(POLL, REST * (time.monotonic() - looked))))

    def _look(self, display: Display) -> bool:
        """Take note of what ended, release what was lost, start what is missing; return whether all is over."""
        over = self._executor.collect_ended()
        for ended in over:  # of all of them, before anything can go wrong
            self._worker_exits[ended.name] = self._fault_of(ended)
        for ended in over:
            self._take_note(ended, display)
        self._heed_stops(display)
        for lost in self._store.lost(self._worker_exits):
            self._release(lost, display)
        snapshot = self.snapshot()
        display.show(snapshot)
        self._draw_beside(snapshot)
        self._heed_rules(display)
        self._tell_failures(snapshot, display)
        if (reached := (snapshot.epochs_spent, snapshot.done)) != self._reached:
            if snapshot.done != self._reached[1]:
                self._thin_models(snapshot)
            self._reached, self._away = reached, False
        claimable, running = self._claimable(snapshot), self._store.running()
        self._disk_full = self._disk_full and not paths.has_room(self._study.name)
        if not self.interrupted and not self.ended and not self._disk_full and time.monotonic() >= self._paused_until:
            own = self._executor.workers()
            held = sum(lease is not None and lease.name in own for _, lease in running)
            self._executor.start_up_to(held + claimable)
            self._begun_here |= self._executor.workers()
        if self._executor.workers():
            return False
        if self.paused or self.ended:
            return True
        left_behind = [trial for trial, lease in running if lease is None or not lease.worker.alive]
        return self.interrupted or (claimable == 0 and not (left_behind and self._stays))

    def _heed_stops(self, display: Display) -> None:
        """Do as Ctrl-C would where somebody has called `sweep stop` since this parent began; at once: as Ctrl-C twice."""
        asked = [now for key, now in self._store.stops().items() if key not in self._stops_before]
        wanted = 1 + any(asked) if asked else 0
        if wanted > self._interrupts:
            display.say("sweep stop was called")
            self._interrupts = wanted
            self._executor.ask_to_stop()
            if wanted == 2:
                self._executor.kill()

    def _heed_rules(self, display: Display) -> None:
        """Let the running trials be given back after their epochs where the study's rules say that it has ended."""
        if self.ended is None and (why := ending.decision(self._store, self._study)):
            self.ended = why
            display.say(f"the study ends, by its rules: {why}")
            self._executor.ask_to_stop()

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed, or `sweep stop` called."""
        return self._interrupts > 0

    def snapshot(self) -> Snapshot:
        """Return where the study stands; queue a few trials if none are left to claim, and there is budget."""
        limit = self._assignment.tickets
        trials = self._store.trials()
        waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        if waiting < AHEAD and (limit is None or len(trials) < limit):
            self._store.queue_ahead(limit, len(trials) - waiting)
            trials = self._store.trials()
        held = [trial for trial in trials if limit is None or trial.number < limit]
        return Snapshot(
            held, limit, self._store.epochs_spent(), self._study.objective, searches=bool(self._study.search)
        )

    def settle(self) -> None:
        """When no worker is left: release what they held, give every run its true end state, draw the study's figures."""
        try:
            for ended in self._executor.collect_ended():
                self._worker_exits[ended.name] = None
            for lost in self._store.lost(self._worker_exits):
                self._release(lost, None)
            self._tidy()
            snapshot = self.snapshot()
            self._thin_models(snapshot)
            if (
                tracking.lifecycle(self._assignment.parent_run_id) == "deleted"
            ):  # put into the trash while we were at it
                tracking.restore_run(self._assignment.parent_run_id)
            parent = TrackedRun(self._assignment.parent_run_id)
            if snapshot.count(TrialState.RUNNING) == 0:  # else another parent goes on, and does this at its end
                self._log_study(parent, snapshot)
                parent.close("SCHEDULED" if self._claimable(snapshot) else "FINISHED")
        except Exception as error:
            if isinstance(error, LookupError) and self._store.gone():
                return  # and it has been said
            if not kind_of(error).passes:
                raise
            self._say(f"the end could not be noted ({first_line(root_cause(error))}); the next call puts it right")

    def finish_figures(self) -> None:
        """Wait for the figures that runs are owed; once interrupted, leave them to the next call."""
        self._figures.begin_anew()
        if not self.interrupted:
            self._draw_owed()
        left = self._figures.look()
        if left and not self.interrupted:
            self._say(f"drawing the figures of {_runs(left)}; Ctrl-C leaves them to the next call")
            with self._interruptible():
                while left and not self.interrupted:
                    time.sleep(FIGURES_POLL)
                    left = self._figures.look()
        name = self._study.name
        if left:
            say, fix = f"figures are owed to {_runs(left)}", paths.command(f"doctor {name} --fix")
            self._say(f"{say}: the next call of {paths.command('run')} draws them, or {fix}")
        elif failed := self._figures.failed:
            why = f"the process that drew them {self._figures.last_failure}, see {self._figures.log}"
            self._say(
                f"figures are still owed to {_runs(failed)}: {why}; {paths.command(f'doctor {name} --fix')} tries again"
            )

    def _draw_owed(self) -> None:
        """Let the figures be drawn that any run of the study is owed: those of earlier calls, of killed processes."""
        ids = self._assignment.experiment_id, self._assignment.study_uid
        try:
            found = [run.run_id for run in tracking.study_runs(*ids, drawing.IS_OWED)]
            self._figures.draw(random.sample(found, len(found)))  # another parent may be at them: seldom at the same
        except Exception as error:
            if not kind_of(error).passes:
                raise
            self._say(
                f"which figures are owed cannot be asked ({first_line(root_cause(error))}); the next call asks again"
            )

    def _draw_beside(self, snapshot: Snapshot) -> None:
        """Let the figures of the trials that have ended be drawn; those of workers of another parent are for that one."""
        for trial in snapshot.trials:
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and trial.number not in self._drawn:
                self._drawn.add(trial.number)
                lease = Lease.parse(trial.user_attrs.get(names.LEASE, ""))
                if lease is not None and lease.name in self._begun_here and names.RUN_ID in trial.user_attrs:
                    self._figures.draw([trial.user_attrs[names.RUN_ID]])
        self._figures.look()

    def _tell_failures(self, snapshot: Snapshot, display: Display) -> None:
        """Say why a trial failed, at once; pause the study where several in a row did for one reason."""
        for trial in snapshot.trials:
            if trial.state == TrialState.FAIL and trial.number not in self._told:
                self._told.add(trial.number)
                if trial.user_attrs.get(names.FAULTS):  # of its workers: said when it was released
                    continue
                reason = str(trial.user_attrs.get(names.ENDED, "unknown")).removeprefix("failed: ")
                display.say(
                    f"trial {trial.number} failed: {reason}; its traceback is a file of its run, {paths.command('ui')} shows it"
                )
        row = self._store.failed_in_a_row(self._assignment.ended_before) if snapshot.count(TrialState.FAIL) else []
        if len(row) >= self._study.max_failures and self.paused is None:
            self.paused = (
                f"paused: {len(row)} trials in a row failed for one reason ({row[0].user_attrs.get(names.FAILURE)}). Mend it and "
                f"resume the study; sweep retry {self._study.name} retries the failed trials"
            )
            display.say(self.paused)
            self._executor.ask_to_stop()

    def _release(self, lost: Lost, display: Display | None) -> None:
        """Give a lost trial back, or fail it, and say so."""
        final = repair.is_final(self._store, lost)
        repair.requeue(self._store, lost).fix()
        lease = Lease.parse(lost.trial.user_attrs.get(names.LEASE, ""))
        if lease is not None:
            self._worker_exits.pop(lease.name, None)  # a fate is charged once
        if lost.reason and display:
            outcome = "it has failed, its retries are used up" if final else "it resumes from its last checkpoint"
            display.say(f"trial {lost.trial.number}: {lost.reason}; {outcome}")

    def _thin_models(self, snapshot: Snapshot) -> None:
        """Delete the models of complete trials that are not among the best `keep_models`, a front before all others."""
        keep = self._study.keep_models
        if keep is None:
            return
        for trial in repair.surplus_models(self._store, self._study, snapshot.trials, keep):
            if trial.number in self._unremovable:
                continue
            try:
                repair.remove_model(self._store, trial)
            except ArtifactError as error:  # it costs disk, not the sweep; the next call tries again
                self._unremovable.add(trial.number)
                self._say(str(error))

    def _tidy(self) -> None:
        """Finish what a worker left between telling Optuna and closing the run: the run's state, the checkpoint."""
        trials = {trial.number: trial for trial in self._store.trials()}
        ids = self._assignment.experiment_id, self._assignment.study_uid
        running = tracking.study_runs(*ids, "attributes.status = 'RUNNING'")
        for problem in [*repair.left_open(running, trials), *repair.left_checkpoints(self._study.name, trials)]:
            problem.fix()

    def _log_study(self, parent: TrackedRun, snapshot: Snapshot) -> None:
        """Log the study, its figures and its model's source on the parent run."""
        study = self._study
        curves = {t.number: list(reached.values()) for t in snapshot.trials if (reached := curve(t))}
        early = {t.number for t in snapshot.trials if t.state != TrialState.COMPLETE}
        with TemporaryDirectory() as name:
            folder = Path(name)
            drawn = Drawn(folder)
            if curves:
                name_shown = study.name if len(study.name) <= LONG_NAME else f"{study.name[:LONG_NAME]}…"
                title = f"{name_shown}: {len(curves)} trials, {snapshot.epochs_spent} epochs"
                best = snapshot.best.number if snapshot.best else None
                images = watched_images(self._study.protocol)
                drawn.draw(
                    folder / "study_curves.png",
                    lambda: study_curves(curves, early, best, title, images, study.objective),
                )
            new = bool(study.search) and not self._store.attributes().get(names.IMAGES_DRAWN)
            if new:
                self._draw_images(folder, drawn)
            spelled_out = yaml.safe_dump(study.model_dump(mode="json", by_alias=True), sort_keys=False)
            (folder / "study.yaml").write_text(spelled_out)
            for number, name_of_model in enumerate(study.models, 1):
                place = folder / f"model_{number}" if len(study.models) > 1 else folder
                for path, content in models.files(name_of_model).items():
                    (place / path).parent.mkdir(parents=True, exist_ok=True)
                    (place / path).write_bytes(content)
            parent.log_artifacts(folder)
        if new:
            self._store.remember(names.IMAGES_DRAWN, True)
        for line in drawn.failed:
            self._say(f"not drawn: {line}")

    def _draw_images(self, folder: Path, drawn: Drawn) -> None:
        """Draw the data set, each image of it: the training ones at half the size of the others."""
        dataset = datasets.load(self._study.dataset).for_task(self._study.task)
        if not dataset.has_images or not dataset.classes:
            self._say(f"figures of images are left out: data set {dataset.name} has no images in classes")
            return
        by_class, training, test = (folder / f"{figure}.png" for figure in IMAGES)
        drawn.draw(by_class, lambda: of_dataset.by_class(dataset))
        drawn.draw(training, lambda: of_dataset.all_images(dataset.train.x, of_dataset.A_TILE // 2))
        drawn.draw(test, lambda: of_dataset.all_images(dataset.test.x))

    def _claimable(self, snapshot: Snapshot) -> int:
        if self.ended:
            return 0
        limit = self._study.budget.epochs
        late = self._assignment.deadline is not None and time.time() >= self._assignment.deadline
        if late or (limit is not None and snapshot.epochs_spent >= limit):
            return 0
        return snapshot.count(TrialState.WAITING)

    def _fault_of(self, ended: WorkerExit) -> str | None:
        """Return what a worker's end is held against its trial; None: nothing."""
        if self.interrupted or ended.exit_code in (STORE_AWAY, os.EX_TEMPFAIL):
            return None
        if ended.exit_code == DISK_FULL:
            self._full_in_vain = 0 if not paths.has_room(self._study.name) else self._full_in_vain + 1
            if self._full_in_vain < FULL_IN_VAIN:
                return None
        faults = {
            HUNG: f"no epoch ended within {self._study.trial_timeout:g} s",
            OUT_OF_MEMORY: "its worker ran out of memory",
            DISK_FULL: f"no space was left on a device, and there is room in {paths.mlruns()}",
        }
        return faults.get(ended.exit_code or 0, f"its worker {ended.how}")

    def _take_note(self, ended: WorkerExit, display: Display) -> None:
        """Say how a worker ended, and decide what follows for the sweep."""
        if ended.exit_code == 0:
            self._failed_starts = 0
        if self.interrupted or ended.exit_code == 0:
            return
        message = ended.last_line
        if ended.exit_code == STORE_AWAY:
            self._pause(message, display)
        elif ended.exit_code == os.EX_TEMPFAIL:  # it could not be forked
            self._pause("there is no memory for another worker, or there are too many processes", display)
        elif ended.exit_code == DISK_FULL and self._worker_exits.get(ended.name) is None:
            self._disk_full = True
            self._pause(f"no space is left in {paths.mlruns()}, or for temporary files", display)
        elif ended.exit_code == USER_ERROR:
            raise UserError(message)
        else:
            why = f" ({message})" if message and (ended.exit_code or 0) > 0 else ""
            log = ended.log if Path(ended.log).is_file() else ""  # it may have died before it had one
            display.say(f"a worker {ended.how}{why}" + (f"; its log is {log}" if log else ""))
            held_a_trial = any(lease and lease.name == ended.name for _, lease in self._store.running())
            self._failed_starts = 0 if held_a_trial or ended.exit_code is None else self._failed_starts + 1
            if self._failed_starts >= FAILED_STARTS:
                see = f"see {log}" if log else f"the last one {ended.how}, and wrote no log"
                raise UserError(f"{FAILED_STARTS} workers in a row ended before they had a trial: {see}")

    def _pause(self, reason: str, display: Display) -> None:
        """Start no worker for a while: there is something wrong that passes."""
        if not self._away:
            self._away = True
            display.say(f"the sweep waits, and tries again until it can resume: {reason}")
        self._paused_until = time.monotonic() + STORE_PAUSE

    def _say(self, line: str) -> None:
        with suppress(OSError):  # on a full disk, if that is where the output goes
            self._console.print(line, markup=False)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        def on_interrupt(number: int, _: Any) -> None:
            if number == signal.SIGTERM and self._terminated and time.monotonic() < self._terminated + ECHO:
                return  # sent to us, and to our group besides
            self._interrupts += 1
            if self._interrupts == 1:
                self._executor.ask_to_stop()
                if number == signal.SIGTERM:
                    self._terminated = time.monotonic()
            else:  # in a thread: what this handler interrupts may hold what killing needs
                threading.Thread(target=self._executor.kill).start()

        if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
            yield
            return
        before = {number: signal.signal(number, on_interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"
