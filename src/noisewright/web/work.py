"""The process that holds a model: does one job after another, as lines of JSON tell it, and says what came of each.

It is started by the server (:mod:`noisewright.web.queue`) and outlives it: a job that was begun is ended, whatever
becomes of who asked for it. One model is in memory at a time; the next job on the same one does not load it again.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisewright.outside.texts import clean

LOADED_BY = ("model", "device", "dtype", "variant", "config", "loras", "compile", "channels_last")


class Held:
    """The model that is in memory, and the verifiers that were made for it."""

    def __init__(self) -> None:
        self.key: str | None = None
        self.pipe: Any = None
        self.known: dict[str, Any] = {}

    def of(self, request: Any) -> Any:
        """The pipeline of a request; what was in memory before makes room for it."""
        from noisewright.planning import load_requested

        key = json.dumps([getattr(request, name) for name in LOADED_BY], sort_keys=True)
        if key != self.key:
            self.key, self.pipe, self.known = None, None, {}
            self._make_room()
            self.pipe, self.key = load_requested(request), key
        return self.pipe

    @staticmethod
    def _make_room() -> None:
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def do(job: Mapping[str, Any], held: Held) -> dict[str, Any]:
    """What came of a job, JSON-ready.

    Args:
        job: ``kind`` and what that needs: ``run`` a ``request`` and the directory ``out``; ``forecast`` a ``request``;
            ``score`` the directory ``run``, the ``verifier`` and the ``device``.
        held: the model in memory.
    """
    if job["kind"] == "score":
        return _score(Path(job["run"]), job["verifier"], job.get("device") or "cpu")
    from noisewright.planning import plan_on, recordable
    from noisewright.request import read_request

    request, live = recordable(read_request(job["request"], "the queue"))
    pipe = held.of(request)
    if job["kind"] == "forecast":
        from noisewright.evaluate.forecast import forecast

        found = forecast(plan_on(request, pipe, known=held.known, proving=False, **live))
        return {name: found[name] for name in ("images", "nfe", "forwards", "seconds", "warnings", "limit", "steps")}
    from noisewright.execute import execute
    from noisewright.run.reading import is_run, read_run

    out = Path(job["out"])
    checked = read_run(out).get("checked") if is_run(out) else None
    result = execute(plan_on(request, pipe, known=held.known, checked=checked, **live), out)
    return {"stopped": result.stopped, "images": result.images, "interrupted": result.interrupted}


def _score(root: Path, name: str, device: str) -> dict[str, Any]:
    """Have another verifier look at the candidates that are there, and keep what it says."""
    import math

    from noisewright.evaluate.scoring import score_files
    from noisewright.outside.inside import inside
    from noisewright.registry import make_verifier
    from noisewright.run.follow import Watch
    from noisewright.web.choices import add_opinion, read_opinions

    watch = Watch(root)
    watch.look()
    verifier = make_verifier(name, device)
    known = read_opinions(root).get(verifier.name, {})
    files = {}
    for key, made in watch.ledger.images.items():
        if key not in known and made.broken is None:
            files[str(inside(root, made.file))] = key
    prompt = str(watch.run["spec"]["sampler"].get("prompt") or "")
    rows, bad = score_files([Path(one) for one in files], prompt, [verifier]) if files else ([], [])
    scores = {files[row["file"]]: row["scores"][verifier.name] for row in rows}
    finite = {key: value for key, value in scores.items() if math.isfinite(value)}
    add_opinion(root, verifier.name, verifier.fingerprint, finite)
    return {"scored": len(finite), "unread": len(bad), "verifier": verifier.name}


def main() -> None:
    """Do jobs until no more come."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed is no answer
    sys.stdout = sys.stderr
    from noisewright.samplers.quiet import quiet

    held = Held()
    for line in sys.stdin:
        job = json.loads(line)
        with quiet():
            try:
                answer: dict[str, Any] = {"ok": True, "result": do(job, held)}
            except (KeyboardInterrupt, Exception) as error:  # the next job may fare better
                said = clean(str(error).splitlines()[0] if str(error) else type(error).__name__, 1000)
                wrong = isinstance(error, (ValueError, TypeError))
                answer = {"ok": False, "error": said if wrong else f"{type(error).__name__}: {said}"}
        try:
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
        except OSError:  # the server is gone; what was made is in the run's directory
            return


if __name__ == "__main__":
    main()
