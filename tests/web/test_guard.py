"""Each attack on a server that only its owner may ask, one by one."""

import pytest

from noisewright.web.guard import COOKIE, cookie_value, is_own_host
from noisewright.web.settings import Limits, check_settings
from serving import HERE, settings_of, talking_to

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


ORIGINS = ["http://evil.example", "http://127.0.0.1:3000", "http://localhost:8188", "https://evil.example:8188", "null",
           "file://", "http://127.0.0.1:8188.evil.example"]  # fmt: skip


@pytest.mark.parametrize("origin", ORIGINS)
def test_another_sites_page_can_neither_write_nor_read(client, origin):
    for path in ACTS:
        assert client.post(path, json={}, headers={"Origin": origin}).status_code == 403, path
    assert client.get("/api/runs", headers={"Origin": origin}).status_code == 403


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
    assert locked.get("/healthz").status_code == 200


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
