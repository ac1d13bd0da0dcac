"""Texts from outside (servers, libraries, files, other people's runs), made fit to be printed, logged or kept.

Whatever a server or a library says may hold the key that it was sent, or codes that a terminal obeys. :func:`clean` is
the one door: an answer in an error, a header, an exception, a name that a file gives. Imports nothing heavy.
"""

from __future__ import annotations

import base64
import html
import logging
import os
import re
import threading
import unicodedata
from binascii import Error as NotBase64
from collections.abc import Callable, Iterator
from functools import lru_cache
from textwrap import indent
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

STRUCK = "***"
"""What stands where a secret was."""

LONGEST = 2**14
"""Characters of a text that are looked at; what comes after them is never shown."""

MOST_BITS = 63
"""Of a whole number that is kept, as journals hold them."""

MARGIN = 512
"""Of a text longer than :data:`LONGEST`, characters at its end that go too, since a key may be cut in two there."""

SHORTEST = 8
"""Characters of a key that is struck out wherever it stands; a shorter one that was registered, as a word only."""

OUR_KEYS = ("OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Variables of the environment whose values are keys however short they are."""

PLACEHOLDERS = frozenset({"none", "null", "empty", "dummy", "test", "fake", "true", "false", "token", "secret"})
"""Given where a client insists on a key: words, which are not struck out."""

KEY_NAME = re.compile(
    r"(?:^|_)(?:API_?KEY|ACCESS_?KEY|SECRET_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|PAT)$", re.IGNORECASE
)
URL_NAME = re.compile(r"(?:^|_)(?:URL|URI|PROXY|ENDPOINT|BASE|DSN)$", re.IGNORECASE)

registered: set[str] = set()
_lock = threading.Lock()


def clean(text: object, most: int = 300, *, lines: bool = False) -> str:
    """One harmless line of a text from outside.

    Struck out are keys in use (see :func:`secrets`; whole, in part, percent-encoded, in base64 or hexadecimal), the
    values of headers and parameters that carry keys, users and passwords in URLs, query strings, and whatever looks
    like a key of a well-known service. Control characters, terminal sequences and invisible characters are removed.

    Args:
        text: a text, bytes, an exception, or anything with a ``str``; none of them makes it raise.
        most: characters of the result.
        lines: keep line breaks and indents (of a traceback, say).
    """
    found = _text_of(text)
    whole = len(found) <= LONGEST
    found = _visible(found[:LONGEST])
    found = _without_keys(found)
    for pattern, put in _PATTERNS:
        found = pattern.sub(put, found)
    if not whole:
        found = found[:-MARGIN]
    if lines:
        found = "\n".join(line.rstrip() for line in found.splitlines())
    else:
        found = " ".join(found.split())
    if not found and isinstance(text, BaseException):
        found = type(text).__name__
    return found if len(found) <= most and whole else f"{found[: max(most - 3, 0)]}..."[: max(most, 0)]


def clean_all(value: Any, most: int = 4000) -> Any:
    """A JSON-ready value from outside with every text in it clean, keys of objects too.

    A whole number of more bits than a journal holds becomes a text that says so.
    """
    if isinstance(value, str):
        return clean(value, most)
    if isinstance(value, dict):
        return {clean(key, most): clean_all(one, most) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean_all(one, most) for one in value]
    if isinstance(value, int) and abs(value) >= 2**MOST_BITS:
        return f"a number of {len(str(abs(value)))} digits"
    return value


def remember_secret(key: str | None) -> None:
    """Have a key struck out of every text from now on, besides those that the environment holds."""
    if key and len(key.strip()) >= 4 and key.strip().lower() not in PLACEHOLDERS:
        with _lock:
            registered.add(key.strip())


def secrets() -> list[str]:
    """Keys in use, longest first.

    They are those registered with :func:`remember_secret`, the values of variables of the environment that are named
    like keys (``..._API_KEY``, ``..._TOKEN``, ``..._SECRET``, ``..._PASSWORD`` and the like), and the passwords and
    queries of URLs in it.
    """
    with _lock:
        found = set(registered)
    for name, value in list(os.environ.items()):
        given = value.strip()
        if KEY_NAME.search(name):
            if (len(given) >= SHORTEST or (name in OUR_KEYS and len(given) >= 4)) and given.lower() not in PLACEHOLDERS:
                found.add(given)
        elif "://" in given and URL_NAME.search(name):
            found.update(one for one in _secrets_of_url(given) if len(one) >= SHORTEST)
    return sorted(found, key=lambda key: (-len(key), key))


def guard_log(name: str = "noisewright") -> None:
    """Let every record of a logger pass :func:`clean`."""
    logger = logging.getLogger(name)
    if _clean_record not in logger.filters:
        logger.addFilter(_clean_record)


def guard_all_logs() -> None:
    """Let every record of this process pass :func:`clean`, whoever makes it; warnings become records too."""
    before = logging.getLogRecordFactory()

    def made(*args: Any, **more: Any) -> logging.LogRecord:
        record = before(*args, **more)
        _clean_record(record)
        return record

    logging.setLogRecordFactory(made)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addHandler(logging.StreamHandler())


def _clean_record(record: logging.LogRecord) -> bool:
    try:
        said = record.getMessage()
    except Exception:  # a message that does not go with its arguments
        said = str(record.msg)
    record.msg, record.args = clean(said, 2000), ()
    if record.exc_info:
        trace = clean(logging.Formatter().formatException(record.exc_info), 20_000, lines=True)
        record.exc_text = indent(trace, "  ")  # no line of it looks like another record
        record.exc_info = None
    return True


def _text_of(given: object) -> str:
    try:
        if isinstance(given, (bytes, bytearray, memoryview)):
            return bytes(given[: 4 * LONGEST]).decode("utf-8", "replace")
        return str(given)
    except Exception:
        return type(given).__name__


# What a terminal obeys, and what nobody sees

_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]?"  # CSI: colours, moves, erasing
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\r\n]{0,4096}(?:\x07|\x1b\\|\x9c)"  # titles, links, strings
    r"|\x1b[ -/]{0,8}[0-~]?"
)
_BREAKS = re.compile("\r\n|[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]")


BLANKS = "\u115f\u1160\u3164\uffa0\u034f\u17b4\u17b5"
"""Letters and marks that show nothing."""


def _visible(text: str) -> str:
    """A text without terminal sequences, control and invisible characters; every kind of line break becomes one."""
    if text.isascii() and text.isprintable():
        return text
    text = _BREAKS.sub("\n", _SEQUENCES.sub("", text))
    if text.isprintable():
        return text
    return "".join(one for one in map(_shown, text) if one)


def _shown(mark: str) -> str:
    if mark in "\n\t ":
        return mark if mark != "\t" else " "
    kind = unicodedata.category(mark)
    if kind == "Cs":
        return "\ufffd"
    if kind in ("Cc", "Cf", "Cn", "Co") or mark in BLANKS:
        return ""
    return " " if kind[0] == "Z" else mark


# Keys in use

_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}  # keeps a text's length, as lower() does not
_MASK = re.compile(r"\*{2,}|\.{2,}|…+|•{2,}|[xX]{4,}|#{3,}")
_WORD_BEFORE, _WORD_AFTER = re.compile(r"[\w~+/=-]*\Z"), re.compile(r"[\w~+/=-]*")


def _without_keys(text: str) -> str:
    for key in secrets():
        text = _without(text, key)
    return text


def _without(text: str, key: str) -> str:
    """A text without one key: as it is, encoded, or the part of it that a server echoes."""
    if len(key) < SHORTEST:
        return re.sub(rf"(?<![A-Za-z0-9]){re.escape(key)}(?![A-Za-z0-9])", STRUCK, text)
    low = text.translate(_LOWER)
    spans = [span for form in _forms(key) for span in _places(low, form)]
    grams, size = _grams(key)
    if grams:
        spans += [(at, at + size) for at in range(len(low) - size + 1) if low[at : at + size] in grams]
    if "%" in text or "\\" in text or "&" in text:
        spans += [found.span() for found in _encoded(key).finditer(text)]
    spans += list(_echoes(text, key))
    for start, end in reversed(_merged(spans)):
        text = text[:start] + STRUCK + text[end:]
    return text


def _places(text: str, part: str) -> Iterator[tuple[int, int]]:
    at = text.find(part)
    while at >= 0:
        yield at, at + len(part)
        at = text.find(part, at + 1)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _echoes(text: str, key: str) -> Iterator[tuple[int, int]]:
    """Where masked words such as ``sk-ab...wxyz`` are of a key."""
    for mask in _MASK.finditer(text):
        before, after = text[max(mask.start() - len(key), 0) : mask.start()], text[mask.end() : mask.end() + len(key)]
        left, right = _WORD_BEFORE.search(before)[0], _WORD_AFTER.match(after)[0]  # type: ignore[index]  # may be empty
        starts, ends = len(left) >= 2 and key.startswith(left), len(right) >= 2 and key.endswith(right)
        if (starts and (ends or len(left) >= 4)) or (ends and len(right) >= 4):
            yield mask.start() - len(left), mask.end() + len(right)


@lru_cache(64)
def _forms(key: str) -> tuple[str, ...]:
    """The key, its base64 at each of the three offsets, and its hexadecimal, in lower case."""
    raw, found = key.encode("utf-8", "replace"), {key}
    for offset in range(3):
        whole = base64.b64encode(b"\0" * offset + raw).decode().rstrip("=")
        inner = whole[(0, 2, 3)[offset] : len(whole) - (0 if (len(raw) + offset) % 3 == 0 else 1)]
        found |= {inner, inner.replace("+", "-").replace("/", "_")}
    found |= {raw.hex(), html.escape(key)}
    return tuple(one.translate(_LOWER) for one in found if len(one) >= SHORTEST)


@lru_cache(64)
def _grams(key: str) -> tuple[frozenset[str], int]:
    """Parts of a key that give it away, in lower case, and their length; none of a short one, or of a path."""
    size = 10 if len(key) >= 20 else 8
    if len(key) < 12 or key[0] in "/.~" or any(mark.isspace() for mark in key):
        return frozenset(), size
    low = key.translate(_LOWER)
    parts = (low[at : at + size] for at in range(len(low) - size + 1))
    return frozenset(one for one in parts if len(key) >= 20 or not one.isalpha()), size


@lru_cache(64)
def _encoded(key: str) -> re.Pattern[str]:
    """A key any of whose characters may be percent-encoded (twice, too), escaped as in JSON, or as in HTML."""
    found = []
    for mark in key:
        bytewise = "".join(f"%(?:25)*{one:02x}" for one in mark.encode("utf-8", "replace"))
        point = ord(mark)
        found.append(
            rf"(?:{re.escape(mark)}|{bytewise}|\\+u{point:04x}|\\+x{point:02x}|&#(?:x0*{point:x}|0*{point});"
            + (rf"|\\+{re.escape(mark)}" if mark in "\"'/\\" else "")
            + ")"
        )
    return re.compile("".join(found), re.IGNORECASE)


def _secrets_of_url(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        given = [parts.password or "", *(value for _, value in parse_qsl(parts.query))]
    except ValueError:
        return
    for one in given:
        if one:
            yield unquote(one)


# What carries a key, and what looks like one

NAMES = (
    r"(?:x[-_])?(?:api|access|auth|secret|private|subscription|session|account|shared|functions|goog)[-_]?"
    r"(?:key|token|secret)s?(?:[-_]?id)?"
    r"|(?:client|app|consumer)[-_]?secret|(?:refresh|id|bearer|csrf|xsrf|security|x[-_]amz[-_]security)[-_]?token"
    r"|passw(?:or)?d|passphrase|pwd|jwt|j?session[-_]?id|phpsessid|signature|x[-_]amz[-_]signature|credentials?"
)
_HEADERS = (
    r"(?:proxy-)?authorization|(?:set-)?cookie2?|x-[a-z-]{0,40}(?:key|token|auth|secret)[a-z-]{0,40}|api-key"
    r"|ocp-apim-[a-z-]{1,40}"
)
_SCHEME = r"(?<![a-z0-9+.-])([a-z][a-z0-9+.-]{0,30}:/{2,})"
_LINK = r"""[^\s"'<>`]"""


def _basic(found: re.Match[str]) -> str:
    """Strikes out what HTTP's Basic scheme holds; "Basic authentication" is two words."""
    try:
        decoded = base64.b64decode(found[2] + "=" * (-len(found[2]) % 4), validate=True)
    except (NotBase64, ValueError):
        decoded = b""
    return f"{found[1]}{STRUCK}" if b":" in decoded or re.search(r"[0-9+/=]", found[2]) else found[0]


def _random(found: re.Match[str]) -> str:
    """Strikes out a value that has a digit in it; words are left."""
    return f"{found[1]}{STRUCK}" if re.search(r"\d", found[2]) else found[0]


def _service(found: re.Match[str]) -> str:
    """Strikes out what begins like a key (``sk-``) and is none of the words that do."""
    return STRUCK if len(found[0]) >= 20 or re.search(r"[\d*.…•]", found[0]) else found[0]


_PATTERNS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    # A private key, whole or cut.
    (re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:(?!-----END)[\s\S])*(?:-----END[A-Z ]*-----)?"), STRUCK),
    # Headers, as lines, as JSON, as Python writes them.
    (re.compile(rf"""(?i)((?<![\w-])(?:{_HEADERS})(["'])\s*[:,=]\s*\(?b?(["']))(?:(?!\3)[^\n])*"""), rf"\g<1>{STRUCK}"),
    (re.compile(rf"(?i)((?<![\w-])(?:{_HEADERS})\s?[:=])(?!\s*\*\*\*)[^\n\"']+"), rf"\g<1> {STRUCK}"),
    (
        re.compile(
            r"(?i)(?<![\w-])(bearer[ \t:=]+)"
            r"(?!(?:tokens?|auth\w*|schemes?|headers?|credentials?|realm\S*|error\S*|keys?|is|was|not|format|or|and)\b)"
            r"[^\s\"',;<>)\]}]{4,}"
        ),
        rf"\g<1>{STRUCK}",
    ),
    (re.compile(r"(?i)(?<![\w-])(basic[ \t]+)([A-Za-z0-9+/_-]{6,}={0,2})"), _basic),
    # Users and queries of URLs.
    (
        re.compile(
            rf"(?i){_SCHEME}"
            rf"(?:[^\s\"'<>`/?#]{{0,500}}|[^\s\"'<>`/?#:@]{{0,200}}:(?!\d{{1,5}}[/?#]){_LINK}{{0,500}})@(?=[\w\[.-])"
        ),
        rf"\g<1>{STRUCK}@",
    ),
    (re.compile(rf"(?i){_SCHEME}([^\s\"'<>`?#]{{0,4000}})\?[^\s\"'<>`#]+"), r"\g<1>\g<2>?..."),
    (re.compile(r"\?[\w.~%\[\]-]{1,100}=[^\s\"'<>`#]*"), "?..."),
    (re.compile(r"(?i)%(?:25)*3f[\w.~-]{1,100}%(?:25)*3d[^\s\"'<>`#]*"), "%3F..."),
    # name=value and "name": "value".
    (
        re.compile(rf"""(?i)((?<![a-z0-9])(?:{NAMES})["']?\s?(?:[:=]|=>)\s?(["']))(?:(?!\2)[^\n])*"""),
        rf"\g<1>{STRUCK}",
    ),
    (
        re.compile(rf"""(?i)((?<![a-z0-9])(?:{NAMES})["']?(?:=>?|:[ \t]?))[^\s"',;&<>)\]}}]+"""),
        rf"\g<1>{STRUCK}",
    ),
    (
        re.compile(
            r"""(?i)((?<![a-z0-9_])(?:api[ -]?key|key|token|auth|sig|secret|pass|code)(?:[ ]provided|[ ]is|[ ]was)?"""
            r"""["']?[ ]?[:=][ ]?["']?)([^\s"',;&<>)\]}*]{8,})"""
        ),
        _random,
    ),
    # Keys of well-known services, masked ones too.
    (re.compile(r"(?<![A-Za-z0-9])[sprk]k[-_](?:[A-Za-z0-9_-]|[*.…•](?=[*.…•A-Za-z0-9])){4,}"), _service),
    (
        re.compile(
            r"(?<![A-Za-z0-9])(?:"
            r"hf_[A-Za-z0-9]{6,}|gh[pousr]_[A-Za-z0-9]{8,}"
            r"|github_pat_\w{8,}|glpat-[\w-]{8,}|xox[a-z]-[\w-]{8,}|(?:AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{8,}"
            r"|AIza[\w-]{16,}|ya29\.[\w-]{8,}|gsk_\w{8,}|xai-\w{8,}|nvapi-[\w-]{8,}|pplx-\w{8,}|r8_\w{8,}|npm_\w{16,}"
            r"|dop_v1_\w{8,}|SG\.[\w-]{8,}\.[\w-]{8,}|eyJ[\w-]{8,}(?:\.[\w-]*){0,2}"
            r")"
        ),
        STRUCK,
    ),
    (re.compile(r"[\w.-]{0,200}\*{4,}[\w*-]*"), STRUCK),
)
