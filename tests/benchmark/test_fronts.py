"""What the commands do, from Python."""

import errno

import pytest

import noisewright as nw
from benchmark.made import made_results
from noisewright.benchmark import concluded as conclusion
from noisewright.benchmark.spec import Axis, SetPrompt, Spec, Value
from noisewright.benchmark.votes import Vote

SETTINGS = {"num_inference_steps": 1, "no_check": True}


def test_functions_have_the_names_of_packages():
    import noisewright.benchmark.spec as module

    assert nw.benchmark.spec is module
    assert callable(nw.benchmark)
    assert {"audit", "benchmark", "compare"} <= set(dir(nw))


def test_a_grid(model, tmp_path):
    given = {"prompts": ["a cat", "a dog"], "axes": ["search=random,zero-order"], "model": str(model), **SETTINGS}
    settings = {"verifier": ["brightness"], "judge": ["none"], "budget": ["2 images"]}
    found = nw.benchmark(**given, **settings, out=tmp_path / "grid")
    assert [one["label"] for one in found.points] == ["random", "zero-order"]
    assert found.root == tmp_path / "grid"
    assert (found.root / "report.html") in found.files
    again = nw.benchmark(found.results.spec, out=tmp_path / "grid")
    assert again.points == found.points


def test_a_comparison(model):
    found = nw.compare(
        ["a cat", "a dog"], "zero-order", budget="3 images", model=str(model), verifier="brightness",
        judge="sharpness", **SETTINGS,
    )  # fmt: skip
    assert [(one.one, one.other, one.score) for one in found.pairs] == [
        ("zero-order", "random", "sharpness"), ("zero-order", "random", "brightness"),
    ]  # fmt: skip
    assert found.verdicts[0] == found.pairs[0].verdict
    assert found.to_json()["cells"] == 4


def test_an_audit(model, tmp_path):
    given = {"judge": "compressibility", "candidates": 3, "model": str(model), "out": tmp_path, **SETTINGS}
    found = nw.audit(["a cat", "a dog"], ["brightness", "sharpness"], **given)
    assert found.verdict
    assert found.chosen is None
    one, other = found.picks[0].picks[:2]
    heard = nw.audit(["a cat", "a dog"], ["brightness", "sharpness"], votes=[Vote(one.id, other.file)], **given)
    assert heard.chosen.agreement["brightness"].choices == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [({}, "a spec or axes, got neither"), ({"spec": "quick", "axes": ["eta=0"]}, "got both"),
     ({"axes": ["eta=0"]}, "prompts with axes"), ({"spec": "quik"}, "did you mean quick")],
)  # fmt: skip
def test_wrong_use(given, says):
    with pytest.raises(ValueError, match=says):
        nw.benchmark(**given)


def test_a_report_that_cannot_be_written_names_its_directory(tmp_path, monkeypatch):
    searches = Axis("search", tuple(Value(name, {"search": name}) for name in ("random", "paths")))
    base = {"model": "noisewright/shapes", "verifier": ["clip"]}
    results = made_results(tmp_path, Spec("grid", "A grid", base, (searches,), (SetPrompt("a red circle", 1),)))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(conclusion, "write_report", full)
    with pytest.raises(RuntimeError, match=f"could not write to {results.root}: No space left .*--report"):
        conclusion.concluded(results)
