"""Errors: those that are a user's to mend, what others are a sign of, and how they are said without a password."""

import difflib
import errno
import re
import traceback
from collections.abc import Iterable, Iterator

LONGEST = 500  # characters of a message that another library wrote
_CREDENTIALS = re.compile(r"(\w[\w+.-]*://)[^\s'\"]*@")
_SECRET_OPTION = re.compile(r"(\b(?:\w*password|\w*token|\w*secret)=)[^&\s'\")]+", re.IGNORECASE)
_OUT_OF_MEMORY = {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"}  # Python, TensorFlow, PyTorch


class UserError(Exception):
    """A mistake in what the user asked for: one line that says what happened, what was expected and how to mend it."""


class DatasetUnavailable(UserError):
    """The data set was neither found nor downloaded."""


class StoreUnavailable(UserError):
    """Optuna's or MLflow's store cannot be opened: wrong address, away, or locked."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the error's name when it has none; without passwords, cut at length."""
    line = without_passwords(next(iter(str(error).strip().splitlines()), type(error).__name__))
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def without_passwords(text: str) -> str:
    """Return `text` with what stands between scheme and host of its URLs, and secret options in them, blotted out."""
    return _SECRET_OPTION.sub(r"\1***", _CREDENTIALS.sub(r"\1***@", text))


def traceback_of(error: BaseException) -> str:
    """Return an error's traceback; without passwords."""
    return without_passwords("".join(traceback.format_exception(error)))


def out_of_space(error: BaseException) -> bool:
    """Whether an error comes from a full disk, or a used-up quota."""
    return any(
        isinstance(cause, OSError) and (cause.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(cause))
        for cause in _causes(error)
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether an error comes from want of memory, of this machine or of its GPU."""
    return any(
        any(kind.__name__ in _OUT_OF_MEMORY for kind in type(cause).__mro__) or "RESOURCE_EXHAUSTED" in str(cause)
        for cause in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known name that looks most like `name`, or nothing."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""
