"""What must hold of each kind of plug-in, for the tests of this project and of plug-ins.

    import pytest
    from noisewright.testing import CONTRACT, Case, check_verifier

    CASE = Case(my_search, {"rounds": 2}, nfe=lambda steps: steps * 9)

    @pytest.mark.parametrize("check", CONTRACT.values(), ids=CONTRACT)
    def test_my_search(check, tmp_path):
        check(CASE, tmp_path)

    def test_my_verifier():
        check_verifier(Redness(), "a red circle")

Each check takes seconds and raises an AssertionError that says what it found. Searches, solvers and executors are
tried on the exact Gaussian-mixture sampler.
"""

from noisewright.testing.executors import check_executor
from noisewright.testing.samplers import check_sampler
from noisewright.testing.schedules import check_schedule_rule
from noisewright.testing.searches import CONTRACT, STEPS, Case, Scored, journal
from noisewright.testing.solvers import check_solver
from noisewright.testing.verifiers import check_verifier

__all__ = [
    "CONTRACT", "STEPS", "Case", "Scored", "check_executor", "check_sampler", "check_schedule_rule", "check_solver",
    "check_verifier", "journal",
]  # fmt: skip
