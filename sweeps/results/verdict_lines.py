"""How a verdict is written: four short lines for each published value, the same in the terminal, as Markdown and so as HTML."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.metrics import Metric
from sweeps.results.comparison import Comparison
from sweeps.results.rows import Row
from sweeps.results.statistics import Interval, format_published
from sweeps.results.tables import interval, markdown, percentage, unknown
from sweeps.results.verdict import Published, Side

ALL_IMAGES = 10_000  # of MNIST and its like: a published number of fewer says so
WIDTH = 19  # of the labels
RUNS = ("printed", "about")  # published values that one run had; a goal or a bound is none
HOW_TO_READ = (
    "The first line holds whenever you look and stop; the others hold for a number of seeds fixed beforehand. Intervals are at "
    "95 %; a word may need a wider one, for several systems share the error (docs/verdicts.md)."
)


@dataclass(frozen=True)
class Judged:
    """What is said of one system and one published value: `head` names that, each line has a label and what it says."""

    system: str
    chosen: bool
    head: str
    lines: Sequence[tuple[str, str]]


def judged(verdicts: Sequence[Row], metrics: Mapping[str, Metric]) -> list[Judged]:
    """Return what the rows of `systems.verdict_rows` say. `metrics`: by name."""
    found = []
    for row in verdicts:
        metric, of = metrics[row["metric"]], (row["published"], row["kind"])
        images = "" if row["images"] == ALL_IMAGES else f" of {row['images']:,} images"
        published = Published(*of, metric.direction, row["decimals"])
        value = format_published(*of, metric, row["decimals"])
        lines = [*_lines(row, metric, published)]
        found.append(Judged(row["system"], row["chosen"], f"{value}{metric.called}{images}  {row['target']}", lines))
    return found


def as_text(found: Sequence[Judged]) -> Iterator[str]:
    """Yield lines for the terminal: four for each value of the chosen configuration, one for those of the other systems."""
    for each in found:
        if each.chosen:
            yield each.head
            for label, said in each.lines:
                yield f"  {label:<{WIDTH}} {said}"
    yield from in_brief([each for each in found if not each.chosen])
    if found:
        yield HOW_TO_READ


def in_brief(found: Sequence[Judged]) -> Iterator[str]:
    """Yield the name of each system, and the first line on each of its values."""
    before = ""
    for each in found:
        if each.system != before:
            yield f"{each.system}:"
        before = each.system
        label, said = each.lines[0]
        yield f"  {each.head}: {label}, {said}"


def as_markdown(found: Sequence[Judged]) -> str:
    """Return the same as tables; all four lines of every system."""
    parts = []
    for system in dict.fromkeys(each.system for each in found):
        own = [each for each in found if each.system == system]
        rows = [["published", "verdict", "next training", "as a system", "on other images"]]
        for each in own:
            (word, first), *others = each.lines
            said = dict(others)
            rows.append(
                [each.head.replace("  ", ", "), f"**{word}**: {first}", *(said.get(label, "") for label in rows[0][2:])]
            )
        parts.append(f"**{system}**{', chosen by validation' if own[0].chosen else ''}\n\n{markdown(rows)}")
    return "\n\n".join([*parts, HOW_TO_READ])


def of_a_comparison(first: str, second: str, comparison: Comparison, metric: Metric) -> str:
    """Return what the difference of two configurations is, in one line."""
    unit = " points" if metric.scale == 100 else ""

    def ends(found: Interval) -> str:
        return f"{found.low:+{_form(metric)}} to {found.high:+{_form(metric)}}"

    beyond = f", {ends(comparison.beyond)} on other images" if comparison.beyond else ""
    chance = comparison.chance_interval
    return (
        f"{first} against {second}: {comparison.difference:+{_form(metric)}}{unit} on these images (95 % interval "
        f"{ends(comparison.here)}){beyond}; one training of the first is better than one of the second with probability "
        f"{percentage(comparison.chance)} ({100 * chance.low:.0f} to {100 * chance.high:.0f} %)"
    )


def of_seeds(row: Mapping[str, Any], metric: Metric) -> str:
    """Return the mean of seeds with its interval, and how many were planned and trained."""
    lost = f", {row['lost']} of them lost" if row["lost"] else ""
    trained = f", {row['trained']} trained" if row["trained"] != row["planned"] or lost else ""
    planned = f"({row['planned']} planned{trained}{lost})"
    if unknown(row["low"]):
        return f"mean of {row['models']} seeds {metric.text(row['mean'])}: too few for an interval {planned}"
    kind = "anytime interval" if row["anytime"] else "95 % interval"
    of = f"the first {row['decided_at']} seeds" if row["decided_at"] < row["trained"] else f"{row['models']} seeds"
    return f"mean of {of} {metric.text(row['mean'])}, {kind} {interval(row['low'], row['high'], metric)} {planned}"


def _lines(row: Row, metric: Metric, published: Published) -> Iterator[tuple[str, str]]:
    level = f"; the {100 * (1 - row['error']):g} % interval counts"

    def unless(word: Side | str, low: float, high: float) -> str:
        """Return which interval the word is of, where the one that is shown would say another."""
        side = published.side(Interval(low, high))
        return level if word == "undecided" and side != "undecided" else ""

    yield row["verdict"], of_seeds(row, metric) + unless(row["verdict"], row["low"], row["high"])
    if not unknown(row["chance"]):
        where = "above" if metric.direction == "maximize" else "below"
        yield (
            "next training",
            f"{where} it with probability {percentage(row['chance'])}; {row['better']} of {row['trained']} seeds are "
            f"({100 * row['share_low']:.0f} to {100 * row['share_high']:.0f} % of all trainings)",
        )
    if row["kind"] in RUNS and not unknown(row["one_low"]):
        ends = interval(row["one_low"], row["one_high"], metric).replace(" to ", " and ")
        said = f"{row['as_system']}: its one run could lie between {ends} if it were this system"
        yield "as a system", said + unless(row["as_system"], row["one_low"], row["one_high"])
    if not unknown(row["beyond_low"]):
        said = f"{row['beyond']}: {interval(row['beyond_low'], row['beyond_high'], metric)}"
        yield "on other images", said + unless(row["beyond"], row["beyond_low"], row["beyond_high"])


def _form(metric: Metric) -> str:
    return metric.form if metric.form.endswith("f") else ".3g"
