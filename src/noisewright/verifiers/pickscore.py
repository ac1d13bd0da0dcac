"""PickScore (Kirstain et al. 2023): CLIP ViT-H/14 tuned on what users of a text-to-image service preferred."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from noisewright.verifiers.clip import load_encoder
from noisewright.verifiers.weights import IMAGES, TOKENS

PROCESSOR = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
"""Where the official code takes the preprocessing and the tokenizer from."""


class PickScore:
    """``exp(logit_scale) * cos(image, text)``, usually 17 to 25.

    Preprocessing is that of transformers' ``CLIPProcessor``, which the official code uses (its crop rounds down, see
    :class:`~noisewright.verifiers.preprocess.CentreCrop`). Prompts are cut at 77 tokens, with a warning.

    Args:
        model: a directory or a hub id of a ``CLIPModel``.
        processor: where the preprocessing and the tokenizer are; by default the model's directory where it has
            them, else :data:`PROCESSOR`.
        name: what the scores are called.
        device: where the model runs.

    Raises:
        ValueError: where the model cannot be loaded.
    """

    lasting = True
    reads_prompt = True

    def __init__(
        self,
        model: str | Path = "yuvalkirstain/PickScore_v1",
        *,
        processor: str | None = None,
        name: str = "pickscore",
        device: str | torch.device = "cpu",
    ) -> None:
        found = processor or (None if has_processor(Path(model)) else PROCESSOR)
        self.encoder = load_encoder(model, verifier=name, device=device, processor=found, rounding="transformers")
        self.device = torch.device(device)
        self.name = name
        self.fingerprint = self.encoder.fingerprint("exp(logit_scale)*cos")

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        text = self.encoder.text(prompt)
        return (self.encoder.logit_scale * (self.encoder.images(images) @ text)).cpu().tolist()

    def gradient_scores(self, images: Tensor, prompt: str) -> Tensor:
        """The scores with their graph, (batch,), by the tensor preprocessing: for climbing, not for tables."""
        cosine = self.encoder.images_with_graph(images) @ self.encoder.text(prompt)
        return (self.encoder.logit_scale * cosine).cpu()


def has_processor(folder: Path) -> bool:
    """Whether a directory holds preprocessing and tokenizer."""
    return all(any((folder / name).is_file() for name in names) for names in (IMAGES, TOKENS))
