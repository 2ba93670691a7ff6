"""Markdown: tables, and a page of it as HTML."""

from collections.abc import Sequence

NOTHING = "–"  # a cell without a value
STYLE = """
body {font-family: sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; line-height: 1.4}
table {border-collapse: collapse; margin: 1em 0; font-size: 0.9em}
th, td {border: 1px solid #ccc; padding: 0.25em 0.6em; text-align: left; vertical-align: top}
th {background: #f2f2f2}
img {max-width: 100%}
code {font-size: 0.95em}
"""


def table(lines: Sequence[Sequence[str]]) -> str:
    """Return a table; the first line is its head."""
    head, *body = lines
    rows = [[cell.replace("|", "\\|") for cell in line] for line in body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def html(text: str, title: str, further: str = "") -> str:
    """Return Markdown as one HTML page; HTML within it is shown, not obeyed, for a study's file may name anything.

    `further`: HTML that follows as it is.
    """
    from markdown_it import MarkdownIt
    from markdown_it.common.utils import escapeHtml

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    reader.validateLink = lambda url: url.startswith(("data:image/png;base64,", "#"))  # type: ignore[method-assign]
    reader.normalizeLink = lambda url: url  # type: ignore[method-assign]  # these need none, and a figure takes it seconds
    heading = (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escapeHtml(title)}</title><style>{STYLE}</style>"
    )
    return f"{heading}\n{reader.render(text)}{further}</html>\n"
