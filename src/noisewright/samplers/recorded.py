"""From the record of a sampler back to the files that its pipeline was loaded from: variant, configurations, LoRAs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from noisewright.errors import RunMismatch
from noisewright.outside.hub import cached, is_hub_id
from noisewright.outside.reading import shown
from noisewright.samplers.lora import digest_of_file
from noisewright.samplers.pictures import from_record, names_file

COMPUTED = ("compile", "channels_last")
"""What of a description says how a loaded pipeline computes."""

SOURCE = ("variant", "config", "loras", *COMPUTED)
"""What of a description says how the pipeline was loaded, and is no argument of its call."""


def loading_arguments(
    made: Mapping[str, Any], *, what: str, loras: Sequence[str | Path] = (), config: str | Path | None = None,
    request: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """How :func:`~.load.load_pipeline` loads again what made an image, beside model, device and dtype.

    Args:
        made: the sampler's description in a recipe, which names files without where they lie.
        what: the image, for messages.
        loras: where the LoRAs are now; each is told by its content.
        config: where the configurations of a single file are now.
        request: what the run beside the image was asked for, with the paths of then; they are looked at by content.

    Raises:
        ValueError: in one line, naming a LoRA or configuration that is not found.
        RunMismatch: where a LoRA is given that did not make the image.
    """
    found: dict[str, Any] = {name: True for name in COMPUTED if made.get(name) is True}
    if made.get("variant") is not None:
        found["variant"] = made["variant"]
    if made.get("config") is not None:
        found["config"] = _config(str(made["config"]), config, request or {}, what)
    elif config is not None:
        raise ValueError(f"expected no config for {what}, which no single file made, got {shown(config)}")
    recorded = made.get("loras") or []
    if recorded or loras:
        found["loras"] = _loras(recorded, loras, request or {}, what)
    return found


def images_of(
    made: Mapping[str, Any], request: Mapping[str, Any] | None, given: Iterable[str] = ()
) -> dict[str, Any]:
    """Images among the arguments of the call that made an image, from the files that the run beside it names.

    Args:
        made: the sampler's description in a recipe, which holds their hashes.
        request: what the run beside the image was asked for.
        given: those that are given again.

    Raises:
        ValueError: in one line, where a file is not there or no image.
        RunMismatch: where it is another image.
    """
    held = (request or {}).get("pipeline_args")
    files = held if isinstance(held, Mapping) else {}
    wanted = set(made) - set(given)
    return {name: from_record(one, name) for name, one in files.items() if name in wanted and names_file(one)}


def _config(named: str, given: str | Path | None, request: Mapping[str, Any], what: str) -> str:
    """Where the configurations are: what was given, what the run says, or what the record names."""
    if given is not None:
        return str(given)
    then = request.get("config")
    for one in (then if isinstance(then, str) and _own_name(then) == _own_name(named) else None, named):
        if one is not None and (Path(one).is_dir() or (is_hub_id(one) and cached(one) is not None)):
            return one
    raise ValueError(f"expected --config DIR for {what}: the configurations {shown(named)} are not where they were")


def _loras(
    recorded: Sequence[Mapping[str, Any]], given: Sequence[str | Path], request: Mapping[str, Any], what: str
) -> list[tuple[str, float]]:
    """Each recorded LoRA's file with its weight, told by content: of those that were given, or that the run names."""
    by_digest = {digest_of_file(one): str(one) for one in given}
    known = {one["sha256"] for one in recorded}
    for other in (path for digest, path in by_digest.items() if digest not in known):
        named = ", ".join(str(one["file"]) for one in recorded) or "none"
        raise RunMismatch(f"expected the LoRAs that made {what} ({named}), got another: {shown(other)}")
    found = []
    for one in recorded:
        file: str | None = by_digest.get(one["sha256"]) or _of_run(one, request)
        if file is None:
            raise ValueError(
                f"expected --lora FILE for {what}: its LoRA {shown(str(one['file']))} (sha256 {one['sha256'][:12]}...) "
                "is not where it was"
            )
        found.append((file, float(one["weight"])))
    return found


def _of_run(recorded: Mapping[str, Any], request: Mapping[str, Any]) -> str | None:
    """The file that a run's request names and that has the recorded content still; None where there is none."""
    for file in _files(request.get("loras")):
        if _own_name(file) == recorded["file"] and Path(file).is_file():
            try:
                if digest_of_file(file) == recorded["sha256"]:
                    return file
            except ValueError:  # no file that can be read
                continue
    return None


def _files(loras: Any) -> Iterable[str]:
    """The files among the LoRAs of a request, whatever it holds."""
    for one in loras if isinstance(loras, list) else []:
        file = one.get("file") if isinstance(one, Mapping) else None
        if isinstance(file, str) and file.endswith(".safetensors"):
            yield file


def _own_name(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]
