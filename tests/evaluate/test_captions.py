"""Folders of images, their own prompts, and copies by rank."""

import errno
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from noisewright import cli
from noisewright.evaluate import sorting
from noisewright.evaluate.captions import prompt_in, prompt_source
from noisewright.evaluate.folders import images_in
from noisewright.evaluate.graphs import prompt_of_graph
from noisewright.evaluate.population import population
from noisewright.evaluate.scoring import score_files
from noisewright.images.metadata import encode_png
from noisewright.images.reading import read_image
from noisewright.verifiers.pixels import Brightness
from noisewright.verifiers.protocol import as_verifier

SETTINGS = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 8x8"


def grey(path, value=100, size=(4, 4), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value,) * 3).save(path, **options)
    return path


def with_chunks(path, value=100, **chunks):
    info = PngImagePlugin.PngInfo()
    for key, text in chunks.items():
        info.add_itxt(key, text)
    return grey(path, value, pnginfo=info)


def with_exif(path, tags, value=100):
    exif = Image.Exif()
    exif[0x0131] = "a program"  # Pillow leaves out an EXIF without a tag of its own
    for tag, held in tags.items():
        if tag == 0x9286:
            exif.get_ifd(0x8769)[tag] = held
        else:
            exif[tag] = held
    return grey(path, value, exif=exif)


# Folders


def test_every_kind_that_is_read_is_found_in_a_folder(tmp_path):
    names = "a.JPG b.jfif c.jp2 d.tga e.ppm f.qoi g.TIF h.webp i.bmp j.gif k.png l.pcx m.ico"
    for name in names.split():
        kind = {"jfif": "JPEG", "jp2": "JPEG2000", "TIF": "TIFF"}.get(name[2:])
        grey(tmp_path / name, format=kind)
    assert [one.name for one in images_in([tmp_path])] == names.split()
    found, bad = score_files(images_in([tmp_path]), "x", [Brightness()])
    assert (len(found), bad) == (len(names.split()), [])


def test_what_is_skipped_is_said_once(tmp_path, caplog):
    for name in ("a.png", "deep/b.png", "deep/er/c.png", ".hidden.png", ".git/d.png", "more/e.png"):
        grey(tmp_path / name)
    for name in ("notes.txt", "a.txt", "a.caption", "data.parquet", "README", "deep/f.txt", "other.txt", ".DS_Store"):
        (tmp_path / name).write_text("x")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "link").symlink_to("deep")
    assert images_in([tmp_path]) == [tmp_path / "a.png"]
    assert caplog.messages == [
        "11 files skipped: 3 in sub-directories (--recursive reads them), 2 .txt, 1 .parquet, 1 broken link, 1 hidden, "
        "1 link to a directory, ..."
    ]
    caplog.clear()
    found = images_in([tmp_path], recursive=True)
    assert [str(one.relative_to(tmp_path)) for one in found] == ["a.png", "deep/b.png", "deep/er/c.png", "more/e.png"]
    assert caplog.messages[0].startswith("9 files skipped: 3 .txt, ")
    assert len(caplog.messages) == 1
    caplog.clear()
    images_in([tmp_path / "more", tmp_path / "deep" / "er"])
    images_in([tmp_path], quiet=True)
    assert not caplog.messages


def test_loops_of_links_end(tmp_path):
    grey(tmp_path / "a" / "a.png")
    (tmp_path / "a" / "up").symlink_to("..")
    assert images_in([tmp_path], recursive=True) == [tmp_path / "a" / "a.png"]


def test_a_folder_of_nothing_says_what_there_was(tmp_path):
    grey(tmp_path / "deep" / "a.png")
    with pytest.raises(
        ValueError, match=r"expected images in .*, got none; 1 file skipped: 1 in sub-directories \(--rec"
    ):
        images_in([tmp_path])
    with pytest.raises(ValueError, match=r"expected images in .*, got none$"):
        images_in([grey(tmp_path / "empty" / "x.png").unlink() or tmp_path / "empty"])


def test_a_run_below_counts_by_its_own_images(tmp_path):
    for name in ("run/images/a.png", "run/images/b.png", "run/best.png", "run/contact-sheet.png", "loose.png"):
        grey(tmp_path / "all" / name)
    (tmp_path / "all" / "run" / "run.json").write_text("{}")
    names = [str(one.relative_to(tmp_path / "all")) for one in images_in([tmp_path], recursive=True)]
    assert names == ["loose.png", "run/images/a.png", "run/images/b.png"]
    assert population([tmp_path], recursive=True) == [tmp_path / "all" / one for one in ("loose.png", "run/best.png")]
    assert population([tmp_path / "all"]) == [tmp_path / "all" / "run" / "best.png"]


def test_names_of_any_bytes(tmp_path, capsys):
    names = [
        "a b.png",
        "-x.png",
        "[red].png",
        "ü.png",
        "new\nline.png",
        "\x1b[31mred.png",
        b"\xff.png".decode("utf-8", "surrogateescape"),
    ]
    for name in names:
        grey(tmp_path / name)
    given = ["score", str(tmp_path), "--prompt", "x", "--verifier", "brightness"]
    assert cli.main(given) == 0
    out = capsys.readouterr().out
    for shown in ("a b.png", "[red].png", "ü.png", "new\\nline.png", "\\x1b[31mred.png", "\\xff.png"):
        assert shown in out
    assert cli.main([*given, "--json", "--sort-into", str(tmp_path / "sorted")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["file"] for one in found["images"]} == {str(tmp_path / name) for name in names}
    assert len(list((tmp_path / "sorted").iterdir())) == len(names)


# Prompts


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        (f"a cat\nNegative prompt: a dog\n{SETTINGS}", "a cat"),
        (f"a cat\n{SETTINGS}", "a cat"),
        (f"a cat,\non a mat\n{SETTINGS}", "a cat,\non a mat"),
        (f"a cat\r\nNegative prompt: x\r\n{SETTINGS}", "a cat"),
        (f"a cat Negative prompt: a dog {SETTINGS}", "a cat"),
        (f"a cat {SETTINGS}", "a cat"),
        (f"Steps: 3 up a ladder\n{SETTINGS}", "Steps: 3 up a ladder"),
        (f"two Steps: 5 and more\nSteps: 7\n{SETTINGS}", "two Steps: 5 and more\nSteps: 7"),
        (f"a cat\n{SETTINGS}\nTemplate: a __animal__", "a cat"),
        ("a cat", "a cat"),
        ('{"prompt": "a cat", "steps": 3}', "a cat"),
        (f"Negative prompt: a dog\n{SETTINGS}", None),
        (SETTINGS, None),
        ("", None),
        ('{"steps": 3}', None),
    ],
)
def test_the_prompt_of_a1111(tmp_path, text, prompt):
    assert prompt_in({"parameters": text}) == prompt
    assert prompt_in(read_image(with_chunks(tmp_path / "a.png", parameters=text or " "))[1]) == prompt


COMMENT = f"ein Schöner Kater 猫\nNegative prompt: x\n{SETTINGS}"
ENCODED = {
    "utf-16-be": b"UNICODE\0" + COMMENT.encode("utf-16-be"),
    "utf-16-le": b"UNICODE\0" + COMMENT.encode("utf-16-le"),
    "utf-16 with a mark": b"UNICODE\0" + COMMENT.encode("utf-16"),
    "ascii": b"ASCII\0\0\0" + COMMENT.encode(),
    "unnamed": b"\0" * 8 + COMMENT.encode(),
    "bare": COMMENT.encode(),
}


@pytest.mark.parametrize("kind", ["jpg", "webp", "png", "avif"])
@pytest.mark.parametrize("encoding", ENCODED)
def test_the_prompt_in_a_user_comment(tmp_path, kind, encoding):
    path = with_exif(tmp_path / f"a.{kind}", {0x9286: ENCODED[encoding]})
    assert prompt_in(read_image(path)[1]) == "ein Schöner Kater 猫"


@pytest.mark.parametrize("comment", [b"ASCII\0\0\0Screenshot", b"UNICODE\0", b"UNICODE\0\0", b"\xff" * 9, b""])
def test_what_cameras_say_is_no_prompt(tmp_path, comment):
    path = with_exif(tmp_path / "a.jpg", {0x9286: comment, 0x0110: "Camera 7"})
    assert prompt_in(read_image(path)[1]) is None


def test_the_prompt_of_a_gif_s_comment(tmp_path):
    grey(tmp_path / "a.gif", comment=COMMENT.encode())
    assert prompt_in(read_image(tmp_path / "a.gif")[1]) == "ein Schöner Kater 猫"
    grey(tmp_path / "b.gif", comment=b"made with love")
    assert prompt_in(read_image(tmp_path / "b.gif")[1]) is None


def test_the_prompt_of_our_own(tmp_path):
    import numpy as np

    recipe = {"sampler": {"prompt": "zwei Kreise\nSteps: 3", "num_inference_steps": 3, "solver": "ddim", "model": "m"}}
    png = encode_png(np.zeros((4, 4, 3), np.uint8), {**recipe, "versions": {"noisewright": "1"}})
    (tmp_path / "a.png").write_bytes(png)
    assert prompt_in(read_image(tmp_path / "a.png")[1]) == "zwei Kreise\nSteps: 3"


@pytest.mark.parametrize("recipe", ["{", "[]", '{"sampler": 3}', '{"sampler": {"prompt": 3}}', "[" * 10**5])
def test_a_damaged_recipe_is_none(recipe):
    assert prompt_in({"noisewright": recipe}) is None
    assert prompt_in({"noisewright": recipe, "parameters": f"a cat\n{SETTINGS}"}) == "a cat"


def graph(**nodes):
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


ENCODE = "CLIPTextEncode"
SAMPLER = ("KSampler", {"positive": ["p", 0], "negative": ["n", 0], "seed": 3})
NOT = (ENCODE, {"text": "a dog", "clip": ["m", 1]})
GRAPHS = {
    "plain": (graph(s=SAMPLER, p=(ENCODE, {"text": " a cat "}), n=NOT), "a cat"),
    "unconnected text": (graph(s=SAMPLER, p=(ENCODE, {"text": "a cat"}), n=NOT, x=(ENCODE, {"text": "z"})), "a cat"),
    "through a node": (
        graph(s=SAMPLER, n=NOT, p=("ControlNetApply", {"conditioning": ["q", 0]}), q=(ENCODE, {"text": "a cat"})),
        "a cat",
    ),
    "through a pair": (
        graph(
            s=SAMPLER,
            n=NOT,
            q=(ENCODE, {"text": "a cat"}),
            p=("ControlNetApplyAdvanced", {"positive": ["q", 0], "negative": ["n", 0]}),
        ),
        "a cat",
    ),
    "text of a node": (
        graph(s=SAMPLER, n=NOT, p=(ENCODE, {"text": ["t", 0]}), t=("PrimitiveString", {"value": "a cat"})),
        "a cat",
    ),
    "sdxl, both the same": (graph(s=SAMPLER, n=NOT, p=("Xl", {"text_g": "a cat", "text_l": "a cat"})), "a cat"),
    "flux": (
        graph(
            g=("BasicGuider", {"conditioning": ["f", 0]}),
            f=("FluxGuidance", {"conditioning": ["p", 0]}),
            p=(ENCODE, {"text": "a cat"}),
        ),
        "a cat",
    ),
    "two samplers of one text": (graph(s=SAMPLER, r=SAMPLER, n=NOT, p=(ENCODE, {"text": "a cat"})), "a cat"),
    "two texts": (
        graph(
            s=SAMPLER,
            n=NOT,
            p=("Combine", {"conditioning_1": ["a", 0], "conditioning_2": ["b", 0]}),
            a=(ENCODE, {"text": "a cat"}),
            b=(ENCODE, {"text": "a mat"}),
        ),
        None,
    ),
    "sdxl, different": (graph(s=SAMPLER, n=NOT, p=("Xl", {"text_g": "a cat", "text_l": "fur"})), None),
    "one way not understood": (
        graph(
            s=SAMPLER,
            n=NOT,
            p=(ENCODE, {"text": "a cat"}),
            y=("Mystery", {}),
            r=("KSampler", {"positive": ["y", 0], "negative": ["n", 0]}),
        ),
        None,
    ),
    "made by a program": (graph(s=SAMPLER, n=NOT, p=(ENCODE, {"text": ["t", 0]}), t=("Random", {"seed": 3})), None),
    "a loop": (graph(s=SAMPLER, n=NOT, p=("Loop", {"conditioning": ["p", 0]})), None),
    "nothing": ({}, None),
    "no graph": ([1, 2], None),
    "a link to nowhere": (graph(s=SAMPLER), None),
    "odd nodes": ({"1": 3, "2": {"inputs": []}, "3": {"inputs": {"positive": [[], 0], "negative": 1}}}, None),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_prompt_of_comfyui_where_there_is_one(tmp_path, name):
    held, prompt = GRAPHS[name]
    assert prompt_of_graph(held) == prompt
    assert prompt_in(read_image(with_chunks(tmp_path / "a.png", prompt=json.dumps(held)))[1]) == prompt
    path = with_exif(tmp_path / "a.webp", {0x0110: f"prompt:{json.dumps(held)}"})
    assert prompt_in(read_image(path)[1]) == prompt


def test_graphs_of_anything_raise_nothing():
    found = random.Random(0)
    values = [3, None, "a", ["1", 0], ["2", 0], [["1"], 0], {"a": 1}, True, 1e400]
    for _ in range(300):
        keys = ["positive", "negative", "text", "conditioning", "value", "x"]
        inputs = {str(k): {key: found.choice(values) for key in found.sample(keys, 3)} for k in range(4)}
        held = {k: found.choice([{"class_type": "KSampler", "inputs": one}, one, 3]) for k, one in inputs.items()}
        assert prompt_of_graph(held) in (None, "a")


def test_a_text_called_prompt():
    assert prompt_in({"prompt": "a cat"}) == "a cat"
    assert prompt_in({"prompt": "[1"}) is None


def test_sidecars(tmp_path):
    source = prompt_source("sidecar")
    for name, data in {
        "a.txt": b"\xef\xbb\xbf a cat\r\n",
        "b.caption": b"a dog",
        "c.txt": b" \n",
        "d.txt": b"\xff\xfea\0",
    }.items():
        (tmp_path / name).write_bytes(data)
    assert source(tmp_path / "a.png", {}) == "a cat"
    assert source(tmp_path / "b.png", {}) == "a dog"
    os.mkfifo(tmp_path / "f.txt")
    for name, says in {"c": "an empty one", "d": "UTF-16", "e": "beside it", "f": "is a pipe"}.items():
        with pytest.raises(ValueError, match=says):
            source(tmp_path / f"{name}.png", {})


TABLES = {
    "plain.csv": "file,prompt\na.png,a cat\nsub/b.png,a dog\n",
    "hub.csv": 'file_name,text\na.png,"a cat"\nsub/b.png,a dog\n',
    "more.csv": "id,Image,score,Caption\n1,a.png,3,a cat\n2,sub/b.png,4,a dog\n",
    "mark.csv": "\ufefffilename,prompt\r\na.png,a cat\r\nsub/b.png,a dog\r\n",
    "semicolon.csv": "path;prompt\na.png;a cat\nsub/b.png;a dog\n",
    "tabs.tsv": "path\tprompt\na.png\ta cat\nsub/b.png\ta dog\n",
    "dots.csv": "file,prompt\n./a.png,a cat\n\n./sub/../sub/b.png,a dog\na.png,a cat\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_tables(tmp_path, name, monkeypatch):
    (tmp_path / name).write_text(TABLES[name])
    (tmp_path / "sub").mkdir()
    source = prompt_source(str(tmp_path / name))
    assert source(tmp_path / "a.png", {}) == "a cat"
    assert source(tmp_path / "sub" / "b.png", {}) == "a dog"
    monkeypatch.chdir(tmp_path / "sub")
    assert source(Path("b.png"), {}) == "a dog"
    with pytest.raises(ValueError, match=r"expected a row for .*b\.png in"):
        source(tmp_path / "b.png", {})


def test_a_prompt_of_several_lines_and_accents_typed_in_another_way(tmp_path):
    (tmp_path / "a.csv").write_text('file,prompt\nu\u0308.png,"a ""cat"",\non a mat"\nempty.png,\n')
    source = prompt_source(str(tmp_path / "a.csv"))
    assert source(tmp_path / "ü.png", {}) == 'a "cat",\non a mat'
    with pytest.raises(ValueError, match="an empty one"):
        source(tmp_path / "empty.png", {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected a column .*got an empty file"),
        ("a,b\n1,2\n", "expected a column .*, got a, b"),
        ("file,x\n1,2\n", "expected a column prompt, caption or text"),
        ("file,prompt\na.png,a cat, on a mat\n", "expected 2 cells in line 2 .*, got 3: a prompt with commas"),
        ("file,prompt\na.png\n", "expected 2 cells in line 2 .*, got 1"),
        ("file,prompt\na.png,x\na.png,y\n", r"expected one prompt for a.png .*, got two \(line 3\)"),
        ('file,prompt\na.png,"x\n', "got line 2"),
        ("file,prompt\na.png," + "x" * 200_000, "got line 2: field larger"),
        ("file,prompt\na.png,a\0b", "expected text in UTF-8"),
    ],
)
def test_tables_that_are_none_are_refused_in_one_line(tmp_path, text, says):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=says) as caught:
        prompt_source(str(tmp_path / "a.csv"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["", "meta", "prompts.json", "gone.csv"])
def test_other_sources_are_refused(given):
    with pytest.raises(ValueError, match="expected "):
        prompt_source(given)


# The command


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value, prompt in (("dark", 10, "night"), ("mid", 100, "day"), ("light", 200, "night"), ("lost", 90, "")):
        with_chunks(tmp_path / "in" / f"{name}.png", value, parameters=f"{prompt}\n{SETTINGS}")
        os.utime(tmp_path / "in" / f"{name}.png", (10**9, 10**9))
    return tmp_path


SCORE = ["score", "in", "--verifier", "brightness"]


def test_each_image_is_asked_with_its_own_prompt(folder, monkeypatch):
    asked = []

    class Asked(Brightness):
        def __call__(self, images, prompt):
            asked.append((prompt, len(images)))
            return super().__call__(images, prompt)

    found, bad = score_files(images_in([folder / "in"]), prompt_source("metadata"), [Asked()])
    assert sorted(asked) == [("day", 1), ("night", 2)]
    assert [(one["file"][-8:], one["prompt"], one["rank"], one["prompt_rank"]) for one in found] == [
        ("ight.png", "night", 1, 1), ("/mid.png", "day", 2, 1), ("dark.png", "night", 3, 2),
    ]  # fmt: skip
    assert len(bad) == 1
    assert "lost.png" in bad[0]


def test_prompts_from_metadata_on_the_command_line(folder, capsys):
    assert cli.main([*SCORE, "--prompt-from", "metadata", "--json"]) == 2
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["prompt"] is None
    assert [one["prompt"] for one in found["images"]] == ["night", "day", "night"]
    assert "lost.png" in found["errors"][0]
    assert err.count("\n") == 1
    assert cli.main([*SCORE, "--prompt-from", "metadata"]) == 2
    assert "night" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--prompt", "x", "--prompt-from", "metadata"], "expected --prompt or --prompt-from, got both"),
        ([], "expected --prompt or --prompt-from, got neither"),
        (["--prompt-from", "sidecars"], "expected metadata, sidecar or a file .csv or .tsv"),
        (["--prompt-from", "gone.csv"], "gone.csv, which does not exist"),
        (["--prompt-from", "sidecar"], "expected a prompt of in/dark.png beside it (dark.txt), got none; "),
        (["--prompt", "x", "--sort-into", "in"], "expected a new or empty directory to sort into, got in, which holds"),
        (["--prompt", "x", "--sort-into", "in/dark.png"], "expected a new or empty directory"),
        (["--prompt", "x", "--sort-into", "in/dark.png/x"], "expected a new or empty directory"),
    ],
)
def test_wrong_use_is_one_line_before_anything_is_scored(folder, capsys, monkeypatch, more, says):
    monkeypatch.setattr(Brightness, "__call__", lambda self, images, prompt: pytest.fail("it was asked"))
    before = sorted(folder.rglob("*"))
    assert cli.main([*SCORE, *more]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert says in err
    assert err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def test_copies_by_rank(folder, capsys):
    assert cli.main([*SCORE, "--prompt-from", "metadata", "--sort-into", "new/out", "--json"]) == 2
    out, err = capsys.readouterr()
    found = json.loads(out)
    names = ["0001_light.png", "0002_mid.png", "0003_dark.png"]
    assert sorted(one.name for one in (folder / "new" / "out").iterdir()) == names
    assert [one["copy"] for one in found["images"]] == [f"new/out/{name}" for name in names]
    assert found["sorted_into"] == "new/out"
    for one in found["images"]:
        assert (folder / one["copy"]).read_bytes() == (folder / one["file"]).read_bytes()
        assert (folder / one["copy"]).stat().st_mtime == 10**9
    assert "3 images copied into new/out, 1 without a score left out" in err


@pytest.mark.parametrize(("top", "copied"), [("1", 1), ("2", 2), ("9", 4)])
def test_the_best_alone_are_copied(folder, capsys, top, copied):
    assert cli.main([*SCORE, "--prompt", "x", "--copy-to", "best", "--top", top, "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    names = ["0001_light.png", "0002_mid.png", "0003_lost.png", "0004_dark.png"]
    assert sorted(one.name for one in (folder / "best").iterdir()) == names[:copied]
    assert [one["copy"] and one["copy"].removeprefix("best/") for one in found["images"]] == [
        *names[:copied], *[None] * (4 - copied)
    ]  # fmt: skip
    assert found["copied_to"] == found["sorted_into"] == "best"
    assert [one["value"] for one in found["images"]] == [one["scores"]["brightness"] for one in found["images"]]
    assert ("4 images copied" if copied == 4 else f"the best {copied} of 4 images copied into best") in err


def test_how_many_are_copied_needs_a_place(folder, capsys):
    assert cli.main([*SCORE, "--prompt", "x", "--top", "2"]) == 2
    assert "expected --copy-to with --top" in capsys.readouterr().err
    assert cli.main([*SCORE, "--prompt", "x", "--copy-to", "best", "--top", "0"]) == 2
    assert not (folder / "best").exists()


def test_an_ensemble_of_files_says_what_its_value_is(folder, capsys):
    assert cli.main([*SCORE, "--prompt", "x", "--verifier", "sharpness"]) == 0
    assert capsys.readouterr().out.split()[:4] == ["mean", "rank", "brightness", "sharpness"]


def test_an_empty_directory_and_a_link_to_one_are_taken(folder, capsys):
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("empty")
    assert cli.main([*SCORE, "--prompt", "x", "--sort-into", "link"]) == 0
    assert len(list((folder / "empty").iterdir())) == 4
    assert cli.main([*SCORE, "--prompt", "x", "--sort-into", "empty"]) == 2


def test_names_that_are_alike_long_or_many(tmp_path):
    files = [grey(tmp_path / "a" / "x.png"), grey(tmp_path / "b" / "x.png"), grey(tmp_path / ("ü" * 125 + ".png"))]
    found = [{"file": str(one), "rank": place} for place, one in enumerate(files, 1)]
    found += [{"file": str(files[0]), "rank": None}] * 9999
    assert sorting.claim(tmp_path / "out")
    assert sorting.copy_by_rank(found, tmp_path / "out") is None
    names = sorted(one.name for one in (tmp_path / "out").iterdir())
    assert names == ["00001_x.png", "00002_x.png", "00003_" + "ü" * 122 + ".png"]


def test_a_verifier_that_changes_the_directory_moves_no_file(folder):
    def wanders(images, prompt):
        os.chdir("/")
        return images.mean((1, 2, 3))

    sorting.claim(Path("out"))
    found, bad = score_files(images_in([Path("in")]), lambda path, info: path.stem, [as_verifier(wanders)])
    assert (len(found), bad) == (4, [])
    assert sorting.copy_by_rank(found, Path("out")) is None
    assert len(list((folder / "out").iterdir())) == 4


def test_a_verifier_that_takes_its_directory_away_loses_no_score(folder):
    def vanishes(images, prompt):
        Path("gone").mkdir()
        os.chdir("gone")
        os.rmdir(os.getcwd())
        return images.mean((1, 2, 3))

    here = os.getcwd()
    found, bad = score_files(images_in([Path("in")]), "a", [as_verifier(vanishes)])
    assert (len(found), bad, os.getcwd()) == (4, [], here)


@pytest.mark.parametrize("header", ["file,prompt,prompt", "file,Prompt,prompt ", "prompt,file,file"])
def test_a_table_with_a_column_twice_is_refused(tmp_path, header):
    table = tmp_path / "t.csv"
    table.write_text(f"{header}\na.png,b,c\n")
    with pytest.raises(ValueError, match=r"expected one column (file|prompt) in .*, got 2"):
        prompt_source(str(table))


def test_a_full_disk_loses_no_score_and_leaves_no_part(folder, capsys, monkeypatch):
    real = sorting.shutil.copyfileobj
    copied = []

    def full(source, target):
        if len(copied) == 2:
            target.write(b"x")
            raise OSError(errno.ENOSPC, "No space left on device")
        copied.append(real(source, target))

    monkeypatch.setattr(sorting.shutil, "copyfileobj", full)
    assert cli.main([*SCORE, "--prompt", "x", "--sort-into", "out", "--json"]) == 1
    out, err = capsys.readouterr()
    found = json.loads(out)["images"]
    assert [one["copy"] is None for one in found] == [False, False, True, True]
    assert len(list((folder / "out").iterdir())) == 2
    assert "only 2 of 4 images copied into out: No space left on device" in err


def test_nothing_is_written_over(folder):
    sorting.claim(folder / "out")
    (folder / "out" / "0002_mid.png").write_text("mine")
    found = [{"file": str(folder / "in" / f"{name}.png"), "rank": place} for place, name in ((1, "light"), (2, "mid"))]
    assert sorting.copy_by_rank(found, folder / "out").errno == errno.EEXIST
    assert (folder / "out" / "0002_mid.png").read_text() == "mine"


def test_a_search_for_scores_that_fails_leaves_no_directory(folder, capsys):
    assert cli.main(["score", "in", "--verifier", "brightnes", "--prompt", "x", "--sort-into", "out"]) == 2
    assert not (folder / "out").exists()


def test_score_and_evaluate_read_what_is_below(folder, capsys):
    grey(folder / "in" / "below" / "x.png")
    assert cli.main([*SCORE, "--prompt", "x", "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)["images"]) == 4
    assert err == "noisewright: warning: 1 file skipped: 1 in sub-directories (--recursive reads them)\n"
    assert cli.main([*SCORE, "--prompt", "x", "--json", "--recursive"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)["images"]) == 5
    assert not err


@pytest.mark.slow
def test_the_process_ends_with_the_exit_code():
    for given, code in ((["list", "nothing"], 2), (["--version"], 0)):
        assert subprocess.run([sys.executable, "-m", "noisewright", *given], capture_output=True).returncode == code
