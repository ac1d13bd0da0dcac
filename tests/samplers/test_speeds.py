"""How many images at once are fastest, by a clock of our own, and what is kept of it."""

import json

import pytest
import torch

import tiny
from noisewright import registry
from noisewright.samplers import json_cache, speeds
from noisewright.samplers.speeds import Speed, fastest_size, in_turns, seconds_each, timer
from noisewright.schemas.speeds import check_kept_speed


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    speeds.CACHE.forget()
    yield
    speeds.CACHE.forget()


@pytest.fixture(scope="module")
def sampler():
    pipe = tiny.sd()
    pipe.set_progress_bar_config(disable=True)
    return registry.make_sampler(pipe, "two red circles", {"num_inference_steps": 4})


def found(sampler, took, first, **more):
    """The choice among sizes of which an image takes ``took(size)``, and the sizes that were tried, in order."""
    tried = []

    def each(few, size):
        tried.append(size)
        return took(size)

    speed = fastest_size(sampler, first, **{"seconds": 1e9, **more}, each=each)
    assert list(speed.seconds) == [str(one) for one in sorted(tried)]
    return int(speed.choice), tried


def fits(most, took=lambda size: 1.0 / size):
    def each(size):
        if size > most:
            raise MemoryError
        return took(size)

    return each


@pytest.mark.parametrize(
    ("took", "first", "chosen", "tried"),
    [
        (lambda size: 1.0 / min(size, 16), 4, 16, [4, 8, 16, 32]),
        (lambda size: 1.0, 8, 1, [8, 16, 4, 2, 1]),  # nothing gains: fewer at once cost nothing
        (lambda size: 1.0 + 0.01 * size, 8, 1, [8, 16, 4, 2, 1]),
        (lambda size: abs(size - 8) + 1.0, 8, 8, [8, 16, 4]),
        (lambda size: abs(size - 2) + 1.0, 8, 2, [8, 16, 4, 2, 1]),
        (lambda size: 1.0 / size, 16, 64, [16, 32, 64]),  # no more are tried
        (lambda size: 1.0 / size**0.01, 16, 16, [16, 32, 8]),  # 0.7 % is no gain
        (lambda size: 1.0 / size, 5, 64, [4, 8, 16, 32, 64]),  # powers of two
    ],
)
def test_the_fastest_for_an_image_is_chosen(sampler, took, first, chosen, tried):
    assert found(sampler, took, first) == (chosen, tried)


def test_what_does_not_fit_is_no_choice(sampler):
    tried = []

    def each(few, size):
        tried.append(size)
        return fits(4)(size)

    speed = fastest_size(sampler, 16, seconds=1e9, each=each)
    assert (speed.choice, tried, list(speed.seconds)) == ("4", [16, 8, 4, 8, 2], ["2", "4"])
    with pytest.raises(MemoryError):
        fastest_size(sampler, 4, seconds=1e9, each=lambda few, size: fits(0)(size))


def test_a_trial_ends_where_the_next_size_would_take_too_long(sampler):
    # an image takes a second: 8 of them three times would take 24, 2 of them 6, 1 of them 3
    assert found(sampler, lambda size: 1.0, 4, seconds=10.0) == (1, [4, 2, 1])
    assert found(sampler, lambda size: 1.0, 4, seconds=5.0) == (4, [4])


def test_a_trial_leaves_the_meter_and_the_random_numbers_alone(sampler):
    before, state = sampler.meter.snapshot(), torch.get_rng_state()
    speed = fastest_size(sampler, 2, most=4, seconds=1e9)
    assert set(speed.seconds) >= {"2", "4"}
    assert all(one > 0 for one in speed.seconds.values())
    assert sampler.meter.since(before)["nfe"] == 0
    assert torch.equal(state, torch.get_rng_state())


def test_first_calls_do_not_count_but_for_slow_ones():
    calls = {"fast": iter([0.5, 0.2, 0.3]), "slow": iter([2.0])}
    assert in_turns({name: one.__next__ for name, one in calls.items()}, 1) == {"fast": 0.2, "slow": 2.0}


def test_a_step_is_timed_for_an_image(sampler):
    ticks = iter([10.0, 13.0])
    assert timer(sampler, 2, lambda: next(ticks))() == 1.5
    assert seconds_each(sampler, 1) > 0


def test_what_was_found_is_found_again_by_another_process():
    key, speed = json_cache.key_of({"a": 1}), Speed("8", {"4": 0.2, "8": 0.1})
    assert key != json_cache.key_of({"a": 2})
    assert speeds.CACHE.get(key) is None
    speeds.CACHE.keep(key, speed)
    speeds.CACHE.forget()
    assert speeds.CACHE.get(key) == speed


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"{", b"[]", b"\xff", {"choice": "0"}, {"choice": "float64"}, {"choice": 8}, {"seconds": {"8": 0.0}},
        {"seconds": {"__class__": 1.0}}, {"more": 1},
    ],
)  # fmt: skip
def test_a_damaged_file_is_ignored_in_one_line(damage, caplog):
    key = json_cache.key_of({})
    speeds.CACHE.keep(key, Speed("8", {"8": 0.1}))
    file = speeds.CACHE.file(key)
    held = json.loads(file.read_text())
    check_kept_speed(held, "it")
    if isinstance(damage, dict):
        damage = json.dumps({**held, "speed": {**held["speed"], **damage}}).encode()
    file.write_bytes(damage)
    speeds.CACHE.forget()
    assert speeds.CACHE.get(key) is None
    assert len(caplog.records) == 1
    said = caplog.records[0].getMessage()
    assert said.startswith("a kept speed is ignored")
    assert str(file) in said
    assert "\n" not in said


def test_where_nothing_is_kept_nothing_is_said(caplog):
    assert speeds.CACHE.get(json_cache.key_of({"nobody": "knows"})) is None
    assert caplog.records == []


def test_what_could_not_be_read_is_not_written():
    speeds.CACHE.keep("k", Speed("8", {"8": 0.0}))
    assert not speeds.CACHE.file("k").exists()


def test_a_file_of_another_key_is_not_believed():
    key = json_cache.key_of({})
    speeds.CACHE.keep(key, Speed("8", {"8": 0.1}))
    file = speeds.CACHE.file(key)
    file.write_text(file.read_text().replace(key, "0" * 32))
    speeds.CACHE.forget()
    assert speeds.CACHE.get(key) is None


def test_where_nothing_can_be_written_it_is_known_in_this_process(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    speeds.CACHE.keep("k", Speed("8"))
    assert speeds.CACHE.get("k") == Speed("8")
