"""Keeping TensorFlow's own lines off the terminal: it writes them before it can be told not to, whatever its log level."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_LINES = re.compile(
    rb"WARNING: All log messages before absl|To enable the following instructions|[IWE]\d{4} \d\d:\d\d:\d\d\.|"
    rb"[IWE]0000 |\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] "
)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep TensorFlow's lines on stderr to ourselves; what else is written there comes afterwards. If all fails, show it all."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            aside.seek(0)
            os.write(stderr, b"".join(line for line in aside if failed or not _LINES.match(line)))
            os.close(stderr)
