"""Names to things: the built-ins, and whatever installed packages add under ``noisewright.plugins``.

A plug-in package declares an entry point of that group that loads to a list of :class:`~.kinds.Entry`.
Nothing heavy is imported until a thing is chosen.
"""

from noisewright.outside.bundled import MODELS, bundled
from noisewright.outside.messages import unknown
from noisewright.registry.arguments import check_arguments, make_search, search_arguments
from noisewright.registry.executors import address_of, check_executor, executor_entry, make_executor
from noisewright.registry.kinds import Entry
from noisewright.registry.lookup import entry, load, names
from noisewright.registry.models import card, find_file, find_model, is_installed, load_model
from noisewright.registry.options import model_and_options
from noisewright.registry.plugins import entries
from noisewright.registry.samplers import check_pipeline_args, make_sampler, sampler_entry, settings_taken
from noisewright.registry.schedules import schedule_from, schedule_rule
from noisewright.registry.solvers import make_solver
from noisewright.registry.verifiers import from_file, make_verifier, reads_prompt, score_name

__all__ = [
    "MODELS", "Entry", "address_of", "bundled", "card", "check_arguments", "check_executor", "check_pipeline_args",
    "entries", "entry", "executor_entry", "find_file", "find_model", "from_file", "is_installed", "load",
    "load_model", "make_executor", "make_sampler", "make_search", "make_solver", "make_verifier", "model_and_options",
    "names", "reads_prompt", "sampler_entry", "schedule_from", "schedule_rule", "score_name", "search_arguments",
    "settings_taken", "unknown",
]  # fmt: skip
