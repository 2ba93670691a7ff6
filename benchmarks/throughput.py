"""How fast the lean CNN trains, by how it is asked to: batches a call, and threads; against what the machine multiplies.

    python -m benchmarks.throughput

Each measurement is a fresh process: one epoch of 12,800 images to warm up, then two that are timed. Settings alternate from round
to round; lines go to `results/throughput.csv` as they come, and the same command goes on with them. What a setting may not change
is the result: the weights after training are compared by their digest.
"""

import argparse
import hashlib
import json
import os
import statistics
import time
from typing import Any

from benchmarks import processes, recording

RESULTS = recording.RESULTS / "throughput.csv"
IMAGES, BATCH, EPOCHS, ROUNDS = 12_800, 128, 2, 5
CORES = os.cpu_count() or 1
SETTINGS = [(threads, steps) for threads in sorted({1, CORES}) for steps in (1, 10, 100)]
FORWARD = 2 * (
    28 * 28 * 32 * 9 + 14 * 14 * 32 * 9 * 32 + 7 * 7 * 32 * 9 * 32 + 3 * 3 * 16 * 9 * 32 + 144 * 128 + 128 * 10
)
TRAINING = 3 * FORWARD  # operations an image: forwards, and backwards to weights and to inputs


def main() -> None:
    """Measure what is missing, and print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=2, type=int, metavar=("THREADS", "STEPS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one)))
        return
    for number in range(ROUNDS):
        known = {(line["round"], line["threads"], line["steps"]) for line in recording.read(RESULTS)}
        for threads, steps in SETTINGS if number % 2 == 0 else SETTINGS[::-1]:
            if (str(number), str(threads), str(steps)) not in known:
                told = processes.answer("benchmarks.throughput", "--one", threads, steps)
                recording.append(RESULTS, {"round": number, "threads": threads, "steps": steps, **told})
    show(recording.read(RESULTS))


def show(lines: list[dict[str, str]]) -> None:
    """Print a line a setting: images a second, what share of the machine's multiplications that is, and the digest."""
    print(f"{TRAINING / 1e6:.1f} million operations an image")
    print(f"{'threads':>7} {'steps':>6} {'n':>2} {'images/s':>9} {'from':>7} {'to':>7} {'of matmul':>9}  weights")
    for threads, steps in dict.fromkeys((line["threads"], line["steps"]) for line in lines):
        own = [line for line in lines if (line["threads"], line["steps"]) == (threads, steps)]
        rates = [float(line["images_per_second"]) for line in own]
        share = statistics.median(float(line["images_per_second"]) * TRAINING / float(line["flops"]) for line in own)
        digests = ", ".join(sorted({line["weights"] for line in own}))
        spread = f"{statistics.median(rates):>9.0f} {min(rates):>7.0f} {max(rates):>7.0f}"
        print(f"{threads:>7} {steps:>6} {len(own):>2} {spread} {share:>9.0%}  {digests}")


def measure(threads: int, steps: int) -> dict[str, Any]:
    """Train; return images a second, the operations a second of a large matrix product, and the digest of the weights."""
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
    model.fit(x, y, batch_size=BATCH, verbose=0, shuffle=False)
    began = time.perf_counter()
    model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0, shuffle=False)
    seconds = time.perf_counter() - began
    weights = hashlib.sha256(b"".join(np.asarray(weight).tobytes() for weight in model.get_weights())).hexdigest()
    return {"images_per_second": round(EPOCHS * IMAGES / seconds, 1), "flops": _matmul(), "weights": weights[:12]}


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
