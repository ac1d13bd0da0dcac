"""The arguments of measuring, fitting and comparing schedules: a type each, checked before a model is loaded.

Every argument has a name in Python and another on the command line. A message is written once, with the names marked,
and whoever shows it spells them: see :class:`WrongArgument`.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from noisewright.outside import bounds
from noisewright.outside.messages import short
from noisewright.schemas.checked import Sayable, wrong
from noisewright.schemas.request import DeviceName, Dtype, FilePath, Flag, Name, Real, Whole

MARK = "\0"
"""Around the name of an argument in a message; no text that may be in one has it."""

Arguments = TypeVar("Arguments", bound=BaseModel)


def argument(name: str) -> str:
    """The name of an argument, marked, for the message of a :class:`WrongArgument`."""
    return f"{MARK}{name}{MARK}"


class WrongArgument(ValueError):
    """An argument that cannot be; its text has Python's names.

    Args:
        line: the message, with the names of arguments by :func:`argument`.
    """

    def __init__(self, line: str) -> None:
        self.line = line
        super().__init__(self.spelled(str))

    def spelled(self, spell: Callable[[str], str]) -> str:
        """The message with names as ``spell`` has them."""
        return re.sub(f"{MARK}(.*?){MARK}", lambda found: spell(found[1]), self.line)


def _texts(value: Any) -> Any:
    """One text, or several of any kind of sequence, as a list."""
    if value is None or isinstance(value, list):
        return value
    if isinstance(value, (str, numbers.Integral)):
        return [value]
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, Mapping) else value


def _condition(value: Any) -> Any:
    """Classes may be numbers."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return str(int(value)) if whole else value


def _no_longer(value: str) -> str:
    if len(value) > bounds.LONGEST_PROMPT:
        raise wrong(f"prompts of at most {bounds.LONGEST_PROMPT} characters")
    return value


def _is(said: str, default: Any = None, **limits: Any) -> Any:
    return Field(default, description=said, **limits)


def _whole(said: str, default: Any, least: int, most: int) -> Any:
    return Field(default, description=f"{said} of at least {least}", ge=least, le=most)


Condition = Annotated[Sayable, BeforeValidator(_condition), AfterValidator(_no_longer)]
Conditions = Annotated[list[Condition], BeforeValidator(_texts), Field(min_length=1, max_length=bounds.MOST_PROMPTS)]


CLOSED = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)


class PromptsArgument(BaseModel):
    """Prompts, or classes."""

    model_config = CLOSED

    prompts: Conditions | None = _is("prompts as text, or a list of texts (or classes)")


class Common(BaseModel):
    """What all three have, apart from the prompts, which may be a file."""

    model_config = CLOSED

    batch_size: Whole = _whole("a batch_size", 16, 1, bounds.MOST_IN_A_BATCH)
    seed: Whole = _is("a seed in [0, 2**63 - 2**32)", 0, ge=0, le=bounds.LARGEST_FIRST_SEED)
    keep: FilePath | None = _is("keep as a directory")
    device: DeviceName | None = _is("a device as its name")
    dtype: Dtype | None = _is("a dtype of float32, float16, bfloat16 or float64")
    progress: Callable[..., Any] | bool | None = _is("progress as True, False, or a function of the progress")


class MeasureArguments(Common):
    """Of :func:`noisewright.measure_schedule_errors`."""

    images: list[FilePath] | None = _is("images as a path, or a list of paths")
    recursive: Flag = _is("recursive as True or False", False)
    levels: Whole = _whole("levels", 50, 5, bounds.MOST_LEVELS)
    count: Whole = _is("a count of at least 2", 1000, ge=2)
    stride: Whole = _is("a stride of at least 1", 2, ge=1)
    guidance_scale: Real = _is("a finite number as guidance_scale", 1.0)
    out: FilePath | None = _is("out as a file")
    batch_size: Whole = _whole("a batch_size", 64, 1, bounds.MOST_IN_A_BATCH)


class FitArguments(Common):
    """Of :func:`noisewright.fit_schedule`, apart from what is a file, an object or a name that is looked up."""

    steps: Whole = _whole("steps", ..., 1, bounds.MOST_STEPS)
    method: Name = _is("a method as a name", ...)
    solver: Name = _is("a solver as a name", "ddim")
    gamma: Real | None = _is("gamma in (0, 1)", gt=0, lt=1)
    penalty: Real | None = _is("a finite penalty of at least 0", ge=0)
    target: Real | None = _is("a target abar in (0, 1)", gt=0, lt=1)
    fixed_start: Flag | None = _is("fixed_start as True or False")
    cost: Name | None = _is("a cost as a name")
    factor: Real | None = _is("a finite factor of later steps above 0", gt=0)
    nodes: Whole | None = _whole("nodes", None, 4, bounds.MOST_LEVELS + 1)
    samples: Whole | None = _whole("samples", None, 1, bounds.MOST_SAMPLES)
    evaluations: Whole | None = _whole("evaluations", None, 2, bounds.MOST_EVALUATIONS)
    teacher_steps: Whole | None = _whole("teacher_steps", None, 2, bounds.MOST_STEPS)
    guidance_scale: Real | None = _is("a finite number as guidance_scale")
    features: Name | None = _is("features as the name of a model")
    reference: FilePath | None = _is("a reference as a file")
    force: Flag = _is("force as True or False", False)


class CompareArguments(Common):
    """Of :func:`noisewright.compare_schedules`, likewise."""

    samples: Whole = _whole("samples", 64, 2, bounds.MOST_SAMPLES)
    steps: Whole | None = _whole("steps", None, 1, bounds.MOST_STEPS)
    solver: Name | None = _is("a solver as a name")
    teacher_steps: Whole = _whole("teacher_steps", 200, 2, bounds.MOST_STEPS)
    guidance_scale: Real | None = _is("a finite number as guidance_scale")
    features: Name | None = _is("features as the name of a model")
    reference: FilePath | None = _is("a reference as a file")
    keep_ends: Flag = _is("keep_ends as True or False", False)
    force: Flag = _is("force as True or False", False)


WRONG_KIND = {"string_type", "callable_type", "bool_type", "list_type"}
"""Pydantic's names of errors that are a TypeError; a number of another kind than was expected is a ValueError."""


def check_arguments(model: type[Arguments], **given: Any) -> Arguments:
    """Arguments as plain Python values, as :func:`noisewright.schemas.request.check_arguments` has those of a search.

    Raises:
        WrongArgument, TypeError: in one line, on the first that is wrong.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    value, kind = given.get(name), first["type"]
    if kind == "missing":
        raise TypeError(f"expected {name}, got none")
    if kind == "expected":
        expected = str(first["ctx"]["expected"]).replace(name, argument(name), 1)
        as_name = "" if argument(name) in expected else f" as {argument(name)}"
        raise WrongArgument(f"expected {expected}{as_name}, got {short(first['input'])}")
    if kind == "less_than_equal" and name != "seed":
        raise WrongArgument(f"expected {argument(name)} of at most {first['ctx']['le']}, got {short(value)}")
    if kind == "too_long":
        lengths = first["ctx"]
        raise WrongArgument(
            f"expected at most {lengths['max_length']} {argument(name)}, got {lengths['actual_length']}"
        )
    if isinstance(value, float) and kind == "finite_number":
        value = float(value)
    said = str(model.model_fields[name].description).replace(name, argument(name), 1)
    line = f"expected {said}, got {short(value)}"
    if kind in WRONG_KIND or (kind in ("int_type", "float_type") and not isinstance(value, numbers.Number)):
        raise TypeError(WrongArgument(line).spelled(str))
    raise WrongArgument(line)
