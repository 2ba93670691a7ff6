"""Samplers: which there are, and which one a study has. Another is a line in SAMPLERS."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution

from sweeps.study.space import Feasible, Params, distribution
from sweeps.study.study import Entry, Study
from sweeps.study.tickets import AUTO as AUTO
from sweeps.study.tickets import GRID as GRID
from sweeps.study.tickets import NEEDS as NEEDS
from sweeps.study.tickets import chosen_sampler as chosen_sampler
from sweeps.study.tickets import has as has
from sweeps.study.tickets import points as points
from sweeps.study.tickets import tickets as tickets

SAMPLERS: dict[str, type[optuna.samplers.BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "gp": optuna.samplers.GPSampler,
    "qmc": optuna.samplers.QMCSampler,
}
SAMPLER_NAMES = (*SAMPLERS, GRID, AUTO)

DRAWS = 100  # points that a sampler may propose until one meets the constraints
RANDOM_DRAWS = 300  # and so many random ones after those


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
