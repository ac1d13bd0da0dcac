import json
import shutil

import pytest

from noisewright.web.listing import Listing
from noisewright.web.live import Lives


@pytest.fixture(autouse=True)
def _looks_at_once(monkeypatch):
    monkeypatch.setattr("noisewright.web.listing.SCAN_SECONDS", 0.0)
    monkeypatch.setattr("noisewright.web.live.LOOK_SECONDS", 0.0)


@pytest.fixture
def listing(settings):
    return Listing(settings, Lives())


def edit(root, **changes):
    """Write ``run.json`` anew, past noisewright."""
    held = json.loads((root / "run.json").read_text()) | changes
    (root / "run.json").write_text(json.dumps({key: value for key, value in held.items() if value is not ...}))


def test_a_run_is_listed_with_what_it_came_to(listing):
    _, (one,) = listing.all()
    assert (one["kind"], one["name"], one["status"], one["search"]) == ("run", "first", "done", "zero-order")
    assert one["prompt"] == "a red circle and <b>two</b> blue stars"
    assert one["best"]["score"] >= one["baseline"]["score"]
    assert (one["verifier"], one["spent"]["images"], one["used"], one["left"]) == ("brightness", 9, 1.0, None)


def test_a_run_without_a_summary_is_read_from_its_journal(listing, runs):
    _, (before,) = listing.all()
    edit(runs / "first", status="interrupted", summary=...)
    _, (one,) = listing.all()
    assert one["status"] == "interrupted"
    for name in ("best", "baseline", "verifier", "prompt", "search", "model"):
        assert one[name] == before[name], name


def test_a_run_that_nobody_works_on_any_more_was_killed(listing, runs):
    edit(runs / "first", status="running", summary=...)
    assert listing.all()[1][0]["status"] == "killed"


def test_the_list_changes_with_its_runs_alone(listing, runs, monkeypatch):
    version, _ = listing.all()
    reads = []
    import noisewright.web.listing as module

    before = module.read_run
    monkeypatch.setattr(module, "read_run", lambda place: (reads.append(place), before(place))[1])
    assert listing.all()[0] == version
    assert reads == []
    shutil.copytree(runs / "first", runs / "second")
    assert len(listing.all()[1]) == 2
    assert reads == [runs / "second"]
    shutil.rmtree(runs / "first")
    assert [one["name"] for one in listing.all()[1]] == ["second"]
    assert listing.all()[0] == version + 2


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema_version": 99}', '{"schema_version": 2}', "\x00"])
def test_a_damaged_run_says_so_and_keeps_no_other_from_being_shown(listing, runs, text):
    (runs / "bad").mkdir()
    (runs / "bad" / "run.json").write_text(text)
    found = {one["name"]: one for one in listing.all()[1]}
    assert found["first"]["status"] == "done"
    assert found["bad"]["status"] == "damaged"
    assert str(runs) not in found["bad"]["error"]


def test_the_page_asks_again_for_nothing(client):
    answer = client.get("/api/runs")
    assert len(answer.json()["runs"]) == 1
    again = client.get("/api/runs", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
