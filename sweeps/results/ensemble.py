"""Ensembles: the mean of what confirmed models predict. Which models, validation chooses."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.metrics import ACCURACY, Labels, Metric, is_regression

Probabilities = NDArray[np.float32]  # seeds × images × classes, of one configuration; of a regression, its predictions

MOST = 10  # configurations among which all subsets are tried


def choose(
    validation: Mapping[int, Probabilities], labels: Labels, metric: Metric = ACCURACY
) -> tuple[int, ...] | None:
    """Return the configurations whose models, all seeds of each, make the best ensemble by validation; None of a single model.

    `validation`: for each configuration (in the order of preference; the first `MOST` count) the probabilities of the validation
    images, `labels` theirs, `metric` the objective. Of equal ones the smaller loss (in nats) wins.
    """
    sums = {number: seeds.sum(axis=0, dtype=np.float64) for number, seeds in itertools.islice(validation.items(), MOST)}
    best, found = (np.inf, np.inf), None
    for size in range(1, len(sums) + 1):
        for members in itertools.combinations(sums, size):
            models = sum(len(validation[number]) for number in members)
            if models < 2:
                continue
            mean = sum(sums[number] for number in members) / models
            rank = metric.cost(metric.compute(labels, mean)), _loss(mean, labels)
            if rank < best:
                best, found = rank, members
    return found


def value(members: Sequence[Probabilities], labels: Labels, metric: Metric = ACCURACY) -> float:
    """Return the metric of the mean over all seeds of all configurations in `members`."""
    return metric.compute(labels, np.concatenate(members).mean(axis=0, dtype=np.float64))


def _loss(mean: NDArray[np.float64], labels: Labels) -> float:
    if is_regression(labels):
        return float(np.square(mean - labels).mean())
    of_label = mean[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_label, np.finfo(np.float64).tiny)).mean())
