"""FLUX.1 with a cache in its network, which carries what blocks gave from step to step."""

from __future__ import annotations

from diffusers import FluxPipeline
from diffusers.hooks import FirstBlockCacheConfig

from families.family import Family
from families.flux import call_dev, dev


def cached() -> FluxPipeline:
    pipe = dev()
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.5))
    return pipe


FAMILY = Family("flux-cached", "FLUX.1 dev with a cache", ("FluxPipeline",), cached, call=call_dev, steps=6)
