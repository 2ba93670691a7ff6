"""Which code a number came from: the user's, in whose folder it was asked for, and this project's."""

import functools
import subprocess
from importlib import metadata
from pathlib import Path

LIBRARIES = ("keras", "optuna", "mlflow", "numpy")
OURS = Path(__file__).resolve().parent.parent
DISTRIBUTION = "keras-sweeps"


def code() -> dict[str, str]:
    """Return commit and dirty flag of the git checkout that the current folder is in (`unknown` outside one), and versions."""
    return _commit_of(Path.cwd(), "git") | versions()


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of libraries and of this project; of a checkout of this project, its commit and dirty flag too."""
    facts = {f"{library}_version": metadata.version(library) for library in LIBRARIES}
    facts["sweeps_version"] = metadata.version(DISTRIBUTION)
    return facts | (_commit_of(OURS, "sweeps") if (OURS / ".git").exists() else {})


@functools.cache
def _commit_of(folder: Path, prefix: str) -> dict[str, str]:
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {f"{prefix}_commit": "unknown", f"{prefix}_dirty": "unknown"}
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {f"{prefix}_commit": commit, f"{prefix}_dirty": str(bool(changes)).lower()}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
