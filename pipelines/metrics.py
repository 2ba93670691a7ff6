"""What is measured of a model's predictions: one entry a metric in METRICS, or a function of the user's.

Names are one scheme for all of them. `val_NAME` and `test_NAME` (and `train_NAME`, of training images) are of the kept epoch,
`…_sd` are standard deviations over the models of a run; `epoch_val_NAME` is the curve. MLflow, pandas and tables have the same.
"""

import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import models
from models.errors import NoModel, UserError
from models.sources import NAME, PATH
from pipelines.errors import first_line, nearest, of_the_machine

Task = Literal["classification", "regression"]
Direction = Literal["maximize", "minimize"]
Labels = NDArray[Any]  # whole numbers (n,), the classes; of a regression floats (n,) or (n, k)
Predictions = NDArray[np.floating[Any]]  # class probabilities (n, classes); of a regression shaped as the labels are
Compute = Callable[[Labels, Predictions], float]

NOTHING = "–"  # a value that is not known
SMALLEST_PROBABILITY = 1e-7  # Keras clips here too


class MetricError(UserError):
    """A metric is not one number for these predictions: the message says which and why, `place` where in the user's file."""

    def __init__(self, message: str, place: str = ""):
        super().__init__(message)
        self.place = place


@dataclass(frozen=True)
class Metric:
    """How good predictions are.

    `label`: what tables call it. `task`: the only one that it is of; None: of any. `scale`, `form`: how it is shown, see `text`.
    `range`: in which all values lie. `reference`: as a study file names it. `of_images`: whether it is a mean over images, each
    right or wrong.
    """

    name: str
    direction: Direction
    label: str
    compute: Compute
    task: Task | None
    scale: int = 1
    form: str = "#.4g"
    range: tuple[float, float] = (0, math.inf)
    fewest_classes: int = 2
    of_images: bool = False
    reference: str = ""

    def cost(self, value: float) -> float:
        """Return a value such that less is better."""
        return as_cost(value, self.direction)

    def better(self, value: float, other: float) -> bool:
        """Whether a value is better than another."""
        return self.cost(value) < self.cost(other)

    def text(self, shown: Any, deviation: Any = None) -> str:
        """Return a value (times `scale`) as it is written, of several models with its standard deviation."""
        if shown is None or math.isnan(shown):
            return NOTHING
        unit = " %" if self.scale == 100 else ""
        form = self.form if unit or self.form.endswith("f") else ".2g"
        spread = "" if deviation is None or math.isnan(deviation) else f" ± {deviation:{form}}"
        return f"{shown:{self.form}}{spread}{unit}"

    @property
    def called(self) -> str:
        """Its label after a word such as "validation": nothing for accuracy, which goes without saying."""
        return "" if self.name == "accuracy" else f" {self.label}"


def _accuracy(labels: Labels, predicted: Predictions) -> float:
    return float(np.mean(predicted.argmax(axis=1) == labels))


def _loss(labels: Labels, predicted: Predictions) -> float:
    """Return the mean cross-entropy in nats; of a regression the mean squared error."""
    if is_regression(labels):
        return float(np.mean(np.square(predicted - labels)))
    chosen = predicted[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(chosen, SMALLEST_PROBABILITY, 1.0)).mean())


def _top5(labels: Labels, predicted: Predictions) -> float:
    from sklearn.metrics import top_k_accuracy_score

    return float(top_k_accuracy_score(labels, predicted, k=5, labels=np.arange(predicted.shape[1])))


def _f1_macro(labels: Labels, predicted: Predictions) -> float:
    """Return the mean of the classes' F1, over those that are among the labels or were predicted."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predicted.argmax(axis=1), average="macro", zero_division=0))


def _balanced_accuracy(labels: Labels, predicted: Predictions) -> float:
    """Return the mean of the classes' recalls, over those that are among the labels."""
    from sklearn.metrics import balanced_accuracy_score

    with warnings.catch_warnings():  # a class may be predicted that no label has
        warnings.simplefilter("ignore", UserWarning)
        return float(balanced_accuracy_score(labels, predicted.argmax(axis=1)))


def _auc(labels: Labels, predicted: Predictions) -> float:
    """Return the mean area under the ROC curve, one class against the rest, over the classes that are among the labels."""
    from sklearn.metrics import roc_auc_score

    there = np.unique(labels)
    if len(there) < 2:
        raise MetricError("auc is not defined where all labels are of one class")
    return float(np.mean([roc_auc_score(labels == label, predicted[:, label]) for label in there]))


def _mae(labels: Labels, predicted: Predictions) -> float:
    from sklearn.metrics import mean_absolute_error

    return float(mean_absolute_error(labels, predicted))


def _rmse(labels: Labels, predicted: Predictions) -> float:
    """Return the root of the mean squared error; of several outputs, the mean of theirs."""
    from sklearn.metrics import root_mean_squared_error

    return float(root_mean_squared_error(labels, predicted))


SHARE = (0.0, 1.0)
_ENTRIES = [
    Metric("accuracy", "maximize", "accuracy", _accuracy, "classification", 100, ".2f", SHARE, of_images=True),
    Metric("loss", "minimize", "loss", _loss, None),
    Metric("top5", "maximize", "top-5 accuracy", _top5, "classification", 100, ".2f", SHARE, 6, of_images=True),
    Metric("f1_macro", "maximize", "macro F1", _f1_macro, "classification", 1, ".4f", SHARE),
    Metric(
        "balanced_accuracy", "maximize", "balanced accuracy", _balanced_accuracy, "classification", 100, ".2f", SHARE
    ),
    Metric("auc", "maximize", "AUC", _auc, "classification", 1, ".4f", SHARE),
    Metric("mae", "minimize", "MAE", _mae, "regression"),
    Metric("rmse", "minimize", "RMSE", _rmse, "regression"),
]
METRICS = {metric.name: metric for metric in _ENTRIES}
ACCURACY = METRICS["accuracy"]
ALWAYS: dict[Task, tuple[str, ...]] = {"classification": ("accuracy", "loss"), "regression": ("loss", "mae", "rmse")}


def is_regression(labels: Labels) -> bool:
    """Whether labels are numbers rather than classes."""
    return labels.dtype.kind == "f"


def as_cost(value: float, direction: Direction) -> float:
    """Return a value such that less is better."""
    return -value if direction == "maximize" else value


def default(task: Task) -> str:
    """Return the objective of a study that gives none: the first metric of those that are always measured."""
    return ALWAYS[task][0]


def short(reference: str) -> str:
    """Return what columns and tables call a metric: of `metric.py:weighted_cost`, weighted_cost."""
    return reference.rpartition(":")[2]


def is_users(reference: str) -> bool:
    """Whether a metric is a function of the user's: a file or a module, and its name."""
    return ":" in reference


def get(reference: str, direction: Direction | None = None) -> Metric:
    """Return a metric by the name that a study file has for it. `direction`: of a user's; it is loaded when first computed."""
    if not is_users(reference):
        return METRICS[reference]

    def compute(labels: Labels, predicted: Predictions) -> float:
        return _call(reference, labels, predicted)

    name, anywhere = short(reference), (-math.inf, math.inf)
    return Metric(name, direction or "maximize", name, compute, None, range=anywhere, reference=reference)


def check_name(reference: Any, others: Sequence[str] = ()) -> None:
    """Raise ValueError for what names no metric; `others`: names that may stand there too."""
    known = [*METRICS, *others]
    if isinstance(reference, str) and is_users(reference):
        match = PATH.fullmatch(reference) or NAME.fullmatch(reference)
        if match is None or not match["function"]:
            raise ValueError(f"{reference!r} is not a metric: expected FILE.py:FUNCTION")
        if short(reference) in known:
            raise ValueError(f"{reference!r} has the name of one that is known: rename the function")
    elif reference not in known:
        hint = nearest(str(reference), known)
        raise ValueError(
            f"{reference!r} is not a metric{hint}; known: {', '.join(known)}, or FILE.py:FUNCTION for one of yours"
        )


def check(measured: Iterable[Metric], classes: int) -> None:
    """Raise ValueError for a metric that says nothing of so many classes."""
    for metric in measured:
        if metric.task == "classification" and classes < metric.fewest_classes:
            raise ValueError(
                f"metric {metric.name} needs {metric.fewest_classes} classes or more, and the data set has {classes}"
            )


def measure(
    measured: Sequence[Metric], labels: Labels, predictions: Predictions, penalty: float = 0.0
) -> dict[str, float]:
    """Return the value of each metric by its name; `penalty`: the model's regularisation, which is part of its loss.

    Of predictions that are not finite, all but accuracy and loss are NaN. Raises MetricError.
    """
    if is_regression(labels):
        predictions = predictions.reshape(labels.shape)
    values = {}
    diverged = (
        any(metric.name not in ALWAYS["classification"] for metric in measured) and not np.isfinite(predictions).all()
    )
    for metric in measured:
        if diverged and metric.name not in ALWAYS["classification"]:
            values[metric.name] = math.nan
        else:
            values[metric.name] = metric.compute(labels, predictions) + (penalty if metric.name == "loss" else 0.0)
    return values


# The user's


def check_function(reference: str) -> None:
    """Raise NoModel for a user's metric that is not there, cannot be imported, or does not take labels and predictions."""
    _function(reference)


def _function(reference: str) -> Callable[[Labels, Predictions], Any]:
    function = models.function(reference)
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise NoModel(f"{reference!r} must take two arguments, labels and predictions ({error})") from error
    found: Callable[[Labels, Predictions], Any] = function
    return found


def _call(reference: str, labels: Labels, predicted: Predictions) -> float:
    function = _function(reference)
    code = inspect.unwrap(function).__code__ if hasattr(inspect.unwrap(function), "__code__") else None
    place = f"{code.co_filename}:{code.co_firstlineno}" if code else ""
    views = [labels.view(), predicted.view()]
    for view in views:  # whatever the function does with them, others read them too
        view.flags.writeable = False
    try:
        value = function(*views)
        given = np.asarray(value)
    except (Exception, SystemExit) as error:
        if of_the_machine(error):
            raise
        where = models.place_of(error, reference)
        said = f"metric {short(reference)} raises {type(error).__name__}: {first_line(error)}"
        raise MetricError(said, where) from error
    if given.ndim or given.dtype.kind not in "fiub":
        what = f"an array of shape {given.shape}" if given.ndim else _a(type(value).__name__)
        raise MetricError(f"metric {short(reference)} returns {what}, expected one number", place)
    if not math.isfinite(given):
        raise MetricError(f"metric {short(reference)} returns {float(given)}, expected a finite number", place)
    return float(given)


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
