"""``noisewright resume``: continue a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisewright.cli import options
from noisewright.cli.exits import Ended
from noisewright.cli.runs import print_summary, recorded, run_request


def resume(
    run: options.RunDirectory,
    budget: options.BudgetOption = None,
    target: options.TargetOption = None,
    trust: options.Trust = False,
    json: options.Json = False,
) -> Ended | None:
    """Continue a run, or give it a larger budget.

    After a crash or Ctrl-C it goes on where it stopped, and makes nothing twice. A budget is that of the whole run.
    """
    from noisewright.run.store import is_concluded, read_run
    from noisewright.schemas.files import check_request, check_shown

    held = read_run(run)
    request = held.get("request")
    if request is None:
        raise ValueError(
            f"expected a run of the command line, got {run}, which was started from Python: "
            f"call noisewright.search(..., out={str(run)!r}) with its arguments to continue it"
        )
    request = check_request(request, str(run / "run.json"))
    changed = {"budget": budget, "target": list(target or [])}
    changed = {name: value for name, value in changed.items() if value and value != request.get(name)}
    if not changed and is_concluded(run):
        check_shown(held, str(run / "run.json"))
        print_summary(recorded(run, held), [one["name"] for one in held["spec"].get("judges", [])], json)
        return None
    if not trust:
        _check_trust(run, request)
    return run_request({**request, **changed}, run, json)


def _check_trust(run: Path, request: Mapping[str, Any]) -> None:
    """Refuse what a run directory may not name by itself, before anything is imported or compared."""
    from noisewright.plan import make_plan
    from noisewright.registry import trust

    trust.check_run(run, request, trust.plan_settings(make_plan))
