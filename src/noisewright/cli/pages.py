"""What a page needs, and where that of ``generate --serve`` comes from.

The page's form has ``generate``'s own options, so it stands above it: the entry, above both, says who makes it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from noisewright.request import Request

NEEDED = ("fastapi", "uvicorn", "python_multipart")

Maker = Callable[["Request", Path], AbstractContextManager[Callable[[], None]]]
"""Gives the page of a run, with what stays when the run is over (:func:`noisewright.cli.beside.page_beside`)."""

_makers = list[Maker]()


def check_extra() -> None:
    """Refuse to go on without what a server needs.

    Raises:
        ValueError: in one line, with how to get it.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f'expected the extra web (pip install "noisewright[web]"), got none: {missing[0]} is missing')


def made_by(maker: Maker) -> None:
    """Say who makes the page of a run."""
    _makers[:] = [maker]


def page_of(request: Request, where: Path) -> AbstractContextManager[Callable[[], None]]:
    """The page of a run, by its request and its directory."""
    return _makers[0](request, where)
