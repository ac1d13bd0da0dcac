import errno
import json
import os
import resource
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from noisewright.errors import RunInterrupted, RunMismatch
from noisewright.images.metadata import encode_png, pixel_hash
from noisewright.outside.files import write_atomically
from noisewright.run.journal import seal
from noisewright.run.locks import is_being_written, let_go, locked
from noisewright.run.reading import damaged_lines, is_intact, read_journal, read_run
from noisewright.run.store import Store

SPEC = {
    "sampler": {"model": "m", "fingerprint": "f", "prompt": "a cat", "num_inference_steps": 20, "device": "cpu"},
    "seed": 3,
    "budget": {"images": 4},
    "batch_size": 8,
}
RECIPE = {
    "sampler": {"num_inference_steps": 1, "solver": "ddim", "model": "m", "prompt": "p"},
    "versions": {"noisewright": "0"},
}


def create(root, spec=SPEC):
    return Store.create(root, spec, {"noisewright": "0"}, "now")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "run"


def filled(root, count=3):
    store = create(root)
    for number in range(count):
        store.append({"verb": "finish", "ids": [f"p{number}"], "value": number / 7})
    store.close()
    return read_journal(root)


def test_a_second_opener_leaves_a_journal_in_writing_alone(tmp_path):
    store = Store.create(tmp_path / "run", {}, {}, "now")
    store.append({"verb": "one"})
    with (tmp_path / "run" / "journal.jsonl").open("ab") as file:
        file.write(b'{"verb": "half')
        file.flush()
        before = (tmp_path / "run" / "journal.jsonl").read_bytes()
        with pytest.raises(RunMismatch, match="another process"):
            Store.open(tmp_path / "run")
        assert (tmp_path / "run" / "journal.jsonl").read_bytes() == before
    store.close()
    again = Store.open(tmp_path / "run")
    assert list(again.records) == [{"verb": "one"}]
    again.close()


def test_a_directory_that_may_not_be_looked_into_is_wrong_use(tmp_path, monkeypatch):
    def refused(path, **more):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "exists", refused)
    with pytest.raises(ValueError, match="Permission denied"):
        Store.create(tmp_path / "run", {}, {}, "now")


def test_a_start_that_was_cut_short_can_be_started_again(tmp_path):
    root = tmp_path / "run"
    for name in ("images", "states"):
        (root / name).mkdir(parents=True)
    (root / "journal.jsonl").touch()
    (root / ".run.json.abc").write_text("{")
    store = Store.create(root, {"a": 1}, {}, "now", {"model": "m"})
    assert store.run["request"] == {"model": "m"}
    store.close()


def test_a_new_run_directory(root):
    create(root).close()
    assert {one.name for one in root.iterdir()} == {"run.json", "journal.jsonl", "images", "states", ".lock"}
    run = read_run(root)
    assert run["spec"] == SPEC
    assert run["status"] == "running"
    assert run["schema_version"] == 2


def test_lines_are_on_the_disk_when_append_returns(root):
    store = create(root)
    for number in range(3):
        store.append({"verb": "x", "number": number, "score": None})
        assert [one["number"] for one in read_journal(root)] == list(range(number + 1))
    store.close()


def test_every_line_is_json_for_any_reader(root):
    store = create(root)
    with pytest.raises(ValueError, match="JSON"):
        store.append({"verb": "x", "score": float("nan")})
    assert list(store.records) == []
    store.close()
    assert read_journal(root) == []


def test_reopening_gives_the_same_records(root):
    records = filled(root)
    store = create(root)
    assert list(store.records) == records
    store.append({"verb": "more"})
    store.close()
    assert read_journal(root) == [*records, {"verb": "more"}]


def test_a_line_torn_at_any_byte_is_cut_off(root):
    records = filled(root)
    journal = root / "journal.jsonl"
    whole = journal.read_bytes()
    last = whole.rstrip(b"\n").rindex(b"\n") + 1
    for length in range(last, len(whole)):
        journal.write_bytes(whole[:length])
        assert read_journal(root) == records[:-1]
        store = Store.open(root)
        assert list(store.records) == records[:-1]
        assert journal.read_bytes() == whole[:last]
        store.append(records[-1])
        store.close()
        assert journal.read_bytes() == whole


def test_a_last_line_of_rubbish_is_set_aside(root):
    records = filled(root)
    journal = root / "journal.jsonl"
    for rubbish in (b"\x00\x00\x00\n", b'["no object"]\n', b"\xff\xfe{}\n", b"{]\n"):
        journal.write_bytes(b"".join(map(seal, records)) + rubbish)
        assert read_journal(root) == records
        store = Store.open(root)
        store.append({"verb": "next"})
        store.close()
        assert read_journal(root) == [*records, {"verb": "next"}]


@pytest.mark.parametrize("rubbish", [b"{]", b"3", b"\xff\xff", b"", b" ", b'{"verb":"finish","ids":["p1"],"value":9}'])
def test_a_damaged_inner_line_is_set_aside(root, rubbish):
    records = filled(root)
    journal = root / "journal.jsonl"
    lines = journal.read_bytes().splitlines()
    lines[1] = rubbish
    journal.write_bytes(b"\n".join(lines) + b"\n")
    assert read_journal(root) == [records[0], records[2]]  # a reader leaves it alone
    assert not (root / "journal.jsonl.bad").exists()
    store = Store.open(root)
    assert list(store.records) == [records[0], records[2]]
    assert "set aside" in store.warnings[0]
    store.append({"verb": "more"})
    store.close()
    assert (root / "journal.jsonl.bad").read_bytes() == rubbish + b"\n"
    assert read_journal(root) == [records[0], records[2], {"verb": "more"}]
    again = Store.open(root)
    assert again.warnings == []
    again.close()


def test_a_line_that_stands_there_twice_counts_once(root):
    records = filled(root)
    journal = root / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], *lines, lines[2]]))
    assert read_journal(root) == records
    store = Store.open(root)
    assert list(store.records) == records
    store.close()


@pytest.mark.slow
def test_no_flipped_bit_of_a_line_goes_by(root):
    records = filled(root)
    journal = root / "journal.jsonl"
    whole = journal.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            journal.write_bytes(bytes(flipped))
            assert all(one in records for one in read_journal(root))


def test_a_changed_run_json_is_said(root):
    filled(root)
    assert is_intact(root)
    file = root / "run.json"
    file.write_text(file.read_text().replace('"a cat"', '"a cow"'))
    assert not is_intact(root)
    store = Store.open(root)
    assert "changed" in store.warnings[0]
    store.write()
    store.close()
    assert is_intact(root)


@pytest.mark.parametrize("error", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_file_system_without_locks_is_written_to_with_a_warning(root, error, monkeypatch, caplog):
    import fcntl

    def refuse(*args):
        raise OSError(getattr(errno, error), "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    create(root).close()
    Store.open(root).close()
    assert "no locks" in caplog.text
    assert is_being_written(root) is None


@pytest.mark.slow
@pytest.mark.parametrize("mark", [True, False])  # without it, as a version before left it, looking takes the lock
def test_looking_at_a_run_never_keeps_a_writer_out(root, mark):
    create(root).close()
    if not mark:
        (root / ".lock").write_bytes(b"")
    stop = threading.Event()
    watchers = [threading.Thread(target=look_until, args=(root, stop)) for _ in range(20 if mark else 3)]
    for one in watchers:
        one.start()
    try:
        for _ in range(200 if mark else 10):
            Store.open(root).close()
    finally:
        stop.set()
        for one in watchers:
            one.join()


def look_until(root, stop):
    while not stop.is_set():
        is_being_written(root)


def test_looking_tells_who_writes_and_who_was_killed(root):
    store = create(root)
    assert is_being_written(root) is True
    with pytest.raises(RunMismatch, match="another process"):
        Store.open(root)
    store.close()
    assert is_being_written(root) is False
    program = f"from noisewright.run.store import Store; import os; Store.open({str(root)!r}); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", program], check=False)
    assert is_being_written(root) is False


def test_a_lock_that_is_a_pipe_is_not_waited_for(root):
    create(root).close()
    (root / ".lock").unlink()
    os.mkfifo(root / ".lock")
    assert is_being_written(root) is None


def test_a_lock_that_was_removed_by_its_holder_is_not_taken_for_ours(root):
    create(root).close()
    first = Store.open(root)
    (root / ".lock").unlink()
    second = locked(root)  # another file of that name: ours
    with pytest.raises(RunMismatch):
        locked(root)
    let_go(second)
    first.close()


def test_leftovers_of_a_killed_process_are_removed_by_the_next(root):
    create(root).close()
    left = [root / ".run.json.abc12345", root / "images" / ".0123456789abcdef.png.x1y2z3w4",
            root / "states" / ".p-clean.safetensors.x1y2z3w4", root / ".journal.jsonl.bad.x1y2z3w4"]  # fmt: skip
    others = [root / ".hidden", root / "images" / ".DS_Store"]
    for one in (*left, *others):
        one.write_text("")
    Store.open(root).close()
    assert not any(one.exists() for one in left)
    assert all(one.exists() for one in others)


def test_only_what_this_process_made_is_discarded(root):
    root.mkdir()
    store = create(root)
    assert store.is_new
    store.discard()
    assert list(root.iterdir()) == []
    root.rmdir()
    store = create(root)
    (root / "notes.txt").write_text("mine")
    store.discard()
    assert [one.name for one in root.iterdir()] == ["notes.txt"]


START = """
import sys
from noisewright.run.store import Store
try:
    store = Store.create({root!r}, {{"seed": {seed}}}, {{}}, "now")
    store.append({{"verb": "finish", "seed": {seed}}})
    sys.stdin.read()
    store.close()
except ValueError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_of_two_starts_on_one_directory_one_goes_on(root):
    programs = [START.format(root=str(root), seed=seed) for seed in range(4)]
    started = [
        subprocess.Popen([sys.executable, "-c", one], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for one in programs
    ]
    losers = []
    while len(losers) < 3:  # the winner waits for the end of its input
        losers = [one for one in started if one.poll() is not None]
    said = [one.communicate("")[0] for one in started]
    assert sum("RunMismatch" in one for one in said) == 3
    (winner,) = [seed for seed, one in enumerate(said) if not one]
    assert read_run(root)["spec"] == {"seed": winner}
    assert read_journal(root) == [{"verb": "finish", "seed": winner}]


@pytest.mark.parametrize(
    ("key", "value"),
    [("prompt", "a dog"), ("fingerprint", "g"), ("num_inference_steps", 10), ("seed", 4), ("new", 1)],
)
def test_another_run_is_refused_by_the_name_of_what_differs(root, key, value):
    filled(root)
    before = (root / "run.json").read_bytes()
    inner = key in SPEC["sampler"]
    other = {**SPEC, "sampler": {**SPEC["sampler"], key: value}} if inner else {**SPEC, key: value}
    with pytest.raises(RunMismatch, match=rf"expected {key} .*, got {json.dumps(value)}"):
        create(root, other)
    assert (root / "run.json").read_bytes() == before
    create(root).close()  # the refusal let go of the lock


def test_budget_batch_size_and_device_may_change(root):
    filled(root)
    changed = {**SPEC, "budget": {"images": 9}, "batch_size": 1, "sampler": {**SPEC["sampler"], "device": "cuda"}}
    create(root, changed).close()
    assert read_run(root)["spec"]["budget"] == {"images": 9}


def test_a_directory_with_other_files_is_refused(root):
    root.mkdir()
    (root / "thesis.tex").write_text("years of work")
    with pytest.raises(RunMismatch, match="other files"):
        create(root)
    assert [one.name for one in root.iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_a_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ValueError, match="expected"):
            create(place)


def test_a_second_writer_is_refused(root):
    store = create(root)
    with pytest.raises(RunMismatch, match="another process is writing"):
        Store.open(root)
    program = f"from noisewright.run.store import Store; Store.open({str(root)!r})"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "another process is writing" in found.stderr
    store.close()
    Store.open(root).close()


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "expected a run directory"), ("{", "damaged"), ("[]", "schema 1 or 2"), ('{"schema_version": 99}', "99")],
)
def test_what_is_no_run_is_refused(root, text, says):
    root.mkdir()
    if text is not None:
        (root / "run.json").write_text(text)
    for reads in (read_run, Store.open):
        with pytest.raises(ValueError, match=says):
            reads(root)


@contextmanager
def room_for(size):
    """No file of this process may grow beyond ``size`` bytes, as on a full disk: the system writes what fits."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 1, 20, 120])
def test_a_full_disk_leaves_the_journal_at_the_previous_line(root, room):
    store = create(root)
    store.append({"verb": "x", "number": 0})
    before = (root / "journal.jsonl").read_bytes()
    with room_for(len(before) + room), pytest.raises(RunInterrupted, match=r"too large.*noisewright resume") as caught:
        store.append({"verb": "x", "number": 1, "text": "x" * 200})
    assert str(root) in str(caught.value)
    assert (root / "journal.jsonl").read_bytes() == before
    assert [one["number"] for one in store.records] == [0]
    store.append({"verb": "x", "number": 2})  # room again: the same process can go on
    with pytest.raises(RunMismatch, match="another process"):
        Store.open(root)  # and still holds the lock
    store.close()
    assert [one["number"] for one in read_journal(root)] == [0, 2]


def test_a_full_disk_elsewhere_is_a_run_interrupted_too(root, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = create(root)
    before = (root / "run.json").read_bytes()
    monkeypatch.setattr(os, "replace", full)
    for write in (
        lambda: store.save_image("p", b"png"),
        lambda: store.save_state("p", (torch.zeros(1), None)),
        lambda: store.write(status="done"),
    ):
        with pytest.raises(RunInterrupted, match="No space left"):
            write()
    assert (root / "run.json").read_bytes() == before
    assert list((root / "images").iterdir()) == []
    store.close()


def test_writes_are_atomic(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    class Crash(BaseException):
        pass

    def crash(*args):
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(Crash):
            write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644


def test_images_come_back_only_as_they_were_made(root):
    store = create(root)
    array = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    relative = store.save_image("p", encode_png(array, RECIPE))
    assert relative == "images/p.png"
    image = store.image(relative, pixel_hash(array))
    assert torch.equal((image * 255).round().byte().permute(1, 2, 0), torch.from_numpy(array))
    assert store.image(relative, "0" * 64) is None
    (root / relative).write_bytes(encode_png(255 - array, RECIPE))
    assert store.image(relative, pixel_hash(array)) is None
    (root / relative).write_bytes(b"no png")
    assert store.image(relative, pixel_hash(array)) is None
    assert store.image("images/none.png", pixel_hash(array)) is None
    store.close()


def test_states_come_back_or_are_none(root):
    store = create(root)
    state = (torch.randn(1, 3, 2, 2), {"history": [torch.ones(2)], "generators": torch.zeros(4, dtype=torch.uint8)})
    digest = store.save_state("p", state)
    x, more = store.state("p", digest)
    assert torch.equal(x, state[0])
    assert torch.equal(more["history"][0], state[1]["history"][0])
    assert [one.name for one in (root / "states").iterdir()] == ["p.safetensors"]
    assert store.state("other", digest) is None
    assert store.state("p", "0" * 32) is None
    whole = (root / "states" / "p.safetensors").read_bytes()
    zeroed = whole[:-8] + bytes(8)
    for damaged in (b"", b"rubbish", whole[: len(whole) // 2], whole[:-1], zeroed):
        (root / "states" / "p.safetensors").write_bytes(damaged)
        assert store.state("p", digest) is None
    store.close()


def test_a_journal_that_is_a_pipe_is_not_waited_for(root):
    create(root).close()
    (root / "journal.jsonl").unlink()
    os.mkfifo(root / "journal.jsonl")
    for read in (read_journal, damaged_lines, Store.open):
        with pytest.raises(ValueError, match=r"is a pipe|inside"):
            read(root)


def test_a_run_that_goes_on_on_another_kind_of_device_says_so(tmp_path):
    spec = {"sampler": {"device": "cpu", "model": "m"}}
    Store.create(tmp_path, spec, {}, "then").close()
    for device, said in (("cpu", False), ("cuda:1", True), ("cuda:0", False), ("cpu", True)):
        store = Store.create(tmp_path, {"sampler": {**spec["sampler"], "device": device}}, {}, "now")
        store.close()
        assert any("made on" in one for one in store.warnings) is said, device
