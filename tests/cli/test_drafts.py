"""Drafts from the command line: made, gone on with, made again from their files; calibrated; and what is refused."""

import json

import pytest

import noisewright as nw
import tiny
from commands import refused
from noisewright import calibrating, cli
from noisewright.evaluate.overview import overview
from noisewright.images.metadata import read_recipe
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
