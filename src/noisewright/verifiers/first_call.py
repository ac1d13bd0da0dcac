"""Which functions may be called once before a run, on grey images, and which of their errors say that they are wrong.

A call that is made for nothing must spoil nothing, cost nothing and take no time worth speaking of. That can be seen of
a plain function which leans on nothing but constants, libraries that compute, small networks, and functions of its own
module of which the same can be seen. Whoever does not want the call says ``function.first_call = False``.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Iterator
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor

from noisewright.verifiers.answers import Unreadable

SIDE = 64
"""Pixels of the grey images' sides."""

COMPUTING = frozenset({
    "PIL", "builtins", "collections", "colorsys", "cv2", "einops", "functools", "itertools", "kornia", "math", "numpy",
    "operator", "re", "scipy", "skimage", "statistics", "string", "torch", "torchvision", "typing",
})  # fmt: skip
"""Libraries that a call of a function may use."""

DOING = frozenset({
    "__import__", "bernoulli", "choice", "compile", "delattr", "download", "dump", "eval", "exec", "fromfile",
    "globals", "hub", "imsave", "imwrite", "input", "load", "loadtxt", "manual_seed", "multinomial", "normal_", "open",
    "print", "save", "savetxt", "savez", "seed", "setattr", "show", "shuffle", "tofile", "uniform_", "vars", "write",
})  # fmt: skip
"""Names by which a call may change something, read a file, or draw from random numbers that others draw from."""

CHANGING = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR"})
"""Instructions that leave something behind."""

PLAIN = (int, float, complex, str, bytes, bool, tuple, frozenset, range, type(None), Tensor, torch.dtype, torch.device)

MOST_PARAMETERS = 20_000_000
"""Of a network that a function uses: a call of it on two small images takes no time worth speaking of."""

CERTAIN = (NameError, ImportError, AttributeError, TypeError, SyntaxError, NotImplementedError)
"""Errors that mostly have nothing to do with what an image shows."""

HOW_NOT = "first_call = False on the function leaves it out"


def grey_images(count: int = 2) -> Tensor:
    """Images of the middle grey, (count, 3, SIDE, SIDE)."""
    return torch.full((count, 3, SIDE, SIDE), 0.5)


def may_be_tried(function: Any) -> bool:
    """Whether it can be seen of a function that a call spoils and costs nothing, and nobody said otherwise."""
    if getattr(function, "first_call", True) is False:
        return False
    return isinstance(function, FunctionType) and _is_pure(function, set())


def is_certain(error: Exception) -> bool:
    """Whether an error says that a function fails on any images, and not on grey ones only."""
    # A detector that finds nothing in a grey image often gives None, which is no number and has no attributes or items.
    if isinstance(error, Unreadable):
        return "[None" not in str(error)
    return isinstance(error, CERTAIN) and "NoneType" not in str(error)


def _is_pure(function: FunctionType, seen: set[int]) -> bool:
    """Whether a function, and what it calls of its own module, leans on nothing that a call may change."""
    if id(function) in seen:
        return True
    seen.add(id(function))
    if function.__closure__ or inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        return False
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    if not all(isinstance(one, PLAIN) for one in defaults):
        return False
    known = function.__globals__
    for code in _codes(function.__code__):
        names = set(code.co_names)
        if names & DOING or any("rand" in name for name in names):
            return False
        if not all(_leaves_nothing(one) for one in dis.get_instructions(code)):
            return False
        if not all(_is_steady(known[name], function, seen) for name in names if name in known):
            return False
    return True


def _leaves_nothing(one: dis.Instruction) -> bool:
    if one.opname == "IMPORT_NAME":
        return str(one.argval).split(".")[0] in COMPUTING
    return one.opname not in CHANGING


def _is_steady(one: Any, user: FunctionType, seen: set[int]) -> bool:
    """Whether a global of a function's module may be leaned on: nothing that remembers what it was asked."""
    if isinstance(one, ModuleType):
        return one.__name__.split(".")[0] in COMPUTING
    if isinstance(one, FunctionType) and one.__globals__ is user.__globals__:
        return _is_pure(one, seen)
    if isinstance(one, partial):
        given = (*one.args, *one.keywords.values())
        return all(isinstance(value, PLAIN) for value in given) and _is_steady(one.func, user, seen)
    if isinstance(one, torch.nn.Module):
        return not one.training and sum(part.numel() for part in one.parameters()) <= MOST_PARAMETERS
    if inspect.isclass(one) or inspect.isroutine(one):
        return str(one.__module__).split(".")[0] in COMPUTING
    return isinstance(one, PLAIN)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function and of the functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
