"""What an image that is to be made again is, and where the model of its recipe is now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisewright import registry
from noisewright.errors import RunMismatch
from noisewright.images.metadata import public_name
from noisewright.outside.bundled import is_server
from noisewright.outside.inside import inside
from noisewright.outside.messages import short
from noisewright.outside.texts import clean
from noisewright.registry import trust as trusting
from noisewright.run.follow import Watch
from noisewright.run.reading import is_run, read_run

OF_SERVERS = ("model", "fingerprint", "served", "prompt", "num_inference_steps", "steps_known", "solver")
"""What a server's sampler says of itself that is no field of a request."""


def find_image(source: str) -> Path:
    """The PNG that ``IMAGE`` or ``RUN:ID`` names.

    Raises:
        ValueError: where there is none, or an id's beginning fits several.
    """
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        raise ValueError(f"expected IMAGE or RUN:ID, got the directory {source} (the best is {source}:best)")
    run, colon, key = source.rpartition(":")
    if not colon or not Path(run).is_dir():
        raise ValueError(f"expected a PNG or RUN:ID, got {short(source)}, which does not exist")
    if key in ("best", "baseline"):
        return inside(run, f"{key}.png")
    if not is_run(run):
        raise ValueError(f"expected a run directory (with run.json), got {run}")
    watch = Watch(run)
    watch.look()
    files = {one: made.file for one, made in watch.ledger.images.items()}
    found = [one for one in files if key and one.startswith(key)]
    if len(found) != 1:
        what = f"expected the id of one candidate of {run}, got {short(key)}"
        raise ValueError(f"{what}, which fits {len(found)}" + (f": {', '.join(found[:4])}" if found else ""))
    return inside(run, files[found[0]])


def find_recorded_model(recipe: Mapping[str, Any], image: Path, trust: bool = False) -> str:
    """Where the model of a recipe is: a bundled one, a directory, a hub id, or what the run beside the image says.

    An image names a local model by its directory's own name alone. Whichever it is, its fingerprint is compared.

    Args:
        recipe: of the image.
        image: the file.
        trust: whether a hub id may be downloaded.

    Raises:
        ValueError: where it is not found, or would have to be downloaded.
    """
    name = recipe["sampler"].get("model")
    if not isinstance(name, str):
        raise ValueError(f"expected the name of a model in the recipe of {image}, got {type(name).__name__}")
    if "served" in recipe["sampler"]:
        return _recorded_server(name, image, trust)
    recorded = next(filter(None, map(_model_of, (image.parent, image.parent.parent))), None)
    if recorded is not None and public_name(recorded) == public_name(name) and Path(recorded).exists():
        return recorded
    if registry.is_installed(name) or Path(name).is_dir():
        return name
    if public_name(name) != name or "/" not in name:
        where = f", which is no longer at {recorded}" if recorded else " on somebody's disk"
        raise ValueError(f"expected --model DIR for {image}, whose model is {public_name(name)!r}{where}")
    if not trust and not trusting.is_cached(registry.find_model(name)):
        raise ValueError(
            f"{image} names the model {name}, which is not in the hub's cache: --trust downloads it, or --model ID|DIR"
        )
    return name


def _recorded_server(name: str, image: Path, trust: bool) -> str:
    """The address of the server that made an image, which a run beside it knows and a person trusts.

    Raises:
        ValueError: in one line.
    """
    request = run_beside(image).get("request")
    address = request.get("model") if isinstance(request, Mapping) else None
    if not is_server(address):
        raise ValueError(f"expected --model http://HOST/v1#MODEL for {image}, which a server made of {short(name)}")
    if not trust:
        raise ValueError(f"{image} was made by {clean(address)}: --trust asks that server, or --model http://...")
    return str(address)


def rebuilt_remote(made: Mapping[str, Any], model: str, device: str | None) -> Any:
    """The sampler of a recipe's server.

    Args:
        made: what the recipe says of its sampler.
        model: the address.
        device: of verifiers, which a replay has none of.

    Raises:
        RunMismatch: where the server says something else of its model than it did.
        ValueError: where it cannot be asked.
    """
    if not is_server(model):
        raise ValueError(f"expected http://HOST/v1#MODEL for an image that a server made, got {short(model)}")
    server = registry.load_model(model, device=device)
    if server.fingerprint != made["fingerprint"] and not server.is_same(made["fingerprint"], made.get("served")):
        raise RunMismatch(f"expected the server with fingerprint {made['fingerprint']} that made the image, got "
                          f"{server.fingerprint} of {clean(model)}, which says something else of its model, or is "
                          "elsewhere")  # fmt: skip
    fields = {key: one for key, one in made.items() if key not in OF_SERVERS}
    named = {key: fields.pop(key, None) for key in ("guidance_scale", "negative_prompt", "height", "width")}
    named["num_inference_steps"] = made["num_inference_steps"] if made.get("steps_known") else None
    return registry.make_sampler(server, made["prompt"], {**named, "pipe_kwargs": fields})


def _model_of(run: Path) -> str | None:
    """The model that the settings of a run in a directory name, with its path; None where there is no run."""
    spec = (_run_of(run) or {}).get("spec")
    sampler = spec.get("sampler") if isinstance(spec, dict) else None
    model = sampler.get("model") if isinstance(sampler, dict) else None
    return model if isinstance(model, str) else None


def run_beside(image: Path) -> dict[str, Any]:
    """The run.json of the run that an image lies in; empty where it lies in none."""
    return next(filter(None, map(_run_of, (image.parent, image.parent.parent))), {})


def _run_of(folder: Path) -> dict[str, Any] | None:
    """The run.json of a directory; None where it is no run, or one that cannot be read."""
    try:
        return read_run(folder) if is_run(folder) else None
    except ValueError:
        return None
