"""The layers of the package, read from its source: a module imports only what lies below it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import noisewright
from sources import parsed

ROOT = Path(noisewright.__file__).parent
LAYERS = [
    {"errors", "outside", "diffusion", "measures.frechet"},
    {"schemas", "samplers.protocol", "verifiers.answers", "verifiers.guarded", "verifiers.protocol", "run.budget"}
    | {"run.particle", "run.ensembles", "run.lineage", "run.rows", "measures", "outside.hub"}
    | {"verifiers.optional", "verifiers.first_call"},
    {"images", "run.store", "run.reading", "run.directory", "run.digests", "run.journal", "run.locks"}
    | {"run.tensorfile", "run.pace"},
    {"samplers", "verifiers", "shapes", "pipelines"},
    {"executors"},
    {"run.states", "run.ledger", "run.follow"},
    {"run"},
    {"search", "testing"},
    {"evaluate", "trajectory"},
    {"registry", "builtins"},
    {"progress"},
    {"result"},
    {"request", "plain"},
    {"planning", "continuing"},
    {"execute"},
    {"api", "checking", "trajectory.model", "trajectory.metric_names", "trajectory.fit", "trajectory.compare"}
    | {"trajectory.measure_model"},
    {"many"},
    {"replay", "recipes"},
    {"benchmark"},
    {"web"},
    {"cli"},
    {"__main__"},
]
"""From the lowest; a name is a package or a module, and the longest that fits counts."""

LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FREE = {"__init__", "models"}  # the package itself, whose names load lazily, and a directory of data


def layer_of(module):
    """The layer of the longest name in the table that ``module`` is, or lies in."""
    parts = module.split(".")
    return next(LEVEL[name] for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in LEVEL)


MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOT.rglob("*.py")}


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts), parsed(path)


def typing_only(tree):
    """The nodes under ``if TYPE_CHECKING``, which are never run."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for inner in node.body:
                yield from ast.walk(inner)


def imports(tree, *, also_typing=False):
    """Full names of what a module imports, wherever in it."""
    skipped = set() if also_typing else {id(node) for node in typing_only(tree)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide their layer"
            for one in node.names:  # of a package its modules, of a module itself
                full = f"{node.module}.{one.name}"
                is_module = node.module == "noisewright" or full.removeprefix("noisewright.") in MODULES
                yield full if is_module else node.module


ALL = dict(modules())


def test_the_rooms_of_the_architecture_exist():
    page = ROOT.parent.parent / "ARCHITECTURE.md"
    rows = [line.split("|")[1:3] for line in page.read_text().splitlines() if line.startswith("| `")]
    quoted = [part for first, _ in rows for part in re.findall(r"`([^`]+)`", first)]
    rooms = [name.strip("/") for part in quoted for name in part.split(", ")]
    known = {name.split(".")[0] for name in ALL} | {"models"}
    assert set(rooms) - {"Request", "Plan", "Run", "Job", "Outcome", "Worker", "Executor", "Result"} <= known
    named = {part for _, text in rows for part in re.findall(r"`(\w+)`", text)}
    assert known - FREE - {"__main__", "builtins"} <= {*rooms, *named}
    assert len(page.read_text().splitlines()) <= 120


def test_every_module_has_a_layer():
    found = {name.split(".")[0] for name in ALL}
    assert found - FREE == {name.split(".")[0] for name in LEVEL}
    assert not [name for name in LEVEL if name not in ALL and f"{name}.__init__" not in ALL]


@pytest.mark.parametrize("name", [name for name in ALL if name.split(".")[0] not in FREE])
def test_imports_point_down(name):
    layer = layer_of(name)
    for target in imports(ALL[name]):
        owner, _, rest = target.partition(".")
        if owner != "noisewright" or rest.startswith("__"):
            continue
        assert layer_of(rest) <= layer, f"{name} imports {target}, which lies above it"


LAZY_CYCLES: set[frozenset[str]] = set()
"""Modules that import each other, where one does so within a function only. None is needed."""


def within(tree, *, functions):
    """The statements of a module that are run when it is imported, and with ``functions`` those within them too."""
    skipped = {id(node) for node in typing_only(tree)}
    waiting = [tree]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if id(node) not in skipped and (functions or not isinstance(node, (ast.FunctionDef, ast.Lambda))):
                waiting.append(node)
                yield node


def imported(tree, *, functions):
    """The package's modules that a module imports, packages by their own name."""
    for node in within(tree, functions=functions):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{one.name}" for one in node.names]
            names = [full if is_module(full) else node.module for full in inner]
        yield from (name.removeprefix("noisewright.") for name in names if name.startswith("noisewright."))


def is_module(full):
    name = full.removeprefix("noisewright.")
    return name in MODULES or f"{name}.__init__" in MODULES


def cycles(graph):
    """The sets of modules that lead to each other."""

    def reached(name):
        found, waiting = set(), [name]
        while waiting:
            new = graph.get(waiting.pop(), set()) - found
            found |= new
            waiting += new
        return found

    ahead = {name: reached(name) for name in graph}
    return {
        frozenset(other for other in ahead[name] if name in ahead.get(other, ())) for name in graph
        if name in ahead[name]
    }  # fmt: skip


@pytest.mark.parametrize("functions", [False, True], ids=["at import", "in functions too"])
def test_no_modules_import_each_other(functions):
    graph = {name.removesuffix(".__init__"): set(imported(tree, functions=functions)) for name, tree in ALL.items()}
    assert sum(map(len, graph.values())) > len(graph)
    assert cycles(graph) == (LAZY_CYCLES if functions else set())


def test_cycles_are_found():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {frozenset("abc")}
    assert cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == set()


def test_searches_know_the_run_and_nothing_of_how_it_works():
    refused = (
        "noisewright.run.store",
        "noisewright.samplers",
        "noisewright.verifiers",
        "diffusers",
        "noisewright.executors",
    )
    searches = {name: tree for name, tree in ALL.items() if name.startswith("search.") and name != "search.__init__"}
    assert searches
    for name, tree in searches.items():
        for target in imports(tree, also_typing=True):
            assert not target.startswith(refused), f"{name} imports {target}"


def test_the_mathematics_needs_torch_only():
    for name in (name for name in ALL if name.split(".")[0] not in FREE and layer_of(name) == 0):
        for target in imports(ALL[name]):
            outside = target.split(".")[0]
            assert outside in {"torch", "noisewright", "__future__", *sys.stdlib_module_names}, f"{name}: {target}"


def test_diffusers_is_imported_by_the_seam_and_by_pipelines_of_our_own():
    found = {name for name, tree in ALL.items() if any(t.split(".")[0] == "diffusers" for t in imports(tree))}
    loading = {"samplers.model_index", "samplers.single_file", "samplers.lora"}
    adapters = {f"samplers.adapters.{name}" for name in ("cogvideox", "dit", "ldm_text", "modular", "unconditional")}
    assert found == {*loading, *adapters, "samplers.quiet", "pipelines.class_flow"}


def test_torchvision_is_imported_nowhere():
    for name, tree in ALL.items():
        assert not any(target.split(".")[0] == "torchvision" for target in imports(tree)), name


@pytest.mark.parametrize(
    "program",
    [
        "import noisewright",
        "import noisewright.cli",
        "import noisewright.cli\ntry:\n    noisewright.cli.app(['--help'])\nexcept SystemExit:\n    pass",
        "import noisewright.cli\nassert noisewright.cli.main(['--help']) == 0",
        "import noisewright.cli\nassert noisewright.cli.main(['generate', '--help']) == 0",
    ],
)
def test_help_needs_no_heavy_module(program):
    check = "import sys\nheavy = {'torch', 'diffusers', 'transformers', 'matplotlib'} & set(sys.modules)\n"
    program += f"\n{check}assert not heavy, heavy"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-500:]
