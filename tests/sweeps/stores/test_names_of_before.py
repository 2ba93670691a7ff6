"""A store of the version before, whose runs have other names for what they measured, is read, resumed and mended as now."""

import contextlib
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from pipelines.tracking import store as tracking
from sweeps.results import leaderboard, systems
from sweeps.results.frames import best_runs, runs
from sweeps.stores.record import StoredStudy
from sweeps.stores.store import Store
from sweeps.tasks import champion, confirm, doctor

RENAMED = [
    ("train_", "final_train_"),
    ("val_", "final_validation_"),
    ("epoch_val_", "val_"),
]  # in an order without clashes


def give_names_of_before(folder: Path) -> None:
    """Give both databases in `folder` what versions up to 2026-11-27 wrote."""
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as file, file:
        for table in ("metrics", "latest_metrics"):
            for now, before in RENAMED:
                text = f"UPDATE {table} SET key = ? || substr(key, ?) WHERE substr(key, 1, ?) = ?"
                file.execute(text, (before, len(now) + 1, len(now), now))
        file.execute("UPDATE tags SET value = 'val_accuracy' WHERE key = 'objectives'")
        file.execute("DELETE FROM tags WHERE key = 'metrics'")
    with contextlib.closing(sqlite3.connect(folder / "optuna.db")) as file, file:
        found = file.execute(
            "SELECT study_user_attribute_id, value_json FROM study_user_attributes WHERE key = 'study'"
        )
        for number, text in found.fetchall():
            content = {key: value for key, value in json.loads(text).items() if key not in ("task", "metrics")}
            content["objectives"] = ["val_accuracy"]
            content["targets"] = [
                {k: v for k, v in t.items() if k not in ("metric", "value")} for t in content["targets"]
            ]
            changed = json.dumps(content), number
            file.execute("UPDATE study_user_attributes SET value_json = ? WHERE study_user_attribute_id = ?", changed)
        file.execute("DELETE FROM study_user_attributes WHERE key = 'metric_sources'")


def shown() -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    leaderboard.show("tiny", console)
    return console.export_text()


def test_it_reads_as_it_did(seeded: Store, outputs: Path) -> None:
    now = runs("tiny"), best_runs("tiny", 2), systems.confirmations("tiny"), shown()
    digest = StoredStudy("tiny").resumable().digest()
    give_names_of_before(outputs)
    raw = tracking.client().get_run(now[0].run_id[0]).data.metrics
    assert "final_validation_accuracy" in raw and "epoch_val_accuracy" not in raw
    before = runs("tiny"), best_runs("tiny", 2), systems.confirmations("tiny"), shown()
    for then, today in zip(before[:3], now[:3], strict=True):
        pd.testing.assert_frame_equal(then, today)
    assert before[3] == now[3]
    assert not list(doctor.problems(Store("tiny")))
    assert StoredStudy("tiny").resumable().digest() == digest == StoredStudy("tiny").parent_run().tags["study_digest"]
    assert champion.promote("tiny").startswith("champion of mnist-5k: version 1")


@pytest.mark.slow
def test_it_resumes_and_is_confirmed(study: Store, outputs: Path, run_here: Any, here: list[str]) -> None:
    """New trials and seeds have the present names, and stand beside the others."""
    from sweeps.running.resources import ThisMachine

    trials = len(study.trials())
    give_names_of_before(outputs)
    run_here(StoredStudy("tiny").resumable({"trials": trials + 1}))
    frame = runs("tiny")
    assert len(frame) == trials + 1 and frame.val_accuracy.is_monotonic_decreasing and frame.val_accuracy.notna().all()
    raw = tracking.client().get_run(frame.run_id[frame.trial == trials].item()).data.metrics
    assert "epoch_val_accuracy" in raw and not any(name.startswith("final_") for name in raw)
    assert list(best_runs("tiny").run_id) == list(frame.run_id)
    confirm.run("tiny", 1, 3, ThisMachine(device="cpu"), Console(quiet=True))
    assert len(systems.confirmations("tiny")) == 3 and not list(doctor.problems(Store("tiny")))
