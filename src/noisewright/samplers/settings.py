"""The arguments of a pipeline's call in records: a sampler's description, and the arguments back from one."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

from noisewright.errors import RunMismatch
from noisewright.outside.messages import cut
from noisewright.samplers.fingerprint import is_older, same_model
from noisewright.samplers.identity import as_text, canonical, is_content, original

TEXT = re.compile(r"(negative_)?prompt(_\d)?")
"""Arguments that are texts, whatever they look like."""

OBJECT = re.compile(r"<.* at 0x[0-9A-Fa-f]+>|\b(tensor|array)\(.*\)", re.DOTALL)
"""What earlier versions recorded of an argument that is no number or text: Python's ``repr``, shortened."""


class Description(dict[str, Any]):
    """What identifies a model, a prompt and settings: JSON, that can also be had in the form of earlier versions."""

    older: Callable[[], dict[str, Any]] | None = None

    def as_recorded(self, recorded: Mapping[str, Any]) -> dict[str, Any]:
        """This description by the rules that ``recorded`` was made by, so that the two can be compared.

        Args:
            recorded: a description, maybe of an earlier version, which read a part of the weights and wrote arguments
                as Python shows them.
        """
        if self.older is None or not is_older(recorded.get("fingerprint")):
            return dict(self)
        before = self.older()
        if same_model(recorded["fingerprint"], self.get("fingerprint")):
            before["fingerprint"] = recorded["fingerprint"]
        return {**self, **before}


def older_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as earlier versions recorded them."""
    plain = (str, int, float, bool, type(None))
    return {key: value if isinstance(value, plain) else repr(value) for key, value in settings.items()}


def restored(recorded: Mapping[str, Any], given: Mapping[str, Any] | None, older: bool) -> dict[str, Any]:
    """The arguments of a pipeline's call from a record.

    Args:
        recorded: arguments by name, as :func:`noisewright.samplers.identity.canonical` makes them.
        given: arguments again, of which the record has only a hash; they are compared with it.
        older: whether the record is of a version that wrote what Python shows.

    Raises:
        ValueError: where one is needed that is not given, or given that the record does not name.
        RunMismatch: where one is given that is another one.
    """
    given = given or {}
    for key in given:
        if key not in recorded:
            raise ValueError(f"expected arguments that the image was made with, got {key}, which was not given then")
    found = {}
    for key, value in recorded.items():
        if key in given:
            _compare(key, value, given[key], older)
            found[key] = given[key]
        elif older and isinstance(value, str) and not TEXT.fullmatch(key):
            found[key] = _from_text(key, value)
        elif not older and is_content(value):
            raise ValueError(_again(key, "a hash"))
        else:
            found[key] = value if older else original(value, key)
    return found


def _compare(key: str, recorded: Any, value: Any, older: bool) -> None:
    now = canonical(value, key)
    if older:
        shown = older_settings({key: value})[key]
        addresses = isinstance(recorded, str) and " at 0x" in recorded.lower()  # they tell nothing: the pixels will
        if shown == recorded or addresses or now == recorded:
            return
    elif now == recorded:
        return
    then, found = cut(as_text(recorded)), cut(as_text(now))
    raise RunMismatch(f"expected the {key} that the image was made with, {then}, got {found}")


def _from_text(key: str, text: str) -> Any:
    """The value of what Python showed of it: containers of numbers and texts; a text that was one stays as it is."""
    if OBJECT.search(text):
        raise ValueError(_again(key, "what Python shows of it"))
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, (tuple, list, dict, set)) and repr(value) == text else text


def _again(key: str, held: str) -> str:
    return (
        f"expected the {key} that the image was made with, of which the recipe holds only {held}: "
        f"noisewright.replay.replay(..., pipe_kwargs={{{key!r}: ...}}) in Python takes it again"
    )
