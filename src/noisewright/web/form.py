"""The form that starts a run: its fields and their help are the command line's own, read from ``generate``'s signature.

Nothing that is said of an option is written down here: a new option's words come with it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from noisewright import registry
from noisewright.cli.generate import generate
from noisewright.request import OPTIONS, Request
from noisewright.web.settings import Settings

GROUPS: Mapping[str, tuple[str, ...]] = {
    "": ("prompt", "negative_prompt", "class_label", "model"),
    "Search": ("search", "search_args", "budget", "target", "verifier", "judge", "ensemble", "draft", "keep"),
    "Image": ("num_inference_steps", "search_steps", "guidance_scale", "height", "width", "seed"),
    "More": ("solver", "eta", "schedule", "frames", "states", "batch_size", "no_check"),
}
"""The fields of a request that a page may set. What names a file, a directory or a device is not among them."""

FIELDS = tuple(name for names in GROUPS.values() for name in names)

KINDS = {"search": "search", "model": "model", "verifier": "verifier", "judge": "verifier", "solver": "solver",
         "schedule": "schedule"}  # fmt: skip
"""Fields that name an entry of the registry."""

SEVERAL = ("verifier", "judge", "budget", "target")
ENSEMBLES = ("rank", "zsum")
NOT_TYPED = ("start",)
"""Arguments of searches that are no plain value: the page gives them where it has them."""


def option_names() -> dict[str, str]:
    """``generate``'s parameter of each field."""
    return {name: OPTIONS.get(name, name) for name in Request.model_fields}


@cache
def _parameters() -> dict[str, tuple[Any, Any, Any]]:
    """By ``generate``'s parameter its type, what typer says of it, and its default."""
    hints = get_type_hints(generate, include_extras=True)
    found = {}
    for name, one in inspect.signature(generate).parameters.items():
        hint, *about = get_args(hints[name])
        found[name] = hint, about[0], one.default
    return found


def option_of(field: str) -> str:
    """``--steps`` for ``num_inference_steps``; PROMPT, which has no name, stands for itself."""
    name = OPTIONS.get(field, field)
    return "PROMPT" if field == "prompt" else "--" + name.replace("_", "-")


def form(settings: Settings) -> dict[str, Any]:
    """The fields of the form, JSON-ready.

    Returns:
        ``groups``, each with ``title`` and ``fields``: ``name`` (of the request), ``option`` (of the command line),
        ``help``, ``metavar``, ``kind`` (``text``, ``number``, ``flag``), ``whole`` (of a number), ``several``,
        ``default``, ``least`` and ``choices`` (each ``name``, ``summary`` and details); ``searches``, the arguments of
        each with their defaults; and ``limits``.
    """
    groups = [{"title": title, "fields": [_field(name, settings) for name in names]} for title, names in GROUPS.items()]
    limits = settings.limits
    return {
        "groups": groups,
        "searches": {name: _arguments(name) for name in registry.names("search")},
        "limits": {"images": limits.images, "nfe": limits.nfe, "seconds": limits.seconds, "side": limits.side,
                   "steps": limits.steps},
    }  # fmt: skip


def fields_of(request: Request, settings: Settings) -> tuple[dict[str, Any], list[str]]:
    """The fields of a request as the form has them, and the options of what it cannot say.

    Returns:
        Values by field; and of what was asked for besides, or may not be named here, the option of the command line.
    """
    held, plain = request.to_json(), Request().to_json()
    given = {name: value for name, value in held.items() if value != plain[name]}
    found = {name: value for name, value in given.items() if name in FIELDS}
    left_out = [name for name in given if name not in FIELDS and name != "executor"]
    for name in ("verifier", "judge"):
        some = [one for one in found.get(name, []) if one in (*settings.verifiers, "none")]
        if some != found.get(name, []):
            left_out.append(name)
            found[name] = some
    args = {key: value for key, value in found.get("search_args", {}).items() if key not in NOT_TYPED}
    names = {"model": settings.models, "ensemble": ENSEMBLES, "schedule": registry.names("schedule")}
    other = [name for name, known in names.items() if name in found and found[name] not in known]
    if args != found.get("search_args", {}):
        other.append("search_args")
    left_out += other
    found |= {"search_args": args}
    return {name: one for name, one in found.items() if name == "search_args" or name not in other}, [
        option_of(name) for name in left_out
    ]


def _field(name: str, settings: Settings) -> dict[str, Any]:
    hint, about, default = _parameters()[OPTIONS.get(name, name)]
    kinds = {get_origin(one) or one for one in (hint, *get_args(hint))}
    choices = _choices(name, settings)
    kind = "flag" if bool in kinds else "number" if kinds & {int, float} else "text"
    return {
        "name": name, "option": option_of(name), "metavar": about.metavar, "kind": kind,
        "help": about.help if choices is None else _of_choices(about.help),
        "whole": int in kinds and float not in kinds, "several": name in SEVERAL or list in kinds,
        "default": default, "least": about.min, "choices": choices,
    }  # fmt: skip


def _of_choices(words: str) -> str:
    """The help of an option whose values are listed beside it: what it is and its default, not what may be typed."""
    default = re.search(r"By default [^;]*", words)
    return f"{words.partition(':')[0]}.{f' {default[0].rstrip(chr(46))}.' if default else ''}"


def _choices(name: str, settings: Settings) -> list[dict[str, Any]] | None:
    if name == "ensemble":
        return [{"name": one} for one in ENSEMBLES]
    kind = KINDS.get(name)
    if kind is None:
        return None
    entries = {one.name: one for one in registry.entries() if one.kind == kind}
    allowed = {"model": settings.models, "verifier": settings.verifiers}.get(kind, tuple(entries))
    found = []
    for one in allowed:
        entry = entries.get(one)
        details = {} if entry is None else {"summary": entry.summary, **entry.details, "needs": list(entry.needs)}
        found.append({"name": one, **details})
    return found


def _arguments(search: str) -> list[dict[str, Any]]:
    found = registry.search_arguments(search)
    hints = get_type_hints(registry.make_search(search))
    return [
        {"name": name, "default": default if isinstance(default, (int, float, str, bool, type(None))) else None,
         "choices": [one for one in get_args(hints.get(name)) if isinstance(one, str)] or None}
        for name, default in found.items() if name not in NOT_TYPED
    ]  # fmt: skip
