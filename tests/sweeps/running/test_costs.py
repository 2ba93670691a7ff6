"""What a study costs, counted: no clock is asked, so a change that makes it dearer shows on any machine."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import pytest
import sqlalchemy

from sweeps.stores.store import Store
from sweeps.study import study_file

WRITES = ("INSERT", "UPDATE", "DELETE")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count what is written to each database, how often Keras fits, trains and saves, and how often it traces a step."""
    counts: Counter[str] = Counter()

    def statement(connection: Any, _: Any, text: str, *__: Any) -> None:
        if text.lstrip().upper().startswith(WRITES):
            counts[f"writes to {Path(connection.engine.url.database).name}"] += 1

    def commit(connection: Any) -> None:
        counts[f"commits to {Path(connection.engine.url.database).name}"] += 1

    def batches(*_: Any, **__: Any) -> None:
        counts["calls to train"] += 1

    monkeypatch.setattr(keras.callbacks.TerminateOnNaN, "on_train_batch_end", batches)
    monkeypatch.setattr(Store, "beat", lambda *_: None)  # by the clock, so more of them on a busy machine
    for name in ("train_step", "predict_step", "fit", "save"):
        original = getattr(keras.Model, name)

        def call(*arguments: Any, name: str = name, original: Any = original, **options: Any) -> Any:
            counts[name] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(keras.Model, name, call)
    events = (("before_cursor_execute", statement), ("commit", commit))
    for event, listener in events:
        sqlalchemy.event.listen(sqlalchemy.Engine, event, listener)
    yield counts
    for event, listener in events:
        sqlalchemy.event.remove(sqlalchemy.Engine, event, listener)


def test_what_an_epoch_and_a_trial_cost(
    counted: Counter[str], run_here: Callable[..., Store], write_study: Callable[..., Path]
) -> None:
    def cost(name: str, trials: int, epochs: int) -> Counter[str]:
        counted.clear()
        settings = {"epochs": epochs, "batch_size": 500}
        path = write_study(
            name=name,
            model="tests.tiny_model",
            search={"units": {"int": [8, 9]}},
            training=settings,
            budget={"trials": trials},
            start=[],
        )
        store = run_here(study_file.load(str(path)), drawn=False)  # another process draws
        assert store.epochs_spent() == trials * epochs
        return Counter(counted)

    cost("first", 1, 1)  # what a process does once
    short, long, more = cost("short", 1, 2), cost("long", 1, 5), cost("more", 3, 2)
    an_epoch = {what: (long[what] - short[what]) / 3 for what in long}
    a_trial = {what: (more[what] - short[what]) / 2 for what in more}
    exactly = {
        "fit": 1,
        "calls to train": 1,  # of eight batches
        "train_step": 0,
        "predict_step": 0,
        "save": 0,
        "writes to optuna.db": 3,  # the count of epochs; the report, in place of any former one
        "commits to mlflow.db": 1,
    }
    assert {what: an_epoch[what] for what in exactly} == exactly
    assert an_epoch["commits to optuna.db"] <= 5 and an_epoch["writes to mlflow.db"] <= 6  # a batch of metrics
    exactly = {"fit": 2, "train_step": 1, "predict_step": 2, "save": 1}  # predicting, for two sizes of batches
    assert {what: a_trial[what] for what in exactly} == exactly
    assert a_trial["writes to optuna.db"] <= 18 and a_trial["commits to optuna.db"] <= 25
    assert a_trial["writes to mlflow.db"] <= 18 + 2 * 6 and a_trial["commits to mlflow.db"] <= 19
