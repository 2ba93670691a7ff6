"""Interactive plots of a study, as HTML that needs no network."""

import html
from collections.abc import Callable
from typing import Any

import optuna
import pandas as pd
from optuna import visualization
from optuna.trial import TrialState

from pipelines.figures.curves import axis, without_worst
from pipelines.figures.style import BLUE, FAINT, RED
from pipelines.metrics import Metric
from sweeps.results.leaderboard import IMPORTANCE_TRIALS
from sweeps.stores.store import best_first, curve, first_value, front
from sweeps.study.study import COSTS, Objective, Study

FEWEST_TRIALS = 2  # complete ones, for a plot that compares
COST_AXES = {"parameters": "parameters", "seconds": "seconds of training"}


def sections(stored: optuna.Study, study: Study, frame: pd.DataFrame) -> str:
    """Return history, importances, slices, parallel coordinates, curves, and objective against cost, as the body of a page.

    `frame`: the study's trials, as `sweeps.runs` has them. Empty without enough complete trials.
    """
    complete = [trial for trial in stored.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    if len(complete) < FEWEST_TRIALS:
        return ""
    # One objective speaks for itself, and Optuna then knows which end is good; of several, the first is drawn.
    objective = study.objective
    shown: dict[str, Any] = {"target_name": _axis(study.objectives[0])}
    if len(study.objectives) > 1:
        shown["target"] = first_value
    what = objective.label[0].upper() + objective.label[1:]
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    draw: dict[str, Callable[[], Any]] = {
        "History": lambda: visualization.plot_optimization_history(stored, **shown),
        "Curves over epochs": lambda: _curves(stored, objective),
        "Slices": lambda: visualization.plot_slice(stored, **shown),
        "Parallel coordinates": lambda: visualization.plot_parallel_coordinate(stored, **shown).update_traces(
            line={"reversescale": objective.direction == "minimize"},
            selector={"type": "parcoords"},  # dark is good
        ),
        f"{what} against parameters": lambda: _against(frame, objective, "parameters"),
        f"{what} against seconds": lambda: _against(frame, objective, "seconds"),
    }
    if len(complete) >= IMPORTANCE_TRIALS:
        draw |= {
            "Importance of the hyperparameters": lambda: visualization.plot_param_importances(
                stored, evaluator=evaluator, **shown
            )
        }
    if len(study.objectives) in (2, 3):
        names = [_axis(each) for each in study.objectives]
        draw |= {"Pareto front": lambda: visualization.plot_pareto_front(stored, target_names=names)}
    drawn, library = [], True
    for title, plot in draw.items():
        try:
            figure = plot().update_layout(title=None, margin={"t": 30})
            body = figure.to_html(full_html=False, include_plotlyjs=library)
            library = False  # once for all plots
        except (RuntimeError, ValueError) as error:  # such as: every trial has the same accuracy
            body = f"<p>Cannot be drawn: {html.escape(str(error))}</p>"
        drawn.append(f"<h3>{title}</h3>\n{body}")
    return "\n".join(drawn)


def _axis(objective: Objective) -> str:
    return f"validation {objective.metric.label}" if objective.metric else COST_AXES[objective.name]


def _curves(stored: optuna.Study, metric: Metric) -> Any:
    """Draw the objective of every trial over epochs; those that are not complete are grey, the best is red."""
    import plotly.graph_objects as go

    trials = [(trial, reached) for trial in stored.get_trials(deepcopy=False) if (reached := curve(trial))]
    complete = [trial for trial, _ in trials if trial.state == TrialState.COMPLETE]
    best = best_first(complete, metric.direction)[0].number
    figure = go.Figure()
    for trial, reached in trials:
        state = trial.state.name.lower()
        color = RED if trial.number == best else BLUE if trial.state == TrialState.COMPLETE else FAINT
        figure.add_scatter(
            x=list(reached),
            y=[metric.scale * value for value in reached.values()],
            name=f"trial {trial.number}, {state}",
            line={"color": color, "width": 3 if trial.number == best else 1.2},
            opacity=1 if trial.number == best else 0.7,
            showlegend=False,
        )
    ends = [metric.scale * value for _, reached in trials for value in reached.values()]
    return figure.update_layout(
        xaxis_title="epoch",
        yaxis={"title": f"validation {axis(metric)}", "range": without_worst(ends, metric)},
    )


def _against(frame: pd.DataFrame, metric: Metric, cost: str) -> Any:
    """Draw the objective of complete trials against what they cost; no other beats those on the line."""
    import plotly.graph_objects as go

    reached = frame[f"val_{metric.name}"]
    complete: Any = frame[(frame.state == "complete") & reached.notna() & frame[cost].notna()]
    values = [(float(a), float(c)) for a, c in zip(complete[reached.name], complete[cost], strict=True)]
    ahead = front(values, [metric.direction, COSTS[cost]])
    names = [f"trial {trial}" for trial in complete.trial]
    figure = go.Figure()
    points = list(zip(values, names, ahead, strict=True))
    on_front = sorted((point for point in points if point[2]), key=lambda point: point[0][1])
    others = [point for point in points if not point[2]]
    for group, label, color, mode in (
        (others, "another is as good and cheaper, or better and as cheap", FAINT, "markers"),
        (on_front, "no other is", RED, "lines+markers"),
    ):
        figure.add_scatter(
            x=[c for (_, c), _, _ in group],
            y=[metric.scale * a for (a, _), _, _ in group],
            text=[name for _, name, _ in group],
            name=label,
            mode=mode,
            marker={"color": color, "size": 9},
            line={"color": color, "dash": "dot"},
        )
    return figure.update_layout(xaxis_title=COST_AXES[cost], yaxis_title=f"validation {axis(metric)}")
