"""Whether sampler, pruner and constraints of a study can work: some of it Optuna says only when it chooses."""

import optuna

from pipelines.errors import UserError, first_line
from sweeps.study.chosen import check_chosen, named
from sweeps.study.pruners import PRUNERS, pruner
from sweeps.study.samplers import NEEDS, SAMPLER_NAMES, SAMPLERS, chosen_sampler, has, points, sampler
from sweeps.study.space import suggest
from sweeps.study.study import Study


def check(study: Study) -> None:
    """Raise UserError for a sampler, a pruner or a constraint that cannot be."""
    check_chosen(study.sampler, "sampler", SAMPLER_NAMES, SAMPLERS)
    check_chosen(study.pruner, "pruner", tuple(PRUNERS), PRUNERS)
    chosen = chosen_sampler(study)
    if chosen.name in NEEDS and not has(chosen.name):
        package, how = NEEDS[chosen.name]
        raise UserError(f"sampler {chosen.name} needs {package}, which is not installed: {how}")
    if len(study.objectives) > 1:
        if chosen.name == "cmaes":
            raise UserError("sampler cmaes has one objective only: use tpe, random, grid, gp, qmc or auto")
        if named(study.pruner).name != "none":
            raise UserError(
                f"pruner {named(study.pruner).name} cannot compare trials by several objectives: use none, the default there"
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
        directions = study.directions
        stage = optuna.create_study(sampler=sampler(study, 0), directions=directions)
        for number in range(trials):
            trial = stage.ask()
            suggest(trial, study.search)
            stage.tell(trial, [number / trials] * len(directions))
        kind, name = "pruner", named(study.pruner).name
        stage = optuna.create_study(pruner=pruner(study), direction=directions[0])
        trial = stage.ask()
        trial.report(0.5, 1)
        trial.should_prune()
    except Exception as error:  # Optuna raises what its arithmetic raises
        given = dict(named(study.sampler if kind == "sampler" else study.pruner).options) or "no options"
        reason = first_line(error)
        raise UserError(f"{kind} {name} does not work with {given}: {reason}") from error
    finally:
        optuna.logging.set_verbosity(verbosity)
