"""Damaged run directories: cut, flipped and zeroed bytes, lines twice or blank. The result is the same, or it is said.

Seeded, so that a failure can be tried again by its number.
"""

import random
import shutil
from contextlib import suppress

import pytest
import torch

from noisewright.diffusion.solvers import Ddim, DpmPlusPlus
from noisewright.errors import BudgetExhausted
from noisewright.run.budget import parse_budget
from noisewright.run.reading import read_journal
from noisewright.run.store import Store
from noisewright.run.verbs import Run
from noisewright.samplers.mixture import MixtureSampler
from noisewright.search.fk import fk
from noisewright.search.paths import paths
from noisewright.verifiers.pixels import Brightness, Sharpness

STEPS = 8
KINDS = {
    "fk": (fk, {"particles": 4}, Ddim(1.0)),
    "paths": (paths, {"children": 3}, DpmPlusPlus()),
}


def opened(root, kind):
    sampler = MixtureSampler(steps=STEPS, solver=KINDS[kind][2])
    store = Store.create(root, {"sampler": sampler.description}, {"noisewright": "0"}, "now")
    verifiers = [Brightness(), Sharpness()] if kind == "paths" else [Brightness()]
    return Run(store, sampler, verifiers, budget=parse_budget("200 nfe"), batch_size=3)


def gone_through(root, kind):
    run = opened(root, kind)
    search, arguments, _ = KINDS[kind]
    with suppress(BudgetExhausted):
        search(run, **arguments)
    run.render()
    run.store.close()
    found = {key: (one.scores, one.pixels, one.file) for key, one in run.candidates.items()}
    return run, (run.best.id, run.baseline.id, found)


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("whole") / "run"
    _, expected = gone_through(root, request.param)
    return request.param, root, expected


def flip(data, chance):
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def zero(data, chance):
    begin = chance.randrange(len(data))
    end = min(len(data), begin + chance.choice((1, 16, 512)))
    data[begin:end] = bytes(end - begin)


def cut(data, chance):
    del data[chance.randrange(len(data)) :]


def cut_out(data, chance):
    begin = chance.randrange(len(data))
    del data[begin : begin + chance.choice((1, 7, 300))]


def twice(data, chance):
    lines = bytes(data).splitlines(keepends=True)
    at = chance.randrange(len(lines))
    data[:] = b"".join([*lines[: at + 1], *lines[chance.randrange(at + 1) : at + 1], *lines[at + 1 :]])


def blank(data, chance):
    lines = bytes(data).splitlines(keepends=True)
    lines[chance.randrange(len(lines))] = b"\n"
    data[:] = b"".join(lines)


def swap(data, chance):
    lines = bytes(data).splitlines(keepends=True)
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    data[:] = b"".join(lines)


def lose(data, chance):
    lines = bytes(data).splitlines(keepends=True)
    del lines[chance.randrange(len(lines))]
    data[:] = b"".join(lines)


ANYWHERE = (flip, zero, cut, cut_out)
TO_LINES = (twice, blank, lose, swap)


def broken_copy(root, to, chance, where):
    """A copy of a run that was killed at some line, with one file of a kind damaged."""
    shutil.copytree(root, to)
    journal = to / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: chance.randrange(1, len(lines) + 1)]))
    files = [journal] if where == "journal" else sorted((to / where).iterdir())
    file = chance.choice(files)
    data = bytearray(file.read_bytes())
    chance.choice(ANYWHERE + TO_LINES if where == "journal" else ANYWHERE)(data, chance)
    file.write_bytes(bytes(data))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["journal", "states", "images"])
def test_a_damaged_run_goes_on_to_the_same_result(whole, where, tmp_path):
    kind, root, expected = whole
    for number in range(60):
        chance = random.Random(f"{kind} {where} {number}")
        to = tmp_path / str(number)
        broken_copy(root, to, chance, where)
        run, found = gone_through(to, kind)
        assert found == expected, f"damage {number}"
        again, once_more = gone_through(to, kind)
        assert once_more == expected, f"damage {number}, opened again"
        assert again.sampler.meter.nfe == 0, f"damage {number}: something was still missing"
        assert not any("damaged" in one for one in again.warnings), f"damage {number}: {again.warnings}"
        assert len({one for line in read_journal(to) if line["verb"] == "finish" for one in line["ids"]}) == len(
            run.candidates
        )
        shutil.rmtree(to)


def test_what_a_damage_costs_is_said(whole, tmp_path):
    kind, root, expected = whole
    shutil.copytree(root, tmp_path / "run")
    for file in (tmp_path / "run" / "states").iterdir():
        data = bytearray(file.read_bytes())
        data[-64:] = bytes(64)
        file.write_bytes(bytes(data))
    journal = tmp_path / "run" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    finished = next(number for number, line in enumerate(lines) if b'"verb":"finish"' in line)
    journal.write_bytes(b"".join(lines[:finished]))
    run, found = gone_through(tmp_path / "run", kind)
    assert found == expected
    assert any("states of unfinished candidates were lost or damaged" in one for one in run.warnings)


def test_nobodys_random_numbers_were_touched(whole):
    before = torch.get_rng_state()
    kind, root, expected = whole
    assert gone_through(root, kind)[1] == expected
    assert torch.equal(torch.get_rng_state(), before)
