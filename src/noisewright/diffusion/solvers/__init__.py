"""Solvers: pure step rules, a family a file. State goes in and comes out, so any particle can branch at any step."""

from noisewright.diffusion.solvers.base import (
    AnySolver,
    Solver,
    StagedSolver,
    Stages,
    advance,
    asks_once,
    block_of,
    eta_of,
    levels_asked,
    memory,
    nfe,
    splits,
    stages,
)
from noisewright.diffusion.solvers.ddim import Ddim, transition
from noisewright.diffusion.solvers.deis import Deis
from noisewright.diffusion.solvers.dpm_solver import DpmSolver
from noisewright.diffusion.solvers.dpmpp import DpmPlusPlus, DpmPlusPlusSde
from noisewright.diffusion.solvers.heun import Heun
from noisewright.diffusion.solvers.pndm import FPndm, Ipndm, SPndm
from noisewright.diffusion.solvers.splitting import Splitting
from noisewright.diffusion.solvers.unipc import UniPc

__all__ = [
    "AnySolver", "Ddim", "Deis", "DpmPlusPlus", "DpmPlusPlusSde", "DpmSolver", "FPndm", "Heun", "Ipndm", "SPndm",
    "Solver", "Splitting", "StagedSolver", "Stages", "UniPc", "advance", "asks_once", "block_of", "eta_of",
    "levels_asked", "memory", "nfe", "splits", "stages", "transition",
]  # fmt: skip
