"""How a study names its data set: a known name, or where data of one's own lies and how it is divided.

dataset: mnist                                                 # known: mnist, fashion-mnist, mnist-5k, cifar10, cifar100
dataset: {folder: photos, size: [64, 64], color: rgb}          # one folder a class; or train/, validation/, test/
dataset: {npz: data.npz}                                       # x_train, y_train, x_test, y_test; or x and y
dataset: my_data.py:load                                       # a function that returns such a dict
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from pipelines.datasets.dataset import Dataset
from pipelines.datasets.known import KNOWN
from pipelines.errors import UserError, nearest

Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
LARGEST_SIDE = 4096  # pixels
LONGEST_NAME = 100  # characters
FUNCTION = re.compile(r"(?P<file>.+\.py)(:(?P<function>[A-Za-z_]\w*))?")
LOAD = "load"  # the function of a file where none is named


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Found(_Strict):
    """What a data set of one's own was when it was read: later readings must find the same."""

    digest: str
    test_examples: int
    comparable: bool
    classes: int  # 0: numbers are predicted


class KnownDataset(_Strict):
    """A data set that the project knows by its name."""

    name: str

    @model_serializer
    def content(self) -> str:
        """Return it as a study file says it."""
        return self.name

    @property
    def comparable(self) -> bool:
        """Whether its test examples are those of published results."""
        return KNOWN[self.name].comparable

    @property
    def test_examples(self) -> int:
        """How many test examples it has."""
        return KNOWN[self.name].test_examples

    @property
    def identity(self) -> Any:
        """What makes it this data set, as plain data."""
        return self.name

    def found_as(self, dataset: Dataset) -> Self:
        """Return it as it is: its digest is known."""
        return self

    def placed(self, folders: Sequence[Path]) -> Self:
        """Return it as it is."""
        return self

    def predicting_numbers(self) -> Self:
        """Return it as it is: whoever trains on it takes its labels for numbers."""
        return self


class OwnDataset(_Strict):
    """Data of one's own: what is common to all kinds.

    `validation`, `test`: shares of the examples that are held out, where the data does not say. `comparable`: whether its test
    examples are those of published results; if not given, whether the data came with test examples. `labels`: whether these
    are classes or numbers to predict, where they could be either. `found`: noted when a study begins.
    """

    given_name: str | None = Field(None, alias="name")
    validation: Share = 0.15
    test: Share = 0.15
    given_comparable: bool | None = Field(None, alias="comparable")
    labels: Literal["classes", "numbers"] | None = None
    found: Found | None = None

    @field_validator("given_name")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"\w[\w .-]{0,99}", name):
            raise ValueError(f"{name!r} is not a name: expected letters, digits, spaces, dots and dashes, 100 at most")
        if name in KNOWN:
            raise ValueError(f"{name!r} is a known data set: give yours another name")
        return name

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation:g} and test {self.test:g} leave nothing to train on")
        return self

    @model_serializer
    def content(self) -> dict[str, Any]:
        """Return it as a study file says it, what is as by default left out."""
        fields = type(self).model_fields
        given = {field.alias or name: getattr(self, name) for name, field in fields.items()}
        plain = {name: _plain(value) for name, value in given.items()}
        default = {field.alias or name: field.default for name, field in fields.items()}
        return {name: value for name, value in plain.items() if value != _plain(default[name])}

    @property
    def place(self) -> str:
        """Where it lies, as the study says it."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """What it is called: by the study, or as its place is."""
        stem = re.sub(r"[^\w .-]", "_", Path(os.path.expandvars(self.place)).stem or "data")[:LONGEST_NAME]
        return self.given_name or (f"own-{stem}" if stem in KNOWN else stem)

    @property
    def comparable(self) -> bool:
        """Whether its test examples are those of published results, so far as is known."""
        return bool(self.found and self.found.comparable)

    @property
    def test_examples(self) -> int:
        """How many test examples it has; 0 before it was read."""
        return self.found.test_examples if self.found else 0

    @property
    def identity(self) -> Any:
        """What makes it this data set, as plain data: not where it lies."""
        kept = {name: value for name, value in self.content().items() if name not in (*PLACES, "found", "comparable")}
        return {**kept, "digest": self.found.digest if self.found else None}

    def found_as(self, dataset: Dataset) -> Self:
        """Return it with what was found when it was read."""
        found = Found(
            digest=dataset.digest,
            test_examples=len(dataset.test),
            comparable=dataset.comparable,
            classes=len(dataset.classes),
        )
        return self.model_copy(update={"found": found})

    def placed(self, folders: Sequence[Path]) -> Self:
        """Return it with its place made absolute, looked for in each of `folders`; `${VARIABLE}` stays as it is."""
        (key,) = (name for name in PLACES if name in type(self).model_fields)
        place = getattr(self, key)
        if "$" in place or Path(place).expanduser().is_absolute():
            return self
        places = [folder / place for folder in folders]
        there = next((each for each in places if os.path.exists(_file_of(str(each)))), None)  # noqa: PTH110
        return self.model_copy(update={key: os.path.abspath(there or places[0])})  # noqa: PTH100 - a link keeps its name

    def predicting_numbers(self) -> Self:
        """Return it with labels that are numbers to predict, unless it says what they are."""
        return self if self.labels else self.model_copy(update={"labels": "numbers"})

    def path(self, place: str | None = None) -> Path:
        """Return where it lies here; raises UserError for a variable that is not set."""
        expanded = os.path.expandvars(place or self.place)
        if left := re.search(r"\$\{?(\w+)\}?", expanded):
            raise UserError(
                f"dataset: {place or self.place} names the variable {left[1]}, which is not set: set it to a folder"
            )
        return Path(expanded).expanduser().absolute()


class FolderDataset(OwnDataset):
    """A folder of images, one folder a class; or one of the parts train/, validation/ and test/, each with such folders.

    `size`: height and width that images get; needed where they differ. `fit`: how those of other proportions do: their middle
    (crop), with black at the sides (pad), or distorted (stretch). `groups`: a pattern on file names; images for which it finds
    the same text (its first group, if it has one) stay in one part.
    """

    folder: str
    size: tuple[int, int] | None = None
    color: Literal["rgb", "grey"] = "rgb"
    fit: Literal["crop", "pad", "stretch"] = "crop"
    groups: str | None = None
    skip_unreadable: bool = False

    @field_validator("size", mode="before")
    @classmethod
    def _check_size(cls, size: Any) -> Any:
        if size is None:
            return None
        sides = size if isinstance(size, list | tuple) else [size, size]
        if len(sides) != 2 or not all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in sides):
            raise ValueError(f"expected [height, width] in pixels, 1 to {LARGEST_SIDE}, got {size!r}")
        return tuple(sides)

    @field_validator("groups")
    @classmethod
    def _check_groups(cls, groups: str | None) -> str | None:
        try:
            re.compile(groups or "")
        except re.error as error:
            raise ValueError(f"{groups!r} is not a regular expression ({error})") from error
        return groups

    @property
    def place(self) -> str:
        """The folder."""
        return self.folder


class NpzDataset(OwnDataset):
    """An `.npz` archive with x_train, y_train, x_test, y_test (x_validation, y_validation), or x and y; see `arrays`."""

    npz: str

    @property
    def place(self) -> str:
        """The archive."""
        return self.npz


class FunctionDataset(OwnDataset):
    """A function of a Python file that returns such arrays as a dict; `load` if none is named."""

    function: str

    @field_validator("function")
    @classmethod
    def _check_function(cls, function: str) -> str:
        if not FUNCTION.fullmatch(function):
            raise ValueError(f"{function!r} is not a function of a file: expected my_data.py:load")
        return function

    @property
    def place(self) -> str:
        """The file, without the function."""
        found = FUNCTION.fullmatch(self.function)
        assert found
        return found["file"]

    @property
    def function_name(self) -> str:
        """The function."""
        found = FUNCTION.fullmatch(self.function)
        return (found and found["function"]) or LOAD


class ArraysDataset(OwnDataset):
    """Arrays that were given from Python: kept with the results, since they lie nowhere else."""

    arrays: str  # what they are called

    @property
    def place(self) -> str:
        """Their name."""
        return self.arrays

    def placed(self, folders: Sequence[Path]) -> Self:
        """Return it as it is: it lies with the results."""
        return self


KINDS: dict[str, type[OwnDataset]] = {
    "folder": FolderDataset,
    "npz": NpzDataset,
    "function": FunctionDataset,
    "arrays": ArraysDataset,
}
PLACES = tuple(KINDS)
Spec = KnownDataset | OwnDataset


def parse(value: Any) -> Spec:
    """Return what a study says of its data set; raises UserError in one line for what it cannot be."""
    if isinstance(value, KnownDataset | OwnDataset):
        return value
    if isinstance(value, str):
        return _parse_text(value)
    if not isinstance(value, Mapping):
        raise UserError(f"expected a name, or keys and values (folder, npz or function), got {value!r}")
    kinds = [kind for kind in KINDS if kind in value]
    if len(kinds) != 1:
        hint = nearest(next(map(str, value), ""), KINDS)
        raise UserError(f"expected one of {', '.join(KINDS)} and its options, got {dict(value)!r}{hint}")
    kind = KINDS[kinds[0]]
    known = [field.alias or name for name, field in kind.model_fields.items()]
    for key in value:
        if key not in known:
            raise UserError(
                f"{key!r} is not an option of {kinds[0]}{nearest(str(key), known)}; known: {', '.join(known)}"
            )
    try:
        return kind(**value)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        said = problem["msg"].removeprefix("Value error, ")
        got = "" if problem["type"] == "value_error" else f", got {problem['input']!r}"
        raise UserError(f"{place}: {said}{got}" if place else said) from error


def _parse_text(text: str) -> Spec:
    if text in KNOWN:
        return KnownDataset(name=text)
    if text.startswith("{"):  # as a run's parameters have it
        try:
            return parse(json.loads(text))
        except ValueError as error:
            raise UserError(f"{text!r} is not a data set ({error})") from error
    if text.endswith(".npz"):
        return parse({"npz": text})
    if FUNCTION.fullmatch(text):
        return parse({"function": text})
    if "/" in text or "\\" in text:
        return parse({"folder": text})
    raise UserError(
        f"{text!r} is unknown{nearest(text, KNOWN)}; expected one of {', '.join(KNOWN)}, {{folder: …}}, {{npz: …}}, or a "
        "function my_data.py:load"
    )


def _file_of(place: str) -> str:
    """Return the file or folder of a place, without a function's name."""
    function = FUNCTION.fullmatch(place)
    return function["file"] if function else place


def _validated(value: Any) -> Spec:
    try:
        return parse(value)
    except UserError as error:
        raise ValueError(str(error)) from error


SpecField = Annotated[  # of another model
    KnownDataset | OwnDataset, BeforeValidator(_validated), PlainSerializer(lambda spec: spec.content())
]


def as_text(spec: Spec) -> str:
    """Return it as a run's parameters have it: the name of a known one, else as JSON."""
    content = spec.content()
    return content if isinstance(content, str) else json.dumps(content)


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else list(value) if isinstance(value, tuple) else value
