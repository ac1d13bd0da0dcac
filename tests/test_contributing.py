"""The code in CONTRIBUTING.md: written down as the package that it is, installed as pip would, tested and used."""

import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

import warm
from noisewright import registry
from noisewright.registry.kinds import KINDS
from noisewright.registry.model_card import Card
from noisewright.samplers import optional as of_samplers
from noisewright.verifiers import optional as of_verifiers

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def blocks(language):
    return [text for kind, text in BLOCKS if kind == language]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package on this page, installed, with its tests."""
    root = tmp_path_factory.mktemp("package")
    for text in blocks("python"):
        first, _, rest = text.partition("\n")
        file = root / first.removeprefix("# ")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(rest)
    ((group, line),) = re.findall(r'\[project\.entry-points\."(.*?)"\]\n(.*?)\n', blocks("toml")[0])
    info = root / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{line.replace(chr(34), '')}\n")
    return root


def run(package, *command):
    path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])
    return warm.run(
        command, cwd=package, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )


def test_every_block_of_code_is_a_file():
    for text in blocks("python"):
        assert re.match(r"# (my_package|tests)/\w+\.py\n|# my_verifiers\.py\n", text), text[:80]


@pytest.mark.slow
def test_there_is_one_of_each_kind(package):
    program = "import my_package; print(*(one.kind for one in my_package.ENTRIES))"
    found = run(package, sys.executable, "-c", program)
    assert set(found.stdout.split()) == set(KINDS), found.stderr
    for kind in KINDS:
        assert re.search(rf"^\| `{kind}` \|", TEXT, re.MULTILINE)


@pytest.mark.slow
def test_its_tests_pass(package):
    found = run(package, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert found.returncode == 0, found.stdout[-3000:]


COMMANDS = [line for text in blocks("bash") for line in text.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS, ids=[f"command {number}" for number in range(len(COMMANDS))])
def test_the_commands_work(package, line):
    name, *words = shlex.split(line)
    assert name == "noisewright"
    found = run(package, sys.executable, "-m", "noisewright", *words, "--json")
    assert found.returncode == 0, found.stderr[-1000:]
    assert "plug-in" not in found.stderr
    result = json.loads(found.stdout)
    assert "warmth" in result["best"]["scores"]
    if "--search" in words:
        n, steps = int(words[words.index("--search-arg") + 1].partition("=")[2]), int(words[words.index("--steps") + 1])
        middle = steps // 2
        rest = steps - middle - 1
        cost = n * middle + n + n // 2 * rest
        assert result["nfe"] in (cost, cost + rest)  # the baseline is finished too where it did not survive


def test_the_card_is_one(tmp_path, caplog):
    (text,) = blocks("json")
    (tmp_path / "noisewright.json").write_text(text)
    card = registry.card(tmp_path)
    assert not caplog.messages
    assert set(card) == set(json.loads(text)) == set(Card.model_fields) - {"version"}


@pytest.mark.parametrize("module", [of_verifiers, of_samplers], ids=["verifiers", "samplers"])
def test_every_small_protocol_is_listed(module):
    protocols = [
        name for name, one in vars(module).items()
        if isinstance(one, type) and getattr(one, "_is_protocol", False) and one.__module__ == module.__name__
    ]  # fmt: skip
    for name in protocols:
        if name != "Usage":  # what Billed has
            assert re.search(rf"^\| `{name}` \| `", TEXT, re.MULTILINE), name


def test_the_paths_it_names_are_there():
    for path in re.findall(r"`((?:src|tests|training|docs)/[\w/.]+)`", TEXT):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\(([\w/.]+)\)", TEXT):
        assert (ROOT / path).exists(), path
