"""What an editor, a notebook and ``help`` find in the package."""

import ast
import importlib
import inspect
import pickle
import pkgutil
import pydoc
import rlcompleter
import subprocess
import sys
from pathlib import Path

import pytest

import noisewright as nw
import warm

PUBLIC = sorted(nw.__all__)
FORMS = {
    "from its file": "from noisewright.search.random import random as found",
    "from the package": "from noisewright.search import random as module\nfound = module.random",
    "under another name": "import noisewright.search.random as module\nfound = module.random",
    "by its full name": "import noisewright.search.random\nfound = noisewright.search.random.random",
    "after the function": "import noisewright\nnoisewright.search\nimport noisewright.search.random\n"
    "found = noisewright.search.random.random",
    "by importlib": "import importlib\nfound = importlib.import_module('noisewright.search.random').random",
    "by pkgutil": "import pkgutil\nfound = pkgutil.resolve_name('noisewright.search.random:random')",
}
"""Ways in which a plug-in may have imported what searches share."""


def test_a_completer_sees_the_public_names_and_no_others():
    assert sorted(dir(nw)) == PUBLIC
    assert sorted(name for name, _ in inspect.getmembers(nw)) == PUBLIC
    completer = rlcompleter.Completer({"nw": nw})
    found = [completer.complete("nw.", number) for number in range(len(PUBLIC))]
    assert {one.removeprefix("nw.").rstrip("(") for one in found if one} == set(PUBLIC) - {"__version__"}


def test_an_editor_that_reads_the_file_sees_them_too():
    tree = ast.parse(Path(nw.__file__).read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {one.asname or one.name for one in node.names}
    for node in tree.body:
        names |= {node.name} if isinstance(node, ast.FunctionDef | ast.ClassDef) else set()
        names |= {one.id for one in getattr(node, "targets", ()) if isinstance(one, ast.Name)}
    assert {name for name in names if not name.startswith("_")} == set(PUBLIC) - {"__version__"}


def test_looking_at_the_package_imports_nothing_heavy():
    program = "import sys, noisewright\ndir(noisewright)\nassert not {'torch', 'diffusers', 'rich'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_help_on_search_is_the_functions_own_however_the_algorithms_are_imported(form):
    program = f"""import sys
for name in [one for one in sys.modules if one.partition(".")[0] == "noisewright"]:
    del sys.modules[name]
{form}
assert found.__name__ == 'random' and found.__module__ == 'noisewright.search.random'
import noisewright as nw, pydoc
print(pydoc.render_doc(nw.search, renderer=pydoc.plaintext))"""
    done = warm.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "search(pipe" in done.stdout.split("\n")[2]
    assert "Search for the noise that gives the best image" in done.stdout
    assert "PACKAGE CONTENTS" not in done.stdout


def test_search_is_a_function_with_its_signature_and_docstring():
    import noisewright.search.random  # noqa: F401 - importing puts the package under the function's name elsewhere

    assert inspect.isfunction(nw.search)
    assert list(inspect.signature(nw.search).parameters)[:2] == ["pipe", "prompt"]
    assert "budget:" in inspect.getdoc(nw.search)
    assert inspect.getsourcefile(nw.search).endswith("api.py")
    assert pickle.loads(pickle.dumps(nw.search)) is nw.search
    assert pydoc.locate("noisewright.search") is nw.search


def test_every_algorithm_is_an_attribute_of_what_is_called():
    package = importlib.import_module("noisewright.search")
    for one in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"noisewright.search.{one.name}")
        assert getattr(nw.search, one.name) is module


def test_help_on_the_package_shows_what_one_calls():
    text = pydoc.render_doc(nw, renderer=pydoc.plaintext)
    for name in set(PUBLIC) - {"__version__"}:
        assert name in text
    assert nw.__version__ in text


def test_every_public_name_is_there():
    for name in PUBLIC:
        assert getattr(nw, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        nw.serach  # noqa: B018
