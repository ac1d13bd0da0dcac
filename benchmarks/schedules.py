"""Schedules before and after VRG, beside its controls and peers, on the same noises; on shapes or on cifar10.

Everything is tuned on dev prompts (gamma, which of the random perturbations, ``search``, which schedule is the winner)
and reported on test prompts. Metrics: the distance to the ``--teacher``-step image of the same noise, and the FID of
CLIP features to rendered scenes of the same prompts (on cifar10, of its classifier's features to its training
pictures). Every schedule ends at the clean image: ends do not differ.

Stages, in the order in which they run (``--preset issue`` is all of them); each goes on where it was stopped:

- ``gamma``: VRG fitted with each of ``--gammas`` for every start, number of steps and solver, and measured on
  ``--tuning`` dev noises. ``pndm-f`` and ``stsp``, which ask two to three times a step, take the gamma of ``deis-2``.
- ``table``: each start before and after VRG, with ``--distance-count`` test noises.
- ``controls``: each start with only its start moved, with VRG that holds the start, and with the best of ``--random``
  perturbations in the same trust region; every named schedule, the pipeline's, GITS, DMN and ``search``. The fitted
  schedule that the tuning metric likes best is marked as the tuned winner: it is the one whose test figures count.
- ``guidance``: before and after VRG without guidance.
- ``equal``: best-of-N in ``--equal-seconds`` with the default steps, the best named and the best fitted 8 steps.
- ``fid``: ``--count`` images a schedule: starts, their VRG, the tuned winner and the best named schedule (by the tuning
  metric), or all; a schedule at a time.

Rows and files are named by a hash of all that they depend on: changed settings never meet old rows, and larger counts
only add to what is there. ``--show`` prints Markdown tables of what ``--out`` holds, and samples nothing.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import _schedules_model as model
import _schedules_show as tables
from _schedules_study import SPLITTING, STARTS, Study

STAGES = ("gamma", "table", "controls", "guidance", "equal", "fid")
SOLVERS = ("ddim", "dpm-solver-2", "dpm-solver-3", "deis-2", "pndm-f", "stsp")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=["issue"], help="issue: all stages in their order")
    parser.add_argument("--stage", nargs="+", choices=STAGES, default=[], help="only these")
    parser.add_argument("--model", choices=model.GROUNDS, default="shapes", help="one --out holds one model")
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 15, 20], help="of the table")
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    parser.add_argument("--solvers", nargs="+", default=list(SOLVERS), help="of the table")
    parser.add_argument("--gammas", type=float, nargs="+", default=[0.01, 0.03, 0.1], help="the paper has 0.01 and 0.1")
    parser.add_argument("--tuning", type=int, default=24, help="dev noises to tune on")
    parser.add_argument("--tuning-set", choices=["dev", "wide"], default="dev", help="8 noises a prompt, or 4")
    parser.add_argument("--tuning-teacher", type=int, default=100, help="steps of their many-step image")
    parser.add_argument("--teacher", type=int, default=200, help="steps of the many-step image of test noises")
    parser.add_argument("--distance-count", type=int, default=52, help="test noises of the table, 4 a prompt")
    parser.add_argument("--costly-count", type=int, default=28, help="of them for pndm-f and stsp")
    parser.add_argument("--control-count", type=int, default=100, help="test noises of the controls")
    parser.add_argument("--control-steps", type=int, nargs="+", default=[5, 10], help="also without guidance; FID")
    parser.add_argument("--control-solvers", nargs="+", default=["ddim", "dpmpp-2m"])
    parser.add_argument("--control-starts", nargs="+", choices=STARTS, default=["uniform", "logsnr"])
    parser.add_argument("--random", type=int, default=10, help="random perturbations tried")
    parser.add_argument("--evaluations", type=int, default=80, help="schedules that search tries")
    parser.add_argument("--search-noises", type=int, default=16, help="dev noises that search looks at")
    parser.add_argument("--gits-noises", type=int, default=64, help="dev noises of GITS' teacher")
    parser.add_argument("--levels", type=int, default=50, help="of the error table")
    parser.add_argument("--images", type=int, default=256, help="of the error table")
    parser.add_argument("--stride", type=int, default=4, help="an image is asked about at every n-th level")
    parser.add_argument("--error-guidance", type=float, default=1.0, help="1: errors of the network itself")
    parser.add_argument("--equal-seconds", type=float, default=20.0, help="limit of each arm")
    parser.add_argument("--equal-prompts", type=int, default=20)
    parser.add_argument("--count", type=int, default=5000, help="images a schedule for the FID")
    parser.add_argument("--prompts", type=int, default=200, help="test prompts that share them")
    parser.add_argument("--scenes", type=int, default=25, help="rendered scenes a prompt in the FID's reference")
    parser.add_argument(
        "--fid", nargs="+", default=["starts", "best-named", "winner"], metavar="WHICH",
        help="starts (and their VRG), best-named and winner (by tuning), named, fitted, or labels of the table",
    )  # fmt: skip
    parser.add_argument("--fid-solver", default="ddim")
    parser.add_argument("--fid-dtype", choices=["float32", "bfloat16"], default="bfloat16", help="of the pipeline")
    parser.add_argument("--resamples", type=int, default=100, help="of the FID's intervals")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/schedules"))
    parser.add_argument("--plot", type=Path, help="draw the controls here, a panel a table")
    parser.add_argument("--show", action="store_true", help="only print what --out has")
    given = parser.parse_args()
    if given.preset and given.stage:
        parser.error("expected --preset or --stage, got both")
    if not 1 <= given.prompts <= 200:
        parser.error(f"expected 1 to 200 --prompts, got {given.prompts}")
    if given.model == "cifar10" and "equal" in (given.stage or STAGES):
        parser.error("expected other stages than equal for cifar10: its judge is of shapes; name them by --stage")
    if given.guidance <= 1 and set(given.solvers) & set(SPLITTING):
        parser.error(f"expected --guidance above 1 for the splitting solvers, got {given.guidance:g}")
    return given


def main() -> None:
    given = arguments()
    model.stand_on(given.model)
    wanted = given.stage or list(STAGES)
    if not given.show:
        study, began = Study(given, only=False), time.perf_counter()
        for name in STAGES:
            if name in wanted:
                since = time.perf_counter()
                print(f"{time.strftime('%H:%M:%S')} stage {name}", flush=True)
                getattr(study, name)()
                now = time.perf_counter()
                print(f"stage {name}: {(now - since) / 60:.1f} min, {(now - began) / 60:.1f} in all", flush=True)
        if study.pool:
            study.pool.shutdown()
    tables.show(Study(given, only=True), wanted)


if __name__ == "__main__":
    main()
