"""Addresses of servers, and which of them a key goes to.

A key goes only to the host that it was given for. ``OPENAI_API_KEY`` is given for the server of ``OPENAI_BASE_URL``, or
for OpenAI's own; any other server gets a key only where the option ``key_env=NAME``, typed with its address, names the
variable that holds it. Hosts are compared with scheme and port, and a key is sent over https or to this machine only.
"""

from __future__ import annotations

import os
import re
from ipaddress import IPv6Address
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from noisewright.outside.texts import NAMES, clean, remember_secret
from noisewright.verifiers.retry import is_local

OPENAI_URL = "https://api.openai.com/v1"
KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*\.?|\[(?P<six>[0-9A-Fa-f:.]+)\])(?::(?P<port>\d{{1,5}})?)?")
_SECRET_NAME = re.compile(NAMES, re.IGNORECASE)
_OFTEN_SECRET = re.compile(r"key|token|secret|auth\w*|sig|code|sas|pass", re.IGNORECASE)
_RANDOM = re.compile(r"(?=[^\d]*\d)(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9+/=]{24,}")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


def checked_url(url: str) -> str:
    """``url`` where it is the address of a server that may be written down.

    Raises:
        ValueError: on another scheme, a host that two readers of URLs could understand differently, or a user, a
            password or a key in it, without showing these.
    """
    parts = _split(url)
    if parts is None:
        raise ValueError(f"expected a URL such as http://localhost:8000/score, got {clean(url)!r}")
    if "@" in parts.netloc:
        raise ValueError(
            f"expected a URL without a user or password, which records would keep, got one for {parts.hostname}"
        )
    if not _HOST.fullmatch(parts.netloc):
        raise ValueError(f"expected a host in plain letters (xn--... for others), got {clean(parts.netloc, 80)!r}")
    name = secret_in_query(parts.query)
    if name is not None:
        raise ValueError(
            f"expected a URL without a key, which records would keep, got {clean(name, 40)} in the query for "
            f"{parts.hostname}: name the environment variable that holds it with key_env=NAME, and how it is sent with "
            "key_as"
        )
    return url


def _split(url: str) -> SplitResult | None:
    """The parts of a URL with http or https and a host; None of anything else."""
    if "\\" in url or not url.isprintable() or any(mark.isspace() for mark in url):
        return None
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return None
        if parts.netloc.startswith("["):
            IPv6Address(parts.hostname)
        _ = parts.port
    except ValueError:
        return None
    return parts


def secret_in_query(query: str) -> str | None:
    """The name of a parameter that is, or looks like, a key; None where there is none."""
    for name, value in parse_qsl(query, keep_blank_values=True, separator="&"):
        named = _SECRET_NAME.fullmatch(name) or (_OFTEN_SECRET.fullmatch(name) and len(value) >= 6)
        if value and (named or _RANDOM.search(value) or clean(value, 2000) != " ".join(value.split())):
            return name
    return None


def origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of a URL, to compare; None of what is none, or has a user."""
    parts = _split(url)
    if parts is None or "@" in parts.netloc or not _HOST.fullmatch(parts.netloc):
        return None
    return parts.scheme, str(parts.hostname).lower(), parts.port or (443 if parts.scheme == "https" else 80)


def host_of(url: str) -> str:
    """The host of a URL, for people."""
    parts = _split(url)
    return str(parts.hostname) if parts is not None else clean(url, 80)


def own_server() -> tuple[str, dict[str, str]]:
    """The server that ``OPENAI_API_KEY`` is given for: its address, and what the address asks to send as a query.

    The query stays out of everything that is recorded or printed, since people put keys there.

    Raises:
        ValueError: where ``OPENAI_BASE_URL`` is no address.
    """
    given = (os.environ.get(URL) or OPENAI_URL).strip()
    parts = _split(given)
    query = {} if parts is None else dict(parse_qsl(parts.query))
    for value in query.values():
        remember_secret(value)
    bare = given if parts is None else urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    try:
        return checked_url(bare).rstrip("/"), query
    except ValueError as error:
        raise ValueError(f"{URL}: {error}") from None


def key_for(url: str, key_env: str | None = None) -> str | None:
    """The key that a server gets, or None.

    Args:
        url: of the server.
        key_env: the variable that holds its key, named by who typed the address.

    Raises:
        ValueError: where the named variable holds none, or the key would be sent in the clear.
    """
    if key_env is None:
        own, _ = own_server()
        key = os.environ.get(KEY, "").strip() if origin(url) == origin(own) else ""
        return _checked_key(KEY, key) if key and _is_private(url) else None
    if not _VARIABLE.fullmatch(key_env):
        raise ValueError("expected key_env to be the NAME of an environment variable in capitals, got something else")
    key = os.environ.get(key_env, "").strip()
    if not key:
        raise ValueError(f"expected a key in the environment variable {clean(key_env, 60)}, got none")
    if not _is_private(url):
        raise ValueError(f"expected https for a server that gets a key, got http for {host_of(url)}")
    return _checked_key(key_env, key)


def _is_private(url: str) -> bool:
    """Whether nobody on the way can read what is sent to a server."""
    found = origin(url)
    return found is not None and (found[0] == "https" or is_local(found[1]))


def _checked_key(name: str, key: str) -> str:
    remember_secret(key)
    if not key.isascii() or not key.isprintable():
        raise ValueError(f"expected a key of printable ASCII in {name}, got other characters in it")
    return key
