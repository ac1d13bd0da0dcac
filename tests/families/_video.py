"""Parts that the families of videos share: small T5 encoders with their tokenizers, and weights that matter."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

WIDTH = 32
"""Of the tiny text encoders."""


def byte_tokenizer(length: int = 32) -> PreTrainedTokenizerFast:
    """A token for each byte, and T5's three special ones."""
    letters = ["<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    ids = {one: number for number, one in enumerate(letters)}
    inner = Tokenizer(models.BPE(ids, [], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", ids["</s>"])])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=length
    )


def t5(umt5: bool = False) -> Any:
    """An encoder of :func:`byte_tokenizer`'s tokens."""
    config, model = (UMT5Config, UMT5EncoderModel) if umt5 else (T5Config, T5EncoderModel)
    return model(config(
        vocab_size=300, d_model=WIDTH, d_kv=8, d_ff=37, num_heads=4, num_layers=2, pad_token_id=0, eos_token_id=1,
        decoder_start_token_id=0,
    )).eval()  # fmt: skip


def stirred(network: nn.Module, std: float = 0.15, seed: int = 1) -> nn.Module:
    """The network with weights of one size everywhere: as made, layers at zero would hide what it is given."""
    torch.manual_seed(seed)
    for name, one in network.named_parameters():
        if (one.ndim > 1 and "gamma" not in name) or "scale_shift" in name:
            nn.init.normal_(one, std=std)
    return network.eval()
