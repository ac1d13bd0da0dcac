"""Further arguments of a pipeline's call: whether it takes them, and what it takes from JSON for them.

What a call is annotated with decides: a list becomes the tuple that a pipeline adds to another, a text is no number,
and images, tensors, generators and functions are not to be had from a command line.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, Protocol, runtime_checkable

from noisewright.outside.messages import cut, did_you_mean, short

PLAIN: dict[str, tuple[type, ...]] = {
    "bool": (bool,), "int": (int,), "float": (int, float), "str": (str,), "Literal": (str, int), "dict": (dict,),
    "Mapping": (dict,), "list": (list,), "tuple": (list,), "Sequence": (list,),
}  # fmt: skip
"""What of JSON stands for which type."""

MEANT = {
    "guidance_scale": ("true_cfg_scale",), "true_cfg_scale": ("guidance_scale",), "image": ("control_image",),
    "control_image": ("image",), "mask": ("mask_image",),
}  # fmt: skip
"""Arguments that other families have under other names."""

MADE_FOR = {
    "image": "AutoPipelineForImage2Image", "strength": "AutoPipelineForImage2Image",
    "mask_image": "AutoPipelineForInpainting",
}  # fmt: skip
"""What makes a pipeline that takes an argument of one that does not."""

ONLY_IN_PYTHON = "which is no number, text or list: nw.search({}=...) in Python takes it"


def check_call_arguments(
    pipe: Any, names: Iterable[str], others: Iterable[str] = (), kind: str | None = None
) -> None:
    """Refuse arguments that a pipeline's call does not take.

    Args:
        pipe: the pipeline.
        names: what was given.
        others: further names that may have been meant.
        kind: what to call the pipeline, by default its class.

    Raises:
        ValueError: in one line, with the nearest name.
    """
    parameters = call_parameters(pipe)
    accepted = [one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    for name in names:
        if name not in accepted:
            refuse_argument(kind or type(pipe).__name__, name, others, accepted)


@runtime_checkable
class HasBlocks(Protocol):
    """A modular pipeline, whose blocks say what its call takes."""

    @property
    def blocks(self) -> Any: ...

    @property
    def default_call_parameters(self) -> dict[str, Any]: ...


def call_parameters(pipe: Any) -> list[inspect.Parameter]:
    """What a pipeline's call takes, but for the pipeline itself."""
    if isinstance(pipe, HasBlocks):
        return blocks_parameters(pipe)
    return list(inspect.signature(type(pipe).__call__).parameters.values())[1:]


def blocks_parameters(pipe: Any) -> list[inspect.Parameter]:
    """What the blocks of a modular pipeline take, each by its name alone."""
    return [
        inspect.Parameter(
            one.name, inspect.Parameter.KEYWORD_ONLY, default=None if one.required else one.default,
            annotation=Any if one.type_hint is None else one.type_hint,
        )
        for one in pipe.blocks.inputs if isinstance(one.name, str) and one.name.isidentifier()
    ]  # fmt: skip


def refuse_argument(kind: str, name: str, others: Iterable[str], accepted: Iterable[str]) -> NoReturn:
    """Raise the ValueError for an argument that a ``kind`` of pipeline does not take, with the nearest that it does."""
    accepted = list(accepted)
    for meant in (one for one in MEANT.get(name, ()) if one in accepted):
        raise ValueError(f"{kind} takes no {name}; did you mean {meant}?")
    if name in (others := list(others)):
        raise ValueError(f"{kind} takes no {cut(name)}, which is an argument of the search")
    if name in MADE_FOR and "prompt" in accepted:
        raise ValueError(
            f"{kind} takes no {name}: diffusers.{MADE_FOR[name]}.from_pipe(pipe) makes a pipeline of it that does"
        )
    raise ValueError(f"{kind} takes no {cut(name)}{did_you_mean(name, [*others, *accepted], cutoff=0.6)}")


def arguments_from_json(pipe: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of JSON as a pipeline's call takes them.

    Args:
        pipe: the pipeline, whose call has the names: see :func:`check_call_arguments`.
        given: values by name.

    Raises:
        ValueError: in one line, on a value of another kind than the call is annotated with, and on an argument that
            JSON has no value for.
    """
    if not given:  # a sampler in a pipeline's place has no call
        return {}
    parameters, hints = {one.name: one for one in call_parameters(pipe)}, _hints(pipe)
    found = {}
    for name, value in given.items():
        hint = hints.get(name, Any)
        default = parameters[name].default if name in parameters else None
        found[name] = value if value is None and default is None else _read(name, value, hint)
    return found


def check_takes_image(pipe: Any, name: str, record: Any) -> None:
    """Refuse an image file for an argument that a call annotates with something else.

    Args:
        pipe: the pipeline.
        name: of the argument.
        record: what was given, for the message.

    Raises:
        ValueError: in one line.
    """
    hint = _hints(pipe).get(name, Any)
    if not {_name(one) for one in _flat(hint)} & {"Image", "Any", "object", "Tensor"}:
        raise ValueError(f"expected {name} as {_said(_kinds(hint))}, got {short(record)}")


def _flat(hint: Any) -> list[Any]:
    """The alternatives of an annotation, at every depth."""
    return [one for kind in _kinds(hint) for one in (kind, *(x for arg in typing.get_args(kind) for x in _flat(arg)))]


def _hints(pipe: Any) -> dict[str, Any]:
    """What a pipeline's call is annotated with, by the names of its arguments."""
    if isinstance(pipe, HasBlocks):
        return {one.name: one.annotation for one in blocks_parameters(pipe)}
    call = type(pipe).__call__
    call = getattr(call, "__wrapped__", call)
    try:
        return typing.get_type_hints(call)
    except (NameError, TypeError, AttributeError, SyntaxError):  # annotated with what is imported for checks alone
        return {}


def _read(name: str, value: Any, hint: Any) -> Any:
    """One value as its annotation has it."""
    kinds = _kinds(hint)
    if Any in kinds or object in kinds:
        return value
    plain = [one for one in kinds if _is_plain(one)]
    if not [one for one in plain if one is not type(None)]:
        raise ValueError(f"expected no {name} as JSON, got {short(value)}: it takes a {_said(kinds)}, " + (
            ONLY_IN_PYTHON.format(name)
        ))  # fmt: skip
    for kind in plain:
        if _fits(value, kind):
            inner = typing.get_args(kind)
            if _name(kind) == "tuple":
                return tuple(_read(name, one, _of_place(inner, place)) for place, one in enumerate(value))
            if _name(kind) in ("list", "Sequence") and inner:
                return [_read(name, one, inner[0]) for one in value]
            return float(value) if kind is float else value
    raise ValueError(f"expected {name} as {_said(plain)}, got {short(value)}")


def _is_plain(kind: Any) -> bool:
    """Whether JSON has values of a type."""
    if kind is type(None) or kind is Any or kind is Ellipsis:
        return True
    if _name(kind) not in PLAIN:
        return False
    inner = () if _name(kind) in ("Literal", "dict", "Mapping") else typing.get_args(kind)
    return all(any(map(_is_plain, _kinds(one))) for one in inner)


def _kinds(hint: Any) -> list[Any]:
    """The alternatives of an annotation."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return [kind for one in typing.get_args(hint) for kind in _kinds(one)]
    return [hint]


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value of JSON can be what an annotation says, but for what it holds."""
    if kind is type(None) or value is None:
        return kind is type(None) and value is None
    inner = typing.get_args(kind)
    if _name(kind) == "Literal":
        return value in inner
    if isinstance(value, bool) or _name(kind) == "bool":
        return isinstance(value, bool) and _name(kind) == "bool"
    if not isinstance(value, PLAIN[_name(kind)]):
        return False
    if not isinstance(value, list) or not inner:
        return True
    if _name(kind) == "tuple" and inner[-1] is not Ellipsis and len(inner) != len(value):
        return False
    return all(
        any((_name(one) in PLAIN and _fits(each, one)) or one is Any for one in _kinds(_of_place(inner, place)))
        for place, each in enumerate(value)
    )


def _of_place(inner: tuple[Any, ...], place: int) -> Any:
    """The annotation of one member of a list or tuple."""
    if not inner:
        return Any
    return inner[place] if len(inner) > place and inner[-1] is not Ellipsis else inner[0]


def _name(kind: Any) -> str:
    origin = typing.get_origin(kind) or kind
    return str(getattr(origin, "__name__", getattr(origin, "_name", origin))).rpartition(".")[2]


def _said(kinds: Iterable[Any]) -> str:
    """Types as a message has them."""
    named = ["None" if one is type(None) else inspect.formatannotation(one) for one in kinds]
    return cut(" or ".join(dict.fromkeys(named)), 100)
