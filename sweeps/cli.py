"""The command line. Every command imports what it needs when it runs: help stays instant."""

import ipaddress
import os
import signal
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from pipelines.errors import (
    DatasetUnavailable,
    UserError,
    traceback_of,
    without_passwords,
)
from sweeps import output
from sweeps.commands import define, keep, steer
from sweeps.commands.values import StudyName
from sweeps.output import console as _console

DEFAULT_STUDY, WITHOUT_MNIST = "lean_cnn", "quickstart"
COMPLETION = "_SWEEP_COMPLETE"  # set by the shell's completion, as click names it
EXECUTORS = ("processes", "ray")
NEAREST = "nearest"  # target: what --until-decided decides without a value
FOUND, FAULTY, MISTAKE, INTERRUPTED = 1, 1, 2, 130  # exit codes


class _OneLine(click.Group):
    """Turns a user's mistake into one line on stderr and exit code 2."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        # A KeyboardInterrupt in the midst of an import may be swallowed; a running sweep has its own answer to Ctrl-C.
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            with output.patient() if COMPLETION not in os.environ else nullcontext():  # click writes bytes then
                status = self._status(*arguments, **options)
        finally:
            signal.signal(signal.SIGINT, before)
        sys.exit(status if isinstance(status, int) else 0)

    def _status(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().main(*arguments, **(options | {"standalone_mode": False}))
        except click.ClickException as error:
            return _complain(error.format_message())
        except click.Abort:
            return INTERRUPTED
        except SystemExit as error:
            return error.code
        except Exception as error:
            click.echo(traceback_of(error), err=True)
            return FAULTY

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their first sentences, none of them cut."""
        found = [(name, command) for name in self.list_commands(ctx) if (command := self.get_command(ctx, name))]
        with formatter.section("Commands"):
            formatter.write_dl([(name, (command.help or "").strip().split("\n")[0]) for name, command in found])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            if ctx.params.get("debug"):
                raise
            return _complain(str(error))
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from sweeps.stores.storage import store_error_line

            said = store_error_line(error)
            if ctx.params.get("debug") or said is None:
                raise
            return _complain(said)


def _complain(message: str) -> int:
    click.echo(f"error: {without_passwords(' '.join(message.split()))}", err=True)
    return MISTAKE


@click.group(
    cls=_OneLine,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option("--debug", is_flag=True, help="Show the traceback of a mistake.")
@click.version_option(package_name="keras-sweeps", prog_name="sweep")
@click.pass_context
def main(ctx: click.Context, debug: bool) -> None:
    """Sweep hyperparameters of Keras image classifiers, track every run in MLflow, compare with published accuracies.

    \b
    Example:
      sweep run quickstart --trials 5
      sweep best
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        return
    if any(
        action == "error" for action, *_ in warnings.filters
    ):  # by PYTHONWARNINGS: of their code, not of these libraries
        warnings.simplefilter("ignore")
    sys.path.append(str(Path.cwd()))  # where a user's own modules lie


def _resource_options(command: Any) -> Any:
    """Add the options that say who trains."""
    for option in (
        click.option(
            "--trials-per-worker",
            type=int,
            metavar="N",
            help="A fresh process after N trials, which gives GPU memory back.",
        ),
        click.option(
            "--gpus-per-trial", type=float, metavar="X", help="On a cluster: GPUs a trial, or a fraction of one."
        ),
        click.option("--cpus-per-trial", type=float, metavar="X", help="On a cluster: CPUs a trial; 1 if not given."),
        click.option(
            "--executor",
            type=click.Choice(EXECUTORS),
            default="processes",
            show_default=True,
            help="Where workers run: as processes of this machine, or on the nodes of the Ray cluster at RAY_ADDRESS.",
        ),
        click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", show_default=True),
        click.option(
            "--workers",
            type=int,
            help="Workers at a time; 1 if not given, on a cluster as many as there is room for. 0: watch while others train.",
        ),
    ):
        command = option(command)
    return command


def _resources(**options: Any) -> Any:
    from sweeps.running import resources

    return resources.resolve(**options)


@main.command()
@click.argument("study", required=False)
@click.option("--trials", type=int, help="Budget: trials in all, those of earlier calls included.")
@click.option("--epochs", type=int, help="Budget: epochs trained in all.")
@click.option("--hours", type=float, help="Budget: hours of running in all.")
@_resource_options
@click.option("--dataset", help="Another data set than the file's; the study then runs under a name of its own.")
@click.option("--seed", type=int, help="Another seed than the file's; the study then runs under a name of its own.")
@define.SETTINGS
@click.option("--stored", is_flag=True, help="Resume the study called STUDY as it is stored; no file is read.")
@click.option(
    "--new-source", is_flag=True, help="Resume though the source of your model has changed; later trials train it."
)
def run(
    study: str | None,
    trials: int | None,
    epochs: int | None,
    hours: float | None,
    dataset: str | None,
    seed: int | None,
    settings: tuple[str, ...],
    stored: bool,
    new_source: bool,
    **resources: Any,
) -> None:
    """Run STUDY (a shipped name or a YAML file), or resume it.

    Without STUDY: lean_cnn on the full MNIST, or quickstart on 5,000 images where MNIST can be neither found nor downloaded.

    \b
    Example:
      sweep run lean_cnn --trials 60 --workers 2
    """
    from sweeps import api

    api.prewarm(**resources)
    from pipelines import datasets
    from sweeps.stores.record import StoredStudy
    from sweeps.study import study_file

    console = _console()
    budget = {"trials": trials, "epochs": epochs, "hours": hours}
    if stored:
        if dataset is not None or seed is not None or settings:
            raise UserError("--stored resumes a study as it is: it takes neither --dataset nor --seed nor --set")
        name = study or DEFAULT_STUDY
        if name.endswith((".yaml", ".yml")):
            raise UserError(f"--stored resumes a study by its name, and reads no file: got {name}")
        checked = StoredStudy(name).resumable(budget)
    else:
        changed = define.settings_of(settings)
        wanted = study_file.value_of(dataset, "--dataset") if dataset is not None else None
        checked = study_file.load(study or DEFAULT_STUDY, budget, wanted, seed, changed)
        if note := study_file.note_on_model(checked, study or DEFAULT_STUDY):
            console.print(note, soft_wrap=True)
    if study is None and dataset is None and not stored:
        try:
            datasets.load(checked.dataset)
        except DatasetUnavailable as error:
            console.print(f"{error}. Running {WITHOUT_MNIST} instead.", soft_wrap=True)
            checked = study_file.load(WITHOUT_MNIST, budget, None, seed, changed)
    result = api.run(checked, _resources(**resources), console, new_source=new_source)
    if result.interrupted:
        sys.exit(INTERRUPTED)
    if result.snapshot.completed == 0 or result.paused:
        sys.exit(FAULTY)


@main.command()
@click.argument("study")
@_resource_options
def worker(study: str, **resources: Any) -> None:
    """Join STUDY, which another machine has begun, and train until nothing is left to claim. No file is read.

    For Slurm and Kubernetes jobs (docs/cluster.md): one line a change, and SIGTERM gives the trials back.

    \b
    Example:
      sweep worker lean_cnn --workers 2
    """
    from sweeps import api

    api.prewarm(**resources)
    from sweeps.running import launch
    from sweeps.stores.record import StoredStudy

    console = _console()
    checked = StoredStudy(study).resumable()
    result = launch.run(checked, _resources(**resources), console, joins=True)
    console.print(result.snapshot.line(), soft_wrap=True)
    if result.interrupted:
        sys.exit(INTERRUPTED)
    if result.paused:
        sys.exit(FAULTY)


@main.command()
@click.argument("study")
@click.argument("trials", nargs=-1, type=int, metavar="[TRIAL]...")
def retry(study: str, trials: tuple[int, ...]) -> None:
    """Let the failed trials of STUDY, or those named, wait again under their numbers, while nobody runs it.

    Their parameters stay; what they reported is forgotten, and their runs go to MLflow's trash.

    \b
    Example:
      sweep retry lean_cnn 3 7
    """
    from pipelines import paths
    from sweeps.tasks import doctor

    numbers = doctor.retry(study, trials)
    listed = ", ".join(map(str, numbers))
    click.echo(f"{len(numbers)} trials wait again ({listed}): {paths.command(f'run {study} --stored')} trains them")


@main.command()
@click.argument("study", required=False)
def best(study: str | None) -> None:
    """Print the leaderboard of STUDY (default: the latest) against the published accuracies.

    \b
    Example:
      sweep best lean_cnn
    """
    from sweeps.results import leaderboard

    leaderboard.show(study, _console())


@main.command()
@click.option("--only", multiple=True, metavar="NAME", help="This recipe alone; may be given several times.")
@click.option("--seeds", type=int, default=3, show_default=True, help="Runs a recipe, those of earlier calls included.")
@click.option("--epochs", type=int, help="Train so many epochs, not the published ones.")
@click.option("--dataset", default="mnist", show_default=True, help="Train on another data set.")
@click.option(
    "--protocol", type=click.Choice(["official", "held_out", "reshuffled"]), help="In place of the published one."
)
@click.option("--population", type=int, default=1, show_default=True, help="Train so many seeds at once (on JAX).")
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", show_default=True)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page whose tables are written when every published recipe has its seeds; docs/baselines.md where there is one, "
    "else mlruns/reports/baselines.md.",
)
def baselines(
    only: tuple[str, ...],
    seeds: int,
    epochs: int | None,
    dataset: str,
    protocol: Any,
    population: int,
    device: Any,
    output: Path | None,
) -> None:
    """Train the published recipes as their authors did, from several seeds, or resume them.

    \b
    Example:
      sweep baselines --only softmax --only lean_cnn --seeds 5
    """
    import models
    from pipelines import paths
    from sweeps.tasks import baselines, baselines_report

    console = _console()
    recipes = [*dict.fromkeys(only)] or [*models.MODELS]
    plan = baselines.Plan(recipes, seeds, dataset, device, epochs, protocol, population)
    baselines.check_plan(plan)
    known = Path("docs/baselines.md")
    page = output or (known if known.exists() else paths.mlruns() / "reports" / "baselines.md")
    baselines_report.check_page(page)
    complete = baselines.run(plan, console)
    baselines_report.show(plan, console, page)
    if not complete:
        console.print("stopped; the same command resumes it")
        sys.exit(INTERRUPTED)


@main.command()
@click.argument("study", required=False)
@click.option("--top", type=int, default=2, show_default=True, help="So many configurations, the best by validation.")
@click.option(
    "--seeds",
    type=int,
    default=5,
    show_default=True,
    help="Fresh seeds each, those of earlier calls included; the first number is the planned one.",
)
@click.option("--final", is_flag=True, help="Then train the chosen one on training and validation images together.")
@click.option(
    "--until-decided",
    is_flag=False,
    flag_value=NEAREST,
    metavar="[VALUE]",
    help="Then add seeds of the chosen one until the verdict on VALUE (percent for an accuracy) is decided; without VALUE, on "
    "the nearest target above its mean. You may look, stop and resume when you like.",
)
@click.option("--most", type=int, help="At most so many seeds, with --until-decided; 40 if not given.")
@click.option("--plan", is_flag=True, help="Train nothing; say what more seeds would tell.")
@_resource_options
def confirm(
    study: str | None,
    top: int,
    seeds: int,
    final: bool,
    until_decided: str | None,
    most: int | None,
    plan: bool,
    **resources: Any,
) -> None:
    """Train the best configurations of STUDY (default: the latest) again from fresh seeds, and give a verdict on every target.

    After three seeds each, the best by validation goes on alone, unless others are tied with it. The same command resumes it.

    \b
    Example:
      sweep confirm lean_cnn --top 2 --seeds 5 --final
      sweep confirm lean_cnn --until-decided 99.48 --most 40
    """
    from sweeps import api
    from sweeps.results import systems
    from sweeps.running import moved
    from sweeps.tasks import planning

    console = _console()
    if line := moved.settle_in():
        console.print(line, soft_wrap=True)
    until = planning.until(None if until_decided == NEAREST else until_decided, most) if until_decided else None
    if most is not None and until is None:
        raise UserError(
            f"--most {most} limits --until-decided: give that too, or --seeds for a number fixed beforehand"
        )
    name = systems.name_of(study)
    if plan:
        for line in planning.lines(name):
            console.print(line, soft_wrap=True)
        return
    if not api.confirm(name, top, seeds, final, _resources(**resources), console, until):
        console.print("stopped; the same command resumes it")
        sys.exit(INTERRUPTED)


@main.command()
@click.argument("study", required=False)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to; mlruns/reports/STUDY.md if not given."
)
def report(study: str | None, output: Path | None) -> None:
    """Write the report of STUDY (default: the latest): verdicts, seeds, leaderboard, cost, importance, provenance.

    \b
    Example:
      sweep report lean_cnn --output report.md
    """
    from sweeps.results import report, systems
    from sweeps.running import moved

    console = _console()
    if line := moved.settle_in():
        console.print(line, soft_wrap=True)
    name = systems.name_of(study)
    found = report.write(name, console, output)
    if found:
        systems.show(name, console, found)


@main.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path(path_type=Path))
@click.option("--dataset", help="Whose champion; may be left out where there is one.")
@click.option("--invert", is_flag=True, help="The images are dark on light; those of MNIST are light on dark.")
def predict(images: tuple[Path, ...], dataset: str | None, invert: bool) -> None:
    """Classify image files by the champion, the registered model that sweep confirm keeps.

    \b
    Example:
      sweep predict seven.png --invert
    """
    from pipelines import backend
    from sweeps.tasks import champion

    backend.configure("cpu")
    backend.load()
    found = champion.predict(images, dataset, invert)
    click.echo(f"asking {found.of}", err=True)
    for file, classes, doubt in found.classified:
        (best, probability), (second, less), *_ = classes
        click.echo(f"{file}: {best} ({100 * probability:.2f} %; then {second}, {100 * less:.2f} %)")
        if doubt:
            click.echo(f"{file}: {doubt}", err=True)


@main.command()
@click.argument("run", metavar="RUN")
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", show_default=True)
def rerun(run: str, device: Any) -> None:
    """Train the run with the id RUN again, from what is logged of it, and say how far the results differ.

    \b
    Example:
      sweep rerun 4f3c1d5e9a7b4c0d8e2f6a1b3c5d7e9f
    """
    from sweeps.tasks import rerun

    if not rerun.run(run, device, _console()):
        click.echo("stopped; the same command resumes it")
        sys.exit(INTERRUPTED)


@main.command()
@click.argument("run", metavar="RUN|best")
@click.option("--study", help="Whose best trial, with best; the latest search if not given.")
@click.option(
    "--digit",
    type=int,
    help="The number of the class whose image the filters respond to; 7, or the last, if not given.",
)
@click.option("--feature", metavar="LAYER:NUMBER", help="The feature map whose most exciting input is looked for.")
@click.option("--against", metavar="RUN", help="Another run of the same configuration, to match first-layer filters.")
@click.option("--only", multiple=True, metavar="FIGURE", help="This figure alone; may be given several times.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Write the figures to a folder too.")
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", show_default=True)
def explain(
    run: str,
    study: str | None,
    digit: int | None,
    feature: str | None,
    against: str | None,
    only: tuple[str, ...],
    output: Path | None,
    device: Any,
) -> None:
    """Draw what is inside the trained model of a run (its id, or best), and log it with the run.

    \b
    Example:
      sweep explain best --study lean_cnn --digit 4
    """
    from pipelines import backend
    from sweeps.running import moved
    from sweeps.tasks import explain

    if line := moved.settle_in():
        click.echo(line)
    backend.configure(device)
    backend.load()
    asked = explain.Asked(digit, feature, against, tuple(dict.fromkeys(only)))
    explain.run(run, study, asked, output, _console())


@main.command()
@click.argument("study")
@click.option("--to-storage", required=True, envvar="TO_OPTUNA_STORAGE", metavar="URL", help="Optuna's storage there.")
@click.option(
    "--to-tracking", required=True, envvar="TO_MLFLOW_TRACKING_URI", metavar="URI", help="MLflow's store there."
)
def migrate(study: str, to_storage: str, to_tracking: str) -> None:
    """Copy STUDY, and what was confirmed of it, to other stores, and compare the copy with the original, which stays.

    Trials, runs, metrics, files, checkpoints and what links them. The same command resumes it. A URL that holds a
    password is better given in the environment, as TO_OPTUNA_STORAGE or TO_MLFLOW_TRACKING_URI.

    \b
    Example:
      sweep migrate lean_cnn --to-storage postgresql://db/optuna --to-tracking http://mlflow:5000
    """
    from sweeps.tasks import migrate

    migrate.run(study, to_storage, to_tracking, _console())


@main.command()
@click.argument("study", required=False)
@click.option("--fix", is_flag=True, help="Mend what is found.")
def doctor(study: str | None, fix: bool) -> None:
    """Look for what is wrong between Optuna's storage, MLflow and the files of STUDY (default: of all), and mend it.

    Exit code 1 when something is wrong and stays so.

    \b
    Example:
      sweep doctor --fix
    """
    from sweeps.running import moved, repair
    from sweeps.tasks import doctor

    if fix and (line := moved.settle_in()):
        click.echo(line)
    found = list(doctor.fix(study) if fix else doctor.examine(study))
    for problem in found:
        click.echo(f"{problem.what}: {'done: ' if fix and not problem.beyond else ''}{problem.remedy}")
    click.echo(doctor.looked_at(study))
    left = repair.running() if study is None else []
    if left:
        click.echo(f"left alone, since they run or did a minute ago: {', '.join(left)}")
    if not found:
        click.echo("nothing is wrong" + (" elsewhere" if left else ""))
    elif not fix:
        click.echo(f"{len(found)} found; sweep doctor --fix mends {'it' if len(found) == 1 else 'them'}")
        sys.exit(FOUND)
    if any(problem.beyond for problem in found):
        sys.exit(FOUND)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=int, default=5000, show_default=True)
@click.option("--browser/--no-browser", default=None, help="Open a browser, or do not; on a desktop it is opened.")
def ui(host: str, port: int, browser: bool | None) -> None:
    """Open the MLflow UI on the trials of the latest study, ranked.

    \b
    Example:
      sweep ui --port 5001
    """
    from pipelines import paths
    from pipelines.tracking import store
    from sweeps.running import moved
    from sweeps.tasks import ui

    _check_port(port)
    if store.uri().startswith("http"):
        raise UserError("MLFLOW_TRACKING_URI names a server: open that address in a browser")
    if not store.exists():
        raise UserError(f"there is nothing to show yet: begin with {paths.command('run')}")
    if line := moved.settle_in():
        print(line, flush=True)
    allowed = "It answers to this machine's and private addresses; MLFLOW_SERVER_ALLOWED_HOSTS names others."
    _warn_of_strangers(host, port, f"every run, for MLflow asks for no password. {allowed}")
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"MLflow UI on {address} (Ctrl-C ends it)", flush=True)
    if shown := ui.latest(address):
        study, address, charts = shown
        print(f"trials of {study}, ranked: {address}\ncurves of {study}: {charts}", flush=True)
    if browser or (browser is None and _on_a_desktop()):
        ui.open_later(address)
    output.finish()
    # One process serves one person, and is there seconds earlier than four.
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", host, "--port", str(port)]
    # By environment, not by argument: a tracking URI may hold a password. In our place, so that it ends when we are told to.
    # No job runners, which evaluate language models: eight processes that import MLflow.
    without_jobs = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    os.execve(sys.executable, command, without_jobs | os.environ | {"MLFLOW_BACKEND_STORE_URI": store.uri()})


@main.command()
@click.argument("study", required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=int, default=8080, show_default=True)
def dashboard(study: str | None, host: str, port: int) -> None:
    """Open the Optuna dashboard on STUDY (default: the latest): its trials and plots, while it runs too.

    \b
    Example:
      sweep dashboard lean_cnn --port 8081
    """
    from sweeps.results import systems
    from sweeps.tasks import dashboard

    _check_port(port)
    name = systems.name_of(study)
    _warn_of_strangers(host, port, "every trial, for the dashboard asks for no password.")
    dashboard.serve(name, host, port)


def _check_port(port: int) -> None:
    if not 0 < port < 65536:
        raise UserError(f"--port {port}: expected 1 to 65535")


def _warn_of_strangers(host: str, port: int, what: str) -> None:
    if not _is_loopback(host):
        print(f"warning: whoever reaches {host}:{port} can read, change and delete {what}", file=sys.stderr, flush=True)


def _on_a_desktop() -> bool:
    """Whether somebody sits before this terminal who has a browser with windows."""
    windows = sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return windows and sys.stdout.isatty() and not os.environ.get("SSH_CONNECTION")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@main.command()
@click.argument("study", required=False)
def studies(study: str | None) -> None:
    """List the study files that ship with the project, and the studies that are stored; or print STUDY as it is stored.

    \b
    Example:
      sweep studies lean_cnn
    """
    from sweeps.stores.seen import SeenStudy, study_names
    from sweeps.study import study_file

    if study is not None:
        import yaml

        kept = SeenStudy(study).read(as_written=True)
        content = kept.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        click.echo(yaml.safe_dump(content, sort_keys=False))
        return
    click.echo("study files:")
    for name in study_file.available():
        model, dataset, search = study_file.outline(name)
        click.echo(f"  {name}: {model} on {dataset}, {_searched(search)}")
    click.echo("stored studies (sweep studies NAME prints one):")
    for name in study_names():
        stored = SeenStudy(name)
        trials = stored.trials()
        try:
            kept = stored.read()
            what = f"{' or '.join(kept.models)} on {kept.dataset.name}, {_searched([*kept.search])}"
        except UserError as error:
            what = str(error)
        click.echo(f"  {name}: {sum(t.state.is_finished() for t in trials)} of {len(trials)} trials ended; {what}")


def _searched(names: list[str]) -> str:
    return f"searching {', '.join(names)}" if names else "several seeds of one configuration"


for command in (*define.COMMANDS, *steer.COMMANDS, *keep.COMMANDS):
    main.add_command(command)
for command in main.commands.values():
    for parameter in command.params:
        if parameter.name in ("study", "studies"):
            parameter.type = StudyName()


if __name__ == "__main__":
    main()
