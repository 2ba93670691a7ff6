"""Addresses of the stores: by default two SQLite files under `mlruns/`, or what a variable says."""

import os
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from pipelines import paths
from pipelines.errors import UserError


def of(variable: str, file: str) -> str:
    """Return the URL that the environment variable holds, a relative path in it made absolute; else that of `mlruns/file`."""
    given = os.environ.get(variable, "").strip()
    if not given:
        return sqlite(paths.mlruns() / file)
    url = _parsed(given)
    if url is None or url.get_backend_name() != "sqlite":
        return given
    if url.database in (None, "", ":memory:"):
        raise UserError(f"{variable}={given} is a database in memory, which no other process sees: name a file")
    if url.database.startswith("file:"):
        return given
    return url.set(database=str(Path(url.database).absolute())).render_as_string(hide_password=False)


def sqlite(file: Path) -> str:
    """Return the URL of an SQLite file, whatever characters its path has."""
    url = URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)
    if url.endswith(str(file)):
        return url
    # MLflow makes the folder that it reads from a URL that begins with `sqlite:///`, and reads what is quoted as it stands.
    return url.replace("sqlite:", "sqlite+pysqlite:", 1)


def backend(url: str) -> str:
    """Return the kind of database, as SQLAlchemy names it (`sqlite`, `postgresql`); "" for a server that is none."""
    parsed = _parsed(url)
    return parsed.get_backend_name() if parsed else ""


def file_of(url: str) -> Path | None:
    """Return the file of an SQLite database; None for any other store."""
    parsed = _parsed(url)
    if parsed is None or parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    if parsed.database.startswith("file:"):  # SQLite's own way to write it, with options
        return None
    return Path(parsed.database)


def is_there(url: str) -> bool:
    """Whether there may be something to read: reading must not make a file."""
    file = file_of(url)
    return file is None or file.is_file()


def advice(variable: str, url: str) -> str:
    """Return what to look at when the store at `url` cannot be opened: the variable, if the user has set it, or the file."""
    if os.environ.get(variable, "").strip():
        return f"check {variable}"
    return f"is {file_of(url)} damaged, or of another program?"


def _parsed(url: str) -> URL | None:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        return None
