"""The command line's standard output is its own."""

import io
import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from noisewright import cli
from noisewright.cli import output

LOUD = """
import atexit, ctypes, os, subprocess, sys, threading
from sys import stdout

print("at import")
os.write(1, b"raw at import\\n")
if "pytest" not in sys.modules:
    atexit.register(lambda: print("at exit"))
late = threading.Event()


class Loud:
    name, fingerprint = "loud", "1"

    def __init__(self):
        print("made")

    def check(self, prompt):
        print("checked")

    def __call__(self, images, prompt):
        print("called")
        stdout.write("kept from before\\n")
        sys.__stdout__.write("underneath\\n")
        os.write(1, b"raw\\n")
        subprocess.run(["echo", "a child"])
        ctypes.CDLL(None).printf(b"from C\\n")
        threading.Thread(target=lambda: print("a thread")).start()
        threading.Thread(target=lambda: (late.wait(1), print("late"))).start()
        print("{", end="", file=sys.__stdout__)
        return (n / 10 for n, _ in enumerate(images) if print("generated") is None)

    def details(self, images, prompt):
        os.write(1, b"details\\n")
        return [{} for _ in images]


one = Loud()


def f(images, prompt):
    found = list(one(images, prompt))
    sys.stdout = open("/dev/null", "w")
    return found
"""


@pytest.fixture
def loud(tmp_path):
    (tmp_path / "loud.py").write_text(LOUD)
    for name in "ab":
        Image.new("RGB", (4, 4), "red").save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.mark.slow
def test_json_is_one_object_whatever_a_verifier_prints(loud):
    command = [sys.executable, "-m", "noisewright", "score", str(loud / "a.png"), str(loud / "b.png"), "--prompt", "x"]
    command += ["--verifier", f"{loud}/loud.py:one", "--json"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert [one["scores"] for one in json.loads(found.stdout)["images"]] == [{"loud": 0.1}, {"loud": 0.0}]
    for said in ("at import", "raw", "a child", "from C", "a thread", "late", "underneath", "generated", "at exit"):
        assert said in found.stderr, said


@pytest.mark.slow
def test_a_search_s_json_is_one_object_too(loud, capfd):
    given = ["generate", "a red circle", "--steps", "1", "--budget", "2 images", "--verifier", f"{loud}/loud.py:one"]
    given += ["--judge", f"{loud}/loud.py:f", "--out", str(loud / "run"), "--json"]
    before = sys.stdout
    assert cli.main(given) == 0
    assert sys.stdout is before
    print("back")
    os.write(1, b"and the descriptor\n")
    out, err = capfd.readouterr()
    found, end = json.JSONDecoder().raw_decode(out)
    assert found["best"]["scores"]["loud"] == 0.1
    assert sorted(out[end:].split("\n")) == ["", "", "and the descriptor", "back"]
    for said in ("raw", "checked", "details", "a child"):
        assert said in err, said


@pytest.mark.parametrize("command", [["--help"], ["score", "--help"], ["--version"], ["schedule", "show", "-h"]])
def test_help_is_printed_as_ever(command, capfd):
    assert cli.main(command) == 0
    assert "noisewright" in capfd.readouterr().out.lower()


def test_a_stream_without_a_file_is_given_back(monkeypatch):
    monkeypatch.setattr(sys, "stdout", mine := io.StringIO())
    with output.reserved():
        print("theirs")
        output.print_line("ours")
        with output.reserved():  # a command within a command
            output.print_line("inner")
    assert sys.stdout is mine
    assert mine.getvalue() == "ours\n"
    assert output.stream() is mine


def test_it_is_given_back_after_an_error_and_without_a_reader(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as broken:
        monkeypatch.setattr(sys, "stdout", broken)
        with pytest.raises(BrokenPipeError), output.reserved():
            output.print_line("x")
        assert sys.stdout is broken
        with pytest.raises(RuntimeError, match="inside"), output.reserved():
            raise RuntimeError("inside")
        assert sys.stdout is broken
        monkeypatch.undo()
        with pytest.raises(BrokenPipeError):
            broken.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_traceback(loud):
    command = f"{sys.executable} -m noisewright list verifiers | head -c 10"
    found = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert found.stdout == "clip      "
    assert "Traceback" not in found.stderr
    assert "Exception" not in found.stderr


@pytest.mark.slow
def test_a_process_without_standard_output():
    for close in (">&-", ">&- 2>&-"):
        command = f"{sys.executable} -m noisewright list solvers {close}; echo $?"
        found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert "Traceback" not in found.stderr
