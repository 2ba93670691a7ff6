"""What a parent tells its workers."""

from collections.abc import Mapping
from dataclasses import dataclass

import models
from pipelines import backend
from pipelines.tracking import store as tracking
from sweeps.study.study import Study


@dataclass(frozen=True)
class Assignment:
    """What a worker needs to know; plain data, so that it can travel to any process."""

    study: Study
    sources: tuple[models.Source, ...]  # of the user's models
    code: Mapping[str, str]  # the commit of the user's code, which a worker elsewhere cannot ask for
    study_digest: str
    phase: tracking.Phase
    study_uid: str
    experiment_id: str
    parent_run_id: str
    device: backend.Device
    gpus: tuple[str, ...]  # workers are spread over them
    gpu_share: float  # of one GPU, that a worker has if it has any
    threads: int | None
    trials_per_worker: int | None  # then it makes room for a fresh one
    tickets: int | None  # trials that the study may have; None: any number
    deadline: float | None  # Unix seconds at which the budget's hours are used up
    ended_before: frozenset[int]  # trials that had ended when the command began
    functions: tuple[models.Source, ...] = ()  # of the user's, such as losses
