"""Reward models, classifiers and language models of random weights on disk, as their authors lay them out."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2ForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from golden import clip_inputs, imagereward_inputs
from noisewright.verifiers.hps import from_open_clip

GOLDEN = Path(__file__).parent / "golden"
CLIP = json.loads((GOLDEN / "clip.json").read_text(encoding="utf-8"))
IMAGEREWARD = json.loads((GOLDEN / "imagereward.json").read_text(encoding="utf-8"))
LABELS = ["tench, Tinca tinca", "tabby, tabby cat", "tiger cat", "tiger", "crane", "crane", "T-shirt"]
MEAN, DEVIATION = 0.5, 0.25
BATCH_MATES = 1e-5  # float32 convolutions and products of another batch size


def some_features(count=400, width=8, seed=0, shift=0.0):
    """Features (count, width) of a standard normal, in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator, dtype=torch.float64) + shift


def clip_config(activation, end):
    shared = {
        "num_hidden_layers": clip_inputs.LAYERS,
        "num_attention_heads": clip_inputs.HEADS,
        "hidden_act": activation,
        "hidden_size": clip_inputs.WIDTH,
        "intermediate_size": 4 * clip_inputs.WIDTH,
        "projection_dim": clip_inputs.EMBED,
    }
    vocabulary = clip_inputs.vocabulary(CLIP["alphabet"])
    first, last = vocabulary["<start_of_text>"], vocabulary["<end_of_text>"]
    text = {"vocab_size": len(vocabulary), "max_position_embeddings": clip_inputs.CONTEXT}
    ids = {"bos_token_id": first, "eos_token_id": end or last, "pad_token_id": last}
    return CLIPConfig(
        projection_dim=clip_inputs.EMBED,
        vision_config={**shared, "image_size": clip_inputs.SIDE, "patch_size": clip_inputs.PATCH},
        text_config={**shared, **text, **ids},
    )


def write_clip_processors(folder):
    """Tokenizer and preprocessing."""
    (folder / "vocab.json").write_text(json.dumps(clip_inputs.vocabulary(CLIP["alphabet"])), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in clip_inputs.merges())]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    names = {"bos_token": "<start_of_text>", **dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<end_of_text>")}
    told = {"tokenizer_class": "CLIPTokenizer", "model_max_length": clip_inputs.CONTEXT, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    told = {"image_processor_type": "CLIPImageProcessor", "size": clip_inputs.SIDE, "crop_size": clip_inputs.SIDE}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))


def clip_tensors(shapes, seed):
    return {name: torch.from_numpy(one) for name, one in clip_inputs.weights(shapes, seed).items()}


def write_clip(folder, seed, activation="gelu", end=None):
    """A CLIPModel's directory with the weights of open_clip's model of that seed."""
    model = CLIPModel(clip_config(activation, end))
    found = model.load_state_dict(from_open_clip(clip_tensors(CLIP["shapes"], seed)), strict=False)
    assert not found.missing_keys
    assert not found.unexpected_keys
    model.save_pretrained(folder)
    write_clip_processors(folder)
    return folder


def write_processor(folder, side=16):
    told = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": side, "width": side},
        "image_mean": [MEAN] * 3,
        "image_std": [DEVIATION] * 3,
        "resample": 2,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(told))


def named(labels):
    return {"id2label": dict(enumerate(labels)), "label2id": {label: n for n, label in enumerate(labels)}}


def write_dino(folder):
    """A tiny DINOv2 with a linear head, as facebook/dinov2-base-imagenet1k-1-layer."""
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8, **named(LABELS)
    )
    Dinov2ForImageClassification(config).save_pretrained(folder)
    write_processor(folder)
    return folder


def write_vit(folder):
    """A tiny ViT, with its image processor: 4 classes, 16 features."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, image_size=16, patch_size=8,
        id2label={0: "cat", 1: "dog", 2: "frog", 3: "truck"},
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    half = [0.5] * 3
    processor = {
        "image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}, "image_mean": half,
        "image_std": half, "do_resize": True, "do_rescale": True, "do_normalize": True, "resample": 3,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def imagereward_state():
    shapes = {name: tuple(shape) for name, shape in IMAGEREWARD["shapes"].items()}
    return imagereward_inputs.fill(shapes, imagereward_inputs.SEED)


def write_imagereward(folder):
    """A directory as the authors' files lie in it."""
    torch.save(imagereward_state(), folder / "ImageReward.pt")
    (folder / "med_config.json").write_text(json.dumps(imagereward_inputs.TEXT), encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(imagereward_inputs.VOCABULARY) + "\n", encoding="utf-8")
    return folder


CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_qwen(directory, *merges):
    """A Qwen2.5-VL of random weights with a byte-level tokenizer; with ``merges``, "Yes" is fewer tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = models.BPE({one: n for n, one in enumerate([*letters, *map("".join, merges)])}, list(merges))
    whole = Tokenizer(bpe)
    whole.pre_tokenizer, whole.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=whole, eos_token="<|im_end|>", pad_token="<|endoftext|>", additional_special_tokens=special
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    end, start, left, right, image, video = tokenizer.convert_tokens_to_ids(["<|im_end|>", *special])
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
            "bos_token_id": start, "eos_token_id": end,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
        },
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "out_hidden_size": 32,
            "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 16,
            "fullatt_block_indexes": [1],
        },
        image_token_id=image, video_token_id=video, vision_start_token_id=left, vision_end_token_id=right,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.lm_head.weight *= 30  # so that the answers of random weights differ
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, temporal_patch_size=2, min_pixels=64, max_pixels=4096
    ).save_pretrained(directory)  # fmt: skip
    return model, tokenizer
