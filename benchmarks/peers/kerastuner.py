"""KerasTuner, by its GridSearch over the configurations.

Records: the configuration and best values of each trial as JSON, and its best weights; no curves, no test accuracy.
"""

import time
from typing import Any

import keras_tuner

from benchmarks.peers.work import Images, build, configurations, folder, learning_rates, tell, workload

images, known = Images(), configurations()


class Configured(keras_tuner.HyperModel):  # type: ignore[misc]
    """The model of the chosen configuration."""

    def build(self, hp: Any) -> Any:
        """Return it, compiled."""
        return build(known[hp.Choice("configuration", list(range(len(known))))])

    def fit(self, hp: Any, model: Any, *arguments: Any, **options: Any) -> Any:
        """Train it with its own batch size and learning rates."""
        configuration = known[hp.get("configuration")]
        options["callbacks"] = [learning_rates(configuration), *options["callbacks"]]
        return model.fit(*arguments, batch_size=configuration["batch_size"], **options)


tuner = keras_tuner.GridSearch(
    Configured(), objective=keras_tuner.Objective("val_accuracy", "max"), directory=str(folder()), project_name="peers"
)
tuner.search(*images.train, epochs=workload().epochs, validation_data=images.validation, verbose=0)
trials = list(tuner.oracle.trials.values())
tell(
    time.time(),
    [trial.score for trial in trials],
    workload().epochs * len(trials),
    {"keras-tuner": keras_tuner.__version__},
)
