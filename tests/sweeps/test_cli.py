"""The command line: every command documented with an example, every mistake one line and exit code 2."""

import contextlib
import importlib
import os
import re
import signal
import socket
import sqlite3
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from click.testing import CliRunner
from optuna.trial import TrialState

from pipelines import datasets, paths
from pipelines.tracking import store as tracking
from sweeps.cli import main
from sweeps.results import frames
from sweeps.running import launch
from sweeps.running.resources import ThisMachine
from sweeps.stores import record
from sweeps.stores.store import Store
from sweeps.study import study_file
from sweeps.tasks import ui
from tests.conftest import ROOT, Sweep, eventually

COMMANDS = [
    "run",
    "retry",
    "baselines",
    "best",
    "confirm",
    "report",
    "predict",
    "rerun",
    "doctor",
    "ui",
    "studies",
    "explain",
    "dashboard",
    "worker",
    "migrate",
    "status",
    "stop",
    "watch",
    "enqueue",
    "logs",
    "delete",
    "init",
    "check",
    "clean",
    "export",
]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def options_of(command: str) -> set[str]:
    return {name for parameter in main.commands[command].params for name in parameter.opts if name.startswith("--")}


def test_the_commands_are_those_documented() -> None:
    assert sorted(main.commands) == sorted(COMMANDS)
    readme = (ROOT / "README.md").read_text()
    for command in COMMANDS:
        assert f"sweep {command}" in readme, command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example_that_exists(command: str) -> None:
    code, out = call(command, "--help")
    assert code == 0
    (example,) = re.findall(r"Example:\n\s+(sweep .+)", out)
    words = example.split()
    assert words[1] == command
    assert {word for word in words if word.startswith("--")} <= options_of(command)


def test_docs_name_only_commands_options_and_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    variables = set(re.findall(r"\$\(call (?:option|flag),([A-Z_]+),", (ROOT / "Makefile").read_text())) | {
        "STUDY",
        "ONLY",
        "SET",
    }
    for path in DOCS:
        text = path.read_text()
        for line in re.findall(r"(?:^|`)make ([a-z-]+[^`\n#]*)", text, re.M):
            assert line.split()[0] in targets, f"{path.name}: make {line}"
            assert set(re.findall(r"\b([A-Z]+)=", line)) <= variables, f"{path.name}: make {line}"
        for command, rest in re.findall(r"(?:^|`)(?:\.venv/bin/)?sweep ([a-z]+)([^`\n]*)", text, re.M):
            assert command in COMMANDS, f"{path.name}: sweep {command}"
            assert set(re.findall(r"--[a-z-]+", rest)) <= options_of(command) | {"--help"}, (
                f"{path.name}: {command}{rest}"
            )


@pytest.mark.parametrize(
    ("variable", "command", "further"),
    [
        ("OPTIONS", "run", {"--set"}),
        ("BASELINES", "baselines", {"--only", "--output"}),
        ("EXPLAIN", "explain", {"--only"}),
    ],
)
def test_makefile_variables_are_the_options(variable: str, command: str, further: set[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    defined = dict(re.findall(r"^([A-Z]+)\s*= ((?:.*\\\n)*.*)", makefile, re.MULTILINE))
    definition = defined[variable].replace("$(CREW)", defined["CREW"])
    pairs = re.findall(r"\$\(call (?:option|flag),([A-Z_]+),([a-z-]+)\)", definition)
    assert {f"--{option}" for _, option in pairs} == options_of(command) - {"--help"} - further
    assert all(name.lower().replace("_", "-") == option for name, option in pairs)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "lean_cn"], "unknown study 'lean_cn' (did you mean 'lean_cnn'?)"),
        (["run", "quickstart", "--trials", "0"], "quickstart.yaml: budget.trials: "),
        (["run", "quickstart", "--hours", "-1"], "quickstart.yaml: budget.hours: "),
        (["run", "quickstart", "--epochs", "-1"], "quickstart.yaml: budget.epochs: "),
        (["run", "quickstart", "--workers", "-1"], "--workers -1: expected at least 1"),
        (["run", "quickstart", "--seed", "-1"], "quickstart.yaml: seed: "),
        (["run", "quickstart", "--dataset", "cifar"], "expected one of mnist, fashion-mnist, mnist-5k"),
        (["best"], "no study has been run yet: begin with "),
        (["best", "lean_cnn"], "no study has been run yet"),
        (["ui"], "there is nothing to show yet"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(arguments: list[str], expected: str, outputs: Path) -> None:
    code, out = call(*arguments)
    assert code == 2
    assert out.startswith("error: ") and expected in out and out.count("\n") == 1
    assert not outputs.exists()


@pytest.mark.parametrize("arguments", [["run", "--trials", "abc"], ["rnu"], ["run", "--nonsense"], ["run", "a", "b"]])
def test_a_mistyped_command_is_one_line_too(arguments: list[str], outputs: Path) -> None:
    code, out = call(*arguments)
    assert code == 2 and out.startswith("error: ") and out.count("\n") == 1


def test_debug_shows_the_traceback_of_a_mistake() -> None:
    result = CliRunner().invoke(main, ["--debug", "run", "lean_cn"])
    assert result.exit_code == 1 and "Traceback" in result.output and "UserError" in result.output


def test_mnist_asked_for_and_not_to_be_had_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outputs: Path
) -> None:
    monkeypatch.setenv("MNIST_DIR", str(tmp_path))
    for arguments in (["run", "--dataset", "mnist"], ["run", "lean_cnn"]):
        code, out = call(*arguments)
        assert code == 2 and "put the four IDX files or mnist.npz there" in out
        assert not outputs.exists()


@pytest.mark.parametrize("folder", ["/proc/nowhere", "/dev/null/nowhere"])
def test_outputs_that_cannot_be_written_are_a_mistake(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setenv("MLRUNS_DIR", folder)
    code, out = call("run", "quickstart")
    assert code == 2 and "cannot write to" in out and "MLRUNS_DIR" in out and out.count("\n") == 1


def test_a_store_that_cannot_be_opened_is_a_mistake(monkeypatch: pytest.MonkeyPatch, outputs: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "foo://bar")
    for arguments in (["run", "quickstart"], ["best"]):
        code, out = call(*arguments)
        assert code == 2 and "check MLFLOW_TRACKING_URI" in out and out.count("\n") == 1
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("OPTUNA_STORAGE", "sqlite:////proc/none/optuna.db")
    code, out = call("run", "quickstart")
    assert code == 2 and "check OPTUNA_STORAGE" in out and out.count("\n") == 1
    assert not (outputs / "optuna.db").exists()


def test_one_database_for_both_stores_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outputs: Path
) -> None:
    for variable in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE"):
        monkeypatch.setenv(variable, f"sqlite:///{tmp_path / 'one.db'}")
    code, out = call("run", "quickstart")
    assert code == 2 and "name the same database" in out and out.count("\n") == 1
    assert not outputs.exists() and not (tmp_path / "one.db").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("made_stores")
@pytest.mark.parametrize(
    ("name", "damage", "expected"),
    [
        ("mlflow.db", "update alembic_version set version_num = 'ffffffffffff'", "but expected"),  # newer
        ("mlflow.db", "update alembic_version set version_num = '451aebb31d03'", "mlflow db upgrade"),  # older
        ("mlflow.db", "update alembic_version set version_num = 'v3.2.0.a'", "mlflow.db damaged, or of another"),
        ("optuna.db", "update alembic_version set version_num = 'v99.0.0.a'", "updating optuna"),  # newer
        ("optuna.db", "update alembic_version set version_num = 'v2.6.0.a'", "optuna storage upgrade"),  # older
        ("mlflow.db", None, "mlflow.db damaged, or of another program?"),
        ("optuna.db", None, "optuna.db damaged, or of another program?"),
    ],
)
def test_a_database_of_another_schema_is_a_mistake(
    sweep: Callable[..., Sweep], outputs: Path, name: str, damage: str | None, expected: str
) -> None:
    if damage is None:
        (outputs / name).write_bytes(b"no database at all" * 1000)
    else:
        with contextlib.closing(sqlite3.connect(outputs / name)) as database:
            database.execute(damage)
            database.commit()
    code, _, err = sweep("run", "quickstart").wait(
        60
    )  # a process of its own: MLflow remembers a database that it has seen
    assert code == 2 and expected in err and err.count("\n") == 1


@pytest.mark.slow
def test_a_stored_study_can_be_shown_and_gone_on_with(
    run_here: Callable[..., Store], write_study: Callable[..., Path]
) -> None:
    tiny = {"model": "tests.tiny_model", "search": {"units": {"int": [4, 8]}}, "start": []}
    settings = {"epochs": 1, "batch_size": 500}
    path = write_study(**tiny, training=settings, budget={"trials": 1})
    run_here(study_file.load(str(path)))
    path = write_study(**tiny, training=settings, sampler="random", budget={"trials": 2})
    code, out = call("run", path)
    assert code == 2 and out.count("\n") == 1
    assert "under another definition (sampler was tpe, is random): " in out
    assert "give the changed study another name, or resume the stored one (sweep run tiny --stored)" in out
    code, out = call("studies", "tiny")
    assert code == 0 and study_file.check(yaml.safe_load(out), "shown").definition() == (
        record.restore("tiny", Store("tiny").attributes()).definition()
    )
    code, out = call("studies")
    assert "tiny: 1 of 1 trials ended; tests.tiny_model on mnist-5k, searching units" in out
    code, out = call("run", "tiny", "--stored", "--trials", 2)
    assert code == 0 and "2 of 2 trials done" in out
    assert Store("tiny").attributes()["study"]["sampler"] == "tpe"


def test_what_differs_is_said_and_nothing_else(
    run_here: Callable[..., Store], write_study: Callable[..., Path]
) -> None:
    search: dict[str, Any] = {"units": {"int": [4, 8]}, "rate": {"float": [0.0, 0.5]}}
    tiny = {"model": "tests.tiny_model", "start": [], "training": {"epochs": 1, "batch_size": 500}}
    run_here(study_file.load(str(write_study(**tiny, search=search, budget={"trials": 1}))))
    changed = search | {"units": {"int": [4, 16], "log": True}}
    code, out = call("run", write_study(**tiny, search=changed, budget={"trials": 1}))
    assert code == 2
    assert "under another definition (search.units was {int: [4, 8]}, is {int: [4, 16], log: true}): give" in out


def test_a_study_without_a_trial_takes_a_new_definition_and_hides_nobodys_results(
    run_here: Callable[..., Store], write_study: Callable[..., Path]
) -> None:
    tiny = {
        "model": "tests.tiny_model",
        "start": [],
        "training": {"epochs": 1, "batch_size": 500},
        "budget": {"trials": 1},
    }
    run_here(study_file.load(str(write_study(**tiny, search={"units": {"int": [4, 8]}}))))
    other = study_file.load(str(write_study(**tiny, search={"units": {"int": [4, 8]}}, name="other")))
    launch._prepare(other, datasets.load("mnist-5k"), ThisMachine(device="cpu"), "sweep")[0].queue(
        1
    )  # and then Ctrl-C, before a worker was there
    assert frames.runs().study.unique().tolist() == ["tiny"]
    changed = study_file.load(
        str(write_study(**tiny, search={"units": {"int": [4, 9]}}, name="other", sampler="random"))
    )
    store = run_here(changed)
    assert store.attributes()["definition"] == changed.definition()
    assert frames.runs().study.unique().tolist() == ["other"]


def test_a_gpu_that_is_not_there_is_a_mistake_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, outputs: Path
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    code, out = call("run", "quickstart", "--device", "gpu")
    assert code == 2 and "--device gpu, but there is no NVIDIA GPU here" in out and out.count("\n") == 1
    assert not outputs.exists()


def test_a_study_whose_first_parent_ended_early_goes_on(
    run_here: Callable[..., Store], write_study: Callable[..., Path]
) -> None:
    tiny = {"model": "tests.tiny_model", "search": {"units": {"int": [4, 8]}}, "start": []}
    wanted = study_file.load(str(write_study(**tiny, training={"epochs": 1, "batch_size": 500}, budget={"trials": 1})))
    paths.make_mlruns()
    half = Store.create("tiny")
    half.remember("definition", wanted.definition())
    assert run_here(wanted).trials()[0].state == TrialState.COMPLETE


def test_the_stored_study_holds_when_its_models_defaults_change(
    run_here: Callable[..., Store], write_study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    source = (ROOT / "tests" / "tiny_model.py").read_text()
    (tmp_path / "mine.py").write_text(source)
    mine = {"model": "mine", "search": {"units": {"int": [4, 16]}}, "start": ["recipe"]}
    path = write_study(**mine, training={"epochs": 1, "batch_size": 500}, budget={"trials": 1})
    store = run_here(study_file.load(str(path)))
    (tmp_path / "mine.py").write_text(source.replace("units: int = 8", "units: int = 16"))
    monkeypatch.delitem(sys.modules, "mine")
    importlib.invalidate_caches()
    code, out = call("run", path)
    assert code == 2 and "start was [{units: 8}], is [{units: 16}]" in out
    kept = record.restore("tiny", store.attributes(), {"trials": 2})
    assert [trial.state for trial in run_here(kept).trials()] == [TrialState.COMPLETE] * 2


def test_a_model_that_cannot_be_deleted_does_not_stop_the_sweep(
    run_here: Callable[..., Store], write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = {"model": "tests.tiny_model", "search": {"units": {"int": [4, 8]}}, "start": [], "pruner": "none"}
    settings = {"epochs": 1, "batch_size": 500}
    run_here(study_file.load(str(write_study(**tiny, training=settings, budget={"trials": 2}))))
    for run in tracking.trial_runs(tracking.find_experiment("tiny").experiment_id):
        tracking.client().delete_run(run.run_id)  # as in the UI
    store = run_here(study_file.load(str(write_study(**tiny, training=settings, budget={"trials": 3}, keep_models=1))))
    assert [trial.state for trial in store.trials()] == [TrialState.COMPLETE] * 3
    assert "cannot be deleted" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("made_stores")
def test_a_grid_ends_after_its_last_point_and_says_so(
    sweep: Callable[..., Sweep], write_study: Callable[..., Path]
) -> None:
    path = write_study(
        model="tests.tiny_model",
        training={"epochs": 1, "batch_size": 500},
        search={"units": {"int": [4, 8], "step": 4}, "activation": {"choice": ["relu"]}},
        start=["recipe"],
        sampler="auto",
        budget={"trials": 5},
    )
    code, out, err = sweep("run", path).wait()
    assert (code, err) == (0, "")
    assert "sampler grid, chosen because: all 2 combinations fit the budget" in out
    assert "2 of 2 trials done" in out and "all combinations of the grid have been tried" in out
    assert [trial.params["units"] for trial in Store("tiny").trials()] == [8, 4]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "--stored"], "there is no study 'lean_cnn' in "),
        (["run", "tiny", "--stored", "--seed", "3"], "takes neither --dataset nor --seed"),
        (["run", "tiny.yaml", "--stored"], "resumes a study by its name, and reads no file: got tiny.yaml"),
        (["studies", "tiny"], "there is no study 'tiny' in "),
    ],
)
def test_what_is_not_stored_cannot_be_gone_on_with(arguments: list[str], expected: str, outputs: Path) -> None:
    code, out = call(*arguments)
    assert code == 2 and expected in out and out.count("\n") == 1
    assert not outputs.exists()


def test_an_unknown_backend_is_a_mistake(monkeypatch: pytest.MonkeyPatch, outputs: Path) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "caffe")
    code, out = call("run", "quickstart")
    assert code == 2 and "KERAS_BACKEND=caffe is unknown" in out
    assert not outputs.exists()


@pytest.mark.slow
def test_the_ui_serves_the_store_and_ends_when_told_to(sweep: Callable[..., Sweep], outputs: Path) -> None:
    outputs.mkdir()
    experiment = tracking.open_experiment("shown")
    tracking.open_parent(experiment, "uid", "sweep", {})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = sweep("ui", "--port", port)
    search = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=10"

    def answer() -> str:
        try:
            with urllib.request.urlopen(search, timeout=5) as response:
                return str(response.read().decode())
        except OSError:
            return ""

    def connections() -> list[Any]:
        server = psutil.Process(command.process.pid)
        try:
            return [
                each for process in (server, *server.children(recursive=True)) for each in process.net_connections()
            ]
        except (psutil.NoSuchProcess, FileNotFoundError):  # a helper of the server's ended meanwhile
            return []

    assert '"shown"' in eventually(answer)
    listening = {
        connection.laddr.ip for connection in eventually(connections) if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
    for foreign in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):  # a page that the user has open, say
        create = urllib.request.Request(search.replace("search?max_results=10", "create"), b'{"name": "x"}', foreign)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(create, timeout=5)
        assert refused.value.code == 403
    command.process.terminate()
    command.process.wait(60)
    with contextlib.suppress(
        ProcessLookupError
    ):  # MLflow's helpers may outlive it, if they were just starting, and hold the output
        os.killpg(command.process.pid, signal.SIGKILL)
    _, out, _ = command.wait(60)
    runs = f"http://127.0.0.1:{port}/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
    assert f"trials of shown, ranked: {runs}&compareRunsMode=TABLE\n" in out  # no study of ours: there is no view of it
    assert f"curves of shown: {runs}&compareRunsMode=CHART\n" in out
    eventually(lambda: answer() == "", timeout=20)


@pytest.mark.usefixtures("made_stores")
def test_a_browser_is_opened_where_somebody_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(os, "execve", lambda *_: None)
    monkeypatch.setattr(ui, "open_later", opened.append)
    for arguments in (
        ["--no-browser"],
        [],
        ["--browser", "--host", "::1"],
    ):  # by itself not where nobody sits before it
        assert call("ui", *arguments)[0] == 0
    assert opened == ["http://[::1]:5000"]


@pytest.mark.usefixtures("made_stores")
@pytest.mark.parametrize(
    ("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("::1", False), ("0.0.0.0", True), ("gpu1", True)]
)
def test_a_ui_that_others_can_reach_warns(monkeypatch: pytest.MonkeyPatch, host: str, warned: bool) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda program, command, environment: started.append(command))
    code, out = call("ui", "--host", host, "--no-browser")
    assert code == 0 and (f"warning: whoever reaches {host}:5000 can read, change and delete" in out) == warned
    assert started[0][started[0].index("--host") + 1] == host


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("MLFLOW_TRACKING_URI", "http://me:s3cret@127.0.0.1:1"),
        ("MLFLOW_TRACKING_URI", "postgresql://me:s3cret@127.0.0.1:1/mlflow"),
        ("OPTUNA_STORAGE", "postgresql://me:s3cret@127.0.0.1:1/optuna"),
        ("OPTUNA_STORAGE", "postgresql://127.0.0.1:1/optuna?user=me&password=s3cret"),
        ("OPTUNA_STORAGE", "nonsense://me:s3cret@127.0.0.1:1/optuna"),
        ("OPTUNA_STORAGE", "postgresql://me:abc@def:s3cret/jkl@db/optuna"),
    ],
)
def test_no_password_is_ever_printed(monkeypatch: pytest.MonkeyPatch, variable: str, url: str) -> None:
    monkeypatch.setenv(variable, url)
    for arguments in (["best"], ["doctor"], ["studies"], ["run", "quickstart"], ["--debug", "run", "quickstart"]):
        code, out = call(*arguments)
        assert "s3cret" not in out
        if "--debug" not in arguments and code:
            assert code == 2 and out.count("error: ") == 1 and "Traceback" not in out


@pytest.mark.slow
@pytest.mark.usefixtures("made_stores")
def test_without_mnist_the_default_is_quickstart_and_says_so(
    sweep: Callable[..., Sweep], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MNIST_DIR", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    code, out, _ = sweep("run", "--epochs", 1).wait()
    assert code == 1 and "Running quickstart instead" in out  # no trial is complete after one epoch
    assert "study quickstart: model lean_cnn, data set mnist-5k" in out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["lean_cnn", "--until-decided", "--most", "2"], "--most 2: expected at least 3"),
        (["--until-decided", "lean_cnn"], "--until-decided lean_cnn: expected a number, such as 99.48, or none for"),
        (["lean_cnn", "--most", "7"], "--most 7 limits --until-decided: give that too"),
        (["lean_cnn", "--until-decided", "--most", "9"], "there is no study 'lean_cnn'"),  # what is missing is no value
    ],
)
def test_until_decided_may_have_a_value_and_a_limit(arguments: list[str], complaint: str) -> None:
    code, out = call("confirm", *arguments)
    assert code == 2 and complaint in out
