"""Verifiers: one file per kind of model."""
