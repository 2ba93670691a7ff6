"""What MLflow's UI opens on: its pages for training models, the trials ranked, the columns and charts that a study has.

The UI keeps such a view as a tag of the experiment. Its form is no interface of MLflow's, so it is written for the version that
it was tried with, see `tests/sweeps/test_browser.py`; with any other the UI opens on the same pages, without a view.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from pipelines.metrics import Direction
from pipelines.tracking import names, store

TRIED = "3.17."  # versions of MLflow
KEY = "sweeps"  # of the view, in the address
TAG = f"mlflow.sharedViewState.{KEY}"
MODE = "workflowType=machine_learning"  # else the UI opens on its pages for language models
TABLE, CHARTS = "TABLE", "CHART"
SECTION = "sweeps"  # id of the one section of charts
ALWAYS_SHOWN = ("attributes.`Run Name`", "runDateAndNestInfo")  # columns, as the UI calls them
SHOWN = "FIRST_20_RUNS"  # in charts


@dataclass(frozen=True)
class View:
    """What is shown of the trials of the study with our id `study_uid`, and of no other's: columns, ranked by the first metric.

    `curves`: the metrics whose history is drawn.
    """

    study_uid: str
    metrics: Sequence[str]
    direction: Direction
    params: Sequence[str]
    curves: Sequence[str]

    def content(self) -> str:
        """Return it as the UI stores it."""
        measured = [_column("metrics", name) for name in self.metrics]
        columns = [*measured, *(_column("params", name) for name in self.params)]
        return json.dumps(
            {
                "searchFilter": f"tags.study_uid = '{self.study_uid}' and {store.OF_TRIALS}",
                "orderByKey": measured[0],
                "orderByAsc": self.direction == "minimize",
                "selectedColumns": columns,
                "columnOrder": [*ALWAYS_SHOWN, *columns],
                "runsHiddenMode": SHOWN,
                "compareRunSections": [
                    {"uuid": SECTION, "name": "The study", "display": True, "isReordered": False, "deleted": False}
                ],
                "compareRunCharts": [*map(_curve, self.curves), _parallel(self.params, self.metrics[0])],
            }
        )


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"


def _curve(metric: str) -> dict[str, object]:
    return {
        "type": "LINE",
        "uuid": f"{SECTION}-{metric}",
        "metricSectionId": SECTION,
        "deleted": False,
        "isGenerated": False,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "lineSmoothness": 0,
        "range": {},
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
        "displayName": metric.removeprefix(names.CURVE),
    }


def _parallel(params: Sequence[str], metric: str) -> dict[str, object]:
    return {
        "type": "PARALLEL",
        "uuid": f"{SECTION}-parallel",
        "metricSectionId": SECTION,
        "deleted": False,
        "isGenerated": False,
        "selectedParams": list(params),
        "selectedMetrics": [metric],
        "showAllRuns": False,
    }


def save(experiment_id: str, view: View) -> None:
    """Keep the view of a study with its experiment, where MLflow's version is one that it was tried with."""
    if version("mlflow").startswith(TRIED):
        store.client().set_experiment_tag(experiment_id, TAG, view.content())


def path(experiment_id: str, tags: "dict[str, str]", mode: str = TABLE) -> str:
    """Return what follows the server's address to show an experiment: its view, as table or charts, where it has one."""
    runs = f"#/experiments/{experiment_id}/runs?{MODE}&compareRunsMode={mode}"
    shared = TAG in tags and version("mlflow").startswith(TRIED)
    return f"{runs}&viewStateShareKey={KEY}" if shared else runs
