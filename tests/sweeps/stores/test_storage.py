"""Optuna's storage from outside: whose an error is."""

import errno

import pytest
import sqlalchemy
from mlflow.exceptions import MlflowException, RestException

from pipelines.errors import DatasetUnavailable, ErrorKind, StoreUnavailable, UserError
from sweeps.stores.storage import kind_of

LOCKED = sqlalchemy.exc.OperationalError("UPDATE trials", {}, Exception("database is locked"))
DAMAGED = sqlalchemy.exc.DatabaseError("SELECT 1", {}, Exception("database disk image is malformed"))
DELETED = RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Run 'x' not found"})


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (LOCKED, ErrorKind.AWAY),
        (MlflowException("API request failed"), ErrorKind.AWAY),
        (StoreUnavailable("Optuna's storage cannot be opened"), ErrorKind.AWAY),
        (DELETED, ErrorKind.REFUSED),
        (DAMAGED, ErrorKind.LASTING),
        (OSError(errno.EMFILE, "too many open files"), ErrorKind.WANT),
        (MemoryError(), ErrorKind.WANT),
        (UserError("--top 0: expected at least 1"), ErrorKind.MISTAKE),
        (DatasetUnavailable("no MNIST"), ErrorKind.MISTAKE),
        (ValueError("too many units"), ErrorKind.FAULT),
    ],
)
def test_every_error_is_of_one_kind(error: Exception, kind: ErrorKind) -> None:
    assert kind_of(error) is kind
    assert kind.passes is (kind in (ErrorKind.AWAY, ErrorKind.WANT))
