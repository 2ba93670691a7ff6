"""Results as CSV files, a line a measurement, written as they come, each with the machine and the commit it was measured at."""

import csv
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def read(path: Path) -> list[dict[str, str]]:
    """Return the lines of a file, none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Write one line, ending with machine and commit; the first line of a file names the columns."""
    whole = {**line, "machine": _machine(), "commit": _commit()}
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(whole))
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(whole)


def _machine() -> str:
    """Return the processor's name and the number of cores."""
    known = Path("/proc/cpuinfo")
    names = [line for line in known.read_text().splitlines() if line.startswith("model name")] if known.exists() else []
    name = names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=RESULTS).stdout.strip()
