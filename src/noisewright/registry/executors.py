"""Executors by name."""

from __future__ import annotations

from typing import Any

from noisewright.outside.messages import unknown
from noisewright.registry import plugins
from noisewright.registry.builtins.executors import NOT_YET
from noisewright.registry.kinds import Entry
from noisewright.registry.lookup import entry, load, names
from noisewright.verifiers.guarded import call, named, said

LOCAL = "local"


def executor_entry(name: str) -> Entry:
    """The entry of an executor's name.

    Raises:
        ValueError: in one line, on an unknown name (with the nearest), or one that does not exist yet.
    """
    known = names("executor")
    if name in known:
        return entry("executor", name)
    if name in NOT_YET:
        raise ValueError(f"executor {name!r} is not available yet: expected {' or '.join(known)}")
    raise ValueError(unknown("executor", name, [*known, *NOT_YET]))


def make_executor(name: str = LOCAL) -> Any:
    """The :class:`noisewright.executors.protocol.Executor` of a name; a new one, which no run has started yet.

    Raises:
        ValueError: as :func:`executor_entry`, or where a plug-in's is no executor.
    """
    from noisewright.executors.protocol import Executor

    one = executor_entry(name)
    made, who = load(one), plugins.origin(one)
    if who is None:
        return made(**one.options)
    try:
        found = call(made, **one.options)
    except Exception as error:
        raise ValueError(f"{who}: executor {name} raised {named(error)}: {said(error)}") from error
    if not isinstance(found, Executor):
        parts = "workers, start, submit and close"
        raise ValueError(f"{who}: expected an executor with {parts} for {name}, got {type(found).__name__}")
    return found
