"""The kinds of arguments of the Python interface, and the line that is said where one is wrong."""

from __future__ import annotations

import numbers
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from noisewright.outside.bounds import no_longer
from noisewright.outside.messages import short
from noisewright.schemas.checked import (
    Sayable,
    explained,
    sayable,
    wrong,
)

LONGEST_NAME = 4096
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
LONGEST_NEGATIVE = 5000

CALLBACKS = ("callback_on_step_end", "callback")
"""Arguments of a pipeline's call that are functions of the person's, called after each step."""

WRONG_KIND = {"string_type", "callable_type", "dict_type", "bool_type", "list_type"}
"""Pydantic's names of errors that are a TypeError; a number of another kind than was expected is a ValueError."""


def _number(value: Any) -> Any:
    """Numbers of numpy and others as Python's own; booleans stay what they are, and are refused."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            return float(value) + 0.0  # which makes one 0 of two
        except OverflowError:
            return value
    return _flag(value)


def _flag(value: Any) -> Any:
    return bool(value) if type(value).__module__ == "numpy" and type(value).__name__.startswith("bool") else value


def _path(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _can_be_path(text: str) -> bool:
    """Whether a file system may have it, and a line of text can name it."""
    if not text or not sayable(text) or CONTROL.search(text):
        return False
    return all(len(os.fsencode(part)) < 256 for part in text.split(os.sep))


def _checked_path(text: str) -> str:
    if not _can_be_path(text):
        raise wrong("a path")
    return text


def _torch_name(value: Any) -> Any:
    """``torch.float16`` and ``torch.device("cpu")`` by the names that are recorded."""
    if type(value).__module__ == "torch" and type(value).__name__ in ("dtype", "device"):
        return str(value).removeprefix("torch.")
    return value


def _numbers(value: Any) -> Any:
    return {key: _number(one) for key, one in value.items()} if isinstance(value, Mapping) else value


def is_(said: str, default: Any = None, **bounds: Any) -> Any:
    """A field, and in its description what is expected of it."""
    if "default_factory" not in bounds:
        bounds["default"] = default
    return Field(description=said, **bounds)


Whole = Annotated[int, Field(strict=True), BeforeValidator(_number)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False), BeforeValidator(_number)]
Flag = Annotated[bool, Field(strict=True), BeforeValidator(_flag)]
FilePath = Annotated[str, Field(strict=True), BeforeValidator(_path), AfterValidator(_checked_path)]
Name = Annotated[Sayable, Field(max_length=LONGEST_NAME)]
Negative = Annotated[Sayable, Field(max_length=LONGEST_NEGATIVE)]
States = Literal["model", "float32"]
Dtype = Annotated[Literal["float32", "float16", "bfloat16", "float64"], BeforeValidator(_torch_name)]
AUTO = "auto"
"""A type of numbers that is left open: whichever is fastest where the model is loaded."""

AskedDtype = Annotated[
    Literal["float32", "float16", "bfloat16", "float64", "auto"], BeforeValidator(_torch_name)
]
DeviceName = Annotated[Sayable, Field(min_length=1, max_length=100), BeforeValidator(_torch_name)]
Weights = Annotated[dict[Name, Any], BeforeValidator(_numbers)]
"""Numbers by name, which are looked at where the names are known."""


class Arguments(BaseModel):
    """What calls of the Python interface take besides a request: how to load, where to write, what to tell."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    device: DeviceName | None = is_("a device as its name")
    dtype: Dtype | None = is_("a dtype of float32, float16, bfloat16 or float64")
    out: FilePath | None = is_("out as a directory")
    pictures: Flag = is_("pictures as True or False", True)
    progress: Callable[..., Any] | bool | None = is_("progress as True, False, or a function of the run")


def check_arguments(**given: Any) -> Arguments:
    """Arguments as plain Python values: numpy's numbers as Python's, paths as text, torch's dtypes as their names.

    Raises:
        ValueError, TypeError: in one line, on the first that is wrong.
    """
    try:
        return Arguments.model_validate(given)
    except ValidationError as error:
        raise refusal(Arguments, error, given) from None


def refusal(kind: type[BaseModel], error: ValidationError, given: Mapping[str, Any]) -> ValueError | TypeError:
    """The line on pydantic's first error, as Python's exception for it.

    Args:
        kind: whose fields' descriptions say what was expected.
        error: what pydantic says of them.
        given: the values by name.
    """
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    value, said, what = given[name], kind.model_fields[name].description, first["type"]
    if what == "less_than_equal" and name != "seed":
        said = f"{name} of at most {first['ctx']['le']}"
    elif what in ("expected", "string_too_long", "too_long"):
        said = f"{explained(error, given)[0]} as {name}"
    elif isinstance(value, Mapping) and isinstance(first["input"], (str, int, float)) and len(first["loc"]) > 1:
        value = first["input"]
    number = isinstance(value, numbers.Number)
    is_type = what in WRONG_KIND or (what in ("int_type", "float_type") and not number)
    return (TypeError if is_type else ValueError)(f"expected {said}, got {short(value)}")


def check_prompt(prompt: Any) -> None:
    """Raise a ValueError or a TypeError for a prompt that is empty or no prompt at all."""
    if prompt is None:
        raise ValueError("expected a prompt (or a class label, for a class-conditional model), got none")
    if not isinstance(prompt, str):
        raise TypeError(f"expected a prompt as text, got {type(prompt).__name__}")
    if not sayable(prompt):
        raise ValueError(f"expected a prompt without NUL and half surrogate pairs, got {short(prompt)}")
    if not prompt.strip():
        raise ValueError("expected a prompt, got an empty one")
    no_longer(prompt=prompt)


def as_path(name: str, value: Any) -> Path:
    """An argument that names a file or a directory.

    Raises:
        ValueError, TypeError: in one line, on what is no path.
    """
    found = _path(value)
    if not isinstance(found, str):
        raise TypeError(f"expected {name} as a path, got {short(value)}")
    if not _can_be_path(found):
        raise ValueError(f"expected {name} as a path, got {short(found)}")
    return Path(found)
