"""A model by its name: what a person types, to a loaded pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noisewright import registry
from noisewright.outside.bundled import is_server
from noisewright.planning.precision import loaded_fastest
from noisewright.request import Request
from noisewright.samplers.device import check_device
from noisewright.samplers.quiet import quiet
from noisewright.schemas.request import AUTO, as_path


def load(
    model: str | Path = "noisewright/shapes",
    *,
    device: str | None = None,
    dtype: str | None = None,
    variant: str | None = None,
    config: str | Path | None = None,
    loras: str | Path | Sequence[Any] = (),
    compile: bool = False,
    channels_last: bool = False,
) -> Any:
    """Load a bundled model, a pipeline directory, a hub id or a checkpoint file as a diffusers pipeline.

    Safetensors only, and no code of the model's own.

    Args:
        model: its name, directory or ``FILE.safetensors``.
        device: ``cpu``, ``cuda``, ``mps``; by default the best there is.
        dtype: ``float32``, ``float16`` or ``bfloat16``; by default float32 on a CPU, else bfloat16. ``auto``: on a CPU
            that multiplies in bfloat16 whichever of it and float32 a trial of about a second finds faster, which is
            remembered.
        variant: of the weight files, such as ``fp16``.
        config: for a checkpoint file: a pipeline directory with the configuration, so that no hub is asked.
        loras: LoRA files, each ``FILE``, ``FILE:WEIGHT`` or (file, weight).
        compile: compile the network that is asked once a step: its repeated blocks, where diffusers knows them. The
            first step of a shape then takes a minute or so.
        channels_last: lay convolutions out with channels last, which GPUs like in half precision.

    Raises:
        ValueError: in one line, what is wrong with the name or the files.
    """
    as_path("a model", model)
    request = Request(
        model=model, prompt="any", device=device, dtype=dtype, variant=variant, config=config, loras=loras,
        compile=compile, channels_last=channels_last,
    )  # fmt: skip
    return load_requested(request)


def load_requested(request: Request) -> Any:
    """The pipeline that a request names.

    Raises:
        ValueError: as :func:`load`.
    """
    name = str(request.model)
    registry.find_model(name)
    check_device(request.device)
    given: Mapping[str, Any] = {
        "variant": request.variant, "config": request.config,
        "loras": [(one["file"], one["weight"]) for one in request.loras],
        "compile": request.compile, "channels_last": request.channels_last,
    }  # fmt: skip
    more = {key: value for key, value in given.items() if value}

    def load(dtype: str | None) -> Any:
        return registry.load_model(name, device=request.device, dtype=dtype, **more)

    with quiet():
        here = not is_server(name)  # a server's type is its own, and said to be so
        return loaded_fastest(request, load) if request.dtype == AUTO and here else load(request.dtype)
