"""Which code a number came from."""

import functools
import subprocess
from importlib import metadata

from pipelines.paths import PROJECT_ROOT

LIBRARIES = ("keras", "optuna", "mlflow", "numpy")


@functools.cache
def code() -> dict[str, str]:
    """Return git commit, dirty flag (`unknown` outside a checkout) and library versions."""
    facts = {f"{library}_version": metadata.version(library) for library in LIBRARIES}
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return facts | {"git_commit": "unknown", "git_dirty": "unknown"}
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return facts | {"git_commit": commit, "git_dirty": str(bool(changes)).lower()}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(PROJECT_ROOT), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
