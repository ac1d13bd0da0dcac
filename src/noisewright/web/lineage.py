"""How a search's candidates came of each other, as a tree with a place for each: what the page draws.

A node is a draw: a starting noise, or what was drawn on the way (a fork, a re-noised state), with everything that was
denoised from it (:attr:`noisewright.run.particle.Particle.origin`), as a draft or in full. Its picture is the candidate
that it became.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from noisewright.run.directory import PREVIEWS
from noisewright.run.particle import Particle
from noisewright.run.ways import with_steps
from noisewright.web.live import Live

MOST_NODES = 3000
"""That are drawn; of more, those that led to the best."""

CUT_ROWS = 0.4
"""The room of one that was cut, which has no picture, in rows."""

BROAD = 24
"""Nodes in a row, where no candidate came of another."""


def tree(live: Live) -> dict[str, Any]:
    """The tree of a run, JSON-ready.

    Returns:
        ``nodes``, each with ``id``, ``verb``, ``at`` (the step where it left its parent, 0 is pure noise), ``reached``
        (the furthest step), ``steps``, ``parents`` (places in this list; the first is whom it stands below), ``x`` and
        ``y`` (generation, row), ``candidate``, ``seed``, ``value``, ``last`` (of the best: whether the best came of
        it), and of one that was cut its last ``preview`` (``index``,
        ``scores``, ``id`` of its picture); ``width`` and ``height`` in those units; ``left_out``,
        how many are not shown; ``flat``, whether no candidate came of another.
    """
    with live.lock:
        ledger = live.watch.ledger
        groups = _groups(live)
        values = {key: live.value_of(key) for key in ledger.candidates}
        best = live.best.id if live.best is not None else None
    shown, left_out = _shown(groups, values)
    order = [key for key in groups if key in shown]  # parents before children, as they came
    place = {key: number for number, key in enumerate(order)}
    on_the_way = _ancestry(groups, next((key for key, one in groups.items() if best in one["candidates"]), None))
    nodes = [_node(groups[key], place, values, best, key in on_the_way, live) for key in order]
    return {**_placed(nodes), "left_out": left_out, "verifiers": list(live.ranking.names)}


def _groups(live: Live) -> dict[str, dict[str, Any]]:
    """By the id of a draw what was made of it; parents come before their children, and full images after drafts."""
    ledger = live.watch.ledger
    full = next((one.particle.steps for one in ledger.candidates.values() if not live.is_draft(one)), None)
    keys: dict[str, str] = {}
    found: dict[str, dict[str, Any]] = {}
    for one in ledger.particles.values():
        origin = one.origin
        key = keys.get(origin.id)
        if key is None:
            key = keys[origin.id] = _in_full(origin, full).id
        group = found.get(key)
        if group is None:
            above = [keys.setdefault(parent.origin.id, _in_full(parent.origin, full).id) for parent in origin.parents]
            group = found[key] = {"origin": origin, "parents": list(dict.fromkeys(above)), "candidates": [],
                                  "reached": (origin.index, origin.steps), "preview": None}  # fmt: skip
        group["reached"] = max(group["reached"], (one.index, one.steps), key=lambda at: (at[0] / at[1], at[1]))
        if one.id in ledger.candidates:
            drafts = sum(live.is_draft(ledger.candidates[other]) for other in group["candidates"])
            place = drafts if live.is_draft(ledger.candidates[one.id]) else len(group["candidates"])
            group["candidates"].insert(place, one.id)
        if one.id in ledger.previews:
            group["preview"] = one
    return found


def _in_full(origin: Particle, steps: int | None) -> Particle:
    """The draw that a draw of a draft is in the full image; itself of no draft, and where there is none."""
    with suppress(ValueError):
        if origin.draft is not None:
            return origin.full
        if steps is not None and origin.steps != steps:
            return with_steps(origin, steps)
    return origin


def _ancestry(groups: Mapping[str, Mapping[str, Any]], key: str | None) -> set[str]:
    found: set[str] = set()
    waiting = [] if key is None else [key]
    while waiting:
        one = waiting.pop()
        if one not in found and one in groups:
            found.add(one)
            waiting += groups[one]["parents"]
    return found


def _shown(
    groups: Mapping[str, Mapping[str, Any]], values: Mapping[str, float | None]
) -> tuple[set[str], int]:
    """The draws that are drawn, with all that they came of, and how many are left out."""
    if len(groups) <= MOST_NODES:
        return set(groups), 0

    def worth(key: str) -> float:
        scores = [values.get(one) for one in groups[key]["candidates"]]
        return max((one for one in scores if one is not None), default=-math.inf)

    found: set[str] = set()
    for key in sorted(groups, key=worth, reverse=True):
        more = _ancestry(groups, key)
        if len(found | more) > MOST_NODES:
            break
        found |= more
    return found, len(groups) - len(found)


def _node(
    group: Mapping[str, Any], place: Mapping[str, int], values: Mapping[str, float | None], best: str | None,
    on_the_way: bool, live: Live,
) -> dict[str, Any]:  # fmt: skip
    origin: Particle = group["origin"]
    key = group["candidates"][-1] if group["candidates"] else None
    preview: Particle | None = group["preview"] if key is None else None
    return {
        "id": origin.id, "verb": origin.verb, "at": origin.index, "reached": group["reached"][0],
        "steps": group["reached"][1], "parents": [place[one] for one in group["parents"] if one in place],
        "candidate": key,
        "seed": None if origin.seed is None else origin.seed, "value": None if key is None else values.get(key),
        "best": key is not None and key == best, "last": on_the_way,
        "preview": None if preview is None else _preview(preview, live),
    }  # fmt: skip


def _preview(particle: Particle, live: Live) -> dict[str, Any]:
    """The clean estimate that was made last of a draw that was cut."""
    scores = live.watch.ledger.previews[particle.id]
    pictured = (live.watch.root / PREVIEWS / f"{particle.id}.jpg").is_file()
    return {"index": particle.index, "scores": [_finite(scores.get(name)) for name in live.ranking.names],
            "id": particle.id if pictured else None}  # fmt: skip


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _placed(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """Give each node a place: generations from left to right, and a row for each that nothing came of."""
    children: list[list[int]] = [[] for _ in nodes]
    roots: list[int] = []
    for number, one in enumerate(nodes):
        above = [parent for parent in one["parents"] if parent < number]
        one["parents"] = above
        one["x"] = 1 + nodes[above[0]]["x"] if above else 0
        (children[above[0]] if above else roots).append(number)
    if not any(children):
        for number, one in enumerate(nodes):
            one["x"], one["y"] = number % BROAD, number // BROAD
        high = 1 + (len(nodes) - 1) // BROAD
        return {"nodes": nodes, "width": min(BROAD, len(nodes)), "height": high if nodes else 0, "flat": True}
    row = 0.0
    waiting = [(number, False) for number in reversed(roots)]
    while waiting:
        number, done = waiting.pop()
        if done:
            rows = [nodes[child]["y"] for child in children[number]]
            nodes[number]["y"] = (rows[0] + rows[-1]) / 2
        elif children[number]:
            waiting.append((number, True))
            waiting += [(child, False) for child in reversed(children[number])]
        else:
            room = 1.0 if nodes[number]["candidate"] else CUT_ROWS
            nodes[number]["y"] = row + (room - 1) / 2
            row += room
    return {"nodes": nodes, "width": 1 + max(one["x"] for one in nodes), "height": row, "flat": False}
