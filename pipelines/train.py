"""Training, epoch by epoch: one model, or several of one configuration side by side.

The order of images and the dropout masks of an epoch depend on (seed, epoch) alone, so a training that was interrupted goes on
exactly where it stopped. What may end it early is asked between epochs, of whoever sends it on.
"""

import enum
import itertools
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines import backend, checkpoint, evaluate, losses, metrics, mixup, options, schedules
from pipelines.callbacks import Callbacks
from pipelines.checkpoint import Arrays
from pipelines.config import TrainingSettings
from pipelines.datasets.dataset import Dataset
from pipelines.images import Epoch, Floats, scaling
from pipelines.metrics import Metric, Task, is_regression

Result = TypeVar("Result")


class End(enum.StrEnum):
    """Why a training ended."""

    COMPLETED = "completed"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    BUDGET = "budget"  # used up in mid-training: what there is counts
    STOPPED = "stopped"  # by somebody, for good
    PAUSED = "paused"  # is resumed later, from its checkpoint
    ABANDONED = "abandoned"  # somebody else has it now: write nothing more

    @property
    def final(self) -> bool:
        """Whether the training is over for good."""
        return self not in (End.PAUSED, End.ABANDONED)


VALIDATION = "val_"  # before a metric's name, of an epoch in one flat list


@dataclass(frozen=True)
class EpochMetrics:
    """One epoch: the learning rate of its last batch, wall seconds with validation, and what was measured, by the metrics' names.

    `training`: the loss, and of a classification the accuracy, as means over the epoch's batches; `validation`: every metric.
    """

    training: Mapping[str, float]
    validation: Mapping[str, float]
    learning_rate: float
    epoch_seconds: float

    @property
    def loss(self) -> float:
        """The loss in training."""
        return self.training["loss"]

    @property
    def val_loss(self) -> float:
        """The loss on validation images."""
        return self.validation["loss"]

    @property
    def finite(self) -> bool:
        """Whether the losses are numbers; if not, the training diverged."""
        return math.isfinite(self.loss) and math.isfinite(self.val_loss)

    def flat(self, validation: str = VALIDATION) -> dict[str, float]:
        """Return all as one list of names and values, those of validation images with a prefix."""
        of_validation = {validation + name: value for name, value in self.validation.items()}
        own = {"learning_rate": self.learning_rate, "epoch_seconds": self.epoch_seconds}
        return {**self.training, **of_validation, **own}

    @classmethod
    def of(cls, flat: Mapping[str, float]) -> "EpochMetrics":
        """Return the epoch that `flat` lists."""
        measured = {name: value for name, value in flat.items() if name not in ("learning_rate", "epoch_seconds")}
        validation = {
            name.removeprefix(VALIDATION): value for name, value in measured.items() if name.startswith(VALIDATION)
        }
        training = {name: value for name, value in measured.items() if not name.startswith(VALIDATION)}
        return cls(training, validation, flat["learning_rate"], flat["epoch_seconds"])

    @classmethod
    def mean(cls, metrics: "Sequence[EpochMetrics]") -> "EpochMetrics":
        """Return the mean over models; of the seconds, which are spent one after the other, the sum."""
        each = [one.flat() for one in metrics]
        means = {name: sum(flat[name] for flat in each) / len(each) for name in each[0]}
        return cls.of(means | {"epoch_seconds": sum(one.epoch_seconds for one in metrics)})


@dataclass(frozen=True)
class BeforeEpoch:
    """A training asks whether `epoch` of the next model may begin; the answer is why not, or None."""

    epoch: int


@dataclass(frozen=True)
class AfterEpoch:
    """A training tells of `epoch`, one entry a model; the answer is why it should end here, or None.

    A resumed one tells again, in order, of every epoch behind it.
    """

    epoch: int
    metrics: Sequence[EpochMetrics]


Question = BeforeEpoch | AfterEpoch


def compile_model(model: Any, settings: TrainingSettings, task: Task = "classification") -> bool:
    """Give the model its optimizer, loss and metric; return whether its outputs are logits."""
    regression = task == "regression"
    logits = not regression and evaluate.gives_logits(model)
    loss = losses.of(settings, logits, model.output_shape[-1], task)
    model.compile(_optimizer(settings), loss, metrics=None if regression else ["accuracy"])
    model.optimizer.build(model.trainable_variables)
    # The metrics make their variables here, else in the first step, which TensorFlow then traces twice.
    outputs = np.zeros((1, model.output_shape[-1]), np.float32)
    model.compute_metrics(None, outputs if regression or settings.mixup else np.zeros(1), outputs)
    model.reset_metrics()
    return logits


def _optimizer(settings: TrainingSettings) -> Any:
    import keras

    given = settings.options_of("optimizer")
    if settings.optimizer == "sgd":
        given = {"momentum": settings.momentum} | given
    return getattr(keras.optimizers, options.optimizer_class(settings.optimizer))(settings.learning_rate, **given)


class Training:
    """The training of one compiled model, continued from its checkpoint if there is one."""

    def __init__(
        self,
        model: Any,
        dataset: Dataset,
        settings: TrainingSettings,
        seed: int,
        checkpoint_path: Path,
        fingerprint: str,
        logits: bool = False,
        measured: Sequence[Metric] = tuple(map(metrics.get, metrics.ALWAYS["classification"])),
        callbacks: Callbacks | None = None,
    ):
        """`measured`: what is measured after each epoch; the first rules kept epoch and patience."""
        self.callbacks, self._stopped = callbacks or Callbacks(), False
        self.logits, self.measured = logits, measured
        self.model, self.dataset, self.settings, self.seed = model, dataset, settings, seed
        self.scaling: Any = scaling(settings.pixels, dataset.train.x)
        self.history: list[EpochMetrics] = []
        self._checkpoint_path, self._fingerprint = checkpoint_path, fingerprint
        self._kept: list[Any] = []
        self.predict: Callable[[Arrays, Floats], Floats] | None = None  # by weights; in place of the model's own
        self.batches = -(-len(dataset.train) // settings.batch_size)  # an epoch
        self._optimizer = getattr(
            model.optimizer, "inner_optimizer", model.optimizer
        )  # in half precision Keras wraps it
        schedules.schedule(self._optimizer, settings, self.batches)
        if self._optimizer.use_ema:  # Keras ends every `fit` with the average, and a trial's epochs are one each
            self._optimizer.finalize_variable_values = lambda variables: None
        saved = checkpoint.load(checkpoint_path, fingerprint)
        if saved:
            model.set_weights(saved.weights)
            for variable, value in zip(model.optimizer.variables, saved.optimizer, strict=True):
                variable.assign(value)
            self._kept, self.history = saved.kept, [EpochMetrics.of(flat) for flat in saved.history]
            self._stopped = saved.stopped
            self.callbacks.restore(saved.callbacks)

    @property
    def kept_epoch(self) -> int | None:
        """The epoch whose weights are kept; None before the first."""
        return kept_epoch(self.history, self.settings, self.measured[0])

    def finished(self, epochs: int) -> bool:
        """Whether the training was over after so many epochs."""
        stopped = self._stopped and epochs >= len(self.history)
        return stopped or _finished(self.history[:epochs], self.settings, self.measured[0])

    def run_epoch(self) -> EpochMetrics:
        """Train one epoch more and note it."""
        epoch = len(self.history)
        self.callbacks.begin(self.model, self.settings, self.batches, epoch)
        metrics = self._train_epoch(epoch)
        self.callbacks.end_epoch(epoch, metrics.flat())
        self._stopped = bool(self.model.stop_training)
        optimizer = [np.asarray(variable) for variable in self.model.optimizer.variables]
        weights = evaluated = self.model.get_weights()
        if self._optimizer.use_ema:
            with self._averaged():
                evaluated = self.model.get_weights()
        self.note(metrics, weights, optimizer, evaluated)
        return metrics

    def note(self, metrics: EpochMetrics, weights: Arrays, optimizer: Arrays, evaluated: Arrays) -> None:
        """Write the checkpoint after an epoch; one with a NaN loss is not kept.

        `weights` are those to train on with; `evaluated`, those to keep if the epoch is, are other ones under `use_ema`.
        """
        if not metrics.finite:
            return
        self.history.append(metrics)
        if self.kept_epoch == len(self.history) - 1:
            self._kept = evaluated
        states = self.callbacks.states()
        history = [m.flat() for m in self.history]
        state = checkpoint.State(history, weights, optimizer, self._kept, states, self._stopped)
        checkpoint.save(self._checkpoint_path, self._fingerprint, state)

    def order_of(self, epoch: int) -> NDArray[np.int64]:
        """Return the order of the training examples in `epoch`."""
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset.train))

    def probabilities(self, x: Any) -> Floats:
        """Return class probabilities (n, classes), or a regression's values, for examples x, as kept, by the model as it is."""
        if self.predict is None:
            return evaluate.probabilities(self.model, x, self.logits, self.scaling)
        return self.predict(self.model.get_weights(), self.scaling(x))

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Give the model, for the time being, the weights that are evaluated: under `use_ema` the average of those it had."""
        if not self._optimizer.use_ema:
            yield
            return
        raw = self.model.get_weights()
        type(self._optimizer).finalize_variable_values(self._optimizer, self.model.trainable_variables)
        try:
            yield
        finally:
            self.model.set_weights(raw)

    def save(self, path: Path) -> None:
        """Save the model as Keras does, with the loss of validation: that of training may be code which the file cannot hold."""
        if not losses.is_plain(self.settings):
            regression = is_regression(self.dataset.train.y)
            plain = "mse" if regression else losses.plain(self.logits)
            self.model.compile(self.model.optimizer, plain, metrics=None if regression else ["accuracy"])
        self.model.save(path)

    def restore_kept(self) -> None:
        """Give the model the kept weights: nothing more is trained in this process."""
        self.callbacks.end()
        if self._kept:
            self.model.set_weights(self._kept)

    def _train_epoch(self, epoch: int) -> EpochMetrics:
        import keras

        model, train, validation = self.model, self.dataset.train, self.dataset.validation
        began = time.perf_counter()
        order = self.order_of(epoch)
        for state, seed in zip(random_states(model), seeds_of(self.seed, epoch), strict=False):
            state.assign(seed)
        model.optimizer.learning_rate = schedules.rate_of(self.settings, self.history)
        model.steps_per_execution = 1 if self.callbacks.see_batches else backend.batches_a_call()
        seen = Epoch(train.x, order, self.settings, self.seed, epoch, self.scaling)
        labels: Any = train.y[order]
        if seen.blends is not None:
            labels = mixup.Labels(seen.blends, labels, 0 if is_regression(labels) else model.output_shape[-1])
        weights = losses.class_weights(self.settings, train.y, model.output_shape[-1])
        callbacks = [keras.callbacks.TerminateOnNaN(), *self.callbacks.within_fit()]
        with backend.batches(seen, seen.shape, labels, self.settings.batch_size) as batches:
            logs = model.fit(**batches, shuffle=False, verbose=0, class_weight=weights, callbacks=callbacks).history
        model.steps_per_execution = 1  # one setting for all that Keras does, and this is for training alone
        with self._averaged():
            predicted = evaluate.probabilities(model, validation.x, self.logits, self.scaling)
            measured = metrics.measure(self.measured, validation.y, predicted, evaluate.penalty(model))
        return EpochMetrics(
            training={name: float(logs[name][-1]) for name in ("loss", "accuracy") if name in logs},
            validation=measured,
            learning_rate=float(schedules.rates(self.settings, self.history, self.batches)[-1]),
            epoch_seconds=time.perf_counter() - began,
        )


Epochs = Generator["Training | Question", Any, Result]
"""What a training wants next: an epoch of a model, and is sent its `EpochMetrics`; or an answer, and is sent an `End` or None."""


def attempt(training: Training) -> EpochMetrics | Exception:
    """Train an epoch; return what came of it."""
    try:
        return training.run_epoch()
    except Exception as error:
        return error


def tell(epochs: Epochs[Any], told: EpochMetrics | End | Exception | None) -> Training | Question:
    """Say what came of what was wanted (None at the beginning); return what is wanted next. Raises StopIteration."""
    return epochs.throw(told) if isinstance(told, Exception) else epochs.send(told)


def train(trainings: Sequence[Training]) -> Epochs[End]:
    """Train models side by side, an epoch of each at a time; leave them with their kept weights and return why it ended.

    They live and end together: an answer after an epoch of all holds for all, and one that diverges ends all. A model that has
    finished earlier waits, and counts with its last epoch.
    """
    end: End | None = None
    epoch = 0
    while end is None and not all(training.finished(epoch) for training in trainings):
        told: list[EpochMetrics] = []
        for training in trainings:
            behind = len(training.history) > epoch or training.finished(len(training.history))
            if not behind:
                end = yield BeforeEpoch(epoch)
                if end is not None:
                    break
            told.append(training.history[: epoch + 1][-1] if behind else (yield training))
        if end is not None:
            break
        end = yield AfterEpoch(epoch, told)
        if end == End.ABANDONED:  # whatever else there is to say: the run is another worker's
            break
        epoch += 1
        paid_for = all(training.finished(epoch) for training in trainings)  # let it count
        more_behind = any(len(training.history) > epoch for training in trainings)  # the last word counts
        if not all(metrics.finite for metrics in told):
            end = End.DIVERGED
        elif paid_for or more_behind:
            end = None
    for training in trainings:
        training.restore_kept()
    return end or End.COMPLETED


def kept_epoch(history: list[EpochMetrics], settings: TrainingSettings, objective: Metric) -> int | None:
    """Return the epoch whose weights are kept: the last, or the first of those that are best by the objective."""
    if not history:
        return None
    if settings.keep == "last":
        return len(history) - 1
    return _best_epoch(history, objective)


def _best_epoch(history: list[EpochMetrics], objective: Metric) -> int:
    return min(range(len(history)), key=lambda epoch: objective.cost(history[epoch].validation[objective.name]))


def _finished(history: list[EpochMetrics], settings: TrainingSettings, objective: Metric) -> bool:
    if len(history) >= settings.epochs:
        return True
    if settings.patience is None or not history:
        return False
    return len(history) - 1 - _best_epoch(history, objective) >= settings.patience


def random_states(model: Any) -> list[Any]:
    """Return the variables from which a model's random layers draw, in the model's order."""
    return [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]


def seeds_of(seed: int, epoch: int) -> Iterator[NDArray[np.unsignedinteger[Any]]]:
    """Return the values of the random layers' states at the beginning of `epoch`, one after the other, without end."""
    for index in itertools.count():
        yield np.random.SeedSequence([seed, epoch, index]).generate_state(2, np.uint32)
