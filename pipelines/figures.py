"""Figures of runs and studies, drawn without pyplot's global state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipelines.train import EpochMetrics

TRAINING, VALIDATION, FAINT = "#0072B2", "#D55E00", "#999999"  # Okabe and Ito's palette, safe for colour-blind readers


def learning_curves(history: Sequence[EpochMetrics], kept_epoch: int, path: Path) -> None:
    """Draw loss, accuracy and learning rate over epochs (from 1) to a PNG file, the kept epoch marked."""
    epochs = range(1, len(history) + 1)
    figure = Figure(figsize=(10, 3.4), layout="constrained", dpi=110)
    loss, accuracy, rate = figure.subplots(1, 3)
    for axes, metric, label in ((loss, "loss", "loss (nats)"), (accuracy, "accuracy", "accuracy (%)")):
        scale = 100 if metric == "accuracy" else 1
        axes.plot(
            epochs,
            [scale * getattr(m, metric) for m in history],
            "o-",
            ms=3,
            color=TRAINING,
            label="training (with dropout)",
        )
        axes.plot(
            epochs,
            [scale * getattr(m, f"val_{metric}") for m in history],
            "o-",
            ms=3,
            color=VALIDATION,
            label="validation",
        )
        axes.set_ylabel(label)
        axes.axvline(kept_epoch + 1, color=FAINT, ls=":", label="kept epoch")
    accuracy.legend(fontsize=8)
    rate.step(epochs, [m.learning_rate for m in history], where="mid", color=FAINT)
    rate.set_ylabel("learning rate")
    rate.set_yscale("log")
    for axes in (loss, accuracy, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    kept = history[kept_epoch]
    figure.suptitle(f"Validation accuracy {100 * kept.val_accuracy:.2f} % at epoch {kept_epoch + 1}", fontsize=11)
    figure.savefig(path)


def study_curves(curves: Mapping[int, Sequence[float]], ended_early: set[int], title: str, path: Path) -> None:
    """Draw the validation accuracy of every trial over epochs (from 1) to a PNG file; the best completed one stands out.

    `curves`: trial number -> validation accuracy (0 to 1) of each epoch; `ended_early`: trials that did not train to their end.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained", dpi=110)
    axes = figure.subplots()
    complete = {number: values for number, values in curves.items() if number not in ended_early}
    best = max(complete, key=lambda number: max(complete[number]), default=None)
    styles: dict[str, dict[str, Any]] = {
        f"trial {best}: best by validation": {"color": VALIDATION, "lw": 2.2, "zorder": 3},
        "completed": {"color": TRAINING, "lw": 1.2, "alpha": 0.6},
        "ended early (last epoch marked)": {"color": FAINT, "lw": 0.8, "marker": "x", "markevery": [-1]},
    }
    champion, completed, early = styles.values()
    for number, values in curves.items():
        style = champion if number == best else early if number in ended_early else completed
        axes.plot(range(1, len(values) + 1), [100 * v for v in values], **style)
    for label, style in styles.items():
        axes.plot([], [], label=label, **style)
    everything = sorted(100 * v for values in curves.values() for v in values)
    if everything:  # the first epochs of bad trials would flatten the rest
        axes.set_ylim(max(everything[0], everything[len(everything) // 10]) - 0.2, everything[-1] + 0.1)
    axes.set(title=title, xlabel="epoch", ylabel="validation accuracy (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    figure.savefig(path)
