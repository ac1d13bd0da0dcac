"""The list in a browser: how far runs are, sorted and filtered; and what is said where there is nothing to show."""

import contextlib
import json
import re
import shutil

import pytest

from browser import PHONE, WIDE
from noisewright.run.locks import let_go, locked
from seen import copied, faults, fits, seen, until
from serving import free_port, served

pytestmark = pytest.mark.slow

NAMES = "() => [...document.querySelectorAll('.runs a.row')].map(one => new URL(one.href).searchParams.get('name'))"
LOST = "the server does not answer"


def summary(run, best, baseline, images):
    """What a run says that it came to, with other numbers."""
    held = json.loads((run / "run.json").read_text())["summary"]
    pair = {name: {**held[name], "scores": {"brightness": value}, "value": value}
            for name, value in (("best", best), ("baseline", baseline))}  # fmt: skip
    return {**held, **pair, "images": images}


@pytest.fixture(scope="module")
def planted(made, tmp_path_factory):
    """A run of each state."""
    root = tmp_path_factory.mktemp("list") / "runs"
    root.mkdir()
    month = "2026-0{}-01T00:00:00+00:00".format
    copied(made, root / "old", prompt="zebra", search="random", created=month(1), summary=summary(made, 0.9, 0.1, 5))
    copied(made, root / "mid", prompt="Apple", created=month(2), status="interrupted",
           summary=summary(made, 0.95, 0.9, 50))  # fmt: skip
    copied(made, root / "wrong", prompt="mango", search="fk", created=month(3), status="failed",
           summary=summary(made, 0.5, 0.2, 20))  # fmt: skip
    copied(made, root / "killed", prompt="plum", created=month(4), status="running", summary=...)
    going = copied(made, root / "going", prompt="kiwi", created=month(5), status="running", summary=...)
    (root / "bad").mkdir()
    (root / "bad" / "run.json").write_text("{")
    lock = locked(going)
    yield root
    let_go(lock)


@pytest.fixture(scope="module")
def place(planted):
    with served(planted, "--verifier", "brightness") as (found, _):
        yield found


def names(page):
    return page.evaluate(NAMES)


def row(page, name):
    return page.locator(f".runs a.row[href*='name={name}']")


def test_a_running_run_says_how_much_time_is_left(browser, planted, made, place):
    long = copied(made, planted / "long", prompt="long", status="running", summary=..., created="2026-06-01")
    lock = locked(long)
    try:
        with seen(browser, place) as page:
            row(page, "long").wait_for()
            assert row(page, "going").locator(".state .quiet").text_content() == "about to end"  # 9 images of 9
            text = (long / "run.json").read_text().replace('"images": 9', '"images": 900')
            (long / "run.json").write_text(text)
            page.wait_for_function("() => / left$/.test(document.querySelector(\".runs a[href*='name=long'] .state\")"
                                   ".textContent)")  # fmt: skip
            assert re.fullmatch(r"[\d.]+ (s|min) left", row(page, "long").locator(".state .quiet").text_content())
            assert row(page, "long").get_by_role("progressbar").get_attribute("aria-valuenow") == "1"
            assert row(page, "old").locator(".state .quiet").text_content() == "5 images"
            page.goto(f"{place}/run?name=long")
            page.wait_for_selector(".budget b:has-text('left')")
    finally:
        let_go(lock)
        shutil.rmtree(long)
    with seen(browser, place, but=["404"]) as page:
        until(lambda: "long" not in names(page))


@pytest.mark.parametrize(("key", "order"), [
    ("newest", ["going", "killed", "wrong", "mid", "old"]), ("oldest", ["old", "mid", "wrong", "killed", "going"]),
    ("gain", ["old", "wrong", "mid", "going", "killed"]), ("score", ["mid", "old", "wrong", "going", "killed"]),
    ("prompt", ["mid", "going", "wrong", "killed", "old"]), ("images", ["mid", "wrong", "going", "killed", "old"]),
])  # fmt: skip
def test_the_list_is_sorted(browser, place, key, order):
    with seen(browser, place) as page:
        page.wait_for_selector(".runs li")
        page.get_by_label("Sort").select_option(key)
        assert names(page) == order
        page.reload()  # what was chosen is kept
        page.wait_for_selector(".runs li")
        assert names(page) == order


def test_every_order_that_is_offered_is_tried_above(browser, place):
    with seen(browser, place) as page:
        offered = page.get_by_label("Sort").locator("option").evaluate_all("all => all.map(one => one.value)")
    tried = next(one for one in test_the_list_is_sorted.pytestmark if one.name == "parametrize").args[1]
    assert set(offered) == {key for key, _ in tried}


@pytest.mark.parametrize(("state", "found"), [
    ("running", ["going"]), ("done", ["old"]), ("interrupted", ["mid"]), ("killed", ["killed"]), ("failed", ["wrong"]),
])  # fmt: skip
def test_the_list_is_filtered_by_state(browser, place, state, found):
    with seen(browser, place) as page:
        page.wait_for_selector(".runs li")
        page.get_by_label("State").select_option(state)
        assert names(page) == found
        assert row(page, found[0]).locator(".chip").text_content() == state


def test_the_list_is_filtered_by_search(browser, place):
    with seen(browser, place) as page:
        page.wait_for_selector(".runs li")
        field = page.get_by_label("Search", exact=True)
        assert field.locator("option").all_text_contents() == ["any search", "fk", "random", "zero-order"]
        for name, found in {"fk": ["wrong"], "random": ["old"], "zero-order": ["going", "killed", "mid"]}.items():
            field.select_option(name)
            assert names(page) == found
        page.reload()
        page.wait_for_selector(".runs li")
        assert names(page) == ["going", "killed", "mid"]
        page.get_by_label("State").select_option("failed")
        page.get_by_role("button", name="Show all").click()
        assert len(names(page)) == 5


def test_a_damaged_run_says_why_in_the_list_and_by_itself(browser, place):
    with seen(browser, place, but=["400"]) as page:
        bad = page.locator(".runs li", has_text="damaged")
        bad.wait_for()
        assert "run.json" in bad.locator(".wrong").text_content()
        assert faults(page) == []
        page.goto(f"{place}/run?name=bad")
        page.wait_for_selector("h2:has-text('This run cannot be read')")
        assert page.locator("main .wrong").text_content()
        assert faults(page) == []


def test_an_empty_list_says_how_to_begin(browser, tmp_path):
    (tmp_path / "runs").mkdir()
    with served(tmp_path / "runs") as (empty, _):
        for width in (WIDE, PHONE):
            with seen(browser, empty, width=width) as page:
                page.wait_for_selector("h2:has-text('No runs yet')")
                assert fits(page)
                assert faults(page) == []
                page.get_by_role("link", name="Start a run").click()
                page.wait_for_selector("form.start")


def test_a_server_that_does_not_answer_is_said_and_waited_for(browser, made, tmp_path):
    """In the list, on a run, in the queue, and where one goes meanwhile; all go on by themselves when it is back."""
    root, port = tmp_path / "runs", free_port()
    shutil.copytree(made, root / "first")
    with contextlib.ExitStack() as opened:
        address, process = opened.enter_context(served(root, "--port", port))
        page, run, queue, other = (opened.enter_context(seen(browser, address, path, but=["net::ERR"]))
                                   for path in ("/", "/run?name=first", "/queue", "/"))  # fmt: skip
        for one in (page, other):
            one.wait_for_selector(".runs li")
        run.wait_for_selector(".tile img")
        queue.wait_for_selector("h2:has-text('Nothing waits')")
        process.kill()
        process.wait()
        for one in (page, queue):
            one.get_by_text(LOST).wait_for()
            assert faults(one) == []
        run.wait_for_selector(".status:has-text('no connection, trying again')")
        run.get_by_role("button", name="Go on…").click()
        run.get_by_role("button", name="Go on", exact=True).click()
        run.locator("#told", has_text=LOST).wait_for()
        other.locator(".runs a.row").click()
        other.wait_for_selector("h2:has-text('The server does not answer')")
        copied(made, root / "second", prompt="second")
        with served(root, "--port", port):
            row(page, "second").wait_for()
            page.get_by_text(LOST).wait_for(state="hidden")
            queue.get_by_text(LOST).wait_for(state="hidden")
            run.wait_for_selector(".status:has-text('no connection')", state="detached")
            other.wait_for_selector(".tile img")


def test_pictures_say_the_prompt_and_the_score(browser, address):
    with seen(browser, address, "/run?name=first") as page:
        page.wait_for_selector(".tile img")
        shown = page.locator(".tile img, .slider img").evaluate_all("all => all.map(one => one.alt)")
        assert len(shown) == 11
        said = re.compile(r"a red circle and <b>two</b> blue stars, (seed \d+|[0-9a-f]{8}), brightness [\d.]+")
        assert all(map(said.fullmatch, shown)), shown
        page.locator(".tile").first.click()
        assert page.locator("dialog .stage img").get_attribute("alt") == shown[-9:][0]
