"""How fast the page is: a directory of 1,000 runs, a run of 10,000 candidates, an update of one, and the page's weight.

    python benchmarks/page.py [--runs N] [--candidates N] [--repeats N] [--only paints|updates|weight]

Paints are those of Debian's chromium (or ``CHROMIUM``) on ``noisewright serve``: the first contentful one, and the
first in which rows or pictures of what was asked for stand; the first visit is that right after the server says that it
answers. An update is the server's time from new lines in the journal, one micro-batch made and scored, to the event
that a page gets; the run counts as going on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import noisewright as nw
from _serving import served
from noisewright.run.journal import seal
from noisewright.run.locks import let_go, locked
from noisewright.run.particle import Particle, noise_particle

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
PROMPT = "a red circle left of a blue square"
VERIFIERS, JUDGES = ("brightness", "sharpness", "shapes-oracle"), ("one", "two", "three")
STEPS, BATCH = 2, 8
PAINT_SECONDS, UPDATE_MS, WEIGHT_KB = 1.0, 50.0, 150
"""The aims."""

PAUSE_SECONDS = 0.4
"""Between two updates, as a page's stream has it."""

UPDATES = {
    "one verifier": (1, 0), "three verifiers": (3, 0), "one verifier, three judges of all": (1, 3),
    "three verifiers, three judges of all": (3, 3),
}  # fmt: skip
"""What is updated: how many verifiers, and judges that have said something of every candidate."""

SEEN = """(wanted) => {
  const look = () => {
    if (window.seenAt !== undefined || !document.querySelector(wanted)) return;
    window.seenAt = null;
    requestAnimationFrame(() => setTimeout(() => { window.seenAt = performance.now(); }));
  };
  new MutationObserver(look).observe(document, {childList: true, subtree: true});
}"""
"""A script: when something was painted first."""

CONTENTFUL = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def made(root: Path) -> Path:
    """A small run of the bundled model."""
    nw.search("noisewright/shapes", PROMPT, verifier="brightness", judge="sharpness", budget="9 images",
              num_inference_steps=STEPS, out=root, progress=False)  # fmt: skip
    return root


def write_runs(run: Path, folder: Path, count: int) -> None:
    """Copies of a run with other names, prompts and times."""
    held = json.loads((run / "run.json").read_text())
    for number in range(count):
        place = folder / f"run-{number:04d}"
        (place / "images").mkdir(parents=True)
        for name in ("journal.jsonl", *(f"images/{one.name}" for one in (run / "images").iterdir())):
            os.link(run / name, place / name)
        held["spec"]["sampler"]["prompt"] = f"{PROMPT}, number {number}"
        held["created"] = f"2026-{1 + number % 12:02d}-{1 + number % 28:02d}T00:00:{number % 60:02d}+00:00"
        (place / "run.json").write_text(json.dumps(held))


def lines_of(first: int, count: int, verifiers: int, judges: int) -> list[bytes]:
    """What the journal says of one micro-batch."""
    seeds = range(first, first + count)
    noises = [noise_particle(seed, STEPS) for seed in seeds]
    ends = [Particle("denoise", (one,), {"to": STEPS}, STEPS, STEPS) for one in noises]
    ids = [one.id for one in ends]
    score = lambda seed, n: (seed * 7919 * (n + 1) % 10_007) / 10_007  # noqa: E731 - of no meaning, and all different
    scores = {VERIFIERS[n]: [score(seed, n) for seed in seeds] for n in range(verifiers)}
    told: list[dict[str, Any]] = [
        {"verb": "finish", "ids": ids, "seeds": list(seeds), "files": [f"images/{key}.png" for key in ids],
         "pixels": ["0" * 64] * count, "digests": ["0" * 32] * count, "steps": STEPS, "nfe": STEPS * count,
         "forwards": 2 * STEPS * count, "particles": [one.record() for pair in zip(noises, ends, strict=True)
                                                      for one in pair],
         "elapsed": first / 10, "seconds": {"denoise": 0.4}},
        {"verb": "score", "ids": ids, "scores": scores, "elapsed": (first + count) / 10},
        *({"verb": "judge", "ids": ids, "judge": JUDGES[n], "scores": [score(seed, n + 3) for seed in seeds]}
          for n in range(judges)),
    ]  # fmt: skip
    return [seal(one) for one in told]


def write_run(run: Path, root: Path, count: int, verifiers: int = 1, judges: int = 0, pictures: bool = True) -> Path:
    """A run that goes on, of so many candidates; all have one and the same picture."""
    (root / "images").mkdir(parents=True)
    lines = [one for first in range(0, count, BATCH)
             for one in lines_of(first, min(BATCH, count - first), verifiers, judges)]  # fmt: skip
    (root / "journal.jsonl").write_bytes(b"".join(lines))
    held = json.loads((run / "run.json").read_text())
    held.pop("summary")
    held["status"] = "running"
    held["spec"]["verifiers"] = [{"name": name, "fingerprint": f"{name}-1"} for name in VERIFIERS[:verifiers]]
    held["spec"]["judges"] = [{"name": name, "fingerprint": f"{name}-1"} for name in JUDGES[:judges]]
    held["spec"]["budget"] = {"images": 100 * count, "nfe": None, "seconds": None}
    (root / "run.json").write_text(json.dumps(held))
    if pictures:
        picture = next((run / "images").iterdir())
        for seed in range(count):
            key = Particle("denoise", (noise_particle(seed, STEPS),), {"to": STEPS}, STEPS, STEPS).id
            os.link(picture, root / "images" / f"{key}.png")
    return root


# An update


def updates(
    root: Path, count: int, verifiers: int, judges: int, repeats: int, pause: float = PAUSE_SECONDS
) -> tuple[list[float], int]:
    """Milliseconds of each update of a run of ``count`` candidates, and the bytes of the largest event."""
    from noisewright.web import live as room
    from noisewright.web.streams import event

    lock, before = locked(root), room.LOOK_SECONDS
    room.LOOK_SECONDS = 0.0  # each look is one here
    try:
        live = room.Live(root, "many")
        live.refresh()
        _, cursor = live.since(room.Cursor())
        found, largest = [], 0
        for number in range(repeats):
            with (root / "journal.jsonl").open("ab") as file:
                file.write(b"".join(lines_of(count + number * BATCH, BATCH, verifiers, judges)))
            began = time.perf_counter()
            live.refresh()
            what, cursor = live.since(cursor)
            data = event("run", what)
            found.append(1000 * (time.perf_counter() - began))
            largest = max(largest, len(data))
            if len(what["rows"]) != BATCH:
                raise SystemExit(f"expected an update of {BATCH} rows, got {len(what['rows'])}")
            time.sleep(pause)
    finally:
        room.LOOK_SECONDS = before
        let_go(lock)
    return found, largest


def print_updates(run: Path, work: Path, count: int, repeats: int) -> None:
    print(f"\nan update of a run of {count:,} candidates, server time (aim: {UPDATE_MS:g} ms)")
    print(f"{'':38}{'median ms':>10}{'most ms':>10}{'most kB':>9}")
    for number, (name, (verifiers, judges)) in enumerate(UPDATES.items()):
        root = write_run(run, work / f"many-{number}", count, verifiers, judges, pictures=False)
        found, largest = updates(root, count, verifiers, judges, repeats)
        print(f"{name:38}{statistics.median(found):10.1f}{max(found):10.1f}{largest / 1000:9.0f}", flush=True)


# Paints


def paint(browser: Any, address: str, wanted: str) -> tuple[float, float]:
    """Seconds to the first contentful paint, and to the first with what is wanted, of a browser that knows nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = context.new_page()
        page.add_init_script(f"({SEEN})({json.dumps(wanted)})")
        page.goto(address, wait_until="commit")
        page.wait_for_function("() => window.seenAt", timeout=120_000)
        page.wait_for_function(CONTENTFUL)
        return page.evaluate(CONTENTFUL) / 1000, page.evaluate("() => window.seenAt") / 1000
    finally:
        context.close()


def print_paints(run: Path, work: Path, runs: int, candidates: int, repeats: int) -> None:
    """Each directory with a server of its own, which is warm from the second visit on."""
    from playwright.sync_api import sync_playwright

    place = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if place is None:
        raise SystemExit("expected a chromium, got none (apt-get install chromium)")
    write_runs(run, work / "list", runs)
    write_run(run, work / "one" / "many", candidates)
    shown = {f"the list of {runs:,} runs": ("list", "/", ".runs li"),
             f"a run of {candidates:,} candidates": ("one", "/run?name=many", ".tile img")}  # fmt: skip
    print(f"\npaints, seconds (aim: {PAINT_SECONDS:g} s)")
    print(f"{'':38}{'first visit':>24}{'later ones, median':>26}")
    print(f"{'':38}{'contentful':>14}{'meaningful':>12}{'contentful':>14}{'meaningful':>12}")
    lock = locked(work / "one" / "many")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=place, args=["--no-sandbox"], headless=True)
            paint(browser, "data:text/html,<p>first", "p")  # the browser's own first page
            for name, (folder, path, wanted) in shown.items():
                with served(work / folder) as address:
                    first, *later = (paint(browser, f"{address}{path}", wanted) for _ in range(repeats + 1))
                middle = [statistics.median(column) for column in zip(*later, strict=True)]
                print(f"{name:38}{first[0]:14.2f}{first[1]:12.2f}{middle[0]:14.2f}{middle[1]:12.2f}", flush=True)
            browser.close()
    finally:
        let_go(lock)


def print_weight() -> None:
    from noisewright.web.pages import own_files

    files = own_files().values()
    whole, packed = sum(len(one.data) for one in files) / 1000, sum(len(one.packed) for one in files) / 1000
    print(f"\nthe page's own weight without pictures (aim: {WEIGHT_KB} kB): {whole:.1f} kB in {len(files)} files, "
          f"{packed:.1f} kB as it is sent")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--only", choices=("paints", "updates", "weight"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        run = made(work / "small") if given.only != "weight" else work
        if given.only in (None, "paints"):
            print_paints(run, work, given.runs, given.candidates, given.repeats)
        if given.only in (None, "updates"):
            print_updates(run, work, given.candidates, given.repeats)
        if given.only in (None, "weight"):
            print_weight()


if __name__ == "__main__":
    main()
