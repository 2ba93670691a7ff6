"""Everything that is wanted of a GPU, the most wanted first, in one call: it writes as it goes, and a later call does the rest.

    KERAS_BACKEND=jax python -m benchmarks.gpu --seconds 540

Stages, each a process of its own with a limit: what is here; whether a member of a population trains as it would alone; a study
of a population on all of MNIST; the lean recipe from as many seeds; a trial's epoch as it is trained one at a time; the best
plain loop of Keras; a step by number of members. What a stage says is a line of `OUT/gpu.jsonl`; one that has ended well is not
begun again. `--tiny` rehearses all of it on a CPU. Neither a network nor `.git` is needed (with MNIST_DIR set), but the
project's distribution, installed.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("jax", "keras", "numpy", "optuna", "mlflow")
BATCH, STEPS_A_TRIAL = 128, 15 * 422  # of the lean CNN's recipe
FLOPS_A_STEP = BATCH * 3 * 5_089_792  # forward and twice as many backward
MEMBERS = 128
SETTLING = 8.0  # seconds that a stage is given to end in order


@dataclass(frozen=True)
class Here:
    """Where results go, and how large everything is."""

    out: Path
    tiny: bool

    @property
    def dataset(self) -> str:
        """The data set that is trained on."""
        return "mnist-5k" if self.tiny else "mnist"

    @property
    def members(self) -> int:
        """The members of a population."""
        return 2 if self.tiny else MEMBERS

    def say(self, stage: str, **facts: Any) -> None:
        """Write a line now, and show it."""
        line = json.dumps({"stage": stage, "when": time.strftime("%Y-%m-%d %H:%M:%S"), **facts}, default=str)
        with (self.out / "gpu.jsonl").open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def said(self) -> list[dict[str, Any]]:
        """Return every line so far."""
        path = self.out / "gpu.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    """Run the stages that have not ended well yet, while there is time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("mlruns") / "gpu-benchmark")
    parser.add_argument("--seconds", type=float, default=540, help="it ends by itself after so many")
    parser.add_argument("--tiny", action="store_true", help="rehearse on a CPU")
    parser.add_argument("--only", action="append", choices=list(STAGES), help="these stages alone")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    here = Here(options.out.resolve(), options.tiny)
    if options.stage:
        STAGES[options.stage][0](here)
        return
    until = time.monotonic() + options.seconds
    done = {line["stage"] for line in here.said() if line.get("ended") == "well"}
    for stage, (_, limit) in STAGES.items():
        left = until - time.monotonic()
        if stage in done or (options.only and stage not in options.only):
            continue
        if left < 2 * SETTLING:
            here.say(stage, ended="no time left")
            continue
        _run(here, stage, min(limit, left - SETTLING))


def _run(here: Here, stage: str, limit: float) -> None:
    """Run one stage in a process of its own, for so many seconds at the most."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(here.out), "--stage", stage]
    began = time.monotonic()
    with (here.out / f"{stage}.log").open("a") as log:
        running = subprocess.Popen(
            [*command, *(["--tiny"] if here.tiny else [])], stderr=log, start_new_session=True, env=_environment(here)
        )
        try:
            code: Any = running.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGINT)  # a sweep ends in order
            try:
                running.wait(SETTLING)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()
            code = "limit"
    seconds = round(time.monotonic() - began, 1)
    here.say(stage, ended="well" if code == 0 else f"with {code}", seconds=seconds)


def _environment(here: Here) -> dict[str, str]:
    """Return the environment of a stage: stores of its own, and JAX's compilations kept for the next process."""
    own = {"KERAS_BACKEND": "jax", "MLRUNS_DIR": str(here.out / "mlruns"), "PYTHONUNBUFFERED": "1"}
    cache = {"JAX_COMPILATION_CACHE_DIR": str(here.out / "compiled"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return {**os.environ, **cache, **own}


# What is here


def versions(here: Here) -> None:
    """Say which device and which libraries these are."""
    _configure(here)
    from pipelines import backend

    known = {name: metadata.version(name) for name in LIBRARIES}
    here.say("versions", python=sys.version.split()[0], cores=os.cpu_count(), **known, **backend.describe())


# Is a member what it would be alone


def equality(here: Here) -> None:
    """Compare weights after two batches: of the same training alone twice, and as a member of a population."""
    _configure(here)
    for precision in ("highest", "default"):  # by default products are TF32 where the device has it
        _compare(here, precision)


def _compare(here: Here, precision: str) -> None:
    import jax
    import numpy as np

    from pipelines import datasets
    from pipelines.population import Population

    if precision != "default":
        jax.config.update("jax_default_matmul_precision", precision)
    whole = datasets.load("mnist-5k")
    dataset = replace(whole, train=whole.train[np.arange(2 * BATCH)])
    rates = (1e-3, 3e-3)

    def fresh(folder: str) -> list[Any]:
        return [_training(dataset, seed, folder, learning_rate=rate) for seed, rate in enumerate(rates)]

    def together(folder: str) -> list[Any]:
        members = fresh(folder)
        population = Population(members[0], len(members))
        for each in members:
            population.seat(each)
        population.run_epoch()
        return members

    def compare(how: str, expected: list[Any], got: list[Any]) -> None:
        pairs = [(a, b) for e, g in zip(expected, got, strict=True) for a, b in zip(e._kept, g._kept, strict=True)]
        here.say(
            "equality",
            precision=precision,
            how=how,
            weights_differ_by=max(float(np.abs(a - b).max()) for a, b in pairs),
        )

    with tempfile.TemporaryDirectory() as name:
        alone, again = fresh(f"{name}/alone"), fresh(f"{name}/again")
        for training in (*alone, *again):
            training.run_epoch()
        compare("alone, twice", alone, again)
        once, twice = together(f"{name}/once"), together(f"{name}/twice")
        compare("population", alone, once)
        compare("population, twice", once, twice)
    jax.config.update("jax_default_matmul_precision", None)


# One at a time


def plain(here: Here) -> None:
    """Time the best plain loop of Keras: `fit` on arrays, so many batches a call of the device."""
    _configure(here)
    import keras

    from models import lean_cnn
    from pipelines import datasets
    from pipelines.images import Scaling

    few = 4 if here.tiny else 400
    train = datasets.load(here.dataset).train
    x, y = Scaling("by_255", train.x)(train.x[: BATCH * few]), train.y[: BATCH * few]
    for a_call in (1, 4) if here.tiny else (1, 10, 50, 100):
        keras.utils.set_random_seed(0)
        model = lean_cnn.build()
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], steps_per_execution=a_call)
        with _watched() as facts:
            fit = partial(model.fit, x, y, batch_size=BATCH, shuffle=False, verbose=0)
            seconds = [_seconds(fit) for _ in range(4)]
        _say_step(here, "plain", {"batches_a_call": a_call, "first_s": seconds[0]}, seconds[1:], few, 1, facts)


def alone(here: Here) -> None:
    """Time the epochs of a trial that trains by itself, validation included."""
    _configure(here)
    from pipelines import datasets

    with tempfile.TemporaryDirectory() as name:
        training = _training(datasets.load(here.dataset), 0, name)
        with _watched() as facts:
            seconds = [training.run_epoch().epoch_seconds for _ in range(2 if here.tiny else 5)]
        _say_step(here, "alone", {"first_s": seconds[0]}, seconds[1:], training.batches, 1, facts)


# Many at once


def steps(here: Here) -> None:
    """Time batches of populations on the device alone, by number of members."""
    _configure(here)
    from pipelines import datasets
    from pipelines.population import Population

    dataset, few = datasets.load(here.dataset), 2 if here.tiny else 100
    with tempfile.TemporaryDirectory() as name:
        for members in (1, 2) if here.tiny else (32, 128, 1, 8, 512):
            population = Population(_training(dataset, 0, name), members)
            compiling = population.time_batches(few)
            with _watched() as facts:
                seconds = [population.time_batches(few) for _ in range(3)]
            _say_step(here, "steps", {"first_s": compiling}, seconds, few, members, facts)


def study(here: Here) -> None:
    """Run a study of a whole population, of the recipe's length, on all of MNIST."""
    search = {
        "dropout": {"float": [0.1, 0.5]},
        "l2": {"float": [1e-6, 1e-3], "log": True},
        "learning_rate": {"float": [5e-4, 3e-3], "log": True},
        "lr_decay": {"float": [0.6, 1.0]},
    }
    content: dict[str, Any] = {
        "name": "gpu_study",
        "model": "lean_cnn",
        "dataset": here.dataset,
        "search": search,
        "start": [],
    }
    content |= {"sampler": "random", "pruner": "none", "population": here.members, "budget": {"trials": here.members}}
    content |= {"training": {"epochs": 1 if here.tiny else 15}}
    (here.out / "gpu_study.yaml").write_text(json.dumps(content))  # JSON is YAML
    _sweep(here, "study", "gpu_study", "run", here.out / "gpu_study.yaml", "--device", _device(here))


def seeds(here: Here) -> None:
    """Train the lean recipe as its author did, from as many seeds as a population has members."""
    many = ["--seeds", here.members, "--population", here.members, "--dataset", here.dataset]
    few = ["--epochs", 1] if here.tiny else []
    page = here.out / "baselines.md"
    name = "baseline-lean_cnn"
    only = ["--only", "lean_cnn", "--device", _device(here), "--output", page]
    _sweep(here, "seeds", name, "baselines", *only, *many, *few)


def _sweep(here: Here, stage: str, name: str, *arguments: object) -> None:
    """Run a command of `sweep`, and say what its study came to."""
    began = time.time()
    try:
        subprocess.run([sys.executable, "-m", "sweeps.cli", *map(str, arguments)], check=True)
    finally:
        _tell(here, stage, name, began)


def _tell(here: Here, stage: str, name: str, began: float) -> None:
    """Say how many trials a study has ended, how fast, and how good they are."""
    import sweeps
    from sweeps.stores.storage import study_names

    names = [each for each in study_names() if each.startswith(name)]
    runs = sweeps.runs(names[0])
    ended = sweeps.open_study(names[0]).optuna.get_trials(deepcopy=False)
    starts = [trial.datetime_start.timestamp() for trial in ended if trial.datetime_start]
    ends = [trial.datetime_complete.timestamp() for trial in ended if trial.datetime_complete]
    facts: dict[str, Any] = {"trials_ended": len(ends), "seconds_in_all": round(time.time() - began, 1)}
    if ends:
        span = max(ends) - min(starts)
        facts |= {"first_trial_to_last_end_s": round(span, 1), "trials_an_hour": round(3600 * len(ends) / span)}
        facts |= {"in_all_trials_an_hour": round(3600 * len(ends) / (time.time() - began))}
        facts |= {"test_accuracy": sorted(round(float(value), 5) for value in runs.test_accuracy.dropna())}
    here.say(stage, name=names[0], **facts)


# What the stages share


def _device(here: Here) -> str:
    return "cpu" if here.tiny else "gpu"


def _configure(here: Here) -> None:
    from pipelines import backend

    backend.configure("cpu" if here.tiny else "gpu")
    backend.load()


def _training(dataset: Any, seed: int, folder: str, **changes: Any) -> Any:
    """Return a training of the lean CNN's recipe, as a trial has it."""
    import keras

    from models import lean_cnn
    from pipelines.config import TrainingSettings
    from pipelines.train import Training, compile_model

    settings = TrainingSettings.model_validate({"optimizer": "adam", "batch_size": BATCH, "epochs": 15, **changes})
    keras.utils.set_random_seed(seed)
    model = lean_cnn.build()
    compile_model(model, settings)
    return Training(model, dataset, settings, seed, Path(folder) / f"{seed}.npz", "benchmark")


def _say_step(
    here: Here,
    stage: str,
    own: dict[str, Any],
    seconds: list[float],
    batches: int,
    members: int,
    watched: dict[str, float],
) -> None:
    """Say what a step takes, from the seconds of some rounds of `batches`."""
    step = statistics.median(seconds) / batches
    spread = {"least_ms": 1000 * min(seconds) / batches, "most_ms": 1000 * max(seconds) / batches}
    rates = {"trials_an_hour": 3600 * members / (step * STEPS_A_TRIAL), "tflops": members * FLOPS_A_STEP / step / 1e12}
    numbers = {**own, "members": members, "step_ms": 1000 * step, **spread, **rates, **watched}
    here.say(stage, **{key: round(value, 3) if isinstance(value, float) else value for key, value in numbers.items()})


@contextmanager
def _watched() -> Iterator[dict[str, float]]:
    """Fill in, at the end, how busy the GPU was meanwhile, in percent, and the most memory it had in use, in GiB."""
    from pipelines import device

    facts: dict[str, float] = {}
    meter = device.Meter(device.gpus()[0]).reader() if device.gpus() else None
    yield facts
    if meter is not None:
        read = meter.read()
        facts["gpu_percent"] = read.get("system/gpu_utilization_percentage", float("nan"))
        facts["gpu_gib"] = read.get("system/gpu_memory_usage_megabytes", 0.0) * 1e6 / 2**30


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


STAGES: dict[str, tuple[Callable[[Here], None], float]] = {  # with the seconds that each may take
    "versions": (versions, 30),
    "equality": (equality, 90),
    "study": (study, 240),
    "seeds": (seeds, 200),
    "alone": (alone, 30),
    "plain": (plain, 45),
    "steps": (steps, 120),
}


if __name__ == "__main__":
    main()
