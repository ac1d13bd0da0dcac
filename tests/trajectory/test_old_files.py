"""What earlier versions wrote on schedules is read as before: kept answers, schedule files, benchmark results."""

import base64
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from noisewright import cli
from noisewright.diffusion.clock import Clock
from noisewright.diffusion.schedule import Schedule
from noisewright.trajectory.disk_cache import DiskCache
from noisewright.trajectory.errors import ErrorTable
from noisewright.trajectory.files import FittedSchedule, read_schedule_file
from noisewright.trajectory.path import ModelPath, ruled

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"

NAME = "values/e3f0d14c2ebff58be957149b.safetensors"
BYTES = """
OAEAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJkZXBlbmRzX29uIjoiWzEsIFwidmFsdWVzXCIsIFt7XCJtb2RlbFwiOiBcIm1cIiwgXCJudW1faW5mZXJl
bmNlX3N0ZXBzXCI6IDV9LCBcIjAxMjM0NTY3ODlhYmNkZWZcIiwgXCJkZGltXCJdLCBbMSwgMl0sIFtbXCJ0ZWFjaGVyXCIsIFwidGVhY2hlci0yMDBc
Il1dXSIsImNoZWNrc3VtIjoiMjk0N2FhMmFlNzI3ODc3NDhmOTY1MTU4OTAzYThiNmU0ODY3MDhjN2I5ZmI0ZjQ1ZjUwYzVhNDdkYmRhMTVmOCJ9LCJ0
ZWFjaGVyIjp7ImR0eXBlIjoiRjY0Iiwic2hhcGUiOlsyXSwiZGF0YV9vZmZzZXRzIjpbMCwxNl19fSAAAAAAAADQPwAAAAAAAOA/
"""
"""A file that version 0.1.0 kept, under its name."""

VP = tuple(math.exp(-3.5 + 6.2 * k / 999) for k in range(1000))

KEY = ("values", [{"model": "m", "num_inference_steps": 5}, "0123456789abcdef", "ddim"], (1, 2))


def contents(file):
    """What a safetensors file holds; its writer puts the metadata in any order."""
    with safe_open(file, "pt") as held:
        return held.metadata(), {name: held.get_tensor(name).tolist() for name in held.keys()}  # noqa: SIM118


def test_a_kept_file_of_an_earlier_version_is_found_and_believed(tmp_path, caplog):
    (tmp_path / NAME).parent.mkdir()
    (tmp_path / NAME).write_bytes(base64.b64decode(BYTES))
    found = DiskCache(tmp_path).get(*KEY, [("teacher", "teacher-200")])
    assert found["teacher"].tolist() == [0.25, 0.5]
    assert not caplog.messages
    DiskCache(tmp_path / "now").put({"teacher": torch.tensor([0.25, 0.5]).double()}, *KEY, [("teacher", "teacher-200")])
    assert contents(tmp_path / "now" / NAME) == contents(tmp_path / NAME)


@pytest.mark.parametrize(
    ("clock", "digests"),
    [
        (Clock("vp", VP), ("952264309a3baf06", "dbafd7469a1fe67b")),
        (Clock("flow"), ("fb253a91c6751518", "b3cee412242f214d")),
        (Clock("flow", shift=3.0), ("fb253a91c6751518", "b3cee412242f214d")),
    ],
    ids=["vp", "flow", "shifted"],
)  # fmt: skip
def test_many_step_images_are_kept_under_the_same_levels(clock, digests):
    """To the last bit, since files are named by a hash of them."""
    path = ModelPath(clock.lowest, clock.highest, 0.0, clock)
    assert tuple(ruled("uniform", path, steps).digest for steps in (50, 200)) == digests


@pytest.mark.parametrize("name", ["dmn", "gits", "search", "vrg"])
def test_schedule_files_of_earlier_versions_are_shown(name, capsys):
    file = next(iter(sorted(RESULTS.glob(f"schedules/fits/{name}-*.json"))))
    held = json.loads(file.read_text())
    found = read_schedule_file(file)
    assert list(found.schedule.sigma) == held["sigma"]
    assert cli.main(["schedule", "show", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["diffusers"] == held["diffusers"]
    assert cli.main(["schedule", "show", str(file)]) == 0
    assert "half log-SNR" in capsys.readouterr().out


def test_error_tables_of_earlier_versions_are_read():
    files = list(RESULTS.glob("*/errors-*.json"))
    assert files
    assert all(len(ErrorTable.load(file).levels) >= 5 for file in files)


# What is printed of them


def falling(steps):
    sigma = tuple(1 - k / steps for k in range(steps + 1))
    return Schedule(tuple(1000 * one for one in sigma[:-1]), tuple(1 - one for one in sigma), sigma)


@pytest.mark.parametrize("steps", [5, 50])
def test_prompts_and_levels_are_listed_by_the_first_of_them(steps, tmp_path, capsys):
    about = {"model": "m", "fingerprint": "f", "prediction": "flow"}
    prompts = [f"prompt number {n}" for n in range(20)]
    made = {"method": "search", "prompts": prompts, "report_prompts": {"count": 30, "sha256": "0" * 64}}
    file = FittedSchedule(falling(steps), "ddim", about, made).save(tmp_path / "s.json")
    assert cli.main(["schedule", "show", str(file)]) == 0
    out = capsys.readouterr().out
    assert "20: prompt number 0, prompt number 1, prompt number 2, and 17 more" in out
    assert "prompt number 3" not in out
    assert "30 (not listed in the file)" in out
    table = out[: out.index("model")]
    assert len(table.splitlines()) < 30
    assert ("(31 more)" in table) == (steps == 50)
    assert cli.main(["schedule", "show", str(file), "--json"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert held["made"]["prompts"] == prompts
    assert len(held["t"]) == steps


def test_levels_with_one_verdict_are_folded(capsys):
    from noisewright.cli.schedule.display import print_errors
    from noisewright.trajectory.errors import LevelError

    def level(s, bias):
        return LevelError(s, s, 0.1, 0.01, bias, 0.01, 0.0, 0.0, 0.1, 0.0, 0.1, 50)

    levels = [level(50.0 - n, 0.5 if n < 3 else 0.0) for n in range(50)]
    print_errors(ErrorTable(tuple(levels), 100, "self", {}, {}))
    out = capsys.readouterr().out
    assert "(45 more levels)" in out
    assert len(out.splitlines()) < 14
    assert "departs from a zero-mean Gaussian at 3 of 50 levels" in out
