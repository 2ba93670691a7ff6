"""A worker: claims a ticket, trains it, tells the result; again, until none is left, it is asked to stop, or it has grown."""

import gc
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from optuna.trial import FrozenTrial, TrialState

import models
from pipelines import backend, callbacks, checkpoint, datasets, device, losses, metrics, paths, provenance
from pipelines.config import RunConfig
from pipelines.datasets.spec import KnownDataset
from pipelines.errors import (
    ErrorKind,
    UserError,
    first_line,
    out_of_memory,
    out_of_space,
    root_cause,
    traceback_of,
)
from pipelines.examine import examine
from pipelines.execute import count_parameters, execute
from pipelines.metrics import MetricError
from pipelines.tracking import store as tracking
from pipelines.tracking.run import TrackedRun
from pipelines.train import End, EpochMetrics, Epochs, Training, tell
from sweeps.running import population
from sweeps.running.assignment import Assignment
from sweeps.running.executors import StopFlag, WorkerSlot
from sweeps.running.exit_codes import DISK_FULL, FAULTY, OUT_OF_MEMORY, STORE_AWAY, USER_ERROR
from sweeps.running.logfile import print_to
from sweeps.running.tags import of_dataset, of_trial
from sweeps.running.trial import Control, Trial
from sweeps.running.watchdog import Watchdog
from sweeps.stores import names
from sweeps.stores.lease import Lease
from sweeps.stores.storage import VARIABLE, kind_of
from sweeps.stores.storage import url as optuna_url
from sweeps.stores.store import Store
from sweeps.study import pruners, samplers, space

GROWTH = 2.0  # GiB above the first trial's memory at which a worker makes room for a fresh one
RUN_STATUS = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAIL: "FAILED",
    TrialState.WAITING: "SCHEDULED",
}


def begins(number: int) -> str:
    """Return the line of a worker's log from which on it is about trial `number` too."""
    return f"== trial {number} begins"


def ends(number: int) -> str:
    """Return the line of a worker's log after which it is no more about trial `number`."""
    return f"== trial {number} ends here"


def get_ready() -> None:
    """Load what every worker needs, so far as that does not depend on its assignment."""
    tracking.preload()
    backend.preload()


def work(assignment: Assignment, stop: StopFlag, slot: WorkerSlot) -> None:
    """Run trials until there is nothing left to do; prints go to the log. Ends with its parent.

    The number of `slot` chooses the GPU.

    Exit codes: 0; USER_ERROR for a mistake of the user, HUNG, ORPHANED, STORE_AWAY when a store does not answer, DISK_FULL,
    OUT_OF_MEMORY, FAULTY for what nobody foresaw, and for training code that calls exit.
    """
    try:
        print_to(slot.log)
    except OSError as error:  # there is nowhere to say it
        sys.exit(DISK_FULL if out_of_space(error) else FAULTY)
    # Training code may change the folder, and what is relative would mean another place.
    os.environ["MLRUNS_DIR"] = str(paths.mlruns())
    for variable, url in ((VARIABLE, optuna_url()), (tracking.VARIABLE, tracking.uri())):
        if os.environ.get(variable):
            os.environ[variable] = url
    store: Store | None = None
    try:
        watch = Watchdog(slot.parent_pid, assignment.study.trial_timeout)
        backend.configure(assignment.device, assignment.threads, gpu_of(slot.number, assignment.gpus))
        backend.load()
        for source in (*assignment.sources, *assignment.functions):
            models.adopt(source)
        datasets.load(assignment.study.dataset)
        lease = Lease.of_this_process(slot.name, slot.parent_pid)
        store = Store(assignment.study.name)
        _look_at_models(assignment, store)
        _look_at_functions(assignment)
        _Worker(assignment, stop, store, watch, lease).run_trials()
    except SystemExit as error:
        print(f"the training called exit ({error.code})")
        sys.exit(FAULTY)
    except Exception as error:
        _leave(_gone(store, error) or error)


def _look_at_models(assignment: Assignment, store: Store) -> None:
    """Look at users' models, or at any on a user's data, once for each: at its first start point, or else at its own values."""
    study = assignment.study
    if not assignment.sources and isinstance(study.dataset, KnownDataset):
        return
    digests = " ".join(map(models.digest, study.models))
    looked_at = f"{digests}, {'saved' if study.keep_models != 0 else 'not saved'}"
    if store.attributes().get(names.LOOKED_AT) == looked_at:
        return
    dataset = datasets.load(study.dataset).for_task(study.task)
    for config in study.first_configs():
        callbacks.build(config.model, config.training)
        examine(config.model, config.hyperparameters, dataset, saved=study.keep_models != 0)
    store.remember(names.LOOKED_AT, looked_at)


def _look_at_functions(assignment: Assignment) -> None:
    """Look at the user's losses, before the first trial of this process."""
    study = assignment.study
    training = study.run_config(next(iter(study.start_points), {}), seed=0).training
    dataset = datasets.load(study.dataset).for_task(study.task)
    outputs = int(np.prod(dataset.train.y.shape[1:]))
    for source in assignment.functions:
        if source.reference not in study.users_metrics():
            losses.check(
                models.function(source.reference), source.reference, len(dataset.classes), training.mixup > 0, outputs
            )


def _gone(store: Store | None, error: Exception) -> UserError | None:
    """Return what to tell the user where a study that was renamed or deleted is the cause of an error."""
    if store is None or (not isinstance(root_cause(error), LookupError) and not isinstance(error, LookupError)):
        return None
    line = store.gone()
    return UserError(line) if line else None


def _leave(error: Exception) -> NoReturn:
    """End the process for `error`; unless it is a fault of the trial, another worker takes that up. The last line says why."""
    kind = kind_of(error)
    if kind in (ErrorKind.MISTAKE, ErrorKind.LASTING):
        mistake = isinstance(error, UserError)
        print(first_line(error) if mistake else f"a store cannot be used ({first_line(root_cause(error))})")
        sys.exit(USER_ERROR)
    print(traceback_of(error))
    print(first_line(root_cause(error)))
    if out_of_space(error):
        sys.exit(DISK_FULL)
    if kind is ErrorKind.AWAY:
        sys.exit(STORE_AWAY)
    sys.exit(OUT_OF_MEMORY if out_of_memory(error) else FAULTY)


def gpu_of(number: int, gpus: Sequence[str]) -> str | None:
    """Return the GPU of the worker with that number: one each, then two, and so on; None without GPUs."""
    return gpus[number % len(gpus)] if gpus else None


class _Worker:
    def __init__(self, assignment: Assignment, stop: StopFlag, store: Store, watch: Watchdog, lease: Lease):
        self._assignment, self._study, self._stop = assignment, assignment.study, stop
        self._store, self._watch, self._lease = store, watch, lease
        self._points, self._counted = samplers.points(self._study), dict[str, int]()
        self._facts, self._trials, self._memory = backend.describe(), 0, 0.0  # GiB
        self._failed = False  # any trial here
        self._control = Control(assignment, stop, store, lease, watch)
        gc.freeze()  # the libraries are loaded, and garbage is collected after every trial: leave theirs out of it
        self._meter = device.Meter(device.gpus()[0] if self._facts["device"] == "gpu" else None)
        self._feasible = space.feasibility(self._study, self._count_parameters) if self._study.constraints else None

    def run_trials(self) -> None:
        population.train(self._study, self._begin, self._advance)

    def _begin(self, given: Mapping[str, Any]) -> population.Running | None:
        """Return the next trial that wants an epoch; None when it is time to end, or nothing is left to claim."""
        while self._goes_on():
            claimed = self._store.claim(self._assignment.tickets, self._lease)
            if claimed is None:
                return None
            self._watch.hold(claimed, self._store)
            self._trials += 1
            print(begins(claimed.number))
            running = population.Running(claimed)
            running.epochs = self._train(running, given)
            if self._advance([(running, None)]):
                return running
        return None

    def _advance(self, told: Sequence[population.Told]) -> list[population.Running]:
        """Tell trials what came of the epochs that they wanted, and answer what they ask; return those that want another."""
        wanting: list[population.Running] = []
        words: Sequence[tuple[population.Running, EpochMetrics | End | Exception | None]] = told
        while words:
            asking: list[population.Running] = []
            for running, word in words:
                if not self._tell(running, word):
                    continue
                (wanting if isinstance(running.wants, Training) else asking).append(running)
            words = list(zip(asking, self._answers(asking), strict=True)) if asking else []
        return wanting

    def _tell(self, running: population.Running, word: EpochMetrics | End | Exception | None) -> bool:
        """Send a trial what it waits for; return whether it wants something more."""
        wants = False
        try:
            running.wants = tell(running.epochs, word)
            wants = True
        except StopIteration:
            pass
        finally:
            if not wants:
                print(ends(running.claimed.number))
                self._watch.let_go(running.claimed)
        return wants

    def _answers(self, asking: Sequence[population.Running]) -> Sequence[End | Exception | None]:
        try:
            return self._control.answer([(running.trial, running.question) for running in asking])
        except Exception as error:
            return [error] * len(asking)

    def _goes_on(self) -> bool:
        """Whether another trial may begin in this process."""
        if self._stop.is_set() or not self._budget_left():
            return False
        if self._failed and self._fails_for_one_reason():
            print("trial after trial fails for one reason")
            return False
        if self._trials == self._assignment.trials_per_worker:
            print(f"{self._trials} trials are done: making room for a fresh worker")
            return False
        if self._trials and not self._watch.held:
            gc.collect()  # a model is full of cycles
            memory = device.own_memory()
            self._memory = self._memory or memory
            if memory > self._memory + GROWTH:
                print(f"grown from {self._memory:.1f} to {memory:.1f} GiB: making room for a fresh worker")
                return False
        return True

    def _train(self, running: population.Running, given: Mapping[str, Any]) -> Epochs[None]:
        """Train a claimed trial, but for its epochs; `given`: parameters that are not to be asked for."""
        store, study, claimed = self._store, self._study, running.claimed
        saved = paths.checkpoint(study.name, claimed.number)
        run = None
        try:
            given = {**given, **claimed.user_attrs.get(names.ENQUEUED, {})}
            sampler = samplers.sampler(study, claimed.number, self._feasible, given)
            trial = store.ask(claimed, self._points, sampler, pruners.pruner(study))
            running.params = params = space.suggest(trial, study.search)
            config = study.run_config(params, study.seed_of(claimed.number))
            run = self._open_run(claimed, config)
            run.fetch_checkpoint(saved)
            if self._feasible and not self._feasible(params):
                store.finish(claimed, TrialState.PRUNED, ended=names.INFEASIBLE)
                _close(run, saved, TrialState.PRUNED, names.INFEASIBLE)
                return
            running.trial = Trial(claimed, run, saved, self._meter.reader().read)
            targets = [(metrics.short(target.of), target.published) for target in study.targets]
            outcome = yield from execute(config, run, saved, targets, self._ends_that_keep_models())
        except Exception as error:
            if kind_of(error) in (ErrorKind.AWAY, ErrorKind.WANT, ErrorKind.REFUSED):
                raise  # a fresh worker may have better luck
            self._fail(running, run, saved, error)
            return
        if not store.owns(claimed, self._lease):
            print(f"trial {claimed.number} is no longer ours: nothing more is written")
            return
        if self._facts["device"] == "gpu" and "seconds" in outcome.measured:
            run.log_summary({"gpu_hours": self._assignment.gpu_share * outcome.measured["seconds"] / 3600})
        run.send()  # before Optuna is told: a trial that has ended is nobody's to log
        if outcome.end == End.PAUSED:
            run.close(RUN_STATUS[TrialState.WAITING])
            store.release(claimed)
        elif outcome.end == End.COMPLETED:
            store.finish(
                claimed,
                TrialState.COMPLETE,
                outcome.values([objective.short for objective in study.objectives]),
                ended=outcome.end,
            )
            _close(run, saved, TrialState.COMPLETE, outcome.end)
        else:
            store.finish(claimed, TrialState.PRUNED, ended=outcome.end)
            _close(run, saved, TrialState.PRUNED, outcome.end)

    def _count_parameters(self, config: RunConfig) -> int:
        key = repr((config.model, config.hyperparameters))
        if key not in self._counted:
            self._watch.progress()
            self._counted[key] = count_parameters(config)
        return self._counted[key]

    def _ends_that_keep_models(self) -> tuple[End, ...]:
        """Return after which ends a model is kept at all; of the completed, the parent then keeps the best."""
        if self._study.keep_models is None:
            return tuple(End)
        return (End.COMPLETED,) if self._study.keep_models else ()

    def _fail(self, running: population.Running, run: TrackedRun | None, saved: Path, error: Exception) -> None:
        claimed = running.claimed
        print(traceback_of(error))
        if not self._store.owns(claimed, self._lease):
            return
        if run is not None:  # before Optuna is told
            with tempfile.TemporaryDirectory() as name:
                (Path(name) / "traceback.txt").write_text(traceback_of(error))
                run.log_artifacts(Path(name))
            run.send()
        self._failed = True
        place = (isinstance(error, MetricError) and error.place) or models.place_of(
            error, self._study.model_of(running.params)
        )
        self._store.note(claimed, names.FAILURE, f"{type(error).__name__} at {place}")
        reason = f"{type(error).__name__}: {first_line(error)} ({place})"
        self._store.finish(claimed, TrialState.FAIL, ended=f"failed: {reason}")
        if run is not None:
            run.set_tags({"failure": reason})
            _close(run, saved, TrialState.FAIL, "failed")

    def _open_run(self, claimed: FrozenTrial, config: RunConfig) -> TrackedRun:
        """Return the trial's run: the one it has, one that a killed worker created but did not note, or a new one."""
        assignment = self._assignment
        run_id = claimed.user_attrs.get(names.RUN_ID)
        if run_id is not None and tracking.lifecycle(run_id) is not None:
            run = TrackedRun(run_id)
            run.reopen()
            return run
        dataset = datasets.under(config.protocol, config.dataset, config.seed)
        own = f"tags.study_uid = '{assignment.study_uid}' and tags.trial = '{claimed.number}'"
        found = tracking.all_runs(assignment.experiment_id, own)
        tags = {
            **of_trial(self._study, config.model, claimed.number, assignment.study_uid, assignment.phase),
            "study_digest": assignment.study_digest,
            **of_dataset(dataset),
            **self._facts,
            **assignment.code,
            **provenance.versions(),
        }
        name = f"trial {claimed.number}"
        run = (
            TrackedRun(found[0].run_id)
            if found
            else TrackedRun.create(assignment.experiment_id, assignment.parent_run_id, name, tags)
        )
        run.log_inputs(config.params(), dataset.name, dataset.digest)
        if own_source := models.source(config.model):
            run.log_source(own_source)
        for source in assignment.functions:
            run.log_source(source, f"{tracking.FUNCTIONS_FOLDER}/{source.entry}.{source.function}")
        self._store.note(claimed, names.RUN_ID, run.run_id)
        return run

    def _fails_for_one_reason(self) -> bool:
        """Whether the study is about to be paused: here too, since the parent looks only now and then."""
        return len(self._store.failed_in_a_row(self._assignment.ended_before)) >= self._study.max_failures

    def _budget_left(self) -> bool:
        limit, deadline = self._study.budget.epochs, self._assignment.deadline
        in_time = deadline is None or time.time() < deadline
        return in_time and (limit is None or self._store.epochs_spent() < limit)


def _close(run: TrackedRun, saved: Path, state: TrialState, ended: str) -> None:
    run.set_tags({"ended": ended})
    run.discard_checkpoint()
    run.close(RUN_STATUS[state])
    checkpoint.remove(saved)
