"""Evidence in a browser: a real benchmark's report in its frame, where tables sort and nothing else runs."""

import json
import shutil

import pytest

import noisewright as nw
from browser import PHONE, WIDE
from commands import done
from seen import faults, fits, seen, until
from serving import served

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(saved, made, tmp_path_factory):
    """A benchmark of two searches and two budgets."""
    root = tmp_path_factory.mktemp("evidence") / "runs"
    shutil.copytree(made, root / "first")
    nw.benchmark(
        axes=["search=random,zero-order", "budget=2 images,3 images"], prompts=["a red circle", "two blue squares"],
        model=str(saved), seeds=1, out=root / "grid", num_inference_steps=2, verifier=["brightness"],
        judge=["sharpness"], progress=False,
    )  # fmt: skip
    return root


@pytest.fixture(scope="module")
def place(runs):
    with served(runs, "--verifier", "brightness") as (found, _):
        yield found


def wait_for(context, place, name):
    """Until the server has seen a new directory, for which it looks once a second."""
    until(lambda: name in context.request.get(f"{place}/api/evidence").text())


@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_a_benchmark_is_in_the_list_and_leads_to_its_report(browser, place, width):
    with seen(browser, place, width=width) as page:
        row = page.locator(".runs li", has_text="benchmark")
        row.wait_for()
        assert "2 prompts" in row.text_content()
        assert row.locator(".chip").text_content() == "done"
        row.locator("a").click()
        page.wait_for_selector("iframe.report")
        page.frame_locator("iframe.report").locator("h2").first.wait_for()
        assert fits(page)
        assert faults(page) == []
        page.get_by_role("link", name="Evidence", exact=True).last.click()
        page.locator(".runs a.row", has_text="grid").click()
        page.wait_for_selector("iframe.report")


def test_tables_of_the_report_are_sorted_by_a_click(browser, place):
    """Its script runs: it is the one whose digest the server's policy names."""
    with seen(browser, place, "/evidence?name=grid") as page:
        report = page.frame_locator("iframe.report")
        table = report.locator("table:has(th button)").first
        table.wait_for()
        values = "(one, at) => [...one.tBodies[0].rows].map(row => Number(row.cells[at].dataset.value))"
        at = table.evaluate("""one => [...one.tHead.rows[0].cells].findIndex((head, at) => head.querySelector('button')
          && new Set([...one.tBodies[0].rows].map(row => row.cells[at].dataset.value)).size > 1
          && [...one.tBodies[0].rows].every(row => row.cells[at].dataset.value))""")
        assert at >= 0
        button = table.locator("thead th").nth(at).locator("button")
        for state, down in (("descending", True), ("ascending", False)):
            button.click()
            assert table.locator("thead th").nth(at).get_attribute("aria-sort") == state
            found = table.evaluate(values, at)
            assert found == sorted(found, reverse=down)
            assert len(found) > 1


SCRIPTS = """<!doctype html><title>x</title><h2>planted</h2>
<img src="/picture?run=first" onerror="document.title = 'ran'">
<script>document.title = 'ran'; parent.document.title = 'ran'; fetch('/api/runs')</script>
<script src="/static/page.js"></script><link rel="stylesheet" href="/static/style.css">
<form action="/api/stop" method="post"><button>go</button></form><iframe src="/"></iframe>"""


@pytest.mark.parametrize("path", ["/evidence?name=planted", "/report?run=planted"])
def test_nothing_else_of_a_report_runs(browser, runs, place, path):
    """Nor is anything of this server, or of another, asked for by it."""
    shutil.copytree(runs / "grid", runs / "planted")
    (runs / "planted" / "report.html").write_text(SCRIPTS)
    try:
        context = browser.new_context()
        wait_for(context, place, "planted")
        page, answered, refused = context.new_page(), [], []
        page.on("response", lambda one: answered.append(one.url.removeprefix(place)))
        page.on("console", lambda one: refused.append(one.text))
        page.goto(f"{place}{path}")
        shown = page.frame_locator("iframe.report") if "evidence" in path else page
        shown.locator("h2:has-text('planted')").wait_for()
        page.wait_for_timeout(300)
        frame = page.frames[1] if "evidence" in path else page.main_frame
        assert frame.title() == "x"
        assert "ran" not in page.title()
        shown.get_by_role("button", name="go").click()
        page.wait_for_timeout(300)
        own = ("/static/", "/api/evidence", "/api/jobs", "/evidence", "/report?run=planted")
        assert [one for one in answered if not one.startswith(own if "evidence" in path else own[-1])] == []
        assert any("Content Security Policy" in one or "sandboxed" in one for one in refused)
        context.close()
    finally:
        shutil.rmtree(runs / "planted")


def test_a_benchmark_without_a_report_says_how_to_get_one(browser, runs, place):
    shutil.copytree(runs / "grid", runs / "unfinished")
    (runs / "unfinished" / "report.html").unlink()
    try:
        with seen(browser, place, "/evidence") as page:
            wait_for(page, place, "unfinished")
            page.goto(f"{place}/evidence?name=unfinished")
            page.wait_for_selector("h2:has-text('No report yet')")
            assert "--report unfinished" in page.locator("main code").text_content()
            assert faults(page) == []
            page.goto(f"{place}/evidence?name=no-such")
            page.wait_for_selector("h2:has-text('There is no such benchmark')")
    finally:
        shutil.rmtree(runs / "unfinished")


def test_a_comparison_of_schedules_is_a_table(browser, runs, place, saved, capsys):
    text = done(capsys, ["schedule", "compare", "pipeline", "karras", "--model", saved, "--steps", 2, "--samples", 4,
                         "--teacher-steps", 4, "--prompt", "a red circle", "--json"])  # fmt: skip
    (runs / "levels.json").write_text(text)
    held = json.loads(text)
    try:
        with seen(browser, place, "/evidence", width=PHONE) as page:
            page.wait_for_selector("h3:has-text('levels.json')")
            assert page.locator("tbody th[scope=row]").all_text_contents() == ["pipeline", "karras"]
            heads = page.locator("thead th").all_text_contents()
            assert heads == ["schedule", "solver", "steps", "NFE", *held["schedules"][0]["metrics"]]
            cells = page.locator("tbody tr").nth(1).locator("td").last
            assert " to " in cells.text_content()
            assert cells.locator("small").count() == 2  # its interval, and the change against the first
            assert "4 noises of 1 prompt" in page.locator("section .quiet").text_content()
            assert fits(page)
            assert faults(page) == []
    finally:
        (runs / "levels.json").unlink()
