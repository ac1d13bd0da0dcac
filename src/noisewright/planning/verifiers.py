"""The verifiers and judges of a run, from names or as they were given, and the scores at which it may stop."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from noisewright import registry
from noisewright.outside.messages import first_line, short
from noisewright.registry import trust
from noisewright.registry.builtins import PREVIEWS
from noisewright.request import NONE, Request
from noisewright.run.verbs import Target
from noisewright.verifiers.cache import all_cached
from noisewright.verifiers.optional import reads_prompt
from noisewright.verifiers.protocol import Verifier, WantsPreviews, as_verifier, let_check


def choose_verifiers(
    request: Request, given: Sequence[Any] | None, judging: Sequence[Any] | None, prompt: str, info: Mapping[str, Any],
    pipe: Any, known: dict[str, Verifier] | None = None,
) -> tuple[list[Verifier], list[Verifier], list[str]]:  # fmt: skip
    """The verifiers and the judges of a request, checked against the prompt and the search.

    Args:
        request: whose names count where nothing is given.
        given: verifiers as names, functions or objects, in place of the request's.
        judging: the same for judges.
        prompt: what they will be asked about.
        info: the model's card, which names those of a request that names none.
        pipe: whose device they work on.
        known: those that were made before, by their names; the new ones are added.

    Returns:
        Verifiers, judges, and a sentence where the card's judge cannot be asked.

    Raises:
        ValueError, TypeError: in one line.
    """
    names: Sequence[Any] | None = request.verifier if given is None else given
    if names is None:
        names = trust.of_card(info, "verifier", getattr(pipe, "name_or_path", "")) or ["clip"]
    known = {} if known is None else known
    if not prompt:
        _check_without_prompt([*names, *((request.judge if judging is None else judging) or [])], pipe)
    verifiers = made_of(names, pipe, known)
    judges, notes = _judges(request.judge if judging is None else judging, verifiers, prompt, info, pipe, known)
    shared = {one.name for one in verifiers} & {one.name for one in judges}
    if shared:
        raise ValueError(f"expected a judge that the search never sees, got {', '.join(sorted(shared))} as both")
    check_verifiers(verifiers, judges, prompt, request.search)
    if request.score_cache is not None:
        every = all_cached([*verifiers, *judges], request.score_cache)
        verifiers, judges = every[: len(verifiers)], every[len(verifiers) :]
    return verifiers, judges, notes


def _check_without_prompt(given: Sequence[Any], pipe: Any) -> None:
    """Refuse, before any of their models is loaded, verifiers by name that read the prompt, of which there is none.

    Raises:
        ValueError: in one line.
    """
    for one in given:
        if isinstance(one, str) and registry.reads_prompt(one):
            raise ValueError(
                f"expected verifiers of images alone, since {type(pipe).__name__} takes no prompt, got "
                f"{registry.score_name(one)}, which reads it: choose --verifier aesthetic, sharpness or a function of "
                "your own"
            )


def made_of(given: Sequence[Any], pipe: Any, known: dict[str, Verifier]) -> list[Verifier]:
    """Verifiers from names, functions and objects; ``known`` are those of names that were made before.

    Raises:
        ValueError, TypeError: in one line, also where two have one name, or one was a function of another process.
    """
    if not given:
        raise ValueError("expected at least one verifier, got an empty list")
    for one in given:
        if isinstance(one, Mapping) and set(one) == {"name", "what"}:
            raise ValueError(f"expected the verifier {one['name']} itself ({one['what']}), got its name alone")
    device = str(getattr(pipe, "device", "cpu"))
    for one in given:
        if isinstance(one, str) and one not in known:
            known[one] = registry.make_verifier(one, device)
    made = [known[one] if isinstance(one, str) else as_verifier(one) for one in given]
    names = [one.name for one in made]
    if len(set(names)) != len(names):
        raise ValueError(f"expected verifiers with distinct names, got {', '.join(names)}")
    return made


def names_of(given: Sequence[Any]) -> list[Any]:
    """Verifiers as a request records them: names as they are, of anything else its name and what it is."""
    return [one if isinstance(one, str) else {"name": as_verifier(one).name, "what": _kind(one)} for one in given]


def _kind(one: Any) -> str:
    """``a function of my_module``, ``a Warmth of my_module``."""
    is_function = inspect.isroutine(one)
    module = getattr(one if is_function else type(one), "__module__", None)
    return f"a {'function' if is_function else type(one).__name__}" + (f" of {module}" if module else "")


def _judges(
    given: Sequence[Any] | None, verifiers: Sequence[Verifier], prompt: str, info: Mapping[str, Any], pipe: Any,
    known: dict[str, Verifier],
) -> tuple[list[Verifier], list[str]]:  # fmt: skip
    """The judges that were asked for, or the first of the card's that is no verifier here and can judge this prompt.

    Returns:
        The judges, and a sentence where the card's cannot be asked.
    """
    if given is not None:
        return [] if not given or list(given) == NONE else made_of(given, pipe, known), []
    named = trust.of_card(info, "judge", getattr(pipe, "name_or_path", ""))
    taken = {one.name for one in verifiers}
    free = [one for one in named if registry.score_name(one) not in taken]
    if not free:
        return [], []
    try:
        judges = made_of(free[:1], pipe, known)
        check_verifiers([], judges, prompt, "random")
    except (ValueError, OSError, ImportError) as error:
        return [], [f"{free[0]} is not asked: {first_line(error)}"]
    return judges, []


def check_verifiers(verifiers: Sequence[Verifier], judges: Sequence[Verifier], prompt: str, search: str) -> None:
    """What verifiers can say before anything is spent of the prompt, and of what the search will show them.

    Raises:
        ValueError: in one line.
    """
    levels = sorted({float(one.preview_sigma) for one in verifiers if isinstance(one, WantsPreviews)})
    if len(levels) > 1:
        raise ValueError(f"expected verifiers that want previews at one level, got {', '.join(map(str, levels))}")
    for one in [*verifiers, *judges]:
        if not prompt and reads_prompt(one):
            raise ValueError(f"expected verifiers of images alone, got {one.name}, which reads the prompt")
        let_check(one, prompt)
        if isinstance(one, WantsPreviews):
            if one in judges:
                raise ValueError(f"expected a judge that scores images alone, got {one.name}, which wants previews")
            if PREVIEWS in registry.entry("search", search).needs:
                raise ValueError(f"expected a verifier that scores images alone for {search}, got {one.name}")


def target_of(given: float | Mapping[str, float] | None, verifiers: Sequence[Verifier]) -> Target:
    """The scores at which a run stops.

    Raises:
        ValueError, TypeError: in one line, on a score of no verifier, or one for all of several.
    """
    names = [one.name for one in verifiers]
    if given is None:
        return Target()
    goals = given if isinstance(given, Mapping) else {names[0]: given}
    for name, value in goals.items():
        if name not in names:
            raise ValueError(registry.unknown("verifier", str(name), names))
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not number or not abs(value) < float("inf"):
            raise (ValueError if number else TypeError)(f"expected a finite target for {name}, got {short(value)}")
    if len(names) > 1 and not isinstance(given, Mapping):
        raise ValueError(
            f"expected a target for each verifier by name ({names[0]}=SCORE), got {given:g}: a rank has no scale"
        )
    return Target({name: float(value) for name, value in goals.items()})
