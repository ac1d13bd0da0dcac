"""Hard negatives: a prompt and its scene changed in one respect, so that the old prompt no longer holds."""

from dataclasses import replace

import numpy as np

from noisewright.shapes.prompts import MOST_THINGS, RELATIONS, Group, Prompt, kind, sample_scene
from noisewright.shapes.scene import COLOURS, PALETTE, SHAPES, SIDE_PX, SIZES, Scene, apart, box

EDITS = ("colour", "shape", "size", "count", "binding", "relation")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
IN_PLACE = 0.5  # share of edits that keep the layout where they can


def key(prompt: Prompt) -> tuple[tuple[str, str], ...]:
    """What the prompt names, without sizes and relation: prompts of one key may hold for one picture."""
    return tuple(sorted((g.colour, g.shape) for g in prompt.groups for _ in range(g.count)))


def possible(prompt: Prompt) -> list[str]:
    """The edits that a prompt allows."""
    edits = ["colour", "shape", "count"]
    if any(group.size for group in prompt.groups):
        edits.append("size")
    if len(prompt.groups) > 1 and _swaps(prompt):
        edits.append("binding")
    if prompt.relation:
        edits += ["relation"] * 3
    return edits


def _swaps(prompt: Prompt) -> list[tuple[int, int]]:
    groups = prompt.groups
    return [
        (i, j)
        for i in range(len(groups))
        for j in range(i)
        if groups[i].colour != groups[j].colour and groups[i].shape != groups[j].shape
    ]


def _other(rng: np.random.Generator, values: tuple[str, ...], value: str) -> str:
    rest = [v for v in values if v != value]
    return rest[rng.integers(len(rest))]


def _edit_count(rng: np.random.Generator, prompt: Prompt) -> Prompt:
    groups = list(prompt.groups)
    total = sum(group.count for group in groups)
    i = int(rng.integers(len(groups)))
    if total < MOST_THINGS and (total == 1 or rng.random() < 0.5):
        if len(groups) < 3 and rng.random() < 0.4:
            groups.append(Group(1, None, COLOURS[rng.integers(8)], SHAPES[rng.integers(5)]))
        else:
            groups[i] = replace(groups[i], count=groups[i].count + 1)
    elif groups[i].count > 1:
        groups[i] = replace(groups[i], count=groups[i].count - 1)
    else:
        del groups[i]
    return Prompt(tuple(groups))


def edit_prompt(rng: np.random.Generator, prompt: Prompt, edit: str) -> Prompt:
    """A prompt that differs in one respect and cannot hold for the same scene."""
    if edit == "count":
        return _edit_count(rng, prompt)
    if edit == "relation":
        relation = prompt.relation or RELATIONS[0]
        if rng.random() < 0.75:
            return Prompt(prompt.groups, OPPOSITE[relation])
        return Prompt(prompt.groups, _other(rng, RELATIONS, relation))
    groups = list(prompt.groups)
    if edit == "binding":
        swaps = _swaps(prompt)
        i, j = swaps[rng.integers(len(swaps))]
        a, b = groups[i], groups[j]
        groups[i], groups[j] = replace(a, colour=b.colour), replace(b, colour=a.colour)
        return Prompt(tuple(groups), prompt.relation)
    if edit == "size":
        sized = [i for i, group in enumerate(groups) if group.size]
        i = sized[rng.integers(len(sized))]
        groups[i] = replace(groups[i], size=_other(rng, SIZES, groups[i].size or ""))
        return Prompt(tuple(groups), prompt.relation)
    i = int(rng.integers(len(groups)))
    if edit == "colour":
        groups[i] = replace(groups[i], colour=_other(rng, COLOURS, groups[i].colour))
    else:
        groups[i] = replace(groups[i], shape=_other(rng, SHAPES, groups[i].shape))
    return Prompt(tuple(groups), prompt.relation)


def _fits(scene: Scene) -> bool:
    things = scene.things
    inside = all(min(box(t)[:2]) >= 1 and max(box(t)[2:]) <= SIDE_PX - 1 for t in things)
    return inside and all(apart(a, b) for i, a in enumerate(things) for b in things[:i])


def _in_place(before: Prompt, after: Prompt, scene: Scene) -> Scene | None:
    """The scene with only what the edit changed, where that is simple; ``scene`` is in no certain order."""
    old = [g for g in before.groups for _ in range(g.count)]
    new = [g for g in after.groups for _ in range(g.count)]
    if len(old) != len(new) or before.relation != after.relation:
        return None
    left, things = list(scene.things), []
    for was, becomes in zip(old, new, strict=True):
        thing = next(t for t in left if (t.colour, t.shape) == (was.colour, was.shape) and was.size in (None, t.size))
        left.remove(thing)
        if becomes.size not in (None, thing.size):
            return None
        rgb = thing.rgb if becomes.colour == thing.colour else tuple(map(float, PALETTE[becomes.colour]))
        things.append(replace(thing, shape=becomes.shape, colour=becomes.colour, rgb=rgb))
    changed = Scene(tuple(things), scene.background)
    return changed if _fits(changed) else None


def _mirrored(scene: Scene, relation: str) -> Scene | None:
    """Two things exchanged, for an opposite relation in the same layout."""
    a, b = scene.things
    changed = Scene((replace(a, x=b.x, y=b.y), replace(b, x=a.x, y=a.y)), scene.background)
    return changed if _fits(changed) else None


def edit_pair(rng: np.random.Generator, prompt: Prompt, scene: Scene, edit: str) -> tuple[Prompt, Scene]:
    """The edited prompt and a scene of it, in the old layout half of the time."""
    after = edit_prompt(rng, prompt, edit)
    changed = None
    if rng.random() < IN_PLACE:
        if edit == "relation" and after.relation == OPPOSITE[prompt.relation or ""]:
            changed = _mirrored(scene, after.relation)
        else:
            changed = _in_place(prompt, after, scene)
    if changed is None:
        changed = replace(sample_scene(rng, after), background=scene.background)
    return after, changed


def sized(rng: np.random.Generator, prompt: Prompt, share: float) -> Prompt:
    """The prompt, one of whose groups gets a size with probability ``share``, where none has and no relation is told.

    Without it sizes are asked about seldom: "size" is an edit of prompts that name one.
    """
    if prompt.relation or any(group.size for group in prompt.groups) or not share or rng.random() >= share:
        return prompt
    groups = list(prompt.groups)
    i = int(rng.integers(len(groups)))
    groups[i] = replace(groups[i], size=SIZES[rng.integers(2)])
    return Prompt(tuple(groups))


def group(rng: np.random.Generator, prompt: Prompt, size: int) -> list[tuple[Prompt, Scene, str]]:
    """A prompt with its scene and ``size - 1`` edits of both, each the others' hard negative.

    Returns:
        (prompt, scene, edit) with edit "base" for the first.
    """
    if kind(prompt) == "single" and prompt.groups[0].size is None and rng.random() < 0.5:
        prompt = Prompt((replace(prompt.groups[0], size=SIZES[rng.integers(2)]),))
    scene = sample_scene(rng, prompt)
    members = [(prompt, scene, "base")]
    texts = {prompt.text}
    while len(members) < size:
        edits = possible(prompt)
        edit = edits[rng.integers(len(edits))]
        after, changed = edit_pair(rng, prompt, scene, edit)
        named = {(g.colour, g.shape) for g in after.groups}
        if after.text not in texts and len(named) == len(after.groups):
            texts.add(after.text)
            members.append((after, changed, edit))
    return members
