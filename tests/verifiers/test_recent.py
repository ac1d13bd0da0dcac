"""What verifiers remember of prompts has an end: a server is asked for ever."""

import copy
import pickle

import torch

from noisewright import registry
from noisewright.verifiers.cache import MOST_HELD, JsonCache
from noisewright.verifiers.recent import MOST, Recent


def test_the_last_that_were_asked_for_are_remembered():
    found = Recent[str, int](3)
    for number, name in enumerate("abc"):
        assert found.put(name, number) == number
    assert found.get("a") == 0  # the last one from now on
    found.put("d", 3)
    assert [found.get(name) for name in "abcd"] == [0, None, 2, 3]
    assert len(found) == 3


def test_it_can_be_copied_and_sent_elsewhere():
    found = Recent[str, int]()
    found.put("a", 1)
    for other in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert other.get("a") is None
        assert other.put("b", 2) == 2


def held_by(verifier):
    """Whatever of a verifier remembers."""
    seen, todo, found = set(), [verifier], []
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, torch.nn.Module):
            continue
        seen.add(id(one))
        if isinstance(one, Recent):
            found.append(one)
        todo += vars(one).values() if hasattr(one, "__dict__") and not isinstance(one, type) else []
    return found


def test_prompts_without_end_take_no_memory_without_end():
    image = torch.rand(1, 3, 64, 64)
    for name in ("shapes-clip", "shapes-reward"):
        verifier = registry.make_verifier(name)
        first = list(verifier(image, "prompt 0"))
        for number in range(MOST + 8):
            verifier(image, f"prompt {number}")
        sizes = [len(one) for one in held_by(verifier)]
        assert sizes == [MOST], name
        assert list(verifier(image, "prompt 0")) == first  # computed anew


def test_answers_in_memory_have_an_end_and_those_in_a_file_do_not(tmp_path, monkeypatch):
    assert MOST_HELD >= 10_000
    monkeypatch.setattr("noisewright.verifiers.cache.MOST_HELD", 10)
    inside, kept = JsonCache(), JsonCache(tmp_path)
    for cache, known in ((inside, 10), (kept, 40)):
        for number in range(40):
            cache.put({f"key {number}": number})
        assert len(cache.get(f"key {number}" for number in range(40))) == known
        assert cache.get(["key 39"]) == {"key 39": 39}
