"""Asking over a network: how long to wait, when to try again, and what to say of a failure.

All waiting for servers ends with the nearest :func:`deadline` around it: a verifier sets one for each of its calls, and
whoever calls a verifier may set a nearer one, such as what is left of a budget in seconds::

    with deadline(12.5):
        scores = verifier(images, prompt)  # an answer, or TimeIsUp after 12.5 seconds
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any, TypeVar

from noisewright.errors import VerifierFailed
from noisewright.outside.messages import short
from noisewright.outside.texts import clean

T = TypeVar("T")

TRANSIENT = frozenset({408, 409, 425, 429})
"""Statuses that may pass, besides those of 500 and more."""

LARGEST_ANSWER = 2**24
"""Bytes of an answer that are read."""

MOST_SECONDS = 1e8
"""Three years: what an operating system takes for a time-out."""

JITTER = random.Random()
"""A generator of our own: waiting must not use up the process's, which may be seeded for somebody's images."""

_until: ContextVar[tuple[float, bool]] = ContextVar("until", default=(math.inf, False))
"""The nearest deadline, and whether a verifier set it for itself."""


class TimeIsUp(VerifierFailed):
    """The deadline that the caller of a verifier had set came before the answer: the verifier need not be bad."""


def checked_seconds(what: str, given: Any) -> float:
    """A number of seconds, also as text.

    Args:
        what: ``timeout`` or ``deadline``, for messages.
        given: what should be one.

    Raises:
        ValueError: where it is not above 0, or no number.
    """
    try:
        found = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not 0 < found <= MOST_SECONDS:
        raise ValueError(f"expected a {what} in seconds above 0, got {short(given)}")
    return found


@contextmanager
def deadline(seconds: float | None, *, own: bool = False) -> Iterator[None]:
    """Let what is asked of servers inside wait no longer than this, all tries together.

    The nearest of several deadlines holds. It belongs to the context (:mod:`contextvars`): a thread has it that is
    started with a copy of it.

    Args:
        seconds: from now; None or infinity sets none.
        own: whether a verifier sets it for itself, so that it has failed where it ends with this one.
    """
    until = math.inf if seconds is None else time.monotonic() + max(seconds, 0.0)
    token = _until.set(min(_until.get(), (until, own)))
    try:
        yield
    finally:
        _until.reset(token)


def seconds_left() -> float:
    """Until the nearest :func:`deadline` around; 0 after it, infinity without one."""
    return max(_until.get()[0] - time.monotonic(), 0.0)


class LateError(Exception):
    """Something took longer than it was given."""


def within(seconds: float, work: Callable[[], T], leave: Callable[[], object] = lambda: None) -> T:
    """``work()`` in a thread of its own, whatever it waits for (a name, a connection, byte after byte of a header).

    Args:
        seconds: how long it is waited for.
        work: what to do.
        leave: called where it is waited for no longer, to have the thread end soon.

    Raises:
        LateError: where it takes longer; what ``work`` raises is raised here.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            with deadline(seconds, own=True):
                done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    # Not an executor, whose threads are waited for when Python ends.
    threading.Thread(target=copy_context().run, args=(run,), name="noisewright-request", daemon=True).start()
    try:
        return done.result(min(seconds, threading.TIMEOUT_MAX))
    except TimeoutError:  # also what a socket raises
        if done.done():
            raise
        leave()
        raise LateError(f"no answer within {seconds:.3g} seconds") from None
    except BaseException:  # Ctrl-C
        if not done.done():
            leave()
        raise


class Transient(Exception):
    """A request failed in a way that may pass.

    Args:
        reason: one line.
        wait: seconds that the server asked for, or None.
        status: the HTTP status, where there was one.

    Attributes:
        time_is_up: whether there was no other try because of a :func:`deadline` that a verifier's caller set.
    """

    time_is_up = False

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

    def seconds(self, failed: int, wanted: float | None = None) -> float:
        """How long to wait after the ``failed``-th failure: what the server ``wanted``, or longer by itself.

        The exponential wait is drawn from its upper half, so that clients that failed together do not return together.
        """
        own = self.first * 2 ** (failed - 1) * JITTER.uniform(0.5, 1.0)
        return min(max(own, wanted or 0.0), self.longest)

    def run(self, work: Callable[[int], T], pause: Callable[[float], object] = time.sleep) -> T:
        """Call ``work`` with the number of the try, from 1, until it does not raise :class:`Transient`.

        Raises:
            Transient: the last one; the first after which the :func:`deadline` allows no other try.
        """
        for number in range(1, self.tries + 1):
            if seconds_left() <= 0:
                raise _late(Transient("no time was left to ask"))
            try:
                return work(number)
            except Transient as error:
                wait = self.seconds(number, error.wait)
                if wait >= seconds_left():
                    raise _late(error) from error.__cause__
                if number == self.tries:
                    raise
                pause(wait)
        raise ValueError(f"expected at least one try, got {self.tries}")


def _late(error: Transient) -> Transient:
    error.time_is_up = not _until.get()[1]
    return error


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
        except (TypeError, ValueError, OverflowError, OSError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def is_local(host: str | None) -> bool:
    """Whether a host's name means this machine, whose traffic nobody else sees and which no proxy can reach."""
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False


def one_line(error: BaseException, most: int = 200) -> str:
    """What an error says, in one clean line of at most ``most`` characters; its class where it says nothing."""
    return clean(error, most)
