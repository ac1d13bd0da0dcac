"""The one door to other people's files: regular ones only, never one that blocks, grows or is a device."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

MOST_TEXT = 2**26
"""Bytes of a text file that is read: prompts, tables of prompts, names of classes."""

PIECE = 2**20
"""Bytes that are asked for at once: Python sets aside what is asked for, not what is there."""

UTF_16 = (b"\xff\xfe", b"\xfe\xff")

KINDS = (
    (stat.S_ISDIR, "is a directory"),
    (stat.S_ISFIFO, "is a pipe"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)

REASONS = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "does not exist",
    errno.EACCES: "may not be read: permission denied",
    errno.EPERM: "may not be read: permission denied",
    errno.ELOOP: "is a link that leads to itself",
    errno.ENAMETOOLONG: "is too long for a name",
}


def shown(path: str | Path) -> str:
    """A path as one line of printable characters: line breaks, escape codes and bytes that are no UTF-8 are escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def open_regular(path: str | Path, what: str = "a file", *, most: int | None = None) -> BinaryIO:
    """A regular file (or a link to one), open for reading bytes.

    A pipe without a writer would block for ever, a device may never end, and opening one may do something: what a path
    is is looked at before it is opened, and once more afterwards.

    Args:
        path: the file.
        what: what should be there, for the message.
        most: bytes that it may have.

    Raises:
        ValueError: in one line, where it is not there, something else, larger, or may not be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        _check_regular(os.stat(path), path, what, most)
        handle = os.open(path, flags)
    except OSError as error:
        raise refused(path, what, error) from None
    except ValueError as error:
        if "embedded null" in str(error):  # Python's own, of a path with a zero byte
            raise ValueError(f"expected {what}, got {shown(path)}, which does not exist") from None
        raise
    try:
        _check_regular(os.fstat(handle), path, what, most)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _check_regular(found: os.stat_result, path: str | Path, what: str, most: int | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((says for test, says in KINDS if test(found.st_mode)), "is no regular file")
        raise ValueError(f"expected {what}, got {shown(path)}, which {kind}")
    if most is not None and found.st_size > most:
        raise ValueError(f"expected {what}, got {shown(path)}: it has {found.st_size} bytes, at most {most} are read")


def refused(path: str | Path, what: str, error: OSError) -> ValueError:
    """What is said of a file that the system does not give."""
    reason = REASONS.get(error.errno or 0) or f"cannot be read: {error.strerror or type(error).__name__}"
    return ValueError(f"expected {what}, got {shown(path)}, which {reason}")


def read_bytes(path: str | Path, what: str = "a file", *, most: int = MOST_TEXT) -> bytes:
    """What is in a regular file of at most ``most`` bytes.

    Raises:
        ValueError: in one line, as :func:`open_regular`, or where it grows beyond that while it is read.
    """
    with open_regular(path, what, most=most) as file:
        try:
            data = at_most(file, most + 1)
        except OSError as error:
            raise refused(path, what, error) from None
    if len(data) > most:
        raise ValueError(f"expected {what}, got {shown(path)}: at most {most} bytes are read")
    return data


def at_most(file: BinaryIO, most: int) -> bytes:
    """The next ``most`` bytes of a file, or what is left; it takes the memory of what is there, not of ``most``."""
    pieces = []
    while most > 0 and (piece := file.read(min(most, PIECE))):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


def read_text(path: str | Path, what: str = "a file", *, most: int = MOST_TEXT) -> str:
    """The text of a regular file in UTF-8, without byte order marks; line ends are line feeds.

    Raises:
        ValueError: in one line, as :func:`read_bytes`, or where it is something else than text in UTF-8.
    """
    data = read_bytes(path, what, most=most)
    other = "UTF-16" if data.startswith(UTF_16) else "something else"
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ValueError(f"expected text in UTF-8, got {shown(path)}, which is {other}")
    # Marks stand in the middle too where such files were joined.
    return text.replace("\ufeff", "").replace("\r\n", "\n").replace("\r", "\n")
