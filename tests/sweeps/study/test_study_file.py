"""A study file that is right says what to run; one that is wrong gets one clear line that names file, key and mend."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import models
from pipelines.config import TrainingSettings
from pipelines.errors import UserError
from sweeps.stores import record
from sweeps.study import samplers, study_file
from sweeps.study.study import Study


def complaint(path: object) -> str:
    with pytest.raises(UserError) as caught:
        study_file.load(str(path))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_arguments_stand_in_for_the_recipes(write_study: Callable[..., Path]) -> None:
    study = study_file.load(str(write_study(arguments={"filters3": 8, "l2": 0, "pooling": "average"})))
    built = study.run_config({"filters1": 2}, seed=0).hyperparameters
    assert (built["filters1"], built["filters3"], built["l2"], built["pooling"]) == (2, 8, 0, "average")
    assert built["filters4"] == models.arguments("lean_cnn")["filters4"]
    assert study.digest() != study_file.load(str(write_study())).digest()


@pytest.mark.parametrize("name", study_file.available())
def test_shipped_studies_are_valid_and_begin_with_the_recipe(name: str) -> None:
    study = study_file.load(name)
    assert study.name == name
    if name == "strided_bn_augmented":  # it begins with a wider model, trained longer on distorted images
        assert study.start_points[0]["filters1"] > models.arguments(study.model)["filters1"]
        return
    config, recipe = study.run_config(study.start_points[0], seed=1), models.recipe(study.model)
    assert config.hyperparameters == models.arguments(study.model)
    assert config.training.learning_rate == recipe.training["learning_rate"]
    assert config.protocol == "held_out" and config.training.keep == "best"
    if study.dataset.name == "mnist":
        assert {key: getattr(config.training, key) for key in recipe.training} == dict(recipe.training)
        published = {target.accuracy for target in recipe.targets if recipe.protocol != "reshuffled"}
        assert published <= {target.accuracy for target in study.targets}


def test_every_file_of_models_has_a_study() -> None:
    swept = {models.MODELS[study_file.load(name).model] for name in study_file.available()}
    assert swept == set(models.MODELS.values())


def test_targets_of_other_test_images_are_not_taken(write_study: Callable[..., Path]) -> None:
    assert study_file.load("chollet_cnn").targets == []  # published on reshuffled images, swept on the official ones
    path = write_study(dataset="mnist", search={}, start=[], protocol="reshuffled", training={"keep": "last"})
    content = yaml.safe_load(path.read_text())
    del content["targets"]
    path.write_text(yaml.safe_dump(content))
    assert study_file.load(str(path)).targets == []


def test_targets_are_those_of_the_recipe_unless_given(write_study: Callable[..., Path]) -> None:
    path = write_study(dataset="mnist")
    content = yaml.safe_load(path.read_text())
    assert [target.name for target in study_file.load(str(path)).targets] == ["goal"]
    del content["targets"]
    path.write_text(yaml.safe_dump(content))
    assert [target.accuracy for target in study_file.load(str(path)).targets] == [99.1, 99.26]
    assert study_file.load(str(path), dataset="mnist-5k").targets == []


@pytest.mark.parametrize("name", ["lean_cnn", "quickstart"])
def test_the_studies_of_the_recipe_train_as_it_does(name: str) -> None:
    study = study_file.load(name)
    assert study.run_config(study.start_points[0], seed=1).training.model_dump() == (
        TrainingSettings(**models.recipe("lean_cnn").training).model_dump()
    )
    assert [target.accuracy for target in study.targets] == [99.10, 99.26, 99.55]


def test_shipped_studies_search_what_they_should() -> None:
    lean, quick = study_file.load("lean_cnn"), study_file.load("quickstart")
    assert lean.search == quick.search
    assert lean.budget.trials == 40 and lean.settings.epochs == 15
    for filters in ("filters1", "filters2", "filters3", "filters4"):
        assert lean.search[filters].examples() == [8, 64]
    assert lean.search["dropout"].examples() == [0.0, 0.6]
    assert lean.search["l2"].examples() == [1e-6, 1e-2] and lean.search["l2"].log
    assert lean.search["lr_decay"].examples() == [0.5, 1.0]
    assert lean.search["batch_size"].examples() == [32, 256]
    assert "learning_rate" in lean.search


def test_training_settings_are_the_recipes_overruled_by_the_files(write_study: Callable[..., Path]) -> None:
    study = study_file.load(str(write_study(training={"epochs": 3, "optimizer": "sgd", "momentum": 0.9})))
    assert study.settings.epochs == 3 and study.settings.momentum == 0.9
    assert study.settings.batch_size == 128  # the recipe's
    assert study.settings.keep == "best"
    config = study.run_config({"filters1": 3, "learning_rate": 0.002}, seed=1)
    assert config.hyperparameters["filters1"] == 3 and config.hyperparameters["dense"] == 128
    assert config.training.learning_rate == 0.002 and config.training.optimizer == "sgd"


def test_numbers_in_yaml_1_2_notation_are_numbers(tmp_path: Path, write_study: Callable[..., Path]) -> None:
    path = write_study()
    path.write_text(path.read_text().replace("0.01\n", "1e-2\n"))
    assert "1e-2" in path.read_text()
    assert study_file.load(str(path)).search["learning_rate"].examples() == [1e-3, 1e-2]


def test_overrides() -> None:
    assert study_file.load("quickstart", budget={"trials": 3, "hours": None}).budget.trials == 3
    assert study_file.load("lean_cnn", budget={"epochs": 7}).budget.model_dump() == {
        "trials": 40,
        "hours": None,
        "epochs": 7,
    }
    assert study_file.load("lean_cnn", dataset="mnist-5k").name == "lean_cnn-mnist-5k"
    assert study_file.load("lean_cnn", dataset="mnist").name == "lean_cnn"
    assert study_file.load("lean_cnn", seed=7).name == "lean_cnn-seed7"


def test_a_study_that_an_earlier_version_stored_has_the_digest_that_it_had(write_study: Callable[..., Path]) -> None:
    assert study_file.load(str(write_study())).digest() == "b5872c0cb86980ac"
    changed = {"epochs": 2, "batch_size": 200, "optimizer": "sgd", "momentum": 0.9}
    assert study_file.load(str(write_study(training=changed))).digest() == "0e63e8b8bacf5f26"


def test_options_are_searched_where_their_setting_is(write_study: Callable[..., Path]) -> None:
    study = study_file.load(
        str(
            write_study(
                training={"epochs": 2, "optimizer.clipnorm": 1.0, "schedule": {"name": "cosine", "horizon": 4}},
                search={
                    "optimizer": {"choice": ["sgd", "lion"]},
                    "optimizer.beta_1": {"float": [0.8, 0.95], "when": {"optimizer": "lion"}},
                    "schedule.warmup": {"float": [0.0, 2.0]},
                },
                constraints=["schedule.warmup <= 1"],
                start=[{"optimizer": "lion", "optimizer.beta_1": 0.9, "schedule.warmup": 1.0}],
            )
        )
    )
    trained = study.run_config({"optimizer": "lion", "optimizer.beta_1": 0.9, "schedule.warmup": 1.0}, seed=1).training
    assert trained.optimizer == "lion" and trained.options_of("optimizer") == {"beta_1": 0.9, "clipnorm": 1.0}
    assert trained.schedule == "cosine" and trained.options_of("schedule") == {"horizon": 4, "warmup": 1.0}
    other = study.run_config({"optimizer": "sgd", "schedule.warmup": 0.0}, seed=1).training
    assert other.options_of("optimizer") == {"clipnorm": 1.0}
    stored = study.definition()["training"]  # as it is resumed from the stores
    again = {name: value for name, value in stored.items() if name not in study.search}
    content = study.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    resumed = study_file.check(content | {"training": again, "start": study.start_points}, "stored")
    assert resumed.definition() == study.definition()


def test_a_horizon_may_be_searched_where_there_is_one(write_study: Callable[..., Path]) -> None:
    study = study_file.load(
        str(
            write_study(
                training={"epochs": 2, "schedule.warmup": 1.0},
                search={
                    "schedule": {"choice": ["cosine", "exponential"]},
                    "schedule.horizon": {"float": [2.0, 4.0], "when": {"schedule": "cosine"}},
                },
                start=[{"schedule": "exponential"}],
            )
        )
    )
    assert study.run_config({"schedule": "exponential"}, seed=1).training.options_of("schedule") == {"warmup": 1.0}
    cosine = study.run_config({"schedule": "cosine", "schedule.horizon": 3.0}, seed=1).training
    assert cosine.options_of("schedule") == {"warmup": 1.0, "horizon": 3.0}
    alone = study_file.load(
        str(write_study(training={"schedule": "linear"}, search={"schedule.horizon": {"int": [2, 4]}}, start=[]))
    )
    assert alone.run_config({"schedule.horizon": 3}, seed=1).training.options_of("schedule") == {"horizon": 3.0}


def test_a_recipe_point_has_the_options_that_keras_has_by_itself(write_study: Callable[..., Path]) -> None:
    search = {"optimizer.beta_1": {"float": [0.8, 0.99]}, "loss.label_smoothing": {"float": [0.0, 0.2]}}
    study = study_file.load(str(write_study(search=search, start=["recipe"])))
    assert study.start_points == [{"optimizer.beta_1": 0.9, "loss.label_smoothing": 0.0}]


def test_the_digest_covers_what_makes_a_study_and_nothing_else(write_study: Callable[..., Path]) -> None:
    def digest(**changes: Any) -> str:
        return study_file.load(str(write_study(**changes))).digest()

    assert digest() == digest(budget={"trials": 99}) == digest(targets=[]) == digest(trial_timeout=5.0)
    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"sampler": "random"},
        {"pruner": "median"},
        {"training": {"epochs": 3}},
    ]
    assert len({digest(), *(digest(**change) for change in changes)}) == 5


UPSIDE_DOWN = {"filters1": {"int": [9, 4]}}
CASES: list[tuple[dict[str, Any], str]] = [
    ({"arguments": {"filters9": 3}}, r"arguments: 'filters9' is not an argument of lean_cnn \(did you mean 'filters"),
    ({"arguments": {"dropout": 0.1}}, "dropout stands under both arguments and search: keep one"),
    ({"arguments": {"filters3": "many"}}, "arguments.filters3 gives 'many', but lean_cnn takes a int"),
    ({"arguments": {"pooling": "min"}}, "arguments.pooling gives 'min'.*lean_cnn takes max, average"),
    ({"arguments": [1]}, "arguments must hold keys and values, got"),
    (
        {"model": "lean_cn"},
        r"tiny.yaml: model: 'lean_cn' is unknown.* \(did you mean 'lean_cnn'\?\); expected one of softmax, ",
    ),
    ({"dataset": "mnist5k"}, r"dataset: 'mnist5k' is unknown \(did you mean 'mnist-5k'\?\)"),
    ({"sampler": "tpee"}, r"sampler: 'tpee' is unknown \(did you mean 'tpe'\?\); expected one of tpe, random"),
    (
        {"pruner": "halving"},
        r"pruner: 'halving' is unknown; expected one of asha, hyperband, median, percentile, patient, none",
    ),
    ({"smapler": "tpe"}, r"'smapler' is not a key \(did you mean 'sampler'\?\)"),
    (
        {"search": {"filter1": {"int": [1, 2]}}},
        r"search: 'filter1' is not a hyperparameter .* \(did you mean 'filters1'\?\); known: ",
    ),
    ({"training": {"epoch": 3}}, r"training: 'epoch' is not a training setting \(did you mean 'epochs'\?\)"),
    ({"training": {"epochs": 0}}, r"tiny.yaml: training .*: epochs: .* greater than or equal to 1, got 0"),
    ({"training": {"optimizer": "adamm"}}, r"optimizer: 'adamm' is unknown \(did you mean 'adam'\?\); expected one of"),
    (
        {"training": {"optimizer": {"name": "adam", "beta1": 0.8}}},
        r"adam has no option 'beta1' \(did you mean 'beta_1'",
    ),
    ({"training": {"optimizer": {"name": "sgd", "beta_1": 0.8}}}, r"optimizer sgd has no option 'beta_1'; known: mom"),
    ({"training": {"optimizer": {"beta_1": "0.8"}}}, r"optimizer.beta_1 is a number, got '0.8'"),
    ({"training": {"optimizer": {"amsgrad": 1}}}, r"optimizer.amsgrad is true or false, got 1"),
    (
        {"training": {"optimizer": {"beta_1": 0.8}, "optimizer.beta_1": 0.9}},
        r"training: optimizer.beta_1 is there twice",
    ),
    (
        {"training": {"weight_decay": 0.1}},
        r"'weight_decay' is an option of the optimizer: call it optimizer.weight_decay",
    ),
    (
        {"training": {"label_smoothing": 0.1}},
        r"'label_smoothing' is an option of the loss: call it loss.label_smoothing",
    ),
    ({"training": {"optimizers.beta_1": 0.1}}, r"training: 'optimizers.beta_1' is not a training setting"),
    ({"training": {"optimizer": {"clipnorm": 1.0, "clipvalue": 1.0}}}, r"takes one of clipnorm, clipvalue, global_"),
    ({"training": {"schedule": "cosine"}}, r"schedule cosine needs horizon: schedule: \{name: cosine, horizon: …\}"),
    (
        {"training": {"schedule": {"name": "linear", "warmup": 3, "horizon": 2}}},
        r"horizon, 2 epochs, is not longer than",
    ),
    ({"training": {"schedule": "step"}}, r"schedule: Input should be 'exponential'"),
    ({"training": {"loss": "categorical_crosentropy"}}, r"loss: 'categorical_crosentropy' is unknown \(did you mean"),
    ({"training": {"dropout": 0.1}}, r"training: 'dropout' is not a training setting"),
    ({"search": UPSIDE_DOWN}, r"search.filters1: .*upside down: 9 > 4"),
    ({"search": {"dropout": {"float": [0.5, 0.1]}}}, r"search.dropout: .*upside down"),
    ({"search": {"l2": {"float": [0, 0.1], "log": True}}}, r"search.l2: .*must begin above 0"),
    ({"search": {"filters1": {"int": [1, 4], "step": 2}}}, r"step 2 does not lead from 1 to 4"),
    (
        {"search": {"filters1": {"int": [1, 4], "lag": True}}},
        r"'lag' is not an option of int .*'log'.*known: int, step, log, when",
    ),
    ({"search": {"filters1": {"int": [1]}}}, r"search.filters1: int: .*at least 2 items"),
    ({"search": {"filters1": {"int": ["1", "4"]}}}, r"search.filters1: int.0: .*valid integer, got '1'"),
    ({"search": {"filters1": {"choice": []}}}, r"search.filters1: choice: .*at least 1 item"),
    ({"search": {"filters1": [1, 4]}}, r"search.filters1 must be one of \{int: \[lo, hi\]\}"),
    ({"search": {"filters1": {"float": [1.5, 4]}}}, r"search.filters1 gives 1.5, but lean_cnn takes a int"),
    ({"search": {"batch_size": {"int": [0, 4]}}}, r"search.batch_size gives 0: .*greater than or equal to 1"),
    ({"search": {"batch_size": {"float": [32, 256]}}}, r"search.batch_size gives 32.0: .*valid integer"),
    ({"training": {"batch_size": "32"}}, r"batch_size: .*valid integer, got '32'"),
    ({"start": [{"filters1": 4, "filters2": 4, "dropout": 0.1, "learning_rate": 0.005}, "recipe"]}, r"put it first"),
    ({"search": {"optimizer": {"choice": ["adam", "lino"]}}}, r"search.optimizer gives 'lino': .*did you mean 'lion'"),
    (
        {"search": {"optimizer": {"choice": ["adam", "sgd"]}, "optimizer.beta_1": {"float": [0.8, 0.9]}}},
        r"search.optimizer gives 'sgd': optimizer sgd has no option 'beta_1'.*with when: \{optimizer: …\}",
    ),
    (
        {"search": {"optimizer.beta1": {"float": [0.8, 0.9]}}},
        r"search.optimizer.beta1 gives 0.8: .*did you mean 'beta_1'",
    ),
    (
        {
            "training": {"schedule": {"name": "cosine", "horizon": 2}},
            "search": {"schedule.warmup": {"float": [0.0, 2.0]}},
            "start": [],
        },
        r"search.schedule.warmup gives 2.0: schedule cosine: its horizon, 2 epochs, is not longer than its warm-up",
    ),
    ({"search": {"dropout": {"float": [float("nan"), 1.0]}}}, r"search.dropout: float.0: .*finite"),
    ({"search": None}, r"search must hold keys and values"),
    ({"name": False}, r"name is a word, and YAML reads False as something else: put it in quotes"),
    ({"name": 2026}, r"name is a word, and YAML reads 2026 as something else"),
    ({"search": {}, "start": [{"filters1": 4}]}, r"start\[0\]: 'filters1' is not a searched name"),
    ({"search": {}, "start": [], "pruner": "hyperband"}, r"without a search nothing is chosen: leave pruner"),
    ({"search": {}, "start": [], "constraints": ["parameters <= 5"]}, r"without a search nothing is chosen"),
    ({"protocol": "offical"}, r"protocol: Input should be 'held_out', 'official' or 'reshuffled'"),
    ({"protocol": "official"}, r"protocol official watches the test images, so nothing may be searched under it"),
    ({"protocol": "official", "search": {}, "start": []}, r"nothing may be chosen by them: give keep: last"),
    (
        {"protocol": "reshuffled", "search": {}, "start": [], "training": {"keep": "last", "patience": 2}},
        r"and no patience",
    ),
    ({"search": {}, "start": [], "folds": 3}, r"without a search each trial is a seed"),
    ({"search": {}, "start": [], "repeats": 3}, r"without a search each trial is a seed"),
    (
        {"search": {}, "start": [], "keep_models": 1},
        r"without a search no trial is better than another: keep_models is 0",
    ),
    ({"training": {"rotation": -1.0}}, r"rotation: Input should be greater than or equal to 0"),
    ({"training": {"pixels": "by_100"}}, r"pixels: Input should be 'by_255', 'by_256' or 'standardized'"),
    ({"search": 3}, r"search must hold keys and values, got 3"),
    ({"training": {"learning_rate": 0.1}}, r"learning_rate stands under both training and search"),
    ({"start": ["recipe"]}, r"start\[0\] \(the recipe\) has filters1=32, outside"),
    ({"start": [{"filters1": 9}]}, r"start\[0\] has filters1=9, outside \{int: \[2, 4\]\}"),
    ({"start": [{"filters1": 4}]}, r"start\[0\] lacks filters2, dropout, learning_rate"),
    ({"start": [{"filters9": 9}]}, r"start\[0\]: 'filters9' is not a searched name \(did you mean"),
    ({"start": ["recip"]}, r"start.0"),
    ({"budget": {"trials": 0}}, r"budget.trials: .*greater than or equal to 1, got 0"),
    ({"budget": {"hours": -1}}, r"budget.hours: .*greater than 0, got -1"),
    ({"budget": {"epochs": 2.5}}, r"budget.epochs: .*integer"),
    ({"budget": {"trails": 3}}, r"budget: 'trails' is not a budget \(did you mean 'trials'\?\)"),
    ({"budget": {}}, r"lacks budget"),
    ({"targets": [{"accuracy": 0.991, "name": 3}]}, r"targets.0.name: .*string"),
    ({"targets": [{"accuracy": 991.0, "name": "a"}]}, r"targets.0.accuracy: .*less than or equal to 100"),
    ({"name": "../escape"}, r"name: "),
    ({"name": None}, r"lacks name"),
    ({"seed": -1}, r"seed: .*greater than or equal to 0"),
    ({"trial_timeout": 0}, r"trial_timeout: .*greater than 0"),
    ({"keep_models": -1}, r"keep_models: .*greater than or equal to 0, got -1"),
    ({"repeats": 0}, r"repeats: .*greater than or equal to 1, got 0"),
    ({"repeats": "3"}, r"repeats: .*valid integer, got '3'"),
    ({"repeats": 2, "folds": 3}, r"give repeats or folds, not both"),
    ({"folds": 1}, r"folds: .*greater than or equal to 2, got 1"),
    # samplers and pruners
    ({"sampler": {"n_startup_trials": 3}}, r"sampler: expected a name or \{name: NAME, option: value\}.*tpe, random"),
    ({"sampler": 3}, r"sampler: .*valid string, got 3"),
    (
        {"sampler": {"name": "tpe", "n_startup_trial": 3}},
        r"sampler tpe: 'n_startup_trial' is not an option .*did you mean 'n_startup_trials'",
    ),
    ({"sampler": {"name": "tpe", "n_startup_trials": "3"}}, r"sampler tpe: n_startup_trials: .*valid integer, got '3'"),
    ({"sampler": {"name": "tpe", "seed": 3}}, r"sampler tpe: 'seed' is not an option .* a study file can give"),
    ({"sampler": {"name": "tpe", "gamma": 3}}, r"sampler tpe: 'gamma' is not an option .* a study file can give"),
    ({"sampler": {"name": "qmc", "qmc_type": "holton"}}, r"sampler qmc does not work with .*holton"),
    ({"sampler": "grid"}, r"sampler grid: dropout is a range of floats, which has no end: give it a step"),
    ({"pruner": "percentile"}, r"pruner percentile needs percentile: \{name: percentile, percentile: …\}"),
    ({"pruner": {"name": "percentile", "percentile": 150.0}}, r"pruner percentile does not work with .*150"),
    ({"pruner": "patient"}, r"pruner patient needs patience"),
    (
        {"pruner": {"name": "patient", "patience": 1, "wrapped_pruner": "medien"}},
        r"wrapped_pruner: 'medien' .*did you mean 'median'",
    ),
    (
        {"pruner": {"name": "hyperband", "reduction_factor": 1}},
        r"pruner hyperband does not work with \{'reduction_factor': 1\}",
    ),
    # conditions
    (
        {"search": {"momentum": {"float": [0.1, 0.9], "when": {"optimizer": "sgd"}}}},
        r"search.momentum.when: 'optimizer' is not searched above momentum.*known: \(none\)",
    ),
    (
        {"search": {"filters1": {"int": [2, 4]}, "dropout": {"float": [0.1, 0.2], "when": {"filter1": 3}}}},
        r"did you mean 'filters1'",
    ),
    (
        {"search": {"filters1": {"int": [2, 4]}, "dropout": {"float": [0.1, 0.2], "when": {"filters1": 5}}}},
        r"search.dropout.when: filters1 is never 5: it is \{int: \[2, 4\]\}",
    ),
    (
        {"search": {"filters1": {"int": [2, 4]}, "dropout": {"float": [0.1, 0.2], "when": {"filters1": []}}}},
        r"lists no value",
    ),
    (
        {"search": {"filters1": {"int": [2, 4]}, "dropout": {"float": [0.1, 0.2], "when": "filters1"}}},
        r"search.dropout: when: .*dict",
    ),
    (
        {
            "search": {"filters1": {"int": [2, 4]}, "dropout": {"float": [0.1, 0.2], "when": {"filters1": 3}}},
            "start": [{"filters1": 2, "dropout": 0.1}],
        },
        r"start\[0\] gives dropout, which is not searched there",
    ),
    (
        {
            "search": {"filters1": {"int": [2, 4]}, "dropout": {"float": [0.1, 0.2], "when": {"filters1": 3}}},
            "start": [{"filters1": 3}],
        },
        r"start\[0\] lacks dropout",
    ),
    # ranges
    ({"search": {"filters1": {"int": [1, float("inf")]}}}, r"search.filters1: int.1: .*integer"),
    ({"search": {"dropout": {"float": [0.0, float("inf")]}}}, r"search.dropout: float.1: .*finite"),
    ({"search": {"dropout": {"float": [0.0, 0.5], "step": 0.2}}}, r"step 0.2 does not lead from 0 to 0.5"),
    ({"search": {"dropout": {"float": [0.1, 0.5], "step": 0.1, "log": True}}}, r"give step or log, not both"),
    ({"search": {"filters1": {"int": [1, 5], "step": 2, "log": True}}}, r"give step or log, not both"),
    ({"search": {"filters1": {"int": [0, 5], "log": True}}}, r"must begin above 0"),
    ({"search": {"filters1": {"choice": [4, 8, 4]}}}, r"search.filters1: 4 is there twice"),
    ({"search": {"dropout": {"choice": [0.1, float("nan")]}}}, r"nan is not a finite number"),
    (
        {"search": {"pooling": {"choice": ["max", "averag"]}}},
        r"search.pooling gives 'averag' \(did you mean 'average'\?\); lean_cnn takes max, average, stride, batch_norm",
    ),
    ({"search": {"activation": {"choice": ["relu", 3]}}}, r"search.activation gives 3; lean_cnn takes relu"),
    (
        {"search": {"filters1": {"int": [2, 10**20]}}},
        r"search.filters1: int.1: .*less than or equal to 9007199254740992",
    ),
    ({"search": {"dropout": {"float": [0.0, 1e308], "step": 1e-300}}}, r"step 1e-300 makes more than 1,000,000 values"),
    ({"search": {"dropout": {"float": [-1e308, 1e308], "step": 1.0}}}, r"makes more than 1,000,000 values"),
    ({"search": {"dropout": None}}, r"search.dropout must be one of"),
    ({"search": {"filters1": {"choice": [[1]]}}}, r"search.filters1: choice.0: "),
    ({"start": [None]}, r"start.0: "),
    ({"budget": {"trials": 10**12}}, r"budget.trials: .*less than or equal to 1000000"),
    ({"budget": {"epochs": 10**20}}, r"budget.epochs: .*less than or equal to"),
    # what Optuna notices only after its start-up trials
    ({"sampler": {"name": "tpe", "n_ei_candidates": 0}}, r"sampler tpe does not work with \{'n_ei_candidates': 0\}: "),
    ({"sampler": {"name": "cmaes", "popsize": 1}}, r"sampler cmaes does not work with \{'popsize': 1\}: "),
    ({"sampler": {"name": None}}, r"sampler: expected a name"),
    ({"sampler": {"name": "tpe", "n_startup_trials": None}}, r"sampler tpe: n_startup_trials: .*got None"),
    ({"pruner": {"name": "patient", "patience": -1}}, r"pruner patient does not work with \{'patience': -1\}"),
    # constraints and objectives
    ({"constraints": ["3 <= 2"]}, r"constraints\[0\]: '3 <= 2' is not a comparison"),
    ({"constraints": ["parameters <= nan"]}, r"'parameters <= nan' is not a comparison"),
    ({"constraints": [3]}, r"constraints.0: .*valid string, got 3"),
    ({"objectives": [[1]]}, r"objectives.0: "),
    ({"constraints": "parameters <= 3"}, r"constraints must hold a list, got 'parameters <= 3'"),
    ({"constraints": ["parameters"]}, r"constraints\[0\]: 'parameters' is not a comparison: expected NAME <= NUMBER"),
    ({"constraints": ["parameters <= 3", "filters1 <= __import__('os')"]}, r"constraints\[1\]: .*is not a comparison"),
    (
        {"constraints": ["paramters <= 3"]},
        r"constraints\[0\]: 'paramters' is not a number to compare \(did you mean 'parameters'\?\)",
    ),
    ({"constraints": ["optimizer <= 3"]}, r"'optimizer' is not a number to compare"),
    ({"objectives": []}, r"objectives begin with a metric \(accuracy, "),
    ({"objectives": ["parameters"]}, r"objectives begin with a metric"),
    (
        {"objectives": ["val_accuracy", "test_accuracy"]},
        r"objectives.1: 'test_accuracy' is not a metric \(did you mean '\w*accuracy'\?\); known: accuracy, loss, ",
    ),
    ({"objectives": ["accuracy", "seconds", "seconds"]}, r"name each once"),
    ({"objectives": ["val_accuracy", "accuracy"]}, r"name each once"),
    ({"objectives": ["f1_marco"]}, r"objectives.0: 'f1_marco' is not a metric \(did you mean 'f1_macro'\?\)"),
    (
        {"objectives": [{"name": "loss", "direction": "maximize"}]},
        r"objectives.0: loss is to be minimized: leave direction out",
    ),
    ({"objectives": [{"name": "loss", "direction": "up"}]}, r"objectives.0: loss is to be minimized.*got 'up'"),
    ({"objectives": [{"direction": "minimize"}]}, r"objectives.0.*name"),
    ({"objectives": ["rmse"]}, r"rmse is a metric of task regression, and this study's task is classification"),
    ({"objectives": ["auc"], "task": "regression"}, r"auc is a metric of task classification, and this study's"),
    ({"task": "ranking"}, r"task: Input should be 'classification' or 'regression'"),
    ({"metrics": ["acuracy"]}, r"'acuracy' is not a metric \(did you mean 'accuracy'\?\)"),
    ({"metrics": "auc"}, r"metrics must hold a list"),
    (
        {"targets": [{"metric": "f1_macro", "value": 0.9, "name": "a"}]},
        r"target a is of f1_macro, which is not measured",
    ),
    (
        {"targets": [{"metric": "accuracy", "value": 99.1, "name": "a"}]},
        r"accuracy lies between 0 and 1, and value is 99.1",
    ),
    ({"targets": [{"metric": "loss", "name": "a"}]}, r"targets.0: give accuracy \(in percent\), or metric and value"),
    ({"targets": [{"accuracy": 99.1, "metric": "loss", "value": 1.0, "name": "a"}]}, r"targets.0: give accuracy"),
    ({"objectives": ["metric.py:cost"]}, r"metric: there is no file metric.py \(looked in "),
    ({"objectives": ["a:b:c"]}, r"metric: 'a:b:c' is not a metric: expected FILE.py:FUNCTION"),
    ({"metrics": ["mine.py:loss"]}, r"metric: 'mine.py:loss' has the name of one that is known: rename the function"),
    ({"task": "regression", "population": 4, "targets": []}, r"population: its program trains classifications"),
    (
        {"objectives": ["val_accuracy", "seconds"], "pruner": "median"},
        r"pruner median cannot compare trials by several objectives: use none",
    ),
    (
        {"objectives": ["val_accuracy", "seconds"], "sampler": "cmaes", "pruner": "none"},
        r"sampler cmaes has one objective only",
    ),
    # models
    (
        {"model": "tests.no_such_model"},
        r"model: 'tests.no_such_model' is unknown, and no module of that name is found here",
    ),
    ({"model": "json"}, r"model: 'json' has no function build"),
    ({"model": "../evil"}, r"model: '../evil' is not a model"),
    ({"model": ["lean_cnn"]}, r"model: \['lean_cnn'\] is not the name of a model"),
]


@pytest.mark.parametrize(("changes", "expected"), CASES, ids=[str(change)[:60] for change, _ in CASES])
def test_a_wrong_study_gets_one_clear_line(
    write_study: Callable[..., Path], changes: dict[str, Any], expected: str
) -> None:
    if "search" in changes and isinstance(changes["search"], dict):
        changes = {"start": [], "training": {}} | changes
    message = complaint(write_study(**changes))
    assert message.startswith("tiny.yaml") and re.search(expected, message), message


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["tpe", "sgd", "filters1", "recipe", "grid", "median", "lean_cnn", "parameters <= 3", "name"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["int", "float", "choice", "when", "step", "log", "name", "filters1", "optimizer", "trials", "x"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@given(key=st.sampled_from([*Study.model_fields, "search.filters1", "search.dropout", "budget.trials"]), junk=JUNK)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_junk_under_any_key_is_a_study_or_one_clear_line(
    write_study: Callable[..., Path], key: str, junk: Any
) -> None:
    content: dict[str, Any] = {"search": {"filters1": {"int": [2, 4]}, "dropout": {"float": [0, 0.5]}}, "start": []}
    content["budget"] = {"trials": 2}
    section, _, name = key.partition(".")
    content[section] = content[section] | {name: junk} if name else junk
    try:
        study_file.load(str(write_study(**content)))
    except UserError as error:
        assert str(error).startswith("tiny.yaml") and "\n" not in str(error) and len(str(error)) < 2000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: [", "not a valid study file"),
        ("- a\n- b\n", "must hold keys and values"),
        ("", "must hold keys and values"),
        ("name: !!python/object/apply:os.system ['touch built']", "could not determine a constructor"),
        ("name: a\nname: b\n", "the key 'name' is there twice"),
        ("search:\n  l2: {float: [0, 1], float: [0, 2]}\n", "the key 'float' is there twice"),
        ("1: 2\n", "the key 1 is not a word"),
        ("a: &x [*x]\n", "is not a key"),
        ("[" * 5000, "not a valid study file"),
    ],
)
def test_what_is_no_study_file_gets_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.yaml").write_text(text)
    assert expected in complaint(tmp_path / "odd.yaml")
    assert not (tmp_path / "built").exists()


def test_a_grid_of_more_points_than_anyone_can_train_is_refused(write_study: Callable[..., Path]) -> None:
    search = {name: {"int": [1, 64]} for name in ("filters1", "filters2", "filters3")}
    message = complaint(write_study(search=search, start=[], sampler="grid"))
    assert "sampler grid: 262,144 combinations, at most 100,000" in message


def test_a_sampler_whose_library_is_missing_is_refused(
    write_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(samplers.NEEDS, "gp", ("no_such_library", "pip install it"))
    assert "sampler gp needs no_such_library, which is not installed: pip install it" in complaint(
        write_study(sampler="gp")
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def build(*, units): ...", "its build takes 'units' without a default"),
        ("def build(*units): ...", "its build takes 'units' without a default"),
        ("def build(", "py:1 is not valid Python"),
        ("import no_such_library", "it needs no_such_library, which is not installed"),
        ("raise SystemError('boom')", "cannot be imported \\(SystemError: boom\\)"),
        ("import sys; sys.exit(3)", "cannot be imported \\(SystemExit: 3\\)"),
        ("build = dict", "its build has no signature"),
        ("def build(*, units=1): ...\nRECIPES = {'a': {'training': {}}}", "its RECIPES is not a dict of models.Recipe"),
        ("def build(*, units=1, momentum=0.9): ...", "calls an argument 'momentum', which means something else here"),
        ("def build(*, units=1, parameters=9): ...", "calls an argument 'parameters', which means something else here"),
    ],
)
def test_a_users_model_of_another_shape_gets_one_clear_line(
    write_study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, expected: str
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"mine_{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source)
    message = complaint(write_study(model=name, search={"units": {"int": [1, 2]}}, start=[]))
    assert re.search(f"tiny.yaml: model: .*{name}.*{expected}", message), message


def test_several_objectives_are_not_pruned_unless_said(write_study: Callable[..., Path]) -> None:
    path = write_study(objectives=["val_accuracy", "parameters"])
    path.write_text(path.read_text().replace("pruner: none\n", ""))
    assert study_file.load(str(path)).pruner == "none"


def test_another_data_set_has_no_targets_of_the_first() -> None:
    assert study_file.load("lean_cnn", dataset="fashion-mnist").targets == []


def test_what_is_stored_reads_back_under_a_later_version() -> None:
    study = study_file.load("lean_cnn")
    content = study.model_dump(mode="json", by_alias=True)
    definition = study.definition()
    for later in ("constraints", "objectives", "repeats", "folds", "keep_models"):  # as before they were known
        content.pop(later)
        definition.pop(later, None)
    for entry in content["search"].values():
        entry.pop("when")
    stored = {"study": content, "definition": definition}
    assert record.restore("lean_cnn", stored).definition() == study.definition()
    with pytest.raises(UserError, match=r"stored study 'lean_cnn' cannot be read by this version \(later"):
        record.restore("lean_cnn", stored | {"study": content | {"later": 1}})


def test_bytes_and_huge_files_get_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in complaint(tmp_path / "odd.yaml")
    (tmp_path / "odd.yaml").write_text("a: b\n" * 300_000)
    assert "at most 1,000,000" in complaint(tmp_path / "odd.yaml")


def test_another_seed_does_not_make_up_for_a_missing_name(write_study: Callable[..., Path]) -> None:
    path = write_study(name=None)
    for override in ({"seed": 7}, {"dataset": "mnist"}):
        with pytest.raises(UserError, match="lacks name"):
            study_file.load(str(path), **override)


@pytest.mark.parametrize("name", ["a" * 300, "a" * 300 + ".yaml", "b\0.yaml", "", "..", "/"])
def test_any_text_may_be_asked_for(name: str) -> None:
    complaint(name)


def test_unknown_studies_are_named_with_the_nearest(tmp_path: Path) -> None:
    assert "did you mean 'quickstart'?" in complaint("quickstrat")
    assert "there is no study file" in complaint(tmp_path / "none.yaml")


def test_the_budget_of_the_command_line_is_checked_as_the_files(write_study: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"budget.trials: .*got -3"):
        study_file.load(str(write_study()), budget={"trials": -3})


def test_a_stored_study_reads_back_equal() -> None:
    study = study_file.load("lean_cnn")
    stored = yaml.safe_load(yaml.safe_dump(study.model_dump(mode="json", by_alias=True)))
    assert Study.model_validate(stored) == study
