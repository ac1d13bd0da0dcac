"""Executors by name."""

from __future__ import annotations

from typing import Any

from noisewright.registry import plugins
from noisewright.registry.builtins.executors import NOT_YET
from noisewright.registry.lookup import entry, load, names
from noisewright.verifiers.guarded import call, named, said

LOCAL = "local"


def make_executor(name: str | None = None) -> Any:
    """What makes the executor of a run, from its name.

    Returns:
        None for ``local``, which a run has by itself; else what a plug-in's entry gives, an
        :class:`noisewright.executors.protocol.Executor`.

    Raises:
        ValueError: in one line, on an unknown name (with the nearest), or one that does not exist yet.
    """
    if name is None or name == LOCAL:
        return None
    if name in NOT_YET and name not in names("executor"):
        raise ValueError(f"executor {name!r} is not available yet: expected {' or '.join(names('executor'))}")
    one = entry("executor", name)
    made, who = load(one), plugins.origin(one)
    try:
        return call(made, **one.options)
    except Exception as error:
        raise ValueError(f"{who}: executor {name} raised {named(error)}: {said(error)}") from error
