"""Runs that somebody else makes, seen live: the command that serves itself, and a cluster."""

import signal
from importlib.util import find_spec

import pytest

from noisewright.run.reading import read_run
from seen import LONG_MS, maker, seen, until
from serving import found_in, generating

pytestmark = pytest.mark.slow

GROWN = "before => Number(document.querySelector('.gallery [role=status]')?.textContent.match(/^\\d+/)?.[0]) > before"


def seen_growing(page):
    """Wait until candidates come while one looks, without loading the page anew."""
    page.wait_for_selector(".chip.is-running", timeout=LONG_MS)
    page.wait_for_selector(".tile img", timeout=LONG_MS)
    page.evaluate("() => { window.same = true; }")
    first = int(page.locator(".gallery [role=status]").text_content().split()[0].replace(",", ""))
    page.wait_for_function(GROWN, arg=first)
    assert page.evaluate("() => window.same")


def test_the_command_s_own_page_shows_its_run_live(browser, tmp_path):
    """At the address that it says, from the moment on at which it says it."""
    words = ("--budget", "5000 images", "--batch-size", "1", "--out", "out")
    with generating(tmp_path, *words) as (process, address):
        root, _, rest = address.partition("/run?")
        with seen(browser, root, f"/run?{rest}", but=["404"]) as page:
            seen_growing(page)
            page.get_by_role("button", name="Stop").click()
            page.wait_for_selector(".chip.is-interrupted", timeout=LONG_MS)
            assert found_in(process, "the page stays at ") == address
            made = read_run(tmp_path / "out")["summary"]["images"]
            page.get_by_role("button", name="Go on…").click()
            page.get_by_label("Budget of the whole run").fill(f"{made + 2} images")
            page.locator("dialog").get_by_role("button", name="Go on", exact=True).click()
            page.wait_for_selector(".chip.is-done", timeout=LONG_MS)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130  # as the run ended that it made
    assert read_run(tmp_path / "out")["summary"]["images"] == made + 2


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_a_run_that_a_cluster_makes_is_seen_live(browser, address, folder, saved, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    process = maker(folder, saved, "cluster", 5000, "--executor", "ray", "--workers", "2")
    try:
        until(lambda: (folder / "cluster" / "run.json").exists() or process.poll() is not None, 120)
        assert process.poll() is None
        with seen(browser, address, "/run?name=cluster") as page:
            seen_growing(page)
            page.get_by_role("button", name="Stop").click()
            page.wait_for_selector(".chip.is-interrupted", timeout=LONG_MS)
            assert process.wait(120) == 130
            shown = page.request.get(f"{address}/api/run?run=cluster").json()
            assert len(shown["rows"]) == read_run(folder / "cluster")["summary"]["images"]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)
