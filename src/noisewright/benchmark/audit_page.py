"""An audit as a page: one file of HTML with the pictures that were picked, and the same in Markdown without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from noisewright.benchmark.audit import PLAIN, Audit, Paid, Picks
from noisewright.benchmark.chosen import Chosen
from noisewright.benchmark.compared import Interval
from noisewright.benchmark.report.blocks import (
    Block,
    Drawn,
    Entry,
    Folded,
    Said,
    Section,
    Table,
    html_of,
    markdown_of,
    marked_down,
)
from noisewright.benchmark.report.look import page
from noisewright.benchmark.report.numbers import NOTHING, chance, number, places_of, share, signed, span
from noisewright.evaluate.numbers import decimals, written
from noisewright.evaluate.page import escaped, picture_inside
from noisewright.evaluate.words import plural
from noisewright.outside.files import write_atomically

HTML, MARKDOWN = "audit.html", "audit.md"
MOST_PROMPTS = 12
"""Whose pictures are shown: those on which the picks differ most."""

MOST_STRENGTHS = 200
SIDE = 192
"""Pixels of a picture's longer side."""


def write_audit(found: Audit, out: str | Path) -> list[Path]:
    """Write ``audit.html`` and ``audit.md``; no request leaves either.

    Raises:
        OSError: where they cannot be written.
    """
    out = Path(out)
    sections = [one for one in sections_of(found) if one.blocks]
    title = "Which verifier to trust"
    verdict = "".join(f"<p>{escaped(one[:1].upper() + one[1:])}</p>" for one in (found.verdict, *found.warnings))
    parts = [f'<header><p class="faint">noisewright audit</p><h1>{title}</h1></header>',
             f'<div class="verdict">{verdict}</div><main>']  # fmt: skip
    lines = [f"# {title}", marked_down(found.verdict), *(f"> {marked_down(one)}" for one in found.warnings)]
    for one in sections:
        inner = "".join(html_of(block) for block in one.blocks)
        parts.append(f'<section id="{one.anchor}"><h2>{escaped(one.title)}</h2>{inner}</section>')
        blocks = [text for block in one.blocks if (text := markdown_of(block))]
        lines += [f"## {marked_down(one.title)}", *blocks] if blocks else []
    write_atomically(out / HTML, page(title, "".join([*parts, "</main>"])).encode(), sync=False)
    write_atomically(out / MARKDOWN, ("\n\n".join(lines) + "\n").encode(), sync=False)
    return [out / HTML, out / MARKDOWN]


def sections_of(found: Audit) -> list[Section]:
    """What there is to say, in order."""
    made = f"{plural(found.candidates, 'candidate')} of each of {plural(found.prompts, 'prompt')}"
    left = f", {plural(found.left_out, 'candidate')} without a score of everybody left out" if found.left_out else ""
    failed = f", {plural(found.failed, 'prompt')} failed" if found.failed else ""
    return [
        Section("Who pays for whom", (
            Said(f"{made}{left}{failed}. The best by the row, scored by the column, in standard deviations of a "
                 "prompt's candidates from their mean, in the mean over prompts.", faint=True),
            paid_table(found.pays, "deviations"),
            Folded("the same in the unit of each score",
                   (paid_table(found.pays, "score"), paid_table(found.pays, "gain"))),
        )),
        Section("Best of more", tuple(_best_of(found))),
        Section("How far they agree", (
            Said("Rank correlations within a prompt, in the mean over prompts: 1 the same order, 0 none in common.",
                 faint=True), agreement_table(found),
        )),
        Section("With other seeds", tuple(_stability(found))),
        Section("A person's choices", tuple(_chosen(found.chosen, found)) if found.chosen is not None else ()),
        Section("What each picks", tuple(_pictures(found))),
    ]  # fmt: skip


def _entry(one: Interval, places: int, *, sign: bool = True) -> Entry:
    text = signed(one.mean, places) if sign else number(one.mean, places)
    return Entry(text, one.mean, span(one, places, sign=sign))


def paid_table(pays: Sequence[Paid], what: str) -> Table:
    """A row for each picker, a column for each scorer.

    Args:
        pays: of one number of candidates.
        what: ``score``, ``gain`` or ``deviations``.
    """
    pickers, columns = (list(dict.fromkeys(getattr(one, key) for one in pays)) for key in ("picker", "scorer"))
    values = {(one.picker, one.scorer): getattr(one, what) for one in pays}
    places = {column: places_of(values[row, column] for row in pickers) for column in columns}
    if what == "deviations":
        places = dict.fromkeys(columns, 2)
    rows = [(Entry(row), *(_entry(values[row, column], places[column], sign=what != "score") for column in columns))
            for row in pickers]  # fmt: skip
    return Table((f"picked by ({what})", *columns), tuple(rows), frozenset({0}) if pickers[0] == PLAIN else frozenset())


def _best_of(found: Audit) -> list[Block]:
    counts = list(dict.fromkeys(one.count for one in found.best_of))
    blocks: list[Block] = [Said(
        "What the best of so many candidates is worth, in standard deviations above the mean candidate: the mean over "
        "all choices of so many of them.", faint=True)]  # fmt: skip
    for scorer in dict.fromkeys(one.scorer for one in found.best_of):
        some = {(one.picker, one.count): one.deviations for one in found.best_of if one.scorer == scorer}
        pickers = [name for name in dict.fromkeys(one.picker for one in found.best_of) if name != PLAIN]
        rows = [(Entry(name), *(_entry(some[name, count], 2) for count in counts)) for name in pickers]
        blocks += [Said(f"By {scorer}:"), Table(("picked by", *(str(count) for count in counts)), tuple(rows))]
    return blocks


def agreement_table(found: Audit) -> Table:
    """A row for each two who score."""
    rows = [(Entry(f"{one.one} and {one.other}"), _entry(one.spearman, 2), _entry(one.kendall, 2),
             Entry(str(one.prompts), one.prompts)) for one in found.agreement]  # fmt: skip
    return Table(("", "Spearman", "Kendall", "prompts"), tuple(rows))


def _stability(found: Audit) -> list[Block]:
    held, names = found.stability, [*found.verifiers, *found.judges]
    rows = []
    for place, name in enumerate(names):
        best = held.best[place] if place < len(held.best) and len(held.best) > 1 else float("nan")
        rows.append((Entry(name), Entry(number(held.prompts[place], 2), held.prompts[place]), Entry(share(best), best)))
    said = "The candidates of each prompt were cut in two halves at random, many times. Order of prompts: how far the "
    said += "two halves put the prompts into the same order by their mean score. Best: in how many halves this "
    said += "verifier's picks are worth the most."
    blocks: list[Block] = [Said(said, faint=True), Table(("", "order of prompts", "best"), tuple(rows))]
    if held.same_best == held.same_best and len(found.verifiers) > 1:
        by_chance = share(1 / len(found.verifiers))
        blocks.append(Said(f"Both halves name the same best verifier in {share(held.same_best)} of the cuts (by chance "
                           f"{by_chance}); the order of the verifiers correlates by {number(held.order, 2)}."))
    return blocks


def _chosen(found: Chosen, audit: Audit) -> list[Block]:
    rows = []
    for name in (*audit.verifiers, *audit.judges):
        one = found.agreement[name]
        rate = Interval(100 * one.rate, 100 * one.low, 100 * one.high)
        rows.append((Entry(name), _entry(rate, 0, sign=False),
                     *(Entry(str(count), count) for count in (one.choices, one.undecided, one.ties, one.missing))))
    heads = ("", "agrees, in percent", "choices", "scored alike", "ties", "without a score")
    blocks: list[Block] = [Table(heads, tuple(rows))]
    if found.unknown:
        votes = plural(found.unknown, "vote")
        said = f"{votes} on images that are neither candidates nor files beside the table are left out."
        blocks.append(Said(said))
    pairs = [(Entry(f"{one.one} less {one.other}"), _entry(_percent(one.difference), 0),
              Entry(chance(one.adjusted), one.adjusted)) for one in found.preferred]  # fmt: skip
    if pairs:
        blocks.append(Table(("", "difference, in percent", "p, adjusted"), tuple(pairs)))
    strong = [(Entry(one.item), _entry(Interval(one.value, one.low, one.high), 2), Entry(f"{one.wins:g}", one.wins),
               Entry(str(one.choices), one.choices)) for one in found.strengths[:MOST_STRENGTHS]]  # fmt: skip
    if strong:
        said = "Log strengths (Bradley and Terry); those of two prompts are not to be compared."
        blocks.append(Folded("how strong each image is", (
            Said(said, faint=True), Table(("image", "strength", "wins", "choices"), tuple(strong)),
        )))  # fmt: skip
    return blocks


def _percent(one: Interval) -> Interval:
    return Interval(100 * one.mean, 100 * one.low, 100 * one.high)


def _pictures(found: Audit) -> list[Block]:
    blocks: list[Block] = []
    if len(found.picks) > MOST_PROMPTS:
        many = f"Of {found.prompts} prompts the {MOST_PROMPTS} on which the picks differ most."
        blocks.append(Said(many, faint=True))
    for one in found.picks[:MOST_PROMPTS]:
        blocks += [Drawn(_row(found.root, one)), Folded(f"in words: {one.prompt}", (_words(one),))]
    return blocks


def _row(root: Path, one: Picks) -> str:
    places = _places(one)
    cards = []
    for pick in one.picks:
        who = ", ".join(pick.by)
        shown = picture_inside(root, pick.file, SIDE, f"{one.prompt}, picked by {who}")
        said = "".join(f"<div><span>{escaped(name)}</span><b>{written(value, places[name])}</b></div>"
                       for name, value in pick.scores.items())  # fmt: skip
        picture = shown or '<div class="gone">its file is gone</div>'
        below = f'<figcaption>{escaped(who)}</figcaption><div class="scores">{said}</div>'
        cards.append(f"<figure>{picture}{below}</figure>")
    return f'<h3>{escaped(one.prompt)}</h3><div class="panels">{"".join(cards)}</div>'


def _words(one: Picks) -> Table:
    places = _places(one)
    names = list(places)
    rows = []
    for pick in one.picks:
        scores = (Entry(written(pick.scores[name], places[name])) for name in names)
        seed = NOTHING if pick.seed is None else str(pick.seed)
        rows.append((Entry(", ".join(pick.by)), *scores, Entry(seed), Entry(pick.file)))
    return Table(("picked by", *names, "seed", "file"), tuple(rows), texts=frozenset({len(names) + 2}))


def _places(one: Picks) -> Mapping[str, int]:
    return {name: decimals(pick.scores[name] for pick in one.picks) for name in one.picks[0].scores}
