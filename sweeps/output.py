"""What a command prints must not end it or hold it up: a pipe that was closed, or that nobody reads, loses lines, not trials."""

import io
import os
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

LINES_AHEAD = 10_000  # pieces of text that wait for a slow reader; beyond, they are dropped
LAST_WORDS = 5.0  # seconds that a reader has at the end
_PLAIN = str.maketrans(
    {"±": "+-", "–": "-", "∞": "no limit", "…": "...", "×": "x", "━": "-"}
)  # for a terminal that lacks them
WIDE = 160  # columns


def console() -> Any:
    """Return where to print; into a pipe or a file, tables are as wide as they need, not 80 columns."""
    from rich.console import Console

    into_a_file = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(markup=False, highlight=False, width=WIDE if into_a_file else None)


class _Output(io.TextIOBase):
    """A text stream that writes to `stream` in a thread of its own, for as long as that takes anything."""

    def __init__(self, stream: TextIO | None):
        self._stream = stream
        self._waiting: queue.Queue[str | threading.Event] = queue.Queue(LINES_AHEAD)
        if stream is not None:
            threading.Thread(target=self._write, daemon=True).start()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def write(self, text: str) -> int:
        if self._stream is not None:
            try:
                text.encode(self.encoding)
                shown = text
            except UnicodeEncodeError:
                shown = text.translate(_PLAIN).encode(self.encoding, "replace").decode(self.encoding)
            with suppress(queue.Full):
                self._waiting.put_nowait(shown)
        return len(text)

    def finish(self) -> None:
        """Wait until all is written, or its reader has had time enough."""
        if self._stream is not None:
            written = threading.Event()
            try:
                self._waiting.put(written, timeout=LAST_WORDS)
            except queue.Full:
                return
            written.wait(LAST_WORDS)

    def _write(self) -> None:
        alive = True
        while True:
            text = self._waiting.get()
            try:
                if isinstance(text, threading.Event):
                    text.set()
                elif alive and self._stream is not None:
                    self._stream.write(text)
                    self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more
                alive = False


def _open_standard_streams() -> None:
    """Let no file that is opened later, a database say, take the number of a standard stream that the user has closed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def finish() -> None:
    """Wait until what was printed so far is written, before this process becomes another program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, _Output):
            stream.finish()


@contextmanager
def patient() -> Iterator[None]:
    """Let what is printed meanwhile go through such streams."""
    _open_standard_streams()
    before: tuple[Any, Any] = sys.stdout, sys.stderr
    outputs = _Output(before[0]), _Output(before[1])
    sys.stdout, sys.stderr = outputs
    try:
        yield
    finally:
        for output in outputs:
            output.finish()
        sys.stdout, sys.stderr = before
