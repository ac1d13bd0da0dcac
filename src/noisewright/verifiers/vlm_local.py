"""Questions about images to a vision-language model that runs here, through transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from noisewright.verifiers.preprocess import fingerprint_of
from noisewright.verifiers.weights import (
    CONFIG,
    IMAGES,
    TOKENS,
    WEIGHTS,
    add_network,
    add_tokenizer,
    check_loaded,
    files_of,
    loading,
)

NEEDS = (
    (*CONFIG, "generation_config.json"),
    WEIGHTS,
    IMAGES,
    TOKENS,
    ("chat_template.jinja", "chat_template.json", "tokenizer_config.json"),
)
"""The files of a checkpoint, as :func:`~noisewright.verifiers.weights.files_of` has them."""

LONGEST_ANSWER = 1024
"""Tokens of a rubric answer."""

AT_ONCE = 8
"""Images that the network sees at once, so that memory does not grow with the pool."""


class LocalModel:
    """An image-text-to-text model of transformers, such as Qwen2.5-VL, in its checkpoint's own precision.

    The question is put with the model's chat template; images are preprocessed on 8-bit PIL images, by the checkpoint's
    own settings. Images of one size go through the model together: their questions have equally many tokens, so nothing
    is padded and no score depends on its batch mates. Generation is greedy, so a refused answer is not asked for again.

    Args:
        model: a directory or a hub id, in safetensors.
        device: where it runs.

    Raises:
        ValueError: where files are missing (saying which), it cannot be loaded, or it has no chat template.
    """

    lasting = True

    def __init__(self, model: str | Path, *, device: str | torch.device = "cpu") -> None:
        from transformers import AutoModelForImageTextToText

        self.model = str(model)
        folder = str(files_of(model, NEEDS, "vlm:DIR"))
        self._processor = loading(lambda: _processor(folder), model)
        self.network: Any
        self.network, info = loading(
            lambda: AutoModelForImageTextToText.from_pretrained(
                folder,
                use_safetensors=True,
                dtype="auto",
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            ),
            model,
        )
        check_loaded(info, model)
        if not getattr(self._processor, "chat_template", None):
            raise ValueError(f"expected a vision-language model with a chat template, got {self.model!r} without one")
        self.network.to(device).eval().requires_grad_(False)
        settings = (self._processor.chat_template, self._processor.to_dict())
        digest = fingerprint_of("local-2", settings)
        add_tokenizer(digest, self._processor.tokenizer)
        add_network(digest, self.network)
        self.fingerprint = digest.hexdigest()[:16]

    def read(
        self, images: Sequence[np.ndarray], question: str, schema: dict[str, Any], parse: Callable[[str], Any]
    ) -> Iterator[Any]:
        """What ``parse`` makes of the text about each (height, width, 3) uint8 image, or its ValueError, in order."""
        for text in (text for some in _parts(images) for text in self._texts(some, question)):
            try:
                yield parse(text)
            except ValueError as error:
                yield error

    def yes(self, images: Sequence[np.ndarray], question: str) -> Iterator[float | Exception]:
        """The probability of the answer "Yes" among all answers, about each image.

        Of a "Yes" of several tokens it is their geometric mean, as VQAScore has it (Lin et al. 2024).
        """
        for some in _parts(images):
            yield from self._probabilities(some, question)

    @torch.inference_mode()
    def _probabilities(self, images: Sequence[np.ndarray], question: str) -> list[float]:
        answer = self._processor.tokenizer("Yes", add_special_tokens=False)["input_ids"]
        inputs: dict[str, Any] = _longer(self._inputs(images, question), answer[:-1])
        if "logits_to_keep" in signature(self.network.forward).parameters:
            inputs["logits_to_keep"] = len(answer)  # the others are a hundred times as large as the images
        logits = self.network(**inputs).logits[:, -len(answer) :].float()  # (batch, len(answer), vocabulary)
        index = torch.tensor(answer, device=logits.device).view(1, -1, 1).expand(len(images), -1, 1)
        return list(logits.log_softmax(dim=-1).gather(2, index)[..., 0].mean(dim=1).exp().cpu().tolist())

    @torch.inference_mode()
    def _texts(self, images: Sequence[np.ndarray], question: str) -> list[str]:
        inputs = self._inputs(images, question)
        found = self.network.generate(**inputs, max_new_tokens=LONGEST_ANSWER, do_sample=False)
        fresh = found[:, inputs["input_ids"].shape[1] :]
        return list(self._processor.tokenizer.batch_decode(fresh, skip_special_tokens=True))

    def _inputs(self, images: Sequence[np.ndarray], question: str) -> dict[str, Tensor]:
        """What the network takes for one question about each of several images of one size."""
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        pictures = [[Image.fromarray(image)] for image in images]
        inputs = self._processor(text=[text] * len(images), images=pictures, return_tensors="pt")
        dtype = self.network.dtype
        return {
            key: value.to(self.network.device, dtype if value.is_floating_point() else None)
            for key, value in inputs.items()
        }


def _parts(images: Sequence[np.ndarray]) -> Iterator[Sequence[np.ndarray]]:
    return (images[start : start + AT_ONCE] for start in range(0, len(images), AT_ONCE))


def _longer(inputs: dict[str, Tensor], tokens: Sequence[int]) -> dict[str, Tensor]:
    """The inputs with the same tokens of text after each question."""
    if not tokens:
        return inputs
    shape = inputs["input_ids"].shape
    more = torch.tensor(tokens, device=inputs["input_ids"].device).expand(shape[0], -1)
    filled = {"input_ids": more, "attention_mask": torch.ones_like(more)}
    return {
        key: torch.cat([value, filled.get(key, torch.zeros_like(more)).to(value.dtype)], dim=1)
        if value.shape == shape
        else value
        for key, value in inputs.items()
    }


def _processor(model: str) -> Any:
    """The processor of a checkpoint, for still images on PIL.

    ``AutoProcessor`` makes a video processor too where the model has one, which needs torchvision; this leaves it out.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES, processor_class_from_name

    kind = AutoConfig.from_pretrained(model, trust_remote_code=False).model_type
    whole: Any = processor_class_from_name(PROCESSOR_MAPPING_NAMES.get(kind) or "")
    if whole is None:
        raise ValueError(f"expected an image-text-to-text model, got one of type {kind!r}")
    parts = [name for name in whole.get_attributes() if name != "video_processor"]
    if set(parts) != {"image_processor", "tokenizer"}:
        raise ValueError(f"expected a processor of images and text, got one with {', '.join(parts)}")
    still: Any = type(whole.__name__, (whole,), {"get_attributes": classmethod(lambda cls: parts)})
    made = {
        "image_processor": AutoImageProcessor.from_pretrained(model, backend="pil", trust_remote_code=False),
        "tokenizer": AutoTokenizer.from_pretrained(model, trust_remote_code=False),
    }
    settings, _ = still.get_processor_dict(model)
    return still.from_args_and_dict([made[name] for name in parts], settings)
