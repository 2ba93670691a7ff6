"""NAME=VALUE, as commands take it."""

from collections.abc import Sequence

from pipelines.errors import UserError


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
