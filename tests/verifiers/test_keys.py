"""Keys: to whom they go, and that what a server echoes of them is nowhere kept or shown."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from loopback import Reply, serving
from noisewright import cli, registry
from noisewright.errors import VerifierFailed
from noisewright.outside import texts
from noisewright.verifiers.addresses import checked_url, key_for, origin, own_server
from noisewright.verifiers.http import HttpVerifier
from noisewright.verifiers.protocol import score
from noisewright.verifiers.retry import BackOff
from noisewright.verifiers.rubric import ASPECTS
from noisewright.verifiers.vlm import make_vlm

pytest.importorskip("openai")

KEY = "sk-proj-Zq81kLmNpQr7tUv9XyAbCdEf"
OTHER = "other-key-5f3a9c7e1b2d"
IMAGES = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
ONCE = BackOff(tries=1)


@pytest.fixture(autouse=True)
def account(monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_CUSTOM_HEADERS", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OTHER_KEY", OTHER)
    monkeypatch.setattr(texts, "registered", set())


def graded(text="fine"):
    message = {
        "role": "assistant",
        "content": json.dumps({name: {"score": 7, "explanation": text} for name in ASPECTS}),
    }
    return Reply({"choices": [{"index": 0, "finish_reason": "stop", "message": message}]})


def sent(server):
    return {seen.headers.get("authorization") for seen in server.seen}


# To whom a key goes


OPENAI = "https://api.openai.com/v1"
SCOPES = [
    # OPENAI_BASE_URL, the server, whether OPENAI_API_KEY goes there
    (None, OPENAI, True),
    (None, "https://api.openai.com:443/other", True),
    (None, "https://API.OpenAI.com/v1", True),
    (None, "http://api.openai.com/v1", False),
    (None, "https://api.openai.com:8443/v1", False),
    (None, "https://eu.api.openai.com/v1", False),
    (None, "https://api.openai.com.evil.example/v1", False),
    (None, "https://evil-api.openai.com/v1", False),
    (None, "https://openai.com/v1", False),
    (None, "https://evil.example/api.openai.com/v1", False),
    (None, "https://evil.example/?https://api.openai.com/v1", False),
    (None, "https://evil.example/#https://api.openai.com/v1", False),
    (None, "https://api.openai.com./v1", False),
    (None, "http://127.0.0.1:8000/v1", False),
    (None, "http://localhost/v1", False),
    ("", OPENAI, True),
    ("https://judge.example/v1", OPENAI, False),
    ("https://judge.example/v1", "https://judge.example/v2", True),
    ("https://judge.example/v1", "https://JUDGE.example:443/v1", True),
    ("https://judge.example/v1", "http://judge.example/v1", False),
    ("https://judge.example/v1", "http://judge.example:443/v1", False),
    ("https://judge.example:8443/v1", "https://judge.example/v1", False),
    ("https://judge.example/v1", "https://sub.judge.example/v1", False),
    ("http://judge.example/v1", "http://judge.example/v1", False),  # in the clear
    ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1", True),
    ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8001/v1", False),
    ("http://127.0.0.1:8000/v1", "http://localhost:8000/v1", False),
    ("http://127.0.0.1:8000/v1", "http://127.0.0.2:8000/v1", False),
    ("http://[::1]:8000/v1", "http://[::1]:8000/v1", True),
    ("http://[::1]:8000/v1", "http://[::1]:9/v1", False),
]


@pytest.mark.parametrize(("base", "url", "goes"), SCOPES)
def test_the_key_goes_to_its_own_server_alone(base, url, goes, monkeypatch):
    if base is not None:
        monkeypatch.setenv("OPENAI_BASE_URL", base)
    assert key_for(url) == (KEY if goes else None)


TRICKS = [
    "http://api.openai.com@evil.example/v1",
    "https://api.openai.com:443@evil.example/v1",
    "https://api.openai.com\\@evil.example/v1",
    "https://evil.example\\.api.openai.com/v1",
    "https://api.openai.com%2eevil.example/v1",
    "https://api.openai.com%00.evil.example/v1",
    "https://api.opеnai.com/v1",  # a Cyrillic e
    "https://api。openai.com/v1",
    "https://api.openai.com\t.evil.example/v1",
    "https://api.openai.com\n/v1",
    "https://api.openai.com\u200b/v1",
    "https:///api.openai.com/v1",
    "https:api.openai.com/v1",
    "https://[::1%25eth0]/v1",
    "https://[api.openai.com]/v1",
    "https://api.openai.com:99999/v1",
    "https://api.openai.com:443:80/v1",
    "file:///etc/passwd",
]


@pytest.mark.parametrize("url", TRICKS)
def test_addresses_that_two_readers_may_read_differently_are_refused(url):
    assert origin(url) is None
    assert key_for(url) is None
    with pytest.raises(ValueError, match="expected a") as caught:
        checked_url(url)
    assert str(caught.value).isprintable()
    for text in (f"vlm:{url}#m", url):
        with pytest.raises(ValueError, match=r"expected|unknown"):
            registry.make_verifier(text)


def test_over_the_wire_each_server_gets_its_own_key(monkeypatch):
    with serving(lambda seen, number: graded()) as own, serving(lambda seen, number: graded()) as other:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{own.url}/v1")
        for text in ("vlm:m", "vlm:#a/b", f"vlm:{own.url}/v1#m"):
            assert score(registry.make_verifier(text), IMAGES, "x") == [7, 7]
        score(registry.make_verifier(f"vlm:{other.url}/v1#m"), IMAGES, "x")
        assert sent(own) == {f"Bearer {KEY}"}
        assert sent(other) == {"Bearer none"}
        other.seen.clear()
        score(registry.make_verifier(f"vlm:{other.url}/v1#m,key_env=OTHER_KEY"), IMAGES, "x")
        assert sent(other) == {f"Bearer {OTHER}"}
        named = registry.make_verifier(f"vlm:{other.url}/v1#m,key_env=OPENAI_API_KEY")
        other.seen.clear()
        score(named, IMAGES, "x")
        assert sent(other) == {f"Bearer {KEY}"}


def test_what_the_client_adds_from_the_environment_goes_to_its_own_server_alone(monkeypatch):
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"Authorization: Bearer {KEY}\nX-Team-Key: {OTHER}")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "admin-key-123456")
    with serving(lambda seen, number: graded()) as own, serving(lambda seen, number: graded()) as other:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{own.url}/v1")
        score(make_vlm("m"), IMAGES, "x")
        score(make_vlm(f"{other.url}/v1#m"), IMAGES, "x")
    assert own.seen[0].headers["x-team-key"] == OTHER
    for seen in other.seen:
        assert not any(key in value for value in seen.headers.values() for key in (KEY, OTHER, "admin-key"))


def test_a_redirection_takes_no_key_along(monkeypatch):
    with serving(lambda seen, number: graded()) as other:
        for status in (301, 302, 303, 307, 308):
            moved = Reply("", status, {"Location": f"{other.url}/v1/chat/completions?key=abcdefgh\x1b[31m"})
            with serving(lambda seen, number, moved=moved: moved) as own:
                monkeypatch.setenv("OPENAI_BASE_URL", f"{own.url}/v1")
                for verifier in (make_vlm("m"), HttpVerifier(f"{own.url}/s", key_env="OTHER_KEY")):
                    with pytest.raises(VerifierFailed, match=r"sends requests on to .*\?\.\.\.") as caught:
                        score(verifier, IMAGES[:1], "x")
                    assert "abcdefgh" not in str(caught.value)
                    assert "\x1b" not in str(caught.value)
                assert len(own.seen) == 2
        assert not other.seen


@pytest.mark.parametrize(
    ("key_as", "header", "path"),
    [
        ("", f"Bearer {OTHER}", "/s?a=b"),
        (",key_as=bearer", f"Bearer {OTHER}", "/s?a=b"),
        (",key_as=x-api-key", None, "/s?a=b"),
        (",key_as=?api_key", None, f"/s?a=b&api_key={OTHER}"),
    ],
)
def test_a_server_of_scores_gets_the_key_that_is_named(key_as, header, path):
    with serving(lambda seen, number: Reply([1, 2])) as server:
        made = registry.make_verifier(f"{server.url}/s?a=b,key_env=OTHER_KEY{key_as}")
        assert score(made, IMAGES, "x") == [1, 2]
        plain = registry.make_verifier(f"{server.url}/s?a=b")
        assert score(plain, IMAGES, "x") == [1, 2]
    with_key, without = server.seen
    assert with_key.headers.get("authorization") == header
    assert with_key.headers.get("x-api-key") == (OTHER if "x-api" in key_as else None)
    assert with_key.path == path
    assert not {"authorization", "x-api-key"} & set(without.headers)
    assert OTHER not in made.url + made.name
    assert made.fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("https://h.example/s,key_env=NOT_THERE", "expected a key in the environment variable NOT_THERE, got none"),
        (f"https://h.example/s,key_env={OTHER}", "expected key_env to be the NAME"),
        ("http://h.example/s,key_env=OTHER_KEY", "expected https for a server that gets a key, got http for h.example"),
        ("https://h.example/s,key_as=bearer", "expected key_env=NAME beside key_as"),
        ("https://h.example/s,key_env=OTHER_KEY,key_as=a b", "expected key_as of bearer, HEADER or"),
        ("https://h.example/s,key_env=BROKEN_KEY", "expected a key of printable ASCII in BROKEN_KEY"),
        (f"https://h.example/s?api_key={OTHER}", "without a key, which records would keep, got api_key"),
        (f"https://h.example/s?a=b&token={OTHER}", "got token in the query for h.example"),
        ("https://h.example/s?sig=0123456789", "got sig in the query"),
        (f"https://h.example/s?x={KEY}", "got x in the query"),
        ("https://h.example/s?x=Zq81kLmNpQr7tUv9XyAbCdEf0", "got x in the query"),
        (f"https://me:{OTHER}@h.example/s", "without a user or password"),
        (f"vlm:https://h.example/v1?key={OTHER}#m", "got key in the query for h.example"),
        (f"vlm:https://{OTHER}@h.example/v1#m", "without a user or password"),
        ("vlm:http://h.example/v1#m,key_env=OTHER_KEY", "expected https for a server that gets a key"),
    ],
)
def test_keys_where_they_would_be_kept_or_seen_are_refused(text, says, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("BROKEN_KEY", "key\u20ac1234567")
    with pytest.raises(ValueError, match=says) as caught:
        registry.make_verifier(text)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    assert cli.main(["score", str(tmp_path), "--prompt", "x", "--verifier", text]) == 2
    said = str(caught.value) + capsys.readouterr().err
    assert OTHER not in said
    assert KEY not in said


def test_harmless_queries_stay():
    for url in ("http://h/score?a=b", "http://h/s?model=clip-vit-large-patch14-336", "http://h/s?key=1&code=py"):
        assert checked_url(url) == url


def test_a_query_of_the_environment_is_sent_and_nowhere_recorded(monkeypatch):
    with serving(lambda seen, number: graded()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1/?api_key={OTHER}&version=3")
        made = make_vlm("m")
        score(made, IMAGES[:1], "x")
    (seen,) = server.seen
    assert seen.path == f"/v1/chat/completions?api_key={OTHER}&version=3"
    assert made.backend.url == f"{server.url}/v1"
    assert own_server() == (f"{server.url}/v1", {"api_key": OTHER, "version": "3"})
    assert texts.clean(f"said {OTHER}") == "said ***"


@pytest.mark.parametrize(
    "base", ["https://me:hunter2hunter2@h.example/v1", "ftp://h/v1", "h.example", "https://h\\x/v1"]
)
def test_a_bad_address_in_the_environment_is_one_line_without_its_secrets(base, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", base)
    with pytest.raises(ValueError, match="OPENAI_BASE_URL: expected a") as caught:
        make_vlm("m")
    assert "hunter2" not in str(caught.value)


def test_a_server_that_wants_a_key_and_got_none_says_how_to_give_it(monkeypatch):
    with serving(lambda seen, number: Reply({"error": {"message": "no key"}}, 401)) as server:
        with pytest.raises(VerifierFailed, match=r"OPENAI_API_KEY is for https://api.openai.com/v1; .* key_env=NAME"):
            score(make_vlm(f"{server.url}/v1#m"), IMAGES[:1], "x")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        with pytest.raises(VerifierFailed) as caught:
            score(make_vlm("m"), IMAGES[:1], "x")
        assert "key_env" not in str(caught.value)


# What is kept and shown


SAID = f"bad key \x1b[2J\x1b]0;owned\x07{KEY} or {KEY[:7]}...{KEY[-4:]}, \u202eAuthorization: Bearer {KEY}\r\nnew line"
BAD = {
    "401": lambda seen: Reply({"error": {"message": SAID, "code": "invalid_api_key"}}, 401),
    "400": lambda seen: Reply({"error": {"message": SAID}}, 400),
    "500": lambda seen: Reply(SAID, 500),
    "no JSON": lambda seen: Reply(SAID),
    "no rating": lambda seen: Reply({"choices": [{"message": {"role": "assistant", "content": SAID}}]}),
    "a refusal": lambda seen: Reply(
        {"choices": [{"message": {"role": "assistant", "content": None, "refusal": SAID}}]}
    ),
    "the request": lambda seen: Reply(json.dumps(seen.headers), 403),
    "elsewhere": lambda seen: Reply("", 302, {"Location": f"http://u:{KEY}@evil.example/x?api_key={KEY}\x1b[1m"}),
}


def assert_clean(*texts, root):
    """Nothing of the key is in what was printed or is kept, and no code in what is text."""
    kept = {path: path.read_bytes().decode("utf-8", "replace") for path in root.rglob("*") if path.is_file()}
    for text in [*texts, *kept.values()]:
        assert KEY not in text
        assert KEY[:14] not in text
        assert f"...{KEY[-4:]}" not in text
    for text in [*texts, *(text for path, text in kept.items() if path.suffix in (".json", ".jsonl"))]:
        for mark in "\x1b\x07\u202e":
            assert mark not in text
            assert text in texts or json.dumps(mark)[1:-1] not in text


def generate(tmp_path, *more):
    return cli.main(
        ["generate", "a red circle", "--model", "noisewright/shapes", "--steps", "2", "--budget", "2 images", "--out",
         str(tmp_path / "run"), *more]
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", BAD)
def test_what_a_verifier_s_server_echoes_is_nowhere(kind, tmp_path, monkeypatch, capfd):
    with serving(lambda seen, number: BAD[kind](seen)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        assert generate(tmp_path, "--verifier", "vlm:m,tries=1") in (1, 2)
    out, err = capfd.readouterr()
    assert "verifier vlm" in err
    assert_clean(out, err, root=tmp_path)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["401", "elsewhere", "no rating"])
def test_what_a_judge_s_server_echoes_is_nowhere(kind, tmp_path, monkeypatch, capfd):
    with serving(lambda seen, number: BAD[kind](seen)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        assert generate(tmp_path, "--verifier", "brightness", "--judge", "vlm:m,tries=1", "--json") == 0
    out, err = capfd.readouterr()
    assert "judge vlm" in out + err
    assert_clean(out, err, root=tmp_path)


@pytest.mark.slow
def test_what_a_judge_explains_is_kept_clean(tmp_path, monkeypatch, capfd):
    with serving(lambda seen, number: graded(SAID)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        options = ["--verifier", f"vlm:m,cache={tmp_path / 'cache'}", "--score-cache", str(tmp_path / "scores")]
        assert generate(tmp_path, *options) == 0
    assert cli.main(["show", str(tmp_path / "run"), "--json"]) == 0
    out, err = capfd.readouterr()
    assert "bad key ***" in (tmp_path / "run" / "journal.jsonl").read_text()
    assert_clean(out, err, root=tmp_path)


@pytest.mark.slow
def test_a_server_of_scores_that_echoes_its_key_is_kept_clean(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("OTHER_KEY", KEY)
    for reply in (Reply(SAID, 400), Reply(SAID, 503), Reply(SAID), BAD["elsewhere"](None)):
        with serving(lambda seen, number, reply=reply: reply) as server:
            asked = f"{server.url}/s?a=b,key_env=OTHER_KEY,timeout=5,deadline=1"
            assert generate(tmp_path, "--verifier", asked) in (1, 2)
        out, err = capfd.readouterr()
        assert_clean(out, err, root=tmp_path)
        shutil.rmtree(tmp_path / "run")


@pytest.mark.slow
def test_a_function_that_raises_with_a_key_is_kept_clean(tmp_path, capfd, monkeypatch):
    (tmp_path / "mine.py").write_text(f"def look(images, prompt):\n    raise ValueError({SAID!r})\n")
    assert generate(tmp_path, "--verifier", f"{tmp_path / 'mine.py'}:look") in (1, 2)
    monkeypatch.setenv("NOISEWRIGHT_DEBUG", "1")
    assert cli.main(["resume", str(tmp_path / "run")]) in (1, 2)
    out, err = capfd.readouterr()
    assert "Traceback" in err
    assert_clean(out, err, root=tmp_path / "run")


def test_a_table_shows_no_codes(tmp_path, capfd):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a\x1b[31m\u202e.png")
    for more in ([], ["--json"]):
        assert cli.main(["score", str(tmp_path), "--prompt", "x", "--verifier", "brightness", *more]) == 0
        out = capfd.readouterr().out
        assert "\x1b" not in out
        assert "\u202e" not in out
