"""What docs/benchmark.md says of specs and columns is what is read and written."""

import re
from pathlib import Path

from noisewright.benchmark.prompt_sets import BUNDLED
from noisewright.benchmark.spec_files import read_spec
from noisewright.benchmark.tables import CANDIDATE_COLUMNS, CELL_COLUMNS, described

PAGE = (Path(__file__).parents[2] / "docs" / "benchmark.md").read_text()


def test_the_spec_of_the_page_is_one(tmp_path):
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "mine.toml").write_text(block)
    spec = read_spec(tmp_path / "mine.toml")
    assert [axis.name for axis in spec.axes] == ["budget", "search"]
    assert (len(spec.prompts), spec.seeds, spec.across, spec.reference) == (20, 2, "budget", {"search": "random"})


def test_the_columns_of_the_page_are_those_that_are_written():
    assert described(CELL_COLUMNS) in PAGE
    assert described(CANDIDATE_COLUMNS) in PAGE


def test_the_sets_of_the_page_are_bundled():
    named = {name for name in BUNDLED if f"`{name}`" in PAGE}
    assert {BUNDLED[name] for name in named} == set(BUNDLED.values())
