"""Repositories of the Hugging Face hub: what its cache has of them, why it cannot be asked, what it said in one line.

For models and verifiers alike. huggingface_hub is imported where it is needed: it takes a tenth of a second.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import getproxies

from noisewright.outside.messages import first_line
from noisewright.outside.texts import clean

SECONDS = 5.0
"""For which the hub is waited for before it counts as out of reach: the library itself tries five times."""

SHOWN_FILES = 4
"""Of the files that are missing so many are named."""


def is_hub_id(text: str) -> bool:
    """Whether a text can be a hub id, ``OWNER/NAME``."""
    parts = text.split("/")
    return len(parts) == 2 and all(parts) and not text.startswith((".", "~")) and "\\" not in text


def cached(repository: str, patterns: Sequence[str] | None = None) -> Path | None:
    """The directory that the hub's cache has of a repository, maybe with some of its files only; asks no network.

    The library refuses a directory that lacks any file of the repository, as all do that diffusers fetched: of weights
    it takes one kind. What is needed, and whether it is there, the caller knows.
    """
    from huggingface_hub import snapshot_download

    try:
        given = None if patterns is None else list(patterns)
        return Path(snapshot_download(repository, allow_patterns=given, local_files_only=True))
    except (OSError, ValueError) as error:  # nothing of it is there, or it is no hub id
        place = getattr(error, "snapshot_path", None)
        return Path(place) if isinstance(place, str) and Path(place).is_dir() else None


def out_of_reach() -> str | None:
    """Why the hub cannot be asked, or None where it answers."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    return None if is_reachable(constants.ENDPOINT) else f"{constants.ENDPOINT} cannot be reached"


def is_reachable(endpoint: str) -> bool:
    """Whether a hub answers, so that no one waits half a minute for five attempts; a proxy is taken at its word."""
    found = urlparse(endpoint)
    if found.scheme in getproxies() or "all" in getproxies():
        return True
    try:
        port = found.port or (80 if found.scheme == "http" else 443)
        with socket.create_connection((found.hostname or "", port), timeout=SECONDS):
            return True
    except OSError:
        return False


def not_here(
    repository: str, why: str, missing: Sequence[str] = (), include: Sequence[str] = (), then: str = ""
) -> str:
    """The rest of a line on a repository that is not whole in the cache of a machine that cannot fetch it.

    Args:
        repository: its hub id.
        why: from :func:`out_of_reach`.
        missing: the files that are not there, where some others are.
        include: patterns of what to fetch; by default all of it.
        then: what to type afterwards, with ``DIR`` for the directory.
    """
    more = len(missing) - SHOWN_FILES
    named = ", ".join(missing[:SHOWN_FILES]) + (f" and {more} more" if more > 0 else "")
    lacks = f"the hub's cache lacks {named} of it" if missing else "it is not in the hub's cache"
    patterns = "".join(f" --include {one!r}" for one in include)
    after = f", then {then}" if then else ""
    return f"{lacks} and {why}; where there is a network: hf download {repository}{patterns} --local-dir DIR{after}"


def refusal(repository: str, error: BaseException) -> str:
    """What the hub said of a repository that it did not give, as the rest of a line."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # what kept it from the hub; that it is not in the cache either is known
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        place = f"{constants.ENDPOINT}/{repository}"
        return f"its owner lets only some people in: accept the terms at {place}, then hf auth login (or HF_TOKEN)"
    if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        return "the hub has no such repository, or it is a private one: hf auth login (or HF_TOKEN) opens your own"
    if status in (401, 403):
        return f"the hub refuses it ({status}): hf auth login (or HF_TOKEN) says who you are"
    return f"the hub did not give it: {clean(first_line(error), 160)}"
