"""The oracle verifiers of class-conditional models, and the exact update of the Frechet distance behind one of them."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noisewright.measures.frechet import RunningFrechet, frechet_distance
from noisewright.measures.statistics import FeatureStatistics
from noisewright.registry import make_verifier
from noisewright.verifiers.cache import cached
from noisewright.verifiers.features import FeatureNetwork, Features
from noisewright.verifiers.fid import FidVerifier
from noisewright.verifiers.inception_score import InceptionScoreVerifier
from noisewright.verifiers.protocol import Verifier, score
from reward_models import BATCH_MATES
from reward_models import some_features as some

EXACT = 1e-9  # relative; both ways lose a few digits to float64
NULL = 1e-6  # where covariances are singular, roots of rounding's eigenvalues (1e-16 of the largest) enter both ways


def direct(samples, reference):
    """Means and covariances from scratch, by numpy; the eigenvalues of the unsymmetric product."""
    x, y = samples.numpy(), reference.numpy()
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = np.sqrt(np.linalg.eigvals(a @ b).astype(complex)).real.sum()
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * root


def running(samples, reference, refresh=None):
    held = FeatureStatistics().add(reference)
    if not len(samples):
        return FeatureStatistics().running(held)
    begun = FeatureStatistics().add(samples)
    return RunningFrechet(held.mean, held.covariance, begun.count, begun.mean, begun.scatter, refresh)


class Means:
    """Features: the means of the channels and of two halves."""

    fingerprint, labels = "means", {0: "dark", 1: "bright"}

    def __call__(self, images):
        found = torch.cat([images.mean((2, 3)), images[..., : images.shape[-1] // 2].mean((2, 3))], 1)
        bright = images.mean((1, 2, 3))
        return Features(found, torch.stack([1 - bright, bright], 1))


def images(count, seed=0):
    return torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def reference_of_means():
    return FeatureStatistics("means").add(Means()(images(200, seed=9) ** 2).features)


# The update


@pytest.mark.parametrize("width", [1, 3, 40])
def test_the_update_is_the_direct_distance_over_many_joinings(width):
    """Past several eigendecompositions, every candidate of every slot."""
    reference, samples = some(300, width) @ torch.randn(width, width, dtype=torch.float64), some(60, width, 1, 0.3)
    held = running(samples, reference, refresh=4)
    pool = some(12 * 5, width, 2).reshape(12, 5, width) * torch.tensor([0.01, 1, 1, 3, 100]).double()[:, None]
    for slot, candidates in enumerate(pool):
        found = held.distances(candidates)
        for one, value in zip(candidates, found, strict=True):
            alone = torch.cat([samples, one[None]])
            by_hand = direct(alone, reference) if width > 1 else None
            if by_hand is None:
                by_hand = frechet_distance(alone.mean(0), alone.T.cov().reshape(1, 1), reference.mean(0), held.root**2)
            assert float(value) == pytest.approx(float(by_hand), rel=EXACT), slot
        samples = torch.cat([samples, candidates[slot % 5][None]])
        held.add(candidates[slot % 5])
        assert held.distance() == pytest.approx(float(found[slot % 5]), rel=EXACT)


@pytest.mark.slow
def test_the_update_of_512_features_and_a_wide_spectrum():
    scale = torch.logspace(0, -4, 512, dtype=torch.float64)
    reference, samples = some(1500, 512) * scale, some(1200, 512, 1) * scale * 1.2
    held = running(samples, reference)
    for one in some(20, 512, 2) * scale:
        held.add(one)
        samples = torch.cat([samples, one[None]])
    candidates = torch.cat([some(2, 512, 3) * scale, samples[:1]])
    for one, value in zip(candidates, held.distances(candidates), strict=True):
        assert float(value) == pytest.approx(direct(torch.cat([samples, one[None]]), reference), rel=1e-6)


@pytest.mark.parametrize("begun", [0, 1, 2, 10])
def test_fewer_samples_than_features(begun):
    """Zero eigenvalues, equal samples, and a set that begins with nothing."""
    reference, samples = some(100, 20), some(begun, 20, 1, 0.3)
    held = running(samples, reference, refresh=3)
    pool = some(9, 20, 2)
    pool[4] = pool[3]
    for one in pool:
        found = float(held.distances(one[None]))
        samples = torch.cat([samples, one[None]])
        if len(samples) > 1:
            mean, covariance = samples.mean(0), samples.T.cov()
            by_hand = frechet_distance(mean, covariance, reference.mean(0), reference.T.cov())
        else:
            by_hand = float((one - reference.mean(0)).square().sum() + reference.T.cov().trace())
        assert found == pytest.approx(by_hand, rel=NULL)
        held.add(one)
        assert held.distance() == pytest.approx(by_hand, rel=NULL)


def test_a_singular_reference_and_repeated_eigenvalues():
    basis = torch.eye(6, dtype=torch.float64)
    reference = torch.cat([basis, -basis])[:, :6] * torch.tensor([1.0, 1, 1, 2, 2, 0])
    samples = torch.cat([basis, -basis, some(3, 6)])
    held = running(samples, reference)
    for one in some(4, 6, 3):
        by_hand = direct(torch.cat([samples, one[None]]), reference)
        assert float(held.distances(one[None])) == pytest.approx(by_hand, rel=NULL)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(-6, 6), st.integers(2, 12), st.integers(2, 30))
def test_any_scale_any_width(seed, exponent, width, count):
    """The nodes follow the scale of the features."""
    reference, samples = some(40, width, seed), some(count, width, seed + 1) + 0.5
    candidates = some(3, width, seed + 2) * torch.tensor([[1.0], [0.0], [30.0]])
    unit = 10.0**exponent
    found = running(samples * unit, reference * unit).distances(candidates * unit)
    for one, value in zip(candidates, found, strict=True):
        whole = torch.cat([samples, one[None]])
        by_hand = frechet_distance(whole.mean(0), whole.T.cov(), reference.mean(0), reference.T.cov())
        assert float(value) / unit**2 == pytest.approx(by_hand, rel=NULL, abs=1e-7)


def test_statistics_stay_as_they_were_when_a_running_distance_grows():
    held = FeatureStatistics().add(some())
    before = held.digest()
    grown = held.running(FeatureStatistics().add(some(seed=1)))
    grown.add(some(1, seed=2)[0])
    assert held.digest() == before
    assert grown.count == 401


# The verifier


def test_fid_scores_are_the_distance_with_the_image():
    start = FeatureStatistics("means").add(Means()(images(30, seed=1)).features)
    verifier = FidVerifier(Means(), reference_of_means(), start)
    assert isinstance(verifier, Verifier)
    found = score(verifier, images(4), "anything")
    for image, value in zip(images(4), found, strict=True):
        alone = start.copy().add(Means()(image[None]).features)
        assert value == pytest.approx(-alone.distance(reference_of_means()), rel=EXACT)


def test_within_a_slot_scores_know_neither_mates_nor_order():
    verifier = FidVerifier(Means(), reference_of_means(), reference_of_means())
    whole = verifier(images(6), "")
    assert verifier(images(6).flip(0), "") == pytest.approx(whole[::-1], rel=1e-9)
    assert [verifier(one[None], "")[0] for one in images(6)] == pytest.approx(whole, rel=1e-6)  # float32 features


def test_choosing_accepts_the_best_and_brings_the_set_nearer():
    """Greedy among 8 ends nearer to the reference than the first of each 8, and than where it began."""
    start = FeatureStatistics("means").add(Means()(images(30, seed=1)).features)
    greedy, plain = (FidVerifier(Means(), reference_of_means(), start) for _ in range(2))
    begun = greedy.distance
    for slot in range(20):
        candidates = images(8, seed=100 + slot) ** 1.5
        best = max(greedy(candidates, ""))
        picked = greedy.choose(candidates)
        assert greedy.distance == pytest.approx(-best, rel=1e-6)
        assert 0 <= picked < 8
        plain.accept(candidates[0])
    assert greedy.statistics.count == 50
    assert greedy.distance < plain.distance < begun


def test_accepted_images_change_the_fingerprint_and_can_be_kept(tmp_path):
    verifier = FidVerifier(Means(), reference_of_means(), reference_of_means())
    before = verifier.fingerprint
    verifier(images(3), "")
    assert verifier.fingerprint == before
    verifier.accept(images(1)[0])
    assert verifier.fingerprint != before
    kept = verifier.statistics.save(tmp_path / "so-far.safetensors")
    again = FidVerifier(Means(), reference_of_means(), kept)
    assert again(images(3), "") == pytest.approx(verifier(images(3), ""), rel=1e-9)


def test_a_cache_never_answers_for_a_set_that_has_grown():
    verifier = FidVerifier(Means(), reference_of_means())
    remembered = cached(verifier)
    first = remembered(images(2), "")
    verifier.accept(images(1, seed=5)[0])
    assert remembered(images(2), "") != first


def test_images_without_finite_features_get_nan_and_are_never_chosen():
    class Sick(Means):
        def __call__(self, given):
            found = super().__call__(given)
            found.features[given.mean((1, 2, 3)) > 0.9] = math.inf
            return found

    verifier = FidVerifier(Sick(), reference_of_means())
    batch = images(3)
    batch[1] = 1
    found = score(verifier, batch, "")
    assert [math.isnan(one) for one in found] == [False, True, False]
    assert verifier.choose(batch) != 1
    with pytest.raises(ValueError, match="expected finite features"):
        verifier.choose(torch.ones(2, 3, 4, 4))


def test_fid_by_name_takes_the_statistics_beside_the_model(classifier, tmp_path):
    network = FeatureNetwork(classifier)
    with pytest.raises(ValueError, match=r"reference\.safetensors beside the model.*: noisewright evaluate IMAGES"):
        make_verifier(f"fid:{classifier}")
    kept = classifier / "reference.safetensors"
    FeatureStatistics(network.fingerprint).add(network(images(40)).features).save(kept)
    try:
        verifier = make_verifier(f"fid:{classifier}")
        assert verifier.name == "fid"
        whole, alone = verifier(images(4), ""), verifier(images(4)[2:3], "")
        assert alone[0] == pytest.approx(whole[2], abs=BATCH_MATES)
        assert all(one < 0 for one in whole)
        begun = FeatureStatistics(network.fingerprint).add(network(images(20, seed=3)).features)
        start = begun.save(tmp_path / "start.npz")
        by_option = make_verifier(f"fid:{classifier},reference={kept},start={start}")
        assert by_option.statistics.count == 20
        assert by_option.fingerprint != verifier.fingerprint
        FeatureStatistics("another").add(some(20, 16)).save(kept)
        with pytest.raises(ValueError, match="one feature network"):
            make_verifier(f"fid:{classifier}")
    finally:
        kept.unlink()


# The other oracle


def test_inception_score_is_the_probability_of_the_prompt_s_class(classifier):
    verifier = make_verifier(f"inception-score:{classifier}")
    assert isinstance(verifier, Verifier)
    probabilities = FeatureNetwork(classifier)(images(5)).probabilities
    for prompt, number in (("frog", 2), ("Frog ", 2), ("3", 3)):
        assert verifier(images(5), prompt) == pytest.approx(probabilities[:, number].tolist(), abs=BATCH_MATES)
    assert verifier(images(5)[1:2], "cat")[0] == pytest.approx(float(probabilities[1, 0]), abs=BATCH_MATES)


def test_inception_score_needs_classes():
    network = Means()
    network.labels = {}
    with pytest.raises(ValueError, match="which has no classes"):
        InceptionScoreVerifier(network)
    assert InceptionScoreVerifier(Means())(torch.ones(1, 3, 4, 4), "bright") == pytest.approx([1])


def test_its_fingerprint_follows_the_class_names(classifier, tmp_path):
    network = FeatureNetwork(classifier)
    network.model.config.id2label = {**network.model.config.id2label, 0: "tiger"}
    network.model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text((classifier / "preprocessor_config.json").read_text())
    assert "tiger" in json.loads((tmp_path / "config.json").read_text())["id2label"].values()
    assert InceptionScoreVerifier(tmp_path).fingerprint != InceptionScoreVerifier(classifier).fingerprint


def test_a_prompt_that_names_no_class_is_refused_before_anything_is_spent(classifier):
    verifier = InceptionScoreVerifier(classifier)
    verifier.check("a cat")
    with pytest.raises(ValueError, match=r"got 'frgo'.*nearest: frog"):
        verifier.check("frgo")
