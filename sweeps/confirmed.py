"""Reading back what was confirmed: DataFrames of the seeds, and of the verdict on every published accuracy."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pipelines import data
from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from sweeps import results, study_file
from sweeps.confirm import MARK, clearly_behind
from sweeps.launch import OWNER
from sweeps.statistics import in_words as as_published
from sweeps.store import Store, study_names
from sweeps.verdict import Interval, beyond_these_images, of_the_mean, verdict

OF_A_SEED = ["study", "trial", "seed", "state", "val_accuracy", "test_accuracy", "epochs", "seconds", "run_id"]
OF_A_VERDICT = [
    *("study", "trial", "chosen", "target", "published", "kind", "seeds", "val_mean", "test_mean", "test_sd"),
    *("low", "high", "verdict", "beyond_low", "beyond_high", "beyond", "comparisons"),
]


def confirmations(study: str | None = None) -> pd.DataFrame:
    """Return one row a seed of every configuration of a study that was trained again, in the order of trials and seeds.

    `study`: its name; the latest sweep if not given. Columns: study, trial (whose configuration it is), seed (its number, from
    0), state, val_accuracy and test_accuracy (0 to 1), epochs, seconds, run_id. Raises UserError for an unknown study.
    """
    name = name_of(study)
    found = []
    for confirmed in study_names():
        attributes = Store(confirmed).attributes() if confirmed.startswith(f"{name}{MARK}") else {}
        if attributes.get(OWNER) != name:
            continue
        experiment = tracking.find_experiment(name)
        for run in tracking.study_runs(experiment.experiment_id, attributes["uid"]) if experiment else []:
            row = results.row(run)
            own = {"study": name, "trial": int(confirmed.removeprefix(f"{name}{MARK}")), "seed": row["trial"]}
            found.append({key: (row | own)[key] for key in OF_A_SEED})
    frame = pd.DataFrame(found, columns=OF_A_SEED)
    frame = frame.astype({"val_accuracy": "float64", "test_accuracy": "float64", "seconds": "float64"})
    return frame.sort_values(["trial", "seed"], ignore_index=True)


def verdicts(study: str | None = None) -> pd.DataFrame:
    """Return one row for every confirmed configuration of a study and published accuracy; accuracies in percent.

    `chosen`: the configuration with the best mean validation accuracy. Its verdict is the study's, and stands alone; those of the
    others are corrected for their number (`comparisons`). `low` to `high`: the 95 % interval of the mean over seeds on these test
    images; `beyond_low` to `beyond_high`: on further images of the same kind. Raises UserError for an unknown study.
    """
    name = name_of(study)
    definition = study_file.read_stored(name, Store(name).attributes())
    seeds = confirmations(name)
    complete = seeds[seeds.state == "complete"]
    by_validation = {trial: list(rows.val_accuracy) for trial, rows in _by_trial(complete)}
    chosen = choose(by_validation)
    found = []
    for trial, rows in _by_trial(complete):
        comparisons = 1 if trial == chosen else len(by_validation)
        accuracies = [100 * accuracy for accuracy in rows.test_accuracy]
        here = of_the_mean(accuracies, data.TEST_IMAGES[definition.dataset], comparisons)
        beyond = beyond_these_images(correct(definition.dataset, list(rows.run_id)), comparisons)
        for target in definition.targets if definition.dataset in data.COMPARABLE else []:
            values = (
                *(name, trial, trial == chosen, target.name, target.accuracy, target.kind, len(rows)),
                *(100 * rows.val_accuracy.mean(), float(np.mean(accuracies)), float(rows.test_accuracy.std() * 100)),
                *(*_ends(here), verdict(here, target.accuracy, target.kind)),
                *(*_ends(beyond), verdict(beyond, target.accuracy, target.kind), comparisons),
            )
            found.append(dict(zip(OF_A_VERDICT, values, strict=True)))
    frame = pd.DataFrame(found, columns=OF_A_VERDICT)
    return frame.sort_values(["chosen", "trial", "published"], ascending=[False, True, True], ignore_index=True)


def show(study: str, console: Console) -> None:
    """Print what the fresh seeds came to, and the verdict on every target."""
    seeds, judged = confirmations(study), verdicts(study)
    complete = seeds[seeds.state == "complete"]
    chosen = choose({trial: list(rows.val_accuracy) for trial, rows in _by_trial(complete)})
    table = Table("trial", "seeds", "validation", "test", box=None, pad_edge=False)
    for trial, rows in _by_trial(complete):
        spread = [
            f"{100 * values.mean():.2f} ± {100 * values.std():.2f} %"
            for values in (rows.val_accuracy, rows.test_accuracy)
        ]
        table.add_row(f"{trial}{' *' if trial == chosen else ''}", str(len(rows)), *spread)
    console.print(table)
    console.print(
        "*: chosen, by its mean validation accuracy; means and standard deviations over fresh seeds", soft_wrap=True
    )
    for _, row in judged[judged.chosen].iterrows():
        published = as_published(row.published, row.kind)
        console.print(
            f"  {published}  {row.target}: {row.verdict} (95 % interval of the mean {row.low:.2f} to {row.high:.2f}); "
            f"on other images {row.beyond} ({row.beyond_low:.2f} to {row.beyond_high:.2f})",
            soft_wrap=True,
        )
    if judged.empty:
        console.print("no verdict: no target has this data set's test images, or there is none")


def choose(by_configuration: dict[int, list[float]]) -> int | None:
    """Return the configuration with the best mean validation accuracy among those that are not clearly behind; None of none."""
    left = {k: v for k, v in by_configuration.items() if k not in clearly_behind(by_configuration)}
    most = max(map(len, left.values()), default=0)
    left = {k: v for k, v in left.items() if len(v) == most}
    return max(left, key=lambda number: float(np.mean(left[number])), default=None)


def correct(dataset: str, run_ids: Sequence[str]) -> NDArray[np.bool_]:
    """Return runs × test images: whether each image was classified rightly."""
    labels = data.load(dataset).test.y
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for run_id in run_ids:
            path = tracking.artifact_folder(run_id, "probabilities.npz", Path(folder) / run_id)
            with np.load(path, allow_pickle=False) as file:
                found.append(file["test"].argmax(axis=1) == labels)
    return np.stack(found)


def _by_trial(seeds: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    return [(int(trial), seeds[seeds.trial == trial]) for trial in sorted(set(seeds.trial))]


def _ends(interval: Interval | None) -> tuple[float, float]:
    return (interval.low, interval.high) if interval else (float("nan"), float("nan"))


def name_of(study: str | None) -> str:
    """Return the study's name: the latest sweep's if none is given. Raises UserError for an unknown one."""
    if study is not None:
        Store(study)
        return study
    known: Any = results.studies()
    sweeps = known[known.phase == "sweep"]
    if sweeps.empty:
        raise UserError("no study has been run yet: begin with make sweep")
    return str(sweeps.study.iloc[0])
