"""Optuna's storage under real processes: each ticket once, each epoch counted, each lost trial found."""

import os
import signal
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from pipelines.errors import UserError
from sweeps.stores import storage, store
from sweeps.stores.lease import Lease, Process
from sweeps.stores.store import Store
from sweeps.study import pruners, samplers, space, study_file
from tests.sweeps.stores.processes import forkserver, in_processes, process

MINE = Lease.of_this_process("here", os.getppid())


def claim_all(barrier, queue, limit: int) -> None:
    mine = Store("study")
    barrier.wait()
    numbers = []
    while (trial := mine.claim(limit, Lease.of_this_process("here", os.getppid()))) is not None:
        numbers.append(trial.number)
    queue.put(numbers)


def spend_all(barrier, queue, limit: int) -> None:
    mine = Store("study")
    barrier.wait()
    spent = 0
    while counted := mine.spend_epochs(3, limit):
        spent += counted
    queue.put(spent)


def test_each_ticket_is_claimed_once_by_four_processes(fresh: Store) -> None:
    fresh.queue(50)
    claimed = sorted(number for numbers in in_processes(claim_all, 4, limit=40) for number in numbers)
    assert claimed == list(range(40))  # none twice, none beyond the budget


def test_tickets_are_queued_by_whoever_finds_none_and_never_beyond_the_budget(fresh: Store) -> None:
    claimed = sorted(number for numbers in in_processes(claim_all, 4, limit=25) for number in numbers)
    assert claimed == list(range(25))
    assert not [trial for trial in fresh.trials() if trial.state == TrialState.WAITING and trial.number < 25]


def test_a_claim_comes_with_heartbeat_and_lease_or_not_at_all(fresh: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh.queue(1)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "_note", dies)
        with pytest.raises(KeyboardInterrupt):
            fresh.claim(1, MINE)
    assert fresh.trials()[0].state == TrialState.WAITING
    claimed = fresh.claim(1, MINE)
    assert fresh.running() == [(claimed, Lease.parse(str(MINE)))]
    assert fresh._without_heartbeat() == set()
    monkeypatch.setattr(store, "GRACE_PERIOD", 1)
    time.sleep(2.5)
    assert Store("study")._without_heartbeat() == {claimed._trial_id}  # it had one


def test_epochs_are_counted_exactly_by_four_processes(fresh: Store) -> None:
    assert sum(in_processes(spend_all, 4, limit=50)) == 50
    assert fresh.epochs_spent() == 50
    assert fresh.spend_epochs(3, 52) == 2 and fresh.spend_epochs(1, 52) == 0
    assert fresh.spend_epochs(4, None) == 4 and fresh.spend_epochs(0, None) == 0
    assert fresh.epochs_spent() == 56


def test_parents_that_queue_at_once_do_no_harm(fresh: Store) -> None:
    fresh.queue(3)
    fresh.study().add_trials(
        [optuna.trial.create_trial(state=TrialState.WAITING) for _ in range(2)]
    )  # the other parent's
    assert [fresh.claim(3, MINE).number for _ in range(3)] == [0, 1, 2]
    assert fresh.claim(3, MINE) is None
    fresh.queue(5)
    assert fresh.claim(5, MINE).number == 3  # a raised budget goes on


def test_start_points_belong_to_trial_numbers(fresh: Store) -> None:
    study = study_file.load("quickstart")
    fresh.queue(3)
    trials = [
        fresh.ask(fresh.claim(3, MINE), study.start_points, samplers.sampler(study, n), pruners.pruner(study))
        for n in range(2)
    ]
    assert space.suggest(trials[0], study.search) == study.start_points[0]
    assert space.suggest(trials[1], study.search) != study.start_points[0]


def test_a_trial_that_another_process_queued_can_be_asked_for_its_start_point(fresh: Store) -> None:
    study = study_file.load("quickstart")
    fresh.queue(1)
    other = Store("study")  # has read nothing yet
    trial = other.ask(other.claim(1, MINE), study.start_points, samplers.sampler(study, 0), pruners.pruner(study))
    assert space.suggest(trial, study.search) == study.start_points[0]


def test_equal_seeds_ask_for_equal_points_and_trials_differ(fresh: Store) -> None:
    study = study_file.load("quickstart")

    def first_points(name: str) -> list[dict]:
        own = Store.create(name)
        own.queue(3)
        return [
            space.suggest(
                own.ask(own.claim(3, MINE), [], samplers.sampler(study, n), pruners.pruner(study)), study.search
            )
            for n in range(3)
        ]

    one, two = first_points("one"), first_points("two")
    assert one == two
    assert len({str(point) for point in one}) == 3


def test_a_released_trial_keeps_number_parameters_and_reports(fresh: Store) -> None:
    study = study_file.load("quickstart")
    fresh.queue(1)
    claimed = fresh.claim(1, MINE)
    trial = fresh.ask(claimed, [], samplers.sampler(study, 0), pruners.pruner(study))
    params = space.suggest(trial, study.search)
    fresh.report([(claimed, 0, 0.9)])
    assert fresh.release(claimed)
    assert not fresh.owns(claimed, MINE)
    again = fresh.claim(1, MINE)
    assert again.number == claimed.number and again.intermediate_values == {0: 0.9}
    assert (
        space.suggest(fresh.ask(again, [], samplers.sampler(study, 0), pruners.pruner(study)), study.search) == params
    )


def test_a_trial_is_retried_twice_then_failed_with_its_reason(fresh: Store) -> None:
    fresh.queue(1)
    for _ in range(2):
        assert fresh.release(fresh.claim(1, MINE), "killed")
    assert not fresh.release(fresh.claim(1, MINE), "killed")
    (trial,) = fresh.trials()
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["ended"] == "failed: killed"
    assert fresh.claim(1, MINE) is None


def test_a_trial_is_released_once(fresh: Store) -> None:
    fresh.queue(1)
    claimed = fresh.claim(1, MINE)
    assert fresh.release(claimed, "killed")
    assert not fresh.release(claimed, "killed")  # a second parent comes late
    assert fresh.trials()[0].user_attrs["faults"] == ["killed"]
    fresh._storage.set_trial_state_values(
        claimed._trial_id, TrialState.RUNNING
    )  # claimed anew, its lease not noted yet
    assert not fresh.release(claimed, "killed")  # and one that comes later still
    assert fresh.trials()[0].user_attrs["faults"] == ["killed"]


def test_whoever_is_ended_while_it_releases_a_trial_leaves_it_as_it_was(
    fresh: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.queue(1)
    claimed = fresh.claim(1, MINE)

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store, "_note", end)
        fresh.release(claimed)
    assert fresh.owns(claimed, MINE)
    assert fresh.release(claimed) and not fresh.running()


def release_all(barrier, queue, limit: int) -> None:
    mine = Store("study")
    held = [trial for trial, _ in mine.running()]
    barrier.wait()
    queue.put([trial.number for trial in held if mine.release(trial, "killed")])


def test_each_trial_is_released_once_by_four_processes(fresh: Store) -> None:
    fresh.queue(20)
    assert all(fresh.claim(20, MINE) for _ in range(20))
    released = sorted(number for numbers in in_processes(release_all, 4, limit=20) for number in numbers)
    assert released == list(range(20))
    assert [trial.user_attrs["faults"] for trial in fresh.trials()] == [["killed"]] * 20


def create_study(barrier, queue, limit: int) -> None:
    barrier.wait()
    with storage.study_lock():
        queue.put(Store.create("new").attributes()["uid"])


def test_parents_that_begin_at_once_on_an_empty_server_make_one_schema_and_one_study(
    outputs: Path, postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs.mkdir()
    monkeypatch.setenv("OPTUNA_STORAGE", postgres.new_database())
    assert len(set(in_processes(create_study, 4, limit=0))) == 1
    assert storage.study_names() == ["new"]


def claim_and_wait(queue) -> None:
    queue.put(Store("study").claim(1, Lease.of_this_process("here", os.getppid())).number)
    time.sleep(600)


@pytest.fixture
def holder(fresh: Store):
    """A process that holds trial 0."""
    fresh.queue(1)
    queue = forkserver.Queue()
    worker = process(claim_and_wait, queue)
    worker.start()
    queue.get(timeout=60)
    yield worker
    worker.kill()
    worker.join()


def test_a_killed_worker_is_its_parents_to_release(fresh: Store, holder) -> None:
    holder.kill()
    holder.join()
    assert fresh.lost({}) == []  # its end has not been collected yet, or another parent lives and will see to it
    (lost,) = fresh.lost({"here": "killed by a test"})
    assert lost.trial.number == 0 and lost.reason == "killed by a test"


def test_a_dead_parents_trials_are_anyones_and_blameless(fresh: Store) -> None:
    fresh.queue(1)
    worker = process(claim_for_a_dead_parent)
    worker.start()
    worker.join()
    (lost,) = fresh.lost({"here": "not ours to judge"})
    assert lost.trial.number == 0 and lost.reason is None


def claim_for_a_dead_parent() -> None:
    Store("study").claim(1, Lease("another", Process.of(os.getpid()), Process.of(2**22)))


def test_a_worker_that_stopped_dead_is_killed_and_noticed(
    fresh: Store, holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.kill(holder.pid, signal.SIGSTOP)
    monkeypatch.setattr(store, "GRACE_PERIOD", 1)
    monkeypatch.setattr(store, "HEARTBEAT_INTERVAL", 1)
    impatient = Store("study")
    time.sleep(2.5)
    assert impatient.lost({}) == []  # stale by the clock, but we have only just looked: the machine may have slept
    time.sleep(1.2)
    (lost,) = impatient.lost({})
    assert lost.reason == "its worker gave no heartbeat for 1 s"
    holder.join(timeout=10)
    assert holder.exitcode == -signal.SIGKILL


def test_a_dead_worker_of_which_nobody_knows_how_it_ended_is_not_waited_for_for_ever(
    fresh: Store, holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder.kill()
    holder.join()
    monkeypatch.setattr(store, "GRACE_PERIOD", 1)
    monkeypatch.setattr(store, "HEARTBEAT_INTERVAL", 1)
    parent = Store("study")
    time.sleep(2.5)
    assert parent.lost({}) == []
    time.sleep(1.2)
    (lost,) = parent.lost({})
    assert lost.trial.number == 0 and lost.reason is None


def test_processes_are_told_apart_by_their_start() -> None:
    me = Process.of(os.getpid())
    assert me.alive and me.here
    assert not Process(me.machine, me.pid, me.started - 60).alive  # an earlier process with the same number
    assert not Process("elsewhere", me.pid, me.started).alive
    assert not Process.of(2**22).alive
    assert Lease.parse(str(MINE)) == Lease.parse(str(Lease.parse(str(MINE))))
    assert Lease.parse("") is None and Lease.parse("a|b|c|d|e") is None


def test_running_time_of_overlapping_sessions_counts_once(fresh: Store) -> None:
    for key, session in {"a": [100.0, 160.0], "b": [130.0, 190.0], "c": [500.0, 510.0], "d": [140.0, 150.0]}.items():
        fresh.remember(f"session:{key}", session)
    assert fresh.seconds_spent() == 100.0


def test_an_unknown_study_and_an_unusable_storage_are_named(fresh: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="there is no study 'other' yet: expected one of study"):
        Store("other")
    monkeypatch.setenv("OPTUNA_STORAGE", "sqlite:////proc/none/optuna.db")
    with pytest.raises(UserError, match=r"there is no study 'study' in sqlite:////proc/none/optuna.db: begin with"):
        Store("study")
    with pytest.raises(UserError, match=r"cannot be opened .* check OPTUNA_STORAGE"):
        Store.create("study")
    monkeypatch.setenv("OPTUNA_STORAGE", "postgresql://user:secret@127.0.0.1:1/db")
    with pytest.raises(UserError) as caught:
        Store("study")
    assert "secret" not in str(caught.value)


def test_a_study_of_another_program_is_left_alone(outputs: Path) -> None:
    outputs.mkdir()
    foreign = optuna.create_study(storage=storage.url(), study_name="study", direction="minimize")
    with pytest.raises(UserError, match="holds a study 'study' that another program made: give this one another name"):
        Store.create("study")
    foreign.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(UserError, match="another program made"):
        Store.create("study")
    assert len(foreign.trials) == 1 and not foreign.user_attrs


def test_the_curve_of_a_trial_is_the_same_for_one_objective_or_several(outputs: Path) -> None:
    outputs.mkdir()
    for name, directions in (("one", ["maximize"]), ("two", ["maximize", "minimize"])):
        own = Store.create(name, directions)
        own.queue(1)
        trial = own.claim(1, MINE)
        for step in (1, 2, 11, 2):  # again, as after a worker was killed
            own.report([(trial, step, 0.9 + step / 1000)])
        assert store.curve(own.trials()[0]) == pytest.approx({1: 0.901, 2: 0.902, 11: 0.911})
        own.finish(own.trials()[0], TrialState.PRUNED, ended="diverged")
        own.queue(20)  # a pruned trial must not make the sampler stumble
        for number in range(1, 20):
            trial = own.ask(
                own.claim(None, MINE), [], optuna.samplers.TPESampler(seed=number), optuna.pruners.NopPruner()
            )
            trial.suggest_float("x", 0, 1)
            own.finish(own.trials()[number], TrialState.COMPLETE, [0.5] * len(directions), ended="completed")


def test_the_front_is_what_no_other_trial_beats() -> None:
    points = [(0.9, 100), (0.8, 50), (0.85, 100), (0.9, 100), (0.7, 60), (0.95, 5000)]
    assert store.front(points, ["maximize", "minimize"]) == [True, True, False, True, False, True]
    assert store.front([(0.9,), (0.8,), (0.9,)], ["maximize"]) == [True, False, True]
    assert store.front([], ["maximize"]) == []
