"""What a population costs the host: milliseconds per member and epoch, and per trial, beside a program that takes no time.

    KERAS_BACKEND=jax python -m benchmarks.host

Everything is a real study's, on SQLite: claims, checkpoints, validation's metrics, what is logged, evaluation, artifacts. Only
the compiled program is left out: it answers at once, with numbers of no meaning. Two lengths of training tell the cost of an
epoch from that of a trial.
"""

import os
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks import processes, recording

RESULTS = recording.RESULTS / "host.csv"
STUDY = "host"
SIZES = (16, 64, 128)
EPOCHS = (1, 6)


def main() -> None:
    """Measure each size, and print a line for it."""
    os.environ["KERAS_BACKEND"] = "jax"
    from pipelines import backend

    backend.configure("cpu")
    measure(8, 1)  # what is loaded and opened once
    for members in SIZES:
        few, many = (measure(members, epochs) for epochs in EPOCHS)
        an_epoch = (many - few) / (EPOCHS[1] - EPOCHS[0]) / members
        a_trial = few / members - EPOCHS[0] * an_epoch
        line = {"members": members, "epoch_ms": round(1000 * an_epoch, 2), "trial_ms": round(1000 * a_trial, 1)}
        recording.append(RESULTS, {"when": time.strftime("%Y-%m-%d %H:%M"), **line})
        print(line, flush=True)


def measure(members: int, epochs: int) -> float:
    """Return the seconds that a study of so many trials takes, all of them members of one population."""
    from pipelines import datasets, paths
    from pipelines.population import Population
    from sweeps.study import study_file

    population: Any = Population
    population._as_memory_allows, population.probabilities = _at_once, _no_matter_what
    search = {"dropout": {"float": [0.1, 0.5]}, "learning_rate": {"float": [1e-4, 1e-2], "log": True}}
    content: dict[str, Any] = {"name": STUDY, "model": "lean_cnn", "dataset": "mnist-5k", "search": search, "start": []}
    content |= {"sampler": "random", "population": members, "budget": {"trials": members}}
    content |= {"training": {"epochs": epochs}, "pruner": {"name": "median", "n_startup_trials": 10**6}}
    with tempfile.TemporaryDirectory() as name:
        os.environ["MLRUNS_DIR"] = name
        paths.mlruns().mkdir(exist_ok=True)
        worker = processes.worker_here(study_file.check(content, STUDY), datasets.load("mnist-5k"))
        began = time.perf_counter()
        worker.run_trials()
        return time.perf_counter() - began


def _at_once(self: Any, function: Any, of_members: Any, *images: Any) -> Any:
    """Answer in the program's place: states as they were, or the same probabilities for every image."""
    if function is self._predict:
        return np.full((self.size, len(images[0]), 10), 0.1, np.float32)
    nothing = np.ones(self.size, np.float32)
    return of_members[0], nothing, nothing, nothing


def _no_matter_what(self: Any, weights: Any, x: Any) -> Any:
    return np.full((len(x), 10), 0.1, np.float32)


if __name__ == "__main__":
    main()
