"""Several trainings as one compiled program, on Keras's JAX backend: what differs between them is data of the program.

Members of a population share its shape (layers, batch size, optimizer, images) and differ in what the program traces: weights,
dropout rates, L2 factors, each batch's learning rate, the optimizer's numbers, strengths of distortions, and seeds. Each gets the
numbers that it would get alone, up to the order in which floats are added. Epochs, patience and the kept epoch are each member's
own affair.

Members are the first axis of every array. A convolution with a kernel for each would be a grouped one, which libraries do badly:
`SlicedConv2D` takes its place (docs/benchmarks.md).
"""

import json
import math
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import psutil
from keras import layers, ops

from pipelines import evaluate, losses, options, schedules
from pipelines import metrics as measuring
from pipelines.checkpoint import Arrays
from pipelines.config import TrainingSettings
from pipelines.datasets.dataset import Dataset
from pipelines.errors import out_of_memory
from pipelines.images import Floats, affine_maps, distorts
from pipelines.train import EpochMetrics, Training, random_states, seeds_of

TRACED = "traced"
ASKED_BY_KERAS = [("rmsprop", "momentum")]  # of an optimizer: numbers by which it decides what to compute
WRITERS = 8  # threads that write checkpoints


class NotVectorisable(Exception):
    """A training that cannot be a member of any population; the message says why."""


def shape_of(model: Any, settings: TrainingSettings) -> str:
    """Return, as a text, all that the members of one population share; raises NotVectorisable."""
    if evaluate.gives_logits(model):
        raise NotVectorisable("its outputs are logits")
    text = json.dumps([_shape_of_layer(layer) for layer in model.layers], sort_keys=True)
    for number, layer in enumerate(model.layers):
        text = text.replace(f'"{layer.name}"', f'"layer {number}"')
    if settings.mixup:
        raise NotVectorisable("its images are blended")
    if settings.loss not in (options.CROSSENTROPY, "sparse_categorical_crossentropy"):
        raise NotVectorisable(f"its loss is {settings.loss}")
    if settings.mixed_precision:
        raise NotVectorisable("its precision is mixed")
    given = settings.options_of("optimizer")
    if given.get("use_ema"):
        raise NotVectorisable("its weights are averaged")
    traced = traced_options(settings)
    optimizer = (settings.optimizer, sorted(traced), {key: given[key] for key in given if key not in traced})
    shared = (*optimizer, _weighs(settings), settings.batch_size, settings.pixels, distorts(settings))
    return json.dumps([text, *shared])


def _weighs(settings: TrainingSettings) -> bool:
    """Whether labels are smoothed, or classes weighted, be it by nothing."""
    return settings.class_weight is not None or "label_smoothing" in settings.options_of("loss")


def traced_options(settings: TrainingSettings) -> dict[str, float]:
    """Return the options of the optimizer in which members may differ: numbers, unless Keras decides by them what to compute."""
    known = options.options_of("optimizer", settings.optimizer)
    given = {**known, **settings.options_of("optimizer")}
    if settings.optimizer == "sgd":
        given["momentum"] = settings.momentum or given["momentum"]
    if settings.optimizer == "sgd" and not given["momentum"]:
        known = {name: value for name, value in known.items() if name != "momentum"}  # it then has no variables for it
    numbers = [name for name, default in known.items() if isinstance(default, float) or name == "weight_decay"]
    asked = {name for of, name in ASKED_BY_KERAS if of == settings.optimizer}
    return {name: float(given[name]) for name in numbers if given[name] is not None and name not in asked}


def _shape_of_layer(layer: Any) -> dict[str, Any]:
    """Return a layer's configuration without what is traced."""
    if hasattr(layer, "layers"):
        raise NotVectorisable(f"its layer {layer.name} is a model of its own")
    if getattr(layer, "activity_regularizer", None) is not None:
        raise NotVectorisable(f"its layer {layer.name} regularises what it puts out")
    config = {key: value for key, value in layer.get_config().items() if key not in ("name", "seed")}
    if isinstance(layer, layers.Dropout):
        if layer.rate == 1 or layer.noise_shape is not None:
            raise NotVectorisable(f"its layer {layer.name} drops everything, or whole parts")
        config["rate"] = TRACED
    for key in config:
        if isinstance(getattr(layer, key, None), keras.regularizers.L2):
            config[key] = TRACED
    return {"class": type(layer).__name__, **config}


class TracedDropout(layers.Layer):  # type: ignore[misc]
    """Dropout whose rate is a variable. Keras's own decides by its rate what to compute; the masks are the same."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.seed_generator = keras.random.SeedGenerator(0)
        self.kept = self.add_weight(name="kept", shape=(), trainable=False)  # the share that is not dropped

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return `inputs`, in training with some of them dropped."""
        if not training:
            return inputs
        drawn = keras.random.uniform(ops.shape(inputs), seed=self.seed_generator)
        return ops.where(drawn < self.kept, inputs / self.kept, 0.0)


class TracedMomentum(keras.optimizers.SGD):  # type: ignore[misc]
    """SGD whose momentum is a number of the program. Keras's own asks whether it is zero, and then does without."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move `variable` by its momentum, having changed that by `gradient`."""
        moved = self.momentums[self._get_variable_index(variable)]
        step = gradient * ops.cast(learning_rate, variable.dtype)
        after = moved * self.momentum - step
        self.assign(moved, after)
        self.assign_add(variable, after * self.momentum - step if self.nesterov else after)


class SlicedConv2D(layers.Conv2D):  # type: ignore[misc]
    """A convolution as one product of matrices, which many members, each with a kernel of its own, can share."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Return the convolution of `inputs` (n, height, width, channels) with `kernel` (height, width, channels, filters)."""
        height, width, channels, filters = kernel.shape
        across = [(height - 1) * self.dilation_rate[0] + 1, (width - 1) * self.dilation_rate[1] + 1]
        pads = jax.lax.padtype_to_pads(inputs.shape[1:3], across, self.strides, self.padding.upper())
        x = jnp.pad(inputs, ((0, 0), *pads, (0, 0)))
        rows, columns = ((x.shape[1 + i] - across[i]) // self.strides[i] + 1 for i in range(2))
        slices = [
            jax.lax.slice(
                x,
                (0, down, right, 0),
                (
                    len(x),
                    down + (rows - 1) * self.strides[0] + 1,
                    right + (columns - 1) * self.strides[1] + 1,
                    channels,
                ),
                (1, *self.strides, 1),
            )
            for down in range(0, across[0], self.dilation_rate[0])
            for right in range(0, across[1], self.dilation_rate[1])
        ]
        return jnp.concatenate(slices, axis=-1) @ jnp.reshape(kernel, (height * width * channels, filters))


class SlicedMaxPooling2D(layers.MaxPooling2D):  # type: ignore[misc]
    """Maxima of windows that touch, compared one by one: the gradient of XLA's own window is a scatter, slow on every device."""

    def call(self, inputs: Any) -> Any:
        """Return `inputs` (n, height, width, channels) pooled; of equal maxima the first gets the gradient, as in XLA."""
        (down, right), (_, height, width, _) = self.pool_size, inputs.shape
        if tuple(self.strides) != (down, right) or (self.padding != "valid" and (height % down or width % right)):
            return super().call(inputs)
        x = inputs[:, : height // down * down, : width // right * right]
        windows = x.reshape(len(x), height // down, down, width // right, right, x.shape[-1])
        first, *others = (windows[:, :, i, :, j] for i in range(down) for j in range(right))
        for each in others:
            first = jnp.where((first >= each) | jnp.isnan(first), first, each)
        return first


SLICED: dict[Any, Any] = {layers.Conv2D: SlicedConv2D, layers.MaxPooling2D: SlicedMaxPooling2D}


State = dict[str, Any]  # of one member; of a population, each array with an axis more in front


@dataclass
class _Seat:
    training: Training
    randoms: list[int]  # for each random variable of its own model, the number of the program's


class Population:
    """Up to `size` members of one shape, made from the `first` of them, which is not seated by that."""

    def __init__(self, first: Training, size: int):
        self.shape, self.size = shape_of(first.model, first.settings), size
        self._seats: dict[int, _Seat] = {}
        self._settings, self._dataset, self._scaling = first.settings, first.dataset, first.scaling
        self._at_once = size  # as many as memory allows
        self._model = _clone(first.model)
        self._optimizer = _optimizer(first)
        self._regularisers = [variable.regularizer for variable in first.model.trainable_variables]
        self._rate = _index(self._optimizer.variables, self._optimizer._learning_rate)
        fixed = self._model.non_trainable_variables
        self._drops = [_index(fixed, layer.kept) for layer in self._model.layers if isinstance(layer, TracedDropout)]
        self._random = [_index(fixed, state) for state in random_states(self._model)]
        self._plain = [i for i in range(len(fixed)) if i not in (*self._drops, *self._random)]
        own = [variable for variable in first.model.non_trainable_variables if not _is_random(variable)]
        trained = first.model.trainable_variables
        self._weights = [  # where each of a model's weights lies in a state
            ("trained", _index(trained, weight)) if weight.trainable else ("fixed", self._plain[_index(own, weight)])
            for weight in first.model.weights
        ]
        train = first.dataset.train
        _check_room(first.dataset)
        self._distorts = distorts(first.settings)
        self._x = jnp.asarray(np.asarray(train.x) if self._distorts else first.scaling(train.x))
        self._y = jnp.asarray(train.y, jnp.int32)
        self._validation = jnp.asarray(first.scaling(first.dataset.validation.x))
        self._states: State = jax.tree.map(lambda array: np.stack([array] * size), self._state_of(first))
        self._epoch, self._predict = jax.jit(self._epoch_of_all), jax.jit(self._predict_of_all)
        self._predict_one = jax.jit(self._predict_of_one)

    def seat(self, training: Training) -> None:
        """Let a training of this population's shape take a free place, from where it stands."""
        number = min(set(range(self.size)) - self._seats.keys())
        self._seats[number] = _Seat(training, self._randoms_of(training.model))
        training.predict = self.probabilities  # compiled already, and for all members alike
        for whole, own in zip(jax.tree.leaves(self._states), jax.tree.leaves(self._state_of(training)), strict=True):
            whole[number] = own

    def leave(self, training: Training) -> None:
        """Free the place of a training."""
        self._seats = {number: seat for number, seat in self._seats.items() if seat.training is not training}

    def run_epoch(self) -> list[EpochMetrics | Exception]:
        """Train every member by the epoch that it wants next, and note it; return what came of each, in the order of seating.

        An exception is that member's own.
        """
        began = time.perf_counter()
        self._states, sums, hits, penalties = self._as_memory_allows(
            self._epoch, (self._states, *self._drawn()), self._x, self._y
        )
        states, predicted = self._states, self._predicted()
        seconds = (time.perf_counter() - began) / len(self._seats)
        n, labels = len(self._dataset.train), self._dataset.validation.y

        def note(number: int) -> EpochMetrics | Exception:
            training = self._seats[number].training
            try:
                metrics = EpochMetrics(
                    training={"loss": float(sums[number]) / n, "accuracy": float(hits[number]) / n},
                    validation=measuring.measure(
                        training.measured, labels, predicted[number], float(penalties[number])
                    ),
                    learning_rate=float(schedules.rates(training.settings, training.history, training.batches)[-1]),
                    epoch_seconds=seconds,
                )
                weights: Arrays = [states[kind][index][number].copy() for kind, index in self._weights]
                training.note(metrics, weights, [values[number] for values in states["optimizer"]], weights)
                return metrics
            except Exception as error:
                return error

        with ThreadPoolExecutor(WRITERS) as pool:  # what a disk takes to sync, it takes for all at once
            return list(pool.map(note, self._seats))

    def probabilities(self, weights: Arrays, x: Floats) -> Floats:
        """Return the class probabilities (n, classes) of scaled examples (n, …) by a model with a member's `weights`."""
        state = {name: [array[0] for array in self._states[name]] for name in ("trained", "fixed")}
        for (kind, index), values in zip(self._weights, weights, strict=True):
            state[kind][index] = values
        parts = range(0, len(x), evaluate.BATCH)
        return np.concatenate(
            [np.asarray(self._predict_one(state, x[begin : begin + evaluate.BATCH])) for begin in parts]
        )

    def time_batches(self, batches: int) -> float:
        """Return the seconds that so many batches of every place take; nobody is trained by it."""
        order = np.tile(np.arange(batches * self._settings.batch_size) % len(self._dataset.train), (self.size, 1))
        maps = np.zeros((*order.shape, 8), np.float32) if self._distorts else None
        rates = np.zeros((self.size, batches), np.float32)
        began = time.perf_counter()
        self._as_memory_allows(self._epoch, (self._states, rates, order, maps), self._x, self._y)
        return time.perf_counter() - began

    def _drawn(self) -> tuple[Any, Any, Any]:
        """Put this epoch's random states into the states; return the learning rate of each batch, order of images, their maps."""
        n = len(self._dataset.train)
        rates = np.zeros((self.size, -(-n // self._settings.batch_size)), np.float32)
        order = np.zeros((self.size, n), np.int32)
        maps = np.zeros((self.size, n, 8), np.float32) if self._distorts else None
        for number, seat in self._seats.items():
            training = seat.training
            epoch, settings = len(training.history), training.settings
            order[number] = training.order_of(epoch)
            if maps is not None:
                maps[number] = affine_maps(n, self._dataset.shape[:2], settings, training.seed, epoch)
            rates[number] = schedules.rates(settings, training.history, training.batches)
            self._states["optimizer"][self._rate][number] = schedules.rate_of(settings, training.history)
            for random, seeds in zip(seat.randoms, seeds_of(training.seed, epoch), strict=False):
                self._states["fixed"][self._random[random]][number] = seeds
        return rates, order, maps

    def _predicted(self) -> Any:
        """Return the class probabilities of the validation images (members, n, classes)."""
        parts = range(0, len(self._validation), evaluate.BATCH)
        model = jax.device_put({name: self._states[name] for name in ("trained", "fixed")})  # once, not with every part
        each = [
            self._as_memory_allows(self._predict, model, self._validation[begin : begin + evaluate.BATCH])
            for begin in parts
        ]
        return np.concatenate(each, axis=1)

    def _as_memory_allows(self, function: Any, of_members: Any, *images: Any) -> Any:
        """Call a function of all members for as many of them at a time as there is memory for; return arrays of this machine."""
        while True:
            try:
                parts = [
                    jax.tree.map(np.array, function(_members(of_members, begin, self._at_once), *images))
                    for begin in range(0, self.size, self._at_once)
                ]
                return jax.tree.map(lambda *each: np.concatenate(each), *parts)
            except Exception as error:
                if not out_of_memory(error) or self._at_once == 1:
                    raise
                self._at_once = -(-self._at_once // 2)
                print(f"{self.size} trainings at a time need more memory than there is: now {self._at_once} at a time")

    def _state_of(self, training: Training) -> State:
        """Return a member's state, from its own model and optimizer."""
        model = training.model
        fixed: list[Any] = [np.zeros(2, np.uint32)] * len(self._model.non_trainable_variables)
        rates = [layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)]
        for index, rate in zip(self._drops, rates, strict=True):
            fixed[index] = np.float32(1 - rate)
        own = [np.asarray(variable) for variable in model.non_trainable_variables if not _is_random(variable)]
        for index, values in zip(self._plain, own, strict=True):
            fixed[index] = values
        return {
            "trained": [np.asarray(variable) for variable in model.trainable_variables],
            "fixed": fixed,
            "optimizer": [np.asarray(variable) for variable in model.optimizer.variables],
            "options": {name: np.float32(value) for name, value in traced_options(training.settings).items()},
            "smoothing": np.float32(training.settings.options_of("loss").get("label_smoothing", 0)),
            "class_weights": self._class_weights(training),
            "factors": [np.float32(getattr(v.regularizer, "l2", 0)) for v in model.trainable_variables],
        }

    def _class_weights(self, training: Training) -> Any:
        """Return the weight of each class (classes,) in a member's training."""
        labels, classes = training.dataset.train.y, training.model.output_shape[-1]
        weights = losses.class_weights(training.settings, labels, classes) or {}
        return np.array([weights.get(label, 1.0) for label in range(classes)], np.float32)

    def _randoms_of(self, model: Any) -> list[int]:
        """Return which of the program's random states each of a model's own is: a layer that drops nothing has none."""
        places = {id(state): place for place, layer in enumerate(model.layers) for state in random_states(layer)}
        of_program = {
            place: number
            for number, state in enumerate(random_states(self._model))
            for place, layer in enumerate(self._model.layers)
            if any(state is own for own in random_states(layer))
        }
        return [of_program[places[id(state)]] for state in random_states(model)]

    # As the program traces it

    def _epoch_of_all(self, members: tuple[State, Any, Any, Any], x: Any, y: Any) -> Any:
        return jax.vmap(lambda member: self._epoch_of_one(member, x, y))(members)

    def _predict_of_all(self, members: State, x: Any) -> Any:
        return jax.vmap(lambda member: self._predict_of_one(member, x))(members)

    def _epoch_of_one(self, member: tuple[State, Any, Any, Any], x: Any, y: Any) -> tuple[State, Any, Any, Any]:
        """Train on the images in their order, a batch after the other; return state, sums of losses and hits, and penalty."""
        state, rates, *drawn = member
        order, batch = drawn[0], self._settings.batch_size
        whole = len(order) // batch * batch

        def step(state: State, of_batch: tuple[Any, list[Any]]) -> tuple[State, tuple[Any, Any]]:
            rate, (chosen, maps) = of_batch
            optimizer = [rate if index == self._rate else each for index, each in enumerate(state["optimizer"])]
            return self._step({**state, "optimizer": optimizer}, self._prepared(x[chosen], maps), y[chosen])

        batches = jax.tree.map(lambda each: each[:whole].reshape(-1, batch, *each.shape[1:]), drawn)
        kept = state["optimizer"][self._rate]  # between epochs it is as if alone
        state, (sums, hits) = jax.lax.scan(step, state, (rates[: whole // batch], batches))
        loss, hit = jnp.sum(sums), jnp.sum(hits)
        if whole < len(order):
            state, (rest, more) = step(state, (rates[-1], jax.tree.map(lambda each: each[whole:], drawn)))
            loss, hit = loss + rest, hit + more
        state["optimizer"] = [kept if index == self._rate else each for index, each in enumerate(state["optimizer"])]
        return state, loss, hit, self._penalty(state["trained"], state["factors"])

    def _step(self, state: State, x: Any, y: Any) -> tuple[State, tuple[Any, Any]]:
        def loss(trained: Any) -> Any:
            predicted, fixed = self._model.stateless_call(trained, state["fixed"], x, training=True)
            return jnp.mean(self._entropies(state, y, predicted)) + self._penalty(trained, state["factors"]), (
                predicted,
                fixed,
            )

        for name, number in state["options"].items():
            setattr(self._optimizer, name, number)
        (value, (predicted, fixed)), gradients = jax.value_and_grad(loss, has_aux=True)(state["trained"])
        trained, optimizer = self._optimizer.stateless_apply(state["optimizer"], gradients, state["trained"])
        hits = jnp.sum(jnp.argmax(predicted, axis=1) == y)
        return {**state, "trained": trained, "fixed": fixed, "optimizer": optimizer}, (value * len(y), hits)

    def _entropies(self, state: State, y: Any, predicted: Any) -> Any:
        """Return the cross-entropy of each image, of smoothed labels and weighted by class where members ask for it."""
        if not _weighs(self._settings):
            return keras.losses.sparse_categorical_crossentropy(y, predicted)
        classes, smoothing = predicted.shape[-1], state["smoothing"]
        labels = ops.one_hot(y, classes) * (1 - smoothing) + smoothing / classes
        return keras.losses.categorical_crossentropy(labels, predicted) * state["class_weights"][y]

    def _penalty(self, trained: Any, factors: Any) -> Any:
        each = [
            factor * jnp.sum(jnp.square(values))
            if isinstance(regulariser, keras.regularizers.L2)
            else regulariser(values)
            for regulariser, values, factor in zip(self._regularisers, trained, factors, strict=True)
            if regulariser is not None
        ]
        return sum(each, jnp.float32(0))

    def _prepared(self, x: Any, maps: Any) -> Any:
        if maps is None:
            return x
        moved = ops.image.affine_transform(x.astype(jnp.float32), maps, fill_mode="nearest")
        return (moved - self._scaling.mean) / self._scaling.deviation

    def _predict_of_one(self, state: Mapping[str, Any], x: Any) -> Any:
        return self._model.stateless_call(state["trained"], state["fixed"], x, training=False)[0]


def _optimizer(first: Training) -> Any:
    """Return the optimizer of the program, whose learning rate is put into it with every batch."""
    own = first.model.optimizer
    has_momentum = first.settings.optimizer == "sgd" and "momentum" in traced_options(first.settings)
    optimizer = (TracedMomentum if has_momentum else type(own)).from_config(own.get_config())
    optimizer.build(first.model.trainable_variables)
    return optimizer


def _clone(model: Any) -> Any:
    """Return a copy of a model made of its layers' twins, uncompiled: Keras would look for its loss by name."""
    model.compiled = False
    try:
        return keras.models.clone_model(model, clone_function=_twin)
    finally:
        model.compiled = True


def _twin(layer: Any) -> Any:
    """Return what stands for a layer in the program."""
    if isinstance(layer, layers.Dropout):
        return TracedDropout(name=layer.name)
    config = layer.get_config()
    without = {key: None for key in config if isinstance(getattr(layer, key, None), keras.regularizers.Regularizer)}
    kind = SLICED.get(type(layer), type(layer))
    return kind.from_config(config | without)


def _check_room(dataset: Dataset) -> None:
    """Raise MemoryError where the examples, which a population holds as a whole, have no room in memory."""
    wanted = 4 * (len(dataset.train) + len(dataset.validation)) * math.prod(dataset.shape)
    free = psutil.virtual_memory().available
    if wanted > free / 2:
        raise MemoryError(f"{wanted / 2**30:.1f} GiB of examples, {free / 2**30:.1f} GiB free")


def _members(arrays: Any, begin: int, number: int) -> Any:
    return jax.tree.map(lambda array: array[begin : begin + number], arrays)


def _index(variables: list[Any], wanted: Any) -> int:
    return next(index for index, variable in enumerate(variables) if variable is wanted)


def _is_random(variable: Any) -> bool:
    return bool(variable.path.endswith("seed_generator_state"))
