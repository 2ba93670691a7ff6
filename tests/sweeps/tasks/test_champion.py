"""The champion: registered, promoted by validation alone, served, and asked."""

import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image, ImageOps
from rich.console import Console

import models
from pipelines import datasets, serving
from pipelines.datasets import decode
from pipelines.errors import UserError
from pipelines.images import Scaling
from pipelines.tracking import registry
from pipelines.tracking import store as tracking
from sweeps.results import systems
from sweeps.running.resources import ThisMachine
from sweeps.stores.store import Store
from sweeps.tasks import champion, confirm, logged
from tests.conftest import eventually, let_compare


@pytest.fixture
def digits(tmp_path: Path) -> list[Path]:
    """Five test images of mnist-5k as PNG files."""
    for number, image in enumerate(datasets.load("mnist-5k").test.x[:5, :, :, 0]):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    return [tmp_path / f"{number}.png" for number in range(5)]


@pytest.mark.usefixtures("seeded")
def test_the_chosen_configuration_is_registered_once_with_what_is_known_of_it(
    monkeypatch: pytest.MonkeyPatch, digits: list[Path]
) -> None:
    let_compare(monkeypatch)
    assert registry.champion("mnist-5k") is None
    said = champion.promote("tiny")
    found = registry.champion("mnist-5k")
    assert found is not None and found.number == "1" and f"trial {found.tags['trial']} of tiny" in said
    seeds = systems.confirmations("tiny")
    own = seeds[seeds.trial == int(found.tags["trial"])]
    assert own.val_accuracy.mean() == seeds.groupby("trial").val_accuracy.mean().max()
    assert own[own.run_id == found.run_id].val_accuracy.item() == own.val_accuracy.max()
    assert json.loads(found.tags["val_accuracy"]) == list(own.val_accuracy)
    assert found.tags["dataset_digest"] == datasets.load("mnist-5k").digest
    verdict = found.tags["verdict 99.10 goal"]
    assert (
        verdict.startswith(("undecided (mean of 3 seeds", "not reached (mean of 3 seeds")) and "(3 planned)" in verdict
    )
    assert champion.promote("tiny") == said and registry.champion("mnist-5k") == found  # again changes nothing

    trained = systems.Predicted.of([found.run_id], datasets.load("mnist-5k"))
    model = registry.load(found, "tests.tiny_model")
    pixels = datasets.load("mnist-5k").test.x.astype(np.float32)
    np.testing.assert_allclose(model.predict(pixels, verbose=0), trained.test[0], atol=1e-5)
    asked = champion.predict(digits, None, invert=False).classified
    assert [classes[0][0] for _, classes, _ in asked] == [str(label) for label in trained.test[0][:5].argmax(axis=1)]
    assert [classes[0][1] for _, classes, _ in asked] == pytest.approx(trained.test[0][:5].max(axis=1), abs=1e-5)


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize(
    ("before", "stays"),
    [([0.99, 0.991, 0.989], True), ([0.10, 0.101, 0.099], False)],
)
def test_only_a_clearly_better_configuration_takes_its_place(before: list[float], stays: bool) -> None:
    champion.promote("tiny")
    first = registry.champion("mnist-5k")
    assert first is not None
    tags = {
        "study": "other",
        "study_uid": "another",
        "trial": "3",
        "val_accuracy": json.dumps(before),
        "test_accuracy": "1.0",
    }
    for key, value in tags.items():
        tracking.client().set_model_version_tag("mnist-5k", first.number, key, value)
    said = champion.promote("tiny")
    assert ("stays trial 3 of other" in said) == stays
    found = registry.champion("mnist-5k")
    assert found is not None and found.tags["study"] == ("other" if stays else "tiny")


@pytest.mark.usefixtures("seeded")
def test_a_champion_of_other_images_or_without_files_is_one_line(digits: list[Path]) -> None:
    with pytest.raises(UserError, match="there is no champion yet: sweep confirm registers one"):
        champion.predict(digits, None, invert=False)
    champion.promote("tiny")
    found = registry.champion("mnist-5k")
    assert found is not None
    with pytest.raises(UserError, match="there is no champion of 'mnist': expected one of mnist-5k"):
        champion.predict(digits, "mnist", invert=False)
    digits[0].write_bytes(b"no image")
    with pytest.raises(UserError, match=r"0\.png cannot be read as an image .*: expected a PNG"):
        champion.predict(digits, None, invert=False)
    uri = tracking.client().get_run(found.run_id).info.artifact_uri
    model = Path(uri.removeprefix("file://")) / "champion" / "data" / "model.keras"
    model.write_bytes(model.read_bytes()[:1000])
    with pytest.raises(UserError, match="the files of version 1 of registered model 'mnist-5k' cannot be read"):
        champion.predict(digits[1:], None, invert=False)
    model.unlink()
    with pytest.raises(UserError, match="the files of version 1 of registered model 'mnist-5k' cannot be read"):
        champion.predict(digits[1:], None, invert=False)
    tracking.client().set_model_version_tag("mnist-5k", "1", "split_digest", "another")
    with pytest.raises(UserError, match=r"was chosen on other images \(digest another, here"):
        champion.promote("tiny")


@pytest.mark.usefixtures("seeded")
def test_a_final_training_takes_the_place_of_its_own_configuration(here: list[str]) -> None:
    champion.promote("tiny")
    before = registry.champion("mnist-5k")
    confirm.run("tiny", 2, 3, ThisMachine(device="cpu"), Console(quiet=True), final=True)
    champion.promote("tiny")
    found, seeds = registry.champion("mnist-5k"), systems.confirmations("tiny")
    assert before is not None and found is not None and found.number == "2" and found.tags["phase"] == "final"
    assert found.run_id == seeds[seeds.phase == "final"].run_id.iloc[0]
    assert found.tags["val_accuracy"] == before.tags["val_accuracy"]
    assert found.tags["split_digest"] == before.tags["split_digest"] != found.tags["dataset_digest"]


@pytest.mark.usefixtures("seeded")
def test_images_unlike_those_of_the_data_set_are_doubted(tmp_path: Path, digits: list[Path]) -> None:
    champion.promote("tiny")
    Image.new("L", (28, 28), 20).save(tmp_path / "blank.png")
    with Image.open(digits[0]) as digit:
        ImageOps.invert(digit).save(tmp_path / "dark_on_light.png")
    answer = champion.predict([digits[0], tmp_path / "blank.png", tmp_path / "dark_on_light.png"], None, invert=False)
    doubts = [doubt for _, _, doubt in answer.classified]
    assert doubts[0] is None and doubts[1] == "the image is blank, or nearly so" and "needs --invert" in str(doubts[2])
    inverted = champion.predict([tmp_path / "dark_on_light.png"], None, invert=True)
    assert inverted.classified[0][1][0] == pytest.approx(answer.classified[0][1][0], abs=1e-5)
    assert inverted.classified[0][2] is None
    assert re.fullmatch(r"the champion of mnist-5k, version 1: trial \d of tiny", answer.of)


def test_images_of_all_sorts(tmp_path: Path) -> None:
    def grey(image: Image.Image, name: str, **options: Any) -> np.ndarray:
        image.save(tmp_path / name)
        return decode.read(tmp_path / name, (28, 28, 1), "pad", **options)[..., 0]

    deep = Image.fromarray(np.full((28, 28), 30_000, np.uint16))
    assert grey(deep, "deep.png").max() == round(30_000 / 257)
    clear = np.zeros((28, 28, 4), np.uint8)
    clear[10:18, 10:18, 3] = 255  # black ink on nothing
    inked = grey(Image.fromarray(clear), "clear.png", invert=True)
    assert inked[14, 14] == 255 and inked[0, 0] == 0


def test_a_dark_digit_on_light_paper_of_any_size(tmp_path: Path) -> None:
    paper = np.full((100, 50), 255, np.uint8)
    paper[20:80, 20:30] = 0
    Image.fromarray(paper).convert("RGB").save(tmp_path / "one.png")
    found = decode.read(tmp_path / "one.png", (28, 28, 1), "pad", invert=True)[..., 0]
    assert found.shape == (28, 28) and found.dtype == np.uint8
    assert found[14, 14] > 200 and found[:, :6].max() == 0 and found[0].max() == 0


@pytest.mark.parametrize("pixels", ["by_255", "by_256", "standardized"])
def test_the_scaling_is_inside(tmp_path: Path, pixels: str) -> None:
    model = models.load("softmax").build()
    dataset = datasets.load("mnist-5k")
    scaling = Scaling(pixels, dataset.train.x)
    expected = model.predict(scaling(dataset.test.x), verbose=0)
    served = serving.with_scaling(model, scaling)
    served.save(tmp_path / "served.keras")
    found = keras.saving.load_model(tmp_path / "served.keras").predict(dataset.test.x.astype(np.float32), verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.usefixtures("seeded")
def test_a_model_whose_file_is_gone_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logged, "MODEL_FILE", "gone.keras")
    with pytest.raises(UserError, match=r"the model of run \w+ is gone, or cannot be read .*: sweep rerun \w+ trains"):
        champion.promote("tiny")


@pytest.mark.slow
def test_mlflow_serves_it_and_agrees_with_sweep_predict(
    seeded: Store, outputs: Path, digits: list[Path], sweep: Any
) -> None:
    champion.promote("tiny")
    code, out, err = sweep("predict", *digits).wait()
    assert code == 0, err
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/mnist-5k@champion"]
    server = subprocess.Popen(
        [*command, "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)],
        env=os.environ
        | {
            "MLFLOW_TRACKING_URI": tracking.uri(),
            "CUDA_VISIBLE_DEVICES": "-1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # MLflow looks for uvicorn there
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        pixels = datasets.load("mnist-5k").test.x[:5].astype(float).tolist()
        question = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"instances": pixels}).encode(),
            {"Content-Type": "application/json"},
        )

        def ask() -> Any:
            try:
                return json.load(urllib.request.urlopen(question, timeout=30))
            except OSError:
                return None

        served = np.array(eventually(ask, timeout=120)["predictions"])
    finally:
        os.killpg(server.pid, 9)
        server.wait()
    lines = [line.split(": ")[1] for line in out.splitlines()]
    expected = [f"{p.argmax()} ({100 * p.max():.2f} %" for p in served]
    assert [line.split(";")[0] for line in lines] == expected
