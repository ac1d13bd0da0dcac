"""Caches of a network's work from step to step: noisewright's own, diffusers' and cache-dit's by their names.

``Deep`` asks the deep part of a network at every k-th evaluation and gives what it gave then in between. Of a U-Net
that is all but the outermost ``depth`` blocks on both sides (DeepCache, Ma et al. 2023, arXiv 2312.00858, at the
granularity of blocks): what the outer up block takes from below is the kept feature. Of a transformer it is all but the
first and last ``depth`` blocks, of which the kept difference ``out - in`` is added to what comes in (Delta-DiT, Chen et
al. 2024, arXiv 2406.01125).

A cache begins anew with each call of the pipeline: the first evaluation of a segment is a full one. So a way that is
cut is another one, and searches that cut it cannot have such drafts. What a cache answers counts as no evaluation and
no forward pass; the seconds that it takes are counted as all are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from torch import Tensor, nn

from noisewright.errors import UnsupportedPipeline
from noisewright.samplers.asleep import rows_of
from noisewright.samplers.drafts.dual_block import config_of, dual_block
from noisewright.samplers.drafts.passes import check_passes, passes_of
from noisewright.samplers.protocol import Meter
from noisewright.samplers.turns import networks_of, replaced
from noisewright.schemas.drafts import DEEP, DUAL_BLOCK

HOOKED = ("_diffusers_hook", "forward")
"""What diffusers puts on a module that has a hook."""

BLOCKS = ("blocks", "transformer_blocks", "single_transformer_blocks", "layers")
"""Where transformers keep their blocks."""


@dataclass
class _Passes:
    """The passes of one call of a pipeline: rows in all, and rows that a cache answered."""

    rows: int = 0
    answered: int = 0


@contextmanager
def _billed(meter: Meter) -> Iterator[_Passes]:
    """Take what a cache answered in a call off the meter again."""
    passes, nfe = _Passes(), meter.nfe
    try:
        yield passes
    finally:
        meter.forwards -= passes.answered
        if passes.answered:
            meter.forget_pace()
        if passes.rows:
            meter.nfe -= (meter.nfe - nfe) * passes.answered // passes.rows


def caching(args: Mapping[str, Any], steps: int) -> Callable[..., Any]:
    """What a call of a pipeline is made within.

    Args:
        args: of draft ``cache``.
        steps: of the draft's way.

    Returns:
        A context of (pipeline, its networks, meter), which gives the networks.
    """

    @contextmanager
    def within(pipe: Any, networks: list[nn.Module], meter: Meter) -> Iterator[list[nn.Module]]:
        with _billed(meter) as passes, ExitStack() as stack:
            for net in networks:
                one = _deep(net, args["every"], args["depth"], passes) if args["name"] == DEEP else (
                    _of_others(pipe, net, args, steps, passes)
                )  # fmt: skip
                stack.enter_context(one)
            yield networks

    return within


def counted_every(args: Mapping[str, Any]) -> int:
    """Of how many evaluations the first is certain to be the only one that is asked; of others' none are certain."""
    return int(args["every"]) if args["name"] == DEEP else 1


def depends_on_mates(args: Mapping[str, Any]) -> bool:
    """Whether a cache decides by the mean over a batch what it leaves out, so that images are made one at a time."""
    return args["name"] in ("FirstBlockCache", DUAL_BLOCK)


def check_cache(
    pipe: Any, args: Mapping[str, Any], steps: int, settings: Mapping[str, Any], unguided: bool
) -> None:
    """Refuse a cache that a pipeline's networks cannot have.

    Args:
        pipe: the pipeline.
        args: of draft ``cache``.
        steps: of the draft's way.
        settings: of the pipeline's call.
        unguided: whether the draft goes on without guidance from some step on.

    Raises:
        ValueError: in one line, naming the network's class.
    """
    for net in networks_of(pipe):
        kind, name = type(net).__name__, args["name"]
        if name == DEEP:
            _sleepers(net, args["depth"])
        elif name == DUAL_BLOCK:
            config_of(net, args, steps)
        elif not hasattr(net, "enable_cache"):
            raise ValueError(f"expected a model with the caches of diffusers for cache {name}, got {kind}: it can have "
                             f"cache {DEEP}")  # fmt: skip
        elif getattr(net, "is_cache_enabled", False):
            raise ValueError(f"expected a {kind} without a cache for draft cache, got one that has one enabled")
        else:
            _config(pipe, net, args, steps)
            check_passes(passes_of(pipe, net, settings), name, unguided)


# Our own


@dataclass
class _LastFull:
    """What the sleeping blocks of one network gave at its last full evaluation, in one call."""

    every: int
    evaluation: int = -1
    place: int = 0
    time: float | None = None
    fresh: bool = True
    outputs: dict[tuple[int, int], Any] = field(default_factory=dict)

    def begin(self, time: float) -> None:
        """A pass begins: of a new evaluation where the time is another one, else a further branch of guidance."""
        if time != self.time:
            self.time, self.place = time, 0
            self.evaluation += 1
        else:
            self.place += 1
        known = any(place == self.place for place, _ in self.outputs)
        self.fresh = self.evaluation % self.every == 0 or not known


@contextmanager
def _deep(net: nn.Module, every: int, depth: int, passes: _Passes) -> Iterator[None]:
    """A network whose deep part works at every k-th evaluation alone."""
    kept, (sleepers, adds) = _LastFull(every), _sleepers(net, depth)

    def counting(own: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            kept.begin(_time(args, kwargs))
            rows = rows_of(args, kwargs)
            passes.rows += rows
            passes.answered += 0 if kept.fresh else rows
            return own(*args, **kwargs)

        return forward

    def drowsy(number: int) -> Callable[[Any], Any]:
        def replacing(own: Callable[..., Any]) -> Callable[..., Any]:
            def forward(*args: Any, **kwargs: Any) -> Any:
                key = kept.place, number
                given = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)]
                if kept.fresh:
                    found = own(*args, **kwargs)
                    kept.outputs[key] = _differences(net, found, given) if adds else found
                    return found
                return _added(kept.outputs[key], given) if adds else kept.outputs[key]

            return forward

        return replacing

    with ExitStack() as stack:
        stack.enter_context(replaced(net, "forward", counting))
        for number, block in enumerate(sleepers):
            stack.enter_context(replaced(block, "forward", drowsy(number)))
        yield


def _sleepers(net: nn.Module, depth: int) -> tuple[list[nn.Module], bool]:
    """The deep blocks of a network, and whether what they add is kept in place of what they give.

    Raises:
        ValueError: where it has none.
    """
    kind = type(net).__name__
    down, up, middle = (getattr(net, name, None) for name in ("down_blocks", "up_blocks", "mid_block"))
    if isinstance(down, nn.ModuleList) and isinstance(up, nn.ModuleList):
        if depth >= min(len(down), len(up)):
            raise ValueError(f"expected depth below the {min(len(down), len(up))} blocks of a side of {kind} for cache "
                             f"{DEEP}, got {depth}")  # fmt: skip
        return [*down[depth:], *([middle] if isinstance(middle, nn.Module) else []), *up[: len(up) - depth]], False
    found = _blocks(net)
    if len(found) <= 2 * depth:
        raise ValueError(f"expected a U-Net, or a transformer of more than {2 * depth} blocks, for cache {DEEP}, got "
                         f"{kind}" + (f" of {len(found)}" if found else ""))  # fmt: skip
    return found[depth : len(found) - depth], True


def _blocks(net: nn.Module) -> list[nn.Module]:
    """The blocks of a transformer, in order."""
    lists = [getattr(net, name, None) for name in BLOCKS]
    return [block for one in lists if isinstance(one, nn.ModuleList) for block in one]


def _time(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    """The time that a network is asked at."""
    found = kwargs.get("timestep", args[1] if len(args) > 1 else 0.0)
    return float(found.flatten()[0]) if isinstance(found, Tensor) else float(found)


def _differences(net: nn.Module, found: Any, given: list[Tensor]) -> list[tuple[int, Tensor] | None]:
    """For each thing that a block gives, which of its arguments it goes on from, and what it adds to that."""
    made: list[tuple[int, Tensor] | None] = []
    for one in found if isinstance(found, tuple) else (found,):
        if one is None:
            made.append(None)
            continue
        place = next((n for n, before in enumerate(given) if before.shape == one.shape), None)
        if place is None:
            raise UnsupportedPipeline(f"expected blocks that give states of the size that they take for cache {DEEP}, "
                                      f"got {type(net).__name__}")  # fmt: skip
        made.append((place, one - given[place]))
    return made


def _added(kept: list[tuple[int, Tensor] | None], given: list[Tensor]) -> Any:
    found = tuple(None if one is None else given[one[0]] + one[1] for one in kept)
    return found if len(found) > 1 else found[0]


# Diffusers'


def _config(pipe: Any, net: nn.Module, args: Mapping[str, Any], steps: int) -> Any:
    """The configuration of a cache of diffusers.

    Raises:
        ValueError: on what it says of its arguments, and on MagCache for a model whose ratios nobody measured.
    """
    from diffusers import hooks

    name = args["name"]
    given = {key: one for key, one in args.items() if key not in ("name", "attention_weight")}
    if name == "MagCache":
        if type(net).__name__ != "FluxTransformer2DModel":
            raise ValueError(f"expected a model whose ratios diffusers has (FLUX) for cache MagCache, got "
                             f"{type(net).__name__}")  # fmt: skip
        given |= {"num_inference_steps": steps, "mag_ratios": hooks.mag_cache.FLUX_MAG_RATIOS}
    if name in ("FasterCache", "PyramidAttentionBroadcast"):
        given["current_timestep_callback"] = lambda: pipe.current_timestep
    if name == "FasterCache":
        weight = float(args.get("attention_weight", 0.5))
        given["attention_weight_callback"] = lambda module: weight
        given["tensor_format"] = "BCHW"
        given["is_guidance_distilled"] = bool(getattr(net, "config", {}).get("guidance_embeds", False))
    if name == "PyramidAttentionBroadcast":
        given.setdefault("spatial_attention_block_skip_range", 2)
    try:
        return getattr(hooks, f"{name}Config")(**given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected arguments of cache {name}, got {str(error).strip().splitlines()[0]}") from None


@contextmanager
def _of_others(
    pipe: Any, net: Any, args: Mapping[str, Any], steps: int, passes: _Passes
) -> Iterator[None]:
    """A network with a cache of diffusers, or of cache-dit; then without, as it was.

    An evaluation counts as answered where the last block that a cache may leave out did not work.
    """
    worked = [0]

    def counting(own: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*given: Any, **named: Any) -> Any:
            worked[0] += 1
            return own(*given, **named)

        return forward

    def counted(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        rows = rows_of(given, named)
        passes.rows += rows
        passes.answered += 0 if worked[0] else rows
        worked[0] = 0

    blocks = _blocks(net)
    ours = args["name"] == DUAL_BLOCK
    last = blocks[max(0, len(blocks) - 1 - int(args.get("Bn_compute_blocks", 0)))] if blocks else None
    count = nullcontext() if last is None else replaced(last, "forward", counting)
    cache = dual_block(net, args, steps) if ours else _of_diffusers(pipe, net, args, steps)
    with ExitStack() as stack:  # cache-dit reads what a block's forward takes; hooks of diffusers go over it
        for one in (cache, count) if ours else (count, cache):
            stack.enter_context(one)
        stack.callback(net.register_forward_hook(counted, with_kwargs=True).remove)
        yield


@contextmanager
def _of_diffusers(pipe: Any, net: Any, args: Mapping[str, Any], steps: int) -> Iterator[None]:
    """A network with a cache of diffusers; then without, as it was."""
    before = {(id(module), name) for module in net.modules() for name in HOOKED if name in vars(module)}
    net.enable_cache(_config(pipe, net, args, steps))
    try:
        yield
    finally:
        net.disable_cache()
        for module, name in product(list(net.modules()), HOOKED):  # what a hook leaves behind when it is removed
            if (id(module), name) not in before:
                vars(module).pop(name, None)
