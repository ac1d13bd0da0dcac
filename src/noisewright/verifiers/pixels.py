"""Verifiers that need no model: for tests, demonstrations, and as examples of the protocol."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Brightness:
    """Mean of all channels, 0 black to 1 white."""

    name = "brightness"
    fingerprint = "brightness-1"

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        return images.float().mean(dim=(1, 2, 3)).tolist()

    def gradient_scores(self, images: Tensor, prompt: str) -> Tensor:
        return images.mean(dim=(1, 2, 3))


class Sharpness:
    """Mean absolute Laplacian of the grey image, 0 flat; at most 4."""

    name = "sharpness"
    fingerprint = "sharpness-1"

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        grey = images.float().mean(dim=1, keepdim=True)  # (batch, 1, height, width)
        kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
        padded = torch.nn.functional.pad(grey, (1, 1, 1, 1), mode="replicate")
        return torch.nn.functional.conv2d(padded, kernel.to(grey.device)).abs().mean(dim=(1, 2, 3)).tolist()
