import contextlib
import json
import shutil
import threading

import pytest
from PIL import Image

from noisewright.evaluate.overview import overview
from noisewright.images.metadata import read_recipe
from noisewright.run.journal import seal
from noisewright.run.locks import locked
from noisewright.run.reading import read_run
from noisewright.web.live import Cursor, Live, Lives, time_left, used
from runs import open_run


@pytest.fixture(autouse=True)
def _looks_at_once(monkeypatch):
    monkeypatch.setattr("noisewright.web.live.LOOK_SECONDS", 0.0)


def live_of(root):
    live = Live(root, root.name)
    live.refresh()
    return live


def grown(root, lines):
    """A copy of a run whose journal ends after so many lines, and what comes after them."""
    whole = (root / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (root / "journal.jsonl").write_bytes(b"".join(whole[:lines]))
    return whole[lines:]


def add(root, raw):
    with (root / "journal.jsonl").open("ab") as file:
        file.write(raw)


def test_it_says_what_show_says(runs):
    root = runs / "first"
    live, shown = live_of(root), overview(root)
    event, _ = live.since(Cursor())
    head = event["head"]
    assert head["best"] == shown["best"]["id"]
    assert head["baseline"] == shown["baseline"]["id"]
    assert {row[0]: row[7][0] for row in event["rows"]} == {
        one["id"]: one["scores"]["brightness"] for one in shown["candidates"]
    }  # fmt: skip
    assert [(one[0], one[3]) for one in event["curve"]] == [
        (one["images"], one["value"]) for n, one in enumerate(shown["curve"])
        if n == 0 or one["candidate"] != shown["curve"][n - 1]["candidate"]
    ]  # fmt: skip
    for name in ("status", "stopped", "prompt", "model", "search", "seed", "verifiers", "judges", "budget",
                 "value_name"):  # fmt: skip
        assert head[name] == shown[name], name
    assert {key: set(names) for key, names in event["judged"].items()} == {
        one["id"]: {"sharpness"} for one in (shown["best"], shown["baseline"])
    }  # fmt: skip


def test_a_page_is_told_of_new_lines_alone_and_of_each_row_once(runs):
    root = runs / "first"
    later = grown(root, 2)
    live, cursor = live_of(root), Cursor()
    seen, heads = [], 0
    for line in [b"", *later]:
        add(root, line[:40])  # somebody is writing it
        live.refresh()
        event, cursor = live.since(cursor)
        seen += (event or {}).get("rows", [])
        add(root, line[40:])
        live.refresh()
        event, cursor = live.since(cursor)
        seen += (event or {}).get("rows", [])
        heads += "head" in (event or {})
        assert live.since(cursor) == (None, cursor)
    assert len(seen) == len({row[0] for row in seen}) == 9
    assert heads > 2
    whole, _ = live_of(root).since(Cursor())
    assert whole["rows"] == seen


def test_another_journal_is_told_anew(runs):
    root = runs / "first"
    live = live_of(root)
    _, cursor = live.since(Cursor())
    whole = (root / "journal.jsonl").read_bytes()
    later = grown(root, 4)
    assert later
    live.refresh()
    event, cursor = live.since(cursor)
    assert event["anew"]
    assert len(event["rows"]) < 9
    (root / "journal.jsonl").write_bytes(whole)
    live.refresh()
    assert len({row[0] for row in live.since(Cursor())[0]["rows"]}) == 9


def test_an_ensemble_has_values_by_row(tmp_path, saved):
    import noisewright as nw

    root = tmp_path / "both"
    nw.search(str(saved), "any", verifier=["brightness", "sharpness"], judge=[], budget="6 images",
              num_inference_steps=2, out=root, progress=False)  # fmt: skip
    event, _ = live_of(root).since(Cursor())
    shown = overview(root)
    assert {row[0]: value for row, value in zip(event["rows"], event["values"], strict=True)} == {
        one["id"]: pytest.approx(one["value"]) for one in shown["candidates"]
    }  # fmt: skip
    assert event["head"]["value_name"] == "mean rank"
    assert event["head"]["best"] == shown["best"]["id"]


@pytest.mark.parametrize("ensemble", ["rank", "zsum"])
def test_values_of_an_ensemble_that_grows_are_those_of_the_whole(tmp_path, saved, monkeypatch, ensemble):
    """What is kept of earlier rows is what reading all anew gives."""
    import noisewright as nw

    monkeypatch.setattr("noisewright.web.live.AT_MOST_SHARE", 1e9)  # ranked at each look
    root = tmp_path / "both"
    nw.search(str(saved), "any", verifier=["brightness", "sharpness"], judge=[], budget="6 images", batch_size=1,
              ensemble=ensemble, num_inference_steps=2, out=root, progress=False)  # fmt: skip
    later = grown(root, 2)
    live, cursor = live_of(root), Cursor()
    for line in [b"", *later]:
        add(root, line)
        live.refresh()
        event, cursor = live.since(cursor)
        whole, _ = live_of(root).since(Cursor())
        if event is not None and "values" in event:
            assert event["values"] == whole["values"]
            assert event["curve"] == whole["curve"]
        assert live.head()["best"] == whole["head"]["best"]


def test_what_judges_say_is_told_once(runs):
    root = runs / "first"
    later = grown(root, 2)
    live, cursor, told = live_of(root), Cursor(), []
    for line in [b"", *later]:
        add(root, line)
        live.refresh()
        event, cursor = live.since(cursor)
        told += [(key, name) for key, names in (event or {}).get("judged", {}).items() for name in names]
    whole, _ = live_of(root).since(Cursor())
    assert sorted(told) == sorted((key, name) for key, names in whole["judged"].items() for name in names)
    assert len(told) == 2
    key, score = next(iter(whole["judged"])), 0.125
    add(root, seal({"verb": "judge", "judge": "another", "ids": [key], "scores": [score]}))
    live.refresh()
    event, _ = live.since(cursor)
    assert event["judged"] == {key: {**whole["judged"][key], "another": score}}


DRAFTS = {
    "fewer steps": {"search_steps": 2}, "steps as a draft": {"draft": "steps,n=2,pilot=0"},
    "cut short": {"draft": "truncate,at=0.5,pilot=0,best=2"}, "half precision": {"draft": "dtype,pilot=0"},
    "steps of two evaluations": {"draft": "truncate,at=0.5,pilot=0", "solver": "heun"},
    "proved": {"draft": "truncate,at=0.5,pilot=4", "budget": "24 images"},
    "several verifiers": {"draft": "dtype,pilot=0", "verifier": ["brightness", "sharpness"]},
}  # fmt: skip


@pytest.mark.parametrize("name", DRAFTS)
def test_drafts_and_full_renderings_do_not_compare(tmp_path, saved, name):
    import noisewright as nw

    root = tmp_path / "draft"
    found = {"verifier": "brightness", "budget": "8 images", **DRAFTS[name]}
    nw.search(str(saved), "any", judge=[], num_inference_steps=4, out=root, progress=False, **found)
    live, shown = live_of(root), overview(root)
    head, (event, _) = live.head(), live.since(Cursor())
    assert (head["best"], head["baseline"]) == (shown["best"]["id"], shown["baseline"]["id"])
    assert head["draft"] == read_run(root)["spec"].get("draft")
    ledger = live.watch.ledger
    used = ledger.proof is None or ledger.proof["used"]
    assert (head["steps"], head["drafts"]) == (4, used)
    full = {row[0] for row in event["rows"] if not row[8]}
    makers = {key: read_recipe(root / "images" / f"{key}.png")[1]["sampler"] for key in ledger.candidates}
    assert full == {key for key, maker in makers.items() if maker == makers[shown["baseline"]["id"]]}
    assert {head["best"], head["baseline"]} <= full
    assert len(full) < len(event["rows"])
    assert {one[4] for one in event["curve"]} == {one["candidate"] for one in shown["curve"]}
    assert {one[4] in full for one in event["curve"]} == {not used}


def test_a_run_that_cannot_be_shown_is_refused_each_time(runs, monkeypatch):
    """Also to who asks before it is read again."""
    monkeypatch.setattr("noisewright.web.live.LOOK_SECONDS", 60.0)
    held = json.loads((runs / "first" / "run.json").read_text())
    held["spec"]["budget"] = "many"
    (runs / "first" / "run.json").write_text(json.dumps(held))
    lives = Lives()
    for _ in range(2):
        with pytest.raises(ValueError, match="budget"):
            lives.of(runs / "first", "first")


def test_runs_that_go_on_are_read_once_however_many_there_are(runs, monkeypatch):
    monkeypatch.setattr("noisewright.web.live.MOST_LIVES", 2)
    held = json.loads((runs / "first" / "run.json").read_text())
    (runs / "first" / "run.json").write_text(json.dumps({**held, "status": "running"}))
    with contextlib.ExitStack() as writing:
        for number in range(5):
            shutil.copytree(runs / "first", runs / str(number))
            writing.enter_context(locked(runs / str(number)))
        lives = Lives()
        first = [lives.of(runs / str(number), str(number)) for number in range(5)]
        assert [one.head()["status"] for one in first] == ["running"] * 5
        assert [lives.of(runs / str(number), str(number)) for number in range(5)] == first


def test_previews_of_what_no_image_came_of_are_told(tmp_path, saved):
    import noisewright as nw

    root = tmp_path / "halving"
    nw.search(str(saved), "any", verifier="brightness", judge=[], search="halving", budget="120 nfe",
              num_inference_steps=6, out=root, progress=False)  # fmt: skip
    live = live_of(root)
    event, _ = live.since(Cursor())
    finished = {row[0] for row in event["rows"]}
    ledger = live.watch.ledger
    draws = {ledger.particles[key].origin.id for key in finished}
    cut = {ledger.particles[key].origin.id for key in ledger.previews} - draws
    assert sorted(ledger.particles[one[0]].origin.id for one in event["previews"]) == sorted(cut)
    assert cut
    assert all(len(one[3]) == 1 and one[4] for one in event["previews"])
    with Image.open(root / "previews" / f"{event['previews'][0][0]}.jpg") as opened:
        assert opened.format == "JPEG"


def test_it_can_be_asked_while_it_grows(runs):
    root = runs / "first"
    later = grown(root, 1)
    live, failed = live_of(root), []

    def follow():
        cursor = Cursor()
        try:
            while cursor.rows < 9:
                live.refresh()
                cursor = live.since(cursor)[1]
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=follow) for _ in range(4)]
    for one in threads:
        one.start()
    for line in later:
        add(root, line)
    for one in threads:
        one.join(60)
    assert not failed
    assert not any(one.is_alive() for one in threads)


def test_a_run_that_is_gone_says_so(runs):
    live = live_of(runs / "first")
    shutil.rmtree(runs / "first")
    with pytest.raises(ValueError, match="expected a run directory"):
        live.refresh()


def test_a_run_of_python_without_images_is_shown(tmp_path):
    run = open_run(tmp_path / "bare")
    run.store.close()
    with pytest.raises(ValueError, match="bare"):  # its run.json does not say enough
        live_of(tmp_path / "bare")


@pytest.mark.parametrize(("budget", "spent", "left"), [
    ({"images": 10}, {"images": 5, "nfe": 0, "seconds": 4.0}, 4.0),
    ({"images": 10, "seconds": 5}, {"images": 5, "nfe": 0, "seconds": 4.0}, 1.0),
    ({"nfe": 100}, {"images": 5, "nfe": 200, "seconds": 4.0}, 0.0),
    ({"images": 10}, {"images": 0, "nfe": 0, "seconds": 0.0}, None),
    ({}, {"images": 1, "nfe": 1, "seconds": 1.0}, None),
])  # fmt: skip
def test_time_left_is_that_to_the_nearest_limit(budget, spent, left):
    assert time_left(budget, spent) == left
    assert 0 <= used(budget, spent) <= 1


def test_all_that_is_told_is_json(runs):
    event, _ = live_of(runs / "first").since(Cursor())
    assert json.loads(json.dumps(event, allow_nan=False)) == event
