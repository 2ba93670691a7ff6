"""What is read of Optuna's storage without Optuna is what Optuna reads."""

import json
import math
from pathlib import Path

import pytest
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import MetaData, create_engine, inspect

from pipelines import paths
from pipelines.errors import UserError
from sweeps.stores import names, seen, storage
from sweeps.stores.record import StoredStudy
from sweeps.stores.seen import SeenStudy
from sweeps.stores.store import Store
from sweeps.stores.trials import State, curve
from tests.conftest import loaded_by


def columns(tables: MetaData) -> set[tuple[str, str]]:
    return {(table.name, column.name) for table in tables.tables.values() for column in table.columns}


def test_the_tables_are_optunas(tmp_path: Path) -> None:
    made = RDBStorage(f"sqlite:///{tmp_path / 'new.db'}")
    assert made.get_head_version() == made.get_current_version() == seen.SCHEMA
    there = {
        (table, column["name"])
        for table in inspect(made.engine).get_table_names()
        for column in inspect(made.engine).get_columns(table)
    }
    assert columns(seen._tables) <= there
    assert [(state.name, int(state)) for state in State] == [(state.name, int(state)) for state in TrialState]
    kinds = (models.TrialValueModel.TrialValueType, models.TrialIntermediateValueModel.TrialIntermediateValueType)
    assert {each.name for kind in kinds for each in kind} - {"FINITE"} == seen.NOT_FINITE.keys()


def test_trials_and_attributes_are_those_that_optuna_reads(fresh: Store) -> None:
    fresh.remember(names.STUDY, {"name": "first name"})
    own = fresh.study()
    for number in range(3):
        trial = own.ask()
        trial.suggest_int("units", 1, 9)
        trial.suggest_float("rate", 0.1, 1)
        trial.suggest_categorical("kind", ["a", 1, None, True, 0.5])
        trial.report(math.nan if number == 1 else 0.5, 1)
        trial.report(0.25, 2)
        trial.set_user_attr(names.RUN_ID, "run")
        if number != 2:
            own.tell(trial, math.inf if number else 0.75)
    fresh.queue(5)
    study = SeenStudy("study")
    read = [(t.number, t.state, t.values or None, t.params, t.user_attrs) for t in study.trials()]
    assert read == [(t.number, t.state, t.values, t.params, t.user_attrs) for t in fresh.trials()]
    assert json.dumps([curve(t) for t in study.trials()]) == json.dumps([curve(t) for t in fresh.trials()])
    assert study.attributes == fresh.attributes() and study.uid == fresh.uid
    assert (study.name, SeenStudy("first name").study_name) == ("first name", "study")
    assert seen.study_names() == storage.study_names() == ["study"]
    assert study.epochs_spent() == fresh.epochs_spent() == 0


def test_owned_studies_are_found_by_the_name_that_their_owner_began_with(fresh: Store) -> None:
    Store.create("study-confirm-3").remember(names.OWNER, "study")
    assert [each.study_name for each in seen.owned_by("study")] == ["study-confirm-3"]
    assert not [*seen.owned_by("another")]


def test_an_unknown_study_is_one_line_and_reading_makes_nothing(outputs: Path) -> None:
    with pytest.raises(UserError, match="there is no study 'x' in "):
        SeenStudy("x")
    assert seen.study_names() == [] and not outputs.exists()
    paths.make_mlruns()
    Store.create("known")
    with pytest.raises(UserError, match="there is no study 'x' yet: expected one of known"):
        SeenStudy("x")
    known = SeenStudy("known")
    Store("known").delete()
    with pytest.raises(UserError, match="was deleted"):
        known.look()


def test_a_storage_of_another_version_is_opened_by_optuna_which_says_so(outputs: Path) -> None:
    paths.make_mlruns()
    Store.create("known")
    with create_engine(storage.url()).begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v9.9.9.z'")
    storage._opened.clear()
    with pytest.raises(UserError, match="no longer compatible"):
        SeenStudy("known")


def test_a_stored_study_says_the_same_of_itself_either_way(study: Store) -> None:
    stored, looked_at = StoredStudy("tiny"), SeenStudy("tiny")
    assert looked_at.read() == stored.read() and looked_at.as_begun() == stored.as_begun()
    assert looked_at.seconds_spent() == stored.store.seconds_spent()


@pytest.mark.parametrize("command", ["best", "status", "studies", "watch tiny"])
def test_what_is_looked_at_loads_no_heavy_library(study: Store, command: str) -> None:
    heavy = "keras", "mlflow", "optuna", "pandas", "scipy", "sklearn", "alembic"
    assert loaded_by(command, heavy) == "[]"
