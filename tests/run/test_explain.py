"""Why the first is before the second: what each verifier gives to the value, and whom it prefers."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisewright.evaluate.words import why_lines
from noisewright.run.explain import explain
from noisewright.run.particle import Candidate, noise_particle
from noisewright.run.ranking import Ranking

NAMES = ("clip", "aesthetic", "oracle")
ENSEMBLES = ("rank", "zsum", "clip=1.0,aesthetic=0.5,oracle=-2.0")


def pool(rows, names=NAMES):
    return [
        Candidate(noise_particle(n, 4), n, dict(zip(names, row, strict=True)), f"{n}.png", "")
        for n, row in enumerate(rows)
    ]


scores = st.lists(
    st.tuples(*[st.floats(-100, 100, allow_nan=False, width=32)] * len(NAMES)), min_size=2, max_size=12
)


@settings(max_examples=60, deadline=None)
@given(scores, st.sampled_from(ENSEMBLES))
def test_the_parts_of_a_value_add_up_to_it(rows, ensemble):
    ranking = Ranking(NAMES, ensemble)
    some = pool(rows)
    for parts, value in zip(ranking.parts(some), ranking.values(some), strict=True):
        assert sum(parts) == pytest.approx(value, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(scores, st.sampled_from(ENSEMBLES))
def test_what_is_told_is_what_the_ranking_says(rows, ensemble):
    ranking = Ranking(NAMES, ensemble)
    some = pool(rows)
    found = explain(some, ranking)
    first, second = ranking.top(some, 2)
    assert (found["first"]["id"], found["second"]["id"]) == (first.id, second.id)
    assert sum(one["by"] for one in found["verifiers"]) == pytest.approx(found["by"], abs=1e-6)
    for one in found["verifiers"]:
        better = first.scores[one["name"]] - second.scores[one["name"]]
        assert one["prefers"] == (None if better == 0 else "first" if better > 0 else "second")
    assert len(why_lines(found)) == 1 + len(NAMES)


def test_one_verifier_needs_one_line():
    found = explain(pool([(0.5,), (0.75,)], ("clip",)), Ranking(("clip",)))
    assert why_lines(found) == ["seed 1 before seed 0: clip 0.750 against 0.500"]


def test_several_are_named_with_their_places():
    lines = why_lines(explain(pool([(1.0, 5.0), (2.0, 4.0), (0.0, 4.5)], NAMES[:2]), Ranking(NAMES[:2], "zsum")))
    assert lines[0].startswith("seed 0 before seed 1: z-sum ")
    assert lines[1].startswith("clip prefers seed 1: 1.00 against 2.00, place 2 against 1 of 3, -1.22")
    assert lines[2].startswith("aesthetic prefers seed 0: 5.00 against 4.00, place 1 against 3 of 3, +2.45")


def test_a_tie_and_a_second_without_a_number():
    assert "it came earlier" in why_lines(explain(pool([(1.0,), (1.0,)], ("clip",)), Ranking(("clip",))))[0]
    found = explain(pool([(1.0,), (math.nan,)], ("clip",)), Ranking(("clip",)))
    assert why_lines(found) == ["seed 0 before seed 1, which has no number from any verifier"]


def test_one_candidate_needs_no_reason():
    assert explain(pool([(1.0,)], ("clip",)), Ranking(("clip",))) is None
    assert explain([], Ranking(("clip",))) is None
    assert why_lines(None) == []


@pytest.mark.parametrize(
    ("ensemble", "name"), [("rank", "mean rank"), ("zsum", "z-sum"), ("clip=1.0,aesthetic=2.0", "weighted sum")]
)
def test_the_value_has_a_name(ensemble, name):
    assert Ranking(NAMES[:2], ensemble).name == name
    assert Ranking(("clip",), ensemble).name == "clip"
