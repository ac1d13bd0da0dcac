"""The tree of a search in a browser: what came of what is seen, and read out, by mouse and by keys."""

import shutil

import pytest

import noisewright as nw
from browser import PHONE
from noisewright.run.reading import read_run
from seen import faults, fits, seen

pytestmark = pytest.mark.slow

FK = {"search": "fk", "search_args": {"particles": 4}, "solver": "ddim", "eta": 1.0, "budget": "5 images"}
DRAFTS = {"search": "zero-order", "search_args": {"neighbours": 3}, "draft": "truncate,at=0.5,pilot=0",
          "budget": "20 images"}  # fmt: skip
TREES = {"first": None, "fk": FK, "drafts": DRAFTS}


@pytest.fixture(scope="module")
def trees(folder, saved):
    for name, asked in TREES.items():
        if asked is not None:
            nw.search(str(saved), "any", verifier="brightness", judge=[], num_inference_steps=4, out=folder / name,
                      progress=False, **asked)  # fmt: skip
    return folder


def tree_of(page, name):
    return page.request.get(f"{page.url.partition('/run?')[0]}/api/lineage?run={name}").json()


def shown(page):
    """What the card beside a node says, once its picture is there."""
    page.wait_for_selector(".hovercard", state="visible")
    page.wait_for_function("() => { const one = document.querySelector('.hovercard img'); return !one || "
                           "one.naturalWidth; }")  # fmt: skip
    return page.locator(".hovercard").text_content(), page.locator(".hovercard img").get_attribute("src")


@pytest.mark.parametrize("name", TREES)
def test_each_draw_is_a_node_whose_picture_is_seen(browser, address, trees, name):
    with seen(browser, address, f"/run?name={name}&part=lineage") as page:
        page.wait_for_selector(".node.best")
        nodes = tree_of(page, name)["nodes"]
        assert len(nodes) > 3
        assert page.locator("svg .node").count() == len(nodes)
        assert page.locator("svg .edges path").count() == sum(len(one["parents"]) for one in nodes)
        assert page.locator("svg .edges .way").count() == sum(one["last"] and bool(one["parents"]) for one in nodes)
        made = [one for one in nodes if one["candidate"]]
        assert page.locator("svg .node[role=button]").count() == len(made)
        assert page.locator("svg .node.best").count() == page.locator("svg .node.base").count() == 1
        assert page.locator("svg .node.cut").count() == len(nodes) - len(made)
        for number in (0, len(nodes) - 1):
            node = page.locator("svg .node").nth(number)
            node.scroll_into_view_if_needed()
            node.hover()
            text, picture = shown(page)
            one = nodes[number]
            assert (one["candidate"] or one["preview"]["id"]) in picture
            assert all(part in text for part in node.get_attribute("aria-label").split(", "))
            page.mouse.move(0, 0)
            page.wait_for_selector(".hovercard", state="hidden")
        assert faults(page) == []


@pytest.mark.parametrize("name", TREES)
def test_arrows_go_through_the_tree_and_open_what_they_are_on(browser, address, trees, name):
    """From the best, where Tab leads, to what it came of, and from the first to what came of it."""
    with seen(browser, address, f"/run?name={name}&part=lineage") as page:
        page.wait_for_selector(".node.best")
        nodes = tree_of(page, name)["nodes"]
        at = next(number for number, one in enumerate(nodes) if one["best"])
        page.locator(".lineage .scroll").focus()
        page.keyboard.press("Tab")
        assert focused(page) == at
        while nodes[at]["parents"]:
            page.keyboard.press("ArrowLeft")
            at = nodes[at]["parents"][0]
            assert focused(page) == at
            assert (nodes[at]["candidate"] or nodes[at]["preview"]["id"]) in shown(page)[1]
        page.keyboard.press("ArrowLeft")
        assert focused(page) == at
        page.keyboard.press("ArrowRight")
        assert nodes[focused(page)]["parents"][0] == at
        page.keyboard.press("End")
        assert focused(page) == len(nodes) - 1
        page.keyboard.press("Home")
        column = sorted((one["y"], number) for number, one in enumerate(nodes) if one["x"] == nodes[0]["x"])
        for _, number in column[[number for _, number in column].index(0) + 1 :]:
            page.keyboard.press("ArrowDown")
            assert focused(page) == number
        page.keyboard.press("Shift+Tab")  # the tree is one stop
        assert focused(page) is None
        for number, key in ((next(n for n, one in enumerate(nodes) if one["candidate"]), "Enter"), (at, " ")):
            page.locator("svg .node").nth(number).focus()
            page.keyboard.press(key)
            if not nodes[number]["candidate"]:
                assert page.locator("dialog").count() == 0
                continue
            page.wait_for_selector("dialog .stage img")
            assert nodes[number]["candidate"] in page.locator("dialog .stage img").get_attribute("src")
            page.keyboard.press("Escape")
            page.wait_for_selector("dialog", state="detached")
            assert focused(page) == number


def focused(page):
    """Which node has the keys; None of the tree's."""
    found = page.evaluate("() => [...document.querySelectorAll('svg .node')].indexOf(document.activeElement)")
    return None if found < 0 else found


def test_arrows_go_through_what_is_no_tree(browser, address, trees, saved):
    nw.search(str(saved), "any", verifier="brightness", judge=[], num_inference_steps=2, out=trees / "flat",
              search="random", budget="30 images", progress=False)  # fmt: skip
    with seen(browser, address, "/run?name=flat&part=lineage") as page:
        page.wait_for_selector(".node.best")
        assert page.locator("svg .node[tabindex='0']").count() == 1
        page.locator(".node.best").focus()
        page.keyboard.press("Home")
        seen_at = []
        for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowUp"):
            page.keyboard.press(key)
            seen_at.append(focused(page))
        assert seen_at == [1, 2, 26, 25, 1, 1]


def test_of_a_search_with_drafts_the_best_is_the_full_image(browser, address, trees):
    with seen(browser, address, "/run?name=drafts&part=lineage") as page:
        page.locator(".node.best").click()
        page.wait_for_selector("dialog .chip.is-best")
        best = read_run(trees / "drafts")["summary"]["best"]["id"]
        assert best in page.locator("dialog .stage img").get_attribute("src")
        assert "a draft of" not in page.locator("dialog .facts").text_content()
        page.keyboard.press("Escape")
        drafts = [one for one in page.request.get(f"{address}/api/run?run=drafts").json()["rows"] if one[8]]
        drawn = {one["candidate"] for one in tree_of(page, "drafts")["nodes"]}
        assert drafts
        alone = page.locator("svg .node[role=button]:not(.best, .base)").first
        alone.click()
        page.wait_for_selector("dialog .facts")
        assert "a draft of" in page.locator("dialog .facts").text_content()
        assert {one[0] for one in drafts} & drawn


def test_a_tap_on_a_telephone_opens_a_candidate(browser, address, trees):
    with seen(browser, address, "/run?name=fk&part=lineage", width=PHONE) as page:
        page.wait_for_selector(".node.best")
        assert fits(page)
        page.locator(".node.best").click()
        page.wait_for_selector("dialog .chip.is-best")
        assert fits(page)


def test_a_tree_that_grew_is_drawn_anew_when_one_says_so(browser, address, trees, made):
    """A picture under the pointer does not jump; what is new is one press away."""
    shutil.copytree(made, trees / "growing")
    lines = (made / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (trees / "growing" / "journal.jsonl").write_bytes(b"".join(lines[:4]))
    with seen(browser, address, "/run?name=growing&part=lineage") as page:
        page.wait_for_selector(".node")
        before = page.locator("svg .node").count()
        assert before < 9
        with (trees / "growing" / "journal.jsonl").open("ab") as file:
            file.write(b"".join(lines[4:]))
        page.get_by_role("button", name="Draw anew").click()
        page.wait_for_function("() => document.querySelectorAll('svg .node').length === 9")
        assert page.get_by_role("button", name="Draw anew").count() == 0
