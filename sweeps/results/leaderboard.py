"""The leaderboard: complete trials by validation accuracy, and how far the chosen one is from each published test accuracy."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import Console

import models
from pipelines import paths
from pipelines.errors import UserError
from sweeps.results import frames, systems
from sweeps.results.frames import RENAMED
from sweeps.results.statistics import format_published, summary
from sweeps.results.tables import number, percent, terminal
from sweeps.results.verdict import of_seeds
from sweeps.stores.record import StoredStudy
from sweeps.stores.storage import study_names
from sweeps.study.study import Study, format_params

SHOWN = 10
IMPORTANCE_TRIALS = 8  # fewer complete trials say nothing of importance


@dataclass(frozen=True)
class Gap:
    """A published accuracy, as its author gives it, beside the test accuracy of the trial that validation chose."""

    target: str
    published: str
    points: float
    images: int


def gaps(study: Study, test_accuracy: float) -> list[Gap]:
    """Return the gap to each target in points and in test images; positive is above the published number."""
    test_images = study.dataset.test_examples
    return [
        Gap(
            target.name,
            format_published(target.accuracy, target.kind),
            points := 100 * test_accuracy - target.accuracy,
            round(points / 100 * test_images),
        )
        for target in study.targets
    ]


def failures(frame: pd.DataFrame) -> list[str]:
    """Return a line for each reason for which trials failed, the most frequent first."""
    failed = frame[frame.state == "failed"]
    if failed.empty or "failure" not in failed:
        return []
    by_reason = failed.groupby(failed.failure.fillna("unknown"), sort=False).trial.apply(list)
    ordered = sorted(by_reason.items(), key=lambda pair: -len(pair[1]))
    return [f"trial {', '.join(map(str, numbers))} failed: {reason}" for reason, numbers in ordered]


def show(name: str | None, console: Console) -> None:
    """Print a study's leaderboard (the latest study's if not named). Raises UserError when there is none."""
    owner = StoredStudy(name).owner if name in study_names() else None
    if owner:
        raise UserError(f"study {name!r} trains again what {owner!r} found: sweep best {owner} shows it")
    frame = frames.runs(name)
    if frame.empty:
        console.print(
            f"no trial has begun yet: resume the study with {paths.command(f'run {name} --stored' if name else 'run')}"
        )
        return
    study_name = str(frame.study.iloc[0])
    stored = StoredStudy(study_name)
    store, study = stored.store, stored.read()
    complete = frame[frame.state == "complete"]
    counts = ", ".join(f"{count} {state}" for state, count in frame.state.value_counts().items() if count)
    ended = frame[frame.epochs.notna()]
    saved = int((ended.max_epochs * study.trainings - ended.epochs).sum())
    spent = f"{int(ended.epochs.sum())} epochs trained in ended trials, {saved} saved by ending trials early"
    if "gpu_hours" in frame:
        spent += f"; {frame.gpu_hours.sum():.2f} GPU hours"
    console.print(f"{study_name}: {counts}; {spent}", soft_wrap=True)
    for line in failures(frame):
        console.print(line, soft_wrap=True)
    if complete.empty:
        console.print(
            f"no trial is complete yet: resume the study with {paths.command(f'run {study_name} --stored')}, and a larger "
            "budget if it is used up",
            soft_wrap=True,
        )
        return
    if not study.search:
        _show_seeds(study, complete, console)
        return
    console.print(terminal(ranking(complete, study)))
    if study.trainings > 1:
        console.print(f"accuracies: means and standard deviations of {_models(study)} a trial", soft_wrap=True)
    if "on_front" in complete:
        others = ", ".join(study.objectives)
        console.print(
            f"*: on the front of {others}: no other trial is better in one of them and as good in the rest",
            soft_wrap=True,
        )
    if (systems.confirmations(study_name).state == "complete").any():
        try:
            systems.show(study_name, console)
        except UserError as error:
            console.print(f"no verdict: {error}", soft_wrap=True)
    else:
        _show_targets(study, complete.iloc[0], len(frame), console)
    weights = store.importances() if len(complete) >= IMPORTANCE_TRIALS else {}
    if weights:
        text = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
        console.print(f"importance for validation accuracy (fANOVA over {len(complete)} complete trials): {text}")


def ranking(complete: pd.DataFrame, study: Study) -> list[list[str]]:
    """Return the best complete trials as the rows of a table, its head first."""
    several, on_gpu = "val_sd" in complete, "gpu_hours" in complete
    head = ["trial", "validation", "test", "epochs", *([] if several else ["kept"]), "minutes"]
    lines = [[*head, *(["GPU hours"] if on_gpu else []), "parameters", "searched"]]
    for _, row in complete.head(SHOWN).iterrows():
        lines.append(
            [
                f"{row.trial}{' *' if row.get('on_front') else ''}",
                *_accuracies(row),
                number(row.epochs),
                *([] if several else [number(row.kept_epoch)]),
                number(row.seconds / 60, ".1f"),
                *([number(row.gpu_hours, ".3f")] if on_gpu else []),
                number(row.parameters, ","),
                format_params(study.active({name: row[RENAMED.get(name, name)] for name in study.search})),
            ]
        )
    return lines


def _accuracies(row: "pd.Series[Any]") -> list[str]:
    """Return validation and test accuracy, with their deviations where a trial is several models."""
    pairs = [(row[f"{part}_accuracy"], row.get(f"{part}_sd")) for part in ("val", "test")]
    return [percent(100 * mean, None if sd is None else 100 * sd) for mean, sd in pairs]


def _show_seeds(study: Study, complete: pd.DataFrame, console: Console) -> None:
    """Print every seed of one configuration, their mean, and where the published numbers lie."""
    lines = [["trial", "test", "epochs", "minutes", "parameters"]]
    for _, row in complete.sort_values("trial").iterrows():
        facts = number(row.epochs), number(row.seconds / 60, ".1f"), number(row.parameters, ",")
        lines.append([str(row.trial), _accuracies(row)[1], *facts])
    console.print(terminal(lines))
    measured = summary([100 * accuracy for accuracy in complete.test_accuracy])
    if measured.sd is None or measured.interval is None:
        console.print(f"one seed: test accuracy {measured.mean:.2f} %; protocol {study.protocol}")
    else:
        low, high = measured.interval
        console.print(
            f"{measured.n} seeds of one configuration: test accuracy {measured.mean:.2f} ± {measured.sd:.2f} %, 95 % interval of "
            f"the mean {low:.2f} to {high:.2f}; protocol {study.protocol}",
            soft_wrap=True,
        )
    if not study.dataset.comparable:
        _say_not_comparable(study, console)
        return
    for target in study.targets:
        word = of_seeds(measured, target.accuracy, target.kind)
        console.print(f"  {format_published(target.accuracy, target.kind)}  {target.name}: {word}")


def _say_not_comparable(study: Study, console: Console) -> None:
    own = study.dataset.test_examples
    console.print(f"published accuracies: not comparable, {study.dataset.name} has {own} test images of its own")


def _models(study: Study) -> str:
    return f"{study.folds} folds" if study.folds else f"{study.repeats} seeds"


def _show_targets(study: Study, chosen: "pd.Series[Any]", looked_at: int, console: Console) -> None:
    if not study.dataset.comparable:
        _say_not_comparable(study, console)
        return
    seeds = f"mean of {_models(study)}"
    console.print(
        f"trial {chosen.trial}, chosen by validation among {looked_at}: test accuracy {100 * chosen.test_accuracy:.2f} %, "
        f"unconfirmed ({'one seed' if study.trainings == 1 else seeds})",
    )
    for gap in gaps(study, chosen.test_accuracy):
        console.print(
            f"  {gap.published}  {gap.target}: {gap.points:+.2f} points ({gap.images:+d} images), unconfirmed",
        )
    if study.dataset.name == "mnist":
        references = ", ".join(f"{name} {accuracy:.2f} %" for name, accuracy in models.REFERENCES.items())
        console.print(f"  reference lines: {references}")
