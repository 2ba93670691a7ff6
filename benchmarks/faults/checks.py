"""What a campaign finds when a sweep is over: every promise that was not kept, and what was lost."""

import contextlib
import json
import math
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from benchmarks.faults.kinds import BLOWS_UP, ORDINARY, RAISES, SPECIAL
from benchmarks.faults.sweep_run import EPOCHS, STUDY, TRIALS
from pipelines import paths
from pipelines.tracking import store as tracking
from sweeps.running.worker import RUN_STATUS
from sweeps.stores import names
from sweeps.stores.store import Store, curve
from sweeps.tasks import doctor

LINGER = 2.0  # seconds that a worker goes on after its parent's death
KINDS = {kind.name: kind for kind in [*ORDINARY, *SPECIAL]}
FIGURES = {"learning_curves", "confusion", "wrong_images", "accuracy_by_class", "font_digits"}
ARTIFACTS = {"config.json", "model.keras", "probabilities.npz", "source", *(f"{figure}.png" for figure in FIGURES)}


def problems(scratch: Path, faults: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield what should not be, of the sweep whose outputs MLRUNS_DIR names; artifacts are fetched into `scratch`."""
    store = Store(STUDY)
    trials = {trial.number: trial for trial in store.trials()}
    if sorted(trials) != list(range(TRIALS)):
        yield f"the trials are {sorted(trials)}, and the budget was {TRIALS}"
    experiment = tracking.find_experiment(STUDY)
    uid = store.attributes()[names.UID]
    runs = tracking.study_runs(experiment.experiment_id, uid) if experiment else []
    of_trial = Counter(int(run.tags["trial"]) for run in runs)
    for number, trial in trials.items():
        if not trial.state.is_finished():
            yield f"trial {number} is {trial.state.name}"
        if of_trial[number] != 1:
            yield f"trial {number} has {of_trial[number]} runs"
    yield from _wrongly_ended(trials.values(), faults)
    yield from _wrongly_charged(trials.values(), faults)
    for run in runs:
        if trial_of_run := trials.get(int(run.tags["trial"])):
            yield from _of_run(run, trial_of_run, scratch)
    parents = tracking.parent_runs(experiment.experiment_id, uid) if experiment else []
    if [parent.status for parent in parents] != ["FINISHED"]:
        yield f"the parent runs are {[parent.status for parent in parents]}"
    for problem in [*doctor.problems(store), *doctor.orphans()]:
        yield f"the doctor finds: {problem.what}"
    for left in (paths.mlruns() / "checkpoints").rglob("*.*"):
        yield f"{left.name} is left behind"


def _wrongly_ended(trials: Iterable[FrozenTrial], faults: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield trials that ended neither well, nor as ordered, nor by three faults."""
    ordered = Counter(fault["kind"] for fault in faults)
    raised = [trial for trial in trials if "so it was ordered" in trial.user_attrs.get(names.ENDED, "")]
    if len(raised) > ordered[RAISES]:
        yield f"{len(raised)} trials raised, and {ordered[RAISES]} were to"
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    if len(pruned) > ordered[BLOWS_UP] or any(trial.user_attrs[names.ENDED] != "diverged" for trial in pruned):
        yield f"{[trial.user_attrs[names.ENDED] for trial in pruned]} were pruned, and {ordered[BLOWS_UP]} were to blow up"
    for trial in trials:
        failed, charges = trial.state == TrialState.FAIL, trial.user_attrs.get(names.FAULTS, [])
        if failed and trial not in raised and len(charges) != 3:
            yield f"trial {trial.number} has failed after {charges} ({trial.user_attrs.get(names.ENDED)})"
        if not failed and len(charges) > 2:
            yield f"trial {trial.number} went on after {charges}"


def _wrongly_charged(trials: Iterable[FrozenTrial], faults: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield what trials were charged with that nobody did to their workers."""
    done = Counter[str | None]()
    for fault in faults:
        done[KINDS[fault["kind"]].charged] += len(fault["hit"])
    charges = [charge for trial in trials for charge in trial.user_attrs.get(names.FAULTS, [])]
    for what in {kind.charged for kind in KINDS.values()} - {None}:
        found = sum(what in charge for charge in charges if what)
        if found > done[what]:
            yield f"{found} trials were charged with {what!r}, which happened {done[what]} times"
    unknown = [
        charge for charge in charges if not any(kind.charged and kind.charged in charge for kind in KINDS.values())
    ]
    if unknown:
        yield f"trials were charged with {unknown}"


def _of_run(run: Any, trial: FrozenTrial, scratch: Path) -> Iterator[str]:
    who = f"the run of trial {trial.number}"
    if trial.user_attrs.get(names.RUN_ID) != run.run_id:
        yield f"{who} is not the one that the trial knows"
    if run.status != RUN_STATUS[trial.state]:
        yield f"{who} is {run.status}, and the trial {trial.state.name}"
    points = tracking.client().get_metric_history(run.run_id, "epoch_val_accuracy")
    logged, reported = {point.step: point.value for point in points}, curve(trial)
    steps = sorted(point.step for point in points if math.isfinite(point.value))
    if steps != list(range(1, len(steps) + 1)):
        yield f"{who} has the steps {steps}"
    for step, value in reported.items():
        if logged.get(step) != value:
            yield f"{who} has {logged.get(step)} at step {step}, and the trial {value}"
    present = {file.path for file in tracking.client().list_artifacts(run.run_id)}
    if "so it was ordered" in trial.user_attrs.get(names.ENDED, "") and "traceback.txt" not in present:
        yield f"{who} has no traceback"
    if trial.state != TrialState.COMPLETE:
        return
    if len(reported) != EPOCHS or not math.isclose(trial.values[0], max(reported.values())):
        yield f"trial {trial.number} has {trial.values[0]} after {reported}"
    if present != ARTIFACTS:
        yield f"{who} has the artifacts {sorted(present)}"
    for name in present & ARTIFACTS:
        if not _whole(tracking.artifact_folder(run.run_id, name, scratch)):
            yield f"{name} of {who} is damaged"


def _whole(path: Path) -> bool:
    with contextlib.suppress(Exception):
        if path.is_dir():
            return bool(json.loads((path / "source.json").read_text()))
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


def curves() -> dict[str, list[float]]:
    """Return the curve of every complete trial, by its parameters: equal trials should have equal ones, whatever befell them."""
    complete = [trial for trial in Store(STUDY).trials() if trial.state == TrialState.COMPLETE]
    return {f"{trial.number} {trial.params['dropout']}": list(curve(trial).values()) for trial in complete}


def charge(faults: Sequence[dict[str, Any]], journal: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Note on each fault how many epochs it cost (`epochs_lost`); yield what cannot be explained, or is too much.

    An epoch that was begun and came to nothing (begun again later, or in no curve) is charged to the fault at that time that hit
    its process, else to the first one after it began; one that had been saved, to the damage of its checkpoint.
    """
    reached = {float(trial.params["dropout"]): len(curve(trial)) for trial in Store(STUDY).trials() if trial.params}
    begun: dict[tuple[float, int], list[dict[str, Any]]] = {}
    for note in journal:
        if note["event"] == "began":
            begun.setdefault((note["trial"], note["epoch"]), []).append(note)
    cost: list[Counter[int]] = [Counter() for _ in faults]
    for (trial, epoch), attempts in begun.items():
        in_vain = attempts[:-1] if epoch < reached.get(trial, 0) else attempts
        for number, attempt in enumerate(in_vain):
            until = attempts[number + 1]["at"] if number + 1 < len(attempts) else math.inf
            then = [
                i for i, fault in enumerate(faults) if attempt["at"] <= fault["until"] + LINGER and fault["at"] <= until
            ]
            saved = any(attempt["at"] < later["at"] < until for later in begun.get((trial, epoch + 1), []))
            damaged = [i for i in then if saved and KINDS[faults[i]["kind"]].max_epochs_lost > 1]
            hit = damaged or [i for i in then if attempt["pid"] in faults[i]["hit"]]
            if hit or then:
                cost[(hit or then)[0]][attempt["pid"]] += 1
            else:
                yield f"epoch {epoch} of the trial with dropout {trial} came to nothing, and nothing had happened"
    for fault, by_process in zip(faults, cost, strict=True):
        fault["epochs_lost"] = sum(by_process.values())
        if max(by_process.values(), default=0) > KINDS[fault["kind"]].max_epochs_lost:
            yield f"{fault['kind']}: one process lost {max(by_process.values())} epochs"
