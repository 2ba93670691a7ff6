"""What an error is a sign of, and how it is said."""

import errno
import resource
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import (
    LONGEST,
    first_line,
    out_of_memory,
    out_of_space,
    root_cause,
    traceback_of,
    without_passwords,
)


def chained(cause: Exception) -> Exception:
    """Return an error of a library that `cause` led to."""
    try:
        try:
            raise cause
        except Exception as error:
            raise RuntimeError("cannot save") from error
    except RuntimeError as error:
        return error


def test_a_full_disk_is_known_by_what_it_does() -> None:
    with pytest.raises(OSError) as full, open("/dev/full", "wb", buffering=0) as device:  # noqa: PTH123
        device.write(b"x")
    assert out_of_space(full.value) and out_of_space(chained(full.value))
    assert out_of_space(OSError("[Errno 28] Can't write data: No space left on device"))  # as h5py says it
    for other in (OSError(errno.EACCES, "Permission denied"), ValueError("No space left in the search"), KeyError(28)):
        assert not out_of_space(other) and not out_of_space(chained(other))


@pytest.fixture
def little_memory() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**45, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("little_memory")
def test_want_of_memory_is_known_by_what_it_does() -> None:
    with pytest.raises(MemoryError) as none_left:
        np.ones(2**50)
    assert out_of_memory(none_left.value) and out_of_memory(chained(none_left.value))
    assert not out_of_memory(ValueError("1")) and not out_of_memory(chained(ValueError("1")))


@pytest.mark.slow  # it asks for ten seconds
def test_tensorflows_want_of_memory_is_known_too() -> None:
    tensorflow = pytest.importorskip("tensorflow")
    with pytest.raises(tensorflow.errors.ResourceExhaustedError) as exhausted:
        tensorflow.zeros((2**30, 2**20))
    assert out_of_memory(exhausted.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("API request to http://me:s3cret@host:5000/api failed", "API request to http://***@host:5000/api failed"),
        ("postgresql+psycopg2://me:p@ss:w/rd@db/optuna", "postgresql+psycopg2://***@db/optuna"),
        ("postgresql://db/optuna?user=me&password=s3cret&x=1", "postgresql://db/optuna?user=me&password=***&x=1"),
        ("'http://t0ken@host'", "'http://***@host'"),
        ("https://docs.example/page", "https://docs.example/page"),
        ("write to me@example.com", "write to me@example.com"),
        ("mysql://db/optuna?user=me&passwd=s3cret", "mysql://db/optuna?user=me&passwd=***"),
        ("http://me:it's@host", "http://***@host"),
        ("MLFLOW_TRACKING_PASSWORD: s3cret", "MLFLOW_TRACKING_PASSWORD: ***"),
    ],
)
def test_passwords_are_blotted_out(text: str, expected: str) -> None:
    assert without_passwords(text) == expected
    assert first_line(ValueError(text)) == expected
    assert expected in traceback_of(ValueError(text))


@given(st.text("abcXYZ019._~!$&'()*+,;=:%/@-", min_size=1, max_size=20))
def test_no_part_of_a_password_is_left(password: str) -> None:
    said = without_passwords(f"cannot reach http://me:{password}<end>@host/path now")
    assert "<end>" not in said and "me:" not in said and said.endswith("@host/path now")


def test_the_stores_passwords_are_blotted_out_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", "postgresql://me:p%40ss:w/rd@db/optuna")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken-of-mine")
    said = without_passwords("cannot read 'p@ss:w/rd' or p%40ss:w/rd, nor Bearer t0ken-of-mine")
    assert "ss:w" not in said and "mine" not in said


def test_an_error_that_is_its_own_cause_comes_to_an_end() -> None:
    error = ValueError("round and round")
    error.__cause__ = error
    assert root_cause(error) is error and not out_of_memory(error)


def test_a_lookup_that_failed_on_the_way_is_no_cause() -> None:
    refused = ConnectionRefusedError("the server is away")
    refused.__context__ = KeyError(())  # as a cache has it that is asked first
    assert root_cause(chained(refused)) is refused
    alone = KeyError("colour")
    assert root_cause(alone) is alone


def test_a_long_message_is_said_quickly() -> None:
    assert len(first_line(ValueError("a" * 1_000_000))) == LONGEST + 1


def test_the_first_line_is_one_line_of_readable_length() -> None:
    assert first_line(ValueError("\n  one\ntwo")) == "one"
    assert first_line(ValueError("")) == "ValueError"
    assert len(first_line(ValueError("x" * 10_000))) == LONGEST + 1
