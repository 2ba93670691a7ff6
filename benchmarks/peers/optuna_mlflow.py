"""Optuna with MLflow, as MLflow's documentation nests the trials of a study under a run.

Records: parameters, six metrics an epoch, test accuracy and model of each trial; the study in Optuna's SQLite.
"""

import time

import mlflow
import optuna

from benchmarks.peers.work import Images, build, configurations, fit, folder, tell, workload

images = Images()
mlflow.set_tracking_uri(f"sqlite:///{folder() / 'mlflow.db'}")
experiment = mlflow.create_experiment("peers", artifact_location=(folder() / "artifacts").as_uri())
mlflow.set_experiment(experiment_id=experiment)


def objective(trial: optuna.Trial) -> float:
    """Train one configuration, and log it as a nested run."""
    configuration: dict[str, float] = {
        f"filters{number}": trial.suggest_int(f"filters{number}", 8, 64, step=8) for number in (1, 2, 3, 4)
    }
    configuration |= {
        "dropout": trial.suggest_float("dropout", 0.0, 0.6),
        "l2": trial.suggest_float("l2", 1e-6, 1e-2, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
        "lr_decay": trial.suggest_float("lr_decay", 0.5, 1.0),
        "batch_size": trial.suggest_int("batch_size", 32, 256, step=32),
    }
    with mlflow.start_run(run_name=f"trial {trial.number}", nested=True):
        mlflow.log_params(configuration)
        model = build(configuration)
        best = fit(model, configuration, images, [mlflow.keras.MlflowCallback()])
        _, accuracy = model.evaluate(*images.test, verbose=0)
        mlflow.log_metrics({"test_accuracy": accuracy, "best_val_accuracy": best})
        path = folder() / "model.keras"
        model.save(path)
        mlflow.log_artifact(str(path))
    return best


study = optuna.create_study(storage=f"sqlite:///{folder() / 'optuna.db'}", direction="maximize")
for each in configurations():
    study.enqueue_trial(each)
with mlflow.start_run(run_name="study"):
    study.optimize(objective, n_trials=workload().configurations)
tell(
    time.time(),
    [trial.value or 0.0 for trial in study.trials],
    workload().epochs * len(study.trials),
    {"optuna": optuna.__version__, "mlflow": mlflow.__version__},
)
