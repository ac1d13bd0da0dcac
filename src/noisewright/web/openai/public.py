"""What a client is told of names and places: those of the operator's machine are none of its business."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from noisewright import registry
from noisewright.images.metadata import public_name
from noisewright.registry.options import model_and_options
from noisewright.web.openai.settings import ImagesSettings

PATH = re.compile(r"(?<![\w:/.~-])~?/(?:[^\s/'\",;:()\[\]]+/)*([^\s/'\",;:()\[\]]+)/?")
"""A path of this machine, and its last part."""


def public_verifier(typed: str) -> str:
    """What a request calls a verifier that was typed as a person does: without directories, addresses and options."""
    file = registry.from_file(typed)
    if file is not None:
        return file.options.get("name") or f"{Path(file.file).name}:{file.name}"
    kind, _, rest = typed.partition(":")
    model, options = model_and_options(rest)
    if "name" in options:
        return options["name"]
    return kind if not model or model.startswith("//") or "://" in model else f"{kind}:{public_name(model)}"


def by_public_name(typed: Iterable[str], named: Any = public_name) -> dict[str, str]:
    """What was typed, by what a request calls it: those that share a name have a number behind it."""
    found: dict[str, str] = {}
    for text in dict.fromkeys(typed):
        name, number = named(text), 2
        while name in found:
            name, number = f"{named(text)}-{number}", number + 1
        found[name] = text
    return found


def without_paths(text: str, settings: ImagesSettings) -> str:
    """A message without this machine's paths: what was typed is called as requests call it, a file by its own name."""
    names: dict[str, str] = {str(settings.runs): "the server's directory"}
    for name, typed in {**settings.models, **by_public_name(settings.verifiers, public_verifier)}.items():
        names |= _places(typed, name)
    for place in sorted(names, key=len, reverse=True):
        text = text.replace(f"{place}/", "") if place == str(settings.runs) else text
        text = text.replace(place, names[place])
    return PATH.sub(lambda found: found[1], text)


def _places(typed: str, name: str) -> Mapping[str, str]:
    """The ways in which a message may spell what was typed, where that is no name."""
    if typed == name:
        return {}
    file = registry.from_file(typed)
    one = typed if file is None else file.file
    short = name if file is None else Path(one).name
    found = {typed: name}
    if "/" in one and "://" not in one:
        found |= {one: short, str(Path(one).expanduser().absolute()): short}
    return found
