"""The arguments of the Python interface: a type each, checked before anything is loaded or spent."""

from __future__ import annotations

import numbers
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from noisewright.schemas.checked import (
    LARGEST_SEED,
    MOST_BATCH,
    MOST_SIDE,
    MOST_STEPS,
    Sayable,
    explained,
    sayable,
    wrong,
)
from noisewright.schemas.reading import short

MOST_PIXELS = 2**26
LONGEST_NAME = 4096
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
LONGEST_NEGATIVE = 5000

WRONG_KIND = {"string_type", "callable_type", "dict_type", "bool_type", "list_type"}
"""Pydantic's names of errors that are a TypeError; a number of another kind than was expected is a ValueError."""


def _number(value: Any) -> Any:
    """Numbers of numpy and others as Python's own; booleans stay what they are, and are refused."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            return float(value)
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


def _mapping(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _is(said: str, default: Any = None, **bounds: Any) -> Any:
    return Field(default, description=said, **bounds)


Whole = Annotated[int, Field(strict=True), BeforeValidator(_number)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False), BeforeValidator(_number)]
Flag = Annotated[bool, Field(strict=True), BeforeValidator(_flag)]
FilePath = Annotated[str, Field(strict=True), BeforeValidator(_path), AfterValidator(_checked_path)]
Name = Annotated[Sayable, Field(max_length=LONGEST_NAME)]
Negative = Annotated[Sayable, Field(max_length=LONGEST_NEGATIVE)]
Dtype = Annotated[Literal["float32", "float16", "bfloat16", "float64"], BeforeValidator(_torch_name)]
DeviceName = Annotated[Sayable, Field(min_length=1, max_length=100), BeforeValidator(_torch_name)]
Weights = Annotated[dict[Name, Any], BeforeValidator(_mapping)]
"""Numbers by name, which are looked at where the names are known."""


class Request(BaseModel):
    """What a search is asked for, apart from the pipeline and the verifiers: frozen and JSON-ready.

    The names are those of :func:`noisewright.search`'s arguments, which says what they mean.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    class_label: Whole | Name | None = _is("a class_label as a name or a number")
    search: Name = _is("a search as a name", "random")
    search_args: Annotated[dict[Name, Any], BeforeValidator(_mapping)] | None = _is(
        "search_args as a mapping from names to values"
    )
    target: Real | Weights | None = _is("a target as a finite number, or one for each verifier by name")
    num_inference_steps: Whole | None = _is("num_inference_steps of at least 1", ge=1, le=MOST_STEPS)
    search_steps: Whole | None = _is("search_steps of at least 1", ge=1, le=MOST_STEPS)
    guidance_scale: Real | None = _is("a finite number as guidance_scale")
    negative_prompt: Negative | None = _is("a negative_prompt as text")
    height: Whole | None = _is("a height above 0", ge=1, le=MOST_SIDE)
    width: Whole | None = _is("a width above 0", ge=1, le=MOST_SIDE)
    solver: Name | None = _is("a solver as a name")
    eta: Real | None = _is("a finite number as eta")
    schedule: FilePath | None = _is("a schedule as a name or a file")
    force: Flag = _is("force as True or False", False)
    seed: Whole = _is("a seed in [0, 2**63 - 2**32)", 0, ge=0, le=LARGEST_SEED - 2**32)
    ensemble: Name | Weights = _is(
        "an ensemble as a name, or a weight for each verifier by name", "rank"
    )
    score_cache: FilePath | None = _is("a score_cache as a directory")
    batch_size: Whole | None = _is("batch_size of at least 1", ge=1, le=MOST_BATCH)
    device: DeviceName | None = _is("a device as its name")
    dtype: Dtype | None = _is("a dtype of float32, float16, bfloat16 or float64")
    out: FilePath | None = _is("out as a directory")
    pictures: Flag = _is("pictures as True or False", True)
    progress: Callable[..., Any] | bool | None = _is("progress as True, False, or a function of the run")


def check_arguments(**given: Any) -> Request:
    """Arguments as plain Python values: numpy's numbers as Python's, paths as text, torch's dtypes as their names.

    Raises:
        ValueError, TypeError: in one line, on the first that is wrong.
    """
    try:
        found = Request.model_validate(given)
    except ValidationError as error:
        raise _refusal(error, given) from None
    if found.height and found.width and found.height * found.width > MOST_PIXELS:
        raise ValueError(
            f"expected height x width of at most {MOST_PIXELS} pixels, got {found.height} x {found.width}"
        )
    return found


def _refusal(error: ValidationError, given: Mapping[str, Any]) -> ValueError | TypeError:
    """The line on pydantic's first error, as Python's exception for it."""
    first = error.errors(include_url=False)[0]
    name, value = str(first["loc"][0]), given[str(first["loc"][0])]
    said, kind = Request.model_fields[name].description, first["type"]
    if kind == "less_than_equal" and name != "seed":
        said = f"{name} of at most {first['ctx']['le']}"
    elif kind in ("expected", "string_too_long"):
        said = f"{explained(error, given)[0]} as {name}"
    elif isinstance(value, Mapping) and isinstance(first["input"], (str, int, float)) and len(first["loc"]) > 1:
        value = first["input"]
    number = isinstance(value, numbers.Number)
    is_type = kind in WRONG_KIND or (kind in ("int_type", "float_type") and not number)
    return (TypeError if is_type else ValueError)(f"expected {said}, got {short(value)}")


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
