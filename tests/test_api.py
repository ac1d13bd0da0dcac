"""The Python interface: what it refuses, what it returns, and what a directory may be continued with."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import noisewright as nw
import tiny
from noisewright import registry
from noisewright.api import planned
from noisewright.errors import RunMismatch, UnsupportedPipeline, VerifierFailed
from noisewright.images.metadata import read_recipe
from noisewright.planning import DEFAULT_BUDGET
from noisewright.run.budget import parse_budget
from noisewright.run.reading import read_journal, read_run
from noisewright.samplers.mixture import MixtureSampler

PROMPT = "two red circles"


def search(pipe, prompt=PROMPT, **more):
    given = {"verifier": "brightness", "budget": "3 images", "num_inference_steps": 2, "guidance_scale": 3.0, **more}
    return nw.search(pipe, prompt, **given)


def redness(images, prompt):
    return images[:, 0].mean((1, 2))


# Wrong use


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"prompt": ""}, "got an empty one"),
        ({"prompt": "  \n "}, "got an empty one"),
        ({"prompt": "x" * 10_000}, "got 10000"),
        ({"num_inference_steps": 0}, "num_inference_steps of at least 1, got 0"),
        ({"num_inference_steps": -3}, "num_inference_steps of at least 1, got -3"),
        ({"num_inference_steps": 2.5}, "num_inference_steps of at least 1, got 2.5"),
        ({"num_inference_steps": True}, "num_inference_steps"),
        ({"search_steps": 0}, "search_steps of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size of at least 1, got 0"),
        ({"seed": -1}, "expected a seed in [0, 2**63 - 2**32), got -1"),
        ({"seed": 2**63}, "expected a seed"),
        ({"seed": 1.0}, "expected a seed"),
        ({"seed": True}, "expected a seed"),
        ({"budget": "0 images"}, "above 0 images"),
        ({"budget": "-3 nfe"}, "above 0 nfe"),
        ({"budget": "3 parsecs"}, "'parsecs'"),
        ({"budget": "1 nfe"}, "at least 1 images (2 nfe)"),
        ({"budget": "1 images", "search_steps": 1}, "at least 2 images (4 nfe)"),
        ({"search": "randon"}, "did you mean random?"),
        ({"search_args": {"m": 3}}, "unknown argument"),
        ({"search_args": {"n": 0}}, "at least 1, got 0"),
        ({"verifier": "brightnes"}, "did you mean brightness?"),
        ({"verifier": []}, "at least one verifier"),
        ({"verifier": ["brightness", "brightness"]}, "distinct names"),
        ({"judge": "brightness"}, "a judge that the search never sees"),
        ({"judge": ["sharpness", "brightness"]}, "brightness as both"),
        ({"solver": "dimm"}, "did you mean ddim?"),
        ({"eta": 0.5}, "eta = 0.5 needs"),
        ({"solver": "ddim", "eta": 1.5}, "eta in [0, 1], got 1.5"),
        ({"ensemble": "ranks"}, "did you mean rank?"),
        ({"verifier": ["brightness", "sharpness"], "target": 0.5}, "a target for each verifier by name"),
        ({"target": {"brightnes": 0.5}}, "did you mean brightness?"),
        ({"height": 64}, "height and width together"),
        ({"height": 0, "width": 0}, "height above 0"),
        ({"height": 31, "width": 31}, "divisible by 8"),
        ({"colour": "red"}, "takes no colour"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_spent(pipe, tmp_path, more, says):
    before = pipe.scheduler
    with pytest.raises(ValueError, match=r"expected|unknown|takes no|needs|divisible") as caught:
        search(pipe, out=tmp_path / "run", **more)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert pipe.scheduler is before
    assert not (tmp_path / "run" / "images").is_dir() or not list((tmp_path / "run" / "images").iterdir())


@pytest.mark.parametrize(
    ("more", "says"), [({"prompt": 3}, "as text, got int"), ({"prompt": ["a"]}, "got list"), ({"verifier": 3}, "got 3")]
)
def test_another_type_is_refused(pipe, more, says):
    with pytest.raises(TypeError, match=says):
        search(pipe, **more)


def test_what_is_no_pipeline_is_refused(tmp_path):
    with pytest.raises(UnsupportedPipeline, match="got object"):
        search(object())
    with pytest.raises(ValueError, match="model_index"):
        search(str(tmp_path))
    with pytest.raises(ValueError, match="unknown model"):
        search("noisewright/none")


# What comes back


def test_the_readme_in_ten_lines(pipe, tmp_path):
    found = search(
        pipe, verifier=["brightness", redness], judge="sharpness", budget="5 images", seed=7, batch_size=2,
        out=tmp_path / "run",
    )  # fmt: skip
    assert found.baseline.seed == 7
    assert set(found.best.scores) == {"brightness", "redness", "sharpness"}
    assert found.best.image.size == (32, 32)
    assert (found.images, found.nfe, found.forwards) == (5, 10, 20)
    assert set(found.seconds) == {"encode", "denoise", "decode", "verify", "total"}
    assert found.seconds["total"] >= sum(v for k, v in found.seconds.items() if k != "total") * 0.9
    assert found.stopped.startswith("budget")
    assert [one.seed for one in found.candidates] == [7, 8, 9, 10, 11]
    assert len(found.curve) == 5
    for name in ("run.json", "journal.jsonl", "best.png", "baseline.png", "contact-sheet.png", "curve.png", "images"):
        assert (tmp_path / "run" / name).exists(), name
    assert json.loads(json.dumps(found.to_json()))["best"]["id"] == found.best.id
    run = read_run(tmp_path / "run")
    assert run["status"] == "done"
    assert run["summary"]["nfe"] == 10
    assert run["spec"]["seed"] == 7
    assert run["spec"]["sampler"]["guidance_scale"] == 3.0
    _, recipe = read_recipe(found.best.file)
    assert recipe["scores"] == pytest.approx(found.best.scores)
    assert recipe["id"] == found.best.id


@pytest.mark.slow
def test_the_baseline_is_what_the_pipeline_gives_and_the_best_can_be_made_again(pipe):
    found = search(pipe, seed=5, batch_size=1)
    for one in (found.baseline, found.best):
        plain = pipe(
            PROMPT, generator=torch.Generator("cpu").manual_seed(one.seed), num_inference_steps=2, guidance_scale=3.0
        ).images[0]
        assert np.array_equal(np.asarray(one.image), np.asarray(plain))
    assert found.best.scores["brightness"] >= found.baseline.scores["brightness"]
    assert found.best.scores["brightness"] == max(one.scores["brightness"] for one in found.candidates)


@pytest.mark.slow
def test_the_bundled_model_by_name():
    path = registry.bundled("noisewright/shapes")
    if path is None or not (path / "model_index.json").is_file():
        pytest.skip("the bundled model noisewright/shapes is not in this copy")
    found = nw.search("noisewright/shapes", PROMPT, verifier="shapes-oracle", budget="2 images", num_inference_steps=2)
    assert found.best.image.size == (64, 64)
    assert read_run(found.run)["spec"]["sampler"]["model"] == "noisewright/shapes"
    assert read_run(found.run)["spec"]["sampler"]["guidance_scale"] == registry.card(path)["default"]["guidance_scale"]


def test_the_default_budget():
    plan = planned(MixtureSampler(steps=2, prompt=PROMPT), PROMPT, verifier="brightness")
    assert plan.budget == parse_budget(DEFAULT_BUDGET)
    assert plan.budget.images == 16
    assert (plan.budget.nfe, plan.budget.seconds) == (None, None)


@pytest.mark.slow
def test_short_search_full_rendering(pipe):
    found = search(pipe, num_inference_steps=4, search_steps=2, budget="5 images")
    assert found.images == 5
    assert found.nfe <= 3 * 2 + 2 * 4
    assert {one.particle.steps for one in found.candidates} == {2, 4}
    assert found.baseline.seed == 0
    full = {one.id for one in found.candidates if one.particle.steps == 4}
    assert {found.best.id, found.baseline.id} <= full


@pytest.mark.slow
def test_target_and_finished(pipe):
    assert search(pipe, target=0.0, budget="9 images", batch_size=2).stopped == "target"
    done = search(pipe, search_args={"n": 2}, budget="9 images")
    assert (done.stopped, done.images) == ("finished", 2)
    several = search(pipe, verifier=["brightness", "sharpness"], target={"brightness": 0.0, "sharpness": 0.0})
    assert several.stopped == "target"


@pytest.mark.slow
def test_words_that_the_model_does_not_know_are_named(tmp_path):
    path = tmp_path / "model"
    tiny.sd().save_pretrained(path, safe_serialization=True)
    (path / "noisewright.json").write_text(json.dumps({
        "name": "mine", "words": ["two", "red", "circles"], "verifier": "brightness",
        "default": {"num_inference_steps": 3, "guidance_scale": 1.0},
    }))  # fmt: skip
    found = nw.search(str(path), "two RED dogs and dogs", budget="2 images")
    assert found.warnings == ("the model mine was not trained on: dogs, and",)
    assert (found.nfe, found.forwards) == (6, 6)  # the card's steps, and its guidance of 1
    assert set(found.best.scores) == {"brightness"}
    assert nw.search(str(path), "two red circles", budget="1 image").warnings == ()


@pytest.mark.slow
def test_save_and_plot(pipe, tmp_path):
    found = search(pipe)
    copied = found.save(tmp_path / "copy")
    assert (copied / "best.png").read_bytes() == found.best.file.read_bytes()
    assert read_journal(copied) == read_journal(found.run)
    assert found.save(found.run) == found.run
    with pytest.raises(ValueError, match="new or empty directory"):
        found.save(tmp_path / "copy")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="new or empty directory"):
        found.save(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert (found.save(tmp_path / "empty") / "run.json").is_file()
    figure = found.plot(tmp_path / "plot.png")
    assert figure.axes
    with Image.open(tmp_path / "plot.png") as image:
        assert image.size[0] > 100


def test_nan_is_null_in_json_and_warned_of(pipe):
    calls = []

    def sometimes(images, prompt):
        calls.append(len(images))
        return [math.nan, *[0.5] * (len(images) - 1)]

    found = search(pipe, verifier=sometimes, budget="3 images", batch_size=3)
    assert found.to_json()["baseline"]["scores"] == {"sometimes": None}
    assert any("NaN for 1 of 3" in one for one in found.warnings)
    assert found.best.seed == 1


@pytest.mark.slow
def test_progress_is_told_after_each_micro_batch(pipe):
    seen = []
    search(pipe, budget="5 images", batch_size=2, progress=lambda run: seen.append(run.spent.images))
    assert seen == [2, 4, 5]


@pytest.mark.slow
def test_ctrl_c_ends_with_the_best_so_far(pipe, tmp_path):
    def interrupt(run):
        if run.spent.images == 2:
            raise KeyboardInterrupt

    found = search(pipe, budget="6 images", batch_size=2, progress=interrupt, out=tmp_path / "run")
    assert found.interrupted
    assert found.images == 2
    assert found.best.file.is_file()
    assert read_run(tmp_path / "run")["status"] == "interrupted"
    again = search(pipe, budget="6 images", batch_size=2, out=tmp_path / "run")
    assert not again.interrupted
    assert (again.images, again.nfe) == (6, 12)


def test_ctrl_c_while_judging_still_writes_the_result(pipe, tmp_path):
    class Slow:
        name = fingerprint = "slow"

        def __call__(self, images, prompt):
            raise KeyboardInterrupt

    found = search(pipe, budget="3 images", judge=Slow(), out=tmp_path / "run")
    assert found.interrupted
    assert (tmp_path / "run" / "best.png").is_file()
    assert read_run(tmp_path / "run")["status"] == "interrupted"


def test_a_judge_that_fails_leaves_a_whole_result(pipe, tmp_path):
    def picky(images, prompt):
        raise ValueError("not this prompt")

    found = search(pipe, budget="3 images", judge=picky, out=tmp_path / "run")
    assert any("picky" in one and "not this prompt" in one for one in found.warnings)
    assert found.judges == ("picky",)
    assert set(found.best.scores) == set(found.verifiers)
    assert read_run(tmp_path / "run")["status"] == "done"


@pytest.mark.parametrize("name", ["latents", "generator", "num_images_per_prompt", "output_type", "return_dict"])
def test_what_the_search_sets_itself_is_refused(pipe, name):
    with pytest.raises(ValueError, match=name):
        search(pipe, **{name: 1})


def test_device_beside_a_loaded_pipeline_is_refused(pipe):
    with pytest.raises(ValueError, match="loaded already"):
        search(pipe, device="cpu")


@pytest.mark.slow
def test_searches_with_step_noise_choose_it_and_say_so(pipe):
    found = search(pipe, search="svdd", search_args={"proposals": 2}, budget="40 nfe", num_inference_steps=3)
    assert any("eta 1" in one for one in found.warnings)
    with pytest.raises(ValueError, match="search_steps"):
        search(pipe, search="fk", num_inference_steps=4, search_steps=2)


def test_bad_arguments_of_a_search_cost_nothing(pipe, tmp_path):
    with pytest.raises(ValueError, match="expected neighbours of at least 1"):
        search(pipe, search="zero-order", search_args={"neighbours": 0}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_pipe_is_left_as_it_was_found(pipe):
    before = pipe.scheduler, dict(pipe.config), set(pipe.__dict__), dict(pipe.scheduler.__dict__)
    search(pipe)
    with pytest.raises(VerifierFailed):
        search(pipe, verifier=lambda images, prompt: 1 / 0)
    after = pipe.scheduler, dict(pipe.config), set(pipe.__dict__), dict(pipe.scheduler.__dict__)
    assert after[0] is before[0]
    assert after[1:3] == before[1:3]
    assert {k: repr(v) for k, v in after[3].items()} == {k: repr(v) for k, v in before[3].items()}


# Continuing


def test_the_same_call_continues_with_a_larger_budget(pipe, tmp_path):
    first = search(pipe, budget="3 images", out=tmp_path / "run")
    images = {one.file: (tmp_path / "run" / one.file).stat().st_mtime_ns for one in first.candidates}
    more = search(pipe, budget="5 images", out=tmp_path / "run")
    assert (more.images, more.nfe) == (5, 10)
    assert [one.id for one in more.candidates][:3] == [one.id for one in first.candidates]
    for file, made in images.items():
        assert (tmp_path / "run" / file).stat().st_mtime_ns == made
    assert more.best.scores["brightness"] >= first.best.scores["brightness"]
    again = search(pipe, budget="5 images", out=tmp_path / "run")
    assert again.to_json()["best"] == more.to_json()["best"]
    assert again.nfe == 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"prompt": "two blue circles"}, "prompt"),
        ({"num_inference_steps": 3}, "num_inference_steps"),
        ({"guidance_scale": 2.0}, "guidance_scale"),
        ({"seed": 1}, "seed"),
        ({"verifier": "sharpness"}, "verifiers"),
        ({"negative_prompt": "blurred"}, "negative_prompt"),
        ({"height": 40, "width": 40}, "height"),
        ({"search_steps": 1}, "search_steps"),
        ({"search_args": {"n": 2}}, "search_args"),
        ({"ensemble": "zsum"}, "ensemble"),
        ({"solver": "ddim", "eta": 0.5}, "eta"),
    ],
)
def test_another_run_in_the_directory_is_refused(pipe, tmp_path, more, key):
    search(pipe, out=tmp_path / "run")
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    with pytest.raises(RunMismatch, match=f"expected {key} "):
        search(pipe, **{"budget": "9 images", **more}, out=tmp_path / "run")
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before


@pytest.mark.slow
def test_another_model_in_the_directory_is_refused(pipe, tmp_path):
    search(pipe, out=tmp_path / "run")
    with pytest.raises(RunMismatch, match="expected fingerprint "):
        search(tiny.sd(seed=1), out=tmp_path / "run")
    search(tiny.sd(), budget="4 images", out=tmp_path / "run")  # the same weights, loaded again


def test_a_directory_of_other_files_is_refused(pipe, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunMismatch, match="other files"):
        search(pipe, out=tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_a_repaired_verifier_goes_on_with_the_images_that_are_there(pipe, tmp_path):
    class Mine:
        name, fingerprint, broken = "mine", "1", True

        def __call__(self, images, prompt):
            if self.broken:
                raise RuntimeError("no model")
            return images.mean((1, 2, 3))

    mine = Mine()
    with pytest.raises(VerifierFailed, match="no model"):
        search(pipe, verifier=mine, out=tmp_path / "run", batch_size=3)
    assert read_run(tmp_path / "run")["status"] == "failed"
    assert "VerifierFailed" in read_run(tmp_path / "run")["stopped"]
    mine.broken = False
    found = search(pipe, verifier=mine, out=tmp_path / "run", batch_size=3)
    assert (found.images, found.nfe) == (3, 6)
    assert read_run(tmp_path / "run")["status"] == "done"


@pytest.mark.parametrize(
    ("prompt", "more", "part"), [("another", {}, "prompt"), ("a mixture", {"height": 8, "width": 8}, "height")]
)
def test_a_sampler_keeps_its_own_prompt_and_settings(prompt, more, part):
    with pytest.raises(ValueError, match=part):
        planned(MixtureSampler(steps=2), prompt, verifier="brightness", **more)


# Arguments of any kind


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"search": 0}, "a search as a name, got 0"),
        ({"search_args": "x"}, "search_args as a mapping"),
        ({"search_args": {"n": True}}, "a number, got True"),
        ({"search_args": {"n": 10**400}}, "a number of 401 digits"),
        ({"search": "zero-order", "search_args": {"cosine": math.nan}}, "cosine"),
        ({"search": "refine", "search_args": {"start": [{"id": 3}]}}, "a verb"),
        ({"ensemble": 0}, "an ensemble as a name"),
        ({"ensemble": {"brightness": True, "sharpness": 1}}, "weight of brightness"),
        ({"target": math.nan}, "a target as a finite number"),
        ({"target": {"brightness": "x"}}, "finite target for brightness, got 'x'"),
        ({"target": True}, "a target"),
        ({"guidance_scale": True}, "finite number as guidance_scale, got True"),
        ({"guidance_scale": math.inf}, "got inf"),
        ({"guidance_scale": np.bool_(True)}, "got True"),
        ({"batch_size": 10**49}, "batch_size of at most 4096"),
        ({"num_inference_steps": 10**9}, "num_inference_steps of at most 10000"),
        ({"budget": object()}, "got object"),
        ({"budget": math.nan}, "got nan"),
        ({"budget": 2.5}, "got 2.5"),
        ({"budget": 10**400}, "at most"),
        ({"budget": {"images": 3}}, "a budget such as"),
        ({"budget": [None]}, "got None"),
        ({"seed": 1.5}, "got 1.5"),
        ({"seed": "x" * 10**6}, "got 'xxx"),
        ({"height": 2.5, "width": 8}, "a height above 0, got 2.5"),
        ({"height": 10**9, "width": 8}, "height of at most"),
        ({"height": 2**15, "width": 2**15}, "at most 67108864 pixels"),
        ({"eta": "x"}, "finite number as eta, got 'x'"),
        ({"schedule": 3}, "a schedule as a name or a file, got 3"),
        ({"schedule": "x" * 5000}, "a path as schedule"),
        ({"out": 0}, "out as a directory, got 0"),
        ({"out": "a\nb"}, "a path as out"),
        ({"score_cache": "a\0b"}, "a path as score_cache"),
        ({"progress": 3}, "progress as True, False, or a function"),
        ({"pictures": "no"}, "pictures as True or False, got 'no'"),
        ({"force": 1}, "force as True or False"),
        ({"verifier": [None]}, "got None"),
        ({"verifier": {}}, "got {}"),
        ({"verifier": dict}, "got the class dict"),
        ({"judge": 3}, "got 3"),
        ({"class_label": 1.5}, "a class_label as a name or a number"),
        ({"negative_prompt": ["x"]}, "a negative_prompt as text"),
        ({"device": 3}, "a device as its name"),
        ({"dtype": "load"}, "a dtype of float32"),
        ({"prompt": "a\0b"}, "without NUL"),
        ({"prompt": "\ud800"}, "half surrogate"),
        ({"prompt": b"x"}, "got bytes"),
        ({"bugdet": "3 images"}, "takes no bugdet; did you mean budget?"),
        ({"guidance_rescal": 0.5}, "did you mean guidance_rescale?"),
        ({"cross_attention_kwargs": 3}, "settings that StableDiffusionPipeline can be called with"),
    ],
)  # fmt: skip
def test_arguments_of_the_wrong_kind_are_one_line(pipe, tmp_path, more, says):
    with pytest.raises((ValueError, TypeError)) as caught:
        search(pipe, **{"out": tmp_path / "run", **more})
    text = str(caught.value)
    assert says in text
    assert "\n" not in text
    assert len(text) < 400
    assert not (tmp_path / "run").exists()


def test_more_steps_than_the_scheduler_has_times_are_one_line(pipe):
    """diffusers' DDIM with an offset of 1 asks for time 1000 of 0 to 999."""
    with pytest.raises(ValueError, match="expected fewer steps of DDIMScheduler, got 1000"):
        search(pipe, num_inference_steps=1000)


def test_numbers_of_numpy_are_recorded_as_pythons(pipe, tmp_path):
    more = {"guidance_scale": np.float64(3), "num_inference_steps": np.int64(2), "target": np.float32(9)}
    found = search(pipe, seed=np.int64(4), batch_size=np.uint8(2), budget=np.int32(2), out=tmp_path / "run", **more)
    spec = read_run(tmp_path / "run")["spec"]
    assert (spec["seed"], spec["batch_size"], spec["budget"]["images"]) == (4, 2, 2)
    assert found.to_json() == json.loads(json.dumps(found.to_json()))


def test_loading_and_replaying_check_their_arguments(tmp_path):
    from noisewright.replay import replay

    for call in (
        lambda: nw.load(3), lambda: nw.load(""), lambda: nw.load("noisewright/shapes", dtype="load"),
        lambda: nw.load("noisewright/shapes", device=3), lambda: nw.load("noisewright/shapes", device="abacus"),
        lambda: nw.load("x" * 5000), lambda: replay(3), lambda: replay("x" * 5000), lambda: replay("a\0b"),
        lambda: replay("x.png", out=3), lambda: replay("x.png", dtype="load"), lambda: replay("x.png", device=3),
        lambda: replay("x.png", device="abacus"), lambda: replay("x.png", model=3),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError)) as caught:
            call()
        assert "expected" in str(caught.value)
        assert len(str(caught.value)) < 300


def test_dtypes_of_torch_are_taken_by_their_names():
    asked = nw.Request(prompt=PROMPT, dtype=torch.float16, device=torch.device("cpu"), force=np.bool_(True))
    assert (asked.dtype, asked.device, asked.force) == ("float16", "cpu", True)


LOADS = ["make_verifier('shapes-clip')", "nw.plan(nw.Request(model='noisewright/shapes', prompt='a cat'))"]


@pytest.mark.slow
@pytest.mark.parametrize("what", LOADS)
def test_nothing_of_the_libraries_reaches_the_user_where_models_are_loaded(what):
    code = f"import noisewright as nw\nfrom noisewright.registry import make_verifier\n{what}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
