"""Kind 9: the user's settings of Keras, matplotlib, Python's warnings and MLflow change no result."""

import json
from pathlib import Path

import pytest

from sweeps import runs
from tests.situations.conftest import NET, Project

CNN = NET.replace("layers.Flatten()", "layers.Conv2D(4, 5), layers.Flatten()")


@pytest.mark.long
def test_results_and_figures_are_the_same_whatever_the_settings(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write({"net.py": CNN})
    project.study(budget={"trials": 1}, start=[{"units": 4}])
    plain = project.sweep("run", "s.yaml", MLRUNS_DIR="plain", KERAS_HOME=str(project.folder / "none"))
    assert plain.returncode == 0 and plain.stderr == "", plain.stderr
    (project.folder / "keras").mkdir()
    settings = {"image_data_format": "channels_first", "floatx": "float16", "epsilon": 0.1, "backend": "tensorflow"}
    project.write(
        {
            "keras/keras.json": json.dumps(settings),
            "matplotlibrc": "figure.figsize: 1, 1\nfont.size: 40\nbackend: TkAgg\nsavefig.format: pdf\naxes.facecolor: black\n",
        }
    )
    odd = project.sweep(
        "run",
        "s.yaml",
        MLRUNS_DIR="odd",
        KERAS_HOME=str(project.folder / "keras"),
        MPLBACKEND="TkAgg",
        PYTHONWARNINGS="error",
        MLFLOW_RUN_ID="0" * 32,
        MLFLOW_EXPERIMENT_NAME="of another project",
        MLFLOW_EXPERIMENT_ID="77",
        MLFLOW_REGISTRY_URI="http://127.0.0.1:9",
        MLFLOW_TRACKING_TOKEN="of another project",
    )
    assert odd.returncode == 0 and odd.stderr == "", odd.stderr
    assert odd.stdout.count("keras.json has image_data_format channels_first, floatx float16, epsilon 0.1; ") == 1
    found = {}
    for name in ("plain", "odd"):
        monkeypatch.setenv("MLRUNS_DIR", str(project.folder / name))
        row = runs("mine").iloc[0]
        figures = {
            path.name: path.read_bytes()
            for path in (project.folder / name / "artifacts").rglob("*.png")
            if path.name in ("confusion.png", "wrong_images.png", "accuracy_by_class.png")
        }
        found[name] = (row.val_accuracy, row.test_accuracy, figures)
    assert len(found["plain"][2]) == 3 and found["plain"] == found["odd"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """What libraries read when they are imported is the point."""
    return Project(tmp_path / "project", fresh=True)


def test_the_backend_of_keras_json_is_heeded(project: Project) -> None:
    project.write(
        {"keras/keras.json": json.dumps({"backend": "jax"}), "wrong/keras.json": json.dumps({"backend": "mxnet"})}
    )
    script = "from pipelines import backend; print(backend.name())"
    ask = [project.python, "-P", "-c", "import sweeps; " + script]
    assert project.type(*ask, KERAS_HOME=str(project.folder / "keras"), KERAS_BACKEND="").stdout == "jax\n"
    assert project.type(*ask, KERAS_HOME=str(project.folder / "keras"), KERAS_BACKEND="torch").stdout == "torch\n"
    assert project.type(*ask, KERAS_HOME=str(Path("/nowhere")), KERAS_BACKEND="").stdout == "tensorflow\n"
    assert "backend mxnet in" in project.type(*ask, KERAS_HOME=str(project.folder / "wrong"), KERAS_BACKEND="").stderr
