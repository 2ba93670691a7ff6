"""The tags that the runs of a study carry in MLflow, so far as the study says them."""

import models
from pipelines import datasets
from pipelines.tracking import store as tracking
from sweeps.study import samplers
from sweeps.study.study import Study


def of_dataset(dataset: datasets.Dataset) -> dict[str, str]:
    """Return the tags of a data set."""
    return {"dataset": dataset.name, "dataset_digest": dataset.digest}


def of_user(study: Study) -> dict[str, str]:
    """Return the tags that the study file gives to every run."""
    return {name: str(value) for name, value in study.tags.items()}


def of_parent(study: Study) -> dict[str, str]:
    """Return what may change on the parent run while the study stays what it is."""
    return of_user(study) | ({tracking.DESCRIPTION: study.description} if study.description else {})


def of_study(study: Study) -> dict[str, str]:
    """Return the tags of a study's parent run."""
    return of_parent(study) | {"study": study.name, "study_digest": study.digest(), "protocol": study.protocol}


def of_trial(study: Study, model: str, number: int, uid: str, phase: tracking.Phase) -> dict[str, str]:
    """Return the tags of the run of trial `number`, which trains `model`."""
    return of_user(study) | {
        "phase": phase,
        "study": study.name,
        "study_uid": uid,
        "trial": str(number),
        "protocol": study.protocol,
        "model_digest": models.digest(model),
        "objectives": ",".join(map(str, study.objectives)),
        "metrics": ",".join(metric.name for metric in study.measured),
        "sampler": samplers.chosen_sampler(study).name,
    }
