"""Curves over epochs: of one training, and of all trials of a study."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from models import Protocol
from pipelines.figures.style import BLUE, FAINT, RED, TRAINING, VALIDATION, canvas, place, sheet
from pipelines.metrics import Metric
from pipelines.train import EpochMetrics

NOT_COMPARABLE = (
    "Not comparable: training values are means over the epoch, with dropout and distortions at work; "
    "{watched} values are not."
)


def watched_images(protocol: Protocol) -> str:
    """Return on which images an epoch is measured."""
    return "validation" if protocol == "held_out" else "test"


@sheet()
def learning_curves(
    histories: Sequence[Sequence[EpochMetrics]],
    kept_epochs: Sequence[int],
    watched: str,
    measured: Sequence[Metric],
    losses_differ_by: Sequence[str] = (),
) -> Figure:
    """Draw loss, objective (or, of a loss, what else was measured first) and learning rate over epochs, one line a model.

    Epochs count from 1; the kept ones are marked. `watched`: which images are not trained on, see `watched_images`. `measured`:
    the metrics, the objective first. `losses_differ_by`: see `losses.differs_by`.
    """
    objective = measured[0]
    kept = [
        objective.scale * history[epoch].validation[objective.name]
        for history, epoch in zip(histories, kept_epochs, strict=True)
    ]
    alone = len(histories) == 1
    low, high = (objective.text(end).removesuffix(" %") for end in (min(kept), max(kept)))
    where = f"at epoch {kept_epochs[0] + 1}" if alone else f"(mean of {len(kept)} models, {low} to {high})"
    title = f"{watched.capitalize()} {objective.label} {objective.text(sum(kept) / len(kept))} {where}"
    note = NOT_COMPARABLE.format(watched=watched)
    if losses_differ_by:
        note = f"The training loss is another one ({', '.join(losses_differ_by)}); {watched}'s is the cross-entropy. {note}"
    figure = canvas(3.2, title, note)
    ((loss, accuracy, rate),) = place(figure, 1, 3, 0.65, 0.12, 0.75, 0.5, wspace=0.38)
    of_loss = next(metric for metric in measured if metric.name == "loss")
    other = next(metric for metric in measured if metric is not of_loss)
    for history, kept_epoch in zip(histories, kept_epochs, strict=True):
        epochs = range(1, len(history) + 1)
        for axes, metric in ((loss, of_loss), (accuracy, other)):
            in_training = [m.training[metric.name] for m in history if metric.name in m.training]
            in_validation = [m.validation[metric.name] for m in history]
            for measured_values, color in ((in_training, TRAINING), (in_validation, VALIDATION)):
                values = [metric.scale * value for value in measured_values]
                axes.plot(epochs[: len(values)], values, "o-" if alone else "-", lw=1.5 if alone else 0.9, color=color)
                if not alone and values:
                    axes.plot(kept_epoch + 1, values[kept_epoch], "o", ms=4, color=color)
            if alone:
                axes.axvline(kept_epoch + 1, color=FAINT, ls=":")
        rate.step(epochs, [m.learning_rate for m in history], where="mid", color=FAINT)
    accuracy.plot([], [], color=TRAINING, label="training")
    accuracy.plot([], [], color=VALIDATION, label=watched)
    kept_style: dict[str, Any] = {"ls": ":"} if alone else {"ls": "", "marker": "o", "ms": 4}
    accuracy.plot([], [], color=FAINT, label="kept epoch", **kept_style)
    accuracy.legend()
    loss.set_ylabel("loss (nats)" if "accuracy" in histories[0][0].training else "loss")
    accuracy.set_ylabel(axis(other))
    rate.set_ylabel("learning rate")
    rates = [m.learning_rate for history in histories for m in history if m.learning_rate > 0]
    rate.set_yscale("log" if rates else "linear")
    # Labels at its two ends: powers of ten, set as mathematics, take as long as all else here.
    rate.set_yticks(sorted({min(rates, default=0), max(rates, default=0)}))
    rate.yaxis.set_major_formatter("{x:.2g}")
    rate.minorticks_off()
    for axes in (loss, accuracy, rate):
        _over_epochs(axes)
    return figure


@sheet()
def study_curves(
    curves: Mapping[int, Sequence[float]],
    ended_early: set[int],
    best: int | None,
    title: str,
    watched: str,
    metric: Metric,
) -> Figure:
    """Draw the objective of every trial over epochs (from 1); the `best` completed one stands out.

    `watched`: of which images, see `watched_images`. `metric`: the objective.

    `curves`: trial number -> its value after each epoch; `ended_early`: trials that did not train to their end.
    """
    figure = canvas(4.5, title)
    ((axes,),) = place(figure, 1, 1, 0.8, 0.15, 0.5, 0.4)
    styles: dict[str, dict[str, Any]] = {
        f"trial {best}: best by validation": {"color": RED, "lw": 2.2, "zorder": 3},
        "completed": {"color": BLUE, "lw": 1.2, "alpha": 0.6},
        "ended early (last epoch marked)": {"color": FAINT, "lw": 0.8, "marker": "x", "ms": 5, "markevery": [-1]},
    }
    champion, completed, early = styles.values()
    for number, values in curves.items():
        style = champion if number == best else early if number in ended_early else completed
        axes.plot(range(1, len(values) + 1), [metric.scale * v for v in values], **style)
    for label, style in styles.items():
        if (style is not champion or best is not None) and (style is not early or ended_early):
            axes.plot([], [], label=label, **style)
    everything = [metric.scale * v for values in curves.values() for v in values]
    if everything:
        axes.set_ylim(*without_worst(everything, metric))
    axes.set_ylabel(f"{watched} {axis(metric)}")
    _over_epochs(axes)
    axes.legend(loc="lower right" if metric.direction == "maximize" else "upper right")
    return figure


def without_worst(values: Sequence[float], metric: Metric) -> tuple[float, float]:
    """Return limits that leave the worst tenth of some values out: the first epochs of bad trials would flatten the rest."""
    ordered = sorted(values)
    tenth = len(ordered) // 10
    low, high = (ordered[tenth], ordered[-1]) if metric.direction == "maximize" else (ordered[0], ordered[-1 - tenth])
    margin = (0.1 if metric.scale == 100 else 0.0) + 0.03 * (high - low)
    return low - margin, high + (margin or 1e-9)


def axis(metric: Metric) -> str:
    """Return the label of an axis of a metric's values."""
    return f"{metric.label} (%)" if metric.scale == 100 else metric.label


def _over_epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
