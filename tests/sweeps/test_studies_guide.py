"""Every example of docs/studies.md is a study that runs."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import TrialState

from sweeps import space, study_file
from sweeps.store import Store
from sweeps.study import Study

GUIDE = Path(__file__).parents[2] / "docs" / "studies.md"
COMPLETE, *EXAMPLES = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
OWN_MODEL = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to call `sweep` from, with the guide's own model."""
    (tmp_path / "my_model.py").write_text(OWN_MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def put_into_the_complete_one(example: str) -> dict[str, Any]:
    content = yaml.load(COMPLETE, Loader=study_file._Loader) | yaml.load(example, Loader=study_file._Loader)
    content["training"] = {k: v for k, v in content["training"].items() if k not in content["search"]}
    return content


@pytest.mark.parametrize("example", ["", *EXAMPLES], ids=lambda text: text.strip().partition("\n")[0] or "complete")
def test_every_example_is_valid(folder: Path, example: str) -> None:
    content = put_into_the_complete_one(example or COMPLETE)
    path = folder / "my_study.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    study_file.load(str(path))


@pytest.mark.slow
@pytest.mark.parametrize("example", ["", *EXAMPLES], ids=lambda text: text.strip().partition("\n")[0] or "complete")
def test_every_example_runs(folder: Path, run_here: Callable[[Study], Store], example: str) -> None:
    content = put_into_the_complete_one(example or COMPLETE)
    content["training"] = content["training"] | {"epochs": 1}
    if "batch_size" not in content["search"]:
        content["training"] |= {"batch_size": 500}
    content["budget"] = content["budget"] | {"trials": 1}
    path = folder / "my_study.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    study = study_file.load(str(path))
    store = run_here(study)
    assert [trial.state for trial in store.trials()] == [TrialState.COMPLETE]


def test_every_key_and_setting_is_described() -> None:
    from pipelines.config import TrainingSettings

    text = GUIDE.read_text()
    for key in Study.model_fields:
        assert re.search(rf"^\| \[.*`{key}`.*\]", text, re.MULTILINE), key
        assert any(key in yaml.safe_load(example) for example in [COMPLETE, *EXAMPLES]), key
    for setting in TrainingSettings.model_fields:
        assert f"| `{setting}` |" in text
    for name in (*space.SAMPLER_NAMES, *space.PRUNERS):
        assert f"| `{name}` |" in text
