"""Tasks side by side: each by whoever is free, errors at the end, an end that was asked for."""

import signal
import threading
import time

import pytest

from noisewright.executors.dealt import dealt, ended_gently

PATIENCE = 20  # seconds after which a thread that should have gone on never will


def test_each_is_done_once_by_as_many_as_there_are():
    together = threading.Barrier(3, timeout=PATIENCE)
    places = set()

    def do(task, place):
        if task < 3:
            together.wait()  # nobody gets through alone
        places.add(place)
        yield task, "begun"
        yield task, "ended"

    found = list(dealt(iter(range(10)), 3, do, threading.Event()))
    assert sorted(found) == sorted((n, text) for n in range(10) for text in ("begun", "ended"))
    assert places == {0, 1, 2}


def test_tasks_are_taken_in_the_thread_that_asks_and_not_before_somebody_is_free():
    here, taken, hold = threading.get_ident(), [], threading.Event()

    def tasks():
        for number in range(4):
            assert threading.get_ident() == here
            taken.append(number)
            yield number

    def do(task, place):
        assert threading.get_ident() != here
        if task < 2:
            yield "begun"
            assert hold.wait(PATIENCE)

    some = dealt(tasks(), 2, do, threading.Event())
    assert [next(some), next(some)] == ["begun", "begun"]
    assert taken == [0, 1]
    hold.set()
    assert list(some) == []
    assert taken == [0, 1, 2, 3]


def test_an_error_is_raised_once_the_others_are_at_their_ends():
    ended, failed = [], threading.Event()

    def do(task, place):
        if task == 0:
            failed.set()
            raise ValueError("broken")
        assert failed.wait(PATIENCE)
        time.sleep(0.01)
        ended.append(task)
        yield task

    some = dealt(iter(range(5)), 2, do, threading.Event())
    with pytest.raises(ValueError, match="broken"):
        list(some)
    assert ended == [1], "what was in hand is finished, and no more is taken"


def test_after_an_end_that_was_asked_for_no_more_is_taken():
    ending, left = threading.Event(), iter(range(100))

    def do(task, place):
        ending.set()
        yield task

    assert len(list(dealt(left, 2, do, ending))) <= 2
    assert next(left) <= 2


def test_nothing_to_do():
    assert list(dealt(iter(()), 3, lambda task, place: (), threading.Event())) == []


def test_the_first_signal_asks_and_the_second_ends():
    before = signal.getsignal(signal.SIGINT)
    with ended_gently() as ending:
        assert not ending.is_set()
        signal.raise_signal(signal.SIGINT)
        assert ending.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
