"""Files that are written: whole or not at all, and never in place of what is no file.

A place that a person names is checked before anything is computed (:func:`check_output`, :func:`check_directory`). What
is written is written beside it under a name ``.NAME.XXXXXXXX`` and renamed over it. So a link that stands there is
replaced, and what it points to is left as it was; devices, pipes and sockets, and links to them, are refused.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

SYSTEM = ("/dev", "/proc", "/sys")
"""Where no file of ours belongs: names there stand for devices and for what a process has open (``/dev/stdout``)."""

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - an ordinary file system, whatever its name

PACKED = 2
"""How hard a PNG that people look at is compressed: twice as fast as by default, and a quarter larger."""

LONGEST_NAME = 200
"""Bytes of a file's name that its temporary file's name takes over; file systems allow 255."""

CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR)
"""What systems say that do not sync directories; they keep a rename by other means, or promise nothing."""


def write_atomically(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write beside ``path`` and rename over it: a reader sees the old file or the new one, never a part.

    Args:
        path: a file, which may be there or not.
        data: what it holds afterwards.
        sync: whether it must be there after a power cut too, its name included.

    Raises:
        OSError: where it cannot be written, or is a directory, a device, a pipe or a socket.
    """
    with replacing(path, sync=sync) as file:
        file.write(data)


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """As :func:`write_atomically`, of what comes piece by piece: it stands at ``path`` when all of it is written.

    Raises:
        OSError: as there; then, and on any other error while it is written, what was there before stays.
    """
    kind = _special(path)
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}, no file", str(path))
    handle, temporary = _temporary(path)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Force the names in a directory to the disk, where the file system can."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise


def write_picture(picture: Any, path: str | Path) -> None:
    """Write a PIL image or a matplotlib figure at once, in the format of the file's suffix; without one as ``.png``.

    Raises:
        OSError: as :func:`write_atomically`.
        ValueError: on a suffix that it cannot be written as.
    """
    path, buffer = Path(path), io.BytesIO()
    path = path if path.suffix else path.with_name(f"{path.name}.png")
    kind = path.suffix[1:].lower()
    packed = {"compress_level": PACKED} if kind == "png" else {}
    if hasattr(picture, "savefig"):
        picture.savefig(buffer, format=kind, **({"pil_kwargs": packed} if packed else {}))
    else:
        picture.save(buffer, "jpeg" if kind == "jpg" else kind, **packed)
    write_atomically(path, buffer.getvalue(), sync=False)


def not_files(folder: str, names: Sequence[str]) -> list[str]:
    """Those of a directory's names that are neither files nor directories, behind links too (for ``copytree``)."""
    places = {name: os.path.join(folder, name) for name in names}
    return [name for name, place in places.items() if not (os.path.isfile(place) or os.path.isdir(place))]


def check_output(path: str | Path, option: str = "--out", *, make_parent: bool = True) -> Path:
    """Refuse a file that cannot be written, before anything is computed.

    Args:
        path: as it was typed.
        option: what to call it.
        make_parent: make the directory that it is in; else that has to be there.

    Returns:
        Its full path, which stays the same whatever the working directory is later.

    Raises:
        ValueError: in one line: a directory, a device, a pipe, a socket, a link to one, a place that is not there or
            may not be written.
    """
    there = _absolute(path, option)
    if os.path.isdir(there):
        raise ValueError(f"expected a file as {option}, got the directory {path}")
    _check_place(there, path, option, "file")
    try:
        if make_parent:
            there.parent.mkdir(parents=True, exist_ok=True)
        if not there.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such directory")
        with suppress(FileNotFoundError):
            os.stat(there)
    except OSError as error:
        raise ValueError(
            f"expected a file that can be written as {option}, got {path}: {error.strerror or error}"
        ) from None
    if not all(os.access(one, os.W_OK) for one in (there, there.parent) if one.exists()):
        raise ValueError(f"expected a file that can be written as {option}, got {path}: no permission")
    return there


def check_directory(path: str | Path, option: str = "--out") -> Path:
    """Refuse a directory that cannot be one, before anything is computed; it is not made yet.

    Returns:
        Its full path, which stays the same whatever the working directory is later.

    Raises:
        ValueError: in one line, on a file, a device, a pipe or a socket, or something below one.
    """
    there = _absolute(path, option)
    _check_place(there, path, option, "directory")
    for place in (there, *there.parents):
        try:
            found = os.stat(place)
        except (FileNotFoundError, NotADirectoryError):
            if place.is_symlink():
                raise ValueError(f"expected a directory as {option}, got {path}, a link to nothing") from None
            continue
        except OSError as error:
            raise ValueError(f"expected a directory as {option}, got {path}: {error.strerror or error}") from None
        if not stat.S_ISDIR(found.st_mode):
            what = "a file" if stat.S_ISREG(found.st_mode) else _kind(found.st_mode)
            where = "it" if place == there else str(place)
            raise ValueError(f"expected a directory as {option}, got {path}: {where} is {what}")
        break
    return there


def _absolute(path: str | Path, option: str) -> Path:
    text = os.fspath(path)
    if "\0" in text:
        raise ValueError(f"expected a path as {option}, got one with a zero byte")
    return Path(text).absolute()


def _check_place(there: Path, typed: str | Path, option: str, wanted: str) -> None:
    """Refuse what is special, and whatever lies where the system has its devices."""
    try:
        kind = _special(there)
        parent = os.path.realpath(there.parent)
    except OSError as error:
        raise ValueError(
            f"expected a {wanted} that can be written as {option}, got {typed}: {error.strerror or error}"
        ) from None
    if kind is not None and kind != "a directory":
        raise ValueError(f"expected a {wanted} as {option}, got {typed}, which is {kind}")
    inside = [one for one in SYSTEM if parent == one or parent.startswith(f"{one}/")]
    if inside and not (parent == SHARED_MEMORY or parent.startswith(f"{SHARED_MEMORY}/")):
        raise ValueError(f"expected a {wanted} as {option}, got {typed}: {inside[0]} is the system's own")


def _special(path: Path) -> str | None:
    """What stands at a path (behind links too) where that is neither a file nor nothing."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    return None if stat.S_ISREG(mode) else _kind(mode)


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a directory"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _temporary(path: Path) -> tuple[int, Path]:
    """A new file beside ``path``, open for writing, with the permissions that any new file gets.

    The kernel applies the umask: asking Python for it means setting it, for all threads.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    name = os.fsdecode(os.fsencode(path.name)[:LONGEST_NAME])
    while True:
        temporary = path.parent / f".{name}.{secrets.token_hex(4)}"
        with suppress(FileExistsError):
            return os.open(temporary, flags, 0o666), temporary
