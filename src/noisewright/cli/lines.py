"""Progress where there is no terminal: a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 30.0
"""Between two lines, and before the first."""


def every_30_seconds(say: Callable[[str], None]) -> Callable[[str], None]:
    """Passes a text on to ``say`` where the last one, or the beginning, was half a minute ago; drops it otherwise."""
    last = time.monotonic()

    def tell(text: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS:
            last = now
            say(text)

    return tell
