import json
import random
import time
from contextlib import suppress

import pytest

from noisewright.verifiers.rubric import ASPECTS, read_rating

MOST_SECONDS = 3.0  # of the processor, of any answer that a server may send; a quadratic pattern takes minutes


def whole(value, **other):
    return {name: {"score": other.get(name, value), "explanation": "because"} for name in ASPECTS}


SIX = json.dumps(whole(3, overall_score=7))
FLAT = json.dumps({name: 7 for name in ASPECTS})
ONE = json.dumps({"overall_score": {"score": 7, "explanation": "because"}})

FOUND = {
    "six": SIX,
    "spaces": f"\n  {SIX}\n",
    "fenced": f"Here it is:\n```json\n{SIX}\n```\nAnything else?",
    "thinking": f"<think>It has {{two}} circles, so 3 or 4 of 10.</think>\n{SIX}",
    "thinking with an answer of its own": f"<think>{json.dumps(whole(1))}</think>{SIX}",
    "thinking that began in the prompt": f"maybe {json.dumps(whole(1))}?</think>{SIX}",
    "thinking, other words": f"<reasoning>{{</reasoning>{SIX}",
    "thinking in thinking": f"<think>a<think>b</think>{{c</think>{SIX}",
    "thinking, brackets": f"[THINK]{json.dumps(whole(2))}[/THINK]{SIX}",
    "thinking, kimi": f"◁think▷{json.dumps(whole(2))}◁/think▷{SIX}",
    "thinking in capitals": f"<THINK>{{</THINK>{SIX}",
    "thinking afterwards": f"{SIX}<think>{json.dumps(whole(2))}</think>",
    "braces before": f"I weigh {{light, mood}} and {{anatomy}}. {SIX}",
    "braces with quotes": f'a {{"b"}} and {{}} {SIX}',
    "braces after": f"{SIX} {{as asked}}",
    "braces in an explanation": SIX.replace("because", "a { in it, and a }"),
    "twice the same": f"{SIX}\n\nAgain: {SIX}",
    "text": json.dumps(whole("3", overall_score="7")),
    "text with spaces": json.dumps(whole(" 7.0 ")),
    "decimals": json.dumps(whole(7.0)),
    "flat": FLAT,
    "flat text": json.dumps({name: "7" for name in ASPECTS}),
    "in an object": json.dumps({"result": json.loads(SIX)}),
    "in two": json.dumps({"data": {"ratings": json.loads(SIX)}, "model": "m"}),
    "in a list": f"[{SIX}]",
    "in a JSON text": json.dumps(SIX),
    "other keys beside": json.dumps({"prompt": "x", "confidence": 0.9, **json.loads(SIX), "n": 3}),
    "in other letters": SIX.replace("overall_score", "Overall Score"),
    "in camels": SIX.replace("overall_score", "overallScore"),
    "rating in place of score": json.dumps({name: {"rating": 7} for name in ASPECTS}),
    "deeper": json.dumps({name: {"score": {"value": 7}} for name in ASPECTS}),
    "an object each": "\n".join(json.dumps({name: {"score": 7}}) for name in ASPECTS),
    "the wanted one alone": ONE,
    "the same key twice, equal": '{"overall_score": 7, "overall_score": 7}',
    "score": '{"score": 7}',
    "score text": '{"score": "7"}',
    "score with words": '{"score": 7, "explanation": "two circles, 3 colours"}',
    "score in a result": '{"result": {"score": 7}}',
    "score in results": '{"results": [{"score": 7, "reason": "x"}]}',
    "score with others": '{"score": 7, "confidence": 9, "max": 10}',
    "score said too": 'Score: 7. {"score": 7}',
    "rating": '{"rating": 7}',
    "rating object": '{"rating": {"score": 7}}',
    "Score": '{"Score": 7}',
    "bare": "7",
    "bare decimal": " 7.0\n",
    "bare JSON text": '"7"',
    "bare, labelled": "Score: 7",
    "bare, marked": "**Overall score:** 7",
    "bare, fenced": "```\n7\n```",
    "bare after thinking": "<think>between 3 and 9</think>7",
}


@pytest.mark.parametrize("kind", FOUND)
def test_a_score_is_found_where_its_meaning_is_unambiguous(kind):
    assert read_rating(FOUND[kind])["overall_score"]["score"] == 7


REFUSED = {
    "nothing": "",
    "prose": "I would say seven of ten.",
    "refusal": "I'm sorry, but I cannot rate this picture.",
    "of ten": "7/10",
    "of ten, labelled": "Score: 7/10",
    "of ten in JSON": json.dumps(whole("7/10")),
    "out of ten": "7 out of 10",
    "70": "70",
    "70 in JSON": json.dumps(whole(70)),
    "70 as text": json.dumps(whole("70")),
    "70 in one": json.dumps(whole(7, creativity_and_originality=70)),
    "-1": '{"score": -1}',
    "per cent": '{"score": "70%"}',
    "a range": "7-8",
    "or": "score: 7 or 8",
    "or in JSON": '{"score": "7 or 8"}',
    "two numbers": "7 8",
    "two scores": '{"score": 7} {"score": 8}',
    "two scores in a list": '[{"score": 7}, {"score": 8}]',
    "two names": '{"score": 7, "rating": 8}',
    "two, one deeper": '{"score": 7, "second": {"score": 8}}',
    "two answers": f"{SIX} or {json.dumps(whole(8))}",
    "two drafts": f"Draft: {json.dumps(whole(2))}\nFinal: {SIX}",
    "the same key twice": '{"overall_score": 7, "overall_score": 8}',
    "the same key in other letters": '{"overall_score": 7, "Overall Score": 8}',
    "two in one": json.dumps({"overall_score": {"score": 7, "rating": 8}}),
    "said otherwise": 'Score: 8. {"score": 7}',
    "cut": SIX[:-1],
    "cut in a text": SIX[:60],
    "cut before the last": SIX[: SIX.index('"overall_score"')],
    "cut, one left": '{"result": {"score": 7}',
    "cut, second": '{"score": 7} {"sco',
    "cut fence": f"```json\n{SIX[:80]}",
    "cut thinking": f"<think>I see {SIX}",
    "cut thinking after": f"<think>a</think> <think>{SIX}",
    "broken": SIX.replace(":", "=", 1),
    "comma": SIX[:-1] + ",}",
    "single quotes": SIX.replace('"', "'"),
    "NaN": json.dumps(whole(float("nan"))),
    "Infinity": json.dumps(whole(float("inf"))),
    "1e999": '{"score": 1e999}',
    "many digits": '{"score": ' + "9" * 400 + "}",
    "too many digits": '{"score": ' + "9" * 5000 + "}",
    "NaN as text": '{"score": "NaN"}',
    "true": '{"score": true}',
    "true in six": json.dumps(whole(True)),
    "null": '{"score": null}',
    "a word": '{"score": "high"}',
    "other digits": '{"score": "٧"}',
    "full-width digits": "７",
    "underscores": '{"score": "1_0"}',
    "a comma": '{"score": "7,5"}',
    "hexadecimal": '{"score": "0x7"}',
    "a list": '{"score": [7]}',
    "an empty object": "{}",
    "a list of numbers": "[7]",
    "no overall": json.dumps({name: 7 for name in ASPECTS if name != "overall_score"}),
    "unknown names": '{"quality": 7}',
    "scores of parts": '{"light": {"score": 7}, "mood": {"score": 7}}',
    "a part's score": '{"light": {"score": 7}}',
    "null document": "null",
    "deep": '{"result":' * 40 + '{"score": 7}' + "}" * 40,
    "deeper than Python": "{" * 5000,
    "a list deeper than Python": "[" * 100_000,
    "a number in prose": "There are 7 circles.",
    "powers": "7**2",
    "inside of what is broken": '{"accuracy_to_prompt": {"score": 7}, "overall_score": high}',
    "inside of what quotes break": '{"' + SIX,
    "named twice, once broken": SIX + ' {"overall_score": {"score": 8},}',
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_have_to_be_guessed_is_refused(kind):
    with pytest.raises(ValueError, match=r"expected|Exceeds") as caught:
        read_rating(REFUSED[kind])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("kind", ["score", "bare", "rating", "the wanted one alone"])
def test_a_score_without_a_name_is_no_aspect_s(kind):
    with pytest.raises(ValueError, match="expected"):
        read_rating(FOUND[kind], "accuracy_to_prompt")


def test_all_aspects_are_kept_in_order_with_their_explanations():
    found = read_rating(
        json.dumps({"x": dict(reversed(list(whole(3, overall_score=7).items())))}), "visual_quality_and_realism"
    )
    assert list(found) == list(ASPECTS)
    assert found["accuracy_to_prompt"] == {"score": 3.0, "explanation": "because"}
    assert read_rating('{"score": 7, "reason": "nice\\u001b[31m"}') == {
        "overall_score": {"score": 7.0, "explanation": "nice"}
    }


def test_an_answer_cut_anywhere_is_no_answer():
    for text in (
        SIX,
        f"<think>I see {{a}}</think>{SIX}",
        json.dumps({"result": {"score": 7}}),
        json.dumps({"score": 7}),
    ):
        for end in range(len(text) - 1):
            with pytest.raises(ValueError, match="expected"):
                read_rating(text[:end])


@pytest.mark.slow
def test_noise_around_an_answer_changes_nothing_or_is_refused():
    draw = random.Random(0)
    pieces = [
        "{",
        "}",
        '"',
        "{a}",
        "```",
        "<think>",
        "</think>",
        "7",
        "score",
        ":",
        "[",
        "]",
        "\\",
        "\n",
        "{}",
        "8/10",
        " ",
    ]
    taken = 0
    for _ in range(2000):
        before, after = ("".join(draw.choices(pieces, k=draw.randrange(5))) for _ in range(2))
        after = after.replace("</think>", "")  # which would make reasoning of the answer
        try:
            found = read_rating(before + SIX + after)
        except ValueError:
            continue
        taken += 1
        assert {name: one["score"] for name, one in found.items()} == {
            **dict.fromkeys(ASPECTS, 3.0),
            "overall_score": 7.0,
        }
    assert taken > 500


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "part", ["{", "{a}", '{"a":1}', "{'", "<think>", "</think>", '{"score":7}', "score: 7 ", '"', "[", "\\"]
)
def test_no_answer_takes_long(part):
    for size in (60_000, 1_000_000):
        began = time.process_time()
        with suppress(ValueError):
            read_rating(part * (size // len(part)))
        assert time.process_time() - began < MOST_SECONDS
