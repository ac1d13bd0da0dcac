"""What tests of the training share."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "training" / "shapes"


@pytest.fixture(scope="module")
def training():
    """Modules of training/shapes, some of whose names others have too."""
    names = [path.stem for path in FOLDER.glob("*.py")]
    held = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(held)
