"""What is built to be installed holds what is run: the page's files, the bundled weights, everything in the package."""

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "noisewright"

BUILDS = importlib.util.find_spec("hatchling") is not None

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not BUILDS, reason="no hatchling here (pip install hatchling)")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of what is here."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = out.glob("*.whl")
    with zipfile.ZipFile(found) as opened:
        yield opened


def test_a_wheel_holds_the_page(wheel):
    from noisewright.web.pages import own_files

    for name, own in own_files().items():
        assert wheel.read(f"noisewright/web/static/{name}") == own.data


def test_a_wheel_holds_every_file_of_the_package(wheel):
    here = {path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*") if path.is_file()
            and "__pycache__" not in path.parts}  # fmt: skip
    assert here - set(wheel.namelist()) == set()


def test_a_wheel_says_what_the_page_needs(wheel):
    (name,) = (one for one in wheel.namelist() if one.endswith("/METADATA"))
    needs = [line for line in wheel.read(name).decode().splitlines() if "extra == 'web'" in line]
    assert {line.split(": ")[1].split(">")[0] for line in needs} == {"fastapi", "uvicorn", "python-multipart"}
