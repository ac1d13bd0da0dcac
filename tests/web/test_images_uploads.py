"""Pictures of strangers: what comes of them is their pixels, within bounds, and nothing else."""

import io
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import noisewright.web.openai.reading as reading
from noisewright.web.openai.errors import ApiError
from noisewright.web.openai.fields import EditFields, GenerationFields, read_fields
from noisewright.web.openai.reading import rewritten, written
from noisewright.web.openai.service import ImagesService
from web.serving_images import settings_of

SECRET = b"of somebody else <script>alert(1)</script>"


def drawn(size=(24, 16)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def saved(image, kind, **more):
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def with_text():
    about = PngImagePlugin.PngInfo()
    about.add_text("Comment", SECRET.decode())
    about.add_itxt("prompt", SECRET.decode())
    return saved(drawn(), "png", pnginfo=about)


def with_exif(kind):
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    exif[0x8825] = {1: "N", 2: (52.0, 30.0, 0.0)}  # where it was taken
    return saved(drawn(), kind, exif=exif, **({"lossless": True} if kind == "webp" else {"quality": 95}))


METADATA = {
    "text chunks": with_text, "Exif of a JPEG": lambda: with_exif("jpeg"), "Exif of a WebP": lambda: with_exif("webp"),
    "a colour profile": lambda: saved(drawn(), "png", icc_profile=SECRET),
    "a comment of a JPEG": lambda: saved(drawn(), "jpeg", comment=SECRET),
    "a page behind the image": lambda: saved(drawn(), "png") + b"<html>" + SECRET,
    "an archive behind the image": lambda: saved(drawn(), "png") + b"PK\x03\x04" + SECRET,
}  # fmt: skip


@pytest.mark.parametrize("name", METADATA)
def test_nothing_but_pixels_is_left_of_a_picture(name):
    data = METADATA[name]()
    found = rewritten(data, "image", 2048)
    assert SECRET not in found
    assert b"<html>" not in found
    again = Image.open(io.BytesIO(found))
    assert (again.format, again.mode, again.size, again.info) == ("PNG", "RGB", (24, 16), {})
    shown = Image.open(io.BytesIO(data)).convert("RGB")
    assert np.array_equal(np.asarray(again), np.asarray(shown))


def header(width, height):
    """The beginning of a PNG of this size, which holds no pixels."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    about = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", about) + chunk(b"IDAT", zlib.compress(b"\0" * 9))


def bomb():
    """A file of a few kilobytes that holds 400 megapixels."""
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "png")
    return file.getvalue()


REFUSED = {
    "a bomb": (bomb, "pixels"), "a side too long": (lambda: saved(drawn((65, 8)), "png"), "65x8 pixels, at most 64"),
    "a height too long": (lambda: saved(drawn((8, 65)), "webp"), "8x65 pixels, at most 64"),
    "a size that is only said": (lambda: header(2**31 - 1, 2**31 - 1), "pixels"),
    "a size that is no other's": (lambda: header(60_000, 1), "60000x1 pixels"),
    "another format": (lambda: saved(drawn(), "gif"), "as PNG, JPEG, WEBP"),
    "a TIFF": (lambda: saved(drawn(), "tiff"), "as PNG, JPEG, WEBP"), "an icon": (
        lambda: saved(drawn(), "ico"), "as PNG, JPEG, WEBP"), "PostScript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n"
        b"%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n", "as PNG, JPEG, WEBP"),
    "a drawing": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "as PNG, JPEG, WEBP"),
    "a cut one": (lambda: saved(drawn(), "png")[:90], "expected a readable image"),
    "nothing": (lambda: b"", "empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("param", ["image", "mask"])
def test_what_is_no_picture_of_this_size_is_refused_before_it_is_decoded(name, param, monkeypatch):
    data, says = REFUSED[name][0](), REFUSED[name][1]
    decoded = []
    load = Image.Image.load
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: decoded.append(self.size) or load(self))
    with pytest.raises(ApiError, match=says) as caught:
        rewritten(data, param, 64)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, "invalid_image")
    assert "\n" not in str(caught.value)
    assert max((max(size) for size in decoded), default=0) <= 64


def test_a_mask_that_is_too_large_leaves_no_picture_behind(tmp_path):
    with pytest.raises(ApiError, match="at most 64 a side"):
        written({"image": saved(drawn(), "png"), "mask_image": saved(drawn((65, 65)), "png")}, tmp_path / "x", 64)


FIELDS = {"prompt": "two", "num_inference_steps": 5, "quality": "low"}


def test_a_full_queue_decodes_nothing(tmp_path, monkeypatch):
    service = ImagesService(settings_of(tmp_path / "runs", queue=1))  # which is never started
    service.settings.notes.mkdir(parents=True)
    fields = read_fields(EditFields, FIELDS)
    service.submit(fields, "edit", None, {"image": saved(drawn(), "png")})
    monkeypatch.setattr(reading, "decode_image", lambda *given: pytest.fail("it was decoded"))
    with pytest.raises(ApiError) as caught:
        service.submit(fields, "edit", None, {"image": saved(drawn(), "png")})
    assert (caught.value.status, caught.value.code) == (429, "queue_full")


@pytest.mark.parametrize("wrong", ["no room any more", "a picture that is none", "a bad field", "no note"])
def test_what_is_refused_leaves_no_pictures(tmp_path, monkeypatch, wrong):
    service = ImagesService(settings_of(tmp_path / "runs", queue=1))
    service.settings.notes.mkdir(parents=True)
    files = {"image": saved(drawn(), "png")}
    fields = read_fields(EditFields, FIELDS)
    if wrong == "no room any more":  # somebody else took the last place while it was decoded
        decode = reading.decode_image

        def late(*given):
            service.submit(read_fields(GenerationFields, FIELDS))
            return decode(*given)

        monkeypatch.setattr(reading, "decode_image", late)
    elif wrong == "a picture that is none":
        files["mask_image"] = b"none"
    elif wrong == "a bad field":
        fields = read_fields(EditFields, {**FIELDS, "num_inference_steps": 201})
    else:
        def full(*given):
            raise OSError("no space left on device")

        monkeypatch.setattr("noisewright.web.openai.service.note", full)
    with pytest.raises(ApiError):
        service.submit(fields, "edit", None, files)
    assert [path.name for path in service.settings.notes.iterdir() if path.is_dir()] == []


def test_pictures_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    service = ImagesService(settings_of(tmp_path / "runs"))
    service.settings.notes.mkdir(parents=True)
    decode, busy, most = reading.decode_image, [], []
    lock = threading.Lock()

    def watched(*given):
        with lock:
            busy.append(1)
            most.append(len(busy))
        try:
            return decode(*given)
        finally:
            with lock:
                busy.pop()

    monkeypatch.setattr(reading, "decode_image", watched)
    data = saved(drawn((600, 600)), "png")
    fields = read_fields(EditFields, FIELDS)
    some = [threading.Thread(target=service.submit, args=(fields, "edit", None, {"image": data})) for _ in range(6)]
    for one in some:
        one.start()
    for one in some:
        one.join()
    assert len(most) == 6
    assert max(most) == 1
