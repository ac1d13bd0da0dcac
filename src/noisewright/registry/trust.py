"""What data may name. A person's own words may import a file or call a server; a card or a run directory may not.

Everything that is allowed is listed here; what is not listed is refused, whatever it would do. See docs/security.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisewright import registry
from noisewright.outside.bundled import is_server
from noisewright.outside.hub import cached
from noisewright.outside.inside import leading_out
from noisewright.outside.messages import cut, short
from noisewright.registry.builtins import ENTRIES

PLACES: dict[str, tuple[str, ...]] = {
    "clip": ("model", "processor"), "pickscore": ("model", "processor"), "hps": ("model", "processor"),
    "hps-v2.0": ("model", "processor"), "aesthetic": (), "imagereward": ("model",), "classifier": ("model",),
    "clip-classifier": ("model", "processor"), "self-similarity": ("model",), "shapes-clip": ("model", "processor"),
    "shapes-aesthetic": (), "shapes-reward": ("model",), "shapes-oracle": (), "brightness": (), "sharpness": (),
    "color": (), "compressibility": (), "incompressibility": (), "inception-score": ("model",), "fid": ("model",),
}  # fmt: skip
"""The verifiers of the package that run here, by themselves, and which of their options may be a model's directory."""

PACKAGED = ("aesthetic", "shapes-aesthetic")
"""Verifiers whose model's own settings name a further model, so that only one of the package is certain."""

VALUED = ("color", "compressibility", "incompressibility")
"""Verifiers that take a plain value in a model's place."""

VALUES = ("name", "label", "labels", "output", "template", "version", "batch_size")
"""Options that are plain values."""


class Untrusted(ValueError):
    """Something that data may not name; the message says why."""


def check_verifier(text: Any, *, local: bool) -> None:
    """Refuse a verifier that data names, unless it is one of the package's (or a plug-in's, by its bare name).

    Args:
        text: as :func:`noisewright.registry.make_verifier` takes it.
        local: whether its model may be a directory of safetensors, or a hub id that the hub's cache has, besides one of
            the package.

    Raises:
        Untrusted: what is wrong with it, to be put after its name.
        ValueError: on an unknown name.
    """
    if not isinstance(text, str) or not text.isprintable():
        raise Untrusted("which is no name")
    if registry.from_file(text) is not None:
        raise Untrusted("a file that would be imported")
    name, _, rest = text.partition(":")
    registry.entry("verifier", name)
    if name not in PLACES:
        if any(one.kind == "verifier" and one.name == name for one in ENTRIES):
            raise Untrusted("which asks a server, or whatever it names")
        if rest:
            raise Untrusted("a plug-in with options")
        return
    model, options = registry.model_and_options(rest)
    if model and name not in VALUED:
        options = {"model": model, **options}
    for key, value in options.items():
        if key in VALUES:
            if key == "labels" and value.endswith(".txt"):
                raise Untrusted("whose labels are a file")
        elif key == "device":
            if not local:  # which processor works is nothing that a model decides
                raise Untrusted("which says where it computes")
        elif key == "model" and name in PACKAGED:
            _check_place(key, value, local=False)
        elif key in PLACES[name]:
            _check_place(key, value, local=local)
        else:
            raise Untrusted(f"whose {key} may be a file")


def _check_place(key: str, value: str, *, local: bool) -> None:
    if registry.bundled(value) is not None:
        return
    if not local:
        raise Untrusted(f"whose {key} is none of the package")
    path = Path(value)
    if path.is_dir():
        if not any(path.glob("*.safetensors")):
            raise Untrusted(f"whose {key} is a directory without safetensors weights")
    elif not is_cached(value):
        raise Untrusted(f"whose {key} is neither a directory nor in the hub's cache")


def of_card(info: Mapping[str, Any], key: str, model: Any) -> list[str]:
    """The verifiers or judges that a model's card names, for use where nobody typed any.

    Args:
        info: from :func:`noisewright.registry.card`.
        key: ``verifier`` or ``judge``.
        model: whose card it is, for messages.

    Raises:
        ValueError: in one line, on anything but names of the registry with models of the package.
    """
    named = info.get(key) or []
    found = [named] if isinstance(named, str) else list(named)
    for text in found:
        check_card_name(text, key, model)
    return found


def check_card_name(text: str, key: str, model: Any) -> None:
    """As :func:`of_card`, of one name."""
    try:
        check_verifier(text, local=False)
    except ValueError as error:
        what = f"expected a {key} of noisewright's own in the card of {model}, got {_short(text)}"
        raise ValueError(f"{what}, {error}: type --{key} {_short(text)} if you trust it") from None


def check_run(run: Path, request: Mapping[str, Any]) -> None:
    """Refuse to go on with a run whose directory names what only a person may.

    Without ``--trust`` it may name verifiers as :func:`check_verifier` has them, a model as :func:`check_model` has it,
    and files to read that hold data (a schedule, an image to start from). What is written stays in the directory.

    Args:
        run: the directory.
        request: the fields of a :class:`noisewright.request.Request`, of its run.json, without what was typed just now.

    Raises:
        ValueError: in one line, naming the first such thing.
    """
    for name in leading_out(run):
        raise ValueError(_asking(run, f"keeps {name} outside of it"))
    if request.get("score_cache") is not None:
        kept = _short(request["score_cache"])
        raise ValueError(_asking(run, f"names the directory {kept} to write scores to"))
    for key in ("verifier", "judge"):
        named = request.get(key) or []
        for text in [] if named == ["none"] else named:
            if isinstance(text, Mapping):  # what was given from Python has to be given again
                continue
            try:
                check_verifier(text, local=True)
            except Untrusted as error:
                raise ValueError(_asking(run, f"names the {key} {_short(text)}, {error}")) from None
    where = registry.address_of(str(request.get("executor") or ""))
    if where:  # whoever is there gets the jobs, and what comes back is read as pickles
        raise ValueError(_asking(run, f"names the Ray cluster {_short(where)} to work on"))
    for key in ("model", "config"):
        if request.get(key) is not None:
            _check_named(run, key, request.get(key))


def _check_named(run: Path, key: str, name: Any) -> None:
    try:
        check_model(name)
    except Untrusted as error:
        raise ValueError(_asking(run, f"names the {key} {_short(name)}, {error}")) from None


def check_model(name: Any) -> None:
    """Refuse a model that data names, unless it is in the package, a directory, a file, or in the hub's cache.

    Raises:
        Untrusted: what is wrong with it, to be put after its name.
    """
    if not isinstance(name, str) or not name.isprintable():
        raise Untrusted("which is no name")
    if is_server(name):
        raise Untrusted("which asks a server")
    if registry.is_installed(name) or Path(name).is_dir():
        return
    found = registry.find_model(name)
    if not Path(found).is_file() and not is_cached(found):
        raise Untrusted("which would be downloaded")


def is_cached(name: str) -> bool:
    """Whether the hub's cache has something of a hub id; asks no network."""
    return cached(name) is not None


def _asking(run: Path, what: str) -> str:
    return f"{run} {what}: noisewright resume {run} --trust goes on, if you trust who made it"


def _short(value: Any) -> str:
    """A value as it stands where it is plain text, cut."""
    return cut(value, 120) if isinstance(value, str) and value.isprintable() else short(value, 120)
