"""A run that is watched: what is new is read, once, whatever becomes of the journal in between."""

import os
import random
import shutil
import tarfile
import threading
from pathlib import Path

import pytest

from noisewright.diffusion.solvers import Ddim
from noisewright.evaluate.overview import overview, overview_of
from noisewright.run.budget import parse_budget
from noisewright.run.follow import Watch
from noisewright.run.journal import seal
from noisewright.run.reading import JournalReader, Place, read_journal
from noisewright.run.store import Store
from noisewright.run.verbs import Run
from noisewright.samplers.mixture import MixtureSampler
from noisewright.verifiers.pixels import Brightness, Sharpness

OLD = Path(__file__).parents[1] / "golden" / "runs-1.tar.gz"


def opened(root, budget="40 images"):
    sampler = MixtureSampler(steps=4, solver=Ddim())
    spec = {
        "sampler": sampler.description, "search_steps": 4, "search_steps_taken": 4, "search": "random", "seed": 0,
        "verifiers": [{"name": "brightness", "fingerprint": "1"}, {"name": "sharpness", "fingerprint": "1"}],
        "ensemble": "rank", "budget": {"images": 40},
    }  # fmt: skip
    store = Store.create(root, spec, {"noisewright": "0"}, "now")
    return Run(store, sampler, [Brightness(), Sharpness()], budget=parse_budget(budget), batch_size=3)


def draw(run, count):
    run.finish(run.noise(count))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "run"


def written(path, *records):
    with path.open("ab") as file:
        file.write(b"".join(seal(one) for one in records))


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.touch()
    return path


def line(number):
    return {"verb": "shrink", "batch_size": number + 1}


# The reader


def test_what_is_new_is_read_once(journal):
    reader = JournalReader(journal.parent, 2)
    assert reader.read() == ([], False)
    for number in range(5):
        written(journal, line(number))
        assert reader.read() == ([line(number)], False)
        assert reader.read() == ([], False)
    assert reader.place.offset == journal.stat().st_size


def test_a_reader_goes_on_where_another_stood(journal):
    written(journal, line(0), line(1))
    first = JournalReader(journal.parent, 2)
    first.read()
    written(journal, line(2))
    assert JournalReader(journal.parent, 2, first.place).read() == ([line(2)], False)
    assert JournalReader(journal.parent, 2, Place(len(seal(line(0))))).read() == ([line(1), line(2)], False)


def test_a_line_that_is_being_written_is_waited_for(journal):
    whole = seal(line(0)) + seal(line(1))
    reader, found = JournalReader(journal.parent, 2), []
    for length in range(len(whole) + 1):
        journal.write_bytes(whole[:length])
        records, anew = reader.read()
        found += records
        assert not anew
    assert found == [line(0), line(1)]


def test_damaged_lines_are_counted_and_double_ones_are_not(journal):
    journal.write_bytes(b"rubbish\n" + seal(line(0)) * 2 + b"\n" + seal(line(1)).replace(b"shrink", b"shrunk"))
    reader = JournalReader(journal.parent, 2)
    assert reader.read() == ([line(0)], False)
    assert reader.damaged == 3
    written(journal, line(0), line(2))
    assert reader.read() == ([line(2)], False)
    assert reader.damaged == 3


def test_a_line_of_schema_1_needs_no_checksum(journal):
    journal.write_bytes(b'{"verb":"shrink","batch_size":1}\n')
    assert JournalReader(journal.parent, 1).read() == ([line(0)], False)
    assert JournalReader(journal.parent, 2).read() == ([], False)


@pytest.mark.parametrize("how", ["cut", "cut and grown", "mended", "replaced"])
def test_a_journal_that_was_changed_is_read_anew(journal, how):
    written(journal, *map(line, range(4)))
    reader = JournalReader(journal.parent, 2)
    reader.read()
    lines = journal.read_bytes().splitlines(keepends=True)
    if how.startswith("cut"):  # as after a full disk
        os.truncate(journal, len(b"".join(lines[:3])))
        expected = [line(0), line(1), line(2)]
        if how == "cut and grown":
            written(journal, line(7), line(8))
            expected += [line(7), line(8)]
    elif how == "mended":  # in place, as no version does it: the bytes before the place tell
        journal.write_bytes(b"".join(lines[1:]) + seal(line(9)))
        expected = [line(1), line(2), line(3), line(9)]
    else:
        journal.unlink()
        written(journal, line(5))
        expected = [line(5)]
    assert reader.read() == (expected, True)
    assert reader.read() == ([], False)


def test_a_journal_that_is_gone_is_said(journal):
    reader = JournalReader(journal.parent, 2)
    written(journal, line(0))
    reader.read()
    journal.unlink()
    with pytest.raises(FileNotFoundError, match="gone"):
        reader.read()


def test_reading_from_any_damage_on_ends_where_a_new_reader_does(journal):
    """Whatever happens to a journal between two reads, the sum of them is what it holds."""
    for number in range(200):
        chance = random.Random(number)
        journal.write_bytes(b"".join(map(seal, map(line, range(chance.randrange(6))))))
        reader, found = JournalReader(journal.parent, 2), []
        for _ in range(4):
            records, anew = reader.read()
            found = records if anew else found + records
            data = journal.read_bytes()
            what = chance.choice(["grow", "cut", "mend", "nothing"])
            if what == "grow":
                written(journal, line(chance.randrange(1000)))
            elif what == "cut" and data:
                os.truncate(journal, chance.randrange(len(data)))
            elif what == "mend" and data:
                lines = data.splitlines(keepends=True)
                del lines[chance.randrange(len(lines))]
                other = journal.with_name("other")
                other.write_bytes(b"".join(lines))
                os.replace(other, journal)
        records, anew = reader.read()
        found = records if anew else found + records
        assert found == JournalReader(journal.parent, 2).read()[0], f"number {number}"


# The watch


def plain(found):
    """An overview without what a clock or a file's place decides."""
    return {key: value for key, value in found.items() if key not in ("warnings",)}


def test_looks_at_a_growing_run_add_up_to_the_whole(root):
    run = opened(root)
    watch = Watch(root)
    assert watch.look()
    assert not watch.look()
    for count in (1, 3, 7):
        draw(run, count)
        assert watch.look()
        assert not watch.look()
        assert plain(overview_of(watch)) == plain(overview(root))
        assert overview_of(watch)["images"] == run.spent.images
    assert watch.status == "running"
    found = overview_of(watch)
    assert found["best"]["id"] == run.best.id
    assert found["baseline"]["id"] == run.baseline.id
    assert [point["value"] for point in found["curve"]] == [point.value for point in run.curve()]
    assert [one["id"] for one in found["candidates"]] == [one.id for one in run.best_first]
    run.store.close()
    assert watch.look()
    assert watch.status == "killed"


def test_a_run_that_is_continued_while_it_is_watched(root):
    run = opened(root)
    draw(run, 6)
    run.store.close()
    journal = root / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[2] = b"damaged\n"
    journal.write_bytes(b"".join(lines) + b'{"verb": "torn')
    watch = Watch(root)
    watch.look()
    assert any("1 damaged lines" in text for text in watch.warnings)
    run = opened(root)  # which cuts off the torn line and sets the damaged one aside
    draw(run, 6)
    watch.look()
    assert watch.warnings == []
    assert plain(overview_of(watch)) == plain(overview(root))
    assert overview_of(watch)["images"] == 6
    run.store.close()


@pytest.mark.parametrize("looks", [0, 1])
def test_a_look_after_a_line_that_says_nonsense_skips_nothing_and_counts_nothing_twice(root, looks):
    run = opened(root)
    draw(run, 3)
    watch = Watch(root)
    for _ in range(looks):
        watch.look()
    good = (root / "journal.jsonl").stat().st_size
    written(root / "journal.jsonl", {"verb": "shrink", "batch_size": -1})
    run.store.append({"verb": "shrink", "batch_size": 2})
    for _ in range(3):
        with pytest.raises(ValueError, match="batch_size"):
            watch.look()
    os.truncate(root / "journal.jsonl", good)
    run.store.append({"verb": "shrink", "batch_size": 1})
    watch.look()
    assert (watch.ledger.spent.images, watch.ledger.spent.nfe, watch.ledger.batch_size) == (3, 12, 1)
    run.store.close()


def test_a_directory_that_is_deleted_while_it_is_watched_is_one_line(root):
    run = opened(root)
    draw(run, 1)
    watch = Watch(root)
    watch.look()
    run.store.close()
    for name in ("journal.jsonl", "run.json"):
        (root / name).unlink()
        with pytest.raises(ValueError, match="expected a run") as caught:
            watch.look()
        assert "\n" not in str(caught.value)
    shutil.rmtree(root)
    with pytest.raises(ValueError, match="expected a run"):
        watch.look()


@pytest.mark.parametrize("name", ["refine", "fk-cut"])
def test_a_run_of_schema_1_is_watched_line_by_line(tmp_path, name):
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    root = tmp_path / "runs" / name
    expected = plain(overview(root))
    journal = root / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"")
    watch = Watch(root)
    for one in lines:
        with journal.open("ab") as file:
            file.write(one)
        watch.look()
    assert plain(overview_of(watch)) == expected


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="needs Linux")
def test_a_look_at_a_long_run_reads_what_is_new_of_it(root):
    run = opened(root, "20000 images")
    draw(run, 400)
    watch = Watch(root)
    watch.look()
    whole = (root / "journal.jsonl").stat().st_size
    draw(run, 3)
    watch.look()  # what Python imports at the first time is there now
    before, size = bytes_read(), (root / "journal.jsonl").stat().st_size
    for _ in range(20):
        watch.look()
    idle = bytes_read() - before
    draw(run, 3)
    before = bytes_read()
    watch.look()
    new = (root / "journal.jsonl").stat().st_size - size
    assert bytes_read() - before < new + 20_000 < whole / 4  # a buffer more
    assert idle / 20 < 20_000 < whole / 4
    run.store.close()


def bytes_read():
    """What this process read from files so far; reading that takes some itself."""
    text = Path("/proc/self/io").read_text()
    return int(text.split("rchar:")[1].split()[0])


def test_a_watch_in_a_thread_sees_only_states_that_were(root):
    run = opened(root)
    seen, stop = [], threading.Event()

    def look():
        watch = Watch(root)
        while not stop.is_set():
            if watch.look():
                seen.append([one["id"] for one in overview_of(watch)["candidates"]])

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        draw(run, 30)
    finally:
        stop.set()
        watcher.join()
        run.store.close()
    order = [key for one in read_journal(root) if one["verb"] == "score" for key in one["ids"]]
    for ids in seen:
        assert set(ids) == set(order[: len(ids)])
