"""The cache of cache-dit (``noisewright[cache-dit]``), for one call of a pipeline: DBCache, by its own arguments.

The first ``Fn_compute_blocks`` of a list of blocks work at each evaluation. Where what they add is nearly what it was
(``residual_diff_threshold``), the blocks behind them add again what they added last, but for the last
``Bn_compute_blocks``, which work (https://github.com/vipshop/cache-dit).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn


def config_of(net: nn.Module, args: Mapping[str, Any], steps: int) -> Any:
    """The configuration of a network's cache.

    Args:
        net: the network.
        args: of draft ``cache``; what is not given is as cache-dit has it, but for a warm-up of a quarter of the steps
            at most.
        steps: of the draft's way.

    Raises:
        ValueError: in one line, without cache-dit, for a network that it does not know, or on what it says of its
            arguments.
    """
    library = _library()
    kind = type(net).__name__
    if not library.BlockAdapterRegister.is_supported(net):
        raise ValueError(f"expected a transformer that cache-dit knows for cache DBCache, got {kind}")
    given = {name: one for name, one in args.items() if name != "name"}
    given.setdefault("max_warmup_steps", min(8, steps // 4))
    try:
        return library.DBCacheConfig(**given, num_inference_steps=steps)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected arguments of cache DBCache, got {str(error).strip().splitlines()[0]}") from None


@contextmanager
def dual_block(net: nn.Module, args: Mapping[str, Any], steps: int) -> Iterator[None]:
    """A network with the cache; then without, as it was."""
    config = config_of(net, args, steps)
    before = [(module, dict(vars(module)), dict(module._modules)) for module in net.modules()]
    _library().enable_cache(net, cache_config=config)
    try:
        yield
    finally:
        _library().disable_cache(net)
        for module, was, parts in before:
            now = vars(module)
            for name in now.keys() - was.keys():  # what is left behind, such as a forward of the network's own
                del now[name]
            if "forward" in was:
                now["forward"] = was["forward"]
            module._modules.clear()  # lists of blocks were taken out and put in again, at the end
            module._modules.update(parts)


def _library() -> Any:
    """cache-dit, quiet.

    Raises:
        ValueError: where it is not installed.
    """
    try:
        import cache_dit
    except ImportError as error:  # also of something that it needs
        raise ValueError(f"expected the cache-dit package for cache DBCache, got none ({error}): pip install "
                         "'noisewright[cache-dit]'") from None  # fmt: skip
    for name in list(logging.root.manager.loggerDict):  # each of its modules has one of its own, which says a lot
        if name.startswith(("cache_dit", "CACHE_DIT")):
            logging.getLogger(name).setLevel(logging.ERROR)
    return cache_dit
