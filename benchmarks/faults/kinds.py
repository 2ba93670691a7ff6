"""The faults: each breaks a scene in one way, at once, and returns the processes that it hit."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psutil

from benchmarks.faults.sweep_run import ROOT, SweepRun

Hit = Sequence[int]  # process numbers; None for a fault that found nothing to break
KILLED = "was killed by SIGKILL"
RAISES, BLOWS_UP = "training raises an error", "loss is no number"  # what ends the trial itself


@dataclass(frozen=True)
class Kind:
    """One way to break a sweep.

    `faults`: how many it is at once; `where`: the scenes it needs, or any; `charged`: what trials may be charged with for it, one
    fault for each process hit, and nothing else; `max_epochs_lost`: the most epochs of one process that may come to nothing.
    """

    name: str
    inject: Callable[[SweepRun, Random], Hit | None]
    faults: int = 1
    where: str = "any"
    charged: str | None = None
    max_epochs_lost: int = 1


def _some_worker(sweep_run: SweepRun, rng: Random) -> psutil.Process | None:
    workers: list[psutil.Process] = sweep_run.wait(sweep_run.workers) or []
    return rng.choice(workers) if workers else None


def _kill_worker(sweep_run: SweepRun, rng: Random) -> Hit | None:
    worker = _some_worker(sweep_run, rng)
    if worker is None:
        return None
    worker.kill()
    return [worker.pid]


def _kill_fresh_worker(sweep_run: SweepRun, rng: Random) -> Hit | None:
    """Kill a worker, and the one in its place before that has a trial."""
    known = {worker.pid for worker in sweep_run.workers()}
    first = _kill_worker(sweep_run, rng)
    fresh = sweep_run.wait(lambda: [worker for worker in sweep_run.workers() if worker.pid not in known])
    if first is None or not fresh:
        return first
    time.sleep(rng.uniform(0, 3))
    fresh[0].kill()
    return [*first, fresh[0].pid]


def _kill_while_artifacts_are_written(sweep_run: SweepRun, rng: Random) -> Hit | None:
    """Kill all workers the moment a run's artifacts appear, and cut them short, unless their trial had ended just before."""

    def files() -> set[Path]:
        return {path for path in sweep_run.outputs.glob("**/artifacts/*") if path.is_file()}

    before = files()
    appeared = sweep_run.wait(lambda: sorted(files() - before))
    workers = sweep_run.workers()
    if not appeared or not workers:
        return None
    for worker in workers:
        worker.kill()
    ended = _runs_of_ended_trials(sweep_run)
    for path in appeared:
        if path.exists() and path.parent.parent.name not in ended:
            os.truncate(path, path.stat().st_size // 2)
    return [worker.pid for worker in workers]


def _runs_of_ended_trials(sweep_run: SweepRun) -> set[str]:
    with contextlib.closing(
        sqlite3.connect(f"file:{sweep_run.outputs / 'optuna.db'}?mode=ro", uri=True, timeout=60)
    ) as file:
        rows = file.execute(
            "SELECT value_json FROM trial_user_attributes JOIN trials USING (trial_id) "
            "WHERE key = 'run_id' AND state NOT IN ('RUNNING', 'WAITING')"
        )
        return {json.loads(row[0]) for row in rows}


def _cut_checkpoint(sweep_run: SweepRun, rng: Random) -> Hit | None:
    """Cut the newest checkpoint short, as a failing disk does, and kill all workers."""
    folder = sweep_run.outputs / "checkpoints"
    found = sweep_run.wait(lambda: [path for path in folder.glob("*/*.npz") if ".before" not in path.name])
    workers = sweep_run.workers()
    for worker in workers:
        worker.suspend()
    newest = max((path for path in found or [] if path.exists()), key=lambda path: path.stat().st_mtime, default=None)
    if newest is None or not workers:
        for worker in workers:
            worker.resume()
        return None
    os.truncate(newest, rng.randrange(newest.stat().st_size))
    for worker in workers:
        worker.kill()
    return [worker.pid for worker in workers]


def _order(what: str) -> Callable[[SweepRun, Random], Hit | None]:
    def give(sweep_run: SweepRun, rng: Random) -> Hit | None:
        noted = len(sweep_run.journal())
        order = sweep_run.folder / "order"
        order.write_text(what)
        hit = sweep_run.wait(lambda: [note["pid"] for note in sweep_run.journal()[noted:] if note["event"] == "obeyed"])
        order.unlink(missing_ok=True)
        return hit or None

    return give


def _suspend_worker(longest: float) -> Callable[[SweepRun, Random], Hit | None]:
    def sleep(sweep_run: SweepRun, rng: Random) -> Hit | None:
        worker = _some_worker(sweep_run, rng)
        if worker is None:
            return None
        worker.suspend()
        time.sleep(rng.uniform(1, longest))
        worker.resume()
        return [worker.pid]

    return sleep


def _stop_worker_dead(sweep_run: SweepRun, rng: Random) -> Hit | None:
    """Stop a worker with its threads, for good; a parent should kill it when its heartbeat is stale, minutes later."""
    worker = _some_worker(sweep_run, rng)
    if worker is None:
        return None
    worker.suspend()
    return [worker.pid]


def _suspend_parent(sweep_run: SweepRun, rng: Random) -> Hit:
    os.kill(sweep_run.command.pid, signal.SIGSTOP)
    time.sleep(rng.uniform(1, 10))
    os.kill(sweep_run.command.pid, signal.SIGCONT)
    return [sweep_run.command.pid]


def _end_parent(*, group: bool, signals: Sequence[int], pause: float = 1.0) -> Callable[[SweepRun, Random], Hit]:
    """Send `signals` to the parent, or to its whole group as a terminal does, and wait until it has ended."""

    def end(sweep_run: SweepRun, rng: Random) -> Hit:
        hit = [sweep_run.command.pid, *(worker.pid for worker in sweep_run.workers())]
        parent = sweep_run.command
        for number, what in enumerate(signals):
            if number:
                time.sleep(rng.uniform(0.1, pause))
            if parent.poll() is None:
                (os.killpg if group else os.kill)(parent.pid, what)
        parent.wait(300)
        return hit

    return end


def _second_parent(sweep_run: SweepRun, rng: Random) -> Hit:
    """Type the command in a second terminal; kill that after a while, or let it go on."""
    other = sweep_run.start()
    sweep_run.others.append(other)
    if rng.random() < 0.5:
        time.sleep(rng.uniform(3, 15))
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    return [other.pid]


def _lock(database: str, shortest: float, longest: float) -> Callable[[SweepRun, Random], Hit]:
    def lock(sweep_run: SweepRun, rng: Random) -> Hit:
        sweep_run.lock(database, rng.uniform(shortest, longest))
        return []

    return lock


def _server_away(sweep_run: SweepRun, rng: Random) -> Hit:
    assert sweep_run.server
    sweep_run.server.kill()
    time.sleep(rng.uniform(2, 15))
    sweep_run.server.start()
    return []


def _fill_disk(sweep_run: SweepRun, rng: Random) -> Hit:
    filler = sweep_run.outputs / "filler"
    try:
        with filler.open("wb") as file:
            while True:
                file.write(b"0" * 4096)
                file.flush()
    except OSError:
        pass
    time.sleep(rng.uniform(3, 20))
    filler.unlink()
    return []


ORDINARY = [
    Kind("worker killed", _kill_worker, charged=KILLED),
    Kind("worker killed, and the next one before its first trial", _kill_fresh_worker, faults=2, charged=KILLED),
    Kind(
        "worker killed while artifacts are written, one of them cut short",
        _kill_while_artifacts_are_written,
        charged=KILLED,
    ),
    Kind("worker calls exit in mid-training", _order("exit"), charged="ended with exit code 0"),
    Kind("worker out of memory", _order("out of memory"), charged="ran out of memory"),
    Kind("worker asleep for seconds", _suspend_worker(10)),
    Kind("checkpoint cut short, workers killed", _cut_checkpoint, faults=2, charged=KILLED, max_epochs_lost=2),
    Kind(RAISES, _order("raise")),
    Kind(BLOWS_UP, _order("blow up")),
    Kind("parent killed", _end_parent(group=False, signals=[signal.SIGKILL])),
    Kind("parent terminated", _end_parent(group=False, signals=[signal.SIGTERM])),
    Kind("parent asleep for seconds", _suspend_parent),
    Kind("parent and workers killed", _end_parent(group=True, signals=[signal.SIGKILL])),
    Kind("terminal closed", _end_parent(group=True, signals=[signal.SIGHUP])),
    Kind("Ctrl-C", _end_parent(group=True, signals=[signal.SIGINT])),
    Kind("Ctrl-C twice", _end_parent(group=True, signals=[signal.SIGINT, signal.SIGINT])),
    Kind("second parent on the study", _second_parent),
    Kind("Optuna's database locked for seconds", _lock("optuna.db", 1, 10)),
]
SPECIAL = [
    Kind("MLflow's database locked for up to 25 s", _lock("mlflow.db", 1, 25), where="file"),
    Kind("worker hangs", _order("hang"), where="impatient", charged="no epoch ended within"),
    Kind("Optuna's database locked for a minute and more", _lock("optuna.db", 60, 75), where="patient"),
    Kind("worker stopped dead", _stop_worker_dead, where="patient", charged="gave no heartbeat"),
    Kind("MLflow's server killed, and back later", _server_away, where="server"),
    Kind("disk full for seconds", _fill_disk, where="small disk"),
]


def can_mount() -> bool:
    """Whether a small file system can be made here, to be filled."""
    return os.geteuid() == 0 and shutil.which("mount") is not None and ROOT.exists()
