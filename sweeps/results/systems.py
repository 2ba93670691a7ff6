"""Reading back what was confirmed: DataFrames of the seeds, and of the verdict on every published accuracy."""

import dataclasses
import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from pipelines import datasets, paths
from pipelines.errors import ErrorKind, UserError, first_line
from pipelines.metrics import Labels, Metric, is_regression, short
from pipelines.tracking import facts
from pipelines.tracking import store as tracking
from sweeps.results import ensemble, rows
from sweeps.results.rows import Row
from sweeps.results.statistics import format_published
from sweeps.results.tables import interval, terminal, unknown
from sweeps.results.verdict import Interval, of_the_ensemble, of_the_mean, on_further_images, verdict
from sweeps.stores import names
from sweeps.stores.seen import SeenStudy, owned_by
from sweeps.stores.storage import kind_of
from sweeps.stores.trials import fingerprint
from sweeps.study.study import Study

if TYPE_CHECKING:
    import pandas as pd

OF_A_SEED = [
    *("study", "trial", "phase", "seed", "state"),
    *("kept_epoch", "epochs", "seconds", "run_id"),  # after the metrics
]
OF_A_VERDICT = [
    *("study", "system", "chosen", "target", "metric", "published", "kind", "images"),
    *("models", "lost", "val_mean", "test_mean", "test_sd"),
    *("low", "high", "verdict", "beyond_low", "beyond_high", "beyond", "comparisons"),
]


STATISTICS = ("choice", "ensemble", "statistics", "systems", "verdict")  # files that say what a system comes to
PHASES = ("confirm", "final")  # of the studies that train a configuration again


@dataclass(frozen=True)
class Measured:
    """What a system is by one metric, in the unit in which that is shown: accuracies in percent.

    `here`: the interval of its mean on these test images over trainings; `beyond`: on further images of the same kind.
    """

    val_mean: float | None
    test_mean: float
    test_sd: float | None
    here: Interval | None
    beyond: Interval | None


@dataclass(frozen=True)
class System:
    """What can be trained again and has a verdict: a configuration, its final training, or an ensemble.

    `measured`: by the objective, `metric`, and by every metric that a target is of, by name; the intervals are corrected for
    `comparisons`. `run_ids`: the runs that it was measured with; `lost`: those that diverged or failed, and count in nothing.
    `rightly`: which test images one model of it classifies rightly: the best by validation, or the ensemble; None of a
    regression.
    """

    name: str
    chosen: bool
    run_ids: Sequence[str]
    lost: int
    metric: Metric
    measured: Mapping[str, Measured]
    comparisons: int
    rightly: NDArray[np.bool_] | None

    @property
    def val_mean(self) -> float | None:
        """Its mean objective on validation images."""
        return self.measured[self.metric.name].val_mean

    @property
    def test_mean(self) -> float:
        """Its mean objective on test images."""
        return self.measured[self.metric.name].test_mean

    @property
    def test_sd(self) -> float | None:
        """The deviation of that over trainings."""
        return self.measured[self.metric.name].test_sd


def confirmations(study: str | None = None) -> "pd.DataFrame":
    """Return one row a seed of every configuration of a study that was trained again, in the order of trials and seeds.

    `study`: its name; the latest sweep if not given. Columns: study, trial (whose configuration it is), phase (confirm, or final:
    trained on the validation images too), seed (its number, from 0), state, val_NAME and test_NAME for every metric, as in
    `runs`, kept_epoch (from 1), epochs, seconds, run_id. Raises UserError for an unknown study.
    """
    import pandas as pd

    name = name_of(study)
    measured = [f"{part}_{metric.name}" for metric in SeenStudy(name).read().measured for part in rows.PARTS]
    columns = [*OF_A_SEED[:5], *measured, *OF_A_SEED[5:]]
    found = [{key: seed.get(key) for key in columns} for seed in seeds(SeenStudy(name))]
    frame = pd.DataFrame(found, columns=columns).astype({name: "float64" for name in (*measured, "seconds")})
    frame = frame.astype({name: "Float64" for name in ("kept_epoch", "epochs")}).astype(
        {name: "Int64" for name in ("kept_epoch", "epochs")}
    )
    return frame.sort_values(["trial", "phase", "seed"], ignore_index=True)


def seeds(study: SeenStudy) -> list[Row]:
    """Return what is known of every seed of each configuration that was trained again, as `confirmations` has it, unordered."""
    experiment = tracking.find_experiment(study.name, study.uid) if tracking.exists() else None
    found = []
    for confirming in owned_by(study.name):
        phase, _, number = confirming.name.removeprefix(f"{study.name}-").partition("-")
        if phase not in PHASES or not number.isdigit() or experiment is None:  # a rerun's
            continue
        for run in facts.of_trials(experiment.experiment_id, rows.WANTED, confirming.uid):
            row = rows.row(run)
            found.append(row | {"study": study.name, "trial": int(number), "phase": phase, "seed": row["trial"]})
    return found


def verdicts(study: str | None = None) -> "pd.DataFrame":
    """Return one row for every system of a study and published value; in the unit shown: accuracies in percent.

    Systems: every confirmed configuration, the final training of the chosen one, and the ensemble that validation chooses.
    `chosen`: the configuration with the best mean objective on validation images. Its verdict is the study's, corrected for the
    number of configurations among which it was chosen (`comparisons`), those of the others for the number of systems. `low` to
    `high`: the 95 % interval of the mean over trainings on these test images; `beyond_low` to `beyond_high`: on further images of
    the same kind. `models`: so many were trained; `lost`: and so many diverged or failed. `images`: of the published value,
    `metric`: its metric. Raises UserError for an unknown study.
    """
    name = name_of(study)
    return judged(name, known(name) or systems(name))


def judged(study: str, found: Sequence[System]) -> "pd.DataFrame":
    """Return the rows of `verdicts` for the systems of a study; none where its test images are not those of published numbers."""
    import pandas as pd

    judged = verdict_rows(SeenStudy(study).read(), study, found)
    return pd.DataFrame(judged, columns=OF_A_VERDICT).astype({"val_mean": "float64", "test_sd": "float64"})


def verdict_rows(definition: Study, study: str, found: Sequence[System]) -> list[Row]:
    """Return what `judged` does, without pandas."""
    by_name = {metric.name: metric for metric in definition.measured}
    judged = []
    for system in found if definition.dataset.comparable else []:
        for target in definition.sorted_targets():
            metric = by_name[short(target.of)]
            measured = system.measured[metric.name]
            compared = target.published, target.kind, metric.direction
            judged.append(
                {
                    "study": study,
                    "system": system.name,
                    "chosen": system.chosen,
                    "target": target.name,
                    "metric": metric.name,
                    "published": target.published,
                    "kind": target.kind,
                    "images": target.test_images,
                    "models": len(system.run_ids),
                    "lost": system.lost,
                    "val_mean": measured.val_mean,
                    "test_mean": measured.test_mean,
                    "test_sd": measured.test_sd,
                    **_ends(measured.here, "low", "high"),
                    "verdict": verdict(measured.here, *compared),
                    **_ends(measured.beyond, "beyond_low", "beyond_high"),
                    "beyond": verdict(measured.beyond, *compared),
                    "comparisons": system.comparisons,
                }
            )
    return judged


def systems(study: str) -> list[System]:
    """Return what of a study was confirmed: the chosen configuration first, then its final training, the ensemble, the others."""
    from sweeps.results import choice
    from sweeps.stores.record import StoredStudy, adopt_source

    stored = StoredStudy(study)
    definition = stored.read()
    adopt_source(stored.attributes)  # users' metrics are computed of ensembles
    dataset, objective = datasets.load(definition.dataset), definition.objective
    labels, regression = dataset.test.y, definition.task == "regression"
    wanted = [
        objective,
        *(metric for metric in definition.measured if metric.name in definition.judged() - {objective.name}),
    ]
    computed_from = _computed_from(SeenStudy(study), definition)
    seeds = confirmations(study)
    own, on_test = f"val_{objective.name}", f"test_{objective.name}"
    complete = seeds[(seeds.state == "complete") & seeds[on_test].notna()]
    lost = seeds[seeds.state.isin(["diverged", "failed", "pruned", "stopped"])].groupby(["phase", "trial"]).size()
    confirmed = dict(by_trial(complete[complete.phase == "confirm"]))
    finals = dict(by_trial(complete[complete.phase == "final"]))
    chosen = choice.chosen(study)
    order = sorted(confirmed, key=lambda number: (number != chosen, objective.cost(confirmed[number][own].mean())))
    predicted = {number: Predicted.of(list(rows.run_id), dataset) for number, rows in confirmed.items()}
    members = ensemble.choose(
        {number: predicted[number].validation for number in order}, dataset.validation.y, objective
    )
    comparisons = len(confirmed) + len(finals) + bool(members)

    def one(name: str, rows: "pd.DataFrame", test: ensemble.Probabilities, among: int, is_chosen: bool) -> System:
        best = test[int(np.argmin([objective.cost(0 if np.isnan(value) else value) for value in rows[own]]))]
        return System(
            name,
            is_chosen,
            list(rows.run_id),
            int(lost.get((rows.phase.iloc[0], rows.trial.iloc[0]), 0)),
            objective,
            {metric.name: _measured(metric, rows, labels, test, among) for metric in wanted},
            among,
            None if regression else best.argmax(axis=1) == labels,
        )

    found = []
    for number in order:
        among = len(confirmed) if number == chosen else comparisons
        found.append(one(f"trial {number}", confirmed[number], predicted[number].test, among, number == chosen))
    for number, runs in finals.items():
        of_final = Predicted.of(list(runs.run_id), dataset).test
        found.insert(1, one(f"trial {number}, all training images", runs, of_final, comparisons, is_chosen=False))
    if members:
        test = [predicted[number].test for number in members]
        validation = [predicted[number].validation for number in members]
        found.insert(
            1 + len(finals),
            System(
                f"ensemble of trial {' and '.join(map(str, members))}",
                False,
                [run_id for number in members for run_id in confirmed[number].run_id],
                sum(int(lost.get(("confirm", number), 0)) for number in members),
                objective,
                {
                    metric.name: Measured(
                        metric.scale * ensemble.value(validation, dataset.validation.y, metric),
                        metric.scale * ensemble.value(test, labels, metric),
                        None,
                        *(of_the_ensemble(test, labels, further, comparisons, metric) for further in (False, True)),
                    )
                    for metric in wanted
                },
                comparisons,
                None if regression else np.concatenate(test).mean(axis=0).argmax(axis=1) == labels,
            ),
        )
    try:
        stored.store.remember(names.SYSTEMS, {"of": computed_from, "systems": [_content(system) for system in found]})
    except Exception as error:  # it may only be read here
        if not (kind_of(error).passes or kind_of(error) is ErrorKind.LASTING):
            raise
    return found


def known(study: str) -> list[System] | None:
    """Return what `systems` computed of the same seeds, without `rightly`; None where that was never, or by another version."""
    stored = SeenStudy(study)
    kept, definition = stored.attributes.get(names.SYSTEMS), stored.read()
    if not kept or kept["of"] != _computed_from(stored, definition):
        return None
    by_name = {metric.name: metric for metric in definition.measured}
    return [_system(content, by_name) for content in kept["systems"]]


def _computed_from(stored: SeenStudy, definition: Study) -> str:
    """Return what tells this from the systems of other seeds, other metrics, or another version of the statistics."""
    from_runs = sorted(
        (seed["phase"], seed["trial"], seed["seed"], seed["state"], seed["run_id"], repr(_measurements(seed)))
        for seed in seeds(stored)
    )
    by_storage = sorted((each.name, fingerprint(each.trials())) for each in owned_by(stored.name))
    wanted = [definition.objective.name, *sorted(definition.judged()), definition.protocol]
    rooms = Path(__file__).parent
    code = [hashlib.sha256(rooms.joinpath(f"{each}.py").read_bytes()).hexdigest() for each in STATISTICS]
    return hashlib.sha256(json.dumps([from_runs, by_storage, wanted, code]).encode()).hexdigest()[:16]


def _measurements(seed: Row) -> list[tuple[str, Any]]:
    return sorted((key, value) for key, value in seed.items() if key.startswith(("val_", "test_")))


def _content(system: System) -> dict[str, Any]:
    """Return a system as plain data, without `rightly`."""
    measured = {name: dataclasses.asdict(each) for name, each in system.measured.items()}
    return {
        "name": system.name,
        "chosen": system.chosen,
        "run_ids": list(system.run_ids),
        "lost": system.lost,
        "metric": system.metric.name,
        "measured": measured,
        "comparisons": system.comparisons,
    }


def _system(content: Mapping[str, Any], by_name: Mapping[str, Metric]) -> System:
    measured = {
        name: Measured(**each | {key: each[key] and Interval(**each[key]) for key in ("here", "beyond")})
        for name, each in content["measured"].items()
    }
    return System(**{**content, "metric": by_name[content["metric"]], "measured": measured}, rightly=None)


def _measured(
    metric: Metric, rows: "pd.DataFrame", labels: Labels, test: ensemble.Probabilities, comparisons: int
) -> Measured:
    """Return what the seeds in `rows`, which predict `test`, are by a metric."""
    values = [metric.scale * value for value in rows[f"test_{metric.name}"]]
    validation = rows[f"val_{metric.name}"]
    return Measured(
        None if validation.isna().any() else metric.scale * float(validation.mean()),
        float(np.mean(values)),
        float(np.std(values, ddof=1)) if len(values) > 1 else None,
        of_the_mean(values, len(labels) if metric.of_images else None, comparisons),
        on_further_images(metric, values, labels, test, comparisons),
    )


def show(study: str, console: Console, found: Sequence[System] | None = None) -> None:
    """Print what the fresh seeds came to, and the verdict on every target; `found`: the study's systems, if they are known."""
    found = known(study) or systems(study) if found is None else found
    if not found:
        console.print(f"no seed is complete yet: sweep confirm {study} resumes")
        return
    definition, called = SeenStudy(study).read(), found[0].metric.called
    verdicts = verdict_rows(definition, study, found)
    lines = [[f"{system.name}{' *' if system.chosen else ''}", *cells(system)] for system in found]
    console.print(terminal([["", "models", f"validation{called}", f"test{called}"], *lines]))
    console.print(
        f"*: chosen, by its mean validation {found[0].metric.label}; means and standard deviations over fresh seeds",
        soft_wrap=True,
    )
    for line in in_lines(verdicts, {metric.name: metric for metric in definition.measured}):
        console.print(line, soft_wrap=True)
    if not verdicts:
        console.print(without_verdict(study), soft_wrap=True)


def without_verdict(study: str) -> str:
    """Return why a study has no verdict."""
    definition = SeenStudy(study).read()
    if definition.dataset.comparable:
        return "no verdict: the study has no target"
    own = definition.dataset.test_examples
    return f"no verdict: {definition.dataset.name} has {own} test images of its own, published accuracies are of others"


def in_lines(verdicts: Sequence[Row], metrics: Mapping[str, Metric]) -> Iterator[str]:
    """Yield the verdicts on the chosen configuration, and then of the other systems, a line for each target.

    `metrics`: by name.
    """
    for system, of_system in itertools.groupby(verdicts, key=lambda row: row["system"]):
        judged = [*of_system]
        if not judged[0]["chosen"]:
            yield f"{system}, one of {judged[0]['comparisons']} systems compared:"
        if all(unknown(row["low"]) for row in judged):
            yield "  too few seeds for a verdict"
            continue
        for row in judged:
            images = "" if row["images"] == 10_000 else f" of {row['images']:,} images"
            metric = metrics[row["metric"]]
            here, beyond = (interval(row[f"{of}low"], row[f"{of}high"], metric) for of in ("", "beyond_"))
            yield (
                f"  {format_published(row['published'], row['kind'], metric)}{metric.called}{images}  {row['target']}: "
                f"{row['verdict']} (95 % interval of the mean {here}); on other images {row['beyond']} ({beyond})"
            )


def cells(system: System) -> list[str]:
    """Return how many models a system has (and how many were lost), its objective on validation and test images, for a table."""
    return [
        str(len(system.run_ids)) + (f" ({system.lost} lost)" if system.lost else ""),
        system.metric.text(system.val_mean),
        system.metric.text(system.test_mean, system.test_sd),
    ]


@dataclass(frozen=True)
class Predicted:
    """What some runs predict, seeds × images × classes, or as labels are; no `validation` where none was held out."""

    validation: ensemble.Probabilities
    test: ensemble.Probabilities

    @classmethod
    def of(cls, run_ids: Sequence[str], dataset: datasets.Dataset) -> "Predicted":
        """Read those of single models from the runs' artifacts; raises UserError where they are gone or damaged."""
        from pipelines.tracking.run import PREDICTIONS, PROBABILITIES

        file_name = PREDICTIONS if is_regression(dataset.test.y) else PROBABILITIES
        found: dict[str, list[NDArray[np.float32]]] = {"validation": [], "test": []}
        with tempfile.TemporaryDirectory() as folder:
            for run_id in run_ids:
                try:
                    path = tracking.artifact_folder(run_id, file_name, Path(folder) / run_id)
                    with np.load(path, allow_pickle=False) as file:
                        for part, values in found.items():
                            values.append(file[part] if part in file.files else np.empty((0, 0), np.float32))
                except Exception as error:  # every kind of artifact store raises its own, and numpy and zipfile theirs
                    raise UserError(
                        f"the predictions of run {run_id} are gone or damaged ({first_line(error)}): sweep rerun {run_id} makes "
                        f"them again; put its {file_name} in their place"
                    ) from error
        if is_regression(dataset.test.y):
            labels = {"validation": dataset.validation.y, "test": dataset.test.y}
            found = {
                part: [each.reshape(labels[part].shape) if each.size else each for each in values]
                for part, values in found.items()
            }
        return cls(np.stack(found["validation"]), np.stack(found["test"]))


def by_trial(seeds: "pd.DataFrame") -> "list[tuple[int, pd.DataFrame]]":
    """Return the rows of each trial, by its number."""
    return [(int(trial), seeds[seeds.trial == trial]) for trial in sorted(set(seeds.trial))]


def _ends(interval: Interval | None, low: str, high: str) -> dict[str, float]:
    return {low: interval.low, high: interval.high} if interval else {low: float("nan"), high: float("nan")}


def name_of(study: str | None) -> str:
    """Return the study's name: the latest sweep's if none is given. Raises UserError for an unknown one."""
    if study is not None:
        return SeenStudy(study).name
    sweeps = [each.study for each in rows.studies() if each.phase == "sweep"]
    if not sweeps:
        raise UserError(f"no study has been run yet: begin with {paths.command('run')}")
    return SeenStudy(sweeps[0]).name
