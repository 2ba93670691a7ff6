"""docs/your_data.md, run from an empty folder as a reader would."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweeps import runs
from tests.conftest import ROOT, Sweep

BLOCK = re.compile(r"```(python|yaml|sh)\n(.*?)```", re.S)


@pytest.mark.long
@pytest.mark.usefixtures("made_stores")
@pytest.mark.timeout(600)
def test_the_page_does_what_it_says(sweep: Callable[..., Sweep], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(90):
        image = rng.integers(0, 100, (20, 24, 3), np.uint8)
        image[..., number % 3] += 100
        folder = tmp_path / "photos" / ("red", "green", "blue")[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number // 3:03}.png")
    ran = {}
    for language, text in BLOCK.findall((ROOT / "docs/your_data.md").read_text()):
        if language != "sh":
            (tmp_path / text.split("\n")[0].removeprefix("# ")).write_text(text)
            continue
        for line in text.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "sweep"
            code, out, err = sweep(*arguments, cwd=tmp_path).wait()
            assert code == 0, f"{line}: {err}"
            ran[line] = out
    assert "90 images of 16 × 16 × 3 in 3 classes (62 train, 14 validation, 14 test)" in ran["sweep run photos.yaml"]
    assert re.search(r"000.png: (red|green|blue) \(", ran["sweep predict photos/red/000.png"])
    assert "300 examples of 20 in 2 classes" in ran["sweep run rows.yaml"]
    assert "RMSE" in ran["sweep best prices"] and runs("prices").val_rmse.notna().all()
    assert (runs("photos").state != "failed").all() and (runs("rows").state == "complete").all()
