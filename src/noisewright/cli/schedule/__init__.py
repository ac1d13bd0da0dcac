"""``noisewright schedule``: measure a model's prediction errors, fit levels, look at them, compare them.

A file a command; nothing heavy is imported before a command needs it.
"""

import typer

from noisewright.cli.schedule.compare import compare
from noisewright.cli.schedule.fit import fit
from noisewright.cli.schedule.measure import measure
from noisewright.cli.schedule.show import show

app = typer.Typer(
    help="Better noise levels: measure, fit, show, compare.",
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command()(measure)
app.command()(fit)
app.command()(show)
app.command()(compare)
