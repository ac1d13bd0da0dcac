"""Trying again over a network: how long to wait, and what to say of a failure."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

T = TypeVar("T")

TRANSIENT = frozenset({408, 409, 425, 429})
"""Statuses that may pass, besides those of 500 and more."""

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class Transient(Exception):
    """A request failed in a way that may pass.

    Args:
        reason: one line.
        wait: seconds that the server asked for, or None.
        status: the HTTP status, where there was one.
    """

    def __init__(self, reason: str, wait: float | None = None, status: int | None = None) -> None:
        super().__init__(reason)
        self.wait = wait
        self.status = status


@dataclass(frozen=True)
class BackOff:
    """Exponential waits with jitter.

    Attributes:
        tries: how often a request is sent at most.
        first: seconds before the second try; twice as long before each next one.
        longest: seconds that no wait exceeds, whatever the server asks for.
    """

    tries: int = 5
    first: float = 0.5
    longest: float = 60.0

    def seconds(self, failed: int, asked: float | None = None) -> float:
        """How long to wait after the ``failed``-th failure: what the server ``asked`` for, or longer by itself.

        The exponential wait is drawn from its upper half, so that clients that failed together do not return together.
        """
        own = self.first * 2 ** (failed - 1) * random.uniform(0.5, 1.0)
        return min(max(own, asked or 0.0), self.longest)

    def run(self, work: Callable[[int], T], pause: Callable[[float], object] = time.sleep) -> T:
        """Call ``work`` with the number of the try, from 1, until it does not raise :class:`Transient`.

        Raises:
            Transient: the last one.
        """
        for number in range(1, self.tries + 1):
            try:
                return work(number)
            except Transient as error:
                if number == self.tries:
                    raise
                pause(self.seconds(number, error.wait))
        raise ValueError(f"expected at least one try, got {self.tries}")


def is_transient(status: int) -> bool:
    """Whether an HTTP status may pass."""
    return status in TRANSIENT or status >= 500


def retry_after(text: str | None) -> float | None:
    """Seconds of a ``Retry-After`` header, which is a number or an HTTP date (RFC 9110); None where it is neither."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def one_line(error: BaseException, most: int = 200) -> str:
    """What an error says, in one line of at most ``most`` characters; its class where it says nothing."""
    text = " ".join(str(error).split())
    return text[:most] if text else type(error).__name__
