"""Tables: rows of text, rendered for the terminal, as Markdown, and a page of it as HTML; and how numbers are written."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from pipelines.metrics import ACCURACY, NOTHING, Metric

STYLE = """
body {font-family: sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; line-height: 1.4}
table {border-collapse: collapse; margin: 1em 0; font-size: 0.9em}
th, td {border: 1px solid #ccc; padding: 0.25em 0.6em; text-align: left; vertical-align: top}
th {background: #f2f2f2}
img {max-width: 100%}
code {font-size: 0.95em}
"""


def number(value: Any, form: str = "") -> str:
    """Return a number as `form` says; one that is not known as NOTHING."""
    return NOTHING if unknown(value) else format(value, form)


def unknown(value: Any) -> bool:
    """Whether a value is missing: None, no number, or missing as pandas has it, which is not loaded for this."""
    return str(value) in ("None", "nan", "<NA>")


def percent(mean: Any, deviation: Any = None) -> str:
    """Return a number that is in percent; of several models with its standard deviation."""
    return ACCURACY.text(mean, deviation)


def percentage(share: float) -> str:
    """Return a probability or a share, 0 to 1, in whole percent; one that is not all or nothing never as 0 or 100 %."""
    if 0 < share < 0.005:
        return "less than 1 %"
    return "more than 99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def interval(low: float, high: float, metric: Metric = ACCURACY) -> str:
    """Return an interval in the unit in which its metric is shown, percent for accuracy; of one that there is not, why."""
    if unknown(low):
        return "too few seeds"
    worst, best = (end * metric.scale for end in metric.range)
    return f"{max(low, worst):{metric.form}} to {min(high, best):{metric.form}}"


def terminal(lines: Sequence[Sequence[str]]) -> Table:
    """Return a table for the terminal; the first line is its head."""
    table = Table(*lines[0], box=None, pad_edge=False)
    for line in lines[1:]:
        table.add_row(*line)
    return table


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown; the first line is its head."""
    head, *body = lines
    rows = [[cell.replace("|", "\\|") for cell in line] for line in body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def html(text: str, title: str, further: str = "", last: str = "") -> str:
    """Return Markdown as one HTML page; HTML within it is shown, not obeyed, for a study's file may name anything.

    `further`: HTML that follows as it is; `last`: Markdown that follows that.
    """
    from markdown_it import MarkdownIt
    from markdown_it.common.utils import escapeHtml

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    reader.validateLink = lambda url: url.startswith(("data:image/png;base64,", "#"))  # type: ignore[method-assign]
    reader.normalizeLink = lambda url: url  # type: ignore[method-assign]  # these need none, and a figure takes it seconds
    heading = (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escapeHtml(title)}</title><style>{STYLE}</style>"
    )
    return f"{heading}\n{reader.render(text)}{further}{reader.render(last)}</html>\n"
