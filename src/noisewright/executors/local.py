"""Executors pack equal work into micro-batches. This one runs them in the process that asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import torch

from noisewright.errors import out_of_memory

Item = TypeVar("Item")
Output = TypeVar("Output")


class Executor(Protocol):
    """Where micro-batches run.

    Attributes:
        batch_size: the largest micro-batch; it shrinks when memory runs out, and is remembered.
    """

    batch_size: int

    def run(
        self,
        items: Sequence[Item],
        work: Callable[[Sequence[Item]], Output],
        allowed: Callable[[int], int],
    ) -> Iterator[tuple[Sequence[Item], Output]]:
        """Work through ``items`` in order, a micro-batch at a time.

        Args:
            items: equal pieces of work.
            work: does one micro-batch.
            allowed: given how many are next, how many the budget allows; 0 ends the iteration.

        Yields:
            Each micro-batch with its output, before the next one starts.
        """
        ...


class LocalExecutor:
    """Runs micro-batches in this process; on out-of-memory it halves the size, goes on, and remembers.

    Args:
        batch_size: the first size to try.
        on_shrink: called with the new size whenever it shrinks.
    """

    def __init__(self, batch_size: int, on_shrink: Callable[[int], None] | None = None) -> None:
        if batch_size < 1:
            raise ValueError(f"expected a batch size of at least 1, got {batch_size}")
        self.batch_size = batch_size
        self.on_shrink = on_shrink

    def run(
        self,
        items: Sequence[Item],
        work: Callable[[Sequence[Item]], Output],
        allowed: Callable[[int], int],
    ) -> Iterator[tuple[Sequence[Item], Output]]:
        done = 0
        while done < len(items):
            count = allowed(min(self.batch_size, len(items) - done))
            if count == 0:
                return
            batch = items[done : done + count]
            try:
                output = work(batch)
            except Exception as error:
                if not out_of_memory(error) or len(batch) == 1:
                    raise
                failed = True
            else:
                failed = False
            if failed:  # outside the handler, whose traceback still holds the tensors
                self._shrink(len(batch))
                continue
            yield batch, output
            done += len(batch)

    def _shrink(self, failed: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.batch_size = max(1, failed // 2)
        if self.on_shrink is not None:
            self.on_shrink(self.batch_size)
