"""Choosing in a browser: marks that stay, candidates beside and over each other, blind pairs, and what they become."""

import json
import shutil

import pytest

import noisewright as nw
from commands import done
from noisewright.run.reading import read_run
from noisewright.web.choices import read_choices
from seen import faults, seen, told, until

pytestmark = pytest.mark.slow


@pytest.fixture
def run(folder, made):
    """A run of the server's that nobody has chosen from."""
    shutil.copytree(made, folder / "mine")
    yield folder / "mine"
    shutil.rmtree(folder / "mine")


def begun(page):
    """Candidates with the first of them chosen by keys."""
    page.wait_for_selector(".tile img")
    page.locator(".tiles").focus()
    page.wait_for_selector(".tile[aria-selected=true]")


def put_beside(page, count):
    """Take so many candidates to be compared, by keys."""
    begun(page)
    for _ in range(count):
        page.keyboard.press("c")
        page.keyboard.press("ArrowRight")


def selected(page):
    return page.locator(".tile[aria-selected=true]").get_attribute("id").removeprefix("tile-")


def shown_ids(page):
    return {one.removeprefix("tile-") for one in page.locator(".tile").evaluate_all("all => all.map(one => one.id)")}


def test_pins_stars_and_rejections_stand_after_a_reload(browser, address, run):
    with seen(browser, address, "/run?name=mine") as page:
        begun(page)
        found = {}
        for key, name in {"p": "pin", "x": "reject", "s": "star"}.items():
            page.keyboard.press(key)
            page.wait_for_selector(f".tile[aria-selected=true][aria-label*={name}]")
            found[selected(page)] = (name,)
            page.keyboard.press("ArrowRight")
        page.keyboard.press(" ")
        dialog = page.locator("dialog")
        dialog.wait_for()
        last = dialog.locator(".stage img").evaluate("one => new URL(one.src).searchParams.get('id')")
        for name in ("Pin", "Reject", "Reject"):  # the second takes back the first
            before = dialog.get_by_role("button", name=name).get_attribute("aria-pressed")
            dialog.get_by_role("button", name=name).click()
            now = "false" if before == "true" else "true"
            dialog.locator(f"button[aria-pressed={now}]", has_text=name).wait_for()
        found[last] = ("pin",)
        page.reload()
        begun(page)
        for shown, name in {"pin": "pin", "reject": "reject", "star": "star"}.items():
            page.get_by_label("Show").select_option(shown)
            wanted = {key for key, names in found.items() if name in names}
            until(lambda wanted=wanted: shown_ids(page) == wanted)
        page.get_by_label("Show").select_option("kept")
        page.wait_for_function("() => document.querySelectorAll('.tile').length === 8")
        assert faults(page) == []
    assert read_choices(run).marks == found
    lines = [json.loads(one) for one in (run / "choices.jsonl").read_text().splitlines()]
    assert [(one["mark"], one["on"]) for one in lines] == [
        ("pin", True), ("reject", True), ("star", True), ("pin", True), ("reject", True), ("reject", False),
    ]  # fmt: skip
    assert len(list((run / "images").iterdir())) == 9  # nothing is ever deleted


@pytest.mark.parametrize("count", [2, 3, 4])
def test_two_to_four_are_seen_beside_each_other(browser, address, run, count):
    with seen(browser, address, "/run?name=mine") as page:
        put_beside(page, count)
        page.get_by_role("button", name=f"Compare {count}").click()
        page.wait_for_selector(f".side-by-side figure >> nth={count - 1}")
        pictures = page.locator(".side-by-side img").evaluate_all("all => all.map(one => one.src)")
        assert len(set(pictures)) == count
        tops = page.locator(".side-by-side figure").evaluate_all(
            "all => all.map(one => Math.round(one.getBoundingClientRect().top))"
        )
        assert len(set(tops)) == 1
        heads = page.locator("dialog table.scores thead th").all_text_contents()
        assert heads[1:] == [*page.locator("figcaption", has_text="").all_text_contents()[-count:],
                             *(["change"] if count == 2 else [])]  # fmt: skip
        assert page.locator("dialog .scores tbody tr", has_text="brightness").locator("td").count() == len(heads) - 1
        assert page.get_by_role("button", name="Over each other").count() == (count == 2)
        assert faults(page) == []


def test_two_are_seen_over_each_other(browser, address, run):
    with seen(browser, address, "/run?name=mine") as page:
        put_beside(page, 2)
        page.get_by_role("button", name="Compare 2").click()
        over = page.get_by_role("button", name="Over each other")
        over.click()
        slider = page.locator("dialog .slider")
        slider.wait_for()
        assert over.get_attribute("aria-pressed") == "true"
        slider.locator("input").focus()
        page.keyboard.press("Home")
        assert slider.evaluate("one => one.style.getPropertyValue('--at')") == "0%"
        page.keyboard.press("ArrowRight")
        assert slider.locator("input").get_attribute("aria-valuetext").startswith("1 % ")
        assert len(set(slider.locator("img").evaluate_all("all => all.map(one => one.src)"))) == 2
        assert faults(page) == []
        over.click()
        page.wait_for_selector(".side-by-side figure >> nth=1")


def test_a_fifth_is_refused_and_one_can_be_taken_out(browser, address, run):
    with seen(browser, address, "/run?name=mine") as page:
        put_beside(page, 5)
        told(page, "Up to 4 are compared at once")
        tray = page.get_by_role("region", name="To be compared")
        tray.get_by_role("button", name="Take").first.click()
        page.get_by_role("button", name="Compare 3").wait_for()
        tray.get_by_role("button", name="Clear").click()
        tray.wait_for(state="hidden")


def test_another_pair_is_another_one_and_no_choice(browser, address, run):
    with seen(browser, address, "/run?name=mine&part=choose") as page:
        pairs = []
        for _ in range(4):
            page.wait_for_selector(".sides img >> nth=1")
            page.wait_for_function(
                "before => [...document.querySelectorAll('.sides img')].map(one => one.src).sort().join() !== before",
                arg=pairs[-1] if pairs else "",
            )
            pairs.append(page.evaluate("() => [...document.querySelectorAll('.sides img')].map(one => one.src).sort()"
                                       ".join()"))  # fmt: skip
            page.get_by_role("button", name="another pair").click()
        assert len(set(pairs)) == 4
        for alt in page.locator(".sides img").evaluate_all("all => all.map(one => one.alt)"):
            assert alt == "one of the two"  # neither seed nor score is told
    assert not (run / "choices.jsonl").exists()


def test_after_choices_it_is_said_what_they_say(browser, address, run):
    with seen(browser, address, "/run?name=mine&part=choose") as page:
        for count, key in enumerate(("ArrowLeft", "ArrowRight", " ", "ArrowLeft", "ArrowLeft"), start=1):
            page.wait_for_selector(".sides img >> nth=1")
            page.keyboard.press(key)
            page.wait_for_selector(f".opinions h2:has-text('{count} choice')")
        assert {one.text_content() for one in page.locator(".rates .name").all()} <= {"brightness", "sharpness"}
        assert faults(page) == []
        page.locator(".strengths button.thumb").first.click()
        page.wait_for_selector("dialog .scores th:has-text('human:mine')")
        assert faults(page) == []


def test_what_was_chosen_is_a_verifier_on_the_command_line(browser, address, folder, saved, tmp_path, capsys):
    """Of images that are there, and of a search whose images are the same."""
    words = ["generate", "two stars", "--model", saved, "--search", "random", "--budget", "6 images", "--steps", "2",
             "--judge", "none"]  # fmt: skip
    nw.search(str(saved), "two stars", verifier="brightness", judge=[], search="random", budget="6 images",
              num_inference_steps=2, out=folder / "chosen", progress=False)  # fmt: skip
    with seen(browser, address, "/run?name=chosen&part=choose") as page:
        for count in range(1, 16):  # each with each other, so that all have a strength
            page.wait_for_selector(".sides img >> nth=1")
            page.keyboard.press("ArrowLeft")
            page.wait_for_selector(f".opinions h2:has-text('{count} choice')")
        human = page.request.get(f"{address}/api/choices?run=chosen").json()["human"]
    assert len(human) == 6
    files = sorted((folder / "chosen" / "images").iterdir())
    verifier = f"human:{folder / 'chosen'}"
    scored = json.loads(done(capsys, ["score", *files, "--verifier", verifier, "--prompt", "any", "--json"]))
    by_file = {str(one["file"]).rpartition("/")[2].removesuffix(".png"): next(iter(one["scores"].values()))
               for one in scored["images"]}  # fmt: skip
    assert by_file == {key: pytest.approx(one[0]) for key, one in human.items()}
    done(capsys, [*words, "--verifier", verifier, "--out", tmp_path / "again"])
    best = read_run(tmp_path / "again")["summary"]["best"]
    assert best["id"] == max(human, key=lambda key: human[key][0])
    assert next(iter(best["scores"].values())) == pytest.approx(max(one[0] for one in human.values()))
