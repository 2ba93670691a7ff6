"""Trials that train together, as one compiled program (`pipelines/population.py`): which may, and an epoch of all at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial

import models
from pipelines import datasets
from pipelines.config import RunConfig
from pipelines.errors import UserError, first_line, out_of_memory
from pipelines.train import EpochMetrics, Epochs, Question, Training, attempt
from sweeps.running.trial import Trial
from sweeps.study.study import MODEL, Choice, Scalar, Study

if TYPE_CHECKING:
    from pipelines.population import Population

TRIALS_A_GROUP = 3  # times its size: so many trials share their shape before other shapes have their turn


@dataclass(eq=False)
class Running:
    """A trial under way: `epochs` is to be told what came of what it `wants`."""

    claimed: FrozenTrial
    params: dict[str, Any] = field(default_factory=dict)
    epochs: Epochs[None] = field(init=False)
    trial: Trial = field(init=False)
    wants: "Training | Question" = field(init=False)

    @property
    def training(self) -> Training:
        """The training that wants an epoch."""
        assert isinstance(self.wants, Training)
        return self.wants

    @property
    def question(self) -> Question:
        """What the trial asks."""
        assert not isinstance(self.wants, Training)
        return self.wants


Told = tuple[
    Running, EpochMetrics | Exception | None
]  # a trial, with what came of its epoch; None: it has just been claimed
Begin = Callable[[Mapping[str, Any]], Running | None]  # the next trial, with some parameters given; None: no more now
Advance = Callable[[Sequence[Told]], list[Running]]  # tells trials of their epochs; returns those that want another


def check(study: Study, backend: str) -> None:
    """Raise UserError for a study that asks for a population that cannot be."""
    if study.population == 1:
        return
    if backend != "jax":
        raise UserError(
            f"population: {study.population} needs Keras's JAX backend, and this is {backend}: set KERAS_BACKEND=jax, or "
            "leave population out"
        )
    for model in study.models:
        if models.callbacks(model) is not None:
            raise UserError(
                f"population: model {model} has callbacks, and trials that train as one program have no Keras training to call "
                "them: leave population out"
            )


def shared(study: Study) -> list[str]:
    """Return the searched hyperparameters that decide shapes: a population's trials have them in common."""
    names, dataset = [], datasets.load(study.dataset).for_task(study.task)
    of_data = dataset.shape, len(dataset.classes)
    for name, entry in study.search.items():
        values: Sequence[Scalar] = entry.choice if isinstance(entry, Choice) else _inside(entry)
        for model in study.models_with(name):
            configs = [study.run_config({MODEL: model, name: value}, seed=0) for value in values]
            if len({_shape(config, *of_data) for config in configs}) > 1:
                names.append(name)
                break
    return names


def _shape(config: RunConfig, shape: tuple[int, ...], classes: int) -> str:
    """Return the shape of a configuration's training, or why it has none."""
    from pipelines.population import NotVectorisable, shape_of

    try:
        return shape_of(models.build(config.model, config.hyperparameters, shape, classes), config.training)
    except NotVectorisable as reason:
        return str(reason)


def train(study: Study, begin: Begin, advance: Advance) -> None:
    """Train trials until none is left to begin: together, up to the study's population at a time, or one after the other."""
    if study.population > 1:
        _train_together(study, begin, advance)
    else:
        _train_in_turn(begin, advance)


def _train_in_turn(begin: Begin, advance: Advance) -> None:
    while running := begin({}):
        _train_alone(running, advance)


def _train_alone(running: Running, advance: Advance) -> None:
    while advance([(running, attempt(running.training))]):
        pass


def _train_together(study: Study, begin: Begin, advance: Advance) -> None:
    from pipelines.population import NotVectorisable, Population, shape_of

    names, population = shared(study), None
    first = begin({})
    while first is not None:
        try:
            shape = shape_of(first.training.model, first.training.settings)
            if population is None or population.shape != shape:  # else there is a program already
                population = Population(first.training, study.population)
        except NotVectorisable as reason:
            print(f"trial {first.claimed.number} trains alone: {reason}")
            _train_alone(first, advance)
            first = begin({})
        except Exception as error:
            if not out_of_memory(error):
                raise
            print(f"trials train in turn: a population needs memory for all examples ({first_line(error)})")
            _train_alone(first, advance)
            _train_in_turn(begin, advance)
            return
        else:
            first = _Group(first, population, names).train(begin, advance) or begin({})


class _Group:
    """Trials of the shape of `first`, which has the parameters `names` in common with them, in one program."""

    def __init__(self, first: Running, population: "Population", names: Sequence[str]):
        self._population = population
        self._given = {name: first.params[name] for name in names if name in first.params}
        self._most = TRIALS_A_GROUP * population.size if self._given else None
        self._running: list[Running] = []
        self._begun, self._open = 0, True
        self._other: Running | None = None  # of another shape: begins the next group
        self._join(first)

    def train(self, begin: Begin, advance: Advance) -> Running | None:
        """Train until all have ended and no other is to join; return a trial of another shape, if one was begun."""
        while True:
            self._fill(begin)
            if not self._running:
                return self._other
            trained = [trial.training for trial in self._running]
            goes_on = advance(list(zip(self._running, self._epoch(), strict=True)))
            for trial, training in zip(list(self._running), trained, strict=True):
                if trial not in goes_on:
                    self._population.leave(training)
                    self._running.remove(trial)

    def _fill(self, begin: Begin) -> None:
        from pipelines.population import shape_of

        while self._open and len(self._running) < self._population.size:
            trial = begin(self._given) if self._begun != self._most else None
            self._open = trial is not None
            if trial is None:
                return
            if shape_of(trial.training.model, trial.training.settings) == self._population.shape:
                self._join(trial)
            else:
                self._open, self._other = False, trial

    def _join(self, trial: Running) -> None:
        self._population.seat(trial.training)
        self._running.append(trial)
        self._begun += 1

    def _epoch(self) -> Sequence[EpochMetrics | Exception]:
        try:
            return self._population.run_epoch()
        except Exception as error:
            return [error] * len(self._running)


def _inside(entry: Any) -> list[Scalar]:
    """Return two values of a range, of floats two from its inside: at its ends a hyperparameter may mean something else."""
    low, high = entry.bounds
    if isinstance(low, int) and isinstance(high, int):
        return [low, high]
    return [0.75 * low + 0.25 * high, 0.25 * low + 0.75 * high]
