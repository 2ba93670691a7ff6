"""A folder of results that was moved, renamed or copied: what MLflow's store says of places is put right, once."""

from urllib.parse import unquote

from pipelines.errors import UserError
from pipelines.tracking import places
from pipelines.tracking import store as tracking
from sweeps.running import repair
from sweeps.stores.storage import study_lock


def settle_in() -> str | None:
    """Put the stored places right where `mlruns/` is no longer where it was; return what to say of it.

    Nothing is touched outside the present folder: the original of a copy stays as it is. Raises UserError while a sweep runs, or
    did a moment ago: what it writes goes to the old place.
    """
    former = places.former_roots() if tracking.exists() else []
    if not former:
        return None
    was = " and ".join(unquote(root.removeprefix("file://")) for root in former)
    if repair.running():
        raise UserError(
            f"results were moved here from {was}, and a sweep ran on them a moment ago: try again in a minute"
        )
    with study_lock():
        count = places.rewrite()
    return f"results were moved here from {was}: {count} stored places have been put right"
