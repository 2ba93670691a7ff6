"""Ray Tune with Optuna's search, one trial at a time with both cores, its logger for MLflow.

Records: parameters, and every reported metric of each epoch, in MLflow and in files of its own; no model.
"""

from __future__ import annotations  # Ray sends the function without what only its annotations name

import logging
import os
import time
from typing import Any

import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search.optuna import OptunaSearch

from benchmarks.peers.work import configurations, folder, tell, workload


def train(configuration: dict[str, Any]) -> None:
    """Train one configuration, in a process that Ray starts."""
    import keras

    from benchmarks.peers.work import Images, build, fit

    images = Images()

    class Report(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            tune.report({name: float(value) for name, value in (logs or {}).items()})

    fit(build(configuration), configuration, images, [Report()])


cores = os.cpu_count() or 1
ray.init(num_cpus=cores, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
space = {
    **{f"filters{number}": tune.qrandint(8, 64, 8) for number in (1, 2, 3, 4)},
    **{"dropout": tune.uniform(0.0, 0.6), "l2": tune.loguniform(1e-6, 1e-2)},
    **{"learning_rate": tune.loguniform(3e-4, 1e-2), "lr_decay": tune.uniform(0.5, 1.0)},
    "batch_size": tune.qrandint(32, 256, 32),
}
logger = MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder() / 'mlflow.db'}", experiment_name="peers")
tuner = tune.Tuner(
    tune.with_resources(train, {"cpu": cores}),
    param_space=space,
    tune_config=tune.TuneConfig(
        metric="val_accuracy",
        mode="max",
        search_alg=OptunaSearch(points_to_evaluate=configurations()),
        num_samples=workload().configurations,
    ),
    run_config=tune.RunConfig(storage_path=str(folder()), name="peers", callbacks=[logger], verbose=0),
)
results = tuner.fit()
assert not results.errors, results.errors
tell(
    time.time(),
    [float(result.metrics_dataframe["val_accuracy"].max()) for result in results],
    sum(int(result.metrics["training_iteration"]) for result in results),
    {"ray": ray.__version__},
)
