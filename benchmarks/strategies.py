"""What a strategy spends until a configuration is good enough: searches replayed over a table of recorded learning curves.

    python -m benchmarks.strategies record     # once: the table, by a sweep that prunes nothing; goes on where it was
    python -m benchmarks.strategies            # replay

The table holds configurations of the lean CNN's search space, the recipe first and the others drawn at random, each trained for
15 epochs on `mnist-5k`. A replayed search asks its sampler as a sweep does, and takes the configuration of the table next to what
it proposes that it has not had yet; the pruner sees the recorded curve, epoch by epoch. Counted are epochs, until a validation
accuracy is reached that one configuration in twenty reaches. Every strategy has the same seeds.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from optuna.trial import TrialState

from benchmarks import recording
from sweeps import space, study_file
from sweeps.study import Choice, Study

CURVES, RESULTS = recording.RESULTS / "curves.csv", recording.RESULTS / "strategies.csv"
CONFIGURATIONS, EPOCHS, SEEDS = 60, 15, 50
BEST_SHARE = 0.05  # of the configurations, whose best epoch reaches the target
STRATEGIES: dict[str, dict[str, Any]] = {
    "random, no pruner": {"sampler": "random", "pruner": "none"},
    "tpe, no pruner": {"sampler": "tpe", "pruner": "none"},
    "tpe, median": {"sampler": "tpe", "pruner": "median"},
    "tpe, hyperband": {"sampler": "tpe", "pruner": "hyperband"},
    "tpe, hyperband, from the recipe": {"sampler": "tpe", "pruner": "hyperband", "start": ["recipe"]},
    "random, hyperband": {"sampler": "random", "pruner": "hyperband"},
}
BASELINE = "tpe, no pruner"


def main() -> None:
    """Record what is missing, or replay all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["record", "replay"], default="replay")
    options = parser.parse_args()
    if options.what == "record":
        record()
        return
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    curves = read_curves()
    RESULTS.unlink(missing_ok=True)
    target = float(np.quantile([max(curve) for _, curve in curves], 1 - BEST_SHARE))
    for name, changes in STRATEGIES.items():
        for seed in range(SEEDS):
            spent = replay(_study({**changes, "seed": seed}), curves, target)
            recording.append(RESULTS, {"strategy": name, "seed": seed, "target": target, **spent})
    show(recording.read(RESULTS))


def show(lines: list[dict[str, str]]) -> None:
    """Print a line a strategy: epochs to the target, and what share they are of the baseline's with the same seed."""
    print(f"target: {float(lines[0]['target']):.2%} of the validation images")
    baseline = {line["seed"]: int(line["epochs"]) for line in lines if line["strategy"] == BASELINE}
    print(f"{'strategy':<34} {'n':>3} {'median epochs':>13} {'quartiles':>11} {'trials':>6} {'of the baseline':>15}")
    for strategy in dict.fromkeys(line["strategy"] for line in lines):
        own = [line for line in lines if line["strategy"] == strategy]
        epochs = [int(line["epochs"]) for line in own]
        trials = statistics.median(int(line["trials"]) for line in own)
        low, middle, high = np.percentile(epochs, [25, 50, 75])
        share = middle / statistics.median(baseline.values())
        print(f"{strategy:<34} {len(own):>3} {middle:>13.0f} {low:>5.0f}–{high:<5.0f} {trials:>6.0f} {share:>15.2f}")


def replay(study: Study, curves: list[tuple[dict[str, Any], list[float]]], target: float) -> dict[str, int]:
    """Search the table until a curve reaches `target`; return the epochs and trials that took."""
    untried = list(range(len(curves)))
    searching = optuna.create_study(study_name=f"{study.seed}", direction="maximize", pruner=space.pruner(study))
    epochs = 0
    for number in range(len(curves)):
        searching.sampler = space.sampler(study, number)
        if number == 0 and study.start:
            chosen = 0
        else:
            proposed = searching.ask()
            chosen = nearest(space.suggest(proposed, study.search), [curves[index][0] for index in untried], study)
            chosen = untried[chosen]
            searching.tell(proposed, state=TrialState.FAIL)  # samplers look past these
        untried.remove(chosen)
        configuration, curve = curves[chosen]
        searching.enqueue_trial(configuration)
        trial = searching.ask()
        space.suggest(trial, study.search)
        for step, accuracy in enumerate(curve, 1):
            epochs += 1
            if accuracy >= target:
                return {"epochs": epochs, "trials": number + 1}
            trial.report(accuracy, step)
            if trial.should_prune():
                searching.tell(trial, state=TrialState.PRUNED)
                break
        else:
            searching.tell(trial, max(curve))
    return {"epochs": epochs, "trials": len(curves)}  # pruned before it could show


def nearest(wanted: dict[str, Any], known: list[dict[str, Any]], study: Study) -> int:
    """Return the index of the configuration next to `wanted`, each dimension scaled to the range that is searched."""
    distances = np.zeros(len(known))
    for name, entry in study.search.items():
        assert not isinstance(entry, Choice), "the lean CNN's space has numbers alone"
        values = np.array([float(wanted[name]), *(float(each[name]) for each in known)])
        scale = np.log if entry.log else np.asarray
        places = scale(values)
        low, high = scale(np.array(entry.bounds, dtype=float))
        distances += ((places[1:] - places[0]) / (high - low)) ** 2
    return int(distances.argmin())


def record() -> None:
    """Train the table's configurations by a sweep, in `mlruns/curves/`, and write their curves."""
    from pipelines import paths

    folder = paths.make_mlruns() / "curves"
    folder.mkdir(exist_ok=True)
    file = folder / "study.yaml"
    changes = {"name": "curves", "sampler": "random", "pruner": "none", "start": ["recipe"], "seed": 0}
    file.write_text(yaml.safe_dump(_content(changes), sort_keys=False))
    environment = {**os.environ, "MLRUNS_DIR": str(folder)}
    subprocess.run([str(Path(sys.executable).parent / "sweep"), "run", str(file)], check=True, env=environment)
    os.environ["MLRUNS_DIR"] = str(folder)
    from sweeps.store import Store, curve

    with CURVES.open("w", newline="") as opened:
        writer = csv.writer(opened)
        names = list(_study(changes).search)
        writer.writerow([*names, *(f"epoch {number}" for number in range(1, EPOCHS + 1))])
        for trial in Store("curves").trials():
            if trial.state == TrialState.COMPLETE:
                writer.writerow([*(trial.params[name] for name in names), *curve(trial).values()])


def read_curves() -> list[tuple[dict[str, Any], list[float]]]:
    """Return configurations and validation accuracies by epoch, the recipe first."""
    if not CURVES.exists():
        raise SystemExit(f"{CURVES} is not there: python -m benchmarks.strategies record makes it")
    return [*_curves()]


def _curves() -> Iterator[tuple[dict[str, Any], list[float]]]:
    for line in recording.read(CURVES):
        curve = [float(line.pop(f"epoch {number}")) for number in range(1, EPOCHS + 1)]
        yield {name: float(text) if "." in text or "e" in text else int(text) for name, text in line.items()}, curve


def _study(changes: dict[str, Any]) -> Study:
    return study_file.check(_content(changes), "strategies")


def _content(changes: dict[str, Any]) -> dict[str, Any]:
    content = study_file._read(study_file.find("lean_cnn"))
    budget = {"dataset": "mnist-5k", "training": {"epochs": EPOCHS}, "budget": {"trials": CONFIGURATIONS}, "start": []}
    return {**content, **budget, **changes}


if __name__ == "__main__":
    main()
