"""What several families are made of: pictures, masks, small T5 and BERT encoders with their tokenizers."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)


def sized(side: int, **more: Any) -> Any:
    """A call's arguments for square images."""
    return lambda: {"height": side, "width": side, **more}


def picture(side: int = 32) -> Image.Image:
    """A red disc and a green square on blue."""
    image = Image.new("RGB", (side, side), (30, 60, 160))
    draw = ImageDraw.Draw(image)
    draw.ellipse((side // 8, side // 8, side // 2, side // 2), fill=(220, 40, 30))
    draw.rectangle((side // 2, side // 2, side * 7 // 8, side * 7 // 8), fill=(40, 200, 60))
    return image


def edges(side: int = 32) -> Image.Image:
    """White lines on black, as control images are."""
    image = Image.new("RGB", (side, side))
    ImageDraw.Draw(image).rectangle((side // 4, side // 4, side * 3 // 4, side * 3 // 4), outline=(255, 255, 255))
    return image


def mask(side: int = 32) -> Image.Image:
    """White where an image is to be made anew: its right half."""
    image = Image.new("L", (side, side))
    ImageDraw.Draw(image).rectangle((side // 2, 0, side, side), fill=255)
    return image


def altered(network: Any, **config: Any) -> Any:
    """A network of the same class with other settings."""
    kept = {key: value for key, value in network.config.items() if not key.startswith("_")}
    torch.manual_seed(0)
    return type(network)(**{**kept, **config}).eval()


def awakened(network: Any, std: float = 0.2, seed: int = 0) -> Any:
    """The network with what is initialised at zero drawn: its control would have no effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            if not weight.any():
                weight.normal_(std=std, generator=generator)
    return network.eval()


def letters(length: int = 24, begin: str | None = None) -> PreTrainedTokenizerFast:
    """A fast tokenizer of one token a letter, ended as T5 ends its texts; ``begin`` is put first, as BERT does."""
    marks = ["<pad>", "</s>", "<unk>", *([begin] if begin else [])]
    words = {one: n for n, one in enumerate([*marks, *(chr(n) for n in range(32, 127))])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    first = f"{begin} " if begin else ""
    special = [("</s>", 1), *([(begin, 3)] if begin else [])]
    made.post_processor = processors.TemplateProcessing(single=f"{first}$A </s>", special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=length,
        **({"cls_token": begin} if begin else {}),
    )  # fmt: skip


def t5(width: int = 32) -> T5EncoderModel:
    """A T5 encoder of one layer for :func:`letters`."""
    config = T5Config(vocab_size=100, d_model=width, d_kv=8, d_ff=37, num_layers=1, num_heads=4)
    return T5EncoderModel(config).eval()


def image_encoder(projection: int = 32) -> CLIPVisionModelWithProjection:
    """A CLIP vision tower of one layer for pictures of 32 pixels."""
    config = CLIPVisionConfig(
        hidden_size=32, projection_dim=projection, intermediate_size=37, num_attention_heads=4, num_hidden_layers=1,
        image_size=32, patch_size=8,
    )  # fmt: skip
    return CLIPVisionModelWithProjection(config).eval()


def image_processor() -> CLIPImageProcessor:
    """What prepares pictures for :func:`image_encoder`."""
    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
