"""Puts the recorded results into docs/benchmarks.md, between its markers: tables, and a plot of every single measurement.

    python -m benchmarks.page

The words around them are written by hand.
"""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks import feeding, history, population, recording, throughput
from benchmarks.peers import __main__ as peers
from benchmarks.strategies import __main__ as strategies
from benchmarks.strategies import real
from pipelines.figures import style

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "benchmarks.md"
Line = dict[str, str]


@dataclass(frozen=True)
class Block:
    """What stands between two markers: a table, and for each `label` every `value` as a dot."""

    results: Path
    show: Callable[[list[Line]], None]
    label: Callable[[Line], str]
    value: Callable[[Line], float]
    axis: str
    log: bool = False
    wanted: Callable[[Line], bool] = lambda line: True


def _of_peers(workload: str) -> Block:
    return Block(
        peers.RESULTS,
        lambda lines: peers.show(lines, workload),
        label=lambda line: line["system"],
        value=lambda line: float(line["seconds"]),
        axis="seconds, imports included",
        wanted=lambda line: line["workload"] == workload,
    )


def _of_searches(results: Path, show: Callable[[list[Line]], None]) -> Block:
    return Block(
        results,
        show,
        label=lambda line: line["strategy"],
        value=lambda line: float(line["epochs"]) if int(line["reached"]) else nan,
        axis="epochs until the target, where it was reached",
    )


BLOCKS = {
    "peers-short": _of_peers("short"),
    "peers-lean": _of_peers("lean"),
    "history": Block(
        history.RESULTS,
        history.show,
        label=lambda line: f"{line['what']} · {int(line['runs']):,} runs",
        value=lambda line: float(line["seconds"]),
        axis="seconds",
        log=True,
    ),
    "strategies": _of_searches(strategies.RESULTS, strategies.show),
    "real-searches": _of_searches(real.RESULTS, real.show),
    "population": Block(
        population.RESULTS,
        population.show,
        label=lambda line: f"{line['how']}, {line['members']} at once",
        value=lambda line: float(line["step_ms"]) / int(line["members"]),
        axis="milliseconds a step and member (medians)",
    ),
    "feeding": Block(
        feeding.RESULTS,
        feeding.show,
        label=lambda line: f"{line['dataset']}, {line['way']}",
        value=lambda line: sum(float(line[part]) for part in feeding.PARTS),
        axis="seconds an epoch",
        log=True,
    ),
    "throughput": Block(
        throughput.RESULTS,
        throughput.show,
        label=lambda line: (
            f"batch {line['batch']}, {line['workers']} × {line['threads']} threads, {line['steps']} a call"
        ),
        value=lambda line: float(line["images_per_second"]),
        axis="images a second",
    ),
}


def main() -> None:
    """Write the page anew."""
    text = PAGE.read_text()
    for name, block in BLOCKS.items():
        before, marker, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        assert marker and end, f"{PAGE} has no place for {name}"
        text = before + marker + _written(name, block) + end + after
    PAGE.write_text(text)


def _written(name: str, block: Block) -> str:
    lines = [line for line in recording.read(block.results) if block.wanted(line)]
    if not lines:
        return "Not measured yet.\n"
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        block.show(lines)
    file = DOCS / "figures" / f"bench-{name}.png"
    with style.sheet():
        _plot(block, lines).savefig(file)
    where = " and ".join(sorted({f"{line['machine']}, commit {line['commit']}" for line in lines}))
    return f"```\n{shown.getvalue()}```\n\n![each measurement](figures/{file.name})\n\n{where}.\n"


def _plot(block: Block, lines: list[Line]) -> Figure:
    """Draw each measurement as a dot, a row a label, the first on top."""
    labels = list(dict.fromkeys(block.label(line) for line in lines))
    height = 0.9 + 0.24 * len(labels)
    figure = style.canvas(height, "Every measurement")
    axes = style.place(figure, 1, 1, left=2.6, right=0.2, bottom=0.5, top=0.3)[0, 0]
    for row, label in enumerate(labels):
        values = [block.value(line) for line in lines if block.label(line) == label]
        axes.plot(values, [row] * len(values), "o", color=style.BLUE, alpha=0.5, markersize=5, clip_on=False)
    axes.set(yticks=range(len(labels)), yticklabels=labels, xlabel=block.axis, ylim=(len(labels) - 0.5, -0.5))
    if block.log:
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)
    return figure


if __name__ == "__main__":
    main()
