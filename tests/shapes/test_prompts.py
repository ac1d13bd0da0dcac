"""The grammar and the prompt sets."""

from collections import Counter

import numpy as np
import pytest

from noisewright.shapes.prompts import KINDS, kind, load_prompts, parse, sample_prompt, sample_sets


@pytest.mark.parametrize("name", KINDS)
def test_parse_reads_back_what_text_writes(name):
    rng = np.random.default_rng(0)
    for _ in range(300):
        prompt = sample_prompt(rng, name)
        assert parse(prompt.text) == prompt


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("One Red Circle to the left of THE blue square.", "a red circle left of a blue square"),
        ("red circle on the right of blue square", "a red circle right of a blue square"),
        ("a red circle is above a blue square", "a red circle above a blue square"),
        ("3 blue star", "three blue stars"),
        ("the two small crosses", None),
        ("two small green cross and an orange star", "two small green crosses and an orange star"),
        ("a red circle , a blue square, and a green star", "a red circle, a blue square and a green star"),
    ],
)
def test_parse_is_lenient_but_not_about_colours(said, meant):
    if meant is None:
        with pytest.raises(ValueError, match="expected a colour"):
            parse(said)
    else:
        assert parse(said).text == meant


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got an empty one"),
        ("a red dog", "expected a shape .* got 'dog'"),
        ("a shiny red circle", "got 'shiny'"),
        ("five red circles", "got 'five'"),
        ("three red circles and two blue stars", "expected at most 4 objects"),
        ("two red circles left of a blue star", "expected one object on each side"),
        ("a red circle above a blue star left of a green star", "expected at most one relation"),
        ("a red circle and", "expected"),
    ],
)
def test_parse_says_what_it_expected(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_sets_are_balanced_and_disjoint():
    sets = {name: load_prompts(name) for name in ("dev", "test")}
    for prompts in sets.values():
        assert Counter(kind(parse(prompt)) for prompt in prompts) == dict.fromkeys(KINDS, 40)
        assert len(set(prompts)) == 200
    assert not set(sets["dev"]) & set(sets["test"])


def test_sets_are_those_of_their_seed():
    again = sample_sets(2026)
    assert tuple(prompt.text for prompt in again["test"]) == load_prompts("test")
    with pytest.raises(ValueError, match="expected 'dev' or 'test', got 'train'"):
        load_prompts("train")
