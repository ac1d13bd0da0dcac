"""A run: particles, verbs, budget, journal, and the directory that holds them."""
