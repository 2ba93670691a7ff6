"""Errors: whose they are, what they are a sign of, and how they are said without a password.

    what was raised                         kind       what follows
    ├─ a store's (Optuna's, MLflow's)
    │  ├─ it does not answer, or is locked  AWAY       it is waited for
    │  ├─ it answers, and says no           REFUSED    a fresh worker may have better luck; `sweep doctor`
    │  └─ it is damaged, or not allowed     LASTING    it is said at once, and nothing waits
    ├─ UserError                            MISTAKE    one line, which says how to mend it
    ├─ the machine's: memory, disk, files   WANT       another try may not meet it
    └─ any other                            FAULT      of the training: the trial fails; or of this program

`sweeps/stores/storage.py` tells which: it knows what the stores' libraries raise.
"""

import difflib
import errno
import os
import re
import traceback
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from urllib.parse import unquote

from models.errors import UserError

__all__ = ["UserError"]  # besides what is defined here

LONGEST = 500  # characters of a message that another library wrote
_CREDENTIALS = re.compile(r"(\b\w[\w+.-]*://)[^\s\"]*@")
_SECRET_OPTION = re.compile(r"(\w*(?:passw|pwd|token|secret|sig)\w*(?:=|%3D|: ))[^&;\s\"]+", re.IGNORECASE)
_URLS, _SECRETS = ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE"), ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_LASTING = re.compile(
    r"readonly database|no such (table|column)|is malformed|is not a database|authentication failed|permission denied|"
    r"(database|relation|role|column) \S+ does not exist|error code 40[134]|UNAUTHENTICATED|PERMISSION_DENIED"
)
_OUT_OF_MEMORY = {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"}  # Python, TensorFlow, PyTorch
_OF_THE_MACHINE = {errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ENOMEM}


class ErrorKind(Enum):
    """Whose an error is."""

    AWAY = auto()
    REFUSED = auto()
    LASTING = auto()
    WANT = auto()
    MISTAKE = auto()
    FAULT = auto()

    @property
    def passes(self) -> bool:
        """Whether what went wrong may go right later, and is nobody's fault."""
        return self in (ErrorKind.AWAY, ErrorKind.WANT)


class DatasetUnavailable(UserError):
    """The data set was neither found nor downloaded."""


class StoreUnavailable(UserError):
    """Optuna's or MLflow's store cannot be opened: wrong address, away, or locked."""


class ArtifactError(Exception):
    """What was asked of a run's artifacts could not be done; the message says what and why."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the error's name when it has none; without passwords, cut at length."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    line = without_passwords(line[: 4 * LONGEST])
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def root_cause(error: BaseException) -> BaseException:
    """Return the error that led to this one: libraries wrap what they meet, and say less.

    A lookup that failed before it is no cause: a cache was asked, and had it not.
    """
    return [error, *(cause for cause in _causes(error) if not isinstance(cause, LookupError))][-1]


def without_passwords(text: str) -> str:
    """Return `text` without the passwords of the stores' URLs, and without whatever looks like one in any other."""
    for secret in _secrets():
        text = text.replace(secret, "***")
    return _SECRET_OPTION.sub(r"\1***", _CREDENTIALS.sub(r"\1***@", text))


def traceback_of(error: BaseException) -> str:
    """Return an error's traceback; without passwords."""
    return without_passwords("".join(traceback.format_exception(error)))


def out_of_space(error: BaseException) -> bool:
    """Whether an error comes from a full disk, or a used-up quota."""
    return any(
        "No space left on device" in str(cause)
        or (isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT))
        for cause in _causes(error)
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether an error comes from want of memory, of this machine or of its GPU."""
    return any(
        any(kind.__name__ in _OUT_OF_MEMORY for kind in type(cause).__mro__)
        or "RESOURCE_EXHAUSTED" in str(cause)
        or "can't allocate memory" in str(cause)
        or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM)
        for cause in _causes(error)
    )


def of_the_machine(error: BaseException) -> bool:
    """Whether an error is the machine's, not the training's: another process, or a later try, may not meet it."""
    of_system = any(isinstance(cause, OSError) and cause.errno in _OF_THE_MACHINE for cause in _causes(error))
    return of_system or out_of_space(error) or out_of_memory(error)


def lasts(error: BaseException) -> bool:
    """Whether a database says what no waiting changes: it is damaged or read-only, lacks its tables, or knows no such user."""
    return any(_LASTING.search(str(cause)) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and not any(error is other for other in seen):
        yield error
        seen.append(error)
        error = error.__cause__ or error.__context__


def _secrets() -> list[str]:
    """Return what stands as user and password in the stores' URLs, and the passwords that MLflow takes from the environment."""
    found = [os.environ.get(name, "") for name in _SECRETS]
    for url in (os.environ.get(name, "") for name in _URLS):
        before, at, _ = url.partition("://")[2].rpartition("@")
        password = before.partition(":")[2]
        found += (
            [before, password, *re.split("[:@/]", password)] if at else []
        )  # a library may misread it, and quote a part
    return sorted({word for each in found for word in (each, unquote(each)) if len(word) > 3}, key=len, reverse=True)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known name that looks most like `name`, or nothing."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""
