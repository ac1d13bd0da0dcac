"""Cells that are known to be wrong, by family and cell, with the reason: each is expected to fail."""

KNOWN: dict[tuple[str, str], str] = {}
