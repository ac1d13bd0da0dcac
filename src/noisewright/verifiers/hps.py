"""HPS v2.0 and v2.1 (Wu et al. 2023): CLIP ViT-H/14 tuned on human preferences, from open_clip's checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisewright.outside.hub import is_hub_id
from noisewright.verifiers.clip import ClipEncoder, load_tokenizer
from noisewright.verifiers.pickscore import PROCESSOR
from noisewright.verifiers.preprocess import Letterbox
from noisewright.verifiers.weights import TOKENS, check_loaded, files_of, hub_file, loading, read_state

FILES = {
    "2.0": ("HPS_v2_compressed.safetensors", "HPS_v2_compressed.pt"),
    "2.1": ("HPS_v2.1_compressed.safetensors", "HPS_v2.1_compressed.pt"),
}
"""Names of the checkpoints by version, as the official repository has them or as safetensors."""

VIT_H_14: dict[str, Any] = {
    "projection_dim": 1024,
    "text_config": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "max_position_embeddings": 77, "vocab_size": 49408, "hidden_act": "gelu", "projection_dim": 1024,
    },
    "vision_config": {
        "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
        "image_size": 224, "patch_size": 14, "hidden_act": "gelu", "projection_dim": 1024,
    },
}  # fmt: skip
"""The architecture of both versions."""


class Hps:
    """``cos(image, text)``, usually 0.20 to 0.35; to be compared within one prompt and one version only.

    Preprocessing is HPS's own (:class:`~noisewright.verifiers.preprocess.Letterbox`), in float, so the gradient path
    differs from the exact one by the rounding to 8 bits alone. The official package runs in half precision on a GPU;
    this is float32 everywhere. Prompts are cut at 77 tokens, with a warning.

    Args:
        model: the checkpoint (``.pt`` or ``.safetensors``, open_clip's or transformers' names), a directory with it, or
            the hub id. A ``config.json`` of a ``CLIPModel`` beside it is used instead of :data:`VIT_H_14`.
        version: ``2.0`` or ``2.1``: which file of a directory or hub repository.
        processor: where the tokenizer is; by default beside the checkpoint, else
            :data:`~noisewright.verifiers.pickscore.PROCESSOR`.
        name: what the scores are called.
        device: where the model runs.

    Raises:
        ValueError: on another version, or where the model cannot be loaded.
    """

    lasting = True
    reads_prompt = True

    def __init__(
        self,
        model: str | Path = "xswu/HPSv2",
        *,
        version: str = "2.1",
        processor: str | None = None,
        name: str = "hps",
        device: str | torch.device = "cpu",
    ) -> None:
        version = version.removeprefix("v")
        if version not in FILES:
            raise ValueError(f"expected an HPS version among {', '.join(FILES)}, got {version!r}")
        file = _checkpoint(model, version, name)
        beside = any((file.parent / one).is_file() for one in TOKENS)
        place = processor or (file.parent if beside else PROCESSOR)
        tokenizer = load_tokenizer(files_of(place, [TOKENS], f"{name}:processor=DIR"))
        network = _network(file, model).to(device)
        preprocess = Letterbox(network.config.vision_config.image_size)
        self.encoder = ClipEncoder(network, preprocess, tokenizer, name)
        self.device = torch.device(device)
        self.name = name
        self.fingerprint = self.encoder.fingerprint("cos")

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        text = self.encoder.text(prompt)
        return (self.encoder.images(images) @ text).cpu().tolist()

    def gradient_scores(self, images: Tensor, prompt: str) -> Tensor:
        """The scores with their graph, (batch,): as the exact ones for images that are not rounded to 8 bits."""
        return (self.encoder.images_with_graph(images) @ self.encoder.text(prompt)).cpu()


def _checkpoint(model: str | Path, version: str, verifier: str) -> Path:
    """The file that holds the weights."""
    path = Path(model)
    if path.is_file():
        return path
    if path.is_dir():
        names = (*FILES[version], "model.safetensors")
        return files_of(path, [names], f"{verifier}:DIR") / next(one for one in names if (path / one).is_file())
    if not is_hub_id(str(model)):
        raise ValueError(f"verifier model {str(model)!r} could not be loaded: expected a file, a directory or a hub id")
    return hub_file(str(model), FILES[version], f"{verifier}:DIR")


def _network(file: Path, what: str | Path) -> Any:
    """A ``CLIPModel`` in float32 with a checkpoint's weights."""
    from transformers import CLIPConfig, CLIPModel

    beside = file.parent / "config.json"
    config = loading(lambda: CLIPConfig.from_json_file(beside), beside) if beside.is_file() else CLIPConfig(**VIT_H_14)
    state = read_state(file)
    state = state.get("state_dict", state)
    if "visual.conv1.weight" in state:
        state = from_open_clip(state)

    def load() -> Any:
        return CLIPModel.from_pretrained(
            None, config=config, state_dict=state, dtype=torch.float32, trust_remote_code=False,
            output_loading_info=True,
        )  # fmt: skip

    network, info = loading(load, what)
    check_loaded(info, what)
    return network.eval().requires_grad_(False)


PLACES = [
    (r"visual\.class_embedding", "vision_model.embeddings.class_embedding"),
    (r"visual\.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    (r"visual\.conv1\.(.*)", r"vision_model.embeddings.patch_embedding.\1"),
    (r"visual\.ln_pre\.(.*)", r"vision_model.pre_layrnorm.\1"),
    (r"visual\.ln_post\.(.*)", r"vision_model.post_layernorm.\1"),
    (r"visual\.proj", "visual_projection.weight"),
    (r"visual\.transformer\.resblocks\.(.*)", r"vision_model.encoder.layers.\1"),
    (r"transformer\.resblocks\.(.*)", r"text_model.encoder.layers.\1"),
    (r"token_embedding\.(.*)", r"text_model.embeddings.token_embedding.\1"),
    (r"positional_embedding", "text_model.embeddings.position_embedding.weight"),
    (r"ln_final\.(.*)", r"text_model.final_layer_norm.\1"),
    (r"text_projection", "text_projection.weight"),
    (r"logit_scale", "logit_scale"),
]
"""open_clip's names of tensors, and transformers'; what matches none is dropped (the attention mask)."""

PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn": "self_attn",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
"""The same within a layer."""


def from_open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's state dict of a CLIP with the names and shapes of transformers' ``CLIPModel``.

    The one matrix of query, key and value is split in three; projections are stored the other way round.
    """
    found: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = _renamed(key)
        if name is None:
            continue
        if ".in_proj_" in name:
            for part, value in zip("qkv", tensor.chunk(3), strict=True):
                found[name.replace(".in_proj_", f".{part}_proj.")] = value.contiguous()
        elif key in ("visual.proj", "text_projection"):
            found[name] = tensor.T.contiguous()
        else:
            found[name] = tensor
    return found


def _renamed(key: str) -> str | None:
    for pattern, place in PLACES:
        match = re.fullmatch(pattern, key)
        if match:
            name = match.expand(place)
            for old, new in PARTS.items():
                name = name.replace(f".{old}.", f".{new}.")
            return name
    return None
