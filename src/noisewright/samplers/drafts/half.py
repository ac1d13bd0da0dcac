"""The denoiser in half precision, beside the one that renders in full."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from noisewright.samplers.turns import replaced


class Halved:
    """Calls of a pipeline whose networks (those that a step asks) work in another type.

    What goes in is cast to it and what comes out is cast back: states, guidance, solver and decoder stay as they are.
    The copies of the weights are made with the first call, and stay: half as much memory again.

    Args:
        name: of the type, ``bfloat16`` or ``float16``.
    """

    def __init__(self, name: str) -> None:
        self.dtype: torch.dtype = getattr(torch, name)
        self._copies: WeakKeyDictionary[nn.Module, nn.Module] = WeakKeyDictionary()

    @contextmanager
    def __call__(self, pipe: Any, networks: list[nn.Module], meter: Any) -> Iterator[list[nn.Module]]:
        """Within it the copies work, which it gives."""
        with ExitStack() as stack:
            for net in networks:
                stack.enter_context(replaced(net, "forward", self._instead(net)))
            yield [self._copy(net) for net in networks]

    def _instead(self, net: nn.Module) -> Callable[[Any], Any]:
        """What stands in for a network's ``forward``."""
        other = self._copy(net)  # on the device of what it is asked about: its original may be offloaded
        back = next((one.dtype for one in net.parameters() if one.is_floating_point()), torch.float32)

        def replacing(own: Any) -> Any:
            def forward(*args: Any, **kwargs: Any) -> Any:
                args, kwargs = _cast((args, kwargs), self.dtype, back)
                device = next(one.device for one in pytree.tree_leaves((args, kwargs)) if isinstance(one, Tensor))
                if device != next(other.parameters()).device:
                    other.to(device)
                return _cast(other(*args, **kwargs), back, self.dtype)

            return forward

        return replacing

    def _copy(self, net: nn.Module) -> nn.Module:
        made = self._copies.get(net)
        if made is None:
            made = copy.deepcopy(net)
            for module in made.modules():  # who counts passes counts those of the network itself
                module._forward_hooks.clear()
                module._forward_pre_hooks.clear()
                module.__dict__.pop("forward", None)
            whole = set(getattr(net, "_keep_in_fp32_modules", None) or ())  # what diffusers does not load in halves
            nn.Module.to(made, self.dtype)  # past diffusers' own, which warns of what is done next
            for name, module in made.named_modules():
                if whole & set(name.split(".")):
                    nn.Module.to(module, torch.float32)
            made = self._copies[net] = made.eval().requires_grad_(False)
        return made


def _cast(value: Any, to: torch.dtype, of: torch.dtype) -> Any:
    """Tensors of a floating type as another; times stay float32 where they were that and mean a time."""

    def one(given: Any) -> Any:
        big = isinstance(given, Tensor) and given.is_floating_point() and given.ndim > 1 and given.dtype == of
        return given.to(to) if big else given

    return pytree.tree_map(one, value)
