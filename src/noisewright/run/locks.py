"""Who may write to a run directory: one process at a time, which holds a lock file of its own.

Reading needs no lock, and looking whether anybody writes takes none, so that it keeps no writer out. Besides the lock
that keeps other writers out (``flock``), who writes holds one that can be looked at without being taken (``fcntl``'s of
an open file, on Linux), and says so in the lock file.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from noisewright.errors import RunMismatch
from noisewright.outside.reading import open_regular

LOCK = ".lock"
MARK = b"ofd\n"
"""In the lock file: who writes holds the second lock too, so that nobody need take the first to look."""

LOCK_TRIES, LOCK_PAUSE_SECONDS = 20, 0.02
"""Who has just ended may hold it for a moment more."""

MOST_TRIES = 1500
"""Where others look at it by taking it for a moment (versions before, systems without the second lock): 30 seconds."""

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
"""What file systems without such locks say (NFS, Lustre)."""

FLOCK = "hhqqi4x"
"""``struct flock`` of Linux on 64 bits: kind, whence, start, length, process; all of the file where these are 0."""

log = logging.getLogger("noisewright")


def locked(root: Path) -> Any:
    """The open lock file of a run directory, held against every other writer until it is closed.

    Where the file system has no such locks it is open but not held, with a warning in the log.

    Raises:
        RunMismatch: where another process holds it.
    """
    path, tries = root / LOCK, 0
    for _ in range(MOST_TRIES):
        file = path.open("ab")
        try:
            held = _hold(file)
            if held is not False and _is_same(file, path):  # else it was removed by who held it before us
                _mark(file, sure=bool(held))
                return file
            tries += held is not False or not _is_only_looked_at(file)
        except BaseException:
            file.close()
            raise
        file.close()
        if tries == LOCK_TRIES:
            break
        time.sleep(LOCK_PAUSE_SECONDS)
    raise RunMismatch(f"another process is writing to the run in {root}")


def _hold(file: Any) -> bool | None:
    """Whether a lock could be taken; None, with a warning, where the system has none."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning("%s: the file system has no locks (%s): nothing keeps a second process from writing to this run",
                    Path(file.name).parent, error.strerror)  # fmt: skip
        return None
    return True


def _is_only_looked_at(file: Any) -> bool:
    """Whether those who hold a lock share it: they look at it, and let go of it at once."""
    import fcntl

    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _mark(file: Any, sure: bool) -> None:
    """Take the second lock, and say so in the file; where there is none, say nothing."""
    second = sure and _second(file, take=True) is not None
    with suppress(OSError):  # a full disk: then it is looked at by taking the first
        if os.fstat(file.fileno()).st_size != (len(MARK) if second else 0):
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), MARK if second else b"")


def _second(file: Any, take: bool) -> bool | None:
    """Take the second lock of an open file, or look whether another open file holds it; None where there is none."""
    try:
        import fcntl

        if struct.calcsize("P") != 8:
            return None
        command, kind = (fcntl.F_OFD_SETLK, fcntl.F_WRLCK) if take else (fcntl.F_OFD_GETLK, fcntl.F_RDLCK)
        found = fcntl.fcntl(file.fileno(), command, struct.pack(FLOCK, kind, os.SEEK_SET, 0, 0, 0))
    except (ImportError, AttributeError, OSError):
        return None
    return bool(struct.unpack(FLOCK, found)[0] != fcntl.F_UNLCK)


def _is_same(file: Any, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def is_being_written(root: str | Path) -> bool | None:
    """Whether a process is writing to a run; None where that cannot be known. Never keeps a writer out."""
    path = Path(root) / LOCK
    try:
        import fcntl

        with open_regular(path if path.exists() else Path(root) / "journal.jsonl") as file:
            held = _second(file, take=False) if file.read(len(MARK) + 1) == MARK else None
            if held is None:
                fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError, ValueError):
        return None
    return bool(held)


def let_go(lock: Any) -> None:
    with suppress(OSError):
        lock.close()
