"""The house's rules, read from the source: sizes of files and functions, names, and tests through public names."""

import ast
import re
from pathlib import Path

import pytest

import noisewright
from sources import parsed

ROOT = Path(noisewright.__file__).parent
TESTS = Path(__file__).parent
MOST_LINES, MOST_STATEMENT_LINES = 400, 60

LONG_FILES: dict[str, str] = {}
"""Files above 400 lines, and why."""

LONG_FUNCTIONS = {name: "the table of its options" for name in ("cli.generate:generate", "cli.benchmark:benchmark")}
"""Functions above 60 lines, as ``module:name``, and why."""

FORBIDDEN = re.compile(r"(Manager|Helper|Util|Utils|Data)$|^(Shown|Shelf|Kept|Subject|Thing)$")

FOREIGN_PRIVATE = {
    "_forward_pre_hooks": "torch's: that no hook is left behind is what is tested",
    "_forward_hooks": "torch's, as above",
    "_is_protocol": "typing's: which classes of a module are protocols",
}
"""Private names of other packages that tests read."""

SOURCES = {str(path.relative_to(ROOT)): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: parsed(path) for name, path in SOURCES.items()}
TEST_FILES = sorted(path for path in TESTS.rglob("*.py") if not {"golden", "plugin"} & set(path.parts))


def module_of(name):
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def functions(tree):
    """Every function with its name inside the module, and how many lines it takes without its docstring."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0]
            described = ast.get_docstring(node) is not None
            lines = node.end_lineno - node.lineno + 1 - (first.end_lineno - first.lineno + 1 if described else 0)
            yield node.name, lines


def test_files_are_short():
    long = {name for name, path in SOURCES.items() if len(path.read_text().splitlines()) > MOST_LINES}
    assert long - set(LONG_FILES) == set()
    assert set(LONG_FILES) <= long, "a reason that is no longer needed"


def test_functions_are_short():
    long = {
        f"{module_of(name)}:{inner}" for name, tree in TREES.items() for inner, lines in functions(tree)
        if lines > MOST_STATEMENT_LINES
    }  # fmt: skip
    assert long - set(LONG_FUNCTIONS) == set()
    assert set(LONG_FUNCTIONS) <= long, "a reason that is no longer needed"


def test_classes_are_named_for_what_they_hold():
    named = {node.name for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    assert {name for name in named if FORBIDDEN.search(name.lstrip("_"))} == set()


SAYING_NOTHING = {"asked", "told"}
"""What was asked, and what was told? A name says what it holds."""


def given_names(tree):
    """Names that a module gives to variables, arguments and functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef):
            yield node.name


def test_names_say_what_they_hold():
    found = {(name, path) for path, tree in TREES.items() for name in given_names(tree) if name in SAYING_NOTHING}
    assert found == set()


def is_private(name):
    return name.startswith("_") and not name.endswith("_") and name not in FOREIGN_PRIVATE


def private_names(tree):
    """Names of others that begin with an underscore: imported, read as an attribute, or patched."""
    own = {"self", "cls", "outer"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "noisewright":
            yield from (one.name for one in node.names if is_private(one.name))
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in own):
                yield node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in PATCHES:
            if isinstance(node.args[0], ast.Name) and node.args[0].id in own:
                continue
            texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            ours = [text for text in texts[:1] if "." not in text or text.startswith("noisewright.")]
            yield from (text for text in ours if any(map(is_private, text.split("."))))


PATCHES = {"setattr", "getattr", "hasattr", "delattr"}


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_tests_use_public_names(path):
    assert list(private_names(parsed(path))) == []


@pytest.mark.parametrize(
    "text",
    ["from noisewright.run import _x", "run._states", "monkeypatch.setattr(run, '_x', 1)",
     "monkeypatch.setattr('noisewright.run._x', 1)"],
)  # fmt: skip
def test_private_names_are_found(text):
    assert list(private_names(ast.parse(text)))


def test_tests_import_no_other_test():
    for path in TEST_FILES:
        named = re.findall(r"^\s*(?:from|import) (test_\w+)", path.read_text(), re.MULTILINE)
        assert not named, f"{path.relative_to(TESTS)} imports {named}"


def test_tests_mirror_the_source():
    """A folder of tests is a folder of the package, but for the programs beside it and what tests are given."""
    beside = {"benchmarks", "families", "golden", "gpu", "plugin"}
    folders = {path.name for path in TESTS.iterdir() if path.is_dir() and any(path.rglob("*.py"))} - beside
    assert folders <= {path.name for path in ROOT.iterdir() if path.is_dir()}
