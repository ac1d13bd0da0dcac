"""Requests that nobody would write, made of our own OpenAPI schema by schemathesis: no 500, and only what it says."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from web.serving_images import serving_images, settings_of

CASES = 40
"""Requests of each route, of each kind."""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    small = {"tiers": {"low": 1, "medium": 1, "high": 2}, "most_images": 2, "most_steps": 4, "most_side": 64}
    with serving_images(settings_of(tmp_path_factory.mktemp("fuzz") / "runs", **small)) as found:
        yield found


def fuzz(operation, mode):
    """Requests to a route, each of whose answers is as the schema says."""

    @settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True,
              database=None)  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def holds(case):
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
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    labels = []
    for result in schema.get_all_operations():
        operation = result.ok()
        if mode is GenerationMode.POSITIVE or can_be_wrong(operation):
            fuzz(operation, mode)
        labels.append(operation.label)
    assert len(labels) == 8, labels
