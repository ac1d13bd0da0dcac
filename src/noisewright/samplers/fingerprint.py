"""What tells one loaded pipeline from another."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from noisewright.samplers.contents import digest_of_network, tensors_of
from noisewright.samplers.identity import as_text, canonical, digest_of

FORM = "2:"
"""How fingerprints of every byte begin; those of earlier versions, of 16 values a tensor, are 16 hex digits alone."""

SILENT = ("_", "architectures", "transformers_version", "dtype", "torch_dtype")
"""Config keys that only say where, with what, or in which precision a component was made (weights carry their own)."""

TABLES = ("alphas_cumprod", "final_alpha_cumprod")
"""What steps of a scheduler are made of; neither ``set_timesteps`` nor a step rewrites it."""

REWRITTEN = (("DPMSolverSinglestepScheduler", "lower_order_final"),)
"""Configuration that a scheduler writes anew when it is used, by the number of its steps."""

PARTS = ("tokenizer", "tokenizer_2", "image_processor", "feature_extractor", "video_processor")
"""What processors are made of."""

log = logging.getLogger("noisewright")


class Fingerprint(str):
    """A fingerprint that can be compared with those of earlier versions: see :func:`same_model`."""

    _pipe: weakref.ref[Any] | None = None

    def older(self) -> str:
        """What an earlier version recorded of the same pipeline, as it is now."""
        pipe = None if self._pipe is None else self._pipe()
        return "" if pipe is None else older_fingerprint(pipe)

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)  # in another process there is no pipeline to ask

    def __deepcopy__(self, memo: dict[int, Any]) -> Fingerprint:
        return self


def fingerprint(pipe: Any) -> Fingerprint:
    """``2:`` and 32 hex digits that change with anything that decides what a pipeline computes.

    That is every byte of each component's weights and buffers (LoRA, textual inversion and IP-Adapters are among them),
    their configs, the scale and the state of adapters, FreeU, tiling, caching, the content of tokenizers and
    processors, and the pipeline's own config. Left out is what calls change (a scheduler's timesteps, a tokenizer's
    padding), where files lie, versions of libraries and the device. What forward hooks do is not seen.

    Raises:
        ValueError: where weights are not to be had, in one line.
    """
    found = {name: _component(name, one) for name, one in sorted(pipe.components.items())}
    own = {key: value for key, value in dict(getattr(pipe, "config", {})).items() if key not in found}
    made = Fingerprint(FORM + digest_of([type(pipe).__name__, _plain(own), found])[:32])
    with contextlib.suppress(TypeError):
        made._pipe = weakref.ref(pipe)
    return made


def same_model(recorded: Any, now: Any) -> bool:
    """Whether a recorded fingerprint is that of a model, by the rule that held when it was recorded.

    Args:
        recorded: from a run, a recipe or a schedule file, maybe of an earlier version.
        now: what :func:`fingerprint` gives.
    """
    if recorded == now:
        return True
    return is_older(recorded) and isinstance(now, Fingerprint) and now.older() == recorded


def is_older(recorded: Any) -> bool:
    """Whether a fingerprint was recorded by a version that read 16 values a tensor."""
    return isinstance(recorded, str) and not recorded.startswith(FORM)


# Components


def _component(name: str, one: Any) -> Any:
    if one is None or isinstance(one, (bool, int, float, str)):
        return canonical(one, name)
    if isinstance(one, (list, tuple)):
        return [_component(f"{name}.{number}", each) for number, each in enumerate(one)]
    about: dict[str, Any] = {"class": type(getattr(one, "_orig_mod", one)).__name__, "config": config_of(one)}
    if isinstance(one, torch.nn.Module):
        return {**about, "weights": digest_of_network(one, name), "state": switches_of(one)}
    if hasattr(one, "get_vocab"):
        return {**about, "tokenizer": _tokenizer(one)}
    if hasattr(one, "set_timesteps"):
        about["config"] = _scheduler_config(about["class"], about["config"])
        return {**about, "tables": {key: canonical(getattr(one, key)) for key in TABLES if hasattr(one, key)}}
    parts = {key: _component(f"{name}.{key}", getattr(one, key)) for key in PARTS if hasattr(one, key)}
    if not parts and not about["config"]:
        log.warning("the fingerprint knows only the kind of %s (%s), not its content", name, about["class"])
    return {**about, "parts": parts}


def _scheduler_config(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """Without what ``set_timesteps`` rewrites: afterwards nothing tells what it was."""
    return {key: value for key, value in config.items() if (kind, key) not in REWRITTEN}


def config_of(component: Any) -> dict[str, Any]:
    """A component's settings, at every depth without the :data:`SILENT` ones."""
    config: Any = getattr(component, "config", None)
    if config is None and not hasattr(component, "get_vocab"):
        config = component
    if hasattr(config, "to_dict"):
        return dict(_plain(config.to_dict()))
    return dict(_plain(dict(config))) if isinstance(config, Mapping) else {}


def _plain(value: Any) -> Any:
    """Settings as JSON: a tuple is the list that it comes back as from a file."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items() if not str(key).startswith(SILENT)}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    try:
        return canonical(value)
    except (TypeError, ValueError):
        return {"$class": type(value).__name__}


def switches_of(module: torch.nn.Module) -> list[Any]:
    """What decides what a network computes and is neither in its weights nor in its config."""
    found = []
    for key, part in module.named_modules():
        held: dict[str, Any] = {}
        if isinstance(getattr(part, "scaling", None), dict) and hasattr(part, "active_adapters"):  # peft's layers
            # Pipelines scale and unscale adapters in a call, which may leave a last digit behind.
            held["scaling"] = {str(name): f"{float(scale):.10g}" for name, scale in part.scaling.items()}
            held["active"] = [str(one) for one in part.active_adapters]
            held["merged"] = [str(one) for one in getattr(part, "merged_adapters", ())]
            held["off"] = bool(getattr(part, "disable_adapters", False))
        for name in ("s1", "s2", "b1", "b2"):  # FreeU's
            if isinstance(getattr(part, name, None), (int, float)):
                held[name] = float(getattr(part, name))
        if getattr(part, "use_tiling", False) is True:
            held["tiling"] = {name: size for name, size in vars(part).items() if name.startswith("tile_")}
        processor: Any = getattr(part, "processor", None)
        if processor is not None and not type(processor).__module__.startswith("diffusers."):
            held["processor"] = type(processor).__qualname__
        if isinstance(getattr(processor, "scale", None), (list, tuple, int, float)):  # of IP-Adapters
            held["scale"] = processor.scale
        if getattr(part, "_cache_config", None) is not None:
            cache = part._cache_config
            held["cache"] = [type(cache).__name__, {k: v for k, v in vars(cache).items() if not callable(v)}]
        if held:
            found.append([key.replace("_orig_mod", ""), _plain(held)])
    return found


def _tokenizer(tokenizer: Any) -> str:
    """A digest of what turns a prompt into numbers: vocabulary, merges, normalisation, added and special tokens."""
    limits = [canonical(getattr(tokenizer, key, None), key) for key in ("model_max_length", "padding_side")]
    found = hashlib.sha256(as_text([_plain(dict(tokenizer.special_tokens_map)), limits]).encode())
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if hasattr(backend, "to_str"):
        text = backend.to_str()
        # Before the added tokens stand truncation and padding, which are those of the last call.
        found.update((text.partition('"added_tokens":')[2] or text).encode())
    else:
        added = str(sorted(getattr(tokenizer, "added_tokens_decoder", {}).items()))
        found.update(as_text([sorted(tokenizer.get_vocab().items()), added, _slow_rules(tokenizer)]).encode())
    return found.hexdigest()


def _slow_rules(tokenizer: Any) -> list[Any]:
    """What a tokenizer without a serialised form goes by: the files that it saves, its merges and its settings."""
    rules: list[Any] = [str(sorted(getattr(tokenizer, "bpe_ranks", {}).items(), key=str))]
    model: Any = getattr(tokenizer, "sp_model", None)
    if hasattr(model, "serialized_model_proto"):
        rules.append(hashlib.sha256(model.serialized_model_proto()).hexdigest())
    with tempfile.TemporaryDirectory(prefix="noisewright-") as place, contextlib.suppress(Exception):
        tokenizer.save_vocabulary(place)  # which some have not
        files = sorted(one for one in Path(place).rglob("*") if one.is_file())
        rules.append([[one.name, hashlib.sha256(one.read_bytes()).hexdigest()] for one in files])
    settings = getattr(tokenizer, "init_kwargs", {})
    rules.append({key: value for key, value in settings.items() if isinstance(value, (bool, int, float))})
    return _plain(rules)  # type: ignore[no-any-return]  # a list stays one


# As earlier versions had it


def older_fingerprint(pipe: Any) -> str:
    """16 hex digits, of each component's config and of 16 values of each tensor, as earlier versions recorded them."""
    digest = hashlib.sha256(type(pipe).__name__.encode())
    for name, component in sorted(pipe.components.items()):
        text = json.dumps([name, type(component).__name__, _older_config(component)], default=str)
        digest.update(text.encode())
        if isinstance(component, torch.nn.Module):
            _add_values(digest, component, name)
            _add_adapters(digest, component)
    return digest.hexdigest()[:16]


def _add_values(digest: Any, module: torch.nn.Module, name: str) -> None:
    held = (*module.named_parameters(), *module.named_buffers())
    away = tensors_of(module, name)[0] if any(one.device.type == "meta" for _, one in held) else {}
    for key, tensor in held:
        flat = away.get(key, tensor).detach().reshape(-1)
        picked = flat[:: max(1, flat.numel() // 16)][:16].float().cpu()
        digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(picked.numpy().tobytes())


def _add_adapters(digest: Any, module: torch.nn.Module) -> None:
    for key, part in module.named_modules():
        if hasattr(part, "scaling") and hasattr(part, "active_adapters"):
            state = [key, part.scaling, list(part.active_adapters), getattr(part, "disable_adapters", False)]
            digest.update(json.dumps(state, default=str).encode())


def _older_config(component: Any) -> Any:
    config = getattr(component, "config", None)
    if config is None:
        return {}
    return _older_plain(config.to_dict() if hasattr(config, "to_dict") else dict(config))


def _older_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _older_plain(value[key]) for key in sorted(value, key=str) if not str(key).startswith(SILENT)}
    return value
