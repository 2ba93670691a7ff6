"""What tests see of a sweep from outside: its stores and its processes."""

import pandas as pd
import psutil
import pytest
from optuna.trial import TrialState

from benchmarks import processes
from pipelines.tracking import store as tracking
from pipelines.tracking.records import RunFacts
from sweeps import runs
from sweeps.stores.store import Store
from tests.conftest import Sweep


def experiment_runs(condition: str = "") -> list[RunFacts]:
    return tracking.all_runs(tracking.find_experiment("tiny").experiment_id, condition)


def check_consistent(trials: int, epochs: int = 2) -> pd.DataFrame:
    """Every ticket has one trial and one run, in equal states, with a curve that has no gap and no double step."""
    stored = {trial.number: trial for trial in Store("tiny").trials()}
    assert sorted(stored) == list(range(trials))
    frame = runs("tiny").set_index("trial", drop=False)
    held = [number for number, trial in stored.items() if "run_id" in trial.user_attrs]
    assert sorted(frame.trial) == held, "one run a trial"
    expected = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "diverged": TrialState.PRUNED}
    expected |= {"failed": TrialState.FAIL, "waiting": TrialState.WAITING, "stopped": TrialState.PRUNED}
    for number, row in frame.iterrows():
        trial = stored[number]
        assert expected[row.state] == trial.state
        assert trial.user_attrs["run_id"] == row.run_id
        steps = [metric.step for metric in tracking.client().get_metric_history(row.run_id, "epoch_val_accuracy")]
        assert steps == list(range(1, len(steps) + 1))
        if trial.state.is_finished():
            assert not [path for path in tracking.artifacts(row.run_id) if path.startswith("checkpoint")]
        if row.state == "complete":
            models_of_trial = 2 if "repeats" in frame else 1
            assert len(steps) * models_of_trial == epochs == row.epochs
            assert row.val_accuracy == pytest.approx(trial.value)
            if models_of_trial == 1:
                assert trial.value == max(trial.intermediate_values.values())
    assert not experiment_runs("attributes.status = 'RUNNING'")
    assert not list((tracking.paths.mlruns() / "checkpoints").rglob("*.npz")) or "waiting" in set(frame.state)
    return frame


def workers_of(command: Sweep) -> list[psutil.Process]:
    return processes.workers(command.process.pid)


def worker_has_begun() -> bool:
    """Whether the stores are made: looking into them earlier would make them."""
    return any((tracking.paths.mlruns() / "logs").rglob("worker-*.log"))


def epochs_reported() -> int:
    return sum(len(trial.intermediate_values) for trial in Store("tiny").trials()) if worker_has_begun() else 0


def epochs_begun() -> int:
    return Store("tiny").epochs_spent() if worker_has_begun() else 0
