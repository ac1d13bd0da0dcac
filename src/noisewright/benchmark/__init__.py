"""Many runs, compared: a grid of requests, the same prompts and seeds for all, and what may be said of the outcome."""
