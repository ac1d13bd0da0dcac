"""The cells of a grid: their order, their seeds, and that each is the request that its coordinates say."""

import json

import pytest

from noisewright.benchmark.cells import MOST_CELLS, cells_of, count_cells, points_of
from noisewright.benchmark.prompt_sets import numbered
from noisewright.benchmark.spec import Axis, SetPrompt, Spec, Value
from noisewright.request import Request

BASE = {"model": "noisewright/shapes", "verifier": ["shapes-clip"], "search_args": {}}


def axis(name, *values):
    return Axis(name, tuple(Value(str(one), {name: one}) for one in values))


def grid(*axes, prompts=("two red circles", "a blue star"), **others):
    return Spec("grid", "A grid", BASE, axes, numbered(prompts), **others)


def test_the_product_prompt_by_prompt():
    spec = grid(axis("num_inference_steps", 5, 10), axis("budget", "8 images", "32 images"), seeds=2)
    cells = list(cells_of(spec))
    assert count_cells(spec) == len(cells) == 16
    assert [(cell.prompt.number, cell.repeat) for cell in cells[::4]] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert [tuple(cell.coordinates.values()) for cell in cells[:4]] == [
        ("5", "8 images"), ("5", "32 images"), ("10", "8 images"), ("10", "32 images"),
    ]  # fmt: skip
    assert len({cell.digest for cell in cells}) == 16


def test_each_is_the_request_that_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "five.json").write_text("{}")
    spec = grid(axis("schedule", "uniform", "five.json"), axis("budget", ["8 images"], "3 seconds"), seeds=3, seed=2)
    for cell in cells_of(spec):
        fields = {"schedule": cell.coordinates["schedule"], "budget": cell.request.budget}
        seed = 2 + 1000 * (cell.prompt.number - 1) + cell.repeat
        whole = Request(**{**BASE, **fields}, prompt=cell.prompt.text, seed=seed).located()
        assert whole == cell.request
        assert whole.digest == cell.digest
        assert type(cell.request.seed) is int


def test_seeds_go_by_the_place_in_the_whole_set():
    prompts = (SetPrompt("a", 3), SetPrompt("b", 7))
    spec = Spec("x", "x", BASE, (), prompts, seeds=2, seed=10, seed_step=100)
    assert [cell.request.seed for cell in cells_of(spec)] == [210, 211, 610, 611]
    same = Spec("x", "x", BASE, (), prompts, seed_step=0)
    assert [cell.request.seed for cell in cells_of(same)] == [0, 0]


def test_values_that_set_several_fields_and_values_that_leave_base_alone():
    several = Axis("search", (
        Value("plain", {"search": "random"}),
        Value("near", {"search": "zero-order", "search_args": {"neighbours": 2}}),
    ))  # fmt: skip
    plain, near = cells_of(grid(several, prompts=["a"]))
    assert (plain.request.search, plain.request.search_args) == ("random", {})
    assert (near.request.search, near.request.search_args) == ("zero-order", {"neighbours": 2})


def test_no_axis_is_one_cell_a_prompt():
    assert [cell.coordinates for cell in cells_of(grid())] == [{}, {}]


@pytest.mark.parametrize(("spec", "said"), [
    (grid(axis("num_inference_steps", 0)), "expected num_inference_steps of at least 1, got 0"),
    (grid(axis("seed", 4)), "expected no seed in a grid's fields, got 4"),
    (grid(axis("prompt", "x")), "expected no prompt in a grid's fields, got 'x'"),
    (grid(axis("dtype", "auto")), "expected a dtype that is the same on every machine .*, got auto"),
    (grid(axis("stpes", 4)), "unknown setting 'stpes'"),
    (Spec("x", "x", BASE, (), (SetPrompt(" ", 1),)), "expected a prompt, got an empty one"),
    (Spec("x", "x", BASE, (), (SetPrompt("a", 2**40),), seed_step=2**40), "expected a seed in"),
    (grid(seeds=MOST_CELLS), f"expected a grid of at most {MOST_CELLS} cells, got {2 * MOST_CELLS}"),
])  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(spec, said):
    with pytest.raises(ValueError, match=f"^{said}[^\n]*$"):
        list(cells_of(spec))


def test_a_point_is_checked_once_for_all_prompts(monkeypatch):
    made = []
    first = Request.__init__

    def counted(self, **given):
        made.append(given)
        first(self, **given)

    monkeypatch.setattr(Request, "__init__", counted)
    spec = grid(axis("num_inference_steps", *range(1, 51)), prompts=[f"prompt {n}" for n in range(200)])
    cells = list(cells_of(spec))
    assert len(cells) == 10_000
    assert len(made) == 50 + 200
    assert len({json.dumps(cell.request.to_json()) for cell in cells[:100]}) == 100


def test_points_are_the_requests_without_prompts():
    points = list(points_of(grid(axis("eta", 0.0, 1.0))))
    assert [labels for labels, _ in points] == [{"eta": "0.0"}, {"eta": "1.0"}]
    assert [(one.prompt, one.eta) for _, one in points] == [(None, 0.0), (None, 1.0)]
