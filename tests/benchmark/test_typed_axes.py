"""Axes as they are typed in one line."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisewright.benchmark.cells import cells_of
from noisewright.benchmark.problems import SpecError
from noisewright.benchmark.prompt_sets import numbered
from noisewright.benchmark.typed_axes import grid_spec, typed_axis

PROMPTS = numbered(["two red circles", "a blue star"])


def changes_of(axis):
    return [dict(one.changes) for one in axis.values]


@pytest.mark.parametrize(("text", "name", "changes"), [
    ("steps=10,25,50", "num_inference_steps", [10, 25, 50]),
    ("num_inference_steps=10, 25", "num_inference_steps", [10, 25]),
    ("guidance-scale=3,4.5", "guidance_scale", [3, 4.5]),
    ("guidance_scale = 3", "guidance_scale", [3]),
    ('budget="8 images","32 images"', "budget", ["8 images", "32 images"]),
    ("budget=8,16", "budget", [8, 16]),
    ("budget=8 images, 100 nfe", "budget", ["8 images", "100 nfe"]),
    ("search=random,zero-order", "search", ["random", "zero-order"]),
    ("verifier=shapes-clip,shapes-clip+shapes-reward", "verifier", [["shapes-clip"], ["shapes-clip", "shapes-reward"]]),
    ("judge=none,shapes-oracle", "judge", [["none"], ["shapes-oracle"]]),
    ("solver=ddim,heun", "solver", ["ddim", "heun"]),
    ("schedule=uniform,karras", "schedule", ["uniform", "karras"]),
    ("model=noisewright/shapes,./mine", "model", ["noisewright/shapes", "./mine"]),
    ("eta=0,0.5,1", "eta", [0, 0.5, 1]),
    ("no-check=yes,no", "no_check", [True, False]),
    ("compile=true,false", "compile", [True, False]),
    ('negative-prompt="blurry, dark",7', "negative_prompt", ["blurry, dark", "7"]),
    ("ensemble=rank,zsum", "ensemble", ["rank", "zsum"]),
    ('negative-prompt="a\tb",x', "negative_prompt", ["a\tb", "x"]),
    ("dtype=float32,bfloat16", "dtype", ["float32", "bfloat16"]),
    ("class-label=cat,3", "class_label", ["cat", 3]),
])  # fmt: skip
def test_values_are_read_by_their_field(text, name, changes):
    axis = typed_axis(text)
    assert axis.name == name
    assert [one[name] for one in changes_of(axis)] == changes


def test_a_search_with_arguments():
    text = 'search=random,zero-order:neighbours=3;cosine=0.9,"evolution:at=0,0.5,population=4",paths:width=2'
    axis = typed_axis(text)
    assert [one.label for one in axis.values] == [
        "random", "zero-order:neighbours=3;cosine=0.9", "evolution:at=0,0.5,population=4", "paths:width=2",
    ]  # fmt: skip
    assert changes_of(axis) == [
        {"search": "random"},
        {"search": "zero-order", "search_args": {"neighbours": "3", "cosine": "0.9"}},
        {"search": "evolution", "search_args": {"at": "0,0.5", "population": "4"}},
        {"search": "paths", "search_args": {"width": "2"}},
    ]


@pytest.mark.parametrize(("text", "said"), [
    ("steps", "expected an axis as FIELD=VALUE,VALUE, got 'steps'"),
    ("=10", "expected an axis as FIELD=VALUE,VALUE, got '=10'"),
    ("steps=", "expected values of steps behind the equals sign, got none"),
    ("stpes=3", "expected a field of a request, such as steps, search or budget, got 'stpes'; did you mean steps?"),
    ("prompt=a", re.compile("expected a field of a request, such as .*, got 'prompt'.*")),
    ("steps=1,,2", "expected a value between any two commas of steps, got none in '1,,2'"),
    ("steps=1,2,", "expected a value between any two commas of steps, got none in '1,2,'"),
    ('budget="8 images', re.compile("expected values with commas between them, got .*")),
    ("steps=10,x", "expected num_inference_steps of at least 1, got 'x'"),
    ("steps=10,10", "expected each label of axis num_inference_steps once, got '10' twice"),
    ("budget=8 images,8 image", re.compile("expected values of axis budget that differ, got .*")),
    ("budget=x", re.compile("expected a budget .*")),
    ("search=randm", re.compile(r"unknown search 'randm': .*; did you mean random\?")),
    ("search=zero-order:neighbours", re.compile("expected a search as NAME:KEY=VALUE;KEY=VALUE, got .*")),
    ("search=zero-order:", re.compile("expected a search as NAME:KEY=VALUE;KEY=VALUE, got .*")),
    ("search=paths:width=1;width=2", "expected each argument of 'paths' once, got 'width' twice"),
    ("verifier=shaps-clip", re.compile("unknown verifier 'shaps-clip': .*")),
    ("verifier=shapes-clip+", re.compile("unknown verifier '': .*")),
    ("eta=nan", re.compile("expected .*")),
])  # fmt: skip
def test_wrong_axes(text, said):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        typed_axis(text)
    assert said.fullmatch(str(caught.value)) if isinstance(said, re.Pattern) else str(caught.value) == said


def test_all_that_is_wrong_with_an_axis_at_once():
    with pytest.raises(SpecError) as caught:
        typed_axis("steps=0,10,x")
    assert caught.value.problems == [
        "expected num_inference_steps of at least 1, got '0'", "expected num_inference_steps of at least 1, got 'x'",
    ]  # fmt: skip


def test_a_grid():
    spec = grid_spec(
        {"--x": "steps=10,25,50", "--y": "search=random,zero-order", "--z": "budget=8 images"},
        {"model": "noisewright/shapes"}, PROMPTS, "mine.txt", seeds=2, seed=5,
    )  # fmt: skip
    assert [axis.name for axis in spec.axes] == ["num_inference_steps", "search", "budget"]
    assert (spec.name, spec.title) == ("grid", "By steps, search and budget")
    assert (spec.prompt_set, spec.seeds, spec.seed, spec.across) == ("mine.txt", 2, 5, "num_inference_steps")
    cells = list(cells_of(spec))
    assert len(cells) == 2 * 2 * 6
    assert cells[0].coordinates == {"num_inference_steps": "10", "search": "random", "budget": "8 images"}
    assert {cell.request.model for cell in cells} == {"noisewright/shapes"}


@pytest.mark.parametrize(("axes", "base", "said"), [
    ({"--x": "stpes=3", "--y": "eta=2,x"}, {"steps": 3},
     ["--x: expected a field .*", "--y: expected a finite number as eta, got 'x'", "unknown field 'steps': .*"]),
    ({"--x": "steps=1", "--y": "num-inference-steps=2"}, {},
     ["expected each axis once, got num_inference_steps twice"]),
    ({"--x": "steps=1,2"}, {"num_inference_steps": 3},
     ["expected num_inference_steps for all cells or on an axis, got both: .*"]),
    ({"--x": "search=random,zero-order:neighbors=4"}, {},
     [r"unknown argument of zero-order 'neighbors': .*; did you mean neighbours\?"]),
    ({"--x": "verifier=shapes-clip,sharpness"}, {"judge": ["sharpness"]},
     ["expected a judge that the search never .*"]),
    ({"--x": "steps=" + ",".join(map(str, range(1, 1001))), "--y": "guidance-scale=" + ",".join(map(str, range(1000)))},
     {}, ["expected a grid of at most 1000000 cells, got 2000000"]),
])  # fmt: skip
def test_wrong_grids(axes, base, said):
    with pytest.raises(SpecError) as caught:
        grid_spec(axes, base, PROMPTS)
    assert len(caught.value.problems) == len(said)
    for problem, pattern in zip(caught.value.problems, said, strict=True):
        assert re.fullmatch(pattern, problem)


PIECES = st.sampled_from([
    "steps", "search", "budget", "verifier", "=", "=", ",", ",", "+", ":", ";", '"', "10", "random", "zero-order",
    "x=1", "8 images", "nan", "1e999", "[1", "{", "\\", "shapes-clip", "\n", "\0", "-1", "true", "model", "target",
])  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=10).map("".join) | st.text(max_size=40).map("negative-prompt={}".format) | st.text())
def test_any_text_is_an_axis_or_wrong_in_clean_lines(text):
    try:
        axis = typed_axis(text)
    except (ValueError, TypeError) as error:
        assert all(line and line.isprintable() for line in str(error).split("\n"))  # noqa: PT017 - it may be either
        return
    assert axis.values
    assert all(one.label.isprintable() and one.changes for one in axis.values)


@pytest.mark.parametrize("seeds", [0, 10_001])
def test_seeds_have_the_bounds_that_a_spec_has(seeds):
    with pytest.raises(SpecError, match=r"expected seeds in \[1, 10000\], got"):
        grid_spec({"--x": "steps=2,3"}, {"model": "noisewright/shapes"}, PROMPTS, seeds=seeds)
