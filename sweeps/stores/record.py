"""A stored study: what is known of it in both stores, looked up here alone, by our own id and never by a library's."""

from collections.abc import Iterator, Mapping
from typing import Any

import models
from pipelines.errors import StoreUnavailable, UserError
from pipelines.tracking import store as tracking
from pipelines.tracking.records import ExperimentFacts, RunFacts
from sweeps.stores import names
from sweeps.stores.described import Described, sources_of
from sweeps.stores.described import read_stored as read_stored
from sweeps.stores.storage import study_names
from sweeps.stores.store import Store
from sweeps.study import study_file
from sweeps.study.study import Study


class StoredStudy(Described):
    """A study in Optuna's storage, and its experiment and parent run in MLflow's. Raises UserError for an unknown name."""

    def __init__(self, name: str):
        self.store = Store(name)
        self.asked, self.study_name = self.store.asked, self.store.study_name

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What Optuna's storage remembers of it, as it is now."""
        return self.store.attributes()

    @property
    def uid(self) -> str:
        """Our own id of it."""
        return self.store.uid

    def resumable(self, budget: Mapping[str, Any] | None = None) -> Study:
        """Return its definition, checked, to be resumed; `budget` overrules single entries."""
        return restore(self.store.asked, self.attributes, budget)

    def experiment(self) -> ExperimentFacts | None:
        """Return its experiment, whatever that is called now; that of its owner, if it has one; None where there is none."""
        owner = (find(self.owner) if self.owner else None) or self
        return tracking.find_experiment(self.owner or self.name, owner.uid)

    def parent_run(self) -> RunFacts:
        """Return its parent run; raises UserError where it has none."""
        experiment = self.experiment()
        found = tracking.parent_runs(experiment.experiment_id, self.uid) if experiment else []
        if not found:
            raise UserError(
                f"study {self.name!r} has no parent run in MLflow: sweep doctor {self.name} --fix makes one"
            )
        return found[0]

    def trial_runs(self) -> list[RunFacts]:
        """Return the runs of its trials, the oldest first."""
        experiment = self.experiment()
        return tracking.study_runs(experiment.experiment_id, self.uid) if experiment else []


def find(name: str) -> StoredStudy | None:
    """Return the study called `name`, or that began with this name; None where there is none."""
    try:
        return StoredStudy(name)
    except UserError as error:
        if isinstance(error, StoreUnavailable):
            raise
        return None


def by_uid(uid: str | None) -> StoredStudy | None:
    """Return the study with our id `uid`; None where the storage has none."""
    studies = map(StoredStudy, study_names() if uid else [])
    return next((each for each in studies if each.attributes.get(names.UID) == uid), None)


def owned_by(name: str) -> Iterator[StoredStudy]:
    """Yield the studies that belong to study `name`, by the name that it began with."""
    for each in map(StoredStudy, study_names()):
        if each.owner == name:
            yield each


def adopt_source(attributes: Mapping[str, Any]) -> None:
    """Let the sources that are kept with a study be those of its models and functions in this process."""
    for source in [*sources_of(attributes, names.SOURCE), *sources_of(attributes, names.FUNCTIONS)]:
        models.adopt(source)


def restore(name: str, attributes: Mapping[str, Any], budget: Mapping[str, Any] | None = None) -> Study:
    """Return a study as it is stored, checked, to be resumed; `budget` overrules single entries.

    Training settings and start points are those it began with, whatever its model's recipe says now.
    """
    content = read_stored(name, attributes).model_dump(mode="json", by_alias=True)
    adopt_source(attributes)
    began = attributes[names.DEFINITION]
    content["training"] = {key: value for key, value in began["training"].items() if key not in content["search"]}
    content["start"] = began["start"]
    # What the data set says now was an argument of the model before, and every data set had ten classes.
    content["arguments"] = {
        key: value for key, value in content["arguments"].items() if (key, value) != ("classes", 10)
    }
    return study_file.overruled(
        content, f"stored study {name!r}", budget, None, None, None
    )  # whose sources are adopted
