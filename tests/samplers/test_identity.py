"""Values as canonical JSON: what comes back, what is a hash, what is refused; equal exactly where values are."""

import io
import json
import math
import os
import subprocess
import sys
from collections import OrderedDict, namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from noisewright.samplers import identity
from noisewright.samplers.identity import as_text, canonical, copied, digest_of, is_content, original
from values import CONTENT, PLAIN, picture


class Thing:
    pass


def circle():
    held = [1]
    held.append({"again": held})
    return held


def doubled(times):
    held = [0]
    for _ in range(times):
        held = [held, held]
    return held


def nested(depth):
    held = 0
    for _ in range(depth):
        held = [held]
    return held


# What comes back

@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_what_json_can_hold_comes_back_as_it_was_given(value):
    text = as_text(canonical(value))
    assert json.loads(text) == json.loads(json.dumps(canonical(value)))
    back = original(json.loads(text))
    assert back == value
    assert type(back) is type(value) or isinstance(value, (torch.dtype, np.dtype))
    assert as_text(canonical(back)) == text
    assert not is_content(canonical(value))
    if isinstance(value, float):
        assert math.copysign(1, back) == math.copysign(1, value)


def test_all_of_them_are_told_apart():
    texts = [as_text(canonical(value)) for value in PLAIN]
    assert len(set(texts)) == len(texts)


def test_every_nan_is_one():
    assert canonical(float("nan")) == canonical(np.float32("nan")) == {"$float": "nan"}
    assert math.isnan(original({"$float": "nan"}))


@pytest.mark.parametrize(
    ("value", "same"),
    [
        (np.float64(7.5), 7.5), (np.float32(0.5), 0.5), (np.float16(2), 2.0), (np.longdouble(0.5), 0.5),
        (np.int64(3), 3), (np.uint8(3), 3), (np.bool_(True), True), (np.str_("a"), "a"), (np.bytes_(b"a"), b"a"),
        (np.complex64(1j), 1j), (torch.Size([2, 3]), (2, 3)), ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({3, 1, 2}, {1, 2, 3}), ({1: 0, "a": 1}, {"a": 1, 1: 0}), ([np.int32(1), (np.float64(2),)], [1, (2.0,)]),
    ],
)  # fmt: skip
def test_equal_values_have_one_record(value, same):
    assert as_text(canonical(value)) == as_text(canonical(same))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0), (1, True), (0, False), ("1", 1), (b"a", "a"), (b"a", bytearray(b"a")), ((1,), [1]), ({}, []),
        ({"a": 1}, [("a", 1)]), ({"a": 1}, OrderedDict(a=1)), ({1}, frozenset({1})), (None, "null"), (0.0, -0.0),
        (range(3), [0, 1, 2]), (np.array(1.0), 1.0), (torch.tensor(1.0), 1.0), (torch.zeros(2), np.zeros(2, "f4")),
        ({1: "x"}, {"1": "x"}), ({"$tuple": [1]}, (1,)), ("torch.float16", torch.float16), (0.1, np.float32(0.1)),
    ],
)  # fmt: skip
def test_other_kinds_have_other_records(one, other):
    assert as_text(canonical(one)) != as_text(canonical(other))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(["$tuple", "$dict", "$tensor"]), inner, max_size=4)
        | st.dictionaries(st.integers() | st.tuples(st.integers()), inner, max_size=3)
    ),
    max_leaves=12,
)


def exact(value):
    """A spelling of a value that is the same for equal ones alone: ``repr`` with dictionaries in order."""
    if isinstance(value, dict):
        return "{" + ", ".join(sorted(f"{exact(key)}: {exact(one)}" for key, one in value.items())) + "}"
    if isinstance(value, (list, tuple)):
        inside = ", ".join(map(exact, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside},)"
    return repr(value)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(values, values)
def test_records_are_equal_exactly_where_values_are(one, other):
    first, second = as_text(canonical(one)), as_text(canonical(other))
    assert (first == second) == (exact(one) == exact(other))
    assert exact(original(json.loads(first))) == exact(one)
    assert exact(copied(one)) == exact(one)


# Content


@pytest.mark.parametrize("name", CONTENT)
def test_content_is_its_hash(name):
    first = canonical(CONTENT[name](), "image")
    assert canonical(CONTENT[name](), "image") == first
    assert canonical(copied(CONTENT[name]()), "image") == first
    assert is_content(first)
    assert len(as_text(first)) < 500
    with pytest.raises(ValueError, match=r"^expected the value of image, got only its hash$"):
        original(json.loads(as_text(first)), "image")


def test_no_two_contents_have_one_record():
    texts = [as_text(canonical(make())) for make in CONTENT.values()]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("make", [lambda: torch.zeros(3, 700, 700), lambda: np.zeros((3, 700, 700), "f4")])
def test_any_value_in_the_middle_counts(make):
    one, other = make(), make()
    other[1, 350, 351] = 1e-30
    assert repr(one) == repr(other)  # which was the identity once
    assert canonical(one) != canonical(other)
    assert digest_of((one,), {"image": [one]}) != digest_of((one,), {"image": [other]})


def test_strides_order_and_device_are_not_content():
    whole = torch.arange(24.0).reshape(4, 6)
    assert canonical(whole[:, ::2]) == canonical(whole[:, ::2].contiguous())
    assert canonical(torch.ones(1).expand(3, 4)) == canonical(torch.ones(3, 4))
    assert canonical(torch.ones(2, requires_grad=True)) == canonical(torch.ones(2))
    array = np.arange(6.0).reshape(2, 3)
    for same in (np.asfortranarray(array), array.astype(">f8"), array[::-1][::-1]):
        assert canonical(same) == canonical(array)
    with torch.inference_mode():
        made = torch.ones(2)
    assert canonical(made) == canonical(torch.ones(2))


def test_images_count_by_pixels_palette_alpha_and_orientation(tmp_path):
    image = picture("RGBA")
    image.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as lazy:  # not read yet, of another class, with other addresses
        assert canonical(lazy) == canonical(image)
    changed = image.copy()
    changed.putpixel((2, 2), (*image.getpixel((2, 2))[:3], 7))
    assert canonical(changed) != canonical(image)
    palette = picture().quantize(4)
    other = palette.copy()
    other.putpalette([255 - one for one in palette.getpalette()])
    assert palette.tobytes() == other.tobytes()
    assert canonical(palette) != canonical(other)
    clear = palette.copy()
    clear.info["transparency"] = 1
    assert canonical(clear) != canonical(palette)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright, turned = io.BytesIO(), io.BytesIO()
    picture().save(upright, "png")
    picture().save(turned, "png", exif=exif)
    assert canonical(Image.open(upright)) != canonical(Image.open(turned))


# What is refused


@pytest.mark.sampled(10)
@pytest.mark.parametrize(
    ("value", "error", "got"),
    [
        (Thing(), TypeError, "Thing"), (Thing, TypeError, "type"), (print, TypeError, "builtin"),
        (lambda: 0, TypeError, "function"), ((n for n in "ab"), TypeError, "generator"), (iter([1]), TypeError, "iter"),
        ({"a": [Thing()]}, TypeError, "Thing"), ({Thing(): 1}, TypeError, "Thing"), (slice(2), TypeError, "slice"),
        (namedtuple("Pair", "a")(1), TypeError, "Pair"), (torch.Generator(), TypeError, "Generator"),
        (np.datetime64("2020"), TypeError, "datetime64"), (np.timedelta64(3), TypeError, "timedelta64"),
        (np.longdouble(1) / 3, TypeError, "longdouble"), (np.array([Thing()]), TypeError, "object"),
        (np.zeros(2, [("a", "f4")]), TypeError, "f4"), (np.zeros(2, np.longdouble), TypeError, "float128|longdouble"),
        (np.ma.array([1]), TypeError, "MaskedArray"), (torch.eye(2).to_sparse(), TypeError, "sparse"),
        (torch.zeros(2, device="meta"), ValueError, "meta"), (circle(), ValueError, "holds itself"),
        (doubled(31), ValueError, "more"), (nested(40), ValueError, "more"), (nested(5000), ValueError, "more"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_in_one_line_that_names_it(value, error, got):
    with pytest.raises(error, match=r"(?s)^expected .*image.*" + got) as caught:
        canonical(value, "image")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_too_many_values_are_refused(monkeypatch):
    monkeypatch.setattr(identity, "MOST", 100)
    with pytest.raises(ValueError, match="at most 100 values in sigmas"):
        canonical(list(range(101)), "sigmas")


def test_damaged_and_animated_images_are_refused(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    noise.save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    with pytest.raises(ValueError, match="readable image for image, got a damaged one"):
        canonical(Image.open(tmp_path / "cut.png"), "image")
    picture().save(tmp_path / "a.gif", save_all=True, append_images=[picture(colour=99)])
    with pytest.raises(TypeError, match="one frame"):
        canonical(Image.open(tmp_path / "a.gif"), "image")


@pytest.mark.parametrize(
    "text",
    ['{"$what": 1}', '{"$tuple": 3}', '{"$tuple": [1], "b": 2}', '{"$dtype": "zeros"}', '{"$dtype": 3}',
     '{"$int": "z"}', '{"$int": 3}',
     '{"$float": "1"}', '{"$bytes": "?"}', '{"$bytes": 3}', '{"$range": [1, 2, 0]}', '{"$dict": [[1]]}',
     '{"$dict": [[[], 1]]}', '{"$set": [[]]}', '{"$device": "moon"}', '{"$numpy_dtype": "what"}', '{"$complex": [1]}',
     '{"a": {"$tuple": null}}', "[" * 900 + "]" * 900],
)  # fmt: skip
def test_damaged_records_are_one_line(text):
    if text.startswith("[["):
        held = json.loads(text)
        for _ in range(5000):
            held = [held]
    else:
        held = json.loads(text)
    with pytest.raises(ValueError, match=r"^expected the value of image, got a damaged record$"):
        original(held, "image")


PROGRAM = """
import sys; sys.path.insert(0, sys.argv[1])
from values import CONTENT, PLAIN
from noisewright.samplers.identity import digest_of
print(digest_of([make() for make in CONTENT.values()], PLAIN, {str(n) for n in range(50)}))
"""


@pytest.mark.slow
def test_another_process_finds_the_same():
    made = [make() for make in CONTENT.values()]
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parents[1])]
    for seed in ("1", "2"):
        run = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        )
        assert run.stdout.strip() == digest_of(made, PLAIN, {str(n) for n in range(50)})


def test_copies_share_nothing():
    tensor, array, image = torch.zeros(2), np.zeros(2), picture()
    held = {"a": [tensor, (array, {"b": image})], "c": bytearray(b"a")}
    before, copy = canonical(held), copied(held)
    tensor.add_(1)
    array += 1
    image.putpixel((0, 0), (9, 9, 9))
    held["a"].append(3)
    held["c"].append(3)
    assert canonical(copy) == before
    assert canonical(held) != before
