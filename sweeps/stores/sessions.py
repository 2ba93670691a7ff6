"""Who runs a study, by what its parents note every few seconds."""

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError
from sweeps.stores import names

if TYPE_CHECKING:
    from sweeps.stores.store import Store

REST_AFTER_SESSION = 60.0  # seconds: a parent notes every five that it lives


def last_alive(store: "Store") -> float:
    """Return how many seconds ago a parent noted that it runs the study; one that has ended in order does not count."""
    return time.time() - max((until for _, until in _open(store.attributes())), default=0.0)


def live(attributes: Mapping[str, Any]) -> list[float]:
    """Return when each of the parents began that run a study, or did a minute ago (Unix seconds), by what is remembered of it."""
    return [began for began, until in _open(attributes) if time.time() - until < REST_AFTER_SESSION]


def check_at_rest(store: "Store") -> None:
    """Raise UserError while somebody runs the study, or did a moment ago."""
    if (since := last_alive(store)) < REST_AFTER_SESSION:
        raise UserError(
            f"study {store.study_name!r} was running {max(since, 0):.0f} s ago: stop it, or wait a minute after it was killed"
        )


def seconds_spent(attributes: Mapping[str, Any]) -> float:
    """Return for how long a study has been running, over all sessions; overlapping ones count once."""
    spent, reached = 0.0, 0.0
    for began, until in sorted(value[:2] for key, value in attributes.items() if key.startswith(names.SESSION)):
        spent += max(0.0, until - max(began, reached))
        reached = max(reached, until)
    return spent


def _open(attributes: Mapping[str, Any]) -> Iterator[tuple[float, float]]:
    """Yield from when until when, so far as it noted, each parent ran the study that has not ended in order."""
    for key, value in attributes.items():
        if key.startswith(names.SESSION) and len(value) == 2:
            yield value[0], value[1]
