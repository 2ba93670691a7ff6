"""Fresh processes to measure in, with stores of their own; and a worker in this process."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil

STORES = ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE")


def environment(mlruns: Path) -> dict[str, str]:
    """Return this process's environment with `mlruns` for outputs and stores, whatever stores it names itself."""
    return {name: value for name, value in os.environ.items() if name not in STORES} | {"MLRUNS_DIR": str(mlruns)}


def answer(module: str, *arguments: object, environment: dict[str, str] | None = None) -> Any:
    """Run a module in a fresh process; return what the last line of its output says, which is JSON."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def sweep(*arguments: object) -> list[str]:
    """Return the command `sweep` with `arguments`, as installed beside this interpreter."""
    return [str(Path(sys.executable).parent / "sweep"), *map(str, arguments)]


def workers(command: int) -> list[psutil.Process]:
    """Return the worker processes of a running command, by its process number, the oldest first; none where it has ended."""
    from sweeps.running import figures

    try:
        children = [(each, " ".join(each.cmdline())) for each in psutil.Process(command).children()]
        servers = [each for each, called in children if "forkserver" in called and figures.READY not in called]
        return [worker for server in servers for worker in server.children()]
    except psutil.Error:
        return []


def worker_here(study: Any, images: Any) -> Any:
    """Return a worker for a study, in this process, the study's stores made in MLRUNS_DIR; `run_trials` sets it to work."""
    from sweeps.running import launch, watchdog, worker
    from sweeps.running.resources import ThisMachine
    from sweeps.stores.lease import Lease

    store, assignment = launch._prepare(study, images, ThisMachine(), "sweep")
    watch = watchdog.Watchdog(os.getppid(), 3600)
    return worker._Worker(assignment, threading.Event(), store, watch, Lease.of_this_process("here", os.getppid()))
