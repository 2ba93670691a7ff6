"""The whole of a study's life from Python: by the page that tells of it, in a notebook, and in a thread."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import models
from pipelines import datasets
from pipelines.errors import UserError
from sweeps import Choice, Float, Int, Study, open_study, runs
from sweeps.study import study_file
from tests.conftest import ROOT, Sweep

PAGE = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.S))
TINY = {"dataset": "mnist-5k", "training": {"epochs": 1, "batch_size": 500}, "budget": {"trials": 1}}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_page_runs_as_a_script_without_a_main_guard(tmp_path: Path, outputs: Path) -> None:
    script = tmp_path / "script.py"
    prelude = "import numpy as np\nimages = np.zeros((3, 28, 28), np.uint8)\n"
    script.write_text(prelude + PAGE + "print(study.predict(images).shape, len(study.runs()))\n")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "(3, 10) 4"
    assert "trial 0" in done.stdout and done.stdout.count("best by validation: trial") == 3


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_notebooks_model_resumes_from_another_kernel_and_from_the_command_line(
    sweep: Callable[..., Sweep], tmp_path: Path, made_stores: None
) -> None:
    def execute(*cells: str) -> str:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
        return "".join(str(output.get("text", output.get("data", ""))) for output in notebook.cells[-1].outputs)

    said = execute(
        "import keras\nfrom keras import layers\nfrom sweeps import Int, Study\nCLASSES = 10",
        "def head(x):\n    return layers.Dense(CLASSES, activation='softmax')(layers.Flatten()(x))",
        "def build(*, units=4):\n    images = keras.Input((28, 28, 1))\n"
        "    return keras.Model(images, head(layers.Conv2D(units, 9, strides=9)(images)))",
        f"study = Study('mine', build, search={{'units': Int(2, 4)}}, **{TINY!r})\nstudy.run(device='cpu')\nlen(study.runs())",
    )
    assert "1 of 1 trials done" in said and said.endswith("'1'}")
    again = execute("from sweeps import open_study\nstudy = open_study('mine')", "study.run(trials=2, device='cpu')")
    assert "2 of 2 trials done" in again
    code, out, err = sweep("run", "mine", "--stored", "--trials", 3, cwd=tmp_path).wait()
    assert code == 0 and "3 of 3 trials done" in out, err
    assert runs("mine").state.tolist() == ["complete"] * 3


@pytest.mark.slow
def test_a_study_is_what_its_file_would_say_and_runs_in_a_thread(outputs: Path, made_stores: None) -> None:
    study = Study(
        "mine",
        "tests.tiny_model",
        search={
            "units": Int(2, 8, log=True),
            "learning_rate": Float(1e-3, 1e-2, log=True),
            "optimizer": Choice("adam", "sgd"),
        },
        **TINY,
    )
    path = outputs / "mine.yaml"
    path.write_text(study.to_yaml())
    assert study_file.load(str(path)).definition() == study._definition.definition()
    thread = threading.Thread(target=study.run, kwargs={"device": "cpu"})
    thread.start()
    thread.join()
    assert study.best_runs().state.tolist() == ["complete"] and study.optuna.study_name == "mine"
    assert set(study.mlflow) == {"experiment_id", "run_id"} and study.verdicts().empty
    images = datasets.load("mnist-5k").test.x[:3]
    found = open_study("mine").predict(images)
    assert found.shape == (3, 10) and np.allclose(found.sum(axis=1), 1)
    assert np.array_equal(found, study.predict(images[..., 0]))
    with pytest.raises(UserError, match=r"examples of shape \(32, 32\): expected \(28, 28, 1\) each"):
        study.predict(np.zeros((1, 32, 32)))


def test_mistakes_are_one_line_and_write_nothing(outputs: Path) -> None:
    def build(*, units: int = 4) -> object:
        return outputs, units

    with pytest.raises(
        UserError, match=r"study 'mine': model: build uses 'outputs', a PosixPath, which cannot be kept"
    ):
        Study("mine", build, search={"units": Int(2, 4)}, **TINY)
    with pytest.raises(
        UserError, match=r"study 'mine': search: 'unit' is not a hyperparameter of .*did you mean 'units'"
    ):
        Study("mine", "tests.tiny_model", search={"unit": Int(2, 4)}, **TINY)
    with pytest.raises(UserError, match="there is no study 'mine'"):
        open_study("mine")
    assert not outputs.exists()


@pytest.mark.slow
def test_a_function_is_a_metric(run_here: Any) -> None:
    """It is kept with the study: another process, which has no such function, resumes it by its name alone."""
    wanted = 3

    def misses(labels: Any, predictions: Any) -> float:
        import numpy

        return float(numpy.mean(predictions.argmax(axis=1)[labels == wanted] != wanted))

    study = Study(
        "mine",
        "tests.tiny_model",
        search={"units": Int(2, 8)},
        objectives=[{"name": misses, "direction": "minimize"}],
        **TINY,
    )
    run_here(study._definition)
    models._adopted.pop("mine_misses:misses")
    again = open_study("mine")
    run_here(again._defined({"trials": 2}))
    frame = again.runs()
    assert len(frame) == 2 and frame.val_misses.is_monotonic_increasing
    assert "name: mine_misses:misses" in again.to_yaml()


def test_a_function_that_cannot_be_kept_is_no_metric(outputs: Path) -> None:
    def bad(labels: Any, predictions: Any) -> Any:
        return outputs

    for given in (bad, lambda labels, predictions: 0.5, print, Path):
        with pytest.raises(UserError, match=r"study 'mine': metric: "):
            Study("mine", "tests.tiny_model", metrics=[given], search={}, **TINY)
    assert not outputs.exists()


def test_what_a_study_says_of_itself() -> None:
    study = Study("mine", "tests.tiny_model", search={"units": Int(2, 8)}, **TINY)
    assert repr(study) == "Study('mine', model='tests.tiny_model', search=['units'])"
