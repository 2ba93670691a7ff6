"""What tracking costs: the same configurations through each system, as whole commands, in turn.

    python -m pip install -c constraints.txt -e ".[bench]"
    python -m benchmarks.peers tiny         # whether all of them work
    python -m benchmarks.peers short        # 6 configurations, 6 epochs of 4,000 images
    python -m benchmarks.peers lean         # the recipe, 15 epochs of 54,000 images; `lean bare ours`: these two alone

Timed is from the start of the process until its work is done, imports included; every system trains with all cores, one trial at
a time. The order changes from round to round. Lines go to `results/peers.csv` as they come; the same command goes on with them.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import processes, recording
from benchmarks.peers.work import TOLD, WORKLOADS

RESULTS = recording.RESULTS / "peers.csv"
SYSTEMS = ["bare", "ours", "optuna_mlflow", "kerastuner", "ray_tune"]


def main() -> None:
    """Measure what is missing, and print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=f"of {', '.join(SYSTEMS)}; all if not given")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if unknown := set(options.systems) - set(SYSTEMS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; expected some of {', '.join(SYSTEMS)}")
    for number in range(options.rounds):
        known = {(line["workload"], line["round"], line["system"]) for line in recording.read(RESULTS)}
        for system in SYSTEMS[number:] + SYSTEMS[:number]:
            if system in (options.systems or SYSTEMS) and (options.workload, str(number), system) not in known:
                measure(options.workload, number, system)
    show(recording.read(RESULTS), options.workload)


def measure(workload: str, number: int, system: str) -> None:
    """Give one system the work, in a fresh process and an empty folder; write the line."""
    with tempfile.TemporaryDirectory() as folder:
        environment = processes.environment(Path(folder))
        environment |= {"WORKLOAD": workload, "FOLDER": folder, "CUDA_VISIBLE_DEVICES": "-1"}
        began = time.time()
        command = [sys.executable, "-m", f"benchmarks.peers.{system}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{system} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        told = json.loads((Path(folder) / TOLD).read_text())
    wanted = WORKLOADS[workload]
    if (told["trials"], told["epochs"]) != (wanted.configurations, wanted.configurations * wanted.epochs):
        raise SystemExit(f"{system} did other work than it was given: {told}")
    line = {"workload": workload, "round": number, "system": system, "seconds": round(told["ended"] - began, 2)}
    line |= {key: told[key] for key in ("trials", "epochs", "best", "worst")}
    line |= {"versions": " ".join(f"{name} {version}" for name, version in told["versions"].items())}
    recording.append(RESULTS, line)


def show(every: list[dict[str, str]], workload: str) -> None:
    """Print each system's median, and the medians of its ratios to Keras alone in the same round."""
    lines = [line for line in every if line["workload"] == workload]
    alone = {line["round"]: float(line["seconds"]) for line in lines if line["system"] == "bare"}
    print(
        f"{'system':<14} {'n':>2} {'median s':>9} {'from':>7} {'to':>7} {'ratio':>6} {'from':>6} {'to':>6}  best validation"
    )
    for system in SYSTEMS:
        own = [line for line in lines if line["system"] == system]
        if not own:
            continue
        seconds = [float(line["seconds"]) for line in own]
        ratios = [float(line["seconds"]) / alone[line["round"]] for line in own if line["round"] in alone]
        spread = f"{statistics.median(seconds):>9.1f} {min(seconds):>7.1f} {max(seconds):>7.1f}"
        against = f"{statistics.median(ratios):>6.3f} {min(ratios):>6.3f} {max(ratios):>6.3f}"
        best = [float(line["best"]) for line in own]
        print(f"{system:<14} {len(own):>2} {spread} {against}  {min(best):.4f} to {max(best):.4f}")


if __name__ == "__main__":
    main()
