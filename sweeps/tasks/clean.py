"""Room on the disk: the models of trials that are not among the best of their study, where nobody runs it any more."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.errors import UserError
from pipelines.tracking import deleting
from pipelines.tracking import store as tracking
from pipelines.tracking.run import model_size
from sweeps.running import repair
from sweeps.stores import names, sessions
from sweeps.stores.record import StoredStudy
from sweeps.stores.storage import study_names
from sweeps.stores.store import Store
from sweeps.stores.trials import StoredTrial

HOURS = {"h": 1, "d": 24, "w": 168}


@dataclass(frozen=True)
class Surplus:
    """Models of a study that may go: of `trials`, `size` bytes."""

    study: str
    store: Store
    trials: list[StoredTrial]
    size: int

    def remove(self) -> None:
        """Delete them. Raises ArtifactError."""
        for trial in self.trials:
            repair.remove_model(self.store, trial)


def surplus(keep: int, older: str | None = None) -> list[Surplus]:
    """Return the models that are not of the best `keep` trials of their study; those of registered models stay.

    `older`: only of studies that have not run for so long (12h, 30d, 2w). A study that runs, and one without a search, of which
    no trial is better than another, is left alone. Raises UserError.
    """
    if keep < 0:
        raise UserError(f"--keep-models {keep}: expected 0 or more")
    age = _seconds(older) if older is not None else 0.0
    kept = set(deleting.registered()) if tracking.exists() else set[str]()
    return [found for name in study_names() for found in _of_study(name, keep, age, kept)]


def _of_study(name: str, keep: int, age: float, kept: set[str]) -> Iterator[Surplus]:
    stored = StoredStudy(name)
    attributes = stored.attributes
    if names.UID not in attributes or sessions.last_alive(stored.store) < max(age, sessions.REST_AFTER_SESSION):
        return
    try:
        study, trials = stored.read(), stored.store.trials()
    except UserError:  # of another version: what it kept is not ours to judge
        return
    last = max((trial.datetime_complete.timestamp() for trial in trials if trial.datetime_complete), default=0.0)
    if not study.search or time.time() - last < age:
        return
    found = repair.surplus_models(stored.store, study, trials, keep)
    run_ids = {trial.number: str(trial.user_attrs.get(names.RUN_ID, "")) for trial in found}
    there = {number: run_id for number, run_id in run_ids.items() if run_id and tracking.lifecycle(run_id)}
    sizes = {number: model_size(run_id) for number, run_id in there.items() if run_id not in kept}
    if any(sizes.values()):
        yield Surplus(name, stored.store, [trial for trial in found if sizes.get(trial.number)], sum(sizes.values()))


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)([hdw])", text)
    if match is None:
        raise UserError(f"--older {text}: expected a number of hours, days or weeks: 12h, 30d, 2w")
    return 3600.0 * int(match[1]) * HOURS[match[2]]


def in_bytes(size: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
