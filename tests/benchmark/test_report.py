"""What a report says, in HTML and in Markdown; how it looks is in ``test_report_in_browser``."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmark import reports
from benchmark.made import made_results, made_spec
from noisewright.benchmark.comparisons import compared
from noisewright.benchmark.report import write_report
from noisewright.benchmark.report.blocks import Entry, Said, Table, html_of, markdown_of, marked_down
from noisewright.benchmark.report.words import amiss, facts, first_words
from noisewright.benchmark.spec import Axis, SetPrompt, Value
from noisewright.benchmark.spec_files import read_spec
from noisewright.benchmark.store import Results

CELLS = 10_000
MOST_BYTES = 4_000_000
"""Of a report without pictures, whatever the number of cells."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A benchmark of curves with its files."""
    results = reports.curves(tmp_path_factory.mktemp("made"), failed=2)
    html, markdown = write_report(results, compared(results), results.root)
    return results, html.read_text(), markdown.read_text()


def headings(text):
    return re.findall(r"<h2>(.*?)</h2>", text)


def test_what_is_there_and_in_which_order(made):
    assert headings(made[1]) == [
        "What was compared", "Final scores", "Scores against cost", "Gain over the plain image",
        "Difference to search random", "Verifiers against judges", "By category", "Images", "Diversity",
        "Where the time went", "Costs", "Failures", "What the source says", "How to read this", "To make it again",
    ]  # fmt: skip


def test_markdown_says_the_same(made):
    _, html, markdown = made
    found = re.findall(r"^## (.*)$", markdown, re.MULTILINE)
    drawn = {"Scores against cost", "Diversity"}
    assert found == [one for one in headings(html) if one not in drawn]
    assert markdown.startswith("# Three searches along three budgets\n")
    assert "The source says 0.31 for random" in markdown
    assert "<" not in markdown


def test_final_scores_are_those_that_were_compared(made):
    results, html, markdown = made
    found = compared(results)
    point = found.at(search="paths", budget="64 images")
    measured = point.scores["clip"]
    row = next(line for line in markdown.splitlines() if line.startswith("| paths, 64 images |"))
    cells = [one.strip() for one in row.strip("|").split("|")]
    mean, low, high = map(float, re.findall(r"[\d.]+", cells[2])[:3])
    assert (mean, low, high) == pytest.approx((measured.best.mean, measured.best.low, measured.best.high), abs=0.0051)
    assert measured.gain.stands
    assert cells[2].endswith("▲")
    assert f'data-value="{measured.best.mean!r}"' in html


def test_only_what_stands_is_marked(made):
    results, _, markdown = made
    found = compared(results)
    table = markdown.split("## Gain over the plain image")[1].split("## ")[0].split("**clip")[0]
    for point in found.points:
        row = next(line for line in table.splitlines() if re.match(rf"\| {point.label}( \(reference\))? \|", line))
        assert ("▲" in row or "▼" in row) == point.scores["oracle"].gain.stands


def test_a_verifier_that_rises_while_a_judge_falls_is_said_first(made):
    said = first_words(compared(made[0]))
    assert said[0].startswith("By the judge oracle, ")
    assert any(re.match(r"Paths, \d+ images: clip rises .* while oracle falls", one) for one in said)
    assert f"<p>{said[1].replace(chr(39), '&#x27;')}</p>" in made[1]


def test_failures_are_said_at_the_top(made):
    _, html, markdown = made
    assert html.index("2 cells of 216 failed") < html.index("<h2>")
    assert markdown.index("> 2 cells of 216 failed") < markdown.index("## ")
    assert "RuntimeError: out of memory" in markdown


def test_what_is_not_there_yet_is_said(tmp_path):
    results = reports.curves(tmp_path)
    found = compared(replace(results, rows=results.rows[:-5]))
    assert "5 cells of 216 not done yet." in amiss(found)
    assert amiss(compared(results)) == []
    assert amiss(compared(results), ["rows.jsonl is damaged"]) == ["rows.jsonl is damaged"]


def test_a_benchmark_without_a_row_has_a_report(tmp_path):
    results = replace(reports.curves(tmp_path), rows=())
    html, markdown = (path.read_text() for path in write_report(results, compared(results), tmp_path))
    assert "216 cells of 216 not done yet" in html
    assert "What was compared" in html
    assert "nan" not in re.sub(r"<style>.*?</style>", "", html)
    assert "nan" not in markdown


def test_a_benchmark_where_all_failed_has_a_report(tmp_path):
    results = reports.curves(tmp_path, failed=216)
    html = write_report(results, compared(results), tmp_path)[0].read_text()
    assert "216 cells of 216 failed: see Failures below." in html
    assert "Failures" in headings(html)
    assert "Final scores" not in headings(html) or "oracle" not in html.split("Final scores")[1]


def test_no_number_is_a_dash(tmp_path):
    results = reports.curves(tmp_path)
    rows = []
    for row in results.rows:
        best = {**row["best"], "scores": {**row["best"]["scores"], "oracle": None}}
        rows.append({**row, "best": best, "diversity": None})
    results = replace(results, rows=tuple(rows))
    html, markdown = (path.read_text() for path in write_report(results, compared(results), tmp_path))
    assert "oracle gave no number for 216 cells." in html
    assert " nan" not in markdown
    assert ">nan" not in html


def test_nothing_in_it_asks_for_anything(made):
    html = made[1]
    assert {one[:6] for one in re.findall(r'(?:src|href|action)="([^"]*)"', html) if one[0] != "#"} == {"data:i"}
    assert not re.search(r"(?:src|href|action)=[^\"]", html)
    assert "url(" not in re.sub(r"url\(#nw-\w+\)", "", html)
    assert "@import" not in html
    assert html.count("<script>") == 1


def test_texts_from_outside_are_no_markup(tmp_path):
    results = reports.hostile(tmp_path)
    html, markdown = (path.read_text() for path in write_report(results, compared(results), tmp_path)[:2])
    assert html.count("<script>") == 1
    assert "onerror=alert(1)>" not in html
    assert "<img src=x" not in html
    assert not re.search(r"^(?!    ).*<", markdown, re.MULTILINE), "in a command, which is shown as it is"
    assert not re.search(r"^(?!    ).*(?<!\\)\]\(javascript", markdown, re.MULTILINE)
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in tables if "16 images |" in line}) <= 6


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a|b", r"a\|b"), ("*a* _b_ `c`", r"\*a\* \_b\_ \`c\`"), ("+0.1 [-0.2, +0.3]", "+0.1 [-0.2, +0.3]"),
     ("[a](http://b)", r"\[a\](http://b)"), ("[1](http://b)", r"[1\](http://b)"), ("[1]: http://b", r"[1\]: http://b"),
     ("<b>&", "&lt;b&gt;&amp;"), ("two\nlines", "two lines"), ("# a", r"\# a")],
)  # fmt: skip
def test_markdown_takes_texts_as_texts(text, shown):
    assert marked_down(text) == shown


def test_a_table_has_no_column_in_markdown_for_what_is_only_drawn():
    table = Table(("", "a", ""), ((Entry("x"), Entry("1", 1.0, "[0, 2]", "▲"), Entry("", drawing="<svg></svg>")),))
    assert markdown_of(table).splitlines() == ["|   | a |", "|:--|--:|", "| x | 1 [0, 2] ▲ |"]
    assert "<svg></svg>" in html_of(table)
    assert html_of(Said("<b>")) == "<p>&lt;b&gt;</p>"


def test_pictures_are_written_again_and_bounded(tmp_path):
    results = reports.curves(tmp_path, prompts=2, seeds=1)
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8)
    for row in results.rows:
        for which in ("best", "baseline"):
            Image.fromarray(noise).save(tmp_path / row[which]["file"])
    html = write_report(results, compared(results), tmp_path)[0].read_text()
    sizes = [len(one) for one in re.findall(r'src="data:image/\w+;base64,([^"]+)"', html)]
    assert len(sizes) > 10
    assert max(sizes) < 300_000


def test_pictures_that_are_gone_or_elsewhere_are_said_to_be(tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    root = tmp_path / "run"
    results = reports.curves(root, prompts=6)
    rows = [{**row, "best": {**row["best"], "file": "../secret.png"}, "baseline": {**row["baseline"], "file": "no.png"}}
            for row in results.rows]  # fmt: skip
    results = replace(results, rows=tuple(rows))
    html = write_report(results, compared(results), root)[0].read_text()
    assert "data:image" not in html
    assert "its file is gone" in html


def test_a_grid_is_written_as_a_picture(tmp_path):
    results = reports.pictures(tmp_path, 3, 2)
    html, markdown, grid = write_report(results, compared(results), tmp_path)
    assert grid.name == "grid.png"
    assert Image.open(grid).size[0] > 500
    assert "![the grid of pictures](grid.png)" in markdown.read_text()
    assert headings(html.read_text())[1] == "The grid"


def test_facts_are_of_the_spec_in_words(tmp_path):
    results = reports.curves(tmp_path, prompts=4)
    spec = replace(results.spec, base={**results.spec.base, "model": "/home/somebody/models/sdxl", "eta": 0.5})
    held = {"created": "2026-01-02T03:04:05+00:00", "versions": {"noisewright": "0.1.0", "torch": "2.13.0"}}
    found = dict(facts(spec, results.rows, compared(results), held))
    assert found["model"] == "sdxl", "a report is sent around, and paths name people"
    assert found["search (varied)"] == "random, zero-order, paths"
    assert found["prompts"] == "4 prompts of made.txt (relation 2, count 2)"
    assert found["seeds"] == "2 seeds for each prompt, from 0 on, 1000 apart from prompt to prompt"
    assert found["at equal"] == "images"
    assert found["eta"] == "0.5"
    assert found["begun"] == "2026-01-02 03:04 UTC"
    assert found["made with"] == "noisewright 0.1.0, torch 2.13.0"
    assert found["verifiers"] == "clip"
    assert found["judges"] == "oracle"
    assert "and with search random" in found["compared"]


def test_verifiers_that_cost_the_same_are_not_drawn_against_cost(tmp_path):
    names = [f"verifier {n}" for n in range(12)]
    spec = made_spec({"verifier": names}, prompts=6, reference={"verifier": names[0]})
    results = reports.stored(made_results(tmp_path, spec))
    html = write_report(results, compared(results), tmp_path)[0].read_text()
    assert "Scores against cost" not in headings(html)
    assert "Final scores" in headings(html)


def test_a_score_that_is_optimised_at_some_points_is_marked_there(tmp_path):
    spec = made_spec({"verifier": ("clip", "oracle")}, prompts=6)
    results = made_results(tmp_path, spec)
    rows = [{**row, "verifiers": ["oracle"], "judges": ["clip"]} if row["coordinates"]["verifier"] == "oracle" else row
            for row in results.rows]  # fmt: skip
    results = replace(reports.stored(results), rows=tuple(rows))
    markdown = write_report(results, compared(results), tmp_path)[1].read_text()
    assert "† marks a score that the search optimised at this point" in markdown
    table = markdown.split("## Final scores")[1].split("## ")[0]
    lines = {line.split("|")[1].strip(): line.split("|")[2:] for line in table.splitlines() if line.startswith("|")}
    heads = lines[next(iter(lines))]
    clip = next(place for place, head in enumerate(heads) if head.strip().startswith("clip"))
    assert "†" in lines["clip"][clip]
    assert "†" not in lines["oracle"][clip]


def test_the_report_is_the_same_each_time(made, tmp_path):
    again = write_report(made[0], compared(made[0]), tmp_path)
    assert again[0].read_text() == made[1]
    assert again[1].read_text() == made[2]


@pytest.mark.slow
def test_ten_thousand_cells_have_a_bounded_report(tmp_path):
    searches = tuple(Value(f"search {n}", {"search": f"search {n}"}) for n in range(50))
    spec = made_spec({"search": ("random",), "budget": reports.BUDGETS[:2]}, prompts=100, across="budget")
    spec = replace(spec, axes=(Axis("search", searches), spec.axes[1]),
                   prompts=tuple(SetPrompt(f"prompt {n} " + "word " * 50, n, f"category {n % 40}")
                                 for n in range(1, 101)))  # fmt: skip
    results = reports.stored(made_results(tmp_path, spec, images=reports.IMAGES))
    assert len(results.rows) == CELLS
    html, markdown = write_report(results, compared(results), tmp_path)
    assert html.stat().st_size < MOST_BYTES
    assert markdown.stat().st_size < MOST_BYTES
    said = html.read_text()
    assert "more of these are left out here" in said
    assert "16 more categories are left out here" in said
    assert json.dumps(len(results.rows)) in said


def test_the_command_is_that_of_a_built_in_spec_as_it_is(tmp_path):
    quick = read_spec("quick")
    mine = replace(quick, name="mine")
    named = {"quick": (quick, "    noisewright benchmark quick --out DIR\n"),
             "fewer": (replace(quick, prompts=quick.prompts[:1]), "every prompt spelled out"),
             "mine": (mine, "every prompt spelled out")}  # fmt: skip
    for name, (spec, says) in named.items():
        (tmp_path / name).mkdir()
        results = Results(tmp_path / name, spec, ())
        text = write_report(results, compared(results), results.root)[1].read_text()
        assert says in text.partition("## To make it again")[2]
        assert name == "quick" or "noisewright benchmark mine" not in text
