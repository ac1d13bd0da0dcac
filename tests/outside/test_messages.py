"""What stands in one-line messages."""

import ast
from pathlib import Path

import pytest

import noisewright
from noisewright.outside.bundled import MODELS, bundled
from noisewright.outside.messages import cut, did_you_mean, first_line, short, unknown


@pytest.mark.parametrize(
    ("name", "valid", "found"),
    [
        ("brigthness", ["clip", "brightness"], "brightness"),
        ("Warmht", ["warmth", "Warmth"], "Warmth"),
        ("warmht", ["Warmth", "warmth"], "warmth"),
        ("CLIP", ["clip", "pickscore"], "clip"),
        ("zzz", ["clip"], None),
        ("", ["clip"], None),
        ("clip", [], None),
        ("clip" + "x" * 10**6, ["clip"], None),
    ],
)
def test_the_nearest_name(name, valid, found):
    assert did_you_mean(name, valid) == (f"; did you mean {found}?" if found else "")


def test_a_higher_cutoff_suggests_less():
    assert did_you_mean("clap", ["clip"], cutoff=0.7)
    assert not did_you_mean("clap", ["clip"], cutoff=0.9)


def test_an_unknown_name_in_one_line():
    found = unknown("search", "ran\ndom", ["random", "fk"])
    assert found == "unknown search 'ran\\ndom': expected one of random, fk; did you mean random?"


class Mute(Exception):
    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n\n  two"), "two"),
        (ValueError(""), "ValueError"),
        (ValueError("  \n"), "ValueError"),
        (Mute(), "Mute"),
    ],
)
def test_the_first_line_of_an_error(error, found):
    assert first_line(error) == found


def test_an_error_that_says_nothing_and_one_that_says_too_much():
    assert first_line(ValueError(""), empty="") == ""
    assert first_line(ValueError("x" * 100), 20) == "x" * 17 + "..."


def test_values_are_quoted_short():
    assert short("a\nb") == "'a\\nb'"
    assert len(short("x" * 10**6)) <= 60
    assert cut("a\nb" * 40, 10) == "a ba ba..."


def test_bundled_models_and_nothing_else(tmp_path, monkeypatch):
    assert bundled("noisewright/shapes") == MODELS / "shapes"
    for name in ("noisewright/none", "noisewright/../models", "noisewright/", "other/shapes", "noisewright/a/b"):
        assert bundled(name) is None
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noisewright" / "shapes").mkdir(parents=True)
    assert bundled("noisewright/shapes") == MODELS / "shapes"


@pytest.mark.slow
def test_each_of_these_is_written_once():
    """Nobody else looks for near names or takes an error apart."""
    homes = {"get_close_matches": {"outside/messages.py", "verifiers/classifier.py"}}  # several nearest classes there
    root = Path(noisewright.__file__).parent
    for path in root.rglob("*.py"):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        if "get_close_matches" in names:
            assert str(path.relative_to(root)) in homes["get_close_matches"], path
        assert path.name == "messages.py" or "next(iter(str(error)" not in path.read_text(), path
