"""noisewright: better images from pretrained diffusion and flow models, by searching for better noise.

import noisewright as nw
result = nw.search(pipe, "two red circles", verifier="clip", budget="64 images")
result.best.image
"""

# What is imported here has an underscore: editors complete what a module holds, whatever its ``__dir__`` says.
import importlib as _importlib
import sys as _sys
import types as _types
import typing as _typing

from noisewright.outside.texts import guard_log as _guard_log

__version__ = "0.1.0"
__all__ = [
    "RayExecutor", "Request", "Result", "__version__", "audit", "benchmark", "calibrate", "check", "compare",
    "compare_schedules",
    "fit_schedule", "load", "measure_schedule_errors", "plan", "resume", "search", "search_many", "with_timeout",
]  # fmt: skip

if _typing.TYPE_CHECKING:
    from noisewright.api import resume as resume
    from noisewright.api import search as search
    from noisewright.benchmark.fronts import audit as audit
    from noisewright.benchmark.fronts import benchmark as benchmark
    from noisewright.benchmark.fronts import compare as compare
    from noisewright.calibrating import calibrate as calibrate
    from noisewright.checking import check as check
    from noisewright.executors.ray import RayExecutor as RayExecutor
    from noisewright.many import search_many as search_many
    from noisewright.planning import load as load
    from noisewright.planning import plan as plan
    from noisewright.request import Request as Request
    from noisewright.result import Result as Result
    from noisewright.trajectory.compare import compare_schedules as compare_schedules
    from noisewright.trajectory.fit import fit_schedule as fit_schedule
    from noisewright.trajectory.measure_model import measure_schedule_errors as measure_schedule_errors
    from noisewright.verifiers.timeout import with_timeout as with_timeout

_WHERE = {
    "audit": "benchmark.fronts", "compare": "benchmark.fronts", "check": "checking", "load": "planning",
    "calibrate": "calibrating", "plan": "planning", "RayExecutor": "executors.ray",
    "Request": "request", "Result": "result", "resume": "api", "search_many": "many",
    "with_timeout": "verifiers.timeout", "fit_schedule": "trajectory.fit",
    "compare_schedules": "trajectory.compare", "measure_schedule_errors": "trajectory.measure_model",
}  # fmt: skip
"""The modules of the names that are imported when they are first asked for, but for those of packages."""


class _Package(_types.ModuleType):
    """This package, in which ``search`` and ``benchmark`` are functions, also once their packages were imported.

    Importing ``noisewright.search.random`` puts the package of algorithms under the name ``search`` of its parent, as
    importing does. Here that name stays the function's, with the algorithms as its attributes, so that
    ``noisewright.search.random`` is the module in either way of reading it.
    """

    @property
    def search(self) -> _typing.Any:
        return _function("search", "api")

    @search.setter
    def search(self, package: _types.ModuleType) -> None:
        pass  # it is found in sys.modules

    @property
    def benchmark(self) -> _typing.Any:
        return _function("benchmark", "benchmark.fronts")

    @benchmark.setter
    def benchmark(self, package: _types.ModuleType) -> None:
        pass


def _function(name: str, module: str) -> _typing.Any:
    """A function that has the name of a package, with the package's modules as its attributes."""
    function = getattr(_importlib.import_module(f"noisewright.{module}"), name)
    package = _sys.modules.get(f"noisewright.{name}")
    for inner, value in ({} if package is None else dict(vars(package))).items():
        if isinstance(value, _types.ModuleType):
            setattr(function, inner, value)
    return function


_sys.modules[__name__].__class__ = _Package
_guard_log()


if not _typing.TYPE_CHECKING:  # else a checker would take any name for one of ours

    def __getattr__(name: str) -> _typing.Any:
        # torch and diffusers take seconds to import; --help and --version must not wait for them.
        if name in _WHERE:
            return getattr(_importlib.import_module(f"noisewright.{_WHERE[name]}"), name)
        raise AttributeError(f"module 'noisewright' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
