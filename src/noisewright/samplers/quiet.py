"""What the libraries below say of themselves while they load and run, kept from the user and put back afterwards."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

DEBUG = "NOISEWRIGHT_DEBUG"
"""The environment variable that lets them speak."""

LIBRARIES = ("accelerate", "diffusers", "huggingface_hub", "peft", "tokenizers", "torch", "transformers")
LOUD = ("accelerate", "diffusers", "huggingface_hub", "peft", "transformers")
"""Libraries that log notes to standard error by themselves."""

_lock = threading.Lock()
_inside = 0
_before = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Inside no library shows a progress bar or a warning of its own; warnings of the user's own code are shown.

    These settings are the process's: what it had before comes back when the last of several threads is out.
    """
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1 and not os.environ.get(DEBUG):
            hush(_before)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _before.close()


def hush(before: ExitStack) -> None:
    """Silence from here on; closing the stack brings back what was before."""
    before.enter_context(warnings.catch_warnings())
    for name in LIBRARIES:
        warnings.filterwarnings("ignore", module=rf"{name}(\.|$)")
    _without_bars(before)
    for name in LOUD:
        log = logging.getLogger(name)
        before.callback(log.setLevel, log.level)
        log.setLevel(logging.ERROR)


def _without_bars(before: ExitStack) -> None:
    from diffusers.utils import logging as diffusers_logging
    from huggingface_hub import utils as hub
    from transformers.utils import logging as transformers_logging

    before.callback(hub.disable_progress_bars if hub.are_progress_bars_disabled() else hub.enable_progress_bars)
    hub.disable_progress_bars()
    for library in (diffusers_logging, transformers_logging):  # of transformers they are the hub's as well
        if library.is_progress_bar_enabled():
            before.callback(library.enable_progress_bar)
            library.disable_progress_bar()
