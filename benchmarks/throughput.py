"""How fast the lean CNN trains, by how it is asked to: batches a call, threads, and workers; against what the machine multiplies.

    python -m benchmarks.throughput

Each measurement is a fresh process, or two at once: one epoch of 12,800 images to warm up, then two that are timed. The order of
settings turns around from round to round; lines go to `results/throughput.csv` as they come, and the same command goes on with
them. What a setting may not change is the result: the weights after training are compared by their digest.
"""

import argparse
import hashlib
import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks import processes, recording

RESULTS = recording.RESULTS / "throughput.csv"
IMAGES, EPOCHS, ROUNDS = 12_800, 2, 5
BATCHES = (32, 128)
CORES = os.cpu_count() or 1
WORKERS = [
    (1, CORES, 1),
    (1, CORES, 100),
    (1, 1, 1),
    (CORES, 1, 1),
    (CORES, 1, 100),
]  # workers, threads each, batches a call
SETTING = ("batch", "workers", "threads", "steps")
FORWARD = 2 * (
    28 * 28 * 32 * 9 + 14 * 14 * 32 * 9 * 32 + 7 * 7 * 32 * 9 * 32 + 3 * 3 * 16 * 9 * 32 + 144 * 128 + 128 * 10
)
TRAINING = 3 * FORWARD  # operations an image: forwards, and backwards to weights and to inputs


def main() -> None:
    """Measure what is missing, and print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=3, type=int, metavar=("BATCH", "THREADS", "STEPS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one)))
        return
    settings = [(batch, *resources) for batch in BATCHES for resources in WORKERS]
    for number in range(ROUNDS):
        known = {(line["round"], *(line[name] for name in SETTING)) for line in recording.read(RESULTS)}
        for setting in settings if number % 2 == 0 else settings[::-1]:
            if (str(number), *map(str, setting)) not in known:
                recording.append(
                    RESULTS, {"round": number, **dict(zip(SETTING, setting, strict=True)), **together(*setting)}
                )
    show(recording.read(RESULTS))


def together(batch: int, workers: int, threads: int, steps: int) -> dict[str, Any]:
    """Measure in so many processes at once; return images and operations a second of all, and the longest first epoch."""

    def one(_: int) -> dict[str, Any]:
        return dict(processes.answer("benchmarks.throughput", "--one", batch, threads, steps))

    with ThreadPoolExecutor(workers) as pool:
        told = list(pool.map(one, range(workers)))
    whole = {name: round(sum(each[name] for each in told), 1) for name in ("images_per_second", "flops")}
    first = max(each["first_seconds"] for each in told)
    return whole | {"first_seconds": first, "weights": " ".join(sorted({each["weights"] for each in told}))}


def show(lines: list[dict[str, str]]) -> None:
    """Print a line a setting: images a second, what share of the machine's multiplications that is, first epoch, and digest.

    `ratio`: to one worker with all cores and one batch a call, in the same round.
    """
    print(f"{TRAINING / 1e6:.1f} million operations an image")
    named = "".join(f"{name:>8}" for name in SETTING)
    print(f"{named}  n images/s    from      to  ratio  from    to  matmul  first s  weights")
    usual = {
        (line["round"], line["batch"]): float(line["images_per_second"])
        for line in lines
        if _setting(line)[1:] == WORKERS[0]
    }
    for setting in sorted({_setting(line) for line in lines}):
        own = [line for line in lines if _setting(line) == setting]
        rates = [float(line["images_per_second"]) for line in own]
        known = [line for line in own if (line["round"], line["batch"]) in usual]
        ratios = [float(line["images_per_second"]) / usual[line["round"], line["batch"]] for line in known]
        share = statistics.median(float(line["images_per_second"]) * TRAINING / float(line["flops"]) for line in own)
        first = statistics.median(float(line["first_seconds"]) for line in own)
        digests = ", ".join(sorted({line["weights"] for line in own}))
        spread = f"{statistics.median(rates):>8.0f} {min(rates):>7.0f} {max(rates):>7.0f}"
        against = f"{statistics.median(ratios):>6.2f} {min(ratios):>5.2f} {max(ratios):>5.2f}"
        values = "".join(f"{value:>8}" for value in setting)
        print(f"{values} {len(own):>2} {spread} {against} {share:>7.0%} {first:>8.1f}  {digests}")


def _setting(line: dict[str, str]) -> tuple[int, ...]:
    return tuple(int(line[name]) for name in SETTING)


def measure(batch: int, threads: int, steps: int) -> dict[str, Any]:
    """Train; return images a second, the first epoch's seconds, a large matrix product's operations a second, and a digest.

    The digest is of the weights.
    """
    from pipelines import backend

    backend.configure("cpu", threads)
    import keras
    import numpy as np

    from models import lean_cnn

    random = np.random.default_rng(0)
    x = random.random((IMAGES, 28, 28, 1), np.float32)
    y = random.integers(0, 10, IMAGES)
    keras.utils.set_random_seed(0)
    model = lean_cnn.build()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], steps_per_execution=steps)
    began = time.perf_counter()
    model.fit(x, y, batch_size=batch, verbose=0, shuffle=False)
    first = time.perf_counter() - began
    began = time.perf_counter()
    model.fit(x, y, batch_size=batch, epochs=EPOCHS, verbose=0, shuffle=False)
    seconds = time.perf_counter() - began
    weights = hashlib.sha256(b"".join(np.asarray(weight).tobytes() for weight in model.get_weights())).hexdigest()
    rate = round(EPOCHS * IMAGES / seconds, 1)
    return {"images_per_second": rate, "first_seconds": round(first, 2), "flops": _matmul(), "weights": weights[:12]}


def _matmul() -> float:
    """Return the operations a second of a product of two large matrices of floats, by the same library."""
    from keras import ops

    size = 2048
    matrix = ops.ones((size, size))
    ops.convert_to_numpy(ops.matmul(matrix, matrix))
    began = time.perf_counter()
    for _ in range(10):
        ops.convert_to_numpy(ops.matmul(matrix, matrix))
    return round(10 * 2 * size**3 / (time.perf_counter() - began))


if __name__ == "__main__":
    main()
