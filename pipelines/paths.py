"""Where outputs lie: `mlruns/` of the current folder, or the folder that MLRUNS_DIR names; and how `sweep` is called here."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from pipelines.errors import UserError, out_of_space

ROOM = 2**22  # bytes that there should be at least


def mlruns() -> Path:
    """Return the folder of all outputs (not made, see `make_mlruns`)."""
    return Path(os.environ.get("MLRUNS_DIR") or "mlruns").resolve()


def make_mlruns() -> Path:
    """Make the folder of all outputs and check that it can be written; raises UserError if it cannot."""
    folder = mlruns()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"cannot write to {folder} ({error.strerror}): make it writable, or set MLRUNS_DIR to a folder that is"
        ) from error
    return folder


def has_room(study: str) -> bool:
    """Whether the disks of outputs and of temporary files have room for what a worker writes next."""
    sizes = [path.stat().st_size for path in checkpoint(study, 0).parent.glob("*.npz") if path.exists()]
    wanted = max(ROOM, 3 * max(sizes, default=0))
    try:
        for folder in (mlruns(), None):
            with tempfile.TemporaryFile(dir=folder) as file:
                os.posix_fallocate(file.fileno(), 0, wanted)
    except OSError as error:
        return not out_of_space(error)
    return True


def checkpoint(study: str, trial: int) -> Path:
    """Return the file that holds the state of an unfinished trial; raises UserError for a name that leads elsewhere."""
    if study in ("", ".", "..") or Path(study).name != study:
        raise UserError(f"study {study!r} has a name that no folder can have: give it another")
    return mlruns() / "checkpoints" / study / f"{trial}.npz"


def report(study: str) -> Path:
    """Return the file of a study's report, where no other was named for it."""
    return mlruns() / "reports" / f"{study}.md"


def command(words: str) -> str:
    """Return how a `sweep` command is typed here: `sweep best`, or with the path of `sweep` where that is not on PATH."""
    beside = Path(sys.executable).parent / "sweep"
    if shutil.which("sweep") or not beside.exists():
        return f"sweep {words}"
    return f"{os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else beside} {words}"
