"""What a trial costs beside Keras's `fit`: the recipe of the lean CNN as a trial, against `fit` alone, in pairs.

    python -m benchmarks.overhead --pairs 5

Each measurement is a fresh process; trial and `fit` alternate, so that a busy machine hurts both. Timed is, for the trial,
from the claim of the ticket to the closed run (model, training, validation, checkpoints, both stores, evaluation on all images,
artifacts; its figures are drawn beside it), and for `fit`, building, compiling and `fit` with the validation images. Imports and
loading the images are in neither: a worker pays them once. Measurements are appended to a file as they come; the same command
goes on with them.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import processes

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure what is missing, and print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=15, help="of the recipe's 15")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--one", choices=["trial", "fit"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps({"trial": time_trial, "fit": time_fit}[options.one](options.dataset, options.epochs)))
        return
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"overhead-{options.dataset}-{options.epochs}-epochs.jsonl"
    while len(pairs := _read(path)) < options.pairs:
        order = ["trial", "fit"] if len(pairs) % 2 == 0 else ["fit", "trial"]
        measured = {kind: _in_fresh_process(kind, options) for kind in order}
        with path.open("a") as file:
            file.write(json.dumps({**measured, "cpu": platform.processor() or platform.machine()}) + "\n")
    show(pairs)


def show(pairs: list[dict[str, Any]]) -> None:
    """Print the pairs, their medians and the spread of the ratio."""
    print(f"{'pair':>4} {'trial (s)':>10} {'of it in fit':>13} {'outside':>8} {'fit alone (s)':>14} {'ratio':>6}")
    for number, pair in enumerate(pairs, 1):
        trial, alone = pair["trial"], pair["fit"]["wall"]
        outside = trial["wall"] - trial["fit"]
        ratio = trial["wall"] / alone
        print(f"{number:>4} {trial['wall']:>10.1f} {trial['fit']:>13.1f} {outside:>8.1f} {alone:>14.1f} {ratio:>6.3f}")
    ratios = [pair["trial"]["wall"] / pair["fit"]["wall"] for pair in pairs]
    outsides = [pair["trial"]["wall"] - pair["trial"]["fit"] for pair in pairs]
    print(f"median of the ratios {statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f})")
    print(f"median outside fit {statistics.median(outsides):.1f} s (from {min(outsides):.1f} to {max(outsides):.1f})")
    parts = {
        name: statistics.median(pair["trial"]["parts"][name] for pair in pairs) for name in pairs[0]["trial"]["parts"]
    }
    print("of it, medians: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts.items()))


def time_fit(dataset: str, epochs: int) -> dict[str, Any]:
    """Time building, compiling and fitting the recipe with Keras alone."""
    study, images = _prepared(dataset, epochs)
    import keras

    import models
    from pipelines.images import Scaling

    scaling = Scaling("by_255", images.train.x)
    x, x_validation = scaling(images.train.x), scaling(images.validation.x)
    began = time.perf_counter()
    keras.utils.set_random_seed(0)
    model = models.load(study.model).build()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        x,
        images.train.y,
        batch_size=128,
        epochs=epochs,
        validation_data=(x_validation, images.validation.y),
        verbose=0,
    )
    return {"wall": time.perf_counter() - began}


def time_trial(dataset: str, epochs: int) -> dict[str, Any]:
    """Time one trial of a study with the recipe as its start point, and what of it Keras's `fit` and other parts take."""
    study, images = _prepared(dataset, epochs)
    import keras

    from pipelines import checkpoint, evaluate
    from pipelines.figures.of_run import Gathering
    from pipelines.tracking.run import TrackedRun
    from sweeps.running import trial

    spent: dict[str, float] = {}
    _timed(keras.Model, "fit", spent, "fit")
    _timed(evaluate, "probabilities", spent, "predicting validation, training and test images")
    _timed(checkpoint, "save", spent, "checkpoints")
    for name in ("add_results", "write"):
        _timed(Gathering, name, spent, "gathering what figures are drawn from")
    for name in ("log_artifacts", "log_summary", "log_inputs"):
        _timed(TrackedRun, name, spent, "MLflow")
    _timed(trial, "send_epochs", spent, "MLflow")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLRUNS_DIR"] = folder
        one = processes.worker_here(study, images)
        began = time.perf_counter()
        one.run_trials()
        wall = time.perf_counter() - began
    fit = spent.pop("fit")
    return {"wall": wall, "fit": fit, "parts": {**spent, "the rest": wall - fit - sum(spent.values())}}


def _prepared(dataset: str, epochs: int) -> tuple[Any, Any]:
    from pipelines import backend, datasets
    from sweeps.study import study_file

    backend.configure()
    content = study_file._read(study_file.find("lean_cnn"))
    content |= {"dataset": dataset, "training": {"epochs": epochs}, "budget": {"trials": 1}, "pruner": "none"}
    return study_file.check(content, "lean_cnn"), datasets.load(dataset)


def _timed(owner: Any, name: str, spent: dict[str, float], label: str) -> None:
    original = getattr(owner, name)

    def measured(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return original(*arguments, **options)
        finally:
            spent[label] = spent.get(label, 0.0) + time.perf_counter() - began

    setattr(owner, name, measured)


def _in_fresh_process(kind: str, options: argparse.Namespace) -> Any:
    return processes.answer(
        "benchmarks.overhead", "--one", kind, "--epochs", options.epochs, "--dataset", options.dataset
    )


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
