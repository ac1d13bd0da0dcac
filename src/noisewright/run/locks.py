"""Who may write to a run directory: one process at a time, which holds a lock file of its own.

Reading needs no lock, and never keeps a writer out.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from noisewright.errors import RunMismatch

LOCK = ".lock"
LOCK_TRIES, LOCK_PAUSE_SECONDS = 20, 0.02
"""A reader that looks whether anybody writes holds the lock for a moment."""

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
"""What file systems without such locks say (NFS, Lustre)."""

log = logging.getLogger("noisewright")


def locked(root: Path) -> Any:
    """The open lock file of a run directory, held against every other writer until it is closed.

    Where the file system has no such locks it is open but not held, with a warning in the log.

    Raises:
        RunMismatch: where another process holds it.
    """
    path = root / LOCK
    for _ in range(LOCK_TRIES):
        file = path.open("ab")
        try:
            held = _hold(file)
            if held and _is_same(file, path):  # else it was removed by who held it before us
                return file
        except BaseException:
            file.close()
            raise
        file.close()
        time.sleep(LOCK_PAUSE_SECONDS)
    raise RunMismatch(f"another process is writing to the run in {root}")


def _hold(file: Any) -> bool:
    """Whether a lock could be taken; true, with a warning, where the system has none."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning("%s: the file system has no locks (%s): nothing keeps a second process from writing to this run",
                    Path(file.name).parent, error.strerror)  # fmt: skip
    return True


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

        with (path if path.exists() else Path(root) / "journal.jsonl").open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return None
    return False


def let_go(lock: Any) -> None:
    with suppress(OSError):
        lock.close()
