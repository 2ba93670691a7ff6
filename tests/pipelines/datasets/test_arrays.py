"""Arrays of any shape become data sets: from archives, functions and Python; what cannot is one clear line."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import datasets
from pipelines.datasets import arrays, labels
from pipelines.datasets.spec import KnownDataset, NpzDataset, as_text, parse
from pipelines.errors import UserError

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (60, 6, 6, 3), np.uint8), np.arange(60) % 3


def of_arrays(found: Any, **options: Any) -> datasets.Dataset:
    return datasets.load(datasets.of_arrays(found, "mine", **options))


def of_npz(found: dict[str, Any], tmp_path: Path, **options: Any) -> datasets.Dataset:
    np.savez(tmp_path / "data.npz", **found)
    return datasets.load({"npz": str(tmp_path / "data.npz"), **options})


def of_function(found: dict[str, Any], tmp_path: Path, **options: Any) -> datasets.Dataset:
    np.savez(tmp_path / "for_function.npz", **found)
    (tmp_path / "my_data.py").write_text(
        "import numpy as np\ndef load():\n    return dict(np.load('for_function.npz', allow_pickle=True))\n"
    )
    return datasets.load({"function": f"{tmp_path}/my_data.py:load", **options})


def rows(*parts: datasets.Examples) -> list[bytes]:
    return sorted(np.asarray(x).tobytes() + bytes([y]) for part in parts for x, y in zip(part.x, part.y, strict=True))


def test_every_way_leads_to_the_same_data_set(tmp_path: Path) -> None:
    found = [of_arrays((X, Y)), of_npz({"x": X, "y": Y}, tmp_path), of_function({"x": X, "y": Y}, tmp_path)]
    assert len({each.digest for each in found}) == 1
    assert [each.name for each in found] == ["mine", "data", "my_data"]
    assert [len(part) for part in found[0].parts.values()] == [42, 9, 9]
    assert rows(*found[0].parts.values()) == sorted(x.tobytes() + bytes([y]) for x, y in zip(X, Y, strict=True))


def test_given_parts_stay_and_missing_ones_are_held_out() -> None:
    given = {"x_train": X[:40], "y_train": Y[:40], "x_test": X[40:], "y_test": Y[40:]}
    dataset = of_arrays(given)
    assert [len(part) for part in dataset.parts.values()] == [34, 6, 20] and dataset.comparable
    np.testing.assert_array_equal(dataset.test.x, X[40:])
    for other in ((X[:40], Y[:40], X[40:], Y[40:]), ((X[:40], Y[:40]), (X[40:], Y[40:]))):
        assert of_arrays(other).digest == dataset.digest
    given |= {"x_validation": X[30:40], "y_validation": Y[30:40], "x_train": X[:30], "y_train": Y[:30]}
    dataset = of_arrays(given)
    np.testing.assert_array_equal(dataset.validation.x, X[30:40])
    np.testing.assert_array_equal(dataset.train.x, X[:30])


LABELS: dict[str, tuple[Any, tuple[str, ...], list[float]]] = {
    "numbers": ([0, 1, 2, 1], ("0", "1", "2"), [0, 1, 2, 1]),
    "in a column": ([[0], [1], [2], [1]], ("0", "1", "2"), [0, 1, 2, 1]),
    "whole floats": ([0.0, 1.0, 2.0, 1.0], ("0", "1", "2"), [0, 1, 2, 1]),
    "numbers with gaps": ([3, 7, -1, 7], ("-1", "3", "7"), [1, 2, 0, 2]),
    "words": (["b", "a", "c", "a"], ("a", "b", "c"), [1, 0, 2, 0]),
    "one-hot": ([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]], ("0", "1", "2"), [0, 1, 2, 1]),
    "truth values": ([False, True, True, False], ("0", "1"), [0, 1, 1, 0]),
    "fractions": ([0.5, 1.5, 2.5, 1.5], (), [0.5, 1.5, 2.5, 1.5]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_as_people_keep_them(kind: str) -> None:
    given, names, numbers = LABELS[kind]
    y, classes = labels.encode(np.array(given), None, None, "y")
    assert (classes, y.tolist()) == (names, numbers)
    assert y.dtype == (np.uint8 if names else np.float32)


def test_numbers_are_predicted_where_that_is_said(tmp_path: Path) -> None:
    dataset = of_npz({"x": RNG.normal(size=(40, 5)), "y": np.arange(40)}, tmp_path, labels="numbers")
    assert dataset.classes == () and dataset.train.y.dtype == np.float32 and dataset.shape == (5,)
    assert not dataset.has_images and "with numbers to predict" in dataset.summary()
    assert sorted(y for part in dataset.parts.values() for y in part.y) == list(range(40))


def test_thousands_of_classes_and_names_of_ones_own() -> None:
    y = np.repeat(np.arange(2_000), 4)
    x = np.zeros((8_000, 1), np.float32)
    with pytest.raises(UserError, match=r"of each of 2,000 classes: make the part smaller"):
        of_arrays({"x": x, "y": y}, test=0.4, validation=0.4)
    dataset = of_arrays({"x": x, "y": y}, test=0.25, validation=0.25)
    assert len(dataset.classes) == 2_000 and dataset.train.y.dtype == np.uint16
    named = of_arrays({"x": X, "y": Y, "classes": ["red", "green", "blue"]})
    assert named.classes == ("red", "green", "blue")


def test_grey_images_get_a_channel_and_other_numbers_become_floats() -> None:
    assert of_arrays((X[..., 0], Y)).shape == (6, 6, 1)
    assert of_arrays((X[..., 0].astype(float), Y)).shape == (6, 6)  # no images: a model takes them as they are
    assert of_arrays((np.arange(60), Y)).shape == (1,)
    assert of_arrays((X.astype(np.int64), Y)).train.x.dtype == np.float32


def test_groups_of_arrays_stay_in_one_part() -> None:
    groups = np.arange(60) // 4
    dataset = of_arrays({"x": np.arange(60.0), "y": Y, "groups": groups}, validation=0.2, test=0.2)
    found = [{int(x[0]) // 4 for x in part.x} for part in dataset.parts.values()]
    assert all(found) and sum(map(len, found)) == 15


def test_groups_stay_in_one_fold() -> None:
    groups = np.array([f"person {number}" for number in np.arange(60) // 4])
    spec = datasets.of_arrays({"x": np.arange(60.0), "y": Y, "groups": groups}, "mine", validation=0.2, test=0.2)
    whole = datasets.load(spec)
    folds = [datasets.fold(spec, number, 3) for number in range(3)]
    for fold in folds:
        people = [{int(x[0]) // 4 for x in part.x[:]} for part in (fold.train, fold.validation)]
        assert people[1] and not people[0] & people[1]
        assert len(fold.train) + len(fold.validation) == len(whole.train) + len(whole.validation)
        assert np.bincount(fold.validation.y, minlength=3).min() > 0
        np.testing.assert_array_equal(fold.test.x, whole.test.x)
    held_out = sorted(float(x[0]) for fold in folds for x in fold.validation.x[:])
    assert held_out == sorted(float(x[0]) for part in (whole.train, whole.validation) for x in part.x[:])
    again = datasets.load({"arrays": "mine", "validation": 0.2, "test": 0.2, "found": spec.found})
    np.testing.assert_array_equal(again.train.groups, whole.train.groups)
    with pytest.raises(UserError, match="12 groups cannot be divided into 13 folds: give fewer folds"):
        datasets.fold(spec, 0, 13)
    numbers = datasets.of_arrays({"x": np.arange(60.0), "y": np.arange(60) / 7, "groups": groups}, "mine")
    people = [
        {int(x[0]) // 4 for x in p.x[:]}
        for p in (datasets.fold(numbers, 1, 3).train, datasets.fold(numbers, 1, 3).validation)
    ]
    assert people[1] and not people[0] & people[1]
    given = {"x_train": np.arange(40.0), "y_train": Y[:40], "x_validation": np.arange(20.0), "y_validation": Y[:20]}
    spec = datasets.of_arrays(given | {"groups": groups[:40]}, "mine")
    with pytest.raises(UserError, match="has validation examples of no known group, so it has no folds"):
        datasets.fold(spec, 0, 3)


class Broken:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("on another device")


WRONG: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "expected either x_train and y_train, or x and y; got nothing"),
    "a word": ("mine", "expected a dict with x_train, y_train, x_test and y_test, or x and y"),
    "three": ((X, Y, X), "expected a dict with .*; got a tuple of 3"),
    "an unknown key": ({"x": X, "y": Y, "x_tset": X}, r"'x_tset' is not known \(did you mean 'x_test'\?\)"),
    "x alone": ({"x": X}, "x and y go together, and y of the train part is missing"),
    "a test part without labels": ({"x_train": X, "y_train": Y, "x_test": X}, "and y of the test part is missing"),
    "too few labels": ((X, Y[:9]), "x has 60 examples and y 9 labels"),
    "no examples": ((X[:0], Y[:0]), "x has no examples"),
    "two examples": ((X[:2], Y[:2]), r"class '0' has 1 to be divided into 3 parts, and 1 others too few"),
    "other shapes": ((X, Y, X[:, :5], Y), r"x_train have shape \(6, 6, 3\), and of x_test \(5, 6, 3\)"),
    "other types": ((X, Y, X / 255, Y), "x_train is uint8 and x_test float64: expected one type"),
    "ragged": ((np.array([[1], [2, 3]] * 30, object), Y), "x holds objects"),
    "texts": ((np.array(["a"] * 60), Y), "x holds <U1: expected numbers"),
    "channels first": ((RNG.integers(0, 9, (60, 3, 8, 8), np.uint8), Y), r"channels first: .*transpose\(0, 2, 3, 1\)"),
    "NaN": ((np.where(np.arange(60) < 3, np.nan, 1.0), Y), "3 examples have values that are NaN or infinite"),
    "labels that are NaN": ((X, np.where(Y == 1, np.nan, Y)), "20 that are NaN or infinite"),
    "one class": ((X, Y * 0), r"one class only \('0'\)"),
    "rows that are not one-hot": ((X, np.eye(3)[Y] + 1), "are not one-hot rows"),
    "labels of three axes": ((X, np.zeros((60, 2, 2), int)), r"have shape \(60, 2, 2\)"),
    "labels of another kind": ((X, Y, X, [str(y) for y in Y]), "y_train and y_test differ in kind or shape"),
    "complex labels": ((X, Y + 1j), "are complex128"),
    "mixed labels": ((X, np.array(["a", 1] * 30, object)), "are neither words nor numbers"),
    "too few names": ({"x": X, "y": Y, "classes": ["a", "b"]}, "have the class 2, and classes has 2 names"),
    "names twice": ({"x": X, "y": Y, "classes": ["a", "b", "a"]}, "classes has a name twice"),
    "a class in the test part alone": ((X, Y, X[:3], [0, 1, 5]), "class '5' has no training example"),
    "too few groups": ({"x": X, "y": Y, "groups": Y}, "3 groups cannot be divided"),
    "groups of others": ({"x": X, "y": Y, "groups": Y[:5]}, "groups has 5 entries for 60 examples"),
    "no array": ((Broken(), Y), r"x is not an array \(on another device\)"),
    "a number": ((3, Y), "x is 3, not an array"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_arrays_are_one_line_and_nothing_is_written(what: str, outputs: Path) -> None:
    found, words = WRONG[what]
    with pytest.raises(UserError, match=words) as told:
        of_arrays(found)
    assert "\n" not in str(told.value) and not outputs.exists()


def spoiled(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> Path:
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    content = (tmp_path / "data.npz").read_bytes()
    (tmp_path / "data.npz").write_bytes(spoil(content))
    return tmp_path / "data.npz"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:500],
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],  # the archive's checksum says so
        lambda content: b"",
        lambda content: b"PK\x03\x04 no archive",
        lambda content: b"\x93NUMPY" + content[6:60],
    ],
)
def test_a_damaged_archive_is_one_line(tmp_path: Path, outputs: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = spoiled(tmp_path, spoil)
    with pytest.raises(UserError, match=r"data.npz cannot be read .*: expected an archive as np.savez writes it"):
        datasets.load({"npz": str(path)})
    assert not outputs.exists()


def test_archives_of_other_contents_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x is pickled, and pickles are not read"):
        of_npz({"x": np.array([[1], [2, 3]], object), "y": np.array([0, 1])}, tmp_path)
    with pytest.raises(UserError, match=r"x lies in Fortran's order: save np.ascontiguousarray\(x\)"):
        of_npz({"x": np.asfortranarray(X), "y": Y}, tmp_path)
    with pytest.raises(UserError, match=r"'images' is not known; expected x, y"):
        of_npz({"images": X, "y": Y}, tmp_path)
    with pytest.raises(UserError, match=r"nowhere.npz cannot be read \(No such file or directory\)"):
        datasets.load({"npz": "nowhere.npz"})
    np.savez_compressed(tmp_path / "data.npz", x=X, y=Y)
    with zipfile.ZipFile(tmp_path / "data.npz", "a") as archive:
        archive.writestr("notes.txt", "mine")
    with pytest.raises(UserError, match=r"'notes.txt' is not known"):
        datasets.load({"npz": str(tmp_path / "data.npz")})


def test_an_archive_that_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = of_npz({"x": X, "y": Y}, tmp_path)
    monkeypatch.setattr(arrays, "finish", None)
    assert datasets.load({"npz": str(tmp_path / "data.npz")}).digest == first.digest
    assert type(first.train.x) is datasets.Rows


FUNCTIONS = {
    "def load():\n    raise KeyError('no such file')": r"my_data.py:load raises KeyError: 'no such file' \(my_data.py:2\)",
    "def load():\n    return 7": "my_data.py:load: expected a dict with .* got a int",
    "def load(path):\n    return {}": r"my_data.py:load raises TypeError: load\(\) missing 1 required",
    "def other():\n    return {}": "has no function load: expected one that returns a dict of arrays",
    "load = 3": "has no function load",
    "import nowhere\ndef load(): pass": "needs nowhere, which is not installed",
    "def load(:": r"my_data.py:1 is not valid Python",
}


@pytest.mark.parametrize("text", FUNCTIONS)
def test_a_function_that_returns_no_arrays_is_one_line(text: str, tmp_path: Path, outputs: Path) -> None:
    (tmp_path / "my_data.py").write_text(text)
    with pytest.raises(UserError, match=FUNCTIONS[text]):
        datasets.load(f"{tmp_path}/my_data.py:load")
    assert not outputs.exists()


def test_data_that_changed_is_not_what_a_study_began_with(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    begun = parse({"npz": str(path)}).found_as(of_npz({"x": X, "y": Y}, tmp_path))
    np.savez(path, x=255 - X, y=Y)
    assert datasets.load(begun).digest == begun.found.digest  # from the cache: the study can be resumed as it was
    again = parse({"npz": str(path)})
    assert again.found_as(datasets.load(again)).identity != begun.identity
    for kept in (tmp_path / "mlruns" / "datasets" / begun.found.digest).iterdir():
        kept.unlink()
    datasets._kept.cache_clear()
    with pytest.raises(UserError, match=r"data had digest \w+ when it was first read, and .*data.npz has \w+ now"):
        datasets.load(begun)


def test_how_a_study_names_its_data(tmp_path: Path) -> None:
    assert parse("mnist") == KnownDataset(name="mnist") and as_text(parse("mnist")) == "mnist"
    said = {"npz": "${DATA}/mine.npz", "test": 0.2, "name": "mine"}
    assert parse(said).content() == {"name": "mine", "test": 0.2, "npz": "${DATA}/mine.npz"}
    assert parse(as_text(parse(said))) == parse(said)
    (tmp_path / "data.npz").touch()
    placed = parse("data.npz").placed([tmp_path / "nowhere", tmp_path])
    assert isinstance(placed, NpzDataset) and placed.npz == str(tmp_path / "data.npz")
    assert placed.identity == {"digest": None}  # where it lies is no part of it
    for wrong, words in {
        "mnits": r"'mnits' is unknown \(did you mean 'mnist'\?\); expected one of mnist",
        7: "expected a name, or keys and values",
        (): "expected a name, or keys and values",
    }.items():
        with pytest.raises(UserError, match=words):
            parse(wrong)
    with pytest.raises(UserError, match="expected one of folder, npz, function, arrays and its options"):
        parse({"folders": "photos"})
    with pytest.raises(UserError, match="expected one of folder, npz, function, arrays and its options"):
        parse({"folder": "photos", "npz": "data.npz"})


def test_a_place_that_is_called_as_a_known_data_set_is_not_that(tmp_path: Path) -> None:
    assert parse(f"{tmp_path}/mnist.npz").name == "own-mnist"
    assert parse({"folder": "data/cifar10"}).name == "own-cifar10"


def test_where_data_lies_is_no_part_of_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = parse({"folder": "a/photos"}).identity, parse({"folder": "${PHOTOS}/other"}).identity
    assert found[0] == found[1] == {"digest": None}
    assert parse({"folder": "a/photos", "name": "mine"}).identity == {"name": "mine", "digest": None}


def test_a_function_is_looked_for_in_every_folder(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "my_data.py").write_text("def load(): pass")
    spec = parse("my_data.py:load").placed([tmp_path / "studies", tmp_path / "here"])
    assert spec.function == f"{tmp_path}/here/my_data.py:load"


def test_lists_are_arrays_and_groups_are_known(tmp_path: Path) -> None:
    assert of_arrays((X.tolist(), Y.tolist())).digest != of_arrays((X, Y)).digest  # numbers, no bytes
    assert sum(map(len, of_arrays(([[0.5], [1.5], [2.5], [3.5]] * 3, [0, 1] * 6)).parts.values())) == 12
    assert of_arrays({"x": X, "y": Y, "groups": np.arange(60) // 4}, validation=0.2, test=0.2).grouped
    assert not of_arrays((X, Y)).grouped


def test_a_killed_making_is_tidied_up_a_day_later(outputs: Path) -> None:
    left = outputs / "datasets" / ".making-old"
    left.mkdir(parents=True)
    of_arrays((X, Y))
    assert left.exists()
    os.utime(left, (1, 1))
    of_arrays((255 - X, Y))
    assert not left.exists()
    kept = [path for path in (outputs / "datasets").iterdir()]
    assert len(kept) == 2 and all(path.stat().st_mode & 0o055 == 0o055 for path in kept)
