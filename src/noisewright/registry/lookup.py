"""Names to entries, and entries to what they name; nothing heavy is imported until a thing is chosen."""

from __future__ import annotations

import importlib
from typing import Any

from noisewright.outside.messages import did_you_mean, unknown
from noisewright.registry import plugins
from noisewright.registry.kinds import Entry
from noisewright.verifiers.guarded import call, named, said


def names(kind: str) -> list[str]:
    """The names of a kind, built-ins first."""
    return [entry.name for entry in plugins.entries() if entry.kind == kind]


def entry(kind: str, name: str) -> Entry:
    """The entry of a name.

    Raises:
        ValueError: naming the nearest valid name, or what is wrong with a plug-in's entry of that name.
    """
    for one in plugins.entries():
        if one.kind == kind and one.name == name:
            return one
    why = plugins.why_left_out(kind, name)
    raise ValueError(unknown(kind, name, names(kind)) if why is None else f"{kind} {name} cannot be used: {why}")


def load(one: Entry) -> Any:
    """Import what an entry names.

    Raises:
        ValueError: in one line, where a plug-in's target cannot be imported, is not there, or cannot be called.
        ImportError: of a built-in one, where a library that it needs is missing.
    """
    module, _, attribute = one.target.partition(":")
    who = plugins.origin(one)
    if who is None:
        return getattr(call(importlib.import_module, module), attribute)
    where = f"{who}: {one.kind} {one.name}"
    try:
        home = call(importlib.import_module, module)
    except Exception as error:
        raise ValueError(f"{where}: {module} cannot be imported: {named(error)}: {said(error)}") from error
    if not hasattr(home, attribute):
        near = did_you_mean(attribute, [name for name in vars(home) if not name.startswith("_")])
        raise ValueError(f"{where}: {module} has no {attribute}{near}")
    found = getattr(home, attribute)
    if not callable(found):
        raise ValueError(f"{where}: expected {one.target} to be callable, got {type(found).__name__}")
    return found
