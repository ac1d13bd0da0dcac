"""What installed packages add under the entry point ``noisewright.plugins``, each entry looked at before it counts.

An entry point of that group loads to a list of :class:`~.Entry`. What is wrong with one of them costs that entry alone,
and is said with the name of the package, of the entry point and of the entry.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from noisewright.outside.messages import did_you_mean, short
from noisewright.registry.builtins import ENTRIES
from noisewright.registry.kinds import KINDS, NEEDS, Entry
from noisewright.verifiers.guarded import call, named, said

log = logging.getLogger("noisewright")

GROUP = "noisewright.plugins"

NAME = re.compile(r"\w[\w.+-]*(?:/\w[\w.+-]*)?")
"""What can be typed as a name: a colon or a comma would begin what comes after it."""

TARGET = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")

FIELDS = (("name", str), ("summary", str), ("target", str), ("details", dict), ("options", dict), ("needs", tuple))

_origins: dict[tuple[str, str], str] = {}
_broken: dict[tuple[str, str], str] = {}


@cache
def entries() -> tuple[Entry, ...]:
    """All entries, built-ins first."""
    _origins.clear()
    _broken.clear()
    found = {(one.kind, one.name): one for one in ENTRIES}
    for point in entry_points(group=GROUP):
        who = _called(point)
        for one in _listed(point, who):
            wrong = what_is_wrong(one)
            place = (str(one.kind), str(one.name)) if isinstance(one, Entry) else ("", "")
            if not wrong and place in found:
                wrong = f"there is a {place[0]} of that name already, {_owner(place)}"
            if wrong:
                log.warning("%s: entry %s is left out: %s", who, " ".join(place).strip() or short(one), wrong)
                _broken.setdefault(place, f"{who}: {wrong}")
                continue
            found[place] = one
            _origins[place] = who
    return tuple(found.values())


def origin(one: Entry) -> str | None:
    """The plug-in that an entry comes from, for messages; None for a built-in one."""
    return _origins.get((one.kind, one.name))


def why_left_out(kind: str, name: str) -> str | None:
    """Why a plug-in's entry of that name is none; None where there is no such entry."""
    return _broken.get((kind, name))


def what_is_wrong(one: Any) -> str:
    """What is wrong with what should be an :class:`~.Entry`, in one line; nothing where nothing is."""
    if not isinstance(one, Entry):
        return f"expected an Entry, got {short(one)}"
    if not isinstance(one.kind, str) or one.kind not in KINDS:
        near = did_you_mean(str(one.kind), KINDS)
        return f"expected a kind among {', '.join(KINDS)}, got {short(one.kind)}{near}: write Entry(kind=..., name=...)"
    for name, kind in FIELDS:
        value = getattr(one, name)
        if not isinstance(value, kind):
            return f"expected {name} as a {kind.__name__}, got {short(value)}: write Entry({name}=...)"
    if not NAME.fullmatch(one.name):
        return f"expected a name of letters, digits and -_.+ alone, got {short(one.name)}"
    if not TARGET.fullmatch(one.target):
        return f"expected a target module:attribute, {KINDS[one.kind]}, got {short(one.target)}"
    for need in one.needs:
        if need not in NEEDS:
            return f"expected needs among {', '.join(NEEDS)}, got {short(need)}{did_you_mean(str(need), NEEDS)}"
    if one.needs and one.kind != "search":
        return f"expected no needs of a {one.kind}, got {short(one.needs)}"
    texts = isinstance(one.takes, tuple) and all(isinstance(text, str) and text for text in one.takes)
    if not texts or (one.kind == "sampler") is not bool(one.takes):
        wanted = "takes=(CLASS, ...), the pipelines it is for," if one.kind == "sampler" else "no takes"
        return f"expected {wanted} of a {one.kind}, got {short(one.takes)}"
    return ""


def _listed(point: EntryPoint, who: str) -> Iterator[Any]:
    """What an entry point loads to, one by one."""
    try:
        given = call(point.load)
        given = given if isinstance(given, Iterable) and not isinstance(given, (str, bytes, dict)) else [given]
        yield from call(list, given)
    except Exception as error:  # one broken plug-in must not take the others away
        log.warning("%s could not be loaded: %s: %s", who, named(error), said(error))


def _called(point: EntryPoint) -> str:
    """A plug-in by its package and entry point."""
    package = getattr(getattr(point, "dist", None), "name", None)
    return f"plug-in {package} (entry point {point.name})" if package else f"plug-in {point.name}"


def _owner(place: tuple[str, str]) -> str:
    return f"of {_origins[place]}" if place in _origins else "noisewright's own"
