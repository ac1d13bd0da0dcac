"""What was asked of a model is kept: commands on schedules that were killed go on, and lose nothing."""

import json
import logging
import weakref
from types import SimpleNamespace

import pytest
import torch

import tiny
from noisewright import cli
from noisewright.samplers.mixture import SHAPE, MixtureSampler
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.solvers import Ddim
from noisewright.trajectory import gits, metrics
from noisewright.trajectory import measure as measuring
from noisewright.trajectory.images import from_files, own_samples
from noisewright.trajectory.kept import Kept
from noisewright.trajectory.measure import Progress, measure
from noisewright.trajectory.metrics import ByVerifier, Teacher, groups_of, measured, subjects
from noisewright.trajectory.path import path_of, spaced
from noisewright.trajectory.tune import Interrupted, tune
from noisewright.verifier import as_verifier

EVALUATIONS = 12
BATCHES = 5


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


def searched(sampler, kept):
    path = path_of(sampler)
    tuning, reporting = (subjects(lambda _: sampler, [""], 4, seed=seed, batch=2) for seed in (0, 100))
    start, metric = spaced("uniform", path, 4), Teacher(10, kept)
    return tune(start, path, Ddim(), metric, tuning, reporting, evaluations=EVALUATIONS, kept=kept)


def test_a_search_that_was_killed_goes_on_to_the_same_end(sampler, made_images, tmp_path):
    plain = searched(sampler, Kept())
    whole = made_images["calls"]
    made_images.update(calls=0, killed_at=whole // 2)
    with pytest.raises(Interrupted) as caught:
        searched(sampler, Kept(tmp_path))
    before, best = caught.value.best.figures["tuning"]
    assert best <= before
    assert 1 <= caught.value.best.figures["evaluations"] < EVALUATIONS
    made_images["killed_at"] = None
    again = searched(sampler, Kept(tmp_path))
    assert again == plain
    assert made_images["calls"] == whole
    searched(sampler, Kept(tmp_path))
    assert made_images["calls"] == whole


def test_values_are_kept_by_all_that_they_depend_on(sampler, made_images, tmp_path):
    path, kept = path_of(sampler), Kept(tmp_path)
    some = subjects(lambda _: sampler, [""], 2, seed=0)
    other = subjects(lambda _: sampler, [""], 2, seed=9)
    asked = [(4, some, 10), (5, some, 10), (4, other, 10), (4, some, 20)]
    for steps, noises, teacher in asked * 2:
        measured(spaced("uniform", path, steps), Ddim(), noises, [Teacher(teacher, kept)], kept)
    teachers = 3  # two lengths for one set of noises, one for the other
    assert made_images["calls"] == len(asked) + teachers
    assert len(list(tmp_path.glob("values/*"))) == len(asked)
    assert len(list(tmp_path.glob("teachers/*"))) == teachers


def test_a_batch_with_an_image_without_a_value_is_asked_again(sampler, made_images, tmp_path):
    answers = [[1.0, float("nan")], [1.0, 2.0]]
    metric = ByVerifier(as_verifier(lambda images, prompt: answers.pop(0)))
    some = subjects(lambda _: sampler, [""], 2, seed=0)
    start = spaced("uniform", path_of(sampler), 4)
    found = [measured(start, Ddim(), some, [metric], Kept(tmp_path))[metric.name].tolist() for _ in range(3)]
    assert found[0][0] == 1
    assert found[1:] == [[1, 2], [1, 2]]
    assert made_images["calls"] == 2


def test_a_damaged_file_is_made_again(sampler, made_images, tmp_path):
    path, kept = path_of(sampler), Kept(tmp_path)
    some = subjects(lambda _: sampler, [""], 2, seed=0)
    first = measured(spaced("uniform", path, 4), Ddim(), some, [Teacher(10, kept)], kept)
    for file in tmp_path.glob("*/*"):
        file.write_bytes(file.read_bytes()[:20])
    again = measured(spaced("uniform", path, 4), Ddim(), some, [Teacher(10, kept)], kept)
    assert torch.equal(first["teacher"], again["teacher"])
    assert made_images["calls"] == 4


def test_a_place_that_cannot_be_written_costs_a_warning(sampler, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    kept = Kept(tmp_path / "file")
    with caplog.at_level(logging.WARNING, "noisewright"):
        found = kept.made(lambda: {"x": torch.ones(2)}, "values", 1)
        kept.made(lambda: {"x": torch.ones(2)}, "values", 2)
    assert found["x"].tolist() == [1, 1]
    assert len(caplog.records) == 1


def test_the_costs_of_a_teacher_are_kept(sampler, monkeypatch, tmp_path):
    some = [(sampler, [0, 1]), (sampler, [2])]
    first = gits.teacher_costs(some, nodes=6, kept=Kept(tmp_path))
    monkeypatch.setattr(gits, "_run", None)
    again = gits.teacher_costs(some, nodes=6, kept=Kept(tmp_path))
    assert torch.equal(first[0], again[0])
    with pytest.raises(TypeError):
        gits.teacher_costs(some, nodes=6, cost="l1", kept=Kept(tmp_path))


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
    begun = Progress(Kept(tmp_path), "this one")
    with pytest.raises(Killed):
        measure(lambda _: sampler, batches(stop=3), levels=5, begun=begun)
    begun = Progress(Kept(tmp_path), "this one")
    assert begun.done == 8  # of the three batches the last was not saved
    rest = list(batches())[begun.done // 4 :]
    assert measure(lambda _: sampler, rest, levels=5, begun=begun) == whole
    begun.finish()
    assert Progress(Kept(tmp_path), "this one").done == 0
    assert Progress(Kept(tmp_path), "another").done == 0


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return tiny.captioned(tmp_path_factory.mktemp("pictures"), 8)


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


def test_the_command_goes_on_where_it_was_killed(pictures, monkeypatch, tmp_path, capsys):
    tiny.sd().save_pretrained(tmp_path / "sd", safe_serialization=True)
    monkeypatch.setattr(measuring, "SAVE_EVERY", 0.0)
    command = ["schedule", "measure", str(tmp_path / "sd"), "--images", str(pictures), "--levels", "5", "--batch-size"]
    command += ["2", "--keep", str(tmp_path / "keep"), "--out"]
    assert cli.main([*command, str(tmp_path / "whole.json")]) == 0
    assert not list(tmp_path.glob("keep/moments/*"))
    real, calls = measuring._errors, []

    def errors(*given):
        calls.append(1)
        if len(calls) == 12:  # five levels a batch: in the third one
            raise Killed
        return real(*given)

    monkeypatch.setattr(measuring, "_errors", errors)
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
        some = subjects(lambda _: sampler, [f"picture {n}" for n in range(prompts)], 10)
        assert (groups_of(some) is not None) == grouped
    some = subjects(lambda one: SimpleNamespace(class_label=int(one)), list("012345"), 6)
    assert groups_of(some) is None
