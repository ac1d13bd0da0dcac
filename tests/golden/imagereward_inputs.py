"""What the golden file of ImageReward was made from: sizes, weights, pictures, prompts; the same on every machine."""

import math

import numpy as np
import torch
from PIL import Image

SEED = 7
SIDE = 224
VISION = {"patch_size": 32, "embed_dim": 128, "depth": 2, "num_heads": 2}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["a", "the", "and", "red", "blue", "circle", "star", "dog", "cat", "on", "under", "two", "small", "large"]
VOCABULARY = [*SPECIAL, *WORDS, *"bcdefghijklmnopqrstuvwxyz,.", *(f"##{one}" for one in "abcdefghijklmnopqrstuvwxyz")]
TEXT = {
    "vocab_size": len(VOCABULARY) + 2,
    "hidden_size": 64,
    "encoder_width": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "add_cross_attention": True,
    "type_vocab_size": 2,
    "pad_token_id": 0,
}
PROMPTS = ("a red circle", "Two small dogs, and a cat under the large blue star.", " ".join(["a red circle and"] * 12))


def sizes() -> dict[str, tuple[int, int, str]]:
    """Width, height and PIL mode by name."""
    return {
        "portrait": (301, 400, "RGB"),
        "landscape": (640, 427, "RGB"),
        "tiny": (37, 23, "RGB"),
        "odd": (225, 227, "RGB"),
        "exact": (224, 224, "RGB"),
        "grey": (256, 333, "L"),
        "rgba": (333, 250, "RGBA"),
    }


def photograph(name: str) -> Image.Image:
    """A picture with something at every scale, opaque where it has an alpha channel."""
    width, height, mode = sizes()[name]
    rng = np.random.RandomState(len(name) + width)
    coarse = Image.fromarray(rng.randint(0, 256, (7, 9, 3)).astype(np.uint8)).resize((width, height), Image.NEAREST)
    noise = rng.randint(-40, 41, (height, width, 3))
    picture = Image.fromarray(np.clip(np.asarray(coarse).astype(int) + noise, 0, 255).astype(np.uint8))
    return picture.convert(mode)


def fill(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    """Weights of these shapes from numpy's frozen generator, large enough that everything matters."""
    rng = np.random.RandomState(seed)
    state = {}
    for name in sorted(shapes):
        shape = shapes[name]
        if name.endswith("position_ids"):
            state[name] = torch.arange(shape[-1]).expand(shape).clone()
            continue
        values = rng.standard_normal(shape)
        if "orm" in name:  # layer norms
            values = 0.1 * values + name.endswith("weight")
        elif len(shape) == 1:
            values = 0.1 * values
        else:
            gain = 1.0 if name.startswith("mlp") else 1.5
            values = values * (0.5 if "embed" in name or "token" in name else gain / math.sqrt(math.prod(shape[1:])))
        state[name] = torch.from_numpy(values.astype(np.float32))
    return state
