"""The mathematics: schedules, their named rules, clocks, noise and solvers. No diffusers, no files."""
