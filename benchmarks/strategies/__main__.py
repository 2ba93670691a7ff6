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
STRATEGIES: dict[str, Callable[[Trainer, int], None]] = {
    BASELINE: partial(searches.sweep, sampler="tpe", pruner="none"),
    "Optuna: random, no pruner": partial(searches.sweep, sampler="random", pruner="none"),
    "Ray Tune: OptunaSearch, ASHA": searches.ray_tune,
    "Ray Tune: the same, halving": partial(searches.ray_tune, reduction_factor=2),
    "KerasTuner: Hyperband": searches.keras_tuner,
    "sweep: TPE, median": partial(searches.sweep, sampler="tpe", pruner="median"),
    "sweep: TPE, Hyperband": partial(searches.sweep, sampler="tpe", pruner="hyperband"),
    "sweep: TPE, ASHA (default)": partial(searches.sweep, sampler="tpe", pruner="asha"),
    "sweep: the same, recipe first": partial(searches.sweep, sampler="tpe", pruner="asha", start=["recipe"]),
    "sweep: random, ASHA": partial(searches.sweep, sampler="random", pruner="asha"),
    "sweep: TPE, ASHA, quarters": partial(
        searches.sweep, sampler="tpe", pruner={"name": "asha", "reduction_factor": 4}
    ),
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
    goal = table.target(rows)
    if options.what == "real":
        real.measure(goal)
        real.show(recording.read(real.RESULTS))
        return
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    RESULTS.unlink(missing_ok=True)
    for name, search in STRATEGIES.items():
        for seed in range(SEEDS):
            spent = replay(search, seed, rows, goal)
            recording.append(RESULTS, {"strategy": name, "seed": seed, "target": goal, **spent})
    show(recording.read(RESULTS))


def replay(search: Callable[[Trainer, int], None], seed: int, rows: Sequence[Row], goal: float) -> dict[str, int]:
    """Search the table until the accuracy `goal` is reached or nothing is left of it; return the epochs and trials that took.

    `reached` is 0 where all configurations were begun, and those that reach the target pruned before they did.
    """
    trainer = Trainer(rows, goal)
    with contextlib.suppress(Over):
        search(trainer, seed)
    return {"epochs": trainer.epochs, "trials": trainer.trials, "reached": int(trainer.reached)}


def show(lines: list[dict[str, str]]) -> None:
    """Print a line a strategy: epochs to the target, never where it was not reached, and what share of the baseline's."""
    print(f"target: {float(lines[0]['target']):.2%} of the validation images")
    baseline = np.median(_epochs(lines, BASELINE))
    print(
        f"{'strategy':<34} {'n':>3} {'reached':>7} {'median epochs':>13} {'quartiles':>11} {'trials':>6} {'of the first':>12}"
    )
    for strategy in dict.fromkeys(line["strategy"] for line in lines):
        own = [line for line in lines if line["strategy"] == strategy]
        trials = statistics.median(int(line["trials"]) for line in own)
        low, middle, high = np.percentile(_epochs(lines, strategy), [25, 50, 75], method="nearest")
        reached = sum(int(line["reached"]) for line in own)
        spread = f"{middle:>13.0f} {f'{low:.0f}–{high:.0f}':>11}"
        print(f"{strategy:<34} {len(own):>3} {reached:>7} {spread} {trials:>6.0f} {middle / baseline:>12.2f}")


def _epochs(lines: list[dict[str, str]], strategy: str) -> list[float]:
    own = [line for line in lines if line["strategy"] == strategy]
    return [float(line["epochs"]) if int(line["reached"]) else np.inf for line in own]


if __name__ == "__main__":
    main()
