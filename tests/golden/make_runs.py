"""Makes the runs of ``runs-1.tar.gz`` again, by version 0.1.0 with the verifier of now; run by hand, not by the tests.

    git worktree add /tmp/old b0a40fd~1       # the last commit that wrote runs of schema 1
    python tests/golden/make_runs.py /tmp/old

It is needed whenever ``shapes-clip`` has new weights, since a run goes on only with the verifier that it began with.
What a run is asked for is read from the archive that is there; runs of other verifiers, schedules and error tables stay
as they are. A run that is cut off (``*-cut``) ends, as by a kill, right after a line of its journal.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ARCHIVE = HERE / "runs-1.tar.gz"
MODELS = HERE.parents[1] / "src" / "noisewright" / "models"
LINES = {"fk-cut": 5, "paths-cut": 5, "halving-cut": 4, "refine-cut": 3, "gradient-cut": 3}
"""After which line of its journal a run is cut off."""

KEPT = ("baseline.png", "best.png", "images", "journal.jsonl", "run.json", "states")
CUT = """
import os, sys
from noisewright import cli
from noisewright.store import Store
append, left = Store.append, [int(sys.argv[1])]
def cut(self, record):
    append(self, record)
    left[0] -= 1
    if left[0] == 0:
        os._exit(0)
Store.append = cut
sys.exit(cli.main(sys.argv[2:]))
"""


def asked(request: dict, schedule: Path) -> list[str]:
    """The command line of a request of version 0.1.0."""
    found = ["generate", request["prompt"], "--model", request["model"], "--search", request["search"]]
    found += ["--seed", str(request["seed"])]
    for option, key in (("--search-arg", "search_args"), ("--verifier", "verifier"), ("--budget", "budget")):
        for one in request[key] or []:
            found += [option, one]
    if request["num_inference_steps"] is not None:
        found += ["--steps", str(request["num_inference_steps"])]
    return found + (["--schedule", str(schedule)] if request["schedule"] != "pipeline" else [])


def make(old: Path, argv: list[str], out: Path, lines: int | None = None) -> None:
    """A run by version 0.1.0; cut off after so many lines."""
    code = ["-m", "noisewright"] if lines is None else ["-c", CUT, str(lines)]
    shutil.rmtree(out, ignore_errors=True)
    environment = {**os.environ, "PYTHONPATH": str(old / "src"), "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, *code, *argv, "--out", str(out)], check=True, env=environment, cwd=old)
    for one in out.iterdir():
        if one.name not in KEPT:
            shutil.rmtree(one) if one.is_dir() else one.unlink()


def again(old: Path, root: Path, name: str) -> None:
    """One run in place of the one that is there, and of one that is cut off what the whole run makes."""
    run = root / "runs" / name
    held = json.loads((run / "run.json").read_text())
    if all(one["name"] != "shapes-clip" for one in held["spec"]["verifiers"]):
        return
    argv = asked(held["request"], root / "sched-vrg.json")
    make(old, argv, run)
    if name in LINES:
        summary = json.loads((run / "run.json").read_text())["summary"]
        expected = json.loads((root / "expected.json").read_text())
        lines = map(json.loads, (run / "journal.jsonl").read_text().splitlines())
        made = [dict(zip(one["ids"], one["pixels"], strict=True)) for one in lines if one["verb"] == "finish"]
        pixels = {key: value for one in made for key, value in one.items()}
        best, nfe = summary["best"]["id"], summary["nfe"]
        expected[name] = {"pixels": pixels, "best": best, "nfe": nfe, "images": len(pixels)}
        (root / "expected.json").write_text(json.dumps(expected, indent=1))
        shutil.rmtree(root / "expected" / name)
        shutil.copytree(run / "images", root / "expected" / name)
        make(old, argv, run, LINES[name])
    file = run / "run.json"
    file.write_text(file.read_text().replace(str(root), "/nowhere"))


def main() -> None:
    old = Path(sys.argv[1]).resolve()
    for name in ("shapes-clip", "shapes-aesthetic"):
        shutil.copytree(MODELS / name, old / "src" / "noisewright" / "models" / name, dirs_exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory).resolve()
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(root, filter="data")
        for run in sorted((root / "runs").iterdir()):
            again(old, root, run.name)
        with tarfile.open(ARCHIVE, "w:gz") as archive:
            archive.add(root, arcname=".")


if __name__ == "__main__":
    main()
