"""A study that searches its model too: what its file means, what its trials train, and all that follows from them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import TrialState
from rich.console import Console

import models
from pipelines import datasets
from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from sweeps import Choice, Float, Int, Study, open_study, runs
from sweeps.results import leaderboard, report
from sweeps.running import launch
from sweeps.running.resources import ThisMachine
from sweeps.stores import names
from sweeps.stores.record import StoredStudy
from sweeps.stores.seen import SeenStudy
from sweeps.stores.store import Store
from sweeps.study import point, samplers, space, study_file
from sweeps.study.study import Study as Definition
from sweeps.tasks import champion, check, confirm, doctor, explain, logged, migrate, rerun, steer
from sweeps.tasks.explain import Asked

NET = '''
from width import factor

def build(*, units=4, dropout=0.1, classes=10):
    """Return a small dense network: (n, 28, 28, 1) -> (n, 10)."""
    import keras
    from keras import layers

    return keras.Sequential([
        keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(factor * units, "relu"), layers.Dropout(dropout),
        layers.Dense(classes, "softmax"),
    ])
'''
QUIET = Console(quiet=True)
BOTH: dict[str, Any] = {
    "name": "both",
    "model": {"choice": ["lean_cnn", "net.py"]},
    "dataset": "mnist-5k",
    "arguments": {"filters2": 2, "filters3": 2, "filters4": 2, "dense": 4},
    "training": {"epochs": 1, "batch_size": 500},
    "search": {"filters1": {"int": [2, 4]}, "units": {"int": [2, 8]}, "dropout": {"float": [0.0, 0.5]}},
    "constraints": ["parameters <= 30000", "units <= 6", "dropout <= 0.4"],
    "pruner": "none",
    "start": [
        {"model": "net.py", "units": 4, "dropout": 0.25},
        {"model": "lean_cnn", "filters1": 2, "dropout": 0.125},
    ],
    "budget": {"trials": 4},
}


@pytest.mark.parametrize("place", ["under model", "under search"])
def test_an_outline_names_every_model(tmp_path: Path, place: str) -> None:
    search = {"model": BOTH["model"], **BOTH["search"]}
    content = BOTH if place == "under model" else BOTH | {"model": "lean_cnn", "search": search}
    path = tmp_path / "both.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    assert study_file.outline(str(path)) == ("lean_cnn or net.py", "mnist-5k", [*search])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model of one's own, which imports another module."""
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "width.py").write_text("factor = 1\n")
    monkeypatch.chdir(tmp_path)
    models._adopted.clear()
    return tmp_path


def load(place: Path, **changes: Any) -> Definition:
    file = place / "both.yaml"
    file.write_text(yaml.safe_dump(BOTH | changes, sort_keys=False))
    return study_file.load(str(file))


def test_each_models_own_arguments_are_searched_only_where_it_is_chosen(place: Path) -> None:
    study = load(place)
    assert study.models == ["lean_cnn", "net.py"] and study.model == "lean_cnn"
    assert [*study.search] == ["model", "filters1", "units", "dropout"]
    assert [entry.when for entry in study.search.values()] == [{}, {"model": "lean_cnn"}, {"model": "net.py"}, {}]
    config = study.run_config({"model": "net.py", "units": 3, "dropout": 0.5}, seed=1)
    assert config.model == "net.py" and config.hyperparameters == {"units": 3, "dropout": 0.5}
    other = study.run_config({"model": "lean_cnn", "filters1": 3, "dropout": 0.5}, seed=1)
    assert other.hyperparameters["filters1"] == 3 and other.hyperparameters["filters2"] == 2  # of `arguments`
    assert "units" not in other.params()
    assert config.training == other.training  # the first model's recipe, overruled by the file
    assert config.training.optimizer == models.recipe("lean_cnn").training["optimizer"]
    again = study_file.check(study.model_dump(mode="json", by_alias=True), "again", [place])
    assert again == study and again.definition() == study.definition()
    recipe = load(place, start=["recipe"], search={"filters1": {"int": [2, 64]}, "units": {"int": [2, 8]}})
    assert recipe.start_points == [{"model": "lean_cnn", "filters1": models.arguments("lean_cnn")["filters1"]}]
    alone = load(place, search={}, start=[], constraints=[])
    assert [*alone.search] == ["model"]


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid", {"name": "tpe", "multivariate": False}])
def test_every_sampler_proposes_the_arguments_of_the_model_that_it_chooses(place: Path, sampler: Any) -> None:
    import optuna

    study = load(place, sampler=sampler, search=BOTH["search"] | {"dropout": {"choice": [0.1, 0.3, 0.5]}}, start=[])
    feasible = space.feasibility(study, lambda config: 1000 * config.hyperparameters.get("units", 1))
    known = optuna.create_study(sampler=samplers.sampler(study, 0, feasible))
    fixed, found = samplers.points(study), []
    for number in range(len(fixed) or 20):
        known.sampler = samplers.sampler(study, number, feasible)
        if fixed:
            known.enqueue_trial(fixed[number])
        trial = known.ask()
        found.append(space.suggest(trial, study.search))
        known.tell(trial, number)
    assert {params["model"] for params in found} == {"lean_cnn", "net.py"}
    for params in found:
        own = {"lean_cnn": "filters1", "net.py": "units"}[params["model"]]
        assert params.keys() == {"model", own, "dropout"}
        if not fixed:
            assert feasible(params)
    assert len(fixed) in (0, 3 * (3 + 7))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no choice": ({"model": {"int": [1, 2]}}, r"model is searched as \{choice: \[lean_cnn, net.py\]\}, without when"),
    "unknown": ({"model": {"choice": ["lean_cn", "net.py"]}}, r"model: 'lean_cn' is unknown.*did you mean 'lean_cnn'"),
    "twice": ({"model": {"choice": ["net.py", "net.py"]}}, r"model: choice: 'net.py' is there twice|'net.py' is there"),
    "of no model": ({"search": {"unit": {"int": [1, 2]}}}, r"'unit' is not a hyperparameter of lean_cnn or net.py"),
    "of another": (
        {"search": {"units": {"int": [1, 2], "when": {"model": "lean_cnn"}}}},
        r"search.units.when: model lean_cnn has no argument units",
    ),
    "start without": ({"start": [{"units": 4, "dropout": 0.2}]}, r"start\[0\] lacks model"),
    "start of another": (
        {"start": [{"model": "net.py", "units": 4, "filters1": 2, "dropout": 0.2}]},
        r"start\[0\] gives filters1, which is not searched there",
    ),
    "never both": ({"constraints": ["filters1 <= units"]}, r"constraints\[0\]: no model has both filters1 and units"),
    "both ways": ({"search": {"model": {"choice": ["lean_cnn"]}}}, r"search.model says again what model says"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_said_in_a_line(place: Path, name: str) -> None:
    changes, said = BAD[name]
    with pytest.raises(UserError, match=said) as error:
        load(place, **({"start": [], "constraints": []} | changes))
    assert "\n" not in str(error.value)


def test_an_argument_called_as_a_training_setting_is_refused(place: Path) -> None:
    (place / "net.py").write_text(NET.replace("units=4", "units=4, mixup=0.5"))
    with pytest.raises(UserError, match=r"net.py's build calls an argument 'mixup', which is a training setting of"):
        load(place)


def test_a_point_names_its_model(place: Path) -> None:
    study = load(place)
    count = lambda config: 100  # noqa: E731
    assert point.checked(study, point.read(study, {"model": "net.py", "units": "5"}), count) == {
        "model": "net.py",
        "units": 5,
    }
    with pytest.raises(UserError, match=r"units is searched only where \{model: net.py\}"):
        point.checked(study, {"units": 5}, count)
    with pytest.raises(UserError, match=r"breaks the constraint 'units <= 6'"):
        point.checked(study, {"model": "net.py", "units": 7}, count)
    assert point.checked(study, {"dropout": 0.1}, count) == {"dropout": 0.1}


def test_models_from_python_are_names_and_functions(place: Path) -> None:
    def small(*, units: int = 4, classes: int = 10):  # type: ignore[no-untyped-def]
        import keras
        from keras import layers

        return keras.Sequential(
            [keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(units), layers.Dense(classes, "softmax")]
        )

    study = Study(
        "mine",
        model=Choice("net.py", small),
        search={"units": Int(2, 8), "dropout": Float(0, 0.5)},
        budget={"trials": 1},
        dataset="mnist-5k",
    )
    assert study._definition.models == ["net.py", "mine_model_small"]
    assert study._definition.search["dropout"].when == {"model": "net.py"}
    assert study._definition.model_digests.keys() == {"net.py", "mine_model_small"}
    assert models.load("mine_model_small").build(units=3, classes=7).output_shape == (None, 7)


@pytest.mark.slow
def test_trials_train_the_model_they_chose_and_what_is_stored_is_enough(
    place: Path,
    run_here: Callable[[Definition], Store],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = load(place, budget={"trials": 3})
    trials = run_here(study).trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    assert trials[0].params == {"model": "net.py", "units": 4, "dropout": 0.25}
    frame = runs("both").set_index("trial")
    assert frame.model[0] == "net.py" and frame.model[1] == "lean_cnn"
    assert frame.units.isna().tolist() == (frame.model == "lean_cnn").tolist() and frame.units[0] == 4
    assert frame.filters1.isna()[0] and frame.filters1[1] == 2
    of_net, of_cnn = (tracking.get_run(frame.run_id[number]) for number in (0, 1))
    assert of_net.tags["model_digest"] == models.digest("net.py") != of_cnn.tags["model_digest"]
    assert "units" not in of_cnn.params and "filters1" not in of_net.params
    assert tracking.source_of(of_net.run_id) is not None and tracking.source_of(of_cnn.run_id) is None
    assert SeenStudy("both").read() == StoredStudy("both").read()
    assert SeenStudy("both").read().model_digests == {"net.py": models.digest("net.py")}
    leaderboard.show("both", Console(width=200))
    assert "model=net.py units=4 dropout=0.25" in capsys.readouterr().out

    # Elsewhere, and without its file: what is stored is enough.
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    models._adopted.clear()
    stored = StoredStudy("both").resumable()
    assert stored.definition() == study.definition() and stored.digest() == study.digest()
    models._adopted.clear()
    assert logged.load(of_net).model.count_params() == 785 * 4 + 50
    again = rerun.study_of(of_net)
    assert again.model == "net.py" and again.run_config({}, 0).hyperparameters == {"units": 4, "dropout": 0.25}
    by_trial = {each.number: each.study for each in confirm.candidates("both", 3, 2)}
    assert by_trial[0].model == "net.py" and by_trial[1].model == "lean_cnn"
    assert by_trial[0].arguments.get("units", 4) == 4 and by_trial[1].arguments["filters2"] == 2
    assert steer.enqueue("both", {"model": "net.py", "units": "6"}, trials=4).params == {"model": "net.py", "units": 6}

    # A changed source of one of them is a changed study.
    monkeypatch.chdir(place)
    models._adopted.clear()
    (place / "width.py").write_text("factor = 2\n")
    changed = load(place)
    assert changed.digest() != study.digest()
    with pytest.raises(UserError, match=r"the source of net.py has changed.*--new-source"):
        run_here(changed)
    changed = load(place)  # to find the difference, this process has taken up the stored source
    launch._prepare(changed, datasets.load("mnist-5k"), ThisMachine(device="cpu"), "sweep", new_source=True)
    assert StoredStudy("both").resumable().model_digests == changed.model_digests


@pytest.mark.long
def test_what_follows_of_a_study_takes_several_models(
    place: Path, run_here: Callable[[Definition], Store], here: list[str]
) -> None:
    store = run_here(load(place, budget={"trials": 2}))
    frame = runs("both").set_index("trial")
    assert confirm.run("both", 1, 3, ThisMachine(device="cpu"), QUIET, final=True)
    assert champion.promote("both").startswith("champion of mnist-5k: version 1")
    assert "of model `lean_cnn` or `net.py` on mnist-5k" in report.Report("both").text()
    assert open_study("both").predict(datasets.load("mnist-5k").test.x[:5]).shape == (5, 10)
    explain.run(str(frame.run_id[1]), None, Asked(only=["kernels"]), None, QUIET)
    assert "explain/kernels.png" in tracking.artifacts(str(frame.run_id[1]))
    assert not [problem.what for problem in doctor.problems(store)]
    migrate.run("both", f"sqlite:///{place}/optuna.db", f"sqlite:///{place}/mlflow.db", QUIET)


@pytest.mark.slow
def test_what_several_models_cost_is_said(place: Path) -> None:
    lines = list(check.lines(load(place), "cpu"))
    assert lines[0] == "study both: model lean_cnn or net.py, protocol held_out"
    assert any("parameters" in line for line in lines)
    (place / "net.py").write_text(NET.replace("layers.Dense(classes", "layers.Dense(3"))
    models._adopted.clear()
    with pytest.raises(UserError, match=r"model net.py returns \(3,\), expected one output \(10,\)"):
        list(check.lines(load(place), "cpu"))


def test_a_study_of_one_model_is_stored_as_before(place: Path, run_here: Callable[[Definition], Store]) -> None:
    study = load(
        place,
        model="net.py",
        arguments={},
        search={"units": {"int": [2, 4]}},
        constraints=[],
        start=[],
        budget={"trials": 1},
    )
    definition = study.definition()
    assert definition["model"] == f"source {models.digest('net.py')}" and "models" not in definition
    attributes = run_here(study).attributes()
    assert attributes[names.SOURCE]["reference"] == "net.py"
    assert "model" not in attributes[names.STUDY]["search"] and attributes[names.STUDY]["model"] == "net.py"
    assert json.dumps(StoredStudy("both").resumable().definition()) == json.dumps(definition)
