"""``noisewright serve``: the page over run directories."""

from __future__ import annotations

import importlib.util
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noisewright.cli import output
from noisewright.outside.messages import short

if TYPE_CHECKING:
    from noisewright.web.settings import Settings

PORT = 8188
TOKEN = "NOISEWRIGHT_TOKEN"  # noqa: S105 - the name of a variable
NEEDED = ("fastapi", "uvicorn")


def serve(
    runs: Annotated[
        Path, typer.Argument(metavar="RUNS_DIR", help="Whose runs are shown, or one run alone.")
    ] = Path("runs"),
    host: Annotated[str, typer.Option(help="The address to listen on; others than this machine's need --token.",
                                      metavar="ADDRESS")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help=f"By default {PORT}, or the next that is free.", min=1, max=65535, metavar="N")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model that runs may be started with; may be repeated. By default the bundled ones.",
                     metavar="ID|DIR|FILE"),
    ] = None,
    verifier: Annotated[
        list[str] | None,
        typer.Option(help="A verifier that runs may be started with; may be repeated. By default those that are here.",
                     metavar="NAME"),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(help=f"A password of the page and the API, {TOKEN} in the environment too.", metavar="TEXT",
                     envvar=TOKEN, show_envvar=False),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Show runs on a page: look, choose, go on.

    Nothing but this machine can ask it, unless --host and --token say otherwise.
    """  # fmt: skip
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f'expected the extra web (pip install "noisewright[web]"), got none: {missing[0]} is missing')
    settings = _settings(runs, host, port, model, verifier, token)
    from noisewright.web.serving import serve as run_server

    run_server(settings, _print_at_once, open_page)


def _print_at_once(text: str) -> None:
    """Whoever started the server from a program reads its address while it goes on."""
    output.print_line(text)
    output.stream().flush()


def _settings(
    runs: Path, host: str, port: int | None, model: list[str] | None, verifier: list[str] | None, token: str | None
) -> Settings:
    """What the options say, checked."""
    from noisewright.outside.texts import remember_secret
    from noisewright.run.reading import is_run
    from noisewright.web.allowed import models, verifiers
    from noisewright.web.settings import Settings, check_settings

    if not runs.exists() and runs == Path("runs"):
        runs.mkdir()
    if not runs.is_dir():
        raise ValueError(f"expected a directory of runs, got {short(str(runs))}, which is none")
    place = runs.resolve()
    only = place.name if is_run(place) else None
    from noisewright.samplers.contents import cache_file

    remember_secret(token)
    settings = Settings(
        runs=place.parent if only else place, only=only, host=host, port=port or PORT, token=token or None,
        models=models(model), verifiers=verifiers(verifier), cache=cache_file().parent / "pictures",
    )  # fmt: skip
    check_settings(settings)
    from dataclasses import replace

    return replace(settings, port=_free(host, port))


def _free(host: str, port: int | None) -> int:
    """The port that was typed, or the first of a few that nobody has.

    Raises:
        ValueError: in one line, where there is none.
    """
    for one in (port,) if port else (*range(PORT, PORT + 20), 0):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind((host, one))
                found: Any = tried.getsockname()
                return int(found[1])
        except OSError as error:
            said = error.strerror or str(error)
    raise ValueError(f"expected an address that can be listened on, got {host}:{port or PORT}: {os.fsdecode(said)}")
