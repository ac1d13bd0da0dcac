"""An audit's page: what it says of hostile names, of pictures that are gone, and that it works in a real browser."""

from dataclasses import replace

import pytest
from PIL import Image

from benchmark.test_audit import choices, made, voted
from browser import PHONE, WIDE, opened
from noisewright.benchmark.audit import audited, candidates_of
from noisewright.benchmark.audit_page import HTML, MARKDOWN, MOST_PROMPTS, write_audit

HOSTILE = '<script>alert("x")</script> | `a` *b*'


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A page with votes, a hostile prompt, and pictures of the first cell only."""
    root = tmp_path_factory.mktemp("audit") / "made"
    results = made(root, [0.3, 3.0], fails=(2,), missing=((3, 0),))
    held = candidates_of(results, 2)
    prompts = (replace(held.prompts[0], text=HOSTILE), *held.prompts[1:])
    chosen = choices(results, 2, voted(results, 2, "noise-3", ties=2), root)
    found = audited(results, 2, chosen, replace(held, prompts=prompts))
    for one in found.picks[0].picks:
        file = root / one.file
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), "red").save(file)
    return found, write_audit(replace(found, warnings=("1 of 24 prompts failed",)), root)


def test_everything_is_said(written):
    found, (html, markdown) = written
    assert (html.name, markdown.name) == (HTML, MARKDOWN)
    for text in (html.read_text(), markdown.read_text()):
        for part in ("Who pays for whom", "Best of more", "How far they agree", "With other seeds", "What each picks"):
            assert part in text
        assert "1 of 24 prompts failed" in text
        assert "noise-0.3" in text
    page = html.read_text()
    assert page.count("<img") == len(found.picks[0].picks)
    assert "its file is gone" in page
    assert page.count("<h3>") == MOST_PROMPTS


def test_nothing_in_a_prompt_is_markup(written):
    found, (html, markdown) = written
    assert HOSTILE in {one.prompt for one in found.picks}
    assert "<script>alert" not in html.read_text()
    assert "<script>" not in markdown.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_a_browser_shows_it_without_a_word(written, browser, width, scheme):
    _, (html, _) = written
    with opened(browser, html, width=width, scheme=scheme) as page:
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        assert page.noted == []
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        assert page.locator("section").count() == 6
