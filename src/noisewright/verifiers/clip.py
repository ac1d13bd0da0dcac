"""CLIPScore (Hessel et al. 2021) with any ``CLIPModel``, and the encoder that the verifiers built on CLIP share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisewright.verifiers.preprocess import (
    BATCH,
    CentreCrop,
    Preprocess,
    Rounding,
    centre_crop_of,
    fingerprint_of,
    tokenize,
)
from noisewright.verifiers.recent import Recent
from noisewright.verifiers.weights import (
    CONFIG,
    IMAGES,
    TOKENS,
    WEIGHTS,
    add_network,
    add_tokenizer,
    files_of,
    loading,
    pretrained,
)


class ClipEncoder:
    """A ``CLIPModel`` with its preprocessing: images and prompts as unit vectors.

    Attributes:
        model: the network, in float32, without gradients to its weights.
        preprocess: what is done to the pixels.
        tokenizer: None where no text is read.
        verifier: whose encoder it is, for messages.
        batch: images at once.
    """

    def __init__(self, model: Any, preprocess: Preprocess, tokenizer: Any = None, verifier: str = "clip") -> None:
        self.model = model
        self.preprocess = preprocess
        self.tokenizer = tokenizer
        self.verifier = verifier
        self.batch = BATCH
        self._text = Recent[str, Tensor]()

    @property
    def width(self) -> int:
        """Length of the vectors."""
        return int(self.model.config.projection_dim)

    @property
    def logit_scale(self) -> float:
        """The learned factor of the cosine, 100 for OpenAI's models."""
        return float(self.model.logit_scale.exp())

    @torch.no_grad()
    def images(self, images: Tensor) -> Tensor:
        """(batch, 3, height, width) in [0, 1] to unit vectors (batch, width) on the model's device."""
        found = [self._vectors(self.preprocess.exact(part)) for part in images.split(self.batch)]
        return torch.cat(found) if found else torch.empty(0, self.width)

    def images_with_graph(self, images: Tensor) -> Tensor:
        """As :meth:`images` by way of the tensor preprocessing, with the graph back to ``images``; not chunked."""
        return self._vectors(self.preprocess.with_graph(images.to(self.model.device)))

    def _vectors(self, pixels: Tensor) -> Tensor:
        found = self.model.get_image_features(pixel_values=pixels.to(self.model.device)).pooler_output
        return found / found.norm(dim=-1, keepdim=True)

    @torch.inference_mode(False)  # what is remembered must also serve the gradient path
    @torch.no_grad()
    def text(self, prompt: str) -> Tensor:
        """A prompt's unit vector (width,); what the text model cannot hold is cut, with a warning."""
        known = self._text.get(prompt)
        if known is None:
            limit = self.model.config.text_config.max_position_embeddings
            tokens = tokenize(self.tokenizer, prompt, limit, self.verifier, self.model.device)
            found = self.model.get_text_features(**tokens).pooler_output[0]
            known = self._text.put(prompt, found / found.norm())
        return known

    def fingerprint(self, formula: str, *more: Callable[[Any], None]) -> str:
        """16 hex digits of the formula, preprocessing, tokenizer and weights; ``more`` add to the digest."""
        digest = fingerprint_of(formula, self.preprocess)
        add_network(digest, self.model)
        if self.tokenizer is not None:
            add_tokenizer(digest, self.tokenizer)
        for add in more:
            add(digest)
        return digest.hexdigest()[:16]


def load_encoder(
    model: str | Path,
    *,
    verifier: str,
    device: str | torch.device = "cpu",
    processor: str | Path | None = None,
    text: bool = True,
    rounding: Rounding = "torchvision",
) -> ClipEncoder:
    """A ``CLIPModel`` from a directory or a hub id.

    Args:
        model: where the weights are.
        verifier: whose it will be.
        device: where it runs.
        processor: where the preprocessing and the tokenizer are; by default with the weights.
        text: whether prompts are read; without, no tokenizer is needed.
        rounding: see :class:`~noisewright.verifiers.preprocess.CentreCrop`.

    Raises:
        ValueError: in one line, where something is missing or cannot be read.
    """
    from transformers import CLIPModel

    beside = [IMAGES, *([TOKENS] if text else [])]
    folder = files_of(model, [CONFIG, WEIGHTS, *([] if processor else beside)], f"{verifier}:DIR")
    helpers = files_of(processor, beside, f"{verifier}:processor=DIR") if processor else folder
    _check_kind(folder, model)
    preprocess: CentreCrop = centre_crop_of(helpers, rounding)
    tokenizer = load_tokenizer(helpers) if text else None
    network = pretrained(CLIPModel, folder, model).to(device)
    return ClipEncoder(network, preprocess, tokenizer, verifier)


def load_tokenizer(folder: Path) -> Any:
    """A directory's tokenizer.

    Raises:
        ValueError: in one line.
    """
    from transformers import AutoTokenizer

    def load() -> Any:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)

    return loading(load, folder)


def _check_kind(folder: Path, model: str | Path) -> None:
    """Refuse a directory of another architecture before its gigabytes are read."""
    from transformers import AutoConfig

    def load() -> Any:
        return AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)

    kind = loading(load, model).model_type
    if kind != "clip":
        raise ValueError(f"verifier model {str(model)!r} could not be loaded: expected a CLIPModel, got a {kind} model")


class ClipVerifier:
    """``100 * max(cos(image, text), 0)``, torchmetrics' scale (Hessel et al. 2021 write 2.5 max(cos, 0)).

    Preprocessing is the checkpoint's own, on 8-bit PIL images (bicubic short side, centre crop, CLIP mean and
    deviation), as open_clip and OpenAI's code do it. Prompts longer than the text model's limit (77 tokens for
    OpenAI's) are cut, with a warning.

    Args:
        model: a directory or a hub id of a ``CLIPModel``.
        processor: where its preprocessing and tokenizer are; by default with the weights.
        name: what the scores are called.
        device: where the model runs.

    Raises:
        ValueError: where the model cannot be loaded.
    """

    lasting = True
    reads_prompt = True

    def __init__(
        self,
        model: str | Path,
        *,
        processor: str | None = None,
        name: str = "clip",
        device: str | torch.device = "cpu",
    ) -> None:
        self.encoder = load_encoder(model, verifier=name, device=device, processor=processor)
        self.device = torch.device(device)
        self.name = name
        self.fingerprint = self.encoder.fingerprint("100*max(cos,0)")

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        text = self.encoder.text(prompt)
        return (100 * (self.encoder.images(images) @ text).clamp(min=0)).cpu().tolist()

    def gradient_scores(self, images: Tensor, prompt: str) -> Tensor:
        """The scores with their graph, (batch,), not clamped; never to be mixed with the exact ones in one table.

        Preprocessing on tensors: see :class:`~noisewright.verifiers.preprocess.CentreCrop` for how far it is from the
        exact one.
        """
        return 100 * (self.encoder.images_with_graph(images) @ self.encoder.text(prompt)).cpu()
