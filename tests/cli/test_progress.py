"""How far a run is: by the step, in a terminal, in a notebook, as lines; and what the libraries below say meanwhile."""

import io
import pickle
import re
import sys
import types
import warnings
from concurrent.futures import Future
from dataclasses import replace

import pytest

import noisewright as nw
import warm
from noisewright import progress
from noisewright.api import planned
from noisewright.cli import progress as cli_progress
from noisewright.execute import execute
from noisewright.progress import RunProgress, lines
from noisewright.samplers.mixture import MixtureSampler

STEPS = 5


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def plan(**more):
    return planned(MixtureSampler(steps=STEPS), "a mixture", **{"verifier": "brightness", **more})


def followed(tmp_path, **more):
    """What a display was told of a run."""
    told = []
    found = execute(plan(**more), tmp_path / "run", RunProgress(lambda *now: told.append(now)), pictures=False)
    return found, told


def test_one_micro_batch_is_told_step_by_step(tmp_path):
    found, told = followed(tmp_path, budget="16 images", batch_size=16)
    before = [done for done, _, text in told if "best" not in text]
    assert found.images == 16
    assert len(set(before)) == STEPS + 1
    assert before[0] == 0
    assert before == sorted(before)
    assert before[-1] == pytest.approx(1)


@pytest.mark.parametrize(
    "more",
    [{"budget": "7 images"}, {"budget": "40 nfe"}, {"budget": "12 images", "search": "zero-order"}],
)  # fmt: skip
def test_a_bar_never_goes_back_and_tells_what_there_is(tmp_path, more):
    found, told = followed(tmp_path, batch_size=2, **more)
    portions = [done for done, _, _ in told]
    assert portions == sorted(portions)
    assert all(0 <= one <= 1 for one in portions)
    ended = rf"best brightness [\d.]+, {found.images} images, {found.nfe} NFE, judging and saving"
    assert re.search(ended, told[-1][2])


def test_time_left_is_told_between_the_first_step_and_the_last(tmp_path):
    _, told = followed(tmp_path, budget="16 images", batch_size=16)
    assert all((left is not None and left >= 0) == (0 < done < 1) for done, left, _ in told)
    assert any(left is not None for _, left, _ in told)


def test_scoring_is_told_apart_from_steps(tmp_path):
    phases = []

    def slow(images, prompt):
        phases.append(told[-1])
        return [0.0] * len(images)

    told = []
    execute(plan(verifier=slow, budget="4 images"), tmp_path / "run", RunProgress(lambda *now: told.append(now[2])))
    assert phases
    assert all("decoding and scoring" in text for text in phases)


def test_a_continued_run_begins_where_it_stopped(tmp_path):
    execute(plan(budget="4 images"), tmp_path / "run", pictures=False)
    told = []
    execute(plan(budget="8 images"), tmp_path / "run", RunProgress(lambda *now: told.append(now)), pictures=False)
    assert told[0][0] == pytest.approx(0.5)
    assert "20 NFE" in told[0][2]
    assert "40 NFE" in told[-1][2]


class Elsewhere:
    """A worker of another process as far as the run can see: its meter is not the run's own."""

    workers = 1

    def start(self, worker, request=None):
        self._worker = pickle.loads(pickle.dumps(worker))

    def submit(self, job):
        done = Future()
        done.set_result(self._worker.do(job))
        return done

    def close(self):
        pass


def test_what_other_processes_do_is_counted(tmp_path):
    made, told = replace(plan(budget="4 images"), executor=Elsewhere()), []
    execute(made, tmp_path / "run", RunProgress(lambda *now: told.append(now)), pictures=False)
    assert told[-1][0] == pytest.approx(1.0)
    assert "20 NFE" in told[-1][2]


def test_nobody_is_told_of_steps_after_the_end(tmp_path):
    made = plan(budget="2 images")
    told = []
    execute(made, tmp_path / "run", RunProgress(lambda *now: told.append(now)), pictures=False)
    count = len(told)
    made.sampler.denoise(made.sampler.noise([0]), 0, STEPS)
    assert len(told) == count


def test_lines_come_when_so_many_seconds_have_passed():
    said = []
    with lines(said.append, every=3600) as show:
        show(0.5, 10.0, "nothing yet")
    assert said == []
    with lines(said.append, every=0) as show:
        show(0.5, 70.0, "best clip 31")
        show(0.0, None, "no time yet")
    assert said == ["50%, 1 min 10 s left: best clip 31", "0%: no time yet"]


def terminal(monkeypatch):
    """Standard error as a terminal. (No fixture: pytest puts its own back after those.)"""
    made = Terminal()
    for name, value in (("TERM", "xterm"), ("COLUMNS", "200")):
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "stderr", made)
    return made


def test_ctrl_c_leaves_the_terminal_clean(monkeypatch):
    def interrupted():
        with cli_progress.shown(as_json=False) as show:
            show(0.25, 3.0, "best clip 31")
            raise KeyboardInterrupt

    error = terminal(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    drawn = error.getvalue()
    assert "25%" in drawn
    assert "best clip 31" in drawn
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")  # the cursor is back
    assert drawn.endswith("\x1b[2K")  # and the line is empty


@pytest.mark.parametrize("as_json", [False, True])
def test_without_a_terminal_short_work_says_nothing(capsys, as_json):
    with cli_progress.shown(as_json) as show:
        show(0.5, 1.0, "on the way")
    assert capsys.readouterr() == ("", "")


def test_json_draws_no_bar_in_a_terminal(monkeypatch):
    error = terminal(monkeypatch)
    with cli_progress.shown(as_json=True) as show:
        show(0.5, 1.0, "on the way")
    assert error.getvalue() == ""


# From Python


def searched(**more):
    return nw.search(MixtureSampler(steps=2), "a mixture", verifier="brightness", budget=2, pictures=False, **more)


@pytest.mark.parametrize("wanted", [None, True, False])
def test_a_script_without_a_terminal_is_told_nothing_at_once(capfd, wanted):
    searched(progress=wanted)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("wanted", "drawn"), [(None, True), (True, True), (False, False)])
def test_a_terminal_has_a_bar_unless_it_is_not_wanted(monkeypatch, wanted, drawn):
    error = terminal(monkeypatch)
    searched(progress=wanted)
    assert ("NFE" in error.getvalue()) == drawn


def test_a_function_is_called_after_each_micro_batch_and_nothing_is_drawn(monkeypatch):
    seen, error = [], terminal(monkeypatch)
    searched(progress=lambda run: seen.append(run.spent.images), batch_size=1)
    assert seen == [1, 2]
    assert error.getvalue() == ""


@pytest.fixture
def notebook(monkeypatch):
    """What of IPython a kernel has, with the cell's output as a list."""
    cell = []

    class Handle:
        def update(self, value):
            cell.append(value.data)

    def display(value, display_id):
        cell.append(value.data)
        return Handle()

    made, shown = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    made.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    shown.HTML = lambda data: types.SimpleNamespace(data=data)
    shown.display = display
    made.display = shown
    monkeypatch.setitem(sys.modules, "IPython", made)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    return cell


def test_a_notebook_has_a_bar_in_its_cell_which_is_empty_at_the_end(notebook, monkeypatch, capfd):
    monkeypatch.setattr(progress, "DRAWN_SECONDS", 0)
    searched()
    assert all("<progress" in one for one in notebook[:-1])
    assert any("2 images" in one for one in notebook)
    assert notebook[-1] == ""
    assert capfd.readouterr() == ("", "")


def test_a_notebook_is_not_told_of_every_step(notebook):
    with progress.in_notebook() as show:
        for number in range(1000):
            show(number / 1000, None, "<b>words</b>")
    assert len(notebook) < 100
    assert not any("<b>" in one for one in notebook)


def test_a_notebook_may_ask_for_none(notebook):
    searched(progress=False)
    assert notebook == []


@pytest.mark.slow
def test_what_the_libraries_say_does_not_reach_the_user_and_all_is_as_before():
    program = """
import logging, warnings
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import utils as hub
from transformers.utils import logging as transformers_logging
import noisewright as nw

def state():
    return (
        diffusers_logging.is_progress_bar_enabled(), transformers_logging.is_progress_bar_enabled(),
        hub.are_progress_bars_disabled(), list(warnings.filters), transformers_logging.get_verbosity(),
        *(logging.getLogger(name).level for name in ("diffusers", "transformers", "huggingface_hub")),
    )

before = state()
pipe = nw.load("noisewright/shapes")
found = nw.search(pipe, "two red circles " * 40, verifier="brightness", judge="none", budget=1, num_inference_steps=2)
nw.search("noisewright/shapes", "a red circle", budget=1, num_inference_steps=1)
assert state() == before
"""
    done = warm.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == ""


def test_warnings_of_the_users_own_code_are_shown():
    def mine(images, prompt):
        warnings.warn("of my own", UserWarning, stacklevel=1)
        return [0.0] * len(images)

    with pytest.warns(UserWarning, match="of my own"):
        nw.search(MixtureSampler(steps=2), "a mixture", verifier=mine, budget=1, pictures=False)
