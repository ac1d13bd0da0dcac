"""A real browser for the tests of pages: Debian's chromium, headless, one for all tests of a file.

A folder whose tests use it imports its fixture into its ``conftest.py``; a test says

    def test_page(browser, tmp_path): with opened(browser, path, width=PHONE, scheme="dark") as page: ...

Where there is none, the tests are skipped and say why.
"""

import contextlib
import os
import shutil

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
WIDE, PHONE = 1280, 390
"""Pixels of a window: a screen, a telephone."""


@pytest.fixture(scope="module")
def browser():
    """One browser; a test opens pages of its own in it with :func:`opened`.

    It ends with the file: as long as it is there an event loop runs in this thread, which tests with loops of their own
    cannot have.
    """
    place = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if place is None:
        pytest.skip("no chromium here (apt-get install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="no playwright here (pip install playwright)")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=place, args=["--no-sandbox"], headless=True)
        yield started
        started.close()


@contextlib.contextmanager
def opened(browser, path, *, width=WIDE, height=900, scheme="light", script=True):
    """A page of a file in a window of its own, with what it said and asked for in its ``noted``.

    Attributes of the page that are added: ``noted``, a list of texts: errors of scripts, whatever the console showed,
    dialogs, and every request but the file's own.
    """
    address = path.resolve().as_uri()
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, java_script_enabled=script
    )
    page = context.new_page()
    page.noted = []
    page.on("console", lambda one: page.noted.append(f"console: {one.text}"))
    page.on("pageerror", lambda one: page.noted.append(f"error: {one}"))
    page.on("dialog", lambda one: (page.noted.append(f"dialog: {one.message}"), one.dismiss()))
    page.on("request", lambda one: None if one.url == address or one.url.startswith("data:")
            else page.noted.append(f"request: {one.url}"))  # fmt: skip
    try:
        page.goto(address)
        yield page
    finally:
        context.close()


LUMINANCE = """
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((one) => (one /= 255) <= .04045 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const against = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + .05) / (low + .05);
  };
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const paper = channels(getComputedStyle(document.body).backgroundColor).slice(0, 3);
"""

CONTRASTS = f"""() => {{{LUMINANCE}
  const found = [];
  const visible = (one) => one.getClientRects().length > 0;
  const mixed = (rgb, alpha) => rgb.map((one, n) => one * alpha + paper[n] * (1 - alpha));
  const all = "svg text, svg .line, svg path[stroke], h1, h2, h3, p, td, th, li, figcaption, summary, span, b";
  for (const one of document.querySelectorAll(all)) {{
    if (!visible(one)) continue;
    const style = getComputedStyle(one);
    const isText = !one.ownerSVGElement || one.tagName === "text";
    let colour = isText ? (one.ownerSVGElement ? style.fill : style.color) : style.stroke;
    if (colour === "none") continue;
    let alpha = isText ? 1 : Number(style.strokeOpacity);
    for (let up = one; up; up = up.parentElement) alpha *= Number(getComputedStyle(up).opacity);
    const [r, g, b, own = 1] = channels(colour);
    found.push({{kind: isText ? "text" : "line", of: one.outerHTML.slice(0, 300), colour, alpha: alpha * own,
                value: against(mixed([r, g, b], alpha * own), paper)}});
  }}
  return found;
}}"""
"""A script: contrast against the page's colour of every text and of every line with a colour of its own."""

SVG_TEXTS = """() => [...document.querySelectorAll("svg")].filter((svg) => svg.querySelector("text")).map((svg) => {
  const box = svg.viewBox.baseVal;
  const texts = [...svg.querySelectorAll("text")].map((one) => {
    const at = one.getBBox();
    return {text: one.textContent, left: at.x, top: at.y, right: at.x + at.width, bottom: at.y + at.height};
  });
  return {title: svg.querySelector("title").textContent, width: box.width, height: box.height, texts};
})"""
"""A script: for each picture with texts its size and the boxes of the texts, in its own units."""


def overlapping(found, slack=3.0):
    """Texts of pictures that stand outside, or over each other by more than ``slack`` units in both directions."""
    wrong = []
    for svg in found:
        for number, one in enumerate(svg["texts"]):
            if min(one["left"], one["top"], svg["width"] - one["right"], svg["height"] - one["bottom"]) < -1.0:
                wrong.append((svg["title"], "outside", one["text"]))
            for other in svg["texts"][:number]:
                across = min(one["right"], other["right"]) - max(one["left"], other["left"])
                down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
                if across > slack and down > slack:
                    wrong.append((svg["title"], one["text"], other["text"]))
    return wrong
