"""What tells one value from another: any argument as canonical JSON, by which it is recorded and compared.

What JSON can hold comes back as it was given (:func:`original`): numbers, texts, lists and mappings stand for
themselves, and what JSON has no word for is an object with one key that begins with ``$`` (``{"$tuple": [64, 64]}``).
Tensors, arrays and images are recorded by a hash of their content, callbacks by one of their source, and what is too
long to write down by its own: they can be compared, but have to be given again. Anything else is refused: a text such
as ``<Thing at 0x7f...>`` tells nothing.

Two values have the same record, as JSON text, exactly where they are of the same kinds and equal; every NaN is one, and
numbers of numpy are those of Python. Content is compared by its bytes, so -0.0 is not 0.0, whatever the device, the
strides and the byte order.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import inspect
import json
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from noisewright.outside.messages import first_line
from noisewright.schemas.request import CALLBACKS

DEEPEST, MOST = 32, 2**20
"""How deep an argument may be nested, and how many values it may hold."""

LONGEST = 2**16
"""Characters of JSON. What is longer is recorded by its hash: a record is in every image's metadata."""

CONTENT = ("$tensor", "$array", "$image", "$long", "$function")
"""Records that are hashes: of them the value cannot be had back."""

PIECE = 2**26
"""Bytes that are hashed, and brought from another device, at a time."""


def canonical(value: Any, name: str = "a value") -> Any:
    """``value`` as JSON that is the same for equal values, in any process, and for no others.

    Args:
        value: an argument of a pipeline's call, say.
        name: what to call it in a message.

    Raises:
        TypeError: on what cannot be recorded, naming it and its type.
        ValueError: on a container that holds itself, is nested too deep or holds too much, and on damaged images.
    """
    found = _Recorder(name).record(value, 0, frozenset())
    if isinstance(found, str) or len(text := as_text(found)) <= LONGEST:
        return found
    return {"$long": [hashlib.sha256(text.encode()).hexdigest(), type(value).__name__]}


def as_text(recorded: Any) -> str:
    """A record as the one JSON text that it has; for hashes and keys."""
    return json.dumps(recorded, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(*values: Any) -> str:
    """SHA-256, as 64 hex digits, of values that :func:`canonical` takes."""
    return hashlib.sha256(as_text([canonical(one) for one in values]).encode()).hexdigest()


def is_content(recorded: Any) -> bool:
    """Whether a record holds a hash somewhere, so that its value has to be given again."""
    waiting = [recorded]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if any(key in CONTENT for key in one):
                return True
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return False


def original(recorded: Any, name: str = "a value") -> Any:
    """The value of a record.

    Raises:
        ValueError: where the record holds a hash, or is none of :func:`canonical`'s.
    """
    try:
        return _original(recorded)
    except (ValueError, TypeError, AttributeError, RuntimeError, RecursionError, OverflowError, binascii.Error):
        what = "only its hash" if is_content(recorded) else "a damaged record"
        raise ValueError(f"expected the value of {name}, got {what}") from None


def copied(value: Any) -> Any:
    """A value whose tensors, arrays, images and containers are nobody else's."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, (np.ndarray, Image.Image)):
        return value.copy()
    if type(value) is bytearray:
        return bytearray(value)
    if type(value) in (dict, OrderedDict):
        return type(value)((key, copied(one)) for key, one in value.items())
    return type(value)(map(copied, value)) if type(value) in (list, tuple, set) else value


# To JSON


class _Recorder:
    """One call of :func:`canonical`: counts what it has seen, and names the argument in messages."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen = 0

    def record(self, value: Any, depth: int, above: frozenset[int]) -> Any:
        self.seen += 1
        if self.seen > MOST:
            raise ValueError(f"expected at most {MOST} values in {self.name}, got more")
        if value is None or type(value) in (bool, str):
            return value
        if isinstance(value, (np.bool_, np.str_, np.bytes_)):
            return self.record(value.item(), depth, above)
        if type(value) is int or (isinstance(value, np.integer) and not isinstance(value, np.timedelta64)):
            return int(value) if abs(int(value)) < 2**63 else {"$int": hex(value)}
        if type(value) is float or isinstance(value, np.floating):
            return self._float(value)
        content = self._content(value)
        if content is not None:
            return content
        if depth == DEEPEST:
            raise ValueError(f"expected at most {DEEPEST} containers within each other in {self.name}, got more")
        if id(value) in above:
            raise ValueError(f"expected {self.name} without circles, got a {type(value).__name__} that holds itself")
        return self._container(value, partial(self.record, depth=depth + 1, above=above | {id(value)}))

    def _float(self, value: Any) -> Any:
        plain = float(value)
        if math.isfinite(plain) and plain != value:
            self._refuse(value)  # a long double that float64 cannot hold
        return plain if math.isfinite(plain) else {"$float": str(plain)}

    def _content(self, value: Any) -> Any:
        """Of what is neither a plain number or text nor a container; None where it is a container, or unknown."""
        if self.name in CALLBACKS and callable(value):
            return {"$function": _function(value)}
        if type(value) in (bytes, bytearray):
            return {f"${type(value).__name__}": base64.b64encode(value).decode()}
        if type(value) is complex or isinstance(value, (np.complex64, np.complex128)):
            return {"$complex": [self._float(value.real), self._float(value.imag)]}
        if type(value) is range:
            return {"$range": [self.record(one, 0, frozenset()) for one in (value.start, value.stop, value.step)]}
        if isinstance(value, torch.dtype):
            return {"$dtype": str(value).removeprefix("torch.")}
        if isinstance(value, torch.device):
            return {"$device": str(value)}
        if isinstance(value, np.dtype) and value.kind in "biufcSU":
            return {"$numpy_dtype": value.str}
        if type(value) in (Tensor, torch.nn.Parameter):
            return {"$tensor": [self._tensor(value), str(value.dtype).removeprefix("torch."), list(value.shape)]}
        if type(value) in (np.ndarray, np.memmap):
            return self._array(value)
        return self._image(value) if isinstance(value, Image.Image) else None

    def _container(self, value: Any, record: Callable[[Any], Any]) -> Any:
        kind = type(value)
        if kind is list:
            return [record(one) for one in value]
        if kind in (tuple, torch.Size):
            return {"$tuple": [record(one) for one in value]}
        if kind in (set, frozenset):
            return {f"${kind.__name__}": sorted((record(one) for one in value), key=as_text)}
        if kind is OrderedDict:
            return {"$ordered": [[record(key), record(one)] for key, one in value.items()]}
        if kind is not dict:
            self._refuse(value)
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: record(one) for key, one in sorted(value.items())}
        pairs = [[record(key), record(one)] for key, one in value.items()]
        return {"$dict": sorted(pairs, key=lambda pair: as_text(pair[0]))}

    def _tensor(self, value: Tensor) -> str:
        if value.device.type == "meta":
            raise ValueError(f"expected a tensor with values for {self.name}, got one on the meta device")
        if value.layout != torch.strided or value.is_quantized or value.is_nested:
            kind = "nested" if value.is_nested else value.dtype if value.is_quantized else value.layout
            raise TypeError(f"expected a dense tensor for {self.name}, got one that is {kind}")
        found = hashlib.sha256()
        try:
            add_bytes(found, value)
        except (RuntimeError, TypeError, NotImplementedError):  # types of less than a byte
            raise TypeError(f"expected a tensor whose bytes can be read for {self.name}, got {value.dtype}") from None
        return found.hexdigest()

    def _array(self, value: np.ndarray) -> Any:
        kind = value.dtype
        if kind.kind not in "biufcSUMm" or kind.type in (np.longdouble, np.clongdouble):
            raise TypeError(f"expected an array of numbers or texts for {self.name}, got one of {kind}")
        little = value.astype(kind.newbyteorder("<"), copy=False)
        hashed = hashlib.sha256(little.tobytes()).hexdigest()
        return {"$array": [hashed, little.dtype.str, list(value.shape)]}

    def _image(self, value: Image.Image) -> Any:
        if getattr(value, "is_animated", False):
            raise TypeError(f"expected an image of one frame for {self.name}, got one of several: use image.copy()")
        try:
            value.load()
            palette = value.palette.tobytes() if value.mode in ("P", "PA") and value.palette is not None else b""
            mode = value.palette.mode if palette and value.palette is not None else ""
            turned = value.getexif().get(0x0112, 1)  # some processors turn an image by it
            seen = value.info.get("transparency")
            beside = canonical([mode, palette, seen, turned], self.name)
            pixels = value.tobytes()
        except (OSError, SyntaxError, ValueError, TypeError, AttributeError) as error:
            first = first_line(error)
            raise ValueError(f"expected a readable image for {self.name}, got a damaged one: {first}") from None
        found = hashlib.sha256(as_text(beside).encode())
        found.update(pixels)
        return {"$image": [found.hexdigest(), value.mode, list(value.size)]}

    def _refuse(self, value: Any) -> NoReturn:
        raise TypeError(
            f"expected numbers, texts, tensors, arrays, images or containers of them for {self.name}, got a "
            f"{type(value).__name__}"
        )


def _function(value: Any) -> list[Any]:
    """A callback's name, and a hash of its source: of an object, of its class's with the plain values that it holds.

    What it calls, or has in its closure, may change without that.
    """
    alone = inspect.isroutine(value) or inspect.isclass(value)
    named = value if alone else type(value)
    try:
        source = inspect.getsource(named)
    except (OSError, TypeError):  # typed in, or of C
        source = ""
    name = str(getattr(named, "__qualname__", type(named).__name__))
    return [f"{getattr(named, '__module__', None) or ''}.{name}", digest_of(source, {} if alone else _settings(value))]


def _settings(callback: Any) -> dict[str, Any]:
    """The plain values that an object holds, itself or as its config, and the callbacks that it calls."""
    held = {**dict(getattr(callback, "config", None) or {}), **getattr(callback, "__dict__", {})}
    found = {key: one for key, one in held.items() if type(one) in (bool, int, float, str)}
    several = {key: one for key, one in held.items() if isinstance(one, (list, tuple)) and all(map(callable, one))}
    return {**found, **{key: [_function(one) for one in inner] for key, inner in several.items()}}


def add_bytes(digest: Any, tensor: Tensor) -> None:
    """Adds the bytes of a dense tensor's values, row by row, to a digest: piece by piece, from any device.

    Raises:
        RuntimeError: on types of less than a byte.
    """
    flat = bytes_of(tensor)
    for piece in flat.split(PIECE) if len(flat) else ():
        digest.update(piece.cpu().numpy())


def bytes_of(tensor: Tensor) -> Tensor:
    """The bytes of a dense tensor's values, row by row; of a contiguous one without a copy."""
    plain = tensor.detach().resolve_conj().resolve_neg().reshape(-1)
    if plain.is_complex():
        plain = torch.view_as_real(plain).reshape(-1)
    return plain.contiguous().view(torch.uint8)


# And back


def _original(recorded: Any) -> Any:
    if isinstance(recorded, list):
        return [_original(one) for one in recorded]
    if not isinstance(recorded, dict):
        return recorded
    tag = next(iter(recorded)) if len(recorded) == 1 else ""
    if not tag.startswith("$"):
        if any(key.startswith("$") for key in recorded):
            raise ValueError
        return {key: _original(one) for key, one in recorded.items()}
    return _READERS[tag](recorded[tag]) if tag in _READERS else _unknown(tag)


def _unknown(tag: str) -> NoReturn:
    raise ValueError(tag)


def _number(held: Any) -> float:
    if held not in ("nan", "inf", "-inf"):
        raise ValueError(held)
    return float(held)


def _whole(held: Any) -> int:
    if not isinstance(held, str):
        raise TypeError(held)
    return int(held, 16)


def _complex(held: Any) -> complex:
    real, imaginary = (_original(one) for one in held)
    return complex(real, imaginary)


def _torch_dtype(held: Any) -> torch.dtype:
    found = getattr(torch, held)
    if not isinstance(found, torch.dtype):
        raise TypeError(held)
    return found


def _pairs(held: Any) -> list[tuple[Any, Any]]:
    return [(_original(key), _original(one)) for key, one in held]


def _many(held: Any) -> list[Any]:
    if not isinstance(held, list):
        raise TypeError(held)
    return [_original(one) for one in held]


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "$float": _number,
    "$int": _whole,
    "$complex": _complex,
    "$bytes": lambda held: base64.b64decode(held, validate=True),
    "$bytearray": lambda held: bytearray(base64.b64decode(held, validate=True)),
    "$range": lambda held: range(*_many(held)),
    "$dtype": _torch_dtype,
    "$device": lambda held: torch.device(str(held)),
    "$numpy_dtype": lambda held: np.dtype(str(held)),
    "$tuple": lambda held: tuple(_many(held)),
    "$set": lambda held: set(_many(held)),
    "$frozenset": lambda held: frozenset(_many(held)),
    "$ordered": lambda held: OrderedDict(_pairs(held)),
    "$dict": lambda held: dict(_pairs(held)),
}
