"""The process that `sweep` commands of tests are forked from: it has loaded their libraries, and does nothing but fork.

Each command is a process of its own, in a session of its own, with its own environment, folder, standard streams and exit code;
what it does not do is import. It forks its workers' server, which would load the same libraries, before it has any thread.
"""

import gc
import importlib
import os
import pickle
import pkgutil
import signal
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, cast

DRAWS = "TESTED_COMMANDS_DRAW"  # the variable that lets a command draw figures, which takes as long as its training
STATUS = struct.Struct("!?i")  # whether it is an exit code, rather than a process number; and which
OPTIONAL = ("sweeps.running.executors.ray", "pipelines.population")  # they load what few tests need


def load() -> None:
    """Import whatever a command or a worker may import."""
    import models
    import pipelines
    import sweeps
    from sweeps.running import worker

    for package in (models, pipelines, sweeps):
        for module in pkgutil.walk_packages(package.__path__[:1], f"{package.__name__}."):
            if module.name not in OPTIONAL:
                importlib.import_module(module.name)
    worker.get_ready()


def blank(_drawn: Any, path: Path, _figure: Any) -> None:
    """Write an empty image in place of a figure."""
    from PIL import Image

    Image.new("L", (1, 1)).save(path)


def serve(control: socket.socket) -> None:
    """Fork a command for each message, until there is nobody to send any."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers need no collecting
    while True:
        asked, descriptors, *_ = socket.recv_fds(control, 1, 4)
        if not asked:
            return
        if os.fork() == 0:
            control.close()
            _keep(*descriptors)
        for each in descriptors:
            os.close(each)


def _keep(orders: int, out: int, err: int, status: int) -> None:
    """Fork the command and tell how it ends; return in the command itself, when it is over."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid:
        os.close(out)
        os.close(err)
        _, ended = os.waitpid(pid, 0)
        os.write(status, STATUS.pack(True, os.waitstatus_to_exitcode(ended)))
        os._exit(0)
    os.setsid()
    os.write(status, STATUS.pack(False, os.getpid()))
    os.close(status)
    with os.fdopen(orders, "rb") as file:
        file.seek(0)
        _become_command(*pickle.load(file), out, err)


def _become_command(arguments: list[str], folder: str, environment: dict[str, str], out: int, err: int) -> NoReturn:
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["sweep", *arguments]
    sys.path.insert(0, str(Path(sys.executable).parent))  # as for the script
    if DRAWS not in environment:
        from pipelines.figures.style import Drawn

        Drawn.draw = blank
    _fork_servers()
    from sweeps import cli

    cli.main()
    sys.exit(0)


def _fork_servers() -> None:
    """Let the first server of workers, and that of processes that draw, be processes that are forked here and now."""
    from sweeps.running import figures
    from sweeps.running.executors import forkserver, processes

    forked = {processes.READY: _fork_server(), figures.READY: _fork_server(orphaned=True)}
    start = forkserver.start_process

    def take(control: socket.socket, ready: str | None) -> "subprocess.Popen[bytes]":
        if ready not in forked:
            return start(control, ready)
        pid, orders = forked.pop(ready)
        socket.send_fds(orders, [b"s"], [control.fileno()])
        return cast("subprocess.Popen[bytes]", _Forked(pid))

    forkserver.start_process = take


def _fork_server(orphaned: bool = False) -> tuple[int, socket.socket]:
    """Fork a server that waits for its control; return its number, and where to send that. `orphaned`: no child of ours.

    Whoever counts the workers of a command takes those of each server that is its child.
    """
    from sweeps.running.executors import forkserver

    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        if orphaned and (own := os.fork()):
            theirs.send(struct.pack("!i", own))
            os._exit(0)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        asked, descriptors, *_ = socket.recv_fds(theirs, 1, 1)
        theirs.close()
        if asked:
            forkserver.serve(socket.socket(fileno=descriptors[0]), None)
        os._exit(0)
    theirs.close()
    if orphaned:
        os.waitpid(pid, 0)
        (pid,) = struct.unpack("!i", ours.recv(4))
    return pid, ours


class _Forked:
    """As much of a child process as a `forkserver` asks for."""

    def __init__(self, pid: int):
        self._pid = pid

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> None:
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


if __name__ == "__main__":
    load()
    gc.collect()
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
