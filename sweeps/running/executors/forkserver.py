"""A fork server: a program that loads what every worker needs, once, and then does nothing but fork.

A worker forked from it starts in tenths of a second; a fresh interpreter takes seconds to import TensorFlow, Optuna and MLflow.
Workers are never forked from the command itself, which has threads, and nothing of the user's main module is imported again.
It ends with the command that started it, and so do its workers.
"""

import atexit
import gc
import importlib.util
import json
import os
import pickle
import pkgutil
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

_MESSAGE = struct.Struct("!?qi")  # to the command: whether it is an end, the process number, its exit code
_READ_AT_IMPORT = (
    "KERAS_",
    "TF_",
    "XLA_",
    "OMP_",
    "CUDA_",
    "MKL_",
    "OPENBLAS_",
    "PYTHON",
)  # variables: libraries read them once
NOT_FORKED = -1  # in place of a process number
_REST = 0.05  # seconds between looks at a process that is waited for


class ForkedProcess:
    """A process that runs `work(*arguments)`; it may not have been forked yet."""

    def __init__(self, server: "_Server", stop: int):
        self._server, self._stop = server, stop
        self.pid: int | None = None  # None: not forked yet
        self.exit_code: int | None = None  # negative for a signal; None: it runs

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""
        self._server.read()
        return self.exit_code

    def wait(self) -> None:
        """Wait until it has ended."""
        while self.poll() is None:
            time.sleep(_REST)

    def ask_to_stop(self) -> None:
        """Set the flag that its work is given."""
        with suppress(BrokenPipeError):  # it has ended
            os.write(self._stop, b"s")

    def kill(self) -> None:
        """End it now."""
        if self.poll() is None and self.pid is None:  # the server is still loading
            self._server.kill()
        if self.exit_code is None and self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def __del__(self) -> None:
        os.close(self._stop)


class StopFlag:
    """The flag as the process sees it: set when it is asked to stop, or the command is gone."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def is_set(self) -> bool:
        """Whether to stop."""
        return bool(select.select([self._descriptor], [], [], 0)[0])


class _Server:
    def __init__(self, ready: str | None):
        ours, theirs = socket.socketpair()
        self._process = start_process(theirs, ready)
        theirs.close()
        atexit.register(self._process.kill)
        self._control, self._lock, self.lost = ours, threading.Lock(), False
        self._unborn, self._running = deque[ForkedProcess](), dict[int, ForkedProcess]()

    def fork(self, work: Any, *arguments: Any) -> ForkedProcess:
        """Fork a process that calls `work(*arguments, stop=flag)`; both must survive pickling."""
        read, write = os.pipe()
        forked = ForkedProcess(self, write)
        with os.fdopen(read), self._lock, tempfile.TemporaryFile() as orders:
            surroundings = {"environment": dict(os.environ), "path": sys.path, "folder": str(Path.cwd())}
            orders.write(pickle.dumps(surroundings) + pickle.dumps((work, arguments)))
            orders.flush()
            self._unborn.append(forked)
            with suppress(OSError):  # the server is gone: `read` finds that out
                socket.send_fds(self._control, [b"f"], [orders.fileno(), read])
        return forked

    def kill(self) -> None:
        """End the server, and with it what it has forked."""
        self._process.kill()
        self._process.wait()
        self.read()

    def read(self) -> None:
        """Take note of what the server says."""
        with self._lock:
            while not self.lost and select.select([self._control], [], [], 0)[0]:
                try:
                    message = self._control.recv(_MESSAGE.size, socket.MSG_WAITALL)
                except ConnectionResetError:
                    message = b""
                if len(message) < _MESSAGE.size:
                    self._lose()
                    return
                ended, pid, exit_code = _MESSAGE.unpack(message)
                if ended:
                    self._running.pop(pid).exit_code = exit_code
                elif pid == NOT_FORKED:
                    self._unborn.popleft().exit_code = os.EX_TEMPFAIL
                else:
                    forked = self._unborn.popleft()
                    forked.pid, self._running[pid] = pid, forked

    def _lose(self) -> None:
        """The server was killed: end its processes too, whose ends nobody would see."""
        self.lost = True
        for forked in [*self._running.values(), *self._unborn]:
            if forked.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(forked.pid, signal.SIGKILL)
            forked.exit_code = -signal.SIGKILL
        self._running.clear()
        self._unborn.clear()


_servers: dict[tuple[Any, ...], _Server] = {}


def start_process(control: socket.socket, ready: str | None) -> "subprocess.Popen[bytes]":
    """Start the process that is the server, told what to do through `control`."""
    command = [sys.executable, "-P", str(Path(__file__)), str(control.fileno()), json.dumps(sys.path), ready or ""]
    # The server inherits the mask: a Ctrl-C while it starts is the command's to hear.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        # Warnings that are errors are meant for the user's code, not for the libraries that are loaded here.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[control.fileno()], env=environment)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


def start(ready: str | None) -> _Server:
    """Return the server that has called `ready` ("module:function", None: nothing), started if need be.

    Another environment of the libraries needs another server.
    """
    key = ready, tuple(sorted(item for item in os.environ.items() if item[0].startswith(_READ_AT_IMPORT)))
    if key not in _servers or _servers[key].lost:
        _servers[key] = _Server(ready)
    return _servers[key]


def serve(control: socket.socket, ready: str | None) -> None:
    """Be the server."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the command decides what they mean
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    os.environ.setdefault(
        "JE_ARROW_MALLOC_CONF", "background_thread:false"
    )  # PyArrow's; a thread would not survive a fork
    if ready:
        with suppress(Exception):  # what is wrong is wrong at work too, where there is a log to say so
            pkgutil.resolve_name(ready)()
    gc.collect()
    gc.freeze()  # so that no collection of a worker's touches, and copies, the memory that all share
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        watched: list[Any] = [control, woken]
        readable, _, _ = select.select(watched, [], [])
        if woken in readable:
            os.read(woken, 512)
            for pid, exit_code in iter(_next_ended, None):
                control.sendall(_MESSAGE.pack(True, pid, exit_code))
        if control in readable:
            asked, descriptors, *_ = socket.recv_fds(control, 1, 2)
            if not asked:  # the command is gone
                return
            try:
                pid = os.fork()
            except OSError:  # no memory, or too many processes, at the moment
                pid = NOT_FORKED
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for each in (control.fileno(), woken, wake):
                    os.close(each)
                _work(*descriptors)
            for each in descriptors:
                os.close(each)
            control.sendall(_MESSAGE.pack(False, pid, 0))


def _next_ended() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, os.waitstatus_to_exitcode(status)) if pid else None


def _work(orders: int, stop: int) -> NoReturn:
    """Be a worker: do as ordered, and end."""
    code = 1
    try:
        os.lseek(orders, 0, os.SEEK_SET)
        file = os.fdopen(orders, "rb")
        surroundings = pickle.load(file)
        os.environ.clear()
        os.environ.update(surroundings["environment"])
        sys.path[:] = surroundings["path"]
        with suppress(OSError):  # it may be gone
            os.chdir(surroundings["folder"])
        work, arguments = pickle.load(file)
        work(*arguments, stop=StopFlag(stop))
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(code)


def _import_own_package() -> None:
    """Import `sweeps` from where this file lies, whatever else has that name on the path."""
    place = Path(__file__).parents[2] / "__init__.py"
    spec = importlib.util.spec_from_file_location("sweeps", place, submodule_search_locations=[str(place.parent)])
    assert spec is not None and spec.loader is not None
    sys.modules["sweeps"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


if __name__ == "__main__":
    sys.path[:] = json.loads(sys.argv[2])
    _import_own_package()
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[3] or None)
