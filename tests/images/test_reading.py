"""Every reader sees the same pixels of a picture, whatever it is stored as."""

import io
import os
import signal
import socket
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from noisewright.evaluate import population, report
from noisewright.evaluate.population import evaluate_images, image_batches
from noisewright.evaluate.scoring import score_files
from noisewright.images import reading as images
from noisewright.images.reading import decode_image, formats, read_image, suffixes
from noisewright.outside.reading import MOST_TEXT, open_regular, read_bytes, read_text, shown
from noisewright.result import ResultImage
from noisewright.trajectory import images as trajectory
from noisewright.verifiers.features import Features

HEIGHT, WIDTH = 12, 9
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]
GREY = ((Y * 23 + X * 7) % 256).astype(np.uint8)
RGB = np.stack([GREY, GREY * 3, 255 - GREY], -1).astype(np.uint8)
GREY3 = np.repeat(GREY[..., None], 3, 2)
LOSSY = 3  # of 255: JPEG and AVIF at their best quality
SCREEN = 64  # of 255: what a palette of few colours may cost


@pytest.fixture
def in_time():
    """A reader that blocks fails, and does not stop the tests."""

    def late(number, frame):
        raise AssertionError("it blocks")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(array, depth, kind, chunks=()):
    """A PNG of any depth and colour type, as Pillow does not write them; ``array`` holds big-endian samples."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    more = b"".join(chunk(name, data) for name, data in chunks)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def tiff(data, bits, order="<", photometric=1, sample=1, samples=1):
    """A TIFF of one strip, as Pillow does not write them."""
    tags = [(256, 4, WIDTH), (257, 4, HEIGHT), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8)]
    tags += [(277, 3, samples), (278, 4, HEIGHT), (279, 4, len(data)), (339, 3, sample)]
    found = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(data)) + data
    found += struct.pack(order + "H", len(tags))
    for tag, kind, value in tags:
        word = struct.pack(order + "I", value) if kind == 4 else struct.pack(order + "HH", value, 0)
        found += struct.pack(order + "HHI", tag, kind, 1) + word
    return found + struct.pack(order + "I", 0)


def twelve_bits(values):
    """Two values in three bytes, rows padded."""
    found = b""
    for row in values:
        bits = "".join(f"{value:012b}" for value in row)
        bits += "0" * (-len(bits) % 8)
        found += bytes(int(bits[k : k + 8], 2) for k in range(0, len(bits), 8))
    return found


def of_mode(mode):
    """The picture in a mode of Pillow's, and what it is in RGB."""
    image = Image.fromarray(RGB)
    if mode == "PA":
        made = image.quantize(256).convert("PA")
    elif mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        made = ImageCms.applyTransform(image, ImageCms.buildTransform(srgb, lab, "RGB", "LAB"))
    else:
        made = image.convert(mode)
    return made, np.asarray(made.convert("RGB"))


WIDE = GREY.astype(np.uint16) * 257
WIDEST = (GREY.astype(np.uint64) * (2**32 - 1) // 255).astype(np.uint32)
BIG = Image.frombytes("I;16B", (WIDTH, HEIGHT), WIDE.astype(">u2").tobytes())
TRANSPARENT = np.dstack([RGB, GREY])


def cases():
    """Name, bytes, pixels, tolerance."""
    yield "png 16", saved(Image.fromarray(WIDE), "PNG"), GREY3, 0
    for kind in (None, "tiff_deflate", "tiff_lzw", "packbits"):
        yield f"tiff 16 {kind}", saved(Image.fromarray(WIDE), "TIFF", compression=kind), GREY3, 0
        yield f"tiff 16 big-endian {kind}", saved(BIG, "TIFF", compression=kind), GREY3, 0
    yield "pgm 16", saved(Image.fromarray(WIDE), "PPM"), GREY3, 0
    yield "pgm of 1000", b"P5 9 12 1000\n" + (GREY.astype(np.uint32) * 1000 // 255).astype(">u2").tobytes(), GREY3, 1
    yield "jpeg 2000 16", saved(Image.fromarray(WIDE), "JPEG2000"), GREY3, 0
    yield "tiff 16 white is zero", tiff((65535 - WIDE).tobytes(), 16, photometric=0), GREY3, 0
    yield "tiff 12", tiff(twelve_bits(GREY.astype(int) * 4095 // 255), 12), GREY3, 1
    yield "tiff 16 signed", tiff((WIDE // 2).astype("<i2").tobytes(), 16, sample=2), GREY3, 1
    yield "tiff 16 signed big-endian", tiff((WIDE // 2).astype(">i2").tobytes(), 16, ">", sample=2), GREY3, 1
    yield "tiff 8 signed", tiff((GREY // 2).tobytes(), 8, sample=2), GREY3, 2
    yield "tiff 32", tiff(WIDEST.astype("<u4").tobytes(), 32), GREY3, 0
    yield "tiff 32 signed", tiff((WIDEST // 2).astype("<i4").tobytes(), 32, sample=2), GREY3, 1
    yield "tiff 32 signed big-endian", tiff((WIDEST // 2).astype(">i4").tobytes(), 32, ">", sample=2), GREY3, 1
    yield "tiff 16 in 32", saved(Image.fromarray(WIDE.astype(np.int32)), "TIFF"), GREY3, 0
    yield "tiff 8 in 32", saved(Image.fromarray(GREY.astype(np.int32)), "TIFF"), GREY3, 0
    yield "im 16 in 32", saved(Image.fromarray(WIDE.astype(np.int32)), "IM"), GREY3, 0
    yield "png 48", png(RGB.astype(">u2") * 257, 16, 2), RGB, 0
    yield "png 64", png(TRANSPARENT.astype(">u2") * 257, 16, 6), RGB, 0
    yield "png grey and alpha 32", png(np.dstack([GREY, GREY]).astype(">u2") * 257, 16, 4), GREY3, 0
    yield "png 48 with a transparent colour", png(RGB.astype(">u2") * 257, 16, 2, [(b"tRNS", b"\0" * 6)]), RGB, 0
    yield "png 16 with a transparent grey", png(WIDE.astype(">u2"), 16, 0, [(b"tRNS", b"\0\0")]), GREY3, 0
    one = Image.fromarray(RGB).quantize(200)
    paletted = np.asarray(one.convert("RGB"))
    yield "palette with a transparent index", saved(one, "PNG", transparency=3), paletted, 0
    yield "palette with alphas", saved(one, "PNG", transparency=bytes(range(200))), paletted, 0
    for kind in ("BMP", "DDS", "DIB", "IM", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF"):
        yield kind.lower(), saved(Image.fromarray(RGB), kind), RGB, 0
    yield "webp", saved(Image.fromarray(RGB), "WEBP", lossless=True), RGB, 0
    yield "jpeg", saved(Image.fromarray(RGB), "JPEG", quality=100, subsampling=0), RGB, LOSSY
    for mode in ("1", "L", "P", "LA", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB"):
        image, want = of_mode(mode)
        yield f"tiff {mode}", saved(image, "TIFF"), want, 0
    for mode in ("1", "L", "CMYK", "YCbCr"):
        image, want = of_mode(mode)
        yield f"jpeg {mode}", saved(image, "JPEG", quality=100, subsampling=0), want, LOSSY
    yield "associated alpha", saved(Image.fromarray(TRANSPARENT).convert("RGBA"), "TIFF"), RGB, 0
    if "AVIF" in formats():
        yield "avif", saved(Image.fromarray(RGB), "AVIF", quality=100, subsampling="4:4:4"), RGB, LOSSY


CASES = {name: rest for name, *rest in cases()}


def by_score(path, monkeypatch):
    seen = []

    class Camera:
        name = fingerprint = "camera"

        def __call__(self, given, prompt):
            seen.extend(given)
            return [0.0] * len(given)

    score_files([path], "x", [Camera()])
    return (seen[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def by_parquet(path, monkeypatch):
    monkeypatch.setattr(population, "parquet_rows", lambda file: [(path.read_bytes(), None)])
    return next(image_batches([path.with_suffix(".parquet")], []))[0]


def by_trajectory_parquet(path, monkeypatch):
    monkeypatch.setattr(trajectory, "parquet_rows", lambda file, beside: [(path.read_bytes(), None)])
    return next(trajectory.captioned([path.with_suffix(".parquet")]))[0]


def by_report(path, _):
    """The picture at the left, which is as large as the longer side asks."""
    width, height = read_image(path)[0].shape[1::-1]
    sheet = report.before_after(path, path, side=max(width, height))
    return np.asarray(sheet.crop((report.MARGIN, report.MARGIN, report.MARGIN + width, report.MARGIN + height)))


READERS = {
    "score": by_score,
    "evaluate": lambda path, _: next(image_batches([path], []))[0],
    "evaluate parquet": by_parquet,
    "schedule measure": lambda path, _: next(trajectory.captioned([path]))[0],
    "schedule measure parquet": by_trajectory_parquet,
    "report": by_report,
    "shown": lambda path, _: np.asarray(ResultImage("0", None, {}, path).image),
}


@pytest.mark.parametrize("name", CASES)
def test_the_pixels_are_right_whatever_they_are_stored_as(name):
    data, want, tolerance = CASES[name]
    found, _ = decode_image(io.BytesIO(data), name)
    assert (found.dtype, found.shape) == (np.uint8, want.shape)
    assert found.flags.c_contiguous
    assert np.abs(found.astype(int) - want).max() <= tolerance


@pytest.mark.parametrize("reader", READERS)
def test_all_readers_see_the_same(tmp_path, monkeypatch, reader):
    held = Image.Exif()
    held[0x0112] = 6
    rotated = saved(Image.fromarray(RGB), "JPEG", exif=held)
    for name, data in [*((name, one[0]) for name, one in CASES.items()), ("rotated", rotated)]:
        path = tmp_path / "picture.any"
        path.write_bytes(data)
        assert np.array_equal(READERS[reader](path, monkeypatch), read_image(path)[0]), name


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("float tiff", saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "floating-point"),
        ("float pfm", saved(Image.fromarray(GREY.astype(np.float32)), "PPM"), "floating-point"),
        ("negative 32", saved(Image.fromarray(GREY.astype(np.int32) - 9), "TIFF"), "integers with a sign"),
        ("negative 16", tiff((WIDE.astype(int) - 32768).astype("<i2").tobytes(), 16, sample=2), "integers with a sign"),
        ("negative 8", tiff(GREY.tobytes(), 8, sample=2), "integers with a sign"),
        ("postscript", saved(Image.fromarray(RGB), "EPS"), "cannot identify"),
    ],
)  # fmt: skip
def test_what_has_no_white_is_refused_in_one_line(name, data, says):
    with pytest.raises(ValueError, match=says) as caught:
        decode_image(io.BytesIO(data), name)
    assert str(caught.value).startswith(f"expected a readable image, got {name}: ")
    assert "\n" not in str(caught.value)


def test_a_palette_that_is_lost_is_not_black():
    whole = saved(Image.fromarray(GREY).convert("P"), "PNG")
    start = whole.index(b"PLTE") - 4
    lost = whole[:start] + whole[start + 12 + struct.unpack(">I", whole[start : start + 4])[0] :]
    with pytest.raises(ValueError, match="no palette"):
        decode_image(io.BytesIO(lost), "lost.png")


def test_integers_of_fewer_bits_than_they_stand_in_are_told(caplog):
    for bits, values in ((16, WIDE), (8, GREY)):
        decode_image(io.BytesIO(saved(Image.fromarray(values.astype(np.int32)), "TIFF")), "a.tif")
        assert caplog.messages[-1].endswith(f"in 32 bits: they are read as of {bits} bits")
    decode_image(io.BytesIO(saved(Image.fromarray(np.zeros((3, 3), np.int32)), "TIFF")), "black.tif")
    assert len(caplog.messages) == 2


def test_transparent_pixels_are_told_once(caplog):
    images.said_once.clear()
    decode_image(io.BytesIO(saved(Image.fromarray(np.dstack([RGB, 0 * GREY + 255])), "PNG")), "opaque.png")
    assert not caplog.messages
    for name in ("first.png", "second.png"):
        decode_image(io.BytesIO(saved(Image.fromarray(TRANSPARENT), "PNG")), name)
    assert caplog.messages == [
        "first.png has transparent pixels: their own colours are read, whatever is behind them (said once)"
    ]


# Orientation


TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: lambda a: np.rot90(a, 1),
}
HOLD_EXIF = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}


@pytest.mark.parametrize("kind", [*HOLD_EXIF, "AVIF", "MPO"])
@pytest.mark.parametrize("orientation", TURNS)
def test_pictures_stand_upright(kind, orientation):
    if kind == "AVIF" and "AVIF" not in formats():
        pytest.skip("Pillow without AVIF")
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = HOLD_EXIF.get(kind) or {"quality": 100}
    if kind == "MPO":
        options |= {"save_all": True, "append_images": [Image.new("RGB", (4, 4))]}
    if kind == "AVIF":
        options |= {"subsampling": "4:4:4"}
    flat = np.kron(np.arange(6).reshape(3, 2) * 50, np.ones((16, 16))).astype(np.uint8)
    image = Image.fromarray(np.repeat(flat[..., None], 3, 2))
    found, _ = decode_image(io.BytesIO(saved(image, kind, exif=exif, **options)), "x")
    want = TURNS[orientation](np.asarray(image))
    assert found.shape == want.shape
    assert np.abs(found.astype(int) - want).max() <= LOSSY


@pytest.mark.parametrize(
    "raw",
    [b"Exif\0\0", b"", b"II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x01\0\x06\0\0"],
)
def test_broken_exif_costs_nothing(raw):
    for kind in ("PNG", "WEBP", "JPEG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = saved(Image.fromarray(RGB), kind, exif=raw, **options)
        assert decode_image(io.BytesIO(data), "x")[0].shape == RGB.shape


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_is_none_is_ignored(value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert np.array_equal(decode_image(io.BytesIO(saved(Image.fromarray(RGB), "PNG", exif=exif)), "x")[0], RGB)


class Means:
    """A feature network from the pixels alone, in place and colour."""

    fingerprint, labels = "means", {}

    def __call__(self, given):
        rows = [np.asarray(one, np.float64)[:8:4, :8:4].reshape(-1) / 255 for one in given]
        return Features(torch.tensor(np.array(rows)), None)


def test_the_fid_of_two_copies_of_one_set_is_zero(tmp_path):
    random = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 8  # stored lying on its side
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()
    for k in range(40):
        array = np.repeat(random.integers(0, 256, (8, 8, 1), dtype=np.uint8), 3, 2)
        Image.fromarray(array).save(first / f"{k}.png")
        place = second / str(k)
        if k % 5 == 0:
            Image.fromarray(array[..., 0].astype(np.uint16) * 257).save(place.with_suffix(".png"))
        elif k % 5 == 1:
            Image.fromarray(array[..., 0].astype(np.uint16) * 257).save(place.with_suffix(".TIFF"))
        elif k % 5 == 2:
            Image.fromarray(np.ascontiguousarray(np.rot90(array, -1))).save(place.with_suffix(".png"), exif=exif)
        elif k % 5 == 3:
            place.with_suffix(".png").write_bytes(png(array.astype(">u2") * 257, 16, 2))
        else:
            Image.fromarray(array).convert("CMYK").save(place.with_suffix(".tif"))
    found = evaluate_images([first], Means(), "fid", reference=second)
    assert found["metrics"]["fid"] == pytest.approx(0, abs=1e-9)
    assert not found["errors"]


# What is no image file


def special_files(place):
    """Paths that must not be opened, with what is said of each."""
    os.mkfifo(place / "pipe.png")
    yield place / "pipe.png", "is a pipe"
    server = socket.socket(socket.AF_UNIX)
    here = os.open(place, os.O_RDONLY)  # names of sockets are short
    server.bind(f"/proc/self/fd/{here}/socket.png")
    server.close(), os.close(here)
    yield place / "socket.png", "is a socket"
    (place / "directory.png").mkdir()
    yield place / "directory.png", "is a directory"
    (place / "loop.png").symlink_to("loop.png")
    yield place / "loop.png", "leads to itself"
    (place / "nowhere.png").symlink_to("gone.png")
    yield place / "nowhere.png", "does not exist"
    (place / "zero.png").symlink_to("/dev/zero")
    yield place / "zero.png", "is a device"
    (place / "linked.png").symlink_to("pipe.png")
    yield place / "linked.png", "is a pipe"
    yield place / "loop.png" / "below.png", "leads to itself"
    yield place / ("x" * 300 + ".png"), "too long"
    yield place / "with\0zero.png", "does not exist"
    (place / "sparse.png").touch()
    os.truncate(place / "sparse.png", 2**40)
    yield place / "sparse.png", "bytes, at most"
    if os.geteuid():
        (place / "secret.png").touch(mode=0)
        yield place / "secret.png", "permission denied"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux")
@pytest.mark.parametrize("read", [read_image, read_text, read_bytes])
def test_special_files_are_one_line_and_never_block(tmp_path, in_time, read):
    for path, says in special_files(tmp_path):
        with pytest.raises(ValueError, match=says) as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux")
def test_a_contact_sheet_of_special_files_is_grey(tmp_path, in_time):
    for path, _ in special_files(tmp_path):
        sheet = np.asarray(report.before_after(path, path, side=64))
        picture = sheet[report.MARGIN : report.MARGIN + 64, report.MARGIN : report.MARGIN + 64]
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 1


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="needs Linux")
def test_files_of_the_kernel_are_no_images(in_time):
    for path in ("/proc/version", "/proc/self/mem", "/dev/null", "/dev/full", "/proc/self/fd"):
        with pytest.raises(ValueError, match="expected a"):
            read_image(path)


def test_every_special_file_among_images_costs_only_itself(tmp_path, in_time):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    paths = [path for path, _ in special_files(tmp_path)]
    from noisewright.verifiers.pixels import Brightness

    found, bad = score_files([*paths, tmp_path / "a.png"], "x", [Brightness()])
    assert [one["file"] for one in found] == [str(tmp_path / "a.png")]
    assert len(bad) == len(paths)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_small_file_with_much_text_does_not_fill_the_memory(kind, in_time):
    packed = zlib.compress(b"a" * 2**26, 9)
    rest = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}[kind]
    data = png(RGB, 8, 2, [(kind, rest + packed)] * 20)
    said, held = "", 0
    try:
        held = sum(len(one) for one in decode_image(io.BytesIO(data), "bomb.png")[1].values() if isinstance(one, str))
    except ValueError as error:
        said = str(error)
    assert "\n" not in said
    assert held < 2**26


def test_an_icon_that_holds_more_than_it_says(monkeypatch):
    monkeypatch.setattr(images, "MOST_PIXELS", 100)
    inner = saved(Image.new("RGB", (40, 40)), "PNG")
    icon = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 4, 4, 0, 0, 1, 32, len(inner), 22) + inner
    with pytest.raises(ValueError, match="it has 40x40 pixels, at most 100"):
        decode_image(io.BytesIO(icon), "x.ico")


def test_a_picture_with_layers_is_its_composite(caplog):
    """The smallest PSD with two layers' worth of header: Pillow counts layers as frames from 1."""
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, HEIGHT, WIDTH, 8, 3)
    layer = struct.pack(">iiiiH", 0, 0, 1, 1, 0) + b"8BIMnorm\xff\0\0\0" + struct.pack(">I", 0)
    layers = struct.pack(">h", 2) + layer * 2
    body = struct.pack(">I", len(layers)) + layers
    data = header + struct.pack(">II", 0, 0) + struct.pack(">I", len(body)) + body + struct.pack(">H", 0)
    data += RGB.transpose(2, 0, 1).tobytes()
    assert np.array_equal(decode_image(io.BytesIO(data), "x.psd")[0], RGB)
    assert not caplog.messages


def test_the_suffixes_are_those_of_what_is_read():
    assert {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".tif", ".jp2", ".ppm", ".tga", ".mpo"} <= suffixes()
    assert not {".pdf", ".eps", ".ps", ".mpg", ".h5", ".hdf", ".grib", ".wmf", ".txt", ".parquet"} & suffixes()


# Text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xef\xbb\xbfa cat", "a cat"),
        (b"\xef\xbb\xbfa cat\r\n\xef\xbb\xbfa dog\r", "a cat\na dog\n"),
        ("ä\u2028b".encode(), "ä\u2028b"),
        (b"", ""),
    ],
)
def test_text_has_no_byte_order_mark(tmp_path, data, text):
    (tmp_path / "a.txt").write_bytes(data)
    assert read_text(tmp_path / "a.txt") == text


@pytest.mark.parametrize("data", ["a cat".encode("utf-16"), "a cat".encode("utf-16-be"), b"\xff\xfe", b"a\0b", b"\xe4"])
def test_text_in_something_else_is_refused_in_one_line(tmp_path, data):
    (tmp_path / "a.txt").write_bytes(data)
    says = "UTF-16" if data[:2] == b"\xff\xfe" else "something else"
    with pytest.raises(ValueError, match=f"expected text in UTF-8, got .*a.txt, which is {says}"):
        read_text(tmp_path / "a.txt")


def test_text_of_gigabytes_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "a.txt").touch()
    os.truncate(tmp_path / "a.txt", 2**36)
    with pytest.raises(ValueError, match=f"at most {MOST_TEXT} are read"):
        read_text(tmp_path / "a.txt")


def test_a_file_that_grows_while_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("x" * 10)
    opened = open_regular(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text("x" * 20)
    monkeypatch.setattr("noisewright.outside.reading.open_regular", lambda *args, **more: opened)
    with pytest.raises(ValueError, match="at most 10 bytes are read"):
        read_bytes(tmp_path / "a.txt", most=10)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("a b.png", "a b.png"),
        ("ü.png", "ü.png"),
        ("a\nb", "a\\nb"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\udcff.png", "\\xff.png"),
        ("a\u202eb", "a\\u202eb"),
    ],
)
def test_names_are_shown_on_one_line(name, line):
    assert shown(name) == line


# What else is read


def test_pipes_in_place_of_other_files_are_one_line(tmp_path, in_time, monkeypatch, capsys):
    from noisewright import cli
    from noisewright.measures.statistics import FeatureStatistics
    from noisewright.verifiers.classifier import read_labels

    monkeypatch.chdir(tmp_path)
    Image.fromarray(RGB).save("a.png")
    for suffix in ("txt", "csv", "tsv", "parquet", "npz", "safetensors"):
        os.mkfifo(f"p.{suffix}")
    (tmp_path / "z.txt").symlink_to("/dev/zero")
    os.mkfifo("a.txt")
    for given, says in (
        (["score", "a.png", "--prompt-from", "p.csv", "--verifier", "brightness"], "is a pipe"),
        (["score", "a.png", "--prompt-from", "p.tsv", "--verifier", "brightness"], "is a pipe"),
        (["score", "a.png", "--prompt-from", "sidecar", "--verifier", "brightness"], "is a pipe"),
        (["score", "p.txt", "--prompt", "x", "--verifier", "brightness"], "is a pipe"),
    ):
        assert cli.main(given) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert says in err
    for call in (
        lambda: evaluate_images([tmp_path / "p.parquet"], Means(), reference=tmp_path / "a.png"),
        lambda: evaluate_images([tmp_path / "a.png"], Means(), reference=tmp_path / "p.npz"),
        lambda: evaluate_images([tmp_path / "a.png"], Means(), reference=tmp_path / "p.safetensors"),
        lambda: evaluate_images([tmp_path / "p.txt"], Means(), reference=tmp_path / "a.png"),
        lambda: FeatureStatistics.load("p.npz"),
        lambda: list(trajectory.captioned([tmp_path / "a.png"])),
        lambda: read_labels("p.txt", "zeroshot"),
    ):
        with pytest.raises(ValueError, match="is a pipe"):
            call()
    with pytest.raises(ValueError, match="is a device"):
        read_labels("z.txt", "zeroshot")


def test_files_of_prompts_may_have_a_byte_order_mark(tmp_path):
    from noisewright.trajectory.model import prompts_of
    from noisewright.verifiers.classifier import read_labels

    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfcat\r\n\r\ndog\r\n")
    assert prompts_of(tmp_path / "a.txt") == ["cat", "dog"]
    assert read_labels(str(tmp_path / "a.txt"), "zeroshot") == ["cat", "dog"]
    (tmp_path / "a.png").write_bytes(saved(Image.fromarray(RGB), "PNG"))
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa cat\n")
    assert next(trajectory.captioned([tmp_path / "a.png"]))[1] == "a cat"
    for name in ("a.txt", "gone.txt"):
        (tmp_path / "a.txt").write_bytes("a cat".encode("utf-16"))
        with pytest.raises(ValueError, match=r"expected (text in UTF-8|a file with a prompt a line), got"):
            prompts_of(tmp_path / name)


def test_what_was_measured_of_images_is_of_these_files_read_in_this_way(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    before = trajectory.stamps([tmp_path])
    assert before[0] == [trajectory.READING]
    (tmp_path / "a.caption").write_text("a cat")
    (tmp_path / "below").mkdir()
    Image.fromarray(RGB).save(tmp_path / "below" / "b.png")
    assert len(trajectory.stamps([tmp_path])) == 3
    assert len(trajectory.stamps([tmp_path], recursive=True)) == 4


def test_conditions_of_a_tree_of_images(tmp_path):
    from noisewright.samplers.mixture import MixtureSampler

    for name, text in (("a.png", "cat"), ("below/b.jfif", "dog"), ("below/c.png", "cat")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name, "PNG")
        (tmp_path / name).with_suffix(".caption").write_text(text)
    found = trajectory.from_files(
        [tmp_path], lambda text: MixtureSampler(steps=3), None, count=9, batch=4, recursive=True
    )
    assert [(condition, len(states)) for condition, states in found] == [("cat", 2), ("dog", 1)]
