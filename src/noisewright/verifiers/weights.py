"""Where a verifier's files come from, a directory or a hub id; and checkpoints read without running what they hold."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from noisewright.outside.bundled import bundled, is_own
from noisewright.outside.hub import cached, is_hub_id, out_of_reach, refusal
from noisewright.outside.messages import first_line

log = logging.getLogger("noisewright")

CONFIG = ("config.json",)
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
IMAGES = ("preprocessor_config.json", "processor_config.json")
TOKENS = ("tokenizer.json", "vocab.json")
"""Names of files that can each do the same job, the preferred one first."""

ALONGSIDE = {
    CONFIG: ("reference.safetensors", "start.safetensors"),  # statistics, see verifiers/fid.py
    WEIGHTS: ("model-*.safetensors",),
    TOKENS: ("tokenizer_config.json", "merges.txt", "special_tokens_map.json", "added_tokens.json", "vocab.txt"),
}
PICKLES = ("pytorch_model*.bin",)
UNSAFE = "is refused: a pickle with something else than weights in it, which could run code (or a damaged one)"
PASSING = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")
"""Keys of a configuration that say nothing of what is computed."""
Loaded = TypeVar("Loaded")


def files_of(model: str | Path, needs: Sequence[Sequence[str]], given_as: str) -> Path:
    """A directory that holds, of each entry of ``needs``, at least one file.

    Args:
        model: a directory, ``noisewright/NAME``, or a hub id ``OWNER/NAME``, whose files are taken from the hub's
            cache without asking the network, or fetched.
        needs: for each job the names of the files that can do it, such as :data:`CONFIG`.
        given_as: for messages: how a directory would be given, ``clip:DIR``.

    Raises:
        ValueError: in one line, with the missing files and how to get them.
    """
    text = str(model)
    own = bundled(text)
    if own is None and is_own(text) and not Path(text).is_dir():
        raise ValueError(f"verifier model {text!r} could not be loaded: noisewright comes with no such model")
    path = own or Path(model)
    if path.is_dir():
        missing = _missing(path, needs)
        if missing:
            raise ValueError(f"verifier model {text!r} could not be loaded: the directory has no {', '.join(missing)}")
        return path
    if path.exists() or not is_hub_id(text):
        kind = "a file" if path.exists() else "no directory"
        raise ValueError(
            f"verifier model {text!r} could not be loaded: expected a directory or a hub id OWNER/NAME, got {kind}"
        )
    return _from_hub(text, needs, given_as)


def hub_file(repository: str, names: Sequence[str], given_as: str) -> Path:
    """The first of ``names`` that a hub repository has.

    Raises:
        ValueError: as :func:`files_of`.
    """
    folder = _from_hub(repository, [names], given_as)
    return next(folder / name for name in names if (folder / name).is_file())


def _missing(folder: Path, needs: Sequence[Sequence[str]]) -> list[str]:
    """Of each job the preferred file where there is none, or what is absent of the parts that an index names."""
    found: list[str] = []
    for names in needs:
        there = next((folder / name for name in names if (folder / name).is_file()), None)
        if there is None:
            found.append(names[0])
        elif there.name.endswith(".index.json"):
            found += [part for part in _parts(there) if not (folder / part).is_file()]
    return found


def _parts(index: Path) -> list[str]:
    """The files that a checkpoint's index names; of a damaged index its own copy, which nobody has."""
    try:
        found = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        found = set()
    return sorted(map(str, found)) or [f"{index.name} that can be read"]


def _from_hub(repository: str, needs: Sequence[Sequence[str]], given_as: str) -> Path:
    """A hub repository's directory in the cache, fetched where it has to be; pickles only where nothing else is."""
    from huggingface_hub import snapshot_download

    patterns = [*(one for names in needs for one in (*names, *ALONGSIDE.get(tuple(names), ())))]
    folder = cached(repository, patterns)
    missing = [names[0] for names in needs] if folder is None else _missing(folder, needs)
    if folder is not None and not missing:
        return folder
    how = (
        f"missing: {', '.join(missing)}; where there is a network: hf download {repository} --local-dir DIR, "
        f"then {given_as}"
    )
    why = out_of_reach()
    if why is not None:
        raise ValueError(
            f"verifier model {repository!r} could not be loaded: it is not in the hub's cache and {why}; {how}"
        )
    try:
        safe = [one for one in patterns if not one.endswith((".bin", ".bin.index.json"))]
        folder = Path(snapshot_download(repository, allow_patterns=safe))
        if _missing(folder, needs):
            folder = Path(snapshot_download(repository, allow_patterns=[*patterns, *PICKLES]))
    except (OSError, ValueError, RuntimeError) as error:
        said = refusal(repository, error)
        raise ValueError(f"verifier model {repository!r} could not be loaded: {said}; {how}") from error
    missing = _missing(folder, needs)
    if missing:
        raise ValueError(
            f"verifier model {repository!r} could not be loaded: the hub has no {', '.join(missing)} in it"
        )
    return folder


def pretrained(kind: Any, folder: Path, what: str | Path, **options: Any) -> Any:
    """``kind.from_pretrained`` in float32 for inference: safetensors, else a pickle with nothing but weights.

    Raises:
        ValueError: in one line, where it cannot be loaded, or lacks weights that the class wants.
    """
    safe = any((folder / name).is_file() for name in WEIGHTS[:2])

    def load() -> Any:
        return kind.from_pretrained(
            str(folder), use_safetensors=safe, dtype=torch.float32, local_files_only=True, trust_remote_code=False,
            output_loading_info=True, **options,
        )  # fmt: skip

    model, info = loading(load, what)
    check_loaded(info, what)
    return model.eval().requires_grad_(False)


def check_loaded(info: Any, what: str | Path) -> None:
    """Refuse a model some of whose weights were not in its files, and so are random."""
    absent = sorted(info["missing_keys"]) + sorted(str(one) for one in info["mismatched_keys"])
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise ValueError(f"verifier model {str(what)!r} could not be loaded: its files have no {absent[0]}{more}")


def loading(load: Callable[[], Loaded], what: str | Path) -> Loaded:
    """The result of ``load()``, with whatever a library says of a bad file in one line.

    Raises:
        ValueError: where it raises.
    """
    from safetensors import SafetensorError

    bad = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError, EOFError)
    try:
        return load()
    except (*bad, SafetensorError, pickle.UnpicklingError) as error:
        first = first_line(error)
        if _is_unsafe(error):
            first = f"a file of it {UNSAFE}"
        elif "trust_remote_code" in str(error):
            first = "it is refused: it brings code of its own, which noisewright never runs"
        raise ValueError(f"verifier model {str(what)!r} could not be loaded: {first}") from error


def read_state(path: str | Path) -> dict[str, Any]:
    """The tensors of a checkpoint, on the CPU: safetensors, or a pickle that holds nothing but weights.

    Raises:
        ValueError: in one line, where the file is not there, is damaged, or is a pickle that could run code.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"expected a checkpoint file, got {str(path)!r}, which does not exist")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        if _is_unsafe(error):
            raise ValueError(f"{path} {UNSAFE}") from error
        first = first_line(error)
        raise ValueError(f"expected a checkpoint, got {path}, which is damaged or none: {first[:120]}") from error
    if not isinstance(found, dict):
        raise ValueError(f"expected a checkpoint of named tensors, got {type(found).__name__} in {path}")
    return found


def _is_unsafe(error: BaseException) -> bool:
    """Whether torch's safe unpickler refused a file."""
    return isinstance(error, pickle.UnpicklingError) or "Weights only load failed" in str(error)


def add_network(digest: Any, network: nn.Module) -> None:
    """Adds every value of a network's parameters and buffers to a fingerprint, about a second for each gigabyte.

    What is remembered under it outlives the process, and a fine-tune may leave most weights as they were. With them
    goes the configuration, which can change what the same weights compute.
    """
    add_tensors(digest, dict([*network.named_parameters(), *network.named_buffers()]))
    if hasattr(network, "config"):
        add_settings(digest, network.config.to_dict())


def add_settings(digest: Any, settings: Mapping[str, Any]) -> None:
    """Adds a configuration to a fingerprint, but for what changes with the place and the version of a library."""
    digest.update(json.dumps({k: v for k, v in settings.items() if k not in PASSING}, sort_keys=True).encode())


def add_tensors(digest: Any, named: Mapping[str, Tensor]) -> None:
    """Adds whole tensors with their names, shapes and types to a fingerprint."""
    for key, tensor in named.items():
        digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def add_tokenizer(digest: Any, tokenizer: Any) -> None:
    """Adds to a fingerprint what turns a prompt into numbers: vocabulary, merges, normalisation, special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    whole = sorted(tokenizer.get_vocab().items()) if backend is None else backend.to_str()
    digest.update(repr((type(tokenizer).__name__, whole, sorted(tokenizer.special_tokens_map.items()))).encode())
