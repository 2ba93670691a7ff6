"""What workers do in the tests of executors: in a module that imports little, for each worker imports it."""

import os
import signal
import sys
import time
from pathlib import Path

from sweeps.running.executors import StopFlag, WorkerSlot


def note_place(folder: Path, stop: StopFlag, slot: WorkerSlot) -> None:
    """A worker that notes its place and waits."""
    slot.log.parent.mkdir(exist_ok=True)
    slot.log.write_text("first\nlast words\n")
    (folder / f"{os.getpid()}").write_text(f"{slot.number} {slot.parent_pid} {slot.name} {os.environ.get('GREETING')}")
    while not stop.is_set():
        time.sleep(0.05)


def load_pandas() -> None:
    """What a server does to get ready."""
    import pandas  # noqa: F401


def leave(folder: Path, stop: StopFlag, slot: WorkerSlot) -> None:
    """A worker that ends as its folder's file `how` says."""
    how = (folder / "how").read_text()
    if how == "killed":
        os.kill(os.getpid(), signal.SIGTERM)  # ignored: it reaches the whole group
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "raised":
        raise RuntimeError("on purpose")
    if how:
        sys.exit(int(how))


def train(folder: Path, stop: StopFlag, slot: WorkerSlot) -> None:
    """A worker that trains a small CNN with dropout for two epochs, and notes the digest of its weights."""
    (folder / "digest").write_text(digest_of_a_training())


def digest_of_a_training() -> str:
    import hashlib

    import numpy as np

    from pipelines import backend

    backend.configure("cpu", threads=1)
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dropout(0.3), layers.Dense(3)]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    draws = np.random.default_rng(0)
    x, y = draws.normal(size=(256, 8, 8, 1)).astype("float32"), draws.integers(0, 3, 256)
    model.fit(x, y, epochs=2, batch_size=32, verbose=0)
    return hashlib.sha256(b"".join(weights.tobytes() for weights in model.get_weights())).hexdigest()
