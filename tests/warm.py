"""Processes that have the libraries imported already: forks of one that waits for orders.

``run`` and ``Popen`` stand for those of :mod:`subprocess`, for commands of this interpreter (``-m module`` and ``-c
program``), where a test is about a process (its signals, its exit code, its streams, what another one sees of it) and
not about what it imports. Where that is the question, ``subprocess`` itself is used.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import types
from contextlib import suppress
from functools import cache

PRELOADED = (
    "noisewright.api", "noisewright.cli.entry", "noisewright.cli.generate", "noisewright.many", "noisewright.search",
    "noisewright.cli.progress", "noisewright.samplers.adapters.plain", "noisewright.verifiers.clip",
    "noisewright.shapes.oracle", "noisewright.evaluate.figure", "matplotlib.figure", "diffusers.guiders",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
)  # fmt: skip
LIMIT = 1 << 20
"""Bytes that an order may have: the arguments and the environment."""


# The process that waits


def serve(control):
    """Fork a process for every order and say how it ended; returns, in such a process only, what it is to run."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    preload()
    gc.collect()
    gc.freeze()
    going = {}
    while True:
        for ended in set(select.select([control, *going], [], [])[0]) - {control}:
            process, link = going.pop(ended)
            _, status = os.waitpid(process, 0)
            with suppress(OSError):  # nobody waits for it any more
                link.send(str(os.waitstatus_to_exitcode(status)).encode())
            link.close()
            os.close(ended)
        if not select.select([control], [], [], 0)[0]:
            continue
        said, given, _, _ = socket.recv_fds(control, LIMIT, 4)
        if not said:
            return None
        process = os.fork()
        link, *streams = given
        if process == 0:
            for one in (control, *(other for _, other in going.values())):
                one.close()
            for one in (link, *going):
                os.close(one)
            return json.loads(said), streams
        for one in streams:
            os.close(one)
        told = socket.socket(fileno=link)
        told.send(str(process).encode())
        going[os.pidfd_open(process)] = process, told


def preload():
    """Import the libraries, without what they print meanwhile."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        for name in PRELOADED:
            importlib.import_module(name)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def become(order, streams):
    """Be the process that was ordered: its streams, its directory, its environment, its program."""
    if order["session"]:
        os.setsid()
    for number, one in enumerate(streams):
        os.dup2(one, number)
    for one in streams:
        os.close(one)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    paths = [one for one in order["env"].get("PYTHONPATH", "").split(os.pathsep) if one]
    sys.path[:] = [order["cwd"], *paths, *(one for one in sys.path[1:] if one not in paths)]
    importlib.invalidate_caches()
    how, what, *more = order["argv"]
    sys.argv = [how, *more]
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), vars(main))


# The side of the tests


@cache
def _control():
    """The way to the process that waits; it ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    waits = subprocess.Popen(
        [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], start_new_session=True,
        stdin=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=os.path.dirname(__file__),
    )  # fmt: skip
    theirs.close()
    atexit.register(waits.wait)
    atexit.register(ours.close)
    return ours


class Process:
    """What tests need of :class:`subprocess.Popen`."""

    def __init__(
        self, args, *, stdin=None, stdout=None, stderr=None, text=False, env=None, cwd=None, start_new_session=False
    ):
        assert args[0] == sys.executable, args
        assert args[1] in ("-m", "-c"), args
        order = {
            "argv": [str(one) for one in args[1:]], "env": dict(os.environ if env is None else env),
            "cwd": os.path.abspath(cwd or os.getcwd()), "session": start_new_session,
        }  # fmt: skip
        self.args, self.returncode = args, None
        self._close, self._text = [], text
        self.stdin, self.stdout, self.stderr = None, None, None
        given = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        numbers = [self._number(*one, number) for number, one in enumerate(given.items())]
        if stderr == subprocess.STDOUT:
            numbers[2] = numbers[1]
        self._link, link = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(_control(), [json.dumps(order).encode()], [link.fileno(), *numbers])
        for one in (link.detach(), *self._close):
            os.close(one)
        self.pid = int(self._link.recv(100))

    def _number(self, name, of, number):
        """The descriptor for one of the three streams; of a pipe also this side's end, as a file."""
        if of is None or of == subprocess.STDOUT:
            return number
        if of == subprocess.DEVNULL:
            self._close.append(os.open(os.devnull, os.O_RDWR))
            return self._close[-1]
        if of != subprocess.PIPE:
            return of if isinstance(of, int) else of.fileno()
        reader, writer = os.pipe()
        ours, theirs, mode = (writer, reader, "w") if number == 0 else (reader, writer, "r")
        setattr(self, name, os.fdopen(ours, mode if self._text else f"{mode}b"))
        self._close.append(theirs)
        return theirs

    def wait(self, timeout=None):
        if self.returncode is None:
            self._link.settimeout(timeout)
            try:
                self.returncode = int(self._link.recv(100))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout) from None
            self._link.close()
        return self.returncode

    def poll(self):
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def communicate(self, input=None, timeout=None):
        found = {}
        files = {"stdout": self.stdout, "stderr": self.stderr}
        readers = [threading.Thread(target=_read, args=(*one, found), daemon=True) for one in files.items() if one[1]]
        for one in readers:
            one.start()
        if self.stdin:
            self.stdin.write(input or ("" if self._text else b""))
            self.stdin.close()
        for one in readers:
            one.join(timeout)
            if one.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout)
        self.wait(timeout)
        return found.get("stdout"), found.get("stderr")

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def _read(name, file, found):
    with file:
        found[name] = file.read()


def _run(args, *, capture_output=False, check=False, timeout=None, **more):
    if capture_output:
        more["stdout"] = more["stderr"] = subprocess.PIPE
    process = Process(args, **more)
    try:
        out, err = process.communicate(timeout=timeout)
    except BaseException:
        process.kill()
        raise
    if check and process.returncode:
        raise subprocess.CalledProcessError(process.returncode, args, out, err)
    return subprocess.CompletedProcess(args, process.returncode, out, err)


# Only Linux forks a process that has loaded everything, and passes descriptors, without a doubt.
run, Popen = (_run, Process) if sys.platform == "linux" else (subprocess.run, subprocess.Popen)

if __name__ == "__main__":
    found = serve(socket.socket(fileno=int(sys.argv[1])))
    if found is not None:
        become(*found)
