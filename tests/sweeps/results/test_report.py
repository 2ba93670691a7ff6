"""The report: every section from what is stored, as Markdown and as one HTML page."""

import re
from pathlib import Path

import pytest
from rich.console import Console

from pipelines import paths
from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from sweeps import runs
from sweeps.results import report, systems, tables
from sweeps.running import launch
from sweeps.running.resources import ThisMachine
from sweeps.stores.store import Store
from sweeps.study import study_file
from tests.conftest import TINY, let_compare

OF_CONFIRMED = ["Verdicts", "Leaderboard", "Seeds", "Cost to target", "The test images", "Provenance"]
OF_UNCONFIRMED = ["Best trial", "Leaderboard", "Cost to target", "The test images", "Provenance"]


def written(name: str) -> str:
    report.write(name, Console(quiet=True))
    return (paths.mlruns() / "reports" / f"{name}.md").read_text()


def titles(text: str) -> list[str]:
    return re.findall(r"^## (.*)$", text, re.M)


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n\n")[1].split("\n\n## ")[0]


def test_a_confirmed_study(seeded: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    let_compare(monkeypatch)
    text = written("tiny")
    assert titles(text) == OF_CONFIRMED  # what has nothing to say is left out
    paragraph = text.split("\n\n")[1]
    assert "4 trials (4 complete), 4 epochs" in paragraph and "Trained again from 3 fresh seeds, trial " in paragraph
    judged, seeds = systems.verdicts("tiny"), systems.confirmations("tiny")
    chosen = judged[judged.chosen].iloc[0]
    assert (
        f"99.10 % (goal) is {chosen.verdict}." in paragraph
        and f"{chosen.test_mean:.2f} ± {chosen.test_sd:.2f} %" in paragraph
    )
    row = next(line for line in text.splitlines() if line.startswith(f"| **{chosen.system}**, chosen | 3 |"))
    assert f"{chosen.test_mean:.2f} ± {chosen.test_sd:.2f} %" in row
    of_target = section(text, "Verdicts").split(f"**{chosen.system}**, chosen by validation\n\n")[1].splitlines()[2]
    assert of_target.startswith(f"| 99.10 %, goal | **{chosen.verdict}**: mean of 3 seeds")
    assert f"{chosen.low:.2f} to {chosen.high:.2f}" in of_target
    assert f"{chosen.beyond}: {chosen.beyond_low:.2f} to {chosen.beyond_high:.2f}" in of_target
    other = judged[~judged.chosen & judged.system.str.startswith("trial")].system.item()
    assert text.count(" against ") == 1 and f"- {chosen.system} against {other}: " in text
    assert "fresh seeds: the search's number was" in section(text, "Leaderboard")
    assert all(text.count(f"`{run_id}`") >= 1 for run_id in [*seeds.run_id, *runs("tiny").run_id])
    # Four trials and six seeds, each evaluated once.
    assert section(text, "The test images").startswith(
        "They were read at least 10 times, by 10 runs, and chose nothing. 4 config"
    )
    assert "not crossed on validation" in section(text, "Cost to target")

    parent = report.Report("tiny").parent.run_id
    assert {"report.md", "report.html"} <= tracking.artifacts(parent)
    page = tracking.artifact_folder(parent, "report.html", paths.mlruns()).read_text()
    assert page.count("<table>") == 8 and page.split("Plots to click on")[0].count("data:image/png;base64,") == 7
    order = [
        "Verdicts",
        "Curves",
        "Leaderboard",
        "Seeds",
        "chosen by validation</h2>",
        "Plots to click on",
        "Provenance",
    ]
    places = [page.index(title) for title in order]
    assert places == sorted(places)
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=.http", page)


def test_the_cost_is_that_of_all_trials_until_the_first_that_reached_it(study: Store) -> None:
    page = report.Report("tiny")
    in_order = sorted(page.trials, key=lambda run: run.end_time)
    reached = [100 * run.metrics["val_accuracy"] for run in in_order]
    third = sorted(reached)[2]
    first = next(i for i, accuracy in enumerate(reached) if accuracy >= third)
    targets = [{"accuracy": third, "name": "third"}, {"accuracy": 100.0, "name": "perfect"}]
    page.study = study_file.check(TINY | {"targets": targets}, "test")
    seconds = sum(run.metrics["seconds"] for run in in_order[: first + 1])
    lines = page._cost().splitlines()
    assert lines[-2].endswith(f"third | {first + 1} | {first + 1} | {seconds:,.0f} | {in_order[first].tags['trial']} |")
    assert lines[-1] == "| 100.00 %, perfect | not crossed on validation | – | – | – |"


def test_an_unconfirmed_study_says_so(study: Store) -> None:
    text = written("tiny")
    assert titles(text) == OF_UNCONFIRMED
    best = runs("tiny").iloc[0]
    assert f"The best by validation is trial {best.trial}: {100 * best.val_accuracy:.2f} % on validation images" in text
    assert "unconfirmed: `sweep confirm tiny` trains the best again" in text.split("\n\n")[1]
    assert f"| `filters1` | {best.filters1} |" in section(text, "Best trial")
    assert "is the deviation of a mean over 500 images" in section(text, "The test images")


def test_what_cannot_be_reported_on_is_one_line(study: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        report.write("tiny", Console(quiet=True), tmp_path)
    idle = study_file.check(TINY | {"name": "idle"}, "test")
    from pipelines import datasets

    launch._prepare(idle, datasets.load("mnist-5k"), ThisMachine(device="cpu"), "sweep")
    with pytest.raises(UserError, match="no trial of study 'idle' has ended"):
        written("idle")
    Store.create("bare")
    with pytest.raises(UserError, match="bare"):
        written("bare")


def test_a_page_shows_html_and_does_not_obey_it() -> None:
    page = tables.html("# <script>x</script>\n\n" + tables.markdown([["a"], ["<b>|</b>"]]), "<title>")
    assert "<script>" not in page and "&lt;script&gt;" in page and "<title>&lt;title&gt;</title>" in page
    assert "<td>&lt;b&gt;|&lt;/b&gt;</td>" in page
