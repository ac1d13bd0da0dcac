"""``training/gpu.sh``: every bundled model is trained on, compared, and replaced only by what is better."""

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import noisewright.models

ROOT = Path(__file__).parents[2]
MODELS = Path(next(iter(noisewright.models.__path__)))
NAMES = ["shapes", "shapes-clip", "shapes-reward", "cifar10"]


@pytest.fixture(scope="module")
def common():
    """``training/common.py``."""
    spec = importlib.util.spec_from_file_location("training_common", ROOT / "training" / "common.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A copy of the bundled models that may be changed."""
    return Path(shutil.copytree(MODELS, tmp_path_factory.mktemp("bundled") / "models"))


def weights(folder):
    return {str(one.relative_to(folder)): hashlib.sha256(one.read_bytes()).hexdigest()
            for one in sorted(folder.rglob("*.safetensors"))}  # fmt: skip


def script(*arguments):
    return subprocess.run(
        ["bash", "training/gpu.sh", *arguments], cwd=ROOT, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "TMPDIR": "/tmp",
             "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_trained_compared_and_kept_only_where_it_is_better(name, models, tmp_path):
    before = weights(models)
    done = script("0.02", "--only", name, "--tiny", "--work", str(tmp_path), "--models", str(models))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / f"further-{name}.json").read_text())
    assert found["steps"] > 0
    assert found["samples_a_second"] > 0
    assert found["before"].keys() == found["after"].keys()
    assert len(found["change"]) == 2
    assert ("not kept" in done.stdout) == (not found["kept"])
    assert bool(found["kept"]) == found["better"]
    changed = {one for one, digest in weights(models).items() if before[one] != digest}
    assert changed == {f"{name}/{one}" for one in found["kept"] if one.endswith(".safetensors")}
    assert weights(tmp_path / "candidate" / name) != weights(MODELS / name), "nothing was trained"


@pytest.mark.slow
def test_the_speed_alone_changes_nothing(models, tmp_path):
    before = weights(models)
    where = "--work", str(tmp_path), "--models", str(models)
    done = script("0.02", "--only", "shapes-reward", "--tiny", "--speed", *where)
    assert done.returncode == 0, done.stderr
    assert "before" not in json.loads((tmp_path / "further-shapes-reward.json").read_text())
    assert weights(models) == before
    assert not (tmp_path / "candidate").exists()


@pytest.mark.parametrize("arguments", [(), ("soon",), ("1", "--only", "shape"), ("1", "--fast")])
def test_wrong_use_is_told_before_anything_runs(arguments):
    done = script(*arguments)
    assert done.returncode == 2
    assert "training/gpu.sh MINUTES" in done.stderr
    assert not done.stdout


def test_what_is_not_better_overwrites_nothing(common, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, text in ((old, "old"), (new, "new")):
        (folder / "unet").mkdir(parents=True)
        (folder / "unet" / "model.safetensors").write_text(text)
        (folder / "config.json").write_text("{}")
        (folder / "README.md").write_text(text)
    assert common.keep(new, old, False) == []
    assert (old / "unet" / "model.safetensors").read_text() == "old"
    assert common.keep(new, old, True) == ["unet/model.safetensors"]
    assert (old / "unet" / "model.safetensors").read_text() == "new"
    assert (old / "README.md").read_text() == "old", "a card is written from figures"
    assert not list(old.rglob("*.part"))
