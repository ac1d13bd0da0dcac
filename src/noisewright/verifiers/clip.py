"""CLIPScore (Hessel et al. 2021) with any ``CLIPModel``: ``openai/clip-vit-large-patch14`` or the bundled one."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from noisewright.metadata import pixels_of
from noisewright.samplers.fingerprint import add_weights

log = logging.getLogger("noisewright")


class ClipVerifier:
    """``100 * max(cos(image, text), 0)``, torchmetrics' scale (Hessel et al. 2021 write 2.5 max(cos, 0)).

    Preprocessing is the checkpoint's own, on 8-bit PIL images (bicubic short side, centre crop, CLIP mean and
    deviation). Prompts longer than the text model's limit are cut, with a warning.

    Args:
        model: a directory or a hub id of a ``CLIPModel`` in safetensors.
        name: what the scores are called.
        device: where the model runs.

    Raises:
        ValueError: where the model cannot be loaded.
    """

    def __init__(self, model: str | Path, *, name: str = "clip", device: str | torch.device = "cpu") -> None:
        from safetensors import SafetensorError
        from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

        try:
            self.model = CLIPModel.from_pretrained(str(model), use_safetensors=True, dtype=torch.float32)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(str(model))
            self.processor: Any = _pil_processor(CLIPImageProcessor, str(model))
        except (OSError, ValueError, SafetensorError) as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ValueError(f"verifier model {str(model)!r} could not be loaded: {first}") from error
        self.model.to(device).eval().requires_grad_(False)
        self.name = name
        self._text: dict[str, Tensor] = {}
        digest = hashlib.sha256(b"100*max(cos,0)")
        add_weights(digest, self.model)
        self.fingerprint = digest.hexdigest()[:16]

    @torch.inference_mode()
    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        text = self._embed_text(prompt)
        pixels = self.processor(images=to_pil(images), return_tensors="pt")["pixel_values"]
        found = self.model.get_image_features(pixel_values=pixels.to(self.model.device)).pooler_output
        found = found / found.norm(dim=-1, keepdim=True)
        return (100 * (found @ text).clamp(min=0)).float().cpu().tolist()

    def gradient_scores(self, images: Tensor, prompt: str) -> Tensor:
        """The scores with their graph, (batch,), not clamped; never to be mixed with the exact ones in one table.

        Preprocessing on tensors (antialiased bicubic resize, centre crop), which differs from the 8-bit PIL path by up
        to .015 in normalised pixels where images are resized.
        """
        side = self.processor.size.get("shortest_edge") or self.processor.size["height"]
        height, width = images.shape[-2:]
        scale = side / min(height, width)
        shape = (round(height * scale), round(width * scale))
        pixels = images.to(self.model.device)
        if shape != (height, width):
            pixels = F.interpolate(pixels, size=shape, mode="bicubic", antialias=True).clamp(0, 1)
        crop = self.processor.crop_size
        top, left = (shape[0] - crop["height"]) // 2, (shape[1] - crop["width"]) // 2
        pixels = pixels[..., top : top + crop["height"], left : left + crop["width"]]
        mean, deviation = (
            torch.tensor(values, device=pixels.device, dtype=pixels.dtype).view(1, 3, 1, 1)
            for values in (self.processor.image_mean, self.processor.image_std)
        )
        found = self.model.get_image_features(pixel_values=(pixels - mean) / deviation).pooler_output
        found = found / found.norm(dim=-1, keepdim=True)
        return 100 * (found @ self._embed_text(prompt).clone()).cpu()

    @torch.inference_mode()
    def _embed_text(self, prompt: str) -> Tensor:
        if prompt not in self._text:
            limit = self.model.config.text_config.max_position_embeddings
            whole = len(self.tokenizer(prompt)["input_ids"])
            if whole > limit:
                log.warning("verifier %s reads %d of the prompt's %d tokens", self.name, limit, whole)
            tokens = self.tokenizer(prompt, truncation=True, max_length=limit, return_tensors="pt")
            tokens = {key: value.to(self.model.device) for key, value in tokens.items()}
            found = self.model.get_text_features(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            ).pooler_output[0]
            self._text[prompt] = found / found.norm()
        return self._text[prompt]


def to_pil(images: Tensor) -> list[Image.Image]:
    """(batch, 3, height, width) in [0, 1] as 8-bit PIL images."""
    return [Image.fromarray(array) for array in pixels_of(images)]


def _pil_processor(kind: Any, model: str) -> Any:
    """The exact 8-bit path; the tensor path differs by up to .015 in normalised pixels."""
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(model, backend="pil")
    except (TypeError, ImportError):
        return kind.from_pretrained(model)
