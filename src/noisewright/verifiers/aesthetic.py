"""The LAION aesthetic predictor v2 (Schuhmann 2022): a small head on CLIP's image vector that guesses a rating."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from noisewright.outside.bundled import is_own
from noisewright.outside.hub import is_hub_id
from noisewright.verifiers.clip import load_encoder
from noisewright.verifiers.weights import IMAGES, WEIGHTS, add_tensors, files_of, hub_file, read_state

HEAD_REPOSITORY = "camenduru/improved-aesthetic-predictor"
"""A copy on the hub of the head of christophschuhmann/improved-aesthetic-predictor, Apache-2.0."""

HEADS = ("head.safetensors", "sac+logos+ava1-l14-linearMSE.safetensors", "sac+logos+ava1-l14-linearMSE.pth")
"""Names under which a head is looked for."""

ACTIVATIONS = {"none": nn.Identity, "relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


class Aesthetic:
    """``head(unit vector of the image)``: a rating, 1 to 10, usually 4.5 to 7.5; ignores the prompt.

    The original head (768-1024-128-64-16-1) has no activations, so that it is one affine map: gradients exploit it in
    no time. Never optimise it alone. The image is preprocessed as OpenAI's CLIP code does it, in float32 (the original
    runs CLIP in half precision on a GPU).

    Args:
        model: a directory or hub id of the ``CLIPModel``; or a directory with ``head.safetensors`` and either a
            CLIPModel's files or a ``config.json`` that says where it is: ``{"clip": "noisewright/shapes-clip"}``.
        head: the head: a file (``.safetensors``, or ``.pth`` with nothing but weights), a directory or a hub id
            with one of :data:`HEADS`; by default that of the model's directory, else of :data:`HEAD_REPOSITORY`.
        name: what the scores are called.
        device: where the model runs.

    Raises:
        ValueError: where something cannot be loaded, or head and CLIP do not fit.
    """

    lasting = True

    def __init__(
        self,
        model: str | Path = "openai/clip-vit-large-patch14",
        *,
        head: str | Path | None = None,
        name: str = "aesthetic",
        device: str | torch.device = "cpu",
    ) -> None:
        file = _head_file(model, head, name)
        self.head = load_head(file)
        clip = _clip_of(model)
        self.encoder = load_encoder(clip, verifier=name, device=device, text=False)
        self.device = torch.device(device)
        wide = next(one for one in self.head if isinstance(one, nn.Linear)).in_features
        if wide != self.encoder.width:
            raise ValueError(f"expected a head for the {self.encoder.width} values of {clip}, got {wide}: {file}")
        self.head.to(device)
        self.name = name
        weights = {key: value.detach() for key, value in self.head.state_dict().items()}
        formula = f"head(unit vector) with {[type(one).__name__ for one in self.head]}"
        self.fingerprint = self.encoder.fingerprint(formula, lambda digest: add_tensors(digest, weights))

    @torch.no_grad()
    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        return self.head(self.encoder.images(images))[:, 0].cpu().tolist()

    def gradient_scores(self, images: Tensor, prompt: str) -> Tensor:
        """The scores with their graph, (batch,), by the tensor preprocessing: for climbing, not for tables."""
        return self.head(self.encoder.images_with_graph(images))[:, 0].cpu()


def load_head(path: str | Path) -> nn.Sequential:
    """A head of any number of linear layers, in float32, in the order of the numbers in its tensors' names.

    Between the layers is the activation that the metadata of a safetensors file names (``activation``: none, relu, gelu
    or silu); none by default, and none in a ``.pth``, as in the original.

    Raises:
        ValueError: where the file cannot be read, or its layers do not make a chain that ends in one value.
    """
    path = Path(path)
    layers = _layers(read_state(path), path)
    activation = _metadata(path).get("activation", "none")
    if activation not in ACTIVATIONS:
        raise ValueError(f"expected an activation among {', '.join(ACTIVATIONS)}, got {activation!r} in {path}")
    parts: list[nn.Module] = []
    for weight, bias in layers:
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight.float(), "bias": bias.float()})
        parts += [linear, ACTIVATIONS[activation]()]
    return nn.Sequential(*parts[:-1]).eval().requires_grad_(False)


def save_head(source: str | Path, target: str | Path) -> Path:
    """A safetensors copy of a head, such as of the original ``.pth``.

    Args:
        source: what :func:`load_head` reads.
        target: a ``.safetensors`` file, or a directory, in which it becomes ``head.safetensors``.

    Returns:
        The file.
    """
    from safetensors.torch import save_file

    source, target = Path(source), Path(target)
    if target.suffix != ".safetensors":
        target = target / HEADS[0]
    target.parent.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for number, (weight, bias) in enumerate(_layers(read_state(source), source)):
        tensors |= {f"layers.{number}.weight": weight.contiguous(), f"layers.{number}.bias": bias.contiguous()}
    save_file(tensors, target, metadata={"activation": _metadata(source).get("activation", "none")})
    return target


def _layers(state: Mapping[str, Tensor], path: Path) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of each layer, checked to be a chain to one value."""
    names = [key.removesuffix(".weight") for key in state if key.endswith(".weight")]
    names.sort(key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    found = [(state[f"{name}.weight"], state.get(f"{name}.bias")) for name in names]
    shapes = [tuple(weight.shape) for weight, _ in found]
    chained = all(len(one) == 2 for one in shapes) and all(one[0] == after[1] for one, after in pairwise(shapes))
    if not found or not chained or shapes[-1][0] != 1:
        raise ValueError(f"expected a chain of linear layers that ends in one value, got {shapes or 'none'} in {path}")
    return [(weight, torch.zeros(len(weight)) if bias is None else bias) for weight, bias in found]


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, "pt") as opened:
        return opened.metadata() or {}


def _head_file(model: str | Path, head: str | Path | None, verifier: str) -> Path:
    if head is None:
        inside = _directory(model)
        beside = [inside / name for name in HEADS if (inside / name).is_file()] if inside else []
        return beside[0] if beside else hub_file(HEAD_REPOSITORY, HEADS, f"{verifier}:head=DIR")
    path = Path(head)
    if path.is_file():
        return path
    if path.is_dir() or is_own(head):
        folder = files_of(head, [HEADS], f"{verifier}:head=DIR")
        return next(folder / name for name in HEADS if (folder / name).is_file())
    if not is_hub_id(str(head)):
        raise ValueError(f"expected a head as a file, a directory or a hub id, got {str(head)!r}")
    return hub_file(str(head), HEADS, f"{verifier}:head=DIR")


def _directory(model: str | Path) -> Path | None:
    """The model's directory where it is one."""
    text = str(model)
    if Path(text).is_dir() or is_own(text):
        return files_of(text, [], "aesthetic:DIR")
    return None


def _clip_of(model: str | Path) -> str | Path:
    """Where the CLIPModel is: the model itself, or what the directory's ``config.json`` names."""
    folder = _directory(model)
    if folder is None or any((folder / name).is_file() for name in (*WEIGHTS, *IMAGES)):
        return model
    config = folder / "config.json"
    try:
        clip = json.loads(config.read_text()).get("clip")
    except (OSError, ValueError, AttributeError):
        clip = None
    if not isinstance(clip, str) or not clip:
        raise ValueError(
            f"verifier model {str(model)!r} could not be loaded: expected a CLIPModel in it, or a config.json with "
            '{"clip": DIRECTORY or hub id}'
        )
    relative = folder / clip
    return relative if relative.is_dir() else clip
