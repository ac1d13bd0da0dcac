"""Questions about images to any server that speaks OpenAI's chat completions (needs the extra ``judge``)."""

from __future__ import annotations

import hashlib
import json
import math
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

from noisewright.verifiers.http import base64_png, checked_url
from noisewright.verifiers.retry import LOCAL_HOSTS, BackOff, Transient, is_transient, one_line, retry_after

OPENAI_URL = "https://api.openai.com/v1"
KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
NO_KEY = "none"
"""Sent to servers that ask for no key, since the client wants to send one."""

FATAL = frozenset({401, 404})
"""Statuses that every other request will get too."""

REDIRECTS = range(300, 400)
"""Not followed: the images would go to whom nobody named."""

CANDIDATES = 20
"""Most likely first tokens that are asked for, among which "Yes" and "No" are looked for."""

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

    The key is read from ``OPENAI_API_KEY`` and from nowhere else, and is sent over https or to this machine only; other
    servers, and this machine's where there is no key, get a placeholder.

    Args:
        model: as the server calls it.
        base_url: of the server; by default that of ``OPENAI_BASE_URL``, or OpenAI's.
        workers: requests at once.
        tries: how often one image is asked about at most.
        timeout: seconds that the server may be silent.
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
        workers: int = 4,
        tries: int = 5,
        timeout: float = 60.0,
        temperature: float | None = 0.0,
        prices: tuple[float, float] | None = None,
        back_off: BackOff | None = None,
    ) -> None:
        for what, value in (("workers", workers), ("tries", tries)):
            if value < 1:
                raise ValueError(f"expected {what} of at least 1, got {value}")
        if not timeout > 0:
            raise ValueError(f"expected a timeout of more than 0 seconds, got {timeout}")
        if prices is not None and not all(price >= 0 for price in prices):
            raise ValueError(f"expected prices of at least 0, got {prices}")
        url = checked_url(base_url or os.environ.get(URL) or OPENAI_URL).rstrip("/")
        self.model = model
        self.url = url
        self.workers = workers
        self.back_off = back_off or BackOff(tries)
        self.temperature = temperature
        self.usage = Usage(prices=prices)
        self.fingerprint = hashlib.sha256(json.dumps(["server-1", url, model, temperature]).encode()).hexdigest()[:16]
        self._client = _client(url, timeout)
        self._lock = threading.Lock()

    def read(
        self, images: Sequence[np.ndarray], question: str, schema: dict[str, Any], parse: Callable[[str], Any]
    ) -> Iterator[Any]:
        """What ``parse`` makes of the text about each (height, width, 3) uint8 image, or an Exception, in their order.

        Text for which ``parse`` raises a ValueError is asked for again, with its reason.
        """
        form = {"type": "json_schema", "json_schema": {"name": "rating", "strict": True, "schema": schema}}

        def one(image: np.ndarray, refused: str | None) -> Any:
            text = _text(self._complete(image, question, refused, response_format=form))
            try:
                return parse(text)
            except ValueError as error:
                raise _BadAnswerError(str(error)) from error

        return self._each(images, one)

    def yes(self, images: Sequence[np.ndarray], question: str) -> Iterator[float | Exception]:
        """P(Yes) / (P(Yes) + P(No)) of the first token about each image, or an Exception, in their order.

        A token counts as one of the two whatever its case and the space before it; one that is not among the most
        likely :data:`CANDIDATES` has probability 0. Needs a server that gives ``logprobs``.
        """

        def one(image: np.ndarray, refused: str | None) -> float:
            longest = "max_completion_tokens" if is_openai(self.url) else "max_tokens"
            options = {"logprobs": True, "top_logprobs": CANDIDATES, longest: 1}
            return _probability(self._complete(image, question, None, **options))

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
            except _FatalError as error:
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

        # Not an executor, whose threads are waited for when Python ends: a silent server would hold it up after Ctrl-C.
        for _ in range(min(self.workers, len(images))):
            threading.Thread(target=take, name="noisewright-judge", daemon=True).start()
        try:
            for one in answers:
                yield one.result()
        finally:  # also when Ctrl-C came, or nobody wants the rest
            stop.set()

    def _tried(self, image: np.ndarray, work: Callable[[np.ndarray, str | None], T], stop: threading.Event) -> T:
        refused: str | None = None

        def once(number: int) -> T:
            nonlocal refused
            if stop.is_set():
                raise _FatalError("stopped")
            try:
                return work(image, refused)
            except _BadAnswerError as error:
                refused = str(error)
                raise Transient(refused) from error

        return self.back_off.run(once, stop.wait)

    def _complete(self, image: np.ndarray, question: str, refused: str | None, **options: Any) -> Any:
        """One completion.

        Raises:
            Transient: where it may help to ask again.
            ValueError: where it will not, for this image.
            _FatalError: for any image.
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
        try:
            found = self._client.chat.completions.create(model=self.model, messages=messages, **options)
        except openai.APIStatusError as error:
            raise self._status(error) from error
        except openai.APIConnectionError as error:  # a time-out too
            raise Transient(f"{self.url}: {one_line(error.__cause__ or error)}") from error
        except (openai.APIError, ValueError) as error:  # a body that is no JSON
            raise Transient(f"{self.url}: {one_line(error)}") from error
        counted = getattr(found, "usage", None)
        with self._lock:
            self.usage.input_tokens += getattr(counted, "prompt_tokens", 0) or 0
            self.usage.output_tokens += getattr(counted, "completion_tokens", 0) or 0
        return found

    def _status(self, error: Any) -> Exception:
        """What a status of 400 and more means."""
        if error.status_code in REDIRECTS:
            where = error.response.headers.get("location")
            return _FatalError(f"{self.url} sends requests on to {where}: give that address")
        text = f"{self.url}: HTTP status {error.status_code}: {one_line(error)}"
        if error.status_code in FATAL or error.code == "insufficient_quota":
            return _FatalError(text)
        if is_transient(error.status_code):
            return Transient(text, retry_after(error.response.headers.get("retry-after")), error.status_code)
        return ValueError(text)


class _FatalError(Exception):
    """A failure that every other request would share."""


class _BadAnswerError(Exception):
    """An answer that cannot be used, with the reason."""


def _client(url: str, timeout: float) -> Any:
    """The ``openai`` client of a server, without its own retries; OpenAI alone hears of organization and project."""
    host = str(urlsplit(url).hostname)
    key = os.environ.get(KEY)
    if not key and url == OPENAI_URL:
        raise ValueError(f"expected an API key in {KEY} for {url} (or another server in {URL}), got none")
    if not key and host not in LOCAL_HOSTS and url.startswith("https:"):
        raise ValueError(f"expected an API key in {KEY} for {url}, got none")
    if host not in LOCAL_HOSTS and not url.startswith("https:"):
        key = None
    try:
        import openai
    except ImportError:
        raise ValueError("expected the openai package for this verifier: pip install 'noisewright[judge]'") from None
    http = openai.DefaultHttpxClient(follow_redirects=False, trust_env=host not in LOCAL_HOSTS)
    found = openai.OpenAI(api_key=key or NO_KEY, base_url=url, max_retries=0, timeout=timeout, http_client=http)
    if not is_openai(url):  # both are read from the environment
        found.organization = found.project = None
    return found


def is_openai(url: str) -> bool:
    """Whether a server is OpenAI's own, of whatever region."""
    parts = urlsplit(url)
    return parts.scheme == "https" and f".{parts.hostname}".endswith(".api.openai.com")


def _text(found: Any) -> str:
    """The text of a completion.

    Raises:
        _BadAnswerError: where there is none.
    """
    try:
        choice = found.choices[0]
        text, refusal = choice.message.content, choice.message.refusal
    except (AttributeError, IndexError, TypeError):
        raise _BadAnswerError("expected a chat completion, got something else") from None
    if not isinstance(text, str) or not text.strip():
        raise _BadAnswerError(f"expected a text, got {refusal or 'none'}")
    return text


def _probability(found: Any) -> float:
    """P(Yes) / (P(Yes) + P(No)) of the first token of a completion.

    Raises:
        _FatalError: where the server gives no log-probabilities, which it will not for the other images either.
        _BadAnswerError: where there is another reason for none.
    """
    total = {"yes": 0.0, "no": 0.0}
    try:
        given = found.choices[0].logprobs
        if given is None:
            raise _FatalError("expected log-probabilities of the first token, got none from this server")
        for one in given.content[0].top_logprobs:
            word = one.token.strip().lower()
            if word in total:
                total[word] += math.exp(one.logprob)
    except (AttributeError, IndexError, TypeError, OverflowError):
        raise _BadAnswerError("expected log-probabilities of the first token, got something else") from None
    if not sum(total.values()) > 0:
        raise _BadAnswerError("expected Yes or No among the likely first tokens, got neither")
    return total["yes"] / sum(total.values())
