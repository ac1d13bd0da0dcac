"""All that is wrong with a spec, collected, each with its line."""

from __future__ import annotations

from noisewright.benchmark.toml_lines import Lines

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
        name: of the file, as it is shown; "" where nothing was read from one.
        lines: where its keys stand; None where it has none.

    Attributes:
        warnings: what a person should know besides.
        standing_in: whether what a bundled model needs stands in for what the file says first.
    """

    def __init__(self, name: str = "", lines: Lines | None = None) -> None:
        self._name = name
        self._lines = lines
        self._found: list[tuple[int, str]] = []
        self.warnings: list[str] = []
        self.standing_in = ""

    def add(self, text: str, *path: str | int) -> None:
        """A problem with what stands at a path."""
        line = self._lines(*path) if self._lines is not None and path else 0
        where = f"line {line} of {self._name}: " if line else f"{self._name}: " if self._name else ""
        one = (line, f"{where}{text}")
        if one not in self._found:
            self._found.append(one)

    def stands_in(self, key: str) -> None:
        """Say that values of this table stand in for others, so that problems with them are looked for there."""
        self.standing_in = key

    def raise_any(self) -> None:
        """Raise what was found, in the order of the lines.

        Raises:
            SpecError: where something was.
        """
        if self._found:
            raise SpecError([text for _, text in sorted(self._found, key=lambda one: one[0])])
