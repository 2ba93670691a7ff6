"""The searches that are replayed: this project's samplers and pruners, and the other systems' own, set up as they advise.

Each takes a `Trainer` and a seed, and searches until the trainer says that it is over.
"""

import tempfile
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from benchmarks.strategies import table
from benchmarks.strategies.table import EPOCHS, Trainer
from sweeps.study import pruners, samplers, space
from sweeps.study.study import IntRange


def sweep(trainer: Trainer, seed: int, **settings: Any) -> None:
    """Search as a worker of this project does; `settings`: of the study file."""
    study = table.study(seed=seed, **settings)
    searching = optuna.create_study(study_name=str(seed), direction="maximize", pruner=pruners.pruner(study))
    for point in study.start_points:
        searching.enqueue_trial(point)
    while True:
        searching.sampler = samplers.sampler(study, len(searching.trials))
        trial = searching.ask()
        row = trainer.begin(space.suggest(trial, study.search))
        accuracies = []
        for epoch in range(1, EPOCHS + 1):
            accuracies.append(trainer.train(row, epoch))
            trial.report(accuracies[-1], epoch)
            if trial.should_prune():
                searching.tell(trial, state=TrialState.PRUNED)
                break
        else:
            searching.tell(trial, max(accuracies))


def ray_tune(trainer: Trainer, seed: int, **settings: Any) -> None:
    """Search by Ray Tune's OptunaSearch and ASHA scheduler; `settings`: of the scheduler."""
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    distributions = {name: space.distribution(entry) for name, entry in table.study().search.items()}
    searcher = OptunaSearch(distributions, metric="val_accuracy", mode="max", seed=seed)
    scheduler = ASHAScheduler("training_iteration", "val_accuracy", "max", max_t=EPOCHS, **settings)
    np.random.seed(seed)  # the scheduler draws brackets from it
    while True:
        trial: Any = SimpleNamespace(trial_id=str(trainer.trials))  # all of a trial that the scheduler looks at
        row = trainer.begin(searcher.suggest(trial.trial_id) or {})
        scheduler.on_trial_add(None, trial)
        for epoch in range(1, EPOCHS + 1):
            told = {"training_iteration": epoch, "val_accuracy": trainer.train(row, epoch)}
            searcher.on_trial_result(trial.trial_id, told)
            if scheduler.on_trial_result(None, trial, told) == ASHAScheduler.STOP:
                break
        searcher.on_trial_complete(trial.trial_id, told)
        scheduler.on_trial_complete(None, trial, told)


def keras_tuner(trainer: Trainer, seed: int) -> None:
    """Search by KerasTuner's Hyperband, which trains those it promotes further."""
    import keras_tuner

    asked = keras_tuner.HyperParameters()
    for name, entry in table.study().search.items():
        low, high = entry.bounds  # type: ignore[union-attr]
        if isinstance(entry, IntRange):
            asked.Int(name, low, high, step=entry.step)
        else:
            asked.Float(name, low, high, sampling="log" if entry.log else "linear")  # type: ignore[union-attr]
    rows: dict[str, int] = {}

    class Replayed(keras_tuner.Hyperband):  # type: ignore[misc]
        def run_trial(self, trial: Any, *_: Any, **__: Any) -> float:
            values = trial.hyperparameters.values
            promoted = values.get("tuner/trial_id")
            rows[trial.trial_id] = rows[promoted] if promoted else trainer.begin(values)
            epochs = range(values["tuner/initial_epoch"] + 1, values["tuner/epochs"] + 1)
            return max(trainer.train(rows[trial.trial_id], epoch) for epoch in epochs)

    objective = keras_tuner.Objective("val_accuracy", "max")
    with tempfile.TemporaryDirectory() as folder:
        options = {"seed": seed, "hyperparameters": asked, "directory": folder, "project_name": "replayed"}
        Replayed(
            objective=objective, max_epochs=EPOCHS, hyperband_iterations=100, tune_new_entries=False, **options
        ).search(verbose=0)
