"""What a report says in words: what was compared, what is amiss, how to read the rest."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from noisewright.benchmark.compared import LEVEL, Compared, Point
from noisewright.benchmark.report.numbers import HIGHER, LOWER, mark_of
from noisewright.benchmark.report.tables import OPTIMISED
from noisewright.benchmark.rows import CellRow
from noisewright.benchmark.spec import Spec
from noisewright.benchmark.verdicts import over_optimised_sentence, sentence, told_apart, with_interval
from noisewright.benchmark.verdicts import warnings_of as limits_of
from noisewright.evaluate.words import plural
from noisewright.images.metadata import public
from noisewright.schemas.typed import budget_texts

MOST_LABELS = 40
"""Of an axis that are spelled out."""

MOST_WARNINGS = 10
MOST_VERDICTS, LEAST_VERDICTS, MOST_PARTED = 6, 3, 3
"""Sentences at the top of a report: about points (fewer where most say that nothing is seen), and about verifiers and
judges that part."""

UNITS = {"images": "images", "image": "images", "nfe": "NFE", "s": "seconds", "seconds": "seconds", "second": "seconds"}


def facts(spec: Spec, rows: Sequence[CellRow], compared: Compared, held: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was compared with what, as (name, text).

    Args:
        spec: of the benchmark.
        rows: of its cells.
        compared: what came of them.
        held: ``created`` and ``versions`` of its ``benchmark.json``, as far as they are known.
    """
    base: dict[str, Any] = public({"sampler": dict(spec.base)})["sampler"]
    given: list[tuple[str, str]] = [(name, _said(value)) for name, value in base.items() if value not in (None, {}, [])]
    found = [one for one in given if one[0] == "model"]
    found += [(f"{axis.name} (varied)", _listed([one.label for one in axis.values])) for axis in spec.axes]
    found += [("prompts", _prompts(spec)), ("seeds", _seeds(spec))]
    done = [row for row in rows if row["status"] == "done"]
    for role, each in (("verifiers", [row.get("verifiers", []) for row in done]),
                       ("judges", [row.get("judges", []) for row in done])):  # fmt: skip
        names = list(dict.fromkeys(name for one in each for name in one))
        found += [(role, _listed(names))] if names else []
    found.append(("compared", _paired(spec, compared)))
    equal = _equal(spec)
    found += [("at equal", equal)] if equal else []
    found += [one for one in given if one[0] not in ("model", "verifier", "judge")]
    found.append(("cells", _cells(compared)))
    if held.get("created"):
        found.append(("begun", _moment(str(held["created"]))))
    versions = held.get("versions")
    if isinstance(versions, Mapping):
        found.append(("made with", ", ".join(f"{name} {version}" for name, version in versions.items())))
    return found


def _moment(text: str) -> str:
    """A time for people, in UTC; what is none stays as it is."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError):
        return text


def _listed(labels: Sequence[str]) -> str:
    more = len(labels) - MOST_LABELS
    return ", ".join(labels[:MOST_LABELS]) + (f" and {more} more" if more > 0 else "")


def _said(value: Any) -> str:
    if isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value)


def _prompts(spec: Spec) -> str:
    source = f" of {spec.prompt_set}" if spec.prompt_set else ""
    if len(spec.prompts) == 1:
        return f"{spec.prompts[0].text}{source and f' (one{source})'}"
    counts = Counter(prompt.category for prompt in spec.prompts if prompt.category is not None)
    filed = ", ".join(f"{name} {count}" for name, count in counts.most_common(MOST_LABELS))
    return plural(len(spec.prompts), "prompt") + source + (f" ({filed})" if filed else "")


def _seeds(spec: Spec) -> str:
    if len(spec.prompts) == 1:
        return f"{plural(spec.seeds, 'seed')}, from {spec.seed} on"
    apart = "the same for all prompts" if spec.seed_step == 0 else f"{spec.seed_step} apart from prompt to prompt"
    return f"{plural(spec.seeds, 'seed')} for each prompt, from {spec.seed} on, {apart}"


def _paired(spec: Spec, compared: Compared) -> str:
    same = "the same prompts and seeds for all"
    labels = ", ".join(f"{name} {label}" for name, label in spec.reference.items())
    other = f", and with {labels}" if labels else ""
    return f"{same}: {plural(compared.pairs, 'pair')} at each point, with the plain image of each{other}"


def _equal(spec: Spec) -> str:
    """What all runs may spend alike."""
    given = [spec.base.get("budget")]
    given += [value.changes["budget"] for axis in spec.axes for value in axis.values if "budget" in value.changes]
    units = set()
    for one in given:
        try:
            texts = budget_texts(one) or []
        except (ValueError, TypeError):
            texts = []
        units |= {UNITS.get(text.split()[-1].lower(), text.split()[-1]) for text in texts}
    return " and ".join(sorted(units))


def _cells(compared: Compared) -> str:
    parts = [f"{compared.done} done"]
    parts += [f"{compared.failed} failed"] if compared.failed else []
    parts += [f"{compared.waiting} not made yet"] if compared.waiting else []
    shared = sum(point.shared for point in compared.points)
    parts += [f"{shared} of them read off others"] if shared else []
    return f"{compared.cells}: {', '.join(parts)}"


def amiss(compared: Compared, warnings: Sequence[str] = ()) -> list[str]:
    """What stands at the top of a report since it limits the rest; nothing where all went well.

    Args:
        compared: what came of the cells.
        warnings: about damaged files.
    """
    found = [f"{one[:1].upper()}{one[1:]}." for one in limits_of(compared)]
    if compared.failed:
        found[0] = f"{found[0][:-1]}: see Failures below."
    if compared.done and not compared.pairs:
        found.append("No prompt and seed is done at every point, so nothing is compared yet.")
    missing = Counter({name: sum(point.scores[name].missing for point in compared.points if name in point.scores)
                       for name in compared.scores})  # fmt: skip
    found += [f"{name} gave no number for {plural(count, 'cell')}." for name, count in missing.most_common() if count]
    return [*found, *warnings]


def first_words(compared: Compared) -> list[str]:
    """What a benchmark says first: how many points differ, where verifiers and judges part, and ends of curves."""
    score = compared.deciding
    if score is None or compared.pairs < 2:
        return []
    points = [point for point in compared.points if score in point.scores and point.scores[score].gain
              and math.isfinite(point.scores[score].best.mean)]  # fmt: skip
    marks = Counter(mark_of(point.scores[score].gain) for point in points)
    high = max(points, key=lambda point: point.scores[score].best.mean, default=None)
    if high is None:
        return []
    said = [_headline(compared, score, high, marks, len(points))]
    parted = [text for one in compared.over_optimised if (text := over_optimised_sentence(one, compared))]
    said += [_full(text) for text in parted[:MOST_PARTED]]
    ends = {curve.points[-1] for curve in compared.curves} or {point.number for point in compared.points}
    # What stands comes first, the largest first.
    order = sorted(ends, key=lambda number: (-_standing(compared.points[number], score), number))
    sentences = [text for number in order if (text := _sentence(compared, compared.points[number], score))]
    standing = sum(_standing(compared.points[number], score) > 0 for number in ends)
    most = MOST_VERDICTS if len(sentences) <= MOST_VERDICTS else max(LEAST_VERDICTS, min(MOST_VERDICTS, standing))
    return [*said, *map(_full, sentences[:most])]


def _full(text: str) -> str:
    """A sentence that stands by itself."""
    return f"{text[:1].upper()}{text[1:]}."


def _standing(point: Point, score: str) -> float:
    """How large the difference is that is said of a point; 0 where it does not stand."""
    measured = point.scores.get(score)
    difference = None if measured is None else measured.gain if point.reference is None else measured.against
    return abs(difference.mean) if difference is not None and difference.stands else 0.0


def _headline(compared: Compared, score: str, high: Point, marks: Counter[str], count: int) -> str:
    best = high.scores[score].best
    where = f" ({high.label})" if high.label else ""
    role = "the judge " if high.scores[score].role == "judge" else ""
    return (f"By {role}{score}, {marks[HIGHER]} of {plural(count, 'point')} {'is' if marks[HIGHER] == 1 else 'are'} "
            f"better than the plain image, {marks[LOWER]} worse, {marks['']} not told apart from it. The highest "
            f"mean is {with_interval(best.mean, best.low, best.high, signed=False)}{where}.")  # fmt: skip


def _sentence(compared: Compared, point: Point, score: str) -> str:
    """One point against its reference, or against the plain image; nothing of the reference itself."""
    measured = point.scores.get(score)
    is_reference = any(one.reference == point.number for one in compared.points)
    if measured is None or not measured.n or (point.reference is None and is_reference):
        return ""
    if point.reference is not None and measured.against is not None:
        first, second = told_apart(compared, point, compared.points[point.reference])
        return sentence(measured.against, first, second, score)
    return sentence(measured.gain, point.label or "the best", "the plain image", score) if measured.gain else ""


def warnings_of(rows: Sequence[CellRow]) -> list[tuple[str, int]]:
    """What the runs warned of, and how many said it, the most frequent first."""
    return Counter(text for row in rows for text in dict.fromkeys(row.get("warnings", ()))).most_common(MOST_WARNINGS)


def reading(compared: Compared) -> list[str]:
    """How to read the figures: what each column and mark is."""
    tests = next((one.gain.tests for point in compared.points for one in point.scores.values() if one.gain), 0)
    over = "prompts, a prompt's seeds drawn together" if compared.over == "prompts" else "the seeds of its one prompt"
    correction = f" after Holm's correction over the {tests} points tested of that score" if tests > 1 else ""
    found = [
        "A figure is the mean over cells, a cell being one prompt and seed; beside it stands its 95 % interval, "
        f"a percentile bootstrap over {over}.",
        f"{HIGHER} and {LOWER} mark differences that stand: a sign-flip permutation test of the pairs gives "
        f"p < {LEVEL}{correction}. Without a mark nothing is claimed, even where an interval leaves out zero. "
        "Pairs tell more than two means: a difference may stand where their intervals overlap.",
        "The plain image (baseline) is what the pipeline gives for the same prompt and seed without a search. A gain "
        "is the best candidate's score less that image's.",
        "A verifier is what the search optimised; a judge never took part, so believe judges.",
        "NFE are guided model evaluations, those for the baseline and the final rendering included. Seconds include "
        "verifiers and leave out loading; what was read off another run counts as a run of its own would.",
        "Diversity is the mean distance of a run's eight best images (root mean square, in [0, 1]).",
        "Shared cells were read off the run of another that did the same work and more: best-of-8 off best-of-64.",
        "Every cell is a row of cells.csv (and .parquet), every candidate one of candidates.csv. Columns of tables "
        "are sorted by a click on their names.",
    ]
    if any(len({point.scores[name].role for point in compared.points if name in point.scores}) > 1
           for name in compared.scores):  # fmt: skip
        found.insert(4, f"{OPTIMISED} marks a score that the search optimised at this point, and not at all points.")
    return found
