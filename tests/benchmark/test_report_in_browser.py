"""The report in a real browser: no error, no request, sorted by a click, readable in light, dark and small."""

import pytest

from benchmark import reports
from browser import CONTRASTS, PHONE, SVG_TEXTS, WIDE, opened, overlapping

MADE = {
    "curves": lambda root: reports.curves(root, failed=2),
    "hostile": reports.hostile,
    "many": reports.many,
    "pictures": lambda root: reports.pictures(root, 3, 2, 2),
    "row of pictures": lambda root: reports.pictures(root, 3, prompts=3),
}

TEXT, GRAPHIC = 4.5, 3.0
"""Contrasts that WCAG 2.2 asks of texts (1.4.3) and of graphics (1.4.11)."""

FAINT = 1.1
"""Contrast of what must only be there: grid lines behind a plot."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The reports by name."""
    folder = tmp_path_factory.mktemp("reports")
    return {name: reports.report(made(folder / name.replace(" ", "-"))) for name, made in MADE.items()}


def open_all(page):
    """Unfold whatever is folded in."""
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")


def scrolls(page):
    """By how many pixels the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize(("width", "scheme"), [(WIDE, "light"), (PHONE, "dark")])
def test_nothing_fails_and_nothing_is_asked_for(browser, files, name, width, scheme):
    with opened(browser, files[name], width=width, scheme=scheme) as page:
        open_all(page)
        assert page.noted == []
        assert page.title()
        assert page.locator("h2").count() > 5


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("width", [WIDE, PHONE, 320])
def test_the_page_does_not_scroll_sideways(browser, files, name, width):
    with opened(browser, files[name], width=width) as page:
        open_all(page)
        assert scrolls(page) <= 0


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_lines_stand_out(browser, files, name, scheme):
    with opened(browser, files[name], scheme=scheme) as page:
        open_all(page)
        found = page.evaluate(CONTRASTS)
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(18, 18, 18)")
    assert [one for one in found if one["kind"] == "text" and one["value"] < TEXT] == []
    lines = [one for one in found if one["kind"] == "line"]
    weak = [one for one in lines if one["value"] < GRAPHIC]
    # Grid lines, what is behind a small multiple, and rims of markers in the page's own colour.
    assert [one for one in weak if not any(mark in one["of"] for mark in ('"grid"', "stroke-opacity", "Canvas"))] == []
    assert [one for one in weak if '"grid"' in one["of"] and one["value"] < FAINT] == []
    assert len(found) > 50


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_texts_of_plots_are_inside_and_beside_each_other(browser, files, name, width):
    with opened(browser, files[name], width=width) as page:
        open_all(page)
        found = page.evaluate(SVG_TEXTS)
        assert overlapping(found) == []
        if name in ("curves", "many"):
            assert len(found) > 4
        smallest = page.evaluate("""() => Math.min(...[...document.querySelectorAll("svg text")].map((one) =>
            parseFloat(getComputedStyle(one).fontSize) * one.ownerSVGElement.getScreenCTM().a))""")
        assert smallest > 9, "pixels of letters"



def test_tables_are_sorted_by_a_click(browser, files):
    with opened(browser, files["curves"]) as page:
        section = page.locator("section:has(h2:text-is('Final scores'))")
        table = section.locator("table").first
        names = [one.strip() for one in table.locator("thead th").all_inner_texts()]
        column = names.index("clip (verifier)")

        def values():
            return [float(one) for one in table.locator("tbody tr").evaluate_all(
                "(rows, column) => rows.map((row) => row.cells[column].dataset.value || 'nan')", column)]  # fmt: skip

        head = table.locator("thead th").nth(column)
        before = values()
        head.get_by_role("button").click()
        assert values() == sorted(before, reverse=True)
        assert head.get_attribute("aria-sort") == "descending"
        head.get_by_role("button").click()
        assert values() == sorted(before)
        assert head.get_attribute("aria-sort") == "ascending"
        assert page.noted == []


def test_what_failed_is_said_at_the_top(browser, files):
    with opened(browser, files["curves"]) as page:
        alarm, first = page.locator(".alarm"), page.locator("h2").first
        assert "2 cells of 216 failed" in alarm.inner_text()
        assert alarm.bounding_box()["y"] < first.bounding_box()["y"]
        assert page.locator(".verdict").bounding_box()["y"] < first.bounding_box()["y"]
        assert "out of memory" in page.locator("#failures").inner_text()


def test_hostile_texts_stay_texts(browser, files):
    with opened(browser, files["hostile"]) as page:
        open_all(page)
        assert page.locator("script").count() == 1
        assert page.locator("[onerror]").count() == 0
        assert page.locator("img:not([src^='data:'])").count() == 0
        assert page.locator("h1").inner_text() == " ".join(reports.EVIL.split())
        said = page.locator("#images").inner_text()
        assert "<script>alert(2)</script>" in said
        assert page.noted == []


def test_pictures_say_what_they_show(browser, files):
    for name in ("curves", "pictures"):
        with opened(browser, files[name]) as page:
            pictures = page.locator("main img").evaluate_all(
                "(all) => all.map((one) => [one.alt, one.naturalWidth, one.src.slice(0, 11)])"
            )
            assert len(pictures) > 10
            assert all(alt.startswith("prompt ") and "oracle" in alt for alt, _, _ in pictures)
            assert all(width > 0 for _, width, _ in pictures)
            assert {begin for _, _, begin in pictures} == {"data:image/"}


def test_plots_are_heard(browser, files):
    with opened(browser, files["curves"]) as page:
        charts = page.locator("svg.chart")
        assert charts.count() >= 6
        for place in range(charts.count()):
            assert charts.nth(place).get_attribute("role") == "img"
            assert charts.nth(place).locator("> title").text_content()
            assert " at " in charts.nth(place).locator("> desc").text_content()


def test_tables_scroll_inside_of_themselves_on_a_telephone(browser, files):
    with opened(browser, files["curves"], width=PHONE) as page:
        box = page.locator("#final-scores .scroll").first
        assert box.evaluate("(one) => one.scrollWidth > one.clientWidth")
        assert box.evaluate("(one) => { one.scrollLeft = 50; return one.scrollLeft }") == 50


def test_links_lead_to_their_sections(browser, files):
    with opened(browser, files["curves"]) as page:
        links = page.locator("nav a").evaluate_all("(all) => all.map((one) => one.getAttribute('href'))")
        assert len(links) > 8
        assert all(page.locator(link).count() == 1 for link in links)


def test_it_can_be_read_without_scripts(browser, files):
    with opened(browser, files["curves"], script=False) as page:
        assert page.locator("#final-scores tbody tr").count() == 10
