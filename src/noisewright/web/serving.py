"""A server, from its start to Ctrl-C."""

from __future__ import annotations

import logging
import threading
import webbrowser
from collections.abc import Callable
from typing import Any

import uvicorn

from noisewright.outside.texts import guard_log
from noisewright.web.app import app
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
    for name in ("uvicorn.error", "uvicorn", "noisewright"):
        guard_log(name)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    made = app(settings)
    made.state.parts.queue.start()  # first, since what keeps it from that is said in one line here
    config = uvicorn.Config(
        made, host=settings.host, port=settings.port, log_config=None, access_log=False, server_header=False,
        date_header=False, timeout_graceful_shutdown=END_SECONDS, h11_max_incomplete_event_size=2**16,
        proxy_headers=False,
    )  # fmt: skip
    server = _Telling(config, lambda: _tell(settings, say, open_page))
    server.run()


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
    """What a person opens; the token stands behind the #, which no browser sends and no log holds."""
    host = "localhost" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - to be opened here
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{settings.port}/" + ("" if settings.token is None else "login")


def _tell(settings: Settings, say: Callable[[str], Any], open_page: bool) -> None:
    where = address(settings)
    what = settings.runs / settings.only if settings.only else settings.runs
    say(f"{what} on {where} (Ctrl-C ends it)")
    if open_page:
        opened = where if settings.token is None else f"{where}#{settings.token}"
        threading.Thread(target=webbrowser.open, args=(opened,), daemon=True).start()
