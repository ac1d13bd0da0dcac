"""The examples of the documentation are run, as they stand but for sizes and large models; what is not run is listed.

Every fenced block of Python or shell, and every indented one that begins with ``noisewright``, is run in the order of
its page, in one directory and one namespace a page, with the bundled model. Under ``<!-- not run: REASON -->`` one is
not, and :data:`NOT_RUN` counts these by reason.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from commands import run as run_command
from families.family import family
from noisewright import cli, registry

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "docs/cli.md": "tests/cli/test_cli.py compares it with --help",
    "docs/README.md": "an index",
}
"""Pages without examples of their own."""

PAGES = [
    page for page in ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
    if page not in ELSEWHERE
]  # fmt: skip

NOT_RUN = {
    "SAMPLES, REAL and MODEL stand for your own": 1,
    "a server that runs for ever": 4,
    "fetches gigabytes": 4,
    "needs an image that a control image went into": 1,
    "needs a CUDA device": 1,
    "needs an unconditional model": 1,
    "needs a LoRA file of the model's": 2,
    "needs a hub model": 2,
    "needs a server of scores": 1,
    "needs a single-file checkpoint": 1,
    "needs a vision-language model or its server": 4,
    "needs your own generator and statistics": 1,
    "starts a Ray cluster": 1,
}
"""How many examples are not run, by reason."""

SHAPES = registry.find_model("noisewright/shapes")
STAND_INS = [
    (r"\bstabilityai/stable-diffusion-xl-base-1\.0\b", str(SHAPES)),
    (r'\.to\("cuda"\)', ""),
    (r'(verifier|judge)="clip"', r'\1="shapes-clip"'),
    (r"(--verifier|--judge) clip\b(?!:)", r"\1 shapes-clip"),
    (r'\["clip", "aesthetic"\]', '["shapes-clip", "shapes-aesthetic"]'),
    (r"(--verifier|--judge) aesthetic\b(?!:)", r"\1 shapes-aesthetic"),
    (r"clip=(\d)", r"shapes-clip=\1"), (r"aesthetic=(\d)", r"shapes-aesthetic=\1"),
    (r'"clip": 1, "aesthetic"', '"shapes-clip": 1, "shapes-aesthetic"'),
    (r'scores\["clip"\]', 'scores["shapes-clip"]'),
]  # fmt: skip
"""What examples name that is not in the box, and what stands in for it."""

TINY = {
    "black-forest-labs/FLUX.1-dev": "flux-dev",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "stable-diffusion",
    "lllyasviel/control_v11p_sd15_canny": "sd-controlnet",
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": "wan-unipc",
}
"""Models of the hub that examples name, and the family of pipelines whose tiny one stands in for it."""

SIZES = [
    (r'(draft[ =]"?[a-z][\w,.=+]+)', r"\1,best=1"),
    (r"\b(height|width)=\d+", r"\1=32"), (r"\bnum_frames=\d+", "num_frames=5"),
    (r'"(\d+) images"', lambda found: f'"{3 if int(found[1]) > 64 else 2} images"'),
    (r'"\d+ s"', lambda found: '"2 images"'), (r'"\d+ nfe"', lambda found: '"4 nfe"'),
    (r"num_inference_steps=\d+", "num_inference_steps=4"), (r"--steps \d+", lambda found: "--steps 2"),
    (r"--(count|samples|evaluations|teacher-steps) \d+", lambda found: f"--{found[1]} {SMALLEST[found[1]]}"),
    (r"\bsamples=\d+, teacher_steps=\d+", "samples=2, teacher_steps=4"),
    (r"steps=10,25,50", "steps=1,2"), (r"--limit \d+", "--limit 2"), (r'"limit": \d+', '"limit": 1'),
    (r"--candidates \d+", "--candidates 2"), (r"\bcandidates=\d+", "candidates=2"),
]  # fmt: skip

SMALLEST = {"count": 4, "samples": 2, "evaluations": 3, "teacher-steps": 4}

SMALL = {
    "calibrate": ("--candidates", "4", "--steps", "2"),
    "generate": ["--steps", "2"], "compare": ["--steps", "2"], "audit": ["--steps", "2"],
    "benchmark quick": ["--limit", "1", "--set", "num_inference_steps=4"],
    "schedule compare": ["--samples", "2", "--teacher-steps", "4"],
    "schedule fit --method search": ["--samples", "2", "--evaluations", "3"],
    "schedule measure": ["--count", "4", "--levels", "5"],
}
"""What is added to a command that does not say it."""


@dataclass(frozen=True)
class Example:
    """A block of a page: its language, its text, the line it begins at, and why it is not run."""

    page: str
    language: str
    text: str
    line: int
    reason: str | None


def examples(page):
    """The blocks of a page, in order."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    said, n = None, 0
    while n < len(lines):
        line, first = lines[n], n + 1
        if found := re.fullmatch(r"<!-- not run: (.+) -->", line.strip()):
            said = found[1]
        elif found := re.fullmatch(r"```(\w*)", line):
            end = lines.index("```", n + 1)
            if found[1] in ("python", "bash"):
                yield Example(page, found[1], "\n".join(lines[n + 1 : end]), first + 1, said)
            n, said = end, None
        elif line.startswith("    noisewright ") and not lines[n - 1].strip():
            end = n
            while end < len(lines) and lines[end].startswith("    "):
                end += 1
            yield Example(page, "bash", "\n".join(one.strip() for one in lines[n:end]), first, said)
            n, said = end - 1, None
        elif line.strip():
            said = None
        n += 1


ALL = {page: list(examples(page)) for page in PAGES}


def small(text):
    for pattern, by in [*STAND_INS, *SIZES]:
        text = re.sub(pattern, by, text)
    return text


@cache
def written(name):
    """A directory with the tiny pipeline of a family; of a control network with that alone."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-")) / name
    pipe = family(name).make()
    getattr(pipe, "controlnet", pipe).save_pretrained(folder)
    return str(folder)


def with_tiny(text):
    """An example of Python with tiny pipelines in place of the hub's."""
    for model, name in TINY.items():
        text = text.replace(f'"{model}"', repr(written(name))) if f'"{model}"' in text else text
    return text


def with_sizes(given):
    """A command's arguments, with the small sizes that it does not say."""
    for name, more in SMALL.items():
        if given[: len(name.split())] == name.split():
            options = zip(more[::2], more[1::2], strict=True)
            given = [*given, *(part for option in options if option[0] not in given for part in option)]
    return given


@pytest.fixture(scope="module")
def stocked(tmp_path_factory):
    """A directory with what examples take for granted: a run, pictures with prompts, a verifier, lists of prompts."""
    root = tmp_path_factory.mktemp("docs")
    given = ["generate", "two red circles", "--budget", "2 images", "--steps", "2", "--out", str(root / "RUN")]
    assert cli.main(given) == 0
    (root / "pictures").mkdir()
    for n, file in enumerate(sorted((root / "RUN" / "images").glob("*.png"))):
        shutil.copy(file, root / "pictures" / f"{n}.png")
        (root / "pictures" / f"{n}.txt").write_text("two red circles\n")
    for name in ("best", "baseline"):
        shutil.copy(root / "RUN" / f"{name}.png", root / f"{name}.png")
    (root / "prompts.csv").write_text("file,prompt\npictures/0.png,two red circles\npictures/1.png,a red circle\n")
    (root / "prompts.txt").write_text("two red circles\na green square\na blue star\na yellow circle\n")
    (root / "votes.csv").write_text("prompt,winner,loser\ntwo red circles,pictures/0.png,pictures/1.png\n")
    (root / "my_verifiers.py").write_text("def warmth(images, prompt):\n    return images[:, 0].mean((1, 2))\n")
    Image.new("RGB", (64, 64)).save(root / "control.png")
    return root


def run_shell(example, capsys):
    text = small(example.text.replace("\\\n", " "))
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["noisewright"]:
            if ">" in words:
                words = words[: words.index(">")]
            ended = run_command(capsys, with_sizes(words[1:]))
            assert ended.code == 0, f"{example.page}:{example.line}: {shlex.join(words)}\n{ended.err}"
        elif words:
            line = re.sub(r"^python ", f"{shlex.quote(sys.executable)} ", line)
            subprocess.run(["bash", "-euc", line], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(one.reason is None for one in ALL[page])])
def test_the_examples_of_a_page_run(page, stocked, tmp_path, monkeypatch, capsys):
    shutil.copytree(stocked, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    names = {"__name__": "__main__"}
    for example in ALL[page]:
        if example.reason is not None:
            continue
        if example.language == "bash":
            run_shell(example, capsys)
        else:
            code = compile("\n" * (example.line - 1) + with_tiny(small(example.text)), f"{ROOT / page}", "exec")
            exec(code, names)


def test_what_is_not_run_is_known():
    assert Counter(one.reason for some in ALL.values() for one in some if one.reason) == NOT_RUN


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page.name


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", *PAGES[1:]])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not re.match(r"\w+:", target):
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"
    for file in re.findall(r"`((?:src|tests|benchmarks|training)/[\w/.-]+\.\w+)`", text):
        assert os.path.exists(ROOT / file), f"{page} names {file}"
