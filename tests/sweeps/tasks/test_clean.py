"""Room on the disk, and what is exported: models alone go, of trials that are not the best; every row is there."""

import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from sweeps import clean as freed
from sweeps import runs
from sweeps.stores import names
from sweeps.stores.store import Store
from sweeps.study import study_file
from sweeps.tasks import clean
from tests.conftest import TINY
from tests.sweeps.conftest import QUICK
from tests.sweeps.test_cli import call


def with_models() -> set[int]:
    found = runs("tiny").set_index("trial").run_id
    return {int(number) for number, run_id in found.items() if "model.keras" in tracking.artifacts(run_id)}


def test_models_of_all_but_the_best_are_deleted_once_it_is_said_what_that_frees(study: Store) -> None:
    order = runs("tiny").trial.tolist()
    assert with_models() == {*order} and clean.surplus(0, "30d") == []
    tracking.client().create_registered_model("mine")
    tracking.client().create_model_version("mine", "file:///x", study.trials()[order[3]].user_attrs[names.RUN_ID])
    code, out = call("clean", "--keep-models", 2)
    assert code == 2 and "tiny: models of 1 trials, " in out and "error: nothing was deleted" in out
    assert with_models() == {*order}
    code, out = call("clean", "--keep-models", 2, "--older", "0h", "--yes")
    assert code == 0 and out.endswith("in all\ndeleted\n")
    assert with_models() == {order[0], order[1], order[3]} and len(runs("tiny")) == 4
    assert call("clean", "--keep-models", 2) == (0, "there is nothing to delete\n")
    assert freed(1) > 10_000 and with_models() == {order[0], order[3]}
    study.note_session("now", 0.0)
    assert clean.surplus(0) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--keep-models", -1], "--keep-models -1: expected 0 or more"),
        (
            ["--keep-models", 1, "--older", "soon"],
            "--older soon: expected a number of hours, days or weeks: 12h, 30d, 2w",
        ),
    ],
)
def test_what_cannot_be_is_one_line(options: list[object], expected: str) -> None:
    code, out = call("clean", *options)
    assert code == 2 and expected in out and out.count("\n") == 1


@pytest.mark.slow
def test_several_studies_are_one_table_where_they_are_optimised_alike(
    study: Store, run_here: Callable[..., Store], tmp_path: Path
) -> None:
    one = QUICK | {"budget": {"trials": 1}}
    tags = {"owner": "me", "runs on": 2}
    search = TINY["search"] | {"filters3": {"int": [2, 4]}}
    other = {"name": "other", "search": search, "start": [], "tags": tags, "description": "Another one."}
    run_here(study_file.check(TINY | one | other, "test"))
    table = runs(["tiny", "other", "tiny"])
    assert len(table) == 5 and table.study.value_counts().to_dict() == {"tiny": 4, "other": 1}
    assert table.val_accuracy.is_monotonic_decreasing and table.filters3.notna().all()
    code, out = call("export", "tiny", "other", "--csv", tmp_path / "runs.csv")
    assert code == 0 and out == f"5 trials are in {tmp_path / 'runs.csv'}\n"
    assert pd.read_csv(tmp_path / "runs.csv").val_accuracy.tolist() == table.val_accuracy.tolist()
    code, out = call("export", "other", "--csv", "-")
    assert pd.read_csv(io.StringIO(out)).run_id.tolist() == runs("other").run_id.tolist()
    code, out = call("export", "other", "--csv", "/proc/none/runs.csv")
    assert code == 2 and "cannot write /proc/none/runs.csv" in out
    by_size = {"name": "third", "objectives": ["val_accuracy", "parameters"]}
    run_here(study_file.check(TINY | one | by_size, "test"))
    with pytest.raises(UserError, match=r"optimised differently .tiny by accuracy, third by accuracy, parameters."):
        runs(["tiny", "third"])

    experiment = tracking.find_experiment("other")
    (parent,) = tracking.parent_runs(experiment.experiment_id, Store("other").uid)
    (trial,) = tracking.study_runs(experiment.experiment_id, Store("other").uid)
    for run in (parent, trial):
        assert (run.tags["owner"], run.tags["runs on"]) == ("me", "2")
    assert parent.tags["mlflow.note.content"] == "Another one."
    from sweeps.study.study import OWN_TAGS

    known = {*OWN_TAGS, *tags}
    assert [
        tag for tag in trial.tags if tag not in known and not tag.endswith("_version") and "mlflow." not in tag
    ] == []
    again = study_file.check(TINY | one | other | {"tags": {"owner": "you"}, "budget": {"trials": 1}}, "test")
    run_here(again)  # what may change, does
    assert tracking.get_run(parent.run_id).tags["owner"] == "you"


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"owner": ["me"]}, "tags.owner: Input should be a valid string, got ['me']"),
        ({"trial": "x"}, "tags: runs carry a tag 'trial' already, with another meaning: give yours another name"),
        ({"a.b": "x"}, "tags: 'a.b' cannot be a tag: a name has letters, digits, _, - and spaces"),
        (["x"], "tags must hold keys and values, got ['x']"),
    ],
)
def test_a_tag_that_cannot_be_is_one_line(tags: object, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        study_file.check(TINY | {"tags": tags}, "tiny.yaml")
    assert expected in str(caught.value) and "\n" not in str(caught.value)
