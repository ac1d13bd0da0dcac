"""``noisewright generate``: search for the noise that gives the best image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noisewright.cli import options
from noisewright.cli.exits import Ended
from noisewright.cli.libraries import hush_libraries, is_watched, warn
from noisewright.cli.requests import check_device, check_names, located_model, located_verifiers, plan_of
from noisewright.cli.runs import run_request
from noisewright.outside.files import check_directory
from noisewright.schemas.reading import is_file


def generate(
    prompt: options.Prompt = None,
    model: options.Model = "noisewright/shapes",
    class_label: options.ClassLabel = None,
    search: options.Search = "random",
    search_arg: options.SearchArg = None,
    verifier: options.Verifier = None,
    judge: options.Judge = None,
    budget: options.BudgetOption = None,
    target: options.TargetOption = None,
    steps: options.Steps = None,
    search_steps: options.SearchSteps = None,
    solver: options.SolverOption = None,
    eta: options.Eta = None,
    schedule: options.ScheduleOption = "pipeline",
    force: options.Force = False,
    guidance_scale: options.Guidance = None,
    negative_prompt: options.Negative = None,
    height: options.Height = None,
    width: options.Width = None,
    seed: options.Seed = 0,
    ensemble: options.Ensemble = "rank",
    score_cache: options.ScoreCache = None,
    batch_size: options.BatchSize = None,
    out: options.Out = None,
    executor: options.Executor = "local",
    device: options.Device = None,
    dtype: options.Dtype = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> Ended | None:
    """Search for the noise that gives the best image."""
    if prompt is None and class_label is None:
        raise ValueError("expected a PROMPT or --class-label, got neither (see: noisewright generate --help)")
    request = {
        "model": located_model(model), "prompt": prompt, "class_label": class_label, "search": search,
        "search_args": list(search_arg or []),
        "verifier": located_verifiers(verifier), "judge": located_verifiers(judge), "budget": budget,
        "target": list(target or []),
        "num_inference_steps": steps, "search_steps": search_steps, "solver": solver, "eta": eta,
        "schedule": str(Path(schedule).resolve()) if is_file(schedule) else schedule, "force": force,
        "guidance_scale": guidance_scale, "negative_prompt": negative_prompt, "height": height,
        "width": width, "seed": seed, "ensemble": ensemble,
        "score_cache": None if score_cache is None else str(check_directory(score_cache, "--score-cache").resolve()),
        "batch_size": batch_size, "executor": executor, "device": device, "dtype": dtype,
    }  # fmt: skip
    if out is not None:
        check_directory(out)
    if dry_run:
        _dry_run(request, json)
        return None
    return run_request(request, out, json)


def _dry_run(request: dict[str, Any], as_json: bool) -> None:
    check_names(request)
    check_device(request["device"], request["dtype"])
    from noisewright.cli import terminal
    from noisewright.evaluate.forecast import forecast

    hush_libraries()
    with terminal.waiting(f"loading {request['model']} ...", is_watched(as_json)):
        plan = plan_of(request)
    with terminal.waiting("timing one step ...", is_watched(as_json)):
        found = forecast(plan)
    for text in found["warnings"]:
        warn(text)
    if as_json:
        terminal.print_json(found)
    else:
        terminal.print_forecast(found)
