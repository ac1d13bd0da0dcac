"""A plug-in's broken entry costs that entry alone, and is said with the name of the plug-in."""

import re
import sys
import types

import pytest

import noisewright.builtins
from noisewright import registry
from noisewright.executors.local import LocalExecutor
from noisewright.registry import Entry, plugins

GOOD = Entry(kind="search", name="good", summary="fine", target="their_package:search")


class Package:
    """An installed package, as its metadata says."""

    name = "their-package"


class Point:
    """An entry point of it."""

    name, dist = "theirs", Package()

    def __init__(self, given):
        self.given = given

    def load(self):
        if isinstance(self.given, BaseException):
            raise self.given
        return self.given


@pytest.fixture
def install(monkeypatch):
    """Entry points that load to what is given."""
    module = types.ModuleType("their_package")
    module.search = lambda run, n: None
    module.three = 3
    module.solver = lambda: "no solver"
    module.misnamed = type("Misnamed", (), {"name": "other", "nfe_per_step": 1, "stochastic": False, "step": print})
    module.verifier = lambda: "no verifier"
    module.sampler = lambda pipe, prompt: "no sampler"
    module.failing = lambda *given, **more: 1 / 0
    monkeypatch.setitem(sys.modules, "their_package", module)

    def installed(*given):
        monkeypatch.setattr(plugins, "entry_points", lambda group: [Point(one) for one in given])
        registry.entries.cache_clear()

    yield installed
    monkeypatch.undo()
    registry.entries.cache_clear()


def entry(**changes):
    held = {"kind": "search", "name": "broken", "summary": "not fine", "target": "their_package:search", **changes}
    return Entry(**held)


WRONG = {
    "no entry": ("a text", "expected an Entry, got 'a text'"),
    "wrong kind": (entry(kind="serach"), "expected a kind among .*, got 'serach'; did you mean search?"),
    "name and kind exchanged": (Entry("mine", "search", "words", "a:b"), r"got 'mine'.*Entry\(kind=..., name=...\)"),
    "details for a target": (Entry("search", "mine", "words", {"cost": "1"}), r"expected target as a str.*\(target="),
    "options for details": (entry(details=["cost"]), "expected details as a dict"),
    "needs as a text": (entry(needs="previews"), "expected needs as a tuple"),
    "no target": (entry(target=""), "expected a target module:attribute, a function .run"),
    "a dotted target": (entry(target="their_package.search"), "expected a target module:attribute"),
    "unknown needs": (entry(needs=("step noises",)), "expected needs among .*; did you mean step noise?"),
    "needs of a verifier": (entry(kind="verifier", needs=("previews",)), "expected no needs of a verifier"),
    "a name with a comma": (entry(name="one,two"), "expected a name of letters"),
    "a name that is none": (entry(name=3), "expected name as a str"),
    "a sampler for nothing": (entry(kind="sampler"), "expected takes=.* of a sampler"),
    "a search that takes": (entry(takes=("Pipe",)), "expected no takes of a search"),
    "a built-in name": (entry(name="random"), "there is a search of that name already, noisewright's own"),
    "its own name again": (entry(name="good"), r"already, of plug-in their-package \(entry point theirs\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_names_the_plug_in_and_takes_nothing_else_away(name, install, caplog):
    broken, says = WRONG[name]
    install([GOOD, broken])
    assert "good" in registry.names("search")
    (line,) = caplog.messages
    assert line.startswith("plug-in their-package (entry point theirs): entry ")
    assert re.search(says, line), line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (ImportError("no such thing"), "could not be loaded: ImportError: no such thing"),
        (SystemExit(3), "could not be loaded: SystemExit: 3"),
        ("a text", "expected an Entry, got 'a text'"),
        (None, "expected an Entry, got None"),
        ({"search": "x"}, "expected an Entry, got {'search': 'x'}"),
    ],
)
def test_a_plug_in_without_a_list_is_said_and_the_next_one_counts(given, says, install, caplog):
    install(given, [GOOD])
    assert "good" in registry.names("search")
    assert says in caplog.messages[0]
    assert "plug-in their-package (entry point theirs)" in caplog.messages[0]


def test_a_single_entry_in_place_of_a_list_counts(install):
    install(GOOD)
    assert "good" in registry.names("search")


def test_who_asks_for_a_broken_entry_hears_why(install):
    install([entry(needs=("step noises",))])
    with pytest.raises(ValueError, match=r"search broken cannot be used: plug-in their-package .* expected needs"):
        registry.make_search("broken")


MAKE = {
    "search": registry.make_search,
    "solver": registry.make_solver,
    "verifier": registry.make_verifier,
    "executor": registry.make_executor,
    "model": registry.load_model,
}
LATE = {
    "no module": ("search", "not_there:f", "not_there cannot be imported: ModuleNotFoundError"),
    "no attribute": ("search", "their_package:serch", "has no serch; did you mean search"),
    "no function": ("search", "their_package:three", "to be callable, got int"),
    "no solver": ("solver", "their_package:solver", "expected a solver with name"),
    "misnamed": ("solver", "their_package:misnamed", "called x, .* got 'other'"),
    "failing solver": ("solver", "their_package:failing", "raised ZeroDivisionError"),
    "no verifier": ("verifier", "their_package:verifier", "expected a verifier name"),
    "failing": ("verifier", "their_package:failing", "raised ZeroDivisionError"),
    "no executor": ("executor", "their_package:failing", "raised ZeroDivisionError"),
    "no model": ("model", "their_package:failing", "model x: ZeroDivisionError"),
}


@pytest.mark.parametrize("name", LATE)
def test_what_shows_only_when_it_is_chosen_names_the_plug_in_too(name, install):
    kind, target, says = LATE[name]
    install([entry(kind=kind, name="x", target=target)])
    with pytest.raises(ValueError, match=says) as caught:
        MAKE[kind]("x")
    assert str(caught.value).startswith("plug-in their-package (entry point theirs)")
    assert "\n" not in str(caught.value)


class Pipe:
    """What a plug-in's sampler is for."""


@pytest.mark.parametrize(
    ("target", "takes", "says"),
    [
        ("their_package:sampler", ("Pipe",), "expected a Sampler of x, got str, which has no advance, can_advance"),
        ("their_package:failing", ("Pipe",), "sampler x raised ZeroDivisionError"),
        ("their_package:sampler", ("their_package:failing",), "their_package:failing raised ZeroDivisionError"),
    ],
)
def test_a_sampler_that_is_none(target, takes, says, install):
    install([entry(kind="sampler", name="x", target=target, takes=takes)])
    with pytest.raises(ValueError, match=says):
        registry.make_sampler(Pipe(), "x", {})


def test_two_samplers_for_one_pipeline_are_refused(install):
    both = [entry(kind="sampler", name=name, target="their_package:sampler", takes=("Pipe",)) for name in ("x", "y")]
    install(both)
    with pytest.raises(ValueError, match=r"expected one sampler for Pipe, got x of plug-in .* and y of plug-in"):
        registry.make_sampler(Pipe(), "x", {})


def test_executors_by_name(install):
    install([])
    assert isinstance(registry.make_executor(), LocalExecutor)
    assert registry.make_executor("local") is not registry.make_executor("local")
    with pytest.raises(ValueError, match="unknown executor 'lokal': expected one of local, ray; did you mean local"):
        registry.make_executor("lokal")
    with pytest.raises(ValueError, match="executor local takes no options, got 'workers'"):
        registry.make_executor("local:workers=2")
    install([entry(kind="executor", name="mine", target="their_package:verifier")])
    with pytest.raises(ValueError, match="an executor with workers, start, submit and close for mine, got str"):
        registry.make_executor("mine")


def test_entries_of_before_by_position_still_count(install):
    old = noisewright.builtins.Entry(
        "search", "old", "as it was", "their_package:search", {"cost": "1"}, {}, (noisewright.builtins.PREVIEWS,)
    )
    install([old])
    assert registry.entry("search", "old").details == {"cost": "1"}
    assert registry.make_search("old")
    assert noisewright.builtins.Entry is Entry is registry.builtins.Entry
