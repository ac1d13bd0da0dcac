"""Options that say how a model is loaded and called: what each kind of mistake is answered with."""

import json

import pytest

import tiny
from noisewright import cli


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny.sd().save_pretrained(path, safe_serialization=True)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("text.safetensors", "lora.bin", "a:b.safetensors", "text.txt"):
        (tmp_path / name).write_text("no weights")
    return tmp_path


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (["--pipeline-arg", "clip_skip"], ["NAME=JSON", "'clip_skip'"]),
        (["--pipeline-arg", "=1"], ["NAME=JSON"]),
        (["--pipeline-arg", "clip_skip=one"], ["NAME=JSON", "stands in quotes"]),
        (["--pipeline-arg", "clip_skip="], ["NAME=JSON"]),
        (["--pipeline-arg", "clip_skip={1:2}"], ["NAME=JSON"]),
        (["--pipeline-arg", "clip_skip=" + "[" * 200], ["NAME=JSON"]),
        (["--pipeline-arg", "clip_skip=" + "9" * 5000], ["NAME=JSON"]),
        (["--pipeline-arg", "clip_skp=1"], ["takes no clip_skp", "did you mean clip_skip?"]),
        (["--pipeline-arg", "clip_skip=1", "--pipeline-arg", "clip-skip=2"], ["one --pipeline-arg clip_skip, got two"]),
        (["--pipeline-arg", "clip_skip=NaN"], ["clip_skip"]),
        (["--pipeline-arg", "guidance_rescale=NaN"], ["finite numbers", "--pipeline-arg guidance_rescale"]),
        (["--pipeline-arg", "guidance_rescale=-1e400"], ["finite numbers"]),
        (["--pipeline-arg", 'guidance_rescale={"$tensor": [1]}'], ["do not begin with $", "'$tensor'"]),
        (["--pipeline-arg", 'cross_attention_kwargs={"a": [{"$x": 1}]}'], ["do not begin with $", "'$x'"]),
        (["--pipeline-arg", 'out="x"'], ["takes no out, which is an argument of the search"]),
        (["--pipeline-arg", "kwargs={}"], ["takes no kwargs"]),
        (["--pipeline-arg", "cross_attention_kwargs=3"], ["cross_attention_kwargs"]),
        (["--pipeline-arg", "guidance_scale=3"], ["guidance_scale as a setting of its own"]),
        (["--pipeline-arg", "seed=3"], ["seed as a setting of its own"]),
        (["--pipeline-arg", "latents=[1]"], ["no latents", "sets itself"]),
        (["--pipeline-arg", "generator=1"], ["no generator", "sets itself"]),
        (["--pipeline-arg", "output_type=\"pt\""], ["no output_type", "sets itself"]),
        (["--pipeline-arg", "callback_on_step_end=1"], ["callback_on_step_end as a function", "nw.search("]),
        (["--pipeline-arg", "num_videos_per_prompt=2"], ["no num_videos_per_prompt", "sets itself"]),
        (["--pipeline-arg", "frames=2"], ["frames as a setting of its own"]),
        (["--frames", "frist"], ["first, middle, last or a number in [1, 32] as frames", "'frist'"]),
        (["--frames", "0"], ["in [1, 32] as frames", "got 0"]),
        (["--frames", "33"], ["in [1, 32] as frames", "got 33"]),
        (["--frames", "-1"], ["in [1, 32] as frames", "'-1'"]),
        (["--frames", "2.5"], ["in [1, 32] as frames", "'2.5'"]),
        (["--frames", "9" * 5000], ["in [1, 32] as frames", "'999"]),
        (["--frames", ""], ["in [1, 32] as frames", "''"]),
        (["--frames", "4"], ["no frames of StableDiffusionPipeline, which gives images, got 4"]),
        (["--lora", "nowhere.safetensors"], ["nowhere.safetensors", "not there"]),
        (["--lora", "nowhere.safetensors:0.5"], ["'nowhere.safetensors'", "not there"]),
        (["--lora", "text.safetensors:much"], ["text.safetensors:much", "FILE.safetensors[:WEIGHT]"]),
        (["--lora", "text.safetensors:nan"], ["finite weight"]),
        (["--lora", "text.safetensors:inf"], ["finite weight"]),
        (["--lora", "text.safetensors"], ["text.safetensors"]),
        (["--lora", "a:b.safetensors:2"], ["a:b.safetensors"]),
        (["--lora", "lora.bin"], ["lora.bin", "are safetensors"]),
        (["--lora", ""], ["path"]),
        (["--lora", "."], ["not there"]),
        (["--variant", "fp8"], ["fp8"]),
        (["--variant", "../x"], ["as variant"]),
        (["--variant", ""], ["as variant"]),
        (["--config", "nowhere"], ["nowhere"]),
        (["--config", "text.txt"], ["text.txt"]),
        (["--executor", "ray:workers=0"], ["expected workers in [1, 1024], got 0"]),
        (["--executor", "ray:workers=many"], ["option workers of executor ray", "'many'"]),
        (["--executor", "ray:wrkers=2"], ["did you mean workers?"]),
        (["--executor", "ray", "--workers", "0"], ["--workers"]),
        (["--executor", "ray", "--gpus-per-worker", "nan"], ["--gpus-per-worker"]),
        (["--executor", "ray", "--gpus-per-worker", "1.5"], ["gpus_per_worker as a whole number, got 1.5"]),
        (["--executor", "ray:workers=2,workers=3"], ["expected one workers=, got several"]),
        (["--workers", "2"], ["expected --workers with --executor ray", "local"]),
        (["--executor", "local:somewhere"], ["executor local takes no address, got 'somewhere'"]),
        (["--executor", "local:workers=2"], ["executor local takes no options, got 'workers'"]),
        (["--executor", "locl"], ["unknown executor 'locl'", "did you mean local?"]),
        (["--executor", ""], ["executor"]),
        (["--keep", "0"], ["--keep"]),
        (["--keep", "all"], ["--keep"]),
        (["--keep", "999999"], ["keep of at most"]),
        (["--model", "text.safetensors"], ["text.safetensors"]),
        (["--model", "text.txt"], ["text.txt"]),
        (["--model", "nowhere.safetensors"], ["nowhere.safetensors"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_mistakes_are_one_line_and_cost_nothing(model, here, capsys, more, parts):
    capsys.readouterr()
    given = ["generate", "a cat", "--model", str(model), "--verifier", "brightness", "--steps", "2", "--budget", "2"]
    assert cli.main([*given, *more, "--out", "run"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("noisewright: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
    assert len(err) < 700
    assert not (here / "run").exists()


@pytest.mark.slow
def test_arguments_of_the_pipeline_are_passed_and_recorded(model, here, capsys):
    given = ["generate", "a cat", "--model", str(model), "--verifier", "brightness", "--steps", "2", "--budget", "2"]
    scores = {}
    for name, more in (("plain", []), ("rescaled", ["--pipeline-arg", "guidance_rescale=0.7"])):
        capsys.readouterr()
        assert cli.main([*given, *more, "--out", name, "--json"]) == 0
        scores[name] = json.loads(capsys.readouterr().out)["best"]["scores"]
    assert scores["plain"] != scores["rescaled"]
    held = json.loads((here / "rescaled" / "run.json").read_text())
    assert held["request"]["pipeline_args"] == {"guidance_rescale": 0.7}
    assert held["spec"]["sampler"]["guidance_rescale"] == 0.7
    assert cli.main(["resume", "rescaled", "--budget", "3", "--json"]) == 0
    assert cli.main([*given, "--out", "rescaled"]) == 2  # another run


@pytest.mark.slow
def test_a_run_directory_says_nothing_that_the_search_sets(model, here, capsys):
    given = ["generate", "a cat", "--model", str(model), "--verifier", "brightness", "--steps", "2", "--budget", "2"]
    assert cli.main([*given, "--out", "run", "--json"]) == 0
    file = here / "run" / "run.json"
    text = file.read_text()
    for name, value, part in (
        ("pipeline_args", {"latents": 1}, "latents"), ("pipeline_args", {"seed": 1}, "seed"),
        ("loras", [{"file": "/nowhere.safetensors", "weight": 1.0}], "nowhere"),
        ("loras", [{"file": "x", "wait": 1.0}], "loras"), ("executor", "rey", "ray"),
        ("executor", "ray:10.0.0.1:6379", "--trust"),
        ("config", "owner/name", "--trust"),
        ("variant", "../x", "variant"), ("keep", -1, "keep"), ("given_pipeline", 3, "pipeline"),
        ("verifier", [{"name": "x"}], "verifier"), ("verifier", [{"name": "x", "what": "a function"}], "verifiers="),
    ):  # fmt: skip
        held = json.loads(text)
        held["request"][name] = value
        file.write_text(json.dumps(held))
        capsys.readouterr()
        assert cli.main(["resume", "run", "--budget", "3 images"]) == 2
        err = capsys.readouterr().err
        assert part in err
        assert err.count("\n") == 1
