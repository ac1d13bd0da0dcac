"""The small JSON file of a schedule: its levels, whose they are, how they were made. Nothing in it is executable."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from noisewright.diffusion.schedule import Schedule
from noisewright.images.metadata import public_name
from noisewright.outside.files import write_atomically
from noisewright.outside.messages import short
from noisewright.samplers.fingerprint import same_model
from noisewright.samplers.protocol import Sampler
from noisewright.schemas.checked import checked
from noisewright.schemas.files import SCHEDULE, SCHEDULE_KEYS
from noisewright.trajectory.errors import read_json
from noisewright.trajectory.path import CLOSE, ROUNDING, ModelPath, ending_with, path_of

FORMAT, VERSION = "noisewright schedule", 1
SAME = ("fingerprint", "prediction")
"""What a schedule's model and the model it is used with must share."""

SCALE = 1e-6
"""By which rounding may take alpha or sigma above 1."""


@dataclass(frozen=True)
class FittedSchedule:
    """A schedule with what it was made for, how, and what was measured on the way; a small JSON file when it is saved.

    Attributes:
        schedule: the levels.
        solver: the solver it was made for; others can take it too.
        identity: ``model``, ``fingerprint`` and ``prediction``; see :func:`identity`.
        made: method, start and settings.
        figures: what was measured while it was made.
    """

    schedule: Schedule
    solver: str
    identity: dict[str, Any]
    made: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def check(self, other: dict[str, Any], force: bool = False) -> None:
        """Refuse another model.

        Args:
            other: the :func:`identity` of the sampler that is to use it.
            force: take it all the same.

        Raises:
            ValueError: naming both.
        """
        check_same_model(self.identity, other, "a schedule made for", force)

    @property
    def levels(self) -> list[tuple[float, float, float]]:
        """(t, alpha, sigma) of each network call, noisiest first."""
        one = self.schedule
        return list(zip(one.t, one.alpha, one.sigma, strict=False))

    @property
    def notes(self) -> list[str]:
        """What one should know of this fit before it is used."""
        return notes_of(self.made, self.figures)

    @property
    def diffusers(self) -> dict[str, list[float]]:
        """What plain diffusers takes; see :func:`diffusers_arguments`."""
        return diffusers_arguments(self.schedule)

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        one = self.schedule
        return {
            **self.identity, "solver": self.solver, "steps": one.steps, "t": list(one.t),
            "alpha": list(one.alpha), "sigma": list(one.sigma), "start": one.start, "made": self.made,
            "figures": self.figures, "diffusers": self.diffusers,
        }  # fmt: skip

    def save(self, path: str | Path) -> Path:
        """Write the file, which :func:`noisewright.search` takes as its schedule; one that is there is replaced."""
        return write_schedule_file(path, self)

    def __str__(self) -> str:
        rows = [f"{t:10.1f} {alpha:9.5f} {sigma:9.5f}" for t, alpha, sigma in self.levels]
        head = f"{self.schedule.steps} steps of {self.solver} for {self.identity.get('model')}"
        return "\n".join([head, f"{'t':>10} {'alpha':>9} {'sigma':>9}", *rows])


def notes_of(made: Mapping[str, Any], figures: Mapping[str, Any]) -> list[str]:
    """What one should know of a fit: a start that moved, errors under guidance, a change that may be chance."""
    notes = []
    before, after = (figures.get(f"abar_start_{name}") for name in ("before", "after"))
    if before and after and after > 1.5 * before:
        notes.append(
            f"the start moved to lower noise, abar {before:.3g} to {after:.3g}, while sampling begins with pure "
            "noise as before: compare with --fixed-start, and look at images"
        )
    guidance = made.get("errors_of", {}).get("guidance_scale", 1.0)
    if guidance != 1.0:
        notes.append(
            f"the errors were measured at guidance {guidance:g}, where a prediction is no estimate of the noise"
        )
    if "report_prompts" in made and made["prompts"] == made["report_prompts"]:
        notes.append("the figures are reported on other seeds of the prompts that were tuned on: name more prompts")
    reported = [*(figures.get("reported") or ()), *(figures.get("reported_change_interval") or ())]
    if len(reported) == 4 and None not in reported and reported[2] < 0 < reported[3]:
        notes.append(
            "on noises that it was not tuned on the change, {:.4g} to {:.4g}, may be chance (95 % [{:+.2g}, {:+.2g}]): "
            "tune on more prompts and samples".format(*reported)
        )
    return notes


def check_same_model(known: Mapping[str, Any], other: Mapping[str, Any], what: str, force: bool = False) -> None:
    """Refuse what belongs to another model.

    Args:
        known: the :func:`identity` that a file has.
        other: that of the sampler which is to use it.
        what: what the file holds, for the message.
        force: take it all the same.

    Raises:
        ValueError: naming both.
    """
    for name in SAME:
        if not force and not same_model(known.get(name), other.get(name)):
            raise ValueError(
                f"expected {what} {other.get('model')} ({name} {other.get(name)}), got one {what.split()[-1]} "
                f"{known.get('model')} ({name} {known.get(name)}): --force takes it all the same"
            )


def identity(sampler: Sampler) -> dict[str, Any]:
    """What a schedule or an error table belongs to: the model's name and fingerprint, and what it predicts."""
    about = sampler.description
    prediction = getattr(sampler, "prediction", None) or about.get("kind") or "unknown"
    name = about.get("model")  # files are shared: of a directory its own name
    model = public_name(name) if isinstance(name, str) else name
    return {"model": model, "fingerprint": about.get("fingerprint"), "prediction": prediction}


def diffusers_arguments(schedule: Schedule) -> dict[str, list[float]]:
    """What plain diffusers takes: ``timesteps``, and ``sigmas`` as its Euler schedulers want them.

    Of VP models the sigmas are those of ``EulerDiscreteScheduler`` (s, and the end); of flow models those of
    ``FlowMatchEulerDiscreteScheduler`` (it appends the end itself, and shifts what it is given unless shift is 1).
    """
    pairs = list(zip(schedule.alpha, schedule.sigma, strict=True))
    if schedule.straight:
        sigmas = [sigma for _, sigma in pairs[:-1]]
    else:
        sigmas = [sigma / alpha if alpha > 0 else math.inf for alpha, sigma in pairs]
    return {"timesteps": list(schedule.t), "sigmas": sigmas}


def write_schedule_file(path: str | Path, made: FittedSchedule) -> Path:
    """Write a schedule; a file that is there is replaced at once."""
    found = {"format": FORMAT, "version": VERSION, **made.to_json()}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(found, indent=1, allow_nan=False) + "\n").encode())
    return path


def read_schedule_file(path: str | Path) -> FittedSchedule:
    """What :func:`write_schedule_file` wrote.

    Raises:
        ValueError: on a foreign or damaged file, or levels that do not fall.
    """
    held = read_json(path, FORMAT, VERSION, "a schedule of `noisewright schedule fit`")
    for name in SCHEDULE_KEYS:
        if name not in held:
            raise ValueError(f"expected {name!r} in the schedule {path}, got none")

    def line(expected: str, key: str, got: str) -> str:
        return f"expected levels in {path}, got something else: {key} is {got}, not {expected}"

    checked(SCHEDULE, held, str(path), line)
    t, alpha, sigma = (tuple(float(one) for one in held[name]) for name in ("t", "alpha", "sigma"))
    if held["steps"] != len(t):
        steps = short(held["steps"])
        raise ValueError(
            f"expected levels in {path}, got something else: {len(t)} times for the {steps} steps it says it has"
        )
    known = {name: held[name] for name in ("model", "fingerprint", "prediction")}
    try:
        levels = Schedule(t, alpha, sigma, float(held["start"]))
    except ValueError as error:
        raise ValueError(f"expected levels in {path}, got something else: {error}") from None
    made = FittedSchedule(levels, held["solver"], known, dict(held["made"]), dict(held["figures"]))
    check_levels(made.schedule, str(path))
    return made


def check_levels(schedule: Schedule, where: str) -> None:
    """Refuse levels that no sampler can follow.

    In the coordinates ``x0 + s eps``, where alpha is 1 throughout, sigma may be above 1.

    Raises:
        ValueError: where alpha or sigma is out of [0, 1] or the levels do not fall.
    """
    pairs = list(zip(schedule.alpha, schedule.sigma, strict=True))
    if any(alpha < 0 or sigma < 0 or alpha + sigma <= 0 for alpha, sigma in pairs) or schedule.start <= 0:
        raise ValueError(f"expected alpha and sigma of at least 0 in {where}, got a negative one")
    plain = all(alpha == 1 for alpha in schedule.alpha)
    for alpha, sigma in pairs:
        if not plain and max(alpha, sigma) > 1 + SCALE:
            raise ValueError(f"expected alpha and sigma in [0, 1] in {where}, got {alpha:.6g} and {sigma:.6g}")
    for (alpha, sigma), (after_alpha, after_sigma) in pairwise(pairs):
        if sigma * after_alpha <= after_sigma * alpha:
            raise ValueError(
                f"expected falling noise levels in {where}, got sigma/alpha {sigma:.6g}/{alpha:.6g} followed by "
                f"{after_sigma:.6g}/{after_alpha:.6g}"
            )


def load_for(path: str | Path, sampler: Sampler, force: bool = False) -> Schedule:
    """The schedule of a file, for a sampler of the model that it was made for.

    Args:
        path: the file.
        sampler: of the model.
        force: take a file of another model: its levels s, with this model's own times, scales and start.

    Raises:
        ValueError: see :func:`read_schedule_file`, :meth:`FittedSchedule.check` and :func:`on_path`; levels outside the
            model's range are refused in any case.
    """
    found = read_schedule_file(path)
    found.check(identity(sampler), force)
    return on_path(found.schedule, path_of(sampler), str(path), force)


def on_path(schedule: Schedule, path: ModelPath, where: str, force: bool = False) -> Schedule:
    """A schedule of a model, checked against its path.

    Args:
        schedule: the levels.
        path: the model's; its end counts for nothing.
        where: what to call the schedule in a message.
        force: bring times, scales and a start that are not the model's to its own.

    Raises:
        ValueError: on levels outside the model's range; without force, also on times that are not those of their levels
            (a rounded one is), on scales alpha and sigma of another kind of model, or on a start that no sampler of the
            model draws.
    """
    path = ending_with(path, schedule)
    try:
        levels = path.levels_of(schedule)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    first, last = path.time(path.low), path.time(path.high)
    near = 1.0 if last > 100 else last / 1000
    wrong = ""
    for t, alpha, sigma, s in zip(schedule.t, schedule.alpha, schedule.sigma, levels, strict=False):
        norm = alpha + sigma if path.is_flow else math.hypot(alpha, sigma)
        if not abs(t - path.time(s)) <= near * (1 + CLOSE):
            wrong = (
                f"expected the model's own times in {where}, in [{first:g}, {last:g}], got t = {t:g} at the level "
                f"s = {s:.6g}, whose time is {path.time(s):.6g}"
            )
        elif abs(norm - 1) > ROUNDING:
            rule = "alpha + sigma" if path.is_flow else "alpha^2 + sigma^2"
            wrong = f"expected {rule} = 1 in {where}, as the model has it, got alpha {alpha:.6g} and sigma {sigma:.6g}"
        if wrong and not force:
            raise ValueError(wrong)
    wrong = wrong or _strange_start(schedule, where)
    if wrong and not force:
        raise ValueError(wrong)
    return path.schedule(levels) if wrong else schedule


def _strange_start(schedule: Schedule, where: str) -> str:
    """What is wrong with the deviation of the starting state, if anything is.

    Pipelines draw unit noise; a state of unit data has ``hypot(alpha, sigma)``; schedulers that count in s, such as
    Euler's, draw the noise alone under some spacings, sigma.
    """
    alpha, sigma = schedule.alpha[0], schedule.sigma[0]
    known = (1.0, math.hypot(alpha, sigma), sigma)
    if any(math.isclose(schedule.start, one, rel_tol=ROUNDING) for one in known):
        return ""
    names = " or ".join(dict.fromkeys(f"{one:.6g}" for one in known))
    return f"expected a start of {names} in {where}, the deviation of its first state, got {schedule.start:.6g}"
