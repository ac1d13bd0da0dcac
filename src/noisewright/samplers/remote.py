"""Whole trajectories by seed, made by a server of images: no state is known on the way, and none can be given.

A search that draws starting noises by seed, and leaves them alone, needs no more (``random``, best of N). Whether the
server's seeds mean anything is found out: the first one is asked for twice.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisewright.diffusion.schedule import Schedule
from noisewright.errors import PartlyMade, RunInterrupted, UnsupportedPipeline
from noisewright.outside.bounds import MOST_STEPS, at_most
from noisewright.outside.texts import clean
from noisewright.samplers.image_server import ImageServer, RefusedError
from noisewright.samplers.mixture import flow_schedule
from noisewright.samplers.protocol import Meter, StepNoise
from noisewright.verifiers.posting import Connections

AT_ONCE = 4
"""Requests side by side where nothing else is said."""

DIGITS, BASE = 4, 2**16
"""A seed as a state: so many numbers, each exact in float32."""

SAME = 3.0
"""Mean difference in steps of 1/255 within which two images of one seed are the same but for rounding."""

MOST_REFUSED = 16
"""Images in a row that a server may refuse: then it is not about them."""

FIELDS = ("prompt", "n", "stream", "partial_images", "response_format", "model", "seed", "size", "search")
"""Fields of a request that are set here, or mean more than one image."""


@dataclass
class _Known:
    """What was found out of a server, shared by samplers of another number of steps.

    Attributes:
        size: height and width of its images.
        refused: how many images in a row it would not make.
        seeds_tried: whether it is known what its seeds are worth.
        made: images by seed of a micro-batch of which others failed.
        warnings: what the person should know.
    """

    size: tuple[int, int] | None = None
    refused: int = 0
    seeds_tried: bool = False
    made: dict[tuple[int, int | None], np.ndarray] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def remote(
    server: ImageServer,
    prompt: str | None,
    *,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    negative_prompt: str | None = None,
    height: int | None = None,
    width: int | None = None,
    concurrency: int | None = None,
    pipe_kwargs: Mapping[str, Any] | None = None,
) -> RemoteSampler:
    """The :class:`RemoteSampler` of a server with a prompt and settings; what is None is the server's own.

    Raises:
        ValueError: on a field of a request that is not a person's to set.
    """
    fields = dict(pipe_kwargs or {})
    for name in (*fields, *(fields.get("extra_body") or {})):
        if name in FIELDS:
            raise ValueError(f"expected no {name} for an image server, which noisewright sets itself")
    at_most(MOST_STEPS, num_inference_steps=num_inference_steps)
    given = {
        "guidance_scale": guidance_scale, "negative_prompt": negative_prompt, "height": height, "width": width,
        **fields,
    }  # fmt: skip
    return RemoteSampler(server, str(prompt), num_inference_steps, given, concurrency or AT_ONCE)


class _Described(dict[str, Any]):
    """What a sampler is, which can be compared with what was recorded when its server knew less of its model.

    Args:
        server: which is asked.
        said: the description.
    """

    def __init__(self, server: ImageServer, said: Mapping[str, Any]) -> None:
        super().__init__(said)
        self._server = server

    def as_recorded(self, recorded: Mapping[str, Any]) -> dict[str, Any]:
        """This description, with what the ``recorded`` one has of the same model of the same server."""
        if not self._server.is_same(recorded.get("fingerprint"), recorded.get("served")):
            return dict(self)
        return {**self, "fingerprint": recorded["fingerprint"], "served": recorded["served"]}


class RemoteSampler:
    """A :class:`noisewright.samplers.protocol.Sampler` that knows the beginning and the end of a way, and no more.

    A state at index 0 is the seed itself; at the last one it is the image.

    Args:
        server: which is asked.
        prompt: what to show.
        steps: denoising steps to ask for; None leaves them to the server, and counts an image as one NFE.
        fields: of the server's call, by name; None is the server's own.
        concurrency: requests side by side.

    Attributes:
        warnings: what the person should know, which shows on the way.
        most_at_once: as many images are a micro-batch as are made side by side.
    """

    stochastic = False
    remembers = False
    can_advance = False
    can_preview = False
    can_split = False
    seeds_alone = True
    prediction = "whole images"

    def __init__(
        self, server: ImageServer, prompt: str, steps: int | None, fields: Mapping[str, Any], concurrency: int
    ) -> None:
        self.server = server
        self.prompt = prompt
        self.meter = Meter()
        self.concurrency = concurrency
        self.most_at_once: int | None = concurrency
        self._fields = {name: value for name, value in fields.items() if value is not None}
        self._known = _Known()
        self._set_steps(steps)
        if "fingerprint" not in server.said:
            self._warn("what runs there nobody knows from here: the fingerprint is of its address and of what it says")
        if steps is None:
            self._warn("the number of its steps is not known: an image counts as one NFE")

    def _set_steps(self, steps: int | None) -> None:
        self._steps = steps
        self.schedule: Schedule = flow_schedule(steps or 1)  # which is counted, and of which no level is used

    @property
    def warnings(self) -> list[str]:
        return self._known.warnings

    @property
    def description(self) -> dict[str, Any]:
        return _Described(self.server, {
            "model": self.server.name,
            "fingerprint": self.server.fingerprint,
            "served": dict(self.server.said),
            "prompt": self.prompt,
            "num_inference_steps": self.schedule.steps,
            "steps_known": self._steps is not None,
            "solver": "the server's",
            **self._fields,
        })  # fmt: skip

    def nfe(self, start: int, stop: int) -> int:
        return stop - start

    def with_steps(self, steps: int) -> RemoteSampler:
        if self._steps is None:
            raise ValueError(f"expected num_inference_steps for {clean(self.server.name)} beside a number of steps for "
                             f"the search, got none: its own is not known")  # fmt: skip
        other = copy.copy(self)  # shares the meter, and what was found out
        other._set_steps(steps)
        return other

    def noise(self, seeds: Sequence[int]) -> Tensor:
        """The seeds themselves, (batch, 4): digits to the base 65536."""
        digits = [[seed // BASE**place % BASE for place in range(DIGITS)] for seed in seeds]
        return torch.tensor(digits, dtype=torch.float32).reshape(len(seeds), DIGITS)

    def denoise(
        self, x: Tensor, start: int, stop: int, state: Any = None, noise: StepNoise | None = None,
        seeds: Sequence[int | None] | None = None,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        if (start, stop) != (0, self.schedule.steps):
            raise UnsupportedPipeline(f"expected whole images of {self._name}, got the steps {start} to {stop}")
        with self.meter.phase("denoise"):
            images = self._images(self._seeds_of(x))
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255, None

    def predict(self, x: Tensor, index: int) -> Tensor:
        raise UnsupportedPipeline(f"expected no preview of {self._name}, which gives whole images alone")

    def advance(
        self, x: Tensor, index: int, clean: Tensor, state: Any = None, noise: StepNoise | None = None
    ) -> tuple[Tensor, Any]:
        raise UnsupportedPipeline(f"expected no single step of {self._name}, which gives whole images alone")

    def decode(self, x: Tensor) -> Tensor:
        """The images, which states at the end are."""
        with self.meter.phase("decode"):
            self.meter.decodes += len(x)
            return x

    # Asking

    @property
    def _name(self) -> str:
        return clean(self.server.name)

    def _seeds_of(self, x: Tensor) -> list[int]:
        """The seeds that states at index 0 are.

        Raises:
            UnsupportedPipeline: where they were moved, as a server takes no noise.
        """
        rows = [[int(value) if float(value).is_integer() else -1 for value in row] for row in x.flatten(1).tolist()]
        if any(len(row) != DIGITS or not all(0 <= one < BASE for one in row) for row in rows):
            raise UnsupportedPipeline(f"expected starting noises of seeds for {self._name}, which takes no other noise")
        return [sum(digit * BASE**place for place, digit in enumerate(row)) for row in rows]

    def _images(self, seeds: Sequence[int]) -> list[np.ndarray]:
        """An image (height, width, 3) of float32 in [0, 255] for each seed; NaN for one that the server refuses."""
        if all((seed, self._steps) in self._known.made for seed in seeds):  # others of their micro-batch failed
            self._pay(len(seeds))
            return [self._known.made.pop((seed, self._steps)) for seed in seeds]
        twice = [] if self._known.seeds_tried else list(seeds[:1])
        found: list[Any] = []
        with closing(side_by_side(self._image, [*seeds, *twice], self.concurrency)) as answers:
            for one in answers:
                found.append(one)
                if len(found) <= len(seeds) and not _failed(one):
                    self._count()
        self._keep(seeds, found)
        made = [one for one in found if not isinstance(one, Exception)]
        if not made and self._known.size is None:
            raise ValueError(str(found[0]))
        self._known.refused = 0 if made else self._known.refused + len(found)
        if self._known.refused >= MOST_REFUSED:
            raise RunInterrupted(f"{found[0]}: so it was with the last {self._known.refused} images")
        for one in made:
            self._check_size(one)
        self._try_seeds(seeds, found[: len(seeds)], found[len(seeds) :])
        return [self._none(one) if isinstance(one, Exception) else one for one in found[: len(seeds)]]

    def _keep(self, seeds: Sequence[int], found: Sequence[Any]) -> None:
        """Raise what some of a micro-batch failed with, and keep the others: they are given when they are asked for."""
        error = next(filter(_failed, found), None)
        if error is None:
            return
        made = {seed: one for seed, one in zip(seeds, found, strict=False) if not isinstance(one, Exception)}
        if not made or isinstance(error, UnsupportedPipeline):
            raise error
        for one in made.values():
            self._check_size(one)
        self._known.made = {(seed, self._steps): one for seed, one in made.items()}
        self._pay(-sum(not _failed(one) for one in found[: len(seeds)]))  # when they are asked for
        raise PartlyMade(str(error), tuple(made)) from error

    def _image(self, seed: int, connections: Connections) -> np.ndarray:
        steps = {} if self._steps is None else {"num_inference_steps": self._steps}
        fields = {name: one for name, one in self._fields.items() if name not in ("height", "width", "extra_body")}
        if "height" in self._fields and "width" in self._fields:
            fields["size"] = f"{self._fields['width']}x{self._fields['height']}"
        extra = self._fields.get("extra_body") or {}
        asked_for = {"prompt": self.prompt, "seed": seed, **steps, **fields, **extra}
        return self.server.image(asked_for, connections).astype(np.float32)

    def _count(self) -> None:
        self._pay(1)
        self.meter.tell(self.schedule.steps)

    def _pay(self, images: int) -> None:
        self.meter.nfe += images * self.schedule.steps
        self.meter.forwards += images * self.schedule.steps

    def _none(self, error: Exception) -> np.ndarray:
        """In the place of an image that there is not: it is shown to no verifier, and ranks last."""
        self._warn(f"no image of some seeds: {error}")
        assert self._known.size is not None  # noqa: S101 - one was made
        return np.full((*self._known.size, 3), np.nan, np.float32)

    def _check_size(self, image: np.ndarray) -> None:
        height, width = (int(side) for side in image.shape[:2])
        wanted = int(self._fields.get("height", height)), int(self._fields.get("width", width))
        known = self._known.size or wanted
        if not (height, width) == wanted == known:
            right = wanted if (height, width) != wanted else known
            raise ValueError(f"expected images of {right[1]}x{right[0]} from {self._name}, got {width}x{height}")
        self._known.size = known

    def _try_seeds(self, seeds: Sequence[int], found: Sequence[Any], again: Sequence[Any]) -> None:
        """Find out, once, whether a seed is an image, and another seed another one."""
        if self._known.seeds_tried or not again or any(isinstance(one, Exception) for one in (found[0], again[0])):
            return
        self._known.seeds_tried = True
        apart = float(np.abs(found[0] - again[0]).mean())
        others = [one for seed, one in zip(seeds, found, strict=True)
                  if seed != seeds[0] and not isinstance(one, Exception)]  # fmt: skip
        if "seed" in self.server.refuses:
            self._warn("it takes no seed: no image of it can be made again, and the seeds of this run say nothing")
        elif apart > SAME:
            self._warn(f"it ignores seed: seed {seeds[0]} gave two images ({apart:.3g}/255 apart on average), so that "
                       "none can be made again, and the seeds of this run say nothing")  # fmt: skip
        elif others and all(np.array_equal(found[0], one) for one in others):
            self._warn("it gives the same image whatever the seed is: there is nothing to search")
        elif apart > 0:
            self._warn(f"seed {seeds[0]} gave two images that are the same but for {apart:.2g}/255 on average: what is "
                       "made again will not be so to the bit")  # fmt: skip

    def _warn(self, text: str) -> None:
        line = f"{self._name}: {clean(text, 600)}"
        if line not in self._known.warnings:
            self._known.warnings.append(line)


def _failed(one: Any) -> bool:
    """Whether an answer is an error that is not about its image alone."""
    return isinstance(one, Exception) and not isinstance(one, RefusedError)


def side_by_side(
    work: Callable[[int, Connections], Any], rows: Sequence[int], workers: int
) -> Generator[Any, None, None]:
    """What ``work`` gives for each row, or the Exception that it raised, in their order; several at once.

    Where nobody wants the rest (Ctrl-C, an error) no further row is begun, and what is in flight is ended.
    """
    answers: list[Future[Any]] = [Future() for _ in rows]
    todo: SimpleQueue[int] = SimpleQueue()
    for place in range(len(rows)):
        todo.put(place)
    held = [Connections() for _ in rows]

    def take() -> None:
        with suppress(Empty):
            while True:
                place = todo.get_nowait()
                try:
                    answers[place].set_result(work(rows[place], held[place]))
                except Exception as error:
                    answers[place].set_result(error)

    # Not an executor, whose threads are waited for when Python ends.
    for _ in range(min(workers, len(rows))):
        threading.Thread(target=take, name="noisewright-images", daemon=True).start()
    try:
        for one in answers:
            yield one.result()
    finally:
        for connections in held:
            connections.end()
