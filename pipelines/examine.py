"""A user's model, looked at once before anything is trained: what `build` returns must do for training, saving and serving."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import models
from pipelines import evaluate, serving
from pipelines.datasets.dataset import Dataset, Shape
from pipelines.errors import UserError, first_line, of_the_machine
from pipelines.images import scaling

IMAGES = 8  # that a saved copy must predict as the original does
TOLERANCE = 1e-4  # between their outputs


def examine(name: str, hyperparameters: Mapping[str, Any], dataset: Dataset, saved: bool) -> None:
    """Raise UserError for a model that cannot be trained on `dataset`; `saved`: or whose saved copy is not the same."""
    import keras

    try:
        model = models.build(name, hyperparameters, dataset.shape, len(dataset.classes))
    except Exception as error:
        if of_the_machine(error):
            raise
        reason = f"{type(error).__name__}: {first_line(error)}"
        place = models.place_of(error, name)
        raise UserError(f"build of model {name} raises {reason} ({place}) for {hyperparameters}") from error
    wanted, classes = dataset.shape, len(dataset.classes)
    kind = "images" if dataset.has_images else "examples"
    if not isinstance(model, keras.Model):
        raise UserError(f"build of model {name} returns {_a(type(model).__name__)}, not a keras.Model")
    if not model.built or not getattr(model, "inputs", None):
        raise UserError(f"model {name} is not built: let it begin with {_begins(wanted)}")
    if model.compiled:
        raise UserError(
            f"model {name} comes compiled: the study's training settings say how it is trained, so leave model.compile out "
            "of build"
        )
    if not _takes(model, wanted):
        raise UserError(f"model {name} takes {_inputs(model)}, and the {kind} of {dataset.name} are {wanted}")
    outputs, what = (classes, "class") if classes else (int(np.prod(dataset.train.y.shape[1:])), "value of a label")
    if len(model.outputs) != 1 or tuple(model.outputs[0].shape[1:]) != (outputs,):
        raise UserError(
            f"model {name} returns {_shapes(model.outputs)}, expected one output ({outputs},): a number a {what}"
        )
    if classes:
        evaluate.gives_logits(model)
    if saved:
        _check_saved_copy(model, name, dataset)
    keras.utils.clear_session()


def _check_saved_copy(model: Any, name: str, dataset: Dataset) -> None:
    x = scaling("by_255", dataset.train.x)(dataset.train.x[:IMAGES])
    try:
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder) / "copy.keras")
            copy = serving.load(Path(folder) / "copy.keras", name)
        same = np.allclose(model.predict_on_batch(x), copy.predict_on_batch(x), atol=TOLERANCE)
    except Exception as error:  # Keras raises what its layers raise
        if of_the_machine(error):
            raise
        reason = f"cannot be read back ({first_line(error)})"
    else:
        reason = "" if same else "predicts otherwise"
    if reason:
        raise UserError(
            f"a saved copy of model {name} {reason}: define its layers and functions at the top of a module, with get_config, "
            "or give keep_models: 0"
        )


def _takes(model: Any, wanted: Shape) -> bool:
    """Whether a model's inputs are of this shape: one, or several by their names."""
    if not isinstance(wanted, dict):
        return len(model.inputs) == 1 and _fits(model.inputs[0].shape[1:], wanted)
    own = evaluate.inputs_of(model)
    return own.keys() == wanted.keys() and all(_fits(own[name], shape) for name, shape in wanted.items())


def _inputs(model: Any) -> str:
    if len(model.inputs) == 1:
        return _shapes(model.inputs)
    return " and ".join(f"{name} {shape}" for name, shape in evaluate.inputs_of(model).items())


def _fits(shape: Any, wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(side in (None, other) for side, other in zip(shape, wanted, strict=True))


def _shapes(tensors: Any) -> str:
    return " and ".join(str(tuple(tensor.shape[1:])) for tensor in tensors)


def _begins(wanted: Shape) -> str:
    if not isinstance(wanted, dict):
        return f"keras.Input({wanted})"
    return " and ".join(f"keras.Input({shape}, name={name!r})" for name, shape in wanted.items())


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
