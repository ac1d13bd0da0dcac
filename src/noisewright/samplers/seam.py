"""The scheduler seam: for one public call of a pipeline, its scheduler is swapped for a probe.

The probe is a dynamic subclass of the scheduler's own class, so ``isinstance``, config and order hold, whose ``step``
receives the guided prediction. Nothing of the pipeline is copied, and it is left as it was found.
"""

from __future__ import annotations

import copy
import inspect
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import islice
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from noisewright.errors import UnsupportedPipeline
from noisewright.samplers.asleep import Answers, rows_of, sleeping
from noisewright.samplers.drawn import Draws
from noisewright.samplers.native import ASKED, private
from noisewright.samplers.prompts import remembering
from noisewright.samplers.protocol import Meter
from noisewright.samplers.turns import networks_of, replaced, reserved

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
        whole: whether the loop is the scheduler's own, of full length: it runs over ``times``, or, where these are
            None, over its own times, of which :attr:`first` to :attr:`last` are asked about.
        steps: what is said as the number of steps, where the number of times does not say it.
        first, last: the places in the loop from which to which the networks are asked; elsewhere they sleep, and states
            are passed on.
        entering: the state that the step before ``first`` gives back.
        watch: told (time, sample) at each place.
        walked: whether the call is only to see what the loop does.
        own_scale: whether the starting noise is multiplied with the scheduler's own ``init_noise_sigma``.
        in_place: what is given in place of the first thing that ``prepare_latents`` gives.
        begun: the first thing that it gave.
        ends_there: whether the call is left when it has given it, by :class:`Begun`.
        unit: the unit noise that the way began with, where it enters in the middle and the pipeline needs it again.
        draws: watches what is drawn there, or in the whole call where there is no ``prepare_latents``.
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
        self.whole = False
        self.steps: int | None = None
        self.first = 0
        self.last: float = math.inf
        self.entering: Tensor | None = None
        self.watch: Callable[[Any, Tensor], None] | None = None
        self.own_scale = False
        self.walked = False
        self.in_place: Tensor | None = None
        self.begun: Tensor | None = None
        self.ends_there = False
        self.draws: Draws | None = None
        self.unit: Tensor | None = None
        self._place = 0

    def restart(self) -> None:
        """Be as before the first call."""
        self._place, self.begun = 0, None
        if self.draws is not None:
            self.draws.restart()

    @property
    def place(self) -> int:
        """How many steps the loop has taken."""
        return self._place

    @property
    def asleep(self) -> bool:
        """Whether the networks need not work at this place of the loop."""
        return not self.first <= self._place < self.last

    def calls_back(self, place: int) -> bool:
        """Whether a function of the person's is called after the step at a place.

        A state is what a segment's last step gave: the function sees it in the segment that goes on from there, or in
        the loop that decodes it. What comes before a segment is gone through again, since the function may have changed
        more than the state. A way in one piece calls it once for each step.
        """
        if self.walked:
            return False
        decodes = self.first == self.last
        return place == self.last - 1 if decodes else place < self.last - 1

    def prepare(self, device: Any, given: dict[str, Any]) -> None:
        """Run ``set_timesteps`` on a copy of the scheduler, as the call asked for it."""
        base = type(self.scheduler)
        accepted = inspect.signature(base.set_timesteps).parameters
        if any(key not in accepted for key in ("timesteps", "sigmas") if key in given):
            raise ValueError(f"{base.__name__} takes no custom timesteps or sigmas")
        self.prepared = private(self.scheduler)
        where = {} if device is None else {"device": device}
        steps = [given.pop("num_inference_steps")] if "num_inference_steps" in given else []  # whatever its name there
        self.prepared.set_timesteps(*steps, **where, **given)
        self.mu = given.get("mu")

    def pass_on(self, time: Any, sample: Tensor) -> Tensor | None:
        """Go to the next place. Gives what the step here gives back where the networks slept, else None."""
        if self.watch is not None:
            self.watch(time, sample)
        here, slept = self._place, self.asleep
        self._place += 1
        if not slept:
            return None
        return self.entering.to(sample) if here == self.first - 1 and self.entering is not None else sample


class Begun(Exception):
    """A call was left where its starting state was there."""


class _StepOutput(dict):
    """What ``step`` returns where ``return_dict`` is true: an attribute and a key, as diffusers' outputs are."""

    def __init__(self, prev_sample: Tensor) -> None:
        super().__init__(prev_sample=prev_sample)
        self.prev_sample = self.pred_original_sample = self.denoised = prev_sample

    def __getitem__(self, key: Any) -> Any:
        return self.prev_sample if isinstance(key, int) else super().__getitem__(key)


def _step(seam: Seam, base: type) -> Callable[..., Any]:
    """The ``step`` of a stand-in, with the signature of its own."""
    parameters = inspect.signature(base.step)  # type: ignore[attr-defined]
    rest = [one.name for one in parameters.parameters.values() if one.kind is one.VAR_KEYWORD]
    missing = [name for name in ASKED if name not in parameters.parameters]

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if missing and not rest:
            found = ", ".join(list(parameters.parameters)[1:])
            raise UnsupportedPipeline(f"expected step({', '.join(ASKED)}) of {base.__name__}, got step({found})")
        given = dict(parameters.bind(self, *args, **kwargs).arguments)
        for name in rest:
            given.update(given.pop(name, {}))
        prediction, time, sample = (given.pop(name, None) for name in ASKED)
        as_dict = given.get("return_dict", True)
        after = seam.pass_on(time, sample)
        if seam.whole and "_step_index" in vars(self):  # what it adds noise by, after the first step
            self._step_index = int(vars(self).get("_begin_index") or 0) + seam.place
        if after is None:
            if seam.on_step is None:
                raise UnsupportedPipeline(f"expected no step in a call of zero steps, got one from {base.__name__}")
            after = seam.on_step(prediction, time, sample, dict(islice(given.items(), 1, None)))  # all but self
        if not isinstance(after, Tensor):  # of the scheduler itself; some pipelines take its second thing at one step
            return after * 2 if isinstance(after, tuple) and len(after) == 1 else after
        return _StepOutput(after) if as_dict else (after, after)

    step.__signature__ = parameters  # type: ignore[attr-defined]
    return step


def make_probe(seam: Seam) -> Any:
    """A stand-in for the scheduler: its class, its config and its attributes, but our steps."""
    base = type(seam.scheduler)
    if not hasattr(base, "step"):
        raise UnsupportedPipeline(f"expected a scheduler with a step, got {base.__name__}")
    # The named parameters stay: pipelines read these signatures to learn what they may pass.
    def set_timesteps(
        self: Any, num_inference_steps: int | None = None, device: Any = None, timesteps: Any = None,
        sigmas: Any = None, mu: float | None = None, **more: Any,
    ) -> None:  # fmt: skip
        if seam.times is None or seam.whole:
            given = {"num_inference_steps": num_inference_steps, "timesteps": timesteps, "sigmas": sigmas, "mu": mu}
            seam.prepare(device, {key: value for key, value in {**given, **more}.items() if value is not None})
            self.timesteps = seam.prepared.timesteps[:0]
        if seam.whole:
            self.__dict__.update(seam.prepared.__dict__)
        if seam.times is not None:
            self.timesteps = seam.times.to(device) if device is not None else seam.times
        self.num_inference_steps = len(self.timesteps)

    def scale_model_input(self: Any, sample: Tensor, timestep: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        return sample if seam.own_input is None or seam.asleep else seam.own_input(sample, timestep)

    def init_noise_sigma(self: Any) -> float:
        seam.scales = True
        own = seam.prepared if seam.prepared is not None else seam.scheduler
        return float(getattr(own, "init_noise_sigma", 1.0)) if seam.own_scale else seam.init_scale

    def set_begin_index(self: Any, begin_index: int = 0) -> None:
        if seam.whole and hasattr(base, "set_begin_index"):
            base.set_begin_index(self, begin_index)

    body = {
        "set_timesteps": set_timesteps,
        "scale_model_input": scale_model_input,
        "step": _step(seam, base),
        "set_begin_index": set_begin_index,
        "init_noise_sigma": property(init_noise_sigma, lambda self, value: None),
        "order": int(getattr(seam.scheduler, "order", 1)) if seam.whole else 1,
    }
    probe: Any = object.__new__(type(base.__name__, (base,), body))
    probe.__dict__.update(copy.copy(seam.scheduler.__dict__))
    return probe


@contextmanager
def entered(
    pipe: Any, seam: Seam, encoded: dict[str, Any], meter: Meter, answers: Answers
) -> Iterator[Callable[..., Any]]:  # fmt: skip
    """The pipeline with our scheduler, a remembered prompt, its network counted, no progress bar; then as before.

    Gives the pipeline's own call, unbound: that of the object is closed to everybody else.

    Args:
        pipe: the pipeline.
        seam: what the call should do.
        encoded: what was encoded before, which is added to.
        meter: counts the network's passes.
        answers: what the networks' outputs look like, which is added to.

    Raises:
        PipelineBusy: where the pipeline is in the middle of a call.
    """
    seam.restart()
    thread, probe, branches = threading.get_ident(), make_probe(seam), seam.branches
    scheduler, bar = pipe.scheduler, getattr(pipe, "_progress_bar_config", None)

    def count(module: Any, args: tuple, kwargs: dict) -> None:
        if threading.get_ident() != thread:  # another pipeline may have the same network, in another thread
            return
        if not seam.asleep:  # what it is asked once to see what its answers look like is billed to nobody
            meter.forwards += rows_of(args, kwargs)

    networks = networks_of(pipe)

    def keep(module: Any, args: tuple, output: Any) -> None:
        one = output[0] if isinstance(output, (tuple, list)) else getattr(output, "sample", output)
        if branches is not None and isinstance(one, Tensor) and threading.get_ident() == thread:
            branches.append(one)

    extra = seam.extra if seam.times is None or seam.whole else None
    dozing = sleeping(pipe, lambda: seam.asleep, answers) if seam.whole else nullcontext()
    remembered = replaced(pipe, "encode_prompt", lambda own: remembering(pipe, own, encoded, meter))
    with reserved(pipe) as call, remembered, _noted(pipe, extra), _beginning(pipe, seam), dozing:
        hooks = [net.register_forward_pre_hook(count, with_kwargs=True) for net in networks]
        if branches is not None:
            hooks += [net.register_forward_hook(keep) for net in networks]
        # Past DiffusionPipeline.__setattr__, which would write the probe's class into the pipeline's config.
        object.__setattr__(pipe, "scheduler", probe)
        pipe.set_progress_bar_config(disable=True)
        try:
            yield call
        finally:
            for hook in hooks:
                hook.remove()
            object.__setattr__(pipe, "scheduler", scheduler)
            if bar is None:
                pipe.__dict__.pop("_progress_bar_config", None)
            else:
                pipe._progress_bar_config = bar


@contextmanager
def _beginning(pipe: Any, seam: Seam) -> Iterator[None]:
    """The pipeline's ``prepare_latents``, watched: what it draws and gives, or another state in place of that."""
    if getattr(pipe, "prepare_latents", None) is None:
        with seam.draws or nullcontext():
            yield
        return

    def watched(prepare: Callable[..., Any]) -> Callable[..., Any]:
        def begin(*args: Any, **kwargs: Any) -> Any:
            with seam.draws or nullcontext():
                found = prepare(*args, **kwargs)
            several = isinstance(found, (tuple, list))
            first = found[0] if several and found else found
            seam.begun = first if isinstance(first, Tensor) else None  # a dictionary, say: the first step tells
            if seam.ends_there and seam.begun is not None:
                raise Begun
            if seam.in_place is None or seam.begun is None:
                return found
            state = seam.in_place.to(seam.begun)
            return (state, *found[1:]) if several else state

        return begin

    with replaced(pipe, "prepare_latents", watched):
        yield


@contextmanager
def _noted(pipe: Any, extra: dict[str, Any] | None) -> Iterator[None]:
    """Writes into ``extra`` what the pipeline prepares to pass to its scheduler's step."""
    if extra is None:
        yield
        return

    def noting(prepare: Callable[..., Any]) -> Callable[..., Any]:
        def prepared(*args: Any, **kwargs: Any) -> Any:
            found = prepare(*args, **kwargs)
            extra.update(found)
            return found

        return prepared

    with replaced(pipe, "prepare_extra_step_kwargs", noting):
        yield


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
    def again(forward: Callable[..., Any]) -> Callable[..., Any]:
        def checkpointing(*args: Any, **kwargs: Any) -> Any:
            return checkpoint(forward, *args, use_reentrant=False, **kwargs)

        return checkpointing

    with ExitStack() as stack:
        for net in networks_of(pipe):
            stack.enter_context(replaced(net, "forward", again))
        yield
