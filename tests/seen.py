"""Pages of a server in a real browser, for tests: what they must never say, what they keep out, and what they hold.

:func:`seen` opens one that notes every error; runs are made by :func:`maker`, or planted by :func:`copied`.
"""

import contextlib
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from browser import WIDE

MS = 30_000
"""How long a page is waited for."""

LONG_MS = 240_000
"""How long a job is, which loads a model first."""


@contextlib.contextmanager
def seen(browser, address, path="/", *, width=WIDE, height=900, scheme="light", permissions=(), but=()):
    """A page of a server, which must say nothing wrong: no error, no refused script, no request elsewhere.

    What the browser itself notes of a 404, say, or of a server that is gone, is passed over where ``but`` has a part of
    it, or taken out of ``page.noted``.
    """
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    context.set_default_timeout(MS)
    if permissions:
        context.grant_permissions(list(permissions), origin=address)
    page, noted = context.new_page(), []
    page.on("console", lambda one: noted.append(f"console: {one.text}") if one.type in ("error", "warning") else None)
    page.on("pageerror", lambda one: noted.append(f"error: {one}"))
    page.on("request", lambda one: one.url.startswith((address, "blob:")) or noted.append(f"request: {one.url}"))
    page.noted = noted
    try:
        page.goto(f"{address}{path}")
        yield page
        assert [one for one in noted if not any(part in one for part in but)] == []
    finally:
        context.close()


def faults(page):
    """What axe-core finds that keeps somebody out."""
    place = importlib.util.find_spec("axe_playwright_python")
    if place is None or place.origin is None:
        pytest.skip("no axe here (pip install axe-playwright-python)")
    page.evaluate((Path(place.origin).parent / "axe.min.js").read_text())
    found = page.evaluate("() => axe.run({resultTypes: ['violations']})")
    return [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found["violations"]
            if one["impact"] in ("serious", "critical")]  # fmt: skip


def fits(page):
    """Whether nothing stands beyond the right edge."""
    return page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def told(page, text):
    """Wait until the page says something at its foot, where it is seen: over whatever window is open."""
    page.wait_for_function("""text => {
      const one = document.getElementById("told");
      if (!one?.textContent.includes(text)) return false;
      const at = one.getBoundingClientRect();
      return one.contains(document.elementFromPoint(at.x + at.width / 2, at.y + at.height / 2));
    }""", arg=text)


def until(true, seconds=MS / 1000):
    """Wait for what no page shows."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.05)


def maker(folder, saved, name, images, *more):
    """A process that makes a run."""
    command = [sys.executable, "-P", "-m", "noisewright", "generate", "a red circle", "--model", saved, "--verifier",
               "brightness", "--judge", "none", "--budget", f"{images} images", "--steps", "2", "--batch-size", "1",
               "--out", folder / name, *more]  # fmt: skip
    return subprocess.Popen([str(one) for one in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def copied(run, to, **changes):
    """A copy of a run whose ``run.json`` says something else; ``prompt`` and ``search`` are what was asked for.

    A change to ``...`` takes away what is there.
    """
    shutil.copytree(run, to)
    held = json.loads((to / "run.json").read_text())
    if "prompt" in changes:
        held["spec"]["sampler"]["prompt"] = held["request"]["prompt"] = changes.pop("prompt")
    if "search" in changes:
        held["spec"]["search"] = changes.pop("search")
    held = {key: value for key, value in (held | changes).items() if value is not ...}
    (to / "run.json").write_text(json.dumps(held))
    return to
