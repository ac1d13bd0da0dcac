"""Going on in a browser: from a candidate, from a run, from the form; and the queue with jobs of every state."""

import json
import shutil

import pytest

from browser import PHONE, WIDE
from noisewright.run.reading import read_run
from seen import LONG_MS, faults, fits, seen, told, until
from serving import served

pytestmark = pytest.mark.slow

FIELDS = {"prompt": "a red circle", "verifier": ["brightness"], "judge": ["none"], "num_inference_steps": 2,
          "batch_size": 1}  # fmt: skip


def opened(page, key):
    page.wait_for_selector(".tile img")
    page.locator(f"#tile-{key}").click()
    page.wait_for_selector("dialog summary:has-text('Go on from here')")
    return page.locator("dialog")


def begun(page, runs):
    """The run whose page this is, once it has ended."""
    page.wait_for_url("**/run?name=2*")
    page.wait_for_selector(".chip.is-done", timeout=LONG_MS)
    page.wait_for_selector(".tile img")
    return read_run(runs / page.evaluate("() => new URL(location).searchParams.get('name')"))


def start(page, address, **fields):
    """A job as the form asks for it."""
    answer = page.request.post(f"{address}/api/start", data={"fields": {**FIELDS, **fields}})
    assert answer.ok, answer.text()
    return answer.json()


def summary(run, name):
    return read_run(run)["summary"][name]["id"]


def test_more_like_this_refines_the_candidate(browser, address, folder):
    best = summary(folder / "first", "best")
    with seen(browser, address, "/run?name=first", but=["404"]) as page:
        dialog = opened(page, best)
        dialog.get_by_label("Budget").fill("2 images")
        dialog.get_by_role("button", name="More like this").click()
        run = begun(page, folder)
    assert (run["spec"]["search"], run["summary"]["images"]) == ("refine", 2)
    assert run["request"]["search_args"]["start"][-1]["id"]
    assert run["spec"]["sampler"]["prompt"] == read_run(folder / "first")["spec"]["sampler"]["prompt"]


def test_a_seed_is_made_with_more_steps(browser, address, folder):
    with seen(browser, address, "/run?name=first", but=["404"]) as page:
        dialog = opened(page, summary(folder / "first", "baseline"))
        assert dialog.get_by_label("Steps").input_value() == "4"  # twice as many
        dialog.get_by_label("Steps").fill("5")
        dialog.get_by_role("button", name="This seed with").click()
        run = begun(page, folder)
    assert (run["spec"]["seed"], run["spec"]["sampler"]["num_inference_steps"], run["summary"]["images"]) == (0, 5, 1)


def test_another_verifier_scores_what_is_there(browser, address, folder, made):
    shutil.copytree(made, folder / "scored")
    with seen(browser, address, "/run?name=scored") as page:
        page.wait_for_selector(".tile img")
        page.get_by_role("button", name="Go on…").click()
        field = page.locator("dialog").get_by_label("Verifier")
        field.locator("option").first.wait_for(state="attached")
        assert field.locator("option").evaluate_all("all => all.map(one => one.value)") == ["sharpness"]
        page.locator("dialog").get_by_role("button", name="Score").click()
        told(page, "in the queue")
        column = "select[aria-label='Sort by'] option[value=osharpness]"
        page.wait_for_selector(column, state="attached", timeout=LONG_MS)
        assert page.locator(column).text_content() == "sharpness (added later)"
        page.get_by_label("Sort by").select_option("osharpness")
        page.wait_for_function("() => [...document.querySelectorAll('.tile .caption b')].every(one => /\\d/.test("
                               "one.textContent))")  # fmt: skip
    lines = [json.loads(one) for one in (folder / "scored" / "opinions.jsonl").read_text().splitlines()]
    assert [(one["verifier"], len(one["scores"])) for one in lines] == [("sharpness", 9)]
    assert read_run(folder / "scored")["summary"]["images"] == 9  # no new ones


def test_the_planned_cost_is_said_before_a_run_starts(browser, address, folder):
    before = sorted(one.name for one in folder.iterdir())
    with seen(browser, address, "/new") as page:
        page.get_by_label("prompt", exact=True).fill("two red circles")
        page.get_by_label("budget", exact=True).fill("6 images")
        page.get_by_label("steps", exact=True).fill("3")
        page.get_by_role("button", name="Planned cost").click()
        page.wait_for_selector(".cost .loading")
        page.locator(".cost p", has_text="About").first.wait_for(timeout=LONG_MS)
        assert "6 images, 18 NFE, 36 forwards" in page.locator(".cost").text_content()
        assert faults(page) == []
    assert sorted(one.name for one in folder.iterdir()) == before  # nothing began


def test_what_is_wrong_in_the_form_is_said_in_it(browser, address):
    with seen(browser, address, "/new", but=["400"]) as page:
        page.get_by_label("prompt", exact=True).fill("two red circles")
        page.get_by_label("budget", exact=True).fill("many")
        for button in ("Start", "Planned cost"):
            page.get_by_role("button", name=button).click()
            page.wait_for_selector(".foot [role=alert]:has-text('many')")
        page.get_by_label("budget", exact=True).fill("2 images")
        page.get_by_label("steps", exact=True).fill("2")


def test_another_like_it_begins_with_what_it_was_asked_for(browser, address, folder):
    with seen(browser, address, "/run?name=first", but=["404"]) as page:
        page.get_by_role("link", name="Start another like it").click()
        page.wait_for_selector("form.start")
        left_out = page.locator("p.wrong", has_text="Not taken over from first")
        assert "--model" in left_out.text_content()  # which this server does not have
        value = lambda label: page.get_by_label(label, exact=True).input_value()  # noqa: E731
        assert value("prompt") == "a red circle and <b>two</b> blue stars"
        assert (value("search"), value("budget"), value("steps")) == ("zero-order", "9 images", "2")
        page.wait_for_selector("#argument-neighbours")
        assert value("neighbours") == "2"
        checked = page.locator("input[type=checkbox]:checked").evaluate_all("all => all.map(one => one.value)")
        assert checked == ["brightness", "sharpness"]  # the verifier, and the judge
        page.locator("summary", has_text="More").click()
        assert value("batch size") == "2"
        assert faults(page) == []
        page.get_by_label("budget", exact=True).fill("3 images")
        page.get_by_role("button", name="Start").click()
        run = begun(page, folder)
    assert (run["spec"]["search"], run["spec"]["search_args"]["neighbours"]) == ("zero-order", 2)
    assert (run["summary"]["images"], run["spec"]["batch_size"]) == (3, 2)
    assert [one["name"] for one in run["spec"]["judges"]] == ["sharpness"]


def test_the_queue_shows_what_runs_waits_and_failed_and_stops_it(browser, address, folder):
    with seen(browser, address, "/queue") as page:
        bad = start(page, address, prompt="will fail", budget=["2 images"], target={"no-such": 1.0})
        page.wait_for_selector(".jobs .chip.is-failed", timeout=LONG_MS)
        going = start(page, address, prompt="goes on", budget=["5000 images"])
        waits = start(page, address, prompt="waits", budget=["2 images"])
        lines = {name: page.locator(".jobs li", has_text=name) for name in ("will fail", "goes on", "waits")}
        lines["goes on"].locator(".chip.is-running").wait_for(timeout=LONG_MS)
        lines["waits"].locator(".chip.is-waiting").wait_for()
        assert "no-such" in lines["will fail"].locator(".wrong").text_content()
        page.wait_for_selector("#queued:has-text('2')")
        for width in (PHONE, WIDE):
            page.set_viewport_size({"width": width, "height": 900})
            assert fits(page)
            assert faults(page) == []
        lines["waits"].get_by_role("button", name="Take out").click()
        told(page, "taken out")
        lines["waits"].locator(".chip.is-cancelled").wait_for()
        assert not (folder / waits["run"]).exists()
        until(lambda: (folder / going["run"] / "journal.jsonl").exists(), LONG_MS / 1000)
        lines["goes on"].get_by_role("button", name="Stop").click()
        told(page, "it ends after the micro-batch in flight")
        lines["goes on"].locator(".chip.is-stopped").wait_for(timeout=LONG_MS)
        page.wait_for_selector("#queued", state="hidden")
        assert faults(page) == []
        assert page.locator(".jobs button").count() == 0
        lines["goes on"].get_by_role("link").click()
        page.wait_for_selector(".chip.is-interrupted")
        page.wait_for_selector(".tile img")
        page.goto(f"{address}/run?name={bad['run']}")
        page.wait_for_selector("h2:has-text('This run did not begin')")
        assert "no-such" in page.locator("main .wrong").text_content()
        page.noted.clear()  # which the browser notes as a 404


def test_a_run_that_waits_is_said_to_and_is_shown_when_its_turn_comes(browser, address):
    with seen(browser, address, "/", but=["404"]) as page:
        going = start(page, address, prompt="goes before", budget=["5000 images"])
        waits = start(page, address, prompt="comes later", budget=["2 images"])
        page.locator(".runs li", has_text="comes later").locator("text=in the queue").wait_for()
        page.goto(f"{address}/run?name={waits['run']}")
        page.wait_for_selector("h2:has-text('In the queue')")
        assert faults(page) == []
        page.request.post(f"{address}/api/cancel", data={"job": going["job"]})
        page.wait_for_selector(".chip.is-done", timeout=LONG_MS)


def test_a_server_of_one_run_begins_another_from_it_and_shows_both(browser, folder, made, tmp_path):
    runs = tmp_path / "runs"
    for name in ("first", "other"):
        shutil.copytree(made, runs / name)
    with served(runs / "first", "--verifier", "brightness") as (address, _), \
            seen(browser, address, but=["404"]) as page:  # fmt: skip
        page.locator(".runs a.row").click()
        dialog = opened(page, summary(runs / "first", "baseline"))
        dialog.get_by_label("Steps").fill("3")
        dialog.get_by_role("button", name="This seed with").click()
        run = begun(page, runs)
        assert run["summary"]["images"] == 1
        page.get_by_role("link", name="Runs", exact=True).first.click()
        page.wait_for_function("() => document.querySelectorAll('.runs li').length === 2")
        names = page.locator(".runs a.row").evaluate_all(
            "all => all.map(one => new URL(one.href).searchParams.get('name'))"
        )
        assert "first" in names
        assert "other" not in names
