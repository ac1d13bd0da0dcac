"""Prompts and judges as people give them."""

import pytest

from noisewright.benchmark.given import TYPED, given_prompts, judges_for
from noisewright.benchmark.spec import SetPrompt


def test_a_file_a_set_a_prompt_and_texts(tmp_path):
    (tmp_path / "mine.csv").write_text("prompt,category\na cat,animals\na car,things\n")
    prompts, name, warnings = given_prompts(tmp_path / "mine.csv", category="things")
    assert (prompts, name, warnings) == ((SetPrompt("a car", 2, "things"),), "mine.csv", [])
    assert given_prompts(str(tmp_path / "mine.csv"), limit=1)[0][0].text == "a cat"
    assert len(given_prompts("noisewright/shapes/dev", limit=5)[0]) == 5
    assert given_prompts("a red cat") == ((SetPrompt("a red cat", 1),), TYPED, [])
    assert [one.text for one in given_prompts(["cat", "dog"])[0]] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("given", "says"),
    [("noisewright/shapes/tets", "did you mean noisewright/shapes/test"), ("cat", "a prompt of several words"),
     ([], "expected prompts"), (b"cat", "expected prompts"), (3, "expected prompts"), (["cat", "cat"], "cat")],
)  # fmt: skip
def test_what_is_none_of_these_is_refused(given, says):
    with pytest.raises((ValueError, TypeError), match=says):
        given_prompts(given)


def test_the_cards_judge_is_asked_where_it_can_judge():
    prompts = given_prompts("noisewright/shapes/test", limit=2)[0]
    assert judges_for(None, ["shapes-clip"], "noisewright/shapes", prompts) == (["shapes-oracle"], [])
    assert judges_for(None, ["shapes-oracle"], "noisewright/shapes", prompts) == ([], [])
    assert judges_for(["none"], ["shapes-clip"], "noisewright/shapes", prompts) == ([], [])
    assert judges_for(["clip"], ["shapes-clip"], "noisewright/shapes", prompts) == (["clip"], [])
    found, said = judges_for(None, ["shapes-clip"], "noisewright/shapes", (SetPrompt("a cat in the rain", 1),))
    assert found == []
    assert said[0].startswith("shapes-oracle is not asked: ")
