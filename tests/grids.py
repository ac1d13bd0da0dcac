"""Small grids for tests, on the bundled model at two steps."""

from noisewright.benchmark.spec import Axis, SetPrompt, Spec, Value

BASE = {
    "model": "noisewright/shapes", "num_inference_steps": 2, "verifier": ["sharpness"], "judge": ["none"],
    "batch_size": 2,
}  # fmt: skip
PROMPTS = ("a red circle", "two blue squares", "a green triangle")


def axis(name, *values, field=None):
    """An axis of one field; a value is what it is set to, or (label, value)."""
    pairs = [one if isinstance(one, tuple) else (str(one), one) for one in values]
    return Axis(name, tuple(Value(label, {field or name: value}) for label, value in pairs))


def spec(*axes, prompts=2, seeds=1, **base):
    return Spec(
        name="grid", title="A grid", base={**BASE, **base}, axes=tuple(axes), seeds=seeds,
        prompts=tuple(SetPrompt(text, n) for n, text in enumerate(PROMPTS[:prompts], start=1)),
    )  # fmt: skip


BUDGETS = axis("budget", ("2", ["2 images"]), ("3", ["3 images"]))
SEARCHES = axis("search", "random", "zero-order")
