"""Study files: read, checked, and answered with one clear line when something is wrong."""

import dataclasses
import itertools
import os
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

import models
from pipelines import metrics, options
from pipelines.config import ALWAYS, TrainingSettings
from pipelines.datasets.spec import Spec, parse
from pipelines.errors import UserError, nearest
from sweeps.study.study import (
    CHANGEABLE,
    ENTRY_KINDS,
    MODEL,
    PARAMETERS,
    Budget,
    Constraint,
    Scalar,
    Study,
    TargetEntry,
    as_list,
)

DEFAULT = "mnist"  # the data set of a study that names none
FOLDER = Path(__file__).parents[1] / "studies"
RESERVED = {  # what a run's parameters and a row of `runs()` call by these names; no argument of a model can have them
    *ALWAYS,
    *(
        "model",
        "dataset",
        "protocol",
        "seed",
        "repeats",
        "folds",
        "run_id",
        "study",
        "trial",
        "state",
        "device",
        "task",
        "objective",
        "objectives",
        "metrics",
        "on_front",
    ),
    *(f"{part}_{metric}{end}" for part in ("val", "test") for metric in metrics.METRICS for end in ("", "_sd")),
    *(
        "max_epochs",
        "kept_epoch",
        "seconds",
        "samples_per_second",
    ),
    PARAMETERS,
}
UNION_PARTS = {"IntRange", "FloatRange", "Choice", "str", "bool", "dict[str,any]", "literal['recipe']"}
MAY_BE_EMPTY = ("training", "arguments")  # sections
MOST_COMBINATIONS = 5_000  # of the outermost values of one setting's options, that are looked at
LARGEST_FILE = 1_000_000  # bytes
LONGEST_NAME = 100  # characters


def available() -> list[str]:
    """Return the names of the study files that ship with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def outline(name: str) -> tuple[str, str, list[str]]:
    """Return model, data set and what is searched of a study file that ships, as it says them; it is not checked.

    A model that is searched is all of them: "a or b".
    """
    content = _read(find(name))
    search = content.get("search", {})
    of_models = content["model"] if isinstance(content.get("model"), dict) else search.get(MODEL)
    said = " or ".join(of_models["choice"]) if of_models else content["model"]
    searched = {MODEL: of_models, **search} if of_models else search
    return said, parse(content.get("dataset", DEFAULT)).name, [*searched]


def load(
    name_or_path: str,
    budget: Mapping[str, Any] | None = None,
    dataset: Any = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Study:
    """Read and check a study, by name or by path; raises UserError with one line for the first mistake found.

    `budget` overrules single entries of the file's. Another data set or seed is another study, under a name of its own; so are
    other `settings`, values by their keys ("training.epochs"), unless they may change while a study stays what it is.
    """
    path = find(name_or_path)
    settings = dict(settings or {})
    dataset, seed = settings.pop("dataset", dataset), settings.pop("seed", seed)
    content = with_settings(_read(path), path.name, settings)
    return define(content, path.name, budget, dataset, seed, [path.absolute().parent, Path.cwd()])


def define(
    content: dict[str, Any],
    where: str,
    budget: Mapping[str, Any] | None = None,
    dataset: Any = None,
    seed: int | None = None,
    folders: Sequence[Path] | None = None,
) -> Study:
    """Return a new study, checked, as `load` does; `where`: what messages call it, `folders`: where its model is looked for."""
    if len(str(content.get("name"))) > LONGEST_NAME:
        raise UserError(
            f"{where}: name is longer than {LONGEST_NAME} characters: what is confirmed of it has a longer one"
        )
    return overruled(content, where, budget, dataset, seed, folders)


def with_settings(content: dict[str, Any], where: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a study file with other values of single keys, and with the name that it then has."""
    own_name, suffix = content.get("name"), ""
    for key, value in settings.items():
        *sections, last = key.split(".")
        inside = content = dict(content)
        for section in sections:
            found = inside.get(section) or {}
            if not isinstance(found, dict):
                raise UserError(f"--set {key}: {section} of {where} holds no keys, it is {found!r}")
            inside[section] = inside = dict(found)
        if inside.get(last) != value and key.partition(".")[0] not in {"name", *CHANGEABLE}:
            plain = re.fullmatch(r"[A-Za-z0-9_.-]{1,20}", str(value))
            suffix += f"-{last}{value if plain else f'-{zlib.crc32(in_a_line(value).encode()):08x}'}"
        inside[last] = value
    renamed = suffix and own_name and content["name"] == own_name
    return content | {"name": f"{own_name}{suffix}"} if renamed else content


def note_on_model(study: Study, name_or_path: str) -> str | None:
    """Return a line about a file of the user's that has the name of a shipped model in their study file, if there is one."""
    if name_or_path in available():
        return None
    for name in study.models:
        file = models.namesake(name, [Path(name_or_path).absolute().parent, Path.cwd()])
        if name in models.MODELS and file:
            return f"model {name} is the shipped one; for the file {file} write model: {name}.py"
    return None


def overruled(
    content: dict[str, Any],
    where: str,
    budget: Mapping[str, Any] | None,
    dataset: Any,
    seed: int | None,
    folders: Sequence[Path] | None,
) -> Study:
    """Return the study that `content` says, checked, with what a command says otherwise; `where`: what messages call it."""
    if isinstance(content.get("budget"), dict):
        content["budget"] = content["budget"] | {k: v for k, v in (budget or {}).items() if v is not None}
    own_name = str(content.get("name") or "")
    if dataset is not None and dataset != content.get("dataset", DEFAULT):
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", _dataset(dataset, "--dataset", None).name)
        content |= {"dataset": dataset, "name": (own_name := own_name and f"{own_name}-{name}")}
        content.pop("targets", None)  # published for the other data set
    if seed is not None and seed != content.get("seed", 0):
        content |= {"seed": seed, "name": own_name and f"{own_name}-seed{seed}"}
    return check(content, where, folders)


def find(name_or_path: str) -> Path:
    """Return the study file of that name, or at that path."""
    if name_or_path in available():
        return FOLDER / f"{name_or_path}.yaml"
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if os.path.isfile(path):  # noqa: PTH113 - unlike Path.is_file, says False to any nonsense
            return path
        raise UserError(
            f"there is no study file {name_or_path}: expected a path to a YAML file, or one of {', '.join(available())}"
        )
    raise UserError(
        f"unknown study {name_or_path!r}{nearest(name_or_path, available())}: expected a path to a YAML file, or one of "
        f"{', '.join(available())}"
    )


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but 1e-6 is a number (as in YAML 1.2) and a key said twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is not a word", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Return the number that a person reads: 010 is ten, and 1:30, which YAML 1.1 takes for 90, is none."""
        text = str(self.construct_scalar(node)).replace("_", "")
        if ":" in text:
            where = node.start_mark
            raise yaml.constructor.ConstructorError(
                None, None, f"{text} is not a number: write it out, or in quotes", where
            )
        if node.tag == "tag:yaml.org,2002:float":
            return float(self.construct_yaml_float(node))
        return int(text, 0) if re.match(r"[-+]?0[xXbBoO]", text) else int(text)


for kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{kind}", _Loader.construct_number)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path.name} is {path.stat().st_size:,} bytes: a study file has at most {LARGEST_FILE:,}")
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name} cannot be read ({error}): expected a YAML text file") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{path.name} is not a valid study file: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path.name} must hold keys and values ({', '.join(Study.model_fields)})")
    return content


def value_of(text: str, name: str) -> Any:
    """Return the value that a text means in a study file. Raises UserError, which names what the text was given for."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{name}={text} is not a YAML value ({_one_line(error)})") from error


def check(content: dict[str, Any], where: str, folders: Sequence[Path] | None = None) -> Study:
    """Return the study that `content` describes; raises UserError, which names `where` it is from, for the first mistake.

    `folders`: where a user's model is looked for; None: it is known in this process already, else it lies in the current folder.
    """
    _check_names(content, [key for key, field in Study.model_fields.items() if not field.exclude], where, "key")
    if "name" in content and not isinstance(content["name"], str | None):
        raise UserError(
            f"{where}: name is a word, and YAML reads {content['name']!r} as something else: put it in quotes"
        )
    _check_sections(content, where)
    content = _with_models(content, where)
    named, search = _models_of(content), content["search"]
    model_digests = {name: digest for name in named if (digest := _check_model(name, where, folders))}
    content = content | {"dataset": _dataset(content.get("dataset", DEFAULT), where, folders, content.get("task"))}
    of_models = {name: models.arguments(name) for name in named}
    arguments = [*dict.fromkeys(name for own in of_models.values() for name in own)]
    settings = [name for name in TrainingSettings.model_fields if name not in arguments]
    fixed = content.get("arguments") or {}
    try:
        training = options.flat(content.get("training") or {})
    except ValueError as error:
        raise UserError(f"{where}: training: {error}") from error
    said = " or ".join(named)
    if of_data := [name for name in fixed if name in models.OF_THE_DATA]:
        raise UserError(f"{where}: arguments: {of_data[0]} is what the data set has, and given to build: leave it out")
    _check_names(fixed, arguments, f"{where}: arguments", f"argument of {said}")
    _check_settings(training, settings, f"{where}: training", "training setting")
    _check_settings(
        [name for name in search if name != MODEL],
        [*arguments, *settings],
        f"{where}: search",
        f"hyperparameter of {said} or training setting",
    )
    digests = _check_functions([training.get("loss"), search.get("loss")], where, folders) if "loss" in settings else {}
    digests |= _check_metrics(content, where, folders)
    for name in search:
        for section, others in (("training", training), ("arguments", fixed)):
            if name in others:
                raise UserError(f"{where}: {name} stands under both {section} and search: keep one")
        _check_entry(search[name], f"{where}: search.{name}")
    search = _for_their_models(search, of_models, where)
    _check_names(content["budget"], Budget.model_fields, f"{where}: budget", "budget")
    if len(as_list(content.get("objectives"))) > 1 or not search:
        content = {"pruner": "none"} | content
    if "targets" not in content:
        content = content | {"targets": _published(content)}
    try:
        found = {"model_digests": model_digests, "function_digests": digests}
        study = Study(**(content | found | {"training": training, "arguments": fixed, "search": search}))
    except ValidationError as error:
        raise UserError(f"{where}: {first_mistake(error)}") from error
    try:
        _ = study.settings
    except ValidationError as error:
        raise UserError(f"{where}: training (the file's or the recipe's): {first_mistake(error)}") from error
    if not search:
        try:
            study.run_config({}, study.seed)
        except ValidationError as error:
            raise UserError(f"{where}: {first_mistake(error)}") from error
    _check_conditions(study, where)
    _check_constraints(study, where)
    _check_values(study, where)
    from sweeps.study import rehearsal  # which loads Optuna

    try:
        rehearsal.check(study)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return study


def _published(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the targets of the recipe, where the study's test images are those of its author."""
    recipe = models.recipe(content["model"])
    same_images = (recipe.protocol == "reshuffled") == (content.get("protocol") == "reshuffled")
    if content["dataset"].name != DEFAULT or not same_images or content.get("task") == "regression":
        return []
    keys = TargetEntry.model_fields.keys() & {field.name for field in dataclasses.fields(models.Target)}
    return [{key: getattr(target, key) for key in keys} for target in recipe.targets]


def _check_sections(content: dict[str, Any], where: str) -> None:
    kinds = [("stop", dict), ("tags", dict)]
    lists = [(key, list) for key in ("start", "targets", "constraints", "objectives", "metrics", "seeds")]
    for key, kind in [("search", dict), ("budget", dict), *((key, dict) for key in MAY_BE_EMPTY), *kinds, *lists]:
        if (
            key in content
            and not isinstance(content[key], kind)
            and (content[key] is not None or key not in MAY_BE_EMPTY)
        ):
            expected = "keys and values" if kind is dict else "a list"
            raise UserError(f"{where}: {key} must hold {expected}, got {content[key]!r}")
    missing = [
        key
        for key, field in Study.model_fields.items()
        if (field.is_required() and content.get(key) in (None, "")) or (key == "budget" and not content.get(key))
    ]
    if missing:
        raise UserError(f"{where} lacks {', '.join(missing)}: a study needs name, model, search and budget")


def _with_models(content: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the content with searched models as they are stored: the first under `model`, all as the first entry of `search`."""
    said, search = content[MODEL], content["search"]
    if isinstance(said, dict):
        if MODEL in search:
            raise UserError(f"{where}: search.{MODEL} says again what {MODEL} says: keep one")
        _check_entry(said, f"{where}: {MODEL}")
        search = {MODEL: said, **search}
    if MODEL not in search:
        return content
    entry = search[MODEL]
    _check_entry(entry, f"{where}: search.{MODEL}")
    if "choice" not in entry or entry.get("when"):
        raise UserError(f"{where}: {MODEL} is searched as {{choice: [lean_cnn, net.py]}}, without when; got {entry!r}")
    if not isinstance(said, dict) and said != entry["choice"][0]:
        raise UserError(f"{where}: {MODEL} is {said!r}: expected the first of search.{MODEL}, {entry['choice'][0]!r}")
    return content | {MODEL: entry["choice"][0], "search": {MODEL: entry, **search}}


def _models_of(content: Mapping[str, Any]) -> list[Any]:
    return content["search"][MODEL]["choice"] if MODEL in content["search"] else [content[MODEL]]


def _for_their_models(
    search: Mapping[str, Any], of_models: Mapping[str, Mapping[str, Any]], where: str
) -> dict[str, Any]:
    """Return the entries, each searched only with the models that have it; `of_models`: the arguments of each model."""
    if len(of_models) == 1:
        return dict(search)
    for model, own in of_models.items():
        if clash := [name for name in own if name in TrainingSettings.model_fields]:
            raise UserError(
                f"{where}: model: {model}'s build calls an argument {clash[0]!r}, which is a training setting of the other "
                "models: rename it"
            )
    found = {}
    for name, entry in search.items():
        having = [model for model, own in of_models.items() if name in own]
        condition = entry.get("when") or {}
        lacking = [model for model in as_list(condition.get(MODEL, [])) if having and model not in having]
        if lacking and lacking[0] in of_models:
            raise UserError(f"{where}: search.{name}.when: model {lacking[0]} has no argument {name}: leave it out")
        if having and len(having) < len(of_models) and MODEL not in condition:
            entry = entry | {"when": {MODEL: having if len(having) > 1 else having[0], **condition}}
        found[name] = entry
    return found


def _check_model(name: Any, where: str, folders: Sequence[Path] | None) -> str | None:
    """Check a model; return the digest of its source, if it is a user's."""
    try:
        source = models.resolve(name, folders) if folders is not None else models.source(name)
        taken = [argument for argument in models.arguments(name) if argument in RESERVED]
    except models.NoModel as error:
        hint = nearest(str(name), models.MODELS)
        raise UserError(
            f"{where}: model: {error}{hint}; expected one of {', '.join(models.MODELS)}, or a module or file of yours with a "
            "function build"
        ) from error
    if taken:
        raise UserError(
            f"{where}: model: {name}'s build calls an argument {taken[0]!r}, which means something else here: rename it"
        )
    return source.digest if source else None


def _dataset(said: Any, where: str, folders: Sequence[Path] | None, task: Any = None) -> Spec:
    """Return the data set that a study file names; data of one's own is looked for in `folders`, or else in the current one."""
    try:
        spec = parse(said).placed(folders if folders is not None else [Path.cwd()])
    except UserError as error:
        raise UserError(f"{where}: dataset: {error}") from error
    return spec.predicting_numbers() if task == "regression" else spec


def _check_metrics(content: dict[str, Any], where: str, folders: Sequence[Path] | None) -> dict[str, str]:
    """Return the digests of the sources of users' metrics, by what the file calls them; raises UserError for what is not one."""
    entries = [*as_list(content.get("objectives") or []), *as_list(content.get("metrics") or [])]
    names = [entry.get("name") if isinstance(entry, dict) else entry for entry in entries]
    found = {}
    for name in names:
        if not isinstance(name, str) or not metrics.is_users(name):
            continue  # what else there is, the study says
        try:
            metrics.check_name(name)
            found[name] = _digest_of(name, folders)
            metrics.check_function(name)
        except (models.NoModel, ValueError) as error:
            raise UserError(f"{where}: metric: {error}") from error
    return found


def _check_functions(named: Iterable[Any], where: str, folders: Sequence[Path] | None) -> dict[str, str]:
    """Find the user's losses among what is named, or listed in a choice; return the digests of their sources."""
    listed = [each.get("choice") if isinstance(each, dict) else [each] for each in named]
    digests = {}
    for reference in (name for names in listed for name in as_list(names) if options.is_function(name)):
        try:
            digests[reference] = _digest_of(reference, folders)
            models.function(reference)
            options.options_of("loss", reference)
        except (models.NoModel, ValueError) as error:
            raise UserError(f"{where}: loss: {error}") from error
    return digests


def _digest_of(reference: str, folders: Sequence[Path] | None) -> str:
    """Find a function of the user's; return the digest of its source."""
    source = models.resolve(reference, folders) if folders is not None else models.source(reference)
    assert source is not None
    return source.digest


def _check_entry(entry: Any, where: str) -> None:
    kinds = [kind for kind in ENTRY_KINDS if isinstance(entry, dict) and kind in entry]
    if len(kinds) != 1:
        raise UserError(
            f"{where} must be one of {{int: [lo, hi]}}, {{float: [lo, hi]}}, {{choice: [...]}}, got {entry!r}"
        )
    options = ["when"] if kinds[0] == "choice" else ["step", "log", "when"]
    _check_names(entry, [kinds[0], *options], where, f"option of {kinds[0]}")
    try:
        ENTRY_KINDS[kinds[0]](**entry)
    except ValidationError as error:
        raise UserError(f"{where}: {first_mistake(error)}") from error


def _check_conditions(study: Study, where: str) -> None:
    """Check that every condition speaks of a value that a searched name above it can have."""
    above: list[str] = []
    for name, entry in study.search.items():
        for other, allowed in entry.when.items():
            label = f"{where}: search.{name}.when"
            if other not in above:
                known = ", ".join(above) or "(none)"
                raise UserError(
                    f"{label}: {other!r} is not searched above {name}{nearest(other, above)}; known: {known}"
                )
            if allowed == []:
                raise UserError(f"{label}.{other} lists no value: expected a value of {other}, or several")
            for value in as_list(allowed):
                if not study.search[other].contains(value):
                    hint = nearest(str(value), map(str, study.search[other].examples()))
                    raise UserError(f"{label}: {other} is never {value!r}{hint}: it is {shown(study, other)}")
        above.append(name)


def _check_constraints(study: Study, where: str) -> None:
    settings = study.settings.everything()
    settings |= {
        name: entry.examples()[0] for name, entry in study.search.items() if name not in settings and not entry.when
    }
    each = [settings | models.arguments(model) for model in study.models]
    numbers = dict.fromkeys(
        name
        for known in each
        for name, value in known.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    )
    for index, text in enumerate(study.constraints):
        try:
            constraint = Constraint.parse(text)
        except ValueError as error:
            raise UserError(f"{where}: constraints[{index}]: {error}") from error
        _check_names(constraint.names, [PARAMETERS, *numbers], f"{where}: constraints[{index}]", "number to compare")
        if not any({*constraint.names} <= {PARAMETERS, *known} for known in each):
            raise UserError(f"{where}: constraints[{index}]: no model has both {' and '.join(constraint.names)}")


def _check_values(study: Study, where: str) -> None:
    """Check that what can be searched can be built, and that every start point lies inside the ranges."""
    arguments = {name for model in study.models for name in models.arguments(model)}
    for model in study.models:
        for name, value in study.arguments.items():
            _check_argument(model, name, value, f"{where}: arguments.{name}")
    for name, entry in study.search.items():
        for value in entry.examples():
            for model in study.models_with(name):
                _check_argument(model, name, value, f"{where}: search.{name}")
            if name in arguments or name == MODEL or options.part_of(name):
                continue  # options: with the others of their part
            try:
                TrainingSettings.model_validate({name: value}, strict=True)
                if not entry.when:  # else it may never stand beside what is fixed
                    study.run_config({name: value}, seed=0)
            except ValidationError as error:
                raise UserError(f"{where}: search.{name} gives {value!r}: {first_mistake(error)}") from error
    for part in dict.fromkeys(filter(None, map(options.part_of, study.search))):
        if part not in arguments:
            _check_part(study, part, where)
    if "recipe" in study.start[1:]:
        raise UserError(f"{where}: start lists the recipe after other points: it is always trial 0, put it first")
    for index, point in enumerate(study.start_points):
        label = f"{where}: start[{index}]" + (" (the recipe)" if study.start[index] == "recipe" else "")
        _check_point(study, point, label)


def _check_part(study: Study, part: str, where: str) -> None:
    """Check a setting that is chosen by name with its options, as far as they are searched: outermost values with one another."""
    own = {f"{part}.{option}": value for option, value in study.settings.options_of(part).items()}
    fixed = {name: value for name, value in own.items() if name not in study.search}
    searched = study.search.get(part)
    for name in searched.examples() if searched else [getattr(study.settings, part)]:
        entries = {
            option: entry
            for option, entry in study.search.items()
            if option.startswith(f"{part}.") and (part not in entry.when or name in as_list(entry.when[part]))
        }
        combinations = itertools.product(*(entry.examples() for entry in entries.values()))
        for values in itertools.islice(combinations, MOST_COMBINATIONS):
            given = dict(zip(entries, values, strict=True))
            try:
                TrainingSettings.model_validate({part: name} | fixed | given)
            except ValidationError as error:
                first = next(iter(given)) if given and searched is None else part
                value = given.get(first, name)
                hint = ""
                known = _options(part, name)
                if searched and known and any(option.partition(".")[2] not in known for option in given):
                    hint = f": say for which {part} it is searched, with when: {{{part}: …}}"
                raise UserError(f"{where}: search.{first} gives {value!r}: {first_mistake(error)}{hint}") from error


def _options(part: str, name: Scalar) -> Mapping[str, Any]:
    try:
        return options.options_of(part, str(name))
    except ValueError:
        return {}


def _check_argument(model: str, name: str, value: Scalar, label: str) -> None:
    """Check that the model's `build` takes `value` for argument `name`, if it has that."""
    own = models.arguments(model)
    if name not in own:
        return
    allowed, default = models.options(model).get(name), own[name]
    if allowed is not None and value not in allowed:
        hint = nearest(str(value), map(str, allowed))
        raise UserError(f"{label} gives {value!r}{hint}; {model} takes {', '.join(map(str, allowed))}")
    fits = type(value) is type(default) or (isinstance(default, float) and type(value) is int)
    if not fits and default is not None and allowed is None:
        raise UserError(f"{label} gives {value!r}, but {model} takes a {type(default).__name__}")


def _check_point(study: Study, point: Mapping[str, Scalar], label: str) -> None:
    _check_names(point, study.search, label, "searched name")
    for name, value in point.items():
        if not study.search[name].contains(value):
            raise UserError(
                f"{label} has {name}={value!r}, outside {shown(study, name)}: widen the range, or begin elsewhere "
                "(start: [] lets the sampler choose)"
            )
    active = study.active(point)
    missing = [name for name, entry in study.search.items() if name not in point and entry.active(active)]
    if missing:
        raise UserError(f"{label} lacks {', '.join(missing)}: a start point gives every searched name")
    idle = [name for name in point if name not in active]
    if idle:
        raise UserError(f"{label} gives {idle[0]}, which is not searched there: {shown(study, idle[0])}")


def shown(study: Study, name: str) -> str:
    """Return what is searched under a name, as the file says it."""
    return in_a_line(study.search[name].model_dump(by_alias=True, exclude_defaults=True))


def in_a_line(value: Any) -> str:
    """Return a value as YAML in one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=float("inf")).split("\n")[0]


def _check_names(given: Iterable[str], allowed: Iterable[str], where: str, kind: str) -> None:
    for name in given:
        if name not in allowed:
            a = "an" if kind[0] in "aeiou" else "a"
            raise UserError(f"{where}: {name!r} is not {a} {kind}{nearest(name, allowed)}; known: {', '.join(allowed)}")


def _check_settings(given: Iterable[str], allowed: Sequence[str], where: str, kind: str) -> None:
    """Check names as `_check_names` does; options of a setting are checked with it, since they depend on its name."""
    for name in given:
        if "." in name and options.part_of(name) in allowed:
            continue
        owners = [part for part in options.PARTS if any(name in own for own in options.names_of(part).values())]
        if name not in allowed and owners:
            raise UserError(f"{where}: {name!r} is an option of the {owners[0]}: call it {owners[0]}.{name}")
        _check_names([name], allowed, where, kind)


def first_mistake(error: ValidationError) -> str:
    """Return in a line where the first mistake is and what it is."""
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"] if part not in UNION_PARTS)
    message = problem["msg"].removeprefix("Value error, ")
    got = f", got {problem['input']!r}" if problem["type"] not in ("value_error", "missing") else ""
    return f"{place}: {message}{got}" if place else message


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
