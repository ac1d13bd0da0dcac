import errno
import json
import math
import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noisewright import registry
from noisewright.benchmark.votes import Vote, read_votes
from noisewright.images.metadata import read_image
from noisewright.verifiers.protocol import score
from noisewright.web.choices import (
    add_opinion,
    agreements,
    human_scores,
    mark,
    next_pair,
    read_choices,
    read_opinions,
    vote,
)

A, B, C, D = (letter * 16 for letter in "abcd")


def ids_of(runs):
    return sorted(one.stem for one in (runs / "first" / "images").glob("*.png"))


def test_what_was_said_last_counts_and_nothing_is_taken_out(tmp_path):
    mark(tmp_path, A, "star", True)
    mark(tmp_path, A, "pin", True)
    mark(tmp_path, B, "reject", True)
    mark(tmp_path, A, "star", False)
    assert read_choices(tmp_path).marks == {A: ("pin",), B: ("reject",)}
    assert len((tmp_path / "choices.jsonl").read_text().splitlines()) == 4


def test_choices_are_votes(tmp_path):
    vote(tmp_path, A, B, "a")
    vote(tmp_path, A, C, "b")
    vote(tmp_path, B, C, "tie")
    assert read_choices(tmp_path).votes == (Vote(A, B), Vote(C, A), Vote(B, C, tie=True))
    assert [(one.winner, one.loser, one.tie) for one in read_votes(tmp_path / "choices.jsonl")] == [
        (A, B, False), (C, A, False), (B, C, True)
    ]  # fmt: skip


DAMAGED = [
    "", "{", "[]", "null", "[" * 1000, "\x00",
    *map(json.dumps, [
        {"id": "x", "mark": "star", "on": True}, {"id": A}, {"id": A, "mark": "boss", "on": True},
        {"id": A, "mark": "star", "on": 1}, {"a": A, "b": A, "choice": "a"}, {"a": 1, "b": 2, "choice": "a"},
        {"a": A, "b": B, "choice": "c"},
    ]),
]  # fmt: skip


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_line_loses_no_other(tmp_path, line):
    mark(tmp_path, A, "star", True)
    with (tmp_path / "choices.jsonl").open("a") as file:
        file.write(line + "\n")
    vote(tmp_path, A, B, "a")
    found = read_choices(tmp_path)
    assert (found.marks, len(found.votes)) == ({A: ("star",)}, 1)
    assert found.damaged == 1


def test_a_line_that_nobody_finished_is_left_behind(tmp_path):
    mark(tmp_path, A, "star", True)
    with (tmp_path / "choices.jsonl").open("a") as file:
        file.write('{"id": "bbbb')
    assert read_choices(tmp_path).marks == {A: ("star",)}
    mark(tmp_path, B, "pin", True)
    assert read_choices(tmp_path).marks == {A: ("star",), B: ("pin",)}


def test_opinions_of_other_verifiers_are_kept(tmp_path):
    assert read_opinions(tmp_path) == {}
    add_opinion(tmp_path, "clip", "clip-1", {A: 1.0, B: 2.0})
    add_opinion(tmp_path, "clip", "clip-1", {B: 3.0})
    assert read_opinions(tmp_path) == {"clip": {A: 1.0, B: 3.0}}


def test_strengths_follow_the_choices():
    found = human_scores([Vote(A, B)] * 6 + [Vote(B, C)] * 6)
    assert [one.item for one in found] == [A, B, C]
    assert all(one.low <= one.value <= one.high for one in found)


def test_a_verifier_agrees_as_often_as_its_order_is_the_persons():
    votes = [Vote(A, B), Vote(A, C), Vote(B, C), Vote(C, D)]
    rows = agreements(votes, {"same": {A: 3.0, B: 2.0, C: 1.0, D: 0.0}, "other": {A: 0.0, B: 1.0, C: 2.0, D: 3.0},
                              "silent": {}, "partly": {A: 2.0, B: 1.0}})  # fmt: skip
    assert [(one["name"], one["rate"], one["choices"]) for one in rows] == [
        ("partly", 1.0, 1), ("same", 1.0, 4), ("other", 0.0, 4)
    ]  # fmt: skip
    assert all(0 <= one["low"] <= one["rate"] <= one["high"] <= 1 for one in rows)


@given(st.lists(st.sampled_from([A, B, C, D]), unique=True),
       st.lists(st.tuples(st.sampled_from([A, B, C, D]), st.sampled_from([A, B, C, D])).filter(lambda p: p[0] != p[1])),
       st.integers(0, 1000))  # fmt: skip
def test_pairs_are_of_two_and_of_the_pool(pool, pairs, salt):
    pair = next_pair(pool, [Vote(*one) for one in pairs], salt)
    assert (pair is None) == (len(pool) < 2)
    if pair:
        assert set(pair) <= set(pool)
        assert pair[0] != pair[1]


def test_every_pair_comes_before_one_comes_twice():
    votes = []
    for number in range(6):
        pair = next_pair([A, B, C, D], votes, number)
        votes.append(Vote(*pair))
    assert len({frozenset((one.winner, one.loser)) for one in votes}) == 6


def test_a_pair_that_was_passed_over_comes_after_all_others():
    skipped = []
    for _ in range(6):
        skipped.append(next_pair([A, B, C, D], [], 0, skipped))
    assert len({frozenset(one) for one in skipped}) == 6
    assert frozenset(next_pair([A, B, C, D], [], 0, skipped)) == frozenset(skipped[0])


def test_which_stands_on_the_left_says_nothing():
    left = [next_pair([A, B], [], salt)[0] for salt in range(40)]
    assert 8 < left.count(A) < 32


# On the page


def test_another_pair_is_another_one(client):
    first = client.get("/api/pair", params={"run": "first"}).json()["pair"]
    again = client.get("/api/pair", params={"run": "first"}).json()["pair"]
    other = client.get("/api/pair", params={"run": "first", "skip": [",".join(first)]}).json()["pair"]
    assert first == again
    assert set(other) != set(first)


@pytest.mark.parametrize("skip", ["", ",", "x" * 3000, "a,b,c", "\u0000"])
def test_a_skipped_pair_that_is_none_changes_nothing(client, skip):
    found = client.get("/api/pair", params={"run": "first", "skip": skip})
    assert found.json() == client.get("/api/pair", params={"run": "first"}).json()


def test_marks_and_choices_on_the_page(client, runs):
    one, other, *_ = ids_of(runs)
    client.post("/api/mark", json={"run": "first", "id": one, "mark": "star", "on": True})
    answer = client.post("/api/vote", json={"run": "first", "a": one, "b": other, "choice": "b"}).json()
    assert answer == client.get("/api/choices", params={"run": "first"}).json()
    assert answer["marks"] == {one: ["star"]}
    assert answer["human"][other][0] > answer["human"][one][0]
    assert {row["name"] for row in answer["agreement"]} >= {"brightness"}
    assert len((runs / "first" / "choices.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("room", [0, 10])
def test_a_mark_for_which_the_disk_has_no_room_is_said_to_be_lost(client, runs, monkeypatch, room):
    """Of a line that does not fit whole, a disk takes what fits."""
    write = os.write

    def full(handle, data):
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data[:room])

    first, second = ids_of(runs)[:2]
    monkeypatch.setattr("noisewright.web.choices.os.write", full)
    answer = client.post("/api/mark", json={"run": "first", "id": first, "mark": "pin", "on": True})
    assert answer.status_code == 507
    assert "No space left" in answer.json()["error"]["message"]
    monkeypatch.undo()
    assert client.post("/api/mark", json={"run": "first", "id": second, "mark": "pin", "on": True}).status_code == 200
    assert read_choices(runs / "first").marks == {second: ("pin",)}


@pytest.mark.parametrize("change", [{"id": "0" * 16}, {"id": "../../x"}, {"mark": "boss"}, {"on": "yes"}, {"on": None},
                                    {"run": "gone"}, {"mark": None}])  # fmt: skip
def test_other_marks_are_refused_and_nothing_is_written(client, runs, change):
    body = {"run": "first", "id": ids_of(runs)[0], "mark": "star", "on": True} | change
    assert client.post("/api/mark", json=body).status_code in (400, 404)
    assert not (runs / "first" / "choices.jsonl").exists()


def test_a_pair_is_not_of_what_was_rejected(client, runs):
    for key in ids_of(runs)[:-2]:
        client.post("/api/mark", json={"run": "first", "id": key, "mark": "reject", "on": True})
    pair = client.get("/api/pair", params={"run": "first"}).json()["pair"]
    assert sorted(pair) == ids_of(runs)[-2:]
    assert "score" not in json.dumps(client.get("/api/pair", params={"run": "first"}).json())


def test_human_is_a_verifier_of_the_run_s_images(client, runs):
    one, other, third, *_ = ids_of(runs)
    for _ in range(3):
        client.post("/api/vote", json={"run": "first", "a": one, "b": other, "choice": "a"})
    verifier = registry.make_verifier(f"human:{runs / 'first'}")
    images = [read_image(runs / "first" / "images" / f"{key}.png")[0] for key in (one, other, third)]
    batch = torch.stack([torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255 for image in images])
    found = score(verifier, batch, "any")
    assert found[0] > found[1]
    assert math.isnan(found[2])


def test_without_choices_there_is_no_human_verifier(runs):
    with pytest.raises(ValueError, match="which has none"):
        registry.make_verifier(f"human:{runs / 'first'}")
