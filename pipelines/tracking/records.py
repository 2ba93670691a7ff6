"""What this project reads of MLflow's runs and experiments: plain data, so that the rest knows none of MLflow's types."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pipelines.tracking import names

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A run, without the history of its metrics: `metrics` are the last values, under their present names, see `names.py`.

    `status` is MLflow's word.

    Times are Unix milliseconds; `end_time` None: it has not ended.
    """

    run_id: str
    status: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    experiment_id: str = ""
    name: str = ""
    start_time: int = 0
    end_time: int | None = None

    @classmethod
    def of(cls, run: "Run") -> Self:
        """Return them of one of MLflow's runs."""
        info, data = run.info, run.data
        times = info.start_time, info.end_time
        return cls(
            info.run_id,
            info.status,
            data.params,
            names.present(data.metrics),
            data.tags,
            info.experiment_id,
            info.run_name,
            *times,
        )


@dataclass(frozen=True, slots=True)
class ExperimentFacts:
    """An experiment; `active`: not in MLflow's trash."""

    experiment_id: str
    name: str
    active: bool
    tags: dict[str, str]

    @classmethod
    def of(cls, experiment: "Experiment") -> Self:
        """Return them of one of MLflow's experiments."""
        return cls(experiment.experiment_id, experiment.name, experiment.lifecycle_stage == "active", experiment.tags)
