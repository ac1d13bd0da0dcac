"""A model of the hub on a machine without a network, or one that the hub does not give: our own line, and no wait."""

import json
import shutil
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch

import ldm
import tiny
from commands import refused
from hostile import hub_in
from noisewright import registry
from noisewright.outside import hub
from noisewright.registry import trust
from noisewright.samplers.load import load_pipeline

PROMPT = "two red circles"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    tiny.sd().save_pretrained(folder)
    return folder


@pytest.fixture
def blocked(monkeypatch):
    """No socket is made: a hub that is asked all the same is a failure that says so."""

    def refuse(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Adds a repository to an empty cache; HF_HUB_OFFLINE is set."""
    (tmp_path / "hub").mkdir()
    return hub_in(tmp_path / "hub", monkeypatch)


def line(function, *args, **kwargs):
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        function(*args, **kwargs)
    assert len(str(caught.value)) < 600
    return str(caught.value)


def image(pipe):
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(3)
    return pipe(PROMPT, num_inference_steps=2, generator=generator, output_type="pt").images


def test_what_the_cache_has_whole_is_loaded_without_a_network(cache, saved, blocked):
    cache("owner/model", saved)
    pipe = load_pipeline("owner/model", "cpu")
    assert pipe.name_or_path == "owner/model"
    assert torch.equal(image(pipe), image(tiny.sd()))


def listed(place, *more):
    """The library's own note of what the repository has, beside what was fetched of it."""
    files = [str(one.relative_to(place)) for one in place.rglob("*") if one.is_file()]
    held = {name: {"size": 1, "blob_id": "0" * 40} for name in (*files, *more)}
    notes = place.parent.parent / "trees"
    notes.mkdir()
    (notes / f"{place.name}.json").write_text(json.dumps({"format_version": 1, "files": held}))


def test_a_repository_of_which_diffusers_left_out_what_it_does_not_need_is_whole(cache, saved, blocked):
    listed(cache("owner/model", saved), "README.md", "unet/diffusion_pytorch_model.bin", "v1.ckpt")
    assert torch.equal(image(load_pipeline("owner/model", "cpu")), image(tiny.sd()))
    assert trust.is_cached("owner/model")
    assert not trust.is_cached("owner/other")
    place = cache("owner/torn", saved)
    listed(place)
    (place / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert "lacks the weights of unet of it" in line(load_pipeline, "owner/torn")


def test_a_verifier_whose_pickles_were_left_out_is_whole(cache, blocked):
    bundled = registry.MODELS / "shapes-clip"
    place = cache("owner/clip", bundled)
    listed(place, "pytorch_model.bin", "tf_model.h5")
    found = registry.make_verifier("clip:owner/clip")
    assert found.fingerprint == registry.make_verifier(f"clip:{bundled}").fingerprint


@pytest.mark.parametrize("offline", [False, True])
def test_a_model_that_is_not_in_the_cache_is_said_how_to_get(offline, cache, blocked, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    why = "HF_HUB_OFFLINE is set" if offline else "https://huggingface.co cannot be reached"
    assert line(load_pipeline, "owner/model") == (
        f"model 'owner/model' could not be loaded: it is not in the hub's cache and {why}; where there is a network: "
        "hf download owner/model --local-dir DIR, then --model DIR"
    )
    assert "--include '*.fp16*'" in line(load_pipeline, "owner/model", variant="fp16")


GONE = {
    "unet/diffusion_pytorch_model.safetensors": "the weights of unet",
    "text_encoder/model.safetensors": "the weights of text_encoder",
    "unet/config.json": "unet/config.json",
    "model_index.json": "model_index.json",
    "tokenizer": "tokenizer/",
    "scheduler": "scheduler/",
}


@pytest.mark.parametrize("gone", GONE)
def test_of_a_model_that_is_there_in_part_what_is_missing_is_named(gone, cache, saved, blocked):
    place = cache("owner/model", saved) / gone
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    said = line(load_pipeline, "owner/model")
    assert f"the hub's cache lacks {GONE[gone]} of it and https://huggingface.co cannot be reached" in said
    assert "hf download owner/model --local-dir DIR" in said


def test_parts_of_weights_that_are_missing_are_named(cache, saved, blocked):
    place = cache("owner/model", saved) / "unet"
    shutil.rmtree(place)
    tiny.sd().unet.save_pretrained(place, max_shard_size="50KB")
    part = sorted(place.glob("*-of-*.safetensors"))[0]
    part.unlink()
    assert f"the hub's cache lacks unet/{part.name} of it" in line(load_pipeline, "owner/model")


def test_a_variant_that_only_the_hub_may_have_is_not_said_to_be_none(cache, saved, blocked):
    cache("owner/model", saved)
    assert "the hub's cache lacks its fp16 weights of it" in line(load_pipeline, "owner/model", variant="fp16")


def test_a_cache_with_one_variant_alone_says_which(cache, saved, blocked):
    place = cache("owner/model", saved)
    for file in place.rglob("*.safetensors"):
        file.unlink()
    tiny.sd().save_pretrained(place, variant="fp16")
    assert "--variant fp16" in line(load_pipeline, "owner/model")
    assert image(load_pipeline("owner/model", "cpu", variant="fp16")).isfinite().all()


def test_a_near_miss_of_a_bundled_model_is_named(cache, blocked):
    assert "did you mean noisewright/shapes, which comes with noisewright?" in line(load_pipeline, "noisewrite/shapes")
    assert "did you mean" not in line(load_pipeline, "stabilityai/sdxl-turbo")


@pytest.mark.parametrize("name", ["a", "a/b/c", "/nowhere/at/all", "./here", "~/there", "a\\b", ""])
def test_what_can_be_no_model_is_told(name, blocked):
    assert "expected a bundled model, a pipeline directory, FILE.safetensors or a hub id" in line(load_pipeline, name)


def test_a_command_says_the_same_line(cache, blocked, capsys):
    said = refused(capsys, ["generate", "a cat", "--model", "owner/model", "--dry-run"])
    assert said == (
        "noisewright: model 'owner/model' could not be loaded: it is not in the hub's cache and "
        "https://huggingface.co cannot be reached; where there is a network: hf download owner/model --local-dir DIR, "
        "then --model DIR\n"
    )


# A single file's configurations


@pytest.mark.slow
def test_a_single_file_looks_for_the_configurations_of_its_kind(cache, saved, tmp_path, blocked):
    file = ldm.save(tiny.sd(), tmp_path / "one.safetensors")
    said = line(load_pipeline, file, "cpu")
    like = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert f"expected --config DIR for {file}" in said
    assert f"it looks like {like}" in said
    assert f"hf download {like} --include '*.json' '*.txt' '*.model' --local-dir DIR" in said
    source = tmp_path / "configs"
    shutil.copytree(saved, source, ignore=shutil.ignore_patterns("*.safetensors"))
    cache(like, source)
    assert torch.equal(image(load_pipeline(file, "cpu")), image(tiny.sd()))
    cache("owner/config", source)
    assert torch.equal(image(load_pipeline(file, "cpu", config="owner/config")), image(tiny.sd()))


# A hub that answers


class Answering(BaseHTTPRequestHandler):
    """A hub of one machine: each repository gives what its name says."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        status, code = 404, "RepoNotFound"
        if "gated" in self.path:
            status, code = 403, "GatedRepo"
        elif "private" in self.path:
            status, code = 401, "RepoNotFound"
        elif "noindex" in self.path:
            status, code = 404, "EntryNotFound"
        elif "broken" in self.path:
            status, code = 500, ""
        body = json.dumps({"error": "secret\nof two lines"}).encode()
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", "no\tsuch thing")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def answering(cache, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    Thread(target=server.serve_forever, daemon=True).start()
    place = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", place)
    files = place + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield place
    server.shutdown()
    server.server_close()


def test_a_repository_that_is_not_there_or_closed_is_told_apart(answering):
    assert "the hub has no such repository, or it is a private one: hf auth login" in line(load_pipeline, "owner/none")
    assert "or it is a private one" in line(load_pipeline, "owner/private")
    said = line(load_pipeline, "owner/gated")
    assert f"accept the terms at {answering}/owner/gated, then hf auth login" in said
    assert "expected a diffusers pipeline (a repository with model_index.json)" in line(load_pipeline, "owner/noindex")


def test_a_near_miss_is_named_where_the_hub_answers_too(answering):
    assert "did you mean noisewright/shapes" in line(load_pipeline, "noisewriht/shapes")


def test_a_hub_that_breaks_is_told_in_one_line(answering, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda *_: None)
    assert line(load_pipeline, "owner/broken").startswith("model 'owner/broken' could not be loaded: the hub did not")


def test_a_hub_out_of_reach_is_not_waited_for(monkeypatch, blocked):
    assert hub.out_of_reach() == "https://huggingface.co cannot be reached"
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert hub.out_of_reach() is None  # a proxy is taken at its word
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert hub.out_of_reach() == "HF_HUB_OFFLINE is set"
