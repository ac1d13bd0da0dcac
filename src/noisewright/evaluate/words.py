"""What is said of a run, in words: for a terminal, a page and a notebook alike. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noisewright.evaluate.numbers import decimals, written

LINEAGE_WORDS = {
    "noise": "noise of seed {seed}",
    "vary": "varied",
    "denoise": "denoised to step {to}",
    "renoise": "noised back to step {to}",
}


def plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def duration(value: float) -> str:
    """Seconds for people."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def called(one: Mapping[str, Any]) -> str:
    """A candidate by its seed, or by the beginning of its id where no seed makes it."""
    return str(one["id"])[:8] if one.get("seed") is None else f"seed {one['seed']}"


def cost_lines(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a run cost and why it stopped, as (name, text)."""
    took = found["seconds"]
    phases = {name: value for name, value in took.items() if name != "total"}
    rest = max(0.0, took["total"] - sum(phases.values()))
    shares = ", ".join(f"{name} {value:.1f}" for name, value in {**phases, "saving and the rest": rest}.items())
    cost = f"{plural(found['images'], 'image')}, {found['nfe']} NFE, {found['forwards']} forwards"
    lines = [("cost", cost), ("time", f"{duration(took['total'])} ({shares})")]
    return [*lines, ("stopped", str(found["stopped"]))] if found.get("stopped") else lines


def why_lines(why: Mapping[str, Any] | None) -> list[str]:
    """The first against the second: by how much it is before it, and which verifiers prefer which.

    Args:
        why: as :func:`noisewright.run.explain.explain` gives it.
    """
    if why is None:
        return []
    first, second, opinions = why["first"], why["second"], why["verifiers"]
    pair = f"{called(first)} before {called(second)}"
    if why["tie"]:
        lines = [f"{pair}, which has the same {why['value_name']}: it came earlier"]
    elif why["by"] is None:
        lines = [f"{pair}, which has no number from any verifier"]
    else:
        by, after = _pair(first["value"], second["value"])
        lines = [f"{pair}: {why['value_name']} {by} against {after}"]
    if len(opinions) == 1:
        return lines
    for one in opinions:
        whom = {"first": f"prefers {called(first)}", "second": f"prefers {called(second)}"}
        by, after = _pair(*one["scores"])
        places = f"place {one['places'][0]} against {one['places'][1]} of {why['of']}"
        part = "" if one["by"] is None else f", {_signed(one['by'], why)} to the {why['value_name']}"
        said = whom.get(one["prefers"], "has no preference")
        lines.append(f"{one['name']} {said}: {by} against {after}, {places}{part}")
    return lines


def _pair(one: float | None, other: float | None) -> tuple[str, str]:
    places = decimals([one, other])
    return written(one, places), written(other, places)


def _signed(by: float, why: Mapping[str, Any]) -> str:
    places = decimals([one["by"] for one in why["verifiers"]] + [0.0])
    text = written(by, places)
    return text if text.startswith("-") else f"+{text}"


def lineage_text(lineage: Sequence[Mapping[str, Any]]) -> str:
    """The verbs from the noise to a candidate, in words."""
    parts = []
    for step in lineage:
        words = LINEAGE_WORDS.get(step["verb"], step["verb"])
        parts.append(words.format(**{"seed": "?", "to": "?", **step["args"]}))
    return " -> ".join(parts)


def status_text(found: Mapping[str, Any]) -> str:
    """The status, and why where that says more."""
    why = found["stopped"] if found["stopped"] != found["status"] else None
    return found["status"] + (f" ({why})" if why else "")
