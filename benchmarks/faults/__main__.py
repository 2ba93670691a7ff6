"""Break real sweeps of a small model on mnist-5k at random instants, and look whether anything is lost.

    python -m benchmarks.faults --faults 200

Round after round, a sweep is started, broken about a dozen times, and left to finish; a line for each round goes to the results
file, and the same command goes on after the last one. Exit code 1 when a promise was broken.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import psutil

from benchmarks.faults import checks
from benchmarks.faults.kinds import ORDINARY, SPECIAL, Kind, can_mount
from benchmarks.faults.sweep_run import ROOT, STUDY, TRIALS, SweepRun

RESULTS = Path(__file__).parents[1] / "results" / "faults.jsonl"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
A_ROUND = 14  # faults
ROUNDS = [  # in turn: what is special about the scene
    {"impatient", "file"},
    {"impatient", "server"},
    {"patient", "file"},
    {"impatient", "file", "small disk"},
]
SPECIALS = {
    "patient": 1,
    "impatient": 2,
}  # of each special kind that a scene allows; those of patient ones take minutes
MISTAKE = 2  # exit code of a command that refuses to begin
REFUSED = re.compile(
    r"^error: (?:MLflow's store cannot be opened|Optuna's storage .* cannot be opened|a store does not answer)", re.M
)
TIMEOUT = {"impatient": 60.0, "patient": 300.0}  # seconds in which an epoch must end


def main() -> None:
    """Run the rounds that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, help="write the table to this page, between its marks")
    options = parser.parse_args()
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    options.results.parent.mkdir(parents=True, exist_ok=True)
    while _injected(rounds := _read(options.results)) < options.faults:
        found = run_round(len(rounds), options.seed, options.faults - _injected(rounds))
        with options.results.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(f"round {found['round']}: {len(found['faults'])} faults, {found['epochs_lost']} epochs lost, "
              f"{found['problems'] or 'nothing is wrong'}", flush=True)  # fmt: skip
    print(
        f"{_injected(rounds)} faults are recorded in {options.results}; more with --faults, or anew with another --results\n"
    )
    table = in_markdown(rounds)
    print(table)
    if options.page:
        text = options.page.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        options.page.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    sys.exit(any(each["problems"] for each in rounds) or _compared(rounds)[1] > 0)


def run_round(number: int, seed: int, at_most: int) -> dict[str, Any]:
    """Run one sweep, break it, let it finish; return what happened."""
    rng = Random(f"{seed} {number}")
    traits = ROUNDS[number % len(ROUNDS)] - (set() if can_mount() else {"small disk"})
    temper = "patient" if "patient" in traits else "impatient"
    special = [kind for kind in SPECIAL if kind.where in traits]
    kinds = [*special * SPECIALS[temper], *rng.sample(ORDINARY, len(ORDINARY))][:A_ROUND]
    rng.shuffle(kinds)
    folder = Path(tempfile.mkdtemp(prefix=f"faults-{number}-"))
    workers, began = rng.choice([1, 2]), time.time()
    sweep_run = SweepRun(folder, workers, TIMEOUT[temper], "server" in traits, "small disk" in traits)
    faults: list[dict[str, Any]] = []
    broken: list[str] = []
    summary: dict[str, Any] = {"epochs_lost": -1}
    try:
        for kind in kinds:
            if sum(fault["faults"] for fault in faults) >= at_most or not _trains_again(sweep_run):
                break
            time.sleep(rng.uniform(0, 4))
            if sweep_run.over():
                break
            if fault := _inject(kind, sweep_run, rng):
                faults.append(fault)
        sweep_run.wait(lambda: False)
        ends = [other.wait(600) for other in sweep_run.others]
        os.environ |= {key: sweep_run.environment[key] for key in ("MLRUNS_DIR", "FAULTS_DIR")}
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if sweep_run.server:
            os.environ["MLFLOW_TRACKING_URI"] = sweep_run.server.url
        broken += checks.problems(folder, faults)
        broken += checks.charge(faults, sweep_run.journal())
        broken += _strange_ends(sweep_run, ends)
        summary = {"epochs_lost": checks.epochs_lost(), **_trials(), "curves": checks.curves()}
        charged = sum(fault["epochs_lost"] for fault in faults)
        if summary["epochs_lost"] < charged:
            broken.append(f"{charged} epochs came to nothing, and {summary['epochs_lost']} were paid for")
    except Exception as error:  # the round is recorded, whatever went wrong in looking at it
        broken.append("".join(traceback.format_exception(error)))
    finally:
        sweep_run.close()
    if broken:
        print(f"{folder} has the outputs of round {number}", flush=True)
    else:
        shutil.rmtree(folder)
    return {
        "round": number,
        "seed": seed,
        "commit": _commit(),
        "scene": sorted(traits),
        "workers": workers,
        "faults": faults,
        **summary,
        "command_ends": sweep_run.ends,
        "problems": broken,
        "seconds": round(time.time() - began),
    }


def _strange_ends(sweep_run: SweepRun, others: Sequence[int]) -> Iterator[str]:
    """Yield ends of a parent that no fault explains: killed, terminated, hung up, interrupted."""
    terminal = (sweep_run.folder / "terminal.log").read_text(errors="replace")
    ends = [*sweep_run.ends, *others]
    expected = {0, -signal.SIGINT, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP, 130}
    if ends.count(MISTAKE) <= len(
        REFUSED.findall(terminal)
    ):  # typed while a store was away, it said so and was typed again
        expected |= {MISTAKE}
    strange = [code for code in ends if code not in expected]
    if strange:
        yield f"the command ended with {strange}"
    if "Traceback" in terminal:
        yield "there is a traceback on the terminal"


def _commit() -> str:
    """Return the commit, with a + when the code differs from it."""
    asked = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def _inject(kind: Kind, sweep_run: SweepRun, rng: Random) -> dict[str, Any] | None:
    """Break the scene; return what happened, or None when there was nothing to break."""
    at = time.time()
    try:
        hit = kind.inject(sweep_run, rng)
    except (psutil.NoSuchProcess, ProcessLookupError):  # it ended this moment by itself
        hit = None
    if hit is None:
        return None
    return {
        "kind": kind.name,
        "faults": kind.faults,
        "at": at,
        "until": time.time(),
        "hit": list(hit),
        "epochs_lost": 0,
    }


def _trains_again(sweep_run: SweepRun) -> bool:
    """Wait for the next epoch; False when the sweep is over."""
    seen = len(sweep_run.journal())
    return bool(sweep_run.wait(lambda: any(note["event"] == "began" for note in sweep_run.journal()[seen:])))


def _trials() -> dict[str, int]:
    from sweeps.stores.store import Store

    states = [trial.state.name.lower() for trial in Store(STUDY).trials()]
    return {state: states.count(state) for state in sorted(set(states))}


def _injected(rounds: Sequence[dict[str, Any]]) -> int:
    return sum(fault["faults"] for each in rounds for fault in each["faults"])


def in_markdown(rounds: Sequence[dict[str, Any]]) -> str:
    """Return the table: each kind of fault, how often, what it cost."""
    faults = [fault for each in rounds for fault in each["faults"]]
    lines = ["| fault | times | epochs lost | at most |", "| --- | ---: | ---: | ---: |"]
    for kind in [*ORDINARY, *SPECIAL]:
        costs = [fault["epochs_lost"] for fault in faults if fault["kind"] == kind.name]
        if costs:
            lines.append(f"| {kind.name} | {len(costs)} | {sum(costs)} | {max(costs)} |")
    same, different = _compared(rounds)
    trials = {state: sum(each.get(state, 0) for each in rounds) for state in ("complete", "pruned", "fail")}
    consistent = sum(not each["problems"] for each in rounds)
    paid, charged = sum(each["epochs_lost"] for each in rounds), sum(fault["epochs_lost"] for fault in faults)
    lines += [
        "",
        f"{_injected(rounds)} faults in {len(rounds)} sweeps of {TRIALS} trials; {consistent} of {len(rounds)} sweeps "
        f"ended with both stores consistent and nothing left behind. {trials['complete']} trials completed, {trials['pruned']} "
        f"blew up as ordered, {trials['fail']} failed: by an error as ordered, or after a third fault. {paid} epochs were "
        f"paid for and are in no curve, {charged} of them charged to a fault above. "
        f"Trials that two sweeps have in common, with as many workers, have equal curves in {same} comparisons, and others in "
        f"{different}. {sum(each['seconds'] for each in rounds) / 3600:.1f} hours, commits "
        f"{', '.join(sorted({each['commit'] for each in rounds}))}, seed {', '.join(sorted({str(e['seed']) for e in rounds}))}.",
    ]
    return "\n".join(lines)


def _compared(rounds: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """Return how often a trial has, bit for bit, the curve of the first sweep of as many workers, and how often not."""
    first: dict[tuple[int, str], list[float]] = {}
    same = different = 0
    for each in rounds:
        for trial, curve in each.get("curves", {}).items():
            known = first.setdefault((each["workers"], trial), curve)
            if known is not curve:
                same, different = same + (known == curve), different + (known != curve)
    return same, different


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
