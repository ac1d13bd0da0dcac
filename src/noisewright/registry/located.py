"""Models and verifiers as they were typed, with what lies on this machine by its full path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from noisewright.outside.bundled import is_server
from noisewright.registry.models import bundled, is_installed
from noisewright.registry.options import model_and_options
from noisewright.registry.verifiers import from_file
from noisewright.schemas.reading import exists, is_directory, is_file

PATH_OPTIONS = ("model", "head", "processor", "labels", "reference", "start")
"""What of a verifier may name a file or directory."""


def located_model(name: str) -> str:
    """A model's directory or file by its full path; names of bundled models and of the hub as they are."""
    if is_installed(name) or is_server(name):
        return name
    if is_directory(name):
        return str(Path(name).resolve())
    return str(Path(name).absolute()) if is_file(name) else name


def located_verifiers(names: Sequence[Any] | None) -> list[Any] | None:
    """Verifiers with files and models by their full path, so that ``resume`` finds them from another directory."""
    return None if names is None else [_located_verifier(one) for one in names]


def _located_verifier(name: Any) -> Any:
    if not isinstance(name, str):
        return name
    file = from_file(name)
    if file is not None:
        return replace(file, file=str(Path(file.file).resolve())).text if is_file(file.file) else name
    kind, colon, rest = name.partition(":")
    model, options = model_and_options(rest)
    parts = [_located_value("model", model)] if model else []
    parts += [f"{key}={_located_value(key, value)}" for key, value in options.items()]
    return f"{kind}{colon}{','.join(parts)}"


def _located_value(key: str, value: str) -> str:
    """A verifier's model or option by its full path where it names what is there; labels are names but in a file."""
    may = key in PATH_OPTIONS and (key != "labels" or value.endswith(".txt"))
    there = may and value and bundled(value) is None and exists(value)
    return str(Path(value).resolve()) if there else value
