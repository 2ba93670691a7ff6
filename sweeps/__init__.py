"""Which runs happen, and what came of them: `from sweeps import best_runs, runs, confirmations, verdicts`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.confirmed import confirmations, verdicts
    from sweeps.results import best_runs, runs

__all__ = ["best_runs", "confirmations", "runs", "verdicts"]


def __getattr__(name: str) -> Any:  # lazily: `sweep --help` must not load MLflow
    if name in __all__:
        from sweeps import confirmed, results

        return getattr(results if hasattr(results, name) else confirmed, name)
    raise AttributeError(f"module 'sweeps' has no attribute {name!r}")
