"""What ``training/shapes/reward.py`` and ``aesthetic.py`` compute, on small cases done by hand."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parents[2] / "training" / "shapes"
SUM = 1e-5  # float32 sums of a few numbers


@pytest.fixture(scope="module")
def reward(training):
    return training("reward")


@pytest.fixture(scope="module")
def aesthetic(training):
    return training("aesthetic")


def test_the_ranking_loss_by_hand(reward):
    grades = np.array([[[1.0, 0.5, 0.5, 0.0]]])
    wanted = reward.preferences(grades)
    assert wanted.tolist() == [[[1, 1, 1, 0, 1, 1]]]  # pairs 01 02 03 12 13 23
    rewards = torch.tensor([[[2.0, 1.0, 0.0, 3.0]]], requires_grad=True)
    loss = reward.ranking_loss(rewards, torch.from_numpy(wanted))
    differences = torch.tensor([1.0, 2.0, -1.0, -2.0, -3.0])
    assert loss.item() == pytest.approx(-torch.nn.functional.logsigmoid(differences).mean().item(), abs=SUM)
    loss.backward()
    assert rewards.grad[0, 0, 0] < 0 < rewards.grad[0, 0, 3]
    assert reward.ranking_loss(rewards, torch.zeros(1, 1, 6)).item() == 0


def test_agreement_by_hand(reward):
    grades = np.array([[1.0, 0.5, 0.5, 0.0], [1.0, 1.0, 1.0, 1.0]])
    right, spearman = reward.agreement(np.array([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]]), grades)
    assert right[0] == 1
    assert spearman[0] == pytest.approx(0.9486833, abs=SUM)  # scipy.stats.spearmanr
    assert np.isnan([right[1], spearman[1]]).all()
    backwards, _ = reward.agreement(np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]]), grades)
    assert backwards[0] == 0


def test_the_tokenizer_has_one_token_a_word_and_letters_for_others(reward):
    tokens = reward.words()
    said = tokens("Two small red circles, a dog").tokens()
    assert said == ["[CLS]", "two", "small", "red", "circles", ",", "a", "d", "##o", "##g", "[SEP]"]
    assert tokens.convert_ids_to_tokens([len(tokens) - 2, len(tokens) - 1]) == ["[DEC]", "[ENC]"]


def test_grounding_counts_what_a_word_names(reward):
    tokens = reward.words()
    ids = tokens("two red circles", return_tensors="pt")["input_ids"]
    named = reward.named_by(tokens)[ids][None]  # (1, 1, tokens, 2)
    place = ids[0].tolist().index(tokens.convert_tokens_to_ids("circles"))
    red, blue, circle, star = 0, 5, 0, 3
    things = torch.full((1, 1, 4, 5), -1.0)
    things[0, 0, :3] = torch.tensor([[circle, red, 0, 16, 32], [circle, blue, 0, 40, 40], [star, red, 0, 8, 8]])
    grounds = torch.zeros(1, 1, 1, ids.shape[1], 17)
    for number, count in enumerate((2, 2, 1)):  # two red things, two circles, one red circle
        grounds[..., place, 5 * number + count] = 30
    grounds[..., place, 15:] = torch.tensor([-0.5, 0.0])  # (16 - 32) / 32 and (32 - 32) / 32
    assert reward.grounding_loss(grounds, named, things).item() == pytest.approx(0, abs=SUM)
    grounds[..., place, 15] = 0.5
    assert reward.grounding_loss(grounds, named, things).item() == pytest.approx(0.5, abs=SUM)


def test_the_image_encoder_starts_from_clips(reward, training):
    from transformers import CLIPModel

    clip, scene = training("clip"), importlib.import_module("noisewright.shapes.scene")
    start = CLIPModel.from_pretrained(FOLDER.parents[1] / "src" / "noisewright" / "models" / "shapes-clip")
    rng = np.random.default_rng(0)
    things = [scene.SceneObject("star", "red", "large", 9.0, x, 30) for x in (15, 30, 45)]
    pictures = np.stack([scene.render(scene.Scene((one,), scene.sample_background(rng))) for one in things])
    model = reward.build(100, start, pictures)
    pixels = clip.normalise(torch.from_numpy(pictures))
    with torch.no_grad():
        cosine = torch.nn.functional.cosine_similarity(
            model.look(pixels)[:, 0], start.vision_model(pixel_values=pixels).pooler_output
        )
    assert cosine.min() > 0.95


def test_damage_is_worth_what_the_rating_says(aesthetic):
    rng = np.random.default_rng(0)
    for _ in range(50):
        amounts = aesthetic.amounts_of(rng, 0.7)
        assert amounts.sum() == pytest.approx(0.7)
        assert 1 <= (amounts > 0).sum() <= 3
    assert (aesthetic.rating(np.zeros(4)), aesthetic.rating(np.array([0, 1, 0, 0]))) == (10, 1)
    scene = aesthetic.sample_scene(rng, aesthetic.sample_prompt(rng, "two"))
    clean = aesthetic.degraded(rng, scene, np.zeros(4))
    assert np.array_equal(clean, aesthetic.render(scene))
    for which in np.eye(4):
        spoilt = [aesthetic.degraded(rng, scene, amount * which).astype(float) for amount in (0.1, 1.0)]
        slight, worst = (np.abs(one - clean).mean() for one in spoilt)
        assert 0 < slight < worst
