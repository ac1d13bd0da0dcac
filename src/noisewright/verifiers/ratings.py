"""Scores in what a vision-language model writes: found where their meaning is unambiguous, refused where it is not.

Judges put reasoning, greetings and fences around the JSON that they were asked for, wrap it in an object of their own,
or give only the one score that matters. All of that is let pass. What is not: an answer that was cut off, a number that
is not on the scale, ``7/10``, two scores that differ, anything that would have to be guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from noisewright.outside.texts import clean

LONGEST = 2**16
"""Characters of an answer that are looked at; a longer one is refused."""

DEEPEST = 12
"""Objects within objects."""

EXPLAINED = 2000
"""Characters of an explanation that are kept."""

_TAGS = r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad)"
_OPEN = rf"(?:<\|?{_TAGS}\|?>|\[{_TAGS}\]|◁think▷)"
_CLOSE = rf"(?:</{_TAGS}>|<\|/{_TAGS}\|>|\[/{_TAGS}\]|◁/think▷)"
_BLOCK = re.compile(rf"{_OPEN}(?:(?!{_OPEN}|{_CLOSE}).)*{_CLOSE}", re.IGNORECASE | re.DOTALL)
_LONE_OPEN, _LONE_CLOSE = re.compile(_OPEN, re.IGNORECASE), re.compile(_CLOSE, re.IGNORECASE)
_NUMBER = r"[+-]?\d{1,9}(?:\.\d{1,20})?"
_NUMERIC = re.compile(rf"\s*({_NUMBER})\s*", re.ASCII)
_LABEL = r"(?:(?:overall|final|total)[ _-]?)?(?:score|rating)"
_MARKS = r"[*_`\"]{0,6}"
_BARE = re.compile(
    rf"(?:```[a-z]*\s)?\s*{_MARKS}(?:{_LABEL}{_MARKS}\s*(?:[:=]|is)?{_MARKS}\s*)?{_MARKS}({_NUMBER})\.?{_MARKS}\s*(?:```)?",
    re.IGNORECASE | re.ASCII,
)
_SAID = re.compile(rf"\b{_LABEL}[\"'*_`]*\s*(?:[:=]|is)\s*[\"'*_`]*({_NUMBER})", re.IGNORECASE | re.ASCII)

SCORE_KEYS = frozenset({"score", "rating", "overall", "finalscore", "finalrating", "overallrating"})
"""Keys, in plain letters, whose number is the score of an answer that names no aspect."""

WRAPPERS = frozenset(
    {"result", "results", "rating", "ratings", "answer", "response", "output", "evaluation", "assessment", "review",
     "judgement", "judgment", "grade", "data", "json", "content", "score", "scores", "final", "overall"}
)  # fmt: skip
"""Keys under which such a score is still that of the whole answer."""

REASONS = ("explanation", "reason", "reasoning", "rationale", "justification", "comment")


def read_scores(
    text: str, aspects: Sequence[str], wanted: str, overall: str, scale: tuple[float, float]
) -> dict[str, dict[str, Any]]:
    """The ``{"score", "explanation"}`` of each aspect that an answer gives, ``wanted`` among them.

    Args:
        text: the answer.
        aspects: what was asked for.
        wanted: the aspect without which the answer is none.
        overall: the aspect that a single score without a name means.
        scale: the lowest and the highest score.

    Raises:
        ValueError: saying what is wrong with it, in one line.
    """
    if len(text) > LONGEST:
        raise ValueError(f"expected an answer of at most {LONGEST} characters, got {len(text)}")
    text = _unwrapped(without_reasoning(text))
    objects, outside = objects_in(text)
    named = [found for one in objects for found in _named(one, aspects)]
    if named:
        return _checked(_agreed(named), aspects, wanted, scale)
    if wanted != overall:
        if objects:
            raise ValueError(f"expected {wanted} with a score that is a number, got none of that name")
        raise ValueError(f"expected a JSON object, got {clean(text, 60)!r}")
    return {overall: _only(text, objects, outside, overall, scale)}


def without_reasoning(text: str) -> str:
    """A text without what a model wrote for itself before it answered.

    Raises:
        ValueError: where that has no end.
    """
    for _ in range(DEEPEST):
        text = _BLOCK.sub(" ", text)
    if closed := list(_LONE_CLOSE.finditer(text)):  # its beginning was in the prompt
        text = text[closed[-1].end() :]
    if _LONE_OPEN.search(text):
        raise ValueError("expected an answer after the reasoning, got one that was cut off")
    return text.strip()


def _unwrapped(text: str) -> str:
    """An answer that is a JSON text itself."""
    try:
        found = json.loads(text) if text.startswith('"') else text
    except (ValueError, RecursionError):
        return text
    return str(found).strip()


def objects_in(text: str) -> tuple[list[dict[str, Any]], str]:
    """The JSON objects of a text that are in no other, and the text around them.

    Other braces are let pass where they are closed and no part of JSON, whose inner objects mean nothing by themselves.

    Raises:
        ValueError: on a brace that is not closed, broken JSON, or an object that gives one key two values.
    """
    objects, around, at = list[dict[str, Any]](), list[str](), 0
    while (start := text.find("{", at)) >= 0:
        around.append(text[at:start])
        try:
            found, at = _DECODER.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError):
            at = _closed(text, start)
            if at < 0:
                raise ValueError(f"expected a JSON object, got one that is cut off: {clean(text, 60)!r}") from None
            around.append(text[start:at])
        else:
            objects.append(found)
    outside = " ".join([*around, text[at:]])
    if _KEY.search(outside):
        raise ValueError(f"expected a JSON object, got a broken one: {clean(text, 60)!r}")
    return objects, outside


_KEY = re.compile(r"[\"']\s{0,9}:")
_BRACES = re.compile(r'\\.|["{}]', re.DOTALL)


def _closed(text: str, start: int) -> int:
    """Where the brace at ``start`` is closed, braces in quotes left out; -1 where it is not."""
    depth, quoted = 0, False
    for mark in _BRACES.finditer(text, start):
        if mark[0] == '"':
            quoted = not quoted
        elif not quoted and mark[0] in "{}":
            depth += 1 if mark[0] == "{" else -1
            if depth == 0:
                return mark.end()
    return -1


def _pairs(given: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in given:
        if key in found and found[key] != value:
            raise ValueError(f"expected one value of {clean(key, 40)!r}, got two")
        found[key] = value
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs)


def _plain(key: str) -> str:
    return re.sub(r"[^a-z0-9]", "", key.lower())


def _named(value: Any, aspects: Sequence[str], depth: int = 0) -> Iterator[dict[str, tuple[Any, str]]]:
    """Each object within a value that names aspects: by aspect what was given for it, with its explanation."""
    if depth > DEEPEST:
        raise ValueError(f"expected objects at most {DEEPEST} deep, got more")
    if isinstance(value, list):
        for one in value:
            yield from _named(one, aspects, depth + 1)
    if not isinstance(value, dict):
        return
    plain = {_plain(name): name for name in aspects}
    found: dict[str, tuple[Any, str]] = {}
    for key, given in value.items():
        name = plain.get(_plain(key))
        if name is not None:
            if name in found and found[name][0] != given:
                raise ValueError(f"expected one value of {name}, got two")
            found[name] = (given, _reason(given) or (_reason(value) if len(value) <= 3 else ""))
    if found:
        yield found
        return
    for one in value.values():
        yield from _named(one, aspects, depth + 1)


def _agreed(found: Sequence[Mapping[str, tuple[Any, str]]]) -> dict[str, tuple[Any, str]]:
    """What several objects say together, where none contradicts another."""
    whole: dict[str, tuple[Any, str]] = {}
    for one in found:
        for name, given in one.items():
            if name in whole and _value(whole[name][0]) != _value(given[0]):
                raise ValueError(f"expected one score of {name}, got two")
            whole.setdefault(name, given)
    return whole


def _checked(
    found: Mapping[str, tuple[Any, str]], aspects: Sequence[str], wanted: str, scale: tuple[float, float]
) -> dict[str, dict[str, Any]]:
    if wanted not in found:
        raise ValueError(f"expected {wanted} with a score that is a number, got none of that name")
    return {name: _one(name, *found[name], scale) for name in aspects if name in found}


def _one(name: str, given: Any, reason: str, scale: tuple[float, float]) -> dict[str, Any]:
    """One aspect's score and explanation."""
    value = _value(given)
    if value is None:
        raise ValueError(f"expected {name} with a score that is a number, got {clean(given, 60)}")
    low, high = scale
    if not low <= value <= high:  # nan is not either
        raise ValueError(f"expected {name} with a score in [{low:g}, {high:g}], got {clean(value, 20)}")
    return {"score": float(value), "explanation": reason}


def _value(given: Any, depth: int = 0) -> float | int | None:
    """The number that is given, as itself, as text, or in an object with one key for it; None where there is none."""
    if isinstance(given, bool):
        return None
    if isinstance(given, (int, float)):
        return given
    if isinstance(given, str):
        whole = _NUMERIC.fullmatch(given)
        return float(whole[1]) if whole else None
    if isinstance(given, dict) and depth < 2:
        keys = [key for key in given if _plain(key) in SCORE_KEYS or _plain(key) == "value"]
        return _value(given[keys[0]], depth + 1) if len(keys) == 1 else None
    return None


def _reason(given: Any) -> str:
    if not isinstance(given, dict):
        return ""
    return next((clean(given[key], EXPLAINED) for key in REASONS if isinstance(given.get(key), str)), "")


def _only(
    text: str, objects: Sequence[dict[str, Any]], outside: str, overall: str, scale: tuple[float, float]
) -> dict[str, Any]:
    """The score of an answer that names no aspect and has but one."""
    if not objects:
        bare = _BARE.fullmatch(text)
        if bare is None:
            raise ValueError(f"expected a JSON object, got {clean(text, 60)!r}")
        return _one(overall, bare[1], "", scale)
    given = [found for one in objects for found in _scores(one)]
    ours = [(value, reason) for value, reason, is_whole in given if is_whole]
    if not ours:
        raise ValueError(f"expected {overall} with a score that is a number, got none of that name")
    read = [_one(overall, value, reason, scale) for value, reason, _ in given]
    said = [float(found[1]) for found in _SAID.finditer(outside)]
    if len({one["score"] for one in read} | set(said)) > 1:
        raise ValueError(f"expected one score, got {len(read) + len(said)} that differ")
    return _one(overall, *ours[0], scale)


def _scores(value: Any, is_whole: bool = True, depth: int = 0) -> Iterator[tuple[Any, str, bool]]:
    """Everything called a score within a value, with its explanation, and whether it is that of the whole answer."""
    if depth > DEEPEST:
        raise ValueError(f"expected objects at most {DEEPEST} deep, got more")
    if isinstance(value, list):
        for one in value:
            yield from _scores(one, is_whole and len(value) == 1, depth + 1)
    if not isinstance(value, dict):
        return
    for key, given in value.items():
        if isinstance(given, (dict, list)):
            yield from _scores(given, is_whole and _plain(key) in WRAPPERS, depth + 1)
        elif _plain(key) in SCORE_KEYS:
            yield given, _reason(value), is_whole
