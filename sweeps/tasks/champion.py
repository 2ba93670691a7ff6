"""The champion of a data set: the registered model of the configuration that validation prefers to all before it."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import models
from pipelines import datasets, serving
from pipelines.config import RunConfig
from pipelines.datasets.decode import BLACK, WHITE, read
from pipelines.datasets.known import KNOWN
from pipelines.errors import UserError
from pipelines.figures.style import is_ink
from pipelines.metrics import ACCURACY, Metric
from pipelines.tracking import registry
from pipelines.tracking import store as tracking
from sweeps.results import choice, systems, verdict_lines
from sweeps.results.choice import clearly_behind
from sweeps.results.verdict import FEWEST_SEEDS
from sweeps.stores.record import StoredStudy
from sweeps.tasks import logged

UNKNOWN = "unknown"
ASKED = "asked"  # tag of a version: what it takes, and what its answers mean
IMAGES = "images"
MOST_NAMED, LONGEST_TAG = 65_536, 4_000  # classes, characters
LOOKED_AT = 100  # images, for whether they are light on black
FAINTEST = 32  # steps of grey, of 255, that an image has at least from its darkest pixel to its lightest
FORMER_VALIDATION = "val_accuracies"  # what versions before called a champion's tag `val_accuracy`


@dataclass(frozen=True)
class Answer:
    """What a champion, named in `of`, takes image files for.

    `classified`: for each file the names of the classes with their probabilities (0 to 1), the likeliest first, and what speaks
    against it.
    """

    of: str
    classified: list[tuple[Path, list[tuple[str, float]], str | None]]


def promote(study: str) -> str:
    """Register the model of a study's chosen configuration as its data set's champion, if it is better; return what was done.

    Better: the present champion's configuration is clearly behind by validation, by Welch's test; a test
    value decides nothing. The model is the first seed of the final training, or else the seed that is best by validation. It is
    named after the data set, and after the study's objective where that is not the accuracy. A configuration that is champion
    already gets its tags, or its final training, brought up to date.
    """
    seeds = systems.confirmations(study)
    stored = StoredStudy(study)
    definition = stored.read()
    objective = definition.objective
    validation, on_test = f"val_{objective.name}", f"test_{objective.name}"
    complete = seeds[(seeds.state == "complete") & seeds[on_test].notna()]
    of_confirm = complete[complete.phase == "confirm"]
    number = choice.chosen(study)
    own = of_confirm[of_confirm.trial == number]
    if number is not None:  # seeds beyond those that were planned decide a verdict, and choose nothing
        own = own[own.seed < choice.planned(study, "confirm", number, int(own.seed.max()) + 1 if len(own) else 0)]
    if len(own) < FEWEST_SEEDS:
        return f"no champion yet: a configuration needs {FEWEST_SEEDS} complete seeds, and has {len(own)}"
    final = complete[(complete.phase == "final") & (complete.trial == number)]
    values = list(own[validation])
    row = final.iloc[0] if len(final) else own.iloc[int(np.argmin([objective.cost(value) for value in values]))]
    run = tracking.get_run(row.run_id)
    uid = stored.uid
    digest = str(tracking.get_run(own.run_id.iloc[0]).tags.get("dataset_digest"))
    name = _name(run.tags["dataset"], digest, objective)
    present = registry.champion(name)
    if present is not None:
        if present.tags.get("split_digest") != digest:
            raise UserError(
                f"the champion of {name} was chosen on other images (digest {present.tags.get('split_digest')}, here {digest}): "
                f"delete the alias {registry.ALIAS!r} of the registered model {name!r} to start over"
            )
        same = (present.tags.get("study_uid"), present.tags.get("trial")) == (uid, str(number))
        before = json.loads(present.tags.get(validation) or present.tags.get(FORMER_VALIDATION, "[]"))
        if not before:
            raise UserError(
                f"the champion of {name}, version {present.number}, was not registered by sweep confirm (no tag {validation}): "
                f"delete its alias {registry.ALIAS!r} in the MLflow UI to start over"
            )
        if not same and 0 not in clearly_behind({0: before, 1: values}, objective.direction):
            theirs = f"trial {present.tags.get('trial')} of {present.tags.get('study')} ({_mean(before, objective)})"
            ours = f"trial {number} of {study} ({_mean(values, objective)})"
            return f"the champion of {name} stays {theirs}: {ours} is not clearly better by validation"
    tags = {
        "study": study,
        "study_uid": uid,
        "trial": str(number),
        "model": run.params["model"],
        "phase": str(row.phase),
        "dataset": run.tags["dataset"],
        "task": definition.task,
        "dataset_digest": run.tags.get("dataset_digest", UNKNOWN),
        "split_digest": digest,
        "git_commit": run.tags.get("git_commit", UNKNOWN),
        "seed": run.params["seed"],
        **_how_to_ask(logged.configuration(run)),
        validation: json.dumps(values),
        on_test: f"{row[on_test]:.4f}",
        **_verdicts(study, str(row.phase), int(row.trial)),
    }
    version = registry.find(name, row.run_id)
    if version is None:
        trained = logged.load(run)
        first = trained.dataset.test.x[:1]
        several = isinstance(first, dict)
        example = {k: x.astype(np.float32) for k, x in first.items()} if several else first.astype(np.float32)
        model = serving.with_scaling(trained.model, trained.scaling, trained.config.task)
        version = registry.register(name, row.run_id, model, example, models.source(trained.config.model))
    registry.promote(version, tags)
    return (
        f"champion of {name}: version {version.number}, trial {number} of {study}, {_mean(values, objective)}; "
        f"sweep predict IMAGE asks models:/{name}@{registry.ALIAS}, docs/verdicts.md says how to serve it"
    )


def predict(files: Sequence[Path], dataset: str | None, invert: bool) -> Answer:
    """Return what the data set's champion takes image files for.

    `dataset`: may be left out where there is one champion. `invert`: the images are dark on light, the data set's light on
    dark.
    Raises UserError for a file that is not an image, and where there is no champion or its files are gone.
    """
    found = registry.champions() if tracking.exists() else []
    if not found:
        raise UserError("there is no champion yet: sweep confirm registers one")
    if dataset is None and len(found) > 1:
        raise UserError(f"there are champions of {', '.join(found)}: name one with --dataset")
    named = [
        each
        for each in found
        if dataset is None or each == dataset or re.fullmatch(rf"{re.escape(dataset)}-[0-9a-f]{{8}}(-\w+)?", each)
    ]
    if len(named) > 1:
        raise UserError(f"there are several champions of {dataset}: name one of {', '.join(named)} with --dataset")
    version = registry.champion(named[0]) if named else None
    if version is None:
        raise UserError(f"there is no champion of {dataset!r}: expected one of {', '.join(found)}")
    name, asked = named[0], json.loads(version.tags.get(ASKED, "{}"))
    if version.tags.get("task") == "regression":
        raise UserError(
            f"the champion of {name} predicts numbers, not classes: serve it with mlflow models serve -m "
            f"models:/{name}@{registry.ALIAS}"
        )
    shape, fit = tuple(asked.get("shape", (28, 28, 1))), asked.get("fit", "pad")
    if asked.get("kind", IMAGES) != IMAGES:
        raise UserError(
            f"the champion of {name} takes no images: load models:/{name}@{registry.ALIAS} with MLflow and ask it"
        )
    ink = asked.get("ink", True)
    paper = BLACK if ink and not invert else WHITE
    images = np.stack([read(file, shape, fit, invert, paper) for file in files])
    classes = asked.get("classes") or [str(number) for number in range(MOST_NAMED)]
    if source := tracking.source_of(version.run_id):
        models.adopt(source)
    predicted = registry.load(version, version.tags.get("model", "")).predict(images.astype(np.float32), verbose=0)
    of = f"the champion of {name}, version {version.number}: trial {version.tags.get('trial')} of {version.tags.get('study')}"
    ranked = [[(classes[label], float(each[label])) for label in np.argsort(-each)] for each in predicted]
    return Answer(of, list(zip(files, ranked, (_doubt(image, ink) for image in images), strict=True)))


def _name(dataset: str, digest: str, objective: Metric) -> str:
    """Return under which name the champion of a data set is registered: two of one's own may be called alike."""
    own = dataset if dataset in KNOWN else f"{dataset}-{digest[:8]}"
    return own if objective is ACCURACY else f"{own}-{objective.name}"


def _how_to_ask(config: RunConfig) -> dict[str, str]:
    """Return the tag that says what a champion takes and what its answers mean."""
    dataset = datasets.load(config.dataset)
    facts: dict[str, Any] = {"kind": IMAGES if dataset.has_images else "numbers", "shape": dataset.shape}
    if dataset.has_images:
        facts |= {"fit": getattr(config.dataset, "fit", "pad"), "ink": is_ink(dataset.test.x[:LOOKED_AT])}
    if len(dataset.classes) <= MOST_NAMED:
        facts["classes"] = list(dataset.classes)
    text = json.dumps(facts)
    return {ASKED: text if len(text) <= LONGEST_TAG else json.dumps(facts | {"classes": None})}


def _doubt(image: NDArray[np.uint8], ink: bool) -> str | None:
    """Return why an image is probably not what the model was trained on; None: no reason. `ink`: that is light on black."""
    if np.ptp(image) < FAINTEST:
        return "the image is blank, or nearly so"
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    if ink and edge.mean() > 128:
        return "its edge is light, that of the data set's images dark: what is dark on light needs --invert"
    return None


def _verdicts(study: str, phase: str, trial: int) -> dict[str, str]:
    """Return the verdict on every target, a tag each."""
    system = f"trial {trial}" if phase == "confirm" else f"trial {trial}, all training images"
    judged = systems.verdicts(study)
    by_name = {metric.name: metric for metric in StoredStudy(study).read().measured}
    return {
        f"verdict {row.published:.2f} {''.join(c for c in row.target if c.isalnum() or c in ' -_')}": (
            f"{row.verdict} ({verdict_lines.of_seeds(dict(row), by_name[row.metric])})"
        )
        for _, row in judged[judged.system == system].iterrows()
    }


def _mean(values: Sequence[float], metric: Metric) -> str:
    called = f"{metric.label} " if metric.called else ""
    return f"{called}{metric.text(metric.scale * float(np.mean(values)))} on validation"
