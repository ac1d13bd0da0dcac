"""Benchmarks whose reports are tested: made by hand, with pictures, and with names that are hostile."""

from dataclasses import replace

from PIL import Image

from benchmark.made import failed_row, made_results, made_spec
from noisewright.benchmark.comparisons import compared
from noisewright.benchmark.report import write_report
from noisewright.benchmark.spec import Axis, SetPrompt, Value
from noisewright.benchmark.store import Results

EVIL = '"><img src=x onerror=alert(1)><script>alert(2)</script></title></svg>|[a](javascript:alert(3))'
"""A text that is a script wherever it is taken for HTML, and a link where it is for Markdown."""

BUDGETS = ("16 images", "64 images", "256 images")
IMAGES = {"16 images": 16, "64 images": 64, "256 images": 256}
EFFECTS = {
    "random": {"clip": 0.10, "oracle": 0.08}, "zero-order": {"clip": 0.14, "oracle": 0.10},
    "paths": {"clip": 0.20, "oracle": -0.06}, "64 images": {"clip": 0.08},
    "256 images": {"clip": 0.16, "oracle": -0.04},
}  # fmt: skip


def pictured(results, side=16):
    """The results with a picture for every file that they name, each of another colour."""
    for number, row in enumerate(results.done):
        for which in ("best", "baseline"):
            path = results.root / row[which]["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            colour = (number * 7 % 256, number * 31 % 256, 200 if which == "best" else 40)
            Image.new("RGB", (side, side), colour).save(path)
    return results


def stored(results):
    """As a benchmark's directory gives them."""
    results.root.mkdir(parents=True, exist_ok=True)
    return Results(results.root, results.spec, results.rows)


def curves(root, *, prompts=12, seeds=2, failed=0):
    """Three searches along three budgets, with categories, a reference and notes."""
    spec = made_spec(
        {"search": ("random", "zero-order", "paths"), "budget": BUDGETS}, prompts=prompts, seeds=seeds,
        categories=("relation", "count"), reference={"search": "random"}, across="budget",
    )  # fmt: skip
    notes = ("The source says 0.31 for random and 0.35 for zero-order.",)
    spec = replace(spec, title="Three searches along three budgets", notes=notes)
    results = made_results(root, spec, EFFECTS, images=IMAGES)
    rows = list(results.rows)
    for number in range(failed):
        row = rows[number]
        rows[number] = failed_row(row["coordinates"], spec.prompts[0], row["repeat"], "RuntimeError: out of memory")
    return pictured(stored(replace(results, rows=tuple(rows))))


def pictures(root, *labels, prompts=1):
    """A grid of pictures: an axis for each number of labels."""
    axes = {name: [f"{name}{n}" for n in range(count)] for name, count in zip("xyz", labels, strict=False)}
    return pictured(stored(made_results(root, made_spec(axes, prompts=prompts))))


def hostile(root):
    """Every text that comes from outside is :data:`EVIL`: prompts, labels, categories, axes, scores, errors, notes."""
    axes = {"search": ("random", EVIL), "budget": BUDGETS[:2]}
    spec = made_spec(axes, prompts=4, categories=(EVIL,), across="budget")
    prompts = tuple(SetPrompt(f"{EVIL} {one.number}", one.number, EVIL) for one in spec.prompts)
    axes = (Axis(EVIL, tuple(Value(one.label, {"search": "random"}) for one in spec.axes[0].values)), spec.axes[1])
    base = {"model": EVIL, "negative_prompt": EVIL}
    spec = replace(spec, prompts=prompts, axes=axes, title=EVIL, name=EVIL, notes=(EVIL,), prompt_set=EVIL, base=base,
                   reference={EVIL: "random"})  # fmt: skip
    results = made_results(root, spec, judges=(EVIL,), images=IMAGES)
    rows = [{**row, "warnings": [EVIL], "stopped": EVIL} for row in results.rows]
    rows[0] = failed_row(rows[0]["coordinates"], prompts[0], 0, EVIL)
    return pictured(stored(replace(results, rows=tuple(rows))))


def many(root, *, searches=30, prompts=4):
    """More curves, rows and labels than a report shows."""
    labels = [f"search number {n} with a long label" for n in range(searches)]
    spec = made_spec({"search": labels, "budget": BUDGETS}, prompts=prompts, across="budget")
    return stored(made_results(root, spec, EFFECTS, images=IMAGES))


def report(results):
    """The report's HTML file."""
    return write_report(results, compared(results), results.root)[0]
