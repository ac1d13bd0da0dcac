"""Executors by name, with their options as they are typed: ``ray:HOST:PORT,workers=4``."""

from __future__ import annotations

import inspect
from typing import Any

from noisewright.outside.messages import short, unknown
from noisewright.registry import plugins
from noisewright.registry.kinds import Entry
from noisewright.registry.lookup import entry, load, names
from noisewright.registry.options import model_and_options, typed
from noisewright.verifiers.guarded import call, named, said

LOCAL = "local"


def executor_entry(text: str) -> Entry:
    """The entry of an executor's name, ``NAME[:ADDRESS][,option=value]``.

    Raises:
        ValueError: in one line, on an unknown name (with the nearest).
    """
    name = text.partition(":")[0]
    known = names("executor")
    if name not in known:
        raise ValueError(unknown("executor", name, known))
    return entry("executor", name)


def check_executor(text: str) -> None:
    """Refuse an executor that cannot be, before anything is loaded; of a plug-in's only the name is looked at.

    Raises:
        ValueError: in one line.
    """
    one = executor_entry(text)
    is_known = plugins.origin(one) is None
    if ":" in text or (is_known and one.name != LOCAL):
        make_executor(text)


def address_of(text: str) -> str:
    """Where an executor's text leads to; "" where it names no place."""
    return model_and_options(text.partition(":")[2])[0]


def with_options(text: str, **options: float | None) -> str:
    """An executor's text with other options, each in place of what it says of the same; None changes nothing.

    Raises:
        ValueError: in one line, on an option of the executor of this process, which has none.
    """
    given = {key: f"{key}={value:g}" for key, value in options.items() if value is not None}
    if given and text == LOCAL:
        name = next(iter(given)).replace("_", "-")
        raise ValueError(f"expected --{name} with --executor ray, got it with {LOCAL}, which is this process alone")
    if not given:
        return text
    name, _, rest = text.partition(":")
    kept = [part for part in rest.split(",") if part and part.partition("=")[0].strip() not in given]
    return f"{name}:{','.join([*kept, *given.values()])}"


def make_executor(text: str = LOCAL) -> Any:
    """The :class:`noisewright.executors.protocol.Executor` of a name; a new one, which no run has started yet.

    Args:
        text: ``NAME[:ADDRESS][,option=value]``; the options are the arguments of its class or function.

    Raises:
        ValueError: as :func:`executor_entry`, on options that it does not have, or where a plug-in's is no executor.
    """
    from noisewright.executors.protocol import Executor

    one = executor_entry(text)
    name, _, rest = text.partition(":")
    made, who = load(one), plugins.origin(one)
    options = {**one.options, **(_options(name, made, rest) if rest else {})}
    if who is None:
        return made(**options)
    try:
        found = call(made, **options)
    except Exception as error:
        raise ValueError(f"{who}: executor {name} raised {named(error)}: {said(error)}") from error
    if not isinstance(found, Executor):
        parts = "workers, start, submit and close"
        raise ValueError(f"{who}: expected an executor with {parts} for {name}, got {type(found).__name__}")
    return found


def _options(name: str, made: Any, rest: str) -> dict[str, Any]:
    accepted = inspect.signature(made).parameters
    address, given = model_and_options(rest, accepted)
    if address and "address" not in accepted:
        raise ValueError(f"executor {name} takes no address, got {short(address)}")
    found = typed(f"executor {name}", made, given, [key for key in accepted if key != "address"])
    return {**found, "address": address} if address else found
