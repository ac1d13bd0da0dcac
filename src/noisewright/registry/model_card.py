"""The card beside a model, ``noisewright.json``: data of whoever made the model, read through one schema."""

from __future__ import annotations

import logging
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from noisewright.samplers.model_files import read_json

log = logging.getLogger("noisewright")

FILE = "noisewright.json"
LARGEST = 2**21
"""Bytes: the names of 20,000 classes fit."""


def _plain(text: str) -> str:
    if not text.isprintable():
        raise ValueError("text without control characters was expected")
    return text


Text = Annotated[str, StringConstraints(max_length=500), AfterValidator(_plain)]


class Default(BaseModel):
    """What the model is best asked for."""

    model_config = ConfigDict(strict=True)

    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] = 25
    guidance_scale: Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)] | None = None


class Card(BaseModel):
    """A model's card; every field may be absent.

    Attributes:
        name, version, licence: for people.
        default: steps and guidance.
        words: all that the model was trained on; a prompt with others is warned of.
        labels: the names of classes, in order or with their numbers.
        verifier, judge: used where none is typed; names that :mod:`noisewright.registry.trust` allows.
    """

    model_config = ConfigDict(strict=True)

    name: Text = ""
    version: int | Text = 1
    licence: Text = ""
    default: Default = Default()
    words: list[Text] = []
    labels: list[Text] | dict[Text, int] = []
    verifier: Text | list[Text] = []
    judge: Text | list[Text] = []


def read_card(directory: str | Path | None) -> dict[str, Any]:
    """What the card in a model's directory says, or {} where there is none; unknown keys are left out, with a warning.

    Raises:
        ValueError: in one line, on a file that is damaged, too large, or has something else under one of the keys.
    """
    path = Path(directory or "") / FILE
    if not directory or not path.is_file():
        return {}
    held = read_json(path, LARGEST)
    if not isinstance(held, dict):
        raise ValueError(f"expected a JSON object in {path}, got {type(held).__name__}")
    strange = tuple(sorted(set(held) - set(Card.model_fields)))
    if strange:
        _note(str(path), strange)
    try:
        card = Card.model_validate({key: one for key, one in held.items() if one is not None})
    except ValidationError as error:
        raise ValueError(f"expected a card of a model in {path}, got {_first(error)}") from None
    return card.model_dump(exclude_unset=True, exclude_none=True)


def _first(error: ValidationError) -> str:
    """The first thing that is wrong: where, what, and what was expected."""
    first = error.errors()[0]
    keys = [one for one in first["loc"] if isinstance(one, int) or re.fullmatch("(?!int$)[a-z_]+", one)]
    held = first["input"]
    got = type(held).__name__ if isinstance(held, (list, dict)) else ascii(held)
    return f"{'.'.join(map(str, keys))} = {got if len(got) <= 60 else got[:57] + '...'}: {first['msg']}"


@cache
def _note(path: str, strange: tuple[str, ...]) -> None:
    """Say once what of a card is not understood."""
    shown = ", ".join(ascii(one)[1:-1][:40] for one in strange[:5])
    log.warning("%s: not understood and left out: %s%s", path, shown, ", ..." if len(strange) > 5 else "")
