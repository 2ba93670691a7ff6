"""Reading back what was confirmed: DataFrames of the seeds, and of the verdict on every published accuracy."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from pipelines import datasets, paths, predictions
from pipelines.errors import UserError, first_line
from pipelines.metrics import ACCURACY, Labels, Metric, is_regression, short
from pipelines.tracking import facts
from pipelines.tracking import store as tracking
from pipelines.tracking.run import PREDICTIONS, PROBABILITIES
from sweeps.results import choice, ensemble, frames, verdict, verdict_lines
from sweeps.results.choice import confirmed_trials, final_trials
from sweeps.results.comparison import Comparison, compare
from sweeps.results.statistics import Interval
from sweeps.results.tables import terminal
from sweeps.results.verdict import (
    Estimate,
    Published,
    Seeds,
    decide,
    next_training,
    of_the_ensemble,
    on_further_images,
    share_of,
)
from sweeps.stores.record import StoredStudy, adopt_source, find
from sweeps.stores.store import Store

OF_A_SEED = [
    *("study", "trial", "phase", "seed", "state"),
    *("kept_epoch", "epochs", "seconds", "run_id"),  # after the metrics
]
OF_A_VERDICT = [
    *("study", "system", "chosen", "target", "metric", "published", "kind", "decimals", "images"),
    *("planned", "trained", "models", "lost", "val_mean", "test_mean", "test_sd"),
    *("verdict", "decided_at", "mean", "low", "high", "anytime"),
    *("chance", "better", "share_low", "share_high"),
    *("as_system", "one_low", "one_high"),
    *("beyond", "beyond_low", "beyond_high"),
    "error",
]


@dataclass(frozen=True)
class Measured:
    """What a system is by one metric, in the unit in which that is shown: accuracies in percent.

    `seeds`: the test values, for a configuration or its final training; `here`: what is known of an ensemble on these test
    images. `beyond`: the same of either on further images of the same kind.
    """

    val_mean: float | None
    test_mean: float
    test_sd: float | None
    seeds: Seeds | None
    here: Estimate | None
    beyond: Estimate | None


@dataclass(frozen=True)
class System:
    """What can be trained again and has a verdict: a configuration, its final training, or an ensemble.

    `measured`: by the objective, `metric`, and by every metric that a target is of, by name. `run_ids`: the runs that it was
    measured with; `trained`: how many seeds have ended, those too that diverged or failed and count in nothing; `planned`:
    how many were planned. `error`: that its words may have. `correct`: seeds × test images, whether a seed classifies each
    rightly; None of an ensemble and of a regression.
    """

    name: str
    kind: verdict.SystemKind
    chosen: bool
    run_ids: Sequence[str]
    trained: int
    planned: int
    metric: Metric
    measured: Mapping[str, Measured]
    error: float
    correct: NDArray[np.bool_] | None

    @property
    def lost(self) -> int:
        """How many of its seeds diverged or failed."""
        return self.trained - len(self.run_ids)

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


def confirmations(study: str | None = None) -> pd.DataFrame:
    """Return one row a seed of every configuration of a study that was trained again, in the order of trials and seeds.

    `study`: its name; the latest sweep if not given. Columns: study, trial (whose configuration it is), phase (confirm, or final:
    trained on the validation images too), seed (its number, from 0), state, val_NAME and test_NAME for every metric, as in
    `runs`, kept_epoch (from 1), epochs, seconds, run_id. Raises UserError for an unknown study.
    """
    name = name_of(study)
    found = []
    stored = StoredStudy(name)
    experiment = stored.experiment()
    measured = [f"{part}_{metric.name}" for metric in stored.read().measured for part in frames.PARTS]
    columns = [*OF_A_SEED[:5], *measured, *OF_A_SEED[5:]]
    for phase, trials in (("confirm", confirmed_trials(name)), ("final", final_trials(name))):
        for number, confirming in trials.items():
            uid = Store(confirming).uid
            for run in facts.of_trials(experiment.experiment_id, frames.WANTED, uid) if experiment else []:
                row = frames.row(run)
                own = {"study": name, "trial": number, "phase": phase, "seed": row["trial"]}
                found.append({key: (row | own).get(key) for key in columns})
    frame = pd.DataFrame(found, columns=columns).astype({name: "float64" for name in (*measured, "seconds")})
    frame = frame.astype({name: "Float64" for name in ("kept_epoch", "epochs")}).astype(
        {name: "Int64" for name in ("kept_epoch", "epochs")}
    )
    return frame.sort_values(["trial", "phase", "seed"], ignore_index=True)


def verdicts(study: str | None = None) -> pd.DataFrame:
    """Return one row for every system of a study and published value; in the unit shown: accuracies in percent.

    Systems: every confirmed configuration, the final training of the chosen one, and the ensemble that validation chooses.
    `chosen`: the configuration with the best mean objective on validation images; its verdict is the study's. `images`,
    `decimals`: of the published value, `metric`: its metric. `planned`, `trained`: seeds, `lost`: of those, they diverged or
    failed; `models`: the others.

    `verdict`: by the first `decided_at` seeds, of this `mean`, with its plain 95 % interval from `low` to `high` (`anytime`:
    not at the number of seeds planned). `chance`: that one training more is better; `better` seeds are, which is a share of
    all trainings from `share_low` to `share_high` (0 to 1). `as_system`: better or worse than the published system, if its
    one run lies outside `one_low` to `one_high`. `beyond`: the verdict on further images of the same kind. `error`: of these
    words; the intervals are at 95 %. docs/verdicts.md has the rule. Raises UserError for an unknown study.
    """
    name = name_of(study)
    return judged(name, systems(name))


def judged(study: str, found: Sequence[System]) -> pd.DataFrame:
    """Return the rows of `verdicts` for the systems of a study; none where its test images are not those of published numbers."""
    definition = StoredStudy(study).read()
    by_name = {metric.name: metric for metric in definition.measured}
    rows = []
    for system in found if definition.dataset.comparable else []:
        for target in definition.sorted_targets():
            metric = by_name[short(target.of)]
            published = Published(target.published, target.kind, metric.direction, target.decimals)
            of_target = {
                "study": study,
                "target": target.name,
                "metric": metric.name,
                "published": target.published,
                "kind": target.kind,
                "decimals": target.decimals,
                "images": target.test_images,
            }
            rows.append(of_target | row_of(system, metric, published))
    return pd.DataFrame(rows, columns=OF_A_VERDICT).astype(
        {"val_mean": "float64", "test_sd": "float64", "decimals": "Int64", "better": "Int64"}
    )


def row_of(system: System, metric: Metric, published: Published) -> dict[str, Any]:
    """Return all that is said of one system and one published value, as `verdicts` has it."""
    measured, error = system.measured[metric.name], system.error
    beyond = measured.beyond
    row = {
        "system": system.name,
        "chosen": system.chosen,
        "planned": system.planned,
        "trained": system.trained,
        "models": len(system.run_ids),
        "lost": system.lost,
        "val_mean": measured.val_mean,
        "test_mean": measured.test_mean,
        "test_sd": measured.test_sd,
        **_ends(beyond.interval() if beyond else None, "beyond_low", "beyond_high"),
        "beyond": published.verdict(beyond.interval(error) if beyond else None),
        "error": error,
    }
    if measured.seeds is None:
        here = measured.here
        word = published.verdict(here.interval(error) if here else None)
        known = {"verdict": word, "decided_at": system.trained, "mean": measured.test_mean, "anytime": False}
        return row | known | _ends(here.interval() if here else None, "low", "high")
    row |= of_the_mean(measured.seeds, published, error)
    one, of_word = measured.seeds.summary(), measured.seeds.summary(error)
    row |= _ends(one.one_more if one else None, "one_low", "one_high")
    row["as_system"] = published.side(of_word.one_more if of_word else None)
    if more := next_training(measured.seeds, published):
        row |= {"chance": more.chance, "better": more.better, "share_low": more.low, "share_high": more.high}
    return row


def of_the_mean(seeds: Seeds, published: Published, error: float) -> dict[str, Any]:
    """Return what a row of `verdicts` says of the mean of some seeds."""
    decision = decide(seeds, published, error)
    by = decision.seeds
    return {
        "planned": seeds.planned,
        "trained": seeds.trained,
        "models": len(seeds.complete),
        "lost": seeds.trained - len(seeds.complete),
        "verdict": decision.word,
        "decided_at": by.trained,
        "mean": float(np.mean(by.complete)),
        "anytime": not by.as_planned,
        **_ends(by.interval(), "low", "high"),
    }


def systems(study: str) -> list[System]:
    """Return what of a study was confirmed: the chosen configuration first, then its final training, the ensemble, the others."""
    stored = StoredStudy(study)
    definition = stored.read()
    adopt_source(stored.attributes)  # users' metrics are computed of ensembles
    dataset, objective = datasets.load(definition.dataset), definition.objective
    labels, regression = dataset.test.y, definition.task == "regression"
    wanted = [
        objective,
        *(metric for metric in definition.measured if metric.name in definition.judged() - {objective.name}),
    ]
    confirmed, finals = _seeds_by_trial(study)
    among = len(confirmed)
    confirmed = {number: seeds for number, seeds in confirmed.items() if len(seeds.complete)}
    chosen = choice.chosen(study)
    own = f"val_{objective.name}"
    order = sorted(
        confirmed, key=lambda number: (number != chosen, objective.cost(confirmed[number].complete[own].mean()))
    )
    predicted = {number: Predicted.of(list(seeds.complete.run_id), dataset) for number, seeds in confirmed.items()}

    def one(
        name: str, kind: verdict.SystemKind, seeds: OfSeeds, test: ensemble.Probabilities, is_chosen: bool
    ) -> System:
        return System(
            name,
            kind,
            is_chosen,
            list(seeds.complete.run_id),
            seeds.ended,
            seeds.planned,
            objective,
            {metric.name: _measured(metric, seeds, labels, test) for metric in wanted},
            share_of(kind, among),
            None if regression else test.argmax(axis=2) == labels,
        )

    found = [
        one(f"trial {number}", "configuration", confirmed[number], predicted[number].test, number == chosen)
        for number in order
    ]
    further = []
    for number, seeds in finals.items():
        if len(seeds.complete):
            of_final = Predicted.of(list(seeds.complete.run_id), dataset).test
            further.append(one(f"trial {number}, all training images", "final", seeds, of_final, is_chosen=False))
    # Of the seeds that were planned: more of one configuration, to decide a verdict, would be weights that test images chose.
    first = {number: confirmed[number].first for number in order}
    validation = {number: predicted[number].validation[: first[number]] for number in order}
    members = ensemble.choose(validation, dataset.validation.y, objective)
    if members:
        test = [predicted[number].test[: first[number]] for number in members]
        of_validation = [validation[number] for number in members]
        run_ids = [run_id for number in members for run_id in confirmed[number].complete.run_id[: first[number]]]
        further.append(
            System(
                f"ensemble of trial {' and '.join(map(str, members))}",
                "ensemble",
                False,
                run_ids,
                sum(min(confirmed[number].ended, confirmed[number].planned) for number in members),
                sum(confirmed[number].planned for number in members),
                objective,
                {
                    metric.name: Measured(
                        metric.scale * ensemble.value(of_validation, dataset.validation.y, metric),
                        metric.scale * ensemble.value(test, labels, metric),
                        None,
                        None,
                        *(of_the_ensemble(test, labels, further_images, metric) for further_images in (False, True)),
                    )
                    for metric in wanted
                },
                share_of("ensemble", among),
                None,
            )
        )
    return [*found[:1], *further, *found[1:]]


@dataclass(frozen=True)
class OfSeeds:
    """The seeds of one configuration, up to the first that has not ended.

    `complete`: the rows of `confirmations` that have a test value; `ended`: how many there are with the lost ones; `planned`:
    how many were planned.
    """

    complete: pd.DataFrame
    ended: int
    planned: int

    @property
    def first(self) -> int:
        """How many of the complete are among those that were planned."""
        return int((self.complete.seed < self.planned).sum())

    def values(self, metric: Metric, images: int) -> Seeds:
        """Return the test values of a metric in the unit shown; `images`: of how many."""
        values = dict(zip(self.complete.seed, metric.scale * self.complete[f"test_{metric.name}"], strict=True))
        return Seeds(
            [values.get(number) for number in range(self.ended)], self.planned, images if metric.of_images else None
        )


def _seeds_by_trial(study: str) -> tuple[dict[int, OfSeeds], dict[int, OfSeeds]]:
    """Return the seeds of every confirmed configuration of a study, and of every final training, by trial."""
    rows = confirmations(study)
    on_test = f"test_{StoredStudy(study).read().objective.name}"
    complete = rows[(rows.state == "complete") & rows[on_test].notna()]

    def of(phase: Literal["confirm", "final"], trials: Mapping[int, str]) -> dict[int, OfSeeds]:
        found = {}
        for number, confirming in trials.items():
            ended = len(choice.ended(confirming))
            own = complete[(complete.phase == phase) & (complete.trial == number) & (complete.seed < ended)]
            found[number] = OfSeeds(own, ended, choice.planned(study, phase, number, ended))
        return found

    return of("confirm", confirmed_trials(study)), of("final", final_trials(study))


def evidence(study: str, trial: int, metric: Metric) -> tuple[Seeds, float]:
    """Return the test values of a confirmed configuration, without its predictions, and the error that its words may have."""
    images = StoredStudy(study).read().dataset.test_examples
    confirmed, _ = _seeds_by_trial(study)
    return confirmed[trial].values(metric, images), share_of("configuration", len(confirmed))


def _measured(metric: Metric, seeds: OfSeeds, labels: Labels, test: ensemble.Probabilities) -> Measured:
    """Return what seeds, which predict `test`, are by a metric."""
    values = seeds.values(metric, len(labels))
    validation = seeds.complete[f"val_{metric.name}"]
    return Measured(
        None if validation.isna().any() else metric.scale * float(validation.mean()),
        float(np.mean(values.complete)),
        float(np.std(values.complete, ddof=1)) if len(values.complete) > 1 else None,
        values,
        None,
        on_further_images(metric, values.complete, labels, test),
    )


def comparisons(study: str, found: Sequence[System]) -> Iterator[tuple[str, Comparison]]:
    """Yield how far the chosen configuration is from each other, its final training, and the published recipe as retrained here.

    Each with its name, by the objective. Ensembles have no seeds of their own to compare.
    """
    chosen, metric = found[0], found[0].metric
    own = chosen.measured[metric.name].seeds
    others = [(other.name, other.measured[metric.name].seeds, other.correct) for other in found[1:]]
    for name, seeds, correct in [*others, *_retrained(study, metric)]:
        if own is None or seeds is None:
            continue
        images = None
        if metric is ACCURACY and chosen.correct is not None and correct is not None:
            images = chosen.correct, correct
        if comparison := compare(own.complete, seeds.complete, metric.direction, images, least_sd=own.least_sd):
            yield name, comparison


def _retrained(study: str, metric: Metric) -> Iterator[tuple[str, Seeds, NDArray[np.bool_] | None]]:
    """Yield the seeds of the published recipe of a study's model, where `sweep baselines` has trained it on the same images."""
    definition = StoredStudy(study).read()
    stored = find(f"baseline-{definition.model}")
    if stored is None or not definition.dataset.comparable:
        return
    baseline = stored.read()
    if baseline.dataset != definition.dataset or baseline.protocol == "reshuffled":
        return
    column = f"test_{metric.name}"
    runs = [run for run in stored.trial_runs() if run.status == "FINISHED" and column in run.metrics]
    values = [metric.scale * run.metrics[column] for run in runs]
    dataset, correct = datasets.load(definition.dataset), None
    if metric is ACCURACY and runs:
        with suppress(UserError):  # gone: these test images are known from the values alone
            predicted = Predicted.of([run.run_id for run in runs], dataset)
            correct = predicted.test.argmax(axis=2) == dataset.test.y
    yield f"{definition.model} as published, retrained", Seeds(values, len(values), len(dataset.test.y)), correct


def show(study: str, console: Console, found: Sequence[System] | None = None) -> None:
    """Print what the fresh seeds came to, and the verdict on every target; `found`: the study's systems, if they are known."""
    found = systems(study) if found is None else found
    if not found:
        console.print(f"no seed is complete yet: sweep confirm {study} resumes")
        return
    verdicts, called = judged(study, found), found[0].metric.called
    rows = [[f"{system.name}{' *' if system.chosen else ''}", *cells(system)] for system in found]
    console.print(terminal([["", "models", f"validation{called}", f"test{called}"], *rows]))
    console.print(
        f"*: chosen, by its mean validation {found[0].metric.label}; means and standard deviations over fresh seeds",
        soft_wrap=True,
    )
    by_name = {metric.name: metric for metric in StoredStudy(study).read().measured}
    for line in verdict_lines.as_text(verdict_lines.judged(verdicts, by_name)):
        console.print(line, soft_wrap=True)
    if verdicts.empty:
        console.print(without_verdict(study), soft_wrap=True)


def without_verdict(study: str) -> str:
    """Return why a study has no verdict."""
    definition = StoredStudy(study).read()
    if definition.dataset.comparable:
        return "no verdict: the study has no target"
    own = definition.dataset.test_examples
    return f"no verdict: {definition.dataset.name} has {own} test images of its own, published accuracies are of others"


def cells(system: System) -> list[str]:
    """Return how many models a system has (lost and planned ones named), its objective on validation and test images."""
    notes = [f"{system.lost} lost"] * bool(system.lost) + [f"{system.planned} planned"] * (
        system.trained != system.planned
    )
    return [
        str(len(system.run_ids)) + (f" ({', '.join(notes)})" if notes else ""),
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
        file_name = PREDICTIONS if is_regression(dataset.test.y) else PROBABILITIES
        found: dict[str, list[NDArray[np.float32]]] = {"validation": [], "test": []}
        with tempfile.TemporaryDirectory() as folder:
            for run_id in run_ids:
                try:
                    path = tracking.artifact_folder(run_id, file_name, Path(folder) / run_id)
                    with np.load(path, allow_pickle=False) as file:
                        for part, values in found.items():
                            there = part in file.files
                            values.append(predictions.unpacked(part, file) if there else np.empty((0, 0), np.float32))
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


def _ends(interval: Interval | None, low: str, high: str) -> dict[str, float]:
    return {low: interval.low, high: interval.high} if interval else {low: float("nan"), high: float("nan")}


def name_of(study: str | None) -> str:
    """Return the study's name: the latest sweep's if none is given. Raises UserError for an unknown one."""
    if study is not None:
        return StoredStudy(study).name
    known: Any = frames.studies()
    sweeps = known[known.phase == "sweep"]
    if sweeps.empty:
        raise UserError(f"no study has been run yet: begin with {paths.command('run')}")
    return StoredStudy(str(sweeps.study.iloc[0])).name
