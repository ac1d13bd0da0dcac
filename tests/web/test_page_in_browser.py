"""The page in a real browser: a run is looked at, chosen from, and gone on with, on a screen and on a telephone."""

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest

from browser import PHONE, WIDE
from noisewright.run.reading import read_run
from seen import faults, fits, maker, seen
from serving import served

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from page import write_run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("width", [WIDE, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/run?name=first", "/run?name=first&part=lineage", "/run?name=first&part=choose",
                                  "/run?name=first&part=about", "/new", "/queue", "/evidence", "/run?name=gone"])
def test_every_part_is_shown_without_fault(browser, address, path, width, scheme):
    with seen(browser, address, path, width=width, scheme=scheme) as page:
        page.wait_for_selector("main h1, main h2")
        page.wait_for_function("() => !document.querySelector('main .loading')")
        assert fits(page)
        assert faults(page) == []
        if path == "/run?name=gone":
            page.noted.clear()  # the browser itself notes the 404


def test_the_list_leads_to_a_run_and_is_filtered_and_sorted(browser, address, folder):
    shutil.copytree(folder / "first", folder / "second")
    held = json.loads((folder / "second" / "run.json").read_text())
    held["spec"]["sampler"]["prompt"] = "<img src=x onerror=alert(1)> green square"
    (folder / "second" / "run.json").write_text(json.dumps(held))
    try:
        with seen(browser, address) as page:
            page.wait_for_function("() => document.querySelectorAll('.runs li').length === 2")
            assert page.locator(".runs img[src='x']").count() == 0
            page.fill("input[type=search]", "green")
            assert page.locator(".runs li").count() == 1
            page.fill("input[type=search]", "nothing like it")
            page.get_by_role("button", name="Show all").click()
            page.select_option("select[aria-label=Sort]", "prompt")
            assert "<img" in page.locator(".runs .prompt").first.text_content()
            page.locator(".runs a", has_text="red circle").click()
            page.wait_for_selector("h1:has-text('<b>two</b>')")
            assert "/run?name=first" in page.url
            page.go_back()
            page.wait_for_selector(".runs li")
    finally:
        shutil.rmtree(folder / "second")


def test_a_live_run_is_seen_growing_stopped_and_resumed(browser, address, folder, saved):
    process = maker(folder, saved, "live", 500)
    try:
        deadline = time.monotonic() + 60
        while not (folder / "live" / "run.json").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        with seen(browser, address, "/run?name=live") as page:
            page.wait_for_selector(".tile img")
            page.wait_for_selector(".chip.is-running")
            first = page.locator(".budget").text_content()
            page.wait_for_function("before => document.querySelector('.budget').textContent !== before", arg=first)
            page.get_by_role("button", name="Stop").click()
            page.wait_for_selector(".chip.is-interrupted")
            assert process.wait(60) == 130
            made = read_run(folder / "live")["summary"]["images"]
            assert 0 < made < 500
            page.get_by_role("button", name="Go on…").click()
            field = page.get_by_label("Budget of the whole run")
            field.fill(f"{made + 2} images")
            page.locator("dialog").get_by_role("button", name="Go on").click()
            page.wait_for_selector(".chip.is-done", timeout=120_000)
            assert read_run(folder / "live")["summary"]["images"] == made + 2
    finally:
        process.kill()
        shutil.rmtree(folder / "live", ignore_errors=True)


def test_candidates_are_sorted_filtered_starred_and_opened_by_keys(browser, address, folder):
    with seen(browser, address, "/run?name=first") as page:
        page.wait_for_selector(".tile img")
        scores = [float(one) for one in page.locator(".tile .caption b").all_text_contents()]
        assert len(scores) == 9
        page.locator(".tiles").focus()
        first = page.locator(".tile[aria-selected=true]").get_attribute("id")
        page.keyboard.press("ArrowRight")
        page.wait_for_function("id => document.querySelector('.tile[aria-selected=true]').id !== id", arg=first)
        page.keyboard.press("s")
        page.wait_for_selector(".tile[aria-selected=true][aria-label*=star]")
        page.get_by_label("Show").select_option("star")
        page.wait_for_function("() => document.querySelectorAll('.tile').length === 1")
        page.get_by_label("Show").select_option("all")
        page.get_by_label("Only scores of at least").fill(str(sorted(scores)[4]))
        page.wait_for_function("() => document.querySelectorAll('.tile').length < 9")
        page.get_by_label("Only scores of at least").fill("")
        page.locator(".tiles").focus()
        page.keyboard.press(" ")
        page.wait_for_selector("dialog .stage img")
        page.wait_for_selector("dialog summary:has-text('Go on from here')")
        title = page.locator("dialog h2").text_content()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("before => document.querySelector('dialog h2').textContent !== before", arg=title)
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="detached")
    assert (folder / "first" / "choices.jsonl").read_text().count("star") == 1


def test_the_slider_moves_by_hand_and_by_keys(browser, address):
    with seen(browser, address, "/run?name=first") as page:
        slider = page.locator(".slider input[type=range]")
        slider.wait_for()
        slider.focus()
        page.keyboard.press("End")
        assert page.locator(".slider").evaluate("one => one.style.getPropertyValue('--at')") == "100%"
        box = page.locator(".slider").bounding_box()
        page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
        at = float(page.locator(".slider").evaluate("one => parseFloat(one.style.getPropertyValue('--at'))"))
        assert 15 < at < 35


def test_two_are_compared_and_pairs_become_a_verifier(browser, address, folder):
    with seen(browser, address, "/run?name=first") as page:
        page.wait_for_selector(".tile img")
        page.locator(".tiles").focus()
        page.keyboard.press("c")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("c")
        page.get_by_role("button", name="Compare 2").click()
        page.wait_for_selector(".side-by-side figure >> nth=1")
        page.keyboard.press("Escape")
        page.get_by_role("tab", name="Choose").click()
        for count, key in enumerate(("ArrowLeft", "ArrowRight", " ", "ArrowLeft"), start=1):
            page.wait_for_selector(".sides img >> nth=1")
            page.keyboard.press(key)
            page.wait_for_selector(f".opinions h2:has-text('{count} choice')")
        page.wait_for_selector(".rates li")
        page.get_by_role("tab", name="Candidates").click()
        page.get_by_label("Sort by").select_option("human")
        page.wait_for_selector(".tile img")
    assert (folder / "first" / "choices.jsonl").read_text().count("choice") == 4


def test_lineage_shows_pictures_and_leads_to_candidates(browser, address):
    with seen(browser, address, "/run?name=first&part=lineage") as page:
        page.wait_for_selector(".node.best")
        assert page.locator("svg .node").count() == 9
        page.locator("svg .node").last.hover()
        page.wait_for_selector(".hovercard img", state="visible")
        page.locator(".node.best").click()
        page.wait_for_selector("dialog .chip.is-best")


def test_a_run_is_started_from_the_form(browser, address, folder):
    with seen(browser, address, "/new") as page:
        page.get_by_label("prompt", exact=True).fill("two red circles")
        page.get_by_label("budget", exact=True).fill("2 images")
        page.get_by_label("steps", exact=True).fill("2")
        page.get_by_role("button", name="Start").click()
        page.wait_for_url("**/run?name=*two-red-circles*")
        page.wait_for_selector(".chip.is-done", timeout=240_000)
        page.wait_for_selector(".tile img")
        page.noted.clear()  # until it begins there is no run, which the browser notes
    found = [one for one in os.listdir(folder) if one.endswith("two-red-circles")]
    assert read_run(folder / found[0])["summary"]["images"] == 2


def test_a_run_that_vanishes_says_so(browser, address, folder):
    shutil.copytree(folder / "first", folder / "soon-gone")
    with seen(browser, address, "/run?name=soon-gone") as page:
        page.wait_for_selector(".tile img")
        shutil.rmtree(folder / "soon-gone")
        page.wait_for_selector("h2:has-text('This run is gone')")
        page.noted.clear()


def test_ten_thousand_candidates_stay_few_elements(browser, address, folder, many):
    shutil.copytree(many, folder / "many", dirs_exist_ok=True)
    try:
        with seen(browser, address, "/run?name=many") as page:
            page.wait_for_selector(".tile", timeout=120_000)
            count = "() => document.querySelector('.gallery [role=status]').textContent"
            page.wait_for_function(f"{count}.includes('10,000')", timeout=120_000)
            for _ in range(5):
                page.evaluate("() => scrollBy(0, 40000)")
                page.wait_for_timeout(50)
                assert page.locator(".tile").count() < 200
            page.get_by_label("Sort by").select_option("order")
            assert page.locator(".tile").count() < 200
            page.noted.clear()  # its pictures are not there
    finally:
        shutil.rmtree(folder / "many")


@pytest.fixture(scope="module")
def many(made, tmp_path_factory):
    """A run whose journal speaks of ten thousand candidates; their pictures are not there."""
    return write_run(made, tmp_path_factory.mktemp("many") / "many", 10_000, pictures=False)


def test_with_a_token_the_door_is_passed_once(browser, runs):
    token = "a-long-enough-token"
    with served(runs, "--token", token) as (address, _):
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{address}/run?name=first")
        page.wait_for_url(re.compile(r"/login\?to=%2Frun|/login\?to=/run"))
        page.get_by_label("Token").fill("another-token-of-16")
        page.get_by_role("button", name="Open").click()
        page.wait_for_selector("#wrong:not(:empty)")
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Open").click()
        page.wait_for_selector("h1:has-text('two')")
        assert page.url == f"{address}/run?name=first"  # where one wanted to go
        assert page.evaluate("() => document.cookie") == ""
        for elsewhere in ("//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"):
            page.goto(f"{address}/login?{urlencode({'to': elsewhere})}")
            page.get_by_label("Token").fill(token)
            page.get_by_role("button", name="Open").click()
            page.wait_for_url(f"{address}/**")
            page.wait_for_function("() => location.pathname !== '/login'")
            assert page.url.startswith(f"{address}/")
        context.close()


def test_the_page_s_own_weight():
    import noisewright.web.pages as pages

    assert sum(len(one.data) for one in pages.own_files().values()) < 150_000


