"""ImageReward (Xu et al. 2023): a BLIP encoder that reads the prompt while it looks at the image, and a head on top."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noisewright.outside.bundled import is_own
from noisewright.verifiers.preprocess import (
    BATCH,
    OPENAI_DEVIATION,
    OPENAI_MEAN,
    CentreCrop,
    fingerprint_of,
    tokenize,
)
from noisewright.verifiers.recent import Recent
from noisewright.verifiers.weights import CONFIG, add_network, add_tokenizer, files_of, hub_file, loading, read_state

HUB_ID = "zai-org/ImageReward"
ORIGINAL = ("ImageReward.safetensors", "ImageReward.pt")
TEXT_CONFIG = "med_config.json"
TEXT_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
TOKENIZER = "google-bert/bert-base-uncased"
SETTINGS = ("mean", "deviation", "most_tokens", "image_mean", "image_std")
MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072  # of the head's output over the authors' data
MOST_TOKENS = 35
HEAD_WIDTH = 64  # of an attention head in every ViT of BLIP

_RENAMES = (
    (r"blip\.visual_encoder\.cls_token", "vision_model.embeddings.class_embedding"),
    (r"blip\.visual_encoder\.pos_embed", "vision_model.embeddings.position_embedding"),
    (r"blip\.visual_encoder\.patch_embed\.proj\.", "vision_model.embeddings.patch_embedding."),
    (r"blip\.visual_encoder\.blocks\.(\d+)\.norm", r"vision_model.encoder.layers.\1.layer_norm"),
    (r"blip\.visual_encoder\.blocks\.(\d+)\.attn\.qkv\.", r"vision_model.encoder.layers.\1.self_attn.qkv."),
    (r"blip\.visual_encoder\.blocks\.(\d+)\.attn\.proj\.", r"vision_model.encoder.layers.\1.self_attn.projection."),
    (r"blip\.visual_encoder\.blocks\.(\d+)\.mlp\.", r"vision_model.encoder.layers.\1.mlp."),
    (r"blip\.visual_encoder\.norm\.", "vision_model.post_layernorm."),
    (r"blip\.text_encoder\.", "text_model."),
)
# Of the pretraining that ImageReward began with, in its checkpoint but not in its score; and a buffer.
_UNUSED = ("blip.vision_proj.", "blip.text_proj.", "blip.text_encoder.embeddings.position_ids")


class RewardModel(nn.Module):
    """BLIP's image encoder, its text encoder that attends to the image, and a stack of linear layers on [CLS].

    Args:
        vision: keyword arguments of ``BlipVisionConfig``.
        text: keyword arguments of ``BlipTextConfig``; ``encoder_hidden_size`` is the width of ``vision``.
        sizes: widths of the head, from the text's width to 1; no activation between them.
    """

    def __init__(self, vision: Mapping[str, Any], text: Mapping[str, Any], sizes: Sequence[int]) -> None:
        from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

        super().__init__()
        self.vision_model: Any = BlipVisionModel(BlipVisionConfig(**vision))
        self.text_model: Any = BlipTextModel(BlipTextConfig(**text), add_pooling_layer=False)
        self.head = nn.Sequential(*[nn.Linear(wide, narrow) for wide, narrow in pairwise(sizes)])

    def look(self, pixels: Tensor) -> Tensor:
        """What the text attends to, (batch, 1 + patches, width), from normalised pixels (batch, 3, side, side)."""
        return self.vision_model(pixel_values=pixels).last_hidden_state

    def read(self, seen: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """The text that attends to the image, (batch, tokens, width), for ``ids`` and ``mask`` (batch, tokens)."""
        return self.text_model(input_ids=ids, attention_mask=mask, encoder_hidden_states=seen).last_hidden_state

    def judge(self, seen: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """The head's output on [CLS], (batch,), for the same."""
        return self.head(self.read(seen, ids, mask)[:, 0].float())[:, 0]


class ImageRewardVerifier:
    """``(head - mean) / deviation``, about -2.3 to 2 for ImageReward v1.0; compare within a prompt.

    Preprocessing is the official one, on 8-bit PIL images: short side to 224, bicubic; centre crop; CLIP's mean and
    deviation. The prompt is padded to 35 tokens, and what is longer is cut, with a warning.

    Args:
        model: a hub id or a directory. Either of the original files (``ImageReward.pt`` or ``ImageReward.safetensors``,
            ``med_config.json`` and, in a directory, BERT's ``vocab.txt``, else the hub's), or of ``config.json``,
            ``model.safetensors`` and a tokenizer, as ``noisewright/shapes-reward`` is.
        name: what the scores are called.
        device: where the model runs.
        batch_size: images that the network sees at once.

    Raises:
        ValueError: where the model cannot be loaded, in one line; a pickle that holds more than tensors is refused.
    """

    lasting = True
    reads_prompt = True

    def __init__(
        self,
        model: str | Path = HUB_ID,
        *,
        name: str = "imagereward",
        device: str | torch.device = "cpu",
        batch_size: int = BATCH,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"expected a batch_size of at least 1, got {batch_size}")
        native = is_own(model) or (Path(model) / CONFIG[0]).is_file()
        needs = [CONFIG, ("model.safetensors",)] if native else [ORIGINAL, (TEXT_CONFIG,)]
        folder = files_of(model, needs, f"{name}:DIR")
        self.model, self.tokenizer, settings = _load_native(folder) if native else _load_original(folder, name)
        self.model.to(device).eval().requires_grad_(False)
        self.name, self.device, self.batch_size = name, torch.device(device), batch_size
        self.mean, self.deviation, self.most_tokens = settings["mean"], settings["deviation"], settings["most_tokens"]
        side = self.model.vision_model.config.image_size
        self.preprocess = CentreCrop(side, (side, side), tuple(settings["image_mean"]), tuple(settings["image_std"]))
        self._tokens = Recent[str, tuple[Tensor, Tensor]]()
        digest = fingerprint_of("(head - mean) / deviation", self.mean, self.deviation, self.preprocess)
        digest.update(repr(self.most_tokens).encode())
        add_tokenizer(digest, self.tokenizer)
        add_network(digest, self.model)
        self.fingerprint = digest.hexdigest()[:16]

    @torch.inference_mode()
    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        scores: list[float] = []
        for start in range(0, len(images), self.batch_size):
            scores += self._score(self.preprocess.exact(images[start : start + self.batch_size]), prompt).tolist()
        return scores

    def gradient_scores(self, images: Tensor, prompt: str) -> Tensor:
        """The scores with their graph, (batch,), by the tensor preprocessing: for climbing, not for tables.

        :class:`~noisewright.verifiers.preprocess.CentreCrop` says how far its two paths are apart.
        """
        return self._score(self.preprocess.with_graph(images), prompt)

    def _score(self, pixels: Tensor, prompt: str) -> Tensor:
        pixels = pixels.to(self.device)
        ids, mask = (tokens.expand(len(pixels), -1) for tokens in self.tokenise(prompt))
        return ((self.model.judge(self.model.look(pixels), ids, mask) - self.mean) / self.deviation).cpu()

    def tokenise(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Token numbers and mask, (1, tokens) each, padded."""
        known = self._tokens.get(prompt)
        if known is None:
            found = tokenize(self.tokenizer, prompt, self.most_tokens, self.name, self.device, padded=True)
            known = self._tokens.put(prompt, (found["input_ids"], found["attention_mask"]))
        return known


def _load_native(folder: Path) -> tuple[RewardModel, Any, dict[str, Any]]:
    """The layout of ``training/shapes/reward.py``: model, tokenizer, settings."""
    from transformers import BertTokenizer

    config = _read_config(folder / "config.json", ("vision_config", "text_config", "head_sizes", *SETTINGS))
    state = _tensors(folder / "model.safetensors")

    def make() -> tuple[RewardModel, Any]:
        made = RewardModel(config["vision_config"], config["text_config"], config["head_sizes"])
        made.load_state_dict(state)
        return made, BertTokenizer.from_pretrained(str(folder), trust_remote_code=False)

    model, tokenizer = loading(make, folder)
    return model, tokenizer, {key: config[key] for key in SETTINGS}


def _load_original(folder: Path, verifier: str) -> tuple[RewardModel, Any, dict[str, Any]]:
    """The authors' checkpoint: model, tokenizer, settings."""
    weights = next(folder / name for name in ORIGINAL if (folder / name).is_file())
    state, vision, sizes = _renamed(_tensors(weights), weights)
    config = _read_config(folder / TEXT_CONFIG, TEXT_SIZES)
    text = {key: config[key] for key in (*TEXT_SIZES, "hidden_act", "layer_norm_eps") if key in config}
    text |= {
        "vocab_size": len(state["text_model.embeddings.word_embeddings.weight"]),
        "encoder_hidden_size": vision["hidden_size"],
        # Tokens that begin or end a text when BLIP writes; here it only reads.
        "bos_token_id": None,
        "sep_token_id": None,
    }

    def make() -> RewardModel:
        made = RewardModel(vision, text, sizes)
        made.load_state_dict(state)
        return made

    model = loading(make, folder)
    own = (folder / "vocab.txt").is_file()
    tokenizer = _tokenizer(folder if own else hub_file(TOKENIZER, ("vocab.txt",), f"{verifier}:DIR").parent)
    if len(tokenizer) != text["vocab_size"]:
        raise ValueError(
            f"expected a vocabulary of {text['vocab_size']} tokens with [DEC] and [ENC] for {weights}, "
            f"got {len(tokenizer)}"
        )
    values = (MEAN, DEVIATION, MOST_TOKENS, OPENAI_MEAN, OPENAI_DEVIATION)
    return model, tokenizer, dict(zip(SETTINGS, values, strict=True))


def _tensors(path: Path) -> dict[str, Tensor]:
    """A checkpoint that holds nothing but tensors, in float32."""
    state = read_state(path)
    strangers = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if strangers:
        raise ValueError(f"expected names and tensors in {path}, got {strangers[0]!r} of another kind")
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def _read_config(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """A JSON object that has these keys."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object in {path}, got none")
    missing = [key for key in keys if key not in found]
    if missing:
        raise ValueError(f"expected {missing[0]!r} in {path}, got none")
    return found


def _renamed(state: Mapping[str, Tensor], source: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[int]]:
    """The authors' names in transformers' words, and what the shapes say of the image encoder and of the head."""
    layers = sorted({int(key.split(".")[2]) for key in state if key.startswith("mlp.layers.")})
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith(_UNUSED):
            continue
        if key.startswith("mlp.layers."):
            _, _, number, kind = key.split(".")
            found[f"head.{layers.index(int(number))}.{kind}"] = value
            continue
        for old, new in _RENAMES:
            renamed, count = re.subn(f"^{old}", new, key)
            if count:
                found[renamed] = value
                break
        else:
            raise ValueError(f"expected an ImageReward checkpoint in {source}, got the key {key!r}")
    try:
        positions = found["vision_model.embeddings.position_embedding"].shape
        patch = found["vision_model.embeddings.patch_embedding.weight"].shape[-1]
        vision = {
            "hidden_size": positions[-1],
            "intermediate_size": len(found["vision_model.encoder.layers.0.mlp.fc1.weight"]),
            "num_hidden_layers": len({key.split(".")[3] for key in found if key.startswith("vision_model.encoder.")}),
            "image_size": patch * math.isqrt(positions[1] - 1),
            "patch_size": patch,
            "layer_norm_eps": 1e-6,
        }
        vision["num_attention_heads"] = vision["hidden_size"] // HEAD_WIDTH or 1
        heads = [found[f"head.{n}.weight"] for n in range(len(layers))]
        sizes = [heads[0].shape[1], *(len(one) for one in heads)]
        found["text_model.embeddings.word_embeddings.weight"]
    except (KeyError, IndexError) as error:
        raise ValueError(f"expected an ImageReward checkpoint in {source}, got one without {error}") from None
    return found, vision, sizes


def _tokenizer(folder: Path) -> Any:
    """BERT's, with [DEC] and [ENC] at its end; [CLS] stays at the head of the text, where BLIP would put [ENC]."""
    from transformers import BertTokenizer

    tokenizer = loading(lambda: BertTokenizer.from_pretrained(str(folder), trust_remote_code=False), folder)
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.add_tokens(["[ENC]"], special_tokens=True)
    return tokenizer
