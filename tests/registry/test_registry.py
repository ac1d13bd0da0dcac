import json
import re
from inspect import signature
from pathlib import Path

import pytest
import torch

from noisewright import registry
from noisewright.diffusion.solvers import Ddim
from noisewright.registry import plugins
from noisewright.registry.builtins import ENTRIES, Entry
from noisewright.registry.kinds import KINDS
from noisewright.samplers.mixture import MixtureSampler
from noisewright.search.random import random
from noisewright.verifiers.pixels import Brightness


@pytest.mark.parametrize(
    ("call", "got", "near"),
    [
        (lambda: registry.make_search("randon"), "search 'randon'", "random"),
        (lambda: registry.make_verifier("brigthness"), "verifier 'brigthness'", "brightness"),
        (lambda: registry.make_verifier("shapes-oracel"), "verifier 'shapes-oracel'", "shapes-oracle"),
        (lambda: registry.make_solver("dim"), "solver 'dim'", "ddim"),
        (lambda: registry.find_model("noisewright/shaeps"), "model 'noisewright/shaeps'", "noisewright/shapes"),
        (lambda: registry.find_model("shapes"), "model 'shapes'", "noisewright/shapes"),
    ],
)
def test_an_unknown_name_gives_the_nearest_in_one_line(call, got, near):
    with pytest.raises(ValueError, match="unknown") as caught:
        call()
    assert got in str(caught.value)
    assert f"did you mean {near}?" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_like_no_other_lists_what_there_is():
    with pytest.raises(ValueError, match="expected one of") as caught:
        registry.make_solver("zzzzzz")
    assert "did you mean" not in str(caught.value)
    assert "ddim" in str(caught.value)


def test_every_entry_has_a_kind_and_what_it_names_is_there():
    seen = set()
    for one in ENTRIES:
        assert one.kind in KINDS
        assert one.summary
        assert (one.kind, one.name) not in seen
        seen.add((one.kind, one.name))
        if one.target:
            assert callable(registry.load(one))


def test_solvers():
    assert registry.make_solver(None) is None
    assert registry.make_solver("pipeline") is None
    assert registry.make_solver("ddim", 0.5) == Ddim(0.5)
    assert registry.make_solver("euler").name == "euler"
    with pytest.raises(ValueError, match=r"eta = 0\.5 needs"):
        registry.make_solver(None, 0.5)
    with pytest.raises(ValueError, match="eta"):
        registry.make_solver("ddim", 2.0)


def test_searches():
    assert registry.make_search("random") is random


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "def redness(images, prompt):\n    return images[:, 0].mean((1, 2))\n\n"
        "class Blue:\n    name, fingerprint = 'blue', '1'\n\n"
        "    def __call__(self, images, prompt):\n        return images[:, 2].mean((1, 2))\n\n"
        "blue = Blue()\n"
    )
    return path


def test_verifiers_from_a_file(file):
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    red = registry.make_verifier(f"{file}:redness")
    assert red.name == "redness"
    assert torch.equal(red(images, ""), images[:, 0].mean((1, 2)))
    assert registry.make_verifier(f"{file}:blue").name == "blue"
    before = red.fingerprint
    file.write_text(file.read_text().replace("images[:, 0]", "images[:, 1]"))
    assert registry.make_verifier(f"{file}:redness").fingerprint != before


def test_verifier_files_that_do_not_work(file, tmp_path):
    with pytest.raises(ValueError, match="did you mean redness"):
        registry.make_verifier(f"{file}:rednes")
    with pytest.raises(ValueError, match="no such file"):
        registry.make_verifier(f"{tmp_path}/none.py:redness")
    file.write_text("import what_is_not_there")
    with pytest.raises(ValueError, match="ModuleNotFoundError"):
        registry.make_verifier(f"{file}:redness")
    file.write_text("def broken(:")
    with pytest.raises(ValueError, match="SyntaxError"):
        registry.make_verifier(f"{file}:broken")


def test_a_model_for_a_verifier_that_has_none_is_refused():
    assert isinstance(registry.make_verifier("brightness"), Brightness)
    with pytest.raises(ValueError, match="brightness takes no model"):
        registry.make_verifier("brightness:large")


def test_a_clip_that_is_not_there_is_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="could not be loaded") as caught:
        registry.make_verifier(f"clip:{tmp_path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["weights.ckpt", "some/weights.pt", "model.pth", "x.bin"])
def test_pickles_are_refused_by_name(name):
    with pytest.raises(ValueError, match="safetensors"):
        registry.load_model(name)


def test_models(tmp_path):
    assert registry.find_model(str(tmp_path)) == str(tmp_path)
    assert registry.find_model("owner/name") == "owner/name"
    file = tmp_path / "file"
    file.write_text("")
    assert registry.find_model(str(file)) == str(file)  # a single file, which is looked at where it is loaded
    for name in (str(tmp_path / "none"), "a/b/c", "/none", "./none"):
        with pytest.raises(ValueError, match="expected"):
            registry.find_model(name)
    assert registry.bundled("noisewright/none") is None
    assert registry.bundled("noisewright/../models") is None
    assert registry.bundled("other/shapes") is None


def test_cards(tmp_path):
    assert registry.card(None) == {}
    assert registry.card(tmp_path) == {}
    (tmp_path / "noisewright.json").write_text(json.dumps({"name": "x"}))
    assert registry.card(tmp_path) == {"name": "x"}
    (tmp_path / "noisewright.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        registry.card(tmp_path)


class Point:
    """An entry point of an installed package."""

    name = "point"

    def load(self):
        return [
            Entry("search", "first", "the first only", f"{__name__}:first_only"),
            Entry("verifier", "darkness", "minus brightness", f"{__name__}:Darkness"),
        ]


def first_only(run, *, twice: bool = False):
    run.finish(run.noise(2 if twice else 1))


class Darkness:
    name, fingerprint = "darkness", "1"

    def __call__(self, images, prompt):
        return (-images.mean((1, 2, 3))).tolist()


@pytest.fixture
def plugged(monkeypatch):
    def entry_points(group):
        return [Point()] if group == "noisewright.plugins" else []

    monkeypatch.setattr(plugins, "entry_points", entry_points)
    registry.entries.cache_clear()
    yield
    registry.entries.cache_clear()


def test_plug_ins_are_found_beside_the_built_ins(plugged):
    assert registry.names("search")[0] == "random"
    assert "first" in registry.names("search")
    assert isinstance(registry.make_verifier("darkness"), Darkness)


def test_a_plug_in_search_and_verifier_run(plugged, tmp_path):
    from noisewright.api import search

    found = search(
        MixtureSampler(steps=3, prompt="x"), "x", search="first", search_args={"twice": True}, verifier="darkness",
        out=tmp_path / "run",
    )  # fmt: skip
    assert found.stopped == "finished"
    assert found.images == 2
    assert set(found.best.scores) == {"darkness"}
    with pytest.raises(ValueError, match="did you mean twice"):
        search(MixtureSampler(steps=3), "x", search="first", search_args={"twce": True}, verifier="darkness")


def test_without_the_plug_in_its_names_are_unknown():
    with pytest.raises(ValueError, match="unknown verifier 'darkness'"):
        registry.make_verifier("darkness")


# The entries of hps fix a version, and list it all the same.
@pytest.mark.parametrize("name", [name for name in registry.names("verifier") if name != "hps"])
def test_a_verifier_lists_the_options_that_it_takes(name):
    one = registry.entry("verifier", name)
    taken = [key for key in signature(registry.load(one)).parameters if key not in ("model", "device", *one.options)]
    listed = re.sub(r" \([^)]*\)", "", one.details.get("options", ""))  # without the values
    assert sorted(listed.split(", ")) == (sorted(taken) or [""])


def test_a_verifier_with_a_network_may_be_put_elsewhere_than_the_model():
    found = registry.make_verifier("shapes-clip:device=cpu", device="meta")
    assert (found.device, found.encoder.model.device) == (torch.device("cpu"), torch.device("cpu"))
    for text in ("shapes-clip:device=gpu", "shapes-clip:device=meta", "brightness:device=cpu"):
        with pytest.raises(ValueError, match="device"):
            registry.make_verifier(text)


def test_a_file_of_a_bundled_model(tmp_path, monkeypatch):
    assert registry.find_file("noisewright/shapes-clip/config.json") == registry.MODELS / "shapes-clip" / "config.json"
    assert registry.find_file("noisewright/shapes-clip") == Path("noisewright/shapes-clip")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noisewright" / "shapes-clip").mkdir(parents=True)
    (tmp_path / "noisewright" / "shapes-clip" / "config.json").touch()
    assert registry.find_file("noisewright/shapes-clip/config.json") == Path("noisewright/shapes-clip/config.json")
