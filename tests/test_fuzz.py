"""The targets of tests/fuzz.py, with inputs that are mutated blindly: a quick look; `make fuzz` is guided by coverage."""

import os
import pickle
import random
import socket
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests import fuzz


def mutated(content: bytes, words: list[bytes], rng: random.Random) -> bytes:
    """Return `content` with a few bytes changed, cut, doubled or replaced by a word."""
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(content) + 1)
        end = min(len(content), start + rng.choice([0, 1, 2, 8, 40]))
        piece = rng.choice([b"", rng.randbytes(1), rng.choice(words), content[start:end] * 2])
        content = content[:start] + piece + content[end:]
    return content


@pytest.mark.parametrize(
    ("target", "times"),
    [
        *(("study", 150), ("idx", 1500), ("npz", 400), ("archive", 200), ("photo", 150)),
        *(("state", 400), ("command", 60), ("run_id", 100)),
    ],
)
def test_whatever_is_read_gets_an_answer_or_one_clear_line(
    target: str, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in (
        (fuzz.launch, "run"),
        (fuzz.dashboard, "serve"),
        (fuzz.migrate, "run"),
        (fuzz.check, "lines"),
        (fuzz.delete, "study"),
        (fuzz.init, "write"),
        (fuzz.api, "export"),
        (fuzz.processes, "prewarm"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))  # put back what `prepare` takes away
    monkeypatch.setattr(fuzz.baselines, "run", fuzz.baselines.run)
    monkeypatch.setattr(os, "execve", os.execve)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLRUNS_DIR", os.environ["MLRUNS_DIR"])
    folder = tmp_path / "folder"
    folder.mkdir()
    fuzz.prepare(target, folder)
    rng, seeds, words = random.Random(0), fuzz.seeds(target), fuzz.words(target)
    for number in range(times):
        content = rng.choice(seeds)
        if number >= len(seeds):
            content = mutated(content, words, rng)
        fuzz.TARGETS[target](content, folder)


def test_the_guard_notices(tmp_path: Path) -> None:
    (tmp_path / "y").touch()
    trespasses = [
        lambda: os.system("true"),
        lambda: subprocess.run(["true"], check=False),
        lambda: pickle.loads(pickle.dumps(Path)),
        lambda: socket.create_connection(("127.0.0.1", 1), timeout=1),
        lambda: (tmp_path / "x").write_text("outside"),
        lambda: (tmp_path / "y").unlink(),
        lambda: (tmp_path / "y").rename(tmp_path / "z"),
        lambda: (tmp_path / "folder").mkdir(),
        lambda: sqlite3.connect(tmp_path / "database"),
    ]
    for trespass in trespasses:
        with pytest.raises(fuzz.Trespass), fuzz.guard.over(tmp_path / "inside"):
            trespass()
