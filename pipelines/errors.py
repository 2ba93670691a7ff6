"""The one exception that is a user's to mend."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user asked for: one line that says what happened, what was expected and how to mend it."""


class DatasetUnavailable(UserError):
    """The data set was neither found nor downloaded."""


class StoreUnavailable(UserError):
    """Optuna's or MLflow's store cannot be opened: wrong address, away, or locked."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the error's name when it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known name that looks most like `name`, or nothing."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""
