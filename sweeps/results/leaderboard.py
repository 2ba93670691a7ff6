"""The leaderboard: complete trials by the objective on validation images, and how far the chosen one is from published values."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console

import models
from pipelines import paths
from pipelines.errors import UserError
from pipelines.metrics import ACCURACY, Metric, short
from sweeps.results import rows, systems
from sweeps.results.rows import Row
from sweeps.results.statistics import Summary, format_published, summary
from sweeps.results.tables import number, terminal, unknown
from sweeps.results.verdict import FEWEST_SEEDS, Published, reproduction
from sweeps.stores import names
from sweeps.stores.seen import SeenStudy, study_names
from sweeps.stores.trials import fingerprint
from sweeps.study.study import Study, format_params

if TYPE_CHECKING:
    import pandas as pd

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


def gaps(study: Study, chosen: "Mapping[str, Any] | pd.Series[Any]") -> list[Gap]:
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


def failures(trials: Sequence[Row]) -> list[str]:
    """Return a line for each reason for which trials failed, the most frequent first."""
    by_reason: dict[str, list[int]] = {}
    for row in trials:
        if row["state"] == "failed" and any("failure" in each for each in trials):
            by_reason.setdefault(row.get("failure") or "unknown", []).append(row["trial"])
    ordered = sorted(by_reason.items(), key=lambda pair: -len(pair[1]))
    return [f"trial {', '.join(map(str, numbers))} failed: {reason}" for reason, numbers in ordered]


def counts(trials: Sequence[Row]) -> str:
    """Return how many trials are in which state, in words, the most frequent first."""
    return ", ".join(f"{count} {state}" for state, count in Counter(row["state"] for row in trials).most_common())


def show(name: str | None, console: Console) -> None:
    """Print a study's leaderboard (the latest study's if not named). Raises UserError when there is none."""
    owner = SeenStudy(name).owner if name in study_names() else None
    if owner:
        raise UserError(f"study {name!r} trains again what {owner!r} found: sweep best {owner} shows it")
    trials = rows.of_study(name)
    if not trials:
        console.print(
            f"no trial has begun yet: resume the study with {paths.command(f'run {name} --stored' if name else 'run')}"
        )
        return
    stored = SeenStudy(trials[0]["study"])
    study, study_name = stored.read(), trials[0]["study"]
    complete = [row for row in trials if row["state"] == "complete"]
    ended = [row for row in trials if row["epochs"] is not None]
    saved = sum(rows.typed(row["max_epochs"]) * study.trainings - row["epochs"] for row in ended)
    spent = (
        f"{sum(row['epochs'] for row in ended)} epochs trained in ended trials, {saved} saved by ending trials early"
    )
    if any("gpu_hours" in row for row in trials):
        spent += f"; {sum(row.get('gpu_hours', 0.0) for row in trials):.2f} GPU hours"
    console.print(f"{study_name}: {counts(trials)}; {spent}", soft_wrap=True)
    for line in failures(trials):
        console.print(line, soft_wrap=True)
    if not complete:
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
    if "on_front" in complete[0]:
        others = ", ".join(objective.column for objective in study.objectives)
        console.print(
            f"*: on the front of {others}: no other trial is better in one of them and as good in the rest",
            soft_wrap=True,
        )
    seeds = systems.seeds(stored)
    if any(seed["state"] == "complete" for seed in seeds):
        if luck := winners_luck(complete, seeds, study, len(trials)):
            console.print(luck, soft_wrap=True)
        try:
            systems.show(study_name, console)
        except UserError as error:
            console.print(f"no verdict: {error}", soft_wrap=True)
    else:
        _show_targets(study, complete[0], len(trials), console)
    weights = importances(stored) if len(complete) >= IMPORTANCE_TRIALS else {}
    if weights:
        text = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
        what = f"validation {study.objective.label}"
        console.print(f"importance for {what} (fANOVA over {len(complete)} complete trials): {text}")


def winners_luck(complete: Sequence[Row], seeds: Sequence[Row], study: Study, looked_at: int) -> str | None:
    """Return how far the best of the leaderboard stands above its own fresh seeds on validation; None where it has none.

    `complete`: the trials, the best first; `seeds`: as `systems.seeds` has them.
    """
    metric, best = study.objective, complete[0]
    column = f"val_{metric.name}"
    of = best["trial"], "confirm", "complete"
    again = [seed[column] for seed in seeds if (seed["trial"], seed["phase"], seed["state"]) == of]
    known = [metric.scale * value for value in again if not unknown(value)]
    if not known:
        return None
    searched, mean = metric.scale * best[column], sum(known) / len(known)
    gap = metric.cost(mean) - metric.cost(searched)
    by = f"{abs(gap):.2f} points" if metric.scale == 100 else f"{abs(gap):.2g}"
    found = f"{metric.text(searched)} on validation, and {metric.text(mean)} from {len(known)} fresh seeds"
    return (
        f"trial {best['trial']}, the best of {looked_at}, has {found}: the search's number was {by} too "
        f"{'good' if gap >= 0 else 'bad'}"
    )


def importances(stored: SeenStudy) -> dict[str, float]:
    """Return what `Store.importances` says; as it was computed, where there are no other trials since."""
    kept = stored.attributes.get(names.IMPORTANCES)
    if kept and kept["of"] == fingerprint(stored.trials()):
        return dict(kept["weights"])
    from sweeps.stores.store import Store

    return Store(stored.study_name).importances()


def ranking(complete: Sequence[Row], study: Study, most: int = SHOWN) -> list[list[str]]:
    """Return the best of the complete trials, which are ranked, as the rows of a table, its head first; no more than `most`."""
    objective, *others = [each.metric for each in study.objectives if each.metric]
    several = any(f"val_{objective.name}_sd" in row for row in complete)
    on_gpu = any("gpu_hours" in row for row in complete)
    ranked = [f"validation{objective.called}", f"test{objective.called}"]
    further = [f"validation {metric.label}" for metric in others]
    head = ["trial", *ranked, *further, "epochs", *([] if several else ["kept"]), "minutes"]
    lines = [[*head, *(["GPU hours"] if on_gpu else []), "parameters", "searched"]]
    for row in complete[:most]:
        lines.append(
            [
                f"{row['trial']}{' *' if row.get('on_front') else ''}",
                *(_value(row, part, objective) for part in rows.PARTS),
                *(_value(row, "val", metric) for metric in others),
                number(row["epochs"]),
                *([] if several else [number(row["kept_epoch"])]),
                _minutes(row),
                *([number(row.get("gpu_hours"), ".3f")] if on_gpu else []),
                number(row["parameters"], ","),
                format_params(study.active(rows.settings(row, [*study.search]))),
            ]
        )
    return lines


def _minutes(row: Row) -> str:
    return number(None if row["seconds"] is None else row["seconds"] / 60, ".1f")


def _value(row: Row, part: str, metric: Metric) -> str:
    """Return a trial's value by a metric, with its deviation where it is several models."""
    mean, sd = row[f"{part}_{metric.name}"], row.get(f"{part}_{metric.name}_sd")
    return metric.text(None if mean is None else metric.scale * mean, None if sd is None else metric.scale * sd)


def _show_seeds(study: Study, complete: Sequence[Row], is_baseline: bool, console: Console) -> None:
    """Print every seed of one configuration, their mean, and where the published numbers lie."""
    metric = study.objective
    lines = [["trial", f"test{metric.called}", "epochs", "minutes", "parameters"]]
    for row in sorted(complete, key=lambda row: row["trial"]):
        facts = number(row["epochs"]), _minutes(row), number(row["parameters"], ",")
        lines.append([str(row["trial"]), _value(row, "test", metric), *facts])
    console.print(terminal(lines))

    def over_seeds(of: Metric) -> Summary:
        return summary([of.scale * row[f"test_{of.name}"] for row in complete])

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


def _show_targets(study: Study, chosen: Row, looked_at: int, console: Console) -> None:
    if not study.dataset.comparable:
        _say_not_comparable(study, console)
        return
    seeds, metric = f"mean of {_models(study)}", study.objective
    reached = metric.text(metric.scale * chosen[f"test_{metric.name}"])
    console.print(
        f"trial {chosen['trial']}, chosen by validation among {looked_at}: test {metric.label} {reached}, "
        f"unconfirmed ({'one seed' if study.trainings == 1 else seeds})",
    )
    for gap in gaps(study, chosen):
        images = f" ({gap.images} images)" if gap.images else ""
        console.print(f"  {gap.published}  {gap.target}: {gap.gap}{images}, unconfirmed")
    if study.dataset.name == "mnist" and metric is ACCURACY:
        references = ", ".join(f"{name} {accuracy:.2f} %" for name, accuracy in models.REFERENCES.items())
        console.print(f"  reference lines: {references}")
