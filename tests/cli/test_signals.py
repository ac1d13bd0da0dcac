"""A terminal that is closed: the run ends with the best so far saved; what cannot be told any more breaks nothing."""

import errno
import io
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from PIL import Image

import warm
from commands import run
from noisewright import cli
from noisewright.cli import progress, terminal
from noisewright.run.reading import read_run

pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")

PATIENCE = 120
"""Seconds after which a process that should have ended counts as stuck."""


def in_terminal(arguments, before=""):
    """A command in a session of its own, on a terminal of its own; also the terminal's other end."""
    master, slave = pty.openpty()
    code = (
        f"import fcntl, signal, sys, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n{before}\n"
        "from noisewright.cli import main\nsys.exit(main())"
    )
    process = warm.Popen(
        [sys.executable, "-c", code, *arguments], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm"},
    )  # fmt: skip
    os.close(slave)
    return process, master


def lines_in(journal):
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def wait_for_lines(process, master, out, count):
    """Read what is drawn, so that drawing never blocks, until the journal has ``count`` lines."""
    os.set_blocking(master, False)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(BlockingIOError):
            os.read(master, 65536)
        if lines_in(out / "journal.jsonl") >= count:
            return
        time.sleep(0.02)
    process.kill()
    pytest.fail(f"no candidate was made; the exit code is {process.wait()}")


def arguments(model, out, budget):
    return ["generate", "a cat", "--model", str(model), "--verifier", "brightness", "--steps", "20", "--batch-size",
            "2", "--out", str(out), "--budget", budget]  # fmt: skip


@pytest.mark.slow
def test_a_closed_terminal_ends_a_run_with_the_best_so_far(model, tmp_path):
    out = tmp_path / "run"
    process, master = in_terminal(arguments(model, out, "5000 images"))
    wait_for_lines(process, master, out, 4)
    os.close(master)
    assert process.wait(PATIENCE) == 130
    held = read_run(out)
    assert held["status"] == held["stopped"] == "interrupted"
    for name in ("best.png", "baseline.png", "contact-sheet.png", "before-after.png", "curve.png"):
        Image.open(out / name).verify()
    assert cli.main(["resume", str(out), "--budget", f"{held['summary']['images'] + 1} images", "--json"]) == 0


@pytest.mark.slow
def test_under_nohup_a_closed_terminal_stops_neither_the_run_nor_its_saving(model, tmp_path):
    """SIGHUP is ignored from the start; bar, warnings and table are written to a terminal that is not there."""
    out = tmp_path / "run"
    process, master = in_terminal(
        arguments(model, out, "12 images"), before="signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    )
    wait_for_lines(process, master, out, 2)
    os.close(master)
    assert process.wait(PATIENCE) in (0, 1)  # 1: the table at the end could not be printed
    held = read_run(out)
    assert (held["status"], held["summary"]["images"]) == ("done", 12)
    Image.open(out / "best.png").verify()


SIGNALLED = """
import signal

calls = []

def score(images, prompt):
    calls.append(prompt)
    if len(calls) == 2:
        signal.raise_signal(signal.{name})
    return images.mean((1, 2, 3))
"""


def signalled(capsys, model, here, name):
    """A run in this process that is told to end at its second image; returns its exit code."""
    (here / "told.py").write_text(SIGNALLED.format(name=name))
    given = ["generate", "a cat", "--model", model, "--verifier", "told.py:score", "--steps", 1, "--out", "run"]
    return run(capsys, [*given, "--batch-size", 1, "--budget", "2 images"]).code


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_run_that_is_told_to_end_saves_its_best_and_the_handlers_are_put_back(name, model, here, capsys):
    before = signal.getsignal(getattr(signal, name))
    assert signalled(capsys, model, here, name) == 130
    assert signal.getsignal(getattr(signal, name)) is before
    assert read_run(here / "run")["status"] == "interrupted"


@pytest.mark.slow
def test_a_second_hangup_does_not_end_the_saving(model, here, capsys, monkeypatch):
    real, saved = terminal.say, []

    def say(text):
        signal.raise_signal(signal.SIGHUP)
        saved.append(text)
        real(text)

    monkeypatch.setattr(terminal, "say", say)
    assert signalled(capsys, model, here, "SIGHUP") == 130
    assert any("the best so far is saved" in text for text in saved)


@pytest.mark.slow
def test_an_ignored_hangup_stays_ignored(model, here, capsys):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signalled(capsys, model, here, "SIGHUP") == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


class Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, text=""):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    flush = write

    def isatty(self):
        return True


def test_what_cannot_be_drawn_on_standard_error_stops_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Gone())
    terminal.say("nobody reads this")
    with terminal.waiting("nor this", True) as tell:
        tell("nor that")
    with progress.shown(as_json=False) as show:
        show(0.5, 1.0, "nor this")


@pytest.mark.slow
def test_an_interrupted_run_whose_table_cannot_be_printed_exits_as_interrupted(model, here):
    (here / "told.py").write_text(SIGNALLED.format(name="SIGINT"))
    command = [sys.executable, "-m", "noisewright", "generate", "a cat", "--model", str(model), "--steps", "1", "--out"]
    with open("/dev/full", "w") as full:
        found = subprocess.run(
            [*command, "run", "--verifier", "told.py:score", "--budget", "3", "--batch-size", "1"], stdout=full,
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert found.returncode == 130, found.stderr
    assert "the best so far is saved" in found.stderr
    assert read_run("run")["status"] == "interrupted"
