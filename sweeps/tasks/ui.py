"""MLflow's UI: the addresses that it opens on."""

import subprocess
import sys
from contextlib import suppress

from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from pipelines.tracking import views
from sweeps.results import rows
from sweeps.running.tags import view
from sweeps.stores.seen import SeenStudy

# Waits, in a process that nobody waits for, until the server answers.
_OPEN = """
import os, sys, time, urllib.request, webbrowser
if os.fork():
    sys.exit()
for _ in range(240):
    try:
        urllib.request.urlopen(sys.argv[1], timeout=5).close()
        break
    except OSError:
        time.sleep(0.5)
webbrowser.open(sys.argv[1])
"""


def latest(server: str) -> tuple[str, str, str] | None:
    """Return the study that was used last, and where the UI at `server` shows it, as table and as charts; None of none."""
    found = next(iter(rows.studies()), None)
    if found is None:
        return None
    experiment = next(each for each in tracking.all_experiments() if each.experiment_id == found.experiment_id)
    tags = dict(experiment.tags)
    with suppress(
        UserError
    ):  # it is of another program, or cannot be read any more: the UI shows its runs all the same
        stored = SeenStudy(found.study)
        shown = view(stored.read(), stored.uid)
        if tags.get(views.TAG) != shown.content():  # of a version before
            views.save(experiment.experiment_id, shown)
            tags[views.TAG] = shown.content()
    table, charts = (f"{server}/{views.path(found.experiment_id, tags, mode)}" for mode in (views.TABLE, views.CHARTS))
    return found.study, table, charts


def open_later(address: str) -> None:
    """Open an address in the user's browser as soon as it answers."""
    subprocess.run(
        [sys.executable, "-c", _OPEN, address], check=False, stdin=subprocess.DEVNULL, start_new_session=True
    )
