"""Searches: one algorithm a file, each a straight-line function over the verbs of :class:`noisewright.run.verbs.Run`.

``noisewright.search`` is also what one calls, ``noisewright.search(pipe, prompt, ...)``: importing this package puts it
under that name, so the module forwards the call to :func:`noisewright.api.search`.
"""

import inspect
import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from noisewright.api import search

        return search(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        from noisewright.api import search

        return inspect.signature(search)


sys.modules[__name__].__class__ = _Callable
