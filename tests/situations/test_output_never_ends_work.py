"""Kind 8: pipes, terminals and closed streams; help and version."""

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweeps.stores.store import Store
from tests.conftest import ROOT
from tests.situations.conftest import NET, SWEEP, Project


@pytest.fixture
def ready(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    project.write({"net.py": NET})
    project.study(budget={"trials": 3})
    monkeypatch.setenv("MLRUNS_DIR", str(project.folder / "mlruns"))
    return project


def all_are_complete(name: str, trials: int) -> bool:
    return sum(trial.state.is_finished() for trial in Store(name).trials()) == trials


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["| head -1", ">&- 2>&-", "| sleep 15"])
def test_a_sweep_goes_to_its_end_whatever_becomes_of_its_output(ending: str, ready: Project) -> None:
    environment = {"MLRUNS_DIR": str(ready.folder / "mlruns")}
    done = ready.type("bash", "-c", f"{SWEEP} run s.yaml {ending}", **environment)
    assert all_are_complete("mine", 3), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_narrow_ascii_terminal_is_no_obstacle(ready: Project) -> None:
    mine, theirs = pty.openpty()
    os.set_blocking(mine, False)
    environment = os.environ | {
        "COLUMNS": "40",
        "LC_ALL": "C",
        "PYTHONIOENCODING": "ascii",
        "PYTHONUTF8": "0",
        "TERM": "vt100",
    }
    command = subprocess.Popen(
        [SWEEP, "run", "s.yaml"], cwd=ready.folder, env=environment, stdout=theirs, stderr=theirs, stdin=theirs
    )
    os.close(theirs)
    said = b""
    until = time.monotonic() + 120
    while command.poll() is None and time.monotonic() < until:
        try:
            said += os.read(mine, 4096)
        except (BlockingIOError, OSError):
            time.sleep(0.1)
    assert command.wait(1) == 0 and all_are_complete("mine", 3)
    assert b"Traceback" not in said and b"tensorflow" not in said.lower() and b"oneDNN" not in said


def test_a_full_pipe_holds_nothing_up() -> None:
    read, write = os.pipe()
    script = (
        "import sys; from sweeps.output import patient\n"
        "with patient():\n    [print('x' * 1000) for _ in range(3000)]\n    print('done', file=open(sys.argv[1], 'w'))\n"
    )
    with pytest.MonkeyPatch.context():
        file = Path(f"/tmp/full-{os.getpid()}")
        began = time.monotonic()
        process = subprocess.Popen([sys.executable, "-c", script, str(file)], stdout=write, cwd=ROOT)
        os.close(write)
        while not file.exists() and time.monotonic() < began + 60:
            time.sleep(0.05)
        assert file.exists()
        assert process.wait(60) == 0
        file.unlink()
        os.close(read)


def test_what_an_encoding_lacks_is_written_plainly() -> None:
    script = "from sweeps.output import patient\nwith patient():\n    print('99.5 ± 0.1, 1–2, ∞, ж')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert done.stdout == "99.5 +- 0.1, 1-2, no limit, ?\n", done.stderr


def test_help_version_and_nothing_at_all(project: Project) -> None:
    alone = project.sweep()
    assert alone.returncode == 0 and alone.stdout.startswith("Usage: sweep") and alone.stderr == ""
    assert "..." not in alone.stdout.split("Commands:")[1]
    assert project.sweep("--version").stdout == "sweep, version 0.1.0\n"
    assert project.sweep("--help").stdout == alone.stdout
    assert project.sweep("nonsense").returncode == 2
    assert list(project.folder.iterdir()) == []
