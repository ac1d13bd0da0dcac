"""A terminal that is closed: the run ends with the best so far saved; what cannot be told any more breaks nothing."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from PIL import Image

import tiny
from noisewright import cli
from noisewright.cli import output, progress, terminal
from noisewright.cli.exits import Ended
from noisewright.cli.runs import print_finished
from noisewright.cli.signals import stoppable
from noisewright.run.store import read_run

pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")

PATIENCE = 120
"""Seconds after which a process that should have ended counts as stuck."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny.sd().save_pretrained(path, safe_serialization=True)
    return path


def in_terminal(arguments, before=""):
    """A command in a session of its own, on a terminal of its own; also the terminal's other end."""
    master, slave = pty.openpty()
    code = (
        f"import fcntl, signal, sys, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n{before}\n"
        "from noisewright.cli import main\nsys.exit(main())"
    )
    process = subprocess.Popen(
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_handlers_are_put_back(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), stoppable():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_a_second_hangup_does_not_end_the_saving():
    saved = []

    def work():
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            signal.raise_signal(signal.SIGHUP)
            saved.append(True)

    with pytest.raises(KeyboardInterrupt), stoppable():
        work()
    assert saved


def test_an_ignored_hangup_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            signal.raise_signal(signal.SIGHUP)
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


def test_an_interrupted_run_whose_table_cannot_be_printed_exits_as_interrupted(model, tmp_path, monkeypatch):
    from noisewright import api

    def interrupted(run):
        raise KeyboardInterrupt

    found = api.search(
        str(model), "a cat", verifier="brightness", num_inference_steps=2, budget="4 images", out=tmp_path / "run",
        progress=interrupted,
    )  # fmt: skip
    assert found.interrupted
    closed = []
    monkeypatch.setattr(sys, "stdout", Gone())
    monkeypatch.setattr(output, "close_stdout", lambda: closed.append(True))
    assert print_finished(found, tmp_path / "run", as_json=True) == Ended(130)
    assert closed
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
