"""What an epoch takes when TensorFlow is given whole arrays, and when it is given batches as the platform does.

    python -m benchmarks.feeding

A trial calls `fit` once an epoch, and so does this: the lean CNN's recipe from the same weights in both ways, in one process, an
epoch of each in turn, each first in every other pair, on `mnist-5k` and on MNIST. Timed are what comes before the first batch
(shuffling, and the scaling of a whole array), the batches, and what `fit` takes to return after the last. Lines go to
`results/feeding.csv`, and the same command goes on with the data sets that are missing.
"""

import hashlib
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from benchmarks import recording

RESULTS = recording.RESULTS / "feeding.csv"
EPOCHS = {"mnist-5k": 21, "mnist": 9}  # of which the first, which compiles, is left out
PARTS = ("before", "batches", "after")
Feed = Callable[..., AbstractContextManager[dict[str, Any]]]


def main() -> None:
    """Measure what is missing, and print all."""
    from pipelines import backend

    backend.configure("cpu")
    known = {line["dataset"] for line in recording.read(RESULTS)}
    for dataset in EPOCHS:
        if dataset not in known:
            measure(dataset, {"arrays": whole_arrays, "in parts": backend.batches})
    show(recording.read(RESULTS))


@contextmanager
def whole_arrays(
    prepared: Callable[[slice], Any], shape: tuple[int, ...], y: Any, size: int
) -> Iterator[dict[str, Any]]:
    """Give `fit` arrays, as most programs do."""
    yield {"x": prepared(slice(None)), "y": y, "batch_size": size}


def measure(dataset: str, feeds: dict[str, Feed]) -> None:
    """Train an epoch in each way, in turn; write the lines when all are there."""
    import keras

    from models import lean_cnn
    from pipelines import datasets

    images = datasets.load(dataset)
    models = {}
    for way in feeds:
        keras.utils.set_random_seed(0)
        models[way] = lean_cnn.build()
        models[way].compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], steps_per_execution=100)
    lines = []
    for epoch in range(EPOCHS[dataset]):
        for way in list(feeds)[:: 1 if epoch % 2 else -1]:
            told = train(models[way], images, feeds[way], epoch)
            lines.append({"dataset": dataset, "epoch": epoch, "way": way, **told})
    for line in lines[len(feeds) :]:
        recording.append(RESULTS, line)


def train(model: Any, images: Any, feed: Feed, epoch: int) -> dict[str, Any]:
    """Train an epoch; return the seconds of its parts, and a digest of the weights."""
    import keras
    import numpy as np

    from pipelines.config import TrainingSettings
    from pipelines.images import Epoch, Scaling
    from pipelines.train import random_states

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        began = ended = 0.0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.ended = time.perf_counter()

    for state in random_states(model):
        state.assign([0, epoch])
    scaling, clock, start = Scaling("by_255", images.train.x), Clock(), time.perf_counter()
    order = np.random.default_rng(epoch).permutation(len(images.train))
    seen = Epoch(images.train.x, order, TrainingSettings.model_validate({}), 0, epoch, scaling)
    with feed(seen, seen.shape, images.train.y[order], 128) as fed:
        model.fit(**fed, shuffle=False, verbose=0, callbacks=[clock])
    seconds = clock.began - start, clock.ended - clock.began, time.perf_counter() - clock.ended
    digest = hashlib.sha256(b"".join(np.asarray(weight).tobytes() for weight in model.get_weights())).hexdigest()
    return {**{part: round(each, 4) for part, each in zip(PARTS, seconds, strict=True)}, "weights": digest[:12]}


def show(lines: list[dict[str, str]]) -> None:
    """Print a line a data set and way: an epoch's seconds, and the medians of its parts."""
    print(f"{'dataset':<9} {'given':<8} {'n':>3} {'epoch s':>8} {'from':>6} {'to':>6}", end="")
    print("".join(f"{part:>8}" for part in PARTS) + "  longest after  weights at the end")
    for dataset, way in dict.fromkeys((line["dataset"], line["way"]) for line in lines):
        own = [line for line in lines if (line["dataset"], line["way"]) == (dataset, way)]
        parts = {part: [float(line[part]) for line in own] for part in PARTS}
        epochs = [sum(each) for each in zip(*parts.values(), strict=True)]
        spread = f"{statistics.median(epochs):>8.2f} {min(epochs):>6.2f} {max(epochs):>6.2f}"
        medians = "".join(f"{statistics.median(each):>8.2f}" for each in parts.values())
        print(
            f"{dataset:<9} {way:<8} {len(own):>3} {spread}{medians} {max(parts['after']):>14.2f}  {own[-1]['weights']}"
        )


if __name__ == "__main__":
    main()
