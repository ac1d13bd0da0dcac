"""The grammar of prompts, the scenes that satisfy them, and the prompt sets."""

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from noisewright.outside.messages import short
from noisewright.shapes.scene import (
    COLOUR_JITTER,
    COLOURS,
    PALETTE,
    RADIUS_PX,
    SHAPES,
    SIDE_PX,
    SIZES,
    Scene,
    SceneObject,
    apart,
    box,
    rgb,
    sample_background,
)

KINDS = ("single", "count", "relation", "two", "three")
NUMBERS = ("one", "two", "three", "four")
RELATIONS = ("left of", "right of", "above", "below")
MOST_THINGS = 4
MOST_GROUPS = 3
PLURALS = {shape: "crosses" if shape == "cross" else shape + "s" for shape in SHAPES}
WORDS = (
    *("a", "an", "the", "and", ",", "to", "on", "of", "left", "right", "above", "below"),
    *NUMBERS,
    *SIZES,
    *COLOURS,
    *SHAPES,
    *PLURALS.values(),
)
# Between the centroids in a relation, in generated scenes: far beyond what the oracle asks for.
TRUE_SEPARATION_PX = 14.0
TRUE_DOMINANCE = 1.25
_MARGIN_PX = 1.5  # between an object and the border


@dataclass(frozen=True)
class Group:
    """``count`` things of one colour and shape; ``size`` None when the prompt does not say."""

    count: int
    size: str | None
    colour: str
    shape: str

    @property
    def text(self) -> str:
        """The group in words, such as "a large red circle" or "two stars"."""
        words = [self.size] if self.size else []
        words += [self.colour, self.shape if self.count == 1 else PLURALS[self.shape]]
        article = "an" if words[0][0] in "aeiou" else "a"
        return " ".join([article if self.count == 1 else NUMBERS[self.count - 1], *words])


@dataclass(frozen=True)
class Prompt:
    """Groups of things, and how the first is placed relative to the second (or None)."""

    groups: tuple[Group, ...]
    relation: str | None = None

    @property
    def text(self) -> str:
        """The prompt in its canonical words."""
        texts = [group.text for group in self.groups]
        if self.relation:
            return f"{texts[0]} {self.relation} {texts[1]}"
        return ", ".join(texts[:-1]) + " and " + texts[-1] if len(texts) > 1 else texts[0]


def kind(prompt: Prompt) -> str:
    """The kind of a prompt: one of ``KINDS``."""
    if prompt.relation:
        return "relation"
    if any(group.count > 1 for group in prompt.groups):
        return "count"
    return ("single", "two", "three")[len(prompt.groups) - 1]


def _parse_group(text: str) -> Group:
    count, size, colour = 1, None, None
    words = text.split()
    if not words:
        raise ValueError("expected an object such as 'a red circle', got nothing")
    singular = {**{shape: shape for shape in SHAPES}, **{many: shape for shape, many in PLURALS.items()}}
    *front, last = words
    if last not in singular:
        raise ValueError(f"expected a shape ({', '.join(SHAPES)}) at the end of {short(text)}, got {short(last)}")
    for position, word in enumerate(front):
        if word in ("a", "an", "the") and position == 0:
            continue
        if word in NUMBERS and position <= 1:
            count = NUMBERS.index(word) + 1
        elif word in "1234" and len(word) == 1 and position <= 1:
            count = int(word)
        elif word in SIZES and size is None and colour is None:
            size = word
        elif word in COLOURS and colour is None:
            colour = word
        else:
            raise ValueError(f"expected a number, a size or a colour in {short(text)}, got {short(word)}")
    if colour is None:
        raise ValueError(f"expected a colour ({', '.join(COLOURS)}) in {short(text)}, got none")
    return Group(count, size, colour, singular[last])


_RELATION = re.compile(r"\b(?:is\s+)?(?:(?:to|on)\s+)?(?:the\s+)?(left|right)\s+of\b|\b(?:is\s+)?(above|below)\b")


def parse(text: str) -> Prompt:
    """Reads a prompt, leniently: articles, digits, "to the left of", plurals, commas and case may vary.

    Raises:
        ValueError: the text is not of the grammar; the message says what was expected and what was found.
    """
    cleaned = " ".join(text.lower().strip().rstrip(".!").replace(",", " , ").split())
    if not cleaned:
        raise ValueError("expected a prompt such as 'a red circle left of a blue square', got an empty one")
    relations = list(_RELATION.finditer(cleaned))
    if len(relations) > 1:
        raise ValueError(f"expected at most one relation, got {len(relations)} in {short(text)}")
    if relations:
        found = relations[0]
        relation = f"{found[1]} of" if found[1] else found[2]
        parts = [cleaned[: found.start()], cleaned[found.end() :]]
    else:
        relation = None
        parts = re.split(r"\s*(?:,\s*and|,|\band)\s+", cleaned)
    groups = tuple(_parse_group(part.strip(" ,")) for part in parts)
    if relation and any(group.count > 1 for group in groups):
        raise ValueError(f"expected one object on each side of {relation!r}, got {short(text)}")
    total = sum(group.count for group in groups)
    if total > MOST_THINGS or len(groups) > MOST_GROUPS:
        raise ValueError(
            f"expected at most {MOST_THINGS} objects in {MOST_GROUPS} groups, got {total} in {len(groups)}"
        )
    return Prompt(groups, relation)


def _sample_groups(rng: np.random.Generator, counts: tuple[int, ...], sized: float) -> tuple[Group, ...]:
    groups: list[Group] = []
    while len(groups) < len(counts):
        colour, shape = COLOURS[rng.integers(len(COLOURS))], SHAPES[rng.integers(len(SHAPES))]
        if any((group.colour, group.shape) == (colour, shape) for group in groups):
            continue
        size = SIZES[rng.integers(2)] if rng.random() < sized else None
        groups.append(Group(counts[len(groups)], size, colour, shape))
    return tuple(groups)


_MIXED_COUNTS = ((2, 1), (1, 2), (3, 1), (1, 3), (2, 2), (2, 1, 1))


def sample_prompt(rng: np.random.Generator, kind: str) -> Prompt:
    """A random prompt of one of ``KINDS``."""
    if kind == "single":
        return Prompt(_sample_groups(rng, (1,), sized=0.6))
    if kind == "count":
        mixed = rng.random() < 0.3
        counts = _MIXED_COUNTS[rng.integers(len(_MIXED_COUNTS))] if mixed else (int(rng.integers(2, 5)),)
        return Prompt(_sample_groups(rng, counts, sized=0.15))
    if kind == "relation":
        return Prompt(_sample_groups(rng, (1, 1), sized=0.15), RELATIONS[rng.integers(len(RELATIONS))])
    if kind == "two":
        return Prompt(_sample_groups(rng, (1, 1), sized=0.2))
    if kind == "three":
        return Prompt(_sample_groups(rng, (1, 1, 1), sized=0.15))
    raise ValueError(f"expected a kind in {KINDS}, got {kind!r}")


def holds(relation: str, dx: float, dy: float, separation_px: float, dominance: float = 1.0) -> bool:
    """Whether a thing at (dx, dy) from another, y downwards, stands in a relation to it.

    Args:
        relation: one of ``RELATIONS``.
        dx, dy: the first thing's centroid less the second's, in pixels.
        separation_px: least distance along the relation's axis.
        dominance: how many times the distance along the axis must be that across it.
    """
    along, across = {
        "left of": (-dx, dy),
        "right of": (dx, dy),
        "above": (-dy, dx),
        "below": (dy, dx),
    }[relation]
    return along >= separation_px and along >= dominance * abs(across)


def _place(rng: np.random.Generator, shape: str, colour: str, size: str, shrink: float) -> SceneObject:
    low, high = RADIUS_PX[size]
    radius = rng.uniform(low, low + (high - low) * shrink)
    here = box(SceneObject(shape, colour, size, radius, 0, 0))
    lows = _MARGIN_PX - here[0], _MARGIN_PX - here[1]
    highs = SIDE_PX - _MARGIN_PX - here[2], SIDE_PX - _MARGIN_PX - here[3]
    x, y = rng.uniform(lows, highs)
    jitter = rng.uniform(-COLOUR_JITTER, COLOUR_JITTER, size=3)
    tone = rgb(np.clip(np.array(PALETTE[colour]) + jitter, 0, 255))
    return SceneObject(shape, colour, size, float(radius), float(x), float(y), tone)


def sample_scene(rng: np.random.Generator, prompt: Prompt) -> Scene:
    """A random scene with exactly the objects of a prompt, none touching, its relation clear."""
    slots = [group for group in prompt.groups for _ in range(group.count)]
    background = sample_background(rng)
    # Sizes that the prompt leaves open: mostly one draw, seldom all large where there are four.
    sizes = [slot.size or SIZES[int(rng.random() < (0.5 if len(slots) < 3 else 0.35))] for slot in slots]
    attempt = 0
    while True:
        attempt += 1
        shrink = 1.0 if attempt < 8 else 0.3  # crowded scenes take the lower end of their sizes
        things: list[SceneObject] = []
        for slot, size in zip(slots, sizes, strict=True):
            for _ in range(12):
                thing = _place(rng, slot.shape, slot.colour, size, shrink)
                if not all(apart(thing, other) for other in things):
                    continue
                if prompt.relation and things:
                    first = things[0]
                    dx, dy = first.x - thing.x, first.y - thing.y
                    if not holds(prompt.relation, dx, dy, TRUE_SEPARATION_PX, TRUE_DOMINANCE):
                        continue
                things.append(thing)
                break
            else:
                break
        if len(things) == len(slots):
            order = rng.permutation(len(things)) if prompt.relation is None else range(len(things))
            return Scene(tuple(things[i] for i in order), background)


def sample_sets(seed: int, each: int = 40) -> dict[str, list[Prompt]]:
    """The ``dev`` and ``test`` prompts: ``each`` of every kind, none twice.

    Returns:
        "dev" and "test", each with ``each * len(KINDS)`` prompts in the order of ``KINDS``.
    """
    rng = np.random.default_rng(seed)
    seen: set[str] = set()
    sets: dict[str, list[Prompt]] = {"dev": [], "test": []}
    for name in KINDS:
        for prompts in sets.values():
            chosen = 0
            while chosen < each:
                prompt = sample_prompt(rng, name)
                if prompt.text not in seen:
                    seen.add(prompt.text)
                    prompts.append(prompt)
                    chosen += 1
    return sets


@cache
def load_prompts(name: str) -> tuple[str, ...]:
    """The prompts of the bundled set "dev" or "test", 200 each, 40 of each kind."""
    if name not in ("dev", "test"):
        raise ValueError(f"expected 'dev' or 'test', got {name!r}")
    text = resources.files("noisewright.shapes").joinpath(f"{name}.txt").read_text(encoding="utf-8")
    return tuple(line.split("\t")[1] for line in text.splitlines())
