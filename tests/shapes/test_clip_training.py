"""What the trainings of the verifier in ``training/shapes`` compute, on small cases done by hand."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPModel, CLIPTokenizer

import noisewright.models
from noisewright.shapes.oracle import Reading, grade, grade_reading
from noisewright.shapes.prompts import KINDS, RELATIONS, kind, load_prompts, parse, sample_prompt
from noisewright.shapes.scene import COLOURS, SHAPES

FOLDER = Path(__file__).parents[2] / "training" / "shapes"
MODELS = Path(next(iter(noisewright.models.__path__)))
SUM = 1e-5  # float32 sums of a few numbers


@pytest.fixture(scope="module")
def generated(training):
    return training("generated")


def test_contrast_by_hand(training):
    clip = training("clip")
    logits = torch.zeros(8, 8)
    logits[0, 0] = 1.0
    logits[4, 5] = 9.0  # a picture that another prompt of its group would have
    everyone, group, right = clip.contrast(logits, torch.arange(8))

    def direction(among):
        first = -1 + math.log(math.e + among - 1)
        other = math.log(math.exp(9) + among - 1)  # of picture 4, whose own prompt has 0
        return (first + other + 6 * math.log(among)) / 8

    assert everyone.item() == pytest.approx(direction(8), abs=SUM)
    assert group.item() == pytest.approx(direction(4), abs=SUM)
    assert right.item() == 2 / 8  # of ties the first is taken: prompts 0 and 4 find theirs, prompt 5 finds 4's
    same = torch.arange(8) % 4  # each prompt of the second group names what one of the first does
    with_same, within, _ = clip.contrast(logits, same)
    assert with_same.item() == pytest.approx(direction(7), abs=SUM)
    assert within.item() == pytest.approx(group.item(), abs=SUM)


def test_the_order_of_generated_pictures_by_hand(generated):
    scores = torch.tensor([[1.0, 0.5, 0.5, 0.49]])
    right = torch.tensor([[True, False, False, False]])
    logits = torch.tensor([[2.0, 1.0, 5.0, 0.0]], requires_grad=True)
    differences = torch.tensor([1.0, -3.0, 2.0])  # of the right one to each other; the others are alike
    loss = generated.ranking_loss(logits, scores, right)
    assert loss.item() == pytest.approx(-torch.nn.functional.logsigmoid(differences).mean().item(), abs=SUM)
    loss.backward()
    assert logits.grad[0, 0] < 0 < logits.grad[0, 2]
    weighted = generated.ranking_loss(
        torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([[True, False, False]])
    )
    softplus = [math.log1p(math.exp(-difference)) for difference in (1, -1, -2)]  # pairs 01, 02, 12
    assert weighted.item() == pytest.approx((3 * softplus[0] + 3 * softplus[1] + softplus[2]) / 7, abs=SUM)
    nothing = generated.ranking_loss(logits, torch.ones(1, 4), torch.ones(1, 4, dtype=torch.bool))
    assert nothing.item() == 0


def test_no_prompt_of_dev_or_test_is_generated_for(generated):
    held_out = {*load_prompts("dev"), *load_prompts("test")}
    parts = [generated.prompts_of(number) for number in range(4)]
    for texts in parts:
        assert len(texts) == len(set(texts)) == generated.PROMPTS
        assert not held_out & set(texts)
    assert parts[0] == generated.prompts_of(0) != parts[1]
    assert {kind(parse(text)) for texts in parts for text in texts} == set(KINDS)


def test_groups_with_a_held_out_prompt_are_left_out_and_sizes_come_thrice(training):
    kept = training("clip_further").kept
    told = {kind(parse(text)): text for text in load_prompts("test")}
    other = "a made up text"
    groups = [[other] * 4, [other, told["relation"], other, other], [told["single"]] + [other] * 3, [told["two"]] * 4]
    edits = ["base", "colour", "colour", "count"] * 2 + ["base", "size", "size", "count"] + ["base"] * 4
    assert kept([text for texts in groups for text in texts], edits).tolist() == [0, 2, 2, 2]


def test_a_size_is_given_where_none_is_named(training):
    sized = training("negatives").sized
    rng = np.random.default_rng(3)
    prompts = [sample_prompt(rng, KINDS[i % 5]) for i in range(200)]
    without = [prompt for prompt in prompts if not prompt.relation and not any(group.size for group in prompt.groups)]
    given = {prompt: sized(rng, prompt, 0.7) for prompt in prompts}
    assert all(given[prompt] == prompt for prompt in prompts if prompt not in without)
    for prompt in without:
        after = given[prompt].groups
        assert tuple(replace(group, size=None) for group in after) == prompt.groups
        assert sum(group.size is not None for group in after) == (given[prompt] != prompt)
    assert 0.6 < np.mean([given[prompt] != prompt for prompt in without]) < 0.8
    state = rng.bit_generator.state
    assert [sized(rng, prompt, 0) for prompt in prompts] == prompts
    assert rng.bit_generator.state == state, "older data is drawn as before"


def test_what_a_text_tower_is_asked(training):
    reading = training("reading")
    prompt = parse("a red circle left of a large blue square")
    stands, counts, sizes = np.split(reading.answers(prompt), np.cumsum(reading.ANSWERS)[:2])
    red, blue, circle, square = COLOURS.index("red"), COLOURS.index("blue"), *map(SHAPES.index, ("circle", "square"))
    wanted = np.zeros((13, 2))
    wanted[[red, 8 + circle]] = [-1, 0]
    wanted[[blue, 8 + square]] = [1, 0]
    assert stands.reshape(13, 2).tolist() == wanted.tolist()
    assert {tuple(slot) for slot in np.argwhere(counts.reshape(8, 5))} == {(red, circle), (blue, square)}
    assert {int(slot): sizes[slot] for slot in np.flatnonzero(sizes)} == {blue: 1, 8 + square: 1}
    backwards = reading.answers(parse("a large blue square right of a red circle"))
    assert backwards.tolist() == reading.answers(prompt).tolist(), "the same scene"
    three = reading.answers(parse("three small red stars"))
    assert three[reading.ANSWERS[0] :].reshape(-1)[red * 5 + SHAPES.index("star")] == 3
    assert not three[: reading.ANSWERS[0]].any()


def test_halfway_each_group_is_asked_where_it_can_be_known(training):
    reading, tokenizer = training("reading"), CLIPTokenizer.from_pretrained(MODELS / "shapes-clip")
    for relation in RELATIONS:
        prompt = parse(f"a small red circle {relation} an orange star")
        places, stands = reading.halves(prompt)
        tokens = [tokenizer.decode(one).strip() for one in tokenizer(prompt.text).input_ids]
        assert [tokens[place] for place in places] == [relation.split()[-1], "star"]
        assert stands.sum(axis=0).tolist() == reading.answers(prompt)[: reading.ANSWERS[0]].tolist()


def test_the_loss_of_answers_by_hand(training):
    reading = training("reading")
    wanted = torch.zeros(2, sum(reading.ANSWERS))
    said = wanted.clone()
    said[0, 0], said[0, reading.ANSWERS[0]], said[1, -1] = 2.0, 1.0, 3.0
    directions, counts, sizes = reading.WEIGHTS
    expected = (4 * directions + counts + 9 * sizes) / 2
    assert reading.answers_loss(said, wanted).item() == pytest.approx(expected, abs=SUM)


def test_scenes_are_placed_right_and_nearly_right(training):
    placed, rng = training("placed"), np.random.default_rng(7)
    prompts = placed.prompts_of(rng, 60)
    held_out = {*load_prompts("dev"), *load_prompts("test")}
    assert {kind(prompt) for prompt in prompts} == {"relation", "count"}
    assert not held_out & {prompt.text for prompt in prompts}
    found = {"relation": [], "count": []}
    for prompt in prompts:
        wanted = sum(group.count for group in prompt.groups)
        for _ in range(4):
            scene = placed.scene_of(rng, prompt)
            said = grade_reading(Reading(scene.things, ()), prompt)
            found[kind(prompt)].append(said.right)
            named = {(group.colour, group.shape) for group in prompt.groups}
            assert {(thing.colour, thing.shape) for thing in scene.things} <= named
            assert abs(len(scene.things) - wanted) == (kind(prompt) == "count" and not said.right)
    assert all(0.15 < np.mean(rights) < 0.7 for rights in found.values())


def test_ranked_pictures_of_several_sources(training, generated):
    further, tokenizer = training("clip_further"), CLIPTokenizer.from_pretrained(MODELS / "shapes-clip")
    rng = np.random.default_rng(9)
    scores = [np.array([[1.0, 0.5], [0.5, 0.5]]), np.array([[0.2, 0.9], [0.3, 1.0], [1.0, 0.1]])]
    pictures = [rng.integers(0, 255, (*some.shape, 64, 64, 3), dtype=np.uint8) for some in scores]
    sources = [
        generated.Judged(["a red circle"] * len(some), shown, some == 1, some)
        for some, shown in zip(scores, pictures, strict=True)
    ]
    ranked = further.Ranked.of(sources, tokenizer)
    assert [one.tolist() for one in ranked.telling] == [[0], [2, 3, 4]], "alike pictures tell nothing"
    assert sorted(ranked.choose(1)) == [0, 2, 3, 4]
    some = np.array([3, 0])
    assert np.array_equal(ranked.shown(some), np.concatenate([sources[1].pictures[1], sources[0].pictures[0]]))
    logits = torch.tensor([[0.0, 9.0], [2.0, 9.0], [9.0, 3.0], [9.0, 4.0]])
    loss, picked = ranked.loss(logits, some)  # prompt 3: 0 and 2, rightly; prompt 0: 3 and 4, wrongly
    assert loss.item() == pytest.approx((math.log1p(math.exp(-2)) + math.log1p(math.exp(1))) / 2, abs=SUM)
    assert picked.item() == 0.5


def test_sizes_of_things(training):
    things = torch.full((2, 4, 5), -1.0)
    red, star = COLOURS.index("red"), SHAPES.index("star")
    things[0, 0, :3] = torch.tensor([star, red, 1])
    things[0, 1, :3] = torch.tensor([star, red, 1])
    things[0, 2, :3] = torch.tensor([star, red + 1, 0])
    found = training("clip_further").sizes_of(things)
    assert {int(slot): found[0, slot].item() for slot in found[0].nonzero()} == {red: 2, red + 1: -1, 8 + star: 1}
    assert not found[1].any()


@pytest.mark.slow
def test_the_text_tower_learns_and_goes_on_after_a_kill(training, monkeypatch, tmp_path):
    reading, model = training("reading"), MODELS / "shapes-clip"
    monkeypatch.setattr(reading, "BATCH_SIZE", 16)
    words = CLIPTokenizer.from_pretrained(model)

    def fit(folder, **further):
        folder.mkdir(exist_ok=True)
        tower = CLIPModel.from_pretrained(model, dtype=torch.float32).text_model
        return reading.fit(folder, tower, words, "cpu", **further)

    whole = fit(tmp_path / "whole", steps=4).state_dict()
    loss, calls = reading.answers_loss, []

    def killed(*some):
        calls.append(some)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return loss(*some)

    with monkeypatch.context() as patched:
        patched.setattr(reading, "answers_loss", killed)
        patched.setattr(training("loop"), "CHECKPOINT_SECONDS", 0)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "parts", steps=4)
    parts = fit(tmp_path / "parts", steps=4).state_dict()
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    start = CLIPModel.from_pretrained(model, dtype=torch.float32).text_model.state_dict()
    changed = [name for name, value in start.items() if not torch.equal(value, whole[f"tower.{name}"])]
    assert len(changed) > 0.9 * len(start)
    again = fit(tmp_path / "whole", steps=4).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in whole.items()), "it is finished"


@pytest.mark.slow
def test_pictures_are_made_once_and_judged(generated, monkeypatch, tmp_path):
    sizes = {"PARTS": 2, "PROMPTS": 2, "SEEDS": 2, "BATCH_PROMPTS": 2, "FEW_STEPS": 2, "STEPS": 3}
    for name, value in sizes.items():
        monkeypatch.setattr(generated, name, value)
    made = generated.judged(tmp_path, MODELS / "shapes", "cpu")
    assert made.pictures.shape == (4, 2, 64, 64, 3)
    assert made.prompts == generated.prompts_of(0) + generated.prompts_of(1)
    for pictures, prompt, right, scores in zip(made.pictures, made.prompts, made.right, made.scores, strict=True):
        said = grade(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255, prompt)
        assert [(one.right, one.score) for one in said] == list(zip(right, scores, strict=True))
    assert len({pictures.tobytes() for pictures in made.pictures.reshape(8, -1)}) == 8
    next(tmp_path.rglob("part-001.npz")).unlink()
    (first,) = tmp_path.rglob("part-000.npz")
    before = first.stat().st_mtime_ns
    again = generated.judged(tmp_path, MODELS / "shapes", "cpu")
    assert first.stat().st_mtime_ns == before
    assert np.array_equal(again.pictures, made.pictures)
    assert not list(tmp_path.rglob("*.part.npz"))
