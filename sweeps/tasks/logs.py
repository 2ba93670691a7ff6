"""What workers printed: the logs of a study's latest call, or what concerns one trial in those of all its calls."""

from collections.abc import Iterator
from pathlib import Path

from pipelines import paths
from pipelines.errors import UserError
from sweeps.running.worker import begins, ends
from sweeps.stores import names
from sweeps.stores.lease import Lease
from sweeps.stores.record import StoredStudy


def lines(name: str, trial: int | None = None) -> Iterator[str]:
    """Yield the lines of the logs of a study's latest call; with `trial`, those about it, of all calls. A title for each file.

    Raises UserError where no log lies on this machine.
    """
    stored = StoredStudy(name)
    folder = paths.mlruns() / "logs" / stored.name
    calls = sorted(folder.glob("*/"))
    if trial is None:
        files = sorted(calls[-1].rglob("*.log"), key=_age) if calls else []
        found = [(file, _read(file)) for file in files]
    else:
        of_trial = (
            (file, _about(trial, _read(file))) for call in calls for file in sorted(call.rglob("*.log"), key=_age)
        )
        found = [(file, said) for file, said in of_trial if said]
    if not found:
        raise UserError(
            f"there is no log of {f'trial {trial}' if trial is not None else f'study {name!r}'} {_where(stored, trial)}"
        )
    for file, said in found:
        yield f"==> {file.relative_to(paths.mlruns())} <=="
        yield from said


def _about(trial: int, said: list[str]) -> list[str]:
    """Return the lines from where a worker began a trial until it was done with it, as often as it did."""
    about, within = list[str](), False
    for line in said:
        within = within or line == begins(trial)
        if within:
            about.append(line)
        within = within and line != ends(trial)
    return about


def _where(stored: StoredStudy, trial: int | None) -> str:
    trials = {each.number: each for each in stored.store.trials()}
    if trial is not None and trial not in trials:
        return f"for there is no such trial: there are {len(trials)}"
    lease = Lease.parse(trials[trial].user_attrs.get(names.LEASE, "")) if trial is not None else None
    if lease and not lease.worker.here:
        return f"on this machine: its worker is on {lease.worker.machine.partition('/')[0]}"
    return f"in {paths.mlruns() / 'logs' / stored.name}: it has not begun, or its workers were on another machine"


def _read(file: Path) -> list[str]:
    return file.read_text(errors="replace").splitlines()


def _age(file: Path) -> tuple[int, str]:
    number = file.stem.rpartition("-")[2]
    return (int(number) if number.isdigit() else 0), str(file)
