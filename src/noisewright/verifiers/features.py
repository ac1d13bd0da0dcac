"""Features and class probabilities of images by a transformers model in a directory.

What FID and its relatives and the oracle verifiers measure with. Any callable ``images -> Features`` does as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from noisewright.images.metadata import pixels_of
from noisewright.verifiers.preprocess import fingerprint_of, image_processor
from noisewright.verifiers.weights import (
    CONFIG,
    IMAGES,
    WEIGHTS,
    add_settings,
    add_tensors,
    files_of,
    loading,
    pretrained,
)

AT_ONCE = 64
"""Images in one forward pass."""


class Features(NamedTuple):
    """What a network says of n images, on the CPU in float32.

    Attributes:
        features: (n, d).
        probabilities: (n, classes), or None of a network without classes.
    """

    features: Tensor
    probabilities: Tensor | None


class FeatureNetwork:
    """``AutoModelForImageClassification``: the input of its last linear layer, and its softmax; or ``CLIPModel``.

    Of a CLIPModel the features are the image embeddings, as they come from the projection, and there are no classes.
    Preprocessing is the directory's own image processor, on 8-bit PIL images.

    Args:
        model: a directory or a hub id.
        device: where the model runs.

    Attributes:
        fingerprint: changes with the weights and the preprocessing.
        labels: the class names by number; empty without classes.

    Raises:
        ValueError: where the model cannot be loaded whole, or has no linear layer that gives its classes.
    """

    lasting = True

    def __init__(self, model: str | Path, device: str | torch.device = "cpu") -> None:
        from transformers import AutoConfig, AutoModelForImageClassification, CLIPModel

        folder = files_of(model, [CONFIG, WEIGHTS, IMAGES], "a directory")
        config = loading(
            lambda: AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False), model
        )
        self.is_clip = config.model_type == "clip"
        self.processor = image_processor(folder)
        self.model = pretrained(CLIPModel if self.is_clip else AutoModelForImageClassification, folder, model)
        self.model.to(device)
        self.labels: dict[int, str] = {} if self.is_clip else {int(k): v for k, v in config.id2label.items()}
        self._head = None if self.is_clip else _head(self.model, len(self.labels), model)
        digest = fingerprint_of("features-3")
        # Of the files, not of the objects: statistics are kept for years, and libraries add settings of their own.
        for file in (CONFIG[0], next(name for name in IMAGES if (folder / name).is_file())):
            add_settings(digest, json.loads((folder / file).read_text(encoding="utf-8")))
        add_tensors(digest, self.model.state_dict())
        self.fingerprint = digest.hexdigest()[:16]

    def __call__(self, images: Tensor | Sequence[np.ndarray]) -> Features:
        """Features of ``images``: (n, 3, height, width) in [0, 1], or n arrays (height, width, 3) uint8, any sizes."""
        arrays = pixels_of(images) if isinstance(images, Tensor) else images
        parts = [self._forward(arrays[k : k + AT_ONCE]) for k in range(0, len(arrays), AT_ONCE)]
        if not parts:
            raise ValueError("expected at least one image, got none")
        probabilities = [one.probabilities for one in parts if one.probabilities is not None]
        return Features(torch.cat([one.features for one in parts]), torch.cat(probabilities) if probabilities else None)

    @torch.inference_mode()
    def _forward(self, arrays: Sequence[np.ndarray]) -> Features:
        pictures = [Image.fromarray(np.ascontiguousarray(one)) for one in arrays]
        pixels = self.processor(images=pictures, return_tensors="pt")["pixel_values"].to(self.model.device)
        if self._head is None:
            return Features(self.model.get_image_features(pixel_values=pixels).pooler_output.float().cpu(), None)
        held: list[Tensor] = []
        hook = self._head.register_forward_pre_hook(lambda _, given: held.append(given[0]))
        try:
            logits = self.model(pixel_values=pixels).logits
        finally:
            hook.remove()
        features = held[-1].flatten(1)
        return Features(features.float().cpu(), logits.float().softmax(-1).cpu())


def feature_network(given: str | Path | Callable[..., Features], device: str | torch.device = "cpu") -> Any:
    """A callable as it is, anything else as a :class:`FeatureNetwork`."""
    return given if callable(given) else FeatureNetwork(given, device)


def _head(model: nn.Module, classes: int, where: str | Path) -> nn.Linear:
    """The last linear layer with one output a class: what it is given are the pooled features."""
    found = [one for one in model.modules() if isinstance(one, nn.Linear) and one.out_features == classes]
    if not found:
        raise ValueError(
            f"expected a classifier with a linear layer to its {classes} classes, got {str(where)!r}, a "
            f"{type(model).__name__} without"
        )
    return found[-1]
