"""The figures that a run is owed: it has ended, and left among its files what they are drawn from. Whoever has time draws them.

A run says with its tag `figures` that it is owed them; then they are drawn, in whatever process, from the run's files alone.
"""

import tempfile
from collections.abc import Collection
from pathlib import Path

import numpy as np

from pipelines import predictions
from pipelines.errors import ArtifactError, UserError, first_line, of_the_machine, traceback_of
from pipelines.figures import of_run
from pipelines.figures.of_run import ToDraw
from pipelines.images import Floats
from pipelines.tracking import store
from pipelines.tracking.run import PROBABILITIES, TrackedRun

TAG, OWED = "figures", "owed"  # of a run until its figures are there
FAILED = "figures_failed"  # tag: which could not be drawn, and why
IS_OWED = f"tags.{TAG} = '{OWED}'"  # filter of runs
SECONDS = "figure_seconds"  # metric: what all of them took


def owe(run: TrackedRun) -> None:
    """Note that a run, among whose files is what a `Gathering` wrote, is owed its figures."""
    run.set_tags({TAG: OWED})


def draw_if_owed(run_id: str) -> None:
    """Draw a run's figures where it is owed them, and is not in MLflow's trash; what fails is noted, and printed."""
    if store.lifecycle(run_id) == "active" and store.get_run(run_id).tags.get(TAG) == OWED:
        for line in draw(run_id):
            print(f"not drawn: {line}")


def draw_again(run_id: str) -> None:
    """Draw a run's figures once more; raises UserError where some fail again."""
    if failed := draw(run_id):
        raise UserError("; ".join(failed))


def draw(run_id: str) -> list[str]:
    """Draw a run's figures, and log them with what they took; return which could not be drawn, and why.

    What they are drawn from is kept as long as some fail. Raises what the store raises, and ArtifactError.
    """
    run, tags, there = TrackedRun(run_id), store.get_run(run_id).tags, store.artifacts(run_id)
    if f"{of_run.FOLDER}/{of_run.FACTS}" in there:
        failed = _draw(run, there)
    elif of_run.CURVES in there and FAILED not in tags:  # whoever drew them was ended just before the last step
        failed = []
    else:
        failed = [tags.get(FAILED, "all: what they are drawn from is not among the files of the run")]
    if failed:
        run.set_tags({FAILED: "; ".join(failed)})
    else:
        if FAILED in tags:
            store.delete_tag(run_id, FAILED)
        store.delete_artifacts(run_id, of_run.FOLDER)
    if TAG in tags:
        store.delete_tag(run_id, TAG)
    return failed


def _draw(run: TrackedRun, there: Collection[str]) -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        given, folder = Path(name) / "given", Path(name) / "drawn"
        folder.mkdir()
        try:
            to_draw = ToDraw.read(_fetch(run.run_id, of_run.FOLDER, given))
            predicted = {place: _probabilities(run.run_id, place, there, given) for place in to_draw.places}
            drawn = to_draw.draw(folder, predicted)
        except Exception as error:
            if isinstance(error, ArtifactError) or of_the_machine(error):
                raise
            print(f"the figures of run {run.run_id} cannot be drawn:\n{traceback_of(error)}")
            return [f"all: {type(error).__name__}: {first_line(error)}"]
        run.log_artifacts(folder)
    run.log_summary({SECONDS: drawn.seconds})
    return drawn.failed


def _probabilities(run_id: str, place: str, there: Collection[str], into: Path) -> Floats:
    """Return the probabilities (n, classes) of the test examples by the model whose files are in `place`."""
    path = (Path(place) / PROBABILITIES).as_posix()
    if path not in there:
        raise UserError(f"{path} is not among the files of the run")
    with np.load(_fetch(run_id, path, into)) as saved:
        return predictions.unpacked("test", saved)


def _fetch(run_id: str, path: str, into: Path) -> Path:
    try:
        return store.artifact_folder(run_id, path, into)
    except Exception as error:  # every kind of artifact store raises its own
        raise ArtifactError(f"the files of run {run_id} cannot be read ({first_line(error)})") from error
