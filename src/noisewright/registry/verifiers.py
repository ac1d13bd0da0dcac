"""Verifiers by name, or from a file of the person's own."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from noisewright.outside.bundled import bundled
from noisewright.outside.messages import short, unknown
from noisewright.registry import plugins
from noisewright.registry.lookup import entry, load
from noisewright.registry.options import model_and_options, typed
from noisewright.schemas.reading import is_file
from noisewright.verifiers.guarded import Escaped, call, named, raised_at, said

FILE = re.compile(r"(?P<file>.*?\.py):(?P<name>[^,:]*)(?:,(?P<options>.*))?", re.DOTALL)

EVERY = ("name", "timeout")
"""Options that every function and class of a file has."""


@dataclass(frozen=True)
class FromFile:
    """A verifier as ``FILE.py:NAME,option=value`` names it.

    Attributes:
        file: the path as it was typed.
        name: the function's or the class's.
        options: as they were typed.
        stray: what stands before them and is none.
    """

    file: str
    name: str
    options: dict[str, str] = field(default_factory=dict)
    stray: str | None = None

    @property
    def text(self) -> str:
        """As it is typed."""
        stray = [] if self.stray is None else [self.stray]
        options = [f"{key}={value}" for key, value in self.options.items()]
        return ",".join([f"{self.file}:{self.name}", *stray, *options])


def from_file(text: str) -> FromFile | None:
    """The file, name and options of ``FILE.py:NAME,option=value``; None for the name of a registered verifier."""
    found = FILE.fullmatch(text)
    if found is None:
        return None
    stray, options = model_and_options(found["options"] or "")
    return FromFile(found["file"], found["name"], options, stray or None)


def score_name(text: str) -> str:
    """What the scores of a verifier are called, from the text that names it (see :func:`make_verifier`)."""
    file = from_file(text)
    if file is not None:
        return file.options.get("name", file.name)
    name, _, rest = text.partition(":")
    return model_and_options(rest)[1].get("name", name)


def reads_prompt(text: str) -> bool:
    """Whether a registered verifier says by its class that it reads the prompt; False where nothing says it.

    Raises:
        ValueError: on an unknown name.
    """
    if from_file(text) is not None or text in ("", "none"):
        return False
    from noisewright.verifiers.optional import reads_prompt as says_that_it_reads

    return says_that_it_reads(load(entry("verifier", text.partition(":")[0])))


def _loading(a_model: bool) -> AbstractContextManager[None]:
    """What a verifier is made in: where a model is loaded, the libraries show no bars of their own."""
    if not a_model:
        return nullcontext()
    from noisewright.samplers.quiet import quiet

    return quiet()


def make_verifier(text: str, device: str = "cpu") -> Any:
    """A verifier from ``NAME``, ``NAME:MODEL`` or ``FILE.py:NAME``, each with ``OPTION=VALUE``s after commas.

    ``FILE.py:NAME`` is a function ``(images, prompt) -> scores``, whose further keywords are its options; a class,
    which is made with its options, once, and then called so; or an object. ``timeout=SECONDS`` is an option of all of
    them (:func:`noisewright.verifiers.timeout.with_timeout`); servers take it for themselves. ``device=NAME`` is one of
    those with a network, in place of the model's.

    Raises:
        ValueError: on an unknown name or option, a file or function that is not there, or a model that does not load.
    """
    file = from_file(text)
    if file is not None:
        return _of_file(file, device)
    name, _, rest = text.partition(":")
    one = entry("verifier", name)
    made = load(one)
    accepted = inspect.signature(made).parameters
    model, given = model_and_options(rest, accepted)
    _check_name(given)
    timeout = None if "timeout" in accepted else given.pop("timeout", None)
    place = given.pop("device", None) if "device" in accepted else None
    if place is not None:
        from noisewright.samplers.device import check_device  # which imports torch

        check_device(place)
    valid = [key for key in accepted if key not in ("model", "device")]
    options: dict[str, Any] = {**one.options, **typed(f"verifier {name}", made, given, valid)}
    if model:
        if "model" not in accepted:
            raise ValueError(f"verifier {name} takes no model, got {short(text)}")
        options["model"] = model
    if "model" in options:
        options["model"] = bundled(options["model"]) or options["model"]
    if "name" in accepted:
        options.setdefault("name", name)
    if "device" in accepted:
        options["device"] = place or device
    who = plugins.origin(one)
    try:
        with _loading("model" in accepted):
            found = call(made, **options)
    except Escaped as error:
        raise ValueError(f"verifier {name} raised {named(error)}: {said(error)}") from error
    except Exception as error:
        if who is None:
            raise
        raise ValueError(f"{who}: verifier {name} raised {named(error)}: {said(error)}") from error
    return _timed(_checked(found, who, name), timeout)


def _check_name(options: Mapping[str, str]) -> None:
    from noisewright.verifiers.protocol import check_name

    if "name" in options:
        check_name(options["name"])


def _checked(found: Any, who: str | None, name: str) -> Any:
    """What a plug-in's entry gave, which must be a verifier."""
    from noisewright.verifiers.protocol import as_verifier

    try:
        return as_verifier(found) if who is not None else found
    except TypeError as error:
        raise ValueError(f"{who}: verifier {name}: {error}") from None


def _timed(verifier: Any, timeout: str | None) -> Any:
    """The verifier, with a deadline where one was typed."""
    if timeout is None:
        return verifier
    from noisewright.verifiers.timeout import with_timeout

    return with_timeout(verifier, timeout)  # type: ignore[arg-type]  # which reads numbers


# Files


def _of_file(one: FromFile, device: str) -> Any:
    from noisewright.verifiers.protocol import FunctionVerifier, as_verifier

    if one.stray is not None:
        raise ValueError(f"expected {one.name},OPTION=VALUE as options of a verifier, got {short(one.stray)}")
    _check_name(one.options)
    found = _attribute(one)
    given = {key: value for key, value in one.options.items() if key != "timeout"}
    if inspect.isclass(found):
        verifier = _made(one, found, given, device)
    elif inspect.isroutine(found):
        options = _options(one, found, given, skip=2)
        name = options.pop("name", None)
        verifier = FunctionVerifier(found, name, options=options)
    elif given:
        raise ValueError(unknown(f"option of the object {one.name}", next(iter(given)), ["timeout"]))
    else:
        verifier = as_verifier(found)
    return _timed(verifier, one.options.get("timeout"))


def _made(one: FromFile, kind: type, given: Mapping[str, str], device: str) -> Any:
    """An object of a class of a file, made with its options."""
    from noisewright.verifiers.protocol import FunctionVerifier, Verifier, as_verifier

    accepted = inspect.signature(kind).parameters
    options = _options(one, kind, given)
    name = options.get("name") if "name" in accepted else options.pop("name", None)
    try:
        made = call(kind, **options, **({"device": device} if "device" in accepted else {}))
    except Exception as error:
        where = raised_at(error, one.file)
        raise ValueError(f"verifier {one.name} raised {named(error)}: {said(error)}{where}") from error
    if not callable(made):
        raise ValueError(f"expected a class with __call__(self, images, prompt) as {one.name} of {one.file}, got none")
    if not isinstance(made, Verifier):
        return FunctionVerifier(made, name or one.name, options=options, source=_source(one, kind))
    if isinstance(vars(kind).get("fingerprint"), str) and options and "fingerprint" not in vars(made):
        made.fingerprint = f"{made.fingerprint}-{_digest(options)}"  # one text for all options says nothing of them
    if name is not None and made.name != name:
        try:
            made.name = name
        except AttributeError:
            own = f"verifier {one.name}, which keeps its own"
            raise ValueError(f"expected no name for {own}, got {short(name)}") from None
    return as_verifier(made)


def _options(one: FromFile, made: Any, given: Mapping[str, str], skip: int = 0) -> dict[str, Any]:
    """The options of a function or class of a file; ``skip`` parameters are what it is called with."""
    try:
        parameters = list(inspect.signature(made).parameters.values())[skip:]
    except (ValueError, TypeError):  # written in C
        parameters = []
    named_ones = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "device"]
    own = [p.name for p in named_ones if p.name not in EVERY]
    found = typed(f"verifier {one.name}", made, given, [*own, *EVERY])
    for p in named_ones:
        if p.default is p.empty and p.name not in found:
            raise ValueError(f"expected option {p.name} of verifier {one.name} ({one.name},{p.name}=VALUE), got none")
    return found


def _attribute(one: FromFile) -> Any:
    """What a file has under a name; the file is run."""
    path = Path(one.file)
    if not is_file(path):
        raise ValueError(f"expected a verifier as FILE.py:FUNCTION, got {short(one.text)}: no such file")
    spec = importlib.util.spec_from_file_location(_module_name(path), path)
    if spec is None or spec.loader is None:
        raise ValueError(f"expected a Python file, got {one.file!r}")
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses, pickle and inspect look for it
    try:
        call(spec.loader.exec_module, module)
    except Exception as error:
        sys.modules.pop(spec.name, None)
        where = raised_at(error, one.file)
        raise ValueError(
            f"verifier file {one.file} could not be read: {named(error)}: {said(error)}{where}"
        ) from error
    if not hasattr(module, one.name):
        valid = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ValueError(unknown("function", one.name, valid))
    found = getattr(module, one.name)
    if not callable(found):
        raise ValueError(f"expected a function or a class as {one.name} of {one.file}, got {short(found)}")
    return found


def _module_name(path: Path) -> str:
    """What a file's module is called: like no other file's of the same name, and like no library."""
    whole = str(path.resolve())
    return f"{path.stem}_{hashlib.sha256(whole.encode(errors='surrogateescape')).hexdigest()[:8]}"


def _source(one: FromFile, kind: type) -> str:
    """The source of a class: of its definition in the file, else as Python finds it, else the whole file."""
    text = Path(one.file).read_text(encoding="utf-8", errors="replace")
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
            return ast.get_source_segment(text, node) or text
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return text


def _digest(options: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(options), sort_keys=True, default=repr).encode()).hexdigest()[:8]
