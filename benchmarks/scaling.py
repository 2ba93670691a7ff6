"""How many workers one PostgreSQL database carries: trials that only sleep and report, from 1 to 64 worker processes.

    python -m benchmarks.scaling

Each process does what a worker does with the database, through the same code: claim, lease, ask (TPE), and for each epoch the
lease checked, the epoch counted, its value reported, the pruner asked. In place of the training it sleeps. PostgreSQL runs on
loopback. Levels are run in turn, up and down; each is one line of the results, and the same command goes on with them.
"""

import argparse
import json
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.loopback import Postgres

RESULTS = Path(__file__).parent / "results" / "scaling.jsonl"
LEVELS = (1, 2, 4, 8, 16, 32, 64)
ORDER = (*LEVELS, *reversed(LEVELS))
EPOCHS, EPOCH_SECONDS = 5, 1.0
TICKETS = 10_000
WINDOW = 30.0  # seconds for which a level is measured
STUDY = """
name: scaling
model: lean_cnn
dataset: mnist-5k
training: {epochs: 5}
search:
  filters1: {int: [8, 64]}
  dropout: {float: [0.0, 0.6]}
  l2: {float: [0.000001, 0.01], log: true}
  learning_rate: {float: [0.0001, 0.01], log: true}
pruner: median
budget: {trials: 10000}
"""


def main() -> None:
    """Measure what is missing, and print all."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that PostgreSQL ends with us
    RESULTS.parent.mkdir(exist_ok=True)
    while len(measured := _read()) < len(ORDER):
        with tempfile.TemporaryDirectory() as name, Postgres(Path(name)) as server:
            found = measure(server, ORDER[len(measured)])
        with RESULTS.open("a") as file:
            file.write(json.dumps(found) + "\n")
    show(measured)


def show(measured: list[dict[str, Any]]) -> None:
    """Print a line a level: medians of its rounds."""
    columns = {"rate": 2, "claim": 1, "ask": 1, "epoch": 1, "slowest_epoch": 0, "finish": 1, "connections": 0, "cpu": 2}
    print("workers  of ideal  " + "  ".join(f"{name:>13}" for name in columns))
    for level in dict.fromkeys(line["workers"] for line in measured):
        rounds = [line for line in measured if line["workers"] == level]
        medians = {name: statistics.median(line[name] for line in rounds) for name in columns}
        ideal = level / (EPOCHS * EPOCH_SECONDS)
        cells = "  ".join(f"{medians[name]:>13.{places}f}" for name, places in columns.items())
        print(f"{level:>7}  {medians['rate'] / ideal:>8.0%}  {cells}")


def measure(server: Postgres, workers: int) -> dict[str, Any]:
    """Run `workers` processes for a while; return trials a second, latencies in ms, connections, and busy cores."""
    os.environ["OPTUNA_STORAGE"] = server.new_database()
    from sweeps.stores.store import Store

    context = multiprocessing.get_context("spawn")
    ready, stop, answers = context.Barrier(workers + 1), context.Event(), context.Queue()
    Store.create("scaling")
    processes = [context.Process(target=_work, args=(ready, stop, answers, seed)) for seed in range(workers)]
    for process in processes:
        process.start()
    ready.wait()
    time.sleep(EPOCHS * EPOCH_SECONDS)  # by then they are out of step
    begun, busy, connections = time.monotonic(), _cpu_seconds(), []
    done = _finished(server)
    while time.monotonic() - begun < WINDOW:
        time.sleep(1)
        count = server.run_sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sweep'")
        connections.append(int(count))
    seconds = time.monotonic() - begun
    rate, cpu = (_finished(server) - done) / seconds, (_cpu_seconds() - busy) / seconds
    stop.set()
    latencies = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    medians = {
        name: 1000 * statistics.median(value for each in latencies for value in each[name])
        for name in ("claim", "ask", "epoch", "finish")
    }
    return {
        "workers": workers,
        "rate": rate,
        **medians,
        "slowest_epoch": 1000 * max(value for each in latencies for value in each["epoch"]),
        "connections": max(connections),
        "cpu": cpu,
        "cores": os.cpu_count(),
    }


def _work(ready: Any, stop: Any, answers: Any, seed: int) -> None:
    """Do what a worker does with the database, and sleep in place of training; answer with the seconds that each part took."""
    import tempfile

    import numpy as np
    import yaml

    from sweeps.stores.lease import Lease
    from sweeps.stores.store import Store
    from sweeps.study import pruners, samplers, space, study_file

    from optuna.trial import TrialState  # isort: skip

    os.environ["MLRUNS_DIR"] = tempfile.gettempdir()
    study = study_file.check(yaml.safe_load(STUDY), "scaling")
    store, lease = Store("scaling"), Lease.of_this_process(f"worker-{seed}", os.getppid())
    pruner = pruners.pruner(study)
    random, took = np.random.default_rng(seed), dict[str, list[float]](claim=[], ask=[], epoch=[], finish=[])
    ready.wait()
    time.sleep(random.uniform(0, EPOCHS * EPOCH_SECONDS))
    while not stop.is_set():
        with _timed(took["claim"]):
            claimed = store.claim(TICKETS, lease)
        if claimed is None:
            break
        with _timed(took["ask"]):
            trial = store.ask(claimed, [], samplers.sampler(study, claimed.number), pruner)
            params = space.suggest(trial, study.search)
        for epoch in range(EPOCHS):
            time.sleep(EPOCH_SECONDS)
            with _timed(took["epoch"]):
                assert store.owns(claimed, lease)
                store.spend_epochs(1, None)
                store.report([(claimed, epoch + 1, 0.9 + 0.01 * epoch - float(params["dropout"]) / 50)])
                store.to_prune([claimed], pruner)
            if stop.is_set():
                break
        else:
            with _timed(took["finish"]):
                store.finish(claimed, TrialState.COMPLETE, [0.95 + random.uniform(0, 0.01)], ended="completed")
    answers.put(took)


@contextmanager
def _timed(into: list[float]) -> Iterator[None]:
    began = time.perf_counter()
    yield
    into.append(time.perf_counter() - began)


def _finished(server: Postgres) -> int:
    database = os.environ["OPTUNA_STORAGE"].rpartition("/")[2]
    return int(server.run_sql("SELECT count(*) FROM trials WHERE state = 'COMPLETE'", database))


def _cpu_seconds() -> float:
    """Return the CPU seconds that this machine has spent on programs."""
    import psutil

    times = psutil.cpu_times()
    return float(times.user + times.system)


def _read() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


if __name__ == "__main__":
    main()
