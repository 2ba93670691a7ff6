"""Ensembles: the mean of the class probabilities of confirmed models. Which models, validation chooses."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float32]  # seeds × images × classes, of one configuration

MOST = 10  # configurations among which all subsets are tried


def choose(validation: Mapping[int, Probabilities], labels: NDArray[np.uint8]) -> tuple[int, ...] | None:
    """Return the configurations whose models, all seeds of each, make the best ensemble by validation; None of a single model.

    `validation`: for each configuration (in the order of preference; the first `MOST` count) the probabilities of the validation
    images, `labels` theirs. Of equal accuracies the smaller loss (in nats) wins.
    """
    sums = {number: seeds.sum(axis=0, dtype=np.float64) for number, seeds in itertools.islice(validation.items(), MOST)}
    best, found = (-1.0, 0.0), None
    for size in range(1, len(sums) + 1):
        for members in itertools.combinations(sums, size):
            models = sum(len(validation[number]) for number in members)
            if models < 2:
                continue
            mean = sum(sums[number] for number in members) / models
            rank = _accuracy(mean, labels), -_loss(mean, labels)
            if rank > best:
                best, found = rank, members
    return found


def accuracy(members: Sequence[Probabilities], labels: NDArray[np.uint8]) -> float:
    """Return the accuracy (0 to 1) of the mean over all seeds of all configurations in `members`."""
    return _accuracy(np.concatenate(members).mean(axis=0, dtype=np.float64), labels)


def _accuracy(mean: NDArray[np.float64], labels: NDArray[np.uint8]) -> float:
    return float((mean.argmax(axis=1) == labels).mean())


def _loss(mean: NDArray[np.float64], labels: NDArray[np.uint8]) -> float:
    of_label = mean[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_label, np.finfo(np.float64).tiny)).mean())
