"""Parts of the images endpoint by themselves: turns, numbers, fields, forms."""

import json
import threading

import pytest

from noisewright.samplers.image_server import LIST_SECONDS
from noisewright.web.openai.errors import ApiError
from noisewright.web.openai.fields import GenerationFields, SearchFields, from_form, read_fields
from noisewright.web.openai.metrics import Metrics
from noisewright.web.openai.router import FIRST_SECONDS
from noisewright.web.turns import Turns


def test_turns_are_had_in_the_order_in_which_they_were_asked_for():
    turns, order, begun = Turns(), [], [threading.Event() for _ in range(4)]

    def work(number):
        begun[number].set()
        with turns.turn():
            for _ in range(3):
                order.append(number)
                turns.pass_on()

    with turns.turn():
        threads = []
        for number in range(4):
            threads.append(threading.Thread(target=work, args=(number,)))
            threads[-1].start()
            begun[number].wait(10)
            while turns.waiting != number + 1:
                pass
    for one in threads:
        one.join(10)
    assert order == [0, 1, 2, 3] * 3


def test_a_turn_is_given_back_whatever_happens():
    turns = Turns()
    with pytest.raises(ValueError, match="it"), turns.turn():
        raise ValueError("it")
    with turns.turn():
        turns.pass_on()
    assert turns.waiting == 0


def test_metrics_are_prometheus_text():
    metrics = Metrics()
    metrics.add("noisewright_requests_total", 2, "state", "done")
    metrics.add("noisewright_images_total", 8)
    lines = metrics.text({"noisewright_queue": 3}).splitlines()
    assert 'noisewright_requests_total{state="done"} 2' in lines
    assert "noisewright_images_total 8" in lines
    assert "noisewright_queue 3" in lines
    assert "# TYPE noisewright_queue gauge" in lines


def test_fields_of_a_form_are_those_of_json():
    found = from_form({
        "prompt": ["12"], "n": ["2"], "seed": ["5"], "strength": ["0.5"], "stream": ["true"], "search[budget]": ["9"],
        "search[verifiers][]": ["brightness", "sharpness"], "search[target][brightness]": ["0.5"],
        "search[judges]": ["clip"],
    })  # fmt: skip
    search = {"budget": 9, "verifiers": ["brightness", "sharpness"], "target": {"brightness": 0.5}, "judges": "clip"}
    assert found == {"prompt": "12", "n": 2, "seed": 5, "strength": 0.5, "stream": True, "search": search}
    assert from_form({"search": [json.dumps({"budget": 3})]}) == {"search": {"budget": 3}}
    for wrong, says in (({"search": ["{"]}, "expected search as JSON"), ({"search": ["3"], "search[a]": ["1"]}, "once"),
                        ({"search[a]": ["1"], "search[a][b]": ["1"]}, "once")):  # fmt: skip
        with pytest.raises(ApiError, match=says):
            from_form(wrong)


def test_null_is_as_if_it_was_not_there():
    everything = dict.fromkeys(GenerationFields.model_fields)
    search = dict.fromkeys(SearchFields.model_fields)
    found = read_fields(GenerationFields, {**everything, "prompt": "a", "search": search})
    assert found.model_dump(exclude_none=True) == {"prompt": "a", "search": {}}


def test_a_list_of_models_comes_before_our_own_client_gives_up():
    assert FIRST_SECONDS <= LIST_SECONDS / 2


def test_an_error_has_the_shape_of_openai():
    found = ApiError(400, "expected\nless\x1b[31m", "n", "invalid_value").to_json()
    assert found == {"error": {"message": "expected less", "type": "invalid_request_error", "param": "n",
                               "code": "invalid_value"}}  # fmt: skip
