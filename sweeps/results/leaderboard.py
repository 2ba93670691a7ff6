"""The leaderboard: complete trials by the objective on validation images, and how far the chosen one is from published values."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import Console

import models
from pipelines import paths
from pipelines.errors import UserError
from pipelines.metrics import ACCURACY, Metric, short
from sweeps.results import frames, systems
from sweeps.results.frames import RENAMED
from sweeps.results.statistics import Summary, format_published, summary
from sweeps.results.tables import number, terminal
from sweeps.results.verdict import FEWEST_SEEDS, Published, reproduction
from sweeps.stores import names
from sweeps.stores.record import StoredStudy
from sweeps.stores.storage import study_names
from sweeps.study.study import Study, format_params

SHOWN = 10
IMPORTANCE_TRIALS = 8  # fewer complete trials say nothing of importance


@dataclass(frozen=True)
class Gap:
    """A published value, as its author gives it, beside the test value of the trial that validation chose: `gap` above it.

    `images`: so many test images is that; nothing for what is no share of them.
    """

    target: str
    published: str
    gap: str
    images: str


def gaps(study: Study, chosen: "pd.Series[Any]") -> list[Gap]:
    """Return the gap of a trial, a row of `runs`, to each target; positive is above the published number."""
    by_name = {metric.name: metric for metric in study.measured}
    found = []
    for target in study.targets:
        metric = by_name[short(target.of)]
        gap = metric.scale * float(chosen[f"test_{metric.name}"]) - target.published
        images = f"{round(gap / 100 * study.dataset.test_examples):+d}" if metric.of_images else ""
        found.append(
            Gap(
                target.name,
                format_published(target.published, target.kind, metric, target.decimals) + metric.called,
                f"{gap:+.2f} points" if metric.scale == 100 else f"{gap:+.3g}",
                images,
            )
        )
    return found


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
        _show_seeds(study, complete, stored.attributes.get(names.PHASE) == "baseline", console)
        return
    console.print(terminal(ranking(complete, study)))
    if study.trainings > 1:
        what = "accuracies" if study.objective is ACCURACY else "values"
        console.print(f"{what}: means and standard deviations of {_models(study)} a trial", soft_wrap=True)
    if "on_front" in complete:
        others = ", ".join(objective.column for objective in study.objectives)
        console.print(
            f"*: on the front of {others}: no other trial is better in one of them and as good in the rest",
            soft_wrap=True,
        )
    seeds = systems.confirmations(study_name)
    if (seeds.state == "complete").any():
        if luck := winners_luck(complete, seeds, study, len(frame)):
            console.print(luck, soft_wrap=True)
        try:
            systems.show(study_name, console)
        except UserError as error:
            console.print(f"no verdict: {error}", soft_wrap=True)
    else:
        _show_targets(study, complete.iloc[0], len(frame), console)
    weights = store.importances() if len(complete) >= IMPORTANCE_TRIALS else {}
    if weights:
        text = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
        what = f"validation {study.objective.label}"
        console.print(f"importance for {what} (fANOVA over {len(complete)} complete trials): {text}")


def winners_luck(complete: pd.DataFrame, seeds: pd.DataFrame, study: Study, looked_at: int) -> str | None:
    """Return how far the best of the leaderboard stands above its own fresh seeds on validation; None where it has none.

    `complete`: the trials, the best first; `seeds`: as `systems.confirmations` has them.
    """
    metric, best = study.objective, complete.iloc[0]
    column = f"val_{metric.name}"
    own = seeds[(seeds.trial == best.trial) & (seeds.phase == "confirm") & (seeds.state == "complete")][column].dropna()
    if own.empty:
        return None
    searched, again = (metric.scale * float(value) for value in (best[column], own.mean()))
    gap = metric.cost(again) - metric.cost(searched)
    by = f"{abs(gap):.2f} points" if metric.scale == 100 else f"{abs(gap):.2g}"
    return (
        f"trial {best.trial}, the best of {looked_at}, has {metric.text(searched)} on validation, and {metric.text(again)} from "
        f"{len(own)} fresh seeds: the search's number was {by} too {'good' if gap >= 0 else 'bad'}"
    )


def ranking(complete: pd.DataFrame, study: Study) -> list[list[str]]:
    """Return the best complete trials as the rows of a table, its head first."""
    objective, *others = [each.metric for each in study.objectives if each.metric]
    several, on_gpu = f"val_{objective.name}_sd" in complete, "gpu_hours" in complete
    ranked = [f"validation{objective.called}", f"test{objective.called}"]
    further = [f"validation {metric.label}" for metric in others]
    head = ["trial", *ranked, *further, "epochs", *([] if several else ["kept"]), "minutes"]
    lines = [[*head, *(["GPU hours"] if on_gpu else []), "parameters", "searched"]]
    for _, row in complete.head(SHOWN).iterrows():
        lines.append(
            [
                f"{row.trial}{' *' if row.get('on_front') else ''}",
                *(_value(row, part, objective) for part in frames.PARTS),
                *(_value(row, "val", metric) for metric in others),
                number(row.epochs),
                *([] if several else [number(row.kept_epoch)]),
                number(row.seconds / 60, ".1f"),
                *([number(row.gpu_hours, ".3f")] if on_gpu else []),
                number(row.parameters, ","),
                format_params(study.active({name: row.get(RENAMED.get(name, name)) for name in study.search})),
            ]
        )
    return lines


def _value(row: "pd.Series[Any]", part: str, metric: Metric) -> str:
    """Return a trial's value by a metric, with its deviation where it is several models."""
    mean, sd = row[f"{part}_{metric.name}"], row.get(f"{part}_{metric.name}_sd")
    return metric.text(metric.scale * mean, None if sd is None else metric.scale * sd)


def _show_seeds(study: Study, complete: pd.DataFrame, is_baseline: bool, console: Console) -> None:
    """Print every seed of one configuration, their mean, and where the published numbers lie."""
    metric = study.objective
    lines = [["trial", f"test{metric.called}", "epochs", "minutes", "parameters"]]
    for _, row in complete.sort_values("trial").iterrows():
        facts = number(row.epochs), number(row.seconds / 60, ".1f"), number(row.parameters, ",")
        lines.append([str(row.trial), _value(row, "test", metric), *facts])
    console.print(terminal(lines))

    def over_seeds(of: Metric) -> Summary:
        return summary([of.scale * value for value in complete[f"test_{of.name}"]])

    measured = over_seeds(metric)
    reached = f"test {metric.label} {metric.text(measured.mean, measured.sd)}"
    if measured.sd is None or measured.interval is None:
        console.print(f"one seed: {reached}; protocol {study.protocol}")
    else:
        low, high = (f"{end:{metric.form}}" for end in (measured.interval.low, measured.interval.high))
        console.print(
            f"{measured.n} seeds of one configuration: {reached}, 95 % interval of the mean {low} to {high}; protocol "
            f"{study.protocol}",
            soft_wrap=True,
        )
    if not study.dataset.comparable:
        _say_not_comparable(study, console)
        return
    by_name = {metric.name: metric for metric in study.measured}
    for target in study.targets:
        of = by_name[short(target.of)]
        published = Published(target.published, target.kind, of.direction, target.decimals)
        seeds = over_seeds(of)
        mean = seeds.interval if seeds.n >= FEWEST_SEEDS else None
        word = reproduction(seeds, published) if is_baseline else published.verdict(mean)
        value = format_published(target.published, target.kind, of, target.decimals)
        console.print(f"  {value}{of.called}  {target.name}: {word}")


def _say_not_comparable(study: Study, console: Console) -> None:
    own = study.dataset.test_examples
    console.print(f"published accuracies: not comparable, {study.dataset.name} has {own} test images of its own")


def _models(study: Study) -> str:
    return f"{study.folds} folds" if study.folds else f"{study.repeats} seeds"


def _show_targets(study: Study, chosen: "pd.Series[Any]", looked_at: int, console: Console) -> None:
    if not study.dataset.comparable:
        _say_not_comparable(study, console)
        return
    seeds, metric = f"mean of {_models(study)}", study.objective
    reached = metric.text(metric.scale * chosen[f"test_{metric.name}"])
    console.print(
        f"trial {chosen.trial}, chosen by validation among {looked_at}: test {metric.label} {reached}, "
        f"unconfirmed ({'one seed' if study.trainings == 1 else seeds})",
    )
    for gap in gaps(study, chosen):
        images = f" ({gap.images} images)" if gap.images else ""
        console.print(f"  {gap.published}  {gap.target}: {gap.gap}{images}, unconfirmed")
    if study.dataset.name == "mnist" and metric is ACCURACY:
        references = ", ".join(f"{name} {accuracy:.2f} %" for name, accuracy in models.REFERENCES.items())
        console.print(f"  reference lines: {references}")
