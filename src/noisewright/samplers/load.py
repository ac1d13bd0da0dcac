"""A diffusers pipeline from a directory or a hub id, looked at before it is loaded: a model is data, not code."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from noisewright.samplers.contents import loaded_from
from noisewright.samplers.model_files import BRINGS_CODE, check_folder, check_weights, read_json

OWN_PIPELINES = {"ClassConditionalFlowPipeline": "noisewright.pipelines.class_flow"}
"""Classes that a ``model_index.json`` may name and that diffusers does not have, with their modules."""

INDEX = "model_index.json"


def load_pipeline(directory_or_id: str | Path, *, device: str | None = None, dtype: str | None = None) -> Any:
    """Load a diffusers pipeline from a directory or a hub id, safetensors only, and none of its own code.

    Args:
        directory_or_id: as ``DiffusionPipeline.from_pretrained`` takes it.
        device: ``cpu``, ``cuda``, ``mps``; by default the best there is.
        dtype: ``float32``, ``float16``, ``bfloat16``; by default float32 on a CPU, bfloat16 elsewhere.

    Raises:
        ValueError: in one line, what is wrong with it.
    """
    from safetensors import SafetensorError

    device = device or best_device()
    kind_of_numbers = getattr(torch, dtype or ("float32" if device == "cpu" else "bfloat16"), None)
    if not isinstance(kind_of_numbers, torch.dtype):
        raise ValueError(f"expected a dtype such as float32, got {dtype!r}")
    name = str(directory_or_id)
    try:
        kind, folder = _found(name)
        pipe = kind.from_pretrained(
            str(folder), torch_dtype=kind_of_numbers, use_safetensors=True, trust_remote_code=False
        )
        pipe.register_to_config(_name_or_path=name)  # of a hub id not the place in the cache
    except _Refused as error:
        raise ValueError(str(error)) from None
    except (
        OSError, ValueError, TypeError, LookupError, AttributeError, ImportError, RuntimeError, SafetensorError
    ) as error:  # fmt: skip
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(f"model {name!r} could not be loaded: {first}") from error
    pipe = pipe.to(device)
    for one in pipe.components.values():
        if isinstance(one, torch.nn.Module):
            loaded_from(one, dtype)
    return pipe


class _Refused(ValueError):
    """What is said of a model that is not loaded, already in one line."""


def _found(name: str) -> tuple[Any, Path]:
    """The pipeline's class, and the directory with its files: all of it looked at, none of it loaded.

    Of a hub id ``model_index.json`` is read first: what it names decides what diffusers fetches, and runs.
    """
    path = Path(name)
    try:
        if path.is_dir():
            if not (path / INDEX).is_file():
                raise ValueError(f"expected a diffusers pipeline (a directory with {INDEX}), got {path}")
            check_weights(path, name, deep=True)
            return check_model(path, name), path
    except ValueError as error:
        raise _Refused(str(error)) from None
    from diffusers import DiffusionPipeline

    index = DiffusionPipeline.load_config(name)
    try:
        kind, _ = check_index(index, name)
    except ValueError as error:
        raise _Refused(str(error)) from None
    folder = Path(kind.download(name, use_safetensors=True, trust_remote_code=False))
    try:
        return check_model(folder, name), folder
    except ValueError as error:
        raise _Refused(str(error)) from None


def check_model(folder: Path, name: str) -> Any:
    """The class of a pipeline directory that holds nothing but settings and safetensors of known classes.

    Args:
        folder: with ``model_index.json``.
        name: the model, for messages.

    Raises:
        ValueError: in one line, what of it is refused.
    """
    from transformers import ProcessorMixin

    index = read_json(folder / INDEX)
    kind, components = check_index(index, name)
    if (folder / "None.py").exists():  # diffusers takes it for a pipeline of the user's own
        raise ValueError(f"model {name!r} {BRINGS_CODE}: None.py")
    check_folder(folder, name)
    for component, part in components.items():
        inner = folder / component
        own = inner / f"{index[component][0]}.py"
        if own.exists():
            raise ValueError(f"model {name!r} {BRINGS_CODE}: {component}/{own.name}")
        if inner.is_dir():
            check_folder(inner, name, automatic=issubclass(part, ProcessorMixin))
            check_weights(inner, name)
    return kind


def check_index(index: Any, name: str) -> tuple[Any, dict[str, type]]:
    """The class of the pipeline that a ``model_index.json`` describes, and those of its parts: diffusers' or ours.

    Raises:
        ValueError: in one line, on anything else.
    """
    if not isinstance(index, Mapping):
        raise ValueError(f"model {name!r} could not be loaded: expected an object in {INDEX}, got {_short(index)}")
    kind = _pipeline_class(index.get("_class_name"), name)
    modules, _ = kind._get_signature_keys(kind)
    found = {}
    for component, value in index.items():
        absent = value is None or (isinstance(value, list) and value == [None] * len(value))
        if component.startswith("_") or absent or not (isinstance(value, list) or component in modules):
            continue
        if not re.fullmatch(r"\w+", component):
            raise ValueError(f"model {name!r} could not be loaded: no component is called {_short(component)}")
        found[component] = _component_class(component, value, name)
    return kind, found


def _pipeline_class(named: Any, name: str) -> Any:
    import diffusers

    wanted = f"model {name!r} could not be loaded: expected a pipeline of diffusers in {INDEX}, got {_short(named)}"
    if not isinstance(named, str):
        raise ValueError(wanted + (": code of its own is never run" if named is not None else ""))
    if named in OWN_PIPELINES:
        return getattr(importlib.import_module(OWN_PIPELINES[named]), named)
    kind = getattr(diffusers, named, None) if named.isidentifier() else None
    if not inspect.isclass(kind) or not issubclass(kind, diffusers.DiffusionPipeline):
        raise ValueError(f"{wanted}, which it does not have")
    if kind is diffusers.DiffusionPipeline or getattr(kind, "_load_connected_pipes", False):
        raise ValueError(f"{wanted}, which loads further models")
    return kind


def _component_class(component: str, value: Any, name: str) -> type:
    """A model, scheduler, tokenizer or processor class of diffusers, transformers or ours; anything else is refused."""
    import diffusers
    import transformers

    wanted = f"model {name!r} could not be loaded: expected for {component} a class of diffusers or transformers"
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{wanted}, got {_short(value)}")
    library = _library(value[0])
    if library is None:
        raise ValueError(f"{wanted}, got {_short(value)}: code of its own is never run")
    kinds = (
        diffusers.ModelMixin, diffusers.SchedulerMixin, transformers.PreTrainedModel,
        transformers.PreTrainedTokenizerBase, transformers.FeatureExtractionMixin, transformers.ImageProcessingMixin,
        transformers.ProcessorMixin,
    )  # fmt: skip
    named = _renamed(value[1]) if library is transformers else value[1]
    kind = getattr(library, named, None) if named.isidentifier() else None
    if not inspect.isclass(kind) or not issubclass(kind, kinds):
        raise ValueError(f"{wanted}, got {_short(value)}, which is none of its models, schedulers or processors")
    if kind.__module__.split(".")[0] not in ("diffusers", "transformers", "noisewright"):
        raise ValueError(f"{wanted}, got {_short(value)}: code of its own is never run")
    return kind


_OWN_MODULES = frozenset(OWN_PIPELINES.values())


def _library(named: str) -> ModuleType | None:
    """diffusers, transformers, a pipeline's package in diffusers, or a module of ours; None for anything else."""
    import diffusers
    import transformers

    if named in ("diffusers", "transformers"):
        return diffusers if named == "diffusers" else transformers
    if named in _OWN_MODULES:
        return importlib.import_module(named)
    found = getattr(diffusers.pipelines, named, None) if named.isidentifier() else None
    is_package = isinstance(found, ModuleType) and hasattr(found, "__path__")
    return found if is_package and found.__name__ == f"diffusers.pipelines.{named}" else None  # type: ignore[union-attr]


def _renamed(named: str) -> str:
    """A class of transformers by its name of today, as diffusers looks it up."""
    try:
        from diffusers.pipelines.pipeline_loading_utils import _maybe_remap_transformers_class
    except ImportError:  # a version of diffusers without such names
        return named
    return _maybe_remap_transformers_class(named) or named


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
