"""Every byte of a network's weights and buffers, wherever they are, as one digest.

A digest is made once for each loaded network. Whether it still holds is told by a checksum over all of it, which is ten
times faster than the digest, and by what torch counts of changes in place: any changed value is noticed, however it was
changed. What could escape is an exchange of values within a kibibyte, made behind torch's back (``weight.data``,
``numpy()``), that leaves the sums of both rows and columns of the block as they were.

Between processes the digest of a network that was :func:`loaded_from` files is kept by their paths, sizes and times
(``~/.cache/noisewright/fingerprints.json``), and used where the checksum is the recorded one and torch counted no
change since it was loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noisewright.outside.files import write_atomically
from noisewright.outside.messages import first_line
from noisewright.samplers.identity import add_bytes, as_text, bytes_of, canonical

SMALL = 2**25
"""Bytes of weights that are hashed each time: it takes 20 ms."""

WORKERS = 4
WORDS = 128
"""Words of 8 bytes in a row of the checksum."""

MOST_KEPT = 256
CACHE_VERSION = 1
HEX = re.compile(r"[0-9a-f]{64}")

_known: weakref.WeakKeyDictionary[nn.Module, tuple[str, str]] = weakref.WeakKeyDictionary()
_origins: weakref.WeakKeyDictionary[nn.Module, tuple[str, str]] = weakref.WeakKeyDictionary()


def digest_of_network(network: nn.Module, name: str) -> str:
    """SHA-256, as hex digits, of the names, shapes, types and bytes of all tensors that a network holds.

    Args:
        network: on any device, offloaded or not, quantised or not.
        name: what to call it in a message.

    Raises:
        ValueError: where a tensor's values are not to be had, naming it.
    """
    tensors, facts = tensors_of(network, name)
    if sum(one.nbytes for one in tensors.values()) < SMALL:
        return _digest(tensors, facts, name)
    content = _checksum(tensors, facts)
    changes = _changes(tensors)
    token = f"{content} {changes}"
    if (known := _known.get(network)) is not None and known[0] == token:
        return known[1]
    files, since = _origins.get(network, ("", ""))
    proven = bool(files) and since == changes
    found = _kept(files, content) if proven else None
    if found is None:
        found = _digest(tensors, facts, name)
        if proven:
            _keep(files, content, found)
    _known[network] = (token, found)
    return found


def tensors_of(network: nn.Module, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Plain dense tensors by name, and what else belongs to them: how they are packed, extra state.

    Tied weights come under each of their names, buffers also where they are not saved. Of tensors that are away (on the
    meta device, or on disk) the values come from whoever put them there.

    Raises:
        ValueError: where a tensor's values are not to be had.
    """
    tensors: dict[str, Tensor] = {}
    facts: dict[str, Any] = {}
    away = _on_disk(network)
    own = (network.named_parameters(remove_duplicate=False), network.named_buffers(remove_duplicate=False))
    named = dict(chain(*own))
    for key, value in {**_saved(network), **named}.items():
        short = key.replace("_orig_mod.", "")  # of torch.compile
        if isinstance(value, Tensor):
            value = away.get(id(value), value)
            value = _offloaded(network, key, name) if value.device.type == "meta" else value
        for path, one in _flat(short, value, facts):
            if not isinstance(one, Tensor):
                facts[path] = one
                continue
            if one.device.type == "meta" or one.layout != torch.strided or one.is_nested:
                kind = "on the meta device" if one.device.type == "meta" else "sparse or nested"
                raise ValueError(f"expected weights whose values can be read, got {name}.{path}, which is {kind}")
            tensors[path] = one
    return tensors, facts


def loaded_from(network: nn.Module, *settings: Any) -> None:
    """Remember that a network has just been loaded from the files of the directory that its config names.

    Args:
        network: the network, not changed since.
        settings: what else decides what is loaded, such as the precision.
    """
    config: Any = getattr(network, "config", {})
    place = config.get("_name_or_path") if isinstance(config, dict) else getattr(config, "_name_or_path", None)
    if not isinstance(place, str) or not place:
        return
    with contextlib.suppress(OSError, ValueError):
        stats = [(path, path.stat()) for path in sorted(Path(place).rglob("*")) if path.is_file()]
        files = [[str(path.resolve()), held.st_size, held.st_mtime_ns] for path, held in stats]
        if files:
            about = as_text([CACHE_VERSION, torch.__version__, files, canonical(settings)])
            key = hashlib.sha256(about.encode()).hexdigest()
            _origins[network] = (key, _changes(tensors_of(network, "")[0]))


# Where tensors are


def _saved(network: nn.Module) -> dict[str, Any]:
    """What a network saves; quantised ones have more in it than parameters and buffers."""
    return dict(network.state_dict(keep_vars=True))


def _flat(key: str, value: Any, facts: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """A value's plain tensors; of subclasses those that they consist of."""
    if isinstance(value, (list, tuple, dict)) and not isinstance(value, torch.Size):
        for part, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(f"{key}.{part}", one, facts)
    elif not isinstance(value, Tensor):
        yield key, _described(value)
    elif hasattr(value, "__tensor_flatten__"):
        parts, context = value.__tensor_flatten__()
        facts[f"{key} packed"] = [type(value).__name__, _described(context)]
        for part in parts:
            yield from _flat(f"{key}.{part}", getattr(value, part), facts)
    elif value.is_quantized:
        facts[f"{key} packed"] = str(value.qscheme())
        if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
            facts[f"{key} scale"] = [value.q_scale(), value.q_zero_point()]
        else:
            yield f"{key}.scales", value.q_per_channel_scales()
            yield f"{key}.zeros", value.q_per_channel_zero_points()
        yield key, value.int_repr()
    elif type(value) in (Tensor, nn.Parameter):
        yield key, value
    else:
        facts[f"{key} packed"] = [type(value).__name__, str(getattr(value, "quant_type", ""))]
        with torch._C.DisableTorchFunctionSubclass():
            yield key, value.detach().as_subclass(Tensor)


def _described(value: Any) -> Any:
    """What is no tensor, as JSON: its text without addresses where it is nothing that JSON can hold."""
    try:
        return canonical(value)
    except (TypeError, ValueError):
        return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def _offloaded(network: nn.Module, key: str, name: str) -> Tensor:
    """The values of a tensor that accelerate keeps elsewhere, from the hook that brings them back."""
    parts = key.split(".")
    for cut in range(len(parts) - 1, -1, -1):
        holder = network.get_submodule(".".join(parts[:cut]))
        hook = getattr(holder, "_hf_hook", None)
        for one in getattr(hook, "hooks", (hook,)):
            weights = getattr(one, "weights_map", None)
            try:
                found = None if weights is None else weights[".".join(parts[cut:])]
            except KeyError:
                continue
            if isinstance(found, Tensor) and found.device.type != "meta":
                return found
    raise ValueError(f"expected weights whose values can be read, got {name}.{key}, which is on the meta device")


def _on_disk(network: nn.Module) -> dict[int, Tensor]:
    """By id, the values of tensors that diffusers' group offloading wrote to disk: what stands in them is left over."""
    from safetensors.torch import load_file

    found = {}
    for part in network.modules():
        for hook in getattr(getattr(part, "_diffusers_hook", None), "hooks", {}).values():
            group: Any = getattr(hook, "group", None)
            if getattr(group, "_is_offloaded_to_disk", False):
                held = load_file(group.safetensors_file_path)
                found.update({id(one): held[key] for one, key in group.tensor_to_key.items()})
    return found


# Digest and checksum


def _digest(tensors: Mapping[str, Tensor], facts: Mapping[str, Any], name: str) -> str:
    """Every tensor hashed by itself, a few at a time: hashlib lets other threads run."""
    distinct = {_place(one): one for one in tensors.values()}  # tied weights are read once
    with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)) as pool:
        try:
            hashed = dict(zip(distinct, pool.map(_hash, distinct.values()), strict=True))
        except (RuntimeError, TypeError, NotImplementedError) as error:
            first = first_line(error)
            raise ValueError(f"expected weights whose bytes can be read in {name}, got others: {first}") from None
    rows = [[key, str(one.dtype), list(one.shape), hashed[_place(one)]] for key, one in sorted(tensors.items())]
    return hashlib.sha256(as_text([rows, dict(facts)]).encode()).hexdigest()


def _hash(tensor: Tensor) -> str:
    found = hashlib.sha256()
    add_bytes(found, tensor)
    return found.hexdigest()


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """The same for tensors over the same memory; for empty ones nothing tells them apart."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, str(tensor.device)


def _checksum(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """A fast digest of all bytes, the same on any device: of the sums of rows and columns of their words."""
    found = hashlib.sha256(as_text(dict(facts)).encode())
    for key, one in sorted(tensors.items()):
        found.update(f"{key} {one.dtype} {tuple(one.shape)} ".encode())
        flat = bytes_of(one)
        flat = flat if flat.storage_offset() % 8 == 0 else flat.clone()
        whole = len(flat) // (8 * WORDS) * (8 * WORDS)
        rows = flat[:whole].view(torch.int64).view(-1, WORDS)
        for part in (rows.sum(1), rows.sum(0), flat[whole:]):
            found.update(part.cpu().numpy())
    return found.hexdigest()


def _changes(tensors: Mapping[str, Tensor]) -> str:
    """What torch knows of changes: where each tensor is, and how often it was changed in place."""
    rows = []
    for key, one in sorted(tensors.items()):
        version = None if one.is_inference() else one._version
        rows.append([key, one.data_ptr(), version])
    return hashlib.sha256(as_text(rows).encode()).hexdigest()


# Between processes


def cache_file() -> Path:
    """Where digests are kept: under ``XDG_CACHE_HOME``, or ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if os.path.isabs(root) else Path.home() / ".cache") / "noisewright" / "fingerprints.json"


def _entries() -> dict[str, list[str]]:
    """What is kept; nothing of a file that is missing or damaged."""
    try:
        held = json.loads(cache_file().read_text(encoding="utf-8"))
        entries = held["entries"] if held["version"] == CACHE_VERSION else {}
        return {
            key: pair for key, pair in entries.items()
            if len(pair) == 2 and all(isinstance(one, str) and HEX.fullmatch(one) for one in (key, *pair))
        }  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError):
        return {}


def _kept(files: str, content: str) -> str | None:
    known = _entries().get(files)
    return known[1] if known is not None and known[0] == content else None


def _keep(files: str, content: str, digest: str) -> None:
    """Write a digest; where that is not possible it is made again by the next process."""
    entries = {key: pair for key, pair in _entries().items() if key != files}
    entries[files] = [content, digest]
    last = dict(list(entries.items())[-MOST_KEPT:])
    with contextlib.suppress(OSError, RuntimeError):
        cache_file().parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"version": CACHE_VERSION, "entries": last}, indent=1)
        write_atomically(cache_file(), text.encode(), sync=False)
