"""Options of a pipeline's call that would do nothing, and words that its text encoders do not read: said once."""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

NEGATIVE = ("negative_prompt", "negative_prompt_2", "negative_prompt_3")
SHOWN_WORDS = 12
"""Of the words that are cut off so many are named."""


@dataclass(frozen=True)
class Read:
    """One text that a tokenizer was asked to cut to a length.

    Attributes:
        text: the whole of it.
        kept: how many of its words the encoder sees.
        limit: in tokens, the special ones included.
    """

    text: str
    kept: int
    limit: int

    @property
    def lost(self) -> list[str]:
        return self.text.split()[self.kept :]


@contextmanager
def listening(pipe: Any) -> Iterator[list[Read]]:
    """Notes what the pipeline's tokenizers cut while the block runs: the pipeline itself knows texts and lengths.

    A tokenizer is replaced by a copy that listens; the pipeline has its own again afterwards.
    """
    heard: list[Read] = []
    thread = threading.get_ident()
    own = {name: one for name, one in vars(pipe).items() if "tokenizer" in name and callable(one)}
    try:
        for name, tokenizer in own.items():
            object.__setattr__(pipe, name, _listener(tokenizer, heard, thread))
        yield heard
    finally:
        for name, tokenizer in own.items():
            object.__setattr__(pipe, name, tokenizer)


def _listener(tokenizer: Any, heard: list[Read], thread: int) -> Any:
    """A copy of a tokenizer that notes what it cuts; the tokenizer itself where it cannot be copied."""
    kind = type(tokenizer)

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        text = args[0] if args else kwargs.get("text")
        if threading.get_ident() == thread and kwargs.get("truncation") and isinstance(text, (str, list, tuple)):
            for one in [text] if isinstance(text, str) else text:
                if isinstance(one, str):
                    heard.extend(_cut(tokenizer, one, kwargs.get("max_length")))
        return kind.__call__(self, *args, **kwargs)

    try:
        found = copy.copy(tokenizer)
        found.__class__ = type(kind.__name__, (kind,), {"__call__": __call__, "__module__": kind.__module__})
    except (TypeError, AttributeError, ValueError):
        return tokenizer
    return found


def _cut(tokenizer: Any, text: str, limit: Any) -> list[Read]:
    """How many words of a text fit; nothing where the tokenizer cannot say."""
    limit = limit if isinstance(limit, int) else getattr(tokenizer, "model_max_length", None)
    words = text.split()
    try:
        room = int(limit or 0) - tokenizer.num_special_tokens_to_add()
        low, high = 0, len(words)
        while low < high:  # the most words that fit
            middle = (low + high + 1) // 2
            tokens = tokenizer(" ".join(words[:middle]), add_special_tokens=False, verbose=False).input_ids
            low, high = (middle, high) if len(tokens) <= room else (low, middle - 1)
    except (TypeError, ValueError, AttributeError, NotImplementedError):
        return []
    return [Read(text, low, int(limit or 0))]


def unread_words(heard: Sequence[Read]) -> list[str]:
    """A sentence for each text whose end no encoder reads; what one of several encoders reads counts."""
    best: dict[str, Read] = {}
    for one in heard:
        before = best.get(one.text)
        best[one.text] = one if before is None or one.kept > before.kept else before
    found = []
    for one in best.values():
        if one.lost:
            more = f" ... ({len(one.lost)} words)" if len(one.lost) > SHOWN_WORDS else ""
            shown = " ".join(one.lost[:SHOWN_WORDS])[:200]
            found.append(f"the text encoder reads {one.limit} tokens; it does not see the text's end: {shown}{more}")
    return list(dict.fromkeys(found))


def without_effect(
    pipe: Any, settings: Mapping[str, Any], extra: Mapping[str, Any], explicit: Sequence[str]
) -> list[str]:
    """A sentence for each option that changes nothing, for a pipeline that was called with these settings a moment ago.

    Args:
        pipe: the pipeline.
        settings: the arguments of its call.
        extra: what it prepares to pass to its scheduler's step.
        explicit: the names of what was given as further arguments of the call.
    """
    found = []
    given = {name: value for name, value in settings.items() if value is not None}
    on, how = guidance(pipe, given)
    if on is False:
        if any(str(given.get(name) or "").strip() for name in NEGATIVE):
            found.append(f"the negative prompt has no effect: guidance is off ({how})")
        if given.get("negative_prompt_embeds") is not None:
            found.append(f"negative_prompt_embeds have no effect: guidance is off ({how})")
        if given.get("guidance_rescale"):
            found.append(f"guidance_rescale has no effect: guidance is off ({how})")
    scale = given.get("guidance_scale")
    if isinstance(scale, (int, float)) and scale > 1 and _distilled(pipe, on):
        found.append(f"guidance_scale {scale:g} has no effect: this model was distilled without guidance")
    negative = (*NEGATIVE, "negative_prompt_embeds")
    if given.get("true_cfg_scale") is not None and not any(name in given for name in negative):
        found.append("true_cfg_scale has no effect without a negative prompt")
    if "eta" in explicit and given.get("eta") is not None and "eta" not in extra:
        found.append(f"eta has no effect: {type(pipe.scheduler).__name__} takes none")
    return found


def guidance(pipe: Any, given: Mapping[str, Any]) -> tuple[bool | None, str]:
    """Whether classifier-free guidance is on, None where nothing says it, and which setting decides."""
    accepted = inspect.signature(type(pipe).__call__).parameters
    name = "true_cfg_scale" if "true_cfg_scale" in accepted else "guidance_scale"
    default = accepted[name].default if name in accepted else None
    scale = given.get(name, default)
    how = f"{name} {scale:g}" if isinstance(scale, (int, float)) else "the pipeline has none"
    if name == "guidance_scale" and hasattr(type(pipe), "do_classifier_free_guidance"):
        try:
            return bool(pipe.do_classifier_free_guidance), how
        except (AttributeError, TypeError):
            return None, how
    if name not in accepted:
        return (None if getattr(pipe, "guider", None) is not None else False), how
    return (scale > 1 if isinstance(scale, (int, float)) else None), how


def _distilled(pipe: Any, on: bool | None) -> bool:
    """Whether a guidance scale reaches neither classifier-free guidance nor the network's own embedding of it."""
    network = getattr(pipe, "transformer", None) or getattr(pipe, "unet", None)
    config = getattr(network, "config", {}) or {}
    if config.get("guidance_embeds") is False and "true_cfg_scale" in inspect.signature(type(pipe).__call__).parameters:
        return True
    embeds = bool(config.get("guidance_embeds")) or config.get("time_cond_proj_dim") is not None
    return on is False and hasattr(type(pipe), "do_classifier_free_guidance") and not embeds
