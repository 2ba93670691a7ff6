"""What is kept of studies, and what is deleted."""

import sys

import click

from pipelines.errors import UserError
from sweeps import output


def _agree(question: str, yes: bool) -> None:
    """Ask before something is deleted; raises UserError unless the answer is yes."""
    click.echo(question)
    try:
        agreed = yes or click.confirm("Delete this?")
    except click.Abort:  # nobody is there to answer
        agreed = False
        click.echo()
        output.finish()  # before the error, which another stream says
    if not agreed:
        raise UserError("nothing was deleted: answer y, or give --yes")


@click.command()
@click.argument("study")
@click.argument("trial", type=int, required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(study: str, trial: int | None, yes: bool) -> None:
    """Delete STUDY, which nobody runs, and what was confirmed of it: trials, runs, files; or one TRIAL of it.

    Registered models stay. Runs go to MLflow's trash, their files do not. The same command resumes it.

    \b
    Example:
      sweep delete quickstart 3
    """
    from sweeps.tasks import delete

    _agree(delete.described(study, trial), yes)
    if trial is not None:
        delete.trial(study, trial)
        click.echo(f"trial {trial} is deleted; its number stays used")
        return
    for line in delete.study(study):
        click.echo(line)
    click.echo(f"study {study} is deleted; its name is free")


@click.command()
@click.option("--keep-models", type=int, required=True, metavar="N", help="Of the best N trials of each study.")
@click.option("--older", metavar="30d", help="Only of studies that have not run for so long: 12h, 30d, 2w.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def clean(keep_models: int, older: str | None, yes: bool) -> None:
    """Delete the models of all but the best trials of each study, once it is said what that frees; all else stays.

    \b
    Example:
      sweep clean --keep-models 3 --older 30d
    """
    from sweeps.tasks import clean

    found = clean.surplus(keep_models, older)
    if not found:
        click.echo("there is nothing to delete")
        return
    for each in found:
        click.echo(f"{each.study}: models of {len(each.trials)} trials, {clean.in_bytes(each.size)}")
    _agree(f"{clean.in_bytes(sum(each.size for each in found))} in all", yes)
    for each in found:
        each.remove()
    click.echo("deleted")


@click.command()
@click.argument("studies", nargs=-1, required=True, metavar="STUDY...")
@click.option("--csv", "file", required=True, type=click.Path(dir_okay=False), help="The file to write; - prints.")
def export(studies: tuple[str, ...], file: str) -> None:
    """Write a row for each trial of STUDY, or of several, as runs() has them, into a CSV file.

    \b
    Example:
      sweep export lean_cnn --csv runs.csv
    """
    from sweeps import api

    if file == "-":
        api.export(studies, sys.stdout)
    else:
        click.echo(f"{api.export(studies, file)} trials are in {file}")


COMMANDS = (delete, clean, export)
