"""What commands take: NAME=VALUE, and names of studies, which the shell completes."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from pipelines import addresses
from pipelines.errors import UserError

SHIPPED = Path(__file__).parents[1] / "studies"


class StudyName(click.ParamType):  # type: ignore[type-arg]  # older versions of click have none
    """The name of a study or the path of a study file; what it is taken for, the command says."""

    name = "study"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the stored studies, those that ship, and the YAML files of the folder that begin so."""
        files = [*SHIPPED.glob("*.yaml"), *Path().glob("*.yaml")]
        names = {*_stored(), *(str(file) if file.parent == Path() else file.stem for file in files)}
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


def _stored() -> list[str]:
    """Return the names of the stored studies, where Optuna's storage is a file: a key press must not wait for Optuna."""
    file = addresses.file_of(addresses.of("OPTUNA_STORAGE", "optuna.db"))
    if file is None or not file.exists():
        return []
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
        return [name for (name,) in database.execute("SELECT study_name FROM studies")]
    return []


def pairs(values: Sequence[str], example: str) -> dict[str, str]:
    """Return the values by their names. Raises UserError for what is not a pair, and for a name that comes twice."""
    found: dict[str, str] = {}
    for each in values:
        name, sign, value = each.partition("=")
        if not sign or not name:
            raise UserError(f"{each!r} is not NAME=VALUE, {example} say")
        if name in found:
            raise UserError(f"{name} is given twice: once is enough")
        found[name] = value
    return found
