"""The self-supervised verifier of Ma et al. 2025, section 3.2: does the image keep what its preview promised?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisewright.verifiers.preprocess import BATCH, fingerprint_of, image_processor, to_pil
from noisewright.verifiers.weights import CONFIG, IMAGES, WEIGHTS, add_network, files_of, pretrained


class SelfSimilarity:
    """Cosine, -1 to 1, between the features of an image and of the preview from which it came; needs no label.

    The paper takes the clean estimate at t = 0.4 of the linear path, 0.6 image + 0.4 noise, and DINO's or CLIP's
    features, and finds that it goes with the logit of the right class (r = .74 for DINO, .32 for CLIP). It costs one
    preview and one decoding for each candidate.

    Features: CLIP's projected image vector; else the pooled output of an ``AutoModel``, or the first token where it has
    none. Preprocessing is the checkpoint's own, in its PIL form.

    Args:
        model: a directory or hub id of a CLIPModel, DINOv2 or any image ``AutoModel``.
        name: what the scores are called.
        device: where the model runs.

    Attributes:
        preview_sigma: where the preview has to be taken: the time t of the linear path, (1 - t) image + t noise, as the
            paper's sigma is (see :meth:`noisewright.diffusion.schedule.Schedule.nearest`).

    Raises:
        ValueError: where the model cannot be loaded.
    """

    preview_sigma = 0.4
    lasting = True

    def __init__(
        self,
        model: str | Path = "facebook/dinov2-base",
        *,
        name: str = "self-similarity",
        device: str | torch.device = "cpu",
    ) -> None:
        from transformers import AutoModel

        folder = files_of(model, [CONFIG, WEIGHTS, IMAGES], f"{name}:DIR")
        self.processor = image_processor(folder)
        self.model = pretrained(AutoModel, folder, model).to(device)
        self.device = torch.device(device)
        self.name, self.batch = name, BATCH
        digest = fingerprint_of("cosine of features", self.preview_sigma, self.processor.to_dict())
        add_network(digest, self.model)
        self.fingerprint = digest.hexdigest()[:16]

    def __call__(self, images: Tensor, prompt: str, previews: Tensor | None = None) -> Sequence[float]:
        """One score for each image.

        Args:
            images: (batch, 3, height, width) in [0, 1].
            prompt: not read.
            previews: the decoded clean estimates at :attr:`preview_sigma`, in the images' order, of any size.

        Raises:
            ValueError: where there is not one preview for each image.
        """
        if previews is None or len(previews) != len(images):
            got = "none" if previews is None else len(previews)
            raise ValueError(
                f"verifier {self.name}: expected {len(images)} previews at sigma {self.preview_sigma}, got {got}; "
                "only a search has them, image files alone cannot be scored"
            )
        return torch.cosine_similarity(self.features(images), self.features(previews), dim=-1).cpu().tolist()

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """(batch, width), not normalised."""
        found = [self._features(part) for part in images.split(self.batch)]
        return torch.cat(found)

    def _features(self, images: Tensor) -> Tensor:
        pixels = self.processor(images=to_pil(images), return_tensors="pt")["pixel_values"].to(self.model.device)
        if hasattr(self.model, "get_image_features"):
            return self.model.get_image_features(pixel_values=pixels).pooler_output
        found: Any = self.model(pixel_values=pixels)
        pooled = getattr(found, "pooler_output", None)
        return pooled.flatten(1) if pooled is not None else found.last_hidden_state[:, 0]
