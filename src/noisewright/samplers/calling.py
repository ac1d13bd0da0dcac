"""One public call of a pipeline through the seam, with its prompt and settings, alone in there."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from noisewright.errors import UnsupportedPipeline
from noisewright.outside.messages import short
from noisewright.samplers.asleep import Answers
from noisewright.samplers.chance import unaided
from noisewright.samplers.condition import placed_embeds
from noisewright.samplers.drawn import Draws
from noisewright.samplers.entry import CHAINED, Entry
from noisewright.samplers.identity import copied
from noisewright.samplers.protocol import Meter
from noisewright.samplers.seam import Begun, Seam, entered
from noisewright.samplers.turns import turn

Output = TypeVar("Output")


@dataclass
class Caller:
    """Calls a pipeline with one prompt and its settings; shared by all samplers of them, whatever their steps.

    Attributes:
        pipe: that is called.
        kind: the class that the person knows, for messages.
        prompt: what verifiers are told, and, without embeddings, what is encoded.
        class_label: the number of the class, for a class-conditional pipeline.
        settings: the arguments of its call; None means not given but for the ``explicit`` ones.
        explicit: the names of further arguments.
        meter: counts.
        encoded: what text encoders said, by what they were asked.
        drawing: by verb, whether it draws from the process's own generators, where that was proved not to matter.
        warnings: what the user should know; may grow.
        flags: for each image of the last call, whether a safety checker blacked it out; empty without one.
        entry: how states get in and out; as most pipelines have it until it was read.
        whole: whether segments are run in loops of full length, whatever the loop looks like.
        walks: whether the loop is to be walked through before it is entered, whatever it looks like.
        answers: what the networks' outputs look like, once they were asked.
        within: what each call is made within, where it is of a draft.
        reached: where the last way by a solver of ours is: the index, the states and the solver's; None before a step.
        held: where the pipeline computes, while it is alone in there: to ask is to walk through all its modules.
    """

    pipe: Any
    kind: str
    prompt: str
    class_label: int | None
    settings: dict[str, Any]
    explicit: tuple[str, ...]
    meter: Meter = field(default_factory=Meter)
    encoded: dict[str, Any] = field(default_factory=dict)
    drawing: dict[str, bool] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    flags: list[bool] = field(default_factory=list)
    reached: tuple[int, Tensor, Any] | None = None
    entry: Entry = field(default_factory=Entry)
    whole: bool = False
    walks: bool = False
    answers: Answers = field(default_factory=dict)
    within: Callable[[Any, Meter], AbstractContextManager[None]] | None = None
    held: torch.device | None = field(default=None, init=False)

    @property
    def device(self) -> torch.device:
        if self.held is not None:
            return self.held
        found = torch.device(getattr(self.pipe, "_execution_device", None) or self.pipe.device)
        return torch.device("cpu") if found.type == "cpu" else found

    def alone(self, work: Callable[[], Output], verb: str, phase: str | None = None) -> Output:
        """Do ``work`` inside the pipeline, alone in there, and without help of the process's own random numbers."""
        with turn(self.pipe), self.meter.phase(phase) if phase else nullcontext(), self._in_place():
            return unaided(work, self.kind, self.drawing, verb, self.say)

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        """Ask once where the pipeline computes."""
        before = self.held
        self.held = self.device
        try:
            yield
        finally:
            self.held = before

    def say(self, text: str) -> None:
        """Add a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def call(
        self, seam: Seam, x: Tensor | None, *, output_type: str = "latent", seeds: Sequence[int | None] | None = None,
        generators: Sequence[torch.Generator] | None = None, batch: int | None = None, traced: bool = False,
    ) -> Tensor:  # fmt: skip
        """What the pipeline gives in one call.

        Args:
            seam: what the call should do.
            x: states to begin at, (batch, ...), or None for the pipeline's own noise.
            output_type: ``latent`` or ``pt``.
            seeds: of each image's own generator, for what is drawn beside the starting noise; None counts as 0.
            generators: one an image, in place of those.
            batch: how many images, where ``x`` does not say it.
            traced: whether a graph of gradients is wanted.

        Raises:
            Begun: where the call was to be left once its starting state is there.
            UnsupportedPipeline: in one line.
        """
        count = len(x) if x is not None else int(batch or 1)
        draws = list(generators) if generators is not None else self._generators(seeds, count, x)
        given = self._arguments(seam, x, count, output_type, draws)
        around = nullcontext() if self.within is None else self.within(self.pipe, self.meter)
        with around, entered(self.pipe, seam, self.encoded, self.meter, self.answers) as call:
            try:
                output = (getattr(call, "__wrapped__", call) if traced else call)(self.pipe, **given)
            except UnboundLocalError as error:  # what its loop would have set
                raise NoStepToTake(f"{self.kind} cannot be called with no step to take: {error}") from error
        flags = getattr(output, "nsfw_content_detected", None) or getattr(output, "nsfw_detected", None) or []
        self.flags = [bool(one) for one in flags]
        images = getattr(output, "images", None)
        if images is None:
            images = getattr(output, "image", None)
        if isinstance(images, np.ndarray) and images.ndim == 4:  # some pipelines know no tensors of images
            images = torch.from_numpy(images).permute(0, 3, 1, 2)
        if not isinstance(images, Tensor):
            raise UnsupportedPipeline(
                f"expected tensors for output_type={output_type!r}, got {type(images).__name__} from "
                f"{type(self.pipe).__name__}"
            )
        return images

    def _generators(
        self, seeds: Sequence[int | None] | None, count: int, x: Tensor | None
    ) -> list[torch.Generator] | None:
        """A generator an image, where a call draws; None where it does not."""
        if x is not None and self.entry.by == "latents" and not self.entry.draws:
            return None
        return [torch.Generator("cpu").manual_seed(int(seed or 0)) for seed in seeds or [0] * count]

    def _arguments(
        self, seam: Seam, x: Tensor | None, count: int, output_type: str, generators: list[torch.Generator] | None
    ) -> dict[str, Any]:
        """The arguments of one call."""
        accepted = inspect.signature(type(self.pipe).__call__).parameters
        given: dict[str, Any] = {
            key: copied(value) for key, value in self.settings.items() if value is not None or key in self.explicit
        }
        given["output_type"] = output_type
        given["num_inference_steps"] = seam.steps or max(1, 0 if seam.times is None else len(seam.times))
        embeds = placed_embeds(given, self.device, self.pipe.dtype)
        given.update(embeds)
        if self.class_label is not None:
            given["class_labels"] = [self.class_label] * count
        elif "num_images_per_prompt" in accepted:
            given["num_images_per_prompt"] = count
            given.update({"prompt": self.prompt} if "prompt" in accepted and "prompt_embeds" not in embeds else {})
        else:
            given.update({name: _repeated(value, count) for name, value in embeds.items()})
            given.update({} if "prompt_embeds" in embeds else {"prompt": [self.prompt] * count})
        if generators is not None:
            given["generator"] = generators
        given.update(functions_called(seam, given))
        if x is not None:
            self._enter(seam, x, given, generators)
        return given

    def _enter(
        self, seam: Seam, x: Tensor, given: dict[str, Any], generators: list[torch.Generator] | None
    ) -> None:
        """Put states where the call takes them."""
        entry, dtype = self.entry, self.entry.dtype or self.pipe.dtype
        begins = seam.first == 0  # else they enter later, and what the loop begins with does not matter
        if entry.by == "latents":
            given["latents"] = (x / entry.scale if entry.scale != 1 else x).to(self.device, dtype)
        elif entry.by == "prepared":
            seam.in_place = x / entry.scale if entry.scale != 1 else x
        elif begins or seam.unit is not None:
            seam.draws = Draws(generators or [], entry.place, x if begins else seam.unit)
        if not begins:
            seam.entering = x

    def count(self, prediction: Tensor, x: Tensor) -> None:
        """Count a guided evaluation.

        Raises:
            UnsupportedPipeline: where it is not one for each image.
        """
        if prediction.shape[0] != x.shape[0]:
            raise UnsupportedPipeline(
                f"{type(self.pipe).__name__} gives scheduler.step {prediction.shape[0]} predictions for {x.shape[0]} "
                "images: guidance is applied elsewhere, which needs an adapter"
            )
        self.meter.count(int(x.shape[0]))

    def said(self, steps: int) -> str:
        """The settings as a message has them."""
        given = {"num_inference_steps": steps, **{key: one for key, one in self.settings.items() if one is not None}}
        return ", ".join(f"{key} = {short(value)}" for key, value in given.items())


class NoStepToTake(UnsupportedPipeline):
    """A pipeline's call cannot be made without a step."""


def begun(caller: Caller, seam: Seam, generators: Sequence[torch.Generator]) -> Tensor | None:
    """Call a pipeline until its starting state is there: the seam then holds it, and what was drawn for it.

    That is when ``prepare_latents`` gave it; where that is not called, when the first step is given it, which is then
    returned.

    Raises:
        UnsupportedPipeline: where it comes to neither.
    """
    seam.ends_there = True
    seam.draws = seam.draws or Draws(generators)

    def first_step(time: Any, sample: Tensor) -> None:
        found.append(sample)
        raise Begun

    found: list[Tensor] = []
    seam.first, seam.watch = sys.maxsize, first_step  # asleep
    try:
        caller.call(seam, None, generators=generators, batch=len(generators))
    except Begun:
        return found[0] if found else None
    raise UnsupportedPipeline(f"{caller.kind} takes no step, where its noise could be read")


def functions_called(seam: Seam, given: dict[str, Any]) -> dict[str, Any]:
    """The person's own functions among arguments, called after the steps that a segment goes on from, and no others."""
    found: dict[str, Any] = {}
    for name in (one for one in CHAINED if callable(given.get(one))):
        own = given[name]
        found[name] = _now_and_then(seam, own, gives=name == "callback_on_step_end")
        if isinstance(own, WantsTensors) and "callback_on_step_end_tensor_inputs" not in given:
            found["callback_on_step_end_tensor_inputs"] = list(own.tensor_inputs)
    return found


@runtime_checkable
class WantsTensors(Protocol):
    """A callback of diffusers that says which of the loop's tensors it is to see."""

    @property
    def tensor_inputs(self) -> Sequence[str]: ...


def _now_and_then(seam: Seam, own: Callable[..., Any], *, gives: bool) -> Callable[..., Any]:
    """A function that a pipeline calls after each step: (pipe, place, time, tensors) or (place, time, state)."""

    def called(*args: Any) -> Any:
        if seam.calls_back(seam.place - 1):
            return own(*args)
        return {} if gives else None

    return called


def _repeated(embeds: Any, count: int) -> Any:
    """Embeddings of one prompt for several."""
    if isinstance(embeds, Tensor):
        return embeds.repeat(count, *(1 for _ in embeds.shape[1:]))
    return type(embeds)(one for _ in range(count) for one in embeds)
