"""A user's own Keras callbacks: what `callbacks(settings)` in the file of their model returns, told of a trial's epochs.

A trial calls Keras's `fit` once an epoch, validates by itself, and may go on in another process. So their hooks are called from
here: with the true number of the epoch, and with what validation measured. Only hooks of batches come from within `fit`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import models
from pipelines.config import TrainingSettings
from pipelines.errors import UserError, first_line, of_the_machine

OF_BATCHES = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")


class Callbacks:
    """The callbacks of one training; without any, all of this does nothing."""

    def __init__(self, each: Sequence[Any] = ()):
        self._each, self._begun = each, False
        self._states: Sequence[Any] = ()
        self._of_batches = [callback for callback in each if _overrides(callback, OF_BATCHES)]

    @property
    def see_batches(self) -> bool:
        """Whether one of them wants to be called for every batch."""
        return bool(self._of_batches)

    def within_fit(self) -> list[Any]:
        """Return what `fit` is given for them."""
        return [_forwarder(self._of_batches)] if self._of_batches else []

    def restore(self, states: Sequence[Any]) -> None:
        """Let them have the states that they had at a checkpoint, once they have begun: many reset themselves then."""
        self._states = states

    def begin(self, model: Any, settings: TrainingSettings, batches: int, epoch: int) -> None:
        """Tell them that `epoch` begins, counted from 0, and first of all that training does in this process."""
        if not self._begun:
            self._begun = True
            for callback in self._each:
                callback.set_model(model)
                callback.set_params({"epochs": settings.epochs, "steps": batches, "verbose": 0})
                callback.on_train_begin()
            for callback, state in zip(self._each, self._states, strict=False):
                if state is not None and hasattr(callback, "set_state"):
                    callback.set_state(state)
        for callback in self._each:
            callback.on_epoch_begin(epoch)

    def end_epoch(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Tell them what came of an epoch."""
        for callback in self._each:
            callback.on_epoch_end(epoch, dict(logs))

    def end(self) -> None:
        """Tell them that training has ended in this process."""
        if self._begun:
            self._begun = False
            for callback in self._each:
                callback.on_train_end()

    def states(self) -> list[Any]:
        """Return what each wants to be remembered of it, None for those without `get_state`. Raises UserError."""
        states = [callback.get_state() if hasattr(callback, "get_state") else None for callback in self._each]
        for callback, state in zip(self._each, states, strict=True):
            try:
                json.dumps(state)
            except (TypeError, ValueError) as error:
                raise UserError(
                    f"get_state of callback {type(callback).__name__} returns what is not plain data ({error}): expected "
                    "numbers, texts, lists and dicts of them"
                ) from error
        return states


def build(model: str, settings: TrainingSettings) -> Callbacks:
    """Return the callbacks that the file of a model makes for a training. Raises UserError where they are none."""
    import keras

    make = models.callbacks(model)
    if make is None:
        return Callbacks()
    try:
        made = make(settings)
    except Exception as error:
        if of_the_machine(error):
            raise
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"callbacks of model {model} raises {reason} ({models.place_of(error, model)})") from error
    if not isinstance(made, list | tuple) or not all(isinstance(each, keras.callbacks.Callback) for each in made):
        raise UserError(f"callbacks of model {model} returns {made!r}: expected a list of keras.callbacks.Callback")
    return Callbacks(made)


def _overrides(callback: Any, hooks: Sequence[str]) -> bool:
    import keras

    plain = keras.callbacks.Callback
    return any(getattr(getattr(callback, hook), "__func__", None) is not getattr(plain, hook) for hook in hooks)


def _forwarder(callbacks: Sequence[Any]) -> Any:
    """Return a callback for `fit` that hands on batches alone."""
    import keras

    class Forwarder(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            for callback in callbacks:
                callback.on_train_batch_begin(batch, logs)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            for callback in callbacks:
                callback.on_train_batch_end(batch, logs)

    return Forwarder()
