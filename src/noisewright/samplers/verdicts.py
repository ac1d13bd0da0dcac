"""Verdicts that are kept from run to run, so that a pipeline is proved once.

A verdict is a file of its own in the user's cache directory, named by what it depends on: the classes and
configurations of the pipeline, of its components and its scheduler, what is switched on in its networks, precision and
device, the kind of call, and the versions of everything, the source of these files and of classes of the person's own
included. Weights, texts, seeds and the contents of images are not among it.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from types import CodeType
from typing import Any

import torch

from noisewright.samplers import json_cache
from noisewright.samplers.fingerprint import config_of, switches_of
from noisewright.samplers.identity import digest_of
from noisewright.samplers.json_cache import JsonCache
from noisewright.samplers.parity import STEPS, prove
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.settings import TEXT
from noisewright.samplers.verdict import Verdict
from noisewright.schemas.verdicts import check_kept_verdict

LIBRARIES = ("noisewright", "torch", "diffusers", "transformers", "accelerate", "peft", "numpy")

KNOWN_PACKAGES = ("diffusers", "transformers", "torch", "huggingface_hub", "builtins", "abc", "typing", "collections")
"""Whose classes are told by their version."""

CACHE = JsonCache("verdict", check_kept_verdict, Verdict.from_json, Verdict.to_json)
"""By :func:`key_of`."""


def known_verdict(sampler: PipelineSampler, key: str | None = None) -> Verdict | None:
    """What was proved of a sampler's pipeline and kind of call before; None where nothing was.

    Args:
        sampler: which is not run.
        key: its :func:`key_of`, where it is known.
    """
    return CACHE.get(key_of(sampler) if key is None else key)


def verdict_of(sampler: PipelineSampler) -> Verdict:
    """What holds of a sampler's pipeline and kind of call: what is kept, or proved now.

    Raises:
        ValueError: in one line, where the pipeline's plain call fails.
    """
    key = key_of(sampler)
    found = known_verdict(sampler, key)
    return found if found is not None else proved_now(sampler, key)


def proved_now(sampler: PipelineSampler, key: str | None = None) -> Verdict:
    """A proof, whatever is kept; it is kept in its place.

    Raises:
        ValueError: as :func:`verdict_of`.
    """
    found = replace(prove(sampler), versions=versions_of_libraries())
    keep(sampler, found, key)
    return found


def keep(sampler: PipelineSampler, verdict: Verdict, key: str | None = None) -> None:
    """Keep a verdict; where no file can be written, for as long as this process lives."""
    CACHE.keep(key_of(sampler) if key is None else key, verdict)


# What a verdict depends on


def key_of(sampler: PipelineSampler) -> str:
    """32 hex digits of everything that a verdict depends on."""
    return json_cache.key_of(depends_on(sampler))


def depends_on(sampler: PipelineSampler) -> dict[str, Any]:
    """What the key of a sampler's verdict is made of, as JSON."""
    return {**about_pipeline(sampler), "versions": versions_of_libraries(), "source": _own_source()}


def about_pipeline(sampler: PipelineSampler) -> dict[str, Any]:
    """What tells a pipeline and a kind of call from others, but for weights and texts, as JSON."""
    pipe, entered = sampler._found, sampler.pipe
    components = getattr(pipe, "components", None)
    held = dict(components) if isinstance(components, Mapping) else {}
    held.setdefault("scheduler", pipe.scheduler)
    return {
        "pipeline": _class(type(pipe)),
        "entered": _class(type(entered)),
        "components": {name: _component(one) for name, one in sorted(held.items())},
        "config": {key: one for key, one in config_of(pipe).items() if key not in held},
        "replaced": _replaced(pipe),
        "call": call_of(sampler),
        "steps": min(STEPS, sampler._prepared.steps),
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "device": sampler.device.type,
    }


def call_of(sampler: PipelineSampler) -> dict[str, Any]:
    """The arguments of a sampler's call by name: numbers as they are, hashes of images, only the shapes of texts."""
    settings = sampler._recorded
    found = {key: value for key, value in settings.items() if value is not None or key in sampler._caller.explicit}
    kinds = {key: _kind_of_text(value) if TEXT.match(key) else value for key, value in found.items()}
    return {**kinds, "class": sampler.class_label is not None}


def _kind_of_text(value: Any) -> Any:
    """That there is one; of embeddings, (batch, tokens, width)."""
    if isinstance(value, Mapping) and "$tensor" in value:
        return list(value["$tensor"][1:])
    return "" if isinstance(value, str) else type(value).__name__


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _component(one: Any) -> Any:
    if one is None or _plain(one):
        return one
    if isinstance(one, (list, tuple)):
        return [_component(each) for each in one]
    inner = getattr(one, "_orig_mod", one)
    about: dict[str, Any] = {
        "class": _class(type(inner)), "config": config_of(one),
        "compiled": inner is not one or getattr(one, "_compiled_call_impl", None) is not None,
        "replaced": _replaced(inner),
    }  # fmt: skip
    if isinstance(one, torch.nn.Module):
        parts = {key: {**_replaced(part), **_hooked(part)} for key, part in inner.named_modules()}
        about["replaced"] = {key: found for key, found in parts.items() if found}
        about |= {"state": switches_of(one), "training": one.training, "dtypes": _dtypes(one)}
        about["processors"] = sorted({type(part.processor).__qualname__ for part in one.modules()
                                      if getattr(part, "processor", None) is not None})  # fmt: skip
    return about


def _replaced(one: Any) -> dict[str, Any]:
    """Methods of an object, and of it alone, in whose place a person put a function (a cache's), by their code."""
    held = getattr(one, "__dict__", {})
    return {name: _function(own) for name, own in held.items() if callable(getattr(type(one), name, None))}


def _hooked(part: torch.nn.Module) -> dict[str, Any]:
    """What is called before and after a part of a network."""
    hooks = [*vars(part).get("_forward_pre_hooks", {}).values(), *vars(part).get("_forward_hooks", {}).values()]
    return {"hooks": [_function(one) for one in hooks]} if hooks else {}


def _function(one: Any) -> list[Any]:
    """What tells a function from others: its name, its code, and the plain values that it was made with."""
    while not hasattr(one, "__code__") and hasattr(one, "func" if isinstance(one, partial) else "__func__"):
        one = one.func if isinstance(one, partial) else one.__func__
    cells = [cell.cell_contents for cell in getattr(one, "__closure__", None) or () if not _empty(cell)]
    held = [value for value in (*cells, *(getattr(one, "__defaults__", None) or ())) if _plain(value)]
    code = digest_of(list(_codes(getattr(one, "__code__", None))))
    return [getattr(one, "__qualname__", type(one).__qualname__), code, held]


def _empty(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return True
    return False


def _dtypes(module: torch.nn.Module) -> list[str]:
    return sorted({str(one.dtype) for one in module.parameters()})


def _class(kind: type) -> dict[str, Any]:
    """What tells a class: its name, and its code where no library's version tells it."""
    known = (*KNOWN_PACKAGES, "noisewright")
    own = [one for one in kind.__mro__ if one.__module__.partition(".")[0] not in known]
    named = {"name": kind.__qualname__, "module": kind.__module__}
    return {**named, "source": [_source_of(one) for one in own]} if own else named


def _source_of(kind: type) -> str:
    """A digest of the file that a class is of, or of its code where it has none (a notebook's)."""
    try:
        file = inspect.getsourcefile(kind)
        if file is not None and os.path.isfile(file):
            return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except (OSError, TypeError):
        pass
    return digest_of([code for one in vars(kind).values() for code in _codes(getattr(one, "__code__", None))])


def _codes(code: Any) -> Iterator[list[str]]:
    """The instructions of a function, of those within it too."""
    if isinstance(code, CodeType):
        held = [str(one) for one in code.co_consts if not isinstance(one, CodeType)]
        yield [code.co_code.hex(), *held, *code.co_names]
        for inner in code.co_consts:
            yield from _codes(inner)


@lru_cache(maxsize=1)
def _own_source() -> str:
    """A digest of how pipelines are entered: a verdict of other code says nothing."""
    found = hashlib.sha256()
    for folder in ("samplers", "diffusion"):
        for path in sorted((Path(__file__).parents[1] / folder).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()


@lru_cache(maxsize=1)
def _versions() -> tuple[tuple[str, str], ...]:
    from importlib.metadata import PackageNotFoundError, version

    from noisewright import __version__

    found = {"noisewright": __version__, "python": platform.python_version(), "torch": torch.__version__}
    for name in LIBRARIES:
        if name not in found:
            with contextlib.suppress(PackageNotFoundError):
                found[name] = version(name)
    return tuple(found.items())


def versions_of_libraries() -> dict[str, str]:
    """The versions of everything that makes an image."""
    return dict(_versions())
