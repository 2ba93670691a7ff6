"""What is asked of a study from beside it, against workers that claim: each request is heeded or refused, and nothing is lost."""

import os
import time
from collections.abc import Iterator

import pytest
from optuna.trial import TrialState

from sweeps.stores import names, storage
from sweeps.stores.lease import Lease
from sweeps.stores.store import Store, deleted
from sweeps.study import pruners, samplers, space, study_file
from tests.sweeps.stores.processes import forkserver, process

TICKETS = 5
MINE = Lease.of_this_process("here", os.getppid())
ROUNDS = [
    pytest.param(20, marks=pytest.mark.slow),
    pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
]


def claimed_point(store: Store, limit: int) -> tuple[int, dict]:
    study = study_file.load("quickstart")
    claimed = store.claim(limit, MINE)
    given = claimed.user_attrs.get(names.ENQUEUED, {})
    sampler = samplers.sampler(study, claimed.number, None, given)
    trial = store.ask(claimed, study.start_points, sampler, pruners.pruner(study))
    return claimed.number, space.suggest(trial, study.search)


def test_an_enqueued_point_is_next_after_what_was_begun_and_the_sampler_fills_it_up(fresh: Store) -> None:
    study = study_file.load("quickstart")
    fresh.queue(6)
    begun = fresh.claim(6, MINE)  # trial 0 has the start point
    assert fresh.requests.enqueue({"dropout": 0.25}, len(study.start_points), 6) == 1
    assert fresh.requests.enqueue({"dropout": 0.5}, len(study.start_points), 6) == 2
    fresh.claim(6, MINE)
    assert fresh.requests.enqueue({"dropout": 0.125}, 4, 6) == 4  # behind numbers without a point
    fresh.release(begun)
    assert fresh.claim(6, MINE).number == begun.number
    (second, of_second), (fourth, of_fourth) = claimed_point(fresh, 6), claimed_point(fresh, 6)
    assert (second, fourth) == (2, 4) and (of_second["dropout"], of_fourth["dropout"]) == (0.5, 0.125)
    assert of_second.keys() == study.search.keys()
    assert claimed_point(fresh, 6)[0] == 3
    assert fresh.requests.enqueue({"dropout": 0.1}, 0, 6) == 5
    assert fresh.requests.enqueue({"dropout": 0.1}, 0, 6) is None  # no ticket is left


def test_a_stop_is_seen_by_those_that_did_not_find_it_and_two_are_two(fresh: Store) -> None:
    fresh.requests.stop(now=True)
    before = fresh.stops()
    assert [*before.values()] == [True]
    fresh.requests.stop(now=False)
    fresh.requests.stop(now=True)
    assert sorted(now for key, now in Store("study").stops().items() if key not in before) == [False, True]


def test_a_running_trial_alone_can_be_stopped(fresh: Store) -> None:
    fresh.queue(2)
    claimed = fresh.claim(2, MINE)
    assert not fresh.requests.stop_trial(1) and not fresh.requests.stop_trial(7)
    assert fresh.held([claimed], MINE) == {0: False}
    assert fresh.requests.stop_trial(0) and Store("study").held([claimed], MINE) == {0: True}
    fresh.release(claimed)
    assert fresh.held([claimed], MINE) == {}
    assert fresh.held([fresh.claim(2, MINE)], MINE) == {0: True}  # whoever takes it up ends it


def test_a_deleted_trial_keeps_its_number_alone(fresh: Store) -> None:
    study = study_file.load("quickstart")
    fresh.queue(3)
    claimed = fresh.claim(3, MINE)
    trial = fresh.ask(claimed, study.start_points, samplers.sampler(study, 0), pruners.pruner(study))
    space.suggest(trial, study.search)
    trial.report(0.5, 1)
    assert not fresh.requests.delete_trial(0)  # it runs
    fresh.finish(claimed, TrialState.COMPLETE, [0.5], ended="completed")
    assert fresh.requests.delete_trial(0) and fresh.requests.delete_trial(1) and not fresh.requests.delete_trial(9)
    first, second, third = Store("study").trials()
    assert deleted(first) and deleted(second) and not deleted(third)
    assert (first.params, first.intermediate_values, first.values) == ({}, {}, None)
    assert fresh.claim(3, MINE).number == 2 and fresh.claim(3, MINE) is None  # their tickets are used
    assert Store("study").retry([]) == []


def test_a_study_that_is_being_deleted_is_claimed_no_more(fresh: Store) -> None:
    fresh.queue(2)
    claimed = fresh.claim(2, MINE)
    assert fresh.requests.retire() == 0 and names.DELETING not in fresh.attributes()
    fresh.release(claimed)
    assert fresh.requests.retire() is None
    assert fresh.claim(2, MINE) is None and fresh.claim(None, MINE) is None
    fresh.delete()
    assert Store.create("study").trials() == [] and Store("study").epochs_spent() == 0


def test_what_is_decided_first_holds(fresh: Store) -> None:
    assert fresh.requests.remember_first("why", "one") == "one" and fresh.requests.remember_first("why", "two") == "one"
    fresh.remember("why", None)
    assert fresh.requests.remember_first("why", "three") == "three"


def train_until_stopped(store: Store) -> list[int]:
    """Claim and end trials of a few epochs; return which were stopped."""
    stopped = []
    lease = Lease.of_this_process("here", os.getppid())
    while (trial := store.claim(TICKETS, lease)) is not None:
        halted = False
        for _ in range(3):
            time.sleep(0.005)
            halted = halted or store.held([trial], lease)[trial.number]
        if halted:
            stopped.append(trial.number)
        store.finish(trial, TrialState.PRUNED, ended="stopped" if halted else "pruned")
    return stopped


def claim_what_there_is(store: Store) -> list[tuple[int, dict | None]]:
    """Claim every ticket; return number and point of each, and -1 where the study went meanwhile."""
    found = []
    try:
        while (trial := store.claim(TICKETS, Lease.of_this_process("here", os.getppid()))) is not None:
            found.append((trial.number, trial.user_attrs.get(names.ENQUEUED)))
    except LookupError:
        assert "was deleted" in (store.gone() or "")
        found.append((-1, None))
    return found


def at_work(work, rounds: int, barrier, queue) -> None:
    for _ in range(rounds):
        barrier.wait(60)  # until the study of this round is there
        store = Store("study")
        barrier.wait(60)
        queue.put(work(store))


class Race:
    """Two processes that do the same as often as there are rounds, each time with a new study."""

    def __init__(self, work, rounds: int):
        self._barrier, self._queue = forkserver.Barrier(3), forkserver.Queue()
        self._processes = [process(at_work, work, rounds, self._barrier, self._queue) for _ in range(2)]
        for each in self._processes:
            each.start()
        self._rounds = rounds

    def __iter__(self) -> Iterator[Store]:
        for _ in range(self._rounds):
            if "study" in storage.study_names():
                Store("study").delete()
            store = Store.create("study")
            store.queue(TICKETS)
            self._barrier.wait(60)
            self._barrier.wait(60)
            yield store
        for each in self._processes:
            each.join()

    def results(self) -> list:
        """Return what both found in this round, together."""
        return [found for _ in self._processes for found in self._queue.get(timeout=60)]


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_trial_that_was_stopped_ends_so_whoever_claims(fresh: Store, rounds: int) -> None:
    race = Race(train_until_stopped, rounds)
    for store in race:
        asked = set[int]()
        while any(trial.state != TrialState.PRUNED for trial in store.trials()):
            time.sleep(0.01)  # whoever asks without a pause keeps SQLite's lock from the others
            asked |= {trial.number for trial, _ in store.running() if store.requests.stop_trial(trial.number)}
        stopped = race.results()
        ended = {trial.number: trial.user_attrs[names.ENDED] for trial in store.trials()}
        assert len(stopped) == len(set(stopped)) and set(stopped) <= asked
        assert [*ended] == [*range(TICKETS)] and {n for n, how in ended.items() if how == "stopped"} == set(stopped)
        noted = {trial.number for trial in store.trials() if names.STOPPING in trial.user_attrs}
        assert noted == asked  # none was asked of a trial that had ended


@pytest.mark.parametrize("rounds", ROUNDS)
def test_an_enqueued_point_is_claimed_once_whoever_claims(fresh: Store, rounds: int) -> None:
    race = Race(claim_what_there_is, rounds)
    for store in race:
        points = {store.requests.enqueue({"x": number}, 0, TICKETS): number for number in range(4)}
        points.pop(None, None)
        claimed = dict(sorted(race.results()))
        assert [*claimed] == [*range(TICKETS)] and {trial.state for trial in store.trials()} == {TrialState.RUNNING}
        assert {number: point["x"] for number, point in claimed.items() if point} == points


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_study_is_deleted_or_claimed_and_a_deleted_trial_is_claimed_by_nobody(fresh: Store, rounds: int) -> None:
    race = Race(claim_what_there_is, rounds)
    for round, store in enumerate(race):
        gone = {number for number in range(4, 1, -1) if store.requests.delete_trial(number)} if round % 2 else set()
        whole = store.requests.retire() is None
        if whole:
            store.delete()
        claimed = sorted(number for number, _ in race.results())
        if whole:
            assert not {*claimed} - {-1}  # nothing, or the news that it is gone
        else:
            assert claimed == sorted({*range(TICKETS)} - gone)
