"""Verdicts that are kept: by what they are found again, and what is made of damaged ones."""

import json

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from PIL import Image

import misbehaving
import tiny
from noisewright import registry
from noisewright.samplers import verdicts
from noisewright.samplers.verdict import Verdict
from noisewright.schemas.verdicts import check_kept_verdict, check_verdict

PROMPT = "two red circles"


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    verdicts.CACHE.forget()
    yield
    verdicts.CACHE.forget()


def sampler_of(pipe, prompt=PROMPT, steps=8, **settings):
    pipe.set_progress_bar_config(disable=True)
    return registry.make_sampler(pipe, prompt, {"num_inference_steps": steps, **settings})


def counted(pipe):
    calls = []
    pipe.unet.register_forward_hook(lambda *given: calls.append(1))
    return calls


def test_a_verdict_is_proved_once_for_all_processes():
    pipe = tiny.sd()
    sampler, calls = sampler_of(pipe), counted(pipe)
    assert verdicts.known_verdict(sampler) is None
    first = verdicts.verdict_of(sampler)
    assert calls
    assert set(first.versions) >= {"noisewright", "torch", "diffusers", "transformers"}
    calls.clear()
    verdicts.CACHE.forget()  # as another process
    assert verdicts.verdict_of(sampler) == first
    other = tiny.sd(seed=7)
    counted(other)
    assert verdicts.known_verdict(sampler_of(other, "another prompt", negative_prompt="blue")) is None
    assert verdicts.known_verdict(sampler_of(other, "another prompt")) == first  # other weights, another text
    assert calls == []


@pytest.mark.sampled(6)
@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"key": "x", "verdict": {}}', b"\xff\xfe", None])
def test_a_damaged_file_is_made_again(damage):
    pipe = tiny.sd()
    sampler, calls = sampler_of(pipe), counted(pipe)
    first = verdicts.verdict_of(sampler)
    file = verdicts.CACHE.file(verdicts.key_of(sampler))
    held = json.loads(file.read_text())
    if damage is None:  # a file that says something else
        held["verdict"]["split"] = "yes"
        damage = json.dumps(held).encode()
    file.write_bytes(damage)
    verdicts.CACHE.forget()
    calls.clear()
    assert verdicts.verdict_of(sampler) == first
    assert calls
    assert Verdict.from_json(check_kept_verdict(json.loads(file.read_text()), "it")["verdict"]) == first


def test_a_file_of_another_key_is_not_believed():
    sampler = sampler_of(tiny.sd())
    verdicts.keep(sampler, Verdict(split=False))
    key = verdicts.key_of(sampler)
    file = verdicts.CACHE.file(key)
    file.write_text(file.read_text().replace(key, "0" * 32))
    verdicts.CACHE.forget()
    assert verdicts.known_verdict(sampler) is None


def test_where_nothing_can_be_written_it_is_known_in_this_process(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    sampler = sampler_of(tiny.sd())
    verdicts.keep(sampler, Verdict(batch=False))
    assert verdicts.known_verdict(sampler) == Verdict(batch=False)


def keys():
    """Samplers that differ in one thing each."""
    other = tiny.sd()
    other.scheduler = EulerDiscreteScheduler.from_config(other.scheduler.config)
    config = tiny.sd(DDIMScheduler(**{**tiny.SD_SCHEDULER, "prediction_type": "v_prediction"}))
    training = tiny.sd()
    training.unet.train()
    tiled = tiny.sd()
    tiled.vae.enable_tiling()
    freed = tiny.sd()
    freed.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    yield "plain", sampler_of(tiny.sd())
    yield "scheduler", sampler_of(other)
    yield "configuration", sampler_of(config)
    yield "class", sampler_of(misbehaving.made(misbehaving.OwnLoop))
    yield "guidance", sampler_of(tiny.sd(), guidance_scale=1.0)
    yield "negative", sampler_of(tiny.sd(), negative_prompt="x")
    yield "size", sampler_of(tiny.sd(), height=16, width=16)
    yield "eta", sampler_of(tiny.sd(), pipe_kwargs={"eta": 1.0})
    yield "dtype", sampler_of(tiny.sd().to(torch.bfloat16))
    yield "one step", sampler_of(tiny.sd(), steps=1)
    yield "training", sampler_of(training)
    yield "tiling", sampler_of(tiled)
    yield "freeu", sampler_of(freed)


@pytest.mark.slow
def test_keys_tell_what_a_verdict_depends_on():
    found = {name: verdicts.key_of(one) for name, one in keys()}
    assert len(set(found.values())) == len(found)
    same = [sampler_of(tiny.sd(seed=3)), sampler_of(tiny.sd(), "a cat"), sampler_of(tiny.sd(), steps=50)]
    same += [sampler_of(tiny.sd(), solver=registry.make_solver("heun", None))]
    assert {verdicts.key_of(one) for one in same} == {found["plain"]}


def in_place_of(method, factor):
    """A function as caches and patches put it in a network's or a scheduler's place."""

    def changed(*given, **more):
        return method(*given, **more) if factor else None

    return changed


def test_keys_tell_what_a_person_put_in_the_place_of_a_method():
    def key(change):
        pipe = tiny.sd()
        change(pipe)
        return verdicts.key_of(sampler_of(pipe))

    changes = (
        lambda pipe: None,
        lambda pipe: setattr(pipe.unet, "forward", in_place_of(pipe.unet.forward, 1)),
        lambda pipe: setattr(pipe.unet, "forward", in_place_of(pipe.unet.forward, 2)),
        lambda pipe: setattr(pipe.unet.mid_block, "forward", in_place_of(pipe.unet.mid_block.forward, 1)),
        lambda pipe: setattr(pipe.scheduler, "step", in_place_of(pipe.scheduler.step, 1)),
        lambda pipe: object.__setattr__(pipe, "prepare_latents", in_place_of(pipe.prepare_latents, 1)),
        lambda pipe: pipe.unet.register_forward_hook(in_place_of(print, 0)),
    )
    assert len({key(change) for change in changes}) == len(changes)
    assert [key(change) for change in changes[:3]] == [key(change) for change in changes[:3]]


def test_keys_hold_no_texts_and_hashes_of_images():
    embeds = torch.zeros(1, 24, 32)
    sampler = sampler_of(tiny.sd(), "a secret prompt", pipe_kwargs={"negative_prompt_embeds": embeds},
                         prompt_embeds=embeds)  # fmt: skip
    about = json.dumps(verdicts.depends_on(sampler))
    assert "secret" not in about
    assert verdicts.call_of(sampler)["prompt_embeds"] == ["float32", [1, 24, 32]]
    picture = Image.new("RGB", (4, 4))
    guided = sampler_of(tiny.sd(), pipe_kwargs={"cross_attention_kwargs": {"image": picture}})
    assert "$image" in json.dumps(verdicts.call_of(guided))


def class_of(body):
    """A class that no file holds, as a notebook's."""
    held = {}
    exec(f"class Mine(Base):\n    def guided(self, i, found, generator):\n        return {body}",
         {"Base": misbehaving.OwnLoop, "__name__": "elsewhere"}, held)  # fmt: skip
    return held["Mine"]


def test_keys_tell_a_persons_own_code():
    one, same, other = (class_of(body) for body in ("found", "found", "found * 2"))
    found = [verdicts.key_of(sampler_of(misbehaving.made(kind))) for kind in (one, same, other)]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    "change",
    [{"split": 1}, {"tolerance": -1.0}, {"notes": "x"}, {"refused": 3}, {"solver_apart": float("nan")}, {"more": 1}],
)
def test_a_verdict_of_other_types_is_refused(change):
    with pytest.raises(ValueError, match=r"expected .* in it"):
        check_verdict({**Verdict().to_json(), **change}, "it")
