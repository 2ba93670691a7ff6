"""What a study's parent run says of it in MLflow's UI: the best trial's values as metrics, the leaderboard as its description."""

import math
import threading
import time
import uuid
from collections.abc import Sequence

from pipelines.errors import UserError, first_line
from pipelines.metrics import short
from pipelines.tracking import store as tracking
from pipelines.tracking.names import gap_name
from pipelines.tracking.run import TrackedRun
from sweeps.results import rows, systems, verdict_lines
from sweeps.results.leaderboard import counts, gaps, ranking
from sweeps.results.rows import Row
from sweeps.results.systems import System
from sweeps.results.tables import markdown
from sweeps.stores import names
from sweeps.stores.seen import SeenStudy
from sweeps.stores.storage import kind_of
from sweeps.stores.store import Store
from sweeps.study.study import Study

LONGEST = 8_000  # characters that a tag of MLflow's holds
EVERY = 15.0  # seconds between two writes,
REST = 20  # and at least so many times what one takes
STALE = 60.0  # seconds after which a parent that has not written is taken to be gone


def metrics(trials: Sequence[Row], study: Study) -> dict[str, float]:
    """Return what is known of a study as a whole: ended trials, their epochs, and the values of the best trial, if there is one.

    `trials` are ranked, as `rows.of_study` returns them.
    """
    ended = [row for row in trials if row["state"] not in ("running", "waiting")]
    found = {"trials": float(len(ended)), "epochs_trained": float(sum(row["epochs"] or 0 for row in trials))}
    best = next((row for row in trials if row["state"] == "complete"), None)
    if best is None or not study.search:
        return found
    by_name = {metric.name: metric for metric in study.measured}
    for part in rows.PARTS:
        value = best[f"{part}_{study.objective.name}"]
        if value is not None and not math.isnan(value):
            found[f"best_{part}_{study.objective.name}"] = value
    for target in study.targets if study.dataset.comparable else ():
        metric = by_name[short(target.of)]
        value = best[f"test_{metric.name}"]
        if value is not None:
            found[gap_name(metric.name, target.published)] = metric.scale * value - target.published
    return found


def description(trials: Sequence[Row], study: Study, judged: Sequence[System] | None) -> str:
    """Return the leaderboard, with the verdicts or the unconfirmed gaps, as Markdown that a tag holds; rows are left out last.

    `study`'s own description, by its author, comes first.
    """
    complete = [row for row in trials if row["state"] == "complete"]
    said = [study.description] if study.description else []
    said.append(f"{len(trials)} trials: {counts(trials)}.")
    if complete and judged:
        by_name = {metric.name: metric for metric in study.measured}
        called = study.objective.called
        of_systems = [[f"{each.name}{' (chosen)' if each.chosen else ''}", *systems.cells(each)] for each in judged]
        said.append(markdown([["confirmed", "models", f"validation{called}", f"test{called}"], *of_systems]))
        lines = verdict_lines.in_brief(verdict_lines.judged(systems.verdict_rows(study, study.name, judged), by_name))
        said.append("\n".join(f"{'  ' * line.startswith('  ')}- {line.strip()}" for line in lines))
    elif complete and study.search and study.dataset.comparable and study.targets:
        first = f"Trial {complete[0]['trial']}, chosen by validation, one training, unconfirmed:"
        said.append(
            "\n".join([first, "", *(f"- {gap.published}, {gap.target}: {gap.gap}" for gap in gaps(study, complete[0]))])
        )
    if complete:
        table = ranking(complete, study)
        while len("\n\n".join([*said, markdown(table)])) > LONGEST and len(table) > 1:
            table = table[:-1]
        said.append(markdown(table))
    return "\n\n".join(filter(None, said))[:LONGEST]


def write(name: str) -> None:
    """Write both to the parent run of a study, so far as they have changed. Raises what MLflow's store raises."""
    stored = SeenStudy(name)
    study = stored.read()
    experiment = tracking.find_experiment(stored.name, stored.uid)
    parents = tracking.parent_runs(experiment.experiment_id, stored.uid) if experiment else []
    trials = rows.of_study(stored.name)
    if not parents or not trials:
        return
    (parent, *_), found = parents, metrics(trials, study)
    changed = {key: value for key, value in found.items() if parent.metrics.get(key) != value}
    if changed:
        TrackedRun(parent.run_id).log_metrics(changed, step=int(found["trials"]))
    said = description(trials, study, systems.known(stored.name))
    if parent.tags.get(tracking.DESCRIPTION) != said:
        tracking.set_tags(parent.run_id, {tracking.DESCRIPTION: said})


class Writer:
    """Writes the summary of a running study every so often: in a thread, for nothing waits for MLflow; one parent of many."""

    def __init__(self, name: str):
        self._name, self._id = name, uuid.uuid4().hex
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failed: str | None = None  # what went wrong, if it was not a store that was away

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._over.set()

    def _run(self) -> None:
        rest = EVERY
        while not self._over.wait(rest):
            began = time.monotonic()
            try:
                if self._is_mine():
                    write(self._name)
            except Exception as error:
                if not (kind_of(error).passes or isinstance(error, UserError)):  # such as: it has not begun yet
                    self.failed = first_line(error)
                    return
            rest = max(EVERY, REST * (time.monotonic() - began))

    def _is_mine(self) -> bool:
        """Whether it is for this parent to write, as it is until it has not done so for a while."""
        return Store(self._name).requests.hold(names.WRITER, self._id, STALE + EVERY)
