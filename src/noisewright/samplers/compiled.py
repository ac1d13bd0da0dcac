"""How the networks of a pipeline that is being loaded compute: compiled, and with the channels of images last."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from noisewright.errors import out_of_memory
from noisewright.outside.messages import cut, first_line
from noisewright.samplers.turns import networks_of

BACKEND = "inductor"
"""What torch.compile makes its code with."""


def compile_networks(pipe: Any, device: str) -> None:
    """Compile what a step asks, for good: the blocks that a network repeats, or without such its ``forward``.

    Nothing is compiled before the network is first called with a shape; a second size of micro-batch compiles once more
    for any size. Prompts are padded to one length by their pipelines, so that they share a shape.

    Args:
        pipe: a pipeline, changed in place; its networks keep their classes and the names of their weights.
        device: where it runs, on which one small function is compiled first.

    Raises:
        ValueError: in one line, where torch cannot compile here, and where the pipeline has no network to be compiled.
    """
    networks = networks_of(pipe)
    if not networks:
        raise ValueError(f"expected a pipeline with a network to compile, got {type(pipe).__name__} without one")
    _check_compiler(device)
    for net in networks:
        names = getattr(net, "_repeated_blocks", None) or ()
        blocks = [one for one in net.modules() if type(one).__name__ in names]
        if blocks and hasattr(net, "compile_repeated_blocks"):
            net.compile_repeated_blocks(backend=BACKEND)
        else:  # its forward, since hooks of its calls would be compiled with it, and they change from call to call
            object.__setattr__(net, "forward", torch.compile(net.forward, backend=BACKEND))


def _check_compiler(device: str) -> None:
    """Refuse before anything is spent what would fail in the first step.

    Raises:
        ValueError: in one line.
    """
    try:
        with torch.no_grad():
            torch.compile(_small, backend=BACKEND)(torch.ones(8, device=device))
    except Exception as error:
        if out_of_memory(error):
            raise
        said = cut(first_line(error), 200)
        raise ValueError(f"expected a torch that compiles on {device} for compile, got {type(error).__name__}: {said}"
                         ) from error  # fmt: skip


def _small(x: torch.Tensor) -> torch.Tensor:
    return 2 * x + 1


def put_channels_last(pipe: Any) -> None:
    """Lay the weights of convolutions out with channels last, in the networks that a step asks and in the autoencoder.

    Args:
        pipe: a pipeline, changed in place: no value is.

    Raises:
        ValueError: in one line, on a pipeline without convolutions of images.
    """
    found = [*networks_of(pipe), *(one for one in [getattr(pipe, "vae", None)] if isinstance(one, nn.Module))]
    convolutions = [one for net in found for one in net.modules() if isinstance(one, nn.Conv2d)]
    if not convolutions:
        raise ValueError(
            f"expected a pipeline with convolutions of images for channels_last, got {type(pipe).__name__} without one"
        )
    for one in convolutions:  # not the networks, which may have convolutions of videos too
        one.to(memory_format=torch.channels_last)
