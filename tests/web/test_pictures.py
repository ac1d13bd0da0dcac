import io
import os

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from noisewright.images.metadata import read_recipe
from noisewright.images.video import encode_mp4
from noisewright.web.pictures import shown, tidy


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
    tag = first.headers["etag"]
    asked = {"run": "first", "id": image.stem, "side": 96}
    assert client.get("/picture", params=asked, headers={"If-None-Match": tag}).status_code == 304
    client.get("/picture", params={**asked, "side": 0})
    assert len([one for one in settings.cache.rglob("*") if one.is_file()]) == 1


def test_a_changed_file_has_another_thumbnail(runs, tmp_path):
    image = image_of(runs)
    first, _ = shown(tmp_path, image, 96)
    Image.new("RGB", (64, 64), "green").save(image)
    assert shown(tmp_path, image, 96)[0] != first


def test_another_run_in_the_same_directory_has_its_own_pictures(client, runs):
    """Its candidates have the same names: an id says seeds and steps, and no prompt."""
    image = image_of(runs)
    asked = {"run": "first", "id": image.stem}
    for side in (0, 96):
        first = client.get("/picture", params={**asked, "side": side})
        Image.new("RGB", (64, 64), f"hsl({side}, 100%, 50%)").save(image)
        again = client.get("/picture", params={**asked, "side": side}, headers={"If-None-Match": first.headers["etag"]})
        assert again.status_code == 200
        assert again.content != first.content
        assert "no-cache" in first.headers["cache-control"]


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


def test_pictures_that_were_made_longest_ago_make_room(tmp_path):
    made = []
    for number in range(4):
        Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / f"{number}.png")
        shown(tmp_path / "cache", tmp_path / f"{number}.png", 96)
        made.append(next(one for one in (tmp_path / "cache").glob("*/*") if one not in made))
        os.utime(made[-1], ns=(10**9 * number, 10**9 * number))
    each = [one.stat().st_size for one in made]
    tidy(tmp_path / "cache", most=sum(each))
    assert all(one.exists() for one in made)
    tidy(tmp_path / "cache", most=sum(each[2:]))
    assert [one.exists() for one in made] == [False, False, True, True]
    tidy(tmp_path / "nowhere")


def test_a_film_is_played_in_parts_and_what_is_none_is_not_sent(client, runs):
    place = image_of(runs).with_suffix(".mp4")
    asked = {"run": "first", "id": place.stem}
    assert client.get("/film", params=asked).status_code == 404
    film = encode_mp4(np.zeros((4, 64, 64, 3), np.uint8), 8)
    place.write_bytes(film)
    answer = client.get("/film", params=asked, headers={"Range": "bytes=4-7"})
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (206, b"ftyp", "video/mp4")
    assert client.get("/film", params=asked).content == film
    assert "sandbox" in answer.headers["content-security-policy"]
    assert client.get("/api/candidate", params=asked).json()["film"]
    place.write_bytes(b"<!doctype html><script>alert(1)</script>")
    wrong = client.get("/film", params=asked)
    assert wrong.status_code == 400
    assert b"script" not in wrong.content
    place.unlink()
    place.symlink_to("/etc/passwd")
    assert client.get("/film", params=asked).status_code == 404
