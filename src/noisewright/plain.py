"""The winner without noisewright: the few lines of plain diffusers that make it, or why there are none."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisewright import registry
from noisewright.evaluate.overview import overview_of
from noisewright.evaluate.words import lineage_text
from noisewright.outside.bundled import lender
from noisewright.outside.texts import clean
from noisewright.run.follow import Watch
from noisewright.schemas.checked import checked
from noisewright.schemas.files import PIPELINE

if TYPE_CHECKING:
    from noisewright.samplers.protocol import Sampler

NAME = re.compile(r"[A-Za-z]\w*")
"""What may stand in code as it is recorded; everything else stands in quotes."""

OURS = ("ClassConditionalFlowPipeline",)
"""Pipelines that diffusers does not have: their model is loaded by noisewright, and called as any other."""

EULER, FLOW_EULER = "EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"
NOT_ARGUMENTS = (
    "model", "pipeline", "fingerprint", "prompt", "class_label", "num_inference_steps", "solver", "eta", "schedule",
    "levels", "dtype", "device", "none", "step_noise", "states", "variant", "config", "loras", "compile",
    "channels_last", "frames",
)  # fmt: skip
"""What of a sampler's description is no further argument of the pipeline's call."""


def plain_settings(sampler: Sampler) -> dict[str, Any] | None:
    """What plain diffusers needs to know of a sampler, beside its description: for ``run.json``.

    Returns:
        ``solver`` (of noisewright's own that was asked for, or None), ``scheduler`` (``class`` and ``config``, where
        they are not those that the model's files name), and with levels or a solver that a scheduler of diffusers can
        follow, ``euler`` and ``sigmas``. None where it is no pipeline of diffusers.
    """
    pipe = getattr(sampler, "pipe", None)
    if pipe is None or not hasattr(pipe, "scheduler"):
        return None
    from noisewright.samplers.turns import turn  # which loads torch

    with turn(pipe):  # whose scheduler another one is while somebody is inside
        return _settings(sampler, pipe)


def _settings(sampler: Sampler, pipe: Any) -> dict[str, Any]:
    given = getattr(sampler, "given_solver", None)
    found: dict[str, Any] = {"solver": None if given is None else given.name, "scheduler": _other_scheduler(pipe)}
    if given is None and "levels" not in sampler.description:
        return found
    deterministic = sampler.description["solver"] == "ddim" and not sampler.description["eta"]
    if deterministic and "sigmas" in inspect.signature(type(pipe).__call__).parameters:
        schedule = sampler.schedule
        if schedule.straight:
            sigmas = list(schedule.sigma[:-1])
        else:
            sigmas = [s / a if a > 0 else math.inf for a, s in zip(schedule.alpha, schedule.sigma, strict=True)]
        if all(map(math.isfinite, sigmas)):
            found |= {"euler": FLOW_EULER if schedule.straight else EULER, "sigmas": sigmas}
    return found


def _other_scheduler(pipe: Any) -> dict[str, Any] | None:
    """The scheduler of a pipeline, where it is not the one that its model's files name; as far as it is JSON."""
    config = {key: value for key, value in dict(pipe.scheduler.config).items() if not key.startswith("_")}
    name = type(pipe.scheduler).__name__
    held = _scheduler_on_disk(str(getattr(pipe, "name_or_path", "") or ""))
    if held is not None and held.get("_class_name") == name:
        known = {key: value for key, value in held.items() if not key.startswith("_")}
        if all(json.dumps(config.get(key)) == json.dumps(value) for key, value in known.items()):
            return None
    try:
        text = json.dumps(_without_infinities(pipe.scheduler, config), allow_nan=False)
        return {"class": name, "config": json.loads(text)}
    except (TypeError, ValueError):
        return {"class": name, "config": None}


def _without_infinities(scheduler: Any, config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without the infinite numbers that its class has anyway (DPM-Solver's ``lambda_min_clipped``)."""
    defaults = {one.name: one.default for one in inspect.signature(type(scheduler).__init__).parameters.values()}
    return {
        key: value for key, value in config.items()
        if not isinstance(value, float) or math.isfinite(value) or defaults.get(key) != value
    }  # fmt: skip


def _scheduler_on_disk(model: str) -> dict[str, Any] | None:
    """What a model's files say of its scheduler; None where they are not here."""
    file: Any = (lender(model) or Path(model)) / "scheduler" / "scheduler_config.json"
    if not file.is_file() and "/" in model:
        from huggingface_hub import try_to_load_from_cache

        try:
            file = try_to_load_from_cache(model, "scheduler/scheduler_config.json")
        except ValueError:  # no name of a repository
            return None
    try:
        held = json.loads(Path(file).read_text()) if isinstance(file, (str, Path)) else None
    except (OSError, ValueError):
        return None
    return held if isinstance(held, dict) else None


def plain_diffusers(root: str | Path, key: str | None = None) -> tuple[str | None, str | None]:
    """The lines of plain diffusers that make the best of a run, or another candidate, or why there are none.

    Args:
        root: the run directory.
        key: the candidate's id; by default the best.

    Returns:
        The code and None, or None and one line.

    Raises:
        ValueError: where there is no run, nothing in it yet, or no such candidate.
    """
    watch = Watch(root)
    watch.look()
    return plain_of(watch, key)


def plain_of(watch: Watch, key: str | None = None) -> tuple[str | None, str | None]:
    """As :func:`plain_diffusers`, of a run as of the last look."""
    root = watch.root
    found, spec = overview_of(watch), watch.run["spec"]
    best = found["best"]
    if key is not None:
        best = next((one for one in found["candidates"] if one["id"] == key), None)
        if best is None:
            raise ValueError(f"expected a candidate of {root}, got {clean(key, 40)}")
        best = {**best, "lineage": watch.ledger.particles[key].lineage()}
    if best is None:
        raise ValueError(f"expected a run with an image, got {root}, which has none yet")
    sampler, plain, request = spec["sampler"], watch.run.get("plain"), watch.run.get("request") or {}
    if watch.ledger.particles[best["id"]].draft is not None:
        return None, f"it is a draft ({clean(str(spec.get('draft')))}), which was not rendered in full"
    if spec["search_steps"] != sampler["num_inference_steps"] and best["steps"] == spec.get("search_steps_taken"):
        sampler = {**sampler, "num_inference_steps": spec["search_steps"]}  # a draft, which was not rendered in full
        plain = plain if plain is None or "sigmas" not in plain else None
    if "pipeline" in sampler:
        checked(PIPELINE, sampler, f"the sampler of {watch.root / 'run.json'}")
    why_not = _why_not(sampler, best, plain)
    if why_not is not None or plain is None:
        return None, why_not
    size = watch.ledger.images[best["id"]].size
    lines = [*_imports(sampler, plain, request), "", *_pipeline(sampler, plain, request)]
    if size > 1:
        lines.append(f"# the same but for the rounding of sums: it was made {size} at once")
    return "\n".join([*lines, *_call(sampler, plain, best)]), None


def _why_not(sampler: Mapping[str, Any], best: Mapping[str, Any], plain: Mapping[str, Any] | None) -> str | None:
    """Why plain diffusers cannot make an image, in one line; None where it can."""
    if "pipeline" not in sampler:
        return "its sampler is no pipeline of diffusers"
    if best["seed"] is None:
        return f"no seed draws its noise ({lineage_text(best['lineage'][-6:])}); noisewright replay makes it again"
    if plain is None:
        return "its run does not say whether solver and levels were the pipeline's own (an earlier version made it)"
    if "sigmas" not in plain:
        if plain["solver"] is not None:
            return f"its solver {clean(plain['solver'])} is noisewright's own"
        if "levels" in sampler:
            return "its levels are noisewright's, and the pipeline takes none"
    for key in ("pipeline", "dtype"):
        if not NAME.fullmatch(sampler[key]):
            return f"its {key} has no name that diffusers knows: {clean(sampler[key])}"
    if (plain["scheduler"] or {"config": {}})["config"] is None:
        return "its scheduler has settings that are no JSON"
    for name, value in sampler.items():
        if name not in NOT_ARGUMENTS and not _is_plain(value):
            return f"of its argument {clean(name)} the run holds only a hash"
    return None


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool)) or (
        isinstance(value, list) and all(map(_is_plain, value))
    )  # fmt: skip


def _imports(sampler: Mapping[str, Any], plain: Mapping[str, Any], request: Mapping[str, Any]) -> list[str]:
    names = [] if sampler["pipeline"] in OURS else [_class_of(sampler, request)]
    names += [name for name in (plain.get("euler"), (plain["scheduler"] or {}).get("class")) if name]
    names += ["AutoModel"] if lender(_place(sampler, request)) else []
    lines = ["import torch", *([f"from diffusers import {', '.join(sorted(set(names)))}"] if names else [])]
    return [*lines, *(["import noisewright"] if sampler["pipeline"] in OURS else [])]


def _class_of(sampler: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    is_file = str(request.get("model") or "").endswith(".safetensors")
    return str(sampler["pipeline"]) if is_file else "DiffusionPipeline"


def _place(sampler: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    """What plain diffusers loads a run's model by: a bundled one's directory, or its name as it is."""
    name = str(request.get("model") or sampler["model"])
    return str(registry.bundled(name) or name)


def _pipeline(sampler: Mapping[str, Any], plain: Mapping[str, Any], request: Mapping[str, Any]) -> list[str]:
    """The lines that make the pipeline."""
    name, model = str(request.get("model") or sampler["model"]), _place(sampler, request)
    dtype = f"torch.{sampler['dtype']}"
    if sampler["pipeline"] in OURS:
        lines = [f"pipe = noisewright.load({name!r}, device={sampler['device']!r}, dtype={sampler['dtype']!r})"]
    else:
        load = "from_single_file" if model.endswith(".safetensors") else "from_pretrained"
        more = "".join(f", {key}={request[key]!r}" for key in ("variant", "config") if request.get(key))
        whole, lines = lender(model), []
        if whole is not None:  # a bundled model without all its parts
            own = sorted(one.parent for one in Path(model).glob("*/config.json"))
            lines += [f"{one.name} = AutoModel.from_pretrained({str(one)!r}, torch_dtype={dtype})" for one in own]
            model, more = str(whole), more + "".join(f", {one.name}={one.name}" for one in own)
        lines.append(f"pipe = {_class_of(sampler, request)}.{load}({model!r}, torch_dtype={dtype}{more})")
        lines.append(f"pipe.to({sampler['device']!r})")
    for name in ("compile", "channels_last"):
        if sampler.get(name):
            lines.append(f"# the same but for the rounding of sums: it was made with {name}")
    loras = _loras(request)
    for number, one in enumerate(loras):
        file = Path(one["file"])
        lines.append(f"pipe.load_lora_weights({str(file.parent)!r}, weight_name={file.name!r}, "
                     f"adapter_name='lora{number}')")  # fmt: skip
    if loras:
        names, weights = [f"lora{number}" for number in range(len(loras))], [float(one["weight"]) for one in loras]
        lines.append(f"pipe.set_adapters({names!r}, {weights!r})")
    if request.get("given_pipeline"):
        lines.append("# here: whatever was done to the pipeline object that the search was given")
    other = plain["scheduler"]
    if plain.get("euler"):
        shift = ", shift=1.0" if plain["euler"] == FLOW_EULER else ""
        lines.append(f"pipe.scheduler = {plain['euler']}.from_config(pipe.scheduler.config{shift})")
    elif other:
        lines.append(f"pipe.scheduler = {other['class']}.from_config({other['config']!r})")
    return lines


def _loras(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The adapters that a run names, as far as they are that."""
    named = request.get("loras") or []
    return [one for one in named if isinstance(one, dict) and isinstance(one.get("file"), str)
            and isinstance(one.get("weight"), (int, float))]  # fmt: skip


def _call(sampler: Mapping[str, Any], plain: Mapping[str, Any], best: Mapping[str, Any]) -> list[str]:
    """The lines that make the image."""
    given: dict[str, Any] = {}
    if sampler.get("class_label") is not None:
        given["class_labels"] = [sampler["class_label"]]
    elif sampler["prompt"]:  # an unconditional pipeline has none
        given["prompt"] = sampler["prompt"]
    if plain.get("sigmas"):
        given["sigmas"] = plain["sigmas"]
    else:
        given["num_inference_steps"] = sampler["num_inference_steps"]
    none = sampler.get("none", ())
    given |= {
        name: value for name, value in sampler.items()
        if name not in NOT_ARGUMENTS and NAME.fullmatch(name) and (value is not None or name in none)
    }  # fmt: skip
    lines = [f"    {name}={value!r}," for name, value in given.items()]
    seed = f"    generator=torch.Generator('cpu').manual_seed({best['seed']}),"
    if "frames" in sampler:
        lines = ["from diffusers.utils import export_to_video", "frames = pipe(", *lines, seed, ").frames[0]"]
        return [*lines, "export_to_video(frames, 'best.mp4')"]
    return ["image = pipe(", *lines, seed, ").images[0]", "image.save('best.png')"]

