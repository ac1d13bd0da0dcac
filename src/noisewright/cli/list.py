"""``noisewright list``: what can be chosen by name."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from noisewright.cli import options

KINDS = {
    "searches": "search", "verifiers": "verifier", "models": "model", "solvers": "solver", "schedules": "schedule",
    "executors": "executor", "samplers": "sampler",
}  # fmt: skip


def list_names(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(KINDS)}.")],
    json: options.Json = False,
) -> None:
    """List what can be chosen by name."""
    from noisewright import registry
    from noisewright.cli import terminal

    if kind not in KINDS:
        raise ValueError(registry.unknown("kind", kind, list(KINDS)))
    found: list[dict[str, Any]] = []
    for one in registry.entries():
        if one.kind == KINDS[kind]:
            found.append({"name": one.name, "summary": one.summary, **one.details})
            if one.needs:
                found[-1]["needs"] = ", ".join(one.needs)
            if one.takes:
                found[-1]["takes"] = ", ".join(one.takes)
            if one.kind == "search":
                found[-1]["arguments"] = registry.search_arguments(one.name)
    if json:
        terminal.print_json(found)
    else:
        terminal.print_entries(found)
