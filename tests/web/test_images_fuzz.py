"""Requests that nobody would write, made of our own OpenAPI schema by schemathesis: no 500, and only what it says."""

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from web.serving_images import serving_images, settings_of

CASES = 60
"""Requests of each route."""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    small = {"tiers": {"low": 1, "medium": 1, "high": 2}, "most_images": 2, "most_steps": 4, "most_side": 64}
    with serving_images(settings_of(tmp_path_factory.mktemp("fuzz") / "runs", **small)) as found:
        yield found


@pytest.fixture(scope="module")
def schema(served):
    return schemathesis.openapi.from_url(f"{served.url}/openapi.json")


fuzzed = schemathesis.pytest.from_fixture("schema")


@pytest.mark.slow
@fuzzed.parametrize()
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_no_request_makes_the_server_fail(case):
    from schemathesis.checks import not_a_server_error

    case.call_and_validate(checks=[not_a_server_error], timeout=120)
