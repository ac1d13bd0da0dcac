"""What workers on a Ray cluster are made of, for tests: a model and a verifier to which things happen there.

They are imported by the workers, and know of each other by files in a directory.
"""

import os
import signal
import time
from pathlib import Path

import torch

from noisewright.errors import VerifierFailed
from noisewright.samplers.mixture import MixtureSampler
from noisewright.verifiers.pixels import Brightness

PATIENCE = 60  # seconds after which something that should have happened never will


def claimed(folder, name):
    """Whether this is the first who asks for that name."""
    try:
        (Path(folder) / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def noted(folder, kind):
    """What was noted of a kind, by which processes."""
    return [int(path.name.split("-")[1]) for path in Path(folder).glob(f"{kind}-*")]


def note(folder, kind):
    """Note that this process did something."""
    number = len(list(Path(folder).glob(f"{kind}-{os.getpid()}-*")))
    (Path(folder) / f"{kind}-{os.getpid()}-{number}").touch()


class Noting(MixtureSampler):
    """Notes each of its ways; ``happen`` may do something in the middle of one."""

    def __init__(self, folder, **more):
        super().__init__(**more)
        self.folder = str(folder)

    def denoise(self, x, start, stop, state=None, noise=None, seeds=None):
        self.happen(x, noise)
        found = super().denoise(x, start, stop, state, noise, seeds)
        note(self.folder, "made")
        return found

    def happen(self, x, noise):
        pass

    def has(self, x, seed):
        """Whether a micro-batch begins with the noise of a seed."""
        return torch.equal(x[:1], self.noise([seed]))


class Dying(Noting):
    """Whoever makes the micro-batch of seed 3 is killed in the middle of it, the first ``times``."""

    times = 1

    def happen(self, x, noise):
        if self.has(x, 3) and any(claimed(self.folder, f"death-{number}") for number in range(self.times)):
            super(Noting, self).denoise(x, 0, 1, None, noise)
            os.kill(os.getpid(), signal.SIGKILL)


class SlowToLoad(Dying):
    """As that; who takes the place of the dead takes its time to load."""

    seconds = 0.0

    def __setstate__(self, state):
        vars(self).update(state)
        if (Path(self.folder) / "death-0").exists():
            time.sleep(self.seconds)


class Stillborn(Dying):
    """As that; who would take the place of the dead is killed while it loads, and the others wait for that."""

    def __setstate__(self, state):
        vars(self).update(state)
        if (Path(self.folder) / "death-0").exists():
            note(self.folder, "stillborn")
            os.kill(os.getpid(), signal.SIGKILL)

    def happen(self, x, noise):
        super().happen(x, noise)
        until = time.monotonic() + PATIENCE
        while (Path(self.folder) / "death-0").exists() and len(noted(self.folder, "stillborn")) < 3:
            if time.monotonic() > until:
                raise RuntimeError("nobody took the place of the dead")
            time.sleep(0.01)


class Slow(Noting):
    """Whoever makes the micro-batch of seed 3 waits there for ten others."""

    def happen(self, x, noise):
        if self.has(x, 3):
            until = time.monotonic() + PATIENCE
            while len(noted(self.folder, "made")) < 11:
                if time.monotonic() > until:
                    raise RuntimeError("nobody went on")
                time.sleep(0.01)


class Small(Noting):
    """The first process that makes anything has memory for two at once, all others for more."""

    def happen(self, x, noise):
        if claimed(self.folder, "small"):
            (Path(self.folder) / f"small-{os.getpid()}").touch()
        if len(x) > 2 and (Path(self.folder) / f"small-{os.getpid()}").exists():
            super(Noting, self).denoise(x, 0, 1, None, noise)
            raise torch.OutOfMemoryError("no memory left")


class LosingItsHost(Noting):
    """The first on another host than the head's takes its host with it: the process that Ray runs there."""

    head = 0

    def happen(self, x, noise):
        if os.getppid() != self.head and claimed(self.folder, "host"):
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(PATIENCE)


class Judging(Brightness):
    """Notes who scores; fails where, and as often as, it is told to."""

    name = fingerprint = "judging"

    def __init__(self, folder, fails=()):
        super().__init__()
        self.name = self.fingerprint = "judging"
        self.folder, self.fails = str(folder), fails

    def __call__(self, images, prompt):
        note(self.folder, "scored")
        number = len(noted(self.folder, "scored"))
        if number in self.fails:
            raise VerifierFailed("verifier judging: its device is gone")
        return super().__call__(images, prompt)


class Elsewhere(Brightness):
    """Says that it computes on some device."""

    def __init__(self, device):
        super().__init__()
        self.name = self.fingerprint = "elsewhere"
        self.device = torch.device(device)
