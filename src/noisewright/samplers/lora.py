"""LoRA files: looked at before a model is loaded, added to a pipeline with their weights, proved to have all gone in.

diffusers and peft load them. What they pass over in silence is refused: layers that the pipeline does not have, a
configuration in the file's metadata that names a module to import or that would change the model's own weights.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from noisewright.outside.reading import open_regular, shown
from noisewright.outside.texts import clean
from noisewright.samplers.checkpoint import Checkpoint, read_checkpoint
from noisewright.samplers.model_files import BRINGS_CODE
from noisewright.samplers.source import Lora, source_of

MOST_LORAS = 64
LARGEST_WEIGHT = 100.0
LARGEST_RANK = 2**14
PIECE = 2**20
ADAPTER = "noisewright_{}"
"""What the adapters are called: by their place, so that neither a file's name nor where it lies changes anything."""

METADATA = "lora_adapter_metadata"
"""Where in a file's metadata diffusers keeps the configuration that it gives to peft."""

PLAIN_SETTINGS = frozenset((
    "base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "lora_alpha", "lora_bias", "lora_dropout",
    "peft_version", "r", "task_type", "use_dora", "use_rslora",
))  # fmt: skip
"""Settings of peft's that are plain values and no more."""

LAYERS = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")
PATTERNS = ("rank_pattern", "alpha_pattern")
LAYER = re.compile(r"\^?[\w.]+\$?")
"""A layer's name; peft takes these for regular expressions."""

WEIGHT_KEY = re.compile(r"lora[._](A|B|up|down|magnitude)|lora_(linear|embedding)|lokr_w|\.lora\.")
OTHER_KINDS = {"hada_w": "LoHa", "dora_scale": "DoRA", "oft_": "OFT", "boft_": "BOFT", "glora": "GLoRA", "ia3": "IA3"}


def read_loras(given: Iterable[tuple[str | Path, float]]) -> list[Lora]:
    """LoRA files with their weights, looked at; nothing is loaded.

    Args:
        given: of each the file, safetensors, and what its change of the weights is multiplied with.

    Raises:
        ValueError, TypeError: in one line, on a file that is no LoRA or asks for more than weights, a weight that is no
            finite number, the same LoRA twice, and without peft.
    """
    pairs = [_pair(one) for one in given]
    if not pairs:
        return []
    if len(pairs) > MOST_LORAS:
        raise ValueError(f"expected at most {MOST_LORAS} LoRAs, got {len(pairs)}")
    found: list[Lora] = []
    for file, weight in pairs:
        _check_lora(read_checkpoint(file, "a LoRA"))
        digest = digest_of_file(file)
        if any(one.sha256 == digest for one in found):
            raise ValueError(f"expected different LoRAs, got {shown(file)} twice")
        found.append(Lora(str(Path(file).absolute()), digest, weight))
    _check_peft()
    return found


def _pair(given: Any) -> tuple[str, float]:
    """A file and a weight.

    Raises:
        ValueError, TypeError: in one line.
    """
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence) or len(given) != 2:
        raise TypeError(f"expected a LoRA as a file and a weight, got {clean(repr(given), 80)}")
    file, weight = given
    if not isinstance(file, (str, Path)):
        raise TypeError(f"expected the file of a LoRA as a path, got {type(file).__name__}")
    if isinstance(weight, bool) or not isinstance(weight, numbers.Real):
        raise TypeError(f"expected the weight of {shown(file)} as a number, got {type(weight).__name__}")
    value = float(weight)
    if not math.isfinite(value) or abs(value) > LARGEST_WEIGHT:
        bound = f"{LARGEST_WEIGHT:g}"
        raise ValueError(f"expected a weight of {shown(file)} in [-{bound}, {bound}], got {value:g}")
    return str(file), value


def digest_of_file(file: str | Path) -> str:
    """SHA-256 of a LoRA file, as 64 hex digits.

    Raises:
        ValueError: in one line, where it cannot be read.
    """
    found = hashlib.sha256()
    with open_regular(file, "a LoRA") as held:
        while piece := held.read(PIECE):
            found.update(piece)
    return found.hexdigest()


def _check_peft() -> None:
    if importlib.util.find_spec("peft") is None:
        raise ValueError("expected peft, which diffusers adds LoRAs with, got none: pip install 'noisewright[lora]'")
    from diffusers.utils.constants import MIN_PEFT_VERSION, USE_PEFT_BACKEND

    if not USE_PEFT_BACKEND:
        raise ValueError(f"expected peft of at least {MIN_PEFT_VERSION}, got an older one: pip install -U peft")


# What is in a file


def _check_lora(held: Checkpoint) -> None:
    """Refuse a file that is no LoRA, or whose metadata asks for more than weights.

    Raises:
        ValueError: in one line.
    """
    said = f"expected a LoRA, got {shown(held.file)}"
    for mark, kind in OTHER_KINDS.items():
        if any(mark in key for key in held.shapes):
            raise ValueError(f"{said}, which is a {kind}: diffusers does not add all of it")
    if not any(WEIGHT_KEY.search(key) for key in held.shapes):
        raise ValueError(f"{said}, which holds whole weights ({shown(next(iter(held.shapes)))}): is it a model?")
    raw = held.metadata.get(METADATA)
    if raw is None:
        return
    try:
        settings = json.loads(raw)
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, Mapping):
        raise ValueError(f"{said}, whose metadata is damaged")
    for key, value in settings.items():
        _check_setting(str(key).rpartition(".")[2], value, f"LoRA {shown(held.file)}")


def _check_setting(name: str, value: Any, what: str) -> None:
    """Refuse a setting for peft that is no plain value: some name a module to import, some change the model itself."""
    simple = value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) < 4096)
    if name == "r" and not (isinstance(value, int) and 0 < value <= LARGEST_RANK):
        fine = False
    elif name in PLAIN_SETTINGS:
        fine = simple
    elif name in LAYERS:
        listed = value if isinstance(value, list) else [value]
        fine = all(one is None or isinstance(one, int) or _is_layer(one) for one in listed)
    elif name in PATTERNS:
        fine = value is None or (isinstance(value, dict) and all(map(_is_layer, value)))
        ranks = value.values() if fine and value and name == "rank_pattern" else ()
        fine = fine and all(isinstance(one, int) and 0 < one <= LARGEST_RANK for one in ranks)
    elif name == "peft_type":
        fine = value in ("LORA", "LOKR")
    elif name == "init_lora_weights":
        fine = value is None or isinstance(value, bool) or value == "gaussian"
    elif name == "megatron_core":
        fine = value in (None, "megatron.core")
    else:
        fine = not value or (isinstance(value, (int, float)) and not isinstance(value, bool))
    if not fine:
        raise ValueError(f"{what} {BRINGS_CODE} (or changes more than a LoRA does): {clean(name, 60)} in its metadata")


def _is_layer(text: Any) -> bool:
    return isinstance(text, str) and (text == "all-linear" or LAYER.fullmatch(text) is not None)


# Adding


def add_loras(pipe: Any, loras: Sequence[Lora]) -> None:
    """Add LoRAs to a pipeline, with their weights.

    Args:
        pipe: of diffusers, on its device.
        loras: from :func:`read_loras`.

    Raises:
        ValueError: in one line, where the pipeline takes none, and where one does not fit it in whole or in part.
    """
    if not loras:
        return
    if not hasattr(pipe, "load_lora_weights"):
        raise ValueError(f"{type(pipe).__name__} takes no LoRA")
    names = [ADAPTER.format(place) for place in range(len(loras))]
    for name, one in zip(names, loras, strict=True):
        _add(pipe, one, name)
    try:
        pipe.set_adapters(names, [one.weight for one in loras])
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{type(pipe).__name__} takes no weights of LoRAs: {_first(error)}") from error


def still_added(pipe: Any, loras: Sequence[Lora]) -> bool:
    """Whether a pipeline has the LoRAs that were added to it, and nobody took them out since."""
    parts = [getattr(one, "peft_config", {}) for one in pipe.components.values() if isinstance(one, torch.nn.Module)]
    return all(any(ADAPTER.format(place) in held for held in parts) for place in range(len(loras)))


def _add(pipe: Any, lora: Lora, name: str) -> None:
    """Add one LoRA, and prove that each of its layers found its place.

    Raises:
        ValueError: in one line.
    """
    path = Path(lora.file)
    unfit = f"expected a LoRA for {type(pipe).__name__}, got {shown(path)}"
    try:
        given = _layers(pipe, path)
        pipe.load_lora_weights(
            str(path.parent), weight_name=path.name, adapter_name=name, use_safetensors=True, local_files_only=True
        )
    except (ValueError, KeyError, TypeError, RuntimeError, AttributeError, IndexError, OSError) as error:
        raise ValueError(f"{unfit}, which does not fit: {_first(error)}") from error
    found = _adapter_weights(pipe, name)
    if not found:
        raise ValueError(f"{unfit}, none of whose layers it has ({given[0]}): it is for another model")
    absent = [key for key, one in found.items() if one.device.type == "meta"]
    if absent:
        raise ValueError(f"{unfit}, which lacks weights of {absent[0]}")
    if len(found) < len(given):
        places = f"of whose {len(given)} weights it has a place for {len(found)}"
        raise ValueError(f"{unfit}, {places}: it is for another model")
    bad = [key for key, one in found.items() if not bool(torch.isfinite(one).all())]
    if bad:
        raise ValueError(f"{unfit}, whose weights are not finite: {bad[0]}")


def _layers(pipe: Any, path: Path) -> list[str]:
    """The names of a LoRA's weights as diffusers translates them for the pipeline."""
    is_xl = getattr(pipe, "unet", None) is not None and getattr(pipe, "text_encoder_2", None) is not None
    given = {"unet_config": pipe.unet.config} if is_xl else {}  # as its own load_lora_weights has it
    state = pipe.lora_state_dict(
        str(path.parent), weight_name=path.name, use_safetensors=True, local_files_only=True, **given
    )
    state = state[0] if isinstance(state, tuple) else state
    return [key for key in state if WEIGHT_KEY.search(key)]


def _adapter_weights(pipe: Any, name: str) -> dict[str, torch.Tensor]:
    """The weights of an adapter, wherever in a pipeline they are."""
    found = {}
    for component, network in pipe.components.items():
        if isinstance(network, torch.nn.Module):
            for key, one in network.named_parameters():
                if f".{name}." in f"{key}.":
                    found[f"{component}.{key}"] = one
    return found


def _first(error: BaseException) -> str:
    """The telling line of an error: of torch's on shapes the second."""
    lines = [one.strip() for one in str(error).strip().splitlines() if one.strip()]
    telling = next((one for one in lines if "size mismatch" in one), lines[0] if lines else type(error).__name__)
    return clean(telling, 200)


def source_recorded(pipe: Any) -> dict[str, Any]:
    """What records say of where a pipeline was loaded from; without LoRAs that were taken out of it again."""
    source = source_of(pipe)
    if source is None:
        return {}
    return (source if still_added(pipe, source.loras) else replace(source, loras=())).to_json()
