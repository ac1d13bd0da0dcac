"""The evidence for the field's claims: measure it, and write ``docs/evidence.md``.

- ``write``: the page, from the rows in ``benchmarks/results/evidence/``; seconds, nothing is measured.
- ``plan``: what there is to measure, in order, how far it is, and what it costs.
- ``measure``: goes through the plan, cheapest and most telling stages first, until ``--minutes`` are over; each stage
  goes on where it was ended, and distils what is there into the result files.
- ``distil``: the result files anew from what ``runs/evidence`` has: also scores the pools by the present weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from _evidence.kept import Held
from _evidence.page import page
from _evidence.places import PAGE, RESULTS, RUNS

KINDS = ("pool", "grid", "costs", "fids", "tuned")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["write", "plan", "measure", "distil"])
    parser.add_argument("--claims", type=lambda text: [int(one) for one in text.split(",")], default=None)
    parser.add_argument("--kinds", type=lambda text: text.split(","), help="only stages of these: pool, grid, costs, …")
    parser.add_argument("--stages", type=lambda text: text.split(","), help="only these, by their names in the plan")
    parser.add_argument("--minutes", type=float, default=60.0, help="no work is begun after them")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--images-only", action="store_true", help="make pools, score none: verifiers may still change")
    parser.add_argument("--data", type=Path, help="claim 3: real CIFAR-10 pictures for recall, a .parquet file")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--any-weights", action="store_true", help="write: also of rows by other weights")
    given = parser.parse_args()
    if given.claims and not set(given.claims) <= set(range(1, 12)):
        parser.error(f"expected --claims in 1..11, got {','.join(map(str, given.claims))}")
    if not set(given.kinds or ()) <= set(KINDS):
        parser.error(f"expected --kinds of {', '.join(KINDS)}, got {','.join(given.kinds)}")
    if given.what == "write":
        given.out.write_text(page(Held(given.results, given.any_weights)), encoding="utf-8")
        print(given.out)
        return 0
    from _evidence.stages import run  # what measures is loaded where something is

    return run(given)


if __name__ == "__main__":
    sys.exit(main())
