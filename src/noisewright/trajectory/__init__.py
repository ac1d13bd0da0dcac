"""Better noise levels for a model, a solver and a number of steps, with no training: Schedule -> Schedule."""
