"""``noisewright audit``: what several verifiers say of the same candidates, and a person's votes."""

import itertools
import json
import math

import pytest

from commands import done, refused, run

COUNT = 4
PICKY = """
def picky(images, prompt):
    if "dog" in prompt:
        raise RuntimeError("no dogs")
    return images.mean((1, 2, 3))
"""


def words(model, *more, verifiers=("brightness", "sharpness"), judge="compressibility"):
    given = ["audit", "prompts.txt", "--model", model, "--candidates", COUNT, "--steps", 1, "--judge", judge]
    return [*given, "--set", "no_check=true", *(part for one in verifiers for part in ("--verifier", one)), *more]


@pytest.fixture
def place(here):
    (here / "prompts.txt").write_text("a cat\na red dog\na blue fish\n")
    return here


def of(rows, **wanted):
    (found,) = [one for one in rows if all(one[key] == value for key, value in wanted.items())]
    return found


def candidates(root):
    return [json.loads(line) for line in (root / "candidates.jsonl").read_text().splitlines()]


def test_everybody_scores_the_same_candidates(saved, place, capsys):
    found = json.loads(done(capsys, words(saved, "--out", "audit", "--json")))
    assert (found["directory"], found["prompts"], found["candidates"]) == ("audit", 3, COUNT)
    assert (found["verifiers"], found["judges"]) == (["brightness", "sharpness"], ["compressibility"])
    rows = candidates(place / "audit")
    assert len(rows) == 3 * COUNT
    cells = sorted({one["cell"] for one in rows})
    best = [max(one["scores"]["brightness"] for one in rows if one["cell"] == cell) for cell in cells]
    own = of(found["pays"], picker="brightness", scorer="brightness")
    assert own["score"]["mean"] == pytest.approx(sum(best) / 3)
    assert own["deviations"]["mean"] > 0
    who = {"plain", "brightness", "sharpness", "compressibility", "mean rank"}
    assert {one["picker"] for one in found["pays"]} == who
    assert [one["count"] for one in found["best_of"] if one["picker"] == "sharpness"] == [1, 2, 4]
    assert -1 <= of(found["agreement"], one="brightness", other="sharpness")["spearman"]["mean"] <= 1
    assert found["verdict"].startswith(("trust", "no verifier stands out"))
    out = done(capsys, words(saved, "--out", "audit"))
    assert found["verdict"] in out.replace("\n", " ")
    assert out.splitlines()[-1] == "audit/audit.html"
    page = (place / "audit" / "audit.html").read_text()
    assert page.count("<img") >= 3
    assert "Who pays for whom" in page
    assert "Who pays for whom" in (place / "audit" / "audit.md").read_text()


def test_a_persons_votes_are_heard_afterwards(saved, place, capsys):
    done(capsys, words(saved, "--out", "audit"))
    times = [one.stat().st_mtime_ns for one in (place / "audit").glob("cells/*/images/*.png")]
    cells = {}
    for one in candidates(place / "audit"):
        cells.setdefault(one["cell"], []).append(one)
    lines = ["winner,loser"]
    for some in cells.values():
        some.sort(key=lambda one: -one["scores"]["sharpness"])
        lines += [f"{one['id']},{other['file']}" for one, other in itertools.pairwise(some)]
    (place / "votes.csv").write_text("\n".join([*lines, "nobody,knows"]))
    found = json.loads(done(capsys, words(saved, "--out", "audit", "--votes", "votes.csv", "--json")))
    chosen = found["chosen"]
    assert (chosen["votes"], chosen["unknown"]) == (10, 1)
    assert chosen["agreement"]["sharpness"]["rate"] == 1
    assert chosen["agreement"]["sharpness"]["choices"] == 9
    assert chosen["agreement"]["sharpness"]["low"] > 0.5
    assert len(chosen["strengths"]) == 3 * COUNT
    assert times == [one.stat().st_mtime_ns for one in (place / "audit").glob("cells/*/images/*.png")]
    out = done(capsys, words(saved, "--out", "audit", "--votes", "votes.csv"))
    assert "agrees with the person" in out
    assert "A person's choices" in (place / "audit" / "audit.md").read_text()


def test_images_beside_the_votes_are_scored(saved, place, capsys):
    from PIL import Image

    for name, value in (("dark.png", 10), ("bright.png", 200)):
        Image.new("RGB", (32, 32), (value,) * 3).save(place / name)
    (place / "votes.jsonl").write_text('{"prompt": "a cat", "a": "dark.png", "b": "bright.png", "choice": "b"}\n')
    found = json.loads(done(capsys, words(saved, "--votes", "votes.jsonl", "--out", "audit", "--json")))
    assert found["chosen"]["agreement"]["brightness"]["rate"] == 1
    assert found["chosen"]["agreement"]["sharpness"]["undecided"] == 1


def test_a_prompt_that_fails_is_said(saved, place, capsys):
    (place / "mine.py").write_text(PICKY)
    ended = run(capsys, words(saved, "--out", "audit", "--json", verifiers=["brightness", "mine.py:picky"]))
    assert ended.code == 1
    found = json.loads(ended.out)
    assert (found["prompts"], found["failed"]) == (2, 1)
    assert "1 of 3 prompts failed" in ended.err.splitlines()[-1]
    assert "no dogs" in ended.err


def test_of_one_prompt_nothing_is_claimed(saved, place, capsys):
    given = ["audit", "a red dog", *words(saved, "--json", "--out", "audit")[2:]]
    ended = run(capsys, given)
    assert ended.code == 0, ended.err
    assert "one prompt only" in ended.err
    found = json.loads(ended.out)
    assert found["trusted"] is None
    assert found["stability"]["prompts"] == [None] * 3
    assert math.isfinite(found["pays"][0]["gain"]["mean"])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["prompts.txt", "--verifier", "brightnes"], ["did you mean brightness?"]),
        (["prompts.txt", "--verifier", "brightness", "--judge", "none"], ["expected at least two that score"]),
        (["prompts.txt", "--verifier", "brightness", "--judge", "brightness"], ["got brightness twice"]),
        (["prompts.txt", "--verifier", "brightness", "--judge", "sharpnes"], ["did you mean sharpness?"]),
        (["prompts.txt", "--verifier", "brightness", "--candidates", "1"], ["candidates"]),
        (["prompts.txt", "--verifier", "brightness", "--set", "search=paths"], ["expected no search in --set"]),
        (["prompts.txt", "--verifier", "brightness", "--votes", "none.csv"], ["none.csv", "does not exist"]),
        (["prompts.txt", "--verifier", "brightness", "--votes", "votes.csv"], ["expected the columns winner"]),
        (["none.csv", "--verifier", "brightness"], ["unknown set of prompts"]),
        (["prompts.txt"], ["--verifier"]),
    ],
    ids=lambda one: " ".join(one)[-40:],
)
def test_wrong_use_is_one_line_before_anything_is_spent(place, no_model, capsys, given, says):
    (place / "votes.csv").write_text("a,b\n")
    refused(capsys, ["audit", *given], *says)
    assert not (place / "runs").exists()
