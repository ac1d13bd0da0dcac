"""Somebody else's code: what it prints and what it raises."""

import io
import subprocess
import sys
import threading

import pytest

from noisewright.verifiers.guarded import Escaped, call, named, said


def talk(what="said"):
    print(what)
    sys.stdout.write("written\n")
    sys.stdout.flush()
    return what


def test_what_is_printed_goes_to_standard_error(capsys):
    before = sys.stdout
    assert call(talk) == "said"
    assert call(call, talk, "again") == "again"
    print("after")
    assert sys.stdout is before
    assert capsys.readouterr() == ("after\n", "said\nwritten\nagain\nwritten\n")


def test_other_threads_print_where_they_did(capsys):
    inside, told = threading.Event(), threading.Event()

    def slowly():
        print("in a call")
        inside.set()
        told.wait(10)
        print("still")

    threads = [threading.Thread(target=call, args=(slowly,)) for _ in range(2)]  # whichever ends first
    for one in threads:
        one.start()
    inside.wait(10)
    print("outside")
    told.set()
    for one in threads:
        one.join()
    print("at the end")
    found = capsys.readouterr()
    assert found.out == "outside\nat the end\n"
    assert found.err.count("in a call") == found.err.count("still") == 2


def test_a_call_that_never_ends_keeps_no_output(capsys, monkeypatch):
    inside, told = threading.Event(), threading.Event()
    threading.Thread(target=call, args=(lambda: (inside.set(), told.wait(10)),), daemon=True).start()
    inside.wait(10)
    try:
        monkeypatch.setattr(sys, "stdout", other := io.StringIO())  # as a notebook does between two cells
        call(talk)
        print("mine")
        assert other.getvalue() == "mine\n"
    finally:
        told.set()


def test_a_stream_that_was_replaced_inside_stays(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    other = io.StringIO()
    call(lambda: setattr(sys, "stdout", other))
    assert sys.stdout is other


def test_a_process_without_streams(monkeypatch):
    for out, err in ((None, None), (io.StringIO(), None), (None, io.StringIO())):
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        assert call(lambda: 1) == 1
        assert sys.stdout is out


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, type("Own", (BaseException,), {})])
def test_what_escapes_every_handler_is_caught(kind):
    def leave():
        raise kind("now")

    with pytest.raises(Escaped) as caught:
        call(leave)
    assert (named(caught.value), said(caught.value)) == (kind.__name__, "now")


def test_an_interrupt_and_errors_pass():
    for kind in (KeyboardInterrupt, ValueError, MemoryError):
        with pytest.raises(kind):
            call(lambda kind=kind: exec("raise kind", {"kind": kind}))


def test_an_error_says_one_line_that_is_not_long():
    assert said(ValueError("one\ntwo")) == "one"
    assert said(ValueError()) == ""
    assert len(said(ValueError("x" * 10**6))) == 300


FORKS = """
import os, sys
from noisewright.verifiers.guarded import call
{ending}
def forks():
    child = os.fork()
    if child == 0:
        return end()
    os.waitpid(child, 0)
try:
    call(forks)
except BaseException as error:
    print("raised", error)
print("went on", flush=True)
"""


@pytest.mark.parametrize("ending", ["end = sys.exit", "end = lambda: None", "end = lambda: 1 / 0"])
def test_a_process_that_was_forked_does_not_go_on(ending):
    done = subprocess.run([sys.executable, "-c", FORKS.format(ending=ending)], capture_output=True, text=True)
    assert done.stdout == "went on\n", done.stderr


def test_who_closes_the_output_closes_nothing(capsys):
    call(lambda: sys.stdout.close())
    assert not sys.stderr.closed
    print("still", file=sys.stderr)
    print("open")
    assert capsys.readouterr() == ("open\n", "still\n")


def test_nor_does_it_where_output_and_errors_are_one(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", sys.stderr)
    call(lambda: sys.stdout.close())
    assert sys.stdout is sys.stderr
    assert not sys.stderr.closed
