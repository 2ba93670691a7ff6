"""What a run's metrics are called, and were called before: a run is wholly under names of one kind. And MLflow's own tags.

`val_NAME`, `test_NAME` and `train_NAME` are of the kept epoch, whatever the metric; `epoch_val_NAME` is the curve. Versions up to
2026-11-27 called the curve `val_NAME`, and the kept epoch's values `final_validation_NAME` and `final_train_NAME`.
"""

from collections.abc import Iterable, Mapping

PARENT_RUN, RUN_NAME, NOTE = (
    "mlflow.parentRunId",
    "mlflow.runName",
    "mlflow.note.content",
)  # the tags that MLflow has a use for
SOURCE_NAME, USER, COMMIT = "mlflow.source.name", "mlflow.user", "mlflow.source.git.commit"
DATASET_CONTEXT = "mlflow.data.context"  # a tag of a run's data set

CURVE = "epoch_"  # before what is measured of the kept epoch too: its value after each epoch
_FORMER = {"val_": "final_validation_", "train_": "final_train_"}
_PRESENT = {old: new for new, old in _FORMER.items()}
READ = (
    "val_%",
    "test_%",
    f"{CURVE}val_%",
    "final_validation_%",
)  # patterns of all that says what a run came to, in SQL


def are_former(names: Iterable[str]) -> bool:
    """Whether a run's metrics have the names of before."""
    known = set(names)
    curves = any(name.startswith(f"{CURVE}val_") for name in known)
    return any(name.startswith("final_") for name in known) or (
        not curves and any(name.startswith("val_") for name in known)
    )


def former(name: str) -> str:
    """Return what a metric was called before."""
    if name.startswith(f"{CURVE}val_"):
        return name.removeprefix(CURVE)
    return next((old + name.removeprefix(new) for new, old in _FORMER.items() if name.startswith(new)), name)


def present(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return a run's metrics under their present names."""
    if not are_former(metrics):
        return dict(metrics)
    return {_present(name): value for name, value in metrics.items()}


def _present(name: str) -> str:
    if name.startswith("val_"):
        return CURVE + name
    return next((new + name.removeprefix(old) for old, new in _PRESENT.items() if name.startswith(old)), name)


def gap_name(metric: str, target: float) -> str:
    """Return what the gap of a metric's test value to a published one is called."""
    return f"gap_to_{target:.2f}" if metric == "accuracy" else f"gap_to_{metric}_{target:g}"
