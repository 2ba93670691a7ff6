"""Trials an hour of the lean CNN, many as one program, against one at a time: on whatever device is at hand, in ten minutes.

    KERAS_BACKEND=jax python -m benchmarks.population

Timed are batches of the recipe, compiled before: by Keras's `fit`, so many batches a call, and by populations of 1 to 128 members
(pipelines/population.py). What has no time left is left out, and said. Trials an hour are worked out: 15
epochs of 54,000 images at that rate; validation, figures and logging come on top, for both. The floors are the operations and
the bytes of a step at the rates at which this device multiplies large matrices and copies large arrays.
"""

import os
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import recording
from benchmarks.throughput import TRAINING

RESULTS = recording.RESULTS / "population.csv"
LIMIT = 520.0  # seconds after which nothing more is begun
SIZES = (1, 8, 32, 128)
STEPS_A_CALL = (1, 10)
BATCH, BATCHES, ROUNDS = 128, 10, 5
PATIENCE = 20.0  # seconds of a setting after which no further round is begun
TRIAL = 15 * 54_000  # images that a trial of the recipe trains on


def main() -> None:
    """Measure, write a line for each setting, and print all."""
    os.environ["KERAS_BACKEND"] = "jax"
    from pipelines import backend, datasets

    backend.configure()
    began = time.perf_counter()
    dataset = datasets.load("mnist-5k")
    device = floor()
    settings: list[tuple[str, int, Callable[[], Any]]] = [
        (f"fit, {steps} a call", 1, partial(of_fit, dataset, steps)) for steps in STEPS_A_CALL
    ]
    settings += [("population", size, partial(of_population, dataset, size)) for size in SIZES]
    each = {"population": 0.0}  # seconds a member at the size before
    for name, size, measure in settings:
        if time.perf_counter() - began + size * each.get(name, 0) > LIMIT:
            print(f"{name}, {size} members: no time left")
            continue
        started = time.perf_counter()
        compiling, seconds = measure()
        each[name] = (time.perf_counter() - started) / size
        middle = statistics.median(seconds)
        line = {"how": name, "members": size, "compile_seconds": round(compiling, 2)}
        line |= {"step_ms": round(1000 * middle / BATCHES, 3), "rounds": len(seconds)}
        line |= {
            "least_ms": round(1000 * min(seconds) / BATCHES, 3),
            "most_ms": round(1000 * max(seconds) / BATCHES, 3),
        }
        line |= {"trials_an_hour": round(3600 * size * BATCHES * BATCH / middle / TRIAL, 2)}
        line |= {
            "of_peak": round(size * BATCHES * BATCH * TRAINING / middle / device["flops"], 4),
            "memory_mb": memory(),
        }
        recording.append(RESULTS, {"when": time.strftime("%Y-%m-%d %H:%M"), **line, **device})
        print(line, flush=True)
    show(recording.read(RESULTS))


def of_fit(dataset: Any, steps: int) -> tuple[float, list[float]]:
    """Time Keras's own `fit`; return the seconds until it is compiled, and those of each round of batches."""
    import keras

    from models import lean_cnn
    from pipelines.images import Scaling

    images = BATCH * BATCHES
    x, y = Scaling("by_255", dataset.train.x)(dataset.train.x[:images]), dataset.train.y[:images]
    model = lean_cnn.build()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], steps_per_execution=steps)

    def train() -> None:
        model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)

    keras.utils.set_random_seed(0)
    return _seconds(train), [_seconds(train) for _ in range(ROUNDS)]


def of_population(dataset: Any, size: int) -> tuple[float, list[float]]:
    """Time a population; return the seconds until it is compiled, and those of each round of batches."""
    import keras

    from models import lean_cnn
    from pipelines.config import TrainingSettings
    from pipelines.population import Population
    from pipelines.train import Training, compile_model

    settings = TrainingSettings.model_validate({"optimizer": "adam", "batch_size": BATCH})
    with TemporaryDirectory() as folder:
        model = lean_cnn.build()
        compile_model(model, settings)
        first = Training(model, dataset, settings, 0, Path(folder) / "none.npz", "benchmark")
        population = Population(first, size)
        compiling, seconds = population.time_batches(BATCHES), list[float]()
        while len(seconds) < ROUNDS and sum(seconds) < PATIENCE:
            seconds.append(population.time_batches(BATCHES))
    keras.utils.clear_session()
    return compiling, seconds


def floor() -> dict[str, Any]:
    """Return how fast this device multiplies (operations a second) and copies (bytes a second)."""
    import jax
    import jax.numpy as jnp

    from pipelines import backend

    matrix = jnp.ones((4096, 4096) if jax.default_backend() != "cpu" else (2048, 2048), jnp.float32)
    array = jnp.ones(2**26, jnp.float32)
    product, copied = jax.jit(lambda a: a @ a), jax.jit(lambda a: a + 1)
    for function, given in ((product, matrix), (copied, array)):
        function(given).block_until_ready()
    multiplying = min(_seconds(lambda: product(matrix).block_until_ready()) for _ in range(5))
    copying = min(_seconds(lambda: copied(array).block_until_ready()) for _ in range(5))
    facts = backend.describe()
    rates = {"flops": round(2 * matrix.shape[0] ** 3 / multiplying), "bytes": round(2 * array.nbytes / copying)}
    return {"device": facts["device_name"], **rates}


def memory() -> int:
    """Return the most memory that was in use until now, in MB: of the GPU, or of this process."""
    import jax

    told = jax.local_devices()[0].memory_stats() or {}
    of_process = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(int(told.get("peak_bytes_in_use", of_process)) / 1e6)


def bytes_of_a_step(members: int) -> int:
    """Return the bytes that a step moves at the least: each activation is written, read, and its gradient written and read."""
    activations = 28 * 28 * (1 + 32) + 14 * 14 * (32 + 32) + 7 * 7 * (32 + 32) + 3 * 3 * (32 + 16 + 16) + 128 + 10
    weights = 43_290 * (2 + 4 + 4)  # weights, and Adam's two means: each read and written; gradients twice
    return 4 * members * (4 * BATCH * activations + weights)


def show(lines: list[dict[str, str]]) -> None:
    """Print a line a setting of the newest measurement of each, with the floors of a step."""
    newest = {(line["device"], line["how"], line["members"]): line for line in lines}
    print(f"{'how':<15} {'members':>7} {'ms a step':>9} {'least':>9} {'most':>9} {'floor':>6}", end=" ")
    print(f"{'trials/h':>8} {'of peak':>7} {'compile s':>9} {'MB':>6}")
    for line in newest.values():
        members = int(line["members"])
        floors = members * BATCH * TRAINING / float(line["flops"]), bytes_of_a_step(members) / float(line["bytes"])
        times = " ".join(f"{float(line[name]):>9.2f}" for name in ("step_ms", "least_ms", "most_ms"))
        print(
            f"{line['how']:<15} {members:>7} {times} {1000 * max(floors):>6.2f} {float(line['trials_an_hour']):>8.2f} "
            f"{float(line['of_peak']):>7.1%} {float(line['compile_seconds']):>9.1f} {line['memory_mb']:>6}"
        )


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
