"""Random arguments of the Python interface and random command lines: a result, or one line that says what is wrong.

The cases are the same in every run (``derandomize``).
"""

import contextlib
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import noisewright as nw
import tiny
from noisewright import cli
from noisewright.samplers.mixture import MixtureSampler

LONGEST_LINE = 900
"""Characters: a line that names every verifier and searches takes 500."""

CASES = settings(
    derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An otherwise empty directory to work in, with a tiny model beside it."""
    root = tmp_path_factory.mktemp("fuzz")
    tiny.sd().save_pretrained(root / "model", safe_serialization=True)
    (root / "work").mkdir()
    before = Path.cwd()
    os.chdir(root / "work")
    yield root
    os.chdir(before)


# Python


class Odd:
    """Neither number nor text, and hard to quote."""

    def __repr__(self):
        raise RuntimeError("no repr")


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


WORDS = st.text(st.characters(exclude_characters="/", max_codepoint=0x2FFF), max_size=12) | st.sampled_from(
    ["", "x" * 100_000, "a\0b", "\ud800", "two\nlines", "nan", "1e400", "\x1b[31m"]
)
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 0),
    st.sampled_from([2**63, 10**49, 10**400, -(10**400), 1j, object(), object, Odd(), b"x", range(3), nested(500)]),
    st.floats(),
    WORDS,
    st.lists(st.none() | st.integers() | WORDS, max_size=3),
    st.dictionaries(WORDS | st.integers(), st.floats() | WORDS, max_size=2),
    st.sampled_from([np.float32("nan"), np.bool_(True), np.array([1, 2]), torch.tensor(2.5), torch.ones(3)]),
)
RIGHT = {
    "prompt": ["a cat", "x"],
    "class_label": [None],
    "verifier": ["brightness", ["brightness", "sharpness"], lambda images, prompt: images.mean((1, 2, 3))],
    "judge": [None, "sharpness"],
    "search": ["random", "zero-order", "refine", "halving"],
    "search_args": [None, {}, {"n": 1}, {"n": np.int64(1)}],
    "budget": [1, "1 image", "9 nfe", ["1 image", "30 s"], np.int32(1)],
    "target": [None, 0.5, {"brightness": 0.5}, np.float32(0.1)],
    "num_inference_steps": [1, np.int64(2)],
    "search_steps": [None, 1],
    "guidance_scale": [None, 1, 2.5, np.float64(3)],
    "negative_prompt": [None, "", "blurred"],
    "height": [None, 16],
    "width": [None, 16],
    "frames": [None],
    "solver": [None, "ddim", "pipeline"],
    "eta": [None, 0.0, 1],
    "schedule": [None, "karras"],
    "force": [False],
    "no_check": [False, True],
    "seed": [0, 7, np.int64(3), 2**62],
    "ensemble": ["rank", "zsum", {"brightness": 1.0, "sharpness": np.float32(2)}],
    "score_cache": [None, Path("cache")],
    "batch_size": [None, 1, np.uint8(2)],
    "device": [None],
    "dtype": [None],
    "out": [None],
    "progress": [None, lambda run: None],
    "pictures": [False],
    "bugdet": ["1 image"],
}


@st.composite
def arguments(draw):
    """Up to three arguments, at least one of which has a random value."""
    names = draw(st.lists(st.sampled_from(list(RIGHT)), min_size=1, max_size=3, unique=True))
    found = {name: draw(st.sampled_from(RIGHT[name])) for name in names}
    return {**found, names[0]: draw(JUNK)}


def outcome(pipe, given):
    """A result, or the line it was refused with."""
    asked = {"verifier": "brightness", "budget": "1 image", "num_inference_steps": 1, "pictures": False, **given}
    prompt = asked.pop("prompt", "a cat")
    try:
        found = nw.search(pipe, prompt, **asked)
    except (ValueError, TypeError) as error:
        text = str(error)
        assert text
        assert "\n" not in text
        assert len(text) < LONGEST_LINE
        text.encode()  # half a surrogate pair would break the terminal
        return text
    assert found.images >= 1
    return found


@pytest.mark.slow
@settings(CASES, max_examples=200)
@given(given_=arguments())
def test_any_argument_gives_a_result_or_one_line(place, pipe, given_):
    outcome(pipe, given_)


@pytest.mark.slow
@settings(CASES, max_examples=60)
@given(given_=arguments())
def test_so_it_is_with_a_sampler(place, given_):
    outcome(MixtureSampler(steps=2), {"num_inference_steps": None, "prompt": "a mixture", **given_})


@pytest.mark.sampled(11)
@pytest.mark.parametrize("name", [name for name in RIGHT if name != "bugdet"])
def test_every_right_value_is_taken(place, pipe, name):
    """The table above is right, or the fuzz would only meet refusals."""
    beside = {
        "eta": {"solver": "ddim"}, "schedule": {"solver": "ddim"}, "height": {"width": 16}, "width": {"height": 16},
        "ensemble": {"verifier": ["brightness", "sharpness"]},
    }.get(name, {})  # fmt: skip
    for value in RIGHT[name]:
        more = {} if name in ("height", "width") and value is None else beside
        if isinstance(value, dict) and "n" not in value and name == "ensemble":
            more = beside
        if value == "halving":
            more = {"num_inference_steps": 4, "budget": "2 images"}
        assert isinstance(outcome(pipe, {**more, name: value}), nw.Result), (name, value)


# The command line


NUMBERS = st.sampled_from(["0", "-1", "1", "2", "2.5", "x", "", "9" * 30, "1e400", "nan", "inf", "0x10", "１"])
NAMES = WORDS | st.sampled_from(["brightness", "sharpness", "random", "ddim", "rank", "pipeline", "none.py:f", "a=1,b"])
PATHS = st.sampled_from(["missing", "../model", "bad.json", "deep.json", "empty", "bad.png", "pipe", "..", "a\0b"])
VALUES = {
    "generate": {
        "--search": NAMES,
        "--search-arg": st.sampled_from(["n=1", "n=-1", "n", "=", "start=bad.png"]) | NAMES,
        "--verifier": NAMES, "--judge": NAMES, "--budget": NUMBERS | NAMES, "--target": NUMBERS | NAMES,
        "--steps": NUMBERS, "--search-steps": NUMBERS, "--solver": NAMES, "--eta": NUMBERS,
        "--schedule": NAMES | PATHS, "--guidance-scale": NUMBERS, "--negative-prompt": WORDS, "--height": NUMBERS,
        "--width": NUMBERS, "--frames": NUMBERS | NAMES, "--seed": NUMBERS,
        "--ensemble": NAMES, "--batch-size": NUMBERS, "--executor": NAMES,
        "--device": NAMES, "--dtype": NAMES, "--model": PATHS, "--class-label": NAMES, "--score-cache": PATHS,
        "--nonsense": NUMBERS,
    },
    "show": {"--top": NUMBERS, "--json": None},
    "resume": {"--budget": NUMBERS | NAMES, "--target": NUMBERS | NAMES},
    "replay": {"--model": PATHS, "--device": NAMES, "--dtype": NAMES, "--out": PATHS},
    "score": {"--prompt": WORDS, "--verifier": NAMES, "--ensemble": NAMES, "--device": NAMES},
    "evaluate": {"--features": PATHS, "--reference": PATHS, "--metrics": NAMES, "--of": NAMES, "--neighbours": NUMBERS},
    "list": {"--json": None},
    "schedule show": {"--json": None},
    "schedule compare": {"--steps": NUMBERS, "--samples": NUMBERS, "--metric": NAMES, "--model": PATHS,
                         "--solver": NAMES, "--prompt": WORDS, "--prompts": PATHS, "--teacher-steps": NUMBERS},
    "schedule fit": {"--method": NAMES | st.sampled_from(["vrg", "dmn", "gits", "search"]), "--steps": NUMBERS,
                     "--errors": PATHS, "--from": NAMES | PATHS, "--out": PATHS, "--nodes": NUMBERS},
}  # fmt: skip
TAKES = {"generate": WORDS | st.just("a cat"), "list": NAMES}


@st.composite
def command_lines(draw):
    """A command with what it takes and up to three options."""
    command = draw(st.sampled_from(list(VALUES)))
    argv = [*command.split(), draw(TAKES.get(command, PATHS))]
    for option in draw(st.lists(st.sampled_from(list(VALUES[command])), max_size=3)):
        values = VALUES[command][option]
        argv += [option] if values is None else [f"{option}={draw(values)}"]
    if command == "generate":
        defaults = {"--model": "../model", "--verifier": "brightness", "--steps": "1", "--budget": "1 image"}
        argv += [f"{key}={value}" for key, value in defaults.items() if not any(one.startswith(key) for one in argv)]
        argv += ["--out=run"]
    return argv


def fill():
    """What :data:`PATHS` names."""
    Path("bad.json").write_text('{"schema_version": true}')
    Path("deep.json").write_text("[" * 100_000)
    Path("bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)
    Path("empty").mkdir(exist_ok=True)
    if not Path("pipe").exists():
        os.mkfifo("pipe")


@pytest.mark.slow
@settings(CASES, max_examples=250)
@given(argv=command_lines())
def test_any_command_line_is_done_or_refused_in_one_line(place, argv):
    fill()
    shutil.rmtree("run", ignore_errors=True)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(argv)
    said = [line for line in err.getvalue().splitlines() if not line.startswith("noisewright: warning: ")]
    assert code in (0, 2, 130), (argv, code, said)
    assert "Traceback" not in err.getvalue()
    assert len(said) == (1 if code == 2 else 0), (argv, said)
    assert all(len(line) < LONGEST_LINE for line in said), argv
    if code == 2 and Path("run").exists():  # pictures were made that no verifier can score: of a guidance of 1e30, say
        assert "the images are kept in run" in said[0], (argv, said)
