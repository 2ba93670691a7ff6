"""The data sets that are known by a name: one entry each."""

from collections.abc import Callable
from dataclasses import dataclass

from pipelines.datasets import cifar, mnist
from pipelines.datasets.dataset import Dataset


@dataclass(frozen=True)
class Known:
    """How it is read, how many test examples it has, and whether they are those of published results."""

    load: Callable[[], Dataset]
    test_examples: int
    comparable: bool


KNOWN = {
    "mnist": Known(mnist.mnist, 10_000, comparable=True),
    "fashion-mnist": Known(mnist.fashion_mnist, 10_000, comparable=True),
    "mnist-5k": Known(mnist.mnist_5k, 500, comparable=False),
    "cifar10": Known(cifar.cifar10, 10_000, comparable=True),
    "cifar100": Known(cifar.cifar100, 10_000, comparable=True),
}
