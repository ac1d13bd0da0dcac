"""Processes of the command line, for the scripts that look at the page."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


def noisewright(*words: str, stdout: int = subprocess.DEVNULL) -> subprocess.Popen:
    """A process of the command line."""
    return subprocess.Popen([sys.executable, "-P", "-m", "noisewright", *words], stdout=stdout, text=True)


@contextlib.contextmanager
def served(runs: Path) -> Iterator[str]:
    """The address of a server over the runs, in a process of its own."""
    process = noisewright("serve", str(runs), stdout=subprocess.PIPE)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if " on " not in line:
            raise SystemExit("noisewright serve did not begin")
        yield line.split(" on ")[1].split(" ")[0].rstrip("/\n")
    finally:
        process.terminate()
        process.communicate(timeout=60)
