"""The figures of runs are drawn beside the training; whatever is killed meanwhile, none is lost."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines import drawing
from pipelines.figures import of_run
from pipelines.tracking import store as tracking
from sweeps.running.figures import TRIES, FigureProcesses
from sweeps.study import study_file
from sweeps.tasks import doctor
from tests.conftest import TINY, Sweep, copy_stores, eventually, run_in_process
from tests.sweeps.looking import experiment_runs

STUDY = {
    "model": "tests.tiny_model",
    "training": {"epochs": 1, "batch_size": 500},
    "search": {"units": {"int": [4, 8]}},
    "start": [],
}
FIGURES = {of_run.CURVES, of_run.CONFUSION, of_run.WRONG, of_run.BY_CLASS, of_run.FONT_DIGITS}
TO_DRAW = {f"{of_run.FOLDER}/{file}" for file in (of_run.FACTS, "model.npz")}


@pytest.fixture(scope="module")
def undrawn(watch: Any, empty_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a study of two trials whose worker and parent were gone before anything was drawn."""
    folder = tmp_path_factory.mktemp("undrawn") / "mlruns"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLRUNS_DIR", str(folder))
        run_in_process(study_file.check(TINY | STUDY, "tiny"), watch, empty_stores, drawn=False)
    return folder


@pytest.fixture(autouse=True)
def runs(undrawn: Path, outputs: Path) -> list[str]:
    """Its runs, in a copy."""
    shutil.copytree(undrawn, outputs, ignore=shutil.ignore_patterns("artifacts"))
    copy_stores(undrawn, outputs)
    return [run.run_id for run in sorted(experiment_runs("tags.phase != 'study'"), key=lambda run: run.tags["trial"])]


def owed() -> set[str]:
    return {run.run_id for run in experiment_runs(drawing.IS_OWED)}


def problems() -> list[str]:
    return [problem.what for problem in doctor.examine("tiny")]


def check_drawn(runs: list[str]) -> None:
    for run_id in runs:
        assert tracking.artifacts(run_id) >= FIGURES and not TO_DRAW & tracking.artifacts(run_id)
        found = tracking.get_run(run_id)
        assert found.metrics[drawing.SECONDS] > 0 and not {drawing.TAG, drawing.FAILED} & found.tags.keys()
    assert problems() == []


def wait(processes: FigureProcesses) -> None:
    eventually(lambda: processes.look() == 0)


def test_a_finished_run_that_is_owed_its_figures_says_so_and_the_doctor_draws_them(runs: list[str]) -> None:
    assert owed() == set(runs)
    for run_id in runs:
        assert tracking.get_run(run_id).status == "FINISHED" and tracking.artifacts(run_id) >= TO_DRAW
        assert not FIGURES & tracking.artifacts(run_id)
    assert problems() == [f"tiny: the run of trial {number} is owed its figures" for number in (0, 1)]
    assert len(list(doctor.fix("tiny"))) == 2
    check_drawn(runs)


def test_a_figure_that_fails_is_said_and_drawn_when_the_cause_is_mended(
    runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(of_run.result, "confusion", lambda *_: 1 / 0)
        drawing.draw_if_owed(runs[0])
        failed = "confusion.png: ZeroDivisionError: division by zero"
        assert tracking.get_run(runs[0]).tags[drawing.FAILED] == failed and owed() == {runs[1]}
        assert tracking.artifacts(runs[0]) & FIGURES == FIGURES - {of_run.CONFUSION}
        said = f"tiny: figures of trial 0 could not be drawn ({failed})"
        assert said in problems()
        mended = [problem.what for problem in doctor.fix("tiny")]
        assert f"{said}; it cannot be mended (UserError: {failed})" in mended
    list(doctor.fix("tiny"))
    check_drawn(runs)


def test_figures_of_which_nothing_is_left_are_said_to_have_failed(runs: list[str]) -> None:
    first, second = runs
    tracking.delete_artifacts(first, of_run.FOLDER)
    tracking.delete_artifacts(second, "probabilities.npz")
    list(doctor.fix("tiny"))
    assert owed() == set()
    assert "what they are drawn from is not among the files" in tracking.get_run(first).tags[drawing.FAILED]
    assert "probabilities.npz is not among the files of the run" in tracking.get_run(second).tags[drawing.FAILED]
    assert len(problems()) == 2


def test_whoever_is_killed_before_the_last_step_has_drawn_them(runs: list[str]) -> None:
    for run_id in runs:
        drawing.draw_if_owed(run_id)
    tracking.set_tags(runs[0], {drawing.TAG: drawing.OWED})
    assert len(problems()) == 1
    list(doctor.fix("tiny"))
    check_drawn(runs)


def test_a_run_in_the_trash_is_left_alone(runs: list[str]) -> None:
    tracking.discard_run(runs[0])
    drawing.draw_if_owed(runs[0])
    assert tracking.artifacts(runs[0]) >= TO_DRAW and not FIGURES & tracking.artifacts(runs[0])


def begun(log: Path) -> int:
    """Return how many times the drawing of a run has begun."""
    return log.read_text().count("its figures") if log.exists() else 0


def kill_one(processes: FigureProcesses, times: int) -> None:
    """Kill the process that draws, in the midst of it."""
    eventually(lambda: processes.look() and begun(processes.log) >= times)
    (at_work,) = processes._drawing
    os.kill(at_work.process.pid, signal.SIGKILL)
    eventually(lambda: at_work.process.poll() == -signal.SIGKILL)


@pytest.mark.slow
def test_a_process_killed_while_it_draws_loses_no_figure(runs: list[str], outputs: Path) -> None:
    with FigureProcesses(outputs / "figures.log") as processes:
        processes.draw(runs)
        kill_one(processes, 1)
        assert runs[0] in owed()
        wait(processes)
        assert processes.failed == 0 and "SIGKILL" in processes.last_failure
    check_drawn(runs)


@pytest.mark.slow
def test_figures_whose_process_is_killed_again_and_again_stay_owed(runs: list[str], outputs: Path) -> None:
    with FigureProcesses(outputs / "figures.log") as processes:
        processes.draw(runs[:1])
        for times in range(1, TRIES + 1):
            kill_one(processes, times)
        wait(processes)
        assert processes.failed == 1 and runs[0] in owed()
        processes.begin_anew()
        processes.draw(runs)
        wait(processes)
    check_drawn(runs)


@pytest.mark.slow
def test_drawing_loads_no_training_library(runs: list[str]) -> None:
    script = (
        "import sys; from sweeps.running import figures; figures.get_ready(); from pipelines import drawing\n"
        f"drawing.draw_if_owed({runs[0]!r})\n"
        "print([m for m in ('keras', 'tensorflow', 'jax', 'torch', 'optuna') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]"] and owed() == {runs[1]}


def processes_that_draw(log: Path) -> list[psutil.Process]:
    """Return those that write to `log`."""
    found = []
    for each in psutil.process_iter():
        try:
            if any(file.path == str(log) for file in each.open_files()):
                found.append(each)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_figures_that_a_killed_command_owed_are_drawn_by_the_next_and_ctrl_c_does_not_wait(
    runs: list[str], sweep: Callable[..., Sweep], write_study: Callable[..., Path], outputs: Path
) -> None:
    path = write_study(**STUDY)

    def start() -> tuple[Sweep, psutil.Process]:
        known = set(outputs.rglob("figures.log"))
        command = sweep("run", path, "--device", "cpu")
        said = command.lines_until("drawing the figures of")
        assert said[-1] == "drawing the figures of 2 runs; Ctrl-C leaves them to the next call\n"
        (log,) = eventually(lambda: set(outputs.rglob("figures.log")) - known)
        (drawing,) = eventually(lambda: processes_that_draw(log))
        drawing.suspend()  # so that it draws nothing meanwhile
        return command, drawing

    command, at_work = start()
    os.kill(command.process.pid, signal.SIGKILL)
    at_work.kill()
    command.wait()
    assert owed()

    left = len(owed())
    command, at_work = start() if left == 2 else (sweep("run", path, "--device", "cpu"), None)
    if at_work:
        command.press_ctrl_c()
        code, out, _ = command.wait()
        assert code == 130 and f"figures are owed to {left} runs: the next call of " in out
        eventually(lambda: not at_work.is_running() or at_work.status() == psutil.STATUS_ZOMBIE)
        command = sweep("run", path, "--device", "cpu")
    code, out, err = command.wait()
    assert (code, err) == (0, "") and "the budget is used up" in out
    check_drawn(runs)
