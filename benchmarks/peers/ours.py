"""This project: `sweep run`, its figures, checkpoints, predictions and models included.

Records: parameters, six metrics an epoch and the machine's use, checkpoints, accuracies and probabilities on three sets of
images, figures, the model and its provenance; the study in Optuna's SQLite, the parent run's report.
"""

import os
import subprocess
import time
from typing import Any

import yaml

from benchmarks import processes
from benchmarks.peers.work import configurations, folder, tell, workload

study = {
    "name": "peers",
    "model": "lean_cnn",
    "dataset": workload().dataset,
    "training": {"optimizer": "adam", "epochs": workload().epochs},
    "search": {
        **{f"filters{number}": {"int": [8, 64], "step": 8} for number in (1, 2, 3, 4)},
        **{"dropout": {"float": [0.0, 0.6]}, "l2": {"float": [1e-6, 1e-2], "log": True}},
        **{"learning_rate": {"float": [3e-4, 1e-2], "log": True}, "lr_decay": {"float": [0.5, 1.0]}},
        "batch_size": {"int": [32, 256], "step": 32},
    },
    "sampler": "tpe",
    "pruner": "none",
    "budget": {"trials": workload().configurations},
    "start": configurations(),
}
(folder() / "study.yaml").write_text(yaml.safe_dump(study))


def trained() -> Any:
    """Return the trials; the import is not the command's."""
    from sweeps import runs

    return runs("peers")


command = processes.sweep("run", folder() / "study.yaml")
subprocess.run(command, check=True, env=os.environ | {"MLRUNS_DIR": str(folder())})
ended = time.time()
frame = trained()
tell(ended, list(frame.val_accuracy), int(frame.epochs.sum()), {})
