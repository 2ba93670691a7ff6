"""One sweep of a campaign, as its user sees it: a command, typed again whenever it ends too early; its processes and stores."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks import processes
from deploy.loopback import MlflowServer

ROOT = Path(__file__).parents[2]
STUDY = "faults"
TRIALS, EPOCHS = 20, 6
SMALL_DISK = "48m"
GAVE_UP = 600.0  # seconds in which something must happen


class SweepRun:
    """A sweep in a folder of its own. `server`: MLflow behind a server; `small_disk`: outputs on a small file system."""

    def __init__(self, folder: Path, workers: int, trial_timeout: float, server: bool, small_disk: bool):
        self.folder, self.outputs, self._workers = folder, folder / "mlruns", workers
        self._small_disk, self.ends = small_disk, list[int]()
        self.outputs.mkdir(parents=True)
        if small_disk:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "faults", self.outputs], check=True)
        self._write_study(trial_timeout)
        self.environment = processes.environment(self.outputs) | {"FAULTS_DIR": str(folder)}
        self.environment |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        database = f"sqlite:///{self.outputs / 'mlflow.db'}"
        self.server = MlflowServer(folder, database, self.outputs) if server else None
        if self.server:
            self.server.start()
            self.environment["MLFLOW_TRACKING_URI"] = self.server.url
        self.others: list[subprocess.Popen[bytes]] = []
        self.command = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        """Type the command, in a terminal of its own."""
        command = [sys.executable, "-m", "sweeps.cli", "run", str(self.folder / "study.yaml")]
        with (self.folder / "terminal.log").open("ab") as terminal:
            return subprocess.Popen(
                [*command, "--workers", str(self._workers)],
                cwd=ROOT,
                env=self.environment,
                stdout=terminal,
                stderr=terminal,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # as in a terminal, also under nohup
            )

    def over(self) -> bool:
        """Whether the sweep is done; a command that ended before is typed again."""
        code = self.command.poll()
        if code is None:
            return False
        if code == 0:
            return True
        self.ends.append(code)
        self.command = self.start()
        return False

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes of the first parent, the oldest first."""
        return processes.workers(self.command.pid)

    def journal(self) -> list[dict[str, Any]]:
        """Return what the models noted."""
        path = self.folder / "journal.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait(self, condition: Callable[[], Any], patience: float = GAVE_UP) -> Any:
        """Return the first true value of `condition`; None when the sweep is over first; raises TimeoutError."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if value := condition():
                return value
            if self.over():
                return None
            time.sleep(0.05)
        raise TimeoutError(f"nothing happened within {patience:g} s")

    def lock(self, database: str, seconds: float) -> None:
        """Lock an SQLite database for some seconds."""
        with contextlib.closing(sqlite3.connect(self.outputs / database, isolation_level=None, timeout=60)) as file:
            file.execute("BEGIN EXCLUSIVE")
            time.sleep(seconds)
            file.execute("ROLLBACK")

    def close(self) -> None:
        """End what runs, and give the small disk back."""
        for process in [self.command, *self.others]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self.server:
            self.server.kill()
        if self._small_disk:
            kept = self.folder / "kept"
            shutil.copytree(self.outputs, kept)
            subprocess.run(["umount", "--lazy", self.outputs], check=True)

    def _write_study(self, trial_timeout: float) -> None:
        study = {
            "name": STUDY,
            "model": "benchmarks.faults.misbehaving",
            "dataset": "mnist-5k",
            "training": {"epochs": EPOCHS, "batch_size": 100},
            "search": {"dropout": {"float": [0.0, 0.5]}},
            "start": [],
            "sampler": "random",  # so that trial k is the same in every sweep, whatever happened to the others
            "pruner": "none",
            "budget": {"trials": TRIALS},
            "trial_timeout": trial_timeout,
        }
        (self.folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
