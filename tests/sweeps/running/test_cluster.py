"""One study on several machines: PostgreSQL, an MLflow server and Ray nodes, all real; they die in turn."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import TrialState

from deploy.loopback import Cluster, MlflowServer, Postgres, Unavailable, as_machine
from sweeps.stores.lease import Lease, this_machine
from sweeps.stores.store import Store
from tests.conftest import ROOT, Sweep, eventually
from tests.sweeps.looking import check_consistent, experiment_runs

Start = Callable[..., Sweep]
Write = Callable[..., Path]


@pytest.fixture
def stores(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    """Both stores where every machine reaches them."""
    with MlflowServer(tmp_path, postgres.new_database(), tmp_path) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        monkeypatch.setenv("OPTUNA_STORAGE", postgres.new_database())
        yield server


class Machine:
    """A `sweep` command on a machine of its own, as far as host name, process numbers and outputs go."""

    def __init__(self, folder: Path, name: str, *arguments: object):
        command = [sys.executable, "-m", "sweeps.cli", *map(str, arguments)]
        self.outputs = folder / name
        self.process = subprocess.Popen(
            as_machine(name, command),
            cwd=ROOT,
            env=os.environ | {"MLRUNS_DIR": str(self.outputs)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def terminate(self) -> None:
        """Send SIGTERM to the command, as a scheduler does."""
        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        next(each for each in family if each.cmdline()[1:3] == ["-m", "sweeps.cli"]).terminate()

    def wait(self, timeout: float = 240) -> tuple[int, str]:
        """Return exit code and output."""
        out, _ = self.process.communicate(timeout=timeout)
        return self.process.returncode, out


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    """Start commands on machines of their own; what still runs at the end of the test is killed."""
    started: list[Machine] = []

    def start(name: str, *arguments: object) -> Machine:
        started.append(Machine(tmp_path, name, *arguments))
        return started[-1]

    yield start
    for each in started:
        for process in (
            [*psutil.Process(each.process.pid).children(recursive=True)] if each.process.poll() is None else []
        ):
            process.kill()
        each.process.kill()
        each.process.communicate()


@pytest.mark.long
def test_a_trial_begun_on_one_machine_goes_on_on_another(
    stores: MlflowServer, write_study: Write, machine: Callable[..., Machine]
) -> None:
    first = machine("one", "run", write_study(budget={"trials": 1}, training={"epochs": 8, "batch_size": 200}))
    eventually(lambda: _reported() >= 2)
    first.terminate()
    code, out = first.wait()
    assert code == 130 and "the same command resumes it" in out
    (trial,) = Store("tiny").trials()
    assert trial.state == TrialState.WAITING and 2 <= len(trial.intermediate_values) < 8

    code, out = machine("two", "worker", "tiny").wait()
    assert code == 0 and "1 of 1 trials done" in out
    check_consistent(trials=1, epochs=8)
    assert Store("tiny").epochs_spent() == 8  # none was trained twice
    (trial,) = Store("tiny").trials()
    lease = Lease.parse(trial.user_attrs["lease"])
    if os.geteuid() == 0:
        assert lease is not None and lease.worker.machine.startswith("two/") and not lease.worker.here
    assert "faults" not in trial.user_attrs


@pytest.mark.long
def test_machines_share_a_study_and_each_leaves_when_nothing_is_left(
    stores: MlflowServer, write_study: Write, machine: Callable[..., Machine], sweep: Start
) -> None:
    watcher = sweep("run", write_study(budget={"trials": 4}), "--workers", 0)
    assert "no worker here" in watcher.lines_until("0 of 4 trials done")[0]
    joined = [machine(name, "worker", "tiny") for name in ("one", "two")]
    assert [each.wait()[0] for each in joined] == [0, 0]
    code, out, err = watcher.wait()
    assert (code, err) == (0, "") and "4 of 4 trials done" in out
    check_consistent(trials=4)
    if os.geteuid() == 0:
        leases = [Lease.parse(trial.user_attrs["lease"]) for trial in Store("tiny").trials()]
        assert {lease.worker.machine.partition("/")[0] for lease in leases if lease} <= {"one", "two"}
        assert this_machine() not in {lease.worker.machine for lease in leases if lease}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """All parts, with a node here and one that is another machine."""
    try:
        with Cluster(tmp_path_factory.mktemp("cluster"), cpus=1) as parts:
            yield parts
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def on_cluster(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster, with an Optuna database of the test's own, for the commands that the test starts."""
    for name, value in (cluster.environment | {"OPTUNA_STORAGE": cluster.postgres.new_database()}).items():
        monkeypatch.setenv(name, value)
    return cluster


@pytest.mark.long
def test_a_node_the_mlflow_server_and_the_database_die_in_turn_and_nothing_is_lost(
    on_cluster: Cluster, sweep: Start, write_study: Write
) -> None:
    trials, epochs = 6, 8
    path = write_study(budget={"trials": trials}, training={"epochs": epochs, "batch_size": 200})
    command = sweep("run", path, "--executor", "ray", "--workers", 2)
    elsewhere = eventually(lambda: [trial for trial, lease in _running() if lease and not lease.worker.here], 180)
    eventually(lambda: Store("tiny").epochs_spent() >= 2)
    on_cluster.nodes[1].kill()
    on_cluster.add_node()  # the cluster grows again
    eventually(lambda: "faults" in Store("tiny").reread(elsewhere[0]).user_attrs, 180)

    # A trial can neither begin nor end without MLflow: one that has most of its epochs before it goes on.
    eventually(lambda: [trial for trial, _ in _running() if 1 <= len(trial.intermediate_values) <= 3], 180)
    before = epochs_reported_there()
    on_cluster.server.kill()
    eventually(lambda: epochs_reported_there() >= before + 1)  # the training goes on
    on_cluster.server.start()

    on_cluster.postgres.kill()
    on_cluster.postgres.start()

    code, out, err = command.wait()
    assert code == 0, (out, err)
    check_consistent(trials, epochs)
    charged = [trial.user_attrs["faults"] for trial in Store("tiny").trials() if "faults" in trial.user_attrs]
    assert charged == [["its worker is gone with its node"]]
    # The node's death costs the epoch under way, that of the database the epoch of each worker.
    assert trials * epochs <= Store("tiny").epochs_spent() <= trials * epochs + 4
    parents = experiment_runs("tags.phase = 'study'")
    assert [parent.status for parent in parents] == ["FINISHED"]


@pytest.mark.long
def test_the_command_is_killed_its_workers_end_and_the_same_command_goes_on(
    on_cluster: Cluster, sweep: Start, write_study: Write
) -> None:
    trials, epochs = 3, 8
    path = write_study(budget={"trials": trials}, training={"epochs": epochs, "batch_size": 200})
    command = sweep("run", path, "--executor", "ray", "--workers", 2)
    eventually(lambda: len([trial for trial, _ in _running() if trial.intermediate_values]) == 2, 180)
    os.killpg(command.process.pid, signal.SIGKILL)
    eventually(lambda: not Store("tiny").running())  # each worker gives its trial back, and ends
    states = [trial.state for trial in Store("tiny").trials()]
    assert TrialState.WAITING in states and TrialState.FAIL not in states

    code, out, err = sweep("run", path, "--executor", "ray", "--workers", 2).wait()
    assert code == 0, (out, err)
    check_consistent(trials, epochs)
    assert not [trial for trial in Store("tiny").trials() if "faults" in trial.user_attrs]
    assert trials * epochs <= Store("tiny").epochs_spent() <= trials * epochs + 2  # the epoch under way of each worker


@pytest.mark.long
def test_what_the_cluster_does_not_have_is_said_in_one_line(
    on_cluster: Cluster, sweep: Start, write_study: Write
) -> None:
    code, _, err = sweep("run", write_study(), "--executor", "ray", "--gpus-per-trial", 0.5).wait()
    assert code == 2 and err.count("\n") == 1
    assert "a trial is to have 1 CPUs and 0.5 GPUs, and no node of the cluster has so many" in err
    code, _, err = sweep("run", write_study(), "--executor", "ray", "--cpus-per-trial", 0).wait()
    assert code == 2 and "expected some CPU" in err


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (
            ["--executor", "ray"],
            {},
            "needs stores that every node reaches: set OPTUNA_STORAGE and MLFLOW_TRACKING_URI",
        ),
        (
            ["--executor", "ray"],
            {
                "OPTUNA_STORAGE": "postgresql://db/x",
                "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
                "RAY_ADDRESS": "127.0.0.1:1",
            },
            "no Ray cluster answers",
        ),
        (["--gpus-per-trial", "0.5"], {}, "they need --executor ray"),
        (["--trials-per-worker", "0"], {}, "--trials-per-worker 0: expected at least 1"),
        (["--workers", "-1"], {}, "--workers -1: expected at least 1, or 0 to watch"),
    ],
)
def test_a_crew_that_cannot_be_had_is_one_clear_line(
    sweep: Start, monkeypatch: pytest.MonkeyPatch, arguments: list[str], environment: dict[str, str], message: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code, _, err = sweep("run", "quickstart", *arguments).wait()
    assert code == 2 and err.count("\n") == 1 and message in err


def _running() -> list[tuple[Any, Lease | None]]:
    try:
        return Store("tiny").running()
    except Exception:  # not begun yet
        return []


def _reported() -> int:
    return sum(len(trial.intermediate_values) for trial, _ in _running())


def epochs_reported_there() -> int:
    return sum(len(trial.intermediate_values) for trial in Store("tiny").trials())
