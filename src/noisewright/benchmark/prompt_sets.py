"""Sets of prompts: the bundled ones, and files in the shapes that the field's sets come in.

| set | file | what is read |
|---|---|---|
| DrawBench | CSV | ``Prompts``, ``Category`` |
| PartiPrompts | TSV | ``Prompt``, ``Category`` |
| GenEval | JSON Lines | ``prompt``, ``tag`` |
| ImageReward | JSON, a list of objects | ``prompt`` |
| HPSv2 and others | JSON, a list of texts, or an object of such lists | the texts; the keys are categories |
| T2I-CompBench | text, a prompt a line | the line, up to a tab where all lines have one |

A prompt that stands in a file twice is taken once, with a warning: real sets have such, and two equal requests are one
run. Of prompts that are listed one by one, and of a bundled set, each stands there once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from noisewright.benchmark.prompt_files import Row, read_rows
from noisewright.benchmark.spec import SetPrompt
from noisewright.outside.bounds import LARGEST_FIRST_SEED, MOST_PROMPTS
from noisewright.outside.messages import did_you_mean, short
from noisewright.outside.reading import shown
from noisewright.schemas.request import check_prompt
from noisewright.shapes.prompts import KINDS, kind, load_prompts, parse

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

BUNDLED = {
    "noisewright/shapes/test": "noisewright/shapes/test", "shapes-test": "noisewright/shapes/test",
    "noisewright/shapes/dev": "noisewright/shapes/dev", "shapes-dev": "noisewright/shapes/dev",
    "noisewright/cifar10/classes": "noisewright/cifar10/classes", "cifar10-classes": "noisewright/cifar10/classes",
}  # fmt: skip
"""The bundled sets: full name by any name."""


def read_prompt_set(
    source: str | Path,
    *,
    column: str | None = None,
    category_column: str | None = None,
    category: str | None = None,
    every: int | None = None,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> tuple[tuple[SetPrompt, ...], list[str]]:
    """The prompts of a set, in its order.

    What is left out is left out in this order: other categories, all but the sample, all but every n-th, all beyond the
    limit.

    Args:
        source: a bundled set's name, or a file: ``.csv``, ``.tsv``, ``.jsonl``, ``.json``, any other is text with a
            prompt a line.
        column: where the prompts are, in a table; by default it is recognised.
        category_column: the same of categories.
        category: only prompts of this one, whatever its case.
        every: only the first of so many, again and again.
        limit: only the first so many.
        sample: only so many, drawn without replacement.
        seed: of that draw.

    Returns:
        The prompts, each with its place in the whole set, and what a person should know.

    Raises:
        ValueError: in one line, with the file's line where it is about one.
    """
    texts = {"column": column, "category_column": category_column, "category": category}
    for key, text in texts.items():
        if text is not None and (not isinstance(text, str) or not text.strip()):
            raise ValueError(f"expected {key} as text, got {short(text)}")
    for key, count in {"every": every, "limit": limit, "sample": sample}.items():
        if count is not None and (type(count) is not int or count < 1):
            raise ValueError(f"expected {key} of at least 1, got {short(count)}")
    if type(seed) is not int or not 0 <= seed <= LARGEST_FIRST_SEED:
        raise ValueError(f"expected seed in [0, {LARGEST_FIRST_SEED}], got {short(seed)}")
    name = str(source)
    if name in BUNDLED:
        name = BUNDLED[name]
        for key in ("column", "category_column"):
            if texts[key] is not None:
                raise ValueError(f"expected {key} with a file, got it with the bundled set {name}")
        rows = _bundled(name)
    else:
        rows = read_rows(Path(source), column, category_column)
    found, warnings = _once(rows, shown(name))
    found = _of_category(found, category, shown(name))
    if sample is not None:
        if sample > len(found):
            raise ValueError(f"expected sample of at most the {len(found)} prompts of {shown(name)}, got {sample}")
        drawn = np.random.default_rng(seed).choice(len(found), sample, replace=False)
        found = [found[place] for place in sorted(drawn)]
    return tuple(found[:: every or 1][:limit]), warnings


def numbered(texts: Sequence[str]) -> tuple[SetPrompt, ...]:
    """Prompts that were given as texts.

    Raises:
        ValueError, TypeError: in one line.
    """
    rows: list[Row] = [(f"place {place}", text, None) for place, text in enumerate(texts, 1)]
    found, _ = _once(rows, "the list of prompts", strict=True)
    return tuple(found)


def is_set(source: str | Path) -> bool:
    """Whether a text names a set rather than being a prompt: a bundled one, or a file that is there."""
    try:
        return str(source) in BUNDLED or Path(source).is_file()
    except (OSError, ValueError):  # too long for a file's name, or with NUL
        return False


def _bundled(name: str) -> Iterable[Row]:
    """A bundled set; of scenes, kinds in turn, so that its first prompts are of all kinds."""
    if name == "noisewright/cifar10/classes":
        return [(f"place {place}", text, None) for place, text in enumerate(CIFAR10, 1)]
    texts = load_prompts(name.rpartition("/")[2])
    kinds = [kind(parse(text)) for text in texts]
    by_kind = [[text for text, one in zip(texts, kinds, strict=True) if one == name] for name in KINDS]
    rows: list[Row] = []
    for turn in range(max(map(len, by_kind))):
        for name_of_kind, some in zip(KINDS, by_kind, strict=True):
            if turn < len(some):
                rows.append((f"place {len(rows) + 1}", some[turn], name_of_kind))
    return rows


def _once(rows: Iterable[Row], name: str, strict: bool = False) -> tuple[list[SetPrompt], list[str]]:
    """Prompts, each once."""
    found: list[SetPrompt] = []
    first: dict[str, str] = {}
    twice: list[str] = []
    for number, (place, given, category) in enumerate(rows, 1):
        text = given.strip() if isinstance(given, str) else given
        try:
            check_prompt(text)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{error} in {place} of {name}") from None
        if text in first:
            twice.append(f"{place} as in {first[text]}")
            if strict:
                raise ValueError(f"expected each prompt once, got {short(text)} in {first[text]} and {place} of {name}")
            continue
        first[text] = place
        found.append(SetPrompt(text, number, category))
        if len(found) > MOST_PROMPTS:
            raise ValueError(f"expected at most {MOST_PROMPTS} prompts in {name}, got more")
    if not found:
        raise ValueError(f"expected prompts in {name}, got none")
    if not twice:
        return found, []
    many = "1 prompt stands there again, and counts" if len(twice) == 1 else (
        f"{len(twice)} prompts stand there again, and count"
    )  # fmt: skip
    places = ", ".join(twice[:5]) + (", ..." if len(twice) > 5 else "")
    return found, [f"{name}: {many} once: {places}"]


def _of_category(found: list[SetPrompt], category: str | None, name: str) -> list[SetPrompt]:
    if category is None:
        return found
    known = list(dict.fromkeys(one.category for one in found if one.category is not None))
    if not known:
        raise ValueError(f"expected category with a set that has some, got {short(category)} of {name}, which has none")
    kept = [one for one in found if one.category is not None and one.category.lower() == category.strip().lower()]
    if not kept:
        said = f"expected category of {name} as one of {short(', '.join(known), 300)[1:-1]}"
        raise ValueError(f"{said}; got {short(category)}{did_you_mean(category, known)}")
    return kept

