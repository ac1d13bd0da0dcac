"""The noise that a pipeline draws inside its call: noted, or another put in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Draws(TorchFunctionMode):
    """Watches the unit noise that generators draw while it is entered, in this thread alone.

    Args:
        generators: one an image.
        place: which draw of each generator is the starting noise, where that is known.
        noise: what is given in its place, (batch, ...); None leaves it as it is drawn.

    Attributes:
        drawn: for each generator what it drew, in order.
    """

    def __init__(
        self, generators: Sequence[torch.Generator], place: int | None = None, noise: Tensor | None = None
    ) -> None:
        super().__init__()
        self._rows = {id(one): row for row, one in enumerate(generators)}
        self._place = place
        self._noise = noise
        self.drawn: list[list[Tensor]] = [[] for _ in generators]

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        row = self._rows.get(id((kwargs or {}).get("generator")))
        if func is not torch.randn or row is None:
            return found
        self.drawn[row].append(found)
        if self._noise is None or len(self.drawn[row]) - 1 != self._place:
            return found
        return self._noise[row].reshape(found.shape).to(found.device, found.dtype)

    def restart(self) -> None:
        """Forget what was drawn."""
        for row in self.drawn:
            row.clear()

    @property
    def last(self) -> int | None:
        """The place of the first generator's last draw; None where it drew nothing."""
        return len(self.drawn[0]) - 1 if self.drawn and self.drawn[0] else None

    @property
    def alike(self) -> bool:
        """Whether all generators drew as often."""
        return len({len(row) for row in self.drawn}) < 2

    def more_than_one(self, generator: torch.Generator) -> bool:
        """Whether the first generator, which began with the seed 0, drew more than one noise here and elsewhere."""
        again = torch.Generator("cpu").manual_seed(0)
        for one in self.drawn[0]:
            torch.randn(one.shape, generator=again, dtype=one.dtype)
        return len(self.drawn[0]) > 1 or not torch.equal(again.get_state(), generator.get_state())

    def noise(self, place: int) -> Tensor:
        """What was drawn at a place, (batch, ...), float32 on the CPU."""
        return torch.cat([row[place] for row in self.drawn]).detach().float().cpu()
