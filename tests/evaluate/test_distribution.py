"""Statistics and distribution metrics, against torch-fidelity and prdc (golden/), and against their definitions."""

import json
import logging
import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from golden.distribution_inputs import CASES, NEIGHBOURS, SPLITS, features, logits
from noisewright.cli import main
from noisewright.evaluate import distribution
from noisewright.evaluate.distribution import fid, fid_interval, inception_score, kid, manifold
from noisewright.evaluate.population import evaluate_images, image_batches, parquet_rows, population
from noisewright.measures.statistics import FeatureStatistics
from noisewright.verifiers.features import FeatureNetwork, Features
from reward_models import BATCH_MATES
from reward_models import some_features as some

GOLDEN = Path(__file__).parents[1] / "golden"
HELD = json.loads((GOLDEN / "distribution.json").read_text())
SAME = 1e-6  # relative; torch-fidelity keeps precision and recall in float32
ROUNDING = 1e-10  # float64 sums in another order


class Channels:
    """A feature network of nine features and two classes, from the pixels alone."""

    fingerprint, labels = "channels", {0: "dark", 1: "bright"}

    def __call__(self, images):
        arrays = [np.asarray(one, dtype=np.float64) / 255 for one in images]
        rows = [[f(a[..., c]) for c in range(3) for f in (np.mean, np.std, np.median)] for a in arrays]
        found = torch.tensor(rows)
        bright = found[:, ::3].mean(1)
        return Features(found, torch.stack([1 - bright, bright], 1))


def pictures(directory, count, seed=0, low=0, high=256):
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(seed)
    for k in range(count):
        shape = (8, 8, 3) if k % 2 else (6, 10, 3)
        Image.fromarray(random.randint(low, high, shape, dtype=np.uint8)).save(directory / f"{k:03}.png")
    return directory


# Against the originals


@pytest.mark.parametrize("name", CASES)
def test_as_torch_fidelity_and_prdc(name):
    first, second = (torch.from_numpy(one) for one in features(name))
    held = HELD["cases"][name]
    assert fid(first, second) == pytest.approx(held["frechet_inception_distance"], rel=SAME)
    size = min(len(first), len(second))
    found = kid(first[:size], second[:size], subsets=1, size=size)
    assert found.value == pytest.approx(held["kernel_inception_distance_mean"], rel=SAME)
    assert math.isnan(found.standard_error)
    for k in NEIGHBOURS:
        for key, value in vars(manifold(first, second, k=k)).items():
            assert value == pytest.approx(held[f"{key}_{k}"], rel=SAME), key


def test_inception_score_as_torch_fidelity():
    probabilities = torch.from_numpy(logits()).softmax(1)
    mean, deviation = inception_score(probabilities, splits=SPLITS, seed=None)
    assert mean == pytest.approx(HELD["inception_score"]["inception_score_mean"], rel=SAME)
    assert deviation == pytest.approx(HELD["inception_score"]["inception_score_std"], rel=SAME)


# What must hold


def test_fid_of_gaussians_that_are_known():
    x = some(200, 4)
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(x.T.cov())).T  # mean 0, covariance 1
    assert fid(x, x) == pytest.approx(0, abs=ROUNDING)
    assert fid(3 * x + 2, x) == pytest.approx(4 * 4 + 4 * (3 - 1) ** 2, rel=ROUNDING)


def test_fid_of_a_singular_covariance_warns(caplog):
    with caplog.at_level(logging.WARNING):
        found = fid(some(10, 20), some(400, 20, seed=1))
    assert "10 images of 20 features" in caplog.text
    direct = torch.linalg.eigvals(some(10, 20).T.cov() @ some(400, 20, seed=1).T.cov()).sqrt().real.sum()
    x, y = some(10, 20), some(400, 20, seed=1)
    closed = (x.mean(0) - y.mean(0)).square().sum() + x.T.cov().trace() + y.T.cov().trace() - 2 * direct
    assert found == pytest.approx(float(closed), rel=SAME)


def test_statistics_are_those_of_numpy_however_they_were_gathered():
    x = some(301, 6, shift=1e6)  # a mean that would eat the digits of a difference of sums
    whole = FeatureStatistics().add(x)
    parts = FeatureStatistics()
    for k in range(0, 301, 37):
        parts.add(x[k : k + 37])
    merged = FeatureStatistics().add(x[:100]).merge(FeatureStatistics().add(x[100:])).merge(FeatureStatistics())
    for one in (whole, parts, merged):
        assert one.count == 301
        assert torch.allclose(one.mean, x.mean(0), rtol=1e-12)
        assert np.allclose(one.covariance.numpy(), np.cov(x.numpy(), rowvar=False), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_statistics_are_kept_in_a_file(tmp_path, suffix):
    held = FeatureStatistics("abc").add(some())
    read = FeatureStatistics.load(held.save(tmp_path / "deep" / f"held{suffix}"))
    assert (read.count, read.fingerprint) == (400, "abc")
    assert torch.equal(read.mean, held.mean)
    assert torch.allclose(read.scatter, held.scatter, rtol=1e-14)
    more = some(50, seed=3)
    assert torch.allclose(read.add(more).covariance, held.copy().add(more).covariance, rtol=1e-12)
    assert held.count == 400


def test_statistics_of_two_networks_are_never_compared():
    one, other = FeatureStatistics("a").add(some()), FeatureStatistics("b").add(some())
    for refused in (one.distance, one.merge, one.running):
        with pytest.raises(ValueError, match="expected statistics of one feature network, got those of a and b"):
            refused(other)


def test_damaged_files_of_statistics_are_named(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        FeatureStatistics.load(tmp_path / "none.npz")
    with pytest.raises(ValueError, match=r"\.safetensors or \.npz, got"):
        FeatureStatistics.load(tmp_path / "none.pt")
    np.savez(tmp_path / "other.npz", mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(ValueError, match="expected count, mean, covariance and fingerprint"):
        FeatureStatistics.load(tmp_path / "other.npz")
    np.savez(tmp_path / "pickled.npz", count=np.array({}, dtype=object), mean=1, covariance=1, fingerprint="")
    with pytest.raises(ValueError, match="expected count, mean"):
        FeatureStatistics.load(tmp_path / "pickled.npz")
    bad = {"mean": torch.full((3,), math.nan), "covariance": torch.eye(3)}
    save_file(bad, tmp_path / "nan.safetensors", {"count": "9", "fingerprint": ""})
    with pytest.raises(ValueError, match="got damaged ones"):
        FeatureStatistics.load(tmp_path / "nan.safetensors")


def test_bad_features_are_refused():
    bad = some(5)
    bad[3, 1] = math.nan
    for refused in (FeatureStatistics().add, lambda x: kid(x, some(), size=2), lambda x: manifold(some(), x)):
        with pytest.raises(ValueError, match="nan or inf for 1 images, the first number 3"):
            refused(bad)
    with pytest.raises(ValueError, match="expected 8 features, got 7"):
        FeatureStatistics().add(some()).add(some(5, 7))
    with pytest.raises(ValueError, match="as many features on both sides, got 8 and 7"):
        kid(some(), some(400, 7))
    with pytest.raises(ValueError, match=r"the shape \(400,\)"):
        FeatureStatistics().add(some()[:, 0])
    with pytest.raises(ValueError, match="at least 2 images for a covariance, got 1"):
        fid(some(1), some())
    with pytest.raises(ValueError, match="subsets of 2 to 50 images"):
        kid(some(50), some(), size=51)
    with pytest.raises(ValueError, match="more than k = 3 images on both sides"):
        manifold(some(3), some())
    with pytest.raises(ValueError, match="sum to 1"):
        inception_score(torch.ones(20, 3))
    with pytest.raises(ValueError, match="1 to 4 splits"):
        inception_score(torch.ones(4, 1))


@pytest.mark.slow
def test_kid_is_unbiased_and_its_error_is_the_spread_over_sets():
    """With truly different sets, the subsampling error is of the size of the spread over fresh sets."""
    found = [kid(some(300, 4, seed=2 * k), some(300, 4, 2 * k + 1, 0.3), size=100, subsets=40) for k in range(40)]
    values = torch.tensor([one.value for one in found])
    errors = torch.tensor([one.standard_error for one in found])
    assert 0.6 < errors.mean() / values.std() < 1.5  # both are estimates, of 40 sets
    same = torch.tensor([kid(some(120, 4, 5 * k), some(120, 4, 5 * k + 1), size=60).value for k in range(40)])
    assert abs(same.mean()) < 4 * same.std() / 40**0.5
    assert (same < 0).any()


def test_inception_score_at_its_ends():
    certain = F.one_hot(torch.arange(50) % 5).double()
    assert inception_score(certain, splits=1)[0] == pytest.approx(5)
    assert inception_score(torch.full((50, 5), 0.2), splits=5) == pytest.approx((1, 0))
    ordered = certain[torch.arange(50) % 5 * 0 + torch.arange(50).div(10, rounding_mode="floor")]
    assert inception_score(ordered, splits=5, seed=None)[0] == pytest.approx(1)  # sorted by class: why it is shuffled
    assert inception_score(ordered, splits=5)[0] > 3


def test_manifold_does_not_depend_on_the_blocks(monkeypatch):
    x, y = some(150, 4), some(170, 4, seed=1, shift=0.5)
    whole = manifold(x, y)
    monkeypatch.setattr(distribution, "BLOCK", 600)
    assert manifold(x, y) == whole
    assert 0 < whole.precision < 1


def test_manifold_sees_a_lost_mode_in_recall_and_noise_in_precision():
    reference = torch.cat([some(200, 4), some(200, 4, seed=1, shift=20)])
    lost = manifold(some(400, 4, seed=2), reference)
    assert lost.recall < 0.5 < lost.precision
    noisy = manifold(torch.cat([reference[::2] + 0.01, some(200, 4, seed=3, shift=-40)]), reference)
    assert noisy.precision == pytest.approx(0.5, abs=0.02)
    assert noisy.recall > 0.9
    assert lost.coverage < 0.55


def test_fid_interval_is_of_the_spread_over_sets():
    reference = FeatureStatistics().add(some(20_000, 3, seed=99))
    values = [FeatureStatistics().add(some(200, 3, seed=k, shift=0.3)).distance(reference) for k in range(60)]
    low, high = fid_interval(some(200, 3, seed=0, shift=0.3), reference, resamples=60)
    assert low < values[0] < high
    ends = np.quantile(values, [0.025, 0.975])
    assert 0.6 < (high - low) / (ends[1] - ends[0]) < 1.6
    with pytest.raises(ValueError, match="confidence"):
        fid_interval(some(), reference, confidence=1)


def test_fid_interval_decomposes_the_reference_once(monkeypatch):
    reference = FeatureStatistics().add(some(100, 3, seed=99))
    features = some(50, 3)
    expected = FeatureStatistics().add(features).distance(reference)
    calls, plain = [], torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: calls.append(1) or plain(matrix))
    low, high = fid_interval(features, reference, resamples=5)
    assert low < expected < high
    assert len(calls) == 1


# Networks


def test_features_are_what_the_classifier_s_last_layer_is_given(classifier):
    network = FeatureNetwork(classifier)
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = network(images)
    assert found.features.shape == (5, 16)
    assert network.labels[2] == "frog"
    head = network.model.classifier
    assert torch.allclose(head(found.features).softmax(-1), found.probabilities, atol=1e-6)
    pixels = (images * 255).round() / 255 * 2 - 1
    assert torch.allclose(network.model(pixel_values=pixels).logits.softmax(-1), found.probabilities, atol=1e-5)


def test_features_do_not_depend_on_batch_mates_or_kind_of_input(classifier):
    network = FeatureNetwork(classifier)
    images = torch.rand(5, 3, 20, 12, generator=torch.Generator().manual_seed(0))
    whole = network(images)
    alone = network(images[3:4])
    assert torch.allclose(whole.features[3], alone.features[0], atol=BATCH_MATES)
    arrays = [(one.permute(1, 2, 0) * 255).round().byte().numpy() for one in images]
    mixed = network([np.zeros((7, 9, 3), np.uint8), *arrays])
    assert torch.allclose(mixed.features[1:], whole.features, atol=BATCH_MATES)


def test_the_fingerprint_follows_weights_and_preprocessing(classifier, tmp_path):
    network = FeatureNetwork(classifier)
    assert FeatureNetwork(classifier).fingerprint == network.fingerprint
    network.model.save_pretrained(tmp_path)
    text = (classifier / "preprocessor_config.json").read_text()
    (tmp_path / "preprocessor_config.json").write_text(text.replace("0.5", "0.4"))
    assert FeatureNetwork(tmp_path).fingerprint != network.fingerprint


def test_a_clip_model_gives_features_without_classes():
    network = FeatureNetwork(Path(distribution.__file__).parents[1] / "models" / "shapes-clip")
    found = network(torch.rand(2, 3, 64, 64))
    assert found.features.shape[0] == 2
    assert found.probabilities is None
    assert network.labels == {}


def test_networks_that_do_not_load_are_named(tmp_path, classifier):
    with pytest.raises(ValueError, match=r"could not be loaded: the directory has no config\.json"):
        FeatureNetwork(tmp_path)
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text((classifier / name).read_text())
    weights = load_file(classifier / "model.safetensors")
    headless = {name: value for name, value in weights.items() if not name.startswith("classifier")}
    save_file(headless, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"could not be loaded: its files have no classifier"):
        FeatureNetwork(tmp_path)  # whose probabilities would be random


# Images on disk


def test_evaluate_measures_what_the_functions_do(tmp_path):
    first, second = pictures(tmp_path / "a", 40), pictures(tmp_path / "b", 50, seed=1, high=200)
    found = evaluate_images([first], Channels(), reference=second, interval=True)
    files = [population([one]) for one in (first, second)]
    x, y = (torch.cat([Channels()(batch).features for batch in image_batches(one, [])]).float() for one in files)
    values = found["metrics"]
    assert (found["images"], found["reference_images"], found["features"]) == (40, 50, 9)
    assert values["fid"] == pytest.approx(fid(x, y), rel=1e-5)  # what is kept image by image is float32
    assert values["kid"] == kid(x, y, size=20).value
    assert values["recall"] == manifold(x, y).recall
    assert 1 < values["is"] < 2
    assert values["fid_interval"][0] < values["fid"] < values["fid_interval"][1]
    assert "density" not in values


def test_a_tree_of_images_is_the_set_of_them(tmp_path):
    flat, tree = pictures(tmp_path / "flat", 12), tmp_path / "tree"
    for k, one in enumerate(sorted(flat.iterdir())):
        place = tree / str(k % 3) / ("deeper" if k % 2 else "")
        place.mkdir(parents=True, exist_ok=True)
        (place / one.name).write_bytes(one.read_bytes())
    found = evaluate_images([tree], Channels(), "fid", reference=flat, recursive=True)
    assert (found["images"], found["reference_images"]) == (12, 12)
    assert found["metrics"]["fid"] == pytest.approx(0, abs=SAME)
    with pytest.raises(ValueError, match=r"got none; 12 files skipped: 12 in sub-directories \(--recursive"):
        evaluate_images([tree], Channels(), "fid", reference=flat)


def test_evaluate_with_saved_statistics_is_the_same_fid(tmp_path):
    first, second = pictures(tmp_path / "a", 40), pictures(tmp_path / "b", 50, seed=1)
    kept = tmp_path / "kept.safetensors"
    made = evaluate_images([second], Channels(), save_statistics=kept)
    assert made["statistics"] == str(kept)
    assert set(made["metrics"]) == {"is", "is_deviation"}
    by_file = evaluate_images([first], Channels(), reference=kept)
    by_images = evaluate_images([first], Channels(), "fid", reference=second)
    assert by_file["metrics"]["fid"] == pytest.approx(by_images["metrics"]["fid"], rel=1e-9)
    with pytest.raises(ValueError, match="metric kid needs the reference's images, got statistics alone"):
        evaluate_images([first], Channels(), "fid,kid", reference=kept)
    other = Channels()
    other.fingerprint = "another"
    with pytest.raises(ValueError, match="one feature network"):
        evaluate_images([first], other, reference=kept)


def test_a_population_of_runs_is_their_winners(tmp_path):
    for k in range(3):
        run = pictures(tmp_path / f"run{k}" / "images", 2, seed=k).parent
        (run / "run.json").write_text("{}")
        Image.new("RGB", (4, 4)).save(run / "best.png")
    assert population([tmp_path]) == [tmp_path / f"run{k}" / "best.png" for k in range(3)]
    assert population([tmp_path / "run1"]) == [tmp_path / "run1" / "best.png"]
    assert len(population([tmp_path], "all")) == 6
    with pytest.raises(ValueError, match=r"expected baseline\.png in the run"):
        population([tmp_path], "baseline")


def test_what_cannot_be_read_is_told_and_left_out(tmp_path):
    place = pictures(tmp_path / "a", 12)
    (place / "bad.png").write_bytes(b"no image")
    found = evaluate_images([place], Channels())
    assert found["images"] == 12
    assert len(found["errors"]) == 1
    assert "bad.png" in found["errors"][0]


def test_wrong_use_is_told_before_a_network_is_loaded(tmp_path):
    place = pictures(tmp_path / "a", 3)
    for arguments, says in [
        ({"metrics": "fid,kdi"}, "unknown metric 'kdi'.*did you mean kid"),
        ({"metrics": ""}, "unknown metric ''"),
        ({"of": "worst"}, "expected best, baseline, all of a run, got 'worst'"),
        ({"reference": tmp_path / "none"}, "which does not exist"),
        ({"save_statistics": tmp_path / "x.pt"}, r"\.safetensors or \.npz"),
    ]:
        with pytest.raises(ValueError, match=says):
            evaluate_images([place], "no/network", **arguments)
    with pytest.raises(ValueError, match="metric fid needs --reference"):
        evaluate_images([place], Channels(), "fid")


def test_batches_of_images_are_small_where_the_images_are_large(tmp_path, monkeypatch):
    for n, side in enumerate((4, 4, 4, 9, 20, 4, 4)):
        Image.new("RGB", (side, side)).save(tmp_path / f"{n}.png")
    monkeypatch.setattr("noisewright.evaluate.population.PIXELS_AT_ONCE", 100)
    found = [[len(one) for one in batch] for batch in image_batches(population([tmp_path]), [])]
    assert found == [[4, 4, 4], [9], [20], [4, 4]]
    monkeypatch.undo()
    assert [len(batch) for batch in image_batches(population([tmp_path]), [], 3)] == [3, 3, 1]


def test_parquet_files_of_images(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    place = pictures(tmp_path / "a", 10)
    rows = [{"bytes": one.read_bytes(), "path": None} for one in sorted(place.iterdir())]
    table = {"img": [*rows, {"bytes": b"none", "path": None}], "label": [0] * 11}
    parquet.write_table(pyarrow.table(table), tmp_path / "set.parquet")
    bad = []
    found = [one for batch in image_batches(population([tmp_path / "set.parquet"]), bad, 4) for one in batch]
    direct = [one for batch in image_batches(population([place]), []) for one in batch]
    assert all(np.array_equal(a, b) for a, b in zip(found, direct, strict=True))
    assert "row 10" in bad[0]
    with monkeypatch.context() as patch:
        patch.setattr("noisewright.images.reading.MOST_PIXELS", 3)
        bad = []
        assert list(image_batches([tmp_path / "set.parquet"], bad)) == []
        assert f"row 9 of {tmp_path / 'set.parquet'}: it has" in bad[9]
    parquet.write_table(pyarrow.table({"label": [0]}), tmp_path / "bare.parquet")
    with pytest.raises(ValueError, match="a column img or image"):
        list(image_batches([tmp_path / "bare.parquet"], []))


class Table:
    """What ``parquet.ParquetFile`` gives of two rows, the second without a caption or a picture."""

    def __init__(self, file):
        self.schema_arrow = types.SimpleNamespace(names=["image", "caption", "label"])

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def iter_batches(self, batch_size, columns):
        rows = [{"image": {"bytes": b"a"}, "caption": "cat", "label": 0}]
        rows.append({"image": {"bytes": None}, "caption": None, "label": None})
        some = [{name: row[name] for name in columns} for row in rows]
        yield types.SimpleNamespace(to_pylist=lambda: some)


def test_a_caption_that_is_null_is_none(tmp_path, monkeypatch):
    parquet = types.SimpleNamespace(ParquetFile=Table)
    monkeypatch.setitem(sys.modules, "pyarrow", types.SimpleNamespace(ArrowException=OSError, parquet=parquet))
    file = tmp_path / "set.parquet"
    file.write_bytes(b"PAR1")
    assert list(parquet_rows(file, ["prompt", "caption"])) == [(b"a", "cat"), (None, None)]
    assert list(parquet_rows(file, ["label"])) == [(b"a", "0"), (None, None)]
    assert list(parquet_rows(file)) == [(b"a", None), (None, None)]


def test_a_caption_that_is_null_is_none_in_a_real_file(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"bytes": b"a", "path": None}] * 2
    parquet.write_table(pyarrow.table({"image": rows, "text": ["cat", None]}), tmp_path / "set.parquet")
    assert list(parquet_rows(tmp_path / "set.parquet", ["text"])) == [(b"a", "cat"), (b"a", None)]


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "set.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"pip install 'noisewright\[data\]'"):
        evaluate_images([tmp_path / "set.parquet"], Channels())


def test_the_command_prints_json_and_a_table(tmp_path, classifier, capsys):
    first, second = pictures(tmp_path / "a", 12), pictures(tmp_path / "b", 12, seed=1)
    common = ["evaluate", str(first), "--reference", str(second), "--features", str(classifier)]
    assert main([*common, "--json", "--save-statistics", str(tmp_path / "s.npz")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["metrics"]) >= {"fid", "kid", "is", "precision", "recall"}
    assert (found["images"], found["features"]) == (12, 16)
    assert main([*common, "--metrics", "precision,fid"]) == 0
    printed = capsys.readouterr().out
    assert "precision" in printed
    assert "12 images against 12, 16 features" in printed
    assert main([*common, "--metrics", "lpips"]) == 2
    assert "unknown metric 'lpips'" in capsys.readouterr().err
    with (second / "bad.png").open("wb"):
        pass
    assert main([*common, "--metrics", "fid", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["metrics"]["fid"] >= 0
