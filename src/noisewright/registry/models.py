"""Models and files by name: what is bundled, a directory, a hub id, or a plug-in's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisewright.outside.bundled import MODELS, bundled, is_server
from noisewright.outside.messages import short, unknown
from noisewright.registry import plugins
from noisewright.registry.kinds import Entry
from noisewright.registry.lookup import load, names
from noisewright.schemas.reading import exists, is_directory, is_file
from noisewright.verifiers.guarded import call, named, said

OTHERWISE = " (or a pipeline directory, FILE.safetensors, a hub id OWNER/NAME, or a server, http://HOST/v1#MODEL)"


def is_installed(name: str) -> bool:
    """Whether a model comes with noisewright or a plug-in, so that nothing is downloaded for it."""
    return bundled(name) is not None or _of_plugin(name) is not None


def find_model(name: str) -> str:
    """What to load for ``--model``: a bundled model's directory, or the name as it is.

    That is a directory, a single file, a hub id, the address of a server, or the name of a plug-in's model.

    Raises:
        ValueError: on a name that can be none of these.
    """
    path = bundled(name)
    if path is not None:
        return str(path)
    if is_server(name):
        from noisewright.samplers.image_server import read_address

        read_address(name)
        return name
    if is_directory(name) or _of_plugin(name) is not None:
        return name
    if exists(name) or Path(name).suffix.lower() in (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf"):
        return name  # a single file, which is looked at where it is loaded
    parts = name.split("/")
    if len(parts) != 2 or not all(parts) or parts[0] in ("noisewright", ".", "..") or name.startswith(("/", ".", "~")):
        raise ValueError(unknown("model", name, names("model")) + OTHERWISE)
    return name


def load_model(name: str, device: str | None = None, dtype: str | None = None, **how: Any) -> Any:
    """The pipeline of a name.

    Args:
        name: as :func:`find_model` takes it.
        device, dtype, how: as :func:`noisewright.samplers.load.load_pipeline` takes them; a plug-in's model gets the
            device and the dtype alone, and a server's no more than the device, where verifiers compute.

    Raises:
        ValueError: in one line, what is wrong with the name or the files.
    """
    if is_server(name):
        return _served(name, device, {"dtype": dtype, **how})
    one = None if is_directory(name) else _of_plugin(name)
    if one is None:
        from noisewright.samplers.load import load_pipeline

        return load_pipeline(find_model(name), device=device, dtype=dtype, **how)
    given = [key for key, value in how.items() if value]
    if given:
        raise ValueError(f"expected no {given[0]} for the model {name} of a plug-in, got {short(how[given[0]])}")
    made = load(one)
    try:
        return call(made, **one.options, device=device, dtype=dtype)
    except Exception as error:
        raise ValueError(f"{plugins.origin(one)}: model {name}: {named(error)}: {said(error)}") from error


def _served(name: str, device: str | None, how: Mapping[str, Any]) -> Any:
    """The server of an address."""
    from noisewright.samplers.image_server import ImageServer

    for key, value in how.items():
        if value:
            raise ValueError(f"expected no {key} for a model behind a server, which has its own, got {short(value)}")
    return ImageServer(name, device)


def _of_plugin(name: str) -> Entry | None:
    """The entry of a plug-in's model."""
    found = (one for one in plugins.entries() if one.kind == "model" and one.name == name and one.target)
    return next(found, None)


def find_file(name: str | Path) -> Path:
    """A file or directory as it is, or one of a bundled model: ``noisewright/NAME/FILE``."""
    owner, _, rest = str(name).partition("/")
    inside = MODELS / rest
    return inside if owner == "noisewright" and is_file(inside) and not exists(name) else Path(name)


def card(directory: str | Path | None) -> dict[str, Any]:
    """``noisewright.json`` beside a model's ``model_index.json``, checked (:mod:`~.model_card`); {} without one."""
    from noisewright.registry.model_card import read_card

    return read_card(directory)
