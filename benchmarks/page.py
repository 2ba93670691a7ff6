"""Puts the recorded results into docs/benchmarks.md, between its markers; the words around them are written by hand.

python -m benchmarks.page
"""

import contextlib
import io
import re
from collections.abc import Callable
from pathlib import Path

from benchmarks import history, recording, strategies, throughput
from benchmarks.peers import __main__ as peers

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
SHOWN: dict[str, tuple[Path, Callable[[list[dict[str, str]]], None]]] = {
    "peers-short": (peers.RESULTS, lambda lines: peers.show(lines, "short")),
    "peers-lean": (peers.RESULTS, lambda lines: peers.show(lines, "lean")),
    "history": (history.RESULTS, history.show),
    "strategies": (strategies.RESULTS, strategies.show),
    "throughput": (throughput.RESULTS, throughput.show),
}


def main() -> None:
    """Write the page anew."""
    text = PAGE.read_text()
    for name, (path, show) in SHOWN.items():
        text = re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)", rf"\1{_block(path, show)}\2", text, flags=re.DOTALL)
    PAGE.write_text(text)


def _block(path: Path, show: Callable[[list[dict[str, str]]], None]) -> str:
    lines = recording.read(path)
    if not lines:
        return "Not measured yet.\n"
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        show(lines)
    where = " and ".join(sorted({f"{line['machine']}, commit {line['commit']}" for line in lines}))
    return f"```\n{shown.getvalue()}```\n\n{where}.\n"


if __name__ == "__main__":
    main()
