"""Reading back what was confirmed: DataFrames of the seeds, and of the verdict on every published accuracy."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from pipelines import datasets, paths
from pipelines.errors import UserError, first_line
from pipelines.tracking import facts
from pipelines.tracking import store as tracking
from sweeps.results import choice, ensemble, frames
from sweeps.results.choice import confirmed_trials, final_trials
from sweeps.results.statistics import format_published
from sweeps.results.tables import interval, percent, terminal
from sweeps.results.verdict import Interval, beyond_these_images, of_the_ensemble, of_the_mean, verdict
from sweeps.stores.record import StoredStudy
from sweeps.stores.store import Store

OF_A_SEED = [
    *("study", "trial", "phase", "seed", "state", "val_accuracy", "test_accuracy"),
    *("kept_epoch", "epochs", "seconds", "run_id"),
]
OF_A_VERDICT = [
    *("study", "system", "chosen", "target", "published", "kind", "images"),
    *("models", "lost", "val_mean", "test_mean", "test_sd"),
    *("low", "high", "verdict", "beyond_low", "beyond_high", "beyond", "comparisons"),
]


@dataclass(frozen=True)
class System:
    """What can be trained again and has a verdict: a configuration, its final training, or an ensemble. In percent.

    `here`: the interval of its accuracy on these test images over trainings; `beyond`: on further images of the same kind; both
    corrected for `comparisons`. `run_ids`: the runs that it was measured with; `lost`: those that diverged or
    failed, and count in nothing. `rightly`: which test images one model of it
    classifies rightly: the best by validation, or the ensemble.
    """

    name: str
    chosen: bool
    run_ids: Sequence[str]
    lost: int
    val_mean: float | None
    test_mean: float
    test_sd: float | None
    here: Interval | None
    beyond: Interval | None
    comparisons: int
    rightly: NDArray[np.bool_]


def confirmations(study: str | None = None) -> pd.DataFrame:
    """Return one row a seed of every configuration of a study that was trained again, in the order of trials and seeds.

    `study`: its name; the latest sweep if not given. Columns: study, trial (whose configuration it is), phase (confirm, or final:
    trained on the validation images too), seed (its number, from 0), state, val_accuracy and test_accuracy (0 to 1), kept_epoch
    (from 1), epochs, seconds, run_id. Raises UserError for an unknown study.
    """
    name = name_of(study)
    found = []
    experiment = StoredStudy(name).experiment()
    for phase, trials in (("confirm", confirmed_trials(name)), ("final", final_trials(name))):
        for number, confirming in trials.items():
            uid = Store(confirming).uid
            for run in facts.of_trials(experiment.experiment_id, frames.WANTED, uid) if experiment else []:
                row = frames.row(run)
                own = {"study": name, "trial": number, "phase": phase, "seed": row["trial"]}
                found.append({key: (row | own)[key] for key in OF_A_SEED})
    frame = pd.DataFrame(found, columns=OF_A_SEED)
    frame = frame.astype({"val_accuracy": "float64", "test_accuracy": "float64", "seconds": "float64"})
    frame = frame.astype({name: "Float64" for name in ("kept_epoch", "epochs")}).astype(
        {name: "Int64" for name in ("kept_epoch", "epochs")}
    )
    return frame.sort_values(["trial", "phase", "seed"], ignore_index=True)


def verdicts(study: str | None = None) -> pd.DataFrame:
    """Return one row for every system of a study and published accuracy; accuracies in percent.

    Systems: every confirmed configuration, the final training of the chosen one, and the ensemble that validation chooses.
    `chosen`: the configuration with the best mean validation accuracy. Its verdict is the study's, corrected for the number of
    configurations among which it was chosen (`comparisons`), those of the others for the number of systems. `low` to `high`: the
    95 % interval of the mean over trainings on these test images; `beyond_low` to `beyond_high`: on further images of the same
    kind. `models`: so many were trained; `lost`: and so many diverged or failed. `images`: of the published accuracy. Raises
    UserError for an unknown study.
    """
    name = name_of(study)
    return judged(name, systems(name))


def judged(study: str, found: Sequence[System]) -> pd.DataFrame:
    """Return the rows of `verdicts` for the systems of a study; none where its test images are not those of published numbers."""
    definition = StoredStudy(study).read()
    rows = [
        {
            "study": study,
            "system": system.name,
            "chosen": system.chosen,
            "target": target.name,
            "published": target.accuracy,
            "kind": target.kind,
            "images": target.test_images,
            "models": len(system.run_ids),
            "lost": system.lost,
            "val_mean": system.val_mean,
            "test_mean": system.test_mean,
            "test_sd": system.test_sd,
            **_ends(system.here, "low", "high"),
            "verdict": verdict(system.here, target.accuracy, target.kind),
            **_ends(system.beyond, "beyond_low", "beyond_high"),
            "beyond": verdict(system.beyond, target.accuracy, target.kind),
            "comparisons": system.comparisons,
        }
        for system in (found if definition.dataset.comparable else [])
        for target in sorted(definition.targets, key=lambda target: target.accuracy)
    ]
    return pd.DataFrame(rows, columns=OF_A_VERDICT).astype({"val_mean": "float64", "test_sd": "float64"})


def systems(study: str) -> list[System]:
    """Return what of a study was confirmed: the chosen configuration first, then its final training, the ensemble, the others."""
    definition = StoredStudy(study).read()
    dataset = datasets.load(definition.dataset)
    seeds = confirmations(study)
    complete = seeds[(seeds.state == "complete") & seeds.test_accuracy.notna()]
    lost = seeds[seeds.state.isin(["diverged", "failed", "pruned"])].groupby(["phase", "trial"]).size()
    confirmed = dict(by_trial(complete[complete.phase == "confirm"]))
    finals = dict(by_trial(complete[complete.phase == "final"]))
    chosen = choice.chosen(study)
    order = sorted(confirmed, key=lambda number: (number != chosen, -confirmed[number].val_accuracy.mean()))
    predicted = {number: Predicted.of(list(rows.run_id)) for number, rows in confirmed.items()}
    members = ensemble.choose({number: predicted[number].validation for number in order}, dataset.validation.y)
    comparisons = len(confirmed) + len(finals) + bool(members)

    def one(name: str, rows: pd.DataFrame, test: ensemble.Probabilities, among: int, is_chosen: bool) -> System:
        accuracies = [100 * accuracy for accuracy in rows.test_accuracy]
        rightly = test.argmax(axis=2) == dataset.test.y
        return System(
            name,
            is_chosen,
            list(rows.run_id),
            int(lost.get((rows.phase.iloc[0], rows.trial.iloc[0]), 0)),
            None if rows.val_accuracy.isna().any() else 100 * float(rows.val_accuracy.mean()),
            float(np.mean(accuracies)),
            float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
            of_the_mean(accuracies, len(dataset.test), among),
            beyond_these_images(rightly, among),
            among,
            rightly[int(np.argmax(rows.val_accuracy.fillna(0)))],
        )

    found = []
    for number in order:
        among = len(confirmed) if number == chosen else comparisons
        found.append(one(f"trial {number}", confirmed[number], predicted[number].test, among, number == chosen))
    for number, rows in finals.items():
        of_final = Predicted.of(list(rows.run_id)).test
        found.insert(1, one(f"trial {number}, all training images", rows, of_final, comparisons, is_chosen=False))
    if members:
        test = [predicted[number].test for number in members]
        both = [of_the_ensemble(test, dataset.test.y, further, comparisons) for further in (False, True)]
        found.insert(
            1 + len(finals),
            System(
                f"ensemble of trial {' and '.join(map(str, members))}",
                False,
                [run_id for number in members for run_id in confirmed[number].run_id],
                sum(int(lost.get(("confirm", number), 0)) for number in members),
                100 * ensemble.accuracy([predicted[number].validation for number in members], dataset.validation.y),
                100 * ensemble.accuracy(test, dataset.test.y),
                None,
                both[0],
                both[1],
                comparisons,
                np.concatenate(test).mean(axis=0).argmax(axis=1) == dataset.test.y,
            ),
        )
    return found


def show(study: str, console: Console, found: Sequence[System] | None = None) -> None:
    """Print what the fresh seeds came to, and the verdict on every target; `found`: the study's systems, if they are known."""
    found = systems(study) if found is None else found
    if not found:
        console.print(f"no seed is complete yet: sweep confirm {study} resumes")
        return
    verdicts = judged(study, found)
    rows = [[f"{system.name}{' *' if system.chosen else ''}", *cells(system)] for system in found]
    console.print(terminal([["", "models", "validation", "test"], *rows]))
    console.print(
        "*: chosen, by its mean validation accuracy; means and standard deviations over fresh seeds", soft_wrap=True
    )
    for line in in_lines(verdicts):
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


def in_lines(verdicts: pd.DataFrame) -> Iterator[str]:
    """Yield the verdicts on the chosen configuration, and then of the other systems, a line for each target."""
    for system, rows in verdicts.groupby("system", sort=False):
        chosen = bool(rows.chosen.iloc[0])
        if not chosen:
            among = int(rows.comparisons.iloc[0])
            yield f"{system}, one of {among} systems compared:"
        if rows.low.isna().all():
            yield "  too few seeds for a verdict"
            continue
        for _, row in rows.iterrows():
            images = "" if row.images == 10_000 else f" of {row.images:,} images"
            yield (
                f"  {format_published(row.published, row.kind)}{images}  {row.target}: {row.verdict} (95 % interval of the mean "
                f"{interval(row.low, row.high)}); on other images {row.beyond} ({interval(row.beyond_low, row.beyond_high)})"
            )


def cells(system: System) -> list[str]:
    """Return how many models a system has (and how many were lost), its validation and its test accuracy, for a table."""
    return [
        str(len(system.run_ids)) + (f" ({system.lost} lost)" if system.lost else ""),
        percent(system.val_mean),
        percent(system.test_mean, system.test_sd),
    ]


@dataclass(frozen=True)
class Predicted:
    """The class probabilities of some runs, seeds × images × classes; no `validation` where none was held out."""

    validation: ensemble.Probabilities
    test: ensemble.Probabilities

    @classmethod
    def of(cls, run_ids: Sequence[str]) -> "Predicted":
        """Read those of single models from the runs' artifacts; raises UserError where they are gone or damaged."""
        found: dict[str, list[NDArray[np.float32]]] = {"validation": [], "test": []}
        with tempfile.TemporaryDirectory() as folder:
            for run_id in run_ids:
                try:
                    path = tracking.artifact_folder(run_id, "probabilities.npz", Path(folder) / run_id)
                    with np.load(path, allow_pickle=False) as file:
                        for part, values in found.items():
                            values.append(file[part] if part in file.files else np.empty((0, 0), np.float32))
                except Exception as error:  # every kind of artifact store raises its own, and numpy and zipfile theirs
                    raise UserError(
                        f"the predictions of run {run_id} are gone or damaged ({first_line(error)}): sweep rerun {run_id} makes "
                        "them again; put its probabilities.npz in their place"
                    ) from error
        return cls(np.stack(found["validation"]), np.stack(found["test"]))


def by_trial(seeds: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    """Return the rows of each trial, by its number."""
    return [(int(trial), seeds[seeds.trial == trial]) for trial in sorted(set(seeds.trial))]


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
