"""The options that commands share, each written once: its type, its help, how it is named in the help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Prompt = Annotated[
    str | None, typer.Argument(metavar="PROMPT", help="What to make, unless --class-label says it.", show_default=False)
]
ClassLabel = Annotated[
    str | None,
    typer.Option(help="For a class-conditional model: a class by its name or number.", metavar="NAME|N"),
]
Model = Annotated[
    str,
    typer.Option(
        help="What makes the images: a bundled model, a pipeline directory, a hub id, a .safetensors file, or a server "
        "of images as http://HOST/v1#MODEL.",
        metavar="ID|DIR|FILE|URL",
    ),
]
Search = Annotated[str, typer.Option(help="How noise is searched for: a name from `list searches`.", metavar="NAME")]
SearchArg = Annotated[
    list[str] | None,
    typer.Option(help="An argument of the search, NAME=VALUE; may be repeated.", metavar="NAME=VALUE"),
]
Verifier = Annotated[
    list[str] | None,
    typer.Option(
        help="What the search maximises: a name from `list verifiers`, NAME:MODEL or FILE.py:FUNCTION; may be "
        "repeated. By default what the model's card names, else clip.",
        metavar="NAME",
    ),
]
Judge = Annotated[
    list[str] | None,
    typer.Option(
        help="What the search never sees, reported for baseline and best: a name as of --verifier; may be repeated. "
        "By default what the model's card names; none: none.",
        metavar="NAME",
    ),
]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        help='"64 images", "1920 nfe" or "30 s"; may be repeated: the first that runs out ends the search. '
        "By default 16 images, or what the run had.",
        metavar="AMOUNT",
    ),
]
TargetOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Stop as soon as a candidate scores this; with several verifiers NAME=SCORE, repeated.",
        metavar="[NAME=]SCORE",
    ),
]
Steps = Annotated[int | None, typer.Option(help="Denoising steps; by default the model's.", min=1, metavar="N")]
SearchSteps = Annotated[
    int | None,
    typer.Option(help="Search with this many steps and render the winner with --steps.", min=1, metavar="N"),
]
Draft = Annotated[
    str | None,
    typer.Option(
        help="Search cheap images from the same noise, make the best in full: steps, size, dtype, cache, guidance or "
        "truncate, joined by +.", metavar="KIND[,KEY=VALUE...]",
    ),
]
Profile = Annotated[
    Path | None,
    typer.Option(help="Settings and draft by what `calibrate` measured, where they are not given.", metavar="FILE"),
]
SolverOption = Annotated[
    str | None,
    typer.Option(help="What takes the steps: one of `list solvers`. By default the pipeline's own.", metavar="NAME"),
]
Eta = Annotated[float | None, typer.Option(help="Noise of each step, 0 to 1 (ddim, dpmpp-2m-sde).", metavar="E")]
ScheduleOption = Annotated[
    str,
    typer.Option(help="The noise levels: a name from `list schedules`, or a schedule file.", metavar="NAME|FILE"),
]
Force = Annotated[bool, typer.Option("--force", help="Take a schedule file that was made for another model.")]
States = Annotated[
    str | None, typer.Option(
        help="Precision of states between steps where the model's is half: model (its own images, the default) or "
        "float32.", metavar="NAME",
    ),
]
NoCheck = Annotated[
    bool, typer.Option("--no-check", help="Do not hold the pipeline to its own plain call before the first search.")
]
Guidance = Annotated[float | None, typer.Option(help="As in diffusers; by default the model's.", metavar="G")]
Negative = Annotated[str | None, typer.Option(help="As in diffusers.", metavar="TEXT")]
Height = Annotated[int | None, typer.Option(help="Pixels; by default the model's.", min=1, metavar="H")]
Width = Annotated[int | None, typer.Option(help="Pixels; by default the model's.", min=1, metavar="W")]
Frames = Annotated[
    str | None,
    typer.Option(
        help="Of a video, what verifiers see: first, middle, last, or how many frames; by default 4.", metavar="NAME|N"
    ),
]
Seed = Annotated[int, typer.Option(help="Candidate k starts from the noise of seed S + k.", metavar="S")]
Ensemble = Annotated[
    str,
    typer.Option(
        help="How several verifiers become one value: rank, zsum, or the weights of a weighted sum, NAME=W,NAME=W.",
        metavar="NAME|WEIGHTS",
    ),
]
ScoreCache = Annotated[
    Path | None,
    typer.Option(help="Keep scores here, and ask for none that is kept already.", metavar="DIR"),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        help="Images at once, halved when memory runs out; by default the fastest found here, else by size.", min=1,
        metavar="N",
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option(help="Images at once of a model behind a server; by default 4.", min=1, metavar="N"),
]
Out = Annotated[
    Path | None,
    typer.Option(help="The run directory: new, empty, or a run to continue; by default one in runs/.", metavar="DIR"),
]
Executor = Annotated[
    str,
    typer.Option(
        help="Who does the work. local: this process; ray: processes of this machine; ray:HOST:PORT: a Ray cluster.",
        metavar="NAME[:ADDRESS]",
    ),
]
OtherExecutor = Annotated[
    str | None,
    typer.Option("--executor", help="Who does the work; by default who did.", metavar="NAME[:ADDRESS]"),
]
RayWorkers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, metavar="N",
        help="Of ray: how many make images; by default as many as there are GPUs for, or one for each host.",
    ),
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        min=0, metavar="G", help="Of ray: GPUs of each worker, or a part of one; by default 1 for a model on a GPU."
    ),
]
VerifierWorkers = Annotated[
    int | None, typer.Option(help="Of ray: so many workers more do nothing but score.", min=0, metavar="M")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps; by default the best there is.", metavar="NAME")]
Dtype = Annotated[
    str | None,
    typer.Option(help="float32, float16 or bfloat16; by default float32 on a CPU, else bfloat16.", metavar="NAME"),
]
DtypeOrAuto = Annotated[
    str | None,
    typer.Option(
        help="float32, float16, bfloat16, or auto: on a CPU bfloat16 where a trial of a second finds it faster. By "
        "default float32 on a CPU, else bfloat16.", metavar="NAME",
    ),
]
Variant = Annotated[
    str | None, typer.Option(help="Of the model's weight files, such as fp16.", metavar="NAME")
]
Config = Annotated[
    Path | None,
    typer.Option(help="For a checkpoint file: a pipeline directory whose configuration it has.", metavar="DIR"),
]
Lora = Annotated[
    list[str] | None,
    typer.Option(help="LoRA weights to add, .safetensors, with a weight (1) after a colon; may be repeated.",
                 metavar="FILE[:WEIGHT]"),
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the network: slow to begin, then faster; worth it on a GPU.")
]
ChannelsLast = Annotated[
    bool, typer.Option("--channels-last", help="Convolutions with channels last; worth it on a GPU.")
]
PipelineArg = Annotated[
    list[str] | None,
    typer.Option(
        help="A further argument of the pipeline's call, NAME=JSON; an image NAME=FILE; repeated.", metavar="NAME=JSON"
    ),
]
Keep = Annotated[
    int | None, typer.Option(help="Write the best K images as files of their own.", min=1, metavar="K")
]
PromptFile = Annotated[
    Path | None,
    typer.Option(help="One run for each line of a file, in one process; # begins a comment.", metavar="FILE"),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Import the files, call the servers, fetch the models and use the directories that it names.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the planned cost, generate nothing.")]
Serve = Annotated[
    bool,
    typer.Option(
        "--serve", help="Show the run on a page as it is made (see `serve`); the page stays until Ctrl-C, which before "
        "its end ends the run too.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
RunDirectory = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.", show_default=False)]

# Of many runs

Prompts = Annotated[
    str,
    typer.Argument(
        metavar="PROMPTS", help="A file, the name of a bundled set, or a prompt of several words in quotes.",
        show_default=False,
    ),
]
Column = Annotated[
    str | None, typer.Option(help="Where prompts are in a table; by default it is recognised.", metavar="NAME")
]
Category = Annotated[str | None, typer.Option(help="Only prompts that the set files under this.", metavar="NAME")]
Limit = Annotated[int | None, typer.Option(help="Only the first N prompts.", min=1, metavar="N")]
Sample = Annotated[int | None, typer.Option(help="Only N prompts, drawn by --seed.", min=1, metavar="N")]
Seeds = Annotated[int | None, typer.Option(help="Starting seeds of each prompt; by default 1.", min=1, metavar="N")]
FirstSeed = Annotated[
    int | None, typer.Option(help="The first seed of the first prompt; by default 0.", min=0, metavar="S")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="A field of all requests, as in `generate`, FIELD=VALUE; repeated.",
                 metavar="FIELD=VALUE"),
]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes that work at once, by default 1; of ray its workers.", min=1, metavar="N"),
]
GridOut = Annotated[
    Path | None,
    typer.Option(
        help="The benchmark's directory: new, empty, or one to go on with; by default one in runs/.", metavar="DIR"
    ),
]
Log = Annotated[
    list[str] | None,
    typer.Option(help="Tell a logger as well: wandb, trackio or tensorboard; repeated.", metavar="NAME"),
]
Verifiers = Annotated[
    list[str],
    typer.Option(
        "--verifier", help="A name from `list verifiers`; repeated.", metavar="NAME", show_default=False
    ),
]
Searches = Annotated[
    list[str],
    typer.Option(
        "--search", metavar="NAME[:KEY=VALUE,...]", show_default=False,
        help="A name from `list searches`, with arguments; repeated. Plain best of N (random) is always compared.",
    ),
]
SearchArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--search-arg", help="More arguments of one of the searches; repeated.", metavar="NAME:KEY=VALUE,..."
    ),
]
EqualBudget = Annotated[
    str,
    typer.Option(
        "--budget", help='"32 images" (as so many NFE), "320 nfe" or "30 s"; the same for all searches.',
        metavar="AMOUNT",
    ),
]
Candidates = Annotated[int, typer.Option(help="Of each prompt, made once.", min=2, metavar="N")]
Votes = Annotated[
    Path | None,
    typer.Option(
        help="A person's choices: CSV, TSV, JSONL or JSON with winner and loser, or a, b and choice.", metavar="FILE"
    ),
]
