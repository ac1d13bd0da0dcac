"""All that is wrong with a spec, collected, each with its line."""

from __future__ import annotations

from collections.abc import Mapping

from noisewright.benchmark.toml_lines import Lines, Path

MOST_SHOWN = 50


class SpecError(ValueError):
    """What is wrong with a spec: one line a problem.

    Attributes:
        problems: the lines.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        left = len(problems) - MOST_SHOWN
        super().__init__("\n".join(problems[:MOST_SHOWN] + ([f"and {left} more"] if left > 0 else [])))


class Problems:
    """Collects what is wrong.

    Args:
        name: of the file, or of the option; "" where there is none to name.
        lines: where the file's keys stand; None where there is no file.

    Attributes:
        warnings: what a person should know besides.
    """

    def __init__(self, name: str = "", lines: Lines | None = None) -> None:
        self._name = name
        self._lines = lines
        self._found: list[tuple[int, str]] = []
        self._moved: dict[Path, Path | None] = {}
        self.warnings: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def move(self, where: Mapping[Path, Path | None]) -> None:
        """Say where values stand that are looked at in another place: None is outside of the file."""
        self._moved.update(where)

    def add(self, text: str, *path: str | int) -> None:
        """A problem with what stands at a path; without one, with the whole."""
        at = self._place(path)
        line = self._lines(*at) if self._lines is not None and at else 0
        where = f"line {line} of {self._name}: " if line else f"{self._name}: " if self._name and at is not None else ""
        one = (line, f"{where}{text}")
        if one not in self._found:
            self._found.append(one)

    def _place(self, path: Path) -> Path | None:
        for length in range(len(path), 0, -1):
            if path[:length] in self._moved:
                place = self._moved[path[:length]]
                return None if place is None else (*place, *path[length:])
        return path

    @property
    def found(self) -> list[str]:
        """The problems, in the order of the lines."""
        return [text for _, text in sorted(self._found, key=lambda one: one[0])]

    def raise_any(self) -> None:
        """Raise what was found.

        Raises:
            SpecError: where something was.
        """
        if self._found:
            raise SpecError(self.found)
