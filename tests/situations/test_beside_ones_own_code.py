"""Kind 1: a project that has folders, files and names like ours, or like the standard library's."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from optuna.trial import TrialState

import models
from models.sources import Source, UserModules, find
from pipelines.tracking.store import source_of
from sweeps.stores import record
from sweeps.stores.store import Store
from sweeps.study import study_file
from tests.situations.conftest import NET, SHORT, Project

# What `sweep run` does before it trains: the study is read, the model found, and built.
BUILD = (
    "import sys; from sweeps.study import study_file; import models\n"
    "study = study_file.load(sys.argv[1])\n"
    "print(models.load(study.model).build())\n"
)
NAMED = "def build(*, units: int = 4):\n    return {!r}\n"
OF_TWO = "from models.blocks import NAME\n" + NAMED.format("") + "    \nbuild = lambda *, units=4: NAME\n"


def built(project: Project, model: str, safe: bool = True, **environment: str) -> str:
    """Return what the build of the project's model says."""
    project.study(model=model)
    done = project.type(project.python, *(["-P"] if safe else []), "-c", BUILD, "s.yaml", **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SITUATIONS: dict[str, tuple[Mapping[str, str], str]] = {
    "an empty models/": ({"models/.keep": "", "net.py": NAMED.format("mine")}, "net"),
    "models/ with a file of weights": ({"models/best.keras": "weights", "net.py": NAMED.format("mine")}, "net"),
    "models/ with __init__.py": ({"models/__init__.py": "VALUE = 1", "net.py": NAMED.format("mine")}, "net"),
    "the model in models/": ({"models/my_net.py": NAMED.format("mine")}, "models.my_net"),
    "the model in models/, a package": (
        {"models/__init__.py": "", "models/my_net.py": NAMED.format("mine")},
        "models.my_net",
    ),
    "a file models.py": ({"models.py": NAMED.format("mine")}, "models"),
    "a file models.py beside": (
        {"models.py": "NAME = 'mine'", "net.py": "from models import NAME\n" + OF_TWO[30:]},
        "net",
    ),
    "from models.blocks": ({"models/blocks.py": "NAME = 'mine'", "net.py": OF_TWO}, "net"),
    "relative imports": (
        {"models/blocks.py": "NAME = 'mine'", "models/net.py": OF_TWO.replace("models.blocks", ".blocks")},
        "models.net",
    ),
    "a file of models/ called as one of ours": (
        {"models/dense.py": "NAME = 'mine'", "net.py": OF_TWO.replace("models.blocks", "models.dense")},
        "net",
    ),
    "from pipelines.pre, inside build": (
        {
            "pipelines/pre.py": "NAME = 'mine'",
            "net.py": "def build(*, units=4):\n    from pipelines.pre import NAME\n    return NAME\n",
        },
        "net",
    ),
    "theirs and ours": (
        {
            "models/__init__.py": "NAME = 'mi'",
            "models/blocks.py": "END = 'ne'",
            "net.py": "import models\nfrom models import Recipe, Target, NAME, blocks\nfrom models.softmax import build as ours\n"
            "def build(*, units=4):\n    assert Recipe(training={}).protocol == 'official' and models.blocks is blocks and ours\n"
            "    return NAME + blocks.END\n",
        },
        "net",
    ),
    "a model called as a module of Python's": (
        {
            "calendar.py": "import calendar, random\n"
            + NAMED.format("mine").replace("return", "calendar.isleap; return")
        },
        "calendar",
    ),
    "a model called as a shipped one": ({"lean_cnn.py": NAMED.format("mine")}, "lean_cnn.py"),
    "by path": ({"net.py": NAMED.format("mine")}, "net.py"),
    "by path, another function": (
        {"nets/small.py": NAMED.format("mine").replace("build", "build_tiny")},
        "nets/small.py:build_tiny",
    ),
    "by path, in a package": (
        {"nets/__init__.py": "", "nets/blocks.py": "NAME = 'mine'", "nets/small.py": OF_TWO.replace("models", "nets")},
        "nets/small.py",
    ),
    "by path, what lies beside it": (
        {"nets/blocks.py": "NAME = 'mine'", "nets/small.py": OF_TWO.replace("models.blocks", "blocks")},
        "nets/small.py",
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_model_is_found_and_is_theirs(situation: str, project: Project) -> None:
    files, model = SITUATIONS[situation]
    project.write(files)
    assert built(project, model) == "mine"


@pytest.mark.parametrize("situation", ["an empty models/", "models/ with __init__.py", "theirs and ours"])
def test_python_that_looks_in_the_current_folder_first(situation: str, project: Project) -> None:
    files, model = SITUATIONS[situation]
    project.write(files)
    assert built(project, model, safe=False) == "mine"  # as `python -m` does, and a notebook
    assert built(project, model, PYTHONPATH=".") == "mine"


def test_a_notebook_that_imported_its_own_models_first(project: Project) -> None:
    project.write(
        {"models/__init__.py": "HELPER = 'mine'", "models/blocks.py": "", "models/later.py": "NAME = 'later'"}
    )
    cells = (
        "import models, models.blocks\nfrom sweeps.study import study_file\nstudy_file.load('lean_cnn')\n"
        "import models; from models.later import NAME; from models import Recipe\nprint(models.HELPER, NAME, Recipe.__name__)"
    )
    done = project.type(project.python, "-c", cells)
    assert done.stdout.split() == ["mine", "later", "Recipe"], done.stderr


def test_a_model_beside_its_study_in_another_folder(project: Project) -> None:
    project.write({"deep/net.py": NAMED.format("mine"), "net.py": NAMED.format("another")})
    project.study("deep/s.yaml")
    done = project.type(project.python, "-P", "-c", BUILD, "deep/s.yaml")
    assert done.stdout.strip() == "mine", done.stderr


def test_a_file_that_has_the_name_of_a_shipped_model_is_not_taken_for_it(project: Project) -> None:
    project.write({"lean_cnn.py": "raise RuntimeError('not to be imported')"})
    project.study(model="lean_cnn", search={"filters1": {"int": [8, 16]}}, start=[])
    script = "from sweeps.study.study_file import load, note_on_model as note; print(note(load('s.yaml'), 's.yaml'))"
    done = project.type(project.python, "-P", "-c", script)
    assert "model lean_cnn is the shipped one; for the file" in done.stdout, done.stderr
    assert done.stdout.endswith("/lean_cnn.py write model: lean_cnn.py\n")


@pytest.mark.parametrize(
    ("files", "model", "words"),
    [
        ({}, "nets/small.py", "there is no file nets/small.py (looked in "),
        ({"net.py": "import keras\nx = 1 +\n"}, "net.py", "net.py:2 is not valid Python"),
        ({"net.py": "def build(*, units=4):\n    pass\nraise ValueError('so')"}, "net", "ValueError: so) at "),
        ({"net.py": "def make(*, units=4): ..."}, "net.py:built", "has no function built"),
        ({"my-net.py": NET}, "my-net.py", "is not a name in Python: rename the file"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_line(
    files: Mapping[str, str], model: str, words: str, project: Project
) -> None:
    project.write(files)
    project.study(model=model)
    done = project.sweep("run", "s.yaml")
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (project.folder / "mlruns").exists()


def test_one_source_has_one_digest_however_it_is_referred_to(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets/small.py").write_text("from nets import blocks\n" + NET)
    (tmp_path / "nets/blocks.py").write_text("A = 1")
    ways = [find(reference, [tmp_path]) for reference in ("nets.small", "nets/small.py", f"{tmp_path}/nets/small.py")]
    assert len({source.digest for source in ways}) == 1
    (tmp_path / "nets/blocks.py").write_text("A = 2")
    assert find("nets.small", [tmp_path]).digest != ways[0].digest


def test_a_source_that_is_kept_needs_no_files(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/blocks.py").write_text("class Block: ...\n")
    (tmp_path / "net.py").write_text("from models.blocks import Block\nfrom models import Recipe\n" + NET)
    kept = find("net", [tmp_path]).content()
    for path in tmp_path.rglob("*.py"):
        path.unlink()
    modules = UserModules(Source(**kept))
    assert modules.entry().Block.__module__ == "models.blocks" and modules.entry().Recipe is models.Recipe
    assert modules.classes().keys() == {"Block", "build"}


LAYER = """
import keras
class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""
WITH_LAYER = NET.replace(
    "from keras import layers", "from keras import layers\n    from models.blocks import Twice"
).replace("layers.Dense(units)", "layers.Dense(units), Twice()")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_trains_and_goes_on_from_another_folder(project: Project, tmp_path: Path) -> None:
    project.write({"models/blocks.py": LAYER, "net.py": "from models import Recipe\n" + WITH_LAYER})
    project.study(budget={"trials": 3})
    done = project.sweep("run", "s.yaml", "--trials", "1")
    assert done.returncode == 0 and "1 of 1 trials done" in done.stdout, done.stdout + done.stderr
    assert "tensorflow" not in done.stderr.lower() and done.stderr == ""
    store = str(project.folder / "mlruns")
    elsewhere = Project(tmp_path / "elsewhere")
    for command in (["run", "mine", "--stored", "--trials", "3"], ["confirm", "mine", "--top", "1", "--seeds", "3"]):
        done = elsewhere.sweep(*command, MLRUNS_DIR=store)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "champion of mnist-5k: version 1" in done.stdout
    elsewhere.type(project.python, "-c", "from PIL import Image; Image.new('L', (28, 28), 9).save('seven.png')")
    done = elsewhere.sweep("predict", "seven.png", MLRUNS_DIR=store)
    assert done.returncode == 0 and "seven.png: " in done.stdout, done.stderr
    served = (
        "import mlflow, numpy; mlflow.set_tracking_uri('sqlite:///' + __import__('os').environ['MLRUNS_DIR'] + '/mlflow.db')\n"
        "print(mlflow.pyfunc.load_model('models:/mnist-5k@champion').predict(numpy.zeros((1, 28, 28, 1), 'float32')).shape)"
    )  # what `mlflow models serve` does
    done = elsewhere.type(project.python, "-P", "-c", served, MLRUNS_DIR=store)
    assert done.stdout.strip().endswith("(1, 10)"), done.stderr
    project.write({"models/blocks.py": LAYER.replace("2 * x", "3 * x")})
    done = project.sweep("run", "s.yaml")
    assert done.returncode == 2 and "the source of its model has changed" in done.stderr, done.stderr


@pytest.mark.long
@pytest.mark.timeout(900)
def test_from_a_wheel_it_trains_in_an_empty_folder_and_beside_models(
    wheel: Callable[[Path], Project], tmp_path: Path
) -> None:
    for folder in ("empty", "beside"):
        project = wheel(tmp_path / folder)
        project.write(
            {"net.py": NET} | ({"models/__init__.py": "", "pipelines/x.py": ""} if folder == "beside" else {})
        )
        project.study()
        done = project.sweep("run", "s.yaml")
        assert done.returncode == 0 and "1 of 1 trials done" in done.stdout, done.stdout + done.stderr
        assert (project.folder / "mlruns/mlflow.db").exists()
        assert "sweep best mine" in done.stdout and "make" not in done.stdout
        done = project.sweep("best")
        assert done.returncode == 0 and "mine: 1 complete" in done.stdout, done.stdout + done.stderr


def test_a_model_of_an_installed_library_is_imported_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_here: Callable[..., Store]
) -> None:
    installed = tmp_path / "site-packages"
    (installed / "netlib").mkdir(parents=True)
    (installed / "netlib/__init__.py").touch()
    (installed / "netlib/nets.py").write_text(NET)
    monkeypatch.syspath_prepend(str(installed))
    study = study_file.check({"name": "mine", "model": "netlib.nets", **SHORT, "budget": {"trials": 1}}, "test")
    store = run_here(study)
    (trial,) = store.trials()
    assert trial.state == TrialState.COMPLETE
    run_id = trial.user_attrs["run_id"]
    assert source_of(run_id) == find("netlib.nets", [tmp_path]) and source_of(run_id).files == {}
    assert record.restore("mine", store.attributes()).definition() == study.definition()
