"""Curves over epochs: of one training, and of all trials of a study."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from models import Protocol
from pipelines.figures.style import BLUE, FAINT, RED, TRAINING, VALIDATION, canvas, place, sheet
from pipelines.train import EpochMetrics

NOT_COMPARABLE = (
    "Not comparable: training values are means over the epoch, with dropout and distortions at work; "
    "{watched} values are not."
)
OTHER_LOSS = "Not comparable: training minimises another loss{loss}; {watched} loss is the cross-entropy."
LONGEST_LIST = 30  # characters of what makes the losses differ


def watched_images(protocol: Protocol) -> str:
    """Return what the accuracy of an epoch is of."""
    return "validation" if protocol == "held_out" else "test"


@sheet()
def learning_curves(
    histories: Sequence[Sequence[EpochMetrics]],
    kept_epochs: Sequence[int],
    watched: str,
    losses_differ_by: Sequence[str] = (),
) -> Figure:
    """Draw loss, accuracy and learning rate over epochs (from 1), one line a model, the kept epochs marked.

    `watched`: which images are not trained on, see `watched_images`; `losses_differ_by`: see `losses.differs_by`.
    """
    kept = [100 * history[epoch].val_accuracy for history, epoch in zip(histories, kept_epochs, strict=True)]
    alone = len(histories) == 1
    where = (
        f"at epoch {kept_epochs[0] + 1}"
        if alone
        else f"(mean of {len(kept)} models, {min(kept):.2f} to {max(kept):.2f})"
    )
    title = f"{watched.capitalize()} accuracy {sum(kept) / len(kept):.2f} % {where}"
    note = NOT_COMPARABLE.format(watched=watched)
    if losses_differ_by:
        named = ", ".join(losses_differ_by)
        note = OTHER_LOSS.format(watched=watched, loss=f" ({named})" if len(named) <= LONGEST_LIST else "")
    figure = canvas(3.2, title, note)
    ((loss, accuracy, rate),) = place(figure, 1, 3, 0.65, 0.12, 0.75, 0.5, wspace=0.38)
    for history, kept_epoch in zip(histories, kept_epochs, strict=True):
        epochs = range(1, len(history) + 1)
        for axes, metric in ((loss, "loss"), (accuracy, "accuracy")):
            scale = 100 if metric == "accuracy" else 1
            for prefix, color in (("", TRAINING), ("val_", VALIDATION)):
                values = [scale * getattr(m, prefix + metric) for m in history]
                axes.plot(epochs, values, "o-" if alone else "-", lw=1.5 if alone else 0.9, color=color)
                if not alone:
                    axes.plot(kept_epoch + 1, values[kept_epoch], "o", ms=4, color=color)
            if alone:
                axes.axvline(kept_epoch + 1, color=FAINT, ls=":")
        rate.step(epochs, [m.learning_rate for m in history], where="mid", color=FAINT)
    accuracy.plot([], [], color=TRAINING, label="training")
    accuracy.plot([], [], color=VALIDATION, label=watched)
    kept_style: dict[str, Any] = {"ls": ":"} if alone else {"ls": "", "marker": "o", "ms": 4}
    accuracy.plot([], [], color=FAINT, label="kept epoch", **kept_style)
    accuracy.legend()
    loss.set_ylabel("loss (nats)")
    accuracy.set_ylabel("accuracy (%)")
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
    curves: Mapping[int, Sequence[float]], ended_early: set[int], best: int | None, title: str, watched: str
) -> Figure:
    """Draw the accuracy of every trial over epochs (from 1); the `best` completed one stands out.

    `watched`: of which images, see `watched_images`.

    `curves`: trial number -> accuracy (0 to 1) of each epoch; `ended_early`: trials that did not train to their end.
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
        axes.plot(range(1, len(values) + 1), [100 * v for v in values], **style)
    for label, style in styles.items():
        if (style is not champion or best is not None) and (style is not early or ended_early):
            axes.plot([], [], label=label, **style)
    everything = sorted(100 * v for values in curves.values() for v in values)
    if everything:  # the first epochs of bad trials would flatten the rest
        low, high = max(everything[0], everything[len(everything) // 10]), everything[-1]
        axes.set_ylim(low - 0.1 - 0.03 * (high - low), high + 0.1 + 0.03 * (high - low))
    axes.set_ylabel(f"{watched} accuracy (%)")
    _over_epochs(axes)
    axes.legend(loc="lower right")
    return figure


def _over_epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
