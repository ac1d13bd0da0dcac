"""The page at 390 pixels and with keys alone: windows over it, what is said over them, and nobody kept out."""

import pytest

from browser import PHONE, WIDE
from noisewright.run.reading import read_run
from noisewright.web.choices import read_choices
from seen import LONG_MS, faults, fits, seen, told

pytestmark = pytest.mark.slow


def opened(page, which=".tile"):
    """A candidate."""
    page.wait_for_selector(".tile img")
    page.locator(which).first.click()
    page.wait_for_selector("dialog summary:has-text('Go on from here')")
    return page.locator("dialog")


@pytest.mark.parametrize("width", [WIDE, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_windows_over_the_page_keep_nobody_out(browser, address, width, scheme):
    with seen(browser, address, "/run?name=first", width=width, scheme=scheme) as page:
        page.get_by_label("Sort by").select_option("order")
        dialog = opened(page, ".tile.base")
        dialog.locator("summary", has_text="Plain diffusers").click()
        assert faults(page) == []
        assert fits(page)
        assert dialog.evaluate("one => one.scrollWidth <= one.clientWidth")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Go on…").click()
        page.wait_for_selector("dialog option", state="attached")
        assert faults(page) == []
        assert page.locator("dialog").evaluate("one => one.scrollWidth <= one.clientWidth")
        page.get_by_role("button", name="Close").click()
        page.get_by_role("button", name="Side by side").click()
        page.wait_for_selector(".side-by-side figure >> nth=1")
        assert faults(page) == []
        assert fits(page)


def test_a_candidate_is_opened_and_starred_on_a_telephone(browser, address, folder):
    with seen(browser, address, "/run?name=first", width=PHONE) as page:
        dialog = opened(page)
        box = dialog.bounding_box()
        assert (box["x"], box["width"]) == (0, PHONE)  # all of it
        star = dialog.get_by_role("button", name="Star")
        assert star.bounding_box()["height"] >= 24  # WCAG 2.2, 2.5.8
        star.click()
        dialog.locator("button[aria-pressed=true]", has_text="Star").wait_for()
        key = page.locator(".tile[aria-selected=true]").get_attribute("id").removeprefix("tile-")
        dialog.get_by_role("button", name="The next").click()
        dialog.locator("button[aria-pressed=false]", has_text="Star").wait_for()
        page.get_by_role("button", name="Close").click()
        page.wait_for_selector(f"#tile-{key} .marks:has-text('★')")
    assert read_choices(folder / "first").marks == {key: ("star",)}


def test_candidates_are_compared_on_a_telephone(browser, address):
    with seen(browser, address, "/run?name=first", width=PHONE) as page:
        page.wait_for_selector(".tile img")
        for order, which in {"order": ".tile.base", "v0": ".tile.best"}.items():
            page.get_by_label("Sort by").select_option(order)
            dialog = opened(page, which)
            dialog.get_by_role("button", name="Compare").click()
            told(page, "of those to be compared")
            page.get_by_role("button", name="Close").click()
        page.get_by_role("button", name="Compare 2").click()
        page.wait_for_selector(".side-by-side figure >> nth=1")
        assert fits(page)


@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_what_is_said_is_seen_over_what_is_open(browser, address, width):
    """Also what failed, which is said at once to who does not see it."""
    with seen(browser, address, "/run?name=first", width=width, but=["400"]) as page:
        dialog = opened(page)
        dialog.get_by_role("button", name="Copy replay").click()
        told(page, "Replay copied")
        assert page.locator("#told").get_attribute("role") == "status"
        dialog.get_by_label("Budget").fill("nothing")
        dialog.get_by_role("button", name="More like this").click()
        told(page, "nothing")
        assert page.locator("#told").get_attribute("role") == "alert"
        assert faults(page) == []
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="detached")
        told(page, "nothing")  # it stays when what it stood over is closed
        page.get_by_role("button", name="Go on…").click()
        page.get_by_label("Budget of the whole run").fill("quite a lot")
        page.locator("dialog").get_by_role("button", name="Go on", exact=True).click()
        told(page, "quite a lot")


def test_a_run_is_started_on_a_telephone(browser, address, folder):
    with seen(browser, address, width=PHONE, but=["404"]) as page:
        page.get_by_role("link", name="New run").click()
        page.get_by_label("prompt", exact=True).fill("two red circles")
        page.get_by_label("budget", exact=True).fill("2 images")
        page.get_by_label("steps", exact=True).fill("2")
        assert fits(page)
        page.get_by_role("button", name="Start").click()
        page.wait_for_url("**/run?name=*two-red-circles*")
        page.wait_for_selector(".chip.is-done", timeout=LONG_MS)
        page.wait_for_selector(".tile img")
        assert fits(page)
        name = page.evaluate("() => new URL(location).searchParams.get('name')")
    assert read_run(folder / name)["summary"]["images"] == 2


def test_a_pair_is_chosen_by_a_tap(browser, address, folder):
    with seen(browser, address, "/run?name=first&part=choose", width=PHONE) as page:
        page.wait_for_selector(".sides img >> nth=1")
        page.get_by_role("button", name="The left one is better").click()
        told(page, "1 choice so far")
        page.wait_for_selector(".opinions h2:has-text('1 choice')")
        assert fits(page)
        assert faults(page) == []
    assert len(read_choices(folder / "first").votes) == 1
