"""Everything that is measured on a CUDA machine, in one run of a given length, on a machine without network.

    benchmarks/gpu.sh --minutes 9 --out runs/gpu

Five parts, each in a process of its own that is ended when its share of the time is up, whatever it is doing:

- ``tests``: those marked ``gpu``;
- ``sdxl``, ``flux``: pipelines of that size with random weights, in bfloat16 (``_gpu_speed.py``);
- ``ray``: best of 512 by one and by two of Ray's workers, each with a part of the GPU (``scale.py workers``);
- ``training``: up to a minute of training of each bundled model, to see how fast that goes (``training/gpu.sh``).

``OUT/results.json`` has what is known so far, and is written after each part; ``OUT/PART.json`` is a part's own, with a
row as soon as it is there; ``--show FILE`` prints what a ``results.json`` says. ``--tiny`` runs all of it on the CPU at
tiny size, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SHARES = {"tests": 0.22, "sdxl": 0.25, "flux": 0.20, "ray": 0.13, "training": 0.20}
"""Of the whole time; what a part leaves over goes to those after it."""

GRACE_SECONDS = 5.0  # between asking a part to end and ending it
TRAINED = ("shapes", "shapes-clip", "shapes-reward", "cifar10")
OUTCOME = re.compile(r"^(tests/\S+?::.+?) (PASSED|FAILED|SKIPPED|ERROR)", re.MULTILINE)


def write(path: Path, value: Any) -> None:
    """JSON that is either the old or the whole new."""
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read(path: Path) -> Any:
    """What a part left so far."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def bounded(command: list[str], seconds: float, log: Path, more: dict[str, str] | None = None) -> tuple[str, str]:
    """Run a command in a process group of its own, which is ended after ``seconds``.

    Returns:
        How it ended, and what it printed, which is also added to ``log``.
    """
    paths = [str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1", **(more or {})}
    started = log.stat().st_size if log.exists() else 0
    with log.open("a", encoding="utf-8") as file:
        print(f"\n== {' '.join(command)}, at most {seconds:.0f} s", file=file, flush=True)
        try:
            process = subprocess.Popen(
                command, cwd=ROOT, env=where, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            return f"not begun: {error}", ""
        try:
            ended = f"exit status {process.wait(max(1.0, seconds))}"
        except subprocess.TimeoutExpired:
            ended = f"ended after its {seconds:.0f} s"
        finally:
            _end(process)
    return ended, log.read_bytes()[started:].decode("utf-8", "replace")


def _end(process: subprocess.Popen) -> None:
    """End a command and whatever it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            break
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.poll()


def run_tests(seconds: float, out: Path, tiny: bool) -> dict[str, Any]:
    """Part 1."""
    command = [sys.executable, "-m", "pytest", "-vv", "-rfE", "--tb=short", "-m", "gpu", "tests/gpu"]
    command += ["-k", "noise and sd3 or come_back"] if tiny else []
    ended, said = bounded(command, seconds, out / "log.txt", {"NOISEWRIGHT_GPU_TESTS": "cpu"} if tiny else None)
    outcomes = dict(OUTCOME.findall(said))
    names = {kind: [name for name, one in outcomes.items() if one == kind.upper()] for kind in ("failed", "error")}
    counts = {kind: list(outcomes.values()).count(kind.upper()) for kind in ("passed", "failed", "error", "skipped")}
    failures = said[said.find("= FAILURES =") :][:20_000] if "= FAILURES =" in said else ""
    return {"ended": ended, **counts, "not_passed": [*names["failed"], *names["error"]], "failures": failures}


def run_speed(name: str, seconds: float, out: Path, tiny: bool) -> dict[str, Any]:
    """Part 2: of one pipeline."""
    script = str(ROOT / "benchmarks" / "_gpu_speed.py")
    own = out / f"{name}.json"
    soft = max(5.0, seconds - 10)
    command = [sys.executable, script, name, "--seconds", f"{soft:.0f}", "--out", str(own)]
    ended, _ = bounded(command + (["--tiny"] if tiny else []), seconds, out / "log.txt")
    return {"ended": ended, **(read(own) or {})}


def run_ray(seconds: float, out: Path, tiny: bool) -> dict[str, Any]:
    """Part 3."""
    command = [sys.executable, str(ROOT / "benchmarks" / "scale.py"), "workers"]
    command += ["--images", "4", "--repeats", "1"] if tiny else ["--device", "cuda", "--images", "512", "--batch", "16"]
    ended, said = bounded(command, seconds, out / "log.txt")
    rows = said.splitlines()[said.count("\n== ") + 1 :]  # after the line that names the command
    return {"ended": ended, "said": [one for one in rows if "worker" in one or "times faster" in one]}


def run_training(seconds: float, out: Path, tiny: bool) -> dict[str, Any]:
    """Part 4: a minute each, or what is left."""
    found: dict[str, Any] = {}
    until = time.monotonic() + seconds
    for number, name in enumerate(TRAINED):
        left = (until - time.monotonic()) / (len(TRAINED) - number)
        if left < 10:
            found[name] = {"ended": "no time was left"}
            continue
        minutes = min(1.0, 0.6 * left / 60)  # the rest prepares the data
        command = ["bash", str(ROOT / "training" / "gpu.sh"), f"{minutes:.3f}", "--only", name, "--speed"]
        command += ["--work", str(out / "training"), *(["--tiny"] if tiny else [])]
        ended, _ = bounded(command, left, out / "log.txt", {"PYTHON": sys.executable})
        found[name] = {"ended": ended, **(read(out / "training" / f"further-{name}.json") or {})}
        write(out / "training.json", found)
    return found


def machine() -> dict[str, Any]:
    """What the figures are of."""
    code = (
        "import json, torch, diffusers, transformers; c = torch.cuda.is_available(); print(json.dumps({'torch': "
        "torch.__version__, 'diffusers': diffusers.__version__, 'transformers': transformers.__version__, 'device': "
        "torch.cuda.get_device_name() if c else 'cpu', 'bytes': torch.cuda.get_device_properties(0).total_memory if c "
        "else None}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    known = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"wrong": done.stderr[-500:]}
    return {"python": platform.python_version(), "cores": os.cpu_count(), **known}


def show(name: str, found: dict[str, Any]) -> None:
    """A part for people."""
    print(f"\n{name}: {found.get('ended', '')}")
    if name == "tests":
        print("  " + ", ".join(f"{found[kind]} {kind}" for kind in ("passed", "failed", "error", "skipped")))
        print("".join(f"  {one}\n" for one in found["not_passed"]), end="")
    print("".join(f"  {one}\n" for one in found.get("said", [])), end="")
    for row in found.get("rows", []):
        cells = [f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
                 if not isinstance(value, dict)]  # fmt: skip
        print("  " + ", ".join(cells))
    if name == "training":
        for one in TRAINED:
            row = {key: value for key, value in found.get(one, {}).items() if not isinstance(value, (dict, list))}
            print(f"  {one}: " + ", ".join(f"{key} {value}" for key, value in row.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="of all parts together")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--tiny", action="store_true", help="on the CPU, at tiny size")
    parser.add_argument("--parts", nargs="+", choices=list(SHARES), default=list(SHARES))
    parser.add_argument("--show", type=Path, metavar="FILE", help="print such a results.json, and measure nothing")
    given = parser.parse_args()
    if given.show:
        found = read(given.show) or parser.error(f"expected the results.json of a measuring, got {given.show}")
        print(json.dumps(found["machine"]))
        for name, part in found["parts"].items():
            show(name, part)
        return 0
    out = given.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    (out / "log.txt").unlink(missing_ok=True)
    began = time.monotonic()
    results: dict[str, Any] = {"minutes": given.minutes, "tiny": given.tiny, "machine": machine(), "parts": {}}
    write(out / "results.json", results)
    print(json.dumps(results["machine"]), flush=True)
    waiting = list(given.parts)
    while waiting:
        name = waiting[0]
        left = 60 * given.minutes - (time.monotonic() - began)
        seconds = left * SHARES[name] / sum(SHARES[one] for one in waiting)
        waiting.pop(0)
        work = {"tests": run_tests, "ray": run_ray, "training": run_training}.get(name)
        since = time.monotonic()
        try:
            if seconds < 3:
                found: dict[str, Any] = {"ended": "no time was left"}
            else:
                done = work(seconds, out, given.tiny) if work else run_speed(name, seconds, out, given.tiny)
                found = {"seconds": round(time.monotonic() - since, 1), **done}
            show(name, found)
        except Exception as error:  # of this script, not of what it measures
            found = {"ended": f"{type(error).__name__}: {error}"}
            print(f"{name}: {found['ended']}")
        results["parts"][name] = found
        results["seconds"] = round(time.monotonic() - began, 1)
        write(out / "results.json", results)
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
