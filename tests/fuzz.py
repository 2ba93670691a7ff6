"""Coverage-guided fuzzing of whatever is read from outside: study files, data sets, checkpoints, the command line.

    python -m tests.fuzz study --seconds 60

Each target takes bytes; whatever they are, the program must answer as it should or with one line, and do nothing else meanwhile:
build no object, load no pickle, start no process, connect to nothing, write nothing outside its folder. Needs atheris.
`tests/test_fuzz.py` calls the same targets with bytes that are mutated blindly.
"""

import argparse
import contextlib
import io
import os
import re
import shlex
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if "atheris" in sys.modules or (__name__ == "__main__" and "--help" not in sys.argv):
    import atheris

    instrumented: Any = atheris.instrument_imports(
        include=["sweeps", "pipelines", "models", "yaml", "zipfile", "gzip", "numpy.lib"]
    )
else:
    instrumented = contextlib.nullcontext()
with instrumented:
    import gzip

    import numpy as np
    from click.testing import CliRunner

    from pipelines import checkpoint, datasets, paths
    from pipelines.datasets import mnist
    from pipelines.errors import UserError
    from pipelines.tracking import store as tracking
    from sweeps import api, cli
    from sweeps.running import launch
    from sweeps.running.executors import processes
    from sweeps.stores.store import Store
    from sweeps.study import study_file
    from sweeps.tasks import baselines, check, dashboard, delete, doctor, init, migrate  # noqa: F401 - instrumented

FORBIDDEN = {
    *("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen"),
    *("socket.connect", "socket.bind", "os.symlink", "os.link", "webbrowser.open", "ctypes.dlopen"),
}
ON_PATHS = {
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.truncate",
    "os.chmod",
    "shutil.move",
    "shutil.rmtree",
    "sqlite3.connect",
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Trespass(BaseException):
    """Something happened that no input may bring about; not an Exception, so that nothing catches it."""


class _Guard:
    """Watches what the process does while a target runs."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        sys.addaudithook(self._hear)

    @contextlib.contextmanager
    def over(self, folder: Path) -> Iterator[None]:
        """Allow writing in `folder` alone meanwhile."""
        self._folder = folder.resolve()
        try:
            yield
        finally:
            self._folder = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        folder = self._folder
        if folder is None:
            return
        if event in FORBIDDEN:
            raise Trespass(f"{event} {arguments}")
        below = (
            event in ("os.remove", "os.rmdir") and arguments[-1] != -1
        )  # of a folder that was looked at when it was opened
        writes = (event in ON_PATHS and not below) or (event == "open" and (arguments[2] or 0) & WRITING)
        if writes and isinstance(arguments[0], str | bytes | os.PathLike):
            path = Path(os.fsdecode(arguments[0])).resolve()
            inside = folder == path or folder in path.parents or path.name == ":memory:"
            if not inside and path.suffix != ".pyc" and "__pycache__" not in path.parts:
                raise Trespass(f"{event} {path}")


guard = _Guard()


def one_line(error: Exception) -> None:
    """Raise unless the error's message is one line of a readable length."""
    message = str(error)
    if not message or "\n" in message or len(message) > 2000:
        raise AssertionError(f"not one clear line: {message[:300]!r}") from error


def study(content: bytes, folder: Path) -> None:
    """A study file."""
    path = folder / "study.yaml"
    path.write_bytes(content)
    with guard.over(folder):
        try:
            study_file.load(str(path))
        except UserError as error:
            one_line(error)


def idx(content: bytes, folder: Path) -> None:
    """An IDX file, gzipped if it begins so."""
    path = folder / ("file.gz" if content[:2] == b"\x1f\x8b" else "file")
    path.write_bytes(content)
    with guard.over(folder):
        try:
            found = mnist._read_idx(path)
        except UserError as error:
            one_line(error)
        else:
            assert found.dtype == np.uint8 and found.size < max(len(content), 1) * 1100  # gzip cannot do more


def npz(content: bytes, folder: Path) -> None:
    """MNIST as one npz file."""
    path = folder / "mnist.npz"
    path.write_bytes(content)
    with guard.over(folder):
        try:
            found = mnist._read_npz(path)
        except UserError as error:
            one_line(error)
        else:
            assert {array.dtype for array in found.values()} == {np.dtype(np.uint8)}


def archive(content: bytes, folder: Path) -> None:
    """An npz file of one's own."""
    _own_data({"npz": str(_written(folder / "data.npz", content))}, folder)


def photo(content: bytes, folder: Path) -> None:
    """An image among others, in a folder for its class."""
    from PIL import Image

    for number in range(8):
        path = folder / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
    _written(folder / "photos" / "a" / "0.jpg", content)
    _own_data({"folder": str(folder / "photos"), "size": [4, 4]}, folder)


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _own_data(said: dict[str, Any], folder: Path) -> None:
    with guard.over(folder):
        try:
            found = datasets.load(said)
        except UserError as error:
            one_line(error)
            assert not (folder / "mlruns" / "datasets").exists()
        else:
            assert len(found.classes) != 1 and all(map(len, found.parts.values()))
            shutil.rmtree(folder / "mlruns")


def state(content: bytes, folder: Path) -> None:
    """A checkpoint: whatever is there, training goes on from it or from the start."""
    path = folder / "0.npz"
    path.write_bytes(content)
    with guard.over(folder), contextlib.redirect_stdout(io.StringIO()):
        found = checkpoint.load(path, "same")
    assert found is None or isinstance(found.history, list)


def command(content: bytes, folder: Path) -> None:
    """The words of a command line, study names among them. Nothing is trained and no server started."""
    try:
        words = shlex.split(content.decode("utf-8", "replace"))
    except ValueError:
        return
    with guard.over(folder):
        said = CliRunner(env={"MLRUNS_DIR": str(folder / "mlruns"), "MNIST_DIR": str(folder)}).invoke(cli.main, words)
    if "Traceback" in said.output and "--debug" not in words:
        raise AssertionError(said.output)
    if said.exit_code not in (0, 1, 2):
        raise AssertionError(f"exit code {said.exit_code}: {said.output}")
    complaints = [line for line in said.output.splitlines() if line.startswith("error: ")]
    if said.exit_code == 2 and (len(complaints) != 1 or complaints != said.output.splitlines()[-1:]):
        raise AssertionError(f"not one clear line: {said.output!r}")


def run_id(content: bytes, folder: Path) -> None:
    """The id of a run, as a trial's attributes or the name of a folder may have it."""
    text = content.decode("utf-8", "replace")
    with guard.over(folder):
        assert tracking.lifecycle(text) is None
        (folder / "mlruns" / "checkpoints").mkdir(parents=True, exist_ok=True)
        try:
            assert paths.checkpoint(text, 0).parent.parent == folder.resolve() / "mlruns" / "checkpoints"
        except UserError as error:
            one_line(error)


TARGETS: dict[str, Callable[[bytes, Path], None]] = {
    "study": study,
    "idx": idx,
    "npz": npz,
    "archive": archive,
    "photo": photo,
    "state": state,
    "command": command,
    "run_id": run_id,
}


def seeds(target: str) -> list[bytes]:
    """Return inputs to begin with."""
    if target == "study":
        return [path.read_bytes() for path in sorted(study_file.FOLDER.glob("*.yaml"))]
    if target == "idx":
        plain = struct.pack(">4B2i", 0, 0, 8, 2, 2, 3) + bytes(6)
        return [plain, gzip.compress(plain)]
    if target == "npz":
        parts = {part: np.zeros((2, 2) if part[0] == "x" else 2, np.uint8) for part in mnist.MNIST_FILES}
        return [_npz(**parts), _npz(**parts | {"x_test": np.array([[None]], object)})]
    if target == "archive":
        x, y = np.arange(24, dtype=np.uint8).reshape(12, 2), np.arange(12) % 2
        return [_npz(x=x, y=y), _npz(x_train=x / 7, y_train=y, x_test=x / 9, y_test=y), _npz(x=np.array([[None]]), y=y)]
    if target == "photo":
        from PIL import Image

        found = []
        for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP"):
            file = io.BytesIO()
            Image.linear_gradient("L").resize((9, 7)).convert("RGB").save(file, kind)
            found.append(file.getvalue())
        return found
    if target == "state":
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "0.npz"
            whole = checkpoint.State([{"loss": 1.0}], [np.ones((2, 2))], [np.ones(1)], [np.ones((2, 2))])
            checkpoint.save(path, "same", whole)
            return [path.read_bytes()]
    examples = [
        *cli.main.commands,
        "best tiny",
        "doctor tiny --fix",
        "studies tiny",
        "run --stored tiny",
        "ui --port 0",
    ]
    examples += [
        "run quickstart --trials 3 --seed 1",
        "run study.yaml",
        "baselines --only softmax --seeds 2",
        "--debug best x",
        "enqueue tiny dropout=0.1 --trials 9",
        "stop tiny --trial 0 --now",
        "delete tiny 0 --yes",
        "run study.yaml --set seed=1",
    ]
    return [example.encode() for example in examples]


def words(target: str) -> list[bytes]:
    """Return words that the fuzzer may put in."""
    if target == "study":
        text = b"\n".join(seeds(target)).decode()
        found = {*re.findall(r"[\w.-]+", text), *study_file.Study.model_fields}
        return [word.encode() for word in sorted(found)] + [
            b"!!python/object/apply:os.system",
            b"&a",
            b"*a",
            b"1e999",
            b"\t",
        ]
    if target == "run_id":
        return [b"..", b"/", b"\\", b"\x00", b"'", b"%", b"file://", b"runs:/", b"latest"]
    if target == "command":
        options = {name for each in cli.main.commands.values() for option in each.params for name in option.opts}
        return [
            word.encode() for word in sorted(options | {"../x", "/etc/passwd", "''", "-1", "1e9", "tiny", "%s", "\\"})
        ]
    return [
        b"\x00\x00\x08",
        b"\x1f\x8b",
        b"PK\x03\x04",
        b"\x93NUMPY",
        b"|O",
        b"fortran_order",
        b"\xff\xff\xff\xff",
        b"shape",
    ]


def prepare(target: str, folder: Path) -> None:
    """Make what the commands read, and take away what they would start."""
    if target in ("command", "run_id", "archive", "photo"):
        os.environ["MLRUNS_DIR"] = str(folder / "mlruns")
    if target not in ("command", "run_id"):
        return
    (folder / "mlruns").mkdir()
    (folder / "study.yaml").write_text("name: mine\nmodel: softmax\nsearch: {}\nbudget: {trials: 1}\n")
    os.chdir(folder)
    tiny = study_file.load("quickstart").model_copy(update={"name": "tiny"})
    store = Store.create("tiny")
    for name, value in {"study": tiny.model_dump(mode="json", by_alias=True), "definition": tiny.definition()}.items():
        store.remember(name, value)
    store.queue(2)
    tracking.open_parent(tracking.open_experiment("tiny"), store.attributes()["uid"], "sweep", {"study": "tiny"})
    launch.run = baselines.run = dashboard.serve = migrate.run = _refuse
    check.lines = delete.study = init.write = api.export = _refuse
    processes.prewarm = lambda: None
    os.execve = _refuse  # type: ignore[assignment]


def _refuse(*_: Any, **__: Any) -> Any:
    raise UserError("here nothing is started")


def _npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def main() -> None:
    """Fuzz one target until it fails or the time is up; failing inputs are written to the current folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, corpus, here = Path(name) / "folder", Path(name) / "corpus", Path.cwd()
        folder.mkdir()
        corpus.mkdir()
        for number, seed in enumerate(seeds(options.target)):
            (corpus / str(number)).write_bytes(seed)
        quoted = ["".join(f"\\x{byte:02x}" for byte in word) for word in words(options.target)]
        (Path(name) / "words").write_text("\n".join(f'"{word}"' for word in quoted))
        prepare(options.target, folder)
        known = [f"-max_total_time={options.seconds}", f"-dict={name}/words", "-max_len=4096", "-rss_limit_mb=6000"]
        arguments = [sys.argv[0], *known, "-timeout=60", f"-artifact_prefix={here}/{options.target}-", str(corpus)]
        atheris.Setup(arguments, lambda content: TARGETS[options.target](content, folder))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
