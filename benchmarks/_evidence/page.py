"""``docs/evidence.md``, from the result files."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import suppress

from _evidence import claims_by_grids, claims_by_model, claims_by_pools
from _evidence.figures import RULE, WAITING, Section, table
from _evidence.kept import Held, Lacking
from _evidence.plans import PLANS

HEAD = """# The evidence

What the field claims of compute at inference, measured on the bundled models with one engine: what each source reports,
what came out here, and a verdict by a rule. **Bundled models are small**: what holds here need not hold of a large
model, and what does not hold here may; the column of the source says what large models did.

Written by `python benchmarks/evidence.py write` from the rows in `benchmarks/results/evidence/` (and those of the
schedules in `benchmarks/results/`), which `python benchmarks/evidence.py measure` makes; `--help` says how. Every
number under "measured" of a claim is computed from these rows when the page is written.
"""
SETTING = """**The setting**, where nothing else is said: `noisewright/shapes`, guidance 4, bfloat16, 10 steps, test
prompts of all five kinds in turn, seeds 1000 (k - 1) and on for prompt k. 10 steps are cheaper and a little worse than
the default of 25 (claim 1 has both). *Success* is the share of picks in which the oracle, which no search sees, finds
exactly the prompt's scene, in %. Best of N of a pool is the mean over all sets of N of its candidates (of an ensemble:
over random sets), so that no draw of luck decides. One NFE is one guided prediction for one image.
"""


def sections(held: Held) -> list[Section]:
    """The eleven sections, in order."""
    made = [
        make(held)
        for module in (claims_by_pools, claims_by_grids, claims_by_model)
        for make in module.CLAIMS
    ]  # fmt: skip
    return sorted(made, key=lambda one: one.number)


def page(held: Held) -> str:
    """The whole page."""
    found = sections(held)
    parts = [HEAD, SETTING, _wrapped(_machines(held)), _wrapped(RULE), "## Verdicts\n", _summary(found)]
    parts += [_section(one) for one in found]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _machines(held: Held) -> str:
    """Where the pools' images were made."""
    found: dict[str, list[str]] = {}
    for name in PLANS:
        with suppress(Lacking):
            about = held.pool(name).about
            device = f"{about.get('device', 'CPU')} (torch {about.get('torch', 'not recorded')})"
            found.setdefault(device, []).append(name)
    pools = "; ".join(f"on {device}: {', '.join(names)}" for device, names in found.items()) or "nowhere yet"
    return (
        f"**Where**: pools of plain candidates were made {pools}. Noises are drawn on the CPU everywhere; a device's "
        "rounding may change what single pictures show, so nothing is paired across devices but by prompt and seed. "
        "All else was made on two CPU cores."
    )


def _summary(found: Sequence[Section]) -> str:
    rows = []
    for one in found:
        link = f"[{one.number}. {one.title}](#claim-{one.number})"
        answers = [check.answer for check in one.checks]
        counts = ", ".join(f"{answers.count(kind)} {kind}" for kind in ("yes", "no", "open") if kind in answers)
        counts += f"{', ' if counts else ''}{len(one.missing)} lacking" if one.missing else ""
        rows.append([link, f"**{one.verdict}**", counts or "-"])
    return table(["claim", "verdict", "checks"], rows)


def _section(one: Section) -> str:
    parts = [f"## Claim {one.number}\n", f"**{one.title}.** Verdict: **{one.verdict}**.\n"]
    parts += [_wrapped(f"**The source reports:** {one.source}"), "**Measured:**\n"]
    parts += [_wrapped(block) for block in one.blocks] or ["Nothing yet.\n"]
    if one.checks:
        head = ["check", "mean difference, 95 %", "wanted", "of", "answer"]
        lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *(check.line for check in one.checks)]
        parts.append("\n".join(lines) + "\n")
    if one.missing:
        parts.append(_wrapped(f"{WAITING.capitalize()}: {'; '.join(one.missing)}."))
    parts.append("Rows by:\n\n" + "\n".join(f"    {command}" for command in one.commands) + "\n")
    return "\n".join(parts)


def _wrapped(text: str) -> str:
    """Lines of at most 120 characters, but for those of tables."""
    lines = text.split("\n")
    return "\n".join(
        line if line.startswith("|") else textwrap.fill(line, 120, break_long_words=False, break_on_hyphens=False)
        for line in lines
    ) + "\n"
