"""What is wrong between the stores and on disk, and how it is mended.

Optuna's storage is the truth about trials. A study that somebody runs is left alone: its parent mends what its own workers leave.
"""

import functools
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from pipelines import addresses, datasets, drawing, paths
from pipelines.errors import UserError, first_line, without_passwords
from pipelines.execute import TEST, VALIDATION
from pipelines.tracking import store as tracking
from pipelines.tracking.names import CURVE
from pipelines.tracking.records import RunFacts
from pipelines.tracking.run import TrackedRun
from sweeps.results import rows
from sweeps.running import repair, tags
from sweeps.running.repair import Problem
from sweeps.stores import names, record, sessions
from sweeps.stores.record import StoredStudy
from sweeps.stores.storage import FILE as OPTUNA_FILE
from sweeps.stores.storage import kind_of, study_names
from sweeps.stores.storage import url as optuna_url
from sweeps.stores.store import Store, curve, deleted, first_value
from sweeps.study.study import Objective, Study

RESTORED = "from Optuna's storage, by sweep doctor"  # a tag
RUN_ID = re.compile(r"[0-9a-f]{32}")  # as MLflow gives them, and calls the folder of a run's files
ROUNDS = 5  # a run that was written anew may need its curve, and so on
TOLERANCE = 1e-9  # of values that both stores keep as doubles


def examine(name: str | None = None) -> Iterator[Problem]:
    """Yield what is wrong with study `name`; or with all studies that do not run, and the folders of `mlruns/`.

    Raises UserError when study `name` is unknown, or running.
    """
    if name is not None:
        store = Store(name)
        since = sessions.last_alive(store)
        if since < sessions.REST_AFTER_SESSION:
            raise UserError(
                f"study {name!r} was running {since:.0f} s ago: let it end (a sweep mends what its own workers leave), or wait "
                f"{sessions.REST_AFTER_SESSION:.0f} s after it was killed"
            )
        yield from problems(store)
        return
    for each in study_names():
        try:
            store = Store(each)
            if sessions.last_alive(store) >= sessions.REST_AFTER_SESSION:
                yield from problems(store)
        except Exception as error:  # of one study, whatever is wrong with it: the others are examined all the same
            if kind_of(error).passes:
                raise
            reason = f"{type(error).__name__}: {first_line(error)}"
            yield Problem(f"{each} cannot be examined ({reason})", "left as it is", lambda: None, beyond=True)
    yield from orphans()


def fix(name: str | None = None) -> Iterator[Problem]:
    """Mend what `examine` finds, and what that brings to light; yield each problem once, those that are beyond mending too."""
    beyond: set[str] = set()
    for _ in range(ROUNDS):
        found = [problem for problem in examine(name) if problem.what not in beyond]
        if not found:
            return
        for problem in found:
            if problem.beyond:
                beyond.add(problem.what)
                yield problem
                continue
            try:
                problem.fix()
                yield problem
            except Exception as error:  # of one study; the others are mended all the same
                if kind_of(error).passes:
                    raise
                beyond.add(problem.what)
                what = f"{problem.what}; it cannot be mended ({type(error).__name__}: {first_line(error)})"
                yield Problem(what, "left as it is", lambda: None, beyond=True)


def looked_at(name: str | None = None) -> str:
    """Return, in a line, what `examine` looks at."""
    studies = [name] if name else study_names()
    trials = sum(len(Store(each).trials()) for each in studies)
    files = "" if name else f", and the folders of {paths.mlruns()}" + ("" if _is_local() else " but its artifacts")
    return f"looked at {len(studies)} studies with {trials} trials in {without_passwords(optuna_url())}{files}"


def retry(name: str, numbers: Collection[int]) -> list[int]:
    """Let failed trials of a study wait again, all if none is named; return their numbers.

    Raises UserError where somebody runs the study, and where none of them has failed.
    """
    store = Store(name)
    sessions.check_at_rest(store)
    if held := store.running():
        raise UserError(
            f"trial {held[0][0].number} is held by a worker that was killed: sweep doctor {name} --fix gives it back"
        )
    failed = {each.number: each for each in store.trials() if each.state == TrialState.FAIL and not deleted(each)}
    wrong = [number for number in numbers if number not in failed]
    if wrong or not failed:
        known = ", ".join(map(str, failed)) or "none"
        raise UserError(
            f"trial {wrong[0]} has not failed: failed are {known}" if wrong else f"no trial of {name!r} has failed"
        )
    repair.discard_runs([failed[number] for number in numbers or failed])
    return store.retry(numbers)


def problems(store: Store) -> Iterator[Problem]:
    """Yield what is wrong with a study, whether it runs or not: what its own workers are about to put right as well."""
    attributes = store.attributes()
    if names.UID in attributes:  # else another program's
        for found in _of_study(store, attributes):
            yield Problem(f"{store.study_name}: {found.what}", found.remedy, found.fix, found.beyond)


def _of_study(store: Store, attributes: Mapping[str, Any]) -> Iterator[Problem]:
    stored = StoredStudy(store.study_name)
    if attributes.get(names.DELETING):
        again = f"sweep delete {stored.name} completes it"
        yield Problem("it is being deleted, and that was interrupted", again, lambda: None, beyond=True)
        return
    for lost in store.lost({}):
        yield repair.requeue(store, lost)
    trials = {trial.number: trial for trial in store.trials() if not deleted(trial)}
    yield from repair.left_checkpoints(stored.name, trials)
    trashed = tracking.find_by_uid(attributes[names.UID])
    if trashed is not None and not trashed.active:
        restore = functools.partial(tracking.restore_experiment, trashed.experiment_id)
        yield Problem("its experiment is in MLflow's trash", "take it out again", restore)
        return
    experiment = stored.experiment()
    if experiment is None:
        if any(trial.state.is_finished() for trial in trials.values()):
            yield Problem(
                "it has no experiment in MLflow", "make one", functools.partial(_make_experiment, store, attributes)
            )
        return
    runs = tracking.study_runs(experiment.experiment_id, attributes[names.UID])
    paired = {number: run for number, run in _paired(runs, trials).items() if number in trials}
    yield from _superfluous(runs, paired)
    yield from repair.left_open([*paired.values()], trials)
    for number, run in paired.items():
        yield from _drift(run, trials[number])
        yield from _figures(run, trials[number])
    for number, trial in trials.items():
        if trial.state.is_finished() and number not in paired:
            yield _without_run(store, attributes, experiment.experiment_id, trial)
    busy = any(trial.state == TrialState.RUNNING for trial in trials.values())
    for parent in tracking.parent_runs(experiment.experiment_id, attributes[names.UID]):
        if parent.status == "RUNNING" and not busy:
            close = functools.partial(TrackedRun(parent.run_id).close, "SCHEDULED")
            yield Problem("its parent run is RUNNING, and nothing runs", "set it to SCHEDULED", close)


def _make_experiment(store: Store, attributes: Mapping[str, Any]) -> None:
    """Make the experiment and its parent run; then every trial lacks its run."""
    stored = StoredStudy(store.study_name)
    owner = StoredStudy(stored.owner) if stored.owner else stored
    study = stored.read()
    own = tags.of_study(study) | _dataset_tags(study) | {"restored": RESTORED}
    experiment = tracking.open_experiment(owner.name, owner.uid)
    of_owner = tracking.parent_runs(experiment.experiment_id, owner.uid) if stored.owner else []
    within = of_owner[0].run_id if of_owner else None
    parent = tracking.open_parent(experiment, attributes[names.UID], attributes.get(names.PHASE, "sweep"), own, within)
    TrackedRun(parent).close("SCHEDULED")


def _paired(runs: Sequence[RunFacts], trials: Mapping[int, FrozenTrial]) -> dict[int, RunFacts]:
    """Return the run of each trial number: the one that the trial knows, else the first of `runs`, which are the oldest first."""
    found: dict[int, RunFacts] = {}
    for run in runs:
        number = int(run.tags["trial"])
        known = trials[number].user_attrs.get(names.RUN_ID) if number in trials else None
        if number not in found or run.run_id == known:
            found[number] = run
    return found


def _superfluous(runs: Sequence[RunFacts], paired: Mapping[int, RunFacts]) -> Iterator[Problem]:
    kept = {run.run_id for run in paired.values()}
    for run in runs:
        run_id, number = run.run_id, int(run.tags["trial"])
        if run_id not in kept:
            what = (
                f"is a second one of trial {number}" if number in paired else f"is of no trial: {number} is not there"
            )
            discard = functools.partial(tracking.discard_run, run_id)
            yield Problem(f"run {run_id} {what}", "put it into MLflow's trash", discard)


def _without_run(store: Store, attributes: Mapping[str, Any], experiment_id: str, trial: FrozenTrial) -> Problem:
    run_id = trial.user_attrs.get(names.RUN_ID)
    if run_id is not None and tracking.lifecycle(run_id) == "deleted":
        what = f"the run of trial {trial.number} is in MLflow's trash"
        return Problem(what, "take it out again", functools.partial(tracking.restore_run, run_id))
    write = functools.partial(_write_run, store, attributes, experiment_id, trial)
    return Problem(f"trial {trial.number} has no run", "write one with what Optuna knows of it", write)


def _write_run(store: Store, attributes: Mapping[str, Any], experiment_id: str, trial: FrozenTrial) -> None:
    record.adopt_source(attributes)
    study = record.read_stored(store.study_name, attributes)
    config = study.run_config(trial.params, study.seed_of(trial.number))
    own = tags.of_trial(study, config.model, trial.number, attributes[names.UID], attributes.get(names.PHASE, "sweep"))
    own |= {"dataset": study.dataset.name, "restored": RESTORED, "git_commit": "unknown"}
    (parent, *_) = tracking.parent_runs(experiment_id, attributes[names.UID])
    # That of the day, which the parent run knows: the images here may be others by now.
    own |= {key: value for key, value in parent.tags.items() if key == "dataset_digest"}
    run = TrackedRun.create(experiment_id, parent.run_id, f"trial {trial.number}", own)
    run.log_params(config.params())
    for step, value in curve(trial).items():
        run.log_metric(CURVE + study.objectives[0].column, value, step)
    if trial.state == TrialState.COMPLETE:
        run.log_summary({_kept(study.objectives[0], own): first_value(trial)})
    repair.close_run(run.run_id, trial)


def _drift(run: RunFacts, trial: FrozenTrial) -> Iterator[Problem]:
    """Yield where MLflow has another value of the objective than Optuna, or lacks one."""
    log, objective = TrackedRun(run.run_id).log_metric, rows.objectives_of(run)[0]
    if trial.state == TrialState.COMPLETE:
        name, wanted = _kept(objective, run.tags), first_value(trial)
        found = run.metrics.get(name)
        if found is None or abs(found - wanted) > TOLERANCE:
            what = f"trial {trial.number} has {wanted:.4f}, its run has {name} {found}"
            yield Problem(what, "log it again", functools.partial(log, name, wanted, 0))
    curve_name = CURVE + objective.column
    steps = tracking.history(run.run_id, curve_name)
    for step, wanted in curve(trial).items():
        if step not in steps or abs(steps[step] - wanted) > TOLERANCE:
            what = f"trial {trial.number} has {wanted:.4f} after {step} epochs, its run {steps.get(step)}"
            yield Problem(what, "log it again", functools.partial(log, curve_name, wanted, step))


def _figures(run: RunFacts, trial: FrozenTrial) -> Iterator[Problem]:
    """Yield that a run of a trial that has ended is owed its figures, or that some could not be drawn."""
    if not trial.state.is_finished():
        return
    if run.tags.get(drawing.TAG) == drawing.OWED:
        draw = functools.partial(drawing.draw, run.run_id)
        yield Problem(f"the run of trial {trial.number} is owed its figures", "draw them", draw)
    elif failed := run.tags.get(drawing.FAILED):
        again = functools.partial(drawing.draw_again, run.run_id)
        yield Problem(f"figures of trial {trial.number} could not be drawn ({failed})", "draw them again", again)


def _kept(objective: Objective, run_tags: Mapping[str, str]) -> str:
    """Return the name of the objective of the kept epoch, as the run with these tags has it."""
    return f"{VALIDATION if run_tags.get('protocol', 'held_out') == 'held_out' else TEST}_{objective.short}"


def orphans() -> Iterator[Problem]:
    """Yield folders of checkpoints and artifacts that belong to nothing: those that the stores beside them do not know.

    Where a store lies elsewhere, another may know them, so they are left alone.
    """
    if not _is_local():
        return
    names = {StoredStudy(each).name for each in study_names()}
    for folder in sorted((paths.mlruns() / "checkpoints").glob("*/")):
        if folder.name not in names and repair.untouched(folder):
            yield _in_the_way(folder, "study")
    for folder in sorted((paths.mlruns() / "artifacts").glob("*/*/")):
        if RUN_ID.fullmatch(folder.name) and tracking.lifecycle(folder.name) is None and repair.untouched(folder):
            yield _in_the_way(folder, "run")


def _is_local() -> bool:
    """Whether both stores are the files under `mlruns/`, so that what lies there is theirs."""
    here = [addresses.sqlite(paths.mlruns() / file) for file in (OPTUNA_FILE, tracking.FILE)]
    return [optuna_url(), tracking.uri()] == here


def _dataset_tags(study: Study) -> dict[str, str]:
    """Return the data set of a study as runs are tagged with it; no digest where it is not to be had here."""
    try:
        return tags.of_dataset(datasets.load(study.dataset))
    except UserError:
        return {"dataset": study.dataset.name}


def _in_the_way(folder: Path, owner: str) -> Problem:
    """Return the problem of a folder under `mlruns/` that belongs to no study or run that the present stores know."""
    name = folder.relative_to(paths.mlruns())
    there = paths.mlruns() / "orphans" / name

    def move() -> None:
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, there)

    return Problem(f"{name} is of no {owner}", "move it to orphans/", move)
