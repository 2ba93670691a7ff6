"""The inside view of a run: drawn, logged with it, and what is said where there is none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from sweeps import best_runs, runs
from sweeps.stores.store import Store
from sweeps.study import study_file
from sweeps.tasks import explain, logged
from sweeps.tasks.explain import Asked


def explained(run_id: str, capsys: pytest.CaptureFixture[str], study: str | None = None, **asked: Any) -> str:
    output = asked.pop("output", None)
    explain.run(run_id, study, Asked(**{"digit": 7} | asked), output, Console(width=300))
    return capsys.readouterr().out


def test_the_best_runs_inside(study: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = explained("best", capsys, output=tmp_path / "figures")
    best = best_runs().run_id[0]
    names = [f"{name}.png" for name in explain.FIGURES if name != "same_filters"]
    assert said == f"run {best}, explain/: {', '.join(sorted(names))}\n"
    assert {f"explain/{name}" for name in names} <= tracking.artifacts(best)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(names)
    for path in (tmp_path / "figures").iterdir():
        with Image.open(path) as image:
            assert image.width > 800


def test_two_runs_filters_are_compared(study: Store, capsys: pytest.CaptureFixture[str]) -> None:
    frame = runs()
    first = frame.run_id[0]
    alike = frame[(frame.filters1 == frame.filters1[0]) & (frame.run_id != first)].run_id
    assert len(alike), "two trials have as many first filters"
    explained(first, capsys, against=alike.iloc[0], only=["same_filters"])
    assert "explain/same_filters.png" in tracking.artifacts(first)
    other = frame[frame.filters1 != frame.filters1[0]].run_id.iloc[0]
    with pytest.raises(UserError, match=r"its first layer has kernels of shape .* expected two trainings of one conf"):
        explained(first, capsys, against=other)


def test_the_chosen_digit_and_feature_are_drawn(study: Store, capsys: pytest.CaptureFixture[str]) -> None:
    inner = explain.Explained(best_runs().run_id[0], Asked(4, feature=None))
    layer = inner.network.convolutions[0].name
    chosen = explain.Explained(best_runs().run_id[0], Asked(4, feature=f"{layer}:1"))
    (title, *_) = [text.get_text() for text in chosen.activations().texts]
    index = int(title.split()[2].rstrip(","))
    assert inner.dataset.test.y[index] == 4 and ", 4, is taken for" in title
    texts = [axes.get_title(loc="center") for axes in chosen.patterns().axes]
    assert len(texts) == 1 and texts[0].startswith("1: ")


def test_a_dense_model_has_its_own_inside(
    run_here: Callable[..., Store], write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(
        model="softmax", training={"epochs": 1}, search={"learning_rate": {"float": [0.1, 0.2]}}, budget={"trials": 1}, start=[]
    )  # fmt: skip
    run_here(study_file.load(str(path)))
    said = explained("best", capsys)
    assert "left out, for the model has no convolution: activations, codes" in said
    assert "kernels.png, maps.png, noise.png, patterns.png, saliency.png" in said and "not drawn" not in said
    with pytest.raises(
        UserError, match="model 'softmax' has no convolution, so no codes: expected one of kernels, noise"
    ):
        explained("best", capsys, only=["codes"])


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"digit": 10}, "--digit 10: expected a class from 0 to 9"),
        ({"only": ["kernel"]}, r"--only kernel: expected one of kernels, .*\(did you mean 'kernels'\?\)"),
        ({"only": ["same_filters"]}, "name the other with --against RUN"),
        ({"feature": "dense"}, "there is no layer ''"),
        ({"against": "nothing"}, "there is no run 'nothing'"),
        ({"against": "RUN", "only": ["kernels"]}, "--against is for the figure same_filters"),
    ],
)
@pytest.mark.usefixtures("study")
def test_what_cannot_be_asked(asked: Any, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if asked.get("against") == "RUN":
        asked = asked | {"against": best_runs().run_id[0]}
    with pytest.raises(UserError, match=message):
        explained("best", capsys, **asked)


@pytest.mark.usefixtures("study")
def test_runs_that_cannot_be_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="there is no run 'nothing'"):
        explained("nothing", capsys)
    with pytest.raises(UserError, match="study 'other' has not been run"):
        explained("best", capsys, study="other")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written .*: name another folder with --output"):
        explained("best", capsys, only=["kernels"], output=tmp_path / "file")
    monkeypatch.setattr(logged, "MODEL_FILE", "gone.keras")
    with pytest.raises(
        UserError, match=r"the model of run \w+ is gone, or cannot be read .*: sweep rerun \w+ trains it"
    ):
        explained("best", capsys)


@pytest.mark.usefixtures("study")
def test_a_figure_that_fails_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(explain.draw, "kernels", lambda *_: 1 / 0)
    monkeypatch.setattr(explain, "MAPPED", 100)
    said = explained("best", capsys)
    assert "not drawn: kernels.png: ZeroDivisionError" in said and "explain/: activations.png, codes.png, maps" in said


def test_without_held_out_images_no_run_is_the_best(
    run_here: Callable[..., Store], write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(
        model="softmax", protocol="official", training={"epochs": 1, "keep": "last"}, search={}, start=[],
        budget={"trials": 1}, targets=[],
    )  # fmt: skip
    run_here(study_file.load(str(path)))
    with pytest.raises(
        UserError, match="study 'tiny' holds no images out, so none of its runs is the best: name a run"
    ):
        explained("best", capsys, study="tiny")


@pytest.mark.usefixtures("study")
def test_where_no_figure_can_be_drawn_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(explain.draw, "kernels", lambda *_: 1 / 0)
    with pytest.raises(UserError, match=r"kernels\.png: ZeroDivisionError"):
        explained("best", capsys, only=["kernels"])
