"""Vision-language models as verifiers: a rubric of six aspects, or the probability of "Yes".

A *backend* answers about one or several images: :class:`noisewright.verifiers.vlm_server.Server` (any
OpenAI-compatible server) or :class:`noisewright.verifiers.vlm_local.LocalModel` (transformers). Which of the two a name
means is told from the name alone:

==============================================  =================================================================
``gpt-4o-mini``                                 a model of the server in ``OPENAI_BASE_URL`` (by default OpenAI's)
``#OWNER/NAME``                                 the same, for a model whose name has a slash
``http://localhost:8000/v1#NAME``               a model of that server
``OWNER/NAME``, or a directory                  a model that runs here, through transformers
==============================================  =================================================================

``,KEY=VALUE`` after any of them sets an argument of :func:`make_vlm`: ``vlm:gpt-4o-mini,aspect=accuracy_to_prompt``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor

from noisewright.errors import VerifierFailed
from noisewright.images.metadata import pixels_of
from noisewright.outside.texts import clean
from noisewright.verifiers.cache import JsonCache, image_hashes, key_of
from noisewright.verifiers.protocol import Usage, Verifier, is_lasting, usage_of
from noisewright.verifiers.retry import TimeIsUp, checked_seconds
from noisewright.verifiers.rubric import (
    ASPECTS,
    OVERALL,
    RUBRIC_VERSION,
    SCHEMA,
    read_rating,
    rubric_question,
    yes_question,
)
from noisewright.verifiers.timeout import with_timeout

log = logging.getLogger("noisewright")

Answer = dict[str, Any] | Exception
"""The record of one image, or why there is none."""


class Backend(Protocol):
    """What answers about images.

    Attributes:
        model: how it is called.
        fingerprint: changes whenever its answers may.
    """

    model: str
    fingerprint: str

    def read(
        self, images: Sequence[np.ndarray], question: str, schema: dict[str, Any], parse: Callable[[str], Any]
    ) -> Iterable[Any]:
        """What ``parse`` makes of the text about each (height, width, 3) uint8 image, or an Exception, in their order.

        ``parse`` raises a ValueError where the text is no answer.
        """
        ...

    def yes(self, images: Sequence[np.ndarray], question: str) -> Iterable[float | Exception]:
        """The probability of the answer "Yes" about each image, or an Exception, in their order."""
        ...


class VlmVerifier:
    """Scores images by what a vision-language model says of them.

    Answers are remembered by (image hash, prompt, backend, rubric version), so an image is asked about once, whichever
    aspect is the score. An image without a valid answer gets NaN, and one line in the log says how many and why.

    Args:
        backend: what is asked.
        form: ``rubric`` (0 to 10, six aspects; Ma et al. 2025) or ``yes`` (0 to 1; VQAScore, Lin et al. 2024).
        aspect: of the rubric, which of :data:`~noisewright.verifiers.rubric.ASPECTS` is the score.
        name: what the scores are called.
        cache: a directory where answers outlive the process; None keeps them in memory.

    Raises:
        ValueError: on another form or aspect.
    """

    reads_prompt = True

    def __init__(
        self,
        backend: Backend,
        *,
        form: str = "rubric",
        aspect: str = OVERALL,
        name: str = "vlm",
        cache: str | Path | None = None,
    ) -> None:
        if form not in ("rubric", "yes"):
            raise ValueError(f"expected the form rubric or yes, got {form!r}")
        if aspect not in ASPECTS:
            raise ValueError(f"expected an aspect among {', '.join(ASPECTS)}, got {aspect!r}")
        if form == "yes" and aspect != OVERALL:
            raise ValueError(f"expected no aspect with the form yes, which has one score, got {aspect!r}")
        self.backend = backend
        self.form = form
        self.aspect = aspect
        self.name = name
        parts = (backend.fingerprint, form, RUBRIC_VERSION)
        self._asked = key_of(*parts)
        self.fingerprint = hashlib.sha256(json.dumps([*parts, aspect]).encode()).hexdigest()[:16]
        self._shelf = JsonCache(cache)
        if cache is not None and not self.lasting and not isinstance(backend, _Nothing):
            log.warning("answers of %s in %s are as old as they are: nothing says when a server changes", name, cache)

    def keep_in(self, directory: str | Path | None) -> None:
        """Remember answers in a directory from here on; None: in memory.

        Those of a server stay where they are: nothing says when it changes. Whoever wants them on disk all the same
        names a ``cache`` for it.
        """
        if directory is not None and not self.lasting:
            log.warning("scores of %s are not kept on disk: nothing says when a server changes", self.name)
        else:
            self._shelf = JsonCache(directory)

    @property
    def lasting(self) -> bool:
        """Whether the backend is a model whose weights are known; a server's may change under its name."""
        return is_lasting(self.backend)

    @property
    def usage(self) -> Usage | None:
        """What was asked so far (:class:`noisewright.verifiers.vlm_server.Usage`); None for a local model."""
        return usage_of(self.backend)

    @property
    def waits(self) -> bool:
        """Whether a server is asked."""
        return self.usage is not None

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        keys = self._keys(images, prompt)
        known = self._known(keys)
        new = {key: keys.index(key) for key in keys if key not in known}  # equal images: one request
        errors: list[Exception] = []
        if new:
            arrays = pixels_of(images)
            for key, answer in zip(new, self._ask([arrays[row] for row in new.values()], prompt), strict=True):
                if isinstance(answer, Exception):
                    errors.append(answer)
                else:
                    known[key] = answer
                    self._shelf.put({key: answer})
        if errors and not any(key in known for key in keys):
            kind = TimeIsUp if any(getattr(one, "time_is_up", False) for one in errors) else VerifierFailed
            raise kind(f"verifier {self.name}: {errors[0]}") from errors[0]
        if errors:
            bad = sum(key not in known for key in keys)
            log.warning("verifier %s: %s (NaN for %d of %d images)", self.name, errors[0], bad, len(keys))
        return [self._score(known[key]) if key in known else math.nan for key in keys]

    def details(self, images: Tensor, prompt: str) -> list[dict[str, Any] | None]:
        """The whole answers about images that were scored before: JSON-ready, None where there is none.

        Of a rubric: ``{aspect: {"score", "explanation"}}``, of as many aspects as the judge gave; of the form yes:
        ``{"yes": probability}``. Asks nothing.
        """
        keys = self._keys(images, prompt)
        known = self._shelf.get(keys)
        return [known.get(key) for key in keys]

    def _keys(self, images: Tensor, prompt: str) -> list[str]:
        return [key_of(image, prompt, self._asked) for image in image_hashes(images)]

    def _known(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Answers of before that have the score: a judge may give some aspects only."""
        known = self._shelf.get(keys)
        return {key: one for key, one in known.items() if self.form == "yes" or self.aspect in one}

    def _score(self, answer: dict[str, Any]) -> float:
        return float(answer["yes"] if self.form == "yes" else answer[self.aspect]["score"])

    def _ask(self, images: Sequence[np.ndarray], prompt: str) -> Iterable[Answer]:
        if self.form == "yes":
            found = self.backend.yes(images, yes_question(prompt))
            return (one if isinstance(one, Exception) else {"yes": one} for one in found)
        return self.backend.read(images, rubric_question(prompt), SCHEMA, partial(read_rating, aspect=self.aspect))


# Names


def make_vlm(
    model: str = "",
    name: str = "vlm",
    device: str = "cpu",
    aspect: str = OVERALL,
    cache: str | None = None,
    workers: int | None = None,
    tries: int | None = None,
    timeout: float | None = None,
    deadline: float | None = None,
    key_env: str | None = None,
    temperature: float | Literal["none"] | None = None,
    prices: str | None = None,
) -> Verifier:
    """``vlm:MODEL``: the rubric, 0 to 10; see the module's docstring for MODEL.

    Args:
        model: which model, and where.
        name: what the scores are called; the aspect is added where it is not the overall score.
        device: where a local model runs.
        aspect: which of the rubric's keys is the score.
        cache: a directory where answers are kept.
        workers, tries, timeout, deadline, key_env, temperature: of :class:`~noisewright.verifiers.vlm_server.Server`; a
            model that runs here takes the timeout alone, as every verifier does.
        prices: ``INPUT,OUTPUT`` for a million tokens, for the cost count.

    Raises:
        ValueError: on a name or an option that is none, a missing API key, or a model that does not load.
    """
    if aspect != OVERALL and name == "vlm":
        name = f"{name}-{aspect}"
    VlmVerifier(_Nothing(), aspect=aspect, cache=cache)  # what is wrong with these costs no model
    options = {
        "workers": workers, "tries": tries, "timeout": timeout, "deadline": deadline, "key_env": key_env,
        "temperature": temperature, "prices": prices,
    }  # fmt: skip
    backend = _backend(model, "vlm", device, {key: value for key, value in options.items() if value is not None})
    return _timed(VlmVerifier(backend, aspect=aspect, name=name, cache=cache), model, timeout)


def make_vqa(
    model: str = "",
    name: str = "vqa",
    device: str = "cpu",
    cache: str | None = None,
    workers: int | None = None,
    tries: int | None = None,
    timeout: float | None = None,
    deadline: float | None = None,
    key_env: str | None = None,
    prices: str | None = None,
) -> Verifier:
    """``vqa:MODEL``: the probability of "Yes", 0 to 1; the arguments are those of :func:`make_vlm`."""
    VlmVerifier(_Nothing(), form="yes", cache=cache)
    options = {
        "workers": workers, "tries": tries, "timeout": timeout, "deadline": deadline, "key_env": key_env,
        "prices": prices,
    }  # fmt: skip
    backend = _backend(model, "vqa", device, {key: value for key, value in options.items() if value is not None})
    return _timed(VlmVerifier(backend, form="yes", name=name, cache=cache), model, timeout)


def _timed(made: VlmVerifier, model: str, timeout: float | None) -> Verifier:
    """A model that runs here has the deadline of every verifier; a server has its own."""
    return made if timeout is None or is_server(model) else with_timeout(made, timeout)


def is_server(model: str) -> bool:
    """Whether a name means a server's model: it has a ``#``, or neither a slash nor a directory of that name."""
    return "#" in model or not ("/" in model or Path(model).is_dir())


def _backend(model: str, kind: str, device: str, options: dict[str, Any]) -> Backend:
    if not model or model.endswith("#") or ("://" in model and "#" not in model):
        raise ValueError(
            f"expected a model such as {kind}:gpt-4o-mini, {kind}:http://localhost:8000/v1#MODEL or "
            f"{kind}:Qwen/Qwen2.5-VL-3B-Instruct, got {clean(kind + ':' + model if model else kind)!r}"
        )
    if not is_server(model):
        if "timeout" in options:
            checked_seconds("timeout", options.pop("timeout"))
        if options:
            raise ValueError(
                f"expected no {next(iter(options))} for a model that runs here, got {clean(model)!r} with one"
            )
        from noisewright.verifiers.vlm_local import LocalModel

        return LocalModel(model, device=device)
    from noisewright.verifiers.vlm_server import Server

    if options.get("temperature") == "none":
        options["temperature"] = None
    if "prices" in options:
        options["prices"] = _prices(options["prices"])
    url, _, rest = model.rpartition("#")
    return Server(rest, base_url=url or None, **options)


def _prices(text: str) -> tuple[float, float]:
    try:
        given, answered = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"expected prices as INPUT,OUTPUT for a million tokens, got {text!r}") from None
    return given, answered


class _Nothing:
    """A backend that only lets the rest be checked."""

    model = fingerprint = ""

    def read(self, *args: Any) -> Iterable[Any]:
        return ()

    def yes(self, *args: Any) -> Iterable[float | Exception]:
        return ()
