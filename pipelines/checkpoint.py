"""The state of an unfinished training on disk: written atomically after every epoch, read back without pickle.

The one before is kept too, so that a file that a failing disk has damaged costs one epoch.
"""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import first_line, of_the_machine

Arrays = list[NDArray[Any]]


@dataclass(frozen=True)
class State:
    """All that the next epoch depends on: `history` has one dict an epoch; `kept` are the weights to keep so far.

    `callbacks`: plain data, one entry for each of the user's; `stopped`: whether one of them has ended the training.
    """

    history: list[dict[str, float]]
    weights: Arrays
    optimizer: Arrays
    kept: Arrays
    callbacks: list[Any] = field(default_factory=list)
    stopped: bool = False


def save(path: Path, fingerprint: str, state: State) -> None:
    """Write `state` to `path`: whoever reads finds this state or the one before, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    groups = {"weights": state.weights, "optimizer": state.optimizer, "kept": state.kept}
    arrays = {f"{group}_{i}": array for group, members in groups.items() for i, array in enumerate(members)}
    facts = {"history": state.history, "callbacks": state.callbacks, "stopped": state.stopped}
    header = json.dumps({"fingerprint": fingerprint, **facts, "sizes": {k: len(v) for k, v in groups.items()}})
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, header=np.frombuffer(header.encode(), np.uint8), **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            path.replace(_before(path))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # on a full disk it would be in the way


def load(path: Path, fingerprint: str) -> State | None:
    """Return the state in `path`, or the one before if that is missing or damaged; None when neither serves.

    A state of another configuration does not serve; training then begins again from its seed: the same result, later.
    """
    return _read(path, fingerprint) or _read(_before(path), fingerprint)


def _read(path: Path, fingerprint: str) -> State | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(file["header"].tobytes())
            if header["fingerprint"] != fingerprint:
                return None
            groups: Any = {key: [file[f"{key}_{i}"] for i in range(size)] for key, size in header["sizes"].items()}
            ours = {key: header[key] for key in ("callbacks", "stopped") if key in header}  # earlier versions have none
            return State(history=header["history"], **groups, **ours)
    except Exception as error:  # a damaged file makes numpy and zipfile raise a dozen kinds
        if of_the_machine(error) and _whole(path):
            raise
        print(
            f"checkpoint {path.name} is damaged ({first_line(error)}): going on from an earlier one, or from the start"
        )
        path.unlink(missing_ok=True)  # else it would take the place of the one before
        return None


def _whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except Exception as error:
        return of_the_machine(error)


def _before(path: Path) -> Path:
    return path.with_suffix(".before.npz")


def adopt(path: Path, copies: Iterable[Path]) -> None:
    """Put the copy with the most epochs in the place of `path`, unless that has as many; damaged ones do not count."""
    whole = {copy: epochs for copy in copies if (epochs := _epochs(copy)) is not None}
    newest = max(whole, key=lambda copy: whole[copy], default=None)
    if newest is None or whole[newest] <= (_epochs(path) or 0):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        shutil.copyfile(newest, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _epochs(path: Path) -> int | None:
    """Return how many epochs the state in `path` has behind it; None when there is no state, or a damaged one."""
    if not path.exists() or not _whole(path):
        return None
    with np.load(path, allow_pickle=False) as file:
        return len(json.loads(file["header"].tobytes())["history"])


def parts(path: Path) -> list[Path]:
    """Return the newest checkpoint of each of a run's models, as far as there are any."""
    named = re.compile(rf"{re.escape(path.stem)}(\.\d+)?\.npz")
    return [each for each in sorted(path.parent.glob("*.npz")) if named.fullmatch(each.name)]


def part(path: Path, number: int) -> Path:
    """Return the file of model `number` of a run that trains several; the first has the run's own."""
    return path.with_suffix(f".{number}.npz") if number else path


def remove(path: Path) -> None:
    """Delete a run's checkpoints, and what a killed writer left of them."""
    for leftover in [path, *path.parent.glob(f"{path.stem}.*.npz"), *path.parent.glob(f"{path.stem}.*.tmp")]:
        leftover.unlink(missing_ok=True)
