"""Values against pydantic types, with one line for the first thing that is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from noisewright.outside.messages import short

MOST_TEXT = 20_000
"""Characters of a text in a file: a prompt has at most 5,000, a warning with a path may have more."""

MOST_STEPS = 10_000
MOST_BATCH = 4096
MOST_SIDE = 2**15
MOST_FRAMES = 32
"""Of a video, side by side in one picture."""

FRAME_NAMES = ("first", "middle", "last")
"""Words for one frame of a video."""

LARGEST_COUNT = 2**53
"""What every reader of JSON holds exactly."""

LARGEST_SEED = 2**63 - 1

CLOSED = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""Of objects whose every key means something: an unknown one is refused."""

OPEN = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
"""Of objects that later versions may add to."""


def wrong(expected: str) -> PydanticCustomError:
    """What a check of our own raises: ``expected`` is what should have been there."""
    return PydanticCustomError("expected", "{expected}", {"expected": expected})


HALF_PAIR = re.compile("[\\ud800-\\udfff\\0]")


def sayable(text: str) -> bool:
    """Whether a text can be written down: no NUL, no half of a surrogate pair."""
    return HALF_PAIR.search(text) is None


def _sayable(text: str) -> str:
    if not sayable(text):
        raise wrong("text without NUL and half surrogate pairs")
    return text


def _plain(value: Any) -> Any:
    """JSON of any shape: finite numbers of at most 53 bits or so, texts of bounded length."""
    level = [value]
    while level:
        below: list[Any] = []
        for one in level:
            if isinstance(one, Mapping):
                below += [*one.keys(), *one.values()]
            elif isinstance(one, (list, tuple)):
                below += one
            elif isinstance(one, str):
                if len(one) > MOST_TEXT:
                    raise wrong(f"text of at most {MOST_TEXT} characters")
                _sayable(one)
            elif isinstance(one, float) and not math.isfinite(one):
                raise wrong("finite numbers")
            elif isinstance(one, int) and abs(one) > LARGEST_SEED:
                raise wrong("numbers of at most 63 bits")
        level = below
    return value


def matching(pattern: str, expected: str) -> AfterValidator:
    """Of a text that a pattern matches whole; ``expected`` says it in words."""
    known = re.compile(pattern)

    def check(value: str) -> str:
        if known.fullmatch(value) is None:
            raise wrong(expected)
        return value

    return AfterValidator(check)


def whole(least: int = 0, most: int = LARGEST_COUNT) -> Any:
    """Of a whole number in [``least``, ``most``]."""
    return Field(strict=True, ge=least, le=most)


Sayable = Annotated[str, Field(strict=True), AfterValidator(_sayable)]
Text = Annotated[Sayable, Field(max_length=MOST_TEXT)]
Name = Annotated[Sayable, Field(min_length=1, max_length=500)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Seconds = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Count = Annotated[int, whole()]
Steps = Annotated[int, whole(1, MOST_STEPS)]
Index = Annotated[int, whole(0, MOST_STEPS)]
Seed = Annotated[int, whole(0, LARGEST_SEED)]
Draw = Annotated[int, whole()]
BatchSize = Annotated[int, whole(1, MOST_BATCH)]
Id = Annotated[Sayable, matching(r"[0-9a-f]{16}", "an id of 16 hex digits")]
Hash = Annotated[Sayable, matching(r"[0-9a-f]{64}", "a SHA-256 of 64 hex digits")]
ImageFile = Annotated[
    Sayable,
    matching(r"images/[0-9A-Za-z][0-9A-Za-z._-]{0,99}\.png", "a file images/NAME.png inside the run directory"),
]
Plain = Annotated[Any, AfterValidator(_plain)]
PLAIN: TypeAdapter[Any] = TypeAdapter(Plain)
PlainObject = Annotated[dict[str, Any], Field(strict=True), AfterValidator(_plain)]


def checked(adapter: TypeAdapter[Any], value: Any, where: str, message: Callable[[str, str, str], str] | None = None,
            ) -> Any:  # fmt: skip
    """A value as a type has it.

    Args:
        adapter: of the type.
        value: what was read.
        where: what it was read from, for the message.
        message: makes the line of (expected, key, got); by default ``expected ... as KEY in WHERE, got ...``.

    Raises:
        ValueError: in one line, on the first thing that is wrong.
    """
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        expected, key, got = explained(error, value)
    except (RecursionError, OverflowError):
        expected, key, got = "finite numbers and lists that end", "", short(value)
    if message is not None:
        raise ValueError(message(expected, key, got))
    place = f"{key} in {where}" if key else where
    raise ValueError(f"expected {expected} {'as' if key else 'in'} {place}, got {got}")


def explained(error: ValidationError, value: Any) -> tuple[str, str, str]:
    """What was expected, at which key, and what was got instead, of the first of pydantic's errors."""
    first = error.errors(include_url=False)[0]
    kind, context = first["type"], first.get("ctx", {})
    path = _path(first["loc"], value)
    if kind == "missing":
        return "a value", _key([*path, first["loc"][-1]]), "none"
    if kind == "extra_forbidden":
        return "no such key", _key(path), short(first["input"])
    kind = f"string_{kind}" if kind.startswith("too_") and isinstance(first["input"], str) else kind
    return _expected(kind, context, first["msg"]), _key(path), short(first["input"])


PHRASES = {
    "int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number",
    "finite_number": "a finite number", "string_type": "text", "bool_type": "true or false", "list_type": "a list",
    "dict_type": "an object", "none_required": "null", "tuple_type": "a list", "is_instance_of": "another kind",
    "model_type": "an object", "typed_dict_type": "an object", "int_parsing_size": "a whole number of fewer digits",
    "mapping_type": "an object", "union_tag_not_found": "a verb", "string_unicode": "text",
}  # fmt: skip


def _expected(kind: str, context: Mapping[str, Any], message: str) -> str:
    bounds = {
        "greater_than_equal": ("ge", "at least"), "less_than_equal": ("le", "at most"), "greater_than": ("gt", "above"),
        "less_than": ("lt", "below"),
    }  # fmt: skip
    if kind == "expected":
        return str(context["expected"])
    if kind in bounds:
        name, words = bounds[kind]
        return f"a number {words} {context[name]}"
    if kind in ("string_too_long", "too_long"):
        return f"at most {context['max_length']} {'characters' if kind.startswith('string') else 'entries'}"
    if kind in ("string_too_short", "too_short"):
        return f"at least {context['min_length']} {'characters' if kind.startswith('string') else 'entries'}"
    if kind in ("literal_error", "enum"):
        return str(context["expected"])
    if kind == "union_tag_invalid":
        return f"one of {context['expected_tags']}"
    return PHRASES.get(kind) or message.lower().removeprefix("input should be ")


def _path(loc: Sequence[int | str], value: Any) -> list[int | str]:
    """The keys of pydantic's place that are there: it also names branches of unions."""
    found: list[int | str] = []
    held: Any = value
    for part in loc:
        places: Any = held if isinstance(held, Mapping) else range(len(held) if isinstance(held, (list, tuple)) else 0)
        if part in places:
            held = held[part]
            found.append(part)
    return found


def _key(path: Sequence[int | str]) -> str:
    """A path as people write it: ``lineage[0].args.seed``."""
    words = "".join(f"[{one}]" if isinstance(one, int) else f".{_word(one)}" for one in path)
    return words.removeprefix(".")


def _word(key: str) -> str:
    return key if key.isidentifier() and len(key) <= 40 else short(key)
