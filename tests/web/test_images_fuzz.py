"""Requests that nobody would write, made of our own OpenAPI schema by schemathesis: no 500, and only what it says."""

import time

import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from serving import served as serving_all
from web.serving_images import serving_images, settings_of

CASES = 40
"""Requests of each route, of each kind."""


OF_THE_WHOLE = 15
"""The same, of the server with its page and its process."""

SECONDS = 240
"""That one test of these may take."""

TIERS = {"low": 1, "medium": 1, "high": 2}


@pytest.fixture(scope="module", params=["by itself", "with the page"])
def served(request, tmp_path_factory):
    """The address of a server, and how many requests it gets."""
    root = tmp_path_factory.mktemp("fuzz")
    if request.param == "by itself":
        small = {"tiers": TIERS, "most_images": 2, "most_steps": 4, "most_side": 64}
        with serving_images(settings_of(root / "runs", **small)) as found:
            yield found.url, CASES
        return
    (root / "runs").mkdir()
    limits = [word for one in ("images=2", "steps=4", "side=64") for word in ("--limit", one)]
    with serving_all(root / "runs", "--model", "noisewright/shapes", "--quality", "high=2", *limits) as (address, _):
        yield address, OF_THE_WHOLE


def fuzz(operation, mode, cases, until):
    """Requests to a route, each of whose answers is as the schema says."""

    @settings(max_examples=cases, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True,
              database=None)  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def holds(case):
        if time.monotonic() > until:  # a slow machine tries fewer
            return
        checks = [not_a_server_error, response_schema_conformance]
        if mode is GenerationMode.POSITIVE:  # what is wrong may never come to a route: its status is the server's
            checks.append(status_code_conformance)
        case.call_and_validate(checks=checks, timeout=120)

    holds()


def can_be_wrong(operation):
    """Whether a request can be one that the schema does not allow: any text names a model, be there one or not."""
    return bool(operation.body) or any("pattern" in str(one.definition) for one in operation.path_parameters)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
def test_no_request_makes_the_server_fail(served, mode):
    address, cases = served
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    labels, until = [], time.monotonic() + SECONDS
    for result in schema.get_all_operations():
        operation = result.ok()
        if mode is GenerationMode.POSITIVE or can_be_wrong(operation):
            fuzz(operation, mode, cases, until)
        labels.append(operation.label)
    assert len(labels) == 8, labels


@pytest.mark.slow
def test_the_sdk_of_openai_is_served(served):
    address, _ = served
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=2, timeout=120) as client:
        more = {"num_inference_steps": 2, "seed": 7}
        answer = client.images.generate(prompt="a red circle", n=2, quality="high", user="me", extra_body=more)
        assert (len(answer.data), answer.quality, answer.size) == (2, "high", "64x64")
        stream = client.images.generate(prompt="a red circle", stream=True, partial_images=1, extra_body=more)
        assert [one.type for one in stream][-1] == "image_generation.completed"
        assert [one.id for one in client.models.list()] == ["noisewright/shapes"]
        with pytest.raises(openai.BadRequestError) as caught:
            client.images.generate(prompt="a red circle", size="128x128", extra_body=more)
        assert caught.value.param == "size"
