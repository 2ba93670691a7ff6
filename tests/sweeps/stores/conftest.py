"""A store of its own for each test, on SQLite and on PostgreSQL."""

import pytest

from sweeps.stores.store import Store


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def fresh(made_stores: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "postgresql":
        monkeypatch.setenv("OPTUNA_STORAGE", request.getfixturevalue("postgres").new_database())
    return Store.create("study")
