"""What a campaign finds when a sweep is over: every promise that was not kept, and what was lost."""

import contextlib
import json
import math
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from benchmarks.faults.scene import EPOCHS, STUDY, TRIALS
from pipelines import paths
from pipelines.tracking import store as tracking
from sweeps import doctor
from sweeps.store import Store, curve
from sweeps.worker import RUN_STATUS

ARTIFACTS = {"config.json", "learning_curves.png", "model.keras", "probabilities.npz"}


def problems(scratch: Path) -> Iterator[str]:
    """Yield what should not be, of the sweep whose outputs MLRUNS_DIR names; artifacts are fetched into `scratch`."""
    store = Store(STUDY)
    trials = {trial.number: trial for trial in store.trials()}
    if sorted(trials) != list(range(TRIALS)):
        yield f"the trials are {sorted(trials)}, and the budget was {TRIALS}"
    experiment = tracking.find_experiment(STUDY)
    uid = store.attributes()["uid"]
    runs = tracking.study_runs(experiment.experiment_id, uid) if experiment else []
    of_trial = Counter(int(run.data.tags["trial"]) for run in runs)
    for number, trial in trials.items():
        if not trial.state.is_finished():
            yield f"trial {number} is {trial.state.name}"
        if trial.state == TrialState.FAIL and not _rightly_failed(trial):
            yield f"trial {number} has failed after {trial.user_attrs.get('faults', [])} ({trial.user_attrs.get('ended')})"
        if of_trial[number] != 1:
            yield f"trial {number} has {of_trial[number]} runs"
    for run in runs:
        yield from _of_run(run, trials[int(run.data.tags["trial"])], scratch)
    parents = tracking.parent_runs(experiment.experiment_id, uid) if experiment else []
    if [parent.info.status for parent in parents] != ["FINISHED"]:
        yield f"the parent runs are {[parent.info.status for parent in parents]}"
    for ailment in [*doctor.ailments(store), *doctor.orphans([STUDY])]:
        yield f"the doctor finds: {ailment.what}"
    for left in (paths.mlruns() / "checkpoints").rglob("*.*"):
        yield f"{left.name} is left behind"


def _rightly_failed(trial: FrozenTrial) -> bool:
    return len(trial.user_attrs.get("faults", [])) == 3 or "so it was ordered" in trial.user_attrs.get("ended", "")


def _of_run(run: Any, trial: FrozenTrial, scratch: Path) -> Iterator[str]:
    who = f"the run of trial {trial.number}"
    if trial.user_attrs.get("run_id") != run.info.run_id:
        yield f"{who} is not the one that the trial knows"
    if run.info.status != RUN_STATUS[trial.state]:
        yield f"{who} is {run.info.status}, and the trial {trial.state.name}"
    points = tracking.client().get_metric_history(run.info.run_id, "val_accuracy")
    logged, reported = {point.step: point.value for point in points}, curve(trial)
    steps = sorted(point.step for point in points if math.isfinite(point.value))
    if steps != list(range(1, len(steps) + 1)):
        yield f"{who} has the steps {steps}"
    for step, value in reported.items():
        if logged.get(step) != value:
            yield f"{who} has {logged.get(step)} at step {step}, and the trial {value}"
    if trial.state != TrialState.COMPLETE:
        return
    if len(reported) != EPOCHS or not math.isclose(trial.values[0], max(reported.values())):
        yield f"trial {trial.number} has {trial.values[0]} after {reported}"
    present = {file.path for file in tracking.client().list_artifacts(run.info.run_id)}
    if present != ARTIFACTS:
        yield f"{who} has the artifacts {sorted(present)}"
    for name in present & ARTIFACTS:
        if not _whole(tracking.artifact_folder(run.info.run_id, name, scratch)):
            yield f"{name} of {who} is damaged"


def _whole(path: Path) -> bool:
    with contextlib.suppress(Exception):
        if path.suffix in (".npz", ".keras"):
            return zipfile.ZipFile(path).testzip() is None
        if path.suffix == ".json":
            return bool(json.loads(path.read_text()))
        return path.read_bytes().endswith(b"IEND\xaeB`\x82")
    return False


def epochs_lost() -> int:
    """Return how many epochs were paid for and are in no curve."""
    store = Store(STUDY)
    return store.epochs_spent() - sum(len(curve(trial)) for trial in store.trials())


def lost_by(faults: Sequence[dict[str, Any]], journal: Sequence[dict[str, Any]]) -> list[int]:
    """Return how many epochs each fault cost: those begun again later, or never to be seen in a curve.

    An epoch that was begun and came to nothing is charged to the fault at that time that hit its process, else to the first one
    after it began.
    """
    curves = {float(trial.params["dropout"]): len(curve(trial)) for trial in Store(STUDY).trials() if trial.params}
    begun: dict[tuple[float, int], list[dict[str, Any]]] = {}
    for note in journal:
        if note["event"] == "began":
            begun.setdefault((note["trial"], note["epoch"]), []).append(note)
    lost = [0] * len(faults)
    for (trial, epoch), attempts in begun.items():
        in_vain = attempts[:-1] if epoch < curves.get(trial, 0) else attempts
        for number, attempt in enumerate(in_vain):
            until = attempts[number + 1]["at"] if number + 1 < len(attempts) else np.inf
            at_that_time = [
                i for i, fault in enumerate(faults) if attempt["at"] <= fault["until"] and fault["at"] <= until
            ]
            hit = [i for i in at_that_time if attempt["pid"] in faults[i]["hit"]]
            if charged := hit or at_that_time:
                lost[charged[0]] += 1
    return lost
