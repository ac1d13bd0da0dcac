"""Other people's files, mutated value by value: read as they are, or refused in one line; never a raw exception."""

import contextlib
import hashlib
import io
import json
import math
import os
import random
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save_file

import tiny
from noisewright import cli
from noisewright.evaluate.overview import overview
from noisewright.images.metadata import read_image, read_recipe
from noisewright.measures.statistics import FeatureStatistics
from noisewright.outside.inside import inside
from noisewright.outside.messages import cut, short
from noisewright.request import Request, read_request
from noisewright.run import journal
from noisewright.run.particle import particle_id
from noisewright.run.reading import read_journal, read_run
from noisewright.samplers.mixture import MixtureSampler
from noisewright.schemas.files import check_recipe, check_run
from noisewright.schemas.journal import check_record
from noisewright.schemas.lineage import check_lineage
from noisewright.schemas.reading import MOST_BYTES, parse_json, read_file
from noisewright.trajectory.errors import ErrorTable
from noisewright.trajectory.files import FittedSchedule, identity, read_schedule_file, write_schedule_file

LONGEST_LINE = 700
GONE = object()


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


VALUES = [
    GONE, None, True, -1, 0, 1, 1.5, 1e308, 10**30, 10**400, math.nan, math.inf, "", "x", "x" * 100_000, "a\0b",
    "\ud800", "../x", "load", [], {}, [1], [None], {"a": 1}, nested(40),
]  # fmt: skip


def places(value, path=()):
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*path, key)
            yield from places(value[key], (*path, key))


def mutants(value):
    """A value with one thing in it removed or replaced, in every way."""
    text = json.dumps(value)
    for path in places(value):
        for new in VALUES:
            other = json.loads(text)
            holder = other
            for key in path[:-1]:
                holder = holder[key]
            if new is GONE:
                del holder[path[-1]]
            else:
                holder[path[-1]] = new
            yield path, other


def some(value, count):
    """That many mutants of a value, the same in every run."""
    return random.Random(0).sample(list(mutants(value)), count)


def refusal(read, *given):
    """The line that something was refused with, or None."""
    try:
        read(*given)
    except ValueError as error:
        text = str(error)
        assert "\n" not in text
        assert len(text) < LONGEST_LINE
        text.encode()
        return text
    return None


def main(*argv):
    """Exit code and what was said; never more than a line, never a traceback."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([str(one) for one in argv])
    said = [line for line in err.getvalue().splitlines() if not line.startswith("noisewright: warning: ")]
    assert len(said) == (1 if code == 2 else 0), (argv, said)
    return code, "".join(said)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A finished run with previews, forks and rotations, one with gradient ascent, and their model."""
    root = tmp_path_factory.mktemp("schemas")
    tiny.sd().save_pretrained(root / "model", safe_serialization=True)
    given = ["generate", "a cat", "--model", root / "model", "--verifier", "brightness", "--judge", "sharpness"]
    searches = {
        "refine": ["--search", "refine", "--search-arg", "population=2", "--search-arg", "elites=1",
                   "--steps", 2, "--budget", "5 images"],
        "paths": ["--search", "paths", "--search-arg", "children=2", "--steps", 8, "--budget", "60 nfe"],
        "fk": ["--search", "fk", "--search-arg", "particles=2", "--steps", 6, "--budget", "3 images"],
        "levels": ["--schedule", "karras", "--solver", "ddim", "--steps", 3, "--budget", "1 image"],
    }
    for name, more in searches.items():
        assert main(*given, *more, "--out", root / name) == (0, "")
    return root


@pytest.fixture
def run(root, tmp_path):
    shutil.copytree(root / "refine", tmp_path / "run")
    return tmp_path / "run"


def raw(file):
    """The recipe of an image, as it is written."""
    return json.loads(read_image(file)[1]["noisewright"])


RUNS = ["refine", "paths", "fk", "levels"]


# What is right is read


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_what_noisewright_writes_fits_its_schemas(root, name):
    held = json.loads((root / name / "run.json").read_text())
    assert check_run(held, "x") == held
    assert read_request(held["request"], "x").to_json() == held["request"]
    for record in read_journal(root / name):
        assert check_record(record, "x") == record
    for file in [*(root / name / "images").iterdir(), root / name / "best.png", root / name / "baseline.png"]:
        _, recipe = read_recipe(file)
        assert {**recipe, "lineage": 0} == {**raw(file), "lineage": 0}
        assert check_lineage(recipe["lineage"], "x")[0] == recipe["id"]


@pytest.mark.slow
def test_a_request_is_recorded_with_every_field(root):
    assert set(read_run(root / "refine")["request"]) == set(Request.model_fields)


def test_requests_of_earlier_versions_are_completed(root):
    held = dict(read_run(root / "refine")["request"])
    for name in ("force", "schedule", "class_label", "score_cache", "executor", "no_check"):
        del held[name]
    held["search_args"] = [f"{name}={value}" for name, value in held["search_args"].items()]
    held["target"] = []
    assert read_request(held, "x").to_json() == read_run(root / "refine")["request"]


# run.json and the journal


@pytest.mark.slow
def test_a_mutated_run_is_shown_or_refused(run):
    held = json.loads((run / "run.json").read_text())
    refused = 0
    for path, other in some(held, 600):
        (run / "run.json").write_text(json.dumps(other))
        refused += refusal(overview, run) is not None
        if path[0] == "request" and refusal(read_run, run) is None:
            refusal(read_request, read_run(run).get("request"), "x")
    assert refused > 200


def forged_journal(run, records):
    """Lines with checksums that hold, whatever they say: also numbers that JSON has no word for."""
    lines = []
    for record in records:
        body = json.dumps(record, separators=(",", ":")).encode()[:-1]
        lines.append(body + journal.MARK + hashlib.sha256(body).hexdigest()[: journal.DIGITS].encode() + journal.END)
    (run / "journal.jsonl").write_bytes(b"\n".join([*lines, b""]))


@pytest.mark.parametrize("name", RUNS)
def test_a_mutated_line_of_a_journal_is_right_or_refused(root, name):
    found = [refusal(check_record, other, "x") for one in read_journal(root / name) for _, other in some(one, 60)]
    assert sum(one is not None for one in found) > len(found) // 2


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_run_with_a_forged_journal_is_shown_or_refused(root, tmp_path, name):
    shutil.copytree(root / name, tmp_path / "run")
    records = read_journal(tmp_path / "run")
    for _, other in some(records, 120):
        if all(isinstance(one, dict) for one in other):
            forged_journal(tmp_path / "run", other)
            refusal(overview, tmp_path / "run")


@pytest.mark.slow
def test_a_run_with_a_forged_journal_is_resumed_or_refused(run):
    records = read_journal(run)
    held = json.loads((run / "run.json").read_text())
    for _, other in some(records, 25):
        if all(isinstance(one, dict) for one in other):
            forged_journal(run, other)
            (run / "run.json").write_text(json.dumps(held))
            (run / "best.png").unlink(missing_ok=True)
            assert main("resume", run)[0] in (0, 2)


@pytest.mark.slow
def test_a_mutated_run_is_resumed_or_refused(run):
    held = json.loads((run / "run.json").read_text())
    held["request"]["budget"] = ["5 images"]  # so that it goes on, and not only shows what it has
    (run / "best.png").unlink()
    for _, other in some({"request": held["request"], "spec": held["spec"]}, 40):
        (run / "run.json").write_text(json.dumps({**held, **other}))
        assert main("resume", run)[0] in (0, 2)


@pytest.mark.parametrize("command", ["show", "resume"])
@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "3", "null", "[" * 100_000, '{"a":' * 50_000, "\xff\xfe", "1" * 10_000,
        '{"schema_version": true}', '{"schema_version": 1}', '{"schema_version": 1.0}', '{"schema_version": 1e400}',
        '{"schema_version": "\ud800"}'.encode("utf-8", "surrogatepass"), b"\xef\xbb\xbf{}", b"\0" * 100,
        '{"schema_version": "\\ud800"}',
    ],
    ids=range(17),
)  # fmt: skip
def test_what_is_no_run_at_all_is_one_line(tmp_path, command, text):
    (tmp_path / "run.json").write_bytes(text if isinstance(text, bytes) else text.encode("latin-1"))
    code, said = main(command, tmp_path)
    assert code == 2
    assert "run.json" in said


def test_files_are_read_within_bounds(tmp_path):
    (tmp_path / "big").write_bytes(b" " * (MOST_BYTES + 1))
    os.mkfifo(tmp_path / "pipe")
    for name, says in (("big", "at most"), ("pipe", "a pipe"), (".", "a directory"), ("a\0b", "does not exist")):
        with pytest.raises(ValueError, match=says):
            read_file(f"{tmp_path}/{name}", "a file")
    with pytest.raises(ValueError, match="a device"):
        read_file("/dev/zero", "a file")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_file(tmp_path / "none", "a file")
    deep = json.dumps(nested(40))
    for text, says in (("[" * 10**5, "deeper"), ("[]," * 10**6, "at most"), (deep, "at most 32 deep")):
        with pytest.raises(ValueError, match=says):
            parse_json(text, "x")
    assert parse_json(json.dumps(nested(20)), "x") == nested(20)


@pytest.mark.parametrize("kind", ["absolute", "up", "link", "directory link", "pipe", "loop"])
def test_files_are_held_inside_the_run(run, tmp_path, kind):
    (tmp_path / "secret.png").write_bytes((run / "best.png").read_bytes())
    (run / "best.png").unlink()
    name = "best.png"
    if kind == "link":
        (run / "best.png").symlink_to(tmp_path / "secret.png")
    elif kind == "directory link":
        (run / "out").symlink_to(tmp_path)
        name = "out/secret.png"
    elif kind == "pipe":
        os.mkfifo(run / "best.png")
    elif kind == "loop":
        (run / "best.png").symlink_to("best.png")
    else:
        name = str(tmp_path / "secret.png") if kind == "absolute" else "../secret.png"
    with pytest.raises(ValueError, match="inside"):
        inside(run, name)
    if name == "best.png":
        code, said = main("replay", f"{run}:best")
        assert (code, "best.png" in said) == (2, True)


@pytest.mark.parametrize(
    "file",
    ["/etc/passwd", "../x.png", "images/../../x.png", "images/a/b.png", "images/x.jpg", "images/.png", "", "x" * 999],
)
def test_a_journal_names_files_of_its_run_alone(root, file):
    record = json.loads(json.dumps(next(one for one in read_journal(root / "refine") if one["verb"] == "finish")))
    record["files"][0] = file
    with pytest.raises(ValueError, match="inside the run directory"):
        check_record(record, "line 1")


def test_lines_of_a_journal_agree_with_themselves(root):
    records = read_journal(root / "refine")
    finish = next(one for one in records if one["verb"] == "finish")
    wrong = {
        "entries of 'seeds'": {"seeds": []},
        "entries of 'files'": {"files": finish["files"] * 2},
        "none named": {"particles": [{key: one for key, one in finish["particles"][0].items() if key != "parents"}]},
        "expected 0 parents": {"particles": [{**finish["particles"][0], "parents": ["0" * 16]}]},
        "one of 'finish'": {"verb": "boil"},
        "no such key": {"colour": 3},
        "at most": {"nfe": 2**60},
        "each id once": {"ids": [finish["ids"][0]] * 2},
    }
    for says, change in wrong.items():
        with pytest.raises(ValueError, match=says):
            check_record({**finish, **change}, "line 1")


# Recipes


def image_with(recipe, source, target):
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("noisewright", recipe if isinstance(recipe, str) else json.dumps(recipe))
    with Image.open(source) as image:
        image.save(target, pnginfo=chunks)
    return target


@pytest.mark.parametrize("name", RUNS)
def test_a_mutated_recipe_is_read_or_refused(root, name):
    recipe = raw(root / name / "best.png")

    def read(text):
        check_recipe(parse_json(text, "x"), "x")

    found = [refusal(read, json.dumps(other)) for _, other in some(recipe, 800)]
    assert sum(one is not None for one in found) > 500


def test_a_mutated_recipe_is_replayed_to_the_same_pixels_or_not_at_all(root, tmp_path):
    """Those that the schema lets through: exit 0 is said of equal pixels only."""
    for name in ("refine", "levels"):
        pixels, recipe = read_image(root / name / "best.png")[0], raw(root / name / "best.png")
        valid = [other for _, other in mutants(recipe) if refusal(check_recipe, other, "x") is None]
        for other in random.Random(0).sample(valid, 10):
            file = image_with(other, root / name / "best.png", tmp_path / "m.png")
            code, _ = main("replay", file, "--out", tmp_path / "again.png")
            assert code in (0, 1, 2)
            if code == 0:
                assert np.array_equal(read_image(tmp_path / "again.png")[0], pixels)


def rehashed(lineage):
    """The lines with ids that fit what they say: an attacker can hash, too."""
    named, last = {}, None
    for line in lineage:
        parents = [named.get(one, one) for one in line.get("parents", [last] if last else [])]
        before, line["id"] = line["id"], particle_id(line["verb"], tuple(parents), line["args"])
        if "parents" in line:
            line["parents"] = parents
        last = named[before] = line["id"]
    return last


def forged(recipe, change):
    """A recipe whose lineage was changed, with all ids made to fit."""
    other = {**json.loads(json.dumps(recipe)), "recipe_version": 1}
    change(other)
    other["id"] = rehashed(other["lineage"])
    return other


def set_args(verb, **args):
    def change(recipe):
        line = next(one for one in recipe["lineage"] if one["verb"] == verb)
        line["args"] = {**line["args"], **args}

    return change


def set_line(on, **fields):
    def change(recipe):
        next(one for one in recipe["lineage"] if one["verb"] == on).update(fields)

    return change


def noise_after(recipe):
    recipe["lineage"].insert(1, json.loads(json.dumps(recipe["lineage"][0])))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (set_args("noise", seed=1.5), "a whole number as lineage|a whole number"),
        (set_args("noise", seed=-1), "at least 0"),
        (set_args("noise", seed=True), "a whole number"),
        (set_args("noise", seed=2**63), "at most"),
        (set_args("noise", steps=10**9), "at most 10000"),
        (set_args("noise", steps=0), "at least 1"),
        (set_args("noise", colour=1), "no such key"),
        (set_args("denoise", to=1), "index"),
        (set_args("denoise", to=-1), "at least 1"),
        (set_line("denoise", index=1), "index"),
        (set_line("noise", index=1), "index of 0"),
        (set_line("noise", verb="boil"), "one of 'noise'"),
        (set_line("noise", parents=["0" * 16]), "made before"),
        (set_line("denoise", parents=[]), "expected 1 parents"),
        (set_args("vary", cosine=2.0), "at most 1"),
        (set_args("vary", draw=-1), "at least 0"),
        (set_args("vary", draw="0"), "a whole number"),
        (noise_after, "expected 0 parents"),
    ],
)
def test_forged_lineages_are_refused(root, change, says):
    """Of an image that is a rotated starting noise, denoised."""
    found = [read_recipe(file)[1] for file in sorted((root / "refine" / "images").iterdir())]
    recipe = next(one for one in found if [line["verb"] for line in one["lineage"]] == ["noise", "vary", "denoise"])
    with pytest.raises(ValueError, match=says) as caught:
        check_recipe(forged(recipe, change), "m.png")
    assert "m.png" in str(caught.value)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "lines",
    [
        [], {}, "x", [[]], [["noise"]], [["noise", {"seed": 0, "steps": 2}]], [["boil", {}, []]], nested(20),
        [["noise", {"seed": 1.5, "steps": 2}, []]], [["noise", {"seed": 0, "steps": 10**9}, []]],
        [["noise", {"seed": 0, "steps": 2}, [1]]],
        [["noise", {"seed": 0, "steps": 2}, []], ["denoise", {"to": 2}, [2]]],
        [["noise", {"seed": 0, "steps": 2}, []], ["denoise", {"to": 2}, [-1]]],
        [["noise", {"seed": 0, "steps": 2}, []], ["denoise", {"to": 2}, [True]]],
        [["noise", {"seed": 0, "steps": 2}, []], ["denoise", {"to": 2}, [0.5]]],
        [["noise", {"seed": 0, "steps": 2}, []], ["denoise", {"to": 3}, [1]]],
        [["noise", {"seed": 0, "steps": 2}, []], ["denoise", {"to": "2"}, [1]]],
        [["noise", {"seed": 0, "steps": 2}, []], ["denoise", {}, [1]]],
        [["noise", {"seed": 0, "steps": 2}, []], ["denoise", [2], [1]]],
        [["noise", {"seed": 0, "steps": 2}, []], ["denoise", {"to": 2}, None]],
        [["noise", {"seed": 0, "steps": 2}, []], ["denoise", {"to": 2}, []]],
        [["noise", {"seed": 10**400, "steps": 2}, []]], [["noise", {"seed": 0, "steps": math.nan}, []]],
        [["noise", {"seed": 0, "steps": 2}, []]] * 200_000,
    ],
    ids=range(24),
)  # fmt: skip
def test_forged_lineages_of_the_second_version_are_refused(root, lines):
    recipe = {**raw(root / "refine" / "baseline.png"), "lineage": lines}
    assert refusal(check_recipe, recipe, "m.png")


def line(verb, args, index, parents):
    key = particle_id(verb, tuple(parents), args)
    return {"id": key, "verb": verb, "args": args, "index": index, "parents": parents}


def test_forged_lineages_of_several_parents_are_refused():
    one, two = (line("noise", {"seed": seed, "steps": 4}, 0, []) for seed in (0, 1))
    half = line("denoise", {"to": 2}, 2, [one["id"]])
    both = [one["id"], two["id"]]
    other = line("noise", {"seed": 1, "steps": 5}, 0, [])
    right = line("blend", {"weights": [1.0, 2.0]}, 0, both)
    assert check_lineage([one, two, right], "x")[0] == right["id"]
    assert check_lineage([one, half, line("renoise", {"to": 1, "draw": 0}, 1, [half["id"]])], "x")[1].at == 1
    for lines, says in (
        ([one, two, line("blend", {"weights": [1.0]}, 0, both)], "expected 1 parents"),
        ([one, two, line("blend", {"weights": [1.0, math.inf]}, 0, both)], "finite"),
        ([one, two, line("blend", {"weights": [1.0, -1.0]}, 0, both)], "sum above 0"),
        ([one, other, line("blend", {"weights": [1.0, 1.0]}, 0, [one["id"], other["id"]])], "one number of steps"),
        ([one, half, line("vary", {"cosine": 0.5, "draw": 0}, 0, [half["id"]])], "starting noises alone"),
        ([one, half, line("renoise", {"to": 3, "draw": 0}, 3, [half["id"]])], "renoise to an index"),
        ([one, half, line("denoise", {"to": 1}, 1, [half["id"]])], "denoise to an index"),
        ([one, half, line("denoise", {"to": 9}, 9, [half["id"]])], "denoise to an index"),
        ([one, half, line("fork", {"draw": 0}, 3, [half["id"]])], "fork to an index"),
        ([one, line("place", {"at": []}, 0, [one["id"]])], "at least 1 entries"),
        ([one, line("ascend", {"rate": 1.0}, 0, [one["id"]])], "got none"),
        ([half, one], "made before"),
        ([], "at least 1 entries"),
    ):
        with pytest.raises(ValueError, match=says):
            check_lineage(lines, "x")


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("sampler", "dtype"), "load", "'float32'"),
        (("sampler", "dtype"), "int8", "'float32'"),
        (("sampler", "device"), "../x", "a device"),
        (("sampler", "height"), 10**9, "at most"),
        (("sampler", "num_inference_steps"), 10**9, "at most"),
        (("sampler", "model"), 3, "text"),
        (("micro_batch", "size"), 100_000, "at most 4096"),
        (("micro_batch", "place"), 4000, "place inside"),
        (("micro_batch", "place"), -1, "at least 0"),
        (("micro_batch", "size"), 1.0, "whole number"),
        (("seed",), 12345, "the seed"),
        (("versions",), ["torch"], "an object"),
        (("id",), "0" * 16, "edited"),
        (("recipe_version",), True, "version 1"),
    ],
)
def test_forged_settings_are_refused_by_replay(root, tmp_path, path, value, says):
    recipe = raw(root / "refine" / "baseline.png")
    holder = recipe
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    file = image_with(recipe, root / "refine" / "baseline.png", tmp_path / "m.png")
    code, said = main("replay", file)
    assert code == 2
    assert says in said
    start = ["generate", "x", "--model", root / "model", "--verifier", "brightness", "--steps", 2, "--search", "refine"]
    assert main(*start, "--search-arg", f"start={file}", "--out", tmp_path / "new")[0] == 2
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "3", '{"recipe_version": 1}', "", '{"recipe_version": 1, "id": "\\ud800"}'], ids=range(5)
)
def test_recipes_that_are_none_are_one_line(root, tmp_path, text):
    file = image_with(text, root / "refine" / "best.png", tmp_path / "m.png")
    code, said = main("replay", file)
    assert code == 2
    assert "m.png" in said


# Schedules and statistics


@pytest.fixture
def schedule(tmp_path):
    sampler = MixtureSampler(steps=4)
    made = FittedSchedule(sampler.schedule, "ddim", identity(sampler), {"method": "none"}, {"bound": [1.0, None]})
    return write_schedule_file(tmp_path / "s.json", made)


@pytest.mark.slow
def test_a_mutated_schedule_is_read_or_refused(schedule):
    held = json.loads(schedule.read_text())
    refused = 0
    for _, other in some(held, 500):
        schedule.write_text(json.dumps(other))
        refused += refusal(read_schedule_file, schedule) is not None
    assert refused > 150
    for _, other in some(held, 60):
        schedule.write_text(json.dumps(other))
        assert main("schedule", "show", schedule)[0] in (0, 2)


@pytest.mark.slow
def test_a_schedule_of_a_million_levels_is_refused_at_once(schedule):
    held = json.loads(schedule.read_text())
    held["t"] = [1.0] * 10**6
    schedule.write_text(json.dumps(held))
    with pytest.raises(ValueError, match="at most 10001 entries"):
        read_schedule_file(schedule)


def row(s):
    from dataclasses import fields

    from noisewright.trajectory.errors import LevelError

    return {**{one.name: 0.0 for one in fields(LevelError)}, "s": s, "t": s, "mean_square": 0.1, "images": 9}


@pytest.mark.slow
def test_a_mutated_error_table_is_read_or_refused(tmp_path):
    about = {"model": "m", "fingerprint": "f", "prediction": "epsilon", "images": 9, "source": "self"}
    held = {
        "format": "noisewright prediction errors", "version": 1, **about,
        "settings": {"levels": 5, "guidance_scale": 1.0}, "levels": [row(float(s)) for s in (9, 7, 5, 3, 1)],
    }  # fmt: skip
    from noisewright.cli.schedule.display import print_errors

    refused = 0
    for _, other in some(held, 700):
        (tmp_path / "e.json").write_text(json.dumps(other))
        if refusal(ErrorTable.load, tmp_path / "e.json") is None:
            with contextlib.redirect_stdout(io.StringIO()):
                print_errors(ErrorTable.load(tmp_path / "e.json"))
        else:
            refused += 1
    assert refused > 250


@pytest.mark.parametrize(
    "change",
    [
        {"count": "x"}, {"count": "9" * 5000}, {"count": "1e9"}, {"count": "-3"}, {"fingerprint": "x" * 10_000},
        {"fingerprint": "a\nb"}, {"mean": torch.zeros(4)}, {"mean": torch.zeros(3, dtype=torch.complex64)},
        {"upper": torch.zeros(5)}, {"upper": -torch.ones(6)}, {"mean": torch.zeros(3, 1)}, {"upper": torch.zeros(0)},
        {"covariance": torch.tensor([[1.0, 5, 0], [0, 1, 0], [0, 0, 1]]), "upper": None}, {"upper": None},
    ],
)  # fmt: skip
def test_damaged_statistics_are_one_line(tmp_path, change):
    held = {"mean": torch.zeros(3), "upper": torch.ones(6), "count": "9", "fingerprint": "f"}
    held = {key: one for key, one in {**held, **change}.items() if one is not None}
    tensors = {key: one for key, one in held.items() if isinstance(one, torch.Tensor)}
    save_file(tensors, tmp_path / "r.safetensors", {key: one for key, one in held.items() if key not in tensors})
    assert "r.safetensors" in refusal(FeatureStatistics.load, tmp_path / "r.safetensors")


@pytest.mark.slow
def test_statistics_that_unpack_to_more_than_memory_are_refused(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed,
        packed.open("mean.npy", "w", force_zip64=True) as file,
    ):
        for _ in range(66):
            file.write(b"\0" * 2**24)
    assert "unpacks to more" in refusal(FeatureStatistics.load, tmp_path / "bomb.npz")


# Words


class Odd:
    def __repr__(self):
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    "value",
    [*(one for one in VALUES if one is not GONE), b"x" * 999, {1: nested(900)}, Odd(), Odd, {Odd(): Odd()},
     np.float32(1), np.zeros(10**6), torch.zeros(10**6), 10**5000, 1j, {"x" * 999: "y" * 999}, list(range(10**5)),
     object()],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_values_are_quoted_short(value):
    text = short(value)
    assert 0 < len(text) <= 60
    assert "\n" not in text
    text.encode()


def test_short_is_what_python_writes_where_it_can_be():
    for value in (3, 2.5, True, None, "a", [1, 2], {"a": 1}, (1, "b"), b"x", [], {}):
        assert short(value) == repr(value)
    assert short(np.float64(2.5)) == "2.5"
    assert cut("a\nb" * 99) == ("a b" * 99)[:57] + "..."
    assert short(10**400) == "a number of 401 digits"
