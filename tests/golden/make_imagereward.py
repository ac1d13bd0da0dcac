"""Writes ``imagereward.json`` with the authors' own code, at tiny size; run by hand, not by the tests.

    python -m venv golden && . golden/bin/activate
    pip install torch==2.13.0 transformers==4.39.3 "numpy<2" pillow
    pip install --no-deps image-reward==1.5 timm==0.6.13 fairscale==0.4.13 torchvision==0.28.0
    python tests/golden/make_imagereward.py

The modules of the ``image-reward`` package that make its score run as published: ``ImageReward.py``, ``models/BLIP``.
What is replaced: the sizes (a ViT of 2 layers, a text encoder of 2 layers, the head's first width), the vocabulary, and
the two ``__init__.py`` that import unrelated scorers. Weights are numpy's ``RandomState(seed)``, so only the score is
stored, with a few pixels of each preprocessed picture.
"""

import json
import sys
import tempfile
import types
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from imagereward_inputs import PROMPTS, SEED, SIDE, TEXT, VISION, VOCABULARY, fill, photograph, sizes

# torchvision's compiled operators are missing beside a CPU build of torch; it only wants their names.
_operators = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _operators.define(f"{_name}(Tensor boxes, Tensor scores, float most) -> Tensor")


def official() -> Any:
    """The module ``ImageReward.ImageReward`` without what its package imports besides."""
    spec = find_spec("ImageReward")
    root = Path(str(next(iter(spec.submodule_search_locations or []))))
    for name, folder in (("ImageReward", root), ("ImageReward.models", root / "models")):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    import ImageReward.ImageReward as module
    import ImageReward.models.BLIP.blip_pretrain as pretrain
    from ImageReward.models.BLIP.vit import VisionTransformer
    from transformers import BertTokenizer

    head = module.MLP
    module.MLP = lambda _: head(TEXT["hidden_size"])
    pretrain.create_vit = lambda *_: (VisionTransformer(img_size=SIDE, **VISION), VISION["embed_dim"])

    def init_tokenizer() -> Any:  # models/BLIP/blip.py's, with another vocabulary
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
            tokenizer = BertTokenizer.from_pretrained(folder)
        tokenizer.add_special_tokens({"bos_token": "[DEC]"})
        tokenizer.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
        return tokenizer

    pretrain.init_tokenizer = init_tokenizer
    return module


def main() -> None:
    """Scores every photograph's size and mode with every prompt."""
    module = official()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "med_config.json"
        path.write_text(json.dumps(TEXT), encoding="utf-8")
        model = module.ImageReward(med_config=str(path)).eval()
    state = fill({name: tuple(value.shape) for name, value in model.state_dict().items()}, SEED)
    model.load_state_dict(state)
    photographs = {name: photograph(name) for name in sizes()}
    with torch.no_grad():
        scores = [[model.score(prompt, picture) for picture in photographs.values()] for prompt in PROMPTS]
        _, ranked = model.inference_rank(PROMPTS[0], list(photographs.values()))
        pixels = {name: model.preprocess(picture) for name, picture in photographs.items()}
    if not np.allclose(ranked, scores[0], atol=1e-6):
        raise SystemExit("score and inference_rank disagree")
    ids = [model.blip.tokenizer(p, padding="max_length", truncation=True, max_length=35).input_ids for p in PROMPTS]
    found = {
        "made with": {n: version(n) for n in ("image-reward", "transformers", "torch", "torchvision", "timm", "numpy")},
        "scores": scores,
        "ids": ids,
        "pixels": {
            name: {"corner": value[:, :2, :2].flatten().tolist(), "rows": rows_of(value)}
            for name, value in pixels.items()
        },
        "shapes": {name: list(value.shape) for name, value in state.items()},
    }
    target = Path(__file__).with_name("imagereward.json")
    target.write_text(json.dumps(found) + "\n", encoding="utf-8")
    print(f"{target}: {target.stat().st_size} bytes")


def rows_of(pixels: torch.Tensor) -> list[float]:
    """Means of sixteen bands of a normalised picture."""
    return pixels.mean(dim=(0, 2)).view(16, -1).mean(dim=1).tolist()


if __name__ == "__main__":
    main()
