"""The solvers that come with noisewright."""

from __future__ import annotations

from noisewright.registry.kinds import Entry

SOLVERS = [
    Entry(
        "solver", "pipeline", "the pipeline's own scheduler (mapped to the equal solver, or run natively)",
        details={"nfe per step": "as the scheduler"},
    ),
    Entry(
        "solver", "ddim", "DDIM with eta; Euler on flow models", "noisewright.diffusion.solvers:Ddim",
        {"nfe per step": "1", "order": "1", "eta": "0..1", "reference": "Song et al. 2021"},
        {"name": "ddim"},
    ),
    Entry(
        "solver", "euler", "the same rule under its other name", "noisewright.diffusion.solvers:Ddim",
        {"nfe per step": "1", "order": "1", "eta": "0..1", "reference": "Karras et al. 2022"},
        {"name": "euler"},
    ),
    Entry(
        "solver", "heun", "Heun: the mean of the slopes at both ends of a step", "noisewright.diffusion.solvers:Heun",
        {"nfe per step": "2, 1 in the last", "order": "2", "eta": "none",
         "reference": "Karras et al. 2022, algorithm 1"},
        {"name": "heun"},
    ),
    Entry(
        "solver", "dpm-solver-2", "DPM-Solver-2, singlestep: the schedule's levels two by two",
        "noisewright.diffusion.solvers:DpmSolver",
        {"nfe per step": "1", "order": "2", "eta": "none", "reference": "Lu et al. 2022 (2206.00927)"},
        {"name": "dpm-solver-2", "order": 2},
    ),
    Entry(
        "solver", "dpm-solver-3", "DPM-Solver-3, singlestep: the schedule's levels three by three",
        "noisewright.diffusion.solvers:DpmSolver",
        {"nfe per step": "1", "order": "3, 2 on uneven levels", "eta": "none",
         "reference": "Lu et al. 2022 (2206.00927)"},
        {"name": "dpm-solver-3", "order": 3},
    ),
    Entry(
        "solver", "dpmpp-2m", "DPM-Solver++ 2M, multistep", "noisewright.diffusion.solvers:DpmPlusPlus",
        {"nfe per step": "1", "order": "2", "eta": "none", "reference": "Lu et al. 2022 (2211.01095)"},
        {"name": "dpmpp-2m", "order": 2},
    ),
    Entry(
        "solver", "dpmpp-3m", "DPM-Solver++ 3M, multistep; as published, which is of order 2",
        "noisewright.diffusion.solvers:DpmPlusPlus",
        {"nfe per step": "1", "order": "2", "eta": "none", "reference": "Lu et al. 2022 (2211.01095)"},
        {"name": "dpmpp-3m", "order": 3},
    ),
    Entry(
        "solver", "dpmpp-2m-sde", "DPM-Solver++ 2M for the SDE; eta 1 by default",
        "noisewright.diffusion.solvers:DpmPlusPlusSde",
        {"nfe per step": "1", "order": "2 at eta 0", "eta": "0..1", "reference": "Lu et al. 2022 (2211.01095)"},
        {"name": "dpmpp-2m-sde"},
    ),
    Entry(
        "solver", "deis-1", "DEIS with a line through the last two noises (diffusers' order 2)",
        "noisewright.diffusion.solvers:Deis",
        {"nfe per step": "1", "order": "2", "eta": "none", "reference": "Zhang and Chen 2023"},
        {"name": "deis-1", "degree": 1},
    ),
    Entry(
        "solver", "deis-2", "DEIS with a parabola (diffusers' order 3)", "noisewright.diffusion.solvers:Deis",
        {"nfe per step": "1", "order": "3", "eta": "none", "reference": "Zhang and Chen 2023"},
        {"name": "deis-2", "degree": 2},
    ),
    Entry(
        "solver", "deis-3", "DEIS with a cubic", "noisewright.diffusion.solvers:Deis",
        {"nfe per step": "1", "order": "4", "eta": "none", "reference": "Zhang and Chen 2023"},
        {"name": "deis-3", "degree": 3},
    ),
    Entry(
        "solver", "pndm-s", "PNDM from a pseudo Heun step (PLMS; diffusers' skip_prk_steps)",
        "noisewright.diffusion.solvers:SPndm",
        {"nfe per step": "1, 2 in the first", "order": "2, 1 on uneven levels", "eta": "none",
         "reference": "Liu et al. 2022"},
        {"name": "pndm-s"},
    ),
    Entry(
        "solver", "pndm-f", "PNDM from three pseudo Runge-Kutta steps", "noisewright.diffusion.solvers:FPndm",
        {"nfe per step": "1, 4 in the first three", "order": "2, 1 on uneven levels", "eta": "none",
         "reference": "Liu et al. 2022"},
        {"name": "pndm-f"},
    ),
    Entry(
        "solver", "ipndm", "improved PNDM: no extra evaluations at the start", "noisewright.diffusion.solvers:Ipndm",
        {"nfe per step": "1", "order": "2, 1 on uneven levels", "eta": "none",
         "reference": "Zhang and Chen 2023"},
        {"name": "ipndm"},
    ),
    Entry(
        "solver", "unipc", "UniPC-2: predictor and corrector from one evaluation (the last step is of lower order)",
        "noisewright.diffusion.solvers:UniPc",
        {"nfe per step": "1", "order": "3", "eta": "none", "reference": "Zhao et al. 2023"},
        {"name": "unipc"},
    ),
    Entry(
        "solver", "ltsp", "guidance split off, Lie-Trotter: PNDM without it, then Euler with it alone",
        "noisewright.diffusion.solvers:Splitting",
        {"nfe per step": "2, 1 in the last", "order": "1", "eta": "none",
         "reference": "Wizadwongsa and Suwajanakorn 2023"},
        {"name": "ltsp", "strang": False},
    ),
    Entry(
        "solver", "stsp", "guidance split off, Strang: half of it before and half after",
        "noisewright.diffusion.solvers:Splitting",
        {"nfe per step": "3, 1 in the last", "order": "1", "eta": "none",
         "reference": "Wizadwongsa and Suwajanakorn 2023"},
        {"name": "stsp", "strang": True},
    ),
]  # fmt: skip
