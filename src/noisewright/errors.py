"""The named errors of noisewright. Wrong use is a ValueError or TypeError; these are the rest."""


class BudgetExhausted(Exception):
    """The budget allows no further work. Searches let it pass: the run has a valid best."""


class TargetReached(Exception):
    """A candidate reached the target. Searches let it pass."""


class Stopped(Exception):
    """A run was asked to stop. It ends as after Ctrl-C, with the best so far, and can be resumed."""


class RunMismatch(ValueError):
    """A run directory holds a run with another model, prompt or setting."""


class UnsupportedPipeline(ValueError):
    """A pipeline that the scheduler seam cannot enter."""


class PipelineBusy(RuntimeError):
    """A pipeline was called plainly while a search was inside it, or the other way round."""


class NotDifferentiable(ValueError):
    """A gradient was asked of something that has none."""


class VerifierFailed(ValueError):
    """A verifier raised, gave the wrong number of scores, or gave no number at all."""


class RunInterrupted(RuntimeError):
    """A run stopped before its end for a reason outside it (a full disk, say); it can be resumed."""


class PartlyMade(RunInterrupted):
    """Of a micro-batch some images are there, and cost nothing when they are asked for again; the others failed.

    Args:
        said: why, in one line.
        seeds: whose images are there.
    """

    def __init__(self, said: str, seeds: tuple[int, ...] = ()) -> None:
        super().__init__(said, seeds)
        self.seeds = seeds

    def __str__(self) -> str:
        return str(self.args[0])


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that the device or the host has no memory left."""
    # By name: this module must not import torch. torch.OutOfMemoryError has several homes across versions.
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"OutOfMemoryError", "MemoryError"}:
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
