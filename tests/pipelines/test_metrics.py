"""Metrics: their values, by hand and by other libraries; what is not one; functions of the user's."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import models
from models import NoModel
from pipelines import metrics
from pipelines.config import RunConfig, TrainingSettings
from pipelines.metrics import METRICS, MetricError, measure
from pipelines.tracking import names

LABELS = np.array([0, 1, 2, 2, 1, 0], np.uint8)
TAKEN = np.array([0, 1, 2, 1, 1, 2])  # four of six rightly
PREDICTED = np.full((6, 3), 0.1, np.float32)
PREDICTED[np.arange(6), TAKEN] = 0.8
NUMBERS, GUESSED = np.array([1.0, 2.0, 4.0]), np.array([[1.0], [3.0], [2.0]], np.float32)


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("accuracy", 4 / 6),
        ("loss", -(4 * math.log(0.8) + 2 * math.log(0.1)) / 6),
        # precision 1, 2/3, 1/2 and recall 1/2, 1, 1/2
        ("f1_macro", (2 / 3 + 4 / 5 + 1 / 2) / 3),
        ("balanced_accuracy", (1 / 2 + 1 + 1 / 2) / 3),
    ],
)
def test_metrics_of_a_classification_are_those_by_hand(name: str, by_hand: float) -> None:
    assert measure([METRICS[name]], LABELS, PREDICTED)[name] == pytest.approx(by_hand)


@pytest.mark.parametrize(("name", "by_hand"), [("loss", 5 / 3), ("mae", 1.0), ("rmse", (5 / 3) ** 0.5)])
def test_metrics_of_a_regression_are_those_by_hand(name: str, by_hand: float) -> None:
    assert measure([METRICS[name]], NUMBERS, GUESSED)[name] == pytest.approx(by_hand)
    several = measure([METRICS[name]], np.stack([NUMBERS, NUMBERS], axis=1), np.concatenate([GUESSED, GUESSED], axis=1))
    assert several[name] == pytest.approx(by_hand)  # two outputs


def random_predictions(classes: int = 7, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(0)
    labels = draws.integers(0, classes, n).astype(np.uint8)
    predicted = draws.dirichlet(np.ones(classes), n).astype(np.float32)
    predicted[np.arange(n), labels] += 0.2
    return labels, predicted / predicted.sum(axis=1, keepdims=True)


def test_metrics_are_those_of_keras_and_scikit_learn() -> None:
    import keras
    from sklearn.metrics import roc_auc_score

    labels, predicted = random_predictions()
    values = measure([*map(METRICS.get, ("accuracy", "loss", "top5", "f1_macro", "auc"))], labels, predicted)
    top5 = keras.metrics.sparse_top_k_categorical_accuracy(labels, predicted, k=5)
    assert values["top5"] == pytest.approx(float(np.mean(top5)), abs=1e-6)
    entropy = keras.losses.sparse_categorical_crossentropy(labels, predicted)
    assert values["loss"] == pytest.approx(float(np.mean(entropy)), rel=1e-5)
    f1 = keras.metrics.F1Score(average="macro")
    f1.update_state(np.eye(7, dtype=np.float32)[labels], predicted)
    assert values["f1_macro"] == pytest.approx(float(f1.result()), abs=1e-5)
    assert values["auc"] == pytest.approx(roc_auc_score(labels, predicted, multi_class="ovr"), abs=1e-6)


def test_a_class_that_no_label_has_is_left_out_of_auc_and_one_class_alone_has_none() -> None:
    from sklearn.metrics import roc_auc_score

    labels, predicted = random_predictions(3)
    there = labels < 2
    each = [roc_auc_score(labels[there] == c, predicted[there][:, c]) for c in (0, 1)]
    assert measure([METRICS["auc"]], labels[there], predicted[there])["auc"] == pytest.approx(np.mean(each))
    with pytest.raises(MetricError, match="auc is not defined where all labels are of one class"):
        measure([METRICS["auc"]], labels[labels == 0], predicted[labels == 0])


def test_the_penalty_is_part_of_the_loss_alone() -> None:
    both = [METRICS["loss"], METRICS["accuracy"]]
    plain, penalised = measure(both, LABELS, PREDICTED), measure(both, LABELS, PREDICTED, 0.25)
    assert penalised == {"loss": plain["loss"] + 0.25, "accuracy": plain["accuracy"]}


def test_predictions_that_are_not_finite_are_no_error() -> None:
    measured = [*map(METRICS.get, ("accuracy", "loss", "auc", "f1_macro"))]
    found = measure(measured, LABELS, PREDICTED * np.nan)
    assert math.isnan(found["loss"]) and math.isnan(found["auc"]) and math.isnan(found["f1_macro"])


def test_top5_needs_more_than_five_classes() -> None:
    metrics.check([METRICS["top5"]], 6)
    for classes in (3, 5):
        with pytest.raises(ValueError, match=f"metric top5 needs 6 classes or more, and the data set has {classes}"):
            metrics.check([METRICS["top5"]], classes)


@pytest.mark.parametrize(
    ("metric", "shown", "text"),
    [
        ("accuracy", (99.386, 0.05), "99.39 ± 0.05 %"),
        ("f1_macro", (0.98765, 0.0012), "0.9877 ± 0.0012"),
        ("rmse", (12.3456, 0.4567), "12.35 ± 0.46"),
        ("loss", (0.04151, None), "0.04151"),
        ("auc", (float("nan"), None), "–"),
        ("accuracy", (None, None), "–"),
    ],
)
def test_how_values_are_written(metric: str, shown: tuple[Any, Any], text: str) -> None:
    assert METRICS[metric].text(*shown) == text


# The user's


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a function `cost` with this body into a file of the user's; return the metric."""
    monkeypatch.chdir(tmp_path)

    def write(body: str, head: str = "def cost(labels, predictions):") -> metrics.Metric:
        (tmp_path / "metric.py").write_text(f"import numpy as np\n\n\n{head}\n    {body}\n")
        models.resolve("metric.py:cost", [tmp_path])
        metrics.check_function("metric.py:cost")
        return metrics.get("metric.py:cost", "minimize")

    return write


@pytest.mark.parametrize(
    "returned", ["0.25", "np.float32(0.25)", "np.array(0.25)", "(labels == predictions.argmax(axis=1)).mean() * 0.375"]
)
def test_a_users_metric_is_a_function_of_labels_and_predictions(users: Any, returned: str) -> None:
    metric = users(f"return {returned}")
    assert (metric.name, metric.direction) == ("cost", "minimize")
    assert measure([metric], LABELS, PREDICTED) == {"cost": 0.25}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return float('nan')", "metric cost returns nan, expected a finite number"),
        ("return np.inf", "metric cost returns inf, expected a finite number"),
        ("return labels * 1.0", r"metric cost returns an array of shape \(6,\), expected one number"),
        ("return 'good'", "metric cost returns a str, expected one number"),
        ("return None", "metric cost returns a NoneType, expected one number"),
        ("raise KeyError('weights')", "metric cost raises KeyError: 'weights'"),
        ("raise SystemExit(3)", "metric cost raises SystemExit: 3"),
        ("labels[0] = 1", "metric cost raises ValueError: assignment destination is read-only"),
    ],
)
def test_what_is_not_one_number_is_one_line_with_its_place(users: Any, body: str, said: str) -> None:
    metric = users(body)
    with pytest.raises(MetricError, match=said) as raised:
        measure([metric], LABELS, PREDICTED)
    assert raised.value.place.endswith(("metric.py:4", "metric.py:5"))


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text(max_size=3)
    | st.complex_numbers()
    | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2) | st.tuples(inner, inner)
    ),
    max_leaves=5,
)


@given(ANYTHING | arrays(np.float32, array_shapes(min_dims=0, max_dims=2, max_side=2)) | st.just(object()))
def test_whatever_a_metric_returns_is_a_finite_number_or_one_line(returned: Any) -> None:
    models.adopt(models.Source("anything.py:cost", "anything", "cost", {"anything": "pass"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "_function", lambda _: lambda labels, predictions: returned)
        try:
            found = measure([metrics.get("anything.py:cost", "maximize")], LABELS, PREDICTED)["cost"]
        except MetricError as error:
            assert str(error).startswith("metric cost r") and "\n" not in str(error)
        else:
            assert type(found) is float and math.isfinite(found)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("def other(labels, predictions):", "has no function cost"),
        ("def cost(labels):", "must take two arguments, labels and predictions"),
        ("def cost(labels, predictions, weights):", "must take two arguments"),
        ("def cost(labels, predictions", "is not valid Python"),
    ],
)
def test_what_is_no_metric_is_said_before_anything_is_trained(users: Any, head: str, said: str) -> None:
    with pytest.raises(NoModel, match=said):
        users("return 0.0", head)


# What decides a run, and names


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"objective": "loss", "metrics": ["f1_macro", "auc"]},
        {"objective": "metric.py:cost", "direction": "minimize"},
        {"task": "regression", "objective": "rmse"},
    ],
)
def test_a_runs_parameters_say_what_it_was_measured_by(changes: dict[str, Any]) -> None:
    config = RunConfig(
        model="lean_cnn", hyperparameters={}, dataset="mnist-5k", training=TrainingSettings(), seed=1, **changes
    )
    params = {name: str(value) for name, value in config.params().items()}
    assert RunConfig.from_params(params) == config
    assert set(changes) - {"direction"} == {"objective", "metrics", "task"} & set(params)
    assert not changes or config.measured[0].name == metrics.short(changes["objective"])


def test_runs_of_before_are_read_under_present_names() -> None:
    before = {
        "val_accuracy": 0.8,
        "val_loss": 0.5,
        "final_validation_accuracy": 0.9,
        "test_accuracy": 0.85,
        "loss": 1.0,
    }
    now = {"epoch_val_accuracy": 0.8, "epoch_val_loss": 0.5, "val_accuracy": 0.9, "test_accuracy": 0.85, "loss": 1.0}
    assert names.present(before) == now == names.present(now)
    assert {names.former(name): value for name, value in now.items()} == before
    running = {"val_accuracy": 0.8, "loss": 1.0}  # of before, without a kept epoch yet
    assert names.present(running) == {"epoch_val_accuracy": 0.8, "loss": 1.0}
