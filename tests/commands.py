"""`sweep` commands of tests: forked where the libraries are loaded already, see command_forkserver.py; else started as typed."""

import atexit
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from contextlib import suppress
from pathlib import Path

from pipelines import backend
from tests.command_forkserver import STATUS

SERVER = Path(__file__).with_name("command_forkserver.py")
READ_AT_IMPORT = (
    "CUDA_",
    "HOME",
    "KERAS_",
    "LANG",
    "LC_",
    "LD_",
    "MKL_",
    "MLFLOW_",
    "MPL",
    "OMP_",
    "OPENBLAS_",
    "PYTHON",
    "TF_",
)
READ_AT_IMPORT += ("TMPDIR", "XLA_", "XDG_")
READ_LATER = (  # and what our own packages set
    "MLFLOW_TRACKING_URI",
    "PYTHONBREAKPOINT",  # Ray sets it
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT",
)


class Command:
    """A command that was forked, as `subprocess.Popen` shows one that was started."""

    def __init__(self, arguments: list[str], cwd: Path, environment: Mapping[str, str]):
        (out, their_out), (err, their_err), (self._status, their_status) = os.pipe(), os.pipe(), os.pipe()
        self.stdout, self.stderr = os.fdopen(out), os.fdopen(err)
        self.returncode: int | None = None
        with tempfile.TemporaryFile() as orders:
            orders.write(pickle.dumps((arguments, str(cwd), dict(environment))))
            orders.flush()
            socket.send_fds(_server(), [b"c"], [orders.fileno(), their_out, their_err, their_status])
        for each in (their_out, their_err, their_status):
            os.close(each)
        self.pid = self._read()

    def _read(self) -> int:
        said = os.read(self._status, STATUS.size)
        assert said, "the server of commands ended"
        return int(STATUS.unpack(said)[1])

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("sweep", timeout or 0)
            self.returncode = self._read()
            os.close(self._status)
        return self.returncode

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        readers = ThreadPoolExecutor(2)
        streams = [readers.submit(stream.read) for stream in (self.stdout, self.stderr) if not stream.closed]
        try:
            said = [stream.result(timeout) for stream in streams]
        except TimeoutError as error:
            raise subprocess.TimeoutExpired("sweep", timeout or 0) from error
        finally:
            readers.shutdown(wait=False)
        self.wait(timeout)
        out, err = said or ("", "")
        self.stdout.close()
        self.stderr.close()
        return out, err

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def start(
    *arguments: str, cwd: Path, environment: Mapping[str, str], typed: list[str] | None = None
) -> "Command | subprocess.Popen[str]":
    """Start `sweep` with `arguments` in a session of its own; `typed`: the command to start if it must be a fresh one."""
    if typed is None and _as_imported(environment) == _IMPORTED:
        return Command([*arguments], cwd, environment)
    command = [*(typed or [sys.executable, "-m", "sweeps.cli"]), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )


def _as_imported(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in environment.items() if name.startswith(READ_AT_IMPORT) and name not in READ_LATER
    }


backend.configure("cpu")
_ENVIRONMENT = dict(os.environ)  # before any test changes it
_IMPORTED = _as_imported(_ENVIRONMENT)
_control: list[socket.socket] = []


def _server() -> socket.socket:
    """Return the way to this process's server, started when the first command is."""
    if not _control:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-P", str(SERVER), str(theirs.fileno())]
        server = subprocess.Popen(command, cwd=SERVER.parent.parent, env=_ENVIRONMENT, pass_fds=[theirs.fileno()])
        atexit.register(server.kill)
        theirs.close()
        _control.append(ours)
    return _control[0]
