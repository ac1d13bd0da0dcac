"""Values of every kind that an argument of a pipeline may have: plain ones, and content that its hash stands for."""

import math
from collections import OrderedDict

import numpy as np
import torch
from PIL import Image

PLAIN = [
    None, True, False, 0, 1, -1, 2**63 - 1, 2**63, -(2**200), 10**5000, 0.0, -0.0, 1.0, 1e-320, math.inf, -math.inf, "",
    "x", "\ud800", "$tuple", b"", b"\x00\xff", bytearray(b"ab"), 1j, complex(-0.0, math.inf), range(3), range(5, 0, -2),
    torch.float16, torch.bfloat16, torch.device("cpu"), torch.device("cuda:1"), np.dtype("float32"),
    [], (), (64, 64), [64, 64], [(1, 2), [3, (4,)]], ((),), {}, {"a": (1,)}, {1: 2, "1": 3}, {"$tuple": [1]},
    {(1, 2): [3]}, set(), {1, 2, "x"}, frozenset({"a"}), OrderedDict([("b", 1), ("a", 2)]), {"$float": "nan"},
    {"a": {"b": {"c": (None, True)}}}, [[[[[]]]]],
]  # fmt: skip


def picture(mode="RGB", colour=3, size=(5, 4)):
    image = Image.new(mode, size)
    image.putdata([(colour + n) % 256 if len(image.getbands()) == 1 else ((colour + n) % 256,) * len(image.getbands())
                   for n in range(size[0] * size[1])])  # fmt: skip
    return image


CONTENT = {
    "float32": lambda: torch.arange(6.0).reshape(2, 3),
    "transposed": lambda: torch.arange(6.0).reshape(2, 3).t(),
    "shape": lambda: torch.arange(6.0),
    "float64": lambda: torch.arange(6.0).double().reshape(2, 3),
    "bfloat16": lambda: torch.arange(6.0).bfloat16().reshape(2, 3),
    "float8": lambda: torch.arange(6.0).to(torch.float8_e4m3fn).reshape(2, 3),
    "bool": lambda: torch.zeros(6, dtype=torch.bool).reshape(2, 3),
    "complex": lambda: torch.arange(6.0).reshape(2, 3) * 1j,
    "conjugated": lambda: (torch.arange(6.0).reshape(2, 3) * 1j).conj(),
    "negative zero": lambda: -torch.zeros(3),
    "zero": lambda: torch.zeros(3),
    "none": lambda: torch.zeros(0),
    "none of 3": lambda: torch.zeros(0, 3),
    "scalar": lambda: torch.tensor(1.0),
    "parameter": lambda: torch.nn.Parameter(torch.ones(2)),
    "array": lambda: np.arange(6.0).reshape(2, 3),
    "array float32": lambda: np.arange(6, dtype="f4").reshape(2, 3),
    "array scalar": lambda: np.array(1.0),
    "array of texts": lambda: np.array(["a", "bc"]),
    "array of dates": lambda: np.array(["2020-01-01"], "M8[D]"),
    "RGB": picture,
    "size": lambda: picture(size=(4, 5)),
    "RGBA": lambda: picture("RGBA"),
    "L": lambda: picture("L"),
    "1": lambda: picture("L").convert("1"),
    "F": lambda: picture("L").convert("F"),
    "I;16": lambda: picture("L").convert("I;16"),
    "CMYK": lambda: picture("CMYK"),
    "palette": lambda: picture().quantize(4),
    "list": lambda: [picture(), picture("L")],
    "list turned": lambda: [picture("L"), picture()],
    "dict": lambda: {"image": picture(), "scale": (0.5, torch.ones(2))},
    "long": lambda: list(range(50_000)),
    "longer": lambda: list(range(50_001)),
    "long bytes": lambda: bytes(100_000),
}
