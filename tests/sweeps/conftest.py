"""A tiny study and what was confirmed of it, trained once for all tests that read it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from sweeps import confirm, launch, study_file
from tests.conftest import TINY, copy_stores, run_in_process

QUICK = {"training": {"epochs": 1, "batch_size": 200}, "budget": {"trials": 4}}


def launch_here(patch: pytest.MonkeyPatch, watch: Any, empty_stores: Path) -> list[str]:
    """Let `confirm.run` train in this process; returns what was launched."""
    launched: list[str] = []

    def run(study: Any, _workers: int, _device: str, _console: Console, phase: Any, *, owner: str) -> Any:
        launched.append(f"{study.name} {study.budget.trials}")
        run_in_process(study, watch, empty_stores, phase, owner)
        return launch.Result(None, False, "random")

    patch.setattr(confirm.launch, "run", run)
    return launched


@pytest.fixture(scope="session")
def swept(watch: Any, empty_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a study of four trials."""
    folder = tmp_path_factory.mktemp("swept")
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY | QUICK, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLRUNS_DIR", str(folder / "mlruns"))
        run_in_process(study_file.load(str(path)), watch, empty_stores)
    return folder / "mlruns"


@pytest.fixture(scope="session")
def twice(swept: Path, watch: Any, empty_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of that study and three seeds of its two best."""
    folder = tmp_path_factory.mktemp("twice")
    copy_stores(swept, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLRUNS_DIR", str(folder))
        launch_here(patch, watch, empty_stores)
        confirm.run("tiny", 2, 3, 1, "cpu", Console(quiet=True))
    return folder
