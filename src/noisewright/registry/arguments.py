"""Searches and their own arguments, as they are typed and as a signature has them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from noisewright.outside.messages import short, unknown
from noisewright.registry.lookup import entry, load


def make_search(name: str) -> Any:
    """The search function of a name."""
    return load(entry("search", name))


def search_arguments(name: str) -> dict[str, Any]:
    """A search's own arguments with their defaults."""
    parameters = list(inspect.signature(make_search(name)).parameters.values())[1:]
    return {p.name: None if p.default is p.empty else p.default for p in parameters}


def check_arguments(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A search's arguments, typed as its signature says and completed with its defaults.

    Raises:
        ValueError: on an unknown name (with the nearest), or a value of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    from noisewright.schemas.checked import PLAIN, checked

    found = search_arguments(name)
    hints = get_type_hints(make_search(name)) if given else {}
    for key, value in given.items():
        if not found:
            raise ValueError(f"search {name} takes no arguments, got {short(key)}")
        if key not in found:
            raise ValueError(unknown(f"argument of {name}", key, list(found)))
        hint = hints.get(key, Any)
        try:
            found[key] = TypeAdapter(hint).validate_python(_read(value, hint) if isinstance(value, str) else value)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise ValueError(f"argument {key} of {name}: {reason}, got {short(value)}") from None
        if isinstance(value, bool) and not isinstance(found[key], bool):
            raise ValueError(f"argument {key} of {name}: expected a number, got {value}")
        checked(PLAIN, found[key], f"argument {key} of {name}")
    return found


def _read(text: str, hint: Any) -> Any:
    """A search's argument as typed: numbers with commas for a tuple, an image for the lineage of its recipe."""
    kinds = [getattr(one, "__origin__", one) for one in (hint, *get_args(hint))]
    if tuple in kinds:
        return [part.strip() for part in text.split(",") if part.strip()]
    if list in kinds:
        from noisewright.images.metadata import read_recipe

        if not Path(text).is_file():  # nor a pipe, which would be waited for
            raise ValueError(f"expected an image file, got {text}, which does not exist")
        return read_recipe(Path(text))[1]["lineage"]
    return None if text.lower() == "none" and type(None) in kinds else text
