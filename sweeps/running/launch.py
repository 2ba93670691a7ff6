"""The parent of a sweep: checks, prepares the stores, lets the supervisor work, and says what was found."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState
from rich.console import Console

import models
from pipelines import backend, checkpoint, datasets, losses, metrics, paths, predictions, provenance
from pipelines.errors import ErrorKind, StoreUnavailable, UserError
from pipelines.images import DISTORTIONS
from pipelines.tracking import store as tracking
from pipelines.tracking import views
from sweeps.running import ending, moved, population, repair
from sweeps.running.assignment import Assignment
from sweeps.running.figures import FigureProcesses
from sweeps.running.progress import Snapshot
from sweeps.running.resources import Resources
from sweeps.running.supervisor import Supervisor
from sweeps.running.tags import of_dataset, of_parent, of_study, view
from sweeps.running.worker import work
from sweeps.stores import names
from sweeps.stores.record import StoredStudy, restore
from sweeps.stores.storage import kind_of, store_error_line, study_lock
from sweeps.stores.storage import url as optuna_url
from sweeps.stores.store import Store, first_value
from sweeps.study import samplers
from sweeps.study.study import Study
from sweeps.study.study_file import in_a_line

CHANGED_SOURCE = "the source of {} has changed"


@dataclass(frozen=True)
class Result:
    """Where a study stands when its parent ends.

    `interrupted`: by Ctrl-C or `sweep stop`; `sampler`: its name; `paused`, `ended`: why it is, by failures or by its rules.
    """

    snapshot: Snapshot
    interrupted: bool
    sampler: str
    paused: str | None = None
    ended: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether it ended before its budget did."""
        return self.interrupted or self.paused is not None


def run(
    study: Study,
    resources: Resources,
    console: Console,
    phase: tracking.Phase = "sweep",
    owner: str | None = None,
    joins: bool = False,
    new_source: bool = False,
) -> Result:
    """Run a study until its budget is used up or Ctrl-C; return where it stands. Raises UserError before anything is written.

    `phase`: what the runs of a new study are for; an old one's stay what they are. `owner`: the stored study in whose experiment,
    and under whose parent run, the runs belong. `joins`: leave as soon as nothing is left to claim, though others still train.
    `new_source`: resume though the source of the model has changed.
    """
    if optuna_url() == tracking.uri():
        raise UserError(
            "OPTUNA_STORAGE and MLFLOW_TRACKING_URI name the same database: each library keeps its schema's version in a "
            "table of the same name, so give them two databases"
        )
    dataset = datasets.load(study.dataset)
    check_training(study, dataset)
    dataset = dataset.for_task(study.task)
    population.check(study, backend.name())
    folder = paths.make_mlruns()
    try:
        if line := moved.settle_in():
            console.print(line, soft_wrap=True)
        store, assignment = _prepare(study, dataset, resources, phase, owner, new_source)
    except StoreUnavailable:
        raise
    except Exception as error:
        if kind_of(error) is not ErrorKind.AWAY:
            raise
        raise StoreUnavailable(store_error_line(error)) from error
    logs = folder / "logs" / study.name / time.strftime("%Y%m%d-%H%M%S")
    executor = resources.start(work, assignment, logs)
    if study.mixes_precision and not resources.gpus:
        console.print("mixed_precision: without a GPU layers compute more slowly in it than in float32", soft_wrap=True)
    if line := backend.note_on_settings():
        console.print(line, soft_wrap=True)
    if store.note_on_name:
        console.print(store.note_on_name, soft_wrap=True)
    console.print(f"study {study.name}: model {' or '.join(study.models)}, data set {dataset.name}, {resources}")
    if not isinstance(study.dataset, datasets.KnownDataset):
        console.print("; ".join([dataset.summary(), *dataset.remarks]), soft_wrap=True)
    if len(dataset.classes) > predictions.KEPT + 1:
        console.print(
            f"of {len(dataset.classes):,} classes, a run keeps the probabilities of the {predictions.KEPT} likeliest and of the "
            "right one",
            soft_wrap=True,
        )
    name, now = samplers.chosen_sampler(assignment.study).name, samplers.chosen_sampler(study)
    if now.why:
        console.print(f"sampler {name}, chosen because: {now.why if name == now.name else 'so the study began'}")
    with FigureProcesses(logs / "figures.log") as figures:
        sweep = Supervisor(store, assignment, executor, figures, console, stays=not joins)
        try:
            sweep.supervise()
        finally:
            try:
                executor.kill()
            finally:
                sweep.settle()
        sweep.finish_figures()
    return Result(sweep.snapshot(), sweep.interrupted, name, sweep.paused, sweep.ended)


def check_training(study: Study, dataset: datasets.Dataset) -> None:
    """Raise UserError for a task, training settings and metrics that the data set cannot have."""
    if study.task == "classification" and not dataset.classes:
        raise UserError(
            f"study {study.name!r}: the labels of data set {dataset.name} are numbers to predict: give task: regression"
        )
    if study.task == "regression" and dataset.classes and not isinstance(study.dataset, datasets.KnownDataset):
        raise UserError(
            f"study {study.name!r}: data set {dataset.name} has classes: leave task out, or give labels: numbers"
        )
    if study.task == "regression" and (study.settings.class_weight or "class_weight" in study.search):
        raise UserError(f"study {study.name!r}: class_weight is of classes, and a regression has none: leave it out")
    if dataset.grouped and study.protocol == "reshuffled":
        raise UserError(
            f"study {study.name!r}: protocol reshuffled would divide data set {dataset.name} anew, without its groups: leave it "
            "out"
        )
    if dataset.grouped and study.folds:
        datasets.fold(study.dataset.found_as(dataset), 0, study.folds)  # which says where it cannot be divided so
    if study.task == "regression" and (of_classes := losses.only_of_classes(study.settings)):
        raise UserError(
            f"study {study.name!r}: {of_classes} is of classes, and a regression has none: name another loss, huber say"
        )
    asked = [name for name in DISTORTIONS if getattr(study.settings, name) or name in study.search]
    if asked and not dataset.has_images:
        raise UserError(f"{asked[0]} distorts images, and data set {dataset.name} has none: leave it out")
    if study.population > 1 and isinstance(dataset.train.x, datasets.Inputs):
        raise UserError(
            f"population: its program takes one input, and data set {dataset.name} has several: leave it out"
        )
    try:
        metrics.check(study.measured, len(dataset.for_task(study.task).classes))
    except ValueError as error:
        raise UserError(f"study {study.name!r}: {error}") from error


def closing_summary(study: Study, result: Result) -> list[str]:
    """Return what was found, and which commands come next."""
    snapshot, lines = result.snapshot, []
    if snapshot.best:
        reached = study.objective.text(study.objective.scale * first_value(snapshot.best))
        what = f"{study.objective.label} " if study.objective.called else ""
        found = f"best by validation: trial {snapshot.best.number} with {what}{reached}"
        lines.append(f"{found}, of {snapshot.done} trials and {snapshot.epochs_spent} epochs")
    if result.paused:
        lines.append(result.paused)
    elif result.interrupted:
        lines.append(f"stopped; the same command resumes it ({snapshot.done} of {snapshot.tickets or '∞'} trials done)")
    elif result.ended:
        lines.append(f"the study has ended, by its rules: {result.ended}; other rules in its file may resume it")
    elif result.sampler == samplers.GRID and snapshot.done >= len(
        samplers.points(study.model_copy(update={"sampler": samplers.GRID}))
    ):
        lines.append("all combinations of the grid have been tried")
    else:
        lines.append(f"the budget is used up ({_limit_reached(study, snapshot)}); a larger one continues the study")
    best, ui = paths.command(f"best {study.name}"), paths.command("ui")
    lines.append(f"next: {best} (leaderboard), {ui} (curves, runs, artifacts)")
    return lines


def _prepare(
    study: Study,
    dataset: datasets.Dataset,
    resources: Resources,
    phase: tracking.Phase,
    owner: str | None = None,
    new_source: bool = False,
) -> tuple[Store, Assignment]:
    """Make what is missing in both stores, and what every worker must know."""
    study = study.model_copy(update={"dataset": study.dataset.found_as(dataset)})
    with study_lock():  # two parents that begin at once make one study and one parent run
        owned = StoredStudy(owner) if owner else None
        # MLflow first: it may refuse, and then nothing is written
        within = owned.parent_run().run_id if owned else None
        if owned is None:
            tracking.find_experiment(study.name)
        store = Store.create(study.name, study.directions)
        if store.attributes().get(names.DELETING):
            raise UserError(f"study {study.name!r} is being deleted: sweep delete {study.name} completes that")
        study = _check_definition(store, study, new_source)
        chosen = _choose_sampler(store, study)
        uid = store.uid
        phase = store.attributes().get(names.PHASE, phase)
        store.remember(names.PHASE, phase)
        experiment = tracking.open_experiment(owned.name if owned else study.name, owned.uid if owned else uid)
        if owned:
            store.remember(names.OWNER, owned.name)
        own = of_study(study) | of_dataset(dataset) | provenance.code()
        parent = tracking.open_parent(experiment, uid, phase, own, within)
        tracking.set_tags(parent, of_parent(study))
        if owned is None:
            views.save(experiment.experiment_id, view(study, uid))
        store.remember(names.STUDY, study.model_dump(mode="json", by_alias=True))  # budget and targets as in this run
        ending.reconsider(store, study)
    deadline = time.time() + 3600 * study.budget.hours - store.seconds_spent() if study.budget.hours else None
    ids = (uid, experiment.experiment_id, parent)
    digest, resolved = study.digest(), study.model_copy(update={"sampler": chosen})
    return store, Assignment(
        resolved,
        tuple(_model_sources(study)),
        provenance.code(),
        digest,
        phase,
        *ids,
        resources.device,
        resources.gpus,
        resources.gpu_share,
        resources.threads,
        resources.trials_per_worker,
        samplers.tickets(resolved),
        deadline,
        frozenset(trial.number for trial in store.trials() if trial.state.is_finished()),
        tuple(_functions(study)),
    )


def _check_definition(store: Store, study: Study, new_source: bool) -> Study:
    """Refuse to resume a study that is stored under another definition; return it with the stored reference to its model."""
    attributes, sources = store.attributes(), _model_sources(study)
    begun = any(trial.state != TrialState.WAITING or trial.params for trial in store.trials())
    if not begun and store.directions() == study.directions:
        store.remember(names.STUDY, study.model_dump(mode="json", by_alias=True))
        store.remember(names.DEFINITION, study.definition())
        store.remember(names.SOURCE, _kept(study, sources))
        _remember_functions(store, study)
        store.remember(names.CHOSEN_SAMPLER, None)
        return study
    functions = _functions(study)
    now = study.definition()  # before the stored source takes the place of the present one
    stored = restore(study.name, attributes)
    changed = _differences(stored.definition(), now | {"name": stored.name})  # a UI may have given it another
    of_the_users = ("its model", *study.models, *study.functions)
    of_sources = bool(changed) and set(changed) <= {CHANGED_SOURCE.format(of) for of in of_the_users}
    if of_sources and new_source:
        for each in [*sources, *functions]:
            models.adopt(each)
        store.remember(names.SOURCE, _kept(study, sources))
        _remember_functions(store, study)
        for number in repair.begin_anew(store):
            checkpoint.remove(paths.checkpoint(stored.name, number))
        store.remember(names.DEFINITION, now | {"name": stored.name})
        return study.model_copy(update={"name": stored.name})
    if changed:
        anyway = ", or with the present source (--new-source)" if of_sources else ""
        raise UserError(
            f"study {study.name!r} has trials under another definition ({'; '.join(changed)}): give the changed study "
            f"another name, or resume the stored one (sweep run {study.name} --stored){anyway}"
        )
    if names.SOURCE not in attributes:  # of a version that kept none
        store.remember(names.SOURCE, _kept(study, sources))
    _remember_functions(store, study)  # their references may be others than before
    # One source may be referred to in several ways, and one study have several names.
    return study.model_copy(update={"model": stored.model, "name": stored.name})


def _model_sources(study: Study) -> list[models.Source]:
    """Return the sources of the user's models that a study trains."""
    return [source for name in study.models if (source := models.source(name))]


def _kept(study: Study, sources: Sequence[models.Source]) -> Any:
    """Return the sources of models as they are kept: that of one by itself, as of before there were several."""
    content = [source.content() for source in sources]
    return content if len(study.models) > 1 else next(iter(content), None)


def _functions(study: Study) -> list[models.Source]:
    """Return the sources of the functions of the user's that a study refers to."""
    return [source for name in study.functions if (source := models.source(name))]


def _remember_functions(store: Store, study: Study) -> None:
    found = [source.content() for source in _functions(study)]
    if found or store.attributes().get(names.FUNCTIONS):  # of a study without any there is no such attribute
        store.remember(names.FUNCTIONS, found)


def _differences(before: dict[str, Any], now: dict[str, Any], where: str = "") -> list[str]:
    found = []
    for key in [*before, *(key for key in now if key not in before)]:
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if (
            (where + key == "model" or where in ("functions.", "models."))
            and str(old).startswith("source ")
            and str(new).startswith("source ")
        ):
            found.append(CHANGED_SOURCE.format(key if where else "its model"))
            continue
        if where == "" and isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{key}.")
        else:
            found.append(f"{where}{key} was {_short(old)}, is {_short(new)}")
    return found


def _short(value: Any) -> str:
    if isinstance(value, dict):  # an entry of the search space: what it says, without defaults
        value = {k: v for k, v in value.items() if v not in ({}, False, None) and (k, v) != ("step", 1)}
    return "nothing" if value is None else in_a_line(value)


def _limit_reached(study: Study, snapshot: Snapshot) -> str:
    budget = study.budget
    if budget.trials is not None and snapshot.done >= budget.trials:
        return f"{budget.trials} trials"
    if budget.epochs is not None and snapshot.epochs_spent >= budget.epochs:
        return f"{budget.epochs} epochs"
    return f"{budget.hours:g} hours" if budget.hours is not None else "trials"


def _choose_sampler(store: Store, study: Study) -> Any:
    """Return the study's sampler; what `auto` chose at the beginning holds, whatever the budget is now."""
    now = samplers.chosen_sampler(study)
    if not now.why:
        return study.sampler
    known = store.attributes().get(names.CHOSEN_SAMPLER)
    if known is None:
        store.remember(names.CHOSEN_SAMPLER, now.name)
    return known or now.name
