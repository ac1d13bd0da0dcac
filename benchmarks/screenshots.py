"""The pictures of the page in the docs, made anew: ``make screenshots``.

    python benchmarks/screenshots.py [--only NAME] [--work DIR]

Runs of the bundled model are made in a temporary directory, ``noisewright serve`` shows them, and Debian's chromium
(or ``CHROMIUM``) takes the pictures of :data:`SHOTS` into ``docs/images``. Prompts and seeds are the same each time;
seconds are this machine's. ``--work`` keeps the runs, and makes those alone that are not there.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from _serving import noisewright, served
from noisewright.shapes.oracle import grade

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SCREEN, HIGH, PHONE = (1280, 860), (1280, 1010), (390, 844)
"""Pixels of a window in the page's own unit, width and height."""

SCALE, QUALITY = 1.5, 80
"""Pixels of a picture to one of a window, and the quality of its WebP."""

MOST_BYTES, MOST_BYTES_TOGETHER = 150_000, 1_000_000
WAIT_MS = 120_000

PROMPT = "a blue circle, a yellow star and a red square"
COMMON = ("--model", "noisewright/shapes", "--batch-size", "4", "--dtype", "float32")
MADE = {
    "three-things": (PROMPT, "--budget", "96 images", "--steps", "10", "--seed", "0"),
    "triangles": ("three green triangles", "--budget", "48 images", "--steps", "10", "--seed", "3"),
    "left-of": ("a red circle left of a blue square", "--search", "fk", "--search-arg", "particles=10", "--search-arg",
                "temperature=12", "--budget", "11 images", "--steps", "20", "--seed", "1"),
    "two-stars": ("two yellow stars and a purple circle", "--search", "zero-order", "--search-arg", "neighbours=3",
                  "--budget", "13 images", "--steps", "10", "--seed", "5"),
}  # fmt: skip
"""Runs by name, oldest first: what is typed after ``noisewright generate``."""

LIVE, LIVE_IMAGES, SEEN_IMAGES = "live", 160, 68
"""The run that is looked at as it is made: its name, its budget, and where in it."""

BENCHMARK = ("--prompt", PROMPT, "--x", "steps=5,10", "--y", "search=random,zero-order", "--set", "budget=16 images")
CHOSEN, CHOICES = "three-things", 16
"""The run that is chosen from, and how many blind pairs are answered before the pictures."""

SETTLED_MS = 700
BLANK = 56
"""Pixels below a page that is shorter than the window: not in the picture."""
BOTTOM = f"""() => Math.max(document.querySelector('main').getBoundingClientRect().bottom,
  ...[...document.querySelectorAll('.hovercard')].map(one => one.getBoundingClientRect().bottom + {BLANK + 16}))"""


@dataclass(frozen=True)
class Shot:
    """A picture of the page.

    Attributes:
        name: of its file, without the suffix.
        address: path and query on the server.
        ready: a selector that is there when the page is.
        act: what is done before the picture; it is given the page.
        size: of the window.
        dark: whether the page is.
        live: whether the run :data:`LIVE` is being made.
    """

    name: str
    address: str
    ready: str
    act: Callable[[Any], None] | None = None
    size: tuple[int, int] = SCREEN
    dark: bool = False
    live: bool = False


def _candidates(page: Any) -> None:
    page.get_by_label("Sort by").select_option(label="shapes-clip")


def _live(page: Any) -> None:
    page.wait_for_function(
        "least => document.querySelectorAll('.tile').length && "
        "parseInt(document.querySelector('.gallery [role=status]').textContent) >= least", arg=SEEN_IMAGES
    )  # fmt: skip


def _lineage(page: Any) -> None:
    page.locator(".node.best").hover()
    page.wait_for_selector(".hovercard img", state="visible")


def _compared(page: Any) -> None:
    page.wait_for_selector(".tile img")
    page.locator(".tiles").focus()
    for _ in range(4):
        page.keyboard.press("c")
        page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Compare 4").click()
    page.wait_for_selector(".side-by-side figure >> nth=3")


def _candidate(page: Any) -> None:
    page.wait_for_selector(".tile img")
    page.locator(".tiles").focus()
    page.keyboard.press(" ")
    page.wait_for_selector("dialog summary:has-text('Go on from here')")


def _filled(page: Any) -> None:
    page.get_by_label("prompt", exact=True).fill("four purple circles")
    page.get_by_label("budget", exact=True).fill("64 images")
    page.get_by_role("button", name="Planned cost").click()
    page.wait_for_selector(".cost b")


def _grid(page: Any) -> None:
    page.frame_locator("iframe.report").get_by_role("link", name="The grid").click()


SHOTS = (
    Shot("page-live", f"/run?name={LIVE}", ".tile img", _live, HIGH, live=True),
    Shot("page-runs", "/", ".runs li >> nth=4", live=True),
    Shot("page-run-dark", "/run?name=three-things", ".tile img", _candidates, HIGH, dark=True),
    Shot("page-candidate", "/run?name=three-things", ".tile img", _candidate),
    Shot("page-lineage", "/run?name=two-stars&part=lineage", ".node.best", _lineage, HIGH),
    Shot("page-lineage-fk", "/run?name=left-of&part=lineage", ".node.best", _lineage, HIGH),
    Shot("page-compare", "/run?name=three-things", ".tile img", _compared),
    Shot("page-choose", "/run?name=three-things&part=choose", ".strengths li"),
    Shot("page-form", "/new", "form.start", _filled),
    Shot("page-evidence", "/evidence?name=grid", "iframe.report", _grid),
    Shot("page-phone", "/run?name=three-things", ".tile img", size=PHONE),
)  # fmt: skip


def path(shot: Shot) -> Path:
    """The file of a picture."""
    return IMAGES / f"{shot.name}.webp"


def make_runs(runs: Path) -> None:
    """All of :data:`MADE` and the benchmark, where they are not there."""
    for name, words in MADE.items():
        if not (runs / name / "best.png").exists():
            print(f"making {name}", flush=True)
            done = noisewright("generate", *words, *COMMON, "--out", str(runs / name)).wait()
            if done:
                raise SystemExit(f"generate ended with {done}")
    if not (runs / "grid" / "report.html").exists():
        print("making grid", flush=True)
        if noisewright("benchmark", *BENCHMARK, "--out", str(runs / "grid")).wait():
            raise SystemExit("the benchmark failed")


@contextlib.contextmanager
def being_made(runs: Path) -> Iterator[None]:
    """The run :data:`LIVE`, by a process of its own, which ends with the pictures of it."""
    shutil.rmtree(runs / LIVE, ignore_errors=True)
    process = noisewright("generate", PROMPT, "--budget", f"{LIVE_IMAGES} images", "--steps", "10", "--seed", "0",
                          *COMMON, "--out", str(runs / LIVE))  # fmt: skip
    try:
        deadline = time.monotonic() + WAIT_MS / 1000
        while not (runs / LIVE / "run.json").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=60)


def ask(address: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """What the server answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=WAIT_MS / 1000) as answer:
        return json.load(answer)


def request(address: str, runs: Path) -> None:
    """What a client of the endpoint asks for, whose run is in the list."""
    if not any(runs.glob("img_*")):
        body = {"prompt": "a large green star", "quality": "medium", "num_inference_steps": 10, "seed": 7}
        ask(address, "/v1/images/generations", body)


def choose(address: str, runs: Path) -> None:
    """Blind choices, as the exact oracle of the bundled world makes them, a star, a pin and a rejection."""
    if (runs / CHOSEN / "choices.jsonl").exists():
        return

    def score(key: str) -> float:
        with Image.open(runs / CHOSEN / "images" / f"{key}.png") as picture:
            return grade(picture.convert("RGB"), PROMPT)[0].score

    for _ in range(CHOICES):
        a, b = ask(address, f"/api/pair?run={CHOSEN}")["pair"]
        one, other = score(a), score(b)
        choice = "tie" if one == other else "a" if one > other else "b"
        found = ask(address, "/api/vote", {"run": CHOSEN, "a": a, "b": b, "choice": choice})
    order = sorted(found["human"], key=lambda key: -found["human"][key][0])
    for mark, key in (("star", order[0]), ("pin", order[1]), ("reject", order[-1])):
        ask(address, "/api/mark", {"run": CHOSEN, "id": key, "mark": mark, "on": True})


def take(browser: Any, address: str, shot: Shot) -> bytes:
    """A picture, as WebP."""
    wide, high = shot.size
    context = browser.new_context(
        viewport={"width": wide, "height": high}, device_scale_factor=SCALE, reduced_motion="reduce",
        color_scheme="dark" if shot.dark else "light",
    )  # fmt: skip
    context.set_default_timeout(WAIT_MS)
    try:
        page = context.new_page()
        page.goto(f"{address}{shot.address}")
        page.wait_for_selector(shot.ready)
        if shot.act:
            shot.act(page)
        page.wait_for_function("() => [...document.images].every(one => one.complete)")
        page.wait_for_timeout(SETTLED_MS)
        bottom = page.evaluate(BOTTOM)
        shown = page.screenshot(clip={"x": 0, "y": 0, "width": wide, "height": min(high, round(bottom) - BLANK)})
    finally:
        context.close()
    held = io.BytesIO()
    with Image.open(io.BytesIO(shown)) as picture:
        picture.convert("RGB").save(held, "WEBP", quality=QUALITY, method=6)
    return held.getvalue()


def take_all(shots: Sequence[Shot], runs: Path) -> None:
    """Pictures of a server over the runs."""
    from playwright.sync_api import sync_playwright

    place = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if place is None:
        raise SystemExit("expected a chromium, got none (apt-get install chromium)")
    with served(runs) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=place, args=["--no-sandbox"], headless=True)
        request(address, runs)
        choose(address, runs)
        for live in (True, False):
            some = [one for one in shots if one.live is live]
            with being_made(runs) if live and some else contextlib.nullcontext():
                for one in some:
                    data = take(browser, address, one)
                    if len(data) > MOST_BYTES:
                        raise SystemExit(f"expected at most {MOST_BYTES} bytes of {one.name}, got {len(data)}")
                    path(one).write_bytes(data)
                    print(f"{path(one).relative_to(ROOT)}: {len(data):,} bytes", flush=True)
            shutil.rmtree(runs / LIVE, ignore_errors=True)
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=[one.name for one in SHOTS], help="may be repeated")
    parser.add_argument("--work", type=Path, help="a directory that keeps the runs")
    given = parser.parse_args()
    shots = [one for one in SHOTS if not given.only or one.name in given.only]
    with tempfile.TemporaryDirectory() as temporary:
        runs = (given.work or Path(temporary)).resolve() / "runs"
        runs.mkdir(parents=True, exist_ok=True)
        make_runs(runs)
        take_all(shots, runs)


if __name__ == "__main__":
    main()
