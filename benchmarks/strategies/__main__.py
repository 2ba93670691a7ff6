"""What a strategy spends until a configuration is good enough: searches replayed over a table of recorded learning curves.

    python -m benchmarks.strategies record     # once: the table, by a sweep that prunes nothing; goes on where it was
    python -m benchmarks.strategies            # replay
    python -m benchmarks.strategies real       # two of the strategies as real sweeps, to see whether the replay is right

The table holds configurations of the lean CNN's search space, the recipe first and the others drawn at random, each trained for
15 epochs on `mnist-5k`. What a search proposes is answered, epoch by epoch, with the curve of the configuration next to it that
it has not had yet. Counted are epochs, until a validation accuracy is reached that one configuration in twenty reaches. Every
strategy has the same seeds.
"""

import argparse
import contextlib
import statistics
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import optuna

from benchmarks import recording
from benchmarks.strategies import real, searches, table
from benchmarks.strategies.table import Over, Row, Trainer

RESULTS = recording.RESULTS / "strategies.csv"
SEEDS = 50
BASELINE = "Optuna: TPE, no pruner"
DEFAULT = "sweep: TPE, Hyperband, recipe first"
STRATEGIES: dict[str, Callable[[Trainer, int], None]] = {
    BASELINE: partial(searches.sweep, sampler="tpe", pruner="none"),
    "Optuna: random, no pruner": partial(searches.sweep, sampler="random", pruner="none"),
    "Ray Tune: OptunaSearch, ASHA": searches.ray_tune,
    "Ray Tune: the same, halving": partial(searches.ray_tune, reduction_factor=2),
    "KerasTuner: Hyperband": searches.keras_tuner,
    "sweep: TPE, median": partial(searches.sweep, sampler="tpe", pruner="median"),
    "sweep: TPE, Hyperband": partial(searches.sweep, sampler="tpe", pruner="hyperband"),
    DEFAULT: partial(searches.sweep, sampler="tpe", pruner="hyperband", start=["recipe"]),
}


def main() -> None:
    """Record what is missing, or replay all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["record", "replay", "real"], default="replay")
    options = parser.parse_args()
    if options.what == "record":
        table.record()
        return
    rows = table.read()
    if options.what == "real":
        real.measure(table.target(rows))
        real.show(recording.read(real.RESULTS))
        return
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    RESULTS.unlink(missing_ok=True)
    for name, search in STRATEGIES.items():
        for seed in range(SEEDS):
            spent = replay(search, seed, rows)
            recording.append(RESULTS, {"strategy": name, "seed": seed, "target": table.target(rows), **spent})
    show(recording.read(RESULTS))


def replay(search: Callable[[Trainer, int], None], seed: int, rows: Sequence[Row]) -> dict[str, int]:
    """Search the table until the target is reached or nothing is left of it; return the epochs and trials that took."""
    trainer = Trainer(rows, table.target(rows))
    with contextlib.suppress(Over):
        search(trainer, seed)
    return {"epochs": trainer.epochs, "trials": trainer.trials}


def show(lines: list[dict[str, str]]) -> None:
    """Print a line a strategy: epochs to the target, and what share they are of the baseline's."""
    print(f"target: {float(lines[0]['target']):.2%} of the validation images")
    baseline = statistics.median(int(line["epochs"]) for line in lines if line["strategy"] == BASELINE)
    print(f"{'strategy':<36} {'n':>3} {'median epochs':>13} {'quartiles':>11} {'trials':>6} {'of the first':>12}")
    for strategy in dict.fromkeys(line["strategy"] for line in lines):
        own = [line for line in lines if line["strategy"] == strategy]
        trials = statistics.median(int(line["trials"]) for line in own)
        low, middle, high = np.percentile([int(line["epochs"]) for line in own], [25, 50, 75])
        print(
            f"{strategy:<36} {len(own):>3} {middle:>13.0f} {low:>5.0f}–{high:<5.0f} {trials:>6.0f} {middle / baseline:>12.2f}"
        )


if __name__ == "__main__":
    main()
