"""Which verifier to trust: rows with a known truth, and what the audit says of them."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from benchmark.made import failed_row, made_row
from noisewright.benchmark.audit import ENSEMBLE, PLAIN, audit_spec, audited, candidates_of
from noisewright.benchmark.chosen import Index, chosen_by
from noisewright.benchmark.spec import SetPrompt
from noisewright.benchmark.store import CANDIDATES, Results
from noisewright.benchmark.votes import Vote
from noisewright.run.journal import seal

COUNT = 8
AXIS = {"search": "random"}


def made(root, noise, *, prompts=24, judges=1, fails=(), missing=(), seed=0):
    """Candidates whose truth is normal; each verifier sees it with so much noise, the judge nearly as it is."""
    verifiers = [f"noise-{one:g}" for one in noise]
    names = [*verifiers, *(f"judge-{k}" for k in range(judges))]
    texts = [SetPrompt(f"prompt {n}", n) for n in range(1, prompts + 1)]
    spec = audit_spec({}, texts, verifiers, names[len(verifiers) :], COUNT, 0, "made.txt")
    generator, rows = np.random.default_rng(seed), []
    root.mkdir(exist_ok=True)
    with (root / CANDIDATES).open("wb") as file:
        for prompt in texts:
            truth = generator.normal(size=COUNT) + generator.normal()
            seen = [truth + one * generator.normal(size=COUNT) for one in (*noise, *[0.05] * judges)]
            if prompt.number in fails:
                rows.append(failed_row(AXIS, prompt, 0, "no"))
                continue
            rows.append(made_row(AXIS, prompt, 0, {}, {}, verifiers=names, judges=[]))
            for order in range(COUNT):
                scores = {name: float(10 * values[order]) for name, values in zip(names, seen, strict=True)}
                if (prompt.number, order) in missing:
                    scores[names[0]] = None
                key = f"{1000 * prompt.number + order:016x}"
                row = {"cell": rows[-1]["cell"], "id": key, "seed": order, "order": order, "steps": 2, "nfe": 2,
                       "seconds": 0.1, "scores": scores, "file": f"{rows[-1]['run']}/images/{key}.png"}  # fmt: skip
                file.write(seal(row))
    return Results(root, spec, tuple(rows))


def of(rows, **wanted):
    found = [one for one in rows if all(getattr(one, key) == value for key, value in wanted.items())]
    assert len(found) == 1
    return found[0]


def test_the_verifier_that_sees_best_is_trusted(tmp_path):
    found = audited(made(tmp_path, [2.0, 0.3, 4.0]), 3)
    assert found.trusted == "noise-0.3"
    assert found.verdict.startswith("trust noise-0.3: its pick of 8 is +1.")
    assert "by judge-0, better than noise-2 by +" in found.verdict
    assert (found.prompts, found.candidates, found.failed, found.left_out) == (24, COUNT, 0, 0)
    assert (found.verifiers, found.judges) == (("noise-2", "noise-0.3", "noise-4"), ("judge-0",))
    near = of(found.agreement, one="noise-0.3", other="judge-0")
    far = of(found.agreement, one="noise-4", other="judge-0")
    assert near.spearman.low > far.spearman.high
    assert near.kendall.mean < near.spearman.mean
    assert near.prompts == 24


def test_who_picks_gains_most_by_its_own_score(tmp_path):
    found = audited(made(tmp_path, [2.0, 0.3]), 2)
    for name in found.verifiers:
        own = of(found.pays, picker=name, scorer=name)
        others = [one for one in found.pays if one.scorer == name and one.picker != name]
        assert all(one.score.mean < own.score.mean for one in others)
    plain = of(found.pays, picker=PLAIN, scorer="judge-0")
    assert plain.deviations.low < 0 < plain.deviations.high
    best = of(found.pays, picker="judge-0", scorer="judge-0")
    together = of(found.pays, picker=ENSEMBLE, scorer="judge-0")
    assert plain.gain.mean < together.gain.mean < best.gain.mean
    assert best.gain.mean == pytest.approx(10 * best.deviations.mean, rel=0.2)


def test_more_candidates_are_worth_more(tmp_path):
    found = audited(made(tmp_path, [0.3]), 1)
    rows = [one for one in found.best_of if one.picker == "noise-0.3"]
    assert [one.count for one in rows] == [1, 2, 4, 8]
    gains = [one.gain.mean for one in rows]
    assert gains[0] == pytest.approx(0, abs=1e-9)
    assert gains == sorted(gains)
    assert found.verdict.startswith("trust noise-0.3: its pick of 8")
    assert found.against == ()


def test_equal_verifiers_do_not_stand_out(tmp_path):
    found = audited(made(tmp_path, [1.0, 1.0001], prompts=10), 2)
    assert found.trusted is None
    assert found.verdict.startswith("no verifier stands out: noise-1")
    assert "not shown to be better than noise-1" in found.verdict
    assert 0 <= found.stability.same_best < 0.9


def test_verifiers_that_know_nothing_are_not_trusted(tmp_path):
    found = audited(made(tmp_path, [1e6, 1e7], prompts=8), 2)
    assert found.verdict.startswith("trust none: ")


def test_two_without_a_judge_cannot_say_three_can(tmp_path):
    found = audited(made(tmp_path, [0.3, 2.0], judges=0), 2)
    assert found.trusted is None
    assert "name a judge" in found.verdict
    assert found.against == ()
    three = audited(made(tmp_path, [0.1, 4.0, 0.1001], judges=0), 3)
    assert {one.by for one in three.against} == {("noise-0.1001",), ("noise-4",), ("noise-0.1",)}
    assert three.trusted is None
    assert "by the other verifiers" in three.verdict
    assert not [one for one in three.against if {one.one, one.other} == {"noise-0.1", "noise-0.1001"} and one.stands]


def test_a_prompt_that_failed_and_a_score_that_is_missing_are_left_out_and_counted(tmp_path):
    results = made(tmp_path, [0.3, 2.0], fails=(2,), missing=((3, 1), (4, 0)))
    found = audited(results, 2)
    assert (found.prompts, found.failed, found.left_out) == (23, 1, 2)
    assert found.candidates == COUNT
    assert math.isfinite(of(found.pays, picker=PLAIN, scorer="judge-0").gain.low)
    held = candidates_of(results, 2)
    assert np.isnan(held.scores).all(2).sum() == 2


def test_nothing_to_compare_is_said(tmp_path):
    with pytest.raises(ValueError, match="every prompt failed"):
        audited(made(tmp_path, [0.3, 2.0], prompts=2, fails=(1, 2)), 2)


def test_of_one_prompt_there_are_no_intervals_and_no_verdict(tmp_path):
    found = audited(made(tmp_path, [0.3, 2.0], prompts=1), 2)
    assert math.isnan(of(found.pays, picker="noise-0.3", scorer="judge-0").gain.low)
    assert found.trusted is None
    assert "[" not in found.verdict


def test_picks_are_those_of_the_highest_scores(tmp_path):
    results = made(tmp_path, [0.3, 2.0], prompts=3)
    found = audited(results, 2)
    assert {one.number for one in found.picks} == {1, 2, 3}
    held = candidates_of(results, 2)
    for one in found.picks:
        assert one.picks[0].by[0] == PLAIN
        assert one.picks[0].seed == 0
        rows = held.rows[one.number - 1]
        for name in held.names:
            pick = next(pick for pick in one.picks if name in pick.by)
            assert pick.scores[name] == max(row["scores"][name] for row in rows)
    json.dumps(found.to_json())


@pytest.mark.parametrize(
    ("verifiers", "judges", "count", "says"),
    [(["a", "b", "a"], [], 8, "each verifier and judge once, got a twice"), (["a"], ["a"], 8, "got a twice"),
     (["a"], [], 8, "at least two that score"), (["a", "b"], [], 1, "at least 2 candidates, got 1")],
)  # fmt: skip
def test_audits_of_nothing_are_refused(verifiers, judges, count, says):
    with pytest.raises(ValueError, match=says):
        audit_spec({}, [SetPrompt("a cat", 1)], verifiers, judges, count, 0, "")


# Votes


def voted(results, verifiers, likes, *, ties=0, wrong=0.0, seed=0):
    """A person who goes by one scorer, now and then by nothing, on neighbouring candidates of each prompt."""
    held = candidates_of(results, verifiers)
    column, generator, found = held.names.index(likes), np.random.default_rng(seed), []
    for prompt, rows, scores in zip(held.prompts, held.rows, held.scores, strict=True):
        for k in range(0, len(rows) - 1, 2):
            one, other = rows[k], rows[k + 1]
            better = (scores[k, column] > scores[k + 1, column]) != (generator.random() < wrong)
            names = [one["id"], f"elsewhere/{other['id']}.png"]
            found.append(Vote(*(names if better else names[::-1]), prompt.text))
    return [replace(one, tie=True) for one in found[:ties]] + found[ties:]


def choices(results, verifiers, votes, place, elsewhere=None):
    held = candidates_of(results, verifiers)
    index = Index([one.text for one in held.prompts], held.rows)
    return chosen_by(votes, held.names, verifiers, index, place, elsewhere)


def test_a_person_decides_against_the_judge(tmp_path):
    results = made(tmp_path, [0.3, 3.0])
    chosen = choices(results, 2, voted(results, 2, "noise-3", ties=3, wrong=0.1), tmp_path)
    assert chosen.unknown == 0
    assert chosen.agreement["noise-3"].rate > 0.8
    assert chosen.agreement["noise-3"].ties == 3
    assert chosen.agreement["noise-3"].choices == 24 * COUNT // 2 - 3
    found = audited(results, 2, chosen)
    assert found.trusted == "noise-3"
    assert found.verdict.startswith("trust noise-3: it agrees with the person in ")
    assert "more often than noise-0.3. By scores: trust noise-0.3: its pick" in found.verdict
    assert len(chosen.strengths) == 24 * COUNT
    assert chosen.preferred[0].difference.high < 0


def test_a_person_who_tosses_coins_trusts_nobody(tmp_path):
    results = made(tmp_path, [0.3, 3.0], prompts=8)
    found = audited(results, 2, choices(results, 2, voted(results, 2, "noise-3", wrong=0.5), tmp_path))
    assert found.trusted is None
    assert "not surely more than a coin" in found.verdict


def test_votes_on_images_that_nobody_knows_are_counted(tmp_path):
    results = made(tmp_path, [0.3, 3.0], prompts=2)
    found = choices(results, 2, [Vote("0" * 16, "f" * 16), Vote("../x.png", "y.png", "a cat")], tmp_path)
    assert (found.votes, found.unknown) == (2, 2)
    assert found.strengths == ()
    assert audited(results, 2, found).verdict.startswith(("trust", "no verifier"))


def test_an_id_of_two_prompts_needs_the_prompt(tmp_path):
    rows = [[{"id": "a" * 16, "file": f"cells/{k}/images/{'a' * 16}.png", "scores": {"x": k}}] for k in range(2)]
    index = Index(["a cat", "a dog"], rows)
    assert index.find("a" * 16, None) is None
    assert index.find("a" * 16, "a dog").scores == {"x": 1}
    assert index.find(f"cells/1/images/{'a' * 16}.png", None).scores == {"x": 1}
    assert index.find("a" * 9, "a cat").scores == {"x": 0}
    assert index.find("a" * 7, "a cat") is None
    assert index.find("a" * 16, "a fish") is None


def test_files_beside_the_table_are_scored_and_no_others(tmp_path):
    results = made(tmp_path / "made", [0.3, 3.0], prompts=2)
    place = tmp_path / "votes"
    place.mkdir()
    for name in ("one.png", "two.png"):
        (place / name).write_bytes(b"")
    (tmp_path / "secret.png").write_bytes(b"")
    asked = []

    def elsewhere(path, prompt):
        asked.append((path.name, prompt))
        return {"noise-0.3": 1.0 if path.name == "one.png" else 2.0}

    votes = [Vote("one.png", "two.png", "a cat"), Vote("../secret.png", "one.png", "a cat"), Vote("one.png", "two.png")]
    found = choices(results, 2, votes, place, elsewhere)
    assert found.unknown == 2
    assert {name for name, _ in asked} == {"one.png", "two.png"}
    assert found.agreement["noise-0.3"].rate == 0
    assert found.agreement["noise-3"].missing == 1
