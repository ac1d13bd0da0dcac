"""A request as the command that asks for the same."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from noisewright.request import Request
from noisewright.web.form import option_of

LEFT_OUT = ("prompt", "given_pipeline")


def command_of(request: Request) -> str:
    """``noisewright generate "..." --search ...``, with every option that is not as it is by default."""
    plain = Request().to_json()
    words = ["noisewright", "generate"]
    begins_as_option = request.prompt is not None and request.prompt.startswith("-")
    if request.prompt is not None and not begins_as_option:
        words.append(request.prompt)
    for name, value in request.to_json().items():
        if name in LEFT_OUT or value == plain[name] or (name == "model" and value == "noisewright/shapes"):
            continue
        for text in _texts(name, value):
            words += [option_of(name)] if text is None else [option_of(name), text]
    return shlex.join([*words, "--", str(request.prompt)] if begins_as_option else words)


def _texts(name: str, value: Any) -> list[str | None]:
    """What stands after each of a field's options; None after a flag."""
    if value is True:
        return [None]
    if name == "loras":
        return [f"{one['file']}:{one.get('weight', 1):g}" for one in value]
    if isinstance(value, Mapping):
        pairs = [f"{key}={_plain(one)}" for key, one in value.items() if one is not None]
        return [",".join(pairs)] if name == "ensemble" else list(pairs)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return [_plain(value)]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):  # of a verifier that was given from Python
        return str(value.get("name", "..."))
    if isinstance(value, list):
        return ",".join(map(_plain, value)) if all(isinstance(one, (int, float, str)) for one in value) else "IMAGE.png"
    return repr(value) if isinstance(value, float) else str(value)
