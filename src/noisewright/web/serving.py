"""A server, from its start to Ctrl-C."""

from __future__ import annotations

import logging
import os
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import uvicorn

from noisewright.errors import RunMismatch
from noisewright.outside.texts import guard_log
from noisewright.run.reading import is_run
from noisewright.web.app import app
from noisewright.web.guard import Codes
from noisewright.web.settings import Settings

END_SECONDS = 3
"""How long pages that are open are waited for."""


def serve(settings: Settings, say: Callable[[str], Any], open_page: bool = False) -> None:
    """Answer until the process is told to end.

    Args:
        settings: what its start says.
        say: told of the address, once it answers.
        open_page: whether to open it in a browser.
    """
    made = app(settings)
    made.state.parts.queue.start()  # first, since what keeps it from that is said in one line here
    server = _Telling(_config(made, settings), lambda: _tell(settings, say, open_page, made.state.codes))
    server.run()


def _config(made: Any, settings: Settings) -> uvicorn.Config:
    for name in ("uvicorn.error", "uvicorn", "noisewright"):
        guard_log(name)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    return uvicorn.Config(
        made, host=settings.host, port=settings.port, log_config=None, access_log=False, server_header=False,
        date_header=False, timeout_graceful_shutdown=END_SECONDS, h11_max_incomplete_event_size=2**16,
        proxy_headers=False,
    )  # fmt: skip


class Beside:
    """A server beside the run that this process makes, in a thread.

    Args:
        settings: of a server of that run alone.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._app = app(settings)
        self._server = _Telling(_config(self._app, settings), lambda: None)
        self._thread = threading.Thread(target=self._server.run, name="page", daemon=True)
        self._over = threading.Event()

    @property
    def address(self) -> str:
        """Of the run's page."""
        return f"{address(self._settings).removesuffix('login')}run?name={quote(str(self._settings.only))}"

    def start(self) -> None:
        """Begin to answer, and open the page in a browser when the run is there to be seen.

        Raises:
            ValueError: in one line, where nobody can listen on its address.
        """
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise ValueError(f"expected an address that can be listened on, got {address(self._settings)}")
            self._over.wait(0.02)
        threading.Thread(target=self._open, daemon=True).start()

    def _open(self) -> None:
        while not is_run(self._settings.runs / str(self._settings.only)):
            if self._over.wait(0.1):
                return
        asks = self._settings.token is not None
        open_in_browser(f"{address(self._settings)}#{self._app.state.codes.new()}" if asks else self.address)

    def go_on(self) -> None:
        """Take jobs: the run is over, and so is its model's time in memory."""
        with suppress(RunMismatch):  # another server has them, which the page says to who asks
            self._app.state.parts.queue.start()

    def close(self) -> None:
        """End, jobs that were begun as well."""
        self._over.set()
        self._server.should_exit = True
        self._thread.join()


def open_in_browser(where: str) -> None:
    """Open an address in a browser with windows of its own; one in this terminal would take it away from us."""
    try:
        found = webbrowser.get()
    except webbrowser.Error:
        return
    if type(found) is not webbrowser.GenericBrowser or "BROWSER" in os.environ:
        found.open(where)


class _Telling(uvicorn.Server):
    """A server that says when it answers."""

    def __init__(self, config: uvicorn.Config, tell: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell_once = tell

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell_once()


def address(settings: Settings) -> str:
    """What a person opens; behind a # may stand a word for once, which no browser sends and no log holds."""
    host = "localhost" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - to be opened here
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{settings.port}/" + ("" if settings.token is None else "login")


def _tell(settings: Settings, say: Callable[[str], Any], open_page: bool, codes: Codes) -> None:
    where = address(settings)
    what = settings.runs / settings.only if settings.only else settings.runs
    say(f"{what} on {where} (Ctrl-C ends it)")
    if open_page:
        opened = where if settings.token is None else f"{where}#{codes.new()}"
        threading.Thread(target=open_in_browser, args=(opened,), daemon=True).start()
