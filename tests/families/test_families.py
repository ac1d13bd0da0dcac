"""Every family of pipelines, cell by cell: what the suite finds is what the package says of it."""

import diffusers
import pytest

from families.cells import CELLS, outcome
from families.family import families, family
from families.known import KNOWN
from families.page import parts, table
from families.write_matrix import described
from noisewright.registry.families import CELLS as ASKED
from noisewright.registry.families import pipeline_families, release

WITHOUT_REASON = ("holds", "-")
ROWS = {row["name"]: row for row in pipeline_families()}
FAST = "parity"


def cases():
    """A family and a cell; all but one a family are slow, and what is known to be wrong must fail."""
    for one in families():
        for cell in CELLS:
            marks = [] if cell == FAST else [pytest.mark.slow]
            if (one.name, cell) in KNOWN:
                marks.append(pytest.mark.xfail(strict=True, reason=KNOWN[one.name, cell]))
            yield pytest.param(one.name, cell, marks=marks, id=f"{one.name}-{cell}")


@pytest.mark.parametrize(("name", "cell"), cases())
def test_a_cell_is_what_the_matrix_says(name, cell, tmp_path):
    one = family(name)
    if not one.there():
        pytest.skip(f"{one.title} is in diffusers from {one.since} on")
    found, written = outcome(one, cell, tmp_path), ROWS[name]["cells"][cell]
    if diffusers.__version__.startswith(f"{release()}."):
        assert found == written
    else:  # another release may refuse in other words
        assert found.partition(":")[0] == written.partition(":")[0]


def test_every_cell_says_why_it_does_not_hold():
    for row in ROWS.values():
        assert list(row["cells"]) == list(ASKED) == list(CELLS)
        for text in row["cells"].values():
            assert text in WITHOUT_REASON or text.startswith(("refused: ", "wrong: "))


def test_the_matrix_has_every_family():
    assert [described(one, ROWS[one.name]["cells"]) for one in families()] == pipeline_families()


def test_nothing_is_wrong_that_is_not_known():
    wrong = {(row["name"], cell) for row in ROWS.values() for cell, text in row["cells"].items()
             if text.startswith("wrong")}  # fmt: skip
    assert wrong == set(KNOWN)


def test_the_page_has_the_table_of_now():
    """``make matrix`` writes both."""
    assert parts()[1] == table()
