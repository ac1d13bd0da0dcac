"""The scheduler seam: for one public call of a pipeline, its scheduler is swapped for a probe.

The probe is a dynamic subclass of the scheduler's own class, so ``isinstance``, config and order hold, whose ``step``
receives the guided prediction. Nothing of the pipeline is copied, and it is left as it was found.
"""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from noisewright.errors import UnsupportedPipeline
from noisewright.samplers.prompts import remembering
from noisewright.samplers.protocol import Meter
from noisewright.samplers.turns import networks_of, reserved

CLOSE = 0.02
"""Relative error within which a guided prediction is recognised: the halves are rounded to the model's dtype."""

class Seam:
    """What one ``pipe(...)`` call should do, and what came of it.

    Args:
        scheduler: the pipeline's own.
        times: what the loop runs over; None asks for the scheduler's own and then runs over none of them.
        on_step: (guided prediction, time, sample, what else the pipeline passes to ``step``) -> the next sample, or
            what the scheduler's own ``step`` gave; None where no step is expected.

    Attributes:
        own_input: the scheduler's ``scale_model_input``, where the samples are in its own coordinates.
        init_scale: what the pipeline multiplies its starting noise with.
        prepared: a copy of the scheduler after ``set_timesteps``, once the call asked for it.
        mu: what the call gave ``set_timesteps`` for a shift by the image's size, or None.
        branches: the network's own outputs, guided branches apart, where they are wanted; else None.
        scales: whether the call asked what to multiply its starting noise with.
        extra: what the call prepared to pass to ``step`` beside prediction, time and sample, where it says so before.
    """

    def __init__(self, scheduler: Any, times: Tensor | None, on_step: Callable[..., Any] | None) -> None:
        self.scheduler = scheduler
        self.times = times
        self.on_step = on_step
        self.own_input: Callable[[Tensor, Any], Tensor] | None = None
        self.init_scale = 1.0
        self.prepared: Any = None
        self.mu: float | None = None
        self.branches: list[Tensor] | None = None
        self.scales = False
        self.extra: dict[str, Any] = {}


class _StepOutput(dict):
    """What ``step`` returns where ``return_dict`` is true: an attribute and a key, as diffusers' outputs are."""

    def __init__(self, prev_sample: Tensor) -> None:
        super().__init__(prev_sample=prev_sample)
        self.prev_sample = prev_sample


def make_probe(seam: Seam) -> Any:
    """A stand-in for the scheduler: its class, its config and its attributes, but our steps."""
    base = type(seam.scheduler)
    if not hasattr(base, "step"):
        raise UnsupportedPipeline(f"expected a scheduler with a step, got {base.__name__}")
    parameters = inspect.signature(base.step)
    rest = [one.name for one in parameters.parameters.values() if one.kind is one.VAR_KEYWORD]

    # The named parameters stay: pipelines read these signatures to learn what they may pass.
    def set_timesteps(
        self: Any, num_inference_steps: int | None = None, device: Any = None, timesteps: Any = None,
        sigmas: Any = None, mu: float | None = None, **more: Any,
    ) -> None:  # fmt: skip
        if seam.times is None:
            given = {"num_inference_steps": num_inference_steps, "timesteps": timesteps, "sigmas": sigmas, "mu": mu}
            given = {key: value for key, value in {**given, **more}.items() if value is not None}
            accepted = inspect.signature(base.set_timesteps).parameters
            if any(key not in accepted for key in ("timesteps", "sigmas") if key in given):
                raise ValueError(f"{base.__name__} takes no custom timesteps or sigmas")
            seam.prepared = copy.deepcopy(seam.scheduler)
            seam.prepared.set_timesteps(device=device, **given)
            seam.mu = mu
            self.timesteps = seam.prepared.timesteps[:0]
        else:
            self.timesteps = seam.times.to(device) if device is not None else seam.times
        self.num_inference_steps = len(self.timesteps)

    def scale_model_input(self: Any, sample: Tensor, timestep: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        return sample if seam.own_input is None else seam.own_input(sample, timestep)

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if seam.on_step is None:
            raise UnsupportedPipeline(f"expected no step in a call of zero steps, got one from {base.__name__}")
        given = dict(parameters.bind(self, *args, **kwargs).arguments)
        for name in rest:
            given.update(given.pop(name, {}))
        prediction, time, sample = (given.pop(name, None) for name in ("model_output", "timestep", "sample"))
        as_dict = given.get("return_dict", True)
        after = seam.on_step(prediction, time, sample, dict(islice(given.items(), 1, None)))  # all but self
        if not isinstance(after, Tensor):
            return after
        return _StepOutput(after) if as_dict else (after,)

    step.__signature__ = parameters  # type: ignore[attr-defined]

    def init_noise_sigma(self: Any) -> float:
        seam.scales = True
        return seam.init_scale

    body = {
        "set_timesteps": set_timesteps,
        "scale_model_input": scale_model_input,
        "step": step,
        "set_begin_index": lambda self, begin_index=0: None,
        "init_noise_sigma": property(init_noise_sigma, lambda self, value: None),
        "order": 1,
    }
    probe: Any = object.__new__(type(base.__name__, (base,), body))
    probe.__dict__.update(copy.copy(seam.scheduler.__dict__))
    return probe


def _batch_of(module: Any, args: tuple, kwargs: dict) -> int:
    """How many rows a network call works on."""
    for value in (*args, kwargs.get("sample"), kwargs.get("hidden_states"), *kwargs.values()):
        if isinstance(value, Tensor) and value.ndim > 1:
            return int(value.shape[0])
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor):
            return len(value)
    return 0


@contextmanager
def entered(
    pipe: Any, probe: Any, encoded: dict[str, Any], meter: Meter, branches: list[Tensor] | None = None,
    extra: dict[str, Any] | None = None,
) -> Iterator[Callable[..., Any]]:  # fmt: skip
    """The pipeline with our scheduler, a remembered prompt, its network counted, no progress bar; then as before.

    Gives the pipeline's own call, unbound: that of the object is closed to everybody else.

    Args:
        pipe: the pipeline.
        probe: from :func:`make_probe`.
        encoded: what was encoded before, which is added to.
        meter: counts the network's passes.
        branches: where the network's outputs are put, if they are wanted.
        extra: where is put what the call prepares to pass to ``step``, if that is wanted.

    Raises:
        PipelineBusy: where the pipeline is in the middle of a call.
    """
    thread = threading.get_ident()
    scheduler, bar = pipe.scheduler, getattr(pipe, "_progress_bar_config", None)
    encode, own_encode = getattr(pipe, "encode_prompt", None), pipe.__dict__.get("encode_prompt")

    def count(module: Any, args: tuple, kwargs: dict) -> None:
        if threading.get_ident() == thread:  # another pipeline may have the same network, in another thread
            meter.forwards += _batch_of(module, args, kwargs)

    networks = networks_of(pipe)

    def keep(module: Any, args: tuple, output: Any) -> None:
        one = output[0] if isinstance(output, (tuple, list)) else getattr(output, "sample", output)
        if branches is not None and isinstance(one, Tensor) and threading.get_ident() == thread:
            branches.append(one)

    with reserved(pipe) as call, _noted(pipe, extra):
        hooks = [net.register_forward_pre_hook(count, with_kwargs=True) for net in networks]
        if branches is not None:
            hooks += [net.register_forward_hook(keep) for net in networks]
        # Past DiffusionPipeline.__setattr__, which would write the probe's class into the pipeline's config.
        object.__setattr__(pipe, "scheduler", probe)
        if encode is not None:
            object.__setattr__(pipe, "encode_prompt", remembering(pipe, encode, encoded, meter))
        pipe.set_progress_bar_config(disable=True)
        try:
            yield call
        finally:
            for hook in hooks:
                hook.remove()
            object.__setattr__(pipe, "scheduler", scheduler)
            if own_encode is not None:
                object.__setattr__(pipe, "encode_prompt", own_encode)
            elif encode is not None:
                pipe.__dict__.pop("encode_prompt", None)
            if bar is None:
                pipe.__dict__.pop("_progress_bar_config", None)
            else:
                pipe._progress_bar_config = bar


@contextmanager
def _noted(pipe: Any, extra: dict[str, Any] | None) -> Iterator[None]:
    """Writes into ``extra`` what the pipeline prepares to pass to its scheduler's step."""
    prepare, own = getattr(pipe, "prepare_extra_step_kwargs", None), pipe.__dict__.get("prepare_extra_step_kwargs")
    if extra is None or prepare is None:
        yield
        return

    def noting(*args: Any, **kwargs: Any) -> Any:
        found = prepare(*args, **kwargs)
        extra.update(found)
        return found

    object.__setattr__(pipe, "prepare_extra_step_kwargs", noting)
    try:
        yield
    finally:
        if own is not None:
            object.__setattr__(pipe, "prepare_extra_step_kwargs", own)
        else:
            pipe.__dict__.pop("prepare_extra_step_kwargs", None)


def without_guidance(prediction: Tensor, outputs: Sequence[Tensor], scale: float) -> Tensor | None:
    """The network's prediction without the prompt, found in its own outputs behind a guided prediction.

    The guided prediction is ``u + scale (c - u)`` of two halves of one output, or of two outputs, in either order and
    with either sign; which it is, the prediction itself tells.

    Args:
        prediction: what the pipeline gave its scheduler, (batch, ...).
        outputs: what the network gave since the last step.
        scale: the guidance scale.

    Returns:
        u shaped and signed as ``prediction``, or None where no reading of the outputs explains the prediction.
    """
    halves: tuple[Tensor, ...] = tuple(outputs)
    if len(halves) == 1 and len(halves[0]) == 2 * len(prediction):
        halves = halves[0].chunk(2)
    if len(halves) != 2 or any(one.shape != prediction.shape for one in halves):
        return None
    near = CLOSE * float(prediction.detach().float().abs().max())
    for plain, guided in (halves, halves[::-1]):
        for sign in (1, -1):
            joined = sign * (plain + scale * (guided - plain))
            if float((joined - prediction).detach().float().abs().max()) <= near:
                return sign * plain
    return None


@contextmanager
def checkpointed(pipe: Any) -> Iterator[None]:
    """The pipeline's network with gradient checkpointing: only its inputs are held, its activations made again."""
    networks = networks_of(pipe)
    own = [net.__dict__.get("forward") for net in networks]

    def wrapped(forward: Callable[..., Any]) -> Callable[..., Any]:
        def again(*args: Any, **kwargs: Any) -> Any:
            return checkpoint(forward, *args, use_reentrant=False, **kwargs)

        return again

    for net in networks:
        object.__setattr__(net, "forward", wrapped(net.forward))
    try:
        yield
    finally:
        for net, before in zip(networks, own, strict=True):
            if before is None:
                net.__dict__.pop("forward", None)
            else:
                object.__setattr__(net, "forward", before)
