"""The package's own source, parsed once for all tests that read it."""

import ast
from functools import cache


@cache
def parsed(path):
    """The tree of a file, which nobody changes."""
    return ast.parse(path.read_text(encoding="utf-8"))
