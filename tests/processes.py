"""Which processes a process has started, read from /proc."""

from contextlib import suppress
from pathlib import Path


def parents():
    """The parent of every process."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            about = path.read_text().rpartition(")")[2].split()
            if about[0] != "Z":
                found[int(path.parent.name)] = int(about[1])
    return found


def below(process):
    """All processes that a process started, and those that these did."""
    of, found = parents(), {process}
    while more := {one for one, parent in of.items() if parent in found} - found:
        found |= more
    return found - {process}


def named(some, *names):
    """Those of some processes whose command has one of these words in it."""
    found = set()
    for one in some:
        with suppress(OSError):
            command = Path(f"/proc/{one}/cmdline").read_bytes()
            if any(name in command for name in names):
                found.add(one)
    return found
