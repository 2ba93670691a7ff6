"""Moving up: a study and all that was confirmed of it, copied to shared stores and compared there with the original."""

import copy
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from pipelines import checkpoint, paths
from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from pipelines.tracking.copying import Copier
from pipelines.tracking.run import TrackedRun
from sweeps.running import moved
from sweeps.stores import names
from sweeps.stores.record import StoredStudy, owned_by
from sweeps.stores.storage import url as optuna_url
from sweeps.stores.store import Store
from sweeps.tasks import doctor


def run(name: str, storage: str, tracking_uri: str, console: Console) -> None:
    """Copy study `name` to the Optuna storage and the MLflow store given, and verify the copy; the next call resumes it.

    The original stays as it is. Raises UserError for a study that runs, that the doctor has something to say of, or that the
    target has already, as another.
    """
    if storage == optuna_url() or tracking_uri == tracking.uri():
        raise UserError("the study is in that store already: name the stores that it is to be copied to")
    if storage == tracking_uri:
        raise UserError("Optuna and MLflow need a database each: name two")
    if line := moved.settle_in():
        console.print(line, soft_wrap=True)
    stored = StoredStudy(name)
    if stored.owner:
        raise UserError(f"study {name!r} belongs to {stored.owner!r}: copy that one, and this comes with it")
    members = [name, *(each.store.study_name for each in owned_by(stored.name))]
    for member in members:
        for problem in doctor.examine(member):
            raise UserError(f"{problem.what}: run sweep doctor {member} --fix first")
        if held := Store(member).running():
            number = held[0][0].number
            raise UserError(
                f"a worker holds trial {number} of study {member!r}: sweep run {member} --stored waits for it, or gives it back"
            )
    copier = Copier(tracking.uri(), tracking_uri)
    wrong: list[str] = []
    for member in members:
        wrong += _copy(member, storage, copier, console)
    if wrong:
        raise UserError(
            f"the copy differs from the original ({'; '.join(wrong)}): delete the study there, and copy it again"
        )
    console.print(
        "verified: every trial, parameter, metric value, tag and file is equal. From now on set OPTUNA_STORAGE and "
        "MLFLOW_TRACKING_URI to the new stores; what is trained in the old ones is not seen there.",
        soft_wrap=True,
    )


def _copy(name: str, storage: str, copier: Copier, console: Console) -> list[str]:
    """Copy one study; return what is wrong with the copy."""
    source = Store(name)
    attributes = source.attributes()
    target = Store.create(name, source.directions(), at=storage)
    known = target.attributes().get(names.UID)
    if target.trials() and known != attributes[names.UID]:
        raise UserError(f"there is another study {name!r} in the target's storage: rename or delete it there")
    if target.epochs_spent() > source.epochs_spent():
        raise UserError(f"study {name!r} has gone on at the target since it was copied: it is left as it is there")
    target.become(attributes[names.UID])
    experiment = StoredStudy(name).experiment()
    trials = source.trials()
    runs, checkpoints = [], defaultdict[str, list[Path]](list)
    if experiment is not None:
        experiment_id = copier.open_experiment(experiment.name)
        runs = [
            *tracking.parent_runs(experiment.experiment_id, attributes[names.UID]),
            *tracking.study_runs(experiment.experiment_id, attributes[names.UID]),
        ]
        unfinished = {trial.user_attrs.get(names.RUN_ID): trial for trial in trials if not trial.state.is_finished()}
        for number, each in enumerate(runs, 1):
            if trial := unfinished.get(each.run_id):
                own = paths.checkpoint(name, trial.number)
                TrackedRun(each.run_id).fetch_checkpoint(own)
                checkpoints[each.run_id] = checkpoint.parts(own)
            copier.copy(each, experiment_id, checkpoints[each.run_id])
            console.print(f"{name}: {number} of {len(runs)} runs copied", soft_wrap=True)
    missing = trials[len(target.trials()) :]
    target.study().add_trials([_translated(trial, copier) for trial in missing])
    for key, value in attributes.items():
        target.remember(key, value)
    target.set_epochs_spent(source.epochs_spent())
    console.print(f"{name}: {len(trials)} trials copied", soft_wrap=True)
    wrong = [line for each in runs for line in copier.differences(each, checkpoints[each.run_id])]
    return [*wrong, *_differences(source, target, copier)]


def _translated(trial: FrozenTrial, copier: Copier) -> FrozenTrial:
    """Return a trial with the ids of the copies in its attributes."""
    translated = copy.copy(trial)
    translated.user_attrs = copier.translated(trial.user_attrs)
    return translated


def _differences(source: Store, target: Store, copier: Copier) -> Iterator[str]:
    originals, copies = source.trials(), target.trials()
    if len(originals) != len(copies):
        yield f"study {source.study_name}: {len(originals)} trials, and {len(copies)} in the copy"
    for original, found in zip(originals, copies, strict=False):
        if _facts(_translated(original, copier)) != _facts(found):
            yield f"study {source.study_name}: trial {original.number} differs"
    for what in ("attributes", "directions", "epochs_spent"):
        if getattr(source, what)() != getattr(target, what)():
            yield f"study {source.study_name}: its {what} differ"


def _facts(trial: FrozenTrial) -> dict[str, Any]:
    names = ("number", "state", "params", "distributions", "user_attrs", "system_attrs", "intermediate_values")
    facts = {name: getattr(trial, name) for name in names}
    facts["values"] = trial.values if trial.state == TrialState.COMPLETE else None
    return facts | {"start": trial.datetime_start, "end": trial.datetime_complete}
