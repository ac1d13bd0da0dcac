"""Images are written while verifiers look at them: the journal is the same, and nothing is lost."""

import threading

import pytest

from noisewright.errors import RunInterrupted
from noisewright.executors.local import LocalExecutor
from noisewright.run import commit
from noisewright.run.beside import Beside
from noisewright.verifiers.pixels import Brightness
from runs import SEARCHES, Killed, content, go, kill_at, lines, open_run, start

PATIENCE = 30  # seconds after which a thread that should have come counts as stuck


class Serial(LocalExecutor):
    """Makes the files with the images."""

    leaves_files = False


@pytest.fixture(autouse=True)
def _small_images_too(monkeypatch):
    monkeypatch.setattr(commit, "WORTH_A_THREAD", 0)


def writers(run):
    """The names of the threads that write images, from now on."""
    seen, save = [], run.store.save_image

    def saved(*given):
        seen.append(threading.current_thread().name)
        return save(*given)

    run.store.save_image = saved
    return seen


# The thread


def test_work_is_done_beside_and_waited_for():
    beside, release, done = Beside(), threading.Event(), []
    beside.end()  # of nothing
    beside.begin(lambda: done.append(release.wait(PATIENCE)))
    assert done == []
    release.set()
    beside.begin(lambda: done.append("second"))  # the first is ended before
    beside.end()
    assert done == [True, "second"]


@pytest.mark.parametrize("error", [OSError("full"), Killed()])
def test_what_it_raises_is_raised_once_where_it_is_waited_for(error):
    def fails():
        raise error

    beside = Beside()
    beside.begin(fails)
    with pytest.raises(type(error)):
        beside.end()
    beside.end()


def test_ctrl_c_waits_for_what_is_being_written(monkeypatch):
    done, join, calls = [], threading.Thread.join, []

    def interrupted(thread, *given):
        calls.append(thread)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return join(thread, *given)

    beside = Beside()
    beside.begin(lambda: done.append(True))
    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        beside.end()
    assert (done, len(calls)) == ([True], 2)


# A run


@pytest.mark.parametrize("name", SEARCHES)
def test_the_journal_is_the_serial_one(tmp_path, name):
    found = {}
    for place, executor in (("beside", LocalExecutor()), ("serial", Serial())):
        search, run = start(tmp_path / place, name)
        run = open_run(tmp_path / place / "run", run.sampler, final=run.final, target=run.target,
                       budget=SEARCHES[name][1]["budget"], executor=executor)  # fmt: skip
        threads = writers(run)
        found[place] = go(run, search), content(run.store.root), [one.pixels for one in run.candidates.values()]
        assert ("noisewright-beside" in threads) == (place == "beside" and len(lines(run.store.root, "finish")) > 1)
    assert found["beside"] == found["serial"]


def test_images_are_written_while_a_verifier_looks_but_the_first_before(tmp_path):
    written = threading.Event()

    class Looks(Brightness):
        saw = ()

        def __call__(self, images, prompt):
            names = lines(tmp_path / "run", "finish")
            self.saw = (*self.saw, written.wait(PATIENCE) if self.saw else len(names) == 1)
            return super().__call__(images, prompt)

    verifier = Looks()
    run = open_run(tmp_path / "run", None, [verifier], "9 images")
    save, begun = run.store.save_image, []

    def saved(*given):
        begun.append(given[0])
        if len(begun) > 3:
            written.set()
        return save(*given)

    run.store.save_image = saved
    go(run)
    assert verifier.saw == (True, True, True)


def test_a_full_disk_ends_the_run_before_the_scores_are_written(tmp_path):
    run = open_run(tmp_path / "run", budget="9 images")
    save, begun = run.store.save_image, []

    def full(*given):
        begun.append(given[0])
        if len(begun) == 5:
            raise RunInterrupted("could not write")
        return save(*given)

    run.store.save_image = full
    with pytest.raises(RunInterrupted):
        go(run)
    run.store.close()
    assert [len(lines(tmp_path / "run", verb)) for verb in ("finish", "score")] == [1, 1]
    again = open_run(tmp_path / "run", budget="9 images")
    go(again)
    assert len(again.candidates) == 9


def test_ctrl_c_in_a_verifier_leaves_its_images_in_the_journal(tmp_path):
    class Interrupted(Brightness):
        calls = 0

        def __call__(self, images, prompt):
            self.calls += 1
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().__call__(images, prompt)

    run = open_run(tmp_path / "run", None, [Interrupted()], "9 images")
    with pytest.raises(KeyboardInterrupt):
        go(run)
    assert [len(lines(tmp_path / "run", verb)) for verb in ("finish", "score")] == [2, 1]
    assert not [one for one in threading.enumerate() if one.name == "noisewright-beside"]


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_write_and_resumed_equals_never_killed(tmp_path, after):
    whole = open_run(tmp_path / "whole", budget="8 images", executor=Serial())
    counted = kill_at(whole.store, 0, after=False)
    go(whole)
    expected = content(tmp_path / "whole")
    for number in range(1, counted() + 1):
        root = tmp_path / str(number)
        run = open_run(root, budget="8 images")
        kill_at(run.store, number, after=after)
        with pytest.raises(Killed):
            go(run)
        run.store.close()
        kept = content(root)
        assert kept == expected[: len(kept)]
        go(open_run(root, budget="8 images"))
        assert content(root) == expected
