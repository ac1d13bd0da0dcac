"""Each attack on a server that only its owner may ask, one by one."""

import asyncio
import socket
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from noisewright.web.guard import CODE_SECONDS, COOKIE, UPLOADS, cookie_value, guarded, is_own_host
from noisewright.web.serving import Beside
from noisewright.web.settings import Limits, check_settings
from serving import HERE, free_port, settings_of, talking_to

TOKEN = "0123456789abcdef-long"
READS = ["/", "/run", "/api/runs", "/api/run?run=first", "/picture?run=first&id=0000000000000000", "/static/page.js"]
ACTS = ["/api/mark", "/api/vote", "/api/start", "/api/forecast", "/api/more", "/api/like", "/api/steps", "/api/score",
        "/api/stop", "/api/cancel"]  # fmt: skip


def said(answer):
    return answer.json()["error"]["message"]


# Host: a name that somebody else's server resolves to this machine


HOSTS = [
    "evil.example", "evil.example:8188", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.1.7:8188", "",
    "localhost@evil.example", "127.0.0.1,evil.example", "[::1", "localhost:port", "localhost/evil",
    "localhost?.evil.example", "localhost#.evil.example", "local\thost", "localhost:8188?x", "localhost;x", "[::1]x",
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_another_host_is_refused(client, host):
    for path in READS:
        answer = client.get(path, headers={"Host": host})
        assert answer.status_code == 421, path
        assert "Host" in said(answer)
    assert client.post("/api/mark", json={}, headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8188", "localhost", "LOCALHOST:9000", "[::1]:8188"])
def test_its_own_names_are_answered(client, host):
    assert client.get("/api/runs", headers={"Host": host}).status_code == 200


def test_where_a_token_is_asked_for_any_address_by_its_numbers_is_a_host(runs, tmp_path):
    settings = settings_of(runs, tmp_path, host="0.0.0.0", token=TOKEN)
    assert is_own_host("192.168.1.7:8188", settings)
    assert not is_own_host("evil.example", settings)


# Origin: another site's page in the owner's browser


ORIGINS = ["http://[", "http://[::1", "http://[evil]", b"http://\xc2\xbc.example", "", "//",
           "http://evil.example", "http://127.0.0.1:3000", "http://localhost:8188", "https://evil.example:8188", "null",
           "file://", "http://127.0.0.1:8188.evil.example"]  # fmt: skip


@pytest.mark.parametrize("origin", ORIGINS)
def test_another_sites_page_can_neither_write_nor_read(client, origin):
    for path in ACTS:
        assert client.post(path, json={}, headers={"Origin": origin}).status_code == 403, path
    assert client.get("/api/runs", headers={"Origin": origin}).status_code == 403


NAMES = ("host", "origin", "cookie", "authorization", "content-length", "content-type", "sec-fetch-site",
         "sec-fetch-mode", "sec-fetch-dest", "accept", "x-forwarded-proto", "idempotency-key")  # fmt: skip
WORDS = (b"http://[", b"http://", b"//", b"[::1]", b"127.0.0.1:8188", b"@", b":", b"\xff", b"noisewright=", b"Bearer ",
         b"%00", b"=", b";", b'"', b"\xc3\x28", b"https,", b"1e9", b"-1", b" ", b"\t")  # fmt: skip


def answer_of(guard, path, method, headers):
    """The status with which a guard answers a request, or passes it on (200)."""
    found = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        found.append(message.get("status"))

    scope = {"type": "http", "method": method, "path": path, "headers": headers, "scheme": "http", "query_string": b"",
             "raw_path": path.encode()}  # fmt: skip
    asyncio.run(guard(scope, receive, send))
    return found[0]


@pytest.mark.parametrize("hosts", [(), ("img.example.com",)])
def test_no_header_makes_the_guard_fail(tmp_path, monkeypatch, hosts):
    monkeypatch.setattr("noisewright.web.guard.WRONG_TOKEN_SECONDS", 0)

    async def through(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    guard = guarded(through, settings_of(tmp_path, tmp_path, token=TOKEN, hosts=hosts))
    value = st.lists(st.sampled_from(WORDS) | st.binary(max_size=12), max_size=5).map(b"".join)
    every = st.lists(st.tuples(st.sampled_from([name.encode() for name in NAMES]), value), max_size=6)

    @hypothesis.settings(max_examples=400, deadline=None, database=None, derandomize=True)
    @hypothesis.given(every, st.sampled_from(["GET", "POST"]), st.sampled_from(["/", "/login", "/api/mark", *UPLOADS]))
    def holds(headers, method, path):
        host = [] if any(name == b"host" for name, _ in headers) else [(b"host", b"127.0.0.1:8188")]
        status = answer_of(guard, path, method, [*host, *headers])
        assert status in (200, 303, 401, 403, 413, 421), headers
        if path == "/api/mark":  # whoever guesses headers has no token
            assert status != 200

    holds()


# A proxy in front, which speaks https and has a name


@pytest.fixture
def behind(runs, tmp_path):
    hosts = ("img.example.com", "images.svc.cluster.local:8443")
    with talking_to(settings_of(runs, tmp_path, token=TOKEN, hosts=hosts), base="http://img.example.com") as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        yield client


@pytest.mark.parametrize("host", ["img.example.com", "IMG.example.com:443", "images.svc.cluster.local", "localhost"])
def test_a_name_that_the_start_gives_is_its_own(behind, host):
    assert behind.get("/api/runs", headers={"Host": host}).status_code == 200
    assert behind.get("/api/runs", headers={"Host": f"evil.{host}"}).status_code == 421


@pytest.mark.parametrize(("host", "origin"), [
    ("img.example.com", "https://img.example.com"), ("img.example.com", "http://img.example.com"),
    ("127.0.0.1:8188", "https://img.example.com"), ("127.0.0.1:8188", "https://images.svc.cluster.local:8443"),
])  # fmt: skip
def test_the_page_of_a_proxy_may_write(behind, host, origin):
    headers = {"Host": host, "Origin": origin, "X-Forwarded-Proto": "https", "Sec-Fetch-Site": "same-origin"}
    assert behind.post("/api/mark", json={}, headers=headers).status_code == 400  # it was read, and said nothing


@pytest.mark.parametrize("origin", [
    "https://evil.example", "https://img.example.com:9999", "ftp://img.example.com",
    "https://img.example.com.evil.example", "https://images.svc.cluster.local",
])  # fmt: skip
def test_another_site_may_not_whatever_a_proxy_says(behind, origin):
    headers = {"Origin": origin, "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
    assert behind.post("/api/mark", json={}, headers=headers).status_code == 403


def test_the_cookie_is_for_https_where_a_proxy_speaks_it(behind):
    for said, secure in (("https", True), ("http", False), ("https, http", True), ("gopher", False), ("", False)):
        answer = behind.post("/login", json={"token": TOKEN}, headers={"X-Forwarded-Proto": said})
        assert ("Secure" in answer.headers["set-cookie"].split("; ")) == secure, said


def test_nobody_is_believed_about_https_where_no_proxy_is_expected(locked):
    answer = locked.post("/login", json={"token": TOKEN}, headers={"X-Forwarded-Proto": "https"})
    assert "Secure" not in answer.headers["set-cookie"]


@pytest.mark.parametrize("host", ["", "a b", "http://img.example.com", "img.example.com/", "*.example.com", "a,b",
                                  "img.example.com:99999", "img.example.com:0",
                                  "me@a", "img.example.com:port", "[::1", "[:::::]", "ü.example"])  # fmt: skip
def test_what_is_no_name_is_none(runs, tmp_path, host):
    with pytest.raises(ValueError, match="expected --allow-host"):
        check_settings(settings_of(runs, tmp_path, token=TOKEN, hosts=(host,)))


def test_a_name_for_others_needs_a_token(runs, tmp_path):
    with pytest.raises(ValueError, match=r"expected --token with --allow-host img\.example\.com"):
        check_settings(settings_of(runs, tmp_path, hosts=("img.example.com",)))


def test_a_server_that_listens_for_others_is_asked_by_its_names_alone(runs, tmp_path):
    for host, status in (("10.1.2.3:8188", 200), (socket.gethostname(), 200), ("images", 421), ("evil.example", 421)):
        with talking_to(settings_of(runs, tmp_path, host="0.0.0.0", token=TOKEN)) as client:
            headers = {"Host": host, "Authorization": f"Bearer {TOKEN}"}
            assert client.get("/api/runs", headers=headers).status_code == status, host


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pictures_and_scripts_are_not_given_to_other_sites(client, site):
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    for path in READS:
        assert client.get(path, headers=headers).status_code == 403, path
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    assert client.get("/", headers=headers).status_code == 403
    assert client.post("/api/mark", json={}, headers={"Sec-Fetch-Site": site}).status_code == 403


def test_a_link_to_the_page_may_be_followed(client):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/", headers=headers).status_code == 200


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data", ""])
def test_what_a_form_of_another_site_can_send_is_no_request(client, kind):
    for path in ACTS:
        answer = client.post(path, content='{"run": "first"}', headers={"Content-Type": kind})
        assert answer.status_code == 415, path


@pytest.mark.parametrize("path", ACTS)
def test_nothing_is_done_by_following_a_link(client, path):
    assert client.get(path).status_code == 405


def test_our_own_page_may_write(client):
    answer = client.post("/api/mark", json={}, headers={"Origin": HERE, "Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 400  # it was read, and said nothing


# The token


def test_others_can_reach_a_server_only_with_a_token(runs, tmp_path):
    for host in ("0.0.0.0", "192.168.1.7", "::", "example.com"):
        with pytest.raises(ValueError, match="expected --token"):
            check_settings(settings_of(runs, tmp_path, host=host))
    for token in ("short", "with a space in it all", "über-lange-Losung-hier"):
        with pytest.raises(ValueError, match="token of at least 16"):
            check_settings(settings_of(runs, tmp_path, token=token))


@pytest.fixture
def locked(runs, tmp_path):
    with talking_to(settings_of(runs, tmp_path, token=TOKEN)) as client:
        yield client


@pytest.mark.parametrize("given", [{}, {"Authorization": "Bearer wrong-token-of-length"}, {"Authorization": TOKEN},
                                   {"Authorization": f"Basic {TOKEN}"}, {"Cookie": f"{COOKIE}={TOKEN}"},
                                   {"Cookie": f"{COOKIE}=;"}, {"Authorization": "Bearer "}])  # fmt: skip
def test_without_the_token_nothing_is_shown(locked, given, monkeypatch):
    monkeypatch.setattr("noisewright.web.guard.WRONG_TOKEN_SECONDS", 0)
    for path in ("/api/runs", "/picture?run=first&id=0000000000000000", "/openapi.json", "/api/events?run=first"):
        answer = locked.get(path, headers=given)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in answer.text
    assert locked.post("/api/mark", json={}, headers=given).status_code == 401


def test_who_opens_the_page_is_led_to_the_door(locked):
    answer = locked.get("/run?name=first", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?to=/run%3Fname%3Dfirst")
    assert locked.get("/login").status_code == 200
    assert locked.get("/static/login.js").status_code == 200
    assert locked.get("/healthz").status_code == locked.head("/healthz").status_code == 200


def test_the_door_gives_a_cookie_that_no_script_reads_and_no_other_site_sends(locked, monkeypatch):
    monkeypatch.setattr("noisewright.web.pages.WRONG_TOKEN_SECONDS", 0)
    for wrong in ("", "wrong", TOKEN[:-1], None, 3):
        assert locked.post("/login", json={"token": wrong}).status_code == 401
    assert locked.post("/login", content=f"token={TOKEN}",
                       headers={"Content-Type": "application/x-www-form-urlencoded"}).status_code == 415  # fmt: skip
    answer = locked.post("/login", json={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    assert locked.get("/api/runs", headers={"Cookie": f"{COOKIE}={cookie_value(TOKEN)}"}).status_code == 200
    assert locked.get("/api/runs", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("other", ['prefs={"a": [1, 2]}', "a b=1", "=", 'q="', "noisewright=old", "a[]=1,2", "ü=1"])
def test_cookies_of_other_servers_of_this_machine_are_passed_over(locked, other):
    """A browser sends them along to every port, whatever they are."""
    ours = f"{COOKIE}={cookie_value(TOKEN)}"
    for cookies in (f"{other}; {ours}", f"{ours}; {other}"):
        assert locked.get("/api/runs", headers={"Cookie": cookies.encode("latin-1")}).status_code == 200
    assert locked.get("/api/runs", headers={"Cookie": other.encode("latin-1")}).status_code == 401


def test_a_word_for_once_opens_the_door_once(locked, monkeypatch):
    monkeypatch.setattr("noisewright.web.pages.WRONG_TOKEN_SECONDS", 0)
    codes = locked.app.state.codes
    code = codes.new()
    assert code != TOKEN
    assert locked.get("/api/runs", headers={"Authorization": f"Bearer {code}"}).status_code == 401
    assert locked.post("/login", json={"token": code}).status_code == 200
    assert locked.post("/login", json={"token": code}).status_code == 401
    late = codes.new()
    now = time.monotonic()
    monkeypatch.setattr("noisewright.web.guard.time.monotonic", lambda: now + CODE_SECONDS + 1)
    assert locked.post("/login", json={"token": late}).status_code == 401


def test_the_browser_is_opened_without_the_token(runs, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("noisewright.web.serving.open_in_browser", opened.append)
    settings = settings_of(runs, tmp_path, token=TOKEN, only="first", port=free_port())
    beside = Beside(settings)
    beside.start()
    while not opened:
        time.sleep(0.02)
    beside.close()
    assert TOKEN not in opened[0]
    assert opened[0].startswith(f"http://127.0.0.1:{settings.port}/login#")


def test_the_token_is_in_no_text_of_the_settings(runs, tmp_path):
    assert TOKEN not in repr(settings_of(runs, tmp_path, token=TOKEN))


# What a browser may do with answers


@pytest.mark.parametrize("path", ["/", "/login", "/api/runs", "/static/page.js", "/nothing", "/api/run?run=gone"])
def test_every_answer_says_what_a_browser_may_do_with_it(client, path):
    headers = client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers


def test_no_script_and_no_style_stands_in_a_page(client):
    for path in ("/", "/login"):
        page = client.get(path).text
        assert "<style" not in page
        assert " style=" not in page
        assert " onclick" not in page
        assert page.count("<script") == page.count('<script type="module" src="/static/')


# Size


def test_a_body_is_bounded_whether_its_length_is_said_or_not(runs, tmp_path):
    settings = settings_of(runs, tmp_path, limits=Limits(body=1000))
    json = {"Content-Type": "application/json"}
    with talking_to(settings) as client:
        assert client.post("/api/mark", content=b"x" * 1001, headers=json).status_code == 413
        assert client.post("/api/mark", content=iter([b"x" * 600] * 2), headers=json).status_code == 413
        for length in ("-1", "1e9", "9" * 30, "١"):
            answer = client.post("/api/mark", content=b"{}", headers=json | {"Content-Length": length.encode()})
            assert answer.status_code in (400, 413)


BODIES = [b"", b"[]", b"3", b"{", b"\xff", b'{"a":' * 100, b"null", b'{"run": 1}', b'{"run": null}', b"[" * 100_000,
          b'{"run": "\\ud800"}']  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
def test_what_is_no_object_is_refused_in_one_line(client, body):
    for path in ACTS:
        answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 404), path
        assert "\n" not in said(answer)


# What nobody foresaw


def test_a_failure_says_nothing_to_who_asks_and_its_log_is_harmless(settings, monkeypatch, caplog):
    from starlette.testclient import TestClient

    from noisewright.web.app import app

    def fail(listing):
        raise RuntimeError("\x1b[31m/home/someone/secret")

    with TestClient(app(settings), base_url=HERE, raise_server_exceptions=False) as client:
        monkeypatch.setattr("noisewright.web.listing.Listing.all", fail)
        answer = client.get("/api/runs")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    ours = [one.getMessage() for one in caplog.records if one.name == "noisewright"]
    assert any("/api/runs" in text for text in ours)
    assert not any("\x1b" in text for text in ours)


def test_messages_name_no_place_of_this_machine(client, runs):
    (runs / "first" / "run.json").write_text('{"schema_version": 99}')
    answer = client.get("/api/run", params={"run": "first"})
    assert answer.status_code == 400
    assert "got 99 in first/run.json" in said(answer)
    assert str(runs) not in answer.text
