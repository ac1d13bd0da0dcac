import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import tiny
import warm
from commands import done, refused, run
from noisewright import cli
from noisewright.cli.list import KINDS
from noisewright.images.metadata import read_recipe
from noisewright.run.reading import read_journal, read_run
from noisewright.samplers import machine
from noisewright.samplers.pipeline import PipelineSampler

KEYS = {"best", "baseline", "nfe", "forwards", "images", "seconds", "stopped", "run", "warnings"}
PHASES = {"encode", "denoise", "decode", "verify", "total"}
DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
VERIFIERS = '''
def good(images, prompt): return [float(n) for n in range(len(images))]
def nan(images, prompt): return [float("nan")] * len(images)
def few(images, prompt): return [1.0]
def boom(images, prompt): raise RuntimeError("no luck\\nsecond line")
def words(images, prompt): return ["a"] * len(images)
'''


def arguments(model, *more, budget="3 images"):
    given = ["generate", "a cat", "--model", str(model), "--verifier", "brightness", "--steps", "2"]
    return [*given, *(["--budget", budget] if budget else []), *more]


@pytest.mark.parametrize("argv", [["score", "/x.png", "--prompt", "a", "--verifier", "brightness"], ["generate", "a"]])
def test_a_working_directory_that_is_gone_is_one_line(here, capsys, monkeypatch, argv):
    gone = here / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    refused(capsys, argv, "expected a working directory that is there")


@pytest.fixture
def made(model, here, capsys):
    """A finished run of three candidates in ``run``."""
    found = json.loads(done(capsys, arguments(model, "--judge", "sharpness", "--out", "run", "--json")))
    return here / "run", found


# What it gives


def test_generate_json_has_the_keys_that_others_rely_on(made):
    run, found = made
    assert set(found) >= KEYS
    assert set(found["seconds"]) == PHASES
    for name in ("best", "baseline"):
        assert set(found[name]) >= {"id", "seed", "scores", "file"}
        assert set(found[name]["scores"]) == {"brightness", "sharpness"}
        assert found[name]["file"] == f"run/{name}.png"
    assert found["baseline"]["seed"] == 0
    assert found["run"] == "run"
    assert (found["images"], found["nfe"], found["forwards"]) == (3, 6, 12)
    for name in ("run.json", "journal.jsonl", "best.png", "baseline.png", "contact-sheet.png", "curve.png"):
        assert (run / name).is_file()
    for name in ("images", "states"):
        assert (run / name).is_dir()


def test_generate_prints_the_table_and_the_pictures(model, here, capsys):
    out = done(capsys, arguments(model, "--judge", "sharpness", "--out", "run"))
    for part in ("baseline", "best", "brightness", "verifier", "sharpness", "judge", "3 images, 6 NFE, 12 forwards"):
        assert part in out
    assert out.endswith("\n\nrun\n")
    assert out.count("run/") == 0  # one path, the folder's


def test_generate_makes_a_directory_named_after_time_and_prompt(model, here, capsys):
    done(capsys, arguments(model))
    (made,) = (here / "runs").iterdir()
    assert re.fullmatch(r"\d{8}T\d{6}Z-a-cat", made.name)


@pytest.mark.slow
def test_png_holds_both_chunks(made):
    run, found = made
    info = Image.open(run / "best.png").info
    prompt, settings = info["parameters"].splitlines()
    assert prompt == "a cat"
    pairs = dict(re.findall(r"([^:,]+): ([^,]+)(?:, |$)", settings))
    assert pairs["Steps"] == "2"
    assert pairs["Seed"] == str(found["best"]["seed"])
    assert pairs["Size"] == "32x32"
    assert pairs["Search"] == "random"
    assert float(pairs["Score brightness"]) == pytest.approx(found["best"]["scores"]["brightness"], rel=1e-5)
    recipe = json.loads(info["noisewright"])
    assert recipe["id"] == found["best"]["id"]
    assert recipe["sampler"]["prompt"] == "a cat"


def test_what_the_machine_decides_is_said_once_and_recorded(model, here, capsys, monkeypatch):
    monkeypatch.setattr(machine, "flags", lambda: frozenset())
    (here / "two.txt").write_text("a cat\na dog\n")
    given = ["generate", "--prompt-file", "two.txt", "--model", model, "--verifier", "brightness", "--steps", "2"]
    ended = run(capsys, [*given, "--budget", "1 images", "--dtype", "auto", "--out", "many", "--json"])
    assert ended.code == 0
    said = "dtype float32: no bfloat16 instructions are known of this processor"
    assert ended.err == f"noisewright: {said}\n"
    for one in json.loads(ended.out)["runs"]:
        held = read_run(here / one["run"])
        assert held["decided"]["dtype"]["choice"] == held["request"]["dtype"] == "float32"
    again = run(capsys, ["generate", "a cat", *given[3:], "--budget", "1 images", "--dtype", "auto", "--dry-run"])
    assert again.err == f"noisewright: {said}\n"


def test_target_stops_early(model, here, capsys):
    found = json.loads(done(capsys, arguments(model, "--target", "0.1", "--batch-size", "1", "--json", "--out", "run")))
    assert found["stopped"] == "target"
    assert found["images"] == 1


@pytest.mark.slow
def test_search_steps_render_the_winner_in_full(model, here, capsys):
    given = arguments(model, "--search-steps", "1", "--out", "run", "--json", budget="6 images")
    found = json.loads(done(capsys, given))
    assert found["nfe"] in (4 * 1 + 2 * 2, 4 * 1 + 2)  # the winner may be the baseline's own seed
    shown = json.loads(done(capsys, ["show", "run", "--json"]))
    assert shown["best"]["id"] == found["best"]["id"]
    assert shown["best"]["steps"] == 2


@pytest.mark.slow
def test_several_verifiers_and_targets_by_name(model, here, capsys):
    more = ["--verifier", "sharpness", "--target", "brightness=9", "--target", "sharpness=9", "--ensemble", "zsum"]
    found = json.loads(done(capsys, arguments(model, *more, "--out", "run", "--json")))
    assert set(found["best"]["scores"]) == {"brightness", "sharpness"}
    assert found["stopped"].startswith("budget")


@pytest.mark.slow
def test_verifier_from_a_file_survives_a_change_of_directory(model, here, capsys, monkeypatch):
    (here / "mine.py").write_text(VERIFIERS)
    given = ["generate", "a cat", "--model", model, "--steps", "2", "--budget", "2", "--verifier", "mine.py:good"]
    found = json.loads(done(capsys, [*given, "--out", here / "run", "--json"]))
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    more = json.loads(done(capsys, ["resume", here / "run", "--budget", "3", "--trust", "--json"]))
    assert more["images"] == found["images"] + 1


def test_dry_run_plans_what_the_run_then_costs_and_writes_nothing(model, here, capsys):
    given = arguments(model, "--out", "run")
    planned = json.loads(done(capsys, [*given, "--dry-run", "--json"]))
    assert not (here / "run").exists()
    assert not (here / "runs").exists()
    found = json.loads(done(capsys, [*given, "--json"]))
    for key in ("images", "nfe", "forwards"):
        assert planned[key] == found[key]
    text = done(capsys, [*given, "--dry-run"])
    assert "3 candidates" in text
    assert "2 forwards per NFE, measured" in text


def test_dry_run_counts_the_reserve(model, here, capsys):
    more = ["--search-steps", "1", "--dry-run", "--json"]
    planned = json.loads(done(capsys, arguments(model, *more, budget="24 nfe")))
    assert planned["reserve"] == {"images": 2, "nfe": 4}
    assert (planned["candidates"], planned["nfe"], planned["limit"]) == (20, 24, "nfe")


@pytest.mark.slow
def test_card_names_verifier_judge_and_words(here, capsys):
    path = here / "carded"
    tiny.sd().save_pretrained(path, safe_serialization=True)
    card = {"name": "carded", "verifier": "brightness", "judge": "shapes-oracle", "words": ["two", "red", "circles"]}
    (path / "noisewright.json").write_text(json.dumps(card))
    capsys.readouterr()  # the library's bars
    given = ["--model", "carded", "--steps", "1", "--budget", "1", "--json"]
    assert cli.main(["generate", "two red circles", *given, "--out", "a"]) == 0
    out, err = capsys.readouterr()
    assert set(json.loads(out)["best"]["scores"]) == {"brightness", "shapes-oracle"}
    assert err == ""
    assert cli.main(["generate", "two red zebras", *given, "--out", "b"]) == 0
    out, err = capsys.readouterr()
    assert set(json.loads(out)["best"]["scores"]) == {"brightness"}
    assert "noisewright: warning: " in err
    assert "zebras" in err
    assert "shapes-oracle is not asked" in err
    card["judge"] = ["brightness", "sharpness"]  # the first that does not verify
    (path / "noisewright.json").write_text(json.dumps(card))
    for verifier, wanted in ((), "sharpness"), (["--verifier", "color:#ff0000,name=sharpness"], "brightness"):
        assert cli.main(["generate", "two red circles", *given, "--out", wanted, *verifier]) == 0
        assert wanted in json.loads(capsys.readouterr().out)["best"]["scores"]


# Going on


def test_resume_of_a_finished_run_reports_it_again(made, capsys):
    run, found = made
    before = (run / "journal.jsonl").read_bytes()
    assert json.loads(done(capsys, ["resume", "run", "--json"])) == found
    assert (run / "journal.jsonl").read_bytes() == before


@pytest.mark.slow
def test_resume_with_a_larger_budget_equals_one_run_of_it(made, model, capsys):
    run, _ = made
    more = json.loads(done(capsys, ["resume", "run", "--budget", "5 images", "--json"]))
    given = arguments(model, "--judge", "sharpness", "--out", "whole", "--json", budget="5 images")
    whole = json.loads(done(capsys, given))
    assert (more["images"], more["nfe"], more["best"]["id"]) == (whole["images"], whole["nfe"], whole["best"]["id"])
    assert read_run(run)["request"]["budget"] == ["5 images"]


def test_generate_again_into_the_same_directory_continues(made, model, capsys):
    _, found = made
    again = json.loads(done(capsys, arguments(model, "--judge", "sharpness", "--out", "run", "--json")))
    assert again["best"] == found["best"]
    assert again["nfe"] == found["nfe"]


@pytest.mark.slow
def test_resume_of_a_run_from_python_says_so(made, capsys):
    run, _ = made
    held = read_run(run)
    del held["request"]
    (run / "run.json").write_text(json.dumps(held))
    refused(capsys, ["resume", "run"], "started from Python", "noisewright.search")


def started(model, out, *more):
    """A run in a process of its own that would take minutes, with some of it done."""
    given = arguments(model, "--steps", "20", "--out", str(out), "--batch-size", "2", *more, budget="5000 images")
    command = [sys.executable, "-m", "noisewright", *given]
    process = warm.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        journal = out / "journal.jsonl"
        if journal.exists() and journal.read_bytes().count(b"\n") >= 4:
            return process
        time.sleep(0.05)
    process.kill()
    pytest.fail(f"no candidate was made: {process.communicate()}")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_keeps_the_best_and_goes_on(model, here, capsys, number):
    process = started(model, here / "run", "--json")
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("noisewright: interrupted; the best so far is saved")
    found = json.loads(out)
    assert found["stopped"] == "interrupted"
    Image.open(here / "run" / "best.png").verify()
    assert read_run(here / "run")["status"] == "interrupted"
    more = json.loads(done(capsys, ["resume", "run", "--budget", f"{found['images'] + 1} images", "--json"]))
    assert more["images"] == found["images"] + 1


@pytest.mark.slow
def test_show_of_a_running_and_of_a_killed_run_with_a_torn_line(model, here, capsys):
    process = started(model, here / "run")
    assert json.loads(done(capsys, ["show", "run", "--json"]))["status"] == "running"
    process.kill()
    process.communicate()
    with (here / "run" / "journal.jsonl").open("ab") as file:
        file.write(b'{"verb":"finish","ids":["torn')
    found = json.loads(done(capsys, ["show", "run", "--json"]))
    assert found["status"] == "killed"
    assert found["best"]["lineage"]
    assert found["images"] >= 2
    text = done(capsys, ["show", "run"])
    assert "noisewright resume run" in text
    assert "killed" in text
    done(capsys, ["resume", "run", "--budget", f"{found['images'] + 3} images"])


@pytest.mark.slow
def test_full_disk_leaves_a_run_that_goes_on(model, here, capsys, monkeypatch):
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > 8:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    given = arguments(model, "--batch-size", "1", "--out", "run", "--json", budget="6 images")
    err = refused(capsys, given, "No space left on device", "noisewright resume run", code=1)
    assert "Traceback" not in err
    monkeypatch.setattr(os, "fsync", real)
    kept = len(read_journal(here / "run"))
    assert kept > 0
    found = json.loads(done(capsys, ["resume", "run", "--json"]))
    assert (found["images"], found["nfe"]) == (6, 12)


@pytest.mark.slow
def test_unexpected_failure_is_one_line_that_names_the_run(model, here, capsys, monkeypatch):
    from noisewright.evaluate import report

    monkeypatch.setattr(report, "contact_sheet", lambda *given, **more: 1 / 0)
    err = refused(capsys, arguments(model, "--out", "run"), "ZeroDivisionError", "run", code=1)
    assert "Traceback" not in err
    monkeypatch.setenv("NOISEWRIGHT_DEBUG", "1")
    assert cli.main(arguments(model, "--out", "run")) == 1
    assert "Traceback" in capsys.readouterr().err


# Showing and scoring


@pytest.mark.slow
def test_show_lists_candidates_curve_and_cost(made, capsys):
    _, found = made
    shown = json.loads(done(capsys, ["show", "run", "--json"]))
    assert shown["status"] == "done"
    assert shown["best"]["id"] == found["best"]["id"]
    assert shown["baseline"]["id"] == found["baseline"]["id"]
    assert shown["best"]["scores"] == found["best"]["scores"]
    assert [point["images"] for point in shown["curve"]] == [1, 2, 3]
    scores = [one["scores"]["brightness"] for one in shown["candidates"]]
    assert scores == sorted(scores, reverse=True)
    text = done(capsys, ["show", "run", "--top", "1"])
    for part in ("a cat", "brightness", "curve", "lineage", "6 NFE", "noisewright resume run"):
        assert part in text


@pytest.mark.slow
def test_score_sorts_and_expands_directories(made, here, capsys):
    Image.new("RGB", (50, 20), "white").save(here / "white.png")
    Image.new("L", (7, 9), 0).save(here / "black.jpg")
    given = ["score", "white.png", "run", "black.jpg", "--prompt", "x", "--verifier", "brightness"]
    found = json.loads(done(capsys, [*given, "--json"]))
    assert (found["images"][0]["file"], found["images"][-1]["file"]) == ("white.png", "black.jpg")
    assert len(found["images"]) == 5
    assert found["images"][0]["scores"] == {"brightness": pytest.approx(1.0)}
    assert "white.png" in done(capsys, given)


@pytest.mark.slow
def test_score_of_one_corrupt_image_among_others(made, here, capsys):
    (here / "bad.png").write_text("no image")
    given = ["score", "bad.png", "run/best.png", "--prompt", "x", "--verifier", "brightness"]
    assert cli.main(given) == 2
    out, err = capsys.readouterr()
    assert "run/best.png" in out
    assert "bad.png" not in out
    assert "bad.png" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_list(kind, capsys):
    found = json.loads(done(capsys, ["list", kind, "--json"]))
    assert found
    text = done(capsys, ["list", kind])
    for one in found:
        assert one["name"] in text
        assert one["summary"]
    if kind == "searches":
        assert found[0]["name"] == "random"
        assert found[0]["arguments"] == {"n": None}


def test_version_and_help(capsys):
    assert re.fullmatch(r"noisewright \d+\.\d+\.\d+\S*\n", done(capsys, ["--version"]))
    text = done(capsys, ["--help"])
    for name in ("generate", "resume", "replay", "show", "score", "list"):
        assert name in text
    assert done(capsys, []) == text


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from noisewright.cli import main; code = main(['--help']); "
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'matplotlib', 'PIL', 'pydantic'}; "
        "print(code, *sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "0"


def test_broken_pipe_is_quiet():
    code = "import sys; from noisewright.cli import main; sys.exit(main())"
    command = f"{sys.executable} -c '{code}' list verifiers --json | true"
    found = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert found.stderr == ""


# Wrong use: one line, exit code 2, nothing spent


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (["--model", "noisewright/shaps"], ["noisewright/shaps", "did you mean noisewright/shapes"]),
        (["--model", "nowhere/at/all"], ["nowhere/at/all"]),
        (["--model", "weights.ckpt"], ["safetensors"]),
        (["--verifier", "brightnes"], ["brightnes", "did you mean brightness"]),
        (["--judge", "sharpnes"], ["did you mean sharpness"]),
        (["--judge", "brightness"], ["never sees"]),
        (["--search", "randm"], ["did you mean random"]),
        (["--solver", "dim"], ["did you mean ddim"]),
        (["--schedule", "pipelin"], ["did you mean pipeline"]),
        (["--executor", "rey"], ["did you mean ray"]),
        (["--ensemble", "ranks"], ["did you mean rank"]),
        (["--budget", "0 images"], ["above 0"]),
        (["--budget", "-4 images"], ["above 0"]),
        (["--budget", "5 parsecs"], ["parsecs", "images, nfe or seconds"]),
        (["--budget", "lots"], ["64 images", "lots"]),
        (["--budget", "1 nfe"], ["2 nfe"]),
        (["--steps", "0"], ["--steps"]),
        (["--steps", "many"], ["--steps"]),
        (["--search-steps", "0"], ["--search-steps"]),
        (["--batch-size", "0"], ["--batch-size"]),
        (["--search-arg", "n=0"], ["n of at least 1"]),
        (["--search-arg", "n=two"], ["two"]),
        (["--search-arg", "m=2"], ["unknown argument"]),
        (["--search-arg", "n"], ["NAME=VALUE"]),
        (["--target", "high"], ["high"]),
        (["--target", "sharpness=1"], ["sharpness", "brightness"]),
        (["--seed", "-1"], ["seed"]),
        (["--eta", "0.5"], ["--solver ddim"]),
        (["--solver", "ddim", "--eta", "7"], ["eta"]),
        (["--guidance-scale", "nan"], ["--guidance-scale"]),
        (["--height", "33", "--width", "32"], ["33"]),
        (["--height", "64"], ["width"]),
        (["--height", "0", "--width", "32"], ["--height"]),
        (["--device", "abacus"], ["abacus"]),
        (["--dtype", "float8"], ["did you mean float"]),
        (["--stpes", "2"], ["--stpes", "--steps"]),
        (["two", "prompts"], ["extra argument"]),
    ],
)
def test_generate_refuses(model, here, capsys, more, parts):
    given = arguments(model, *more, budget=None if "--budget" in more else "3 images")
    if more[0] == "--verifier":
        given = [one for one in given if one not in ("brightness",)]
        given.remove("--verifier")
    refused(capsys, [*given, "--out", "run"], *parts)
    assert not (here / "run").exists()


@pytest.mark.parametrize("prompt", ["", "  ", "x" * 10_000])
def test_generate_refuses_prompts(model, here, capsys, prompt):
    given = arguments(model, "--out", "run")
    given[1] = prompt
    refused(capsys, given, "prompt")
    assert not (here / "run").exists()


def test_generate_refuses_directories_that_are_no_pipeline(here, capsys):
    (here / "empty").mkdir()
    refused(capsys, arguments("empty"), "model_index.json")
    (here / "pickles" / "unet").mkdir(parents=True)
    (here / "pickles" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (here / "pickles" / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"x")
    refused(capsys, arguments("pickles"), "safetensors", "refused")


@pytest.mark.slow
def test_generate_refuses_places_it_cannot_write(made, model, here, capsys):
    (here / "file").write_text("x")
    refused(capsys, arguments(model, "--out", "file"), "file")
    refused(capsys, arguments(model, "--out", "file/run"), "file/run")
    (here / "full").mkdir()
    (here / "full" / "thesis.txt").write_text("x")
    refused(capsys, arguments(model, "--out", "full"), "full", "other files")
    assert (here / "full" / "thesis.txt").exists()
    before = (here / "run" / "journal.jsonl").read_bytes()
    refused(capsys, arguments(model, "--seed", "7", "--out", "run"), "run", "another run")
    assert (here / "run" / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("function", "part"),
    [("nan", "NaN"), ("few", "expected 3 scores, got 1"), ("boom", "no luck"), ("words", "numbers")],
)
def test_failing_verifiers_lose_no_image(model, here, capsys, function, part):
    (here / "mine.py").write_text(VERIFIERS + "\nfew.first_call = words.first_call = False\n")
    given = ["generate", "a cat", "--model", model, "--steps", "1", "--budget", "3", "--out", "run"]
    refused(capsys, [*given, "--verifier", f"mine.py:{function}"], part, "run", code=1)
    assert len(list((here / "run" / "images").iterdir())) == 3
    assert read_run(here / "run")["status"] == "failed"


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["generate"], ["PROMPT", "generate --help"]),
        (["genrate", "x"], ["genrate"]),
        (["list", "serches"], ["did you mean searches"]),
        (["show", "nowhere"], ["run.json"]),
        (["resume", "nowhere"], ["run.json"]),
        (["score", "bad.png", "--prompt", "x", "--verifier", "brightness"], ["bad.png"]),
        (["score", "gone.png", "--prompt", "x", "--verifier", "brightness"], ["gone.png", "does not exist"]),
        (["score", "empty", "--prompt", "x", "--verifier", "brightness"], ["empty"]),
        (["score", "white.png", "--prompt", "", "--verifier", "brightness"], ["prompt"]),
        (["score", "white.png", "--prompt", "x", "--verifier", "brightnes"], ["did you mean brightness"]),
        (["score", "white.png", "--prompt", "x"], ["--verifier"]),
        (["replay", "gone.png"], ["gone.png"]),
        (["replay", "bad.png"], ["bad.png"]),
        (["replay", "white.png"], ["recipe"]),
        (["replay", "empty"], ["RUN:ID"]),
    ],
)
def test_other_commands_refuse(here, capsys, argv, parts):
    (here / "bad.png").write_text("no image")
    (here / "empty").mkdir()
    Image.new("RGB", (8, 8), "white").save(here / "white.png")
    refused(capsys, argv, *parts)


@pytest.mark.slow
def test_show_of_a_damaged_run(made, capsys):
    run, _ = made
    lines = (run / "journal.jsonl").read_text().splitlines()
    (run / "journal.jsonl").write_text("\n".join(["{torn", *lines, ""]))
    assert cli.main(["show", "run", "--json"]) == 0
    said = capsys.readouterr()
    assert "1 damaged lines" in said.err
    assert json.loads(said.out)["warnings"]
    (run / "run.json").write_text("{")
    refused(capsys, ["show", "run"], "run.json")


# The documentation


def shown_help(name):
    """``noisewright NAME --help`` at 80 columns; NAME of a subcommand is ``schedule-fit``."""
    code = "import sys; from noisewright.cli import main; sys.exit(main())"
    given = [sys.executable, "-c", code, *(name.split("-") if name != "noisewright" else []), "--help"]
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    return warm.run(given, capture_output=True, text=True, check=True, env=environment).stdout.rstrip()


def with_help(text, shown=shown_help):
    """The page with every block after a line ``<!-- help: NAME -->`` as the program prints it now."""
    pattern = re.compile(r"(<!-- help: (\S+) -->\n```text\n).*?(\n```)", re.DOTALL)
    return pattern.sub(lambda found: found[1] + shown(found[2]) + found[3], text)


@pytest.mark.slow
def test_documented_help_is_the_programs():
    text = DOCS.read_text()
    names = re.findall(r"<!-- help: (\S+) -->", text)
    commands = {"generate", "resume", "replay", "show", "stop", "check", "score", "evaluate", "list"}
    commands |= {"benchmark", "compare", "audit", "calibrate", "serve"}
    schedules = {f"schedule-{name}" for name in ("measure", "fit", "show", "compare")}
    assert set(names) == {"noisewright"} | commands | schedules
    now = with_help(text)
    assert " ".join(now.split()) == " ".join(text.split()), "run: python tests/cli/test_cli.py"


@pytest.mark.slow
def test_refine_starts_from_an_image_it_is_given(here, model, capsys):
    first = done(capsys, [*arguments(model), "--out", "one", "--json"])
    words = ["--search", "refine", "--search-arg", "population=2", "--search-arg", "elites=1", "--search-arg"]
    found = done(capsys, [*arguments(model), *words, "start=one/best.png", "--out", "two", "--json"])
    best = json.loads(first)["best"]
    lines = [line for line in read_journal(here / "two") if line["verb"] == "finish"]
    assert lines[0]["seeds"][0] == best["seed"], "the first image is not the one it was given"
    pixels = {key: hash for line in lines for key, hash in zip(line["ids"], line["pixels"], strict=True)}
    assert pixels[best["id"]] == next(
        hash for line in read_journal(here / "one") if line["verb"] == "finish"
        for key, hash in zip(line["ids"], line["pixels"], strict=True) if key == best["id"]
    )  # fmt: skip
    assert json.loads(found)["best"]["scores"]["brightness"] >= best["scores"]["brightness"]


@pytest.mark.slow
def test_refine_refuses_an_image_that_its_noise_does_not_make(here, model, capsys):
    steps = ["--steps", "20"]
    words = [*steps, "--search", "paths", "--search-arg", "children=2", "--search-arg", "width=1"]
    done(capsys, [*arguments(model, budget="200 nfe"), *words, "--out", "one", "--json"])
    images = [path for path in (here / "one" / "images").iterdir() if '"renoise"' in read_recipe_text(path)]
    assert images, "no image that was carried back"
    words = [*steps, "--search", "refine", "--search-arg", f"start={images[0]}"]
    refused(capsys, [*arguments(model), *words], "renoise", "starting noise alone")


def read_recipe_text(path):
    return json.dumps(read_recipe(path)[1])


def test_refine_refuses_what_is_no_image_of_ours(here, model, capsys):
    Image.new("RGB", (8, 8)).save("plain.png")
    refused(capsys, [*arguments(model), "--search", "refine", "--search-arg", "start=plain.png"], "plain.png")
    refused(capsys, [*arguments(model), "--search", "refine", "--search-arg", "start=gone.png"], "gone.png")


@pytest.mark.slow
def test_gradient_on_the_command_line(here, model, capsys):
    words = ["--search", "gradient", "--search-arg", "iterations=2", "--search-arg", "rate=1", "--solver", "ddim"]
    found = json.loads(done(capsys, [*arguments(model, budget="20 nfe"), *words, "--out", "run", "--json"]))
    assert found["nfe"] == 2 * (1 + 2 + 1)
    assert found["best"]["scores"]["brightness"] >= found["baseline"]["scores"]["brightness"]
    climbed = [path for path in (here / "run" / "images").iterdir() if '"ascend"' in read_recipe_text(path)]
    refused(capsys, ["replay", climbed[0], "--model", model], "gradient ascent")


def test_gradient_refuses_what_has_none(here, model, capsys):
    refused(capsys, [*arguments(model), "--search", "gradient", "--verifier", "sharpness"], "sharpness", "gradient")
    words = ["--search", "gradient", "--solver", "ddim", "--eta", "1"]
    refused(capsys, [*arguments(model), *words], "gradient", "eta")


def test_eta_for_a_solver_that_has_none(here, model, capsys):
    refused(capsys, [*arguments(model), "--eta", "1"], "eta", "--solver ddim")


def test_previews_of_a_prediction_that_nobody_can_read(here, model, capsys, monkeypatch):
    monkeypatch.setattr(PipelineSampler, "can_preview", False)
    refused(capsys, [*arguments(model), "--steps", "8", "--search", "halving"], "previews", "halving", "epsilon")


if __name__ == "__main__":
    DOCS.write_text(with_help(DOCS.read_text()))
