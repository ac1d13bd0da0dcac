import os
import shutil

import pytest

from noisewright.web.places import NotThere, check_id, directory, found_in
from serving import settings_of, talking_to

OUTSIDE = [
    "../other", "first/../../other", "/etc", "/etc/passwd", "..", ".", "", "first/..", "./first", "first/", "//first",
    "..%2fother", "%2e%2e/other", "..\\other", "C:/other", "first\0", "~", "~root", "\\\\host\\share", "first/.",
    ".hidden", "a" * 2000, "fi\u202erst", "../runs/first",
]  # fmt: skip


@pytest.fixture
def other(runs, tmp_path):
    """A run outside of the server's directory."""
    shutil.copytree(runs / "first", tmp_path / "other")
    return tmp_path / "other"


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_never_leads_outside(client, other, name):
    for path in ("/api/run", "/api/lineage", "/api/choices", "/download", "/picture", "/api/events", "/figure",
                 "/report"):  # fmt: skip
        key = next((other / "images").iterdir()).stem
        answer = client.get(path, params={"run": name, "id": key, "file": "curve.png"})
        assert answer.status_code == 404, path
    for path in ("/api/mark", "/api/stop", "/api/more", "/api/score"):
        answer = client.post(path, json={"run": name, "budget": "9 images", "verifier": "brightness"})
        assert answer.status_code == 404, path


ENCODED = [
    "/api/run?run=..%2fother", "/api/run?run=%2e%2e%2fother", "/api/run?run=..%252fother", "/static/..%2fapp.py",
    "/static/%2e%2e/app.py", "/static/../app.py", "/static//etc/passwd", "/static/page.js%00", "/static/.",
    "/run/../../etc/passwd",
]  # fmt: skip


@pytest.mark.parametrize("raw", ENCODED)
def test_nor_does_an_encoded_one(client, other, raw):
    assert client.get(raw).status_code in (400, 404)


def test_links_that_lead_out_are_no_runs(settings, other, runs):
    os.symlink(other, runs / "link")
    os.symlink("/etc", runs / "etc")
    os.symlink(runs, runs / "round")
    for name in ("link", "etc", "round/first/../first"):
        with pytest.raises(NotThere):
            directory(settings, name)
    assert [name for name, _, _ in found_in(settings)] == ["first"]


def test_a_link_inside_is_a_run(settings, runs):
    os.symlink("first", runs / "again")
    assert directory(settings, "again") == settings.runs / "again"
    assert sorted(name for name, _, _ in found_in(settings)) == ["again", "first"]


def test_files_of_a_run_that_are_links_out_of_it_are_not_read(runs, tmp_path, other):
    secret = tmp_path / "secret.png"
    shutil.copy(other / "best.png", secret)
    image = next((runs / "first" / "images").iterdir())
    key = image.stem
    image.unlink()
    os.symlink(secret, image)
    with talking_to(settings_of(runs, tmp_path)) as client:
        for path in ("/picture", "/download"):
            assert client.get(path, params={"run": "first", "id": key}).status_code == 404
        (runs / "first" / "run.json").unlink()
        os.symlink(other / "run.json", runs / "first" / "run.json")
        assert client.get("/api/run", params={"run": "first"}).status_code == 404


def test_choices_are_not_written_through_a_link(runs, tmp_path, client):
    target = tmp_path / "target"
    os.symlink(target, runs / "first" / "choices.jsonl")
    key = next((runs / "first" / "images").iterdir()).stem
    answer = client.post("/api/mark", json={"run": "first", "id": key, "mark": "star", "on": True})
    assert answer.status_code == 400
    assert not target.exists()


@pytest.mark.parametrize("key", ["", "..", "../x", "0" * 15, "0" * 17, "0" * 16 + "\n", "G" * 16, "0" * 15 + "/"])
def test_an_id_is_sixteen_digits(key):
    with pytest.raises(NotThere):
        check_id(key)


def test_a_server_of_one_run_shows_no_other(runs, tmp_path):
    shutil.copytree(runs / "first", runs / "second")
    settings = settings_of(runs, tmp_path, only="first")
    assert [name for name, _, _ in found_in(settings)] == ["first"]
    with pytest.raises(NotThere):
        directory(settings, "second")


def test_runs_are_found_below_other_directories(settings, runs):
    shutil.copytree(runs / "first", runs / "prompts" / "0001-a-red-circle")
    assert sorted(name for name, _, _ in found_in(settings)) == ["first", "prompts/0001-a-red-circle"]
    assert directory(settings, "prompts/0001-a-red-circle").is_dir()
