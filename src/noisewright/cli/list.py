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
    families: Annotated[
        bool, typer.Option("--families", help="With models: the families of pipelines, and what was found to hold.")
    ] = False,
    json: options.Json = False,
) -> None:
    """List what can be chosen by name."""
    from noisewright import registry
    from noisewright.cli import terminal

    if kind not in KINDS:
        raise ValueError(registry.unknown("kind", kind, list(KINDS)))
    if families and kind != "models":
        raise ValueError(f"expected --families with models, got it with {kind}")
    found: list[dict[str, Any]] = []
    if families:
        from noisewright.registry.families import pipeline_families

        found = pipeline_families()
        if json:
            terminal.print_json(found)
        else:
            terminal.print_entries([_family(one) for one in found])
        return
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


def _family(row: dict[str, Any]) -> dict[str, Any]:
    """A family for people: the cells that hold in one line, the others with the reason, once each."""
    cells = row["cells"]
    found = {"name": row["name"], "summary": row["title"], "pipelines": ", ".join(row["classes"])}
    if row["models"]:
        found["models"] = ", ".join(row["models"])
    holds = [cell for cell, text in cells.items() if text == "holds"]
    if holds:
        found["holds"] = ", ".join(holds)
    for said in dict.fromkeys(text for text in cells.values() if ": " in text):
        kind, _, reason = said.partition(": ")
        where = [cell for cell, text in cells.items() if text == said]
        every = "everything" if len(where) == len(cells) else ", ".join(where)
        found[f"{kind} ({every})"] = reason
    return found
