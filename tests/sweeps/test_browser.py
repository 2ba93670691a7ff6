"""What people see: the MLflow UI in a real browser, on a study that has been swept and confirmed."""

import contextlib
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.tracking import store as tracking
from sweeps import best_runs
from sweeps.results import report, summary
from sweeps.stores.record import StoredStudy
from sweeps.stores.store import Store
from sweeps.tasks import explain, ui
from tests.conftest import ROOT, eventually, let_compare

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT = 120_000  # milliseconds: the UI's own files are many, and the cores few


@pytest.fixture
def served(seeded: Store) -> Iterator[str]:
    """The address of `sweep ui` on a tiny confirmed study."""
    yield from serving("ui")


def serving(command: str, *arguments: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = ["--no-browser"] if command == "ui" else []
    whole = [sys.executable, "-m", "sweeps.cli", command, *arguments, *quiet, "--port", str(port)]
    server = subprocess.Popen(
        whole, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert server.poll() is None, "the server has ended"
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as page:
            return bool(page.status == 200)
        return False

    try:
        eventually(answers)
        yield address
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def page() -> Iterator[Any]:
    """A page of a headless Chromium."""
    if CHROMIUM is None:
        pytest.skip("needs a browser: install Debian's chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        opened = browser.new_page(viewport={"width": 1400, "height": 900})
        opened.set_default_timeout(TIMEOUT)
        yield opened
        browser.close()


def shown_width(page: Any) -> tuple[int, int]:
    """Wait until the artifact view shows an image; return its own width and that at which it is shown, in pixels."""
    images = "[...document.querySelectorAll('img')].filter(i => i.naturalWidth > 400)"
    page.wait_for_function(f"{images}.length > 0")
    return tuple(page.evaluate(f"(i => [i.naturalWidth, Math.round(i.getBoundingClientRect().width)])({images}[0])"))


def open_artifact(page: Any, address: str) -> None:
    page.goto("about:blank")  # the UI does not follow a change behind the "#" alone
    page.goto(address)


@pytest.mark.slow
def test_the_ui_shows_study_trial_and_report(served: str, page: Any, tmp_path: Path) -> None:
    run_id = best_runs().run_id[0]
    explain.run(run_id, None, explain.Asked(7, only=("kernels",)), None, report.Console(quiet=True))
    report.log("tiny")
    experiment = tracking.find_experiment("tiny").experiment_id
    (parent,) = tracking.parent_runs(experiment, Store("tiny").attributes()["uid"])
    runs = f"{served}/#/experiments/{experiment}/runs"

    page.goto(runs)
    page.locator("button[data-component-id*=runnamecellrenderer]").first.click()  # unfolds the parent run
    page.get_by_text("trial 0", exact=True).first.wait_for()

    figures = [name for name in sorted(tracking.artifacts(run_id)) if name.endswith(".png")]
    assert len(figures) == 6
    for name in [*figures, "study_curves.png", "images_by_class.png"]:
        of = run_id if name in figures else parent.run_id
        open_artifact(page, f"{runs}/{of}/artifacts/{name}")
        own, shown = shown_width(page)
        assert 850 <= own <= 950 and shown >= 0.5 * own, f"{name} is shown {shown} pixels wide"

    open_artifact(page, f"{runs}/{parent.run_id}/artifacts/report.html")
    inside = page.frame_locator("iframe.mlflow-html-iframe")
    inside.get_by_role("heading", name="Verdicts").wait_for()
    inside.locator(".js-plotly-plot:has(.main-svg)").nth(5).wait_for()  # one after the other
    assert inside.locator(".js-plotly-plot").count() == 6
    widths = [
        inside.locator("img").nth(i).evaluate("i => i.naturalWidth") for i in range(inside.locator("img").count())
    ]
    assert len(widths) == 7 and min(widths) > 400


def cells(page: Any, column: str) -> list[str]:
    """Return what the table of runs shows in a column, from the first row on."""
    found = page.evaluate(
        """column => [...document.querySelectorAll('[role=gridcell]')]
            .filter(cell => cell.getAttribute('col-id') == column)
            .map(cell => [+cell.closest('[row-index]').getAttribute('row-index'), cell.innerText.trim()])""",
        column,
    )
    return [text for _, text in sorted(found)]


@pytest.mark.slow
def test_the_first_screen_shows_the_ranked_trials(served: str, page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    let_compare(monkeypatch)
    summary.write("tiny")
    _, table, charts = ui.latest(served) or ("", "", "")
    best = best_runs("tiny")  # in the order of `sweep best`
    page.goto(table)
    page.get_by_text(f"trial {best.trial[0]}", exact=True).first.wait_for()
    names = [text.splitlines()[-1] for text in cells(page, "attributes.`Run Name`")]  # after the colour
    assert names == [f"trial {trial}" for trial in best.trial]  # and none of the seeds
    for name in ("val_accuracy", "test_accuracy"):
        shown = cells(page, f"metrics.`{name}`")
        assert [float(text.rstrip("…")) for text in shown] == pytest.approx(list(best[name]), abs=1e-5)
    assert [float(text) for text in cells(page, "params.`filters1`")] == list(best.filters1)
    page.get_by_text("Model training", exact=True).wait_for()

    page.goto("about:blank")
    page.goto(charts)
    page.locator(".js-plotly-plot .main-svg").nth(2).wait_for()
    assert "The study" in page.inner_text("body")  # the section of charts

    parent = StoredStudy("tiny").parent_run()
    page.goto("about:blank")
    page.goto(f"{served}/#/experiments/{parent.experiment_id}/runs/{parent.run_id}")
    page.get_by_text("4 trials: 4 complete.").first.wait_for()
    row = page.get_by_role("row").filter(has_text=f"{100 * best.val_accuracy[0]:.2f} %").first
    row.wait_for()  # of the leaderboard, as a table


@pytest.mark.slow
def test_the_dashboard_shows_the_study(seeded: Store, page: Any) -> None:
    for address in serving("dashboard", "tiny"):
        page.goto(f"{address}/dashboard/studies/{seeded.study()._study_id}")
        page.get_by_text("tiny", exact=False).first.wait_for()
        page.locator(".js-plotly-plot .main-svg").first.wait_for()
