"""Data names nothing that a person did not type: cards, run directories and recipes import nothing and call nobody."""

import json
import os
import shutil

import pytest

from commands import refused
from hostile import code, edit, with_code, with_recipe
from loopback import Reply, serving
from noisewright import cli, registry
from noisewright.evaluate.population import population
from noisewright.outside.inside import inside
from noisewright.registry import plugins, trust
from noisewright.registry.builtins import ENTRIES, Entry
from noisewright.run import journal
from noisewright.run.digests import digest_of
from noisewright.run.reading import read_journal
from noisewright.run.store import Store
from noisewright.samplers.load import load_pipeline

# Cards

NAMES = [
    "{dir}/look.py:score", "look.py:score", "./look.py:score", "clip:look.py:score", "brightness:{dir}/look.py:score",
    "LOOK.PY:score", "vlm:http://127.0.0.1:{port}/v1#m", "vlm:gpt-4o-mini", "vlm:{dir}", "vqa:http://127.0.0.1:{port}",
    "http://127.0.0.1:{port}/", "http:127.0.0.1:{port}", "https://127.0.0.1:{port}/", "HTTP://127.0.0.1:{port}/",
    " http://127.0.0.1:{port}/", "http://127.0.0.1:{port}/ ", "vlm", "http:",
    "clip:http://127.0.0.1:{port}/",
    "clip:{dir}", "clip:.", "clip:../model", "clip:owner/name", "clip:noisewright/../shapes-clip",
    "clip:noisewright/..",
    "clip:noisewright/../../x", "clip:noisewright/.", "clip:noisewright//shapes-clip", "clip:noisewright/shapes-clip/",
    "clip:noisewright\\..\\x", "clip:noisewright/shapes-clip,processor={dir}", "shapes-clip:processor=owner/name",
    "clip:model={dir}", "clip:noisewright/shapes-clip,model={dir}", "clip-classifier:labels={dir}/labels.txt",
    "classifier:noisewright/cifar10-judge,device=meta", "fid:noisewright/cifar10-classifier,reference={dir}/x",
    "fid:start={dir}/x", "aesthetic:head={dir}/x", "aesthetic:{dir}", "brightness:{dir}", "self-similarity:{dir}",
    "inception-score:{dir}", "hps:{dir},version=2.0", "brightness\n", "brightness\x1b[31m",
]  # fmt: skip


def taking_turns(first=0):
    """Every name, as a verifier or as a judge in turn; with ``first`` the other way round, in another test."""
    return [(name, ("verifier", "judge")[(n + first) % 2]) for n, name in enumerate(NAMES)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "key"), taking_turns())
def test_a_card_names_only_what_is_registered_and_in_the_package(
    name, key, model, marker, port, capsys, monkeypatch, tmp_path
):
    number, called = port
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{number}/v1")
    monkeypatch.chdir(tmp_path)
    for place in (tmp_path, model):
        (place / "look.py").write_text(code(marker))
    (model / "labels.txt").write_text("cat\ndog\n")
    text = name.format(dir=model, port=number)
    card = {"verifier": "sharpness", "judge": [], key: [text] if key == "judge" else text}
    (model / "noisewright.json").write_text(json.dumps(card))
    err = refused(capsys, ["generate", "a cat", "--model", model, "--dry-run"])
    assert "expected" in err
    assert not marker.exists()
    assert not called()
    if name.endswith("look.py:score") and name[0] in ".{":
        assert "card" in err
        assert f"type --{key} {text}" in err
        (model / "noisewright.json").write_text(json.dumps({"verifier": text}))
        assert cli.main(["generate", "a cat", "--model", str(model), "--dry-run", "--verifier", text]) == 0
        assert marker.exists()


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", NAMES)
def test_python_resolves_a_card_alike(name, model, marker, port, monkeypatch):
    from noisewright.api import planned

    number, called = port
    monkeypatch.chdir(model)
    (model / "look.py").write_text(code(marker))
    (model / "noisewright.json").write_text(json.dumps({"verifier": [name.format(dir=model, port=number)]}))
    with pytest.raises(ValueError, match="expected"):
        planned(load_pipeline(model, device="cpu"), "a cat")
    assert not marker.exists()
    assert not called()


@pytest.mark.slow
@pytest.mark.parametrize(
    "card",
    [
        {"verifier": "clip:noisewright/shapes-clip,processor=noisewright/shapes-clip,name=mine"},
        {"verifier": ["brightness", "compressibility:80", "color:#ff8000"], "judge": "shapes-clip"},
        {"verifier": "brightness", "judge": ["sharpness"], "default": {"num_inference_steps": 3}, "words": ["a"]},
        {"verifier": None, "judge": None, "labels": {"cat": 0}, "default": {"guidance_scale": None}},
    ],
)
def test_cards_of_the_package_kind_go_on_working(card, model, capsys):
    (model / "noisewright.json").write_text(json.dumps({"verifier": "brightness", **card} | (
        {"verifier": "brightness"} if card["verifier"] is None else {}
    )))  # fmt: skip
    assert cli.main(["generate", "a cat", "--model", str(model), "--dry-run", "--steps", "2", "--json"]) == 0


def test_a_folder_called_noisewright_stands_in_for_nothing_of_the_package(tmp_path, monkeypatch):
    from noisewright.verifiers.weights import CONFIG, files_of

    (tmp_path / "noisewright" / "shapes-clip").mkdir(parents=True)
    (tmp_path / "noisewright" / "shapes-clip" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert files_of("noisewright/shapes-clip", [CONFIG], "") == registry.MODELS / "shapes-clip"
    assert registry.bundled("noisewright/..") is None
    assert registry.bundled("noisewright/.") is None


@pytest.mark.sampled(8)
@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", '"x"', "null", "5", "\x00", '{"name": 5}', '{"verifier": 5}', '{"verifier": {"a": 1}}',
        '{"judge": [5]}', '{"judge": [["clip"]]}', '{"default": []}', '{"default": {"num_inference_steps": "9"}}',
        '{"default": {"num_inference_steps": 0}}', '{"default": {"num_inference_steps": true}}',
        '{"default": {"num_inference_steps": 1e99}}', '{"default": {"guidance_scale": NaN}}',
        '{"default": {"guidance_scale": Infinity}}', '{"default": {"guidance_scale": "4"}}', '{"words": "a cat"}',
        '{"words": [1]}', '{"words": {"a": 1}}', '{"labels": 5}', '{"labels": {"a": "b"}}', '{"labels": [null]}',
        '{"name": "a\\u001b[2J"}', '{"words": ["a\\nb"]}', '{"name": "%s"}' % ("x" * 10**4),
        "[" * 10**5, '{"words": %s}' % ("[" * 3000 + "]" * 3000), '{"version": %s}' % ("9" * 5000),
        '{"words": ["%s"]}' % ("x" * 3 * 10**6),
    ],
)  # fmt: skip
def test_a_card_is_read_through_one_schema(text, model, capsys):
    (model / "noisewright.json").write_text(text)
    err = refused(capsys, ["generate", "a cat", "--model", model, "--dry-run"], "noisewright.json")
    assert len(err) < 700


@pytest.mark.slow
def test_unknown_keys_of_a_card_are_said_once(model, capsys):
    (model / "noisewright.json").write_text(json.dumps({"verifier": "brightness", "verfier": "x", "\x1b[2J": 1}))
    capsys.readouterr()
    assert cli.main(["generate", "a cat", "--model", str(model), "--dry-run", "--steps", "2"]) == 0
    err = capsys.readouterr().err
    assert err.count("verfier") == 1
    assert "\x1b" not in err


def test_bundled_cards_pass():
    for name in registry.names("model"):
        info = registry.card(registry.bundled(name))
        assert trust.of_card(info, "verifier", name)
        assert trust.of_card(info, "judge", name)
        assert info["name"] == name


def test_every_verifier_of_the_package_is_either_listed_or_asks_somebody():
    there = {one.name for one in ENTRIES if one.kind == "verifier"}
    assert there - set(trust.PLACES) == {"vlm", "vqa", "http", "https", "human"}
    assert set(trust.PLACES) <= there


def test_a_plug_in_may_be_named_but_not_told_anything(monkeypatch):
    plug = Entry("verifier", "darkness", "", "x:y")
    monkeypatch.setattr(plugins, "entries", lambda: (*ENTRIES, plug))
    trust.check_verifier("darkness", local=False)
    for text in ("darkness:x", "darkness:name=x", "darkness:url=http://x"):
        with pytest.raises(ValueError, match="plug-in"):
            trust.check_verifier(text, local=True)


# Run directories

REQUEST = ["two red circles", "--budget", "2 images", "--steps", "1"]
REQUEST += ["--verifier", "brightness", "--judge", "sharpness"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the bundled model, to be copied."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert cli.main(["generate", *REQUEST, "--out", str(folder), "--json"]) == 0
    return folder


@pytest.fixture
def run(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def asked(run, **changes):
    """Write other settings into run.json, as whoever sent the directory may."""
    edit(run / "run.json", lambda held: held["request"].update(changes))
    edit(run / "run.json", lambda held: held.update(status="interrupted"))


@pytest.mark.sampled(23)
@pytest.mark.parametrize(("name", "key"), taking_turns(1))
def test_a_run_directory_imports_nothing_and_calls_nobody(name, key, run, marker, port, capsys, monkeypatch, tmp_path):
    number, called = port
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{number}/v1")
    monkeypatch.chdir(tmp_path)
    for place in (tmp_path, run):
        (place / "look.py").write_text(code(marker))
    text = name.format(dir=run, port=number)
    asked(run, **{key: [text]})
    before = (run / "run.json").read_bytes()
    err = refused(capsys, ["resume", run, "--budget", "3 images"])
    assert not marker.exists()
    assert not called()
    assert (run / "run.json").read_bytes() == before
    if text.startswith(("look.py", "http:", "vlm", "https:")) and text.isprintable() and text != "http:":
        assert "--trust" in err
        assert text in err


@pytest.mark.slow
def test_with_trust_the_file_is_imported(run, marker, capsys, tmp_path):
    (tmp_path / "look.py").write_text(code(marker))
    asked(run, judge=[f"{tmp_path / 'look.py'}:score"])
    assert cli.main(["resume", str(run), "--budget", "3 images", "--trust", "--json"]) == 0
    assert marker.exists()


@pytest.mark.slow
def test_with_trust_the_server_is_called(run, capsys):
    with serving(lambda seen, number: Reply({"scores": [1.0] * len(seen.body["images"])})) as server:
        asked(run, judge=[f"http:{server.url.removeprefix('http:')}/"])
        refused(capsys, ["resume", run, "--budget", "3 images"], "--trust", server.url.removeprefix("http:"))
        assert not server.seen
        assert cli.main(["resume", str(run), "--budget", "3 images", "--trust", "--json"]) == 0
        assert server.seen


@pytest.mark.slow
def test_a_run_without_a_judge_goes_on(run):
    asked(run, judge=["none"])
    assert cli.main(["resume", str(run), "--budget", "3 images", "--json"]) == 0


@pytest.mark.slow
def test_scores_are_written_only_where_a_person_says(run, capsys, tmp_path):
    asked(run, score_cache=str(tmp_path / "elsewhere"))
    refused(capsys, ["resume", run, "--budget", "3 images"], "--trust", "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
    assert cli.main(["resume", str(run), "--budget", "3 images", "--trust", "--json"]) == 0
    assert (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["journal.jsonl", "images", "states", "best.png", "curve.png", "contact-sheet.png"])
def test_a_run_directory_writes_nothing_elsewhere(name, run, capsys, tmp_path):
    outside = tmp_path / "outside"
    place = run / name
    if place.is_dir():
        shutil.copytree(place, outside)
        shutil.rmtree(place)
    else:
        outside.write_text("precious")  # no newline: a torn line of a journal
        place.unlink()
    place.symlink_to(outside)
    held = sorted(outside.iterdir()) if outside.is_dir() else outside.read_text()
    edit(run / "run.json", lambda one: one.update(status="interrupted"))
    refused(capsys, ["resume", run, "--budget", "3 images"], "--trust", name)
    assert (sorted(outside.iterdir()) if outside.is_dir() else outside.read_text()) == held


def test_a_run_may_say_where_a_verifier_computes_but_no_card():
    trust.check_verifier("clip:noisewright/shapes-clip,device=cpu", local=True)
    with pytest.raises(trust.Untrusted, match="where it computes"):
        trust.check_verifier("clip:noisewright/shapes-clip,device=cpu", local=False)


def test_no_journal_elsewhere_is_mended(run, tmp_path):
    (tmp_path / "outside").write_text("precious")
    (run / "journal.jsonl").unlink()
    (run / "journal.jsonl").symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match="inside"):
        Store.open(run)
    assert (tmp_path / "outside").read_text() == "precious"


@pytest.mark.parametrize(
    ("model_name", "part"),
    [
        ("owner/never-seen", "--trust"), ("https://example.com/x", "asks a server"), ("../nowhere/at/all", "expected"),
        ("a\x1b[2J", "expected"), (5, ""), (None, ""), ("noisewright/..", "expected"),
    ],
)  # fmt: skip
def test_a_run_directory_downloads_no_model(model_name, part, run, capsys, hub):
    asked(run, model=model_name)
    err = refused(capsys, ["resume", run, "--budget", "3 images"], part)
    assert "\x1b" not in err


@pytest.mark.slow
def test_a_local_model_needs_no_trust_and_a_hostile_one_is_refused_all_the_same(model, marker, capsys, tmp_path):
    given = ["generate", "a cat", "--model", str(model), "--verifier", "brightness", "--steps", "2", "--budget", "2"]
    assert cli.main([*given, "--out", str(tmp_path / "run"), "--json"]) == 0
    assert cli.main(["resume", str(tmp_path / "run"), "--budget", "3", "--json"]) == 0
    with_code(model, marker)
    for more in ([], ["--trust"]):
        refused(capsys, ["resume", tmp_path / "run", "--budget", "4", *more], "never run")
    assert not marker.exists()


def test_strange_settings_reach_no_pipeline(run, capsys):
    for key in ("callback_on_step_end", "pipe", "trust", "__class__"):
        edit(run / "run.json", lambda held, key=key: held["request"].update({key: "x"}))
        refused(capsys, ["resume", run, "--budget", "3 images"], key)
        edit(run / "run.json", lambda held, key=key: held["request"].pop(key))


def test_show_reads_and_does_nothing_more(run, marker, port, capsys, tmp_path):
    number, called = port
    (tmp_path / "look.py").write_text(code(marker))
    asked(run, verifier=[f"{tmp_path / 'look.py'}:score"], judge=[f"http://127.0.0.1:{number}/"], model="owner/evil")
    for more in ([], ["--json"]):
        assert cli.main(["show", str(run), *more]) == 0
    assert not marker.exists()
    assert not called()


# Recipes


def first_image(run):
    line = next(one for one in read_journal(run) if one["verb"] == "finish")
    return line["ids"][0], line["files"][0]


OUTSIDE = ["../secret.png", "{tmp}/secret.png", "images/../../secret.png", "images/link.png", "folder/secret.png",
           "pipe", "..\\secret.png", "C:\\secret.png", "", ".", "images", "a\0b", "x" * 5000]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_files_of_a_run_are_held_inside_it(name, run, capsys, tmp_path):
    key, file = first_image(run)
    shutil.copy(run / file, tmp_path / "secret.png")
    (run / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    (run / "folder").symlink_to(tmp_path)
    os.mkfifo(run / "pipe")
    name = name.format(tmp=tmp_path)
    lines = json.loads(json.dumps(read_journal(run)).replace(json.dumps(file), json.dumps(name)))
    (run / "journal.jsonl").write_bytes(b"".join(journal.seal(one) for one in lines))  # as good as written by us
    refused(capsys, ["replay", f"{run}:{key}"], "expected")
    store = Store.open(run)
    pixels = next(one["pixels"][0] for one in lines if one["verb"] == "finish")
    assert not store.holds(name, pixels)
    assert not store.holds(name, pixels, digest_of((tmp_path / "secret.png").read_bytes()))
    assert store.image(name, pixels) is None
    store.close()
    if name not in (".", "images"):
        with pytest.raises(ValueError, match="inside"):
            inside(run, name)


@pytest.mark.parametrize("of", ["best", "baseline"])
def test_the_best_of_a_run_is_in_it(of, run, capsys, tmp_path):
    shutil.move(run / f"{of}.png", tmp_path / "moved.png")
    (run / f"{of}.png").symlink_to(tmp_path / "moved.png")
    refused(capsys, ["replay", f"{run}:{of}"], "inside")
    with pytest.raises(ValueError, match="inside"):
        population([run], of)


def test_an_image_of_a_run_is_in_it(run, tmp_path):
    _, file = first_image(run)
    shutil.move(run / file, tmp_path / "moved.png")
    (run / file).symlink_to(tmp_path / "moved.png")
    with pytest.raises(ValueError, match="inside"):
        population([run], "all")


def test_a_file_inside_is_found_however_the_run_is_reached(run, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(run)
    _, file = first_image(run)
    monkeypatch.chdir(tmp_path)
    for root in (run, tmp_path / "link", "link", "run/../link"):
        assert inside(root, file).is_file()
    (run / "images" / "again.png").symlink_to(run / file)
    assert inside(run, "images/again.png").is_file()
    assert inside(run, "images/none.png").name == "none.png"


def test_a_recipe_downloads_no_model(run, capsys, hub, tmp_path):
    file = with_recipe(run / "best.png", tmp_path / "sent.png", lambda one: one["sampler"].update(model="owner/evil"))
    refused(capsys, ["replay", file], "--trust", "owner/evil")
    refused(capsys, ["replay", file, "--trust"], "could not be loaded")


def test_a_recipes_model_runs_no_code(model, run, marker, capsys, tmp_path):
    with_code(model, marker)
    file = with_recipe(run / "best.png", tmp_path / "sent.png", lambda one: one["sampler"].update(model=str(model)))
    for more in ([], ["--trust"]):
        refused(capsys, ["replay", file, *more], "never run")
    assert not marker.exists()


@pytest.mark.parametrize("key", ["latents", "generator", "output_type", "return_dict", "callback_on_step_end"])
def test_a_recipe_sets_nothing_that_noisewright_sets(key, run, capsys, tmp_path):
    file = with_recipe(run / "best.png", tmp_path / "sent.png", lambda one: one["sampler"].update({key: "x"}))
    refused(capsys, ["replay", file], key)
