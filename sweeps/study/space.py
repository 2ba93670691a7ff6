"""From study file to Optuna: parameters, samplers, pruners, grid, constraints, and the seed of each trial."""

import importlib.util
import inspect
import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipelines.errors import UserError, first_line, nearest
from sweeps.study.study import OBJECTIVES, PARAMETERS, Choice, Constraint, Entry, IntRange, Scalar, Study

Params = dict[str, Any]
Feasible = Callable[[Mapping[str, Any]], bool]

SAMPLERS: dict[str, type[optuna.samplers.BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "gp": optuna.samplers.GPSampler,
    "qmc": optuna.samplers.QMCSampler,
}
GRID, AUTO = "grid", "auto"
SAMPLER_NAMES = (*SAMPLERS, GRID, AUTO)
NEEDS = {"gp": ("torch", "pip install torch"), "cmaes": ("cmaes", "pip install cmaes")}

PRUNERS: dict[str, type[optuna.pruners.BasePruner]] = {
    "asha": optuna.pruners.SuccessiveHalvingPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "median": optuna.pruners.MedianPruner,
    "percentile": optuna.pruners.PercentilePruner,
    "patient": optuna.pruners.PatientPruner,
    "none": optuna.pruners.NopPruner,
}
WRAPPED = "wrapped_pruner"  # the one option of a pruner that is a pruner

LARGEST_GRID = 100_000
DRAWS = 100  # points that a sampler may propose until one meets the constraints
RANDOM_DRAWS = 300  # and so many random ones after those
GP_TRIALS, CMAES_TRIALS = 500, 1_000  # Optuna's advice: Gaussian processes up to so many trials, CMA-ES from so many

_PLAIN = {"int": int, "float": float, "bool": bool, "str": str, "None": None}  # option types that YAML can write


@dataclass(frozen=True)
class Chosen:
    """A sampler or pruner by name with its options; `why`: the reason, where it was chosen for the user."""

    name: str
    options: Mapping[str, Any]
    why: str = ""


def suggest(trial: optuna.Trial, search: Mapping[str, Entry]) -> Params:
    """Return the trial's parameters: those it has already, a fixed point's, or the sampler's; none whose condition is not met."""
    params: Params = {}
    for name, entry in search.items():
        if entry.active(params):
            params[name] = _suggest(trial, name, entry)
    return params


def _suggest(trial: optuna.Trial, name: str, entry: Entry) -> Any:
    if isinstance(entry, IntRange):
        return trial.suggest_int(name, entry.bounds[0], entry.bounds[1], step=entry.step, log=entry.log)
    if isinstance(entry, Choice):
        return trial.suggest_categorical(name, entry.choice)
    return entry.exact(trial.suggest_float(name, entry.bounds[0], entry.bounds[1], step=entry.step, log=entry.log))


def distribution(entry: Entry) -> BaseDistribution:
    """Return Optuna's distribution for an entry of the search space."""
    if isinstance(entry, IntRange):
        return IntDistribution(entry.bounds[0], entry.bounds[1], step=entry.step, log=entry.log)
    if isinstance(entry, Choice):
        return CategoricalDistribution(entry.choice)
    return FloatDistribution(entry.bounds[0], entry.bounds[1], step=entry.step, log=entry.log)


# Samplers


def chosen_sampler(study: Study) -> Chosen:
    """Return the study's sampler; `auto` is chosen by search space and budget."""
    asked = _named(study.sampler)
    if not study.search:
        return Chosen("random", {})
    if asked.name != AUTO:
        return asked
    trials = study.budget.trials
    numeric = not any(isinstance(entry, Choice) for entry in study.search.values())
    conditional = any(entry.when for entry in study.search.values())
    sizes = [entry.grid() for entry in study.search.values()]
    combinations = math.prod(len(values) for values in sizes if values is not None)
    if trials and None not in sizes and combinations <= trials:
        return Chosen(GRID, {}, f"all {combinations} combinations fit the budget")
    if len(study.objectives) > 1:
        return Chosen("tpe", {}, "several objectives")
    if conditional or not numeric:
        return Chosen("tpe", {}, "conditions in the search space" if conditional else "choices in the search space")
    if trials and trials >= CMAES_TRIALS:
        return Chosen("cmaes", {}, f"only numbers, and {trials} trials")
    if trials and trials <= GP_TRIALS and _named(study.pruner).name == "none" and _has("gp"):
        return Chosen("gp", {}, f"only numbers, {trials} trials, none pruned")
    return Chosen("tpe", {}, "learns from pruned trials too, of any number")


def sampler(
    study: Study, trial_number: int, feasible: Feasible | None = None, given: Mapping[str, Any] | None = None
) -> optuna.samplers.BaseSampler:
    """Return the study's sampler, seeded for one trial: equal seeds in two workers would suggest the same point twice.

    `feasible`: whether a point may be trained; the sampler is asked again until it proposes one that may. `given`: parameters
    that are not to be chosen.
    """
    chosen = chosen_sampler(study)
    options: dict[str, Any] = dict(chosen.options)
    name = "random" if chosen.name == GRID else chosen.name  # a grid's points are fixed, see `points`
    if name == "tpe":
        conditional = any(entry.when for entry in study.search.values())
        grouped = conditional and not given and options.get("multivariate") is not False
        options = ({"group": True, "multivariate": True} if grouped else {}) | options
    elif name in ("cmaes", "gp", "qmc"):
        options = {"warn_independent_sampling": False} | options
    seed = own_seed = study.seed_of(trial_number)
    if name == "qmc":  # one sequence for all trials, so one seed; what it leaves to others differs by trial
        options["independent_sampler"] = _sampler("random", seed, {}, None)
        own_seed = study.seed % 2**32
    made = _sampler(name, own_seed, options, given)
    if feasible is None:
        return made
    asked = [(made, DRAWS)]
    if name == "gp":  # it would propose the same again
        asked = [(made, 1)]
    elif name == "tpe":
        # It takes the best of 24 candidates by what it knows: nothing of what is not feasible, and so it goes there. One
        # candidate is a draw from its model of good trials.
        asked = [(made, DRAWS // 5), (_sampler(name, seed, options | {"n_ei_candidates": 1}, given), DRAWS)]
    return _FeasibleSampler([*asked, (_sampler("random", seed, {}, given), RANDOM_DRAWS)], study.search, feasible)


def _sampler(
    name: str, seed: int, options: Mapping[str, Any], given: Mapping[str, Any] | None
) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made = SAMPLERS[name](seed=seed, **options)  # type: ignore[call-arg]
        return optuna.samplers.PartialFixedSampler(dict(given), made) if given else made


def points(study: Study) -> list[Params]:
    """Return the parameters that belong to trial numbers: the start points, then, for a grid, all others in a seeded order.

    Raises UserError for a grid that has no end or too many points.
    """
    fixed: list[Params] = [dict(point) for point in study.start_points]
    if chosen_sampler(study).name != GRID:
        return fixed
    seen = {_key(point) for point in fixed}
    rest = [point for point in _grid(study) if _key(point) not in seen]
    order = np.random.default_rng(study.seed).permutation(len(rest))
    return fixed + [rest[index] for index in order]


def tickets(study: Study) -> int | None:
    """Return how many trials the study may have: its budget's, and no more than its grid has points; None: any number."""
    limit = study.budget.trials
    if chosen_sampler(study).name != GRID:
        return limit
    return min(len(points(study)), limit or LARGEST_GRID)


def _grid(study: Study) -> list[Params]:
    axes: dict[str, Sequence[Scalar]] = {}
    for name, entry in study.search.items():
        values = entry.grid()
        if values is None:
            raise UserError(
                f"sampler grid: {name} is a range of floats, which has no end: give it a step, or list its values as a choice"
            )
        axes[name] = values
    size = math.prod(len(values) for values in axes.values())
    if size > LARGEST_GRID:
        raise UserError(
            f"sampler grid: {size:,} combinations, at most {LARGEST_GRID:,} are allowed: take larger steps, or sampler random"
        )
    combinations = (study.active(dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values()))
    return list({_key(point): point for point in combinations}.values())  # conditions make some of them equal


def _key(point: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple((name, type(value) is bool, value) for name, value in sorted(point.items()))


# Constraints


def feasibility(study: Study, parameters: Callable[[Params], int]) -> Feasible:
    """Return whether a point meets the study's constraints; `parameters` counts those of its model."""
    constraints = [Constraint.parse(text) for text in study.constraints]
    counted = any(PARAMETERS in constraint.names for constraint in constraints)

    def feasible(params: Mapping[str, Any]) -> bool:
        config = study.run_config(params, seed=0)
        values = config.hyperparameters | config.training.model_dump()
        cheap = [constraint for constraint in constraints if PARAMETERS not in constraint.names]
        if not all(constraint.holds(values) for constraint in cheap):
            return False
        if counted:
            values |= {PARAMETERS: parameters(config.hyperparameters)}
        return all(constraint.holds(values) for constraint in constraints)

    return feasible


class _FeasibleSampler(optuna.samplers.BaseSampler):
    """Samplers that are asked again until a point may be trained, so that no trial is spent on one that may not."""

    def __init__(
        self,
        samplers: Sequence[tuple[optuna.samplers.BaseSampler, int]],  # in their order, each with how often it is asked
        search: Mapping[str, Entry],
        feasible: Feasible,
    ):
        self._samplers, self._feasible = samplers, feasible
        self._search, self._space = search, {name: distribution(entry) for name, entry in search.items()}

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, BaseDistribution]:
        return self._space

    def sample_relative(self, study: Any, trial: Any, search_space: dict[str, BaseDistribution]) -> Params:
        params: Params = {}
        for sampler, draws in self._samplers:
            own_space = sampler.infer_relative_search_space(study, trial)
            for _ in range(draws):
                params = self._draw(sampler, own_space, study, trial)
                if self._feasible(params):
                    return params
        return params

    def _draw(
        self, sampler: optuna.samplers.BaseSampler, own_space: dict[str, BaseDistribution], study: Any, trial: Any
    ) -> Params:
        drawn = sampler.sample_relative(study, trial, own_space) | trial.params  # a retried trial may have some already
        params: Params = {}
        for name, entry in self._search.items():
            if not entry.active(params):
                continue
            if name not in drawn:
                drawn[name] = sampler.sample_independent(study, trial, name, self._space[name])
            params[name] = entry.exact(drawn[name])
        return params

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: BaseDistribution) -> Any:
        return self._samplers[-1][0].sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Any, trial: Any) -> None:
        self._samplers[0][0].before_trial(study, trial)


# Pruners


def pruner(study: Study) -> optuna.pruners.BasePruner:
    """Return the study's pruner; it sees validation accuracy after every epoch."""
    return _pruner(_named(study.pruner), study.longest_training)


def _pruner(chosen: Chosen, longest_training: int) -> optuna.pruners.BasePruner:
    options: dict[str, Any] = dict(chosen.options)
    if chosen.name == "asha":
        options = {"min_resource": 2, "reduction_factor": 3} | options
    elif chosen.name == "hyperband":
        options = {"min_resource": 1, "max_resource": longest_training, "reduction_factor": 3} | options
    elif chosen.name == "median":
        options = {"n_startup_trials": 5, "n_warmup_steps": 3} | options
    elif chosen.name == "patient":
        wrapped = options.get(WRAPPED)
        options[WRAPPED] = _pruner(_named(wrapped), longest_training) if wrapped is not None else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return PRUNERS[chosen.name](**options)


# Checks


def check(study: Study) -> None:
    """Raise UserError for a sampler, a pruner or a constraint that cannot be."""
    _check_chosen(study.sampler, "sampler", SAMPLER_NAMES, SAMPLERS)
    _check_chosen(study.pruner, "pruner", tuple(PRUNERS), PRUNERS)
    chosen = chosen_sampler(study)
    if chosen.name in NEEDS and not _has(chosen.name):
        package, how = NEEDS[chosen.name]
        raise UserError(f"sampler {chosen.name} needs {package}, which is not installed: {how}")
    if len(study.objectives) > 1:
        if chosen.name == "cmaes":
            raise UserError("sampler cmaes has one objective only: use tpe, random, grid, gp, qmc or auto")
        if _named(study.pruner).name != "none":
            raise UserError(
                f"pruner {_named(study.pruner).name} cannot compare trials by several objectives: use none, the default there"
            )
    _rehearse(study, chosen.name)
    points(study)


def _rehearse(study: Study, sampler_name: str) -> None:
    """Let sampler and pruner choose in memory: Optuna checks some options only then, some only after the start-up trials."""
    options = chosen_sampler(study).options
    trials = min(int(options.get("n_startup_trials", 10)), 100) + 2 if options and sampler_name != "gp" else 1
    kind, name = "sampler", sampler_name
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        directions = [OBJECTIVES[objective] for objective in study.objectives]
        stage = optuna.create_study(sampler=sampler(study, 0), directions=directions)
        for number in range(trials):
            trial = stage.ask()
            suggest(trial, study.search)
            stage.tell(trial, [number / trials] * len(directions))
        kind, name = "pruner", _named(study.pruner).name
        stage = optuna.create_study(pruner=pruner(study), direction="maximize")
        trial = stage.ask()
        trial.report(0.5, 1)
        trial.should_prune()
    except Exception as error:  # Optuna raises what its arithmetic raises
        given = dict(_named(study.sampler if kind == "sampler" else study.pruner).options) or "no options"
        reason = first_line(error)
        raise UserError(f"{kind} {name} does not work with {given}: {reason}") from error
    finally:
        optuna.logging.set_verbosity(verbosity)


def _named(given: str | Mapping[str, Any]) -> Chosen:
    if isinstance(given, str):
        return Chosen(given, {})
    return Chosen(str(given["name"]), {key: value for key, value in given.items() if key != "name"})


def _check_chosen(given: Any, kind: str, names: Sequence[str], classes: Mapping[str, type]) -> None:
    known = ", ".join(names)
    if not isinstance(given, str) and not (isinstance(given, dict) and isinstance(given.get("name"), str)):
        raise UserError(f"{kind}: expected a name or {{name: NAME, option: value}} with one of {known}, got {given!r}")
    chosen = _named(given)
    if chosen.name not in names:
        raise UserError(f"{kind}: {chosen.name!r} is unknown{nearest(chosen.name, names)}; expected one of {known}")
    accepted = _options(classes[chosen.name]) if chosen.name in classes else {}
    for name, value in chosen.options.items():
        if name == WRAPPED and chosen.name == "patient":
            if value is not None:
                _check_chosen(value, f"{kind} patient: {WRAPPED}", names, classes)
            continue
        if name not in accepted:
            own, hint = ", ".join(accepted) or "none", nearest(name, accepted)
            raise UserError(
                f"{kind} {chosen.name}: {name!r} is not an option that a study file can give{hint}; known: {own}"
            )
        try:
            TypeAdapter(accepted[name], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as error:
            raise UserError(f"{kind} {chosen.name}: {name}: {error.errors()[0]['msg']}, got {value!r}") from error
    required = [
        name
        for name, parameter in (_signature(classes[chosen.name]) if chosen.name in classes else {}).items()
        if parameter.default is inspect.Parameter.empty and name != WRAPPED
    ]
    missing = [name for name in required if name not in chosen.options]
    if missing:
        raise UserError(f"{kind} {chosen.name} needs {', '.join(missing)}: {{name: {chosen.name}, {missing[0]}: …}}")


def _signature(cls: type) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(cls).parameters


def _options(cls: type) -> dict[str, Any]:
    """Return the options of one of Optuna's classes that plain values can express, with their types."""
    options = {}
    for name, parameter in _signature(cls).items():
        annotation = parameter.annotation
        parts = [part.strip() for part in getattr(annotation, "__name__", str(annotation)).split("|")]
        if name != "seed" and all(part in _PLAIN for part in parts):
            options[name] = Union[tuple(_PLAIN[part] for part in parts)]  # noqa: UP007 - built from what was read
    return options


def _has(sampler_name: str) -> bool:
    return importlib.util.find_spec(NEEDS[sampler_name][0]) is not None
