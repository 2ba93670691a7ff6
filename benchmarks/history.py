"""What a long history costs: reading 1,000 to 100,000 runs back, asking for the next trial after 10,000, and starting up.

    python -m benchmarks.history

The history is made by a worker whose trials report made-up accuracies in place of training; beyond 100, its trials are copied in
both databases, SQLite here, row by row. Each value is measured in a fresh process, `runs()` and MLflow's own `search_runs` in
turn, and written to `results/history.csv` as it comes; the same command goes on with what is missing.
"""

import argparse
import json
import os
import resource
import signal
import sqlite3
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import processes, recording

RESULTS = recording.RESULTS / "history.csv"
STUDY = "lean_cnn"
TEMPLATES, EPOCHS = 100, 15
ROUNDS = 5
SIZES = {  # runs -> what is measured there
    100: ["ask, fresh", "ask, kept", "sweep --help", "sweep best", "sweep run"],
    1_000: ["runs()", "search_runs", "best_runs()", "search_runs, top 10", "ask, fresh", "ask, kept"],
    10_000: ["runs()", "search_runs", "best_runs()", "search_runs, top 10", "ask, fresh", "ask, kept"],
    100_000: ["runs()", "search_runs", "best_runs()"],
}


def main() -> None:
    """Measure what is missing, and print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=100_000, help="the longest history, in runs")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(MEASURED[options.one]()))
        return
    for size, wanted in SIZES.items():
        if size <= options.most:
            _measure(size, wanted)
    show(recording.read(RESULTS))


def show(lines: list[dict[str, str]]) -> None:
    """Print a line for each thing measured: median, least and most of its seconds, and memory."""
    print(f"{'runs':>7}  {'what':<20} {'n':>2}  {'median s':>8}  {'from':>7}  {'to':>7}  {'MB':>6}")
    for runs, what in dict.fromkeys((line["runs"], line["what"]) for line in lines):
        of_it = [line for line in lines if (line["runs"], line["what"]) == (runs, what)]
        seconds = [float(line["seconds"]) for line in of_it]
        memory = statistics.median(float(line["peak_mb"]) for line in of_it)
        middle = statistics.median(seconds)
        print(
            f"{runs:>7}  {what:<20} {len(of_it):>2}  {middle:>8.3f}  {min(seconds):>7.3f}  {max(seconds):>7.3f}  {memory:>6.0f}"
        )


def _measure(size: int, wanted: list[str]) -> None:
    missing = [what for _ in range(ROUNDS) for what in wanted]
    for line in recording.read(RESULTS):
        if line["runs"] == str(size) and line["what"] in missing:
            missing.remove(line["what"])
    if not missing:
        return
    with tempfile.TemporaryDirectory() as name:
        environment = processes.environment(Path(name))
        _call("make", environment)
        multiply(Path(name), size)
        for what in missing:
            measured = _call(what, environment)
            recording.append(RESULTS, {"runs": size, "what": what, **measured})


# In a fresh process


def make() -> dict[str, Any]:
    """Make a history of as many trials as there are templates, through a worker, in MLRUNS_DIR."""
    import numpy as np

    from pipelines import backend, datasets
    from pipelines.execute import Outcome
    from pipelines.train import AfterEpoch, BeforeEpoch, End, EpochMetrics, Epochs
    from sweeps.running import worker
    from sweeps.study import study_file

    random = np.random.default_rng(0)

    def pretend(config: Any, run: Any, *_: Any) -> Epochs[Outcome]:
        best = 0.0
        for epoch in range(config.training.epochs):
            yield BeforeEpoch(epoch)
            accuracy = float(0.99 - 0.1 / (epoch + 1) + random.normal(0, 0.002))
            best = max(best, accuracy)
            measured_now = {"loss": 0.1, "accuracy": accuracy}
            yield AfterEpoch(epoch, [EpochMetrics(measured_now, measured_now, 1e-3, 10.0)])
        measured = {name: 1.0 for name in ("parameters", "kept_epoch", "seconds", "samples_per_second", "test_loss")}
        measured |= {"epochs_trained": EPOCHS, "val_accuracy": best, "test_accuracy": best}
        run.log_summary(measured)
        return Outcome(End.COMPLETED, measured)

    backend.configure()
    content = study_file._read(study_file.find(STUDY))
    content |= {"dataset": "mnist-5k", "pruner": "none", "budget": {"trials": TEMPLATES}}
    study = study_file.check(content, STUDY)
    vars(worker)["execute"] = pretend
    processes.worker_here(study, datasets.load("mnist-5k")).run_trials()
    return {}


def read_runs() -> dict[str, Any]:
    """Time `runs()`, the store being open."""
    from sweeps import runs
    from sweeps.results import frames

    frames.studies()
    return _timed(runs)


def read_best() -> dict[str, Any]:
    """Time `best_runs()`, the store being open."""
    from sweeps import best_runs
    from sweeps.results import frames

    frames.studies()
    return _timed(best_runs)


def search_runs() -> dict[str, Any]:
    """Time MLflow's own way to the same values, the store being open."""
    import mlflow

    experiment = _with_mlflow()
    return _timed(lambda: mlflow.search_runs([experiment]))


def search_top() -> dict[str, Any]:
    """Time MLflow's own way to the ten best, the store being open."""
    import mlflow

    experiment = _with_mlflow()
    order = ["metrics.val_accuracy DESC"]
    return _timed(lambda: mlflow.search_runs([experiment], "tags.phase = 'sweep'", order_by=order, max_results=10))


def ask_fresh() -> dict[str, Any]:
    """Time the first ask (TPE) of a process, which reads the whole history."""
    return _ask(asks=1)


def ask_kept() -> dict[str, Any]:
    """Time the third ask of a process."""
    return _ask(asks=3)


def _ask(asks: int) -> dict[str, Any]:
    from sweeps.stores import record
    from sweeps.stores.lease import Lease
    from sweeps.stores.store import Store
    from sweeps.study import pruners, samplers, space

    store = Store(STUDY)
    study = record.read_stored(STUDY, store.attributes())
    lease = Lease.of_this_process("here", os.getppid())

    def ask() -> list[int]:
        claimed = store.claim(None, lease)
        assert claimed is not None
        trial = store.ask(claimed, [], samplers.sampler(study, claimed.number), pruners.pruner(study))
        space.suggest(trial, study.search)
        return [claimed.number]

    for _ in range(asks - 1):
        ask()
    return _timed(ask)


def start_help() -> dict[str, Any]:
    """Time `sweep --help`."""
    return _timed(lambda: _command("--help").communicate()[0].splitlines(), of_a_command=True)


def start_best() -> dict[str, Any]:
    """Time `sweep best`."""
    return _timed(lambda: _command("best").communicate()[0].splitlines(), of_a_command=True)


def start_run() -> dict[str, Any]:
    """Time `sweep run quickstart`, from nothing, until its first epoch begins."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLRUNS_DIR"] = folder

        def first_epoch() -> list[int]:
            process = _command("run", "quickstart")
            try:
                while not epochs_begun(Path(folder)):
                    assert process.poll() is None, "the sweep ended before its first epoch"
                    time.sleep(0.05)
            finally:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
            return []

        return _timed(first_epoch, of_a_command=True)


def _command(*arguments: str) -> "subprocess.Popen[str]":
    command = processes.sweep(*arguments)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def epochs_begun(folder: Path) -> int:
    """Return how many epochs have begun in any one of the studies in a folder."""
    try:
        with sqlite3.connect(f"file:{folder / 'optuna.db'}?mode=ro", uri=True) as database:
            return int((database.execute("SELECT max(spent) FROM epochs_begun").fetchone() or [0])[0] or 0)
    except sqlite3.OperationalError:  # it is not there yet, or being made
        return 0


MEASURED: dict[str, Callable[[], dict[str, Any]]] = {
    "make": make,
    "runs()": read_runs,
    "best_runs()": read_best,
    "search_runs": search_runs,
    "search_runs, top 10": search_top,
    "ask, fresh": ask_fresh,
    "ask, kept": ask_kept,
    "sweep --help": start_help,
    "sweep best": start_best,
    "sweep run": start_run,
}


def _with_mlflow() -> str:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{os.environ['MLRUNS_DIR']}/mlflow.db")
    experiment = mlflow.get_experiment_by_name(STUDY)  # connects
    assert experiment is not None
    return str(experiment.experiment_id)


def _timed(call: Callable[[], Any], of_a_command: bool = False) -> dict[str, Any]:
    """Call; return seconds, what the process's memory grew by at most (MB; all of it, of a command), and the number of rows."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    found = call()
    seconds = time.perf_counter() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if of_a_command:
        grown = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"seconds": round(seconds, 4), "peak_mb": round(grown / 1024, 1), "rows": len(found)}


def _call(what: str, environment: dict[str, str]) -> Any:
    return processes.answer("benchmarks.history", "--one", what, environment=environment)


# Copies of rows


def multiply(folder: Path, runs: int) -> None:
    """Copy the trials in both of a folder's databases until there are `runs`; the copies' accuracies differ a little."""
    with sqlite3.connect(folder / "mlflow.db") as database:
        _multiply_runs(database, runs)
    with sqlite3.connect(folder / "optuna.db") as database:
        _multiply_trials(database, runs)


def _multiply_runs(database: sqlite3.Connection, wanted: int) -> None:
    templates = [run for (run,) in database.execute("SELECT run_uuid FROM tags WHERE key = 'trial'")]
    for number in range(len(templates), wanted):
        old, new = templates[number % len(templates)], uuid.uuid4().hex
        for table in ("runs", "params", "metrics", "latest_metrics", "tags"):
            _copy_rows(database, table, "run_uuid", old, {"run_uuid": new})
        database.execute("UPDATE tags SET value = ? WHERE run_uuid = ? AND key = 'trial'", (str(number), new))
        changed = "UPDATE {} SET value = value + ? WHERE run_uuid = ? AND key = 'val_accuracy'"
        for table in ("metrics", "latest_metrics"):
            database.execute(changed.format(table), (-1e-7 * number, new))
        links = database.execute("SELECT input_uuid FROM inputs WHERE destination_id = ?", (old,)).fetchall()
        for (link,) in links:
            _copy_rows(database, "inputs", "input_uuid", link, {"input_uuid": uuid.uuid4().hex, "destination_id": new})


def _multiply_trials(database: sqlite3.Connection, wanted: int) -> None:
    done = "SELECT trial_id FROM trials WHERE state = 'COMPLETE' ORDER BY number"
    templates = [trial for (trial,) in database.execute(done)]
    database.execute("DELETE FROM trials WHERE state = 'WAITING'")
    (trial_id,) = database.execute("SELECT max(trial_id) FROM trials").fetchone()
    for number in range(len(templates), wanted):
        old, trial_id = templates[number % len(templates)], trial_id + 1
        _copy_rows(database, "trials", "trial_id", old, {"trial_id": trial_id, "number": number})
        for table, key in {
            "trial_params": "param_id",
            "trial_values": "trial_value_id",
            "trial_intermediate_values": "trial_intermediate_value_id",
            "trial_user_attributes": "trial_user_attribute_id",
        }.items():
            _copy_rows(database, table, "trial_id", old, {"trial_id": trial_id, key: None})
        database.execute("UPDATE trial_values SET value = value - ? WHERE trial_id = ?", (1e-7 * number, trial_id))


def _copy_rows(database: sqlite3.Connection, table: str, key: str, value: Any, changes: dict[str, Any]) -> None:
    columns = [column[1] for column in database.execute(f"PRAGMA table_info({table})")]
    chosen = ", ".join("?" if column in changes else column for column in columns)
    given = [changes[column] for column in columns if column in changes]
    database.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {chosen} FROM {table} WHERE {key} = ?", (*given, value)
    )


if __name__ == "__main__":
    main()
