"""A single-file checkpoint in the layout of a model's authors: all weights of a pipeline in one safetensors file.

What such a file does not say (classes, configurations, tokenizers, scheduler) comes from the directory of a pipeline of
the same kind, which is looked at like any model's. diffusers translates the names; what it would leave out in silence
is refused here: weights that are not in the file, and weights in the file that the configuration has no place for.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from noisewright.outside.hub import cached, is_hub_id, out_of_reach, refusal
from noisewright.outside.messages import first_line
from noisewright.outside.reading import shown
from noisewright.outside.texts import clean
from noisewright.samplers.checkpoint import PICKLE_SUFFIXES, Checkpoint, read_checkpoint
from noisewright.samplers.model_files import Refused, read_json
from noisewright.samplers.model_index import INDEX, check_index, check_model
from noisewright.samplers.weight_files import PLAIN, weights_in

SUFFIXES = (".safetensors", ".gguf", *PICKLE_SUFFIXES)
CONFIGS = ("*.json", "**/*.json", "*.txt", "**/*.txt", "**/*.model")
"""What of a repository are configurations and tokenizers."""

LORA_KEY = re.compile(r"lora_|\.lora\.|lokr_|hada_w|\.lora_[AB]\.")
VAE_KEY = re.compile(r"(first_stage_model\.|vae\.)?((en|de)coder|(post_)?quant_conv)\.")
TEXT_LAYERS = re.compile(
    r"(cond_stage_model|conditioner\.embedders\.0)\.transformer\.text_model\.encoder\.layers\.(\d+)\."
)
NETWORKS = ("unet", "transformer")
"""The parts that denoise: a checkpoint holds them, whatever else comes from beside the configurations."""

UNUSED = re.compile(r"not used when initializing (\w+): \s*\[+'?(.*?)[,'\]]", re.DOTALL)
"""What diffusers' log says of weights that it leaves out."""


def is_single_file(name: str) -> bool:
    """Whether a model's name is that of a file of weights, which may not be there."""
    path = Path(name)
    return not path.is_dir() and (path.is_file() or path.suffix.lower() in SUFFIXES)


def load_single_file(file: Path, config: str | Path | None, dtype: torch.dtype) -> Any:
    """The pipeline of a single-file checkpoint, on the CPU.

    Args:
        file: safetensors.
        config: the directory or hub id of a pipeline of the same kind; by default the model that the file looks like.
        dtype: of its weights, whatever the file's are.

    Raises:
        ValueError: in one line, on a file that is none, and where file and configurations do not fit.
    """
    try:
        held = read_checkpoint(file, "a single-file checkpoint (FILE.safetensors)")
        _check_kind(held)
        folder = _configs(held, config)
        kind = check_model(folder, str(folder))
    except ValueError as error:
        raise Refused(str(error)) from None
    if not hasattr(kind, "from_single_file"):
        raise Refused(f"expected a pipeline that single files are of, got {kind.__name__} in {shown(folder)}")
    with _unused(str(file), folder):
        pipe = _converted(kind, file, folder, dtype)
    _check_whole(pipe, held, folder)
    return pipe


def _converted(kind: Any, file: Path, folder: Path, dtype: torch.dtype) -> Any:
    """What diffusers makes of a file; parts that it leaves out come from beside the configurations, if they are."""
    from diffusers.loaders.single_file_utils import SingleFileComponentError
    from safetensors import SafetensorError

    wrong = f"expected a checkpoint of the {kind.__name__} in {shown(folder)}, got {shown(file)}"
    beside: dict[str, Any] = {}
    while True:
        try:
            return kind.from_single_file(
                str(file), config=str(folder), local_files_only=True, torch_dtype=dtype, **beside
            )
        except SingleFileComponentError as error:
            part = _part_of(error)
            if part in NETWORKS:  # without which it is no checkpoint of this pipeline
                raise Refused(f"{wrong}, which has no weights of {part}") from None
            if part in beside or (made := _beside(folder, part, dtype)) is None:
                raise Refused(f"{wrong}, which has no weights of {part}, nor has the directory") from None
            beside[part] = made
        except NotImplementedError as error:
            if "meta tensor" not in str(error):
                raise
            raise Refused(f"{wrong}, which lacks some of its weights") from None
        except SafetensorError as error:
            raise Refused(f"{wrong}, which is damaged: {clean(error, 100)}") from None
        except (KeyError, AttributeError, IndexError, ValueError, RuntimeError, TypeError) as error:
            first = clean(first_line(error), 160)
            raise Refused(f"{wrong}, whose weights do not fit: {first.partition('. If you want')[0]}") from error


def _part_of(error: BaseException) -> str:
    """The part of a pipeline that diffusers found no weights of."""
    found = re.search(r"(\w+) = \w+\.from_pretrained", str(error))
    return found[1] if found else "one of its parts"


def _beside(folder: Path, part: str, dtype: torch.dtype) -> Any:
    """A network of a pipeline's directory, or None where it has no weights of it."""
    _, components = check_index(read_json(folder / INDEX), str(folder))
    kind: Any = components.get(part)
    if kind is None or PLAIN not in weights_in(folder / part):
        return None
    return kind.from_pretrained(str(folder / part), torch_dtype=dtype, use_safetensors=True, local_files_only=True)


def _check_kind(held: Checkpoint) -> None:
    """Refuse files of weights that are no checkpoint of a pipeline, by the names of their tensors.

    Raises:
        ValueError: in one line, with what the file is.
    """
    said = f"expected a single-file checkpoint, got {shown(held.file)}"
    if any(LORA_KEY.search(key) for key in held.shapes):
        raise ValueError(f"{said}, which is a LoRA: --lora {shown(held.file)} adds it to a model")
    if all(VAE_KEY.match(key) for key in held.shapes):
        raise ValueError(f"{said}, which holds a VAE alone")
    if any("control_model." in key or "controlnet" in key for key in held.shapes):
        raise ValueError(f"{said}, which is a ControlNet")


def _configs(held: Checkpoint, config: str | Path | None) -> Path:
    """The directory of the configurations that were given, or of the model that a file looks like."""
    if config is not None:
        text = str(config)
        if Path(text).is_dir():
            if not (Path(text) / INDEX).is_file():
                raise ValueError(f"expected a config directory with {INDEX}, got {shown(text)}")
            return Path(text)
        if Path(text).exists() or not is_hub_id(text):
            what = "a file" if Path(text).exists() else "which is not here"
            raise ValueError(f"expected a config as a pipeline's directory or a hub id, got {shown(text)}, {what}")
        return _from_hub(held, text, f"those of {text}")
    from diffusers.loaders.single_file_utils import fetch_diffusers_config

    like = fetch_diffusers_config({key: torch.empty(shape, device="meta") for key, shape in held.shapes.items()})
    repository = str(like["pretrained_model_name_or_path"])
    return _from_hub(held, repository, f"it looks like {repository}, whose configurations")


def _from_hub(held: Checkpoint, repository: str, said: str) -> Path:
    """The configurations of a hub repository: from the cache, or fetched."""
    from huggingface_hub import snapshot_download

    folder = cached(repository, CONFIGS)
    if folder is not None and (folder / INDEX).is_file() and not _without_configs(folder, repository):
        return folder
    wanted = f"expected --config DIR for {shown(held.file)}, the directory of a pipeline of its kind"
    include = "--include '*.json' '*.txt' '*.model'"
    how = f"hf download {repository} {include} --local-dir DIR"
    why = out_of_reach()
    if why is not None:
        raise ValueError(
            f"{wanted}: {said} are not in the hub's cache and {why}; where there is a network: {how}"
        )
    try:
        return Path(snapshot_download(repository, allow_patterns=list(CONFIGS)))
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{wanted}: {said} are not here, and {refusal(repository, error)}") from error


def _without_configs(folder: Path, repository: str) -> list[str]:
    """The parts of a pipeline of which a directory has no configuration."""
    _, components = check_index(read_json(folder / INDEX), repository)
    optional = ("safety_checker",)  # which diffusers takes from no single file
    return [one for one in components if one not in optional and not any((folder / one).glob("*.json"))]


@contextmanager
def _unused(file: str, folder: Path) -> Iterator[None]:
    """Refuse a file of which diffusers says, in its log alone, that it leaves weights out."""
    said: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    log, handler = logging.getLogger("diffusers.loaders.single_file_model"), Listening()
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.WARNING)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.level, log.propagate = before
        log.setLevel(before[0])
    for text in said:
        if found := UNUSED.search(text):
            raise Refused(
                f"expected a checkpoint of the model in {shown(folder)}, got {shown(file)}, which has weights that its "
                f"{found[1]} has no place for: {clean(found[2], 100)}"
            )


def _check_whole(pipe: Any, held: Checkpoint, folder: Path) -> None:
    """Refuse a pipeline some of whose weights were neither in the file nor beside the configurations."""
    for name, one in pipe.components.items():
        if not isinstance(one, torch.nn.Module):
            continue
        absent = [key for key, tensor in one.state_dict().items() if tensor.device.type == "meta"]
        if absent:
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            raise Refused(
                f"expected a checkpoint of the model in {shown(folder)}, got {shown(held.file)}, which lacks "
                f"{name}.{absent[0]}{more}"
            )
    layers = {int(found[2]) for key in held.shapes if (found := TEXT_LAYERS.match(key))}
    has = getattr(getattr(pipe.components.get("text_encoder"), "config", None), "num_hidden_layers", None)
    if layers and has is not None and len(layers) > has:
        raise Refused(
            f"expected a checkpoint of the model in {shown(folder)}, got {shown(held.file)}, whose text encoder has "
            f"{len(layers)} layers, not {has}"
        )
