"""Optuna's interactive plots of a study in one HTML file that needs no network."""

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna import visualization
from optuna.trial import TrialState

from sweeps.store import val_accuracy
from sweeps.study import Study

FEWEST_TRIALS = 2  # complete ones, for a plot that compares
AXES = {"val_accuracy": "validation accuracy", "parameters": "parameters", "seconds": "seconds of training"}


def write(stored: optuna.Study, study: Study, path: Path) -> None:
    """Write history, importances, slices and parallel coordinates, and of several objectives their front, to an HTML file.

    A study without enough complete trials, or without a search, gets no file.
    """
    complete = [trial for trial in stored.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    if len(complete) < FEWEST_TRIALS or not study.search:
        return
    # One objective speaks for itself, and Optuna then knows which end is good; of several, the first is drawn.
    shown: dict[str, Any] = {"target_name": AXES["val_accuracy"]}
    if len(study.objectives) > 1:
        shown["target"] = val_accuracy
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    draw: dict[str, Callable[[], Any]] = {
        "History": lambda: visualization.plot_optimization_history(stored, **shown),
        "Importance of the hyperparameters": lambda: visualization.plot_param_importances(
            stored, evaluator=evaluator, **shown
        ),
        "Slices": lambda: visualization.plot_slice(stored, **shown),
        "Parallel coordinates": lambda: visualization.plot_parallel_coordinate(stored, **shown).update_traces(
            line={"reversescale": False},
            selector={"type": "parcoords"},  # dark is high
        ),
    }
    if len(study.objectives) in (2, 3):
        names = [AXES[objective] for objective in study.objectives]
        draw |= {"Pareto front": lambda: visualization.plot_pareto_front(stored, target_names=names)}
    sections, library = [], True
    for title, plot in draw.items():
        try:
            figure = plot().update_layout(title=None, margin={"t": 30})
            body = figure.to_html(full_html=False, include_plotlyjs=library)
            library = False  # once for all plots
        except (RuntimeError, ValueError) as error:  # such as: every trial has the same accuracy
            body = f"<p>Cannot be drawn: {html.escape(str(error))}</p>"
        sections.append(f"<h2>{title}</h2>\n{body}")
    heading = html.escape(f"{study.name}: {len(complete)} complete trials")
    page = f"<!doctype html><meta charset='utf-8'><title>{heading}</title>\n<style>body {{font-family: sans-serif}}</style>\n"
    path.write_text(f"{page}<h1>{heading}</h1>\n" + "\n".join(sections), encoding="utf-8")
