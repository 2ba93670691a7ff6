"""Every example of docs/studies.md is a study that runs."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from optuna.trial import TrialState

import models
from pipelines import datasets
from pipelines.metrics import METRICS
from sweeps.stores.store import Store
from sweeps.study import pruners, samplers, study_file
from sweeps.study.study import Study
from tests.conftest import Sweep
from tests.models import test_models

DOCS = Path(__file__).parents[3] / "docs"
GUIDE = DOCS / "studies.md"
COMPLETE, *EXAMPLES = re.findall(
    r"```yaml\n(.*?)```", GUIDE.read_text() + (DOCS / "training.md").read_text(), re.DOTALL
)
OWN_MODEL, OWN_METRIC = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to call `sweep` from, with the guide's own model and metric."""
    (tmp_path / "my_model.py").write_text(OWN_MODEL)
    (tmp_path / "metric.py").write_text(OWN_METRIC)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let `mnist-5k` have fewer training images: the guide's model is a large one."""
    known = datasets.KNOWN["mnist-5k"]
    whole = known.load()
    few = dataclasses.replace(whole, train=whole.train[np.arange(500)])
    monkeypatch.setitem(datasets.KNOWN, "mnist-5k", dataclasses.replace(known, load=lambda: few))
    monkeypatch.setattr(datasets, "_known", lambda name: datasets.KNOWN[name].load())
    datasets._watched.cache_clear()
    yield
    datasets._watched.cache_clear()


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


def together(examples: list[str]) -> list[str]:
    """Examples that search nothing of their own and name different keys can be run as one."""

    def keys_of(text: str) -> set[str]:
        keys = set(yaml.safe_load(text))
        return keys | {"objectives"} if "stop" in keys else keys  # its rules are of these

    alone, groups = [], list[str]()
    for example in examples:
        keys = keys_of(example)
        if keys & {"search", "repeats", "folds"}:
            alone.append(example)
            continue
        index = next((i for i, group in enumerate(groups) if not keys & keys_of(group)), None)
        if index is None:
            groups.append(example)
        else:
            groups[index] += example
    return [*alone, *groups]


@pytest.mark.usefixtures("few_images")
@pytest.mark.parametrize(
    "example", ["", *together(EXAMPLES)], ids=lambda text: text.strip().partition("\n")[0] or "complete"
)
def test_every_example_runs(folder: Path, run_here: Callable[[Study], Store], example: str) -> None:
    content = put_into_the_complete_one(example or COMPLETE)
    content["training"] = content["training"] | {"epochs": 1}
    if "batch_size" not in content["search"]:
        content["training"] |= {"batch_size": 100}
    content["budget"] = content["budget"] | {"trials": 1}
    path = folder / "my_study.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    study = study_file.load(str(path))
    store = run_here(study)
    assert [trial.state for trial in store.trials()] == [TrialState.COMPLETE]


@pytest.mark.long
def test_adding_a_model_is_done_as_told(tmp_path: Path, sweep: Callable[..., Sweep], monkeypatch: Any) -> None:
    text = (DOCS / "models.md").read_text()
    model, *studies = re.findall(r"```(?:python|yaml)\n(.*?)```", text, re.DOTALL)
    commands = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[0].splitlines()
    (tmp_path / "lenet.py").write_text(model)
    for study in studies:
        (tmp_path / f"{yaml.safe_load(study)['name']}.yaml").write_text(study)
    assert len(model.splitlines()) < 60 and len(studies) == 2
    for command in [*commands, "sweep run lenet-seeds.yaml", "sweep best lenet-seeds"]:
        code, out, err = sweep(*command.split()[1:], cwd=tmp_path).wait()
        assert code == 0, err
        if command == "sweep best lenet":
            assert re.search(r"lenet: [1-4] complete", out) and "61,706" in out
    assert "3 seeds of one configuration" in out

    monkeypatch.syspath_prepend(str(tmp_path))
    contract = test_models.TestEveryFile()
    contract.test_gives_probabilities_and_the_same_ones_after_saving("lenet", tmp_path)
    contract.test_heeds_every_argument("lenet")


def test_every_recipe_is_listed() -> None:
    text = (DOCS / "models.md").read_text()
    for name, file in models.MODELS.items():
        path = file.replace(".", "/") + ".py"
        assert f"`{name}`" in text and f"(../{path})" in text
    for name in re.findall(r"`STUDY=(\w+)`", text):
        assert models.load(study_file.load(name).model)


def test_every_key_and_setting_is_described() -> None:
    from pipelines.config import TrainingSettings

    text = GUIDE.read_text()
    for key in [name for name, field in Study.model_fields.items() if not field.exclude]:
        assert re.search(rf"^\| \[.*`{key}`.*\]", text, re.MULTILINE), key
        assert any(key in yaml.safe_load(example) for example in [COMPLETE, *EXAMPLES]), key
    for setting in TrainingSettings.model_fields:
        assert f"| `{setting}` |" in text
    for name in (*samplers.SAMPLER_NAMES, *pruners.PRUNERS, *METRICS):
        assert f"| `{name}` |" in text
