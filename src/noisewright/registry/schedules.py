"""Schedules by name, and from files."""

from __future__ import annotations

from typing import Any

from noisewright.registry.lookup import entry, load
from noisewright.schemas.reading import is_file

PIPELINE = "pipeline"
"""The name of the pipeline's own levels, which no rule places."""


def schedule_rule(name: str) -> Any:
    """The rule of a name as a :class:`noisewright.diffusion.schedules.Rule`; None for the pipeline's own levels.

    Raises:
        ValueError: on an unknown name, with the nearest.
    """
    from noisewright.diffusion.schedules import Rule

    one = entry("schedule", name)
    return None if name == PIPELINE else Rule(one.name, load(one))


def schedule_from(text: str, sampler: Any, force: bool = False) -> tuple[Any, str | None]:
    """What ``--schedule`` names: a rule, or the levels of a schedule file.

    Args:
        text: a name from ``list schedules``, or a file that ``noisewright schedule fit`` wrote.
        sampler: of the model that will visit the levels.
        force: take a file that was made for another model.

    Returns:
        A :class:`noisewright.diffusion.schedules.Rule`, which a sampler turns into levels for any number of steps (or
        the name ``pipeline``), and None; or the :class:`~.Schedule` of a file, and the solver that it was made for.

    Raises:
        ValueError: on an unknown name, or a file that was made for another model, unless by force.
    """
    if not is_file(text):
        return schedule_rule(text) or PIPELINE, None
    from noisewright.trajectory.files import load_for, read_schedule_file

    return load_for(text, sampler, force), read_schedule_file(text).solver
