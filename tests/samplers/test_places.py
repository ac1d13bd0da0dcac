"""Where states are: with the model between the segments of a micro-batch, at home before and after."""

import torch

from noisewright.samplers.mixture import MixtureSampler
from noisewright.samplers.optional import KeepsStates, resident
from noisewright.samplers.places import CPU, home, there

META = torch.device("meta")  # a place where tensors have shapes alone


class Able(MixtureSampler):
    resident = False
    device = META


def test_states_are_sent_and_random_numbers_stay():
    generators = torch.Generator().get_state()[None]
    state = {"history": {"model_outputs": [torch.ones(2, 3), None], "sigmas": torch.ones(4), "step": 3},
             "generators": generators}  # fmt: skip
    sent = there(state, META)
    assert sent["history"]["model_outputs"][0].device == META
    assert sent["history"]["model_outputs"][1] is None
    assert sent["history"]["sigmas"].device == CPU, "levels stay where their scheduler has them"
    assert sent["history"]["step"] == 3
    assert sent["generators"] is generators
    assert there((torch.ones(2, 3), None), META)[0].device == META
    assert state["history"]["model_outputs"][0].device == CPU, "what was given is changed"


def test_what_is_at_home_stays_as_it_is():
    x, words = torch.ones(2, 3), ("a", b"png")
    found = home({"x": x, "pair": (x, [x, None]), "words": words})
    assert found["x"] is x
    assert found["pair"] == (x, [x, None])
    assert found["words"] == words


def test_a_sampler_that_can_leaves_states_where_it_computes_within_the_block_only():
    sampler = Able(steps=3)
    assert isinstance(sampler, KeepsStates)
    with resident(sampler) as place:
        assert (place, sampler.resident) == (META, True)
    assert not sampler.resident
    try:
        with resident(sampler):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert not sampler.resident
    with resident(MixtureSampler(steps=3)) as place:
        assert place == CPU
