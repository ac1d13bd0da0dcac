"""Samplers: one file per way of evaluating a model."""
