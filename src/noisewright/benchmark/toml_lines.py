"""Where in a TOML text each key and each element of a list stands, which ``tomllib`` does not tell."""

from __future__ import annotations

import tomllib
from bisect import bisect_left
from collections import Counter

Path = tuple[str | int, ...]
"""Keys of tables and places in lists, from the top."""


class Lines:
    """The lines of a TOML text that ``tomllib`` could read, by path: of a key, of a table's head, of a list's element.

    Args:
        text: what was read.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [at for at, one in enumerate(text) if one == "\n"]
        self._found: dict[Path, int] = {}
        self._counts: Counter[Path] = Counter()
        self._read()

    def __call__(self, *path: str | int) -> int:
        """The line of a path, from 1; of what has none, that of the nearest above it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._found:
                return self._found[path[:length]]
        return 1

    @property
    def _line(self) -> int:
        return bisect_left(self._ends, self._at) + 1

    def _read(self) -> None:
        table: Path = ()
        while self._skip(" \t\n"):
            if self._text.startswith("[", self._at):
                table = self._head()
            else:
                line, keys = self._line, self._keys()
                path = (*table, *keys)
                self._mark(path, line)
                self._at += 1  # the equals sign
                self._value(path)

    def _mark(self, path: Path, line: int) -> None:
        self._found.setdefault(path, line)

    def _head(self) -> Path:
        line, several = self._line, self._text.startswith("[[", self._at)
        self._at += 1 + several
        path: Path = ()
        for key in self._keys():
            path = (*path, key)
            if path in self._counts:  # inside the last of a list of tables
                path = (*path, self._counts[path] - 1)
        if several:
            bare = path[:-1] if path and isinstance(path[-1], int) else path
            self._mark(bare, line)
            path = (*bare, self._counts[bare])
            self._counts[bare] += 1
        self._mark(path, line)
        self._at += 1 + several
        return path

    def _skip(self, blanks: str) -> bool:
        """Go to the next character that is neither blank nor in a comment; whether there is one."""
        text = self._text
        while self._at < len(text):
            if text[self._at] == "#":
                end = text.find("\n", self._at)
                self._at = len(text) if end < 0 else end
            elif text[self._at] in blanks:
                self._at += 1
            else:
                return True
        return False

    def _keys(self) -> list[str]:
        """A dotted key, up to what ends it."""
        found = []
        while True:
            self._skip(" \t")
            if self._text[self._at] in "\"'":
                begin = self._at
                self._string()
                found.append(next(iter(tomllib.loads(f"{self._text[begin : self._at]} = 0"))))
            else:
                begin = self._at
                while self._text[self._at].isalnum() or self._text[self._at] in "_-":
                    self._at += 1
                found.append(self._text[begin : self._at])
            self._skip(" \t")
            if self._text[self._at] != ".":
                return found
            self._at += 1

    def _string(self) -> None:
        text, quote = self._text, self._text[self._at]
        mark = quote * 3 if text.startswith(quote * 3, self._at) else quote
        at = self._at + len(mark)
        while not text.startswith(mark, at):
            at += 2 if text[at] == "\\" and quote == '"' else 1
        while len(mark) == 3 and text.startswith(quote, at + 3):  # quotes right before the closing ones
            at += 1
        self._at = at + len(mark)

    def _value(self, path: Path) -> None:
        self._skip(" \t\n")
        first = self._text[self._at]
        if first in "\"'":
            self._string()
        elif first == "[":
            self._list(path)
        elif first == "{":
            self._inline(path)
        else:
            while self._at < len(self._text) and self._text[self._at] not in ",]}\n#":
                self._at += 1

    def _list(self, path: Path) -> None:
        self._at += 1
        place = 0
        while self._skip(" \t\n,") and self._text[self._at] != "]":
            self._mark((*path, place), self._line)
            self._value((*path, place))
            place += 1
        self._at += 1

    def _inline(self, path: Path) -> None:
        self._at += 1
        while self._skip(" \t\n,") and self._text[self._at] != "}":
            line, keys = self._line, self._keys()
            inner = (*path, *keys)
            self._mark(inner, line)
            self._at += 1
            self._value(inner)
        self._at += 1
