"""Bundled weights, each folder with its card."""
