"""A person's choices: how tables of them are read, how far scores agree with them, and how strong items are."""

import json
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from noisewright.benchmark import votes
from noisewright.benchmark.votes import Vote, agreement, read_votes, strengths

CLOSE = 1e-6
"""Two ways of solving for the same strengths."""


def written(path, name, text):
    (path / name).write_text(text, newline="")
    return path / name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("v.csv", 'prompt,winner,loser\n"a cat, sitting",one.png,two.png\n,three,four\n'),
        ("v.tsv", "winner\tloser\tprompt\none.png\ttwo.png\ta cat, sitting\nthree\tfour\t\n"),
        ("v.csv", 'prompt,A,B,Choice\n"a cat, sitting",two.png,one.png,B\n\n,three,four,left\n'),
        ("v.csv", 'prompt,image_a,image_b,vote\n"a cat, sitting",one.png,two.png,1\n,three,four,a\n'),
        ("v.jsonl", '{"prompt":"a cat, sitting","winner":"one.png","loser":"two.png"}\n\n'
                    '{"winner":"three","loser":"four"}'),
        ("v.json", '[{"prompt":"a cat, sitting","a":"one.png","b":"two.png","choice":"a"},'
                   '{"winner":"three","loser":"four"}]'),
    ],
)  # fmt: skip
def test_tables_of_all_forms_say_the_same(tmp_path, name, text):
    assert read_votes(written(tmp_path, name, text)) == [
        Vote("one.png", "two.png", "a cat, sitting"), Vote("three", "four"),
    ]  # fmt: skip


def test_a_tie_has_no_winner(tmp_path):
    found = read_votes(written(tmp_path, "v.csv", "a,b,choice\none,two,tie\none,two,both\none,two,b\n"))
    assert [one.tie for one in found] == [True, True, False]
    assert found[2] == Vote("two", "one")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("v.csv", "", "expected the columns winner and loser, or a, b and choice"),
        ("v.csv", "winner,loser\n", "expected votes in"),
        ("v.csv", "winner,looser\na,b\n", "got 'winner, looser'"),
        ("v.csv", "winner,loser\na\n", "expected 2 cells in line 2"),
        ("v.csv", "winner,loser\na,a\n", "expected two images in line 2"),
        ("v.csv", "winner,loser\na,\n", "expected an image as text in line 2"),
        ("v.csv", "winner,loser,winner\na,b,c\n", "the column winner once"),
        ("v.csv", "a,b,choice\nx,y,a\nx,y,z\n", "expected a, b or tie as the choice in line 3"),
        ("v.csv", 'winner,loser\n"a,b\n', "expected a table"),
        ("v.json", '{"winner": "a"}', "expected a list of votes"),
        ("v.json", "[1]", "expected an object as a vote in line 1"),
        ("v.json", '[{"winner": 3, "loser": "b"}]', "expected an image as text"),
        ("v.json", '[{"winner": "a", "loser": "b", "prompt": 4}]', "expected a prompt as text"),
        ("v.jsonl", '{"winner": "a", "loser": "b"}\n{', "line 2"),
        ("v.jsonl", '{"a": "x", "b": "y"}\n', "got 'a, b'"),
    ],
)
def test_what_is_no_table_of_votes_is_refused_in_one_line(tmp_path, name, text, says):
    with pytest.raises(ValueError, match=says) as caught:
        read_votes(written(tmp_path, name, text))
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_other_encodings_and_no_file_are_refused(tmp_path):
    (tmp_path / "v.csv").write_text("winner,loser\na,b\n", encoding="utf-16")
    with pytest.raises(ValueError, match="UTF-16"):
        read_votes(tmp_path / "v.csv")
    with pytest.raises(ValueError, match="does not exist"):
        read_votes(tmp_path / "none.csv")


def test_agreement_counts_what_was_said():
    nan = math.nan
    found = agreement([(2, 1, False), (1, 2, False), (1, 1, False), (3, 1, False), (1, 2, True), (nan, 1, False)])
    assert (found.choices, found.undecided, found.ties, found.missing) == (4, 1, 1, 1)
    assert found.rate == pytest.approx(2.5 / 4)
    assert found.low < found.rate < found.high
    nothing = agreement([(1, 2, True)])
    assert math.isnan(nothing.rate)
    assert math.isnan(nothing.low)


def drawn(values, count, seed=0):
    """Choices between items of given strengths."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        one, other = generator.choice(len(values), 2, replace=False)
        if generator.random() < 1 / (1 + math.exp(values[other] - values[one])):
            found.append(Vote(f"item {one}", f"item {other}"))
        else:
            found.append(Vote(f"item {other}", f"item {one}"))
    return found


def likelihood(values, some, items):
    place = {item: number for number, item in enumerate(items)}
    total = 0.0
    for one in some:
        apart = values[place[one.winner]] - values[place[one.loser]]
        total -= np.log1p(np.exp(-apart))
        if one.tie:
            total += 0.5 * (np.log1p(np.exp(-apart)) - np.log1p(np.exp(apart)))
    return total - votes.PRIOR * (np.log1p(np.exp(-values)) + np.log1p(np.exp(values))).sum()


def test_strengths_are_the_most_likely_ones():
    some = [*drawn([0.0, 0.5, 1.0, 2.0], 60), Vote("item 0", "item 3", tie=True)]
    found = {one.item: one.value for one in strengths(some, resamples=0)}
    items = sorted(found)
    best = minimize(lambda values: -likelihood(values, some, items), np.zeros(4), tol=1e-12).x
    assert [found[item] for item in items] == pytest.approx(best, abs=1e-4)
    top = likelihood(np.array([found[item] for item in items]), some, items)
    assert top >= likelihood(best, some, items) - CLOSE


def test_strengths_come_back_from_enough_choices():
    values = [-1.0, -0.3, 0.3, 1.0]
    found = strengths(drawn(values, 3000), resamples=100)
    assert [one.item for one in found] == ["item 3", "item 2", "item 1", "item 0"]
    held = [one.low < values[int(one.item[-1])] < one.high for one in found]
    assert sum(held) >= 3  # of 95 % intervals
    for one in found:
        assert one.value == pytest.approx(values[int(one.item[-1])], abs=0.15)
    assert sum(one.wins for one in found) == 3000
    assert sum(one.choices for one in found) == 6000


def test_who_never_lost_is_not_infinitely_strong():
    found = strengths([Vote("a", "b")] * 50, resamples=50)
    assert [one.item for one in found] == ["a", "b"]
    assert 2 < found[0].value < 10
    assert found[0].value == pytest.approx(-found[1].value)


def test_items_that_nothing_joins_are_solved_for_apart():
    together = [Vote("a", "b"), Vote("a", "b"), Vote("b", "a")]
    apart = [Vote("c", "d", tie=True)]
    found = {one.item: one for one in strengths(together + apart, resamples=20)}
    alone = {one.item: one for one in strengths(together, resamples=20)}
    assert found["a"].value == pytest.approx(alone["a"].value)
    assert found["c"].value == pytest.approx(0, abs=CLOSE)
    assert found["c"].wins == 0.5
    assert strengths([]) == []


def test_too_many_that_hang_together_are_refused(monkeypatch):
    monkeypatch.setattr(votes, "MOST_ITEMS", 3)
    with pytest.raises(ValueError, match="expected at most 3 images"):
        strengths([Vote("a", "b"), Vote("b", "c"), Vote("c", "d")])


def test_a_table_of_odd_json_is_refused(tmp_path):
    path = written(tmp_path, "v.json", json.dumps([{"a": "x", "b": "y", "choice": None}]))
    with pytest.raises(ValueError, match="expected a, b or tie"):
        read_votes(path)
