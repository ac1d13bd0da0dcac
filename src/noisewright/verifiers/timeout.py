"""A deadline for any verifier: a call that does not come back is left behind, and the verifier has failed."""

from __future__ import annotations

import atexit
import contextvars
import ctypes
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from noisewright.errors import VerifierFailed
from noisewright.verifiers.answers import Unreadable
from noisewright.verifiers.guarded import call
from noisewright.verifiers.protocol import (
    AcceptsImages,
    Billed,
    ChecksPrompt,
    DifferentiableVerifier,
    GivesDetails,
    KeepsAnswers,
    Usage,
    Verifier,
    WaitsForServer,
    WantsPreviews,
    as_verifier,
    ask,
    is_lasting,
    usage_of,
    waits,
)
from noisewright.verifiers.retry import checked_seconds

T = TypeVar("T")

GRACE_SECONDS = 1.0
"""How long the end of the process waits for calls that were left behind, once they are told to stop."""

_left: list[threading.Thread] = []


def with_timeout(verifier: Any, seconds: float) -> Verifier:
    """A verifier (or a function) whose calls fail where they take longer.

    Each call runs in a thread of its own. One that does not come back in time goes on in the background, for Python
    cannot end a thread, but nobody waits for it, not even at the end of the process; its images get NaN, and while it
    goes on the verifier is not asked again.

    Args:
        verifier: as :func:`noisewright.search` takes it, but no name: there it is ``"clip:timeout=30"``.
        seconds: of one call, which scores a micro-batch.

    Raises:
        ValueError: where ``seconds`` is no number above 0.
        TypeError: where the first argument is no verifier.
    """
    inner = as_verifier(verifier)
    parts = [part for protocol, part in PARTS.items() if isinstance(inner, protocol)]
    kind = type("Timed", (*parts, Timed), {"lasting": Timed.lasting})
    return kind(inner, checked_seconds("timeout", seconds))  # type: ignore[no-any-return]


class Timed:
    """A verifier with a deadline; everything else is the verifier's own. See :func:`with_timeout`."""

    def __init__(self, verifier: Verifier, seconds: float) -> None:
        self.verifier, self.seconds = verifier, seconds
        self._left: threading.Thread | None = None

    @property
    def name(self) -> str:
        return self.verifier.name

    @property
    def fingerprint(self) -> str:
        return self.verifier.fingerprint

    @property
    def lasting(self) -> bool:
        return is_lasting(self.verifier)

    def __call__(self, images: Tensor, prompt: str, previews: Tensor | None = None) -> Sequence[float]:
        try:
            return self._within(ask, self.verifier, images, prompt, previews)
        except Unreadable as error:
            raise VerifierFailed(f"verifier {self.name}: {error}") from None

    def __getattr__(self, name: str) -> Any:
        if name in ("verifier", "seconds") or name.startswith("__"):  # not there yet while it is copied
            raise AttributeError(name)
        return getattr(self.verifier, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return with_timeout, (self.verifier, self.seconds)

    def _within(self, function: Callable[..., T], *given: Any) -> T:
        """``function`` in a thread; what it raises is raised here.

        Raises:
            VerifierFailed: where it is not back in time, or an earlier one is not back yet.
        """
        if self._left is not None and self._left.is_alive():
            raise VerifierFailed(
                f"verifier {self.name}: not asked, while a call that took longer than {self.seconds:g} s goes on"
            )
        back = threading.Event()
        came: list[tuple[bool, Any]] = []
        grad, context = torch.is_grad_enabled(), contextvars.copy_context()  # both belong to a thread

        def work() -> None:
            try:
                with torch.set_grad_enabled(grad):
                    came.append((True, context.run(call, function, *given)))
            except BaseException as error:  # whatever it is: it is raised again where it is waited for
                came.append((False, error))
            finally:
                back.set()

        # Not an executor, whose threads are waited for when Python ends.
        thread = threading.Thread(target=work, name=f"noisewright-{self.name}", daemon=True)
        thread.start()
        if not back.wait(self.seconds):
            self._left = thread
            if not _left:
                atexit.register(_stop_left)
            _left.append(thread)
            raise VerifierFailed(f"verifier {self.name}: no answer within {self.seconds:g} s")
        fine, found = came[0]
        if not fine:
            raise found
        return found  # type: ignore[no-any-return]


class _ChecksPrompt(Timed):
    def check(self, prompt: str) -> None:
        self._within(self.verifier.check, prompt)  # type: ignore[attr-defined]


class _GivesDetails(Timed):
    def details(self, images: Tensor, prompt: str) -> list[Any]:
        return self._within(self.verifier.details, images, prompt)  # type: ignore[attr-defined,no-any-return]


class _Differentiable(Timed):
    def gradient_scores(self, images: Tensor, prompt: str) -> Tensor:
        return self._within(self.verifier.gradient_scores, images, prompt)  # type: ignore[attr-defined,no-any-return]


class _WantsPreviews(Timed):
    @property
    def preview_sigma(self) -> float:
        return self.verifier.preview_sigma  # type: ignore[attr-defined,no-any-return]


class _KeepsAnswers(Timed):
    def keep_in(self, directory: Any) -> None:
        self.verifier.keep_in(directory)  # type: ignore[attr-defined]


class _AcceptsImages(Timed):
    def accept(self, image: Tensor) -> None:
        self.verifier.accept(image)  # type: ignore[attr-defined]


class _Billed(Timed):
    @property
    def usage(self) -> Usage | None:
        return usage_of(self.verifier)


class _WaitsForServer(Timed):
    @property
    def waits(self) -> bool:
        return waits(self.verifier)


PARTS: dict[type, type[Timed]] = {
    ChecksPrompt: _ChecksPrompt,
    GivesDetails: _GivesDetails,
    DifferentiableVerifier: _Differentiable,
    WantsPreviews: _WantsPreviews,
    KeepsAnswers: _KeepsAnswers,
    AcceptsImages: _AcceptsImages,
    Billed: _Billed,
    WaitsForServer: _WaitsForServer,
}
"""What a verifier may have besides, and what has it under the deadline (what computes) or as it is."""


def _stop_left() -> None:
    """End the calls that were left behind, where they come back to Python.

    A thread that computes in C++ while the interpreter ends would have it aborted. Before the end they are let alone:
    one that was stopped would be asked again, and hang again.
    """
    alive = [one for one in _left if one.is_alive()]
    for one in alive:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(one.ident or 0), ctypes.py_object(SystemExit))
    until = time.monotonic() + GRACE_SECONDS
    for one in alive:
        one.join(max(0.0, until - time.monotonic()))
