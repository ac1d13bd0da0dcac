"""What tests of trust share: code that leaves a mark, a port that notices a call, a hub without a network."""

import json
import shutil
import socket
from contextlib import contextmanager

from PIL import Image, PngImagePlugin

PLAIN = "def score(images, prompt):\n    return images.mean((1, 2, 3))\n"


def code(marker):
    """A verifier's file that makes the file ``marker`` as soon as it is imported."""
    return f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n{PLAIN}"


@contextmanager
def listening():
    """A port of this machine, and whether anybody called it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)

        def called():
            try:
                server.accept()[0].close()
            except BlockingIOError:
                return False
            return True

        yield server.getsockname()[1], called


def hub_in(folder, monkeypatch):
    """A hub's cache without a network: a function that adds a repository, a copy of a directory, and says where."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def add(name, source):
        place = folder / f"models--{name.replace('/', '--')}"
        commit = "0123456789abcdef0123456789abcdef01234567"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text(commit)
        shutil.copytree(source, place / "snapshots" / commit)
        return place / "snapshots" / commit

    return add


def edit(file, change):
    """Write a JSON file again as ``change`` made it."""
    held = json.loads(file.read_text())
    change(held)
    file.write_text(json.dumps(held))


def with_code(model, marker):
    """Have a model's index name a class of its own, and bring it."""
    edit(model / "model_index.json", lambda held: held.update(unet=["look", "score"]))
    (model / "unet" / "look.py").write_text(code(marker))


def with_recipe(source, target, change):
    """A PNG with an edited recipe, written past noisewright."""
    with Image.open(source) as opened:
        recipe = json.loads(opened.info["noisewright"])
        change(recipe)
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt("noisewright", json.dumps(recipe))
        opened.save(target, pnginfo=chunks)
    return target
