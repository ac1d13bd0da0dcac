"""The tokenizer: byte-level BPE whose merges make every word of the grammar one token."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from torch import Tensor
from transformers import CLIPTokenizer

from noisewright.shapes.prompts import WORDS

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 24


def byte_symbols() -> list[str]:
    """The 256 printable stand-ins for bytes that GPT-2 and CLIP tokenizers use, in byte order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]


def learn_merges(words: tuple[str, ...]) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent pair first, until each word is a single token.

    Learned as they will be applied, so that no merge made for one word splits another.
    """
    spellings = [[*word[:-1], word[-1] + "</w>"] for word in sorted(set(words))]
    merges = []
    while any(len(spelling) > 1 for spelling in spellings):
        pairs = Counter(pair for spelling in spellings for pair in pairwise(spelling))
        first, second = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append((first, second))
        for spelling in spellings:
            i = 0
            while i + 1 < len(spelling):
                if (spelling[i], spelling[i + 1]) == (first, second):
                    spelling[i : i + 2] = [first + second]
                i += 1
    return merges


def build(folder: Path) -> CLIPTokenizer:
    """Writes the tokenizer to ``folder`` and loads it from there."""
    folder.mkdir(parents=True, exist_ok=True)
    symbols = byte_symbols()
    merges = learn_merges(WORDS)
    tokens = [*symbols, *(s + "</w>" for s in symbols), *(a + b for a, b in merges), START, END]
    (folder / "vocab.json").write_text(
        json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False), encoding="utf-8"
    )
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_TOKENS,
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)


def tokens_of(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids, (count, 24)."""
    return tokenizer(texts, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt").input_ids
