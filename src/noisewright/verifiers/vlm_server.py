"""Questions about images to any server that speaks OpenAI's chat completions (needs the extra ``judge``)."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from noisewright.outside.texts import clean
from noisewright.verifiers.addresses import KEY, key_for, origin, own_server
from noisewright.verifiers.completions import BadAnswerError, FatalError, probability_of, text_of
from noisewright.verifiers.http import base64_png
from noisewright.verifiers.openai_client import NO_KEY, TooLongError, client_of, is_openai, server_of
from noisewright.verifiers.retry import (
    BackOff,
    LateError,
    Transient,
    checked_seconds,
    deadline,
    is_transient,
    one_line,
    retry_after,
    seconds_left,
    within,
)

LONGEST_SECONDS = 300.0
"""Of one call, where nothing else is said, however few its images; with more images, ``timeout`` for each round."""

FATAL = frozenset({401, 404})
"""Statuses that every other request will get too."""

REDIRECTS = range(300, 400)
"""Not followed: the images would go to whom nobody named."""

CANDIDATES = 20
"""Most likely first tokens that are asked for, among which "Yes" and "No" are looked for."""

FORMATS = re.compile(r"response.?format|json.?schema|structured.?output|guided.?(?:json|decoding)", re.IGNORECASE)
"""What a server names that does not take ``response_format``."""

REFUSED_FORMATS = frozenset({400, 404, 415, 422, 500, 501})
"""Statuses with which servers refuse what they do not know."""

LARGEST_MESSAGE = 10_000
"""Characters of an error that are looked at."""

T = TypeVar("T")


@dataclass
class Usage:
    """What was asked of a server so far.

    Attributes:
        requests: sent, failed ones included.
        input_tokens, output_tokens: as the server counts them; failed requests are not counted by it.
        prices: for a million input and a million output tokens, in the caller's currency, or None.
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    prices: tuple[float, float] | None = None

    @property
    def cost(self) -> float | None:
        """In the currency of ``prices``; None without them."""
        if self.prices is None:
            return None
        return (self.input_tokens * self.prices[0] + self.output_tokens * self.prices[1]) / 1e6

    def __str__(self) -> str:
        text = f"{self.requests} requests ({self.input_tokens} tokens in, {self.output_tokens} out)"
        return text if self.cost is None else f"{text} for {self.cost:.4g}"


class Server:
    """A model behind an OpenAI-compatible server.

    Statuses 408, 409, 425, 429 and from 500, cut connections, time-outs and answers that cannot be used are asked for
    again, with exponential waits, or as long as ``Retry-After`` says. Answers come in the order of the images.

    The key of ``OPENAI_API_KEY`` is sent to the server that it was given for alone, that of ``OPENAI_BASE_URL`` or else
    OpenAI's; another server gets one with ``key_env``, or a placeholder. Keys are sent over https or to this machine.

    Args:
        model: as the server calls it.
        base_url: of the server; by default that of ``OPENAI_BASE_URL``, or OpenAI's.
        key_env: the environment variable that holds this server's key.
        workers: requests at once.
        tries: how often one image is asked about at most.
        timeout: seconds that one request may take.
        deadline: seconds that one call may take, all images and tries together; by default ``timeout`` for each round
            of ``workers`` images, and at least :data:`LONGEST_SECONDS`.
        temperature: of sampling; None leaves it to the server (some models refuse any but their own).
        prices: for a million input and a million output tokens; only for the cost count.
        back_off: the waits between tries, in place of ``tries``.

    Raises:
        ValueError: without the ``openai`` package, without a key where one is needed, or on arguments out of range.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        key_env: str | None = None,
        workers: int = 4,
        tries: int = 5,
        timeout: float = 60.0,
        deadline: float | None = None,
        temperature: float | None = 0.0,
        prices: tuple[float, float] | None = None,
        back_off: BackOff | None = None,
    ) -> None:
        for what, value in (("workers", workers), ("tries", tries)):
            if value < 1:
                raise ValueError(f"expected {what} of at least 1, got {value}")
        if prices is not None and not all(price >= 0 for price in prices):
            raise ValueError(f"expected prices of at least 0, got {prices}")
        self.timeout = checked_seconds("timeout", timeout)
        self.deadline = None if deadline is None else checked_seconds("deadline", deadline)
        url, query = server_of(base_url)
        self.model = model
        self.url = url
        self.workers = workers
        self.back_off = back_off or BackOff(tries)
        self.temperature = temperature
        self.usage = Usage(prices=prices)
        self.fingerprint = hashlib.sha256(json.dumps(["server-1", url, model, temperature]).encode()).hexdigest()[:16]
        self._key_env = key_env
        self.client = client_of(url, self.timeout, key_for(url, key_env), query)
        self._takes_format = True
        self._lock = threading.Lock()

    def read(
        self, images: Sequence[np.ndarray], question: str, schema: dict[str, Any], parse: Callable[[str], Any]
    ) -> Iterator[Any]:
        """What ``parse`` makes of the text about each (height, width, 3) uint8 image, or an Exception, in their order.

        Text for which ``parse`` raises a ValueError is asked for again, with its reason.
        """
        form = {"type": "json_schema", "json_schema": {"name": "rating", "strict": True, "schema": schema}}

        def one(image: np.ndarray, refused: str | None) -> Any:
            text = text_of(self._formatted(image, question, refused, form))
            try:
                return parse(text)
            except ValueError as error:
                raise BadAnswerError(str(error)) from error

        return self._each(images, one)

    def yes(self, images: Sequence[np.ndarray], question: str) -> Iterator[float | Exception]:
        """P(Yes) / (P(Yes) + P(No)) of the first token about each image, or an Exception, in their order.

        A token counts as one of the two whatever its case and the space before it; one that is not among the most
        likely :data:`CANDIDATES` has probability 0. Needs a server that gives ``logprobs``.
        """

        def one(image: np.ndarray, refused: str | None) -> float:
            longest = "max_completion_tokens" if is_openai(self.url) else "max_tokens"
            options = {"logprobs": True, "top_logprobs": CANDIDATES, longest: 1}
            return probability_of(self._complete(image, question, None, **options))

        return self._each(images, one)

    def _each(self, images: Sequence[np.ndarray], work: Callable[[np.ndarray, str | None], T]) -> Iterator[Any]:
        """``work`` on each image, several at once; results and exceptions in the images' order."""
        stop = threading.Event()
        fatal: list[Exception] = []  # of a request whose failure every other one would share

        def safely(image: np.ndarray) -> Any:
            if fatal or stop.is_set():
                return fatal[0] if fatal else Transient("stopped")
            try:
                return self._tried(image, work, stop)
            except FatalError as error:
                fatal.append(error)
                return error
            except Exception as error:
                return error

        answers: list[Future[Any]] = [Future() for _ in images]
        todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        for row in range(len(images)):
            todo.put(row)

        def take() -> None:
            while True:
                try:
                    row = todo.get_nowait()
                except queue.Empty:
                    return
                answers[row].set_result(safely(images[row]))

        workers = min(self.workers, len(images))
        rounds = -(-len(images) // max(workers, 1))
        with deadline(self.deadline or max(LONGEST_SECONDS, rounds * self.timeout), own=True):
            contexts = [copy_context() for _ in range(workers)]
        # Not an executor, whose threads are waited for when Python ends: a silent server would hold it up after Ctrl-C.
        for context in contexts:
            threading.Thread(target=context.run, args=(take,), name="noisewright-judge", daemon=True).start()
        try:
            for one in answers:
                yield one.result()
        finally:  # also when Ctrl-C came, or nobody wants the rest
            stop.set()

    def _formatted(self, image: np.ndarray, question: str, refused: str | None, form: dict[str, Any]) -> Any:
        """A completion in a form; in none, from the first time on that the server does not take it."""
        if self._takes_format:
            try:
                return self._complete(image, question, refused, response_format=form)
            except _NoFormatError:
                self._takes_format = False
        return self._complete(image, question, refused)

    def _tried(self, image: np.ndarray, work: Callable[[np.ndarray, str | None], T], stop: threading.Event) -> T:
        refused: str | None = None

        def once(number: int) -> T:
            nonlocal refused
            if stop.is_set():
                raise FatalError("stopped")
            try:
                return work(image, refused)
            except BadAnswerError as error:
                refused = str(error)
                raise Transient(refused) from error

        return self.back_off.run(once, stop.wait)

    def _complete(self, image: np.ndarray, question: str, refused: str | None, **options: Any) -> Any:
        """One completion.

        Raises:
            Transient: where it may help to ask again.
            ValueError: where it will not, for this image.
            FatalError: for any image.
        """
        import openai

        content: list[dict[str, Any]] = [
            {"type": "text", "text": question},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64_png(image)}"}},
        ]
        if refused is not None:
            content.append({"type": "text", "text": f"An answer before was refused: {refused}."})
        if self.temperature is not None:
            options["temperature"] = self.temperature
        with self._lock:
            self.usage.requests += 1
        messages: Any = [{"role": "user", "content": content}]
        seconds = min(self.timeout, seconds_left())
        create = partial(self.client.chat.completions.create, model=self.model, messages=messages, timeout=seconds)
        try:
            found = within(seconds, lambda: create(**options))
        except openai.APIStatusError as error:
            raise self._status(error, "response_format" in options) from error
        except openai.APIConnectionError as error:  # a time-out too
            reason = error.__cause__ or error
            if isinstance(reason, TooLongError):
                raise ValueError(f"{self.url}: {reason}") from error
            raise Transient(f"{self.url}: {one_line(reason)}") from error
        except LateError as error:
            raise Transient(f"{self.url}: {error}") from error
        except TooLongError as error:
            raise ValueError(f"{self.url}: {error}") from error
        except (openai.APIError, ValueError, RecursionError) as error:  # a body that is no JSON
            raise Transient(f"{self.url}: {one_line(error)}") from error
        counted = getattr(found, "usage", None)
        with self._lock:
            self.usage.input_tokens += _count(getattr(counted, "prompt_tokens", 0))
            self.usage.output_tokens += _count(getattr(counted, "completion_tokens", 0))
        return found

    def _status(self, error: Any, formatted: bool) -> Exception:
        """What a status of 300 and more means."""
        status, headers = error.status_code, error.response.headers
        if status in REDIRECTS:
            return FatalError(
                f"{self.url} sends requests on to {clean(headers.get('location'), 200)}: give that address"
            )
        if formatted and status in REFUSED_FORMATS and FORMATS.search(f"{error} {error.body}"[:LARGEST_MESSAGE]):
            return _NoFormatError()
        text = f"{self.url}: HTTP status {status}: {one_line(error)}"
        if status in FATAL or error.code == "insufficient_quota":
            return FatalError(f"{text}{self._keyless() if status == 401 else ''}")
        if is_transient(status):
            return Transient(text, retry_after(headers.get("retry-after")), status)
        return ValueError(text)

    def _keyless(self) -> str:
        """Why a server that wants a key got none, where it got none."""
        if self.client.api_key != NO_KEY or not os.environ.get(KEY):
            return ""
        if origin(self.url) == origin(own_server()[0]):
            return f" (no key was sent, since {self.url} is not https)"
        return f" (no key was sent: {KEY} is for {own_server()[0]}; name this server's with key_env=NAME)"


def _count(given: Any) -> int:
    """A number of tokens; 0 of what is none, for an answer is worth more than its bill."""
    return given if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < 2**53 else 0


class _NoFormatError(Exception):
    """A server that takes no ``response_format``."""
