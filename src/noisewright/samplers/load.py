"""A diffusers pipeline from a directory, a hub id or a single file, looked at before it is loaded: a model is data."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from noisewright.outside.bundled import MODELS, OWNER, lender
from noisewright.outside.hub import cached, is_hub_id, not_here, out_of_reach, refusal
from noisewright.outside.messages import did_you_mean, first_line
from noisewright.outside.reading import shown
from noisewright.outside.texts import clean
from noisewright.samplers.compiled import compile_networks, put_channels_last
from noisewright.samplers.contents import loaded_from
from noisewright.samplers.lora import add_loras, read_loras
from noisewright.samplers.model_files import Refused, check_weights, read_json
from noisewright.samplers.model_index import INDEX, check_index, check_model
from noisewright.samplers.quiet import quiet
from noisewright.samplers.single_file import is_single_file, load_single_file
from noisewright.samplers.source import Source, remember
from noisewright.samplers.weight_files import (
    check_variant,
    missing_weights,
    read_variant,
    variants_of,
    weights_in,
)


def load_pipeline(
    name: str | Path,
    device: str | None = None,
    dtype: str | None = None,
    *,
    variant: str | None = None,
    config: str | Path | None = None,
    loras: Sequence[tuple[str | Path, float]] = (),
    compile: bool = False,
    channels_last: bool = False,
) -> Any:
    """Load a diffusers pipeline, safetensors only, and none of its own code.

    Args:
        name: a directory or a hub id, as ``DiffusionPipeline.from_pretrained`` takes it, or a single-file checkpoint
            ``FILE.safetensors``, as ``from_single_file`` does. What the hub's cache has whole is not asked for again.
        device: ``cpu``, ``cuda``, ``mps``; by default the best there is.
        dtype: ``float32``, ``float16``, ``bfloat16``; by default float32 on a CPU, bfloat16 elsewhere.
        variant: of the weights, such as ``fp16``; components without it have their plain ones.
        config: for a single file the directory (or hub id) of a pipeline of the same kind, of which only what the file
            lacks is read: the class, configurations, tokenizers, scheduler, and weights of parts that it leaves out.
            By default that of the model that it looks like, from the hub or its cache.
        loras: files of LoRA weights and what each is multiplied with, added in this order (needs peft).
        compile: whether the network that a step asks is compiled (:func:`~.compiled.compile_networks`).
        channels_last: whether convolutions have their weights with channels last.

    Raises:
        ValueError: in one line, what is wrong with it.
    """
    device = device or best_device()
    numbers = getattr(torch, dtype or ("float32" if device == "cpu" else "bfloat16"), None)
    if not isinstance(numbers, torch.dtype):
        raise ValueError(f"expected a dtype such as float32, got {dtype!r}")
    variant, adapters, text = read_variant(variant), read_loras(loras), str(name)
    with quiet(), _one_line(text):
        if is_single_file(text):
            if variant is not None:
                raise Refused(f"expected no variant beside a single file, got {variant!r}")
            pipe = load_single_file(Path(text), config, numbers)
        elif config is not None:
            raise Refused(f"expected no config beside {shown(text)!r}: it is for a single file, FILE.safetensors")
        else:
            kind, folder = _found(text, variant)
            how = {"torch_dtype": numbers, "variant": variant, "use_safetensors": True, "local_files_only": True}
            pipe = _from_parts(kind, folder, how) or kind.from_pretrained(str(folder), trust_remote_code=False, **how)
        pipe.register_to_config(_name_or_path=text)  # of a hub id not the place in the cache
    pipe = pipe.to(device)
    with quiet():
        add_loras(pipe, adapters)
        if channels_last:
            put_channels_last(pipe)
        if compile:
            compile_networks(pipe, device)
    for one in pipe.components.values():
        if isinstance(one, torch.nn.Module):
            loaded_from(one, dtype, *_beside(text, variant, adapters))
    taken = None if config is None else str(config)
    remember(pipe, Source(text, variant, taken, tuple(adapters), compile, channels_last))
    return pipe


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Whatever a library raises of a bad file as one ValueError of one line."""
    from safetensors import SafetensorError

    bad = (OSError, ValueError, TypeError, LookupError, AttributeError, ImportError, RuntimeError, SafetensorError)
    try:
        yield
    except Refused as error:
        raise ValueError(str(error)) from None
    except bad as error:
        why = _lacking(str(error)) or clean(first_line(error))
        raise ValueError(f"model {shown(name)!r} could not be loaded: {why}") from error


def _lacking(said: str) -> str | None:
    """Which components a directory lacks, from what diffusers says of all that it expected; None of other errors."""
    found = re.fullmatch(r"Pipeline <class '(.*)'> expected (.*), but only (.*) were passed\.?", said)
    if found is None:
        return None
    module, _, kind = found[1].rpartition(".")
    optional = getattr(getattr(sys.modules.get(module), kind, None), "_optional_components", ())
    wanted, there = (re.findall(r"'(\w+)'", text) for text in found.groups()[1:])
    lacking = [name for name in wanted if name not in there and name not in optional]
    return f"it lacks {', '.join(lacking)}" if lacking else None


def _beside(name: str, variant: str | None, adapters: Sequence[Any]) -> list[Any]:
    """What decides what the networks hold beside the files of their directories and the precision."""
    found: list[Any] = [] if variant is None else [variant]
    if Path(name).is_file():
        held = Path(name).stat()
        found.append([str(Path(name).resolve()), held.st_size, held.st_mtime_ns])
    return [*found, *([[one.sha256, one.weight] for one in adapters])]


def _found(name: str, variant: str | None) -> tuple[Any, Path]:
    """The pipeline's class, and the directory with its files: all of it looked at, none of it loaded.

    Of a hub id ``model_index.json`` is read first: what it names decides what diffusers fetches, and runs.
    """
    path = Path(name)
    try:
        if name and path.is_dir():
            if not (path / INDEX).is_file():
                raise ValueError(f"expected a diffusers pipeline (a directory with {INDEX}), got {path}")
            check_weights(path, name, deep=True)
            kind, folder = check_model(path, name), path
        else:
            kind, folder = _from_hub(name, variant)
        _, components = check_index(read_json(folder / INDEX), name)
        check_variant(_weights(folder, components), variant, name)
        return kind, folder
    except ValueError as error:
        raise Refused(str(error)) from None


def _from_parts(kind: Any, folder: Path, how: Mapping[str, Any]) -> Any:
    """The pipeline of a bundled model that has some parts only, and the others of another one; of others None."""
    whole = lender(folder)
    if whole is None:
        return None
    _, components = check_index(read_json(folder / INDEX), folder.name)
    own: dict[str, Any] = {one: part for one, part in components.items() if (folder / one).is_dir()}
    loaded = {one: part.from_pretrained(str(folder / one), **how) for one, part in own.items()}
    return kind.from_pretrained(str(whole), trust_remote_code=False, **how, **loaded)


def _weights(folder: Path, components: Mapping[str, type]) -> dict[str, dict[str, list[str]]]:
    """For each component that is a network, which weights its folder has."""
    networks = [one for one, kind in components.items() if issubclass(kind, torch.nn.Module)]
    return {one: weights_in(folder / one) for one in networks}


def _from_hub(name: str, variant: str | None) -> tuple[Any, Path]:
    """A hub repository's class and its directory in the cache, fetched where not all of it is there."""
    if not is_hub_id(name):
        raise ValueError(
            f"expected a bundled model, a pipeline directory, FILE.safetensors or a hub id OWNER/NAME, got "
            f"{shown(name)!r}, which is not here"
        )
    missing: list[str] = []
    folder = cached(name)
    if folder is not None:
        missing = _missing(folder, name, variant)
        if not missing:
            return check_model(folder, name), folder
    wrong = f"model {shown(name)!r} could not be loaded"
    why = out_of_reach()
    if why is not None:
        if folder is not None and variant is None and missing and all(one.startswith("the weights") for one in missing):
            check_variant(_weights(folder, check_index(read_json(folder / INDEX), name)[1]), None, name)
        include = () if variant is None else (f"*.{variant}*", "*.json", "*.txt", "*.model")
        hint = _near(name)
        raise ValueError(f"{wrong}: {not_here(name, why, missing, include, '--model DIR')}{hint}")
    return _fetched(name, variant, wrong)


def _fetched(name: str, variant: str | None, wrong: str) -> tuple[Any, Path]:
    """As :func:`_from_hub`, from the hub itself."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        index = hf_hub_download(name, INDEX)
    except RemoteEntryNotFoundError:
        raise ValueError(f"expected a diffusers pipeline (a repository with {INDEX}), got {shown(name)!r}") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{wrong}: {refusal(name, error)}{_near(name)}") from error
    kind, components = check_index(read_json(Path(index)), name)
    try:
        folder = Path(kind.download(name, variant=variant, use_safetensors=True, trust_remote_code=False))
    except (OSError, ValueError, RuntimeError) as error:
        if "variant" in str(error):
            check_variant(_listed(name, components), variant, name)
        raise ValueError(f"{wrong}: {refusal(name, error)}") from error
    return check_model(folder, name), folder


def _listed(name: str, components: Mapping[str, type]) -> dict[str, dict[str, list[str]]]:
    """As :func:`_weights`, of a repository by the names of its files alone."""
    from huggingface_hub import list_repo_files

    files = list_repo_files(name)
    networks = [one for one, kind in components.items() if issubclass(kind, torch.nn.Module)]
    return {one: variants_of([file.removeprefix(f"{one}/") for file in files]) for one in networks}


def _missing(folder: Path, name: str, variant: str | None) -> list[str]:
    """What a directory of the hub's cache lacks of a pipeline."""
    if not (folder / INDEX).is_file():
        return [INDEX]
    _, components = check_index(read_json(folder / INDEX), name)
    absent = [f"{one}/" for one in components if not any((folder / one).glob("*.*"))]
    found = {one: held for one, held in _weights(folder, components).items() if f"{one}/" not in absent}
    configs = [f"{one}/config.json" for one in found if not (folder / one / "config.json").is_file()]
    return [*absent, *configs, *missing_weights(found, variant)]


def _near(name: str) -> str:
    """The bundled model that a name nearly is."""
    own = [f"{OWNER}/{one.parent.name}" for one in MODELS.glob(f"*/{INDEX}")]
    near = did_you_mean(name, own, cutoff=0.7)
    return near.replace("?", ", which comes with noisewright?")


def best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
