"""What a ``model_index.json`` may name: pipelines and parts of diffusers, transformers and ours; none of it is run."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from noisewright.outside.messages import short
from noisewright.samplers.model_files import BRINGS_CODE, check_folder, check_weights, read_json

OWN_PIPELINES = {"ClassConditionalFlowPipeline": "noisewright.pipelines.class_flow"}
"""Classes that a ``model_index.json`` may name and that diffusers does not have, with their modules."""

INDEX = "model_index.json"


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
        raise ValueError(f"model {name!r} could not be loaded: expected an object in {INDEX}, got {short(index, 80)}")
    kind = _pipeline_class(index.get("_class_name"), name)
    modules, _ = kind._get_signature_keys(kind)
    found = {}
    for component, value in index.items():
        absent = value is None or (isinstance(value, list) and value == [None] * len(value))
        if component.startswith("_") or absent or not (isinstance(value, list) or component in modules):
            continue
        if not re.fullmatch(r"\w+", component):
            raise ValueError(f"model {name!r} could not be loaded: no component is called {short(component, 80)}")
        found[component] = _component_class(component, value, name)
    return kind, found


def _pipeline_class(named: Any, name: str) -> Any:
    import diffusers

    wanted = f"model {name!r} could not be loaded: expected a pipeline of diffusers in {INDEX}, got {short(named, 80)}"
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
        raise ValueError(f"{wanted}, got {short(value, 80)}")
    library = _library(value[0])
    if library is None:
        raise ValueError(f"{wanted}, got {short(value, 80)}: code of its own is never run")
    kinds = (
        diffusers.ModelMixin, diffusers.SchedulerMixin, transformers.PreTrainedModel,
        transformers.PreTrainedTokenizerBase, transformers.FeatureExtractionMixin, transformers.ImageProcessingMixin,
        transformers.ProcessorMixin,
    )  # fmt: skip
    named = _renamed(value[1]) if library is transformers else value[1]
    kind = getattr(library, named, None) if named.isidentifier() else None
    lacking = _lacking(kind)
    if lacking:
        raise ValueError(
            f"model {name!r} could not be loaded: its {component}, {value[1]}, needs {' and '.join(lacking)}, which is "
            f"not installed: pip install {' '.join(lacking)}"
        )
    if not inspect.isclass(kind) or not issubclass(kind, kinds):
        raise ValueError(f"{wanted}, got {short(value, 80)}, which is none of its models, schedulers or processors")
    if kind.__module__.split(".")[0] not in ("diffusers", "transformers", "noisewright"):
        raise ValueError(f"{wanted}, got {short(value, 80)}: code of its own is never run")
    return kind


def _lacking(kind: Any) -> list[str]:
    """The packages that a class of diffusers needs and that are not here: it stands there as a dummy then."""
    from diffusers.utils import DummyObject

    names = list(kind._backends) if isinstance(kind, DummyObject) else []
    return [name for name in names if importlib.util.find_spec(name) is None]


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
