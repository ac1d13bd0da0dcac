"""Drafts from the command line: made, gone on with, made again from their files; calibrated; and what is refused."""

import json

import pytest
import torch

import noisewright as nw
import tiny
from commands import done, refused
from noisewright import calibrating, cli
from noisewright.evaluate.overview import overview
from noisewright.images.metadata import read_recipe
from noisewright.outside import busy
from noisewright.run.reading import read_journal, read_run

STEPS = "4"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny.sd().save_pretrained(path, safe_serialization=True)
    return path


def given(model, *more):
    return ["generate", "a cat", "--model", str(model), "--verifier", "brightness", "--steps", STEPS, *map(str, more)]


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    """Drafts without a pilot, whose decision would depend on the clock."""
    root = tmp_path_factory.mktemp("drafts") / "run"
    more = ("--draft", "guidance,until=0.5+truncate,at=0.5,pilot=0,best=2", "--budget", "7 images", "--batch-size", 3)
    assert cli.main(given(model, *more, "--out", root, "--json")) == 0
    return root


def test_the_result_is_a_full_image_and_so_is_the_baseline(run):
    found = overview(run)
    kinds = {one["id"]: read_recipe(run / one["file"])[1]["sampler"].get("draft") for one in found["candidates"]}
    assert kinds[found["best"]["id"]] is None
    assert kinds[found["baseline"]["id"]] is None
    assert found["baseline"]["seed"] == 0
    assert sum(kind is not None for kind in kinds.values()) == 4
    assert sum(kind is None for kind in kinds.values()) in (2, 3)  # the baseline may be among the best two
    assert read_run(run)["spec"]["draft"] == "guidance,until=0.5+truncate,at=0.5"


def test_every_image_is_made_again_to_the_pixel(run, capsys):
    for one in overview(run)["candidates"]:
        capsys.readouterr()
        assert cli.main(["replay", f"{run}:{one['id']}", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["identical"], one


def test_an_image_of_a_cache_is_made_again_to_the_pixel(model, tmp_path, capsys):
    more = ("--draft", "cache,every=2,pilot=0,best=2", "--budget", "5 images", "--batch-size", 2)
    assert cli.main(given(model, *more, "--out", tmp_path / "r", "--json")) == 0
    found = overview(tmp_path / "r")["candidates"]
    assert {one.get("draft") for one in found} == {None, "cache,name=Deep,every=2,depth=1"}
    for one in found:
        capsys.readouterr()
        assert cli.main(["replay", f"{tmp_path / 'r'}:{one['id']}", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["identical"], one


def test_a_run_goes_on_with_its_drafts(run, model, tmp_path, capsys):
    more = ("--draft", "guidance,until=0.5+truncate,at=0.5,pilot=0,best=2", "--batch-size", 3, "--out", tmp_path / "r")
    assert cli.main(given(model, *more, "--budget", "5 images", "--json")) == 0
    capsys.readouterr()
    assert cli.main(["resume", str(tmp_path / "r"), "--budget", "7 images", "--json"]) == 0
    wanted = {one["id"]: one["scores"]["brightness"] for one in overview(run)["candidates"]}
    found = {one["id"]: one["scores"]["brightness"] for one in overview(tmp_path / "r")["candidates"]}
    both = wanted.keys() & found.keys()
    assert len(both) >= 5
    for key in both:  # but for the rounding of another micro-batch
        assert found[key] == pytest.approx(wanted[key], abs=1e-3)
    other = ("--draft", "guidance,until=0.75+truncate,at=0.5,pilot=0,best=2", *more[2:], "--budget", "7 images")
    refused(capsys, given(model, *other), "draft")


@pytest.mark.parametrize("search", ["zero-order", "refine", "evolution", "halving"])
@pytest.mark.parametrize("draft", ["truncate,at=0.75", "guidance,until=0.5", "dtype"])
def test_every_search_by_drafts_ends_with_a_full_image(model, tmp_path, capsys, search, draft):
    more = ("--search", search, "--draft", f"{draft},pilot=0,best=2", "--budget", "60 nfe", "--batch-size", 4)
    assert cli.main(given(model, *more, "--out", tmp_path / "r", "--json")) == 0
    found = overview(tmp_path / "r")
    assert found["nfe"] <= 60
    assert "draft" not in found["best"]
    assert "draft" not in found["baseline"]
    full = {one["id"] for one in found["candidates"] if "draft" not in one}
    drafts = [one for one in found["candidates"] if "draft" in one]
    assert len(full) in (2, 3)
    assert len(drafts) >= 3
    capsys.readouterr()
    assert cli.main(["replay", f"{tmp_path / 'r'}:{found['best']['id']}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["identical"]


def test_a_target_with_drafts_is_reached_by_a_full_image(model, tmp_path, capsys):
    assert cli.main(given(model, "--budget", "8 images", "--out", tmp_path / "plain")) == 0
    scores = sorted(one["scores"]["brightness"] for one in overview(tmp_path / "plain")["candidates"])
    more = ("--draft", "truncate,at=0.75,pilot=4", "--target", scores[-3], "--budget", "40 images", "--batch-size", 2)
    assert cli.main(given(model, *more, "--out", tmp_path / "r")) == 0
    found = overview(tmp_path / "r")
    assert found["stopped"].startswith("target")
    assert "draft" not in found["best"]
    assert found["best"]["scores"]["brightness"] >= scores[-3]
    assert found["images"] < 40


def test_a_pilot_is_told_and_recorded(model, tmp_path, capsys):
    more = ("--draft", "truncate,at=0.5,pilot=4", "--budget", "20 images", "--out", tmp_path / "r", "--json")
    assert cli.main(given(model, *more)) == 0
    said = capsys.readouterr()
    (line,) = [one for one in read_journal(tmp_path / "r") if one["verb"] == "prove"]
    assert line["pilot"] == 4
    assert any(text.startswith("draft truncate,at=0.5 is ") for text in json.loads(said.out)["warnings"])
    assert overview(tmp_path / "r")["best"]["steps"] == int(STEPS)


def test_the_forecast_knows_drafts(model, capsys):
    assert cli.main(given(model, "--draft", "truncate,at=0.5,pilot=4", "--budget", "20 images", "--dry-run",
                          "--json")) == 0  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    assert found["reserve"]["images"] == 4
    assert found["nfe"] < 20 * int(STEPS)


def test_show_and_plain_lines_are_of_the_full_image(run, capsys):
    assert cli.main(["show", str(run)]) == 0
    assert "truncate" in json.dumps(read_run(run))
    capsys.readouterr()


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (["--draft", "truncat"], ["did you mean truncate?"]),
        (["--draft", "cache,name=FirstBlockCache"], ["got UNet2DConditionModel: it can have cache Deep"]),
        (["--draft", "truncate", "--search-steps", "2"], ["search_steps or a draft", "got both"]),
        (["--draft", "steps,n=9"], ["expected n below the 4 steps"]),
        (["--draft", "cache", "--search", "halving"], ["leaves states alone", "draft cache, got halving"]),
        (["--draft", "steps", "--search", "evolution"], ["no draft steps with evolution"]),
        (["--draft", "truncate", "--search", "gradient"], ["needs no gradient with a draft, got gradient"]),
        (["--draft", "truncate", "--budget", "3 images"], ["a budget of at least 4 images"]),
        (["--profile", "nowhere.json"], ["a profile that noisewright calibrate wrote", "nowhere.json"]),
    ],
)
def test_what_cannot_be_is_said_in_one_line_before_anything_is_spent(model, tmp_path, capsys, more, parts):
    refused(capsys, given(model, *more, "--out", tmp_path / "r"), *parts)
    assert not (tmp_path / "r").exists()


class Looks:
    """A verifier that wants to see what candidates looked like on the way."""

    name, fingerprint, preview_sigma = "looks", "1", 0.4

    def __call__(self, images, prompt, previews):
        return [0.0] * len(images)


def test_a_cache_and_a_verifier_that_looks_on_the_way_are_refused_together():
    asked = {"verifier": Looks(), "judge": [], "num_inference_steps": 4, "no_check": True}
    with pytest.raises(ValueError, match=r"scores images alone with draft cache,name=Deep.*, got looks, which wants"):
        nw.search(tiny.sd(), "a cat", draft="cache", **asked)


# Calibrating


@pytest.fixture(scope="module")
def profile(model, tmp_path_factory):
    root = tmp_path_factory.mktemp("profile")
    (root / "prompts.txt").write_text("# two\na cat\na dog\n")
    call = ["calibrate", str(model), "--prompts", str(root / "prompts.txt"), "--verifier", "brightness"]
    call += ["--draft", "truncate,at=0.5", "--draft", "steps,n=2", "--steps", "4", "--steps", "3", "--candidates", "4"]
    assert cli.main([*call, "--batch-size", "2", "--out", str(root / "profile.json"), "--json"]) == 0
    return root / "profile.json"


def test_a_profile_says_what_settings_and_drafts_are_worth(profile, capsys):
    found = json.loads(profile.read_text())
    assert [(row["num_inference_steps"], row["batch_size"]) for row in found["settings"]] == [(4, 2), (3, 2)]
    assert found["prompts"] == 2
    for row in found["settings"]:
        assert row["seconds_each"] > 0
        assert row["deviation"] > 0
        assert [one["draft"] for one in row["drafts"]] == ["truncate,at=0.5", "steps,n=2"]
        assert all(-1 <= one["correlation"] <= 1 for one in row["drafts"])


def test_a_profile_that_is_there_is_not_measured_again(profile, model, capsys):
    before = profile.read_bytes()
    call = ["calibrate", str(model), "--prompts", str(profile.parent / "prompts.txt"), "--verifier", "brightness"]
    call += ["--draft", "truncate,at=0.5", "--draft", "steps,n=2", "--steps", "4", "--steps", "3", "--candidates", "4"]
    assert cli.main([*call, "--batch-size", "2", "--out", str(profile)]) == 0
    assert profile.read_bytes() == before
    refused(capsys, [*call, "--seed", "7", "--out", str(profile)], "a profile with the same seed")


def calibrated(capsys, model, place, *more):
    (place / "prompts.txt").write_text("a cat\n")
    call = ["calibrate", model, "--prompts", place / "prompts.txt", "--verifier", "brightness", "--candidates", "4"]
    call += ["--draft", "truncate,at=0.5", "--steps", "4", "--out", place / "p.json", "--json", *more]
    return json.loads(done(capsys, call))


def test_a_grid_of_guidance_and_batch_sizes_is_measured(model, tmp_path, capsys):
    more = ("--guidance-scale", 2, "--guidance-scale", 40, "--batch-size", 1, "--batch-size", 2, "--batch-size", 2)
    found = calibrated(capsys, model, tmp_path, *more, "--height", 16, "--width", 16)
    rows = found["settings"]
    assert [(row["guidance_scale"], row["batch_size"]) for row in rows] == [(2, 1), (2, 2), (40, 1), (40, 2)]
    assert (found["height"], found["width"]) == (16, 16)
    for one, other in (rows[:2], rows[2:]):
        assert one["mean"] == pytest.approx(other["mean"], abs=1e-4)
        assert (one["nfe_each"], one["drafts"][0]["nfe_each"]) == (4, 3)
    assert rows[0]["mean"] != pytest.approx(rows[2]["mean"], abs=1e-4)
    request, _ = chosen(capsys, model, tmp_path / "p.json", tmp_path / "r", "--budget", "3 images", "--height", "16",
                        "--width", "16", "--guidance-scale", "40")  # fmt: skip
    assert (request["guidance_scale"], request["num_inference_steps"]) == (40, 4)


def test_a_batch_size_that_memory_is_too_small_for_is_left_out(model, tmp_path, capsys, monkeypatch):
    made = calibrating.made_and_scored

    def small(sampler, verifier, prompt, seed, candidates, size):
        if size > 2:
            raise torch.OutOfMemoryError("no memory left")
        return made(sampler, verifier, prompt, seed, candidates, size)

    monkeypatch.setattr(calibrating, "made_and_scored", small)
    found = calibrated(capsys, model, tmp_path, "--batch-size", 4, "--batch-size", 2)
    assert [row["batch_size"] for row in found["settings"]] == [2]
    call = ["calibrate", model, "--prompts", tmp_path / "prompts.txt", "--verifier", "brightness", "--batch-size", "4"]
    refused(capsys, [*call, "--out", tmp_path / "none.json"], "a batch size that fits in memory, got none")


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (["--steps", "4", "--steps", "2", "--draft", "steps,n=3"], ["n below the 2 steps"]),
        (["--guidance-scale", "5", "--guidance-scale", "1", "--draft", "guidance"], ["guidance_scale above 1"]),
    ],
)
def test_what_is_wrong_of_a_later_setting_is_said_before_anything_is_made(model, tmp_path, capsys, monkeypatch, more,
                                                                        parts):  # fmt: skip
    monkeypatch.setattr(calibrating, "made_and_scored", lambda *_: pytest.fail("something was made"))
    (tmp_path / "prompts.txt").write_text("a cat\n")
    call = ["calibrate", model, "--prompts", tmp_path / "prompts.txt", "--verifier", "brightness", *more]
    refused(capsys, [*call, "--out", tmp_path / "p.json"], *parts)
    assert not (tmp_path / "p.json").exists()


def test_a_busy_machine_is_said_in_the_profile(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(busy, "others", lambda: 2.0)
    found = calibrated(capsys, model, tmp_path, "--batch-size", 2)
    (said,) = found["warnings"]
    assert said.startswith("other work took 2.0 of ")
    monkeypatch.setattr(busy, "others", lambda: 0.0)
    assert calibrated(capsys, model, tmp_path, "--batch-size", 2, "--batch-size", 1)["warnings"] == [said]


def test_calibrating_goes_on_where_it_was_ended(profile, model, tmp_path, monkeypatch):
    out, made = tmp_path / "p.json", calibrating.made_and_scored
    calls = []

    def counted(*args):
        calls.append(args[4])
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return made(*args)

    monkeypatch.setattr(calibrating, "made_and_scored", counted)
    call = ["calibrate", str(model), "--prompts", str(profile.parent / "prompts.txt"), "--verifier", "brightness"]
    call += ["--draft", "truncate,at=0.5", "--candidates", "4", "--batch-size", "2", "--steps", "4", "--out", str(out)]
    stop_at = 6  # the drafts of the second prompt: of the first both ways were warmed up
    assert cli.main(call) == 130
    assert calls == [2, 4, 2, 4, 4, 4]
    part = out.with_name("p.json.part")
    part.write_bytes(part.read_bytes() + b'{"verb":"meas')  # and torn
    calls.clear()
    stop_at = 0
    assert cli.main(call) == 0
    assert calls == [2, 4]
    assert not part.exists()
    assert json.loads(out.read_text())["prompts"] == 2


def test_a_search_takes_what_its_profile_finds_best(profile, model, tmp_path, capsys):
    call = ["generate", "a cat", "--model", str(model), "--verifier", "brightness", "--profile", str(profile)]
    assert cli.main([*call, "--budget", "12 images", "--out", str(tmp_path / "r"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert any(text.startswith("profile: num_inference_steps ") for text in found["warnings"])
    request = read_run(tmp_path / "r")["request"]
    assert request["profile"] is None
    assert request["num_inference_steps"] in (3, 4)
    assert request["batch_size"] == 2
    assert cli.main(["resume", str(tmp_path / "r"), "--budget", "14 images", "--json"]) == 0


def chosen(capsys, model, profile, out, *more):
    """The request that a run recorded, and what it warned of."""
    call = ["generate", "a cat", "--model", str(model), "--verifier", "brightness", "--profile", str(profile)]
    found = json.loads(done(capsys, [*call, "--out", str(out), "--json", *more]))
    return read_run(out)["request"], [text for text in found["warnings"] if "profile" in text]


@pytest.fixture
def praised(profile, tmp_path):
    """A profile whose drafts cost next to nothing and rank without fault."""
    found = json.loads(profile.read_text())
    for row in found["settings"]:
        row["seconds_each"] = 1.0
        for one in row["drafts"]:
            one.update(seconds_each=0.05, correlation=0.99, nfe_each=1)
    (tmp_path / "praised.json").write_text(json.dumps({**found, "warnings": []}))  # whatever else this machine did
    return tmp_path / "praised.json"


@pytest.mark.parametrize(
    ("budget", "is_drafted"), [("30 images", False), ("100 s, 30 images", False), ("120 nfe", True)]
)
def test_a_profile_counts_a_draft_by_what_it_costs_of_each_limit(praised, model, tmp_path, capsys, budget, is_drafted):
    request, said = chosen(capsys, model, praised, tmp_path / "r", "--steps", "4", "--budget", budget)
    assert (request["draft"] is not None) == is_drafted
    assert said[0].startswith("profile: num_inference_steps 4")
    if is_drafted:
        assert request["draft"].endswith(",best=3,pilot=0")


@pytest.mark.parametrize(
    ("typed", "recorded"),
    [
        ("truncate,at=0.5", "truncate,at=0.5,best=3,pilot=0"),
        ("truncate,at=0.5,best=5", "truncate,at=0.5,best=5,pilot=0"),
        ("truncate,at=0.5,best=2,pilot=8", "truncate,at=0.5,best=2,pilot=8"),
        ("steps", "steps,n=2,best=3,pilot=0"),
        ("none", "none"),
    ],
)
def test_a_draft_that_is_typed_beside_a_profile_stands(praised, model, tmp_path, capsys, typed, recorded):
    more = ("--steps", "4", "--draft", typed, "--budget", "26 images")
    assert chosen(capsys, model, praised, tmp_path / "r", *more)[0]["draft"] == recorded


def test_a_draft_that_the_profile_lacks_is_refused_with_those_that_it_has(praised, model, tmp_path, capsys):
    more = ("--profile", praised, "--draft", "truncate,at=0.75", "--out", tmp_path / "r")
    refused(capsys, given(model, *more), "a draft that the profile has (truncate,at=0.5, steps,n=2), got", "at=0.75")
    more = ("--profile", praised, "--draft", "steps", "--search", "evolution", "--out", tmp_path / "r")
    refused(capsys, given(model, *more), "no draft steps with evolution")
    assert not (tmp_path / "r").exists()


def test_fewer_steps_of_the_search_go_with_a_profile(praised, model, tmp_path, capsys):
    more = ("--steps", "4", "--search-steps", "3", "--budget", "40 nfe")
    request, _ = chosen(capsys, model, praised, tmp_path / "r", *more)
    assert (request["search_steps"], request["draft"], request["batch_size"]) == (3, None, 2)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"verifier": "sharpness"}, ["by the verifier of the search (brightness), got one by sharpness"]),
        ({"verifier_fingerprint": "other"}, ["a profile by brightness with fingerprint", "got one with 'other'"]),
    ],
)
def test_a_profile_by_another_verifier_is_refused(praised, model, tmp_path, capsys, change, parts):
    praised.write_text(json.dumps({**json.loads(praised.read_text()), **change}))
    refused(capsys, given(model, "--profile", praised, "--out", tmp_path / "r"), *parts)
    assert not (tmp_path / "r").exists()


def test_a_profile_says_nothing_of_several_verifiers(praised, model, tmp_path, capsys):
    more = ("--verifier", "sharpness", "--profile", praised, "--out", tmp_path / "r")
    refused(capsys, given(model, *more), "the verifier of the search (brightness, sharpness), got one by brightness")


@pytest.mark.parametrize(
    ("change", "more", "says"),
    [
        ({"device": "cuda:0"}, [], "measured on cuda:0, where seconds are others: the draft is proved here"),
        ({"dtype": "bfloat16"}, [], "measured in bfloat16, where"),
        ({}, ["--height", "16", "--width", "16"], "measured at the model's own size, where"),
        ({"height": 16, "width": 32}, [], "measured at 16x32, where"),
    ],
)
def test_a_draft_is_proved_where_its_seconds_were_measured_elsewhere(praised, model, tmp_path, capsys, change, more,
                                                                     says):  # fmt: skip
    praised.write_text(json.dumps({**json.loads(praised.read_text()), **change}))
    more = ("--steps", "4", "--budget", "120 nfe", *more)
    request, said = chosen(capsys, model, praised, tmp_path / "r", *more)
    assert request["draft"].endswith(",best=3,pilot=8")
    assert says in said[1]
    assert [one["verb"] for one in read_journal(tmp_path / "r")].count("prove") == 1


def test_what_a_profile_warns_of_is_said(praised, model, tmp_path, capsys):
    praised.write_text(json.dumps({**json.loads(praised.read_text()), "warnings": ["other work took 1 of 2"]}))
    _, said = chosen(capsys, model, praised, tmp_path / "r", "--steps", "4", "--budget", "5 images")
    assert said[1] == f"the profile {praised}: other work took 1 of 2"


def test_a_list_of_prompts_with_a_profile_is_found_again(praised, model, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("a cat\na dog\n")
    call = ["generate", "--prompt-file", str(tmp_path / "prompts.txt"), "--model", str(model)]
    call += ["--profile", str(praised), "--verifier", "brightness", "--budget", "4 images", "--json"]
    call += ["--out", str(tmp_path / "many")]
    first, again = (json.loads(done(capsys, call))["runs"] for _ in range(2))
    assert [one["status"] for one in first] == ["done", "done"]
    assert [one["status"] for one in again] == ["found", "found"]
    other = json.loads(done(capsys, [*call, "--steps", "3", "--out", str(tmp_path / "other")]))["runs"]
    assert [one["status"] for one in other] == ["done", "done"]


def test_a_profile_of_another_model_is_refused(profile, tmp_path, capsys):
    tiny.sd(seed=1).save_pretrained(tmp_path / "other", safe_serialization=True)
    refused(capsys, given(tmp_path / "other", "--profile", profile, "--out", tmp_path / "r"),
            "expected a profile of the model", "another fingerprint")  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [({"settings": 3}, "a list"), ({"more": 1}, "no such key"), ({"profile_version": 9}, "at most 1"),
     ({"settings": [{"drafts": [{"draft": "import os"}]}]}, "settings")],
)  # fmt: skip
def test_a_damaged_profile_is_refused(profile, model, tmp_path, capsys, change, says):
    (tmp_path / "p.json").write_text(json.dumps({**json.loads(profile.read_text()), **change}))
    refused(capsys, given(model, "--profile", tmp_path / "p.json", "--out", tmp_path / "r"), says)


@pytest.mark.parametrize(
    ("more", "parts"),
    [(["--draft", "trunc"], ["draft"]), (["--candidates", "2"], ["4"]), (["--verifier", "brightnes"], ["brightness?"])],
)
def test_what_cannot_be_calibrated(model, tmp_path, capsys, more, parts):
    (tmp_path / "prompts.txt").write_text("a cat\n")
    call = ["calibrate", str(model), "--prompts", str(tmp_path / "prompts.txt"), "--out", str(tmp_path / "p.json")]
    refused(capsys, [*call, *more], *parts)
    assert not (tmp_path / "p.json").exists()
