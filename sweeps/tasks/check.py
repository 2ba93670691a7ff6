"""What a study would be: what it searches, how far its budget goes, and about what it costs here. Only its own data is kept."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import models
from pipelines import backend, datasets
from pipelines.config import RunConfig
from pipelines.errors import UserError, first_line, of_the_machine
from pipelines.examine import examine
from pipelines.execute import count_parameters
from pipelines.timing import seconds_an_epoch
from sweeps.running import launch
from sweeps.running.progress import duration
from sweeps.study import samplers, space
from sweeps.study.study import Choice, Study, format_params
from sweeps.study.study_file import in_a_line

CORNERS = 24  # points at the ends of the ranges, among which the cheapest and the dearest are looked for


@dataclass(frozen=True)
class Cost:
    """What a trial with `params` costs here: the number of its model's parameters, and seconds of training, about."""

    params: Mapping[str, Any]
    parameters: int
    epochs: int
    seconds: float


def lines(study: Study, device: backend.Device = "auto") -> Iterator[str]:
    """Yield what is to be known of a study before it runs. Raises UserError where its model or data set cannot be trained."""
    dataset = datasets.load(study.dataset)
    launch.check_training(study, dataset)
    dataset = dataset.for_task(study.task)
    yield f"study {study.name}: model {' or '.join(study.models)}, protocol {study.protocol}"
    yield "; ".join([dataset.summary(), *dataset.remarks])
    for name, entry in study.search.items():
        yield f"  {name}: {in_a_line(entry.model_dump(by_alias=True, exclude_defaults=True))}"
    sizes = [entry.grid() for entry in study.search.values()]
    if study.search and None not in sizes:
        yield f"{math.prod(len(values) for values in sizes if values is not None):,} combinations"
    chosen = samplers.chosen_sampler(study)
    yield f"sampler {chosen.name}" + (f", chosen because: {chosen.why}" if chosen.why else "")
    tickets = samplers.tickets(study)
    budget = {"trials": tickets, "epochs": study.budget.epochs, "hours": study.budget.hours}
    yield "budget: " + ", ".join(f"{value:g} {what}" for what, value in budget.items() if value)
    backend.configure(device)
    backend.load()
    if any(map(models.source, study.models)) or not isinstance(study.dataset, datasets.KnownDataset):
        for config in study.first_configs():
            examine(config.model, config.hyperparameters, dataset, saved=study.keep_models != 0)
    cheap, dear = corners(study)
    for what, cost in {"cheapest": cheap, "dearest": dear}.items() if study.search else [("a trial", cheap)]:
        yield (
            f"{what}: {format_params(cost.params)}: {cost.parameters:,} parameters, at most {cost.epochs} epochs, about "
            f"{duration(cost.seconds)}"
        )
    if tickets:
        total = " to ".join(dict.fromkeys(duration(tickets * cost.seconds) for cost in (cheap, dear)))
        yield f"{tickets} trials: about {total} with one worker here; trials that end early make it less"
    elif study.budget.hours:
        fewest, most = (int(3600 * study.budget.hours / cost.seconds) for cost in (dear, cheap))
        yield f"{study.budget.hours:g} hours: about {fewest} to {most} trials with one worker here"


def corners(study: Study) -> tuple[Cost, Cost]:
    """Return the cheapest and the dearest of some points at the ends of the ranges: by parameters, then by size of batch."""
    counted: dict[str, int] = {}

    def parameters(config: RunConfig) -> int:
        key = repr((config.model, config.hyperparameters))
        if key not in counted:
            try:
                counted[key] = count_parameters(config)
            except Exception as error:  # whatever Keras says of a kernel that is larger than the image
                if isinstance(error, UserError) or of_the_machine(error):
                    raise
                reason = f"{type(error).__name__}: {first_line(error)}"
                raise UserError(
                    f"model {config.model} cannot be built for {format_params(config.hyperparameters)}: {reason}"
                ) from error
        return counted[key]

    feasible = space.feasibility(study, parameters)
    points = [point for point in _ends(study) if feasible(point)] or [next(iter(study.start_points), {})]

    def size(point: Mapping[str, Any]) -> tuple[int, int]:
        config = study.run_config(point, study.seed)
        return parameters(config), -config.training.batch_size

    found = [min(points, key=size), max(points, key=size)]
    costs = {repr(point): _cost(study, point, size(point)[0]) for point in found}
    return costs[repr(found[0])], costs[repr(found[1])]


def _ends(study: Study) -> Iterator[dict[str, Any]]:
    """Yield points whose values are the ends of ranges, or any of a choice: all the lowest, all the highest, then others."""
    draws = np.random.default_rng(study.seed)
    ends = {name: entry.examples() for name, entry in study.search.items()}
    yield study.active({name: values[0] for name, values in ends.items()})
    yield study.active({name: values[-1] for name, values in ends.items()})
    if any(isinstance(entry, Choice) or entry.when for entry in study.search.values()):
        for _ in range(CORNERS):
            yield study.active({name: values[draws.integers(len(values))] for name, values in ends.items()})


def _cost(study: Study, point: Mapping[str, Any], parameters: int) -> Cost:
    config = study.run_config(point, study.seed)
    epochs = config.training.epochs
    return Cost(point, parameters, epochs, epochs * study.trainings * seconds_an_epoch(config))
