"""Reruns: any run again, from its id alone."""

from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from sweeps import runs
from sweeps.stores.store import Store
from sweeps.study import study_file
from sweeps.tasks import doctor, rerun
from tests.conftest import TINY


@pytest.fixture
def again(here: list[str]) -> Callable[[str], str]:
    """Rerun a run in this process; return what was said."""

    def run(run_id: str) -> str:
        console = Console(record=True, width=200)
        assert rerun.run(run_id, "cpu", console)
        return console.export_text()

    return run


def test_a_rerun_is_equal_bit_for_bit_and_stands_beside_its_original(study: Store, again: Any) -> None:
    original = runs("tiny").iloc[1]
    said = again(original.run_id)
    assert "equal, bit for bit" in said and "0 of 500 predictions on test images are others" in said
    found = tracking.all_runs(tracking.find_experiment("tiny").experiment_id, "tags.phase = 'rerun'")
    (copy,) = [run for run in found if "trial" in run.tags]
    assert copy.params == tracking.get_run(original.run_id).params
    assert len(runs("tiny")) == 4  # it is no trial of the study
    assert not list(doctor.problems(Store(f"rerun-{original.run_id}")))
    assert again(original.run_id) == said  # nothing more is trained


def test_what_is_not_as_it_was_is_said(study: Store, again: Any) -> None:
    run_id = runs("tiny").run_id[0]
    client = tracking.client()
    client.set_tag(run_id, "git_commit", "another")
    client.set_tag(run_id, "keras_version", "2.0")
    client.log_metric(run_id, "test_accuracy", 0.5)
    client.log_metric(run_id, "loss", 7.0, step=1)
    said = again(run_id)
    assert "git_commit was another, is" in said and "keras_version was 2.0, is" in said
    assert "test_accuracy: 0.5 then," in said and "loss differs from epoch 1 on" in said
    assert "not equal" in said


def test_a_pruned_run_is_trained_for_as_many_epochs(run_here: Any, again: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Store, "to_prune", lambda _, trials, __: {trial.number for trial in trials})
        run_here(
            study_file.check(TINY | {"budget": {"trials": 1}, "training": {"epochs": 3, "batch_size": 500}}, "test")
        )
    (row,) = runs("tiny").itertuples()
    assert row.state == "pruned" and row.epochs == 1
    assert "equal, bit for bit" in again(row.run_id)


def test_a_run_of_several_seeds(run_here: Any, again: Any) -> None:
    changes = {"repeats": 2, "budget": {"trials": 1}, "training": {"epochs": 1, "batch_size": 500}}
    run_here(study_file.check(TINY | changes, "test"))
    said = again(runs("tiny").run_id[0])
    assert "equal, bit for bit" in said and "0 of 1000 predictions" in said


def test_a_run_that_never_had_an_epoch_is_not_called_equal(run_here: Any, again: Any) -> None:
    content = TINY | {"model": "tests.tiny_model", "search": {"units": {"int": [2, 4]}}, "start": []}
    run_here(study_file.check(content | {"training": {"epochs": 1}, "budget": {"trials": 1}}, "test"))
    run_id = runs("tiny").run_id[0]
    (original,) = [tracking.get_run(run_id)]
    empty = tracking.get_run(tracking.client().create_run(original.experiment_id).info.run_id)
    said = "\n".join(rerun.compare(empty, empty))
    assert "nothing to compare" in said and "equal, bit" not in said
    assert "ended as completed; now as nothing known" in "\n".join(rerun.compare(original, empty))


def test_a_rerun_beside_a_study_without_its_parent_run_is_one_line_and_leaves_nothing(study: Store) -> None:
    from sweeps.stores.storage import study_names

    run_id, experiment = runs("tiny").run_id[0], tracking.find_experiment("tiny").experiment_id
    tracking.discard_run(tracking.parent_runs(experiment, study.attributes()["uid"])[0].run_id)
    before = study_names()
    with pytest.raises(UserError, match="study 'tiny' has no parent run in MLflow: sweep doctor tiny --fix makes one"):
        rerun.run(run_id, "cpu", Console())
    assert study_names() == before


def test_what_cannot_be_trained_again_is_one_line(study: Store) -> None:
    console = Console()
    with pytest.raises(UserError, match="there is no run 'nonsense'"):
        rerun.run("nonsense", "cpu", console)
    experiment = tracking.find_experiment("tiny").experiment_id
    parent = tracking.parent_runs(experiment, study.attributes()["uid"])[0].run_id
    with pytest.raises(UserError, match="is a study's parent run"):
        rerun.run(parent, "cpu", console)
    run_id = runs("tiny").run_id[0]
    tracking.client().set_tag(run_id, "dataset_digest", "another")
    with pytest.raises(UserError, match="was trained on mnist-5k with digest another, and here it has"):
        rerun.run(run_id, "cpu", console)
    bare = tracking.client().create_run(experiment, tags={"trial": "0"}).info.run_id
    with pytest.raises(UserError, match="has not ended yet"):
        rerun.run(bare, "cpu", console)
    tracking.client().set_terminated(bare)
    with pytest.raises(UserError, match="are not those of a training"):
        rerun.run(bare, "cpu", console)
