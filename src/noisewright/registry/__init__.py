"""Names to things: the built-ins, and whatever installed packages add under ``noisewright.plugins``.

A plug-in package declares an entry point of that group that loads to a list of :class:`~.Entry`.
Nothing heavy is imported until a thing is chosen.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import logging
import re
import sys
from collections.abc import Collection, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_args, get_type_hints

from noisewright.registry.builtins import ENTRIES, Entry
from noisewright.schemas.reading import exists, is_directory, is_file, short
from noisewright.verifiers.guarded import Escaped, call, named, said

log = logging.getLogger("noisewright")
MODELS = Path(__file__).parents[1] / "models"


@cache
def entries() -> tuple[Entry, ...]:
    """All entries, built-ins first."""
    found = list(ENTRIES)
    for point in entry_points(group="noisewright.plugins"):
        try:
            found.extend(call(point.load))
        except Exception as error:  # one broken plug-in must not take the others away
            log.warning("plug-in %s could not be loaded: %s: %s", point.name, named(error), said(error))
    return tuple(found)


def names(kind: str) -> list[str]:
    return [entry.name for entry in entries() if entry.kind == kind]


def entry(kind: str, name: str) -> Entry:
    """The entry of a name.

    Raises:
        ValueError: naming the nearest valid name.
    """
    for one in entries():
        if one.kind == kind and one.name == name:
            return one
    raise ValueError(unknown(kind, name, names(kind)))


def unknown(kind: str, name: str, valid: list[str]) -> str:
    """One line: what was expected, what was got, the nearest valid name."""
    near = difflib.get_close_matches(name[:100], valid, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"unknown {kind} {short(name)}: expected one of {', '.join(valid)}{hint}"


def load(one: Entry) -> Any:
    """Import what an entry names."""
    module, _, attribute = one.target.partition(":")
    return getattr(call(importlib.import_module, module), attribute)


def make_search(name: str) -> Any:
    """The search function of a name."""
    return load(entry("search", name))


def search_arguments(name: str) -> dict[str, Any]:
    """A search's own arguments with their defaults."""
    parameters = list(inspect.signature(make_search(name)).parameters.values())[1:]
    return {p.name: None if p.default is p.empty else p.default for p in parameters}


def check_arguments(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A search's arguments, typed as its signature says and completed with its defaults.

    Raises:
        ValueError: on an unknown name (with the nearest), or a value of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    from noisewright.schemas.checked import PLAIN, checked

    found = search_arguments(name)
    hints = get_type_hints(make_search(name)) if given else {}
    for key, value in given.items():
        if key not in found:
            raise ValueError(unknown(f"argument of {name}", key, list(found) or ["none"]))
        hint = hints.get(key, Any)
        try:
            found[key] = TypeAdapter(hint).validate_python(_read(value, hint) if isinstance(value, str) else value)
        except ValidationError as error:
            told = error.errors(include_url=False)[0]["msg"]
            raise ValueError(f"argument {key} of {name}: {told}, got {short(value)}") from None
        if isinstance(value, bool) and not isinstance(found[key], bool):
            raise ValueError(f"argument {key} of {name}: expected a number, got {value}")
        checked(PLAIN, found[key], f"argument {key} of {name}")
    return found


def _read(text: str, hint: Any) -> Any:
    """A search's argument as typed: numbers with commas for a tuple, an image for the lineage of its recipe."""
    kinds = [getattr(one, "__origin__", one) for one in (hint, *get_args(hint))]
    if tuple in kinds:
        return [part.strip() for part in text.split(",") if part.strip()]
    if list in kinds:
        from noisewright.images.metadata import read_recipe

        if not Path(text).is_file():  # nor a pipe, which would be waited for
            raise ValueError(f"expected an image file, got {text}, which does not exist")
        return read_recipe(Path(text))[1]["lineage"]
    return None if text.lower() == "none" and type(None) in kinds else text


def make_verifier(text: str, device: str = "cpu") -> Any:
    """A verifier from ``NAME``, ``NAME:MODEL``, either with ``OPTION=VALUE``s after a comma, or ``FILE.py:FUNCTION``.

    ``timeout=SECONDS`` is an option of all of them, also of functions (``FILE.py:FUNCTION,timeout=5``): see
    :func:`noisewright.verifiers.timeout.with_timeout`. Servers take it for themselves.

    Raises:
        ValueError: on an unknown name or option, a file or function that is not there, or a model that does not load.
    """
    if ".py:" in text:
        return _from_file(text)
    name, _, rest = text.partition(":")
    one = entry("verifier", name)
    made = load(one)
    accepted = inspect.signature(made).parameters
    model, given = model_and_options(rest, accepted)
    timeout = None if "timeout" in accepted else given.pop("timeout", None)
    options: dict[str, Any] = {**one.options, **_typed(name, made, given)}
    if model:
        if "model" not in accepted:
            raise ValueError(f"verifier {name} takes no model, got {short(text)}")
        options["model"] = model
    if "model" in options:
        options["model"] = bundled(options["model"]) or options["model"]
    if "name" in accepted:
        options.setdefault("name", name)
    if "device" in accepted:
        options["device"] = device
    try:
        return _timed(call(made, **options), timeout)
    except Escaped as error:
        raise ValueError(f"verifier {name} raised {named(error)}: {said(error)}") from error


def _timed(verifier: Any, timeout: str | None) -> Any:
    """The verifier, with a deadline where one was typed."""
    if timeout is None:
        return verifier
    from noisewright.verifiers.timeout import with_timeout

    return with_timeout(verifier, timeout)  # type: ignore[arg-type]  # which reads numbers


def score_name(text: str) -> str:
    """What the scores of a verifier are called, from the text that names it (see :func:`make_verifier`)."""
    if ".py:" in text:
        return text.rpartition(":")[2].partition(",")[0]
    name, _, rest = text.partition(":")
    return model_and_options(rest)[1].get("name", name)


def model_and_options(text: str, known: Collection[str] = ()) -> tuple[str, dict[str, str]]:
    """``MODEL,key=value,other=a,b`` as model and options; a comma that no ``key=`` follows is the value's.

    After the ``?`` of a URL only a ``known`` key begins an option, since its query may hold ``a=1,b=2``.
    """
    before, mark, _ = text.partition("?")
    query = len(before) if mark and "//" in before else len(text)
    keys = [one for one in re.finditer(r"(?:^|,)([a-z_]+)=", text) if one.start() < query or one[1] in known]
    ends = [one.start() for one in keys] + [len(text)]
    return text[: ends[0]], {one[1]: text[one.end() : end] for one, end in zip(keys, ends[1:], strict=True)}


def _typed(name: str, made: Any, given: Mapping[str, str]) -> dict[str, Any]:
    """A verifier's options as its signature has them.

    Raises:
        ValueError: on an unknown name (with the nearest), or a value of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    valid = [key for key in inspect.signature(made).parameters if key not in ("model", "device")]
    hints = get_type_hints(made.__init__ if inspect.isclass(made) else made) if given else {}
    found: dict[str, Any] = {}
    for key, value in given.items():
        if key not in valid:
            raise ValueError(unknown(f"option of verifier {name}", key, valid or ["none"]))
        try:
            found[key] = TypeAdapter(hints.get(key, Any)).validate_python(value)
        except ValidationError as error:
            told = error.errors(include_url=False)[0]["msg"]
            raise ValueError(f"option {key} of verifier {name}: {told}, got {short(value)}") from None
    return found


def _from_file(text: str) -> Any:
    from noisewright.verifiers.protocol import as_verifier

    file, _, rest = text.rpartition(":")
    function, given = model_and_options(rest)
    for key in given:
        if key != "timeout":
            raise ValueError(unknown(f"option of verifier {function}", key, ["timeout"]))
    path = Path(file)
    if not is_file(path):
        raise ValueError(f"expected a verifier as FILE.py:FUNCTION, got {short(text)}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"expected a Python file, got {file!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    try:
        call(spec.loader.exec_module, module)
    except Exception as error:
        raise ValueError(f"verifier file {file} could not be read: {named(error)}: {said(error)}") from error
    if not hasattr(module, function):
        valid = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ValueError(unknown("function", function, valid))
    return _timed(as_verifier(getattr(module, function)), given.get("timeout"))


def make_solver(name: str | None, eta: float | None = None) -> Any:
    """A solver, or None for the pipeline's own.

    Raises:
        ValueError: on an unknown name, or an eta for a solver that has none.
    """
    if name is None or name == "pipeline":
        if eta:
            raise ValueError(f"eta = {eta} needs --solver ddim, got the pipeline's own")
        return None
    one = entry("solver", name)
    options: dict[str, Any] = dict(one.options)
    made = load(one)
    if eta is not None:
        if "eta" not in inspect.signature(made).parameters:
            able = [other.name for other in entries() if other.kind == "solver" and other.details.get("eta") == "0..1"]
            raise ValueError(f"expected no eta for solver {name}, which has none (of {', '.join(able)}), got {eta:g}")
        options["eta"] = eta
    return made(**options)


def schedule_from(text: str, sampler: Any, force: bool = False) -> tuple[Any, str | None]:
    """What ``--schedule`` names: a rule's name, or the levels of a schedule file.

    Args:
        text: a name from ``list schedules``, or a file that ``noisewright schedule fit`` wrote.
        sampler: of the model that will visit the levels.
        force: take a file that was made for another model.

    Returns:
        A name, which :class:`noisewright.samplers.pipeline.PipelineSampler` turns into levels for any number of steps,
        and None; or the :class:`~.Schedule` of a file, and the solver that it was made for.

    Raises:
        ValueError: on an unknown name, or a file that was made for another model, unless by force.
    """
    if not is_file(text):
        return entry("schedule", text).name, None
    from noisewright.trajectory.files import load_for, read_schedule_file

    return load_for(text, sampler, force), read_schedule_file(text).solver


def bundled(name: str) -> Path | None:
    """The directory of a bundled model such as ``noisewright/shapes``, or None."""
    owner, _, rest = str(name).partition("/")
    path = MODELS / rest
    plain = re.fullmatch(r"\w[\w.-]*", rest) is not None  # no "..", no further folder
    return path if owner == "noisewright" and plain and is_directory(path) else None


OTHERWISE = " (or a pipeline directory, FILE.safetensors, or a hub id OWNER/NAME)"


def find_model(name: str) -> str:
    """What to load for ``--model``: a bundled directory, a directory, a single file, or a hub id as it is.

    Raises:
        ValueError: on a name that can be none of these.
    """
    path = bundled(name)
    if path is not None:
        return str(path)
    if is_directory(name):
        return name
    if exists(name) or Path(name).suffix.lower() in (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf"):
        return name  # a single file, which is looked at where it is loaded
    parts = name.split("/")
    if len(parts) != 2 or not all(parts) or parts[0] in ("noisewright", ".", "..") or name.startswith(("/", ".", "~")):
        raise ValueError(unknown("model", name, names("model")) + OTHERWISE)
    return name


def find_file(name: str | Path) -> Path:
    """A file or directory as it is, or one of a bundled model: ``noisewright/NAME/FILE``."""
    owner, _, rest = str(name).partition("/")
    inside = MODELS / rest
    return inside if owner == "noisewright" and is_file(inside) and not exists(name) else Path(name)


def card(directory: str | Path | None) -> dict[str, Any]:
    """``noisewright.json`` beside a model's ``model_index.json``, checked (:mod:`~.card`); {} without one."""
    from noisewright.registry.model_card import read_card

    return read_card(directory)
