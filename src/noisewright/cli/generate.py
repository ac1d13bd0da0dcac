"""``noisewright generate``: search for the noise that gives the best image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisewright.cli import options, output
from noisewright.cli.exits import Ended
from noisewright.cli.libraries import hush_libraries, is_watched, share_processors, warn
from noisewright.cli.pages import check_extra
from noisewright.cli.prompts import run_prompts
from noisewright.cli.requests import AUTO, check_device, check_finite
from noisewright.cli.runs import run_request
from noisewright.outside.bundled import is_own
from noisewright.outside.files import check_directory
from noisewright.outside.prompts import read_prompts
from noisewright.schemas.typed import read_frames, read_pipeline_args, read_search_args, read_target

if TYPE_CHECKING:
    from noisewright.request import Request

COSTS = ("images", "nfe", "forwards", "seconds")
"""What of a forecast adds up over prompts."""


def generate(
    prompt: options.Prompt = None,
    prompt_file: options.PromptFile = None,
    model: options.Model = "noisewright/shapes",
    variant: options.Variant = None,
    config: options.Config = None,
    lora: options.Lora = None,
    class_label: options.ClassLabel = None,
    search: options.Search = "random",
    search_arg: options.SearchArg = None,
    verifier: options.Verifier = None,
    judge: options.Judge = None,
    budget: options.BudgetOption = None,
    target: options.TargetOption = None,
    steps: options.Steps = None,
    search_steps: options.SearchSteps = None,
    draft: options.Draft = None,
    profile: options.Profile = None,
    solver: options.SolverOption = None,
    eta: options.Eta = None,
    schedule: options.ScheduleOption = "pipeline",
    force: options.Force = False,
    no_check: options.NoCheck = False,
    guidance_scale: options.Guidance = None,
    negative_prompt: options.Negative = None,
    height: options.Height = None,
    width: options.Width = None,
    frames: options.Frames = None,
    states: options.States = None,
    pipeline_arg: options.PipelineArg = None,
    seed: options.Seed = 0,
    ensemble: options.Ensemble = "rank",
    score_cache: options.ScoreCache = None,
    batch_size: options.BatchSize = None,
    concurrency: options.Concurrency = None,
    keep: options.Keep = None,
    out: options.Out = None,
    executor: options.Executor = "local",
    workers: options.RayWorkers = None,
    gpus_per_worker: options.GpusPerWorker = None,
    verifier_workers: options.VerifierWorkers = None,
    device: options.Device = None,
    dtype: options.DtypeOrAuto = None,
    compile: options.Compile = False,
    channels_last: options.ChannelsLast = False,
    dry_run: options.DryRun = False,
    serve: options.Serve = False,
    json: options.Json = False,
) -> Ended | None:
    """Search for the noise that gives the best image."""
    if prompt is None and class_label is None and prompt_file is None and _needs_prompt(model):
        raise ValueError("expected a PROMPT, --prompt-file or --class-label, got none (see: generate --help)")
    from noisewright.registry.executors import with_options
    from noisewright.request import Request, recorded

    check_finite(guidance_scale=guidance_scale, eta=eta, gpus_per_worker=gpus_per_worker)
    check_device(None, dtype, AUTO)
    settings: dict[str, Any] = {
        "model": model, "class_label": class_label, "search": search, "search_args": read_search_args(search_arg or []),
        "verifier": verifier or None, "judge": judge or None, "budget": budget or None,
        "target": read_target(target or []), "num_inference_steps": steps, "search_steps": search_steps,
        "draft": draft, "profile": None if profile is None else str(profile.absolute()),
        "guidance_scale": guidance_scale, "negative_prompt": negative_prompt, "height": height, "width": width,
        "frames": read_frames(frames), "states": states, "solver": solver, "eta": eta, "schedule": schedule,
        "force": force, "no_check": no_check, "seed": seed, "ensemble": ensemble,
        "score_cache": None if score_cache is None else check_directory(score_cache, "--score-cache"),
        "batch_size": batch_size, "concurrency": concurrency, "device": device, "dtype": dtype, "variant": variant,
        "executor": with_options(
            executor, workers=workers, gpus_per_worker=gpus_per_worker, verifier_workers=verifier_workers
        ),
        "config": config, "loras": lora or [], "compile": compile, "channels_last": channels_last, "keep": keep,
        "pipeline_args": {name: recorded(one, name) for name, one in read_pipeline_args(pipeline_arg or []).items()},
    }  # fmt: skip
    if out is not None:
        check_directory(out)
    if serve:
        _check_serve(prompt_file, dry_run)
    prompts = None if prompt_file is None else _prompts_of(prompt_file, prompt, class_label)
    request = Request(prompt=prompt if prompts is None else prompts[0], **settings)
    if dry_run:
        _dry_run(request, json, 1 if prompts is None else len(prompts))
        return None
    if prompts is not None and prompt_file is not None:
        return run_prompts(request, prompts, prompt_file.stem, out, json)
    return run_request(request, out, json, serve=serve)


def _check_serve(prompt_file: Path | None, dry_run: bool) -> None:
    """Refuse a page of what is no run, or more than one."""
    if dry_run or prompt_file is not None:
        other = "--dry-run, which makes none" if dry_run else "--prompt-file: look at its directory with `serve`"
        raise ValueError(f"expected one run with --serve, got {other}")
    check_extra()


def _needs_prompt(model: str) -> bool:
    """Whether a model is known to be told what to show; of others that is known when it is loaded."""
    return is_own(model) or model.endswith(".safetensors")


def _prompts_of(file: Path, prompt: str | None, class_label: str | None) -> list[str]:
    for given, name in ((prompt, "PROMPT"), (class_label, "--class-label")):
        if given is not None:
            raise ValueError(f"expected --prompt-file or {name}, got both")
    return read_prompts(file, comments=True, distinct=True)


def _dry_run(request: Request, as_json: bool, prompts: int) -> None:
    """Print the planned cost; of several prompts it is the first one's, and that of all as a multiple."""
    from noisewright.request import check_names

    check_names(request)
    share_processors()
    check_device(request.device, None)
    from noisewright.cli import terminal
    from noisewright.evaluate.forecast import forecast
    from noisewright.planning import plan

    hush_libraries()
    with terminal.waiting(f"loading {request.model} ...", is_watched(as_json)):
        made = plan(request, proving=False)
    with terminal.waiting("timing one step ...", is_watched(as_json)):
        found = forecast(made)
    for text in found["warnings"]:
        warn(text)
    for one in made.decided:
        terminal.say(one.text)
    if prompts > 1:
        found |= {"prompts": prompts, "all": {name: found[name] * prompts for name in COSTS}}
    if as_json:
        terminal.print_json(found)
    else:
        terminal.print_forecast(found)
        if prompts > 1:
            whole = found["all"]
            cost = f"about {whole['images']} images, {whole['nfe']} NFE, {terminal.seconds(whole['seconds'])}"
            output.print_line(f"that is the first of {prompts} prompts; all of them: {cost}")
