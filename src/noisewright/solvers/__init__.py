"""Solvers: pure step rules, a family a file. State goes in and comes out, so any particle can branch at any step."""

from noisewright.solvers.base import (
    AnySolver,
    Solver,
    StagedSolver,
    Stages,
    advance,
    asked,
    asks_once,
    memory,
    nfe,
    splits,
    stages,
)
from noisewright.solvers.ddim import Ddim, transition
from noisewright.solvers.deis import Deis
from noisewright.solvers.dpm_solver import DpmSolver
from noisewright.solvers.dpmpp import DpmPlusPlus, DpmPlusPlusSde
from noisewright.solvers.heun import Heun
from noisewright.solvers.pndm import FPndm, Ipndm, SPndm
from noisewright.solvers.splitting import Splitting
from noisewright.solvers.unipc import UniPc

__all__ = [
    "AnySolver", "Ddim", "Deis", "DpmPlusPlus", "DpmPlusPlusSde", "DpmSolver", "FPndm", "Heun", "Ipndm", "SPndm",
    "Solver", "Splitting", "StagedSolver", "Stages", "UniPc", "advance", "asked", "asks_once", "memory", "nfe",
    "splits", "stages", "transition",
]  # fmt: skip
