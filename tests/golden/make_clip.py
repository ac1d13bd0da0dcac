"""Make ``clip.json`` and ``pickscore.json`` with the official implementations; by hand, never in CI.

Two environments, because PickScore's official code wants an old transformers (with 5 ``get_image_features`` gives an
object, which ``torch.norm`` refuses). Both with Python 3.11 and torch 2.13.0 (CPU):

    A: torchvision 0.28.0, open_clip_torch 3.3.0, hpsv2 1.2.0 (its model and transform modules alone), timm 1.0.31,
       numpy 2.4.6, Pillow 13.0.0
    B: transformers 4.27.3 (which PickScore's README pins), numpy 1.26.4, Pillow 11.3.0

    A/bin/python tests/golden/make_clip.py clip
    B/bin/python tests/golden/make_clip.py pickscore

What is official: open_clip's ``CLIP``, ``SimpleTokenizer`` and ``image_transform_v2`` (CLIPScore); hpsv2's own ``CLIP``
and ``image_transform`` (HPS), with open_clip's tokenizer, whose vocabulary its wheel lacks; the formulas
of improved-aesthetic-predictor's ``simple_inference.py`` (numpy norm, linear layers with dropout between them) on
open_clip's vector; PickScore's README with ``CLIPModel`` and ``CLIPProcessor`` (with the fast tokenizer).
Weights and pictures are made from seeds (``clip_inputs.py``), so that only shapes and outputs are stored.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
import types
from pathlib import Path

import clip_inputs as given
import numpy as np
import torch

HERE = Path(__file__).parent
VISION = {
    "image_size": given.SIDE,
    "layers": given.LAYERS,
    "width": given.WIDTH,
    "head_width": given.WIDTH // given.HEADS,
    "patch_size": given.PATCH,
}


def text_config(size: int) -> dict:
    return {"context_length": given.CONTEXT, "vocab_size": size, "width": given.WIDTH, "heads": given.HEADS,
            "layers": given.LAYERS}  # fmt: skip


def stub_nms() -> torch.library.Library:
    """Let a torchvision that was built for CUDA be imported beside a CPU torch, for as long as the result is held."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def import_hpsv2() -> tuple:
    """Two modules of hpsv2 without its package, whose ``__init__`` wants a dozen others and a vocabulary it lacks."""
    import importlib

    root = next(Path(place) / "hpsv2" for place in sys.path if (Path(place) / "hpsv2" / "src").is_dir())
    for name, path in [("hpsv2", root), ("hpsv2.src", root / "src"), ("hpsv2.src.open_clip", root / "src/open_clip")]:
        module = types.ModuleType(name)
        module.__path__ = [str(path)]
        sys.modules[name] = module
    return importlib.import_module("hpsv2.src.open_clip.model"), importlib.import_module(
        "hpsv2.src.open_clip.transform"
    )


def filled(model: torch.nn.Module, seed: int) -> dict[str, list[int]]:
    """Give a model the seeded weights; their names and shapes."""
    state = model.state_dict()
    shapes = {name: list(tensor.shape) for name, tensor in sorted(state.items()) if tensor.is_floating_point()}
    model.load_state_dict(
        {name: torch.from_numpy(one) for name, one in given.weights(shapes, seed).items()}, strict=False
    )
    model.eval()
    return shapes


def read(name: str):
    """A picture as noisewright reads files: as RGB."""
    return given.picture(name).convert("RGB")


@torch.no_grad()
def make_clip() -> dict:
    held = stub_nms()  # noqa: F841
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode
    from open_clip.transform import PreprocessCfg, image_transform_v2

    alphabet = list(bytes_to_unicode().values())
    with tempfile.TemporaryDirectory() as folder:
        lines = ["#version: 0.2", *(" ".join(pair) for pair in given.merges())]
        path = Path(folder) / "merges.txt.gz"
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
        tokenizer = SimpleTokenizer(str(path), context_length=given.CONTEXT)
    assert tokenizer.encoder == given.vocabulary(alphabet), "not CLIP's order"
    tokens = tokenizer(given.PROMPTS)
    found: dict = {"alphabet": alphabet, "tokens": tokens.tolist()}

    def centre_crop(side: int):
        return image_transform_v2(PreprocessCfg(size=side, resize_mode="shortest"), is_train=False)

    hps_model, hps_transform = import_hpsv2()

    def letterbox(side: int):
        return hps_transform.image_transform(side, is_train=False, resize_longest_max=True)

    found["preprocess"] = {
        kind: {name: given.sample(make(224)(read(name)).numpy()).tolist() for name in names}
        for kind, make, names in [
            ("centre crop", centre_crop, given.SIZES),
            ("letterbox", letterbox, [name for name in given.SIZES if name != "long side as wanted"]),
        ]
    }
    pictures = torch.stack([centre_crop(given.SIDE)(read(name)) for name in given.SIZES])
    for kind, quick, seed in [("openai", True, 1), ("laion", False, 2)]:
        model = open_clip.model.CLIP(given.EMBED, VISION, text_config(len(tokenizer.encoder)), quick_gelu=quick)
        shapes = filled(model, seed)
        images, texts = model.encode_image(pictures, normalize=True), model.encode_text(tokens, normalize=True)
        found["shapes"] = shapes
        found[kind] = (100 * (texts @ images.T).clamp(min=0)).tolist()
        if kind == "openai":
            found["aesthetic"] = aesthetic(model.encode_image(pictures))

    model = hps_model.CLIP(
        given.EMBED, VISION, text_config(len(tokenizer.encoder)), quick_gelu=False, output_dict=True
    )  # fmt: skip
    assert filled(model, 3) == found["shapes"]
    scores = []
    for row in range(len(given.PROMPTS)):
        line = []
        for name in given.SIZES:
            image = letterbox(given.SIDE)(read(name)).unsqueeze(0)
            outputs = model(image, tokens[row : row + 1])
            line.append(torch.diagonal(outputs["image_features"] @ outputs["text_features"].T).item())
        scores.append(line)
    found["hps"] = scores
    return found


def aesthetic(vectors: torch.Tensor) -> list[float]:
    """The lines of simple_inference.py, for a smaller vector."""
    nn = torch.nn
    layers = nn.Sequential(
        nn.Linear(given.EMBED, 1024), nn.Dropout(0.2), nn.Linear(1024, 128), nn.Dropout(0.2), nn.Linear(128, 64),
        nn.Dropout(0.1), nn.Linear(64, 16), nn.Linear(16, 1),
    ).eval()  # fmt: skip
    state = given.weights(given.HEAD_SHAPES, 4)
    layers.load_state_dict({name.removeprefix("layers."): torch.from_numpy(one) for name, one in state.items()})
    array = vectors.numpy()
    norm = np.atleast_1d(np.linalg.norm(array, 2, -1))
    norm[norm == 0] = 1
    return layers(torch.from_numpy(array / np.expand_dims(norm, -1)).float())[:, 0].tolist()


@torch.no_grad()
def make_pickscore() -> dict:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizerFast

    clip = json.loads((HERE / "clip.json").read_text())
    vocabulary = given.vocabulary(clip["alphabet"])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps(vocabulary))
        lines = ["#version: 0.2", *(" ".join(pair) for pair in given.merges())]
        (Path(folder) / "merges.txt").write_text("\n".join(lines) + "\n")
        tokenizer = CLIPTokenizerFast(
            f"{folder}/vocab.json", f"{folder}/merges.txt", bos_token="<start_of_text>", eos_token="<end_of_text>",
            unk_token="<end_of_text>", pad_token="<end_of_text>", model_max_length=given.CONTEXT,
        )  # fmt: skip

    def processor(side: int) -> CLIPProcessor:
        return CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": side}, crop_size=side), tokenizer)

    config = CLIPConfig(**config_of(len(vocabulary)))
    model = CLIPModel(config)
    filled(model, 5)
    pictures = [given.picture(name) for name in given.SIZES]
    scores = []
    for prompt in given.PROMPTS:
        images = processor(given.SIDE)(images=pictures, return_tensors="pt")
        text = processor(given.SIDE)(
            text=prompt, padding=True, truncation=True, max_length=given.CONTEXT, return_tensors="pt"
        )
        image_embs = model.get_image_features(**images)
        image_embs = image_embs / torch.norm(image_embs, dim=-1, keepdim=True)
        text_embs = model.get_text_features(**text)
        text_embs = text_embs / torch.norm(text_embs, dim=-1, keepdim=True)
        scores.append((model.logit_scale.exp() * (text_embs @ image_embs.T)[0]).tolist())
    pixels = [processor(224)(images=one, return_tensors="np")["pixel_values"][0] for one in pictures]
    return {
        "scores": scores,
        "preprocess": {name: given.sample(one).tolist() for name, one in zip(given.SIZES, pixels)},  # noqa: B905
    }


def config_of(size: int) -> dict:
    """The same sizes in transformers' words; ``eos_token_id`` as PickScore's own config has it."""
    shared = {
        "num_hidden_layers": given.LAYERS,
        "num_attention_heads": given.HEADS,
        "hidden_act": "gelu",
        "hidden_size": given.WIDTH,
        "intermediate_size": 4 * given.WIDTH,
        "projection_dim": given.EMBED,
    }
    return {
        "projection_dim": given.EMBED,
        "vision_config": {**shared, "image_size": given.SIDE, "patch_size": given.PATCH},
        "text_config": {**shared, "vocab_size": size, "max_position_embeddings": given.CONTEXT, "eos_token_id": 2},
    }


def rounded(value):
    """Seven digits: 1e-7 relative, a hundredth of what the tests allow."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


if __name__ == "__main__":
    kind = sys.argv[1]
    made = {"clip": make_clip, "pickscore": make_pickscore}[kind]()
    (HERE / f"{kind}.json").write_text(json.dumps(rounded(made), ensure_ascii=False) + "\n", encoding="utf-8")
