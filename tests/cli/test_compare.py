"""``noisewright compare``: searches at one budget, each of the size that fits it, with a verdict for each two."""

import json

import pytest

from commands import done, refused
from noisewright.benchmark.store import open_results

BUDGET = 12


def words(model, *more, searches=("zero-order", "paths"), budget=f"{BUDGET} nfe"):
    given = ["compare", "prompts.txt", "--model", model, "--verifier", "brightness", "--judge", "sharpness"]
    given += ["--steps", 3, "--budget", budget, "--set", "no_check=true"]
    return [*given, *(part for one in searches for part in ("--search", one)), *more]


@pytest.fixture
def place(here):
    (here / "prompts.txt").write_text("a cat\na red dog\n")
    return here


def test_searches_are_compared_at_one_budget(saved, place, capsys):
    found = json.loads(done(capsys, words(saved, "--out", "one", "--json")))
    assert [one["label"] for one in found["points"]] == ["random", "zero-order", "paths"]
    for one in found["points"]:
        assert BUDGET / 2 < one["costs"]["nfe"]["best"]["mean"] <= BUDGET
    pairs = [(one["one"], one["other"], one["score"]) for one in found["between"]]
    named = [("zero-order", "random"), ("paths", "random"), ("paths", "zero-order")]
    assert pairs == [(*pair, score) for score in ("sharpness", "brightness") for pair in named]
    assert len(found["verdicts"]) >= 3
    for verdict, (one, other) in zip(found["verdicts"], named, strict=False):
        assert one in verdict
        assert other in verdict
        assert "sharpness" in verdict
    spec = open_results("one").spec
    assert spec.base["budget"] == [f"{BUDGET} nfe"]
    assert spec.axes[0].values[2].changes["search_args"]["children"] >= 1
    out = done(capsys, words(saved, "--out", "one"))  # nothing is made twice
    assert "Sizes of searches are the largest that end within 12 NFE: paths with " in out
    for verdict in found["verdicts"]:
        assert verdict[:40] in out
    assert out.splitlines()[-1] == "one/report.html"


def test_images_are_so_many_nfe_and_seconds_stay_seconds(saved, place, capsys):
    done(capsys, words(saved, "--out", "images", "--limit", 1, searches=["zero-order"], budget="2 images"))
    assert open_results("images").spec.base["budget"] == ["6 nfe"]
    given = words(saved, "--out", "seconds", "--limit", 1, searches=["paths"], budget="0.4 s")
    done(capsys, given)
    spec = open_results("seconds").spec
    assert spec.base["budget"] == ["0.4 seconds"]
    done(capsys, given)  # sizes stay as they were fitted, however fast the machine is now
    assert open_results("seconds").spec.axes == spec.axes


def test_a_search_may_be_compared_with_itself(saved, place, capsys):
    more = ["--search-arg", "paths:children=2", "--limit", 1, "--json", "--out", "two"]
    searches = ["zero-order:neighbours=1", "zero-order:neighbours=2,on-failure=restart", "paths"]
    found = json.loads(done(capsys, words(saved, *more, searches=searches)))
    labels = ["random", "zero-order:neighbours=1", "zero-order:neighbours=2,on-failure=restart", "paths:children=2"]
    assert [one["label"] for one in found["points"]] == labels
    values = {one.label: one.changes["search_args"] for one in open_results("two").spec.axes[0].values}
    assert values[labels[2]] == {"neighbours": "2", "on_failure": "restart"}
    assert values[labels[3]]["children"] == "2"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["prompts.txt", "--search", "zero-oder"], ["did you mean zero-order?"]),
        (["prompts.txt", "--search", "random"], ["expected a search to compare with random"]),
        (["prompts.txt", "--search", "paths", "--search", "paths"], ["expected each search once, got 'paths' twice"]),
        (["prompts.txt", "--search", "paths:childern=2"], ["did you mean children?"]),
        (["prompts.txt", "--search", "paths:2"], ["expected NAME:KEY=VALUE"]),
        (["prompts.txt", "--search", "paths", "--search-arg", "children=2"], ["--search-arg"]),
        (["prompts.txt", "--search", "paths", "--search-arg", "fk:particles=2"], ["of a search that is compared"]),
        (["prompts.txt", "--search", "paths", "--budget", "12 imges"], ["budget"]),
        (["prompts.txt", "--search", "paths", "--budget", "6 nfe, 3 images"], ["in one unit, got 3 images, 6 nfe"]),
        (["prompts.txt", "--search", "paths", "--budget", "0 nfe"], ["above 0"]),
        (["prompts.txt", "--search", "paths", "--verifier", "brightnes"], ["did you mean brightness?"]),
        (["prompts.txt", "--search", "paths", "--set", "verifier=clip", "--verifier", "clip"], ["verifier once"]),
        (["prompts.txt", "--search", "paths", "--set", "budget=3 images"], ["expected no budget in --set"]),
        (["prompts.txt", "--search", "paths", "--log", "wanb"], ["did you mean wandb?"]),
        (["prompts.txt", "--search", "paths", "--limit", "0"], ["limit"]),
        (["shapes-tets", "--search", "paths"], ["did you mean shapes-test?"]),
        (["propmts", "--search", "paths"], ["unknown set of prompts 'propmts'", "a prompt of several words"]),
        (["a red cat", "--search", "paths", "--limit", "2"], ["expected --limit with a set of prompts"]),
        (["empty.txt", "--search", "paths"], ["empty"]),
        (["prompts.txt"], ["--search"]),
    ],
    ids=lambda one: " ".join(one)[-40:],
)
def test_wrong_use_is_one_line_before_anything_is_spent(place, no_model, capsys, given, says):
    (place / "empty.txt").write_text("")
    refused(capsys, ["compare", *given], *says)
    assert not (place / "runs").exists()
