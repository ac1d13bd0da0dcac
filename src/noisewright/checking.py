"""What a person can rely on with a pipeline: :func:`check`, which searches nothing and measures everything."""

from __future__ import annotations

import inspect
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from noisewright import registry
from noisewright.errors import UnsupportedPipeline
from noisewright.outside import busy
from noisewright.outside.texts import LONGEST, clean
from noisewright.planning.conditions import condition_of
from noisewright.planning.models import load_requested
from noisewright.planning.plans import recordable
from noisewright.planning.samplers import call_arguments, make_sampler
from noisewright.planning.sizes import keep_size, key_of_size
from noisewright.request import Request
from noisewright.samplers.classes import is_class_conditional
from noisewright.samplers.measuring import measured
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.quiet import quiet
from noisewright.samplers.speeds import Speed
from noisewright.samplers.verdict import Verdict
from noisewright.samplers.verdicts import about_pipeline, key_of, proved_now, versions_of_libraries

PROMPT = "a red circle and a blue square"
"""Of a pipeline that takes one, where none is given."""

SECONDS = 60.0
"""About how long batches are tried."""

SETTINGS = (
    "class_label", "num_inference_steps", "guidance_scale", "negative_prompt", "height", "width", "device", "dtype",
    "variant", "config", "loras",
)  # fmt: skip
"""Fields of a request that say what a pipeline is called with, and how it is loaded."""

OWN_MODEL = "(a directory or file of one's own)"


@dataclass(frozen=True)
class Checked:
    """What holds of a pipeline with one kind of call.

    It is what a bug is filed with: it holds no texts that were given, no directories and no keys.

    Attributes:
        model: a bundled model or a hub id; of others only that it is one of a person's own.
        pipeline: the class.
        refused: why it cannot be searched and what to do; None where it can.
        verdict: the short proof that every search begins with (:class:`noisewright.samplers.verdict.Verdict`), as JSON;
            None where not even that could be made.
        measured: at full steps (:func:`noisewright.samplers.measuring.measured`); None where it is refused.
        about: the pipeline's components, scheduler, settings, dtype and device.
        versions: of noisewright, Python and the libraries.
        machine: the system, the processor's cores and threads, the accelerator.
        warnings: what the sampler says of the settings.
    """

    model: str
    pipeline: str
    refused: str | None = None
    verdict: Mapping[str, Any] | None = None
    measured: Mapping[str, Any] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def can_be_searched(self) -> bool:
        return self.refused is None

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {"can_be_searched": self.can_be_searched, **found, "warnings": list(self.warnings)}

    def rows(self) -> list[tuple[str, str, str]]:
        """The table for people: what, whether it holds (yes, no, - for what is not known), and more of it."""
        return [] if self.measured is None or self.verdict is None else _rows(self.verdict, self.measured)


def check(
    pipe: Any,
    prompt: str | None = None,
    *,
    progress: Callable[[str], None] | None = None,
    seconds: float = SECONDS,
    **settings: Any,
) -> Checked:
    """Hold a pipeline to its own plain call, and measure what a search relies on, at full steps.

    The pipeline is left as it was. That costs about ten images, and the time for trying batches; the short proof among
    it is kept, so that searches need none.

    Args:
        pipe: as :func:`noisewright.search` takes it: a pipeline, a directory, a checkpoint file or a model id.
        prompt: by default some prompt, or class 0 of a class-conditional pipeline.
        progress: called with what is done now.
        seconds: about how long batches are tried; 0 for none above one image.
        settings: those of :func:`noisewright.search` that say what the pipeline is called with (``num_inference_steps,
            guidance_scale, negative_prompt, height, width, class_label``) and how it is loaded (``device, dtype,
            variant, config, loras``); others are arguments of the pipeline's call.

    Raises:
        ValueError, TypeError: wrong use in one line, and what a plain call says that fails.
    """
    tell = progress or (lambda text: None)
    if not (isinstance(seconds, (int, float)) and 0 <= seconds < float("inf")):
        raise ValueError(f"expected seconds of at least 0, got {seconds}")
    request, given, arguments = _request(pipe, prompt, settings)
    with quiet():
        tell("loading ...")
        live = load_requested(request) if given is None else given
        info = registry.card(getattr(live, "name_or_path", None))
        request = _with_condition(request, live)
        warnings: list[str] = []
        try:
            sampler = _sampler(request, live, info, arguments, warnings)
        except UnsupportedPipeline as error:
            return _checked(live, request, str(error), warnings=warnings)
        tell("a short proof ...")
        verdict = proved_now(sampler)
        if verdict.refused is not None:
            return _checked(live, request, verdict.refused, sampler, verdict, warnings=warnings)
        found = measured(sampler, verdict, tell, seconds)
        _keep_fastest(sampler, found["speed"])
        return _checked(live, request, None, sampler, verdict, found, warnings)


def _keep_fastest(sampler: PipelineSampler, speed: Mapping[str, Any]) -> None:
    """Keep which batch was the fastest, so that searches need no trial; not what was timed beside other work."""
    if "failed" not in speed and not busy.is_busy(busy.others(), busy.processors()):
        found = Speed(str(speed["fastest_batch"]), speed["seconds_per_step_and_image"])
        keep_size(key_of_size(sampler), found)


def _request(pipe: Any, prompt: str | None, settings: Mapping[str, Any]) -> tuple[Request, Any, dict[str, Any]]:
    """What is asked for, the pipeline where it is given as an object, and further arguments of its call."""
    known = {name: value for name, value in settings.items() if name in SETTINGS}
    arguments = {name: value for name, value in settings.items() if name not in known}
    for name in arguments:
        if name in Request.model_fields:
            raise ValueError(f"expected what a pipeline is called with, got {name}, which is a search's")
    by_name = isinstance(pipe, (str, Path))
    if prompt is None and known.get("class_label") is None:
        known["class_label"] = 0  # until the pipeline is there
    request = Request(prompt=prompt, **known, **({"model": pipe} if by_name else {}))
    given = None if by_name else pipe
    request, live = recordable(request, pipe=given, arguments=arguments)
    return request, given, live["arguments"] or {}


def _with_condition(request: Request, pipe: Any) -> Request:
    """The request with a prompt or a class where none was given."""
    if request.prompt is not None or request.class_label != 0 or is_class_conditional(pipe):
        return request
    takes_prompt = "prompt" in inspect.signature(type(pipe).__call__).parameters
    return request.changed(class_label=None, **({"prompt": PROMPT} if takes_prompt else {}))


def _sampler(
    request: Request, pipe: Any, info: Mapping[str, Any], arguments: Mapping[str, Any], warnings: list[str]
) -> PipelineSampler:
    """The sampler of the pipeline's own scheduler.

    Raises:
        UnsupportedPipeline: where it is none of a pipeline.
    """
    values = call_arguments(request, arguments, pipe)
    condition = condition_of(pipe, request.prompt, request.class_label, info)
    found = make_sampler(request, pipe, condition, info, values, warnings)
    if not isinstance(found, PipelineSampler):
        raise UnsupportedPipeline(f"expected a pipeline of diffusers to check, got a {type(found).__name__}")
    warnings += found.warnings
    return found


def _checked(
    pipe: Any, request: Request, refused: str | None, sampler: PipelineSampler | None = None,
    verdict: Verdict | None = None, found: Mapping[str, Any] | None = None, warnings: Sequence[str] = (),
) -> Checked:  # fmt: skip
    about: dict[str, Any] = {} if sampler is None else {**about_pipeline(sampler), "key": key_of(sampler)}
    return Checked(
        model=_shown_name(pipe, request), pipeline=type(pipe).__name__,
        refused=None if refused is None else clean(refused, 2000),
        verdict=None if verdict is None else verdict.to_json(), measured=found, about=_harmless(about),
        versions=versions_of_libraries(), machine=_machine(), warnings=tuple(_untold(one) for one in warnings),
    )  # fmt: skip


def _shown_name(pipe: Any, request: Request) -> str:
    """The model's name where anybody can have it."""
    path = str(getattr(pipe, "name_or_path", "") or "")
    for name in registry.names("model"):
        if name in (request.model, path) or str(registry.bundled(name)) == path:
            return name
    named = request.model or path
    if not named:
        return "(made in Python)"
    known = named.count("/") == 1 and not os.path.exists(named) and not os.path.isabs(named)
    return clean(named, 200) if known else OWN_MODEL


def _harmless(value: Any) -> Any:
    """JSON without keys, and without directories of a person's own."""
    if isinstance(value, Mapping):
        return {str(key): _harmless(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_harmless(one) for one in value]
    if isinstance(value, str):
        return "(a path)" if os.path.isabs(value) or value.startswith("~") else clean(value, LONGEST)
    return value


def _machine() -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    return {
        "system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count(),
        "threads": torch.get_num_threads(), "cuda": torch.version.cuda if cuda else None,
        "gpu": torch.cuda.get_device_name() if cuda else None,
    }  # fmt: skip


# For people


def _rows(verdict: Mapping[str, Any], found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    speed, memory = found["speed"], found["memory"]
    rows = [
        ("parity", *_held(found["parity"], "the image of a seed against the plain call's")),
        ("split", *_held(found["split"], "cut on its way", none="one step has no places to be cut at")),
        ("batch", *_held(found["batch"], "beside another image", no="one image at a time")),
        ("previews", *_held(found["previews"], "against the scheduler's own, in standard deviations", unit="")),
        ("gradients", *_held(found["gradients"], "relative, against finite differences", unit="")),
        ("stochastic", "yes" if verdict["stochastic"] else "no", "whether steps draw noise"),
        ("repeatable", "yes" if verdict["repeatable"] else "no", "whether a seed names an image"),
    ]
    if "failed" in speed:
        rows.append(("speed", "-", speed["failed"]))
    else:
        best = speed["fastest_batch"]
        each = speed["seconds_per_step_and_image"][str(best)]
        rows += [
            ("step", f"{speed['seconds_per_step']:.4g} s", "one image"),
            ("fastest batch", str(best), f"{each:.4g} s for a step and an image; {speed['ended']}"),
        ]
    rows.append(("memory", f"{memory['host_bytes'] / 2**20:.0f} MiB", "the most of this process"))
    if memory["cuda_bytes"] is not None:
        rows.append(("GPU memory", f"{memory['cuda_bytes'] / 2**20:.0f} MiB", "the most that was allocated"))
    return rows


def _held(
    found: Mapping[str, Any] | None, what: str, unit: str = "/255", none: str = "", no: str = ""
) -> tuple[str, str]:
    """Whether it holds, and how far it is off."""
    if found is None:
        return "-", none
    if "failed" in found:
        return "-", found["failed"]
    holds = {True: "yes", False: "no", None: "-"}[found.get("holds")]
    apart = found.get("apart", found.get("error"))
    parts = [] if apart is None else [f"{apart:g}{unit} {what}"]
    parts += [f"by {found[key]}" if key == "by" else found[key] for key in ("by", "why", "note") if key in found]
    return holds, ", ".join(parts) or no


def _untold(warning: str) -> str:
    """A warning without the words of a prompt that it quotes."""
    return clean(re.sub(r"(the text's end): .*", r"\1", warning, flags=re.DOTALL), 1000)
