"""Who is at the model together, and in which order."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from noisewright.web.turns import Line


class Visit:
    """Somebody at the model, until told to go."""

    def __init__(self, pool, line, model):
        self.came, self.go, self.up = threading.Event(), threading.Event(), threading.Event()
        self.line, before = line, line.waiting + line.there
        self.end = pool.submit(self._be, model)
        while line.waiting + line.there == before:
            time.sleep(0.001)

    def _be(self, model):
        with self.line.at(model, self.up.is_set) as came:
            if came:
                self.came.set()
                self.go.wait()
            return came

    def leave(self):
        self.go.set()
        return self.end.result(60)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as found:
        yield found


def test_those_of_one_model_are_there_together_and_others_wait(pool):
    line = Line()
    one, two = (Visit(pool, line, "a") for _ in range(2))
    other = Visit(pool, line, "b")
    assert one.came.wait(60)
    assert two.came.wait(60)
    one.leave()
    assert not other.came.is_set()
    two.leave()
    assert other.came.wait(60)
    other.leave()


def test_nobody_overtakes_who_waits_for_another_model(pool):
    line = Line()
    first, other, late = (Visit(pool, line, model) for model in "aba")
    assert not late.came.is_set()
    first.leave()
    assert other.came.wait(60)
    assert not late.came.is_set()
    other.leave()
    assert late.came.wait(60)
    late.leave()


def test_who_wants_to_be_alone_is(pool):
    line = Line()
    alone, other, again = (Visit(pool, line, model) for model in (None, "a", None))
    assert alone.came.wait(60)
    assert not other.came.is_set()
    alone.leave()
    assert other.came.wait(60)
    assert not again.came.is_set()
    other.leave()
    assert again.came.wait(60)
    again.leave()


def test_who_gives_up_lets_the_next_one_pass(pool):
    line = Line()
    first, other, late = (Visit(pool, line, model) for model in "aba")
    other.up.set()
    line.look()
    assert other.end.result(60) is False
    assert late.came.wait(60)
    first.leave()
    late.leave()


def test_a_failure_makes_room(pool):
    line = Line()
    with pytest.raises(OSError, match="x"), line.at("a", lambda: False):
        raise OSError("x")
    Visit(pool, line, "b").leave()
