"""What a stored study says of itself: its definition, as it is stored. Neither Optuna nor MLflow is loaded for that."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

import models
from pipelines.errors import UserError
from sweeps.stores import names
from sweeps.study.study import MODEL, Study, as_list


class Described:
    """What a stored study says of itself, by what is remembered of it; whoever reads that."""

    asked: str  # the name that it was asked for by
    study_name: str  # the one that it has in Optuna's storage now

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What Optuna's storage remembers of it."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The name that it began with, by which its files and tags call it; a UI may have given it others."""
        return str(self.attributes.get(names.STUDY, {}).get("name") or self.study_name)

    @property
    def owner(self) -> str | None:
        """The name of the study under whose parent run its runs belong, for a confirmation, a final training or a rerun."""
        return self.attributes.get(names.OWNER)

    def read(self, as_written: bool = False) -> Study:
        """Return its definition, to be read: its model need not be here. `as_written`: with the settings of its file alone."""
        return read_stored(self.asked, self.attributes, as_written)

    def as_begun(self) -> Study:
        """Return its definition as `read` does, with the sampler and the start points that it began with."""
        attributes = self.attributes
        began: dict[str, Any] = {"start": attributes.get(names.DEFINITION, {}).get("start", [])}
        if chosen := attributes.get(names.CHOSEN_SAMPLER):
            began["sampler"] = chosen
        return self.read().model_copy(update=began)


def read_stored(name: str, attributes: Mapping[str, Any], as_written: bool = False) -> Study:
    """Return a study as it is stored, from its `attributes`: to be read, so its model need not be here.

    `as_written`: with the training settings of its file alone, not those of its model's recipe.

    Raises UserError when this version of the program cannot read it.
    """
    if names.STUDY not in attributes:
        raise UserError(f"stored study {name!r} was not made by this program: give yours another name")
    content = dict(attributes[names.STUDY])
    sources = sources_of(attributes, names.SOURCE)
    # One model's source may be referred to in several ways.
    several = MODEL in content["search"]
    content["model_digests"] = {source.reference if several else content["model"]: source.digest for source in sources}
    functions = sources_of(attributes, names.FUNCTIONS)
    content["function_digests"] = {source.reference: source.digest for source in functions}
    for source in functions:  # their options are checked
        models.adopt(source)
    if (
        names.DEFINITION in attributes and not as_written
    ):  # with the settings of its model's recipe, whatever that says now
        content["training"] = attributes[names.DEFINITION]["training"]
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        from sweeps.study.study_file import first_mistake

        raise UserError(f"stored study {name!r} cannot be read by this version ({first_mistake(error)})") from error


def sources_of(attributes: Mapping[str, Any], name: str) -> list[models.Source]:
    """Return the sources that are kept with a study under an attribute; one alone was kept without a list."""
    return [models.Source(**content) for content in as_list(attributes.get(name) or [])]
