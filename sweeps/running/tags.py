"""The tags that the runs of a study carry in MLflow, so far as the study says them."""

import models
from pipelines import datasets
from pipelines.metrics import short
from pipelines.tracking import store as tracking
from pipelines.tracking.names import CURVE, gap_name
from pipelines.tracking.views import View
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


def view(study: Study, uid: str) -> View:
    """Return what MLflow's UI shows of a study's trials at once: what the leaderboard has, and the gaps to published values."""
    objectives = [objective.metric.name for objective in study.objectives if objective.metric]
    gaps = [gap_name(short(target.of), target.published) for target in study.sorted_targets()]
    return View(
        uid,
        [
            *(f"val_{name}" for name in objectives),
            f"test_{objectives[0]}",
            *(gaps if study.dataset.comparable else ()),
            *("epochs_trained", "seconds", "parameters"),
        ],
        study.objective.direction,
        [*study.search],
        [f"{CURVE}val_{name}" for name in dict.fromkeys([*objectives, "loss"])],
    )


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
