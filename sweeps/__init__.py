"""Which runs happen, and what came of them: `from sweeps import best_runs, runs`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.results import best_runs, runs

__all__ = ["best_runs", "runs"]


def __getattr__(name: str) -> Any:  # lazily: `sweep --help` must not load MLflow
    if name in __all__:
        from sweeps import results

        return getattr(results, name)
    raise AttributeError(f"module 'sweeps' has no attribute {name!r}")
