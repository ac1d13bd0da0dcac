"""What tiny flow transformers are made of: tokenizers, text encoders, autoencoders, weights that matter."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import AutoencoderKL
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    Qwen2VLProcessor,
    T5Config,
    T5EncoderModel,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

import tiny

LETTERS = "\n" + "".join(chr(n) for n in range(32, 127))
SPECIAL = (
    "<pad>", "</s>", "<s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
WORDS = len(SPECIAL) + len(LETTERS)
"""How many tokens :func:`letters` knows."""

CHAT = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
"""A chat template for messages that are strings."""

CHAT_PARTS = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{% for part in m['content'] %}{{ part['text'] }}{% endfor %}"
    "<|im_end|>{% endif %}{% endfor %}"
)
"""A chat template for messages that are lists of parts; it leaves out what the system says, so that little is long."""


def lively(network: Any, gain: float = 1.0, seed: int = 0, bias: float = 0.0) -> Any:
    """The network with every matrix and kernel drawn anew, such that what comes out is as large as what goes in.

    What is initialised at zero, as gates are, would hide noise and prompt.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.normal_(std=gain / math.sqrt(weight[0].numel()), generator=generator)
            elif bias:
                weight.add_(torch.randn(weight.shape, generator=generator) * bias)
    return network.eval()


def letters(template: str | None = None, longest: int = 512, end: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer that knows printable letters one by one, in the shape of those of T5, Gemma, Llama and Qwen.

    Args:
        template: for chats.
        longest: how many tokens the model reads at most.
        end: whether a text ends in a token that says so.
    """
    known = {token: n for n, token in enumerate((*SPECIAL, *LETTERS))}
    one = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    one.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    if end:
        one.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=one, pad_token="<pad>", eos_token="</s>", bos_token="<s>", unk_token="<unk>",
        additional_special_tokens=list(SPECIAL[4:]), model_max_length=longest, chat_template=template,
        padding_side="right",
    )  # fmt: skip


def clip(projected: bool = False, seed: int = 0, **more: Any) -> CLIPTextModel | CLIPTextModelWithProjection:
    """A CLIP text encoder, 32 wide, for :func:`tiny.tokenizer`."""
    torch.manual_seed(seed)
    config = tiny.text_config(hidden_act="gelu", projection_dim=32)
    for name, value in more.items():
        setattr(config, name, value)
    return lively((CLIPTextModelWithProjection if projected else CLIPTextModel)(config), seed=seed)


def t5(width: int = 32) -> T5EncoderModel:
    """A T5 encoder for :func:`letters`."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=WORDS, d_model=width, d_kv=8, d_ff=37, num_layers=2, num_heads=4, relative_attention_num_buckets=8,
        feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return lively(T5EncoderModel(config))


def decoder_config(width: int = 16, layers: int = 2) -> dict[str, Any]:
    """What the configurations of small language models share."""
    return {
        "vocab_size": WORDS, "hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 1024,
        "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
    }  # fmt: skip


def vae(channels: int = 4, halvings: int = 1, size: int = 32, **more: Any) -> AutoencoderKL:
    """An autoencoder of images whose sides it halves so many times."""
    torch.manual_seed(0)
    blocks = halvings + 1
    return lively(AutoencoderKL(
        block_out_channels=(16,) * blocks, latent_channels=channels, norm_num_groups=4, sample_size=size,
        down_block_types=("DownEncoderBlock2D",) * blocks, up_block_types=("UpDecoderBlock2D",) * blocks,
        **{"shift_factor": 0.06, "scaling_factor": 1.5, "use_quant_conv": False, "use_post_quant_conv": False, **more},
    ))  # fmt: skip


def qwen_vl() -> Any:
    """Qwen 2.5 VL for :func:`letters`, with its eyes."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    text = {key: value for key, value in decoder_config().items() if key != "head_dim"}
    config = Qwen2_5_VLConfig(
        text_config={**text, "rope_parameters": rope},
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
            "fullatt_block_indexes": [0],
        },
        vision_start_token_id=6, vision_end_token_id=7, image_token_id=8, video_token_id=9,
    )  # fmt: skip
    torch.manual_seed(0)
    return lively(Qwen2_5_VLForConditionalGeneration(config))


class Reader(Qwen2VLProcessor):
    """What reads texts and images for :func:`qwen_vl`, but no video: that would need torchvision."""

    @classmethod
    def get_attributes(cls) -> list[str]:
        return ["image_processor", "tokenizer"]


def reader(words: PreTrainedTokenizerFast) -> Reader:
    """A reader of texts, and of images at four tokens at most."""
    eyes = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 4 * 28 * 28})
    return Reader(image_processor=eyes, tokenizer=words)
