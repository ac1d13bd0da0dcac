"""Fingerprints: any byte, token or setting that decides what a pipeline computes, and nothing that a call changes."""

import hashlib
import json
import os
import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import accelerate
import diffusers
import pytest
import torch
from diffusers.hooks import apply_group_offloading
from tokenizers.normalizers import NFD
from transformers import CLIPImageProcessor

import noisewright as nw
import tiny
from noisewright.samplers import contents
from noisewright.samplers.contents import cache_file, digest_of_network, tensors_of
from noisewright.samplers.fingerprint import fingerprint, is_older, older_fingerprint, same_model
from noisewright.samplers.pipeline import PipelineSampler, load_pipeline
from noisewright.trajectory.errors import ErrorTable, LevelError
from noisewright.trajectory.files import FittedSchedule, check_same_model, identity, load_for, write_schedule_file

SEED = 12
PLACES = 60
"""Bytes that are changed, one at a time."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def networks(pipe):
    return {name: one for name, one in pipe.components.items() if isinstance(one, torch.nn.Module)}


def test_its_form():
    found = fingerprint(tiny.sd())
    assert found.startswith("2:")
    assert len(found) == 34
    assert int(found[2:], 16) >= 0
    assert json.loads(json.dumps({"fingerprint": found})) == {"fingerprint": found}
    assert not is_older(found)


# What changes it


@pytest.mark.slow
@pytest.mark.parametrize("small", [2**25, 0])  # hashed each time, or remembered with a checksum
def test_any_byte_of_any_tensor_counts(small, monkeypatch):
    monkeypatch.setattr(contents, "SMALL", small)
    pipe, rng = tiny.sd(), random.Random(SEED)
    first = fingerprint(pipe)
    every = [
        (name, key, tensor) for name, one in networks(pipe).items()
        for key, tensor in (*one.named_parameters(), *one.named_buffers())
    ]  # fmt: skip
    for name, key, tensor in rng.sample(every, PLACES):
        flat = tensor.data.view(-1).view(torch.uint8)  # which torch does not count as a change
        place, bit = rng.randrange(len(flat)), 1 << rng.randrange(8)
        flat[place] ^= bit
        assert fingerprint(pipe) != first, (name, key, place)
        flat[place] ^= bit
        assert fingerprint(pipe) == first, (name, key, place)


@pytest.mark.parametrize("counted", [False, True])
def test_values_that_change_places_count(counted, monkeypatch):
    monkeypatch.setattr(contents, "SMALL", 0)
    network = torch.nn.Linear(300, 200)
    first = digest_of_network(network, "linear")
    weight = network.weight if counted else network.weight.data
    for rows, columns in (([0, 1], None), (None, [0, 1]), (None, [0, 2]), (None, [0, 256]), ([0, 199], None)):
        with torch.no_grad():
            kept = weight.clone()
            if rows:
                weight[rows] = weight[rows[::-1]].clone()
            else:
                weight[:, columns] = weight[:, columns[::-1]].clone()
            assert digest_of_network(network, "linear") != first, (rows, columns)
            weight.copy_(kept)
        assert digest_of_network(network, "linear") == first


def test_remembered_digests_are_those_of_every_byte(monkeypatch):
    pipe = tiny.sd()
    first = fingerprint(pipe)
    monkeypatch.setattr(contents, "SMALL", 0)
    assert fingerprint(pipe) == first
    hashed = []
    monkeypatch.setattr(contents, "add_bytes", lambda digest, tensor: hashed.append(1))
    assert fingerprint(pipe) == first  # once per loaded object
    assert not hashed
    with torch.no_grad():
        pipe.unet.conv_in.bias[0] += 1
    assert fingerprint(pipe) != first
    assert len(hashed) == len(tensors_of(pipe.unet, "unet")[0])


def set_alphas(pipe):
    pipe.scheduler.alphas_cumprod[3] *= 0.9


def shift(pipe):
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, steps_offset=0)


def other_scheduler(pipe):
    pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config)


def add_token(pipe):
    pipe.tokenizer.add_tokens(["<cat-toy>"])


def invert_text(pipe):
    """Textual inversion: a token, and its row of the text encoder's embeddings."""
    pipe.tokenizer.add_tokens(["<cat-toy>"])
    pipe.text_encoder.resize_token_embeddings(len(pipe.tokenizer), mean_resizing=False)


def change_row(pipe):
    with torch.no_grad():
        pipe.text_encoder.get_input_embeddings().weight[77] += 1e-6


def buffer(pipe):
    pipe.unet.register_buffer("extra", torch.ones(3), persistent=False)


def freeu(pipe):
    pipe.unet.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)


def processor(pipe):
    class Mine:
        def __call__(self, attn, hidden_states, *args, **kwargs):
            return hidden_states

    pipe.unet.set_attn_processor(Mine())


def reader(pipe):
    pipe.register_modules(feature_extractor=CLIPImageProcessor(size={"shortest_edge": 30}))


def normalise(pipe):
    pipe.tokenizer.backend_tokenizer.normalizer = NFD()


def pad(pipe):
    pipe.tokenizer.pad_token = "!"


CHANGES = [
    set_alphas, shift, other_scheduler, add_token, invert_text, change_row, buffer, freeu, processor, reader, pad,
    normalise,
    lambda pipe: pipe.vae.enable_tiling(),
    lambda pipe: pipe.to(torch.bfloat16),
    lambda pipe: pipe.register_to_config(requires_safety_checker=True),
    lambda pipe: pipe.unet.register_to_config(act_fn="gelu"),
    lambda pipe: setattr(pipe.text_encoder.config, "eos_token_id", 2),
    lambda pipe: setattr(pipe.tokenizer, "model_max_length", 20),
]  # fmt: skip


@pytest.mark.sampled(4)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_decides_what_is_computed_counts(change):
    pipe = tiny.sd()
    first = fingerprint(pipe)
    change(pipe)
    assert fingerprint(pipe) != first


def edited(root, file, old, new):
    path = root / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("tokenizer/tokenizer.json", '"Q": 50', '"Q": 51'),  # two tokens change places
        ("tokenizer/tokenizer.json", '"merges": []', '"merges": [["a", "b"]]'),
        ("tokenizer/tokenizer.json", '"normalized": false', '"normalized": true'),
        ("scheduler/scheduler_config.json", '"beta_end": 0.012', '"beta_end": 0.0121'),
        ("scheduler/scheduler_config.json", '"prediction_type": "epsilon"', '"prediction_type": "sample"'),
        ("unet/config.json", '"freq_shift": 0', '"freq_shift": 1'),
        ("vae/config.json", '"scaling_factor": 0.18215', '"scaling_factor": 0.18'),
    ],
)
def test_a_line_of_a_file_counts(model, tmp_path, file, old, new):
    root = tmp_path / "model"
    shutil.copytree(model, root)
    first = fingerprint(load_pipeline(root, device="cpu"))
    if new == '"Q": 51':
        edited(root, file, '"R": 51', '"R": 50')
    if "merges" in old:
        edited(root, file, '"Q": 50', '"ab": 50')
    edited(root, file, old, new)
    assert fingerprint(load_pipeline(root, device="cpu")) != first


class SlowTokenizer:
    """A tokenizer in Python: its words, its merges and its settings."""

    def __init__(self, **more):
        self.words = {"a": 0, "b": 1, "ab": 2}
        self.bpe_ranks = {("a", "b"): 0}
        self.init_kwargs = {"do_lower_case": True, "vocab_file": "/somewhere"}
        self.special_tokens_map = {"pad_token": "a"}
        self.model_max_length = 77
        self.cache = {}
        vars(self).update(more)

    def get_vocab(self):
        return self.words

    def save_vocabulary(self, directory):
        raise NotImplementedError


@pytest.mark.parametrize(
    "more",
    [
        {"words": {"a": 1, "b": 0, "ab": 2}}, {"bpe_ranks": {("b", "a"): 0}}, {"init_kwargs": {"do_lower_case": False}},
        {"special_tokens_map": {"pad_token": "b"}}, {"model_max_length": 76},
        {"sp_model": SimpleNamespace(serialized_model_proto=lambda: b"proto")},
        {"save_vocabulary": lambda directory: (Path(directory) / "rules.txt").write_text("a b")},
    ],
)  # fmt: skip
def test_tokenizers_in_python_count(more):
    def of(tokenizer):
        return fingerprint(SimpleNamespace(components={"tokenizer": tokenizer}))

    assert of(SlowTokenizer()) == of(SlowTokenizer(cache={"hello": "he llo"}))
    assert of(SlowTokenizer(**more)) != of(SlowTokenizer())


class Adapted(torch.nn.Linear):
    """A layer with an adapter, as peft's are."""

    def __init__(self):
        super().__init__(3, 3)
        self.lora_A = torch.nn.ModuleDict({"style": torch.nn.Linear(3, 2)})
        self.scaling, self.active_adapters, self.merged_adapters = {"style": 0.7}, ["style"], []
        self.disable_adapters = False


@pytest.mark.sampled(7)
@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.scaling.update(style=0.8),
        lambda layer: layer.active_adapters.clear(),
        lambda layer: layer.merged_adapters.append("style"),
        lambda layer: setattr(layer, "disable_adapters", True),
        lambda layer: layer.lora_A["style"].weight.data[0].add_(1e-6),
        lambda layer: layer.weight.data.add_(layer.weight * 1e-3),  # fused
        lambda layer: layer.lora_A.clear(),  # unloaded
    ],
)
def test_adapters_count(change):
    pipe = tiny.sd()
    without = fingerprint(pipe)
    pipe.unet.adapted = Adapted()
    first = fingerprint(pipe)
    assert first != without
    pipe.unet.adapted.scaling["style"] *= 0.3  # a call with cross_attention_kwargs={"scale": 0.3}
    pipe.unet.adapted.scaling["style"] /= 0.3
    assert fingerprint(pipe) == first
    change(pipe.unet.adapted)
    assert fingerprint(pipe) != first


def test_ip_adapter_scales_count():
    pipe = tiny.sd()
    attention = next(one for one in pipe.unet.modules() if hasattr(one, "set_processor"))
    made = diffusers.models.attention_processor.IPAdapterAttnProcessor2_0(32, 32, num_tokens=(4,), scale=[1.0])
    attention.set_processor(made)
    first = fingerprint(pipe)
    made.scale = [0.6]
    assert fingerprint(pipe) != first
    made.scale = [1.0]
    assert fingerprint(pipe) == first


# What does not


@pytest.mark.slow
def test_calls_leave_it(model):
    for make in (tiny.sd, tiny.sdxl, tiny.sd3, tiny.dit, tiny.class_flow):
        pipe = make()
        first = fingerprint(pipe)
        assert fingerprint(make()) == first
        given = {"prompt": "a cat"} if hasattr(pipe, "encode_prompt") else {"class_labels": [1]}
        pipe(**given, num_inference_steps=3)
        assert fingerprint(pipe) == first, make.__name__


SCHEDULERS = [
    name for name in dir(diffusers)
    if name.endswith("Scheduler") and not name.startswith("Flax") and "set_timesteps" in dir(getattr(diffusers, name))
]  # fmt: skip


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_what_set_timesteps_rewrites_is_left_out(name):
    try:
        scheduler, fresh = getattr(diffusers, name)(), getattr(diffusers, name)()
    except (ImportError, TypeError) as error:
        pytest.skip(str(error))
    try:
        scheduler.set_timesteps(5)
        x = torch.ones(1, 4, 8, 8)
        for time in scheduler.timesteps[:3]:
            x = scheduler.step(scheduler.scale_model_input(x, time) * 0.5, time, x, return_dict=False)[0]
    except Exception:  # some take other arguments; what they did by then is done
        pass
    found = [fingerprint(SimpleNamespace(components={"scheduler": one})) for one in (scheduler, fresh)]
    assert found[0] == found[1]


@pytest.mark.slow
def test_the_place_of_weights_is_left_out(tmp_path):
    first, older = fingerprint(tiny.sd()), older_fingerprint(tiny.sd())
    moves = [
        lambda pipe: accelerate.cpu_offload(pipe.unet, execution_device="cpu"),
        lambda pipe: accelerate.disk_offload(pipe.unet, tmp_path / "disk", execution_device="cpu"),
        lambda pipe: accelerate.cpu_offload(pipe.text_encoder, execution_device="cpu", offload_buffers=True),
        lambda pipe: pipe.unet.to(memory_format=torch.channels_last),
        lambda pipe: setattr(pipe, "unet", torch.compile(pipe.unet)),
        *[
            lambda pipe, more=more: apply_group_offloading(
                pipe.unet, onload_device=torch.device("cpu"), offload_type="leaf_level", **more
            )
            for more in ({}, {"offload_to_disk_path": str(tmp_path / "groups")})
        ],
    ]
    for number, move in enumerate(moves):
        pipe = tiny.sd()
        move(pipe)
        assert fingerprint(pipe) == first, number
        if number < 3:
            assert older_fingerprint(pipe) == older, number


def test_weights_that_are_nowhere_are_refused():
    pipe = tiny.sd()
    pipe.unet.to("meta")
    with pytest.raises(ValueError, match=r"^expected weights whose values can be read, got unet\.\S+, which is on"):
        fingerprint(pipe)


def test_tied_weights_count_under_each_name():
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    network[1].weight = network[0].weight
    tied = digest_of_network(network, "n")
    assert {"0.weight", "1.weight"} <= set(tensors_of(network, "n")[0])
    network[1].weight = torch.nn.Parameter(network[0].weight.detach().clone())
    assert digest_of_network(network, "n") == tied
    network[1].weight.data[0, 0] += 1
    assert digest_of_network(network, "n") != tied


@pytest.mark.filterwarnings("ignore")
def test_quantised_weights_count():
    from torch.ao.quantization import quantize_dynamic

    made = torch.nn.Sequential(torch.nn.Linear(8, 8))
    packed = quantize_dynamic(made, {torch.nn.Linear}, dtype=torch.qint8)
    first = digest_of_network(packed, "n")
    assert digest_of_network(packed, "n") == first
    made[0].weight.data[0, 0] += 1
    assert digest_of_network(quantize_dynamic(made, {torch.nn.Linear}, dtype=torch.qint8), "n") != first


class Packed(torch.nn.Parameter):
    """Packed weights whose kind stands beside them, as in GGUF files."""


def test_packed_weights_count_with_their_kind():
    def made(kind, value=1):
        weight = Packed(torch.full((4,), value, dtype=torch.uint8), requires_grad=False)
        weight.quant_type = kind
        network = torch.nn.Module()
        network.register_parameter("weight", weight)
        return digest_of_network(network, "n")

    assert made("Q4_0") == made("Q4_0")
    assert len({made("Q4_0"), made("Q8_0"), made("Q4_0", 2)}) == 3


def test_components_that_say_nothing_are_named(caplog):
    fingerprint(SimpleNamespace(components={"watermark": object()}))
    assert "only the kind of watermark (object)" in caplog.text


# From files


@pytest.mark.slow
def test_the_digest_of_files_is_kept_and_proven(model, tmp_path, monkeypatch):
    root = tmp_path / "model"
    shutil.copytree(model, root)
    monkeypatch.setattr(contents, "SMALL", 0)
    first = fingerprint(load_pipeline(root, device="cpu"))
    assert len(json.loads(cache_file().read_text())["entries"]) == 3
    hashed = []
    own = contents.add_bytes
    monkeypatch.setattr(contents, "add_bytes", lambda digest, tensor: hashed.append(1) or own(digest, tensor))
    assert fingerprint(load_pipeline(root, device="cpu")) == first
    assert not hashed

    changed = load_pipeline(root, device="cpu")  # after loading: as torch counts, and behind its back
    with torch.no_grad():
        changed.unet.conv_in.bias += 0
    assert fingerprint(changed) == first
    assert hashed
    changed = load_pipeline(root, device="cpu")
    changed.unet.conv_in.bias.data[0] += 1e-6
    assert fingerprint(changed) != first

    hashed.clear()
    files = cache_file().read_text()
    for rubbish in ("{", "[]", '{"version": 1}', '{"version": 1, "entries": 3}', "[" * 100_000,
                    files.replace('"version": 1', '"version": 0'), '{"version": 1, "entries": {"a": ["b", "c"]}}',
                    ):  # fmt: skip
        cache_file().write_text(rubbish)
        assert fingerprint(load_pipeline(root, device="cpu")) == first
        assert hashed
        hashed.clear()

    weights = root / "unet" / "diffusion_pytorch_model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    stat = weights.stat()
    weights.write_bytes(raw)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # of the same size and time, and yet another
    assert fingerprint(load_pipeline(root, device="cpu")) != first


def test_a_cache_that_cannot_be_written_is_done_without(model, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(contents, "SMALL", 0)
    assert fingerprint(load_pipeline(model, device="cpu")) == fingerprint(tiny.sd())


# Those of earlier versions


def as_it_was(pipe):
    """The rule of earlier versions, in one piece."""
    silent = ("_", "architectures", "transformers_version", "dtype", "torch_dtype")

    def plain(value):
        if not isinstance(value, dict):
            return value
        return {str(key): plain(value[key]) for key in sorted(value, key=str) if not str(key).startswith(silent)}

    digest = hashlib.sha256(type(pipe).__name__.encode())
    for name, one in sorted(pipe.components.items()):
        config = getattr(one, "config", None)
        config = config.to_dict() if hasattr(config, "to_dict") else dict(config or {})
        digest.update(json.dumps([name, type(one).__name__, plain(config)], default=str).encode())
        if isinstance(one, torch.nn.Module):
            for key, tensor in (*one.named_parameters(), *one.named_buffers()):
                flat = tensor.detach().reshape(-1)
                digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
                digest.update(flat[:: max(1, flat.numel() // 16)][:16].float().numpy().tobytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("make", [tiny.sd, tiny.sdxl, tiny.sd3, tiny.dit, tiny.class_flow])
def test_older_fingerprints_are_still_made(make):
    pipe = make()
    assert older_fingerprint(pipe) == as_it_was(pipe)
    assert same_model(as_it_was(pipe), fingerprint(pipe))


def test_files_with_an_older_fingerprint_are_taken(tmp_path):
    pipe = tiny.sd()
    sampler = PipelineSampler(pipe, "a cat", num_inference_steps=4)
    older = {**identity(sampler), "fingerprint": older_fingerprint(pipe)}
    write_schedule_file(tmp_path / "s.json", FittedSchedule(sampler.schedule, "ddim", older))
    assert load_for(tmp_path / "s.json", sampler) == sampler.schedule
    other = PipelineSampler(tiny.sd(seed=1), "a cat", num_inference_steps=4)
    with pytest.raises(ValueError, match="--force"):
        load_for(tmp_path / "s.json", other)
    levels = tuple(LevelError(s, s, *[1.0] * 9) for s in (9.0, 7.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.5))
    table = ErrorTable(levels, 1, "self", older, {"levels": len(levels)})
    read = ErrorTable.load(table.save(tmp_path / "errors.json"))
    check_same_model(read.identity, identity(sampler), "an error table of")
    with pytest.raises(ValueError, match="--force"):
        check_same_model(table.identity, identity(other), "an error table of")


@pytest.mark.parametrize(
    ("model", "file"),
    [("noisewright/shapes", "schedules/errors-*.json"), ("noisewright/cifar10", "schedules-cifar10/fits/dmn-5-*.json")],
)
def test_results_in_the_repository_are_those_of_the_bundled_models(model, file):
    results = Path(__file__).parents[2] / "benchmarks" / "results"
    recorded = [json.loads(one.read_text())["fingerprint"] for one in results.glob(file)]
    assert recorded
    pipe = nw.load(model, device="cpu")
    assert all(is_older(one) and same_model(one, fingerprint(pipe)) for one in recorded)


def test_an_older_fingerprint_is_the_same_model():
    pipe = tiny.sd()
    now, older = fingerprint(pipe), older_fingerprint(pipe)
    assert len(older) == 16
    assert is_older(older)
    assert same_model(now, now)
    assert same_model(str(now), now)
    assert same_model(older, now)
    assert not same_model("0" * 16, now)
    assert not same_model(None, now)
    assert not same_model(older, str(now))
    other = fingerprint(tiny.sd(seed=1))
    assert not same_model(now, other)
    assert not same_model(older, other)
    about = PipelineSampler(pipe, "a cat", num_inference_steps=2).description
    assert same_model(older, about["fingerprint"])
