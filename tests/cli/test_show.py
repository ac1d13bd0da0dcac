"""``show`` of a run that goes on, as a page, and without noisewright; ``stop``; the best K as files."""

import html.parser
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tiny
import warm
from noisewright import cli
from noisewright.images.metadata import read_recipe
from noisewright.images.reading import read_image
from noisewright.run.reading import is_run, read_journal, read_run

PATIENCE_SECONDS = 120
SLOW = '''
import time
def slow(images, prompt):
    time.sleep(0.2)
    return images.mean((1, 2, 3)).tolist()
'''


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny.sd().save_pretrained(path, safe_serialization=True)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(model, *more, budget="4 images"):
    given = ["generate", "a <b>cat</b>", "--model", model, "--verifier", "brightness", "--steps", "2", "--seed", "3"]
    return [str(one) for one in (*given, "--budget", budget, "--out", "run", *more)]


def done(capsys, *argv, code=0):
    assert cli.main([str(one) for one in argv]) == code
    return capsys.readouterr()


@pytest.fixture
def made(model, here, capsys):
    done(capsys, *arguments(model, "--verifier", "sharpness", "--judge", "compressibility"))
    return here / "run"


# Why it won


@pytest.mark.slow
def test_an_ensemble_says_what_its_value_is_and_why_the_first_won(made, capsys):
    out = done(capsys, "show", "run").out
    assert re.search(r"#\s+id\s+seed\s+mean rank\s+brightness\s+sharpness\s+compressibility \(judge\)", out)
    assert re.search(r"why +seed \d before seed \d", out)
    assert "to the mean rank" in out
    assert "(best mean rank so far, 4 candidates)" in out
    found = json.loads(done(capsys, "show", "run", "--json").out)
    assert found["value_name"] == "mean rank"
    assert found["candidates"][0]["value"] == found["why"]["first"]["value"]
    told = json.loads(done(capsys, "resume", "run", "--json").out)
    assert told["why"] == found["why"]
    assert told["value_name"] == "mean rank"
    assert told["best"]["value"] == found["best"]["value"]


# Without noisewright


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--negative-prompt", "it's \"dark\"", "--guidance-scale", "3.5"]])
def test_the_lines_of_plain_diffusers_make_the_winner(model, here, capsys, more):
    done(capsys, *arguments(model, "--batch-size", "1", *more))
    code = done(capsys, "show", "run", "--diffusers").out
    assert "guidance_scale" in code or not more
    exec(compile(code, "lines", "exec"), {})
    assert np.array_equal(read_image(here / "best.png")[0], read_image(here / "run" / "best.png")[0])
    assert json.loads(done(capsys, "show", "run", "--diffusers", "--json").out)["code"] == code.rstrip("\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--search", "zero-order", "--target", "2"], "no seed draws its noise"),
        (["--solver", "dpmpp-2m"], "its solver dpmpp-2m is noisewright's own"),
    ],
)
def test_where_plain_diffusers_cannot_one_line_says_why(model, here, capsys, more, says):
    done(capsys, *arguments(model, *more, budget="9 images"))
    run = read_run(here / "run")
    if "zero-order" in more and run["summary"]["best"]["seed"] is not None:
        pytest.skip("the best is no neighbour")
    found = done(capsys, "show", "run", "--diffusers", code=1)
    assert found.out == ""
    assert found.err.count("\n") == 1
    assert says in found.err


# A page


class Page(html.parser.HTMLParser):
    """Reads a page, and fails on one whose tags do not match."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.texts, self.tags, self.scripts = [], [], [], [], 0

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href"):
                self.links.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def read_page(file):
    page = Page()
    page.feed(Path(file).read_text())
    page.close()
    assert page.open == []
    return page


def test_a_page_is_whole_and_asks_for_nothing(made, capsys):
    assert done(capsys, "show", "run", "--html").out == "run/page.html\n"
    page = read_page(made / "page.html")
    assert page.links
    assert all(one.startswith("data:image/") for one in page.links)
    assert "b" not in page.tags  # the prompt is a text
    assert "a <b>cat</b>" in page.texts
    text = (made / "page.html").read_text()
    assert "http" not in text.replace("http-equiv", "")
    assert str(made.parent) not in text  # nor does it say where things are on this machine
    assert page.tags.count("script") == 1
    for part in ("Why it won", "Best so far", "Candidates", "Cost", "Settings", "contact sheet, best first"):
        assert part in " ".join(page.texts)
    assert len(re.findall(r"<tr><td><img", text)) == 4
    assert "color-scheme:light dark" in text


@pytest.mark.slow
def test_a_run_of_somebody_else_puts_no_code_into_the_lines(model, here, capsys):
    done(capsys, *arguments(model))
    whole = json.loads((here / "run" / "run.json").read_text())
    code = "X()\nimport os\nos.system('touch owned')"
    for place in (("plain", "scheduler"), ("spec", "sampler", "pipeline"), ("spec", "sampler", "dtype")):
        run = json.loads(json.dumps(whole))
        held = run
        for name in place[:-1]:
            held = held[name]
        held[place[-1]] = {"class": code, "config": {}} if place[-1] == "scheduler" else code
        (here / "run" / "run.json").write_text(json.dumps(run))
        assert cli.main(["show", "run", "--diffusers"]) in (1, 2)
        assert capsys.readouterr().out == ""
    run = json.loads(json.dumps(whole))
    run["spec"]["sampler"]["prompt"] = run["request"]["model"] = code
    (here / "run" / "run.json").write_text(json.dumps(run))
    lines = done(capsys, "show", "run", "--diffusers").out
    assert not [one for one in lines.splitlines() if one.strip().startswith(("import os", "os.system"))]
    compile(lines, "lines", "exec")


@pytest.mark.slow
def test_a_page_goes_where_it_is_wanted(made, capsys):
    assert json.loads(done(capsys, "show", "run", "--html", "--out", "x.html", "--json").out)["file"] == "x.html"
    assert read_page("x.html").links
    Path("d").mkdir()
    for argv in (["--html", "--out", "d"], ["--out", "y.html"], ["--html", "--follow"]):
        assert "expected" in done(capsys, "show", "run", *argv, code=2).err


@pytest.mark.slow
def test_a_page_of_a_run_that_is_hostile_or_just_begun(made, capsys):
    run = json.loads((made / "run.json").read_text())
    run["spec"]["sampler"]["prompt"] = '"><script>alert(1)</script>\x1b[31m'
    (made / "run.json").write_text(json.dumps(run))
    image = next((made / "images").iterdir())
    image.unlink()
    image.symlink_to("/etc/passwd")
    done(capsys, "show", "run", "--html")
    page = read_page(made / "page.html")
    assert page.tags.count("script") == 1
    assert '"><script>alert(1)</script>' in page.texts
    (made / "journal.jsonl").write_bytes(b"")
    done(capsys, "show", "run", "--html")
    assert "no scored candidate yet" in read_page(made / "page.html").texts


# The best K


def test_the_best_are_kept_as_files_and_judged(model, here, capsys):
    found = json.loads(done(capsys, *arguments(model, "--keep", "3", "--judge", "compressibility", "--json")).out)
    order = json.loads(done(capsys, "show", "run", "--json").out)["candidates"]
    assert [one["id"] for one in found["kept"]] == [one["id"] for one in order[:3]]
    for place, one in enumerate(found["kept"], 1):
        assert one["file"] == f"run/kept/0{place}-{one['id']}.png"
        pixels, recipe = read_recipe(one["file"])
        assert set(recipe["scores"]) == {"brightness", "compressibility"}
        assert np.array_equal(pixels, read_image(here / "run" / "images" / f"{one['id']}.png")[0])
    judged = {key for one in read_journal("run") if one["verb"] == "judge" for key in one["ids"]}
    assert judged == {*(one["id"] for one in found["kept"]), found["baseline"]["id"]}
    found = json.loads(done(capsys, "resume", "run", "--budget", "9 images", "--json").out)
    assert sorted(os.listdir("run/kept")) == [Path(one["file"]).name for one in found["kept"]]


@pytest.mark.slow
def test_fewer_than_asked_for_are_said(model, here, capsys):
    found = done(capsys, *arguments(model, "--keep", "9"))
    assert "4 of the 9 images to keep" in found.err
    assert len(os.listdir("run/kept")) == 4


@pytest.mark.slow
def test_with_a_short_search_the_winners_are_rendered_in_full(model, here, capsys):
    given = arguments(model, "--search-steps", "1", "--keep", "2", "--json", budget="6 images")
    found = json.loads(done(capsys, *given).out)
    assert found["images"] <= 6
    finished = [one for one in read_journal("run") if one["verb"] == "finish" and one["steps"] == 2]
    full = {key for one in finished for key in one["ids"]}
    assert {one["id"] for one in found["kept"]} <= full
    assert len(full) in (2, 3)  # the baseline may be a winner
    few = arguments(model, "--search-steps", "1", "--keep", "2", budget="2 images")
    assert "at least 3 images" in done(capsys, *few, "--out", "other", code=2).err


# While it goes on


@pytest.fixture
def going(model, here):
    """A run of a slow verifier in a process of its own, which has made something."""
    (here / "slow.py").write_text(SLOW)
    argv = arguments(model, "--batch-size", "1", "--verifier", "slow.py:slow", "--judge", "none", budget="2000 images")
    process = started(argv, stderr=subprocess.PIPE)
    until(lambda: is_run("run") and len(read_journal("run")) > 4)
    yield process
    process.kill()
    process.wait()


def started(argv, **more):
    return warm.Popen([sys.executable, "-m", "noisewright", *argv], text=True, stdout=subprocess.PIPE, **more)


def until(true):
    end = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_run_is_followed_and_stopped(going, capsys):
    objects, lines = started(["show", "run", "--follow", "--json", "--top", "1"]), started(["show", "run", "--follow"])
    first = [objects.stdout.readline(), lines.stdout.readline()]
    out = done(capsys, "stop", "run", "--wait").out
    assert out == "run has ended: continue with: noisewright resume run\n"
    assert going.wait(PATIENCE_SECONDS) == 130
    assert "stopped; the best so far is saved" in going.stderr.read()
    found = [json.loads(one) for one in (first[0] + objects.communicate()[0]).splitlines()]
    told = (first[1] + lines.communicate()[0]).splitlines()
    assert (objects.returncode, lines.returncode) == (0, 0)
    run = read_run("run")
    assert (run["status"], run["stopped"]) == ("interrupted", "stopped")
    assert [one["status"] for one in found] == ["running"] * (len(found) - 1) + ["interrupted"]
    assert all(len(one["candidates"]) == 1 for one in found)
    points = [point for one in found for point in one["curve"]]
    assert [point["images"] for point in points] == list(range(1, found[-1]["images"] + 1))
    assert told[-1].startswith("interrupted (stopped): ")
    assert all(one.startswith("running: ") for one in told[:-1])
    assert not Path("run/.stop").exists()
    assert "which is not running" in done(capsys, "stop", "run", code=2).err


@pytest.mark.slow
def test_following_ends_quietly_with_ctrl_c_and_the_run_goes_on(going):
    watcher = started(["show", "run", "--follow"], stderr=subprocess.PIPE)
    watcher.stdout.readline()
    watcher.send_signal(signal.SIGINT)
    out, err = watcher.communicate(timeout=PATIENCE_SECONDS)
    assert watcher.returncode == 130
    assert err == ""
    assert "Traceback" not in out
    count = len(read_journal("run"))
    until(lambda: len(read_journal("run")) > count)
    assert going.poll() is None


@pytest.mark.slow
def test_following_ends_when_the_run_is_killed_and_says_so(going):
    watcher = started(["show", "run", "--follow"])
    watcher.stdout.readline()
    going.kill()
    out, _ = watcher.communicate(timeout=PATIENCE_SECONDS)
    assert watcher.returncode == 0
    assert out.splitlines()[-1].startswith("killed: ")


@pytest.mark.slow
def test_a_terminal_sees_one_table_that_changes(going):
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "noisewright", "show", "run", "--follow", "--top", "2"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    watcher = warm.Popen(argv, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    seen, end = b"", time.monotonic() + PATIENCE_SECONDS
    while seen.count(b"continue") < 3 and time.monotonic() < end:
        if select.select([ours], [], [], 1)[0]:
            seen += os.read(ours, 65536)
    going.kill()
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        seen += part
    assert watcher.wait(PATIENCE_SECONDS) == 0
    assert b"\x1b[" in seen  # it is drawn in place
    assert b"killed" in seen


@pytest.mark.slow
def test_a_run_that_is_over_is_shown_once(made, capsys):
    assert done(capsys, "show", "run", "--follow").out.count("\n") == 1
    assert "which is done" in done(capsys, "stop", "run", code=2).err
    assert "expected a run directory" in done(capsys, "stop", "nowhere", code=2).err
    assert "expected a run directory" in done(capsys, "show", "nowhere", "--follow", code=2).err
