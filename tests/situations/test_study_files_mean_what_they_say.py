"""Kind 5: numbers, names and values of a study file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from pipelines.errors import UserError
from sweeps.study import space, study_file
from sweeps.study.study import FloatRange, Study
from sweeps.tasks import confirm
from tests.conftest import TINY


def checked(**changes: Any) -> Study:
    return study_file.check(
        TINY | {"model": "tests.tiny_model", "search": {"units": {"int": [4, 8]}}, "start": []} | changes, "test"
    )


def test_a_condition_on_a_stepped_float_holds() -> None:
    search = {"shift": {"float": [0.0, 0.5], "step": 0.1}, "units": {"int": [4, 8], "when": {"shift": 0.3}}}
    study = checked(search=search, training={})
    trial = optuna.create_study().ask(fixed_distributions=None)
    stage = optuna.create_study()
    stage.enqueue_trial({"shift": 0.1 + 0.2, "units": 5})
    trial = stage.ask()
    assert space.suggest(trial, study.search) == {"shift": 0.3, "units": 5}
    assert study.run_config({"shift": 0.1 + 0.2}, 0).training.shift == 0.3
    with pytest.raises(UserError, match=r"shift is never 0\.3000001"):
        checked(search={**search, "units": {"int": [4, 8], "when": {"shift": 0.3000001}}})


@pytest.mark.parametrize(
    "values", [[1, True], [0, False], [1, 1.0], ["1", 1], ["true", True], ["None", None], [2, 2.0]]
)
def test_values_that_a_store_cannot_tell_apart_are_refused(values: list[Any]) -> None:
    with pytest.raises(UserError, match=r"are one value in the stores: keep one|is there twice"):
        checked(search={"units": {"choice": values}})


def test_grids_of_tiny_floats_are_exact() -> None:
    entry = FloatRange(**{"float": [1e-13, 5e-13], "step": 1e-13})
    assert entry.grid() == [1e-13, 2e-13, 3e-13, 4e-13, 5e-13]
    assert all(entry.contains(value) for value in entry.grid() or ())
    assert FloatRange(**{"float": [0.1, 0.7], "step": 0.1}).grid() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


def test_an_accepted_name_can_be_confirmed_reseeded_and_put_on_another_data_set(
    write_study: Callable[..., Path], run_here: Callable[..., Any]
) -> None:
    name = "n" * study_file.LONGEST_NAME
    quick = {"training": {"epochs": 1, "batch_size": 500}, "budget": {"trials": 1}}
    path = write_study(name=name, **quick)
    other = study_file.load(str(path), dataset="fashion-mnist", seed=2**53)
    assert other.name == f"{name}-fashion-mnist-seed{2**53}"
    run_here(study_file.load(str(path)))
    (candidate,) = confirm.candidates(name, 1, 3)
    assert candidate.study.name == f"{name}-confirm-0"
    with pytest.raises(UserError, match="name is longer than 100 characters"):
        study_file.load(str(write_study(name=f"{name}n")))


@pytest.mark.parametrize(("text", "value"), [("010", 10), ("1_000", 1000), ("0x10", 16), ("1e2", 100.0), ("5", 5)])
def test_a_number_is_what_a_person_reads(text: str, value: float, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"value: {text}\n")
    assert study_file._read(tmp_path / "x.yaml") == {"value": value}


@pytest.mark.parametrize("text", ["1:30", "1:30.5"])
def test_a_number_with_a_colon_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"hours: {text}\n")
    with pytest.raises(UserError, match=f"{text} is not a number: write it out, or in quotes"):
        study_file._read(tmp_path / "x.yaml")
