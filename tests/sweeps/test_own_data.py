"""Data of one's own, from the study file to the verdict: swept, killed and resumed, confirmed, asked."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pipelines import datasets
from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from sweeps import Float, Int, Study, open_study, runs
from sweeps.running import launch
from sweeps.stores import names
from sweeps.stores.record import StoredStudy
from sweeps.stores.store import Store
from sweeps.study import study_file
from tests.conftest import Sweep, eventually
from tests.sweeps.looking import worker_has_begun, workers_of

pytestmark = pytest.mark.usefixtures("made_stores")
Start = Callable[..., Sweep]

NET = """
import keras
from keras import layers

def build(*, units=4, dropout=0.1, input_shape=None, classes=0):
    return keras.Sequential([
        keras.Input(input_shape), layers.Flatten(), layers.Dense(units, "relu"), layers.Dropout(dropout),
        layers.Dense(classes, "softmax"),
    ])
"""
LOAD = "import numpy as np\ndef load():\n    found = np.load('data.npz')\n    return found['x'], found['y']\n"


def coloured(n: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """Images whose colour is their class, in noise."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    x = rng.integers(0, 120, (n, 8, 8, 3), np.uint8)
    x[np.arange(n), :, :, y] += 100
    return x, y


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder of one's own, with the same data as photographs, an archive, and a function; and a model."""
    x, y = coloured()
    for number, (image, label) in enumerate(zip(x, y, strict=True)):
        folder = tmp_path / "photos" / ("red", "green", "blue")[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:03}.png")
    np.savez(tmp_path / "data.npz", x=x, y=y)
    (tmp_path / "my_data.py").write_text(LOAD)
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def write(place: Path, **changes: Any) -> Path:
    study = {
        "name": "own",
        "model": "net.py",
        "dataset": {"folder": "photos"},
        "training": {"epochs": 3, "batch_size": 20, "keep": "last"},
        "search": {"units": {"int": [2, 8]}, "learning_rate": {"float": [0.001, 0.05], "log": True}},
        "pruner": "none",
        "start": [],
        "budget": {"trials": 2},
    }
    path = place / f"{changes.get('name', 'own')}.yaml"
    path.write_text(yaml.safe_dump(study | changes, sort_keys=False))
    return path


KINDS = {"folder": {"folder": "photos"}, "npz": "data.npz", "function": "my_data.py:load"}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.slow if kind == "folder" else pytest.mark.long) for kind in KINDS],
)
def test_every_kind_is_killed_and_resumed_as_if_nothing_had_happened(kind: str, sweep: Start, place: Path) -> None:
    training = {"epochs": 25, "batch_size": 1, "keep": "last", "rotation": 5.0}
    once = {"search": {"units": {"int": [6, 6]}}, "budget": {"trials": 1}, "training": training}
    command = sweep("run", write(place, dataset=KINDS[kind], **once), "--device", "cpu", cwd=place)
    eventually(lambda: worker_has_begun() and any(trial.intermediate_values for trial in Store("own").trials()))
    workers_of(command)[0].kill()
    code, out, err = command.wait()
    assert (code, err) == (0, "") and "was killed by SIGKILL" in out
    (killed,) = runs("own").to_dict("records")
    code, _, err = sweep("run", write(place, name="whole", dataset=KINDS[kind], **once), cwd=place).wait()
    assert code == 0, err
    (whole,) = runs("whole").to_dict("records")
    losses = [tracking.history(run["run_id"], "epoch_val_loss") for run in (killed, whole)]
    assert len(losses[0]) == 25 and losses[0] == losses[1]
    assert killed["test_accuracy"] == whole["test_accuracy"]


@pytest.mark.slow
def test_from_photographs_to_verdict_champion_and_answer(sweep: Start, place: Path) -> None:
    path = write(place, dataset={"folder": "photos", "comparable": True}, targets=[{"accuracy": 50, "name": "theirs"}])
    code, out, err = sweep("run", path, "--device", "cpu", cwd=place).wait()
    assert code == 0, err
    assert "data set photos: 240 images of 8 × 8 × 3 in 3 classes (168 train, 36 validation, 36 test)" in out
    frame = runs("own")
    assert (frame.state == "complete").all() and set(frame.dataset) == {"photos"}
    artifacts = tracking.artifacts(frame.run_id.iloc[0])
    assert {"confusion.png", "wrong_images.png", "accuracy_by_class.png"} <= set(artifacts)
    assert "font_digits.png" not in artifacts
    code, out, err = sweep("confirm", "own", "--top", 1, "--seeds", 3, "--device", "cpu", cwd=place).wait()
    assert code == 0, err
    assert re.search(r"50.00 %  theirs\n  reached  ", out) and "champion of photos-" in out
    photo = next((place / "photos" / "green").iterdir())
    code, out, err = sweep("predict", photo, "--dataset", "photos", cwd=place).wait()
    assert code == 0 and f"{photo}: green (" in out, err
    code, out, err = sweep("explain", "best", cwd=place).wait()
    assert code == 0 and "kernels.png" in out, err
    code, out, err = sweep("rerun", frame.run_id.iloc[0], "--device", "cpu", cwd=place).wait()
    assert code == 0 and "equal, bit for bit" in out, err


@pytest.mark.slow
def test_data_that_changed_under_a_study_is_refused_with_the_choice(sweep: Start, place: Path) -> None:
    path = write(place, budget={"trials": 1})
    assert sweep("run", path, cwd=place).wait()[0] == 0
    next((place / "photos" / "red").iterdir()).unlink()
    code, _, err = sweep("run", path, "--trials", 2, cwd=place).wait()
    assert code == 2 and re.search(
        r"another definition \(dataset.digest was \w+, is \w+\): give the changed study another", err
    )
    code, out, err = sweep("run", "own", "--stored", "--trials", 2, cwd=place).wait()  # as the line says
    assert code == 0 and "2 of 2 trials done" in out, err
    (place / "photos").rename(place / "pictures")
    code, out, err = sweep("run", "own", "--stored", "--trials", 3, cwd=place.parent).wait()
    assert code == 0 and "3 of 3 trials done" in out, err


@pytest.mark.slow
def test_arrays_from_python_are_kept_and_resumed_without_them() -> None:
    x, y = coloured()
    settings = {
        "training": {"epochs": 2, "batch_size": 20},
        "budget": {"trials": 1},
        "search": {"dropout": Float(0.1, 0.5)},
    }
    study = Study("mine", "strided_cnn", dataset=(x[:200], y[:200], x[200:], y[200:]), start=[], **settings)
    study.run(device="cpu")
    again = open_study("mine")
    again.run(trials=2, device="cpu")
    assert runs("mine").state.tolist() == ["complete"] * 2
    assert again.predict(x[:5]).shape == (5, 3)
    with pytest.raises(UserError, match=r"study 'mine': dataset: arrays: x has 240 examples and y 3 labels"):
        Study("mine", "strided_cnn", dataset=(x, y[:3]), **settings)
    with pytest.raises(UserError, match=r"examples of shape \(4, 4, 3\): expected \(8, 8, 3\) each"):
        again.predict(x[:, :4, :4])


@pytest.fixture
def numbers(tmp_path: Path) -> Iterator[Path]:
    x = np.random.default_rng(0).normal(size=(120, 4, 5)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=(x.sum(axis=(1, 2)) > 0).astype(int))
    (tmp_path / "net.py").write_text(NET)
    yield tmp_path


def test_examples_that_are_no_images_are_trained_on(numbers: Path, run_here: Callable[..., Store], capsys: Any) -> None:
    study = study_file.load(str(write(numbers, dataset="data.npz", training={"epochs": 2, "pixels": "standardized"})))
    run_here(study)
    frame = runs("own")
    assert (frame.state == "complete").all() and frame.val_accuracy.notna().all()
    artifacts = tracking.artifacts(frame.run_id.iloc[0])
    assert "confusion.png" in artifacts and "wrong_images.png" not in artifacts


@pytest.mark.slow
def test_distortions_of_what_has_no_images_are_refused(numbers: Path, sweep: Start) -> None:
    path = write(numbers, dataset="data.npz", training={"epochs": 2, "rotation": 5.0})
    code, _, err = sweep("run", path, cwd=numbers).wait()
    assert code == 2 and "rotation distorts images, and data set data has none: leave it out" in err


def test_a_study_without_its_data_is_one_line(place: Path) -> None:
    with pytest.raises(UserError, match=r"own.yaml: dataset: 'photo' is unknown"):
        study_file.load(str(write(place, dataset="photo")))
    study = study_file.load(str(write(place, dataset={"folder": "nowhere"})))
    with pytest.raises(
        UserError, match=r"there is no folder .*nowhere: expected one with a folder of images for each class"
    ):
        datasets.load(study.dataset)
    assert study_file.load(str(write(place)), dataset="mnist-5k").name == "own-mnist-5k"
    assert study_file.load(str(write(place)), dataset=f"{place}/data.npz").name == "own-data"


def test_a_model_that_names_shape_and_classes_has_them_as_no_hyperparameters(place: Path) -> None:
    study = study_file.load(str(write(place)))
    assert study.run_config({}, seed=0).hyperparameters == {"units": 4, "dropout": 0.1}
    with pytest.raises(UserError, match=r"'classes' is not a hyperparameter of net\.py or training setting"):
        study_file.load(str(write(place, search={"classes": {"int": [2, 3]}})))
    with pytest.raises(UserError, match="search"):
        Study("mine", "lean_cnn", search={"input_shape": Int(1, 2)}, budget={"trials": 1})


def test_a_study_of_before_that_fixed_the_classes_is_resumed(
    place: Path, run_here: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    once = {"dataset": "mnist-5k", "search": {"units": {"int": [2, 3]}}, "budget": {"trials": 1}}
    once |= {"training": {"epochs": 1, "batch_size": 500}}
    study = study_file.load(str(write(place, **once)))
    store = run_here(study)
    for name in (names.STUDY, names.DEFINITION):
        store.remember(name, store.attributes()[name] | {"arguments": {"classes": 10}})
    monkeypatch.chdir(place)
    resumed = StoredStudy("own").resumable({"trials": 2})
    assert resumed.arguments == {} and resumed.definition() == study.definition()
    run_here(study_file.load(str(write(place, **(once | {"budget": {"trials": 2}})))))
    assert (runs("own").state == "complete").all() and len(runs("own")) == 2
    store.remember(names.STUDY, store.attributes()[names.STUDY] | {"arguments": {"classes": 12}})
    with pytest.raises(
        UserError, match="arguments: classes is what the data set has, and given to build: leave it out"
    ):
        StoredStudy("own").resumable()


def test_folds_that_groups_do_not_allow_are_said_before_anything_is_written(place: Path, outputs: Path) -> None:
    x, y = coloured()
    spec = datasets.of_arrays({"x": x, "y": y, "groups": np.arange(240) // 12}, "mine", validation=0.2, test=0.2)
    study = study_file.load(str(write(place, dataset=spec.content(), folds=3)))
    launch.check_training(study, datasets.load(spec))
    with pytest.raises(UserError, match="16 groups cannot be divided into 20 folds: give fewer folds"):
        launch.check_training(study.model_copy(update={"folds": 20}), datasets.load(spec))
