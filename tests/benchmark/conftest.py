"""What the tests of benchmarks share: a browser, for the page of results."""

from browser import browser

__all__ = ["browser"]
