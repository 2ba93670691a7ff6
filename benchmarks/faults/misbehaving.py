"""A small CNN that notes every epoch it trains, and does what the campaign orders: hang, exit, run out of memory, raise, blow up.

The notes are lines of `journal.jsonl` in the folder that FAULTS_DIR names; an order is a file `order` there, obeyed once.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers


class Misbehaving(keras.Model):  # type: ignore[misc]
    """A model that notes its epochs and obeys orders."""

    def fit(self, x: Any, **options: Any) -> Any:
        """Train, as Keras does, and do what is ordered."""
        batches = -(-len(x) // options.get("batch_size", 1))  # of batches already, or of whole arrays
        epoch = int(np.asarray(self.optimizer.iterations)) // batches
        trial = next(layer.rate for layer in self.layers if isinstance(layer, layers.Dropout))
        _note(event="began", trial=trial, epoch=epoch)
        history = super().fit(x, **options)
        _obey(history)
        _note(event="ended", trial=trial, epoch=epoch)
        return history


def build(*, filters: int = 16, dropout: float = 0.1) -> keras.Model:
    """Return the uncompiled network. `dropout`, drawn from a range, tells one trial from another."""
    images = keras.Input((28, 28, 1))
    found = layers.MaxPooling2D()(layers.Conv2D(filters, 5, activation="relu")(images))
    scores = layers.Dense(10, activation="softmax")(layers.Dropout(dropout)(layers.Flatten()(found)))
    return Misbehaving(images, scores)


def _obey(history: Any) -> None:
    order, mine = _folder() / "order", _folder() / f"order.{os.getpid()}"
    try:
        order.rename(mine)  # one worker alone succeeds
    except FileNotFoundError:
        return
    what = mine.read_text()
    _note(event="obeyed", order=what)
    if what == "hang":
        time.sleep(1e6)
    elif what == "exit":
        os._exit(0)
    elif what == "out of memory":
        np.ones(2**50)
    elif what == "raise":
        raise ValueError("so it was ordered")
    elif what == "blow up":
        history.history["loss"] = [float("nan")]


def _note(**facts: Any) -> None:
    line = json.dumps({"at": time.time(), "pid": os.getpid()} | facts)
    with (_folder() / "journal.jsonl").open("a") as file:
        file.write(line + "\n")


def _folder() -> Path:
    return Path(os.environ["FAULTS_DIR"])
