"""Sets of prompts: the bundled ones, every shape of file, and files that are none."""

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noisewright.benchmark.prompt_sets import BUNDLED, CIFAR10, is_set, numbered, read_prompt_set
from noisewright.benchmark.spec import SetPrompt
from noisewright.samplers.classes import labels_of
from noisewright.shapes.prompts import KINDS, load_prompts

DATA = Path(os.environ.get("NOISEWRIGHT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "prompts"


@pytest.fixture
def file(tmp_path):
    def written(name, text):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    return written


def read(path, **choices):
    prompts, warnings = read_prompt_set(path, **choices)
    assert warnings == []
    return [(one.number, one.text, one.category) for one in prompts]


# Bundled


@pytest.mark.parametrize("name", ["test", "dev"])
def test_the_bundled_scenes(name):
    prompts, warnings = read_prompt_set(f"noisewright/shapes/{name}")
    assert warnings == []
    assert sorted(one.text for one in prompts) == sorted(load_prompts(name))
    assert [one.number for one in prompts] == list(range(1, len(prompts) + 1))
    assert [one.category for one in prompts[:5]] == list(KINDS)
    assert read_prompt_set(f"shapes-{name}")[0] == prompts


def test_the_bundled_classes():
    assert read("cifar10-classes") == [(n, name, None) for n, name in enumerate(CIFAR10, 1)]


def test_the_bundled_classes_are_the_models():
    from noisewright.planning import load_requested
    from noisewright.request import Request

    pipe = load_requested(Request(model="noisewright/cifar10"))
    assert [name for name, _ in sorted(labels_of(pipe).items(), key=lambda one: one[1])] == list(CIFAR10)


def test_what_is_a_set():
    assert all(is_set(name) for name in BUNDLED)
    assert is_set(__file__)
    assert not any(map(is_set, ("two red circles", "x" * 10_000, "a\0b", "", ".")))


# Shapes of files, small ones of our own


SHAPES = [
    ("drawbench.csv", 'No.,Prompts,Category\r\n1,A red car.,Colors\r\n2,"A car, and a ""sheep"".",DALL-E\r\n',
     [(1, "A red car.", "Colors"), (2, 'A car, and a "sheep".', "DALL-E")]),
    ("parti.tsv", 'Prompt\tCategory\tChallenge\tNote\nbond\tAbstract\tBasic\tx\n"a" quote\tArts\n',
     [(1, "bond", "Abstract"), (2, '"a" quote', "Arts")]),
    ("geneval.jsonl", '{"tag": "two", "include": [{"class": "cat"}], "prompt": "a photo of a cat"}\n\n'
     '{"tag": "one", "prompt": "a dog"}\n', [(1, "a photo of a cat", "two"), (2, "a dog", "one")]),
    ("imagereward.json", '[{"id": "005-7", "prompt": "a vehicle"}, {"id": "6", "prompt": "a jungle"}]',
     [(1, "a vehicle", None), (2, "a jungle", None)]),
    ("texts.json", '["a cat", " a dog "]', [(1, "a cat", None), (2, "a dog", None)]),
    ("inside.json", '{"name": "x", "data": [{"caption": "a cat"}]}', [(1, "a cat", None)]),
    ("by_category.json", '{"Animals": ["a cat", "a dog"], "Colors": ["a red car"]}',
     [(1, "a cat", "Animals"), (2, "a dog", "Animals"), (3, "a red car", "Colors")]),
    ("compbench.txt", "a green bench and a blue bowl\n\n# of textures\n  a metal car\n\\# of things\n",
     [(1, "a green bench and a blue bowl", None), (2, "a metal car", None), (3, "# of things", None)]),
    ("tabs.txt", "a cat\tspatial\t0\na dog\tspatial\t1\n", [(1, "a cat", None), (2, "a dog", None)]),
    ("one_tab.txt", "a cat\tspatial\na dog\n", [(1, "a cat\tspatial", None), (2, "a dog", None)]),
    ("no_ending", "a cat\n", [(1, "a cat", None)]),
    ("lines.ndjson", '"a cat"\n"a dog"\n', [(1, "a cat", None), (2, "a dog", None)]),
    ("capitals.CSV", "TEXT,Type\na cat,1\n", [(1, "a cat", "1")]),
    ("multi.csv", 'prompt,category\n"a cat\nand a dog",x\na bird,\n',
     [(1, "a cat\nand a dog", "x"), (2, "a bird", None)]),
    ("bom.csv", b"\xef\xbb\xbfprompt\na cat\n", [(1, "a cat", None)]),
    ("bom.json", b'\xef\xbb\xbf["a cat"]', [(1, "a cat", None)]),
    ("mac.txt", b"a cat\ra dog", [(1, "a cat", None), (2, "a dog", None)]),
    ("odd.jsonl", '{"prompt": "a cat", "category": {"a": 1}}\n{"prompt": "b", "category": 7}\n',
     [(1, "a cat", None), (2, "b", "7")]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "found"), SHAPES, ids=[name for name, _, _ in SHAPES])
def test_shapes_of_files(file, name, text, found):
    assert read(file(name, text)) == found


REAL = [
    ("drawbench.csv", 200, "A red colored car.", "Colors", 11),
    ("PartiPrompts.tsv", 1632, "bond", "Abstract", 12),
    ("geneval_metadata.jsonl", 553, "a photo of a bench", "single_object", 6),
    ("imagereward_benchmark.json", 100, "a concept art of a vehicle, cyberpunk", None, 0),
    ("t2i-compbench/color_val.txt", 300, "a green bench and a blue bowl", None, 0),
    ("t2i-compbench/non_spatial_val.txt", 300,
     "A person is looking at a rainbow and marveling at its beauty.", None, 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "count", "first", "category", "categories"), REAL)
def test_the_fields_own_sets(name, count, first, category, categories):
    if not (DATA / name).exists():
        pytest.skip(f"needs prompts/{name} under NOISEWRIGHT_DATA")
    prompts, warnings = read_prompt_set(DATA / name)
    assert (len(prompts), warnings) == (count, [])
    assert prompts[0] == SetPrompt(first, 1, category)
    assert prompts[-1].number == count
    assert len({one.category for one in prompts} - {None}) == categories


# What of a set is taken


@pytest.fixture
def table(file):
    rows = "".join(f"prompt {n},{'Colors' if n % 2 else 'Counting'},caption {n}\n" for n in range(1, 21))
    return file("set.csv", f"Prompt,Category,caption\n{rows}")


def test_columns_that_are_named(table):
    assert read(table, column="caption")[0] == (1, "caption 1", "Colors")
    assert read(table, column="CAPTION", category_column="prompt")[0] == (1, "caption 1", "prompt 1")


def test_categories_whatever_their_case(table):
    assert [number for number, _, _ in read(table, category="counting")] == list(range(2, 21, 2))


def test_limit_and_every(table):
    assert [number for number, _, _ in read(table, limit=3)] == [1, 2, 3]
    assert [number for number, _, _ in read(table, every=8)] == [1, 9, 17]
    assert [number for number, _, _ in read(table, every=8, limit=2, category="Colors")] == [1, 17]


def test_a_sample_is_the_seeds_and_keeps_places(table):
    first = read(table, sample=7, seed=3)
    assert first == read(table, sample=7, seed=3)
    assert first == sorted(first)
    assert {number: text for number, text, _ in first} == {number: f"prompt {number}" for number, _, _ in first}
    assert len({tuple(read(table, sample=7, seed=seed)) for seed in range(8)}) > 1
    assert read(table, sample=20) == read(table)
    assert len(read(table, sample=7, limit=2)) == 2


def test_a_prompt_that_stands_there_again_counts_once(file):
    prompts, (warning,) = read_prompt_set(file("x.csv", "prompt\na\nb\na\nc\n a \n"))
    assert [(one.number, one.text) for one in prompts] == [(1, "a"), (2, "b"), (4, "c")]
    assert re.fullmatch(
        ".*x.csv: 2 prompts stand there again, and count once: line 4 as in line 2, line 6 as in line 2", warning
    )


def test_prompts_that_were_given_as_texts():
    assert numbered(["a", " b "]) == (SetPrompt("a", 1), SetPrompt("b", 2))
    with pytest.raises(ValueError, match="expected each prompt once, got 'a' in place 1 and place 3 of "):
        numbered(["a", "b", "a"])
    with pytest.raises(TypeError, match="expected a prompt as text, got int in place 2 of the list of prompts"):
        numbered(["a", 3])
    with pytest.raises(ValueError, match="expected prompts in the list of prompts, got none"):
        numbered([])


# What is none


WRONG = [
    ("x.txt", "", "expected prompts in .*x.txt, got an empty file"),
    ("x.csv", " \n\n", "expected prompts in .*x.csv, got an empty file"),
    ("x.txt", "# only\n", "expected prompts in .*x.txt, got none"),
    ("x.json", "[]", "expected prompts in .*x.json, got none"),
    ("x.csv", "prompt,category\n", "expected a head and rows in .*x.csv, got only a head"),
    ("x.txt", "a cat".encode("utf-16"), "expected text in UTF-8, got .*x.txt, which is UTF-16"),
    ("x.csv", "prompt\ncafé\n".encode("latin-1"), "expected text in UTF-8, got .*x.csv, which is something else"),
    ("x.txt", b"a\0b", "expected text in UTF-8, got .*x.txt, which is something else"),
    ("x.csv", "No.,Words\n1,a cat\n",
     r"expected a column of prompts \(prompt, prompts, text, caption, ...\) in .*, got No., Words: name the right .*"),
    ("x.csv", "prompt,prompt\na,b\n", "expected each column once in .*x.csv, got 'prompt' twice"),
    ("x.csv", "prompt,category\na,b\nc,d,e\n", "expected 2 columns in .*x.csv, got 3 in line 3"),
    ("x.csv", "prompt,category\n\na,b\nc\n", "expected 2 columns in .*x.csv, got 1 in line 4"),
    ("x.csv", 'prompt,category\n"a\nb",c\n"d,e\n', "expected a table in .*x.csv, got unexpected end of data in line 4"),
    ("x.tsv", "prompt\tcategory\na\tb\tc\n", "expected 2 columns in .*x.tsv, got 3 in line 2"),
    ("x.csv", "prompt,category\n ,b\n", "expected a prompt, got an empty one in line 2 of .*x.csv"),
    ("x.tsv", "category\tprompt\na\n", "expected a prompt as text in line 2 of .*x.tsv, got none"),
    ("x.jsonl", '{"prompt": "a"}\n\n{"prompt": ""}\n', "expected a prompt, got an empty one in line 3 of .*x.jsonl"),
    ("x.jsonl", '{"prompt": "a"}\n{"prompt": 3}\n', "expected a prompt as text in line 2 of .*x.jsonl, got 3"),
    ("x.jsonl", '{"prompt": "a"}\n{"text": "b"}\n', "expected a prompt as text in line 2 of .*x.jsonl, got none"),
    ("x.jsonl", '{"prompt": "a"}\n{', "expected JSON in line 2 of .*x.jsonl, got a damaged file"),
    ("x.json", "{", "expected JSON in .*x.json, got a damaged file"),
    ("x.json", "3", "expected a list of prompts in .*x.json, got 3"),
    ("x.json", '{"a": 1}', "expected a list of prompts in .*x.json, got an object without one"),
    ("x.json", '{"a": [1], "b": ["x"]}', "expected objects in one list, or lists of texts by .*, got 1 in 'a'"),
    ("x.json", '["a", null]', "expected a prompt as text in entry 2 of .*x.json, got none"),
    ("x.json", '["a", "b", ["c"]]', r"expected a prompt as text in entry 3 of .*x.json, got \['c'\]"),
    ("x.json", "[" * 5000 + "]" * 5000, "expected JSON at most 32 deep in .*x.json, got deeper"),
    ("x.json", '["\\ud800"]', "expected JSON in .*x.json, got a damaged file: half a surrogate pair"),
    ("x.txt", "a" * 5001, "expected a prompt of at most 5000 characters, got 5001 in line 1 of .*x.txt"),
    ("x.csv", "prompt\n" + '"' + "a" * 200_000 + '"\n', "expected a table in .*, got field larger than field limit .*"),
    ("x.csv", ",".join(map(str, range(2000))) + "\n1\n", "expected at most 1000 columns in .*x.csv, got 2000"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "said"), WRONG, ids=[f"{name} {said[:50]}" for name, _, said in WRONG])
def test_files_that_are_no_set(file, name, text, said):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        read_prompt_set(file(name, text))
    assert re.fullmatch(said, str(caught.value))


@pytest.mark.parametrize(("choices", "said"), [
    ({"column": "promt"}, "expected column of .* as one of Prompt, Category, .*; got 'promt'; did you mean Prompt?"),
    ({"category_column": "kind"}, "expected category_column of .* as one of Prompt, Category, caption; got 'kind'"),
    ({"category": "colours"}, "expected category of .* as one of Colors, .*; got 'colours'; did you mean Colors?"),
    ({"column": ""}, "expected column as text, got ''"),
    ({"column": 3}, "expected column as text, got 3"),
    ({"limit": 0}, "expected limit of at least 1, got 0"),
    ({"limit": True}, "expected limit of at least 1, got True"),
    ({"every": -1}, "expected every of at least 1, got -1"),
    ({"sample": 2.0}, "expected sample of at least 1, got 2.0"),
    ({"sample": 21}, "expected sample of at most the 20 prompts of .*, got 21"),
    ({"sample": 2, "seed": -1}, "expected seed in .*, got -1"),
])  # fmt: skip
def test_choices_that_are_wrong(table, choices, said):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        read_prompt_set(table, **choices)
    assert re.fullmatch(said.replace("?", r"\?").replace("[", r"\["), str(caught.value))


@pytest.mark.parametrize(("source", "choices", "said"), [
    ("shapes-test", {"column": "prompt"}, "expected column with a file, got it with the bundled set noisewright/sh"),
    ("shapes-test", {"category": "sinlge"}, "expected category of .* as one of single, count, .*did you mean single"),
    ("cifar10-classes", {"category": "x"}, "expected category with a set that has some, got 'x' of noisewright/ci"),
    ("nowhere.csv", {}, "expected a file of prompts, got nowhere.csv, which does not exist"),
    (".", {}, "expected a file of prompts, got ., which is a directory"),
    ("a\0b", {}, "expected a file of prompts, got .*, which does not exist"),
])  # fmt: skip
def test_sources_that_are_wrong(tmp_path, monkeypatch, source, choices, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"^{said}[^\n]*$"):
        read_prompt_set(source, **choices)


def test_columns_of_what_has_none(file):
    for name, text in (("x.txt", "a\n"), ("x.json", '["a"]')):
        for key in ("column", "category_column"):
            with pytest.raises(ValueError, match=f"^expected {key} with a table, got it with .*{name}"):
                read_prompt_set(file(name, text), **{key: "x"})


def test_files_that_are_not_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
    (tmp_path / "real.txt").write_text("a cat\n")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    with pytest.raises(ValueError, match="which is a pipe"):
        read_prompt_set(tmp_path / "pipe.txt")
    with pytest.raises(ValueError, match="which is a link that leads to itself"):
        read_prompt_set(tmp_path / "loop.txt")
    assert len(read_prompt_set(tmp_path / "link.txt")[0]) == 1
    with (tmp_path / "huge.txt").open("wb") as huge:
        huge.truncate(2**40)
    with pytest.raises(ValueError, match="it has 1099511627776 bytes, at most 67108864 are read"):
        read_prompt_set(tmp_path / "huge.txt")


def test_more_prompts_than_are_taken(file, monkeypatch):
    monkeypatch.setattr("noisewright.benchmark.prompt_sets.MOST_PROMPTS", 3)
    monkeypatch.setattr("noisewright.benchmark.prompt_files.MOST_PROMPTS", 3)
    for name, text in (("x.txt", "a\nb\nc\nd\n"), ("x.csv", "prompt\n" + "a\n" * 7), ("x.jsonl", '"a"\n' * 7)):
        with pytest.raises(ValueError, match=f"^expected at most 3 prompts in .*{name}, got more$"):
            read_prompt_set(file(name, text))


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=4)
                    | st.dictionaries(st.sampled_from(["prompt", "category", "x"]), inner, max_size=3))  # fmt: skip
TABLES = st.lists(st.lists(st.sampled_from(["prompt", "category", "a", "b c", '"', '"d,e"', " ", "\x1b[0m", "é", "#"]),
                           max_size=4), max_size=5)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=60) | JSON.map(lambda one: json.dumps(one).encode())
    | st.lists(JSON, max_size=4).map(lambda some: "\n".join(map(json.dumps, some)).encode())
    | TABLES.map(lambda rows: "\n".join(map(",".join, rows)).encode())
    | TABLES.map(lambda rows: "\n".join(map("\t".join, rows)).encode()),
    st.sampled_from(["x.txt", "x.csv", "x.tsv", "x.json", "x.jsonl"]),
    st.sampled_from([{}, {"limit": 1}, {"sample": 1}, {"category": "a"}, {"column": "x"}, {"every": 2}]),
)  # fmt: skip
def test_any_bytes_are_a_set_or_wrong_in_one_clean_line(tmp_path, data, name, choices):
    (tmp_path / name).write_bytes(data)
    try:
        prompts, _ = read_prompt_set(tmp_path / name, **choices)
    except (ValueError, TypeError) as error:
        said = str(error)
        assert said.isprintable() and said  # noqa: PT018 - neither empty nor broken
        return
    assert len({one.text for one in prompts}) == len(prompts) > 0
    assert all(one.text.strip() == one.text and one.text and one.number > 0 for one in prompts)
    assert all(one.category is None or (one.category and one.category.isprintable()) for one in prompts)
