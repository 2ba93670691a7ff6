"""A study file that is right says what to run; one that is wrong gets one clear line that names file, key and mend."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.errors import UserError
from sweeps import study_file
from sweeps.study import Study


def complaint(path: object) -> str:
    with pytest.raises(UserError) as caught:
        study_file.load(str(path))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", study_file.available())
def test_shipped_studies_are_valid_and_begin_with_the_recipe(name: str) -> None:
    study = study_file.load(name)
    assert study.name == name
    config = study.run_config(study.start_points[0], seed=1)
    assert config.hyperparameters["filters1"] == 32 and config.training.batch_size == 128
    assert [target.accuracy for target in study.targets] == [99.10, 99.26, 99.55]


def test_shipped_studies_search_what_they_should() -> None:
    lean, quick = study_file.load("lean_cnn"), study_file.load("quickstart")
    assert lean.search == quick.search
    assert lean.budget.trials == 40 and lean.settings.epochs == 15
    for filters in ("filters1", "filters2", "filters3", "filters4"):
        assert lean.search[filters].examples() == [8, 64]
    assert lean.search["dropout"].examples() == [0.0, 0.6]
    assert lean.search["l2"].examples() == [1e-6, 1e-2] and lean.search["l2"].log
    assert lean.search["lr_decay"].examples() == [0.5, 1.0]
    assert lean.search["batch_size"].examples() == [32, 256]
    assert "learning_rate" in lean.search


def test_training_settings_are_the_recipes_overruled_by_the_files(write_study: Callable[..., Path]) -> None:
    study = study_file.load(str(write_study(training={"epochs": 3, "optimizer": "sgd", "momentum": 0.9})))
    assert study.settings.epochs == 3 and study.settings.momentum == 0.9
    assert study.settings.batch_size == 128  # the recipe's
    assert study.settings.keep == "best"
    config = study.run_config({"filters1": 3, "learning_rate": 0.002}, seed=1)
    assert config.hyperparameters["filters1"] == 3 and config.hyperparameters["dense"] == 128
    assert config.training.learning_rate == 0.002 and config.training.optimizer == "sgd"


def test_numbers_in_yaml_1_2_notation_are_numbers(tmp_path: Path, write_study: Callable[..., Path]) -> None:
    path = write_study()
    path.write_text(path.read_text().replace("0.01\n", "1e-2\n"))
    assert "1e-2" in path.read_text()
    assert study_file.load(str(path)).search["learning_rate"].examples() == [1e-3, 1e-2]


def test_overrides() -> None:
    assert study_file.load("quickstart", budget={"trials": 3, "hours": None}).budget.trials == 3
    assert study_file.load("lean_cnn", budget={"epochs": 7}).budget.model_dump() == {
        "trials": 40,
        "hours": None,
        "epochs": 7,
    }
    assert study_file.load("lean_cnn", dataset="mnist-5k").name == "lean_cnn-mnist-5k"
    assert study_file.load("lean_cnn", dataset="mnist").name == "lean_cnn"
    assert study_file.load("lean_cnn", seed=7).name == "lean_cnn-seed7"


def test_the_digest_covers_what_makes_a_study_and_nothing_else(write_study: Callable[..., Path]) -> None:
    def digest(**changes: Any) -> str:
        return study_file.load(str(write_study(**changes))).digest()

    assert digest() == digest(budget={"trials": 99}) == digest(targets=[]) == digest(trial_timeout=5.0)
    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"sampler": "random"},
        {"pruner": "median"},
        {"training": {"epochs": 3}},
    ]
    assert len({digest(), *(digest(**change) for change in changes)}) == 5


UPSIDE_DOWN = {"filters1": {"int": [9, 4]}}
CASES: list[tuple[dict[str, Any], str]] = [
    (
        {"model": "lean_cn"},
        r"tiny.yaml: model: 'lean_cn' is unknown \(did you mean 'lean_cnn'\?\); expected one of lean_cnn",
    ),
    ({"dataset": "mnist5k"}, r"dataset: 'mnist5k' is unknown \(did you mean 'mnist-5k'\?\)"),
    ({"sampler": "tpee"}, r"sampler: 'tpee' is unknown \(did you mean 'tpe'\?\); expected one of tpe, random"),
    ({"pruner": "asha"}, r"pruner: 'asha' is unknown; expected one of hyperband, median, none"),
    ({"smapler": "tpe"}, r"'smapler' is no key \(did you mean 'sampler'\?\)"),
    (
        {"search": {"filter1": {"int": [1, 2]}}},
        r"search: 'filter1' is no hyperparameter .* \(did you mean 'filters1'\?\); known: ",
    ),
    ({"training": {"epoch": 3}}, r"training: 'epoch' is no training setting \(did you mean 'epochs'\?\)"),
    ({"training": {"epochs": 0}}, r"epochs: .* greater than or equal to 1, got 0"),
    ({"training": {"optimizer": "adamm"}}, r"optimizer: .*'adam'.* got 'adamm'"),
    ({"training": {"dropout": 0.1}}, r"training: 'dropout' is no training setting"),
    ({"search": UPSIDE_DOWN}, r"search.filters1: .*upside down: 9 > 4"),
    ({"search": {"dropout": {"float": [0.5, 0.1]}}}, r"search.dropout: .*upside down"),
    ({"search": {"l2": {"float": [0, 0.1], "log": True}}}, r"search.l2: .*must begin above 0"),
    ({"search": {"filters1": {"int": [1, 4], "step": 2}}}, r"step 2 does not lead from 1 to 4"),
    ({"search": {"filters1": {"int": [1, 4], "log": True}}}, r"'log' is no option of int; known: int, step"),
    ({"search": {"filters1": {"int": [1]}}}, r"search.filters1: int: .*at least 2 items"),
    ({"search": {"filters1": {"int": ["1", "4"]}}}, r"search.filters1: int.0: .*valid integer, got '1'"),
    ({"search": {"filters1": {"choice": []}}}, r"search.filters1: choice: .*at least 1 item"),
    ({"search": {"filters1": [1, 4]}}, r"search.filters1 must be one of \{int: \[lo, hi\]\}"),
    ({"search": {"filters1": {"float": [1.5, 4]}}}, r"search.filters1 gives 1.5, but lean_cnn takes a int"),
    ({"search": {"batch_size": {"int": [0, 4]}}}, r"search.batch_size gives 0: .*greater than or equal to 1"),
    ({"search": {"batch_size": {"float": [32, 256]}}}, r"search.batch_size gives 32.0: .*valid integer"),
    ({"training": {"batch_size": "32"}}, r"batch_size: .*valid integer, got '32'"),
    ({"start": [{"filters1": 4, "filters2": 4, "dropout": 0.1, "learning_rate": 0.005}, "recipe"]}, r"put it first"),
    ({"search": {"optimizer": {"choice": ["adam", "lion"]}}}, r"search.optimizer gives 'lion'"),
    ({"search": {"dropout": {"float": [float("nan"), 1.0]}}}, r"search.dropout: float.0: .*finite"),
    ({"search": {}}, r"lacks search"),
    ({"search": 3}, r"search must hold keys and values, got 3"),
    ({"training": {"learning_rate": 0.1}}, r"learning_rate stands under both training and search"),
    ({"start": ["recipe"]}, r"start\[0\] \(the recipe\) has filters1=32, outside"),
    ({"start": [{"filters1": 9}]}, r"start\[0\] lacks filters2, dropout, learning_rate"),
    ({"start": [{"filters9": 9}]}, r"start\[0\]: 'filters9' is no searched name \(did you mean"),
    ({"start": ["recip"]}, r"start.0"),
    ({"budget": {"trials": 0}}, r"budget.trials: .*greater than or equal to 1, got 0"),
    ({"budget": {"hours": -1}}, r"budget.hours: .*greater than 0, got -1"),
    ({"budget": {"epochs": 2.5}}, r"budget.epochs: .*integer"),
    ({"budget": {"trails": 3}}, r"budget: 'trails' is no budget \(did you mean 'trials'\?\)"),
    ({"budget": {}}, r"lacks budget"),
    ({"targets": [{"accuracy": 0.991, "name": 3}]}, r"targets.0.name: .*string"),
    ({"targets": [{"accuracy": 991.0, "name": "a"}]}, r"targets.0.accuracy: .*less than or equal to 100"),
    ({"name": "../escape"}, r"name: "),
    ({"name": None}, r"lacks name"),
    ({"seed": -1}, r"seed: .*greater than or equal to 0"),
    ({"trial_timeout": 0}, r"trial_timeout: .*greater than 0"),
]


@pytest.mark.parametrize(("changes", "expected"), CASES, ids=[str(change)[:60] for change, _ in CASES])
def test_a_wrong_study_gets_one_clear_line(
    write_study: Callable[..., Path], changes: dict[str, Any], expected: str
) -> None:
    if "search" in changes and isinstance(changes["search"], dict):
        changes = {"start": [], "training": {}} | changes
    message = complaint(write_study(**changes))
    assert message.startswith("tiny.yaml") and re.search(expected, message), message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: [", "no valid study file"),
        ("- a\n- b\n", "must hold keys and values"),
        ("", "must hold keys and values"),
        ("name: !!python/object/apply:os.system ['touch built']", "could not determine a constructor"),
        ("name: a\nname: b\n", "the key 'name' is there twice"),
        ("search:\n  l2: {float: [0, 1], float: [0, 2]}\n", "the key 'float' is there twice"),
        ("1: 2\n", "the key 1 is not a word"),
        ("a: &x [*x]\n", "is no key"),
        ("[" * 5000, "no valid study file"),
    ],
)
def test_what_is_no_study_file_gets_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.yaml").write_text(text)
    assert expected in complaint(tmp_path / "odd.yaml")
    assert not (tmp_path / "built").exists()


def test_bytes_and_huge_files_get_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in complaint(tmp_path / "odd.yaml")
    (tmp_path / "odd.yaml").write_text("a: b\n" * 300_000)
    assert "at most 1,000,000" in complaint(tmp_path / "odd.yaml")


def test_another_seed_does_not_make_up_for_a_missing_name(write_study: Callable[..., Path]) -> None:
    path = write_study(name=None)
    for override in ({"seed": 7}, {"dataset": "mnist"}):
        with pytest.raises(UserError, match="lacks name"):
            study_file.load(str(path), **override)


@pytest.mark.parametrize("name", ["a" * 300, "a" * 300 + ".yaml", "b\0.yaml", "", "..", "/"])
def test_any_text_may_be_asked_for(name: str) -> None:
    complaint(name)


def test_unknown_studies_are_named_with_the_nearest(tmp_path: Path) -> None:
    assert "did you mean 'quickstart'?" in complaint("quickstrat")
    assert "there is no study file" in complaint(tmp_path / "none.yaml")


def test_the_budget_of_the_command_line_is_checked_as_the_files(write_study: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"budget.trials: .*got -3"):
        study_file.load(str(write_study()), budget={"trials": -3})


def test_a_stored_study_reads_back_equal() -> None:
    study = study_file.load("lean_cnn")
    stored = yaml.safe_load(yaml.safe_dump(study.model_dump(mode="json", by_alias=True)))
    assert Study.model_validate(stored) == study
