"""What is kept of studies, and what is deleted."""

import click

from pipelines.errors import UserError


def _agree(question: str, yes: bool) -> None:
    """Ask before something is deleted; raises UserError unless the answer is yes."""
    click.echo(question)
    try:
        agreed = yes or click.confirm("Delete this?")
    except click.Abort:  # nobody is there to answer
        agreed = False
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


COMMANDS = (delete,)
