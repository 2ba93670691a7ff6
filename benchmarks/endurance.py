"""Many trials: whether any fails for want of a database, and whether memory stays flat.

    python -m benchmarks.endurance crowd     # 200 trials by 8 workers on the SQLite default
    python -m benchmarks.endurance long      # 1,000 trials by one worker
    python -m benchmarks.endurance trivial   # 1,000 trials that train nothing: what is left is the platform's own

A trial is one epoch of a softmax on mnist-5k. The memory of parent and workers is read from outside, while the sweep runs; that
of the trivial trials by the process that runs them.
"""

import argparse
import contextlib
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks import processes

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
SHAPES = {"crowd": (200, 8), "long": (1_000, 1), "trivial": (1_000, 1)}  # trials, workers
PERIOD = 2.0  # seconds between two readings
STUDY = "endurance"


def main() -> None:
    """Run one shape, write what was seen to results/, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--trials", type=int, help="fewer, to try it; nothing is recorded then")
    options = parser.parse_args()
    trials, workers = SHAPES[options.shape]
    found = (run_trivial if options.shape == "trivial" else run)(options.trials or trials, workers)
    if options.trials is None:
        (RESULTS / f"endurance-{options.shape}.json").write_text(json.dumps(found) + "\n")
    show(found)
    sys.exit(found["faults"] > 0 or set(found["trials"]) != {"complete"})


def run(trials: int, workers: int) -> dict[str, Any]:
    """Run the study; return the trials' states, how often a worker was lost, and memory by trials done."""
    with tempfile.TemporaryDirectory() as name:
        study = {
            "name": STUDY,
            "model": "softmax",
            "dataset": "mnist-5k",
            "training": {"epochs": 1},
            "search": {"learning_rate": {"float": [1e-4, 1e-1], "log": True}},
            "start": [],
            "sampler": "random",
            "pruner": "none",
            "budget": {"trials": trials},
            "keep_models": 1,
        }
        path = Path(name) / "study.yaml"
        path.write_text(yaml.safe_dump(study))
        os.environ["MLRUNS_DIR"] = f"{name}/mlruns"
        command = [sys.executable, "-m", "sweeps.cli", "run", str(path), "--workers", str(workers)]
        began = time.monotonic()
        with (Path(name) / "terminal.log").open("wb") as terminal:
            sweep = subprocess.Popen(command, cwd=ROOT, stdout=terminal, stderr=terminal)
            readings = _watch(sweep, Path(name) / "mlruns" / "optuna.db")
        seconds = time.monotonic() - began
        if sweep.returncode:
            raise SystemExit((Path(name) / "terminal.log").read_text())
        from sweeps.stores import names
        from sweeps.stores.store import Store

        ended = Store(STUDY).trials()
        logs = [log.read_text(errors="replace") for log in Path(name).rglob("worker-*.log")]
        states = [trial.state.name.lower() for trial in ended]
        return {
            "trials": {state: states.count(state) for state in sorted(set(states))},
            "workers": workers,
            "faults": sum(len(trial.user_attrs.get(names.FAULTS, [])) for trial in ended),
            "tracebacks": sum(log.count("Traceback") for log in logs),
            "seconds": round(seconds),
            "readings": readings,
        }


def run_trivial(trials: int, workers: int) -> dict[str, Any]:
    """Run trials that report one number and train nothing, with both stores, in this process; return as `run` does."""
    from pipelines import backend, datasets
    from pipelines.execute import Outcome
    from pipelines.train import AfterEpoch, BeforeEpoch, End, EpochMetrics, Epochs
    from sweeps.running import worker
    from sweeps.study import study_file

    readings: list[dict[str, Any]] = []

    def execute(_config: Any, run: Any, *_: Any) -> Epochs[Outcome]:
        yield BeforeEpoch(0)
        measured_now = {"loss": 1.0, "accuracy": 0.5}
        yield AfterEpoch(0, [EpochMetrics(measured_now, measured_now, 0.1, 0.0)])
        measured = {"val_accuracy": 0.5, "test_accuracy": 0.5}
        run.log_summary(measured)
        memory = round(psutil.Process().memory_info().rss / 2**20)
        readings.append({"done": len(readings), "parent": memory, "workers": {str(os.getpid()): memory}})
        return Outcome(End.COMPLETED, measured)

    vars(worker)["execute"] = execute  # in place of training
    backend.configure("cpu")
    with tempfile.TemporaryDirectory() as name:
        os.environ["MLRUNS_DIR"] = name
        search = {"learning_rate": {"float": [1e-4, 1e-1], "log": True}}
        study = study_file.check(
            {"name": STUDY, "model": "softmax", "dataset": "mnist-5k", "search": search, "start": [], "pruner": "none"}
            | {"budget": {"trials": trials}},
            STUDY,
        )
        one = processes.worker_here(study, datasets.load("mnist-5k"))
        began = time.monotonic()
        one.run_trials()
        states = [trial.state.name.lower() for trial in one._store.trials()]
    return {
        "trials": {state: states.count(state) for state in sorted(set(states))},
        "workers": workers,
        "faults": 0,
        "tracebacks": 0,
        "seconds": round(time.monotonic() - began),
        "readings": readings,
    }


def _watch(sweep: "subprocess.Popen[bytes]", database: Path) -> list[dict[str, Any]]:
    """Read the memory (MiB) of parent and workers, and the number of trials done, until the sweep ends."""
    readings: list[dict[str, Any]] = []
    while sweep.poll() is None:
        time.sleep(PERIOD)
        try:
            parent = psutil.Process(sweep.pid)
            memory = {str(each.pid): round(each.memory_info().rss / 2**20) for each in processes.workers(sweep.pid)}
            readings.append(
                {"done": _done(database), "parent": round(parent.memory_info().rss / 2**20), "workers": memory}
            )
        except (psutil.Error, sqlite3.Error):
            continue
    return readings


def _done(database: Path) -> int:
    """Return how many trials have ended, without taking part in the locking of the sweep's own processes."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as file:
        return int(
            file.execute("SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED', 'FAIL')").fetchone()[0]
        )


def show(found: dict[str, Any]) -> None:
    """Print the memory by hundreds of trials, and the rest in a line."""
    print(f"{'trials':>12} {'parent (MiB)':>13} {'a worker (MiB)':>15} {'workers so far':>15}")
    seen: set[str] = set()
    total = sum(found["trials"].values())
    tenth = max(1, total // 10)
    for first in range(0, total, tenth):
        here = [reading for reading in found["readings"] if first <= reading["done"] < first + tenth]
        seen |= {pid for reading in here for pid in reading["workers"]}
        if here:
            parent = statistics.median(reading["parent"] for reading in here)
            each = statistics.median(mib for reading in here for mib in reading["workers"].values())
            print(f"{first:>5} – {first + tenth:<4} {parent:>13.0f} {each:>15.0f} {len(seen):>15}")
    print(
        f"{found['trials']}, {found['workers']} workers, {found['faults']} faults, {found['tracebacks']} tracebacks in their "
        f"logs, {found['seconds']} s"
    )


if __name__ == "__main__":
    main()
