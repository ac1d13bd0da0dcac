"""Loggers, by their own local backends: what they were given is read back."""

import importlib.util
import json
import logging
import sqlite3
import struct
import sys
import time
import types
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmark.made import made_results, made_spec
from noisewright.benchmark import loggers
from noisewright.benchmark.comparisons import compared
from noisewright.benchmark.loggers import check_loggers, log_results, points_table
from noisewright.benchmark.spec import SetPrompt

SIDE = 8
PATIENCE = 60  # seconds that another process may take


@pytest.fixture
def results(tmp_path):
    spec = made_spec({"search": ["random", "paths"], "budget": ["8 images", "16 images"]}, prompts=3, across="budget")
    spec = replace(spec, prompts=(SetPrompt("a <b>| [red] circle", 1), *spec.prompts[1:]))
    found = made_results(tmp_path, spec, {"paths": {"clip": 0.3}}, images={"16 images": 16})
    for row in found.rows:
        (tmp_path / row["run"]).mkdir(parents=True)
        for which, value in (("baseline", 50), ("best", 200)):
            pixels = np.full((SIDE, SIDE, 3), value, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / row[which]["file"])
    return found


def test_tensorboard_has_curves_a_table_and_the_wall(results):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = compared(results)
    assert log_results(results, found, ["tensorboard"]) == ()
    place = results.root / "tensorboard" / "1"
    read = EventAccumulator(str(place), size_guidance={"images": 0, "tensors": 0, "scalars": 0})
    read.Reload()
    curve = read.Scalars("clip/paths")
    points = [found.at(search="paths", budget=budget) for budget in ("8 images", "16 images")]
    assert [one.step for one in curve] == [80, 160]
    assert [one.value for one in curve] == pytest.approx([one.scores["clip"].best.mean for one in points])
    gains = read.Scalars("oracle gain/paths")
    assert [one.value for one in gains] == pytest.approx([one.scores["oracle"].gain.mean for one in points])
    assert [one.value for one in read.Scalars("seconds/random")] == pytest.approx([1.04, 2.0])
    shown = read.Images("largest gain/random, 8 images")[0]
    assert (shown.width, shown.height) == (2 * SIDE, SIDE)
    table = read.Tensors("points/text_summary")[0].tensor_proto.string_val[0].decode()
    assert table.splitlines()[0].startswith("| point | cells | failed | nfe |")
    assert len(table.splitlines()) == 2 + 4
    config = read.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| cells | 12 |" in config
    captions = [read.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in read.Tags()["tensors"]]
    of_prompt = [one for one in captions if "red" in one]
    assert all("a &lt;b>&#124; &#91;red] circle" in one for one in of_prompt)
    assert of_prompt
    assert log_results(results, found, ["tensorboard"]) == ()
    assert sorted(one.name for one in (results.root / "tensorboard").iterdir()) == ["1", "2"]


def wandb_records(data):
    """The records of a ``.wandb`` file: a LevelDB log of blocks of 32 KiB behind a header of 7 bytes."""
    place, parts = 7, []
    assert data.startswith(b":W&B")
    while place + 7 <= len(data):
        left = 2**15 - place % 2**15
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


def finished(path):
    """The records by kind, once the last is there: another process writes them, and ``finish`` does not wait for it."""
    from wandb.proto import wandb_internal_pb2

    end = time.monotonic() + PATIENCE
    while True:
        found = {}
        for data in wandb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            found.setdefault(record.WhichOneof("record_type"), []).append(record)
        if "exit" in found or time.monotonic() > end:
            return found
        time.sleep(0.05)


@pytest.mark.slow
def test_wandb_writes_an_offline_run(results, monkeypatch, capfd):
    """Its local file has what was logged; nothing is sent, nothing reaches standard output."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    found = compared(results)
    assert log_results(results, found, ["wandb"]) == ()
    assert capfd.readouterr().out == ""
    runs = list((results.root / "wandb").glob("offline-run-*"))
    assert len(runs) == 1
    records = finished(next(runs[0].glob("*.wandb")))
    config = {one.key: json.loads(one.value_json) for one in records["run"][0].run.config.update}
    history = [
        {one.key or "/".join(one.nested_key): json.loads(one.value_json) for one in record.history.item}
        for record in records["history"]
    ]
    assert config["axes"] == {"search": ["random", "paths"], "budget": ["8 images", "16 images"]}
    assert [one["_step"] for one in history] == [80, 160]
    point = found.at(search="paths", budget="16 images")
    assert history[1]["clip/paths"] == pytest.approx(point.scores["clip"].best.mean)
    assert history[1]["points/nrows"] == 4
    assert history[1]["largest gain/random, 8 images/width"] == 2 * SIDE


@pytest.mark.skipif(
    importlib.util.find_spec("trackio") is None, reason="trackio wants pillow < 13, and is not installed"
)
def test_trackio_writes_its_own_files(results, monkeypatch, tmp_path):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    found = compared(results)
    assert log_results(results, found, ["trackio"]) == ()
    with sqlite3.connect(tmp_path / "trackio" / "noisewright.db") as base:
        rows = base.execute("select step, metrics from metrics order by id").fetchall()
    assert [step for step, _ in rows] == [80, 160, 160]
    written = json.loads(rows[1][1])
    point = found.at(search="paths", budget="16 images")
    assert written["clip/paths"] == pytest.approx(point.scores["clip"].best.mean)
    assert {"points", "largest gain/random, 8 images"} <= set(json.loads(rows[2][1]))
    assert len(list((tmp_path / "trackio" / "media").rglob("*.png"))) == len(found.wall)


@contextmanager
def broken(*_):
    def write(*_):
        raise RuntimeError("no route to host\nand more")

    yield write


@contextmanager
def leaving(*_):
    print("said to nobody")
    sys.exit(3)
    yield


@pytest.mark.parametrize(("logger", "why"), [(broken, "no route to host"), (leaving, "3")])
def test_a_logger_that_fails_is_a_warning(results, monkeypatch, caplog, capsys, logger, why):
    monkeypatch.setattr(loggers, "LOGGERS", {"wandb": logger, "tensorboard": loggers.LOGGERS["tensorboard"]})
    with caplog.at_level(logging.WARNING, "noisewright"):
        said = log_results(results, compared(results), ["wandb", "tensorboard"])
    assert said == (f"logging to wandb failed: {why}; the results are in {results.root}",)
    assert said[0] in caplog.text
    assert capsys.readouterr().out == ""
    assert (results.root / "tensorboard" / "1").is_dir(), "the next one has its turn"


def test_an_interruption_is_the_persons_wish(results, monkeypatch):
    @contextmanager
    def interrupted(*_):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(loggers, "LOGGERS", {"wandb": interrupted})
    with pytest.raises(KeyboardInterrupt):
        log_results(results, compared(results), ["wandb"])


def test_unknown_and_missing_loggers_are_refused_before_anything(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"unknown logger 'tensorbord': expected one of .*did you mean tensorboard\?"):
        check_loggers(["tensorbord"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"logging to wandb needs its package: pip install 'noisewright\[wandb\]'"):
        check_loggers(["wandb"])
    check_loggers([])


def test_a_directory_is_no_package(monkeypatch):
    """wandb makes a directory of its name where it works, and Python finds packages there."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: types.SimpleNamespace(origin=None))
    with pytest.raises(ValueError, match="needs its package"):
        check_loggers(["wandb"])


def test_images_that_are_gone_and_points_without_cells_are_left_out(results):
    for row in results.rows[::2]:
        (results.root / row["best"]["file"]).unlink()
    rows = tuple(row for row in results.rows if row["coordinates"]["search"] == "paths")
    some = replace(results, rows=rows)
    table = points_table(compared(some))
    assert [row[:2] for row in table.rows] == [
        ("random, 8 images", 0), ("random, 16 images", 0), ("paths, 8 images", 3), ("paths, 16 images", 3),
    ]  # fmt: skip
    assert set(table.rows[0][3:]) == {None}
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert log_results(some, compared(some), ["tensorboard"]) == ()


def test_labels_lead_nowhere(results):
    """Loggers name files after them."""
    labels = {"random": "../../up", "paths": "..", "8 images": "/etc/\\x"}

    def renamed(row):
        return {**row, "coordinates": {name: labels.get(one, one) for name, one in row["coordinates"].items()}}

    axes = tuple(
        replace(axis, values=tuple(replace(one, label=labels.get(one.label, one.label)) for one in axis.values))
        for axis in results.spec.axes
    )
    strange = replace(results, spec=replace(results.spec, axes=axes), rows=tuple(map(renamed, results.rows)))
    tags = []

    @contextmanager
    def kept(*_):
        yield lambda metrics, images, step: tags.extend((*metrics, *images))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loggers, "LOGGERS", {"wandb": kept})
        assert log_results(strange, compared(strange), ["wandb"]) == ()
    assert "clip/_" in tags
    assert "clip/_.._up" in tags
    assert all(one.count("/") == (one != "points") and "\\" not in one for one in tags)


def test_nothing_done_is_logged_as_nothing(results):
    some = replace(results, rows=())
    assert log_results(some, compared(some), ["tensorboard"]) == ()
