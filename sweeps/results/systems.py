"""Reading back what was confirmed: DataFrames of the seeds, and of the verdict on every published accuracy."""

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from pipelines import datasets, paths, predictions
from pipelines.errors import ErrorKind, UserError, first_line
from pipelines.metrics import ACCURACY, Labels, Metric, is_regression, short
from pipelines.tracking import facts
from pipelines.tracking import store as tracking
from sweeps.results import ensemble, rows, verdict, verdict_lines
from sweeps.results.comparison import Comparison, compare
from sweeps.results.rows import Row
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
    *("study", "system", "chosen", "target", "metric", "published", "kind", "decimals", "images"),
    *("planned", "trained", "models", "lost", "val_mean", "test_mean", "test_sd"),
    *("verdict", "decided_at", "mean", "low", "high", "anytime"),
    *("chance", "better", "share_low", "share_high"),
    *("as_system", "one_low", "one_high"),
    *("beyond", "beyond_low", "beyond_high"),
    "error",
]
NUMBERS = [  # columns of those, of numbers that may be missing
    *("val_mean", "test_mean", "test_sd", "mean", "low", "high", "chance", "share_low", "share_high"),
    *("one_low", "one_high", "beyond_low", "beyond_high"),
]
STATISTICS = ("choice", "ensemble", "statistics", "systems", "verdict")  # files that say what a system comes to
PHASES = ("confirm", "final")  # of the studies that train a configuration again


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
    rightly; None of an ensemble, of a regression, and where it was not computed just now.
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
    return judged(name, known(name) or systems(name))


def judged(study: str, found: Sequence[System]) -> "pd.DataFrame":
    """Return the rows of `verdicts` for the systems of a study; none where its test images are not those of published numbers."""
    import pandas as pd

    judged = verdict_rows(SeenStudy(study).read(), study, found)
    types = dict.fromkeys(NUMBERS, "float64") | {"decimals": "Int64", "better": "Int64"}
    return pd.DataFrame(judged, columns=OF_A_VERDICT).astype(types)


def verdict_rows(definition: Study, study: str, found: Sequence[System]) -> list[Row]:
    """Return what `judged` does, without pandas; what there is not is None, or no number."""
    by_name = {metric.name: metric for metric in definition.measured}
    judged = []
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
            judged.append(dict.fromkeys(OF_A_VERDICT) | of_target | row_of(system, metric, published))
    return judged


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
    found = [*found[:1], *further, *found[1:]]
    try:
        stored.store.remember(names.SYSTEMS, {"of": computed_from, "systems": [_content(system) for system in found]})
    except Exception as error:  # it may only be read here
        if not (kind_of(error).passes or kind_of(error) is ErrorKind.LASTING):
            raise
    return found


def known(study: str) -> list[System] | None:
    """Return what `systems` computed of the same seeds, without `correct`; None where that was never, or by another version."""
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
    by_storage = []
    for each in owned_by(stored.name):
        trials = each.trials()
        by_storage.append((each.name, fingerprint(trials), [(trial.number, trial.state.name) for trial in trials]))
    planned = sorted(item for item in stored.attributes.items() if item[0].startswith(names.FORMER_SEEDS_PLANNED))
    wanted = [definition.objective.name, *sorted(definition.judged()), definition.protocol]
    rooms = Path(__file__).parent
    code = [hashlib.sha256(rooms.joinpath(f"{each}.py").read_bytes()).hexdigest() for each in STATISTICS]
    return hashlib.sha256(json.dumps([from_runs, sorted(by_storage), planned, wanted, code]).encode()).hexdigest()[:16]


def _measurements(seed: Row) -> list[tuple[str, Any]]:
    return sorted((key, value) for key, value in seed.items() if key.startswith(("val_", "test_")))


def _content(system: System) -> dict[str, Any]:
    """Return a system as plain data, without `correct`."""
    fields = {each.name: getattr(system, each.name) for each in dataclasses.fields(system) if each.name != "correct"}
    measured = {name: dataclasses.asdict(each) for name, each in system.measured.items()}
    return fields | {"run_ids": list(system.run_ids), "metric": system.metric.name, "measured": measured}


def _system(content: Mapping[str, Any], by_name: Mapping[str, Metric]) -> System:
    kinds = {"seeds": Seeds, "here": Estimate, "beyond": Estimate}
    measured = {
        name: Measured(**each | {key: each[key] and kind(**each[key]) for key, kind in kinds.items()})
        for name, each in content["measured"].items()
    }
    return System(**{**content, "metric": by_name[content["metric"]], "measured": measured}, correct=None)


@dataclass(frozen=True)
class OfSeeds:
    """The seeds of one configuration, up to the first that has not ended.

    `complete`: the rows of `confirmations` that have a test value; `ended`: how many there are with the lost ones; `planned`:
    how many were planned.
    """

    complete: "pd.DataFrame"
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
    from sweeps.results import choice

    seeds = confirmations(study)
    on_test = f"test_{SeenStudy(study).read().objective.name}"
    complete = seeds[(seeds.state == "complete") & seeds[on_test].notna()]

    def of(phase: Literal["confirm", "final"], trials: Mapping[int, str]) -> dict[int, OfSeeds]:
        found = {}
        for number, confirming in trials.items():
            ended = len(choice.ended(confirming))
            own = complete[(complete.phase == phase) & (complete.trial == number) & (complete.seed < ended)]
            found[number] = OfSeeds(own, ended, choice.planned(study, phase, number, ended))
        return found

    return of("confirm", choice.confirmed_trials(study)), of("final", choice.final_trials(study))


def evidence(study: str, trial: int, metric: Metric) -> tuple[Seeds, float]:
    """Return the test values of a confirmed configuration, without its predictions, and the error that its words may have."""
    images = SeenStudy(study).read().dataset.test_examples
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
    from sweeps.stores.record import find

    definition = SeenStudy(study).read()
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
    by_name = {metric.name: metric for metric in definition.measured}
    for line in verdict_lines.as_text(verdict_lines.judged(verdicts, by_name)):
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
        from pipelines.tracking.run import PREDICTIONS, PROBABILITIES

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
        return SeenStudy(study).name
    sweeps = [each.study for each in rows.studies() if each.phase == "sweep"]
    if not sweeps:
        raise UserError(f"no study has been run yet: begin with {paths.command('run')}")
    return SeenStudy(sweeps[0]).name
