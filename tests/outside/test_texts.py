import base64
import json
import logging
import subprocess
import sys
import time
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisewright.outside import texts
from noisewright.outside.texts import clean, clean_all, remember_secret

KEY = "sk-proj-Zq81-kLmN_pQr7tUv9XyAbCdEf"
TOKEN = "correcthorse/battery+staple"
MOST_SECONDS = 2.0  # of the processor, of any text, however long; a quadratic pattern takes minutes


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("JUDGE_TOKEN", TOKEN)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://judge.example/v1?code=hunter2hunter2")
    monkeypatch.setattr(texts, "registered", set())


def b64(text):
    return base64.b64encode(text.encode()).decode()


ECHOES = {
    "plain": f"Incorrect API key provided: {KEY}.",
    "masked": f"Incorrect API key provided: {KEY[:8]}{'*' * 20}{KEY[-4:]}.",
    "dots": f"key {KEY[:5]}...{KEY[-4:]} is revoked",
    "ellipsis": f"key {KEY[:9]}… is revoked",
    "crosses": f"key {KEY[:6]}xxxxxx{KEY[-4:]} is revoked",
    "first half": f"unknown: {KEY[:16]}",
    "second half": f"unknown: {KEY[14:]}",
    "upper case": KEY.upper(),
    "in a word": f"host-{KEY}.example",
    "percent": urllib.parse.quote(TOKEN, safe=""),
    "percent, each": "".join(f"%{ord(mark):02X}" for mark in KEY),
    "percent, twice": urllib.parse.quote(urllib.parse.quote(TOKEN, safe=""), safe=""),
    "json": json.dumps(TOKEN).replace("/", "\\/").replace("+", "\\u002b"),
    "html": TOKEN.replace("/", "&#x2F;").replace("+", "&#43;"),
    "base64": b64(KEY),
    "basic": f"Basic {b64('user:' + KEY)}",
    "basic, other offset": f"sent {b64('user1:' + KEY)}",
    "url-safe base64": base64.urlsafe_b64encode(KEY.encode()).decode(),
    "hex": KEY.encode().hex(),
    "split by codes": f"{KEY[:9]}\x1b[0m{KEY[9:20]}\u200b{KEY[20:]}",
    "bytes": KEY.encode(),
    "exception": ValueError(f"no {KEY}"),
    "in a query of the environment": "tried hunter2hunter2",
}


@pytest.mark.parametrize("kind", ECHOES)
def test_keys_in_use_are_struck_out(kind):
    found = clean(ECHOES[kind], 1000)
    assert "***" in found
    squeezed = found.lower()
    for secret in (KEY, TOKEN, "hunter2hunter2"):
        for form in (secret, urllib.parse.quote(secret, safe=""), b64(secret).rstrip("=")[:-1], secret.encode().hex()):
            assert form.lower() not in squeezed
        for size in range(len(secret) - 11):
            assert secret[size : size + 11].lower() not in squeezed


FOREIGN = "Kx93hdPq7LmZ"  # a secret that nobody registered
LEAKS = [
    f"Authorization: Bearer {FOREIGN}",
    f"authorization:{FOREIGN}\r\nHost: x",
    f"{{'authorization': 'Basic {FOREIGN} and {FOREIGN}'}}",
    f'{{"Authorization": "{FOREIGN}"}}',
    f"(b'authorization', b'Bearer {FOREIGN}')",
    f"Proxy-Authorization: Digest {FOREIGN}",
    f"x-api-key: {FOREIGN}",
    f'"X-Api-Key": "{FOREIGN}"',
    f"Cookie: a={FOREIGN}; b={FOREIGN}",
    f"Set-Cookie: session={FOREIGN}; Path=/",
    f"bearer {FOREIGN} was refused",
    f"Basic {b64('me:' + FOREIGN)}",
    f"https://me:{FOREIGN}@host.example/path",
    f"https://{FOREIGN}@host.example/path",
    f"redis://:{FOREIGN}@host",
    f"http://a@{FOREIGN}@evil.example",
    f"http://me:pa/{FOREIGN}@host.example/",
    f"http://host/score?api_key={FOREIGN}",
    f"http://host/score?x=1&k={FOREIGN}#here",
    f"/score?sig={FOREIGN}",
    f"http://host/go?to=http://other/%3Fkey%3D{FOREIGN}",
    f"/go/http%3A%2F%2Fh%3Fkey%3D{FOREIGN}",
    f"api_key={FOREIGN}",
    f'{{"api_key": "{FOREIGN}"}}',
    f"client_secret={FOREIGN}&x=1",
    f"password: {FOREIGN}",
    f"the token: {FOREIGN}",
    "hf_AbCdEfGhIjKlMnOpQrStUvWx",
    "ghp_AbCdEfGh1jKlMnOpQrStUvWx",
    "AKIAIOSFODNN7EXAMPLE",
    "sk-" + "ant-api03-" + "AbC1" * 6,
    "sk-abc...wxyz",
    "sk-ab***********yz",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEKx93hdPq7LmZ\n-----END RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("text", LEAKS)
def test_what_carries_a_key_is_struck_out(text):
    found = clean(f"it said: {text}")
    assert FOREIGN not in found
    assert b64("me:" + FOREIGN) not in found
    assert "..." in found or "***" in found
    for key in ("AbCdEfGh", "AKIAIO", "sk-a", "eyJ", "MIIE"):
        assert key not in found


PLAIN = [
    "Bearer token required",
    "Basic authentication failed",
    "unexpected token: <",
    "waiting ... done...",
    "Does this figure show a cat? Yes",
    "expected an API key in OPENAI_API_KEY for https://api.openai.com/v1 (or OPENAI_BASE_URL), got none",
    "a task-force of sk-learners",
    "http://localhost:8000/v1#some/model,key_env=MY_KEY",
    "HTTP status 503: [Errno 111] Connection refused",
    "mail me@example.org about http://host:80/cat",
    "expected key seed to be 3, got 4",
    "ünïcödé 猫 🐈",
]


@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_stay_as_they_are(text):
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a\r\nb\tc\x85d\u2028e", "a b c d e"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b2Jgone", "gone"),
        ("\x1b]0;owned\x07title", "title"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0\x1b\\dcs", "dcs"),
        ("a\x1bcb", "ab"),
        ("abc\u202egnp.exe\u2066x\u200f", "abcgnp.exex"),
        ("z\u200be\u200dr\u2060o\ufeff\u00ad", "zero"),
        ("nul\x00\x07\x08\x7f", "nul"),
        ("\ud800", "\ufffd"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("\U000e0041tag", "tag"),
        (ValueError(), "ValueError"),
        (None, "None"),
    ],
)
def test_what_a_terminal_obeys_or_nobody_sees_is_removed(text, found):
    assert clean(text) == found


def test_length_is_capped_and_no_key_is_cut_free():
    for start in range(40):
        found = clean("x" * start + " " + KEY, 30)
        assert len(found) <= 30
        assert KEY[:10] not in found
    long = clean("y " * (texts.LONGEST // 2 - 5) + KEY, texts.LONGEST)
    assert "sk-" not in long
    assert clean("abcdef", 5) == "ab..."
    assert clean("abcdef", 0) == ""


def test_anything_is_taken():
    class Bad(Exception):
        def __str__(self):
            raise RuntimeError("no")

    assert clean(Bad()) == "Bad"
    assert clean(7) == "7"
    assert clean(bytearray(b"x")) == "x"


@pytest.mark.slow
@given(
    st.one_of(st.text(max_size=200), st.binary(max_size=200), st.lists(st.sampled_from([*LEAKS, *PLAIN])).map(" ".join))
)
@settings(max_examples=300, deadline=None)
def test_it_never_raises_and_once_is_enough(given):
    assert len(clean(given)) <= 300
    found = clean(given, 10_000)
    assert found.isprintable()
    assert clean(found, 10_000) == found
    found.encode()


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "part",
    ["a", "?", "http://", "*", ".", "a.", "Authorization:", "\x1b]", "-----BEGIN PRIVATE KEY-----", "api_key='", "x-",
     "bearer ", "eyJ", "sk-", "xxxx", "a:/", "%3f", "x-key", "&#", "%25", "ab12", "http://a:b", "?a=", KEY, KEY[:9]],
)  # fmt: skip
def test_long_texts_take_no_time(part):
    began = time.process_time()
    clean(part * (10**6 // len(part)))
    assert time.process_time() - began < MOST_SECONDS


def test_registered_keys_are_struck_out_too():
    assert clean("a typed-key-1 b") == "a typed-key-1 b"
    remember_secret("typed-key-1")
    remember_secret("abcd")
    remember_secret("none")
    remember_secret(None)
    assert clean("a typed-key-1 b") == "a *** b"
    assert clean("abcd abcde none") == "*** abcde none"


def test_whole_values():
    told = {"explanation": [f"a {KEY}", 7, None, True, 0.5], KEY: "\x1b[0m"}
    assert clean_all(told) == {"explanation": ["a ***", 7, None, True, 0.5], "***": ""}


def test_lines_can_be_kept():
    assert clean("a\n  b\x07\r\nc", lines=True) == "a\n  b\nc"


def test_the_log_is_clean(caplog):
    caplog.set_level(logging.WARNING, "noisewright")
    log = logging.getLogger("noisewright")
    log.warning("server said %s", f"\x1b[0m{KEY}")
    try:
        raise ValueError(KEY)
    except ValueError:
        log.warning("%d", "no number", exc_info=True)
    assert "server said ***" in caplog.text
    assert "ValueError: ***" in caplog.text
    assert KEY not in caplog.text


def test_nothing_heavy_is_imported():
    program = "import sys, noisewright.outside.texts\n"
    program += "assert not {'torch', 'numpy', 'PIL', 'pydantic'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
