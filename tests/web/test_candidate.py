"""What a candidate says of itself: how it was made, and everything by which it is made again."""

import json
import re
import shlex

import numpy as np
import pytest

from noisewright import cli, registry
from noisewright.continuing import request_of
from noisewright.images.video import encode_mp4
from noisewright.run.reading import read_run


def rows_of(client, run="first"):
    return client.get("/api/run", params={"run": run}).json()["rows"]


def candidate(client, key, run="first"):
    answer = client.get("/api/candidate", params={"run": run, "id": key})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_it_says_how_it_was_made(client):
    found = [candidate(client, row[0]) for row in rows_of(client)]
    assert [one["id"] for one in found] == [row[0] for row in rows_of(client)]
    assert found[0]["how"] == "noise of seed 0 -> denoised to step 2"
    varied = [re.fullmatch(r"noise of seed 0( -> varied)+ -> denoised to step 2", one["how"]) for one in found[1:]]
    assert all(varied)
    assert [one["verbs"] for one in found] == [one["how"].count("->") + 1 for one in found]
    assert all(one["alone"] for one in found)  # none was drawn on the way


def test_its_lines_of_plain_diffusers_compile_and_name_the_seed(client):
    rows = rows_of(client)
    for key, seed, *_ in rows:
        found = candidate(client, key)
        if seed is None:
            assert found["diffusers"] is None
            assert found["no_diffusers"]
        else:
            compile(found["diffusers"], "plain", "exec")
            assert f"manual_seed({seed})" in found["diffusers"]
            assert found["no_diffusers"] is None
    assert any(row[1] is not None for row in rows)


def test_its_command_asks_for_the_same_again(client, runs, monkeypatch):
    found = []
    monkeypatch.setattr("noisewright.cli.generate.run_request", lambda request, *more, **named: found.append(request))
    words = shlex.split(candidate(client, rows_of(client)[-1][0])["command"])
    assert words[:3] == ["noisewright", "generate", "a red circle and <b>two</b> blue stars"]
    assert cli.main(words[1:]) == 0
    typed, meant = found[0].to_json(), request_of(runs / "first", read_run(runs / "first")).to_json()
    for one in (typed, meant):
        one["search_args"] = registry.check_arguments("zero-order", one["search_args"])
    assert json.dumps(typed, sort_keys=True) == json.dumps(meant, sort_keys=True)


@pytest.mark.slow
def test_its_replay_is_the_same_pixels(client, runs, monkeypatch, capsys):
    monkeypatch.chdir(runs)
    for row in (rows_of(client)[0], rows_of(client)[-1]):
        words = shlex.split(candidate(client, row[0])["replay"])
        assert cli.main([*words[1:], "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["identical"]


def test_it_has_a_film_where_one_lies_beside_its_picture(client, runs):
    key = rows_of(client)[0][0]
    assert candidate(client, key)["film"] is False
    film = encode_mp4(np.zeros((4, 64, 64, 3), np.uint8), 8)
    (runs / "first" / "images" / f"{key}.mp4").write_bytes(film)
    assert candidate(client, key)["film"] is True
    answer = client.get("/download", params={"run": "first", "id": key, "film": 1})
    assert answer.content == film
    assert f'filename="{key}.mp4"' in answer.headers["content-disposition"]


def test_of_what_is_no_candidate_there_is_nothing(client):
    for key, status in (("0" * 16, 404), ("../first", 404), ("", 404)):
        answer = client.get("/api/candidate", params={"run": "first", "id": key})
        assert (answer.status_code, "expected" in answer.json()["error"]["message"]) == (status, True)
