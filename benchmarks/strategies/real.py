"""The same question to real sweeps, which train: whether what the replay says holds beyond its table."""

import math
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks import processes, recording
from benchmarks.history import epochs_begun
from benchmarks.strategies import table
from sweeps.stores.store import Store, curve

RESULTS = recording.RESULTS / "real_searches.csv"
SEEDS = 5
QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
STRATEGIES: dict[str, dict[str, Any]] = {
    "TPE, no pruner": {"sampler": "tpe", "pruner": "none"},
    "TPE, ASHA": {"sampler": "tpe", "pruner": "asha"},
}


def measure(goal: float) -> None:
    """Sweep until a trial reaches `goal`, once a strategy and seed; what is recorded already is not done again."""
    for seed in range(SEEDS):
        for name, settings in STRATEGIES.items():
            if not any((line["strategy"], line["seed"]) == (name, str(seed)) for line in recording.read(RESULTS)):
                spent = search(goal, {"seed": seed, **settings})
                recording.append(RESULTS, {"strategy": name, "seed": seed, "target": goal, **spent})


def search(goal: float, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the epochs, trials and seconds that a sweep took, and whether it reached `goal` before its trials were used up."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.yaml"
        file.write_text(yaml.safe_dump(table.content(name="real", keep_models=0, **settings), sort_keys=False))
        began = time.time()
        sweeping = subprocess.Popen(processes.sweep("run", file), env=processes.environment(Path(folder)), **QUIET)
        while not epochs_begun(Path(folder)) and sweeping.poll() is None:
            time.sleep(0.5)
        store = Store("real", at=f"sqlite:///{folder}/optuna.db")
        while not reached(spent := curves(store), goal) and sweeping.poll() is None:
            time.sleep(0.5)
        seconds = time.time() - began
        sweeping.terminate()
        sweeping.wait()
    epochs = sum(len(accuracies) for accuracies in spent)
    return {"reached": int(reached(spent, goal)), "epochs": epochs, "trials": len(spent), "seconds": round(seconds, 1)}


def curves(store: Store) -> list[list[float]]:
    """Return the validation accuracies of each trial so far, by number."""
    return [list(curve(trial).values()) for trial in store.trials() if curve(trial)]


def reached(spent: list[list[float]], goal: float) -> bool:
    """Whether one of the curves reaches `goal`."""
    return any(accuracy >= goal for accuracies in spent for accuracy in accuracies)


def show(lines: list[dict[str, str]]) -> None:
    """Print a line a strategy: epochs to the target, by seed; never (inf) where it was not reached."""
    print(f"{'strategy':<30} {'n':>2} {'reached':>7} {'median epochs':>13}  each")
    for strategy in dict.fromkeys(line["strategy"] for line in lines):
        own = [line for line in lines if line["strategy"] == strategy]
        epochs = [float(line["epochs"]) if int(line["reached"]) else math.inf for line in own]
        reached = sum(int(line["reached"]) for line in own)
        each = ", ".join(f"{number:.0f}" for number in epochs)
        print(f"{strategy:<30} {len(own):>2} {reached:>7} {statistics.median(epochs):>13.0f}  {each}")
