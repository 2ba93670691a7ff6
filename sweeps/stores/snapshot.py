"""Optuna's storage as it was at one moment, for the pruning decisions about many trials: read once, written to not at all."""

import copy
from collections.abc import Container
from typing import Any

from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState


class Snapshot:
    """One study's trials in place of the storage's; what a pruner notes of a trial is seen here at once, and kept in `noted`.

    `noted`: by id of the trial and key.
    """

    def __init__(self, storage: BaseStorage, study_id: int, directions: list[StudyDirection]):
        self._storage, self._study_id, self._directions = storage, study_id, directions
        self._trials = {trial._trial_id: trial for trial in storage.get_all_trials(study_id, deepcopy=False)}
        self.noted: dict[tuple[int, str], Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return the id of the study."""
        return self._study_id

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Return which way each objective goes."""
        return self._directions

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial."""
        return self._trials[trial_id]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials of these states, or of any."""
        return [trial for trial in self._trials.values() if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Note something of a trial; Optuna's own copy of it stays as it is."""
        noted = copy.copy(self._trials[trial_id])
        noted.system_attrs = {**noted.system_attrs, key: value}
        self._trials[trial_id] = noted
        self.noted[trial_id, key] = value
