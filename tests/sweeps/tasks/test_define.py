"""A study before it runs: begun from nothing, looked at, and with other values of single keys."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps import Int, Study
from sweeps.stores.store import Store
from sweeps.study import study_file
from sweeps.tasks import check
from tests.conftest import ROOT, TINY, Sweep
from tests.sweeps.test_cli import call


@pytest.mark.slow
def test_what_init_writes_runs(sweep: Callable[..., Sweep], tmp_path: Path, made_stores: None) -> None:
    own = tmp_path / "new" / "project"
    code, out = call("init", own)
    assert code == 0 and f"run {own / 'my_study.yaml'} runs it in a minute" in out
    code, again = call("init", own)
    assert code == 2 and "my_model.py is there already: name another folder" in again and again.count("\n") == 1
    code, out, err = sweep("run", "my_study.yaml", "--trials", 2, "--device", "cpu", cwd=own).wait()
    assert code == 0 and "2 of 2 trials done" in out, err
    code, out = call("init", "/proc/nowhere")
    assert code == 2 and "cannot write to /proc/nowhere" in out


@pytest.mark.slow
def test_a_check_says_what_would_run_and_writes_nothing(write_study: Callable[..., Path], outputs: Path) -> None:
    search = {
        "filters1": {"int": [2, 8]},
        "activation": {"choice": ["relu", "tanh"]},
        "batch_size": {"choice": [100, 200]},
    }
    path = write_study(search=search, start=[], training={"epochs": 2}, budget={"trials": 3, "hours": 1.0})
    before = sorted(path.parent.iterdir())
    code, out = call("check", path, "--set", "sampler=auto", "--device", "cpu")
    lines = out.splitlines()
    assert code == 0, out
    assert lines[0] == "study tiny-samplerauto: model lean_cnn, protocol held_out"
    assert lines[1].startswith("data set mnist-5k: 5,000 images of 28 × 28 × 1 in 10 classes (4,000 train, 500")
    lines = lines[1:]
    assert lines[1:5] == [
        "  filters1: {int: [2, 8]}",
        "  activation: {choice: [relu, tanh]}",
        "  batch_size: {choice: [100, 200]}",
        "28 combinations",
    ]
    assert lines[5] == "sampler tpe, chosen because: choices in the search space"
    assert lines[6] == "budget: 3 trials, 1 hours"
    assert lines[7].startswith("cheapest: filters1=2 ") and "batch_size=200" in lines[7]
    assert (
        lines[8].startswith("dearest: filters1=8 ")
        and "batch_size=100: " in lines[8]
        and "at most 2 epochs" in lines[8]
    )
    assert lines[9].startswith("3 trials: about 0:0") and len(lines) == 10
    assert sorted(path.parent.iterdir()) == before and not outputs.exists()


def test_a_check_of_a_model_that_cannot_be_trained_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "flat.py").write_text("def build(*, units: int = 2):\n    return units\n")
    path = tmp_path / "flat.yaml"
    path.write_text(
        "{name: flat, model: flat.py, dataset: mnist-5k, search: {units: {int: [1, 2]}}, budget: {hours: 1}}"
    )
    code, out = call("check", path, "--device", "cpu")
    assert code == 2 and out.splitlines()[-1] == "error: build of model flat.py returns an int, not a keras.Model"


@pytest.mark.slow
def test_corners_meet_the_constraints_and_seeds_have_one_cost() -> None:
    limited = TINY | {"constraints": ["filters1 <= 2"], "training": {"epochs": 1, "batch_size": 500}}
    cheap, dear = check.corners(study_file.check(limited, "test"))
    assert (cheap.params["filters1"], dear.params["filters1"]) == (2, 2) and cheap.parameters <= dear.parameters
    one = study_file.check(limited | {"constraints": [], "search": {}, "start": []}, "test")
    assert [line for line in check.lines(one, "cpu") if line.startswith("a trial: ")]
    study = Study("mine", "tests.tiny_model", search={"units": Int(2, 8)}, dataset="mnist-5k", budget={"hours": 0.5})
    assert study.check("cpu").splitlines()[-1].startswith("0.5 hours: about ")


@pytest.mark.parametrize(
    ("settings", "name", "expected"),
    [
        (["training.epochs=3"], "tiny-epochs3", {"epochs": 3}),
        (["training.epochs=3", "seed=7"], "tiny-epochs3-seed7", {"epochs": 3}),
        (["training.epochs=2"], "tiny", {"epochs": 2}),  # as in the file
        (["budget.trials=9", "keep_models=1", "stop.trials_without_improvement=4"], "tiny", {}),
        (["name=other", "training.epochs=3"], "other", {"epochs": 3}),
        (["search.filters1={int: [2, 8]}"], "tiny-filters1-", {}),
        (["training.learning_rate=1e-3"], "tiny-learning_rate0.001", {}),
    ],
)
def test_another_value_is_another_study_unless_it_may_change(
    write_study: Callable[..., Path], settings: list[str], name: str, expected: dict[str, Any]
) -> None:
    search = {name: entry for name, entry in TINY["search"].items() if name != "learning_rate"}
    given = dict(each.split("=", 1) for each in settings)
    values = {key: study_file.value_of(text, key) for key, text in given.items()}
    study = study_file.load(str(write_study(search=search, start=[])), settings=values)
    assert study.name == name or (
        name.endswith("-") and study.name.startswith(name) and len(study.name) == len(name) + 8
    )
    assert expected.items() <= study.training.items()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("training.epoch=3", "tiny.yaml: training: 'epoch' is not a training setting (did you mean 'epochs'?)"),
        ("trainin.epochs=3", "tiny.yaml: 'trainin' is not a key (did you mean 'training'?)"),
        ("seed.x=3", "--set seed.x: seed of tiny.yaml holds no keys, it is 5"),
        ("seed", "'seed' is not NAME=VALUE, training.epochs=3 say"),
        ("seed=[3", "--set seed=[3 is not a YAML value"),
        ("training.learning_rate=0.1", "learning_rate stands under both training and search: keep one"),
    ],
)
def test_a_key_that_is_not_there_is_one_line(
    write_study: Callable[..., Path], outputs: Path, setting: str, expected: str
) -> None:
    for command in ("run", "check"):
        code, out = call(command, write_study(seed=5), "--set", setting)
        assert code == 2 and expected in out and out.count("\n") == 1
    assert not outputs.exists()


def test_a_file_without_a_name_still_lacks_one(write_study: Callable[..., Path]) -> None:
    code, out = call("check", write_study(name=None), "--set", "training.epochs=3")
    assert code == 2 and "tiny.yaml lacks name" in out


def test_the_shell_completes_names_of_studies(study: Store, tmp_path: Path) -> None:
    (tmp_path / "time.yaml").touch()
    script = "import sys; sys.argv[0] = 'sweep'; from sweeps.cli import main; main()"
    for words, expected in (("best ti", ["time.yaml", "tiny"]), ("run quick", ["quickstart"]), ("stop nobody", [])):
        asked = {"_SWEEP_COMPLETE": "bash_complete", "COMP_WORDS": f"sweep {words}", "COMP_CWORD": "2"}
        environment = os.environ | asked | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert [line.partition(",")[2] for line in done.stdout.split()] == expected, done.stderr


def test_a_stored_study_takes_no_other_values() -> None:
    code, out = call("run", "tiny", "--stored", "--set", "seed=1")
    assert (
        code == 2
        and out == "error: --stored resumes a study as it is: it takes neither --dataset nor --seed nor --set\n"
    )
