"""``noisewright serve``: the page over run directories."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noisewright.cli import options, output
from noisewright.cli.pages import check_extra
from noisewright.cli.requests import AUTO, check_device
from noisewright.outside.messages import short

if TYPE_CHECKING:
    from noisewright.web.settings import Settings

PORT = 8188
TOKEN = "NOISEWRIGHT_TOKEN"  # noqa: S105 - the name of a variable


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
    quality: Annotated[
        list[str] | None,
        typer.Option(help="Images of a search by quality of /v1/images/generations; may be repeated. By default "
                     "low=1, medium=8 and high=32.", metavar="NAME=IMAGES"),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A name that a proxy in front of it answers to, by http or https; may be repeated. Needs "
                     "--token.", metavar="NAME"),
    ] = None,
    device: options.Device = None,
    dtype: options.DtypeOrAuto = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(help="The most that a run or a request may ask for: images, seconds, steps, side (pixels), n (of "
                     "an answer), and how many wait in the queue; may be repeated.", metavar="NAME=VALUE"),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Show runs on a page: look, choose, go on. And make images for clients of OpenAI's API, under /v1.

    Nothing but this machine can ask it, unless --host and --token say otherwise.
    """  # fmt: skip
    check_extra()
    settings = _settings(
        runs, host, port, model, verifier, token, quality, allow_host=allow_host, device=device, dtype=dtype,
        limit=limit,
    )  # fmt: skip
    from noisewright.web.serving import serve as run_server

    run_server(settings, _print_at_once, open_page)


def _print_at_once(text: str) -> None:
    """Whoever started the server from a program reads its address while it goes on."""
    output.print_line(text)
    output.stream().flush()


def _settings(
    runs: Path, host: str, port: int | None, model: list[str] | None, verifier: list[str] | None, token: str | None,
    quality: list[str] | None, *, allow_host: list[str] | None, device: str | None, dtype: str | None,
    limit: list[str] | None,
) -> Settings:  # fmt: skip
    """What the options say, checked."""
    from noisewright.outside.texts import remember_secret
    from noisewright.run.reading import is_run
    from noisewright.web.allowed import MOST_TIER, limited, limits, models, tiers, verifiers
    from noisewright.web.settings import Settings, check_settings

    if not runs.exists() and runs == Path("runs"):
        runs.mkdir()
    if not runs.is_dir():
        raise ValueError(f"expected a directory of runs, got {short(str(runs))}, which is none")
    place = runs.resolve()
    only = place.name if is_run(place) else None
    from noisewright.samplers.contents import cache_file

    check_device(device, dtype, AUTO)
    remember_secret(token)
    typed = limits(limit)
    settings = Settings(
        runs=place.parent if only else place, only=only, host=host, port=port or PORT, token=token or None,
        models=models(model), verifiers=verifiers(verifier), cache=cache_file().parent / "pictures",
        tiers=tiers(quality, typed.get("images", MOST_TIER)), preload=bool(model), hosts=tuple(allow_host or ()),
        typed=typed, limits=limited(typed), device=device, dtype=dtype,
    )  # fmt: skip
    check_settings(settings)
    from dataclasses import replace

    return replace(settings, port=_free(host, port))


def settings_beside(run: Path, model: str, verifiers: Sequence[str]) -> Settings:
    """Of a server of one run that this process makes: on this machine alone, on the next port that is free.

    Args:
        run: its directory.
        model: that it is made with.
        verifiers: that were typed.
    """
    from noisewright.outside.texts import remember_secret
    from noisewright.samplers.contents import cache_file
    from noisewright.web import allowed
    from noisewright.web.settings import Settings, check_settings

    token = os.environ.get(TOKEN) or None
    remember_secret(token)
    place = run.resolve()
    settings = Settings(
        runs=place.parent, only=place.name, port=_free("127.0.0.1", None), token=token,
        models=tuple(dict.fromkeys((model, *allowed.models(None)))),
        verifiers=tuple(dict.fromkeys((*verifiers, *allowed.verifiers(None)))),
        cache=cache_file().parent / "pictures", beside=True,
    )  # fmt: skip
    check_settings(settings)
    return settings


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
