"""Class scores: of a supervised classifier, or of CLIP asked for labels (zero-shot, Radford et al. 2021).

The supervised verifiers of Ma et al. 2025, section 3.2: the logit of the class that the image was conditioned on.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from noisewright.outside.reading import read_text
from noisewright.verifiers.clip import load_encoder
from noisewright.verifiers.preprocess import BATCH, fingerprint_of, image_processor, to_pil
from noisewright.verifiers.weights import CONFIG, IMAGES, WEIGHTS, add_network, files_of, pretrained

Output = Literal["logit", "probability"]

TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""The seven prompts that OpenAI found to do nearly as well as eighty."""


class Classifier:
    """The logit, or the probability, of one class of an image classifier.

    Preprocessing is the checkpoint's own, in its PIL form.

    Args:
        model: a directory or hub id that ``AutoModelForImageClassification`` reads.
        label: the class, by name or number; by default the one that the prompt names (:func:`find_label`).
        output: ``logit`` (unbounded, does not saturate) or ``probability`` (0 to 1).
        name: what the scores are called.
        device: where the model runs.

    Raises:
        ValueError: where the model cannot be loaded, or has no such label.
    """

    lasting = True

    def __init__(
        self,
        model: str | Path = "facebook/dinov2-base-imagenet1k-1-layer",
        *,
        label: str | None = None,
        output: Output = "logit",
        name: str = "classifier",
        device: str | torch.device = "cpu",
    ) -> None:
        from transformers import AutoModelForImageClassification

        _check_output(output)
        folder = files_of(model, [CONFIG, WEIGHTS, IMAGES], f"{name}:DIR")
        self.processor = image_processor(folder)
        self.model = pretrained(AutoModelForImageClassification, folder, model).to(device)
        self.device = torch.device(device)
        self.labels = [self.model.config.id2label[n] for n in range(self.model.config.num_labels)]
        self.target = None if label is None else find_label(label, self.labels)
        self.output, self.name, self.batch = output, name, BATCH
        digest = fingerprint_of("classifier", output, self.target, self.labels, self.processor.to_dict())
        add_network(digest, self.model)
        self.fingerprint = digest.hexdigest()[:16]

    def check(self, prompt: str) -> None:
        """Raise a ValueError, before anything is spent, where the prompt names no class and none was given."""
        self._class_of(prompt)

    @torch.no_grad()
    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        number = self._class_of(prompt)
        found = torch.cat([self._logits(part) for part in images.split(self.batch)])
        return _of_class(found, number, self.output).cpu().tolist()

    def _class_of(self, prompt: str) -> int:
        return find_label(prompt, self.labels) if self.target is None else self.target

    def _logits(self, images: Tensor) -> Tensor:
        pixels = self.processor(images=to_pil(images), return_tensors="pt")["pixel_values"]
        return self.model(pixel_values=pixels.to(self.model.device)).logits


class ClipClassifier:
    """The logit ``exp(logit_scale) * cos``, or the probability, of one of several labels under CLIP.

    A label's vector is the mean of its unit vectors under several prompts, made a unit vector again.

    Args:
        model: a directory or hub id of a ``CLIPModel``.
        labels: the classes: a sequence, names separated by commas, or a text file with one a line.
        label: the class to score, by name or number; by default the one that the prompt names (:func:`find_label`).
        template: a prompt with ``{}`` where the label goes; by default :data:`TEMPLATES`, all seven.
        output: ``logit`` or ``probability`` (among the labels).
        processor: where preprocessing and tokenizer are; by default with the weights.
        name: what the scores are called.
        device: where the model runs.

    Raises:
        ValueError: where the model cannot be loaded, or labels or template make no sense.
    """

    lasting = True

    def __init__(
        self,
        model: str | Path = "openai/clip-vit-large-patch14",
        *,
        labels: str | Sequence[str] = (),
        label: str | None = None,
        template: str | None = None,
        output: Output = "logit",
        processor: str | None = None,
        name: str = "clip-classifier",
        device: str | torch.device = "cpu",
    ) -> None:
        _check_output(output)
        self.labels = read_labels(labels, name)
        self.templates = TEMPLATES if template is None else (template,)
        if any("{}" not in one for one in self.templates):
            raise ValueError(f"expected a template with {{}} where the label goes, got {template!r}")
        self.target = None if label is None else find_label(label, self.labels)
        self.encoder = load_encoder(model, verifier=name, device=device, processor=processor)
        self.device = torch.device(device)
        self.output, self.name = output, name
        self.fingerprint = self.encoder.fingerprint(f"zero-shot {output} {self.target} {self.labels} {self.templates}")
        self._vectors: Tensor | None = None

    def check(self, prompt: str) -> None:
        """Raise a ValueError, before anything is spent, where the prompt names no class and none was given."""
        self._class_of(prompt)

    @torch.no_grad()
    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        number = self._class_of(prompt)
        if self._vectors is None:
            self._vectors = torch.stack([self._vector(one) for one in self.labels])  # (labels, width)
        found = self.encoder.logit_scale * self.encoder.images(images) @ self._vectors.T
        return _of_class(found, number, self.output).cpu().tolist()

    def _class_of(self, prompt: str) -> int:
        return find_label(prompt, self.labels) if self.target is None else self.target

    def _vector(self, label: str) -> Tensor:
        mean = torch.stack([self.encoder.text(one.replace("{}", label)) for one in self.templates]).mean(0)
        return mean / mean.norm()


def find_label(text: str, labels: Sequence[str]) -> int:
    """The number of the class that a text is, or names.

    A class is known by its label and by each of its synonyms between commas (ImageNet's "tabby, tabby cat"), whatever
    the case, ``_`` and ``-`` being spaces. A text that is one of them, or its number, is that class; else the class
    whose longest name stands in the text as whole words.

    Raises:
        ValueError: with the nearest labels, where the text names none; or with those that it names equally.
    """
    known: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        for one in dict.fromkeys([_plain(label), *(_plain(part) for part in str(label).split(","))]):
            if one:
                known.setdefault(one, []).append(number)
    plain = _plain(text)
    if plain in known:
        return _only(known[plain], text, labels)
    if plain.isdecimal() and int(plain) < len(labels):
        return int(plain)
    inside = [one for one in known if re.search(rf"(?<!\w){re.escape(one)}(?!\w)", plain)]
    outer = [one for one in inside if not any(one != other and one in other for other in inside)]
    found = sorted({number for one in outer for number in known[one]})
    if found:
        return _only(found, text, labels)
    near = difflib.get_close_matches(plain, list(known), n=3, cutoff=0.4) or _by_words(plain, list(known))
    named = ", ".join(str(labels[known[one][0]]) for one in near or list(known)[:5])
    more = "" if near else ", ..."
    raise ValueError(f"expected a text that names one of {len(labels)} classes, got {text!r}; nearest: {named}{more}")


def _only(found: Sequence[int], text: str, labels: Sequence[str]) -> int:
    if len(found) > 1:
        named = ", ".join(f"{labels[one]} ({one})" for one in found)
        raise ValueError(f"expected a text that names one class, got {text!r}, which names {named}: say label=")
    return found[0]


def _by_words(text: str, names: list[str]) -> list[str]:
    """Names near to any single word of a text."""
    near = [one for word in text.split() for one in difflib.get_close_matches(word, names, n=1, cutoff=0.6)]
    return list(dict.fromkeys(near))[:3]


def _plain(text: object) -> str:
    return " ".join(re.sub(r"[_\-]+", " ", str(text)).lower().split()).strip(" .!?")


def read_labels(given: str | Sequence[str], name: str) -> list[str]:
    if isinstance(given, str):
        path = Path(given)
        listed = path.suffix == ".txt" and path.exists()
        found = read_text(path, "a file of labels").splitlines() if listed else given.split(",")
    else:
        found = list(given)
    found = [one.strip() for one in found if one.strip()]
    if len(found) < 2:
        raise ValueError(
            f"verifier {name}: expected two labels or more, got {found}; as in {name}:labels=cat,dog or labels=FILE.txt"
        )
    return found


def _check_output(output: str) -> None:
    if output not in get_args(Output):
        raise ValueError(f"expected an output among {', '.join(get_args(Output))}, got {output!r}")


def _of_class(logits: Any, number: int, output: Output) -> Tensor:
    """(batch, classes) to (batch,)."""
    values = logits.softmax(dim=-1) if output == "probability" else logits
    return values[:, number]
