"""The work on a model: one is in memory at a time, and jobs of the same one take turns at it, a micro-batch each.

:class:`Works` does jobs in the process that it is in. Run as a program it is the process of a server
(:mod:`noisewright.web.process`), which tells it jobs as lines of JSON, and outlives it: a job that was begun is ended,
whatever becomes of who asked for it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noisewright.errors import BudgetExhausted, Stopped, VerifierFailed
from noisewright.outside.texts import clean, guard_all_logs
from noisewright.web.turns import Line, Turns

SCORED_AT_ONCE = 64
"""Images between two looks at whether a verifier is to go on, and that a killed one may have to score again."""

LOADED_BY = ("model", "device", "dtype", "variant", "config", "loras", "compile", "channels_last")

Tell = Callable[[Mapping[str, Any]], None]


@dataclass
class _State:
    """A job that is waited for.

    Attributes:
        leaving: set where nobody wants it any more.
        run: while it runs.
        entered: whether its turn at the model has come.
        asked_wrong: whether what fails now is about what was asked for; where a model is loaded, and from when a run
            is begun, it is about this machine.
    """

    leaving: threading.Event = field(default_factory=threading.Event)
    run: Any = None
    entered: bool = False
    asked_wrong: bool = True


class Works:
    """Does jobs. All methods may be called from any thread.

    A job is JSON-ready and has an ``id``, a ``kind`` and what that needs:

    - ``run``: a ``request``, the directory ``out``, and ``pictures``, whether the pictures of its end are drawn;
    - ``forecast``: a ``request``;
    - ``load``: a ``request``, of which the model counts;
    - ``score``: the directory ``run``, and the ``verifier``.

    Where it says ``alone`` no other is at the model meanwhile.

    Attributes:
        line: of those who want the model.
    """

    def __init__(self) -> None:
        self.line = Line()
        self._turns = Turns()
        self._lock = threading.Lock()
        self._jobs: dict[str, _State] = {}
        self._key: str | None = None
        self._pipe: Any = None
        self._known: dict[str, Any] = {}

    def do(self, job: Mapping[str, Any], tell: Tell = lambda event: None) -> dict[str, Any]:
        """Do a job when its turn comes, and say what came of it.

        Args:
            job: as above.
            tell: told, in the thread of the job, how it goes: an event's ``kind`` is ``entered`` (its turn has come),
                ``begun`` (a run is planned: the ``fingerprint`` of its model), or ``better`` (there is a new best: its
                ``file``, and how much of the budget is ``done``, 0 to 1).

        Returns:
            ``ok`` and the ``result``; or, of what failed, the ``error`` in one line, and ``why``: ``wrong`` use (of
            what could not even be planned), ``stopped`` before there was anything, a ``verifier``, or ``failed``.
        """
        state = _State()
        with self._lock:
            self._jobs[job["id"]] = state
        try:
            return self._at_model(job, tell, state)
        except (KeyboardInterrupt, Exception) as error:
            return _failed(error, state.asked_wrong)
        finally:
            with self._lock:
                del self._jobs[job["id"]]

    def stop(self, key: str) -> None:
        """End a job: a run after its micro-batch, one that waits at once."""
        with self._lock:
            state = self._jobs.get(key)
        if state is not None:
            state.leaving.set()
            if state.run is not None:
                state.run.stop()
            self.line.look()
            self._turns.look()

    @property
    def jobs(self) -> list[str]:
        """The ids of those that wait or are done."""
        with self._lock:
            return list(self._jobs)

    def end(self, begun: bool = False) -> None:
        """Have those give up that wait; where ``begun``, those end too whose turn has come."""
        with self._lock:
            keys = [key for key, one in self._jobs.items() if begun or not one.entered]
        for key in keys:
            self.stop(key)

    # The work

    def _at_model(self, job: Mapping[str, Any], tell: Tell, state: _State) -> dict[str, Any]:
        from noisewright.request import read_request

        request = read_request(job["request"], "the queue") if "request" in job else None
        key = None if request is None or job.get("alone") else _key_of(request)
        with self.line.at(key, state.leaving.is_set) as came:
            if not came:
                return _failed(Stopped("stopped"))
            state.entered = True
            tell({"kind": "entered"})
            try:
                with self._turns.turn(state.leaving.is_set) as mine:
                    if not mine:
                        return _failed(Stopped("stopped"))
                    return {"ok": True, "result": self._done(job, request, tell, state)}
            except (KeyboardInterrupt, Exception) as error:  # the next job may fare better
                return _failed(error, state.asked_wrong)
            finally:  # who is next may load another model: nothing of this job holds on to the one that is there
                state.run = None

    def _done(self, job: Mapping[str, Any], request: Any, tell: Tell, state: _State) -> dict[str, Any]:
        if state.leaving.is_set():
            raise Stopped("stopped")
        if job["kind"] == "score":
            return _score(Path(job["run"]), job["verifier"], job.get("device"), state.leaving.is_set)
        return self._on_model(job, request, tell, state)

    def _on_model(self, job: Mapping[str, Any], request: Any, tell: Tell, state: _State) -> dict[str, Any]:
        from noisewright.planning import plan_on, recordable

        request, live = recordable(request)
        state.asked_wrong = False
        pipe = self._loaded(request)
        if job["kind"] == "load":
            return {"fingerprint": _fingerprint(pipe)}
        state.asked_wrong = True
        if job["kind"] == "forecast":
            from noisewright.evaluate.forecast import forecast

            found = forecast(plan_on(request, pipe, known=self._known, proving=False, **live))
            names = ("images", "nfe", "forwards", "seconds", "warnings", "limit", "steps")
            return {name: found[name] for name in names}
        from noisewright.execute import execute
        from noisewright.run.reading import is_run, read_run
        from noisewright.verifiers.optional import usage_of

        out = Path(job["out"])
        checked = read_run(out).get("checked") if is_run(out) else None
        plan = plan_on(request, pipe, known=self._known, checked=checked, **live)
        self._known = {name: one for name, one in self._known.items() if usage_of(one) is None}  # a bill is of one run
        state.asked_wrong = False
        tell({"kind": "begun", "fingerprint": plan.spec["sampler"].get("fingerprint")})
        shares = plan.budget.seconds is None  # a budget in seconds is not spent waiting for others
        result = execute(plan, out, self._follower(tell, state, shares), pictures=job.get("pictures", True))
        return {
            "stopped": result.stopped, "images": result.images, "interrupted": result.interrupted, "nfe": result.nfe,
            "seconds": {phase: seconds for phase, seconds in result.seconds.items() if phase != "total"},
        }  # fmt: skip

    def _follower(self, tell: Tell, state: _State, shares: bool) -> Callable[[Any], None]:
        """What is called after each micro-batch of a run."""
        best = ""

        def after(run: Any) -> None:
            nonlocal best
            state.run = run
            if state.leaving.is_set():
                run.stop()
            found = run.best
            if found is not None and found.id != best:
                best = found.id
                tell({"kind": "better", "file": str(run.store.root / found.file), "done": _share(run)})
            if shares:
                self._turns.pass_on()

        return after

    def _loaded(self, request: Any) -> Any:
        """The pipeline of a request; what was in memory before makes room for it."""
        from noisewright.planning import load_requested

        key = _key_of(request)
        if key != self._key:
            self._key, self._pipe, self._known = None, None, {}
            _make_room()
            self._pipe, self._key = load_requested(request), key
        return self._pipe


def _key_of(request: Any) -> str:
    """What identifies a loaded model."""
    return json.dumps([getattr(request, name) for name in LOADED_BY], sort_keys=True)


def _make_room() -> None:
    gc.collect()
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _share(run: Any) -> float:
    """How much of its budget a run has spent, 0 to 1."""
    limits = ((run.spent.images, run.budget.images), (run.elapsed, run.budget.seconds))
    return float(min(1.0, max((now / limit for now, limit in limits if limit), default=0.0)))


def _fingerprint(pipe: Any) -> str:
    """What identifies a model, for clients that search over this server."""
    from noisewright.samplers.fingerprint import fingerprint

    own = getattr(pipe, "fingerprint", None)
    return own if isinstance(own, str) else fingerprint(pipe)


def _failed(error: BaseException, asked_wrong: bool = False) -> dict[str, Any]:
    """What is said of a job that came to nothing; ``asked_wrong``: it was planned, and never begun."""
    said = clean(str(error).splitlines()[0] if str(error) else type(error).__name__, 1000)
    if isinstance(error, (Stopped, BudgetExhausted)):
        return {"ok": False, "why": "stopped", "error": said}
    if isinstance(error, VerifierFailed):
        return {"ok": False, "why": "verifier", "error": said}
    if isinstance(error, (ValueError, TypeError)):
        return {"ok": False, "why": "wrong" if asked_wrong else "failed", "error": said}
    return {"ok": False, "why": "failed", "error": f"{type(error).__name__}: {said}"}


def _score(root: Path, name: str, device: str | None, given_up: Callable[[], bool]) -> dict[str, Any]:
    """Have another verifier look at the candidates that are there, and keep what it says, some at a time."""
    import math

    from noisewright.evaluate.scoring import score_files
    from noisewright.outside.inside import inside
    from noisewright.registry import make_verifier
    from noisewright.run.follow import Watch
    from noisewright.samplers.load import best_device
    from noisewright.web.choices import add_opinion, read_opinions

    watch = Watch(root)
    watch.look()
    verifier = make_verifier(name, device or best_device())
    known = read_opinions(root).get(verifier.name, {})
    files = {}
    for key, made in watch.ledger.images.items():
        if key not in known and made.broken is None:
            files[str(inside(root, made.file))] = key
    prompt = str(watch.run["spec"]["sampler"].get("prompt") or "")
    scored, unread, names = 0, 0, list(files)
    for first in range(0, len(names), SCORED_AT_ONCE):
        if given_up():
            raise Stopped("stopped")
        rows, bad = score_files([Path(one) for one in names[first : first + SCORED_AT_ONCE]], prompt, [verifier])
        scores = {files[row["file"]]: row["scores"][verifier.name] for row in rows}
        finite = {key: value for key, value in scores.items() if math.isfinite(value)}
        add_opinion(root, verifier.name, verifier.fingerprint, finite)
        scored, unread = scored + len(finite), unread + len(bad)
    return {"scored": scored, "unread": unread, "verifier": verifier.name}


def main() -> None:
    """Do jobs until no more come, and end those that were begun.

    The argument is a directory whose lock is held meanwhile: a server looks at it before it starts another process.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed is no answer
    sys.stdout = sys.stderr
    guard_all_logs()  # a prompt is somebody else's text
    from noisewright.run.locks import locked
    from noisewright.samplers.quiet import quiet

    works, writing, threads = Works(), threading.Lock(), list[threading.Thread]()

    def say(key: str, **what: Any) -> None:
        with writing:
            try:
                answers.write(json.dumps({"id": key, **what}) + "\n")
                answers.flush()
            except OSError:  # the server is gone; what was made is in the run's directory
                pass

    def work(job: Mapping[str, Any]) -> None:
        say(job["id"], answer=works.do(job, lambda event: say(job["id"], event=event)))

    with quiet(), locked(Path(sys.argv[1])):
        try:
            for line in sys.stdin:
                message = json.loads(line)
                if "stop" in message:
                    works.stop(message["stop"])
                    continue
                threads = [one for one in threads if one.is_alive()]
                threads.append(threading.Thread(target=work, args=(message,), name=message["id"]))
                threads[-1].start()
            works.end()
        except KeyboardInterrupt:
            works.end(begun=True)
        for one in threads:
            one.join()


if __name__ == "__main__":
    main()
