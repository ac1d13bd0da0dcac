"""Diffusers pipelines of our own, for bundled models that diffusers has no class for."""
