import base64
import io
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import warm
from loopback import Reply, serving
from noisewright import cli, registry
from noisewright.errors import VerifierFailed
from noisewright.images.metadata import pixels_of
from noisewright.verifiers.cache import cached
from noisewright.verifiers.protocol import Verifier, score
from noisewright.verifiers.retry import BackOff
from noisewright.verifiers.rubric import ASPECTS, SCHEMA, rubric_question, yes_question
from noisewright.verifiers.vlm import VlmVerifier, is_server, make_vlm
from noisewright.verifiers.vlm_server import Server
from reward_models import write_qwen

pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("no_account")

IMAGES = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 4, 7) * 40 / 255  # flat greys of 0, 40, ..., 200
QUICK = BackOff(tries=4, first=0.005)
PATIENCE = 30
"""Seconds that an answer which does come may take on a busy machine."""
PROBABILITY = 1e-6  # float32 softmax against float32 softmax


def grey(seen):
    """Which of :data:`IMAGES` a request is about."""
    url = next(part["image_url"]["url"] for part in seen.body["messages"][0]["content"] if part["type"] == "image_url")
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    return int(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).mean())


def rating(value, **other):
    return {name: {"score": other.get(name, value), "explanation": f"{name} is {value}"} for name in ASPECTS}


def content_of(text):
    """A message's content: a text, parts, or the JSON of an object."""
    is_parts = isinstance(text, list) and text and isinstance(text[0], dict) and "type" in text[0]
    return text if isinstance(text, str) or is_parts else json.dumps(text)


def chat(text, usage=(100, 20), **more):
    """A completion as servers send it."""
    message = {"role": "assistant", "content": content_of(text), **more}
    return {
        "id": "1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)},
    }  # fmt: skip


def graded(seen):
    """The reply of a judge that likes it bright: 0 to 10."""
    return Reply(chat(rating(grey(seen) / 20, accuracy_to_prompt=1.5)))


def judge(server, back_off=QUICK, form="rubric", aspect="overall_score", name="vlm", cache=None, **options):
    backend = Server("some/model", base_url=f"{server.url}/v1", back_off=back_off, **options)
    return VlmVerifier(backend, form=form, aspect=aspect, name=name, cache=cache)


# The rubric over a server


def test_the_request_and_the_score():
    with serving(lambda seen, number: graded(seen)) as server:
        verifier = judge(server)
        assert isinstance(verifier, Verifier)
        assert score(verifier, IMAGES, "a cat") == [0, 2, 4, 6, 8, 10]
    assert len(server.seen) == 6
    seen = server.seen[0]
    assert seen.path == "/v1/chat/completions"
    assert seen.body["model"] == "some/model"
    assert seen.body["temperature"] == 0
    form = seen.body["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"] == {"name": "rating", "strict": True, "schema": SCHEMA}
    (question,) = (part["text"] for part in seen.body["messages"][0]["content"] if part["type"] == "text")
    assert question == rubric_question("a cat")
    for name in ASPECTS:
        assert name in question


def test_the_six_keys_and_a_schema_that_strict_mode_takes():
    assert list(ASPECTS) == [
        "accuracy_to_prompt", "creativity_and_originality", "visual_quality_and_realism", "consistency_and_cohesion",
        "emotional_or_thematic_resonance", "overall_score",
    ]  # fmt: skip
    assert SCHEMA["required"] == list(SCHEMA["properties"]) == list(ASPECTS)
    for one in (SCHEMA, *SCHEMA["properties"].values()):
        assert one["additionalProperties"] is False
        assert set(one["required"]) == set(one["properties"])


NO_FORMAT = [
    Reply({"error": {"message": "Unknown parameter: 'response_format'."}}, 400),
    Reply({"detail": [{"loc": ["body", "response_format"], "msg": "Extra inputs are not permitted"}]}, 422),
    Reply({"error": {"message": "json_schema is not supported by this model", "code": 400}}, 400),
    Reply("x" * 3000 + " response_format", 400),
    Reply({"error": {"message": "structured outputs: not implemented"}}, 501),
]


@pytest.mark.parametrize("refusal", NO_FORMAT, ids=range(len(NO_FORMAT)))
def test_a_server_that_takes_no_response_format_is_asked_without_it(refusal):
    with serving(lambda seen, number: refusal if "response_format" in seen.body else graded(seen)) as server:
        verifier = judge(server, BackOff(tries=1), workers=1)
        assert score(verifier, IMAGES[:3], "x") == [0, 2, 4]
        assert score(verifier, IMAGES[3:], "x") == [6, 8, 10]
    assert ["response_format" in seen.body for seen in server.seen] == [True] + 6 * [False]
    assert verifier.usage.requests == 7


@pytest.mark.parametrize(
    "reply",
    [Reply({"error": {"message": "image too large"}}, 400), Reply({"error": {"message": "response_format"}}, 401)],
)
def test_other_refusals_are_not_taken_for_that(reply):
    with serving(lambda seen, number: reply) as server, pytest.raises(VerifierFailed, match="HTTP status 40"):
        score(judge(server, workers=1), IMAGES[:1], "x")
    assert len(server.seen) == 1


def test_a_server_that_refuses_both_ways_is_asked_twice():
    with serving(lambda seen, number: NO_FORMAT[0]) as server:
        with pytest.raises(VerifierFailed, match="HTTP status 400"):
            score(judge(server, workers=1), IMAGES[:1], "x")
        assert ["response_format" in seen.body for seen in server.seen] == [True, False]


@pytest.mark.parametrize(
    "parts",
    [
        [{"type": "text", "text": json.dumps(rating(7))}],
        [{"type": "text", "text": json.dumps(rating(7))[:30]}, {"type": "text", "text": json.dumps(rating(7))[30:]}],
        [{"type": "reasoning", "text": json.dumps(rating(3))}, {"type": "text", "text": json.dumps(rating(7))}],
        [{"type": "thinking", "thinking": [{"type": "text", "text": "{"}]}, {"type": "output_text", "text": "7"}],
        [
            {"type": "text", "text": f"<think>{json.dumps(rating(2))}</think>"},
            {"type": "text", "text": '{"score": "7"}'},
        ],
    ],
    ids=["one", "two", "reasoning", "thinking", "tags"],
)
def test_content_as_a_list_of_parts(parts):
    with serving(lambda seen, number: Reply(chat(parts))) as server:
        assert score(judge(server, BackOff(tries=1)), IMAGES[:1], "x") == [7]


def test_a_single_score_is_the_overall_one_and_other_aspects_are_asked_for(tmp_path):
    with serving(lambda seen, number: Reply(chat({"score": 7})) if number == 0 else graded(seen)) as server:
        assert score(judge(server, cache=tmp_path), IMAGES[:1], "x") == [7]
        assert score(judge(server, cache=tmp_path, aspect="accuracy_to_prompt"), IMAGES[:1], "x") == [1.5]
        assert len(server.seen) == 2
        assert score(judge(server, cache=tmp_path, aspect="visual_quality_and_realism"), IMAGES[:1], "x") == [0]
        assert len(server.seen) == 2


def test_answers_out_of_order_keep_their_images():
    def slow_first(seen, number):
        return Reply(graded(seen).body, after=0.3 - 0.05 * grey(seen) / 40)

    with serving(slow_first) as server:
        assert score(judge(server, workers=6), IMAGES, "x") == [0, 2, 4, 6, 8, 10]
        assert server.most_busy == 6
        server.most_busy = 0
        assert score(judge(server, workers=2), IMAGES.flip(0)[:4], "x") == [10, 8, 6, 4]
        assert server.most_busy == 2


BAD = {
    "429": Reply({"error": {"message": "slow down"}}, 429, {"Retry-After": "0.2"}),
    "500": Reply("oops", 500),
    "503": Reply({"error": {"message": "later"}}, 503),
    "cut": Reply(chat("x"), cut=0),
    "cut in the answer": Reply(chat("x"), cut=20),
    "slow": Reply(chat(rating(9)), after=0.5),
    "no json": Reply("<html>proxy</html>"),
    "no json, in html": Reply("<html>proxy</html>", headers={"Content-Type": "text/html"}),
    "empty": Reply(""),
    "other json": Reply({"choices": []}),
    "null": Reply("null"),
    "deep": Reply("[" * 100_000),
    "messages of texts": Reply({"choices": [{"message": "7"}]}),
    "choices by name": Reply({"choices": {"0": chat(rating(5))["choices"][0]}}),
    "no text": Reply(chat("")),
    "refusal": Reply({**chat("x"), "choices": [{"message": {"content": None, "refusal": "I cannot"}}]}),
    "text": Reply(chat("I would say eight of ten.")),
    "half json": Reply(chat(json.dumps(rating(5))[:90])),
    "missing key": Reply(chat({name: value for name, value in rating(5).items() if name != "overall_score"})),
    "11": Reply(chat(rating(5, visual_quality_and_realism=11))),
    "-1": Reply(chat(rating(-1))),
    "nan": Reply(chat(json.dumps(rating(math.nan)))),
    "true": Reply(chat(rating(True))),
    "a word": Reply(chat(rating("high"))),
    "list": Reply(chat({name: [5] for name in ASPECTS})),
    "of ten": Reply(chat(rating("5/10"))),
    "two texts": Reply({**chat("x"), "choices": [*chat(rating(3))["choices"], *chat(rating(5))["choices"]]}),
    "cut at the limit": Reply({**chat("x"), "choices": [{**chat(rating(5))["choices"][0], "finish_reason": "length"}]}),
    "filtered": Reply({**chat("x"), "choices": [{**chat(rating(5))["choices"][0], "finish_reason": "content_filter"}]}),
    "refusal in parts": Reply(
        chat([{"type": "text", "text": json.dumps(rating(5))}, {"type": "refusal", "refusal": "no"}])
    ),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_answer_is_asked_for_again(kind):
    tries = {}

    def sometimes(seen, number):
        tries[grey(seen)] = tries.get(grey(seen), 0) + 1
        return BAD[kind] if tries[grey(seen)] == 1 and grey(seen) in (0, 80) else graded(seen)

    with serving(sometimes) as server:
        verifier = judge(server, timeout=0.25 if kind == "slow" else PATIENCE)
        assert score(verifier, IMAGES[:4], "x") == [0, 2, 4, 6]
    assert tries == {0: 2, 40: 1, 80: 2, 120: 1}
    assert verifier.usage.requests == 6
    if kind == "429":
        times = [seen.at for seen in server.seen if grey(seen) == 80]
        assert times[1] - times[0] >= 0.2
    if kind == "11":
        last = [seen for seen in server.seen if grey(seen) == 80][1]
        said = last.body["messages"][0]["content"][-1]["text"]
        assert "visual_quality_and_realism with a score in [0, 10], got 11" in said


@pytest.mark.parametrize("kind", BAD)
def test_an_image_that_stays_bad_costs_only_its_own_score(kind, caplog):
    with serving(lambda seen, number: BAD[kind] if grey(seen) == 40 else graded(seen)) as server:
        verifier = judge(server, BackOff(tries=2, first=0.005), timeout=0.15 if kind == "slow" else PATIENCE)
        found = score(verifier, IMAGES[:3], "x")
        assert verifier.details(IMAGES[:3], "x")[1] is None
        assert len(server.seen) == 4
    assert [found[0], found[2]] == [0, 4]
    assert math.isnan(found[1])
    (line,) = caplog.messages
    assert line.startswith("verifier vlm: ")
    assert line.endswith("(NaN for 1 of 3 images)")
    assert "\n" not in line


@pytest.mark.parametrize("kind", ["500", "cut", "slow", "text"])
def test_only_when_all_fail_the_verifier_failed(kind):
    with serving(lambda seen, number: BAD[kind]) as server:
        with pytest.raises(VerifierFailed) as caught:
            score(judge(server, BackOff(tries=2, first=0.005), timeout=0.15), IMAGES[:3], "x")
        assert len(server.seen) == 6  # not asked one by one once more
    assert str(caught.value).startswith("verifier vlm: ")
    assert "\n" not in str(caught.value)


def test_what_will_not_pass_is_not_tried_again(caplog):
    refused = Reply({"error": {"message": "content policy\nviolated", "code": "policy"}}, 400)
    with serving(lambda seen, number: refused if grey(seen) == 80 else graded(seen)) as server:
        found = score(judge(server), IMAGES, "x")
        assert len(server.seen) == 6
    assert [math.isnan(one) for one in found] == [False, False, True, False, False, False]
    assert "HTTP status 400" in caplog.text


@pytest.mark.parametrize(
    "reply",
    [
        Reply({"error": {"message": "wrong key"}}, 401),
        Reply({"error": {"message": "no such model"}}, 404),
        Reply({"error": {"message": "no money left", "code": "insufficient_quota"}}, 429),
    ],
)
def test_what_every_request_would_get_is_asked_for_once_a_worker(reply):
    with serving(lambda seen, number: reply) as server:
        with pytest.raises(VerifierFailed, match=reply.body["error"]["message"]):
            score(judge(server, workers=2), IMAGES, "x")
        assert len(server.seen) <= 3


def test_all_aspects_and_explanations_are_kept_and_one_is_the_score():
    with serving(lambda seen, number: graded(seen)) as server:
        verifier = judge(server, aspect="accuracy_to_prompt")
        assert score(verifier, IMAGES[:2], "x") == [1.5, 1.5]
        first, second, other = verifier.details(IMAGES[:3], "x")
        assert len(server.seen) == 2
    assert other is None
    assert list(second) == list(ASPECTS)
    assert second["overall_score"] == {"score": 2.0, "explanation": "overall_score is 2.0"}
    assert first["accuracy_to_prompt"]["score"] == 1.5


def test_answers_are_kept_by_image_prompt_model_and_rubric(tmp_path, monkeypatch):
    with serving(lambda seen, number: graded(seen)) as server:
        one = judge(server, cache=tmp_path)
        twice = torch.cat([IMAGES[:3], IMAGES[:3]])
        assert score(one, twice, "x") == [0, 2, 4, 0, 2, 4]
        assert len(server.seen) == 3
        assert score(judge(server, cache=tmp_path, aspect="accuracy_to_prompt"), twice, "x") == [1.5] * 6
        assert len(server.seen) == 3  # the other aspects were in the same answers
        score(one, IMAGES[:1], "y")
        assert len(server.seen) == 4
        score(judge(server, cache=tmp_path, temperature=1.0), IMAGES[:1], "x")
        assert len(server.seen) == 5
        monkeypatch.setattr("noisewright.verifiers.vlm.RUBRIC_VERSION", "2")
        score(judge(server, cache=tmp_path), IMAGES[:1], "x")
        assert len(server.seen) == 6


def test_a_server_s_answers_are_kept_where_its_own_cache_says_alone(tmp_path, caplog):
    with serving(lambda seen, number: graded(seen)) as server:
        one = judge(server, cache=tmp_path)
        assert caplog.text.count("nothing says when a server changes") == 1
        score(one, IMAGES[:1], "x")
        for sent in (2, 3):  # a score cache is of all verifiers: a server's answers are not looked up there
            kept = cached(judge(server), tmp_path)
            assert isinstance(kept, VlmVerifier)
            score(kept, IMAGES[:1], "x")
            assert len(server.seen) == sent
    assert caplog.text.count("scores of vlm are not kept on disk: nothing says when a server changes") == 2


def test_fingerprints_say_what_a_score_depends_on(monkeypatch):
    with serving(lambda seen, number: graded(seen)) as server:
        made = [
            judge(server), judge(server, aspect="accuracy_to_prompt"), judge(server, temperature=None),
            judge(server, form="yes"), VlmVerifier(Server("other", base_url=server.url)),
        ]  # fmt: skip
        assert judge(server, workers=2, timeout=9).fingerprint == made[0].fingerprint
        monkeypatch.setattr("noisewright.verifiers.vlm.RUBRIC_VERSION", "2")
        made.append(judge(server))
    assert len({one.fingerprint for one in made}) == 6


def test_tokens_and_cost_are_counted():
    with serving(lambda seen, number: graded(seen) if number else BAD["500"]) as server:
        verifier = judge(server, prices=(0.5, 2.0))
        score(verifier, IMAGES, "x")
    usage = verifier.usage
    assert (usage.requests, usage.input_tokens, usage.output_tokens) == (7, 600, 120)
    assert usage.cost == pytest.approx((600 * 0.5 + 120 * 2.0) / 1e6)
    with serving(lambda seen, number: graded(seen)) as server:
        assert judge(server).usage.cost is None


@pytest.mark.parametrize(
    "usage", ["100", None, {"prompt_tokens": "12"}, {"prompt_tokens": -1, "completion_tokens": True}, [1]]
)
def test_a_bill_that_is_none_costs_no_answer(usage):
    with serving(lambda seen, number: Reply({**graded(seen).body, "usage": usage})) as server:
        verifier = judge(server)
        assert score(verifier, IMAGES[:2], "x") == [0, 2]
    assert (verifier.usage.input_tokens, verifier.usage.output_tokens) == (0, 0)


def test_ctrl_c_keeps_what_was_answered_and_asks_no_more():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a script's background has it ignored
    try:
        _interrupted_by_ctrl_c()
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupted_by_ctrl_c():
    def answer(seen, number):
        if number == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return Reply(graded(seen).body, after=0.0 if number < 3 else 0.3)

    many = torch.arange(40.0).view(40, 1, 1, 1).expand(40, 3, 4, 7) * 4 / 255
    with serving(answer) as server:
        verifier = judge(server, workers=1)
        with pytest.raises(KeyboardInterrupt):
            score(verifier, many, "x")
        time.sleep(0.5)
        assert len(server.seen) <= 5
        assert sum(one is not None for one in verifier.details(many, "x")) >= 2


PROGRAM = """
import signal, sys, torch
signal.signal(signal.SIGINT, signal.default_int_handler)
from noisewright.verifiers.vlm import VlmVerifier
from noisewright.verifiers.vlm_server import Server
VlmVerifier(Server("m", base_url=sys.argv[1], timeout=60))(torch.rand(3, 3, 4, 4), "x")
"""


@pytest.mark.slow
def test_ctrl_c_ends_the_program_though_the_server_is_silent():
    with serving(lambda seen, number: Reply(graded(seen).body, after=60)) as server:
        program = warm.Popen([sys.executable, "-c", PROGRAM, server.url], stderr=subprocess.DEVNULL)
        try:
            while len(server.seen) < 3:
                assert program.poll() is None
                time.sleep(0.05)
            program.send_signal(signal.SIGINT)
            assert program.wait(timeout=20) != 0
        finally:
            program.kill()


def test_no_image_is_sent_on_to_another_server():
    with serving(lambda seen, number: graded(seen)) as other:
        moved = Reply("", 307, {"Location": f"{other.url}/v1/chat/completions"})
        with serving(lambda seen, number: moved) as server:
            with pytest.raises(VerifierFailed, match=f"sends requests on to {other.url}.*: give that address"):
                score(judge(server, workers=1), IMAGES, "x")
            assert len(server.seen) == 1
        assert not other.seen


def test_organization_and_project_are_told_to_openai_alone(monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-mine")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with serving(lambda seen, number: graded(seen)) as server:
        score(judge(server), IMAGES[:1], "x")
    assert not {"openai-organization", "openai-project"} & set(server.seen[0].headers)
    assert Server("m").client.organization == "org-mine"
    assert Server("m", base_url="https://eu.api.openai.com/v1").client.project == "proj-mine"
    for foreign in ("https://judge.example/v1", "https://api.openai.com.example/v1", "https://notapi.openai.com/v1"):
        client = Server("m", base_url=foreign).client
        assert client.organization is client.project is None


# P(yes) over a server


def logprobs(*pairs):
    likely = [{"token": token, "logprob": math.log(p)} for token, p in pairs]
    content = [{"token": "x", "logprob": -1.0, "top_logprobs": likely}]
    found = chat("Yes")
    found["choices"][0]["logprobs"] = {"content": content}
    return Reply(found)


@pytest.mark.parametrize(
    ("pairs", "wanted"),
    [
        ([("Yes", 0.6), ("No", 0.2), ("Maybe", 0.1)], 0.75),
        ([(" yes", 0.1), ("Yes", 0.2), ("NO", 0.1)], 0.75),
        ([("Yes", 0.5)], 1.0),
        ([("No", 0.01), ("Hm", 0.9)], 0.0),
    ],
)
def test_p_yes_is_its_share_of_yes_and_no(pairs, wanted):
    with serving(lambda seen, number: logprobs(*pairs)) as server:
        verifier = judge(server, form="yes", name="vqa")
        assert score(verifier, IMAGES[:2], 'a "cat"') == pytest.approx([wanted] * 2)
        assert verifier.details(IMAGES[:1], 'a "cat"') == [{"yes": pytest.approx(wanted)}]
    body = server.seen[0].body
    assert body["messages"][0]["content"][0]["text"] == 'Does this figure show "a "cat""? Please answer Yes or No.'
    assert (body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (True, 20, 1)


@pytest.mark.parametrize(
    ("reply", "says", "asked"),
    [
        (Reply(chat("Yes")), "expected log-probabilities of the first token", 1),
        (logprobs(("Perhaps", 0.9)), "expected Yes or No among the likely first tokens", 4),
    ],
)
def test_p_yes_of_a_server_that_does_not_say(reply, says, asked):
    with serving(lambda seen, number: reply) as server:
        with pytest.raises(VerifierFailed, match=says):
            score(judge(server, form="yes"), IMAGES[:1], "x")
        assert len(server.seen) == asked


def test_a_server_without_log_probabilities_is_asked_once():
    with serving(lambda seen, number: Reply(chat("Yes"))) as server:
        with pytest.raises(VerifierFailed, match="expected log-probabilities of the first token"):
            score(judge(server, form="yes", workers=1), IMAGES, "x")
        assert len(server.seen) == 1


def test_openai_calls_the_limit_by_another_name(monkeypatch):
    monkeypatch.setattr("noisewright.verifiers.vlm_server.is_openai", lambda url: True)
    with serving(lambda seen, number: logprobs(("Yes", 0.5))) as server:
        score(judge(server, form="yes"), IMAGES[:1], "x")
    assert server.seen[0].body["max_completion_tokens"] == 1
    assert "max_tokens" not in server.seen[0].body


# Names, keys


@pytest.mark.parametrize(
    ("name", "server"),
    [
        ("gpt-4o-mini", True), ("#openai/gpt-4o", True), ("http://localhost:8000/v1#Qwen/Qwen2.5-VL-3B-Instruct", True),
        ("Qwen/Qwen2.5-VL-3B-Instruct", False), ("./here", False), ("/abs/dir", False),
    ],
)  # fmt: skip
def test_the_name_tells_a_servers_model_from_a_local_one(name, server):
    assert is_server(name) is server


def test_a_directory_is_a_local_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_server("judge-model")
    (tmp_path / "judge-model").mkdir()
    assert not is_server("judge-model")
    with pytest.raises(ValueError, match=r"could not be loaded: the directory has no config\.json"):
        registry.make_verifier("vlm:judge-model")


def test_options_of_a_name():
    with serving(lambda seen, number: graded(seen)) as server:
        text = f"vlm:{server.url}/v1#a/b,aspect=visual_quality_and_realism,workers=3,tries=2,timeout=7,prices=0.15,0.6"
        made = registry.make_verifier(text + ",temperature=none")
        assert score(made, IMAGES[:2], "x") == [0, 2]
    assert made.name == "vlm-visual_quality_and_realism"
    assert (made.backend.model, made.backend.url, made.backend.workers) == ("a/b", f"{server.url}/v1", 3)
    assert made.backend.back_off.tries == 2
    assert made.usage.prices == (0.15, 0.6)
    assert "temperature" not in server.seen[0].body


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vlm", "expected a model such as vlm:gpt-4o-mini"),
        ("vqa", "expected a model such as vqa:gpt-4o-mini"),
        ("vlm:http://localhost:8000/v1", "expected a model such as"),
        ("vlm:http://localhost:8000/v1#", "expected a model such as"),
        ("vlm:ftp://localhost#m", "expected a URL such as"),
        ("vlm:http://me:secret@localhost/v1#m", "without a user or password"),
        ("vlm:m,aspect=beauty", "expected an aspect among accuracy_to_prompt"),
        ("vlm:http://localhost:1/v1#m,workers=0", "expected workers of at least 1, got 0"),
        ("vlm:http://localhost:1/v1#m,tries=0", "expected tries of at least 1, got 0"),
        ("vlm:http://localhost:1/v1#m,timeout=0", "expected a timeout in seconds above 0"),
        ("vlm:http://localhost:1/v1#m,prices=1", "expected prices as INPUT,OUTPUT"),
        ("vlm:http://localhost:1/v1#m,prices=-1,2", "expected prices of at least 0"),
        ("vlm:http://localhost:1/v1#m,aspct=x", "did you mean aspect"),
        ("vlm:owner/name,workers=2", "expected no workers for a model that runs here"),
        ("vlm:gpt-4o-mini", "expected an API key in OPENAI_API_KEY for https://api.openai.com/v1"),
        ("vlm:https://judge.example/v1#m", "expected an API key in OPENAI_API_KEY for https://judge.example/v1"),
        ("vlm:https://judge.example/v1#m,key_env=JUDGE_KEY", "expected a key in the environment variable JUDGE_KEY"),
        ("vlm:https://judge.example/v1#m,key_env=a-secret", "expected key_env to be the NAME of an environment"),
        ("vlm:http://judge.example/v1?api_key=a-secret#m", "without a key, which records would keep, got api_key"),
        ("vlm:http://localhost:1/v1#m,deadline=0", "expected a deadline in seconds above 0"),
        ("vlm:http://localhost:1/v1#m,deadline=nan", "expected a deadline in seconds above 0"),
    ],
)
def test_wrong_use_is_one_line_before_anything_is_sent(text, says):
    with pytest.raises(ValueError, match=says) as caught:
        registry.make_verifier(text)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_server_of_the_environment(monkeypatch):
    with serving(lambda seen, number: graded(seen)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        assert score(make_vlm("gpt-4o-mini"), IMAGES[:2], "x") == [0, 2]  # no key is needed here
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        assert score(make_vlm("#openai/gpt-4o"), IMAGES[:2], "x") == [0, 2]
    assert [seen.body["model"] for seen in server.seen] == 2 * ["gpt-4o-mini"] + 2 * ["openai/gpt-4o"]
    assert [seen.headers["authorization"] for seen in server.seen] == 2 * ["Bearer none"] + 2 * ["Bearer sk-test"]


def test_without_the_package_it_is_one_line(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ValueError, match=r"pip install 'noisewright\[judge\]'"):
        registry.make_verifier("vlm:http://localhost:1/v1#m")


def test_the_command_line(tmp_path, capsys):
    for n in range(3):
        Image.fromarray(np.full((5, 5, 3), 40 * n, np.uint8)).save(tmp_path / f"{n}.png")
    files = [str(tmp_path / f"{n}.png") for n in range(3)]
    with serving(lambda seen, number: BAD["11"] if grey(seen) == 40 else graded(seen)) as server:
        given = ["score", *files, "--prompt", "x", "--json", "--verifier", f"vlm:{server.url}/v1#m,tries=1"]
        assert cli.main(given) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)["images"]
    assert [one["scores"]["vlm"] for one in found] == [4.0, 0.0, None]
    assert "NaN for 1 of 3 images" in err
    assert err.count("\n") == 1
    assert cli.main(["score", *files, "--prompt", "x", "--verifier", "vlm:gpt-4o-mini"]) == 2
    assert "OPENAI_API_KEY" in capsys.readouterr().err


# A model that runs here


PHOTOS = torch.rand(3, 3, 24, 40, generator=torch.Generator().manual_seed(1))


def direct(model, tokenizer, image, prompt):
    """P(Yes) as a plain forward of one image gives it, with the inputs put together by hand."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    processor = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, temporal_patch_size=2, min_pixels=64, max_pixels=4096
    )
    pixels = processor(images=[Image.fromarray(pixels_of(image))], return_tensors="pt")
    places = int(pixels["image_grid_thw"].prod()) // 4
    text = (
        f"<|im_start|>user\n<|vision_start|>{'<|image_pad|>' * places}<|vision_end|>Does this figure show "
        f'"{prompt}"? Please answer Yes or No.<|im_end|>\n<|im_start|>assistant\n'
    )
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    total, answer = 0.0, tokenizer("Yes")["input_ids"]
    with torch.no_grad():
        for token in answer:
            kinds = (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).long()
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=kinds, **pixels).logits
            total += float(logits[0, -1].log_softmax(0)[token])
            ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    return math.exp(total / len(answer)), len(answer)


def test_local_p_yes_is_that_of_a_plain_forward(qwen):
    directory, model, tokenizer = qwen
    verifier = registry.make_verifier(f"vqa:{directory}")
    assert verifier.name == "vqa"
    found = score(verifier, PHOTOS, "two red circles")
    for value, image in zip(found, PHOTOS, strict=True):
        wanted, tokens = direct(model, tokenizer, image, "two red circles")
        assert tokens == 1
        assert value == pytest.approx(wanted, abs=PROBABILITY)
    assert len({round(value, 6) for value in found}) == 3
    assert found != pytest.approx(score(verifier, PHOTOS, "a cat"), abs=PROBABILITY)


def test_local_p_yes_of_several_tokens_is_their_geometric_mean(tmp_path):
    model, tokenizer = write_qwen(tmp_path)
    found = score(registry.make_verifier(f"vqa:{tmp_path}"), PHOTOS, "x")
    for value, image in zip(found, PHOTOS, strict=True):
        wanted, tokens = direct(model, tokenizer, image, "x")
        assert tokens == 3
        assert value == pytest.approx(wanted, abs=PROBABILITY)


def test_local_scores_do_not_depend_on_batch_mates(qwen):
    verifier = registry.make_verifier(f"vqa:{qwen[0]}")
    fresh = registry.make_verifier(f"vqa:{qwen[0]}")
    assert fresh.fingerprint == verifier.fingerprint
    alone = [score(fresh, image[None], "x")[0] for image in PHOTOS]
    assert score(verifier, PHOTOS, "x") == pytest.approx(alone, abs=PROBABILITY)


def test_a_large_pool_is_seen_in_parts(qwen, monkeypatch):
    verifier = registry.make_verifier(f"vqa:{qwen[0]}")
    expected = score(verifier, PHOTOS, "x")
    monkeypatch.setattr("noisewright.verifiers.vlm_local.AT_ONCE", 2)
    monkeypatch.setattr("noisewright.verifiers.vlm_local.LONGEST_ANSWER", 2)
    sizes = []
    verifier.backend.network.register_forward_pre_hook(
        lambda module, given, named: sizes.append(len(named["input_ids"])), with_kwargs=True
    )
    arrays = list(pixels_of(PHOTOS))
    assert list(verifier.backend.yes(arrays, yes_question("x"))) == pytest.approx(expected, abs=PROBABILITY)
    assert len(list(verifier.backend.read(arrays, "x", SCHEMA, str))) == 3
    assert sizes == [2, 1, *[2] * 2, *[1] * 2]  # reading asks once for each of the answer's two tokens


def test_the_local_rubric_reads_what_the_model_writes(qwen, monkeypatch, caplog):
    verifier = registry.make_verifier(f"vlm:{qwen[0]},aspect=accuracy_to_prompt")
    tokenizer, asked = qwen[2], []

    def generate(input_ids, **more):  # random weights write no JSON
        asked.append((tokenizer.decode(input_ids[0]), more["max_new_tokens"], more["do_sample"]))
        texts = [json.dumps(rating(9, accuracy_to_prompt=n)) if n != 1 else "hm" for n in range(len(input_ids))]
        written = [tokenizer(one)["input_ids"] for one in texts]
        longest = max(map(len, written))
        padded = [one + [tokenizer.pad_token_id] * (longest - len(one)) for one in written]
        return torch.cat([input_ids, torch.tensor(padded)], dim=1)

    monkeypatch.setattr(verifier.backend.network, "generate", generate)
    found = score(verifier, PHOTOS, "two red circles")
    assert [found[0], found[2]] == [0, 2]
    assert math.isnan(found[1])
    assert verifier.details(PHOTOS, "two red circles")[2]["overall_score"]["score"] == 9
    assert "expected a JSON object, got 'hm' (NaN for 1 of 3 images)" in caplog.text
    ((text, _, sampled),) = asked
    assert rubric_question("two red circles") in text
    assert not sampled


def test_a_local_model_that_writes_no_rating_fails_in_one_line(qwen, monkeypatch):
    monkeypatch.setattr("noisewright.verifiers.vlm_local.LONGEST_ANSWER", 8)
    with pytest.raises(VerifierFailed, match="verifier vlm: expected a JSON object, got"):
        score(registry.make_verifier(f"vlm:{qwen[0]}"), PHOTOS[:2], "x")


def test_a_model_that_is_no_vision_language_model_is_refused(tmp_path):
    from transformers import CLIPTextConfig, CLIPTextModel

    from tiny import tokenizer

    CLIPTextModel(
        CLIPTextConfig(vocab_size=190, hidden_size=8, intermediate_size=8, num_attention_heads=2, num_hidden_layers=1)
    ).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ValueError, match="could not be loaded") as caught:
        registry.make_verifier(f"vlm:{tmp_path}")
    assert "\n" not in str(caught.value)


@pytest.fixture(autouse=True)
def heard(caplog):
    caplog.set_level(logging.WARNING, "noisewright")
