"""Command lines run in this process: what they print, and what they refuse."""

from __future__ import annotations

from typing import NamedTuple

from noisewright import cli


class Ended(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def run(capsys, argv):
    """Any command; paths and numbers in ``argv`` may be themselves."""
    capsys.readouterr()
    code = cli.main([str(one) for one in argv])
    return Ended(code, *capsys.readouterr())


def done(capsys, argv):
    """What a command that succeeds prints on standard output."""
    ended = run(capsys, argv)
    assert ended.code == 0, ended.err
    return ended.out


def refused(capsys, argv, *parts, code=2):
    """The line that a command says instead of doing something: one line on standard error, and nothing else."""
    ended = run(capsys, argv)
    assert ended.code == code, ended
    assert ended.out == ""
    assert ended.err.startswith("noisewright: "), ended.err
    assert ended.err.endswith("\n")
    assert ended.err.count("\n") == 1, ended.err
    for part in parts:
        assert str(part) in ended.err
    return ended.err
