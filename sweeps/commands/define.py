"""A study before it runs: begun from nothing, and looked at."""

from pathlib import Path
from typing import Any

import click

from sweeps.commands.values import pairs

SETTINGS = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another value than the file's, training.epochs=3 say; the study then runs under a name of its own.",
)


def settings_of(values: tuple[str, ...]) -> dict[str, Any]:
    """Return what --set says, read as YAML."""
    from sweeps.study import study_file

    return {key: study_file.value_of(text, f"--set {key}") for key, text in pairs(values, "training.epochs=3").items()}


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
def init(folder: Path) -> None:
    """Write a model and a study of your own to begin with, my_model.py and my_study.yaml, into FOLDER (default: this one).

    \b
    Example:
      sweep init my_project
    """
    from pipelines import paths
    from sweeps.tasks import init

    files = init.write(folder)
    click.echo(f"written: {', '.join(map(str, files))}; {paths.command(f'run {files[-1]}')} runs it in a minute")


@click.command()
@click.argument("study")
@SETTINGS
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", show_default=True)
def check(study: str, settings: tuple[str, ...], device: Any) -> None:
    """Say what STUDY would be, and about what it would cost here, by timing a few batches; nothing is written.

    \b
    Example:
      sweep check lean_cnn --set training.epochs=3
    """
    from sweeps.study import study_file
    from sweeps.tasks import check

    for line in check.lines(study_file.load(study, settings=settings_of(settings)), device):
        click.echo(line)


COMMANDS = (init, check)
