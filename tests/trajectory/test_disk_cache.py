"""What was asked of a model is kept: commands on schedules that were killed go on, and lose nothing."""

import json
import logging
import random
import weakref
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load, save

import tiny
from noisewright import cli
from noisewright.diffusion.solvers import Ddim
from noisewright.errors import VerifierFailed
from noisewright.measures.statistics import FeatureStatistics
from noisewright.samplers.mixture import SHAPE, MixtureSampler
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.trajectory import gits, metrics
from noisewright.trajectory import measure as measuring
from noisewright.trajectory.disk_cache import DiskCache
from noisewright.trajectory.images import from_files, own_samples
from noisewright.trajectory.measure import Checkpoint, measure
from noisewright.trajectory.metrics import ByVerifier, Fid, Teacher, groups_of, metric_values, noise_batches
from noisewright.trajectory.path import path_of, ruled
from noisewright.trajectory.tune import Interrupted, tune
from noisewright.verifiers.pixels import Brightness
from noisewright.verifiers.protocol import as_verifier
from noisewright.verifiers.timeout import with_timeout

EVALUATIONS = 12
BATCHES = 5


class Answering:
    """A verifier that gives prepared answers, and says that they may be kept."""

    name, fingerprint, lasting = "answering", "1", True

    def __init__(self, answers):
        self.answers = answers

    def __call__(self, images, prompt):
        return self.answers.pop(0)


class Killed(KeyboardInterrupt):
    """A process that ends in the middle."""


@pytest.fixture
def sampler():
    return MixtureSampler(torch.full((1, *SHAPE), 0.3), torch.tensor([0.5]))


@pytest.fixture
def made_images(monkeypatch):
    """Counts how often images are made; raises at a number that is set."""
    counted = {"calls": 0, "killed_at": None}
    real = metrics.images_of

    def images_of(*given):
        if counted["calls"] == counted["killed_at"]:
            raise Killed
        counted["calls"] += 1
        return real(*given)

    monkeypatch.setattr(metrics, "images_of", images_of)
    return counted


def searched(sampler, cache):
    path = path_of(sampler)
    tuning, reporting = (noise_batches(lambda _: sampler, [""], 4, seed=seed, batch=2) for seed in (0, 100))
    start, metric = ruled("uniform", path, 4), Teacher(10, cache)
    return tune(start, path, Ddim(), metric, tuning, reporting, evaluations=EVALUATIONS, cache=cache)


def test_a_search_that_was_killed_goes_on_to_the_same_end(sampler, made_images, tmp_path):
    plain = searched(sampler, DiskCache())
    whole = made_images["calls"]
    made_images.update(calls=0, killed_at=whole // 2)
    with pytest.raises(Interrupted) as caught:
        searched(sampler, DiskCache(tmp_path))
    before, best = caught.value.best.figures["tuning"]
    assert best <= before
    assert 1 <= caught.value.best.figures["evaluations"] < EVALUATIONS
    made_images["killed_at"] = None
    again = searched(sampler, DiskCache(tmp_path))
    assert again == plain
    assert made_images["calls"] == whole
    searched(sampler, DiskCache(tmp_path))
    assert made_images["calls"] == whole


def test_values_are_kept_by_all_that_they_depend_on(sampler, made_images, tmp_path):
    path, cache = path_of(sampler), DiskCache(tmp_path)
    some = noise_batches(lambda _: sampler, [""], 2, seed=0)
    other = noise_batches(lambda _: sampler, [""], 2, seed=9)
    asked = [(4, some, 10), (5, some, 10), (4, other, 10), (4, some, 20)]
    for steps, noises, teacher in asked * 2:
        metric_values(ruled("uniform", path, steps), Ddim(), noises, [Teacher(teacher, cache)], cache)
    teachers = 3  # two lengths for one set of noises, one for the other
    assert made_images["calls"] == len(asked) + teachers
    assert len(list(tmp_path.glob("values/*"))) == len(asked)
    assert len(list(tmp_path.glob("teachers/*"))) == teachers


def test_a_batch_with_an_image_without_a_value_is_asked_again(sampler, made_images, tmp_path):
    answers = [[1.0, float("nan")], [1.0, 2.0]]
    metric = ByVerifier(Answering(answers))
    some = noise_batches(lambda _: sampler, [""], 2, seed=0)
    start = ruled("uniform", path_of(sampler), 4)
    found = [metric_values(start, Ddim(), some, [metric], DiskCache(tmp_path))[metric.name].tolist() for _ in range(3)]
    assert found[0][0] == 1
    assert found[1:] == [[1, 2], [1, 2]]
    assert made_images["calls"] == 2


def test_a_damaged_file_is_made_again(sampler, made_images, tmp_path):
    path, cache = path_of(sampler), DiskCache(tmp_path)
    some = noise_batches(lambda _: sampler, [""], 2, seed=0)
    first = metric_values(ruled("uniform", path, 4), Ddim(), some, [Teacher(10, cache)], cache)
    for file in tmp_path.glob("*/*"):
        file.write_bytes(file.read_bytes()[:20])
    again = metric_values(ruled("uniform", path, 4), Ddim(), some, [Teacher(10, cache)], cache)
    assert torch.equal(first["teacher"], again["teacher"])
    assert made_images["calls"] == 4


def test_a_place_that_cannot_be_written_costs_a_warning(sampler, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    cache = DiskCache(tmp_path / "file")
    with caplog.at_level(logging.WARNING, "noisewright"):
        cache.put({"x": torch.ones(2)}, "values", 1)
        cache.put({"x": torch.ones(2)}, "values", 2)
    assert cache.get("values", 1) is None
    assert len(caplog.records) == 1


def test_the_costs_of_a_teacher_are_kept(sampler, monkeypatch, tmp_path):
    some = [(sampler, [0, 1]), (sampler, [2])]
    first = gits.teacher_costs(some, nodes=6, cache=DiskCache(tmp_path))
    monkeypatch.setattr(MixtureSampler, "predict", None)
    again = gits.teacher_costs(some, nodes=6, cache=DiskCache(tmp_path))
    assert torch.equal(first[0], again[0])
    with pytest.raises(TypeError):
        gits.teacher_costs(some, nodes=6, cost="l1", cache=DiskCache(tmp_path))


def batches(stop=BATCHES):
    generator = torch.Generator().manual_seed(5)
    for number in range(BATCHES):
        found = torch.randn((4, *SHAPE), generator=generator)
        if number == stop:
            raise Killed
        yield "", found


def test_a_measurement_that_was_killed_goes_on_to_the_same_table(sampler, monkeypatch, tmp_path):
    monkeypatch.setattr(measuring, "SAVE_EVERY", 0.0)
    whole = measure(lambda _: sampler, batches(), levels=5)
    checkpoint = Checkpoint(DiskCache(tmp_path), "this one")
    with pytest.raises(Killed):
        measure(lambda _: sampler, batches(stop=3), levels=5, checkpoint=checkpoint)
    checkpoint = Checkpoint(DiskCache(tmp_path), "this one")
    assert checkpoint.done == 8  # of the three batches the last was not saved
    rest = list(batches())[checkpoint.done // 4 :]
    assert measure(lambda _: sampler, rest, levels=5, checkpoint=checkpoint) == whole
    checkpoint.finish()
    assert Checkpoint(DiskCache(tmp_path), "this one").done == 0
    assert Checkpoint(DiskCache(tmp_path), "another").done == 0


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return tiny.captioned(tmp_path_factory.mktemp("pictures"), 8)


@pytest.mark.slow
def test_examples_can_be_skipped_batch_by_batch(pictures):
    pipe = tiny.sd()

    def make(prompt):
        return PipelineSampler(pipe, prompt, num_inference_steps=2, guidance_scale=1.0)

    makers = [
        lambda skip: list(from_files([pictures], make, None, count=8, batch=3, skip=skip)),
        lambda skip: list(own_samples(make, ["a cat", "a dog"], count=8, batch=3, skip=skip)),
    ]
    for maker in makers:
        every, later = maker(0), maker(4)
        assert [len(states) for _, states in every] == [3, 1, 3, 1]
        assert [said for said, _ in later] == [said for said, _ in every[2:]]
        assert all(torch.equal(a[1], b[1]) for a, b in zip(later, every[2:], strict=True))


@pytest.mark.slow
def test_the_command_goes_on_where_it_was_killed(pictures, monkeypatch, tmp_path, capsys):
    tiny.sd().save_pretrained(tmp_path / "sd", safe_serialization=True)
    monkeypatch.setattr(measuring, "SAVE_EVERY", 0.0)
    command = ["schedule", "measure", str(tmp_path / "sd"), "--images", str(pictures), "--levels", "5", "--batch-size"]
    command += ["2", "--keep", str(tmp_path / "keep"), "--out"]
    assert cli.main([*command, str(tmp_path / "whole.json")]) == 0
    assert not list(tmp_path.glob("keep/moments/*"))
    real, calls = PipelineSampler.predict, []

    def predict(*given):
        calls.append(1)
        if len(calls) == 12:  # five levels a batch: in the third one
            raise Killed
        return real(*given)

    monkeypatch.setattr(PipelineSampler, "predict", predict)
    assert cli.main([*command, str(tmp_path / "again.json")]) == 130
    assert not (tmp_path / "again.json").exists()
    capsys.readouterr()
    assert cli.main([*command, str(tmp_path / "again.json")]) == 0
    assert "going on after 4 images" in capsys.readouterr().err
    whole, again = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "again"))
    assert again == whole
    assert not list(tmp_path.glob("keep/moments/*"))


def test_no_sampler_is_held_for_every_caption():
    made, alive = [], []

    def make(caption):
        one = MixtureSampler(torch.full((1, *SHAPE), 0.3), torch.tensor([0.5]))
        made.append(weakref.ref(one))
        alive.append(sum(ref() is not None for ref in made))
        return one

    states = torch.zeros(1, *SHAPE)
    measure(make, ((f"picture {n}", states) for n in range(40)), levels=5)
    assert len(made) == 40
    assert max(alive) <= 3


def test_intervals_resample_prompts_where_they_are_a_sample_of_prompts(sampler):
    for prompts, grouped in ((5, True), (4, False)):
        some = noise_batches(lambda _: sampler, [f"picture {n}" for n in range(prompts)], 10)
        assert (groups_of(some) is not None) == grouped
    some = noise_batches(lambda one: SimpleNamespace(class_label=int(one)), list("012345"), 6)
    assert groups_of(some) is None


# What may be believed

FUZZ = 150
"""Damaged copies, each read once, without a model."""


def damaged(raw, rng):
    """A copy with flipped bits, a zeroed block, a cut, or bytes that were doubled."""
    found, kind, at = bytearray(raw), rng.randrange(4), rng.randrange(len(raw))
    if kind == 0:
        for _ in range(rng.choice([1, 1, 8])):
            found[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        size = rng.choice([1, 8, 64, 512])
        found[at : at + size] = bytes(len(found[at : at + size]))
    elif kind == 2:
        del found[at:]
    else:
        found[at:at] = found[at : at + rng.choice([1, 8, 64])]
    return bytes(found)


TENSORS = {
    "double": torch.linspace(0, 1, 40, dtype=torch.float64).view(4, 10),
    "bytes": torch.arange(200, dtype=torch.uint8).view(2, 100),
    "count": torch.tensor(7),
    "none": torch.empty(0, 3),
    "half": torch.linspace(-1, 1, 30).bfloat16(),
}


@pytest.mark.parametrize("where", ["anywhere", "header"])
def test_a_damaged_file_is_never_believed(tmp_path, where, caplog):
    cache, rng = DiskCache(tmp_path), random.Random(8)
    cache.put(TENSORS, "values", {"a": [1, 2.5, None, True]}, "x")
    (file,) = tmp_path.glob("*/*")
    raw = file.read_bytes()
    length = 8 + int.from_bytes(raw[:8], "little")
    for number in range(FUZZ):
        bad = damaged(raw, rng) if where == "anywhere" else damaged(raw[:length], rng) + raw[length:]
        file.write_bytes(bad)
        found = cache.get("values", {"a": [1, 2.5, None, True]}, "x")
        if found is not None:  # the damage was where nothing is, such as in the header's padding
            assert list(found) == list(TENSORS) or found.keys() == TENSORS.keys(), number
            assert all(torch.equal(found[name], one) for name, one in TENSORS.items()), number
            assert all(found[name].dtype == one.dtype for name, one in TENSORS.items()), number
    assert 1 <= len(caplog.messages) <= 3  # each kind of damage is said once
    assert all("made again" in one for one in caplog.messages)


def test_damage_of_any_kind_gives_the_same_figures(sampler, made_images, tmp_path):
    path, some = path_of(sampler), noise_batches(lambda _: sampler, [""], 4, seed=0, batch=2)
    levels, rng = ruled("uniform", path, 4), random.Random(3)

    def figures():
        cache = DiskCache(tmp_path)
        return metric_values(levels, Ddim(), some, [Teacher(10, cache), ByVerifier(Brightness())], cache)

    first = figures()
    files = sorted(tmp_path.glob("*/*"))
    raws = [file.read_bytes() for file in files]
    assert len(files) == 6  # two batches: values of two metrics, and the teacher's images
    for _ in range(25):
        for file, raw in zip(files, raws, strict=True):
            file.write_bytes(damaged(raw, rng) if rng.random() < 0.5 else raw)
        again = figures()
        assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_file_under_another_s_name_is_not_believed(sampler, made_images, tmp_path, caplog):
    path, some = path_of(sampler), noise_batches(lambda _: sampler, [""], 2, seed=0)
    metrics = [ByVerifier(Brightness())]
    first, other = (
        metric_values(ruled("uniform", path, steps), Ddim(), some, metrics, DiskCache(tmp_path))["brightness"]
        for steps in (4, 5)
    )
    assert not torch.equal(first, other)
    one, two = tmp_path.glob("values/*")
    swapped = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(swapped)
    cache = DiskCache(tmp_path)
    again = metric_values(ruled("uniform", path, 4), Ddim(), some, [ByVerifier(Brightness())], cache)["brightness"]
    assert torch.equal(first, again)
    assert caplog.text.count("belongs to other settings; it is made again, and so are others like it") == 1


def test_files_of_an_earlier_version_are_not_believed(sampler, made_images, tmp_path, caplog):
    path, some = path_of(sampler), noise_batches(lambda _: sampler, [""], 4, seed=0, batch=2)
    levels = ruled("uniform", path, 4)
    first = metric_values(levels, Ddim(), some, [Teacher(10, DiskCache(tmp_path))], DiskCache(tmp_path))
    for file in tmp_path.glob("*/*"):  # as they were written before: the same names, without any metadata
        held = load(file.read_bytes())
        file.write_bytes(save({name: torch.zeros_like(one) for name, one in held.items()}))
    cache = DiskCache(tmp_path)
    again = metric_values(levels, Ddim(), some, [Teacher(10, cache)], cache)
    assert torch.equal(first["teacher"], again["teacher"])
    assert caplog.text.count("has no checksum, as an earlier version wrote it; it is made again") == 1


@pytest.mark.parametrize(
    "odd", [object(), {1: "x"}, {1, 2}, b"x", float("nan"), float("inf"), torch.float32, torch.ones(2), Path("x"), 1j]
)
def test_what_json_has_not_is_no_key(tmp_path, odd):
    for cache in (DiskCache(tmp_path), DiskCache()):
        for ask in (cache.get, partial(cache.put, {}), cache.drop):
            with pytest.raises(TypeError, match="expected what is kept to depend on JSON values, got"):
                ask("values", {"a": [odd]})


def test_different_keys_have_different_files(tmp_path):
    keys = [1, "1", True, "true", None, "null", 1.5, "1.5", [1], [[1]], {"a": 1}, [["a", 1]], "a", ["a"], ""]
    cache = DiskCache(tmp_path)
    for number, key in enumerate(keys):
        cache.put({"x": torch.tensor(number)}, "values", key)
    assert [int(cache.get("values", key)["x"]) for key in keys] == list(range(len(keys)))
    assert torch.equal(cache.get("values", (1,))["x"], cache.get("values", [1])["x"])  # a tuple comes back as a list


# Whose values may be kept


class Declared:
    """A verifier whose fingerprint is said to cover it."""

    name, fingerprint, lasting = "declared", "1", True

    def __init__(self):
        self.asked = 0

    def __call__(self, images, prompt):
        self.asked += 1
        images.zero_()
        return [1.0] * len(images)


class Silent(Declared):
    name = "silent"


def test_values_without_a_lasting_fingerprint_are_made_anew(sampler, made_images, tmp_path):
    path, some = path_of(sampler), noise_batches(lambda _: sampler, [""], 4, seed=0, batch=2)
    scale, declared, silent = [1.0], Declared(), Silent()

    def helped(images, prompt):
        return [scale[0] * one for one in Brightness()(images, prompt)]

    def figures():
        cache = DiskCache(tmp_path)
        metrics = [ByVerifier(silent), ByVerifier(as_verifier(helped)), Teacher(10, cache), ByVerifier(declared)]
        metrics.append(ByVerifier(with_timeout(Brightness(), 60)))
        return metric_values(ruled("uniform", path, 4), Ddim(), some, metrics, cache)

    first = figures()
    scale[0] = 100.0  # what a function calls changes, while its own text does not
    again = figures()
    assert torch.allclose(again["helped"], 100 * first["helped"])
    assert torch.equal(first["helped"], first["brightness"])  # though others write into their images
    assert torch.equal(again["teacher"], first["teacher"])
    assert (silent.asked, declared.asked) == (4, 2)
    assert len(list(tmp_path.glob("values/*"))) == 6
    held = b"".join(file.read_bytes() for file in tmp_path.glob("values/*"))
    assert b"helped" not in held
    assert b"silent" not in held


def test_a_network_without_a_lasting_fingerprint_is_asked_anew(sampler, made_images, tmp_path):
    statistics = FeatureStatistics("same").add(torch.randn(20, 2, generator=torch.Generator().manual_seed(0)).double())
    some, levels = noise_batches(lambda _: sampler, [""], 2, seed=0), ruled("uniform", path_of(sampler), 4)
    for scale in (1.0, 100.0):
        network = lambda images, scale=scale: SimpleNamespace(features=scale * images.mean((2, 3))[:, :2])  # noqa: E731
        metrics = [Fid(network, statistics), ByVerifier(Brightness())]
        found = metric_values(levels, Ddim(), some, metrics, DiskCache(tmp_path))
        assert found["fid"].abs().max() > 10 or scale == 1.0
    assert len(list(tmp_path.glob("values/*"))) == 1


def test_a_verifier_that_fails_later_costs_its_batch_alone(sampler, made_images, caplog):
    answers = [[1.0, 2.0], None, [3.0, 4.0]]
    some = noise_batches(lambda _: sampler, [""], 6, seed=0, batch=2)
    levels = ruled("uniform", path_of(sampler), 4)
    found = metric_values(levels, Ddim(), some, [ByVerifier(Answering(answers))])["answering"]
    assert found[[0, 1, 4, 5]].tolist() == [1, 2, 3, 4]
    assert found[2:4].isnan().all()
    assert "(NaN for 2 images)" in caplog.text
    with pytest.raises(VerifierFailed):
        metric_values(levels, Ddim(), some, [ByVerifier(Answering([None]))])


@pytest.mark.slow
def test_compare_says_what_is_not_kept_and_asks_again(tmp_path, capsys):
    (tmp_path / "helper.py").write_text("scale = 1.0\n")
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\n"
        "def scale():\n"
        "    found = {}\n"
        "    exec(Path(__file__).with_name('helper.py').read_text(), found)\n"
        "    return found['scale']\n"
        "def f(images, prompt):\n"
        "    print('loud')\n"
        "    return scale() * images.sub_(0.5).abs().mean((1, 2, 3))\n"
    )
    command = ["schedule", "compare", "uniform", "--steps", "2", "--samples", "2", "--prompt", "a red circle"]
    command += ["--metric", f"{tmp_path}/mine.py:f,timeout=60,brightness", "--keep", str(tmp_path / "keep"), "--json"]
    values = []
    for scale in (1.0, 100.0):
        (tmp_path / "helper.py").write_text(f"scale = {scale}\n")
        assert cli.main(command) == 0
        out, err = capsys.readouterr()
        values.append({name: one["value"] for name, one in json.loads(out)["schedules"][0]["metrics"].items()})
        assert err.count("values of f are not kept in") == 1
        assert "nothing says when a function changes" in err
    assert values[1]["f"] == pytest.approx(100 * values[0]["f"])
    assert values[1]["brightness"] == values[0]["brightness"]
