"""What the baselines came to: rows, a table in the terminal, and the tables of docs/baselines.md."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

import models
from models import Protocol, Recipe, Target
from pipelines.errors import UserError
from pipelines.metrics import NOTHING
from pipelines.tracking import store as tracking
from sweeps.results.statistics import Interval, Summary, format_published, summary
from sweeps.results.tables import interval, markdown, percent, terminal
from sweeps.results.verdict import Published, reproduction
from sweeps.stores.store import Store
from sweeps.tasks import baselines
from sweeps.tasks.baselines import Plan

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"  # of the page, what is between them is written anew
PLACES = ("cpu", "gpu")


@dataclass(frozen=True)
class Row:
    """What the seeds of one recipe came to on one kind of device; accuracies in percent, times in seconds."""

    name: str
    protocol: Protocol
    place: str
    devices: tuple[str, ...]
    accuracies: tuple[float, ...]
    lost: int  # seeds that diverged or failed
    stored: int  # seeds that were queued, for this row or for one of more seeds
    parameters: int
    epochs: int
    epoch_seconds: tuple[float, float, float]  # lowest, median, highest
    commits: tuple[str, ...]

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return models.recipe(self.name)

    @property
    def summary(self) -> Summary:
        """Mean, deviation and intervals of the accuracies."""
        return summary(self.accuracies)

    def word(self, target: Target) -> str:
        """Return how its seeds stand to a published accuracy."""
        return reproduction(self.summary, Published(target.accuracy, target.kind, decimals=target.decimals))


def _row(plan: Plan, name: str, place: str) -> Row | None:
    """Return what is stored of a recipe on "cpu" or "gpu"; None where no seed has an accuracy."""
    study = baselines.study(plan, name, place)
    runs = baselines.finished_runs(study, place)
    if not runs:
        return None
    tags = [run.tags for run in runs]
    seconds = [value for run in runs for value in tracking.history(run.run_id, "epoch_seconds").values()]
    changed = {"true": " with changes"}
    return Row(
        name,
        study.protocol,
        place,
        tuple(sorted({f"{t.get('device_name', place)}, {t['backend']} {t['backend_version']}" for t in tags})),
        tuple(100 * run.metrics["test_accuracy"] for run in runs),
        baselines.ended(study) - len(runs),
        len(Store(study.name).trials()),
        int(runs[0].metrics["parameters"]),
        study.settings.epochs,
        (min(seconds), float(np.median(seconds)), max(seconds)),
        tuple(sorted({tag["git_commit"][:7] + changed.get(tag["git_dirty"], "") for tag in tags})),
    )


def published(target: Target) -> str:
    """Return a published accuracy as its author gives it, and of how many images if not of all."""
    images = "" if target.test_images == 10_000 else f" (of {target.test_images:,} images)"
    return format_published(target.accuracy, target.kind, decimals=target.decimals) + images


def check_page(page: Path) -> str:
    """Return the page's text; raises UserError for one that cannot be written to."""
    try:
        text = page.read_text(encoding="utf-8") if page.exists() else f"# Baselines\n\n{BEGIN}\n{END}\n"
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{page} cannot be read ({error}): name another page with --output") from error
    there = next(path for path in (page.resolve(), *page.resolve().parents) if path.exists())
    if not os.access(there, os.W_OK):
        raise UserError(f"{page} cannot be written: name another page with --output")
    if END not in text.partition(BEGIN)[2]:
        raise UserError(f"{page} has no lines {BEGIN} and {END}: add them, or name another page with --output")
    return text


def show(plan: Plan, console: Console, page: Path) -> None:
    """Print what was measured under `plan`, and write it to `page` when every published recipe has its seeds."""
    found = _rows(plan)
    console.print(terminal(_in_short(plan, found)))
    if any(row.stored > len(row.accuracies) + row.lost for row in found):
        console.print("more seeds are stored than shown: a larger --seeds shows them")
    if not all(map(plan.as_published, plan.recipes)):
        console.print("not the published data set, protocol or epochs: nothing to compare with", soft_wrap=True)
        return
    whole = Plan(tuple(models.MODELS), plan.seeds, device=plan.device)
    place = baselines.place_of(plan.device)
    missing = [n for n in whole.recipes if baselines.ended(baselines.study(whole, n, place)) < plan.seeds]
    if missing:
        console.print(
            f"{page} is written when every recipe has {plan.seeds} seeds; still to train: {', '.join(missing)}",
            soft_wrap=True,
        )
        return
    write(found if list(plan.recipes) == list(whole.recipes) else _rows(whole), page)
    console.print(f"written: {page}", soft_wrap=True)


def write(rows: Sequence[Row], page: Path) -> None:
    """Put the tables between the page's marks; raises UserError for a page without them."""
    head, _, rest = check_page(page).partition(BEGIN)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{head}{BEGIN}\n\n{sections(rows)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def sections(rows: Sequence[Row]) -> str:
    """Return the tables of the page: accuracies, those on other test images apart, then what they cost."""
    official = [row for row in rows if row.protocol != "reshuffled"]
    others = [row for row in rows if row.protocol == "reshuffled"]
    parts = ["### On the official 10,000 test images", _accuracies(official)]
    if others:
        parts += ["### On other test images: 70,000 reshuffled into 60,000 and 10,000", _accuracies(others)]
    lines = ", ".join(f"{name} {accuracy:g} %" for name, accuracy in models.REFERENCES.items())
    parts += [f"Reference lines, as the articles give them: {lines}.", "### What it cost", _costs(rows)]
    devices = sorted({f"{row.place}: {device}" for row in rows for device in row.devices})
    commits = sorted({commit for row in rows for commit in row.commits})
    parts += [f"Devices: {'; '.join(devices)}. Commit: {', '.join(commits)}."]
    parts += ["### What was published", _sources(rows)]
    return "\n\n".join(parts) + "\n"


def _rows(plan: Plan) -> list[Row]:
    found = [_row(plan, name, place) for name in plan.recipes for place in PLACES]
    return [row for row in found if row is not None]


def _accuracies(rows: Sequence[Row]) -> str:
    head = ["recipe", "published", "measured: mean ± sd (seeds)", "95 % interval of the mean", "one run more, 95 %"]
    lines = [[*head, "the published run", "every seed", "trained on"]]
    for row in rows:
        targets = row.recipe.targets
        images = {"held_out": "54,000", "official": "60,000, test watched", "reshuffled": "60,000, test watched"}
        lines.append(
            [
                f"`{row.name}`" + (" on a GPU" if row.place == "gpu" else ""),
                "<br>".join(map(published, targets)) or row.recipe.remark,
                _measured(row),
                _interval(row.summary.interval),
                _interval(row.summary.one_more),
                "<br>".join(row.word(target) for target in targets) or NOTHING,
                ", ".join(f"{accuracy:.2f}" for accuracy in row.accuracies),
                images[row.protocol],
            ]
        )
    return markdown(lines)


def _sources(rows: Sequence[Row]) -> str:
    lines = [["recipe", "published", "what", "conditions", "test images", "loss", "source", "remarks"]]
    for name in dict.fromkeys(row.name for row in rows):
        recipe = models.recipe(name)
        for index, target in enumerate(recipe.targets):
            facts = [
                format_published(target.accuracy, target.kind, decimals=target.decimals),
                target.name,
                target.conditions,
                f"{target.test_images:,}",
            ]
            loss = f"{target.loss:g}" if target.loss is not None else NOTHING
            lines.append([f"`{name}`", *facts, loss, target.source, "" if index else recipe.remark])
        if not recipe.targets:
            lines.append([f"`{name}`", *[NOTHING] * 6, recipe.remark])
    return markdown(lines)


def _costs(rows: Sequence[Row]) -> str:
    lines = [
        ["recipe", "parameters", "epochs", "published seconds in all", *(f"{p}: seconds an epoch" for p in PLACES)]
    ]
    for name in dict.fromkeys(row.name for row in rows):
        own = {row.place: row for row in rows if row.name == name}
        one = next(iter(own.values()))
        printed = [f"{target.seconds:g}" for target in one.recipe.targets if target.seconds]
        lines.append(
            [
                f"`{name}`",
                f"{one.parameters:,}",
                str(one.epochs),
                printed[0] if printed else NOTHING,
                *(_seconds(own[place]) if place in own else NOTHING for place in PLACES),
            ]
        )
    return markdown(lines)


def _in_short(plan: Plan, rows: Sequence[Row]) -> list[list[str]]:
    lines = [["recipe", "published", "measured", "one run more, 95 %", "the published run", "s an epoch"]]
    for row in rows:
        as_published = plan.as_published(row.name)
        targets = row.recipe.targets if as_published else []
        lines.append(
            [
                row.name + (" (gpu)" if row.place == "gpu" else ""),
                "\n".join(map(published, targets)) or (row.recipe.remark if as_published else NOTHING),
                _measured(row),
                _interval(row.summary.one_more),
                "\n".join(row.word(target) for target in targets) or NOTHING,
                f"{row.epoch_seconds[1]:.1f}",
            ]
        )
    return lines


def _measured(row: Row) -> str:
    of = row.summary
    return f"{percent(of.mean, of.sd)} ({of.n}{f'; {row.lost} diverged or failed' if row.lost else ''})"


def _interval(ends: Interval | None) -> str:
    return NOTHING if ends is None else interval(ends.low, ends.high)


def _seconds(row: Row) -> str:
    low, median, high = row.epoch_seconds
    return f"{median:.1f} ({low:.1f} to {high:.1f})"
