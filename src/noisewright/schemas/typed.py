"""Options as people type them, and as earlier versions recorded them: texts, of which values are made here."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noisewright.outside.messages import short
from noisewright.run.budget import Budget, parse_budget
from noisewright.schemas.reading import is_file, parse_json


def budget_texts(given: Any) -> list[str] | None:
    """A budget in any form as the texts that are recorded, ``["64 images", "30 seconds"]``; None stays None.

    Raises:
        ValueError, TypeError: in one line, on what is none.
    """
    if given is None:
        return None
    limits = given if isinstance(given, Budget) else parse_budget(given)
    units = (("images", limits.images), ("nfe", limits.nfe), ("seconds", limits.seconds))
    return [f"{int(one) if one == int(one) else one!r} {unit}" for unit, one in units if one is not None]


def read_lora(text: str) -> dict[str, Any]:
    """``FILE[:WEIGHT]``; what follows the last colon is a weight only where it is a number, for paths have colons too.

    Raises:
        ValueError: in one line, on a weight that is not finite, or no file's name.
    """
    file, colon, number = text.rpartition(":")
    if colon and file and not is_file(text):
        try:
            weight = float(number)
        except ValueError:
            return {"file": text, "weight": 1.0}
        if not math.isfinite(weight):
            raise ValueError(f"expected a finite weight of the LoRA {short(file)}, got {number}")
        return {"file": file, "weight": weight}
    return {"file": text, "weight": 1.0}


def read_loras(value: Any) -> Any:
    """LoRA files as typed (``FILE[:WEIGHT]``), as (file, weight), or as they are recorded."""
    given = [value] if isinstance(value, (str, os.PathLike, Mapping)) else value
    return [_lora(one) for one in given] if isinstance(given, (list, tuple)) else given


def _lora(given: Any) -> Any:
    if isinstance(given, (str, os.PathLike)):
        return read_lora(os.fspath(given))
    if isinstance(given, Mapping):
        return {"weight": 1.0, **given}
    return {"file": given[0], "weight": given[1]} if isinstance(given, (list, tuple)) and len(given) == 2 else given


def read_search_args(given: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` texts; the search's own types are checked with the plan."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"expected --search-arg NAME=VALUE, got {short(text)}")
        found[name.strip().replace("-", "_")] = value.strip()
    return found


def read_frames(text: str | None) -> int | str | None:
    """Frames of a video as typed: their number, or the name of one."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else text


def read_pipeline_args(given: Sequence[str]) -> dict[str, Any]:
    """``NAME=JSON`` texts as their values; of images ``NAME=FILE``, or a JSON list of files, as ``pathlib.Path``.

    Raises:
        ValueError: in one line, on what is no JSON, and on a name that is given twice.
    """
    found: dict[str, Any] = {}
    if given:  # pydantic takes longer to load than the whole help of the command line
        from noisewright.schemas.checked import PLAIN, checked
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise ValueError(f"expected --pipeline-arg NAME=JSON, got {short(text)}")
        if name in found:
            raise ValueError(f"expected one --pipeline-arg {name}, got two")
        if takes_image(name) and (files := _files(value)) is not None:
            found[name] = files
            continue
        try:
            found[name] = parse_json(value, f"--pipeline-arg {name}")
        except ValueError as error:
            hint = "" if "damaged" not in str(error) else " (a text stands in quotes: NAME='\"text\"')"
            raise ValueError(f"expected --pipeline-arg NAME=JSON, got {short(text)}{hint}") from None
        checked(PLAIN, found[name], f"--pipeline-arg {name}")
        if strange := _marked(found[name]):
            raise ValueError(f"expected keys that do not begin with $ in --pipeline-arg {name}, got {short(strange)}")
    return found


def takes_image(name: str) -> bool:
    """Whether an argument of a pipeline's call is an image by its name, so that a text there is a file."""
    return ("image" in name and not name.endswith(("_embeds", "_latents"))) or name == "mask"


def as_files(name: str, value: Any) -> Any:
    """A text or a list of texts that was given from Python as an image, as ``pathlib.Path``; others as they are."""
    if not takes_image(name):
        return value
    if isinstance(value, str):
        return Path(value)
    several = isinstance(value, (list, tuple)) and value and all(isinstance(one, str) for one in value)
    return [Path(one) for one in value] if several else value


def _files(text: str) -> Path | list[Path] | None:
    """The files that a text names, by itself or in a JSON list or text; None where it is other JSON."""
    if is_file(text):
        return Path(text)
    try:
        given = parse_json(text, "an image")
    except ValueError:
        return Path(text) if "/" in text or "." in text else None
    if isinstance(given, str) and given:
        return Path(given)
    several = isinstance(given, list) and given and all(isinstance(one, str) and one for one in given)
    return [Path(one) for one in given] if several else None


def _marked(value: Any) -> str | None:
    """A key that begins with ``$``, which in records stands for what JSON has no value for."""
    if isinstance(value, dict):
        return next((key for key in value if key.startswith("$")), None) or _marked(list(value.values()))
    return next((key for one in value if (key := _marked(one))), None) if isinstance(value, list) else None


def read_target(given: Sequence[str]) -> float | dict[str, float] | None:
    """``SCORE`` or ``NAME=SCORE`` texts as :func:`noisewright.search` takes them."""
    named: dict[str, float] = {}
    for text in given:
        name, _, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"expected --target SCORE or NAME=SCORE, got {short(text)}") from None
        if not abs(number) < float("inf"):
            raise ValueError(f"expected a --target that a score can reach, got {short(text)}")
        if not name and len(given) == 1:
            return number
        if not name:
            raise ValueError(f"expected --target NAME=SCORE where there are several, got {short(text)}")
        named[name] = number
    return named or None
