"""Options as they are typed, ``MODEL,key=value,other=a,b``, and as a signature has them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, get_type_hints

from noisewright.outside.messages import short, unknown


def model_and_options(text: str, known: Collection[str] = ()) -> tuple[str, dict[str, str]]:
    """``MODEL,key=value,other=a,b`` as model and options; a comma that no ``key=`` follows is the value's.

    After the ``?`` of a URL only a ``known`` key begins an option, since its query may hold ``a=1,b=2``.

    Raises:
        ValueError: in one line, on an option that is there twice.
    """
    before, mark, _ = text.partition("?")
    query = len(before) if mark and "//" in before else len(text)
    keys = [one for one in re.finditer(r"(?:^|,)([a-z_]+)=", text) if one.start() < query or one[1] in known]
    ends = [one.start() for one in keys] + [len(text)]
    twice = [one[1] for number, one in enumerate(keys) if one[1] in [other[1] for other in keys[:number]]]
    if twice:
        raise ValueError(f"expected one {twice[0]}=, got several in {short(text)}")
    return text[: ends[0]], {one[1]: text[one.end() : end] for one, end in zip(keys, ends[1:], strict=True)}


def typed(what: str, made: Callable[..., Any], given: Mapping[str, str], valid: Sequence[str]) -> dict[str, Any]:
    """Options as the signature of ``made`` has them.

    Args:
        what: whose options they are, for messages.
        made: a class or a function.
        given: as they were typed.
        valid: the names that an option may have.

    Raises:
        ValueError: on an unknown name (with the nearest), or a value of the wrong type.
    """
    from pydantic import TypeAdapter

    hints = _hints(made) if given else {}
    found: dict[str, Any] = {}
    for key, value in given.items():
        if not valid:
            raise ValueError(f"{what} takes no options, got {short(key)}")
        if key not in valid:
            raise ValueError(unknown(f"option of {what}", key, list(valid)))
        hint = hints.get(key, _kind_of_default(made, key))
        try:
            found[key] = TypeAdapter(hint).validate_python(value)
        except ValueError as error:  # pydantic's ValidationError is one
            raise ValueError(f"option {key} of {what}: {_told(error)}, got {short(value)}") from None
    return found


def _told(error: Any) -> str:
    return str(error.errors(include_url=False)[0]["msg"]) if hasattr(error, "errors") else str(error)


def _hints(made: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a signature; none where one of them cannot be read (a name that is not there)."""
    try:
        return get_type_hints(made.__init__ if inspect.isclass(made) else made)  # type: ignore[misc]
    except (NameError, TypeError, AttributeError):
        return {}


def _kind_of_default(made: Callable[..., Any], key: str) -> Any:
    """Of an option without annotation, the kind of its default where that is a number, a truth or a text."""
    parameter = inspect.signature(made).parameters.get(key)
    kind = type(parameter.default) if parameter is not None else None
    return kind if kind in (bool, int, float, str) else Any
