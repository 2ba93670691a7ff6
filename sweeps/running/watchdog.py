"""A worker's watchdog: beats for its trials, and ends the process when its parent is gone or nothing moves any more."""

import os
import threading
import time
from typing import Any

from optuna.trial import FrozenTrial

from pipelines.errors import traceback_of
from sweeps.running.exit_codes import HUNG, ORPHANED
from sweeps.stores.lease import HEARTBEAT_INTERVAL, Process
from sweeps.stores.store import Store

BETWEEN_TRIALS = 600.0  # seconds that a worker may take to start, or to end


class Watchdog:
    """A thread that beats for the running trials, and ends the process when its parent is gone or nothing moves any more."""

    def __init__(self, parent_pid: int, timeout: float):
        self._parent, self._timeout = Process.of(parent_pid), timeout
        self.held: dict[int, tuple[FrozenTrial, Store]] = {}  # by number
        self._progress = self._beat = time.monotonic()
        threading.Thread(target=self._run, daemon=True).start()

    def hold(self, trial: FrozenTrial, store: Store) -> None:
        """Beat for `trial` from now on, and give it back if the parent goes."""
        self.progress()
        self.held = {**self.held, trial.number: (trial, store)}

    def let_go(self, trial: FrozenTrial) -> None:
        """Beat for `trial` no longer."""
        self.held = {number: held for number, held in self.held.items() if number != trial.number}
        self.progress()

    def progress(self) -> None:
        """Note that something moves."""
        self._progress = time.monotonic()

    def _run(self) -> None:
        while True:
            time.sleep(0.5)
            held = self.held  # never changed, only replaced
            if not self._parent.alive:
                print("the parent process is gone", flush=True)
                try:
                    for trial, store in held.values():
                        self._try(lambda trial=trial, store=store: store.release(trial))
                finally:
                    os._exit(ORPHANED)
            limit = self._timeout if held else max(self._timeout, BETWEEN_TRIALS)
            if time.monotonic() - self._progress > limit:
                print(f"nothing moved for {limit:g} s", flush=True)
                os._exit(HUNG)
            if held and time.monotonic() - self._beat > HEARTBEAT_INTERVAL:
                self._beat = time.monotonic()
                for trial, store in held.values():
                    self._try(lambda trial=trial, store=store: store.beat(trial))

    def _try(self, action: Any) -> None:
        try:
            action()
        except Exception as error:  # this thread must live; a later beat may get through
            print(traceback_of(error))
