"""A cluster on loopback: PostgreSQL, an MLflow server, Ray nodes. Each can be killed and restarted."""

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psutil

PATIENCE = 120.0  # seconds that a part may take to start
DATABASE_USER = "sweeps"
# Ray takes the machine's address in the network wherever it is given 127.0.0.1, and then listens to the network.
ON_LOOPBACK = (
    "from ray._private import services; services.get_node_ip_address = lambda *_: '127.0.0.1'; "
    "from ray.scripts.scripts import main; main()"
)


class Unavailable(Exception):
    """A part cannot be started here; the message says why."""


def as_machine(name: str, command: list[str]) -> list[str]:
    """Return the command that runs `command` under a host name and process numbers of its own, as on another machine.

    Only root can; for others the command is what it was.
    """
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return command
    isolated = ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
    return [*isolated, "sh", "-c", 'hostname "$0" && exec "$@"', name, *command]


class Server:
    """A process in a group of its own; its prints go to `log`."""

    def __init__(self, command: list[str], log: Path, environment: Mapping[str, str] | None = None):
        self._command, self._log, self._environment = command, log, environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment and dict(self._environment),
                start_new_session=True,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        until = time.monotonic() + PATIENCE
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise Unavailable(f"{self._command[0]} did not start: see {self._log}")
            time.sleep(0.1)

    def answers(self) -> bool:
        """Whether it serves."""
        raise NotImplementedError

    def kill(self) -> None:
        """Kill it with all that it started, as a power cut would."""
        if self._process is None:
            return
        family = [self._process.pid]
        with contextlib.suppress(psutil.NoSuchProcess):
            family += [child.pid for child in psutil.Process(self._process.pid).children(recursive=True)]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class MlflowServer(Server):
    """An MLflow server whose artifacts pass through it into `artifacts`; `backend_store`: the URI of its database."""

    def __init__(self, folder: Path, backend_store: str, artifacts: Path):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        command = [sys.executable, "-m", "mlflow", "server", "--artifacts-destination", str(artifacts), *where]
        # By environment: the URI may hold a password, and a command line is there for all to read.
        environment = {"MLFLOW_BACKEND_STORE_URI": backend_store, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        super().__init__(command, folder / "server.log", os.environ | environment)

    def answers(self) -> bool:
        """Whether it serves."""
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5) as response:
            return bool(response.status == 200)
        return False


class Postgres(Server):
    """A PostgreSQL server; raises Unavailable where there is none.

    It refuses to run as root; as root, it is started as user `postgres`.
    """

    def __init__(self, folder: Path):
        self._port = free_port()
        self._password = secrets.token_urlsafe(16)
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            try:
                account = pwd.getpwnam(self._user)
            except KeyError as error:
                raise Unavailable("PostgreSQL refuses to run as root, and there is no user postgres") from error
        self._binaries = _postgres_binaries()
        # Of its own, since that user may not enter the folders of another.
        self._home = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._data = self._home / "data"
        if self._user:
            os.chown(self._home, account.pw_uid, account.pw_gid)
        self._initialise()
        options = {"listen_addresses": "127.0.0.1", "port": str(self._port), "unix_socket_directories": ""}
        flags = [flag for key, value in options.items() for flag in ("-c", f"{key}={value}")]
        super().__init__(
            self._as_its_user([str(self._binaries / "postgres"), "-D", str(self._data), *flags]),
            folder / "postgres.log",
        )

    def new_database(self) -> str:
        """Make an empty database; return its URL, as SQLAlchemy reads it."""
        name = f"db_{secrets.token_hex(4)}"
        self.run_sql(f"CREATE DATABASE {name}")
        return self._url(name)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        shutil.rmtree(self._home, ignore_errors=True)

    def answers(self) -> bool:
        """Whether it serves."""
        ready = [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        return subprocess.run(ready).returncode == 0

    def run_sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement and return what it prints: rows by line, columns by `|`."""
        psql = [str(self._binaries / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement, self._url(database)]
        done = subprocess.run(psql, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"PostgreSQL refuses: {done.stderr.strip()}")
        return done.stdout.strip()

    def _url(self, database: str) -> str:
        return f"postgresql://{DATABASE_USER}:{self._password}@127.0.0.1:{self._port}/{database}"

    def _initialise(self) -> None:
        password_file = self._home / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        if self._user:
            shutil.chown(password_file, self._user)
        flags = ["-D", str(self._data), "-U", DATABASE_USER, "--auth=scram-sha-256", f"--pwfile={password_file}", "-N"]
        initdb = self._as_its_user([str(self._binaries / "initdb"), *flags, "--locale=C.UTF-8", "--encoding=UTF8"])
        done = subprocess.run(initdb, capture_output=True, text=True)
        password_file.unlink()
        if done.returncode:
            raise Unavailable(f"PostgreSQL made no database: {done.stderr.strip()}")

    def _as_its_user(self, command: list[str]) -> list[str]:
        return (
            ["setpriv", f"--reuid={self._user}", f"--regid={self._user}", "--init-groups", *command]
            if self._user
            else command
        )


class RayNode(Server):
    """One node of a Ray cluster. `head`: the node that it joins, as another machine; None for the first.

    `driver`: what a program that uses the cluster must have in its environment.
    """

    def __init__(self, folder: Path, cpus: int, head: "RayNode | None" = None):
        self._temporary: Path | None = None
        if head is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="ray-"))  # short: the path of a socket has 107 characters
            port = free_port()
            self.driver = {
                "RAY_ADDRESS": f"127.0.0.1:{port}",
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": secrets.token_hex(16),
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # means here: on loopback
            }
            where = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self._temporary}"]
        else:
            self.driver, where = head.driver, [f"--address={head.driver['RAY_ADDRESS']}"]
        size = [f"--num-cpus={cpus}", "--num-gpus=0", "--object-store-memory=80000000"]
        command = [sys.executable, "-c", ON_LOOPBACK, "start", "--block", "--disable-usage-stats", *where, *size]
        if head is not None:
            command = as_machine(f"node-{secrets.token_hex(3)}", command)
        environment = os.environ | self.driver | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
        environment["RAY_kill_child_processes_on_worker_exit"] = (
            "0"  # a worker whose keeper is gone gives its trial back
        )
        super().__init__(command, folder / f"ray-{secrets.token_hex(3)}.log", environment)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def answers(self) -> bool:
        """Whether it has said that it runs."""
        return "Ray runtime started" in self._log.read_text(errors="replace")


class Cluster:
    """All parts: PostgreSQL with a database each for MLflow and Optuna, an MLflow server, and two Ray nodes of `cpus` each.

    `environment`: what a command must have in its own to use them.
    """

    def __init__(self, folder: Path, cpus: int = 2):
        self._folder, self._cpus, self._parts = folder, cpus, contextlib.ExitStack()
        self.postgres = Postgres(folder)
        self.nodes: list[RayNode] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as parts:
            parts.enter_context(self.postgres)
            self.server = parts.enter_context(MlflowServer(self._folder, self.postgres.new_database(), self._folder))
            self.environment = {"MLFLOW_TRACKING_URI": self.server.url, "OPTUNA_STORAGE": self.postgres.new_database()}
            self._parts = parts
            self.add_node()
            self.add_node()
            self.environment |= self.nodes[0].driver
            self._parts = parts.pop_all()
        return self

    def add_node(self) -> RayNode:
        """Let a node join, as another machine; the first is this one."""
        head = self.nodes[0] if self.nodes else None
        self.nodes.append(self._parts.enter_context(RayNode(self._folder, self._cpus, head)))
        return self.nodes[-1]

    def __exit__(self, *_: object) -> None:
        self._parts.close()


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _postgres_binaries() -> Path:
    """Return the folder of PostgreSQL's server programs, those of the newest version; Debian keeps them out of the PATH."""
    in_path = shutil.which("postgres")
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(re.sub(r"\D", "", path.parent.name))
    )
    for folder in [*reversed(debian), *([Path(in_path).parent] if in_path else [])]:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise Unavailable("there is no PostgreSQL server here: install the package postgresql")
