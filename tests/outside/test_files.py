"""Files are whole or not there, never stand in place of what is no file, and are found again from anywhere."""

import json
import os
import socket
import stat
import threading
import tracemalloc
from pathlib import Path

import pytest
import torch
from PIL import Image

import noisewright as nw
from commands import run
from noisewright import cli
from noisewright.evaluate import report
from noisewright.measures.statistics import FeatureStatistics
from noisewright.outside import files
from noisewright.outside.files import write_atomically
from noisewright.outside.reading import read_bytes
from noisewright.run.reading import read_run
from noisewright.trajectory.disk_cache import DiskCache

SPECIAL = ("pipe", "socket", "device", "link to a pipe", "link to a device", "/dev/null", "/dev/stdout", "/dev/fd/1")


def special(kind, folder, suffix=""):
    """Something that is no file, and its path."""
    path = folder / f"special{suffix}"
    if kind.startswith("/"):
        return Path(kind)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
    elif kind == "device":
        try:
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        except OSError:
            pytest.skip("devices cannot be made here")
    elif kind == "link to a pipe":
        os.mkfifo(folder / "there")
        path.symlink_to(folder / "there")
    else:
        path.symlink_to("/dev/null")
    return path


def mode_of(path):
    return os.lstat(path).st_mode, os.stat(path).st_rdev


@pytest.mark.parametrize("kind", [*SPECIAL[:5], "/dev/null"])
def test_what_is_no_file_is_not_written_over(kind, tmp_path):
    path = special(kind, tmp_path)
    before = mode_of(path)
    with pytest.raises(OSError, match="no file"):
        write_atomically(path, b"data")
    assert mode_of(path) == before
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".")]


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("check", [files.check_output, files.check_directory])
def test_places_that_are_no_file_are_refused_in_one_line(kind, check, tmp_path):
    path = special(kind, tmp_path)
    with pytest.raises(ValueError, match=r"expected a (file|directory) as --there, got") as caught:
        check(path, "--there")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["a\0b", "x" * 300, "file/below", "/dev/new", "/proc/new", "loop/x"])
@pytest.mark.parametrize("check", [files.check_output, files.check_directory])
def test_places_that_cannot_be_are_refused_in_one_line(path, check, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match="expected a ") as caught:
        check(path)
    assert "\n" not in str(caught.value)


def test_places_that_can_be_are_given_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files.check_output("new/deep/out.json") == tmp_path / "new" / "deep" / "out.json"
    assert (tmp_path / "new" / "deep").is_dir()
    assert files.check_directory("run") == tmp_path / "run"
    assert not (tmp_path / "run").exists()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert files.check_directory("link") == tmp_path / "link"
    with pytest.raises(ValueError, match=r"directory that|no such directory"):
        files.check_output("missing/out.png", make_parent=False)


def test_a_link_to_a_file_is_replaced_and_the_file_stays(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "file").read_text() == "old"
    assert (tmp_path / "link").read_text() == "new"
    assert not (tmp_path / "link").is_symlink()


def test_the_kernel_applies_the_umask_and_nobody_sets_it(tmp_path, monkeypatch):
    """Setting it to read it gives every file that another thread makes meanwhile to everybody."""
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(os, "umask", lambda mask: pytest.fail("the umask was set"))
            write_atomically(tmp_path / "one", b"data")
        assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o640
    finally:
        os.umask(before)
    source = Path(nw.__file__).parent
    assert not [path for path in source.rglob("*.py") if "umask(" in path.read_text()]


def test_many_threads_write_files_that_are_whole(tmp_path):
    data = {f"{n}": bytes([n]) * 100_000 for n in range(8)}

    def write(name):
        for _ in range(20):
            write_atomically(tmp_path / "file", data[name], sync=False)

    threads = [threading.Thread(target=write, args=(name,)) for name in data]
    for one in threads:
        one.start()
    seen = set()
    while any(one.is_alive() for one in threads):
        if (tmp_path / "file").exists():
            seen.add((tmp_path / "file").read_bytes())
    assert seen <= set(data.values())
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_the_name_is_synced_after_the_data(tmp_path, monkeypatch):
    real, synced = os.fsync, []

    def fsync(handle):
        synced.append("directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "one", b"data")
    assert synced == ["file", "directory"]
    write_atomically(tmp_path / "two", b"data", sync=False)
    assert synced == ["file", "directory"]


@pytest.mark.parametrize("number", [22, 95, 13])
def test_file_systems_that_sync_no_directory_are_written_to(number, tmp_path, monkeypatch):
    real = os.fsync

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "one", b"data")
    assert (tmp_path / "one").read_bytes() == b"data"


def test_a_directory_that_fails_to_sync_is_said(tmp_path, monkeypatch):
    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output"):
        write_atomically(tmp_path / "one", b"data")


def test_temporary_files_are_recognised_by_their_names(tmp_path, monkeypatch):
    seen = []
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda one, other: (seen.append(Path(one).name), real(one, other)))
    write_atomically(tmp_path / "run.json", b"data")
    write_atomically(tmp_path / ("x" * 250), b"data")
    assert seen[0].startswith(".run.json.")
    assert len(seen[0]) == len(".run.json.") + 8
    assert seen[1].startswith(".xxx")


@pytest.mark.parametrize("kind", ["pipe", "link to a device"])
def test_nothing_that_is_written_stands_in_place_of_what_is_no_file(kind, tmp_path):
    path = special(kind, tmp_path, ".png")
    before = mode_of(path)
    with pytest.raises(OSError, match="no file"):
        report.plot_curve([], ["brightness"], path)
    statistics = FeatureStatistics("x").add(torch.randn(4, 2))
    for suffix in (".npz", ".safetensors"):
        place = tmp_path / f"statistics{suffix}"
        place.symlink_to(path)
        with pytest.raises(OSError, match="no file"):
            statistics.save(place)
    cache = DiskCache(tmp_path / "cache")
    cache.put({"a": torch.zeros(1)}, "kind", "key")
    (file,) = (tmp_path / "cache").glob("kind/*")
    file.unlink()
    file.symlink_to(path)
    cache.put({"a": torch.zeros(1)}, "kind", "key")  # a warning
    assert cache.root is None
    assert mode_of(path) == before


@pytest.mark.parametrize("name", ["curve", "curve.png", "curve.svg", "curve.pdf"])
def test_a_plot_has_the_format_of_its_suffix(name, tmp_path):
    report.plot_curve([], ["brightness"], tmp_path / name)
    start = {"": b"\x89PNG", ".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[Path(name).suffix]
    (made,) = tmp_path.iterdir()
    assert made.name == (name if Path(name).suffix else "curve.png")
    assert made.read_bytes().startswith(start)


def commands(model, place):
    """Every command with every option that says where something is written."""
    generate = ["generate", "a cat", "--model", model, "--verifier", "brightness", "--steps", "1", "--budget", "1"]
    fit = ["schedule", "fit", "--method", "dmn", "--steps", "2", "--model", model]
    compare = ["schedule", "compare", "uniform", "--steps", "1", "--prompt", "x", "--model", model, "--samples", "2"]
    measure = ["schedule", "measure", model]
    return {
        "generate --out": [*generate, "--out", place],
        "generate --out --dry-run": [*generate, "--dry-run", "--out", place],
        "generate --score-cache": [*generate, "--score-cache", place],
        "score --score-cache": ["score", "x.png", "--prompt", "x", "--verifier", "brightness", "--score-cache", place],
        "replay --out": ["replay", "x.png", "--out", place],
        "evaluate --save-statistics": ["evaluate", ".", "--features", "noisewright/shapes", "--save-statistics", place],
        "measure --out": [*measure, "--out", place],
        "measure --keep": [*measure, "--out", "errors.json", "--keep", place],
        "fit --out": [*fit, "--out", place],
        "fit --keep": [*fit, "--out", "fit.json", "--keep", place],
        "compare --plot": [*compare, "--plot", place],
        "compare --keep": [*compare, "--keep", place],
    }


NEEDS_SUFFIX = {"evaluate --save-statistics": ".npz", "compare --plot": ".png"}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("kind", ["pipe", "link to a device", "/dev/stdout"])
@pytest.mark.parametrize("name", list(commands("", "")))
def test_commands_refuse_places_that_are_no_file_before_anything_is_computed(name, kind, tmp_path, no_model, capsys):
    path = special(kind, tmp_path, NEEDS_SUFFIX.get(name, ""))
    before = mode_of(path)
    Image.new("RGB", (8, 8)).save("x.png")
    assert cli.main([str(one) for one in commands("noisewright/shapes", path)[name]]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("noisewright: expected ")
    assert err.count("\n") == 1
    assert str(path) in err
    assert mode_of(path) == before


@pytest.mark.parametrize("kind", SPECIAL)
def test_results_are_not_saved_in_place_of_what_is_no_directory(kind, tmp_path):
    from noisewright.samplers.mixture import MixtureSampler

    place = special(kind, tmp_path)
    with pytest.raises(ValueError, match="expected a directory as out"):
        nw.search(MixtureSampler(steps=2), "a mixture", verifier="brightness", budget=1, out=place)
    found = nw.search(MixtureSampler(steps=2), "a mixture", verifier="brightness", budget=1, pictures=False)
    with pytest.raises(ValueError, match="expected a"):
        found.save(place)
    saved = found.save(tmp_path / "copy")
    assert (saved / "best.png").is_file()


def test_what_is_no_file_is_not_copied_with_a_run(tmp_path):
    """A link to /dev/zero has no end, and a pipe waits for ever."""
    from noisewright.samplers.mixture import MixtureSampler

    found = nw.search(
        MixtureSampler(steps=2), "a mixture", verifier="brightness", budget=1, pictures=False, out=tmp_path / "run"
    )
    os.mkfifo(found.run / "pipe")
    (found.run / "zero").symlink_to("/dev/zero")
    (found.run / "images" / "nothing").symlink_to("gone")
    saved = found.save(tmp_path / "copy")
    assert {"run.json", "journal.jsonl", "best.png"} <= {one.name for one in saved.iterdir()}
    assert not [one for one in saved.rglob("*") if one.name in ("pipe", "zero", "nothing")]


# The working directory

WANDERING = """
import os
os.makedirs("elsewhere", exist_ok=True)
os.chdir("elsewhere")  # when it is imported, and again whenever it is asked
def wander(images, prompt):
    os.makedirs("on", exist_ok=True)
    os.chdir("on")
    return images.mean((1, 2, 3)).tolist()
"""


@pytest.fixture
def wandering(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v.py").write_text(WANDERING)
    (tmp_path / "w.py").write_text("def other(images, prompt): return [0.5] * len(images)\n")
    return tmp_path


def written(folder):
    found = {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()}
    return {name for name in found if "__pycache__" not in name}


def run_in(folder, capsys, *arguments):
    """A command that begins in ``folder``, whose verifier leaves it; the fixture goes back."""
    os.chdir(folder)
    return run(capsys, arguments)


@pytest.mark.slow
def test_a_verifier_that_changes_the_working_directory_changes_nothing_else(model, wandering, capsys):
    done = run_in(
        wandering, capsys, "generate", "a cat", "--model", model, "--verifier", "v.py:wander", "--verifier",
        "brightness", "--judge", "w.py:other", "--steps", "2", "--budget", "3", "--batch-size", "1", "--out", "run",
        "--score-cache", "cache", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["run"], found["best"]["file"]) == ("run", "run/best.png")  # as it was typed
    assert read_run(wandering / "run")["status"] == "done"
    for name in ("best.png", "baseline.png", "contact-sheet.png", "before-after.png", "curve.png"):
        assert (wandering / "run" / name).is_file()
    assert not [name for name in written(wandering) if name.startswith("elsewhere")]
    assert (wandering / "cache" / "scores.sqlite3").is_file()


@pytest.mark.slow
def test_a_failing_run_is_named_as_it_was_typed(model, wandering, capsys):
    (wandering / "bad.py").write_text("def bad(images, prompt): raise RuntimeError('no luck')\n")
    done = run_in(
        wandering, capsys, "generate", "a cat", "--model", model, "--verifier", "v.py:wander", "--verifier",
        "bad.py:bad", "--steps", "1", "--budget", "3", "--out", "run",
    )  # fmt: skip
    assert done.code in (1, 2)
    assert str(wandering) not in done.err
    assert "kept in run" in done.err


def test_python_gets_full_paths(wandering):
    from noisewright.samplers.mixture import MixtureSampler

    found = nw.search(
        MixtureSampler(steps=2), "a mixture", verifier=["v.py:wander", "w.py:other", "brightness"], budget=3,
        out="run", score_cache="cache",
    )  # fmt: skip
    assert found.run == wandering / "run"
    assert found.best.image.size == (2, 2)
    assert found.best.file == wandering / "run" / "best.png"
    assert (wandering / "cache").is_dir()
    assert not [name for name in written(wandering) if name.startswith("elsewhere")]


@pytest.mark.slow
def test_schedules_are_written_where_they_were_asked_for(model, wandering, capsys):
    asked = ["--model", model, "--prompt", "a cat", "--samples", "2", "--keep", "kept"]
    done = run_in(
        wandering, capsys, "schedule", "fit", "--method", "search", "--metric", "v.py:wander", "--steps", "3",
        "--evaluations", "3", "--out", "fit.json", *asked,
    )  # fmt: skip
    assert done.code == 0, done.err
    done = run_in(
        wandering, capsys, "schedule", "compare", "fit.json", "uniform", "--metric", "v.py:wander,w.py:other", "--plot",
        "plot.png", *asked,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert {"fit.json", "plot.png"} <= written(wandering)
    assert not [name for name in written(wandering) if name.startswith("elsewhere")]


def test_a_small_file_costs_little_memory_however_much_may_be_read(tmp_path):
    path = tmp_path / "small"
    path.write_bytes(b"small" * 10)
    tracemalloc.start()
    assert read_bytes(path, most=2**40) == b"small" * 10
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23


def test_a_file_is_read_whole_however_many_pieces_it_takes(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 2**13 + b"end")
    assert read_bytes(path) == path.read_bytes()
    assert read_bytes(path, most=path.stat().st_size) == path.read_bytes()
    with pytest.raises(ValueError, match="at most"):
        read_bytes(path, most=path.stat().st_size - 1)
