"""Candidates in a browser: what is copied and downloaded, how they are sorted, the curve, previews, and a dead run."""

import json

import pytest
from PIL import Image

import noisewright as nw
from noisewright.images.metadata import read_recipe
from noisewright.run.reading import read_journal, read_run
from seen import LONG_MS, copied, faults, maker, seen, told, until

pytestmark = pytest.mark.slow

CLIPBOARD = ("clipboard-read", "clipboard-write")


@pytest.fixture(scope="module")
def several(folder, saved, address):
    """A run with seeds and two verifiers, every image of which a judge has scored."""
    nw.search(str(saved), "two stars", verifier=["brightness", "sharpness"], judge="color:#ff0000", search="random",
              budget="7 images", num_inference_steps=2, out=folder / "several", progress=False)  # fmt: skip
    return folder / "several"


def tiles(page):
    """The candidates as they are shown, by id: as they stand, first to last."""
    place = "one => { const at = new DOMMatrix(getComputedStyle(one).transform); return [at.f, at.e, one.id]; }"
    found = page.locator(".tile").evaluate_all(f"all => all.map({place})")
    return [key.removeprefix("tile-") for _, _, key in sorted(found)]


def opened(page, key):
    page.wait_for_selector(".tile img")
    page.locator(f"#tile-{key}").click()
    page.wait_for_selector("dialog summary:has-text('Go on from here')")
    return page.locator("dialog")


def asked(page, key, run="first"):
    return page.request.get(f"{page.url.partition('/run?')[0]}/api/candidate?run={run}&id={key}").json()


def test_what_is_copied_is_in_the_clipboard(browser, address, folder):
    base = read_run(folder / "first")["summary"]["baseline"]["id"]
    with seen(browser, address, "/run?name=first", permissions=CLIPBOARD) as page:
        dialog, found = opened(page, base), asked(page, base)
        for button, meant in {"Copy seed": "0", "Copy plain diffusers": found["diffusers"],
                              "Copy command": found["command"], "Copy replay": found["replay"]}.items():  # fmt: skip
            dialog.get_by_role("button", name=button).click()
            told(page, "copied")
            until(lambda meant=meant: page.evaluate("() => navigator.clipboard.readText()") == meant)
        assert found["how"].replace(" -> ", " → ") in dialog.locator(".facts").text_content()
        dialog.locator("summary", has_text="Plain diffusers").click()
        assert dialog.locator("pre").text_content() == found["diffusers"]
        page.keyboard.press("Escape")
        page.locator(".tiles").focus()
        page.locator(f"#tile-{base}[aria-selected=true]").wait_for()
        page.evaluate("() => navigator.clipboard.writeText('')")
        page.keyboard.press("y")
        told(page, "Seed copied")
        until(lambda: page.evaluate("() => navigator.clipboard.readText()") == "0")
        page.get_by_role("tab", name="About").click()
        page.get_by_role("button", name="Copy command").click()
        until(lambda: page.evaluate("() => navigator.clipboard.readText()") == found["command"])


def test_without_leave_to_use_the_clipboard_it_is_copied_too(browser, address, folder):
    base = read_run(folder / "first")["summary"]["baseline"]["id"]
    with seen(browser, address, "/run?name=first") as page:
        page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
        page.evaluate("() => document.addEventListener('copy', () => { window.taken = getSelection().toString() || "
                      "document.activeElement.value; })")  # fmt: skip
        opened(page, base).get_by_role("button", name="Copy replay").click()
        told(page, "Replay copied")
        assert page.evaluate("() => window.taken") == f"noisewright replay first:{base}"


@pytest.mark.parametrize("where", ["the candidate", "the best"])
def test_a_download_is_the_file_with_all_that_it_says_of_itself(browser, address, folder, tmp_path, where):
    best = read_run(folder / "first")["summary"]["best"]["id"]
    with seen(browser, address, "/run?name=first") as page:
        place = opened(page, best) if where == "the candidate" else page.locator(".pairing")
        with page.expect_download() as begun:
            place.get_by_role("link", name="Download").click()
        assert begun.value.suggested_filename == f"{best}.png"
        begun.value.save_as(tmp_path / "saved.png")
    assert (tmp_path / "saved.png").read_bytes() == (folder / "first" / "images" / f"{best}.png").read_bytes()
    recipe = read_recipe(tmp_path / "saved.png")[1]
    assert recipe["lineage"][-1]["id"] == best


def test_the_curve_is_against_images_or_seconds(browser, address):
    with seen(browser, address, "/run?name=first") as page:
        page.wait_for_selector("svg.curve .dot")
        ways = {}
        for name in ("images", "seconds"):
            page.get_by_role("group", name="Against").get_by_role("button", name=name).click()
            assert page.get_by_role("button", name=name, exact=True).get_attribute("aria-pressed") == "true"
            assert page.locator("svg.curve text.faint").text_content() == name
            assert f"against {name}" in page.locator("svg.curve title").first.text_content()
            ways[name] = page.locator("svg.curve .best").get_attribute("d")
        assert ways["images"] != ways["seconds"]
        points = page.request.get(f"{address}/api/run?run=first").json()["curve"]
        assert page.locator("svg.curve .dot").count() == len(points) > 1
        at = page.locator("svg.curve .dot").evaluate_all("all => all.map(one => Number(one.getAttribute('cx')))")
        seconds = [one[2] for one in points]
        for n in range(1, len(at)):  # as far apart as they are in seconds
            assert (at[n] - at[0]) / (at[-1] - at[0]) == pytest.approx(
                (seconds[n] - seconds[0]) / (seconds[-1] - seconds[0]), abs=0.01)  # fmt: skip
        page.locator("svg.curve .dot").last.click()
        page.wait_for_selector("dialog .chip.is-best")


def test_candidates_are_sorted_by_each_column_by_order_and_by_seed(browser, address, several):
    with seen(browser, address, "/run?name=several") as page:
        page.wait_for_selector(".tile img")
        found = page.request.get(f"{address}/api/run?run=several").json()
        rows = {row[0]: row for row in found["rows"]}
        values = dict(zip(rows, found["values"], strict=True))
        judge = next(name for name in found["head"]["judges"])
        judged = {key: one[judge] for key, one in found["judged"].items()}
        assert 0 < len(judged) < 7  # the best and the baseline
        orders = {
            "value": lambda key: -values[key], "v0": lambda key: -rows[key][7][0], "v1": lambda key: -rows[key][7][1],
            f"j{judge}": lambda key: -judged.get(key, -1e9), "order": lambda key: list(rows).index(key),
            "seed": lambda key: rows[key][1],
        }  # fmt: skip
        field = page.get_by_label("Sort by")
        assert set(field.locator("option").evaluate_all("all => all.map(one => one.value)")) == set(orders)
        for key, order in orders.items():
            field.select_option(key)
            until(lambda order=order: tiles(page) == sorted(rows, key=order))
        page.get_by_role("button", name="Turn the order around").click()
        until(lambda: tiles(page) == sorted(rows, key=orders["seed"], reverse=True))


def test_previews_of_what_is_not_finished_are_shown_by_themselves(browser, address, folder, saved):
    nw.search(str(saved), "any", verifier="brightness", judge=[], search="halving", budget="120 nfe",
              num_inference_steps=6, out=folder / "halving", progress=False)  # fmt: skip
    with seen(browser, address, "/run?name=halving") as page:
        page.wait_for_selector(".tile img")
        previews = page.request.get(f"{address}/api/run?run=halving").json()["previews"]
        page.get_by_label("Show").select_option("unfinished")
        page.wait_for_selector(".tile .caption:has-text('step')")
        assert tiles(page) == [one[0] for one in sorted(previews, key=lambda one: -one[3][0])]
        page.wait_for_function("() => [...document.querySelectorAll('.tile img')].every(one => one.naturalWidth)")
        assert page.locator(".gallery [role=status]").text_content() == f"{len(previews)} previews"
        assert "preview at step" in page.locator(".tile img").first.get_attribute("alt")
        page.locator(".tile").first.click()
        page.wait_for_selector("dialog .stage img")
        assert "not finished" in page.locator("dialog .facts").text_content()
        assert page.locator("dialog").get_by_role("button", name="Star").count() == 0
        assert faults(page) == []
        with Image.open(folder / "halving" / "previews" / f"{tiles(page)[0]}.jpg") as held:
            assert page.locator("dialog .stage img").evaluate("one => one.naturalWidth") == held.width


def test_a_run_whose_process_was_killed_is_said_to_be_and_goes_on(browser, address, folder, saved):
    process = maker(folder, saved, "dead", 500)
    until(lambda: (folder / "dead" / "journal.jsonl").exists() and len(read_journal(folder / "dead")) > 4, 60)
    process.kill()
    process.wait()
    with seen(browser, address, "/run?name=dead") as page:
        page.wait_for_selector(".chip.is-killed")
        page.wait_for_selector(".tile img")
        made = page.request.get(f"{address}/api/run?run=dead").json()["head"]["spent"]["images"]
        assert page.get_by_role("button", name="Stop").count() == 0
        page.get_by_role("button", name="Go on…").click()
        dialog = page.locator("dialog")
        assert dialog.locator("h3").first.text_content() == "Continue"
        assert dialog.get_by_label("Budget of the whole run").input_value() == "500 images"
        dialog.get_by_label("Budget of the whole run").fill(f"{made + 2} images")
        dialog.get_by_role("button", name="Go on", exact=True).click()
        page.wait_for_selector(".chip.is-done", timeout=LONG_MS)
    assert read_run(folder / "dead")["summary"]["images"] == made + 2


def test_a_run_that_cannot_go_on_says_why(browser, address, folder, made):
    """Its model is not one that this server was started with."""
    copied(made, folder / "moved")
    held = json.loads((folder / "moved" / "run.json").read_text())
    held["request"]["model"] = held["spec"]["sampler"]["model"] = "someone/else"
    (folder / "moved" / "run.json").write_text(json.dumps(held))
    with seen(browser, address, "/run?name=moved", but=["400"]) as page:
        page.get_by_role("button", name="Go on…").click()
        page.locator("dialog").get_by_role("button", name="Go on", exact=True).click()
        told(page, "someone/else")
        assert page.locator("#told").get_attribute("role") == "alert"
