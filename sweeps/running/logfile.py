"""What a process of ours prints goes to its log."""

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.errors import without_passwords


def print_to(log: Path) -> None:
    """Let all that this process prints go to the end of the file `log`, without passwords. Raises OSError."""
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Log(descriptor, "w")), "utf-8", "replace", line_buffering=True
    )


class _Log(io.FileIO):
    """What cannot be written, since the disk is full, is dropped: no work is lost for want of a word about it. No passwords."""

    def write(self, content: Any) -> int:
        with suppress(OSError):
            super().write(without_passwords(bytes(content).decode("utf-8", "replace")).encode())
        return len(content)
