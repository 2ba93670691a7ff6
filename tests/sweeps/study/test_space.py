"""Samplers, pruners, conditions, constraints and grids: any valid study runs, and runs what it says."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from pipelines.errors import UserError
from sweeps import runs
from sweeps.stores import record
from sweeps.stores.store import Store
from sweeps.study import pruners, samplers, space, study_file
from sweeps.study.study import Constraint, Study

TINY = {
    "name": "tiny",
    "model": "tests.tiny_model",
    "dataset": "mnist-5k",
    "training": {"epochs": 1, "batch_size": 500},
    "search": {"units": {"int": [4, 8]}, "rate": {"float": [0.0, 0.5]}},
    "start": [],
    "budget": {"trials": 2},
}
NUMBERS_OF_STEPS = {"units": {"int": [4, 8], "step": 4}, "rate": {"float": [0.0, 0.5], "step": 0.25}}


def study(**changes: Any) -> Study:
    return study_file.check(TINY | changes, "tiny.yaml")


def proposed(of: Study, trials: int, feasible: space.Feasible | None = None) -> list[dict[str, Any]]:
    """The points of a study's first trials, none of which is trained."""
    storage = optuna.storages.InMemoryStorage()
    known = optuna.create_study(storage=storage, direction="maximize")
    fixed = samplers.points(of)
    found = []
    for number in range(trials):
        known.sampler = samplers.sampler(of, number, feasible)
        if number < len(fixed):
            known.enqueue_trial(fixed[number])
        trial = known.ask()
        found.append(space.suggest(trial, of.search))
        known.tell(trial, number / 100)
    return found


# Every sampler and pruner, whole


PAIRS = list(
    itertools.zip_longest(
        ["tpe", "random", "cmaes", "qmc", "grid", "auto", "gp"],
        [
            "asha",
            "hyperband",
            "median",
            {"name": "percentile", "percentile": 25.0},
            {"name": "patient", "patience": 1},
            "none",
        ],
        fillvalue="median",
    )
)


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "pruner"), PAIRS, ids=[str(sampler) for sampler, _ in PAIRS])
def test_every_sampler_and_pruner_runs_two_trials(run_here: Callable[..., Store], sampler: str, pruner: Any) -> None:
    if sampler == "gp":
        pytest.importorskip("torch")
    search = NUMBERS_OF_STEPS if sampler == "grid" else TINY["search"]
    store = run_here(study(sampler=sampler, pruner=pruner, search=search))
    assert [trial.state for trial in store.trials()] == [TrialState.COMPLETE] * 2
    assert len({str(trial.params) for trial in store.trials()}) == 2
    assert runs("tiny").state.tolist() == ["complete"] * 2


def entries(names: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Valid search spaces over the arguments of `tests.tiny_model` and the training settings."""
    kinds = {
        "units": st.sampled_from(
            [
                {"int": [2, 9]},
                {"int": [2, 8], "step": 3},
                {"int": [1, 16], "log": True},
                {"choice": [3, 5]},
                {"int": [4, 4]},
            ]
        ),
        "rate": st.sampled_from(
            [
                {"float": [0.0, 0.5]},
                {"float": [0.01, 0.5], "log": True},
                {"float": [0.0, 0.5], "step": 0.25},
                {"choice": [0.0]},
            ]
        ),
        "activation": st.just({"choice": ["relu", "tanh"]}),
        "extra": st.just({"choice": [True, False]}),
        "optimizer": st.just({"choice": ["adam", "sgd"]}),
        "batch_size": st.sampled_from([{"int": [400, 500]}, {"choice": [400, 500]}]),
        "learning_rate": st.just({"float": [1e-4, 1e-2], "log": True}),
    }
    return st.lists(names, min_size=1, max_size=4, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: kinds[name] for name in chosen})
    )


@st.composite
def valid_studies(draw: st.DrawFn) -> dict[str, Any]:
    """Studies that must run: every combination of keys that the reference allows."""
    names = st.sampled_from(["units", "rate", "activation", "extra", "optimizer", "batch_size", "learning_rate"])
    search = draw(entries(names))
    if "optimizer" in search and draw(st.booleans()):
        search["momentum"] = {
            "float": [0.0, 0.9],
            "when": {"optimizer": draw(st.sampled_from(["sgd", ["sgd", "adam"]]))},
        }
    content: dict[str, Any] = {"search": search, "seed": draw(st.integers(0, 2**32))}
    if draw(st.booleans()):
        content["objectives"] = ["val_accuracy", *draw(st.sampled_from([["parameters"], ["parameters", "seconds"]]))]
    several = "objectives" in content
    endless = any("float" in entry and "step" not in entry for entry in search.values())
    samplers = ["tpe", "random", "qmc", "auto"] + (["cmaes"] if not several else []) + (["grid"] if not endless else [])
    content["sampler"] = draw(st.sampled_from([*samplers, {"name": "tpe", "n_startup_trials": 1}]))
    if not several:
        content["pruner"] = draw(st.sampled_from(["hyperband", "median", "none", {"name": "patient", "patience": 0}]))
    content |= draw(st.sampled_from([{}, {}, {"repeats": 2}, {"folds": 2}]))
    if "units" in search and draw(st.booleans()):
        content["constraints"] = [draw(st.sampled_from(["parameters <= 100000", "units >= 2", "3 < parameters"]))]
    content["keep_models"] = draw(st.sampled_from([None, 0, 1]))
    return content


@pytest.mark.slow
@pytest.mark.timeout(600)
@given(valid_studies())
@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_valid_study_runs_two_trials(
    run_here: Callable[..., Store], tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLRUNS_DIR", str(folder))
        path = folder / "tiny.yaml"
        whole = TINY | content
        whole["training"] = {k: v for k, v in TINY["training"].items() if k not in content["search"]}
        path.write_text(yaml.safe_dump(whole, sort_keys=False))
        wanted = study_file.load(str(path))
        store = run_here(wanted)
        assert [trial.state for trial in store.trials()] == [TrialState.COMPLETE] * (samplers.tickets(wanted) or 2)
        assert record.read_stored("tiny", store.attributes(), as_written=True) == wanted
        assert record.restore("tiny", store.attributes()).definition() == wanted.definition()
        frame = runs("tiny")
        assert frame.val_accuracy.between(0, 1).all()
        for name in wanted.search:
            column = frame[{"epochs": "max_epochs"}.get(name, name)]
            assert str(column.dtype) in ("Int64", "float64", "category", "boolean"), name


# What is proposed


def test_conditions_decide_what_is_searched() -> None:
    search = {
        "optimizer": {"choice": ["adam", "sgd"]},
        "momentum": {"float": [0.1, 0.9], "when": {"optimizer": "sgd"}},
        "units": {"int": [4, 8]},
        "rate": {"float": [0.1, 0.5], "when": {"optimizer": ["adam", "sgd"], "units": [7, 8]}},
    }
    points = proposed(study(search=search), 40)
    for point in points:
        assert ("momentum" in point) == (point["optimizer"] == "sgd")
        assert ("rate" in point) == (point["units"] >= 7)
    assert len({(point["optimizer"], "rate" in point) for point in points}) == 4
    chain = search | {"extra": {"choice": [True, False], "when": {"momentum": 0.5}}}
    chain["momentum"] = {"choice": [0.5, 0.9], "when": {"optimizer": "sgd"}}
    for point in proposed(study(search=chain), 40):
        assert ("extra" in point) == (point.get("momentum") == 0.5)
    config = study(search=search).run_config({"optimizer": "adam", "units": 4}, seed=1)
    assert config.training.momentum == 0.0 and config.hyperparameters["rate"] == 0.1  # their own values


def test_tpe_is_grouped_for_conditions_alone() -> None:
    conditional = {
        "optimizer": {"choice": ["adam", "sgd"]},
        "momentum": {"float": [0, 0.9], "when": {"optimizer": "sgd"}},
    }
    assert samplers.sampler(study(search=conditional), 0)._group
    assert not samplers.sampler(study(), 0)._group
    assert not samplers.sampler(study(search=conditional, sampler={"name": "tpe", "group": False}), 0)._group


def test_options_reach_optuna_under_its_own_names() -> None:
    assert samplers.sampler(study(sampler={"name": "tpe", "n_startup_trials": 3}), 0)._n_startup_trials == 3
    assert samplers.sampler(study(sampler={"name": "qmc", "qmc_type": "halton"}), 0)._qmc_type == "halton"
    assert samplers.sampler(study(sampler={"name": "cmaes", "popsize": 9}), 0)._popsize == 9
    asha = pruners.pruner(study(pruner={"name": "asha", "min_resource": 4}))
    assert (asha._min_resource, asha._reduction_factor) == (4, 3)
    hyperband = pruners.pruner(study(pruner={"name": "hyperband", "reduction_factor": 4}, training={"epochs": 27}))
    assert hyperband._reduction_factor == 4 and hyperband._max_resource == 27
    assert pruners.pruner(study(pruner={"name": "percentile", "percentile": 10.0}))._percentile == 10.0
    patient = {"name": "patient", "patience": 2, "wrapped_pruner": {"name": "median", "n_warmup_steps": 7}}
    wrapped = pruners.pruner(study(pruner=patient))
    assert wrapped._patience == 2 and wrapped._wrapped_pruner._n_warmup_steps == 7


def test_only_feasible_points_are_proposed_while_there_are_some() -> None:
    asked: list[int] = []
    of = study(search={"units": {"int": [1, 100]}, "rate": {"float": [0.0, 0.5]}})

    def feasible(params: Any) -> bool:
        asked.append(params["units"])
        return params["units"] <= 5

    points = proposed(of, 30, feasible)
    assert all(point["units"] <= 5 for point in points)
    assert len({point["rate"] for point in points}) == 30
    assert len(asked) < 1_500  # of 24 candidates, TPE would take the one furthest from all it knows, again and again
    assert max(asked) > 5
    assert len(proposed(of, 1, lambda _: False)) == 1  # asked a bounded number of times


def test_constraints_compare_what_is_known_before_training() -> None:
    of = study(constraints=["parameters <= 40000", "units < batch_size", "learning_rate>=1e-4"])
    counted: list[Any] = []

    def count(config: Any) -> int:
        counted.append(config.hyperparameters["units"])
        return 785 * config.hyperparameters["units"]

    feasible = space.feasibility(of, count)
    assert feasible({"units": 8, "rate": 0.1}) and not feasible({"units": 80, "rate": 0.1})
    assert not feasible({"units": 600, "rate": 0.1})
    assert counted == [8, 80]  # no model is built for what is out already


@pytest.mark.parametrize("operator", ["<=", ">=", "<", ">"])
@given(left=st.floats(-1e6, 1e6), right=st.floats(-1e6, 1e6))
@settings(max_examples=30)
def test_a_constraint_means_what_it_says(operator: str, left: float, right: float) -> None:
    expected = {"<=": left <= right, ">=": left >= right, "<": left < right, ">": left > right}[operator]
    assert Constraint.parse(f"a {operator} {right!r}").holds({"a": left}) == expected
    assert Constraint.parse(f"{left!r}{operator}b").holds({"b": right}) == expected


@pytest.mark.slow
def test_infeasible_start_points_end_without_an_epoch(run_here: Callable[..., Store]) -> None:
    start = [{"units": 8, "rate": 0.1}, {"units": 4, "rate": 0.1}]
    store = run_here(study(start=start, constraints=["parameters <= 4000"], budget={"trials": 4}))
    frame = runs("tiny").set_index("trial")
    assert frame.state.to_dict() == {0: "infeasible", 1: "complete", 2: "complete", 3: "complete"}
    assert store.epochs_spent() == 3
    assert (frame.parameters.dropna() <= 4000).all() and frame.units[[2, 3]].le(5).all()


def test_a_retried_trial_keeps_what_it_has_and_stays_feasible() -> None:
    of = study(search={"units": {"int": [1, 100]}, "batch_size": {"int": [1, 100]}}, training={"epochs": 1})

    def feasible(params: Any) -> bool:
        return abs(params["units"] - params["batch_size"]) <= 5

    known = optuna.create_study(sampler=samplers.sampler(of, 3, feasible))
    trial = known.ask()
    units = trial.suggest_int("units", 1, 100)  # and then its worker was killed
    known.sampler = samplers.sampler(of, 4, feasible)
    again = space.suggest(optuna.Trial(known, trial._trial_id), of.search)
    assert again["units"] == units and feasible(again)


def test_qmc_leaves_no_parameter_the_same_in_every_trial() -> None:
    search = {
        "optimizer": {"choice": ["adam", "sgd"]},
        "momentum": {"float": [0.1, 0.9], "when": {"optimizer": "sgd"}},
        "units": {"int": [4, 8]},
    }
    of = study(search=search, sampler="qmc", start=[{"optimizer": "adam", "units": 8}], seed=2**40)
    momenta = [point["momentum"] for point in proposed(of, 16) if "momentum" in point]
    assert len(momenta) > 3 and len(set(momenta)) == len(momenta)


# Grids


def test_a_grid_tries_every_combination_once_the_recipe_first() -> None:
    with pytest.raises(UserError, match="outside"):
        study(search=NUMBERS_OF_STEPS, sampler="grid", start=[{"units": 5, "rate": 0.0}])
    of = study(search=NUMBERS_OF_STEPS, sampler="grid", start=[{"units": 8, "rate": 0.25}], budget={"trials": 99})
    assert samplers.tickets(of) == 6
    points = proposed(of, 6)
    assert points[0] == {"units": 8, "rate": 0.25}
    assert sorted((p["units"], p["rate"]) for p in points) == list(itertools.product([4, 8], [0.0, 0.25, 0.5]))
    assert (
        samplers.points(of)
        == samplers.points(of)
        != samplers.points(study(**{**of.model_dump(by_alias=True), "seed": 1}))
    )
    assert samplers.tickets(study(search=NUMBERS_OF_STEPS, sampler="grid", budget={"hours": 1.0})) == 6
    assert samplers.tickets(study(search=NUMBERS_OF_STEPS, sampler="grid", budget={"trials": 4})) == 4


def test_a_grid_knows_conditions() -> None:
    search = {
        "optimizer": {"choice": ["adam", "sgd"]},
        "momentum": {"choice": [0.0, 0.5, 0.9], "when": {"optimizer": "sgd"}},
    }
    points = samplers.points(study(search=search, sampler="grid"))
    assert len(points) == 4 and {"optimizer": "adam"} in points


# Auto


@pytest.mark.parametrize(
    ("changes", "name", "why"),
    [
        ({"search": NUMBERS_OF_STEPS, "budget": {"trials": 6}}, "grid", "6 combinations"),
        ({"search": NUMBERS_OF_STEPS, "budget": {"trials": 5}}, "tpe", "pruned"),
        ({"search": {"extra": {"choice": [True, False]}, "rate": {"float": [0.0, 0.5]}}}, "tpe", "choices"),
        ({"objectives": ["val_accuracy", "parameters"], "pruner": "none"}, "tpe", "several objectives"),
        ({"budget": {"trials": 2000}}, "cmaes", "2000 trials"),
        ({"budget": {"hours": 1.0}}, "tpe", "pruned"),
    ],
)
def test_auto_chooses_by_space_and_budget(changes: dict[str, Any], name: str, why: str) -> None:
    chosen = samplers.chosen_sampler(study(sampler="auto", **changes))
    assert chosen.name == name and why in chosen.why


def test_what_auto_chose_holds_when_the_budget_is_raised(run_here: Callable[..., Store]) -> None:
    search = {"units": {"int": [4, 8], "step": 4}, "rate": {"choice": [0.1]}}
    store = run_here(study(search=search, sampler="auto", budget={"trials": 1}))
    assert store.attributes()["chosen_sampler"] == "tpe"  # two combinations do not fit
    run_here(study(search=search, sampler="auto", budget={"trials": 3}))
    assert [trial.state for trial in store.trials()] == [TrialState.COMPLETE] * 3  # a grid would have ended after two


def test_auto_takes_gaussian_processes_where_they_shine() -> None:
    pytest.importorskip("torch")
    assert samplers.chosen_sampler(study(sampler="auto", pruner="none", budget={"trials": 50})).name == "gp"


def test_points_of_equal_seeds_are_equal(tmp_path: Path) -> None:
    for sampler in ("tpe", "random", "cmaes", "qmc"):
        assert proposed(study(sampler=sampler), 6) == proposed(study(sampler=sampler), 6)
        assert len({str(point) for point in proposed(study(sampler=sampler), 6)}) == 6
