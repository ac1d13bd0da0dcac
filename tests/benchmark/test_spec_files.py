"""Spec files: what they say, and all that is wrong with them at once, each with its line."""

import json
import re
import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noisewright.benchmark.cells import cells_of
from noisewright.benchmark.plain_spec import spec_from_json, spec_to_json
from noisewright.benchmark.problems import SpecError
from noisewright.benchmark.prompt_sets import numbered
from noisewright.benchmark.spec import Axis, SetPrompt, Spec, Value
from noisewright.benchmark.spec_files import read_spec
from noisewright.benchmark.toml_lines import Lines

WHOLE = """
title = "More steps, or a search"
seeds = 2
seed = 7
seed_step = 10
across = "budget"
reference = { search = "random" }
notes = ["What the source\\n  says."]

[base]
model = "noisewright/shapes"
num_inference_steps = 10
verifier = ["shapes-clip"]

[prompts]
texts = ["two red circles", "a blue star"]

[axes]
budget = ["8 images", "32 images"]
search = [
  "random",
  { label = "zero-order, 4", search = "zero-order", search_args = { neighbours = 4 } },
]
"""

LEAST = """[base]
model = "noisewright/shapes"
[prompts]
texts = ["two red circles"]
[axes]
"""


@pytest.fixture
def spec_file(tmp_path):
    def written(text, name="a.toml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return written


def problems_of(path, **choices):
    """Line and text of each problem of a spec."""
    with pytest.raises(SpecError) as caught:
        read_spec(path, **choices)
    assert str(caught.value).split("\n") == caught.value.problems
    found = []
    for one in caught.value.problems:
        match = re.fullmatch(rf"line (\d+) of {re.escape(str(path))}: (.+)", one)
        found.append((int(match[1]), match[2]) if match else (0, one))
    return found


def test_a_whole_spec(spec_file):
    spec = read_spec(spec_file(WHOLE, "steps.toml"))
    assert spec == Spec(
        name="steps",
        title="More steps, or a search",
        base={"model": "noisewright/shapes", "num_inference_steps": 10, "verifier": ["shapes-clip"]},
        axes=(
            Axis("budget", (Value("8 images", {"budget": "8 images"}), Value("32 images", {"budget": "32 images"}))),
            Axis("search", (
                Value("random", {"search": "random"}),
                Value("zero-order, 4", {"search": "zero-order", "search_args": {"neighbours": 4}}),
            )),
        ),
        prompts=(SetPrompt("two red circles", 1), SetPrompt("a blue star", 2)),
        seeds=2, seed=7, seed_step=10, reference={"search": "random"}, across="budget",
        notes=("What the source says.",),
    )  # fmt: skip
    cells = list(cells_of(spec))
    assert len(cells) == 2 * 2 * 4
    assert [cell.request.seed for cell in cells[::4]] == [7, 8, 17, 18]


def test_the_least_spec_and_what_it_leaves_out(spec_file):
    spec = read_spec(spec_file(LEAST + "solver = ['ddim', 'heun']"))
    assert (spec.title, spec.seeds, spec.seed, spec.seed_step, spec.across) == ("a", 1, 0, 1000, None)
    assert (spec.reference, spec.notes, spec.prompt_set) == ({}, (), "")


def test_a_spec_without_axes_is_one_point(spec_file):
    assert len(list(cells_of(read_spec(spec_file(LEAST))))) == 1


def test_steps_are_what_curves_are_drawn_along(spec_file):
    assert read_spec(spec_file(LEAST + "num_inference_steps = [5, 10]")).across == "num_inference_steps"


def test_labels_that_nobody_gave(spec_file):
    spec = read_spec(spec_file(LEAST + """
eta = [0.0, 0.25]
verifier = [["shapes-clip"], ["shapes-clip", "shapes-reward"]]
size = [{ height = 32, width = 32 }, { height = 64 }]
compile = [true, false]
target = [0.5, { shapes-clip = 90 }]
negative_prompt = ["", "a\\nb\\u001b c"]
"""))
    assert {axis.name: [one.label for one in axis.values] for axis in spec.axes} == {
        "eta": ["0", "0.25"],
        "verifier": ["shapes-clip", "shapes-clip + shapes-reward"],
        "size": ["height 32, width 32", "height 64"],
        "compile": ["yes", "no"],
        "target": ["0.5", "shapes-clip 90"],
        "negative_prompt": ["none", "a b c"],
    }


WRONG = [
    # beside LEAST, whose axes begin in line 6: what stands there, the line of the problem, and what it says
    ("budget = []", 6, "expected a list of values as axis budget, got an empty list"),
    ("budget = '8 images'", 6, "expected a list of values as axis budget, got '8 images'"),
    ("budget = ['8 imagse']", 6, "expected a budget in images, nfe or seconds, got unit 'imagse' in '8 imagse'"),
    ("budget = [\n '8 images',\n '-1 images']", 8, "expected a budget above 0 images, got -1"),
    ("budget = ['8 images', '8 images']", 6, "expected each label of axis budget once, got '8 images' twice"),
    ("budget = ['8 images',\n '8 image']", 7,
     "expected values of axis budget that differ, got '8 images' and '8 image', which ask for the same"),
    ("steps = [1, 2]", 6, "unknown field 'steps': its name here is num_inference_steps; or else a table that sets "
                          "fields as a value of that axis, got 1"),
    ("serach = ['random']", 6, re.compile(r"unknown field 'serach': expected one of .*; did you mean search\?; or .*")),
    ("search = ['randm']", 6, re.compile(r"unknown search 'randm': .*; did you mean random\?")),
    ("solver = ['ddim',\n\n'dimm']", 8, re.compile(r"unknown solver 'dimm': .*; did you mean ddim\?")),
    ("schedule = ['karas']", 6, re.compile(r"unknown schedule 'karas': .*; did you mean karras\?")),
    ("executor = ['locl']", 6, re.compile(r"unknown executor 'locl': .*; did you mean local\?")),
    ("verifier = [[\n'shapes-clip',\n'shaps-clip']]", 6, re.compile(r"unknown verifier 'shaps-clip': .*")),
    ("num_inference_steps = [10, 0]", 6, "expected num_inference_steps of at least 1, got 0"),
    ("num_inference_steps = [10, '20']", 6, "expected num_inference_steps of at least 1, got '20'"),
    ("guidance_scale = [nan]", 6, re.compile("expected finite numbers .*")),
    ("solver = [1979-05-27]", 6, "expected a solver as a name, got date"),
    ("prompt = ['a']", 6, "expected no axis prompt: prompts and seeds have keys of their own"),
    ("seed = [1]", 6, "expected no axis seed: prompts and seeds have keys of their own"),
    ("cost = [{ label = 'x' }]", 6, "expected fields to set in a value of axis cost, got none"),
    ("cost = [{ label = 3, eta = 0.5 }]", 6, "expected a label as one line of text, got 3"),
    ("cost = [{ label = '', eta = 0.5 }]", 6, "expected a label as one line of text, got ''"),
    ("cost = [{ eta = 0.5 }]\neta = [0.1]", 7, "expected eta on one axis, got it on cost and eta"),
    ("model = ['noisewright/cifar10']", 2,
     "expected model for all cells or on an axis, got both: every value of model sets it"),
    ("search_args = [{ neighbors = 3 }]\nsearch = ['zero-order']", 7,
     re.compile(r"unknown argument of zero-order 'neighbors': .*; did you mean neighbours\?")),
    ("search = [\n'zero-order',\n{ label = 'x', search = 'paths', search_args = { width = 'wide' } }]", 8,
     re.compile("argument width of paths: .*")),
    ("height = [64, 30000]\nwidth = [64, 30000]", 7,
     "expected height x width of at most 67108864 pixels, got 30000 x 30000"),
    ("verifier = [['shapes-clip']]\njudge = [['shapes-oracle'], ['shapes-clip']]", 7,
     "expected a judge that the search never sees, got shapes-clip as both"),
    ("verifier = [['shapes-clip', 'shapes-clip']]", 6,
     "expected verifiers with distinct names, got shapes-clip, shapes-clip"),
    ("verifier = [['shapes-clip']]\nensemble = ['rank', { shapes-reward = 1 }]", 7,
     "expected a weight of a verifier (shapes-clip), got one of 'shapes-reward'"),
    ("'' = [{ eta = 0.5 }]", 6, "expected an axis's name as one line of text, got ''"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "said"), WRONG, ids=[text for text, _, _ in WRONG])
def test_wrong_axes(spec_file, text, line, said):
    ((found, problem),) = problems_of(spec_file(LEAST + text))
    assert found == line
    assert said.fullmatch(problem) if isinstance(said, re.Pattern) else problem == said


WRONG_REST = [
    # a whole file, and the lines of its problems
    ("titel = 'x'\n" + LEAST, [(1, r"unknown key of a spec 'titel': .*; did you mean title\?")]),
    ("title = 3\nseeds = 0\nseed = -1\nseed_step = true\nnotes = 'x'\n" + LEAST,
     [(1, "expected one line of text as title, got 3"), (2, r"expected seeds in \[1, 10000\], got 0"),
      (3, "expected seed in .*, got -1"), (4, "expected seed_step in .*, got True"),
      (5, "expected notes as a list of at most 1000 texts, got 'x'")]),
    ("notes = [\n 'x',\n 3]\n" + LEAST, [(3, "expected a note as a text .*, got 3")]),
    ("across = 'budgte'\nreference = { serch = 'random', budget = '9' }\n" + LEAST + "budget = ['8 images']",
     [(1, r"unknown axis 'budgte': .*; did you mean budget\?"), (2, "unknown axis 'serch': .*"),
      (2, "unknown label of axis 'budget' '9': expected one of 8 images.*")]),
    ("base = 3\naxes = 4\nprompts = 5\nbundled = 6\nreference = 7",
     [(n, f"expected a table as {key}, got {value}") for n, key, value in
      ((1, "base", 3), (2, "axes", 4), (3, "prompts", 5), (4, "bundled", 6), (5, "reference", 7))]
     + [(3, "expected one of set, file and texts in .prompts., got none.*")]),
    ("[base]\nsteps = 5\nprompt = 'x'\nseed = 3\nbudget = '8 parsecs'\nverifier = [\n'shapes-clip',\n'clap']\n"
     "[prompts]\ntexts = ['a']",
     [(2, "unknown field 'steps': its name here is num_inference_steps"), (3, "expected no prompt here: .*"),
      (4, "expected no seed here: .*"), (5, "expected a budget in images.*"), (8, "unknown verifier 'clap': .*")]),
    ("[base]\ndtype = 'auto'\n[prompts]\ntexts = ['a']", [(2, "expected a dtype that is the same .*, got auto")]),
    ("[base]\nsearch = 'zero-order'\n[base.search_args]\nneighbors = 3\n[prompts]\ntexts = ['a']",
     [(3, "unknown argument of zero-order 'neighbors': .*")]),
    ("[prompts]\nset = 'shapes-tset'",
     [(2, r"unknown set of prompts 'shapes-tset': .*; did you mean shapes-test\?.*")]),
    ("[prompts]\nset = 'shapes-test'\nfile = 'x.txt'",
     [(3, "expected one of set, file and texts .*, got set and file")]),
    ("[prompts]\nfile = 'x.txt'", [(2, "expected a file of prompts, got .*x.txt, which does not exist")]),
    ("[prompts]\nfile = 'x.txt'\nsource = 'https://example.org'",
     [(2, "expected a file of prompts, got .*x.txt, which does not exist: get it from https://example.org")]),
    ("[prompts]\ntexts = ['a']\nlimit = 3", [(3, "expected limit with a set or a file, got it beside texts")]),
    ("[prompts]\ntexts = ['a', 'a']", [(2, "expected each prompt once, got 'a' in place 1 and place 2 .*")]),
    ("[prompts]\ntexts = ['a', ' ']", [(2, "expected a prompt, got an empty one in place 2 of the list of prompts")]),
    ("[prompts]\ntexts = ['a', 3]", [(2, "expected a prompt as text, got int in place 2 of the list of prompts")]),
    ("[prompts]\nset = 'shapes-test'\nlimit = 0", [(3, "expected limit of at least 1, got 0")]),
    ("[prompts]\nset = 'shapes-test'\nsample = 1000", [(3, "expected sample of at most the 200 prompts .*, got 1000")]),
    ("[prompts]\nset = 'shapes-test'\ncategory = 'sinlge'", [(3, r"expected category .*; did you mean single\?")]),
    ("[prompts]\nset = 'shapes-test'\nlimits = 4", [(3, r"unknown key of \[prompts\] 'limits': .*")]),
    ("[base]\nmodel = 'noisewright/shapse'\nverifier = ['none.py:f']\n[prompts]\ntexts = ['a']",
     [(2, "unknown model 'noisewright/shapse': .*did you mean noisewright/shapes.*"),
      (3, "expected a verifier as FILE.py:NAME, got 'none.py:f', whose file is not there")]),
    (LEAST.replace("noisewright/shapes", "m")
     + "[bundled]\nmodel = 'gpt'\nnames = { clip = 3 }\ndrop = ['dtype']\nbase = 4\nnam = 2",
     [(7, "expected a bundled model .*, got 'gpt'"), (8, "expected a verifier's name for 'clip', got 3"),
      (9, r"unknown key of \[base\] and \[axes\] 'dtype': .*"), (10, "expected a table as base, got 4"),
      (11, r"unknown key of \[bundled\] 'nam': .*; did you mean names\?")]),
    (LEAST + "num_inference_steps = [1]\n[[axes.search]]\nlabel = 'x'\nsearch = 'random'\n"
     "[[axes.search]]\nlabel = 'y'\nsearch = 'randm'", [(12, "unknown search 'randm': .*")]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), WRONG_REST, ids=[text[:40] for text, _ in WRONG_REST])
def test_wrong_elsewhere(spec_file, text, said):
    found = problems_of(spec_file(text))
    assert [line for line, _ in found] == sorted(line for line, _ in said)
    for line, pattern in said:
        assert any(at == line and re.fullmatch(pattern, one) for at, one in found), (pattern, found)


def test_everything_wrong_is_said_at_once(spec_file):
    text = "seeds = 0\nfoo = 1\n" + LEAST + "budget = []\nsearch = ['x']\nsolver = ['y', 'z']"
    assert [line for line, _ in problems_of(spec_file(text))] == [1, 2, 8, 9, 10, 10]


def test_of_very_many_problems_the_first_are_shown(spec_file):
    text = LEAST + "num_inference_steps = [\n" + "0,\n" * 200 + "]"
    with pytest.raises(SpecError) as caught:
        read_spec(spec_file(text))
    assert len(caught.value.problems) == 200
    assert str(caught.value).endswith("\nand 150 more")


@pytest.mark.parametrize(("text", "line"), [
    ("[base\n", 1), ("[base]\nmodel = \n", 2), ("a = 1\nb = 2\na = 3\n", 3), ("x = [1,\n2", 2), ('y = """\n\n', 3),
    ("a = 1\n[b]\n[b]\n", 3),
])  # fmt: skip
def test_no_toml(spec_file, text, line):
    ((found, said),) = problems_of(spec_file(text))
    assert found == line
    assert said.startswith("expected TOML, got ")


def test_numbers_that_are_too_long_and_lists_that_are_too_deep(spec_file):
    for text in ("a = " + "9" * 5000, "a = " + "[" * 3000 + "]" * 3000):
        path = spec_file(text)
        with pytest.raises(SpecError, match=f"{path.name}: expected TOML"):
            read_spec(path)


@pytest.mark.parametrize("data", [b"", "title = 'ä'".encode("latin-1"), "title = 'a'".encode("utf-16"), b"\0"])
def test_files_that_are_no_spec(tmp_path, data):
    path = tmp_path / "x.toml"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"^[^\n]*x\.toml[^\n]*$"):
        read_spec(path)


def test_names_that_are_no_spec(tmp_path):
    with pytest.raises(ValueError, match=r"unknown benchmark 'quikc': .*; did you mean quick\?; or a spec as FILE"):
        read_spec("quikc")
    with pytest.raises(ValueError, match=r"nowhere\.toml, which does not exist"):
        read_spec(tmp_path / "nowhere.toml")
    with pytest.raises(ValueError, match="is a directory"):
        read_spec(tmp_path)


def test_files_are_named_from_the_spec(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "five.json").write_text("{}")
    (tmp_path / "deep" / "mine.txt").write_text("two red circles\n")
    text = "[base]\nmodel = 'noisewright/shapes'\nschedule = 'five.json'\n[prompts]\nfile = 'mine.txt'\n"
    (tmp_path / "deep" / "a.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    spec = read_spec("deep/a.toml")
    assert (spec.base["schedule"], spec.prompt_set) == ("deep/five.json", "mine.txt")
    assert next(cells_of(spec)).request.schedule == str(tmp_path / "deep" / "five.json")


def test_prompts_that_stand_there_twice_are_told(tmp_path):
    (tmp_path / "mine.txt").write_text("a\nb\na\n")
    (tmp_path / "a.toml").write_text("[prompts]\nfile = 'mine.txt'\n")
    said = []
    assert [one.number for one in read_spec(tmp_path / "a.toml", tell=said.append).prompts] == [1, 2]
    assert said == [f"{tmp_path / 'mine.txt'}: 1 prompt stands there again, and counts once: line 3 as in line 1"]


# In place of what a spec says


def test_settings_in_place_of_the_specs(spec_file):
    path = spec_file(WHOLE)
    some = numbered(["a green square", "a red star"])
    spec = read_spec(path, model="elsewhere/model", overrides={"num_inference_steps": 5, "eta": 0.5}, seeds=3, limit=1,
                     prompts=(some, "mine"))  # fmt: skip
    assert spec.base == {"model": "elsewhere/model", "num_inference_steps": 5, "eta": 0.5, "verifier": ["shapes-clip"]}
    assert (spec.seeds, spec.seed, spec.prompts, spec.prompt_set) == (3, 7, some[:1], "mine")
    assert len(read_spec(path, limit=1).prompts) == 1


def test_what_is_wrong_with_them_has_no_line(spec_file):
    path = spec_file(WHOLE)
    assert problems_of(path, overrides={"steps": 3, "solver": "dimm"}, seeds=0) == [
        (0, "unknown field 'steps': its name here is num_inference_steps"),
        (0, problems_of(path, overrides={"solver": "dimm"})[0][1]),
        (0, "expected seeds in [1, 10000], got 0"),
    ]
    ((_, said),) = problems_of(path, overrides={"budget": "8 images"})
    assert said == "expected budget for all cells or on an axis, got both: every value of budget sets it"
    with pytest.raises(TypeError, match="unknown setting of a spec 'seds'"):
        read_spec(path, seds=3)


LARGE = """
reference = { verifier = "clip", judged = "all" }
[base]
model = "some/large-model"
dtype = "bfloat16"
num_inference_steps = 30
judge = ["vlm:gpt-4o-mini"]
[prompts]
texts = ["a sheep"]
[axes]
verifier = [["clip"], ["clip", "aesthetic"]]
judged = [
  { label = "all", ensemble = "rank" },
  { label = "by weight", ensemble = { clip = 2, aesthetic = 1 }, verifier = ["clip", "aesthetic"] },
]
budget = ["2880 nfe"]
[bundled]
model = "noisewright/shapes"
names = { clip = "shapes-clip", aesthetic = "shapes-aesthetic", vlm = "shapes-oracle" }
drop = ["dtype"]
base = { num_inference_steps = 10 }
axes = { budget = ["320 nfe"] }
prompts = { set = "shapes-test", limit = 3 }
seeds = 4
"""


def test_what_stands_in_where_the_model_is_bundled(spec_file):
    path = spec_file(LARGE.replace(', verifier = ["clip", "aesthetic"] }', " }").replace('[["clip"], ', "[").replace(
        'verifier = "clip"', 'verifier = "clip + aesthetic"'))  # fmt: skip
    plain, stood_in = read_spec(path), read_spec(path, model="noisewright/shapes")
    assert plain.base["dtype"] == "bfloat16"
    assert (plain.prompts[0].text, plain.seeds) == ("a sheep", 1)
    assert stood_in.base == {
        "model": "noisewright/shapes", "num_inference_steps": 10, "judge": ["shapes-oracle"],
    }  # fmt: skip
    changes = {axis.name: [dict(one.changes) for one in axis.values] for axis in stood_in.axes}
    assert changes == {
        "verifier": [{"verifier": ["shapes-clip", "shapes-aesthetic"]}],
        "judged": [{"ensemble": "rank"}, {"ensemble": {"shapes-clip": 2, "shapes-aesthetic": 1}}],
        "budget": [{"budget": "320 nfe"}],
    }
    assert stood_in.reference == {"verifier": "shapes-clip + shapes-aesthetic", "judged": "all"}
    assert (len(stood_in.prompts), stood_in.prompt_set, stood_in.seeds) == (3, "noisewright/shapes/test", 4)
    assert [one.label for axis in stood_in.axes for one in axis.values][1:3] == ["all", "by weight"]


def test_problems_with_what_stands_in_are_found_there(spec_file):
    text = LEAST.replace("noisewright/shapes", "some/model") + """budget = ["8 images"]
[bundled]
base = { solver = "dimm" }
prompts = { set = "x" }
seeds = 0
[bundled.axes]
budget = ["8 imagse"]
"""
    path = spec_file(text)
    read_spec(path)
    assert [line for line, _ in problems_of(path, model="noisewright/shapes")] == [8, 9, 10, 12]


def test_another_bundled_model_than_the_specs_is_refused(spec_file):
    path = spec_file(LEAST + "[bundled]\nmodel = 'noisewright/cifar10'")
    assert problems_of(path) == [(2, "expected 'noisewright/cifar10' as the bundled model of this spec, got "
                                     "'noisewright/shapes'")]  # fmt: skip


# Lines


def test_lines_of_every_kind_of_key():
    text = '''# comment
a.b = 1
"q\\"uo.ted" = """
three
lines""""
[t.'lit.eral'] # c
x = [ # [
  1, [2,
  3], { y = 4, z.w = [
 5] } ]
[[list]]
k = 1
[list.sub]
v = "]"
[[list]]
k = 2
[list.sub]
v = 'a # b'
'''
    tomllib.loads(text)
    lines = Lines(text)
    expected = {
        ("a", "b"): 2, ('q"uo.ted',): 3, ("t", "lit.eral"): 6, ("t", "lit.eral", "x"): 7, ("t", "lit.eral", "x", 0): 8,
        ("t", "lit.eral", "x", 1, 1): 9, ("t", "lit.eral", "x", 2, "y"): 9, ("t", "lit.eral", "x", 2, "z", "w", 0): 10,
        ("list", 0): 11, ("list", 0, "k"): 12, ("list", 0, "sub", "v"): 14, ("list", 1, "k"): 16,
        ("list", 1, "sub"): 17, ("list", 1, "sub", "v"): 18, ("list", 1, "nothing"): 15, ("nothing",): 1,
    }  # fmt: skip
    assert {path: lines(*path) for path in expected} == expected


def paths_of(value, path=()):
    """The path of every key and element of what TOML says."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        yield (*path, key)
        yield from paths_of(one, (*path, key))


PIECES = st.sampled_from([
    "[base]", "[axes]", "[prompts]", "[bundled]", "[[axes.search]]", "[axes.x]", "budget = ['8 images']", "search = ",
    "'random'", "{ label = 'x', search = 'paths' }", "[", "]", "{", "}", ",", "=", "\n", "\n", "\n", '"', "'''", "#",
    "a.b", "texts = ['a']", "set = 'shapes-test'", "verifier = ['clip', 3]", "seeds = 2", "title = 'x'", "model = 'm'",
    "1", "1979-05-27", "nan", "-inf", "0x1F", '"\\u0000"', "'ä'", "label", "drop = ['x']", "names = {a = 'b'}",
    "notes = ['x']", "reference = {search = 'random'}", "across = 'budget'", "num_inference_steps = [1, 2]",
    "search_args = {k = 1}",
])  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES, max_size=14).map(" ".join) | st.lists(PIECES, max_size=14).map("\n".join) | st.text(),
       st.sampled_from([None, "noisewright/shapes"]))  # fmt: skip
def test_any_text_is_a_spec_or_wrong_in_clean_lines(tmp_path, text, model):
    path = tmp_path / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        spec = read_spec(path, model=model)
    except ValueError as error:
        lines = str(error).split("\n")
        assert all(line and line.isprintable() for line in lines), lines
        return
    assert spec_from_json(json.loads(json.dumps(spec_to_json(spec), allow_nan=False))) == spec
    for cell in cells_of(spec):
        assert cell.digest


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=14).map("\n".join) | st.lists(PIECES, max_size=8).map(" ".join))
def test_whatever_toml_says_has_its_line(text):
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines, count = Lines(text), text.count("\n") + 1
    for path in paths_of(value):
        assert 1 <= lines(*path) <= count


# As data


@pytest.fixture
def plain(spec_file):
    return spec_to_json(read_spec(spec_file(WHOLE)))


def test_json_gives_the_spec_back(spec_file, plain):
    assert spec_from_json(json.loads(json.dumps(plain))) == read_spec(spec_file(WHOLE))


def changed(plain, path, value):
    held = json.loads(json.dumps(plain))
    at = held
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return held


@pytest.mark.parametrize(("path", "value", "said"), [
    (["more"], 1, "expected no such key as more in x.json, got 1"),
    (["seeds"], "2", "expected a whole number as seeds in x.json, got '2'"),
    (["seeds"], 0, "expected a number at least 1 as seeds in x.json, got 0"),
    (["title"], "a\nb", "expected one line of text as title in x.json"),
    (["axes", 0, "values"], [], "expected at least 1 entries as axes[0].values in x.json"),
    (["axes", 0, "values", 0, "label"], "32 images", "expected each label of the axis budget once in x.json"),
    (["axes", 0, "name"], "search", "expected axes of distinct names in x.json"),
    (["axes", 0, "values", 0, "changes"], {"seed": 3}, "unknown field 'seed'"),
    (["base"], {"prompt": "x"}, "unknown field 'prompt'"),
    (["base", "eta"], float("nan"), "expected finite numbers as base in x.json"),
    (["prompts", 0, "text"], "", "expected at least 1 characters as prompts[0].text in x.json"),
    (["prompts", 0, "number"], 0, "expected a number at least 1 as prompts[0].number in x.json"),
    (["reference"], {"search": "paths"}, "expected a label of an axis as reference in x.json, got search=paths"),
    (["across"], "steps", "expected an axis as across in x.json, got steps"),
    (["seeds"], 10**6, "expected a grid of at most 1000000 cells in x.json, got 8000000"),
])  # fmt: skip
def test_damaged_json_is_refused_in_one_line(plain, path, value, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}[^\n]*$"):
        spec_from_json(changed(plain, path, value), "x.json")


def test_json_without_a_key_is_refused(plain):
    for key in plain:
        with pytest.raises(ValueError, match=f"expected a value as {key} in x.json, got none"):
            spec_from_json({name: one for name, one in plain.items() if name != key}, "x.json")
