"""Folders of images become data sets, whatever lies in them; what cannot is one clear line, and nothing is written."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines import datasets
from pipelines.datasets import cache, decode, folder
from pipelines.errors import UserError

Make = Callable[..., Path]


def photo(path: Path, seed: int, size: tuple[int, int] = (12, 12), mode: str = "RGB", **options: Any) -> None:
    """Write an image of noise, no two alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(path, **options)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of twenty photographs."""
    for number in range(40):
        photo(tmp_path / "photos" / ("cats", "dogs")[number % 2] / f"{number:02}.png", number)
    return tmp_path / "photos"


def load(place: Path, **options: Any) -> datasets.Dataset:
    return datasets.load({"folder": str(place), **options})


def test_one_folder_a_class(photos: Path) -> None:
    dataset = load(photos)
    assert dataset.classes == ("cats", "dogs") and dataset.shape == (12, 12, 3) and dataset.has_images
    assert [len(part) for part in dataset.parts.values()] == [28, 6, 6]
    assert [np.bincount(part.y).tolist() for part in dataset.parts.values()] == [[14, 14], [3, 3], [3, 3]]
    assert not dataset.comparable and dataset.remarks == ()
    of_class = {tuple(np.asarray(Image.open(path)).ravel()): path.parent.name for path in photos.rglob("*.png")}
    for part in dataset.parts.values():
        for image, label in zip(part.x, part.y, strict=True):
            assert of_class.pop(tuple(image.ravel())) == dataset.classes[label]
    assert not of_class


def test_parts_in_folders_stay_apart_and_are_comparable(tmp_path: Path) -> None:
    for number in range(30):
        part, label = ("train", "val", "test")[number % 3], ("a", "b")[number % 2]
        photo(tmp_path / "photos" / part / label / f"{number}.png", number)
    dataset = load(tmp_path / "photos")
    assert [len(part) for part in dataset.parts.values()] == [10, 10, 10] and dataset.comparable
    assert not load(tmp_path / "photos", comparable=False).comparable
    first = np.asarray(Image.open(tmp_path / "photos/test/a/2.png"))
    assert (np.asarray(dataset.test.x) == first).all(axis=(1, 2, 3)).any()


def test_what_the_eye_sees(tmp_path: Path) -> None:
    red = np.zeros((8, 16, 3), np.uint8)
    red[:, 8:] = (255, 0, 0)  # the right half
    image = Image.fromarray(red)
    turned = image.rotate(90, expand=True)  # as a camera held upright keeps it
    exif = Image.Exif()
    exif[decode.ORIENTATION] = 6  # turn clockwise to see it
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    image.convert("CMYK").save(tmp_path / "print.JPG", quality=95)
    image.quantize(4).save(tmp_path / "palette.GIF")
    image.save(tmp_path / "plain.bmp")
    image.save(tmp_path / "web.webp", lossless=True)
    for path in tmp_path.iterdir():
        found = decode.read(path, (8, 16, 3), "crop").astype(int)
        assert np.abs(found - red).mean() < 4, path.name
        assert decode.size_of(path) == (8, 16), path.name
    see_through = np.zeros((8, 8, 4), np.uint8)
    see_through[:4, :, :3], see_through[:4, :, 3] = 10, 255
    Image.fromarray(see_through).save(tmp_path / "alpha.png")
    found = decode.read(tmp_path / "alpha.png", (8, 8, 1), "crop")
    assert found[0, 0, 0] == 10 and found[7, 7, 0] == 255  # on white paper
    Image.fromarray(np.full((8, 8), 30_000, np.uint16)).save(tmp_path / "deep.png")
    assert decode.read(tmp_path / "deep.png", (8, 8, 1), "crop").max() == round(30_000 / 257)


def test_images_of_other_proportions_are_cropped_padded_or_stretched(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, :10], wide[:, 10:20], wide[:, 20:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    crop, pad, stretch = (decode.read(tmp_path / "wide.png", (10, 10, 3), fit) for fit in ("crop", "pad", "stretch"))
    assert (crop == (0, 255, 0)).all()
    assert (pad[0] == 0).all() and pad[5, 0, 0] > 200 and pad[5, 9, 2] > 200
    assert stretch[0, 0, 0] > 200 and stretch[0, 5, 1] > 100 and stretch[0, 9, 2] > 200


def test_what_is_no_image_is_passed_over_and_links_are_not_followed_out(photos: Path, tmp_path: Path) -> None:
    (photos / "cats" / "notes.txt").write_text("of cats")
    (photos / "cats" / ".hidden.png").write_bytes(b"")
    (photos / ".DS_Store").write_bytes(b"")
    photo(tmp_path / "elsewhere" / "secret.png", 99)
    (photos / "cats" / "link.png").symlink_to(tmp_path / "elsewhere" / "secret.png")
    (photos / "birds").symlink_to(tmp_path / "elsewhere")
    (photos / "cats" / "circle").symlink_to(photos)
    photo(photos / "cats" / "deeper" / "kitten.png", 100)
    dataset = load(photos)
    assert dataset.classes == ("cats", "dogs") and sum(map(len, dataset.parts.values())) == 41
    assert dataset.remarks == (
        "passed over: 1 files that are not images",
        "passed over: 1 links that lead out of the folder",
        "passed over: 2 links that lead out of the folder, or to folders",
    )


def test_class_folders_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    for number in range(24):
        photo(tmp_path / "digits" / str(number % 12) / f"{number}.png", number)
        photo(tmp_path / "digits" / str(number % 12) / f"{number}b.png", number + 50)
    assert load(tmp_path / "digits", validation=0.25, test=0.25).classes == tuple(map(str, range(12)))


def test_groups_stay_in_one_part(tmp_path: Path) -> None:
    for number in range(60):
        photo(tmp_path / "photos" / ("a", "b")[number % 2] / f"person{number % 15:02}_{number}.png", number)
    dataset = load(tmp_path / "photos", groups=r"person(\d+)_", validation=0.2, test=0.2)
    files = {Image.open(path).tobytes(): path.name[:8] for path in (tmp_path / "photos").rglob("*.png")}
    people = [{files[image.tobytes()] for image in np.asarray(part.x)} for part in dataset.parts.values()]
    assert all(people) and len(set().union(*people)) == sum(map(len, people)) == 15


def test_equal_images_in_two_parts_are_counted(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for number in range(8):
            photo(tmp_path / "photos" / part / ("a", "b")[number % 2] / f"{number}.png", number)
    dataset = load(tmp_path / "photos", validation=0.5)
    assert dataset.remarks == (
        "4 test examples are equal to one of the train part",
        "4 test examples are equal to one of the validation part",
    )


def test_the_digest_is_of_the_images_and_a_look_finds_it_without_reading_them(
    photos: Path, monkeypatch: pytest.MonkeyPatch, outputs: Path
) -> None:
    first = load(photos)
    decoded = []
    monkeypatch.setattr(folder, "read", lambda path, *rest: decoded.append(path) or decode.read(path, *rest))
    assert load(photos).digest == first.digest and not decoded
    os.utime(photos / "cats" / "00.png", (1, 1))
    assert load(photos).digest == first.digest and len(decoded) == 40  # looked at again, and it is the same
    moved = photos.rename(photos.with_name("moved"))
    assert load(moved, name="photos").digest == first.digest
    photo(moved / "cats" / "00.png", 777)
    assert load(moved).digest != first.digest
    assert sorted(
        path.name for path in (outputs / "datasets").iterdir() if not path.name.startswith("index")
    ) == sorted([first.digest, load(moved).digest])


def test_a_variable_may_stand_in_the_path(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOS", str(photos))
    assert datasets.load({"folder": "${PHOTOS}"}).name == "photos"
    with pytest.raises(UserError, match=r"names the variable NOWHERE, which is not set"):
        datasets.load({"folder": "${NOWHERE}/photos"})


def test_unreadable_images_are_named_and_may_be_left_out(photos: Path) -> None:
    (photos / "cats" / "00.png").write_bytes((photos / "cats" / "00.png").read_bytes()[:60])
    (photos / "dogs" / "01.png").write_text("not an image")
    with pytest.raises(
        UserError, match=r"cats/00.png, dogs/01.png cannot be read as images \(2 of 40\): mend or remove"
    ):
        load(photos)
    dataset = load(photos, skip_unreadable=True)
    assert sum(map(len, dataset.parts.values())) == 38
    assert dataset.remarks == ("passed over: 2 unreadable images (cats/00.png, dogs/01.png)",)


def empty(place: Path) -> None:
    for path in place.rglob("*.png"):
        path.unlink()


def one_class(place: Path) -> None:
    for path in (place / "dogs").iterdir():
        path.unlink()
    (place / "dogs").rmdir()


def few(place: Path) -> None:
    for path in sorted((place / "dogs").iterdir())[2:]:
        path.unlink()


WRONG: dict[str, tuple[Callable[[Path], Any], dict[str, Any], str]] = {
    "no folder": (lambda place: place.rename(place.with_name("gone")), {}, "there is no folder .*photos: expected one"),
    "no classes": (lambda place: [one_class(place), empty(place), (place / "cats").rmdir()], {}, "has no folders"),
    "an empty class": (lambda place: (place / "birds").mkdir(), {}, "class folder 'birds' has no image"),
    "one class": (one_class, {}, r"have one class only \('cats'\): expected at least two"),
    "too few": (few, {}, r"class 'dogs' has 2 to be divided into 3 parts: give at least 3"),
    "parts and classes": (
        lambda place: (place / "train").mkdir(),
        {},
        "has train/ and cats, dogs: expected one folder",
    ),
    "sizes": (
        lambda place: photo(place / "cats" / "big.png", 1, (20, 30)),
        {},
        r"have 2 sizes, from 12 × 12 to 20 × 30",
    ),
    "an unknown option": (
        lambda _: None,
        {"sise": [8, 8]},
        r"'sise' is not an option of folder \(did you mean 'size'\?\)",
    ),
    "a size of words": (lambda _: None, {"size": "large"}, r"size: expected \[height, width\] in pixels"),
    "a size of nothing": (lambda _: None, {"size": [0, 8]}, r"size: expected \[height, width\] in pixels"),
    "a wrong share": (lambda _: None, {"test": 1.5}, "test: Input should be less than 1, got 1.5"),
    "shares of all": (lambda _: None, {"test": 0.6, "validation": 0.5}, "leave nothing to train on"),
    "no pattern": (lambda _: None, {"groups": "("}, "is not a regular expression"),
    "a pattern of nothing": (lambda _: None, {"groups": "zebra"}, "'zebra' is found in no file name, such as '00.png'"),
    "a known name": (lambda _: None, {"name": "mnist"}, "is a known data set: give yours another name"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_folder_is_one_line_and_nothing_is_written(what: str, photos: Path, outputs: Path) -> None:
    spoil, options, words = WRONG[what]
    spoil(photos)
    with pytest.raises(UserError, match=words) as told:
        load(photos, **options)
    assert "\n" not in str(told.value)
    assert not outputs.exists()


def test_a_full_disk_is_said_before_anything_is_decoded(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SPARE", 2**60)
    with pytest.raises(
        UserError, match=r"needs 0.0 GiB in .*datasets, and the disk has .*: make room, or set MLRUNS_DIR"
    ):
        load(photos)


def test_a_damaged_copy_in_the_cache_says_how_to_mend_it(photos: Path, outputs: Path) -> None:
    digest = load(photos).digest
    (outputs / "datasets" / digest / "y.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match=r"is damaged .*: delete that folder, and it is made again"):
        load(photos)


def test_a_link_to_itself_and_a_broken_head_are_passed_over_or_named(photos: Path) -> None:
    (photos / "cats" / "loop.png").symlink_to(photos / "cats" / "loop.png")
    assert load(photos).remarks == ("passed over: 1 links that lead out of the folder, or to folders",)
    exif = Image.Exif()
    exif[decode.ORIENTATION] = 6
    photo(photos / "cats" / "odd.jpg", 500, exif=exif)
    content = (photos / "cats" / "odd.jpg").read_bytes()
    at = content.index(b"Exif")
    (photos / "cats" / "odd.jpg").write_bytes(content[: at + 10] + b"\xff\xff" + content[at + 12 :])
    try:
        assert sum(map(len, load(photos).parts.values())) == 41
    except UserError as error:
        assert "odd.jpg cannot be read" in str(error)


def test_groups_that_cannot_be_divided_are_one_line(tmp_path: Path) -> None:
    for number in range(20):
        photo(tmp_path / "photos" / "abcd"[number % 4] / f"p{number // 2:02}_{number}.png", number)
    with pytest.raises(UserError, match="groups cannot be divided") as told:
        load(tmp_path / "photos", groups=r"p(\d+)_")
    assert "\n" not in str(told.value)
