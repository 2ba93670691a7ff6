"""A running study in hand: where studies stand, and what is asked of one from beside it."""

import signal

import click

from pipelines.errors import UserError
from sweeps.commands.values import pairs
from sweeps.output import console


@click.command()
@click.argument("study", required=False)
def status(study: str | None) -> None:
    """Say of STUDY, or of every study: its state, how far it is, when its trials will be done, and where workers train.

    \b
    Example:
      sweep status
    """
    from sweeps.results import tables
    from sweeps.tasks import status

    found = [status.of(study)] if study else status.of_all()
    if not found:
        raise UserError("there is no study yet: sweep run begins one")
    console().print(tables.terminal([status.COLUMNS, *map(status.row, found)]))


@click.command()
@click.argument("study")
@click.option(
    "--trial", type=int, metavar="N", help="This trial alone, for good: what it has reached is kept, as pruned."
)
@click.option("--now", is_flag=True, help="Do not wait for the running epochs; they are lost.")
def stop(study: str, trial: int | None, now: bool) -> None:
    """Stop STUDY after its running epochs, from any terminal or machine: every sweep run of it ends.

    Nothing is lost: the command that ran it resumes it.

    \b
    Example:
      sweep stop lean_cnn
    """
    from sweeps.tasks import steer

    if trial is not None:
        steer.stop_trial(study, trial, now)
        click.echo(f"trial {trial} {'has ended' if now else 'ends after its epoch'}, for good")
        return
    parents = steer.stop(study, now)
    what = f"{parents} sweep run of it {'ends' if parents == 1 else 'end'}"
    click.echo(f"study {study}: {what} {'at once' if now else 'after the running epochs'}; sweep status shows when")


@click.command()
@click.argument("study")
def watch(study: str) -> None:
    """Show the live table of STUDY, as sweep run does, without training, for as long as somebody runs it.

    Ctrl-C ends the watch alone.

    \b
    Example:
      sweep watch lean_cnn
    """
    from sweeps.tasks import status

    signal.signal(signal.SIGINT, signal.default_int_handler)  # else the terminal's cursor stays hidden
    try:
        status.watch(study, console())
    except KeyboardInterrupt:
        raise click.Abort from None


@click.command()
@click.argument("study")
@click.argument("values", nargs=-1, required=True, metavar="NAME=VALUE...")
@click.option("--trials", type=int, metavar="N", help="Take a ticket of a larger budget, of N trials.")
def enqueue(study: str, values: tuple[str, ...], trials: int | None) -> None:
    """Let the next trial that begins in STUDY have these values; the sampler chooses what is not named.

    \b
    Example:
      sweep enqueue lean_cnn dropout=0.1 batch_size=64
    """
    from sweeps.study.study import format_params
    from sweeps.tasks import steer

    done = steer.enqueue(study, pairs(values, "dropout=0.1"), trials=trials)
    how = f"{done.command} trains it" if done.command else "it is the next to begin"
    click.echo(f"trial {done.number} of {study} has {format_params(done.params)}: {how}")


@click.command()
@click.argument("study")
@click.argument("trial", type=int, required=False)
def logs(study: str, trial: int | None) -> None:
    """Print what the workers of the latest sweep run of STUDY wrote; or, of all of them, what concerns TRIAL.

    \b
    Example:
      sweep logs lean_cnn 7
    """
    from sweeps.tasks import logs

    for line in logs.lines(study, trial):
        click.echo(line)


COMMANDS = (status, stop, watch, enqueue, logs)
