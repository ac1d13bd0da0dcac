"""Videos: parity of all frames with the plain pipeline, key frames as one picture, and scores as the mean over them."""

import json
import pickle
import re
from functools import cache

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

import noisewright as nw
import tiny
from families import animatediff, cogvideox, ltx, wan
from noisewright import registry
from noisewright.images.frames import chosen, cut, strip
from noisewright.images.metadata import read_recipe
from noisewright.replay import replay
from noisewright.samplers.optional import draws_inside, frames_shown
from noisewright.samplers.protocol import Sampler, quantise
from noisewright.testing import check_sampler

EVERY = {
    one.name: one for one in (*wan.FAMILIES, *ltx.FAMILIES, *cogvideox.FAMILIES, animatediff.FAMILY)
}  # fmt: skip
NAMED = ("height", "width", "guidance_scale", "negative_prompt")
SEEDS = (0, 1, 5)

# Of 255, after rounding to 8 bits: a value that lies at the border of two is rounded either way.
STEP = 1.01 / 255


ROUNDING = 1e-3
"""Of states, whose networks sum in another order in a batch; they are of some units."""


@cache
def pipeline(name):
    pipe = EVERY[name].make()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def plain_frames(name, seed):
    """What the pipeline gives by itself: (frames, 3, height, width) in [0, 1]."""
    one, generator = EVERY[name], torch.Generator("cpu").manual_seed(seed)
    given = {"num_inference_steps": one.steps, "generator": generator, "output_type": "pt", **one.call()}
    return pipeline(name)(prompt=one.prompt, **given).frames[0]


def sampler_of(name, **more):
    one = EVERY[name]
    call = one.call()
    named = {key: call.pop(key) for key in NAMED if key in call}
    settings = {"num_inference_steps": one.steps, "pipe_kwargs": call, **named, **more}
    return registry.make_sampler(pipeline(name), one.prompt, settings)


def walked(sampler, x, start, stop, state=None):
    """Through the steps, with the seeds' own noise."""
    def noise(index):
        return torch.randn(x.shape, generator=torch.Generator().manual_seed(index))

    return sampler.denoise(x, start, stop, state, noise=noise, seeds=SEEDS[: len(x)], **origins(sampler, len(x)))


def origins(sampler, count):
    return {"origins": list(SEEDS[:count])} if draws_inside(sampler) else {}


def shown(sampler, x):
    """Pictures of clean states of the seeds."""
    return sampler.decode(x, **origins(sampler, len(x)))


@pytest.mark.parametrize("name", EVERY)
class TestEveryFamily:
    @pytest.mark.sampled(9)
    def test_all_frames_of_a_batch_are_those_of_the_plain_pipeline(self, name):
        sampler = sampler_of(name)
        assert isinstance(sampler, Sampler)
        steps = sampler.schedule.steps
        x = sampler.noise(SEEDS)
        strips = shown(sampler, walked(sampler, x, 0, steps)[0])
        film = sampler.take_film()
        plain = torch.stack([plain_frames(name, seed) for seed in SEEDS])
        assert film.dtype == torch.uint8
        assert film.shape == plain.shape
        assert (film / 255 - quantise(plain)).abs().max() <= STEP
        places = chosen(4, plain.shape[1])
        assert (strips - strip(quantise(plain[:, places]))).abs().max() <= STEP
        assert sampler.take_film() is None

    @pytest.mark.sampled(5)
    def test_a_way_that_is_cut_anywhere_is_the_same(self, name):
        sampler = sampler_of(name)
        steps = sampler.schedule.steps
        x = sampler.noise(SEEDS[:2])
        whole = shown(sampler, walked(sampler, x, 0, steps)[0])
        for middle in range(1, steps):
            there, state = walked(sampler, x, 0, middle)
            again = shown(sampler, walked(sampler, there, middle, steps, state)[0])
            assert (again - whole).abs().max() <= STEP

    @pytest.mark.sampled(9)
    def test_it_holds_what_every_sampler_does(self, name):
        if name == "ltx-noisy-decoder":
            pytest.skip("its decoder draws, which the contract knows nothing of")

        def plain(seed):
            frames = quantise(plain_frames(name, seed))
            return strip(frames[None, chosen(4, len(frames))])[0]

        check_sampler(sampler_of(name), tolerance=ROUNDING, plain=plain)

    def test_it_can_be_sent_to_another_process(self, name):
        sampler = sampler_of(name)
        shown(sampler, sampler.noise(SEEDS[:1]))
        again = pickle.loads(pickle.dumps(sampler))
        x = sampler.noise(SEEDS[:1])
        found, wanted = (shown(one, walked(one, x, 0, one.schedule.steps)[0]) for one in (again, sampler))
        assert (found - wanted).abs().max() <= STEP

    @pytest.mark.sampled(3)
    def test_previews_are_strips_and_the_pipeline_is_as_it_was(self, name):
        pipe = pipeline(name)
        before = dict(pipe.__dict__)
        sampler = sampler_of(name)
        clean = sampler.predict(sampler.noise(SEEDS[:2]), 1, **origins(sampler, 2))
        preview = shown(sampler, clean)
        assert preview.shape == (2, 3, 32, 4 * 32)
        assert pipe.__dict__ == before


def test_the_gradient_leads_back_to_the_noise():
    sampler = sampler_of("wan")
    x = sampler.noise([0]).requires_grad_()
    images = sampler.trace(x)
    assert images.shape == (1, 3, 32, 4 * 32)
    images[..., :32].sum().backward()
    assert x.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("choice", "total", "places"),
    [
        ("first", 9, [0]), ("middle", 9, [4]), ("last", 9, [8]), (4, 9, [0, 3, 5, 8]), (1, 9, [4]), (2, 9, [0, 8]),
        (9, 9, list(range(9))), (3, 2, [0, 0, 1]), ("middle", 1, [0]),
    ],
)  # fmt: skip
def test_which_frames_are_shown(choice, total, places):
    assert chosen(choice, total) == places


def test_a_strip_is_cut_into_the_frames_that_it_is_made_of():
    frames = torch.rand(2, 3, 3, 5, 7)
    assert torch.equal(cut(strip(frames), 3), frames.flatten(0, 1))
    with pytest.raises(ValueError, match="of 2 frames of one width, got 21"):
        cut(strip(frames), 2)


@pytest.mark.parametrize(
    ("name", "more", "rate"),
    [
        ("wan", {}, 16), ("ltx", {}, 25), ("cogvideox", {}, 8), ("animatediff", {}, 8),
        ("ltx", {"frame_rate": 12}, 12),
    ],
)  # fmt: skip
def test_the_frame_rate_is_the_calls_or_the_models(name, more, rate):
    call = {key: one for key, one in EVERY[name].call().items() if key not in NAMED}
    assert sampler_of(name, pipe_kwargs={**call, **more}).frame_rate == rate


def redness(images, prompt):
    redness.asked.append(tuple(images.shape))
    return images[:, 0].mean((1, 2)).tolist()


redness.asked = []


def asked(shapes):
    """What a verifier was asked about, but for the grey squares that a function is tried on first."""
    return [shape for shape in shapes if shape[2:] != (64, 64)]


def by_hand(name, seed, places):
    """The mean of the frames' scores, from the plain pipeline."""
    frames = quantise(plain_frames(name, seed))
    return float(np.mean([float(frames[place, 0].mean()) for place in places]))


def searched(name="wan", **more):
    one = EVERY[name]
    redness.asked.clear()
    given = {"verifier": redness, "judge": "none", "budget": "3 images", "num_inference_steps": one.steps}
    return nw.search(pipeline(name), one.prompt, **{**given, **one.call(), **more})


# Of a mean of 32 x 32 x 4 values, each of which may be rounded the other way, few of them are.
ROUNDED = 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("frames", "places"), [(None, [0, 3, 5, 8]), (2, [0, 8]), ("first", [0]), ("middle", [4]), ("last", [8])]
)
def test_a_score_is_the_mean_over_the_frames_that_are_shown(frames, places):
    result = searched(**({} if frames is None else {"frames": frames}))
    assert asked(redness.asked) == [(3 * len(places), 3, 32, 32)]
    scores = {one.seed: one.scores["redness"] for one in result.candidates}
    for seed, score in scores.items():
        assert score == pytest.approx(by_hand("wan", seed, places), abs=ROUNDED)
    assert result.best.scores["redness"] == max(scores.values())
    array, recipe = read_recipe(result.best.file)
    assert array.shape == (32, 32 * len(places), 3)
    assert recipe["sampler"]["frames"] == (4 if frames is None else frames)


def test_judges_and_previews_see_frames_too(tmp_path):
    seen = []

    def judge(images, prompt):
        seen.append(tuple(images.shape))
        return images.mean((1, 2, 3)).tolist()

    result = searched(search="halving", budget="6 images", judge=judge)
    both = asked([*redness.asked, *seen])
    assert {shape[1:] for shape in both} == {(3, 32, 32)}
    assert all(shape[0] % 4 == 0 for shape in both)
    mean = Image.open(result.best.file)
    assert result.best.scores["judge"] == pytest.approx(np.asarray(mean).mean() / 255, abs=1e-5)


def test_what_a_verifier_says_besides_is_kept_for_each_frame():
    class Talker:
        name = fingerprint = "talker"

        def __call__(self, images, prompt):
            return images.mean((1, 2, 3)).tolist()

        def details(self, images, prompt):
            return [{"mean": round(float(one.mean()), 3)} for one in images]

    result = searched(verifier=Talker(), frames=2)
    said = [json.loads(line) for line in (result.run / "journal.jsonl").read_text().splitlines()]
    details = next(line["details"]["talker"] for line in said if line.get("verb") == "score")
    assert [len(one) for one in details] == [2, 2, 2]
    assert all(set(frame) == {"mean"} for one in details for frame in one)


def test_a_frame_without_a_score_leaves_the_video_without_one():
    def half(images, prompt):
        return [float("nan") if number == 1 else 1.0 for number in range(len(images))]

    result = searched(verifier=half)
    assert [one.scores["half"] == 1.0 for one in result.candidates] == [False, True, True]


def test_the_gradient_search_climbs_the_mean_over_frames():
    class Red:
        name = fingerprint = "red"

        def __call__(self, images, prompt):
            return self.gradient_scores(images, prompt).tolist()

        def gradient_scores(self, images, prompt):
            assert images.shape[2] == images.shape[3]
            return images[:, 0].mean((1, 2))

    result = searched(verifier=Red(), search="gradient", budget="4 images", frames=2)
    assert result.best.scores["red"] >= result.baseline.scores["red"]


class TestFiles:
    def test_best_and_baseline_are_videos_of_all_frames(self, tmp_path):
        result = searched(budget="2 images", out=tmp_path / "run", keep=1)
        shown = [result.best, result.baseline, result.kept[0]]
        for video in [one.video for one in shown] + sorted((tmp_path / "run/images").glob("*.mp4")):
            assert imageio_ffmpeg.count_frames_and_secs(str(video))[0] == 9
            reader = imageio_ffmpeg.read_frames(str(video))
            about = next(reader)
            assert (about["size"], about["fps"]) == ((32, 32), 16)
            first = np.frombuffer(next(reader), np.uint8).reshape(32, 32, 3)
            reader.close()
        assert len(list((tmp_path / "run/images").glob("*.mp4"))) == 2
        # the format keeps colours at half the size: the brightness of the first frame is that of the plain one
        plain = quantise(plain_frames("wan", result.best.seed))[0].mean()
        assert first.mean() / 255 == pytest.approx(float(plain), abs=0.05)

    @pytest.mark.slow
    def test_the_picture_is_made_again_pixel_by_pixel(self, tmp_path):
        pipeline("wan").save_pretrained(tmp_path / "model", safe_serialization=True)
        one = EVERY["wan"]
        given = {"num_inference_steps": one.steps, "budget": "2 images", "judge": "none", "verifier": redness}
        model = str(tmp_path / "model")
        result = nw.search(model, one.prompt, frames=3, out=tmp_path / "run", **{**given, **one.call()})
        again = replay(result.best.file)
        assert again.identical, again.to_text()
        more = nw.resume(tmp_path / "run", verifiers=redness, budget="3 images")
        assert len(more.candidates) == 3

    def test_odd_sizes_have_a_line_more_in_the_video(self):
        from noisewright.images.video import encode_mp4

        film = encode_mp4(np.full((3, 33, 17, 3), 90, np.uint8), 8)
        reader = imageio_ffmpeg.read_frames(io_file(film))
        assert next(reader)["size"] == (18, 34)
        reader.close()

    def test_without_the_extra_the_picture_is_there_and_a_line_says_what_to_install(self, monkeypatch):
        from noisewright.samplers.adapters import video

        monkeypatch.setattr(video, "can_encode", lambda: False)
        result = searched(budget="1 images")
        assert result.best.video is None
        assert result.best.file.is_file()
        assert [text for text in result.warnings if "pip install 'noisewright[video]'" in text]
        assert not list(result.run.rglob("*.mp4"))

    def test_plain_diffusers_makes_the_video(self):
        from noisewright.plain import plain_diffusers

        code, why = plain_diffusers(searched(budget="1 images").run)
        assert why is None
        assert ".frames[0]" in code
        assert "export_to_video(frames, 'best.mp4')" in code
        assert not re.search(r"^    frames=", code, re.M)


def io_file(data):
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".mp4", delete=False) as file:
        file.write(data)
    return file.name


def test_files_are_scored_by_the_frames_that_they_say_they_show(tmp_path):
    from noisewright.evaluate.scoring import score_files
    from noisewright.verifiers.protocol import FunctionVerifier

    result = searched(budget="2 images")
    plain = tmp_path / "plain.png"
    Image.open(result.best.file).convert("RGB").save(plain)  # without its recipe: one picture
    redness.asked.clear()
    found, bad = score_files([result.best.file, plain], "x", [FunctionVerifier(redness)])
    assert not bad
    assert sorted(asked(redness.asked)) == [(1, 3, 32, 128), (4, 3, 32, 32)]
    assert {one["file"]: one["scores"]["redness"] for one in found}[str(result.best.file)] == pytest.approx(
        result.best.scores["redness"], abs=1e-6
    )


def test_images_have_one_frame():
    sampler = registry.make_sampler(tiny.sd(), "x", {"num_inference_steps": 2})
    assert frames_shown(sampler) == 1
    assert frames_shown(sampler_of("wan", frames="first")) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"frames": 10}, "expected at most 9 frames, which is what the video has, got 10"),
        ({"frames": 0}, r"expected first, middle, last or a number in \[1, 32\] as frames, got 0"),
        ({"frames": 33}, r"in \[1, 32\] as frames, got 33"),
        ({"frames": "frist"}, r"expected first, middle, last or a number in \[1, 32\] as frames, got 'frist'"),
        ({"frames": 2.0}, r"in \[1, 32\] as frames, got 2.0"),
        ({"frames": True}, r"in \[1, 32\] as frames, got True"),
        ({"num_videos_per_prompt": 2}, "expected no num_videos_per_prompt, which noisewright sets itself"),
    ],
)
def test_wrong_frames_are_refused_before_anything_is_spent(more, said):
    with pytest.raises((ValueError, TypeError), match=said):
        searched(**more)
    assert asked(redness.asked) == []


def test_frames_of_an_image_model_are_refused():
    with pytest.raises(ValueError, match="expected no frames of StableDiffusionPipeline, which gives images, got 4"):
        nw.search(tiny.sd(), "x", verifier="brightness", frames=4)
