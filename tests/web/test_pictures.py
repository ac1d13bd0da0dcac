import io
import os

import pytest
from PIL import Image, PngImagePlugin

from noisewright.images.metadata import read_recipe
from noisewright.web.pictures import shown


def image_of(runs):
    return sorted((runs / "first" / "images").glob("*.png"))[0]


def test_a_thumbnail_is_made_once_and_not_in_the_run(client, runs, settings):
    image, before = image_of(runs), sorted(one.name for one in (runs / "first").rglob("*"))
    first = client.get("/picture", params={"run": "first", "id": image.stem, "side": 96})
    kept = [one for one in settings.cache.rglob("*") if one.is_file()]
    stamps = [one.stat().st_mtime_ns for one in kept]
    again = client.get("/picture", params={"run": "first", "id": image.stem, "side": 96})
    assert first.content == again.content
    assert len(kept) == 1
    assert [one.stat().st_mtime_ns for one in kept] == stamps
    assert sorted(one.name for one in (runs / "first").rglob("*")) == before
    assert "immutable" in first.headers["cache-control"]


def test_a_changed_file_has_another_thumbnail(runs, tmp_path):
    image = image_of(runs)
    first, _ = shown(tmp_path, image, 96)
    Image.new("RGB", (64, 64), "green").save(image)
    assert shown(tmp_path, image, 96)[0] != first


def test_pixels_are_those_of_the_file_and_nothing_else_is_in_it(client, runs):
    image = image_of(runs)
    answer = client.get("/picture", params={"run": "first", "id": image.stem})
    with Image.open(io.BytesIO(answer.content)) as one, Image.open(image) as other:
        assert one.tobytes() == other.convert("RGB").tobytes()
        assert one.info == {}
    assert answer.headers["content-type"] == "image/png"


def test_a_large_picture_is_made_smaller(tmp_path):
    Image.effect_noise((1000, 500), 50).convert("RGB").save(tmp_path / "large.png")
    data, media = shown(tmp_path / "cache", tmp_path / "large.png", 192)
    with Image.open(io.BytesIO(data)) as one:
        assert one.size == (192, 96)
    assert media in ("image/webp", "image/jpeg")


@pytest.mark.parametrize("text", [b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
                                  b"<!doctype html><script>alert(1)</script>", b"", b"\x89PNG\r\n\x1a\n"])  # fmt: skip
def test_what_is_no_picture_reaches_no_browser(client, runs, text):
    image = image_of(runs)
    image.write_bytes(text)
    answer = client.get("/picture", params={"run": "first", "id": image.stem})
    assert answer.status_code == 400
    assert b"script" not in answer.content
    download = client.get("/download", params={"run": "first", "id": image.stem})
    assert download.status_code in (200, 400)
    if download.status_code == 200:
        assert download.headers["content-disposition"].startswith("attachment")


def test_a_picture_with_a_page_behind_it_is_shown_without_it(client, runs):
    image = image_of(runs)
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("comment", "<script>alert(1)</script>")
    Image.new("RGB", (64, 64)).save(image, pnginfo=chunks)
    image.write_bytes(image.read_bytes() + b"<script>alert(1)</script>")
    for side in (0, 96):
        answer = client.get("/picture", params={"run": "first", "id": image.stem, "side": side})
        assert b"script" not in answer.content


def test_a_download_has_its_recipe_and_is_saved_only(client, runs, tmp_path):
    image = image_of(runs)
    answer = client.get("/download", params={"run": "first", "id": image.stem})
    assert answer.content == image.read_bytes()
    assert answer.headers["content-disposition"] == f'attachment; filename="{image.name}"'
    assert "sandbox" in answer.headers["content-security-policy"]
    (tmp_path / "saved.png").write_bytes(answer.content)
    assert read_recipe(tmp_path / "saved.png")[1]["sampler"]["prompt"] == "a red circle and <b>two</b> blue stars"


@pytest.mark.parametrize("side", ["1", "97", "-1", "1e9", "x", "100000"])
def test_other_sizes_are_not_made(client, runs, side):
    answer = client.get("/picture", params={"run": "first", "id": image_of(runs).stem, "side": side})
    assert answer.status_code == 400


def test_a_file_that_is_gone_is_not_found(client, runs):
    image = image_of(runs)
    image.unlink()
    assert client.get("/picture", params={"run": "first", "id": image.stem}).status_code == 404
    os.mkfifo(image)
    assert client.get("/picture", params={"run": "first", "id": image.stem}).status_code == 404


@pytest.mark.parametrize("file", ["before-after.png", "../first/run.json", "run.json", "", "/etc/passwd"])
def test_of_the_figures_only_those_that_are_drawn_are_shown(client, file):
    answer = client.get("/figure", params={"run": "first", "file": file})
    assert answer.status_code == (200 if file == "before-after.png" else 404)
