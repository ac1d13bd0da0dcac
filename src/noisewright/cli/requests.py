"""What was typed, as a request: paths in full, names checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisewright.schemas.reading import exists, is_directory, is_file, short

if TYPE_CHECKING:
    from noisewright.plan import Plan

DTYPES = ("float32", "float16", "bfloat16")
EXECUTORS = ("local", "ray")
PATH_OPTIONS = ("model", "head", "processor", "labels", "reference", "start")
"""What of a verifier may name a file or directory."""


def plan_of(request: Mapping[str, Any]) -> Plan:
    """A checked plan of a request."""
    from noisewright.plan import make_plan

    arguments = {key: value for key, value in request.items() if key != "executor"}
    arguments["judge"] = request["judge"] or None
    arguments["verifier"] = request["verifier"] or None
    arguments["search_args"] = _search_arguments(request["search_args"])
    arguments["target"] = _target(request["target"])
    return make_plan(arguments.pop("model"), arguments.pop("prompt"), **arguments)


def _search_arguments(given: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` texts; the search's own types are checked with the plan."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"expected --search-arg NAME=VALUE, got {short(text)}")
        found[name.strip().replace("-", "_")] = value.strip()
    return found


def _target(given: Sequence[str]) -> float | dict[str, float] | None:
    """``SCORE`` or ``NAME=SCORE`` texts as :func:`noisewright.search` takes them."""
    named: dict[str, float] = {}
    for text in given:
        name, _, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"expected --target SCORE or NAME=SCORE, got {short(text)}") from None
        if not abs(number) < float("inf"):
            raise ValueError(f"expected a --target that a score can reach, got {short(text)}")
        if not name and len(given) == 1:
            return number
        if not name:
            raise ValueError(f"expected --target NAME=SCORE where there are several, got {short(text)}")
        named[name] = number
    return named or None


def check_names(request: Mapping[str, Any]) -> None:
    """Refuse what needs no heavy import to be refused."""
    from noisewright import registry
    from noisewright.run.budget import parse_budget

    if request["executor"] not in EXECUTORS:
        raise ValueError(registry.unknown("executor", request["executor"], list(EXECUTORS)))
    if request["executor"] == "ray":
        raise ValueError("executor 'ray' is not available yet: expected local")
    parse_budget(request["budget"])
    if not is_file(request["schedule"]):
        registry.entry("schedule", request["schedule"])
    registry.entry("search", request["search"])
    judges = () if request["judge"] == ["none"] else request["judge"] or ()
    for name in (*(request["verifier"] or ()), *judges):
        if ".py:" not in name:
            registry.entry("verifier", name.partition(":")[0])
    if request["solver"] is not None:
        registry.entry("solver", request["solver"])
    for name in ("guidance_scale", "eta"):
        value = request[name]
        if value is not None and not abs(value) < float("inf"):
            raise ValueError(f"expected a finite --{name.replace('_', '-')}, got {value}")


def check_device(device: str | None, dtype: str | None) -> None:
    from noisewright import registry

    if dtype is not None and dtype not in DTYPES:
        raise ValueError(registry.unknown("dtype", dtype, list(DTYPES)))
    if device is None:
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(f"expected a device that torch has here (cpu, cuda, mps, ...), got {short(device)}") from None


def located_model(name: str) -> str:
    """A model's directory by its full path, so that ``resume`` finds it from another one; ids as they are."""
    from noisewright import registry

    return str(Path(name).resolve()) if registry.bundled(name) is None and is_directory(name) else name


def located_verifiers(names: Sequence[str] | None) -> list[str] | None:
    """Verifiers with files and models by their full path, so that ``resume`` finds them from another directory."""
    from noisewright import registry

    if names is None:
        return None
    found = []
    for name in names:
        file, _, function = name.rpartition(":")
        if file.endswith(".py") and is_file(file):
            found.append(f"{Path(file).resolve()}:{function}")
        else:
            kind, colon, rest = name.partition(":")
            model, options = registry.model_and_options(rest)
            parts = [_located_value("model", model)] if model else []
            parts += [f"{key}={_located_value(key, value)}" for key, value in options.items()]
            found.append(f"{kind}{colon}{','.join(parts)}")
    return found


def _located_value(key: str, value: str) -> str:
    """A verifier's model or option by its full path where it names what is there; labels are names but in a file."""
    from noisewright import registry

    may = key in PATH_OPTIONS and (key != "labels" or value.endswith(".txt"))
    there = may and value and registry.bundled(value) is None and exists(value)
    return str(Path(value).resolve()) if there else value
