"""A run that is there already, asked to go on: what it was asked for, and what it cannot say of that."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from noisewright.outside.messages import short
from noisewright.outside.texts import clean
from noisewright.registry import score_name, trust
from noisewright.request import Request, read_request
from noisewright.run.budget import Budget, parse_budget
from noisewright.run.follow import Watch
from noisewright.run.reading import is_run, read_run
from noisewright.schemas.reading import exists
from noisewright.schemas.request import AUTO


def request_of(run: Path, held: Mapping[str, Any]) -> Request:
    """What a run was asked for.

    Args:
        run: its directory.
        held: its ``run.json`` (:func:`noisewright.run.reading.read_run`).

    Raises:
        ValueError: in one line, where it does not say, as runs from Python of versions before 0.2.
    """
    request = held.get("request")
    if request is None:
        raise ValueError(
            f"expected a run that says what it was asked for, got {run}, which was started from Python by an earlier "
            f"version: call noisewright.search(..., out={str(run)!r}) with its arguments to continue it"
        )
    return read_request(request, str(run / "run.json"))


def check_trust(run: Path, request: Request) -> None:
    """Refuse what a run directory may not name by itself, before anything is imported or compared.

    Raises:
        ValueError: in one line.
    """
    trust.check_run(run, request.to_json())


def check_spent(run: Path, budget: Budget) -> None:
    """Refuse a budget that a run has spent already.

    Raises:
        ValueError: in one line, with what it has spent.
    """
    watch = Watch(run)
    watch.look()
    spent = watch.ledger.spent
    for unit in ("images", "nfe", "seconds"):
        limit, used = getattr(budget, unit), getattr(spent, unit)
        if limit is not None and limit < used:
            raise ValueError(
                f"expected a budget of at least {used:g} {unit}, which {run} has spent already, got {limit:g} {unit}"
            )


def with_changes(run: Path, request: Request, changes: Mapping[str, Any]) -> Request:
    """The request with what is asked for now in place of what was, where that is something else.

    Args:
        run: the directory.
        request: what was asked for.
        changes: ``budget``, ``target`` and ``executor``, in any form; None is no change.

    Raises:
        ValueError, TypeError: in one line, also on a budget that is spent already.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    changed = request.changed(**given)
    if changed.budget != request.budget and changed.budget is not None:
        check_spent(run, parse_budget(changed.budget))
    return changed


def as_recorded(run: Path, request: Request) -> Request:
    """A request with the type that it leaves open as a run has it, where there is one in its directory: no new trial.

    Args:
        run: the directory, in which a run of the same settings would be continued.
        request: as it was asked for.
    """
    if request.dtype != AUTO or not is_run(run):
        return request
    with suppress(ValueError):  # said where it is opened
        recorded = read_run(run).get("request") or {}
        return request.changed(dtype=recorded.get("dtype"))
    return request


# What no file holds


def check_nothing_missing(
    run: Path,
    request: Request,
    pipe: Any = None,
    verifiers: Mapping[str, Sequence[Any] | None] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> None:
    """Refuse to go on where objects of a Python program are needed again.

    Args:
        run: the directory.
        request: what it was asked for.
        pipe: the pipeline, where it is given again.
        verifiers: the ``verifiers`` and ``judges``, where they are.
        arguments: of the pipeline's call, by name.

    Raises:
        ValueError: in one line, with what to pass to :func:`noisewright.resume`.
    """
    parts, names = [], []
    if request.model is None and pipe is None:
        parts.append(f"pipe= (a {request.given_pipeline or 'pipeline'})")
        names.append("pipe=...")
    for word, given in (("verifiers", request.verifier), ("judges", request.judge)):
        held = [one for one in given or [] if isinstance(one, Mapping)]
        if held and (verifiers or {}).get(word) is None:
            parts.append(f"{word}= " + ", ".join(f"{short(one['name'])} ({one['what']})" for one in held))
            names.append(f"{word}=[...]")
    for name, one in request.pipeline_args.items():
        what = described(one)
        if what is not None and name not in (arguments or {}):
            parts.append(f"{name}= ({what})")
            names.append(f"{name}=...")
    if pipe is None:
        _check_there(run, request)
    if parts:
        call = f"noisewright.resume({str(run)!r}, {', '.join(names)})"
        raise ValueError(clean(f"expected {' and '.join(parts)}, which {run} was started with from Python and no file "
                               f"holds: call {call} there", 1500))  # fmt: skip


def _check_there(run: Path, request: Request) -> None:
    """Refuse to go on where a model or a LoRA is no longer where the run has it, and say how to give it from elsewhere.

    Raises:
        ValueError: in one line.
    """
    model = request.model
    if model is not None and os.path.isabs(model) and not exists(model):
        call = f"noisewright.resume({str(run)!r}, pipe=...)"
        raise ValueError(f"expected the model of {run} in {short(model)}, got nothing there: where it was moved, "
                         f"{call} takes its new place")  # fmt: skip
    for one in request.loras:
        if os.path.isabs(one["file"]) and not exists(one["file"]):
            call = f"noisewright.resume({str(run)!r}, pipe=noisewright.load({str(model)!r}, loras=...))"
            raise ValueError(f"expected a LoRA of {run} as {short(one['file'])}, which is not there: where it was "
                             f"moved, {call} takes it from its new place")  # fmt: skip


def described(record: Any) -> str | None:
    """What a recorded argument was, where the record is a hash: ``a tensor of shape (1, 768)``, ``the function f``."""
    from noisewright.samplers.identity import is_content

    if not is_content(record):
        return None
    if isinstance(record, Mapping) and len(record) == 1:
        kind, about = next(iter(record.items()))
        if kind == "$function" and isinstance(about, list) and about:
            return f"the function {about[0]}"
        shape = about[-1] if isinstance(about, list) and isinstance(about[-1], list) else None
        name = {"$tensor": "a tensor", "$array": "an array", "$image": "an image"}.get(kind, "a long value")
        return name if shape is None else f"{name} of shape ({', '.join(map(str, shape))})"
    return "with tensors, arrays or images in it"


def completed(recorded: Sequence[Any] | None, given: Sequence[Any] | None, what: str) -> list[Any] | None:
    """Verifiers of a run, with those that were given again in the places of their names.

    Args:
        recorded: names, and notes of what had none.
        given: functions, objects or names.
        what: ``verifiers`` or ``judges``, for messages.

    Returns:
        One for each that is recorded; None where nothing was given.

    Raises:
        ValueError: in one line, on one that the run does not have, or has and was not given.
    """
    from noisewright.verifiers.protocol import as_verifier

    if given is None:
        return None
    again = {score_name(one) if isinstance(one, str) else as_verifier(one).name: one for one in given}
    found = []
    for one in recorded or []:
        name = one["name"] if isinstance(one, Mapping) else score_name(one)
        if isinstance(one, Mapping) and name not in again:
            raise ValueError(f"expected {short(name)} ({one['what']}) among {what}, got {', '.join(again) or 'none'}")
        found.append(again.pop(name, one))
    if again and recorded is not None:
        raise ValueError(f"expected {what} that the run has, got {short(next(iter(again)))}")
    return [*found, *again.values()]
