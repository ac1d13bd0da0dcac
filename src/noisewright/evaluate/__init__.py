"""Measuring, comparing and showing what came of runs."""
