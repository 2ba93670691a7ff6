"""Who trains: how many workers, on which devices, on this machine or on the nodes of a Ray cluster."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipelines import addresses, backend
from pipelines import device as devices
from pipelines.errors import UserError, first_line
from pipelines.tracking import store as tracking
from sweeps.running.executors import Executor, Work
from sweeps.running.executors.processes import READY, ProcessExecutor
from sweeps.stores.storage import url as optuna_url

TRAVELS = ("MLFLOW_", "OPTUNA_STORAGE", "KERAS_BACKEND")  # what workers on other nodes find in their environment too


@dataclass(frozen=True)
class ThisMachine:
    """Processes of this machine; with 0 workers the study is watched, and mended, while others train.

    `trials_per_worker`: after how many a fresh process takes over; None: when it has grown.
    """

    workers: int = 1
    device: backend.Device = "auto"
    trials_per_worker: int | None = None

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UserError(f"--workers {self.workers}: expected at least 1, or 0 to watch while others train")
        if self.device == "gpu" and not devices.gpus():
            raise UserError(
                "--device gpu, but there is no NVIDIA GPU here (or its driver does not answer): use auto or cpu"
            )

    @property
    def gpus(self) -> tuple[str, ...]:
        """The GPUs over which workers are to be spread."""
        return () if self.device == "cpu" else tuple(devices.gpus())

    @property
    def gpu_share(self) -> float:
        """How much of a GPU a worker has, if it has any."""
        return min(1.0, len(self.gpus) / max(1, self.workers))

    @property
    def threads(self) -> int | None:
        """CPU threads a worker; None: as many as there are cores."""
        return max(1, devices.cores() // self.workers) if self.workers > 1 else None

    def start(self, work: Work, assignment: Any, logs: Path) -> Executor:
        """Return the executor; it starts nobody yet."""
        return ProcessExecutor(work, assignment, self.workers, logs, READY)

    def __str__(self) -> str:
        return {0: "no worker here", 1: "1 worker"}.get(self.workers, f"{self.workers} workers")


@dataclass(frozen=True)
class Cluster:
    """Workers on the nodes of a Ray cluster: `workers` at most, None as many as it has room for. Each has its share of a node."""

    workers: int | None
    device: backend.Device
    cpus: float
    gpu_share: float
    trials_per_worker: int | None = None

    @classmethod
    def connect(
        cls,
        workers: int | None,
        device: backend.Device,
        cpus: float | None,
        gpus: float | None,
        trials_per_worker: int | None,
    ) -> "Cluster":
        """Connect to the cluster, fill in what was left open, and check it; raises UserError when it cannot be had."""
        urls = {"OPTUNA_STORAGE": optuna_url(), "MLFLOW_TRACKING_URI": tracking.uri()}
        files = " and ".join(name for name, url in urls.items() if addresses.backend(url) == "sqlite")
        if files:
            raise UserError(
                f"--executor ray needs stores that every node reaches: set {files} to a PostgreSQL database or an MLflow server "
                "(docs/cluster.md)"
            )
        if workers is not None and workers < 1:
            raise UserError(f"--workers {workers}: expected at least 1")
        try:
            from sweeps.running.executors import ray

            ray.connect()
        except ImportError as error:
            raise UserError(
                '--executor ray needs Ray: python -m pip install -c constraints.txt -e ".[cluster]"'
            ) from error
        except Exception as error:  # Ray raises whatever its parts raise
            reason = first_line(error)
            raise UserError(
                f"no Ray cluster answers ({reason}): start one with ray start --head, or set RAY_ADDRESS"
            ) from error
        most = ray.largest_node()
        cpus = 1.0 if cpus is None else cpus
        if gpus is None:
            gpus = 1.0 if device == "gpu" or (device == "auto" and most["GPU"]) else 0.0
        if cpus <= 0 or gpus < 0 or (gpus > 1 and gpus % 1):
            raise UserError(
                f"{cpus:g} CPUs and {gpus:g} GPUs a trial: expected some CPU, and a fraction of a GPU or whole ones"
            )
        if device == "gpu" and not gpus:
            raise UserError("--device gpu and no GPU a trial: give --gpus-per-trial, a fraction or whole ones")
        if not ray.room(ray.Share(cpus, gpus)):
            raise UserError(
                f"a trial is to have {cpus:g} CPUs and {gpus:g} GPUs, and no node of the cluster has so many: the largest have "
                f"{most['CPU']:g} CPUs and {most['GPU']:g} GPUs"
            )
        return cls(workers, device if gpus else "cpu", cpus, gpus, trials_per_worker)

    @property
    def gpus(self) -> tuple[str, ...]:
        """None: Ray gives each worker its own."""
        return ()

    @property
    def threads(self) -> int:
        """CPU threads a worker."""
        return max(1, int(self.cpus))

    def start(self, work: Work, assignment: Any, logs: Path) -> Executor:
        """Return the executor; it starts nobody yet."""
        from sweeps.running.executors import ray

        share = ray.Share(self.cpus, self.gpu_share)
        environment = {key: value for key, value in os.environ.items() if key.startswith(TRAVELS)}
        return ray.RayExecutor(work, assignment, self.workers, logs, share, environment, READY)

    def __str__(self) -> str:
        many = "as many workers as there is room for" if self.workers is None else f"at most {self.workers} workers"
        return f"{many} on the cluster, each with {self.cpus:g} CPUs and {self.gpu_share:g} GPUs"


Resources = ThisMachine | Cluster


def resolve(
    executor: Literal["processes", "ray"] = "processes",
    workers: int | None = None,
    device: backend.Device = "auto",
    cpus_per_trial: float | None = None,
    gpus_per_trial: float | None = None,
    trials_per_worker: int | None = None,
) -> Resources:
    """Return the resources that were asked for; raises UserError when they cannot be had."""
    if trials_per_worker is not None and trials_per_worker < 1:
        raise UserError(f"--trials-per-worker {trials_per_worker}: expected at least 1")
    if executor == "ray":
        return Cluster.connect(workers, device, cpus_per_trial, gpus_per_trial, trials_per_worker)
    if cpus_per_trial is not None or gpus_per_trial is not None:
        raise UserError(
            "--cpus-per-trial and --gpus-per-trial share out the nodes of a cluster: they need --executor ray"
        )
    return ThisMachine(1 if workers is None else workers, device, trials_per_worker)
