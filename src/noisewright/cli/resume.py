"""``noisewright resume``: continue a run."""

from __future__ import annotations

from noisewright.cli import options
from noisewright.cli.exits import Ended
from noisewright.cli.runs import print_summary, recorded, run_request
from noisewright.errors import RunMismatch
from noisewright.schemas.typed import read_target


def resume(
    run: options.RunDirectory,
    budget: options.BudgetOption = None,
    target: options.TargetOption = None,
    executor: options.OtherExecutor = None,
    workers: options.RayWorkers = None,
    gpus_per_worker: options.GpusPerWorker = None,
    verifier_workers: options.VerifierWorkers = None,
    trust: options.Trust = False,
    json: options.Json = False,
) -> Ended | None:
    """Continue a run, or give it a larger budget.

    After a crash or Ctrl-C it goes on where it stopped, and makes nothing twice. A budget is that of the whole run. Who
    does the work may be others than before.
    """
    from noisewright.continuing import check_nothing_missing, check_trust, request_of, with_changes
    from noisewright.registry.executors import with_options
    from noisewright.run.reading import is_concluded, read_run
    from noisewright.schemas.files import check_shown

    held = read_run(run)
    before = request_of(run, held)
    who = with_options(
        executor or before.executor, workers=workers, gpus_per_worker=gpus_per_worker, verifier_workers=verifier_workers
    )
    changes = {"budget": budget or None, "target": read_target(target or []), "executor": who}
    request = with_changes(run, before, changes)
    if request.changed(executor=before.executor) == before and is_concluded(run):
        check_shown(held, str(run / "run.json"))
        print_summary(recorded(run, held), [one["name"] for one in held["spec"].get("judges", [])], json)
        return None
    check_nothing_missing(run, request)
    if not trust:
        check_trust(run, before if executor is None else before.changed(executor="local"))
    try:
        return run_request(request, run, json, held.get("checked"))
    except RunMismatch as error:
        if request.given_pipeline is None or "fingerprint" not in str(error):
            raise
        raise RunMismatch(
            f"expected the {request.given_pipeline} that {run} was started with from Python, got {request.model} as it "
            f"is by itself, which is another: call noisewright.resume({str(run)!r}, pipe=...) there"
        ) from error
