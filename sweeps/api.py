"""All that a user can do with a study, from Python as from the command line, and what ties running and results together.

`runs`, `best_runs`, `confirmations` and `verdicts` of any study are in `sweeps/results/`.
"""

import dataclasses
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import yaml

import models
from models.sources import of_function
from pipelines.errors import UserError, first_line
from sweeps.study import study_file
from sweeps.study.study import Study as Definition

if TYPE_CHECKING:
    import numpy as np
    import optuna
    import pandas as pd
    from numpy.typing import NDArray
    from rich.console import Console

    from pipelines.backend import Device
    from sweeps.results.systems import System
    from sweeps.running.launch import Result
    from sweeps.running.resources import Resources
    from sweeps.tasks.planning import Until
    from sweeps.tasks.status import Status

WIDE = 160  # columns


def Int(low: int, high: int, *, step: int = 1, log: bool = False, when: Mapping[str, Any] | None = None) -> Any:
    """Search the whole numbers from `low` to `high`, both included; `log`: evenly by their logarithms.

    `when`: only where other searched names have these values, as in a study file.
    """
    return {"int": [low, high], "step": step, "log": log, "when": dict(when or {})}


def Float(
    low: float, high: float, *, step: float | None = None, log: bool = False, when: Mapping[str, Any] | None = None
) -> Any:
    """Search the numbers from `low` to `high`, both included; otherwise as `Int`."""
    return {"float": [low, high], **({"step": step} if step else {}), "log": log, "when": dict(when or {})}


def Choice(*values: Any, when: Mapping[str, Any] | None = None) -> Any:
    """Search among `values`: numbers, texts or booleans; or, of `model`, among names and functions."""
    return {"choice": [*values], "when": dict(when or {})}


@contextmanager
def _in_a_line() -> Iterator[None]:
    """Say in one line, without passwords, what a store's library raised."""
    from sweeps.stores.storage import store_error_line

    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = store_error_line(error)
        if said is None:
            raise
        raise UserError(said) from error


class Study:
    """A study: what to vary, and all that follows. Its name identifies it: the same study, made again, is resumed.

    `model`: a shipped one's name, a module or file as in a study file, or a function `build(*, …) -> keras.Model`, which may be
    defined in a notebook's cell or a script; or a `Choice` of several. `search`: hyperparameters by name, each an `Int`, `Float`
    or `Choice`.
    `budget`: trials, epochs, hours. `dataset`: as in a study file, or arrays: (x, y), (x, y, x_test, y_test), or a dict of such;
    they are kept under `mlruns/datasets/`. `settings`: any other key of a study file (docs/studies.md).

    Raises UserError, with the line that the command line prints, for the first mistake found.
    """

    def __init__(
        self,
        name: str,
        model: str | Callable[..., Any] | Mapping[str, Any],
        *,
        search: Mapping[str, Any] | None = None,
        budget: Mapping[str, Any],
        **settings: Any,
    ):
        where, folders = f"study {name!r}", [Path.cwd()]
        if "dataset" in settings:
            settings["dataset"] = _dataset_of(settings["dataset"], name, settings.get("task"))
        content = {"name": name, "model": model, "search": search or {}, **settings}
        content |= {key: dict(value) for key, value in content.items() if isinstance(value, Mapping)}
        functions = [*_name_models(content, name, folders), *_name_functions(content, name, folders)]

        def defined(larger: Mapping[str, Any]) -> Definition:
            for each in functions:  # the reference may mean a stored source by now
                (models.adopt if each.folder else models.adopt_written)(each)
            given = content | {"budget": dict(budget) if isinstance(budget, Mapping) else budget}
            return study_file.define(given, where, larger, folders=folders)

        self._set(defined)

    def _set(self, defined: Callable[[Mapping[str, Any]], Definition], definition: Definition | None = None) -> None:
        """Set how the study is defined under a larger budget, and what is known of it now."""
        self._defined = defined
        self._definition = definition or defined({})
        self.name = self._definition.name

    def __repr__(self) -> str:
        return f"Study({self.name!r}, model={self._definition.model!r}, search={[*self._definition.search]})"

    @_in_a_line()
    def run(
        self,
        *,
        trials: int | None = None,
        epochs: int | None = None,
        hours: float | None = None,
        new_source: bool = False,
        **resources: Any,
    ) -> None:
        """Run the study until its budget is used up, or resume it; interrupting it (Ctrl-C) loses nothing.

        `trials`, `epochs`, `hours`: a larger budget. `resources`: workers, device and whatever else `sweep run` takes
        (workers=2, device="cpu", executor="ray", …). Raises UserError.
        """
        from sweeps.running import resources as running

        prewarm(**resources)
        definition = self._defined({"trials": trials, "epochs": epochs, "hours": hours})
        run(definition, running.resolve(**resources), _console(), new_source=new_source)

    @_in_a_line()
    def check(self, device: "Device" = "auto") -> str:
        """Return what the study would be, and about what it would cost here, by timing a few batches."""
        from sweeps.tasks import check

        return "\n".join(check.lines(self._definition, device))

    @_in_a_line()
    def runs(self) -> "pd.DataFrame":
        """Return a row for each trial, the best by validation first; `sweeps.runs` says which columns."""
        from sweeps.results import frames

        return frames.runs(self.name)

    @_in_a_line()
    def best_runs(self, top: int = 10) -> "pd.DataFrame":
        """Return the rows of the `top` best complete trials."""
        from sweeps.results import frames

        return frames.best_runs(self.name, top=top)

    @_in_a_line()
    def confirm(
        self,
        seeds: int = 5,
        top: int = 2,
        *,
        final: bool = False,
        until_decided: bool | float = False,
        most: int | None = None,
        **resources: Any,
    ) -> "pd.DataFrame":
        """Train the `top` best configurations again from `seeds` fresh seeds; return the verdicts, as `verdicts` does.

        `final`: then train the chosen one on training and validation images together. `until_decided`: then seeds of it, `most`
        at most (40), until the verdict on a value is decided: True: on the nearest target. The same call resumes it.
        """
        from sweeps.running import resources as running
        from sweeps.tasks import planning

        until = planning.until(None if until_decided is True else until_decided, most) if until_decided else None
        prewarm(**resources)
        confirm(self.name, top, seeds, final, running.resolve(**resources), _console(), until)
        return self.verdicts()

    @_in_a_line()
    def plan(self) -> str:
        """Return what more seeds of the chosen configuration would tell: intervals, differences, and how many for each target."""
        from sweeps.tasks import planning

        return "\n".join(planning.lines(self.name))

    @_in_a_line()
    def verdicts(self) -> "pd.DataFrame":
        """Return a row for each target and each system that was confirmed; empty where published numbers are of other images."""
        from sweeps.results import systems

        return systems.verdicts(self.name)

    @_in_a_line()
    def predict(self, images: "NDArray[np.generic] | Mapping[str, NDArray[np.generic]]") -> "NDArray[np.float32]":
        """Return class probabilities (n, classes), or of a regression the values (n, k), by the best trial's model.

        `images`: examples as the data set has them; of several inputs, arrays by their names.

        Grey images may be (n, height, width); bytes, or floats in 0..255. Raises UserError where no trial is complete, or its
        model was not kept.
        """
        from pipelines import evaluate
        from sweeps.tasks import logged

        best = self.best_runs(1)
        if best.empty:
            raise UserError(f"no trial of study {self.name!r} is complete yet: run it, or resume it")
        trained = logged.load(logged.find(str(best.run_id.iloc[0])))
        x = _examples(images, trained.dataset.shape)
        logits = trained.config.task == "classification" and evaluate.gives_logits(trained.model)
        return evaluate.probabilities(trained.model, x, logits, trained.scaling)

    @_in_a_line()
    def status(self) -> "Status":
        """Return where the study stands, whoever runs it: state, trials, epochs, best value, seconds left, workers by machine."""
        from sweeps.tasks import status

        return status.of(self.name)

    @_in_a_line()
    def stop(self, trial: int | None = None, *, now: bool = False) -> None:
        """Stop the study after its running epochs, wherever it runs, or `now`; or one trial of it, for good.

        Raises UserError where nobody runs it.
        """
        from sweeps.tasks import steer

        if trial is None:
            steer.stop(self.name, now)
        else:
            steer.stop_trial(self.name, trial, now)

    @_in_a_line()
    def enqueue(self, values: Mapping[str, Any], *, trials: int | None = None) -> int:
        """Let the next trial that begins have `values`; the sampler chooses what is not named. Return its number.

        `trials`: a larger budget, whose ticket it may take. Raises UserError for values that the study does not search.
        """
        from sweeps.tasks import steer

        return steer.enqueue(self.name, values, trials=trials).number

    @_in_a_line()
    def delete(self, trial: int | None = None) -> list[str]:
        """Delete the study, and what was confirmed of it, from both stores and the disk, without asking; or one trial of it.

        The same call resumes it. Registered models stay; returns a line for each. Raises UserError while somebody runs it.
        """
        from sweeps.tasks import delete

        if trial is None:
            return delete.study(self.name)
        delete.trial(self.name, trial)
        return []

    @_in_a_line()
    def logs(self, trial: int | None = None) -> str:
        """Return what the workers of the latest call wrote; or, of all calls, what concerns one trial."""
        from sweeps.tasks import logs

        return "\n".join(logs.lines(self.name, trial))

    @_in_a_line()
    def watch(self) -> None:
        """Show the study, without training, until nobody runs it any more."""
        from sweeps.tasks import status

        status.watch(self.name, _console())

    @property
    def optuna(self) -> "optuna.Study":
        """Optuna's own view of the study, to be read."""
        from sweeps.stores.record import StoredStudy

        return StoredStudy(self.name).store.study()

    @property
    def mlflow(self) -> dict[str, str]:
        """Where MLflow has it: experiment_id, and the run_id of its parent run."""
        from sweeps.stores.record import StoredStudy

        parent = StoredStudy(self.name).parent_run()
        return {"experiment_id": parent.experiment_id, "run_id": parent.run_id}

    def to_yaml(self) -> str:
        """Return the study as a study file, with what its model's recipe leaves open as it is now."""
        return yaml.safe_dump(self._definition.model_dump(mode="json", by_alias=True), sort_keys=False)


@_in_a_line()
def status() -> "pd.DataFrame":
    """Return where every stored study stands: a row each, the columns those of `Study.status`."""
    import pandas as pd

    from sweeps.tasks import status

    return pd.DataFrame([vars(each) for each in status.of_all()], columns=[*status.Status.__dataclass_fields__])


def init(folder: str | Path = ".") -> list[Path]:
    """Write a model, data and a study file to begin with into a folder; return them. Raises UserError where one is there."""
    from sweeps.tasks import init

    return init.write(Path(folder))


@_in_a_line()
def export(studies: Sequence[str], file: str | Path | TextIO) -> int:
    """Write a row for each trial of one study or several, as `runs` has them, as CSV; return how many. Raises UserError."""
    from sweeps.results import frames

    rows = frames.runs(studies[0] if len(studies) == 1 else studies)
    try:
        rows.to_csv(file, index=False)
    except OSError as error:
        raise UserError(f"cannot write {file} ({first_line(error)}): name another place") from error
    return len(rows)


@_in_a_line()
def clean(keep_models: int, older: str | None = None) -> int:
    """Delete, without asking, the models of all but the best `keep_models` trials of each study; return the bytes freed.

    `older`: only of studies that have not run for so long ("12h", "30d", "2w"). Registered models stay, and studies that run.
    """
    from sweeps.tasks import clean

    found = clean.surplus(keep_models, older)
    for each in found:
        each.remove()
    return sum(each.size for each in found)


def open_study(name: str) -> Study:
    """Return a stored study, to be read or resumed; its model and data set need not be here to read it. Raises UserError."""
    from sweeps.stores.record import StoredStudy

    stored = StoredStudy(name)
    opened = Study.__new__(Study)
    opened._set(stored.resumable, stored.read(as_written=True))
    return opened


def _dataset_of(given: Any, study: str, task: Any) -> Any:
    """Return how a study file says what was given: arrays are kept first, under the name of the study."""
    from pipelines import datasets
    from pipelines.datasets.spec import KINDS

    if isinstance(given, str) or (isinstance(given, Mapping) and given.keys() & KINDS.keys()):
        return given
    called, labels = re.sub(r"[^\w .-]", "_", str(study)), "numbers" if task == "regression" else None
    try:
        return datasets.of_arrays(given() if callable(given) else given, called, labels=labels).content()
    except UserError as error:
        raise UserError(f"study {study!r}: dataset: {error}") from error


def _examples(given: Any, shape: Any) -> Any:
    """Return examples as floats; raises UserError unless they are of `shape`, each of several inputs under its name."""
    import numpy as np

    from pipelines.datasets import Inputs

    if isinstance(shape, dict):
        names = [*given] if isinstance(given, Mapping) else []
        if {*names} != shape.keys():
            said = ", ".join(map(str, names)) or "no names"
            raise UserError(f"examples with the inputs {', '.join(shape)} are expected, each an array; got {said}")
        return Inputs({name: _examples(given[name], of_one) for name, of_one in shape.items()})
    x = np.asarray(given, np.float32)
    x = x[..., np.newaxis] if x.shape[1:] == shape[:-1] and shape[-1] == 1 else x
    if x.shape[1:] != shape:
        raise UserError(f"examples of shape {x.shape[1:]}: expected {shape} each")
    return x


def _name_models(content: dict[str, Any], study: str, folders: list[Path]) -> list[models.Source]:
    """Name the models in `content` that are functions as a study file names them, and return their sources.

    A function's module is named after the study; after the function too, if there are several models.
    """
    sources = []

    def named(given: Any, module: str) -> Any:
        if isinstance(given, str):
            return given
        try:
            sources.append(of_function(given, module, folders))
        except models.NoModel as error:
            raise UserError(f"study {study!r}: model: {error}") from error
        return sources[-1].reference

    module, model = f"{_module(study)}_model", content["model"]
    if isinstance(model, Mapping) and isinstance(model.get("choice"), list | tuple):
        several = [named(each, f"{module}_{getattr(each, '__name__', '')}") for each in model["choice"]]
        content["model"] = {**model, "choice": several}
    else:
        content["model"] = named(model, module)
    return sources


def _name_functions(content: dict[str, Any], study: str, folders: list[Path]) -> list[models.Source]:
    """Name the metrics in `content` that are functions as a study file names them, and return their sources."""
    sources = []

    def named(given: Any) -> Any:
        if isinstance(given, Mapping):
            return {**given, "name": named(given.get("name"))}
        if not callable(given):
            return given
        try:
            found = of_function(given, f"{_module(study)}_{getattr(given, '__name__', '')}", folders)
        except models.NoModel as error:
            raise UserError(f"study {study!r}: metric: {error}") from error
        sources.append(dataclasses.replace(found, reference=f"{found.entry}:{found.function}"))
        return sources[-1].reference

    for key in ("objectives", "metrics"):
        if isinstance(content.get(key), list | tuple):
            content[key] = [named(each) for each in content[key]]
    return sources


def _module(study: str) -> str:
    """Return a name for a module of a study's functions."""
    module = re.sub(r"\W", "_", str(study))
    return (
        module if module == study else f"{module}_{zlib.crc32(str(study).encode()):08x}"
    )  # another's may read the same


def prewarm(executor: str = "processes", workers: int | None = None, **_: Any) -> None:
    """Let workers' libraries be loaded while this process loads its own: they take seconds in each."""
    from pipelines import backend
    from sweeps.running.executors import processes

    if executor == "processes" and workers != 0:
        backend.name()  # which it notes in the environment, as workers find it
        processes.prewarm()


def run(study: Definition, resources: "Resources", console: "Console", *, new_source: bool = False) -> "Result":
    """Run a study, say what came of it, and log its report to its parent run."""
    if study.search:
        from sweeps.results import report  # noqa: F401  # for the end, now that the worker is loading too
    from sweeps.results import summary
    from sweeps.running import launch

    with summary.Writer(study.name) as writer:
        result = launch.run(study, resources, console, new_source=new_source)
    if writer.failed:
        console.print(f"the summary on the parent run is not up to date ({writer.failed})", soft_wrap=True)
    for line in launch.closing_summary(study, result):
        console.print(line, soft_wrap=True)
    if study.search and result.snapshot.completed and not result.interrupted:
        _log_report(study.name, console)
    else:
        _summarise(study.name, console)
    return result


def confirm(
    name: str,
    top: int,
    seeds: int,
    final: bool,
    resources: "Resources",
    console: "Console",
    until: "Until | None" = None,
) -> bool:
    """Confirm the best configurations of a study, and promote its champion; False when it was stopped before its end."""
    from pipelines import backend
    from sweeps.results import systems
    from sweeps.tasks import champion
    from sweeps.tasks import confirm as confirming

    if not confirming.run(name, top, seeds, resources, console, final, until):
        systems.show(name, console)
        return False
    systems.show(name, console, _log_report(name, console))
    backend.configure("cpu")  # the champion's model is read and written here
    backend.load()
    console.print(champion.promote(name), soft_wrap=True)
    return True


def _log_report(study: str, console: "Console") -> "list[System] | None":
    """Write report and summary to the parent run; return the systems with a verdict, or None where that cannot be now."""
    from sweeps.results import report
    from sweeps.stores.storage import kind_of

    try:
        found = report.log(study)
    except Exception as error:
        if not (isinstance(error, UserError) or kind_of(error).passes):
            raise
        console.print(f"no report yet ({first_line(error)}): sweep report {study} writes it", soft_wrap=True)
        return None
    _summarise(study, console)
    return found


def _summarise(study: str, console: "Console") -> None:
    """Write the summary to the parent run, unless a store is away: the next call does so then."""
    from sweeps.results import summary
    from sweeps.stores.storage import kind_of

    try:
        summary.write(study)
    except Exception as error:
        if not (isinstance(error, UserError) or kind_of(error).passes):
            raise
        console.print(f"the summary on the parent run is not up to date ({first_line(error)})", soft_wrap=True)


def _console() -> "Console":
    """Return where a notebook or a script is told what happens: lines of text."""
    from rich.console import Console

    return Console(markup=False, highlight=False, width=WIDE, force_jupyter=False)
