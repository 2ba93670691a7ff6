"""Functions of the user's own that a study refers to, such as losses: kept with it as its model is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

import models
from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from sweeps.stores import names
from sweeps.stores.record import StoredStudy
from sweeps.stores.store import Store
from sweeps.study import study_file
from sweeps.study.study import Study
from sweeps.tasks import confirm, logged, rerun

LOSS = """
import keras
from weights import share


def focal(labels, probabilities, gamma=2.0):
    chosen = keras.ops.sum(probabilities * keras.ops.one_hot(labels, probabilities.shape[-1]), axis=-1)
    return share * (1 - chosen) ** gamma * -keras.ops.log(chosen + 1e-7)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a loss, and what that imports."""
    (tmp_path / "own_losses.py").write_text(LOSS)
    (tmp_path / "weights.py").write_text("share = 1.0\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_loss_is_kept_with_the_study_and_its_runs(
    folder: Path,
    write_study: Callable[..., Path],
    run_here: Callable[[Study], Store],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    content: dict[str, Any] = {
        "model": "tests.tiny_model",
        "training": {"epochs": 1, "batch_size": 1000},
        "search": {
            "loss": {"choice": ["crossentropy", "own_losses.py:focal"]},
            "loss.gamma": {"float": [0.5, 3.0], "when": {"loss": "own_losses.py:focal"}},
        },
        "start": [{"loss": "own_losses.py:focal", "loss.gamma": 1.5}],
        "budget": {"trials": 1},
    }
    path = write_study(**content)
    study = study_file.load(str(path))
    store = run_here(study)
    (trial,) = store.trials()
    assert trial.state == TrialState.COMPLETE and trial.params["loss.gamma"] == 1.5
    (run,) = StoredStudy("tiny").trial_runs()
    assert run.params["loss"] == "own_losses.py:focal" and run.params["loss.gamma"] == "1.5"

    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))  # where there is no such file
    models._adopted.clear()
    stored = StoredStudy("tiny").resumable()
    assert stored.definition() == study.definition()
    models._adopted.clear()
    (again,) = [StoredStudy("tiny").trial_runs()[0]]
    config = logged.configuration(again)
    assert config.training.options_of("loss") == {"gamma": 1.5}
    assert rerun.study_of(again).settings.loss == "own_losses.py:focal"
    assert confirm.study_of(stored, trial, 2).settings.options_of("loss") == {"gamma": 1.5}
    assert {source.entry for source in tracking.functions_of(run.run_id)} == {"own_losses"}

    monkeypatch.chdir(folder)
    models._adopted.clear()
    (folder / "weights.py").write_text("share = 2.0\n")  # which the loss imports
    changed = study_file.load(str(path))
    assert changed.digest() != study.digest()
    with pytest.raises(UserError, match=r"the source of own_losses.py:focal has changed.*--new-source"):
        run_here(changed)


def test_a_study_without_functions_has_no_trace_of_them(
    write_study: Callable[..., Path], run_here: Callable[[Study], Store]
) -> None:
    study = study_file.load(str(write_study(model="tests.tiny_model", search={}, start=[], budget={"trials": 1})))
    assert "functions" not in study.definition()
    assert names.FUNCTIONS not in run_here(study).attributes()


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ("own_losses.py:fokal", r"tiny.yaml: loss: 'own_losses.py:fokal': its module has no function fokal"),
        ("own_loses.py:focal", r"tiny.yaml: loss: there is no file own_loses.py"),
        ({"name": "own_losses.py:focal", "gama": 1.0}, r"has no option 'gama' \(did you mean 'gamma'"),
    ],
)
def test_a_loss_that_is_not_there_is_said_in_a_line(
    folder: Path, write_study: Callable[..., Path], loss: Any, said: str
) -> None:
    with pytest.raises(UserError, match=said) as error:
        study_file.load(str(write_study(training={"loss": loss})))
    assert "\n" not in str(error.value)
