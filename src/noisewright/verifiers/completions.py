"""What is in a chat completion, as OpenAI's client gives it: the text of an answer, the probability of a "Yes"."""

from __future__ import annotations

import math
from typing import Any

from noisewright.outside.texts import clean

TEXT_PARTS = ("text", "output_text")
"""Types of a message's parts that hold what is answered."""


class FatalError(Exception):
    """A failure that every other request would share."""


class BadAnswerError(Exception):
    """An answer that cannot be used, with the reason."""


def text_of(found: Any) -> str:
    """The text of a completion.

    Raises:
        BadAnswerError: where there is none, it was cut off, or there are several that differ.
    """
    try:
        choices = list(found.choices)
        messages = [choice.message for choice in choices]
        texts = {_joined(message.content) for message in messages}
        refusal = next((one for one in map(_refusal, messages) if one), None)
        ends = {getattr(choice, "finish_reason", None) for choice in choices}
    except (AttributeError, IndexError, TypeError):
        raise BadAnswerError("expected a chat completion, got something else") from None
    if not choices:
        raise BadAnswerError("expected a chat completion, got something else")
    if refusal:
        raise BadAnswerError(f"expected a text, got a refusal: {clean(refusal, 100)}")
    if "length" in ends:
        raise BadAnswerError("expected a whole text, got one that was cut off at the server's limit")
    if "content_filter" in ends:
        raise BadAnswerError("expected a text, got one that a content filter stopped")
    if len(texts) > 1:
        raise BadAnswerError(f"expected one text, got {len(texts)} that differ")
    (text,) = texts
    if not text.strip():
        raise BadAnswerError("expected a text, got none")
    return text


def _joined(content: Any) -> str:
    """The text of a message, also of one in parts; reasoning and pictures are no text."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [
        _field(part, "text") for part in parts if isinstance(part, str) or _field(part, "type") in (None, *TEXT_PARTS)
    ]
    return "".join(one for one in texts if isinstance(one, str))


def _refusal(message: Any) -> str | None:
    """What a model says instead of an answer, where the server says that it is that."""
    said = getattr(message, "refusal", None)
    parts = message.content if isinstance(message.content, list) else []
    kinds = [_field(part, "refusal") or "refusal" for part in parts if _field(part, "type") == "refusal"]
    return str(said or kinds[0]) if said or kinds else None


def _field(part: Any, name: str) -> Any:
    """A field of a part of a message, which clients leave as a dictionary, or a text by itself."""
    if isinstance(part, str):
        return part if name == "text" else None
    return part.get(name) if isinstance(part, dict) else getattr(part, name, None)


def probability_of(found: Any) -> float:
    """P(Yes) / (P(Yes) + P(No)) of the first token of a completion.

    Raises:
        FatalError: where the server gives no log-probabilities, which it will not for the other images either.
        BadAnswerError: where there is another reason for none.
    """
    total = {"yes": 0.0, "no": 0.0}
    try:
        given = found.choices[0].logprobs
        if given is None:
            raise FatalError("expected log-probabilities of the first token, got none from this server")
        for one in given.content[0].top_logprobs:
            word = one.token.strip().lower()
            if word in total:
                total[word] += math.exp(one.logprob)
    except (AttributeError, IndexError, TypeError, OverflowError):
        raise BadAnswerError("expected log-probabilities of the first token, got something else") from None
    if not 0 < sum(total.values()) < math.inf:
        raise BadAnswerError("expected Yes or No among the likely first tokens, got neither")
    return total["yes"] / sum(total.values())
