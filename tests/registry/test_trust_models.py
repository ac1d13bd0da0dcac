"""A model is data: nothing in its directory is run, and what would have to be is refused in one line."""

import contextlib
import os
import pickle
import shutil

import pytest

from commands import refused
from hostile import code, edit
from noisewright import registry
from noisewright.samplers.load import load_pipeline


class Evil:
    """What a pickle does when it is read."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def index(**entries):
    return lambda model, marker: edit(model / "model_index.json", lambda held: held.update(entries))


def config(place, **entries):
    def change(model, marker):
        edit(model / place, lambda held: held.update(entries))

    return change


def python(*places):
    return lambda model, marker: [(model / place).write_text(code(marker)) for place in places]


def pickled(place, *gone):
    def change(model, marker):
        for one in gone:
            (model / one).unlink()
        (model / place).write_bytes(pickle.dumps(Evil(marker)))

    return change


def text(place, words):
    def change(model, marker):
        (model / place).parent.mkdir(exist_ok=True)
        (model / place).write_text(words)

    return change


UNET, TEXT = "diffusion_pytorch_model", "text_encoder/config.json"
AUTO = {"AutoConfig": "look.score", "AutoModel": "look.score", "AutoTokenizer": ["look.score", None]}
HOSTILE = {
    "class as a list": [index(_class_name=["look", "score"]), python("look.py")],
    "class as a list, no file": [index(_class_name=["lpw_stable_diffusion", "X"])],
    "class as a path": [index(_class_name=["../look", "score"]), python("../look.py")],
    "class that is a file": [index(_class_name="look"), python("look.py", "pipeline.py")],
    "class with dots": [index(_class_name="utils.dynamic_modules_utils")],
    "class that is none": [index(_class_name="logging")],
    "class that is a model": [index(_class_name="UNet2DConditionModel")],
    "class that loads others": [index(_class_name="KandinskyCombinedPipeline")],
    "class base": [index(_class_name="DiffusionPipeline")],
    "class missing": [text("model_index.json", "{}")],
    "class null": [index(_class_name=None)],
    "class number": [index(_class_name=5)],
    "class object": [index(_class_name={"a": "b"})],
    "file called None": [python("None.py")],
    "module in the component": [index(unet=["look", "score"]), python("unet/look.py")],
    "module beside the index": [index(unet=["look", "score"]), python("look.py")],
    "module with a path": [index(unet=["../look", "score"]), python("look.py")],
    "module with dots": [index(unet=["unet.look", "score"]), python("unet/look.py", "unet/__init__.py")],
    "shadow of diffusers": [python("unet/diffusers.py")],
    "shadow of transformers": [python("text_encoder/transformers.py")],
    "system": [index(unet=["os", "system"])],
    "popen": [index(unet=["subprocess", "Popen"])],
    "eval": [index(unet=["builtins", "eval"])],
    "runpy": [index(unet=["runpy", "run_path"])],
    "torch": [index(unet=["torch", "load"])],
    "torch.nn": [index(unet=["torch.nn", "Module"])],
    "our registry": [index(unet=["noisewright.registry", "make_verifier"])],
    "our tests": [index(unet=["tiny", "sd"])],
    "function of diffusers": [index(unet=["diffusers", "logging"])],
    "pipeline in a pipeline": [index(unet=["diffusers", "DiffusionPipeline"])],
    "other class of diffusers": [index(unet=["diffusers", "OnnxRuntimeModel"])],
    "auto class": [index(text_encoder=["transformers", "AutoModel"])],
    "auto tokenizer": [index(tokenizer=["transformers", "AutoTokenizer"])],
    "helper of pipelines": [index(unet=["pipeline_utils", "DiffusionPipeline"])],
    "helper of loading": [index(unet=["pipeline_loading_utils", "load_sub_model"])],
    "attribute of pipelines": [index(unet=["__loader__", "exec_module"])],
    "pair as text": [index(unet="ab")],
    "pair as object": [index(unet={"a": 1, "b": 2})],
    "triple": [index(unet=["diffusers", "UNet2DConditionModel", "look"])],
    "numbers": [index(unet=[1, 2])],
    "half null": [index(unet=[None, "UNet2DConditionModel"])],
    "component with a path": [index(**{"../unet": ["diffusers", "UNet2DConditionModel"]})],
    "auto_map of a model": [config(TEXT, auto_map=AUTO), python("text_encoder/look.py")],
    "auto_map deep": [config(TEXT, inner=[{"auto_map": AUTO}]), python("text_encoder/look.py")],
    "auto_map of a tokenizer": [config("tokenizer/tokenizer_config.json", auto_map=AUTO), python("tokenizer/look.py")],
    "kernel": [config(TEXT, attn_implementation="evil/kernel")],
    "kernel in a part": [config(TEXT, text={"_attn_implementation": {"": "evil/kernel"}})],
    "adapter": [text("text_encoder/adapter_config.json", '{"base_model_name_or_path": "evil/base"}')],
    "own generation": [text("text_encoder/custom_generate/generate.py", "")],
    "pickle of diffusers": [pickled(f"unet/{UNET}.bin", f"unet/{UNET}.safetensors")],
    "pickle of transformers": [pickled("text_encoder/pytorch_model.bin", "text_encoder/model.safetensors")],
    "pickle called safetensors": [pickled(f"unet/{UNET}.safetensors")],
    "checkpoint": [pickled("vae/model.ckpt", f"vae/{UNET}.safetensors")],
    "parts elsewhere": [text(f"unet/{UNET}.safetensors.index.json", '{"weight_map": {"a": "../../x.safetensors"}}')],
    "parts that are pickles": [text(f"unet/{UNET}.safetensors.index.json", '{"weight_map": {"a": "x.bin"}}')],
    "no JSON": [text("model_index.json", "{")],
    "no object": [text("model_index.json", "[]")],
    "deep": [text("model_index.json", "[" * 10**5)],
    "a component's config is damaged": [text("unet/config.json", "{" * 10**5)],
}  # fmt: skip


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_model_runs_no_code(name, model, marker, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(model))  # as where a person stands in it
    monkeypatch.chdir(model)
    for change in HOSTILE[name]:
        change(model, marker)
    err = refused(capsys, ["generate", "a cat", "--model", model, "--dry-run", "--verifier", "brightness"])
    assert "model" in err
    assert not marker.exists()


HARMLESS = {
    "scripts beside the index": [python("convert.py", "handler.py", "setup.py", "unet/helper.py")],
    "auto_map with nothing to run": [config(TEXT, auto_map=AUTO)],
    "more in a scheduler": [
        config("scheduler/scheduler_config.json", **{"py/reduce": ["os.system", ["false"]], "__reduce__": "x"})
    ],
    "a pickle beside safetensors": [pickled("text_encoder/pytorch_model.bin")],
    "a state of a scheduler": [pickled("scheduler/scheduler.bin.state")],
    "a template": [config("tokenizer/tokenizer_config.json", chat_template="{{ cycler.__init__.__globals__.os }}")],
    "component that nobody wants": [index(image_encoder=[None, None])],
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", HARMLESS)
def test_what_nobody_runs_is_left_alone(name, model, marker):
    for change in HARMLESS[name]:
        change(model, marker)
    assert load_pipeline(model, device="cpu").name_or_path == str(model)
    assert not marker.exists()


def test_a_model_of_the_hub_is_looked_at_alike(hub, saved, marker):
    place = hub("owner/good", saved)
    pipe = load_pipeline("owner/good", device="cpu")
    assert type(pipe).__name__ == "StableDiffusionPipeline"
    assert pipe.name_or_path == "owner/good"
    assert str(place) not in pipe.name_or_path
    for name in ("class as a list", "module in the component", "shadow of diffusers", "system", "pickle of diffusers"):
        slug = f"owner/{name.replace(' ', '-')}"
        place = hub(slug, saved)
        for change in HOSTILE[name]:
            change(place, marker)
        with pytest.raises(ValueError, match=r"model|safetensors") as caught:
            load_pipeline(slug, device="cpu")
        assert "\n" not in str(caught.value)
        assert not marker.exists()


def test_the_index_of_the_hub_decides_before_anything_is_fetched(hub, saved, monkeypatch, marker):
    from diffusers import DiffusionPipeline

    place = hub("owner/evil", saved)
    index(_class_name=["clip_guided_stable_diffusion", "X"])(place, marker)
    monkeypatch.setattr(DiffusionPipeline, "download", classmethod(lambda *_, **__: pytest.fail("fetched")))
    with pytest.raises(ValueError, match="never run"):
        load_pipeline("owner/evil", device="cpu")


def verifier_classes():
    from noisewright.verifiers.classifier import Classifier
    from noisewright.verifiers.clip import ClipVerifier
    from noisewright.verifiers.features import FeatureNetwork
    from noisewright.verifiers.self_similarity import SelfSimilarity
    from noisewright.verifiers.vlm_local import LocalModel

    return [ClipVerifier, Classifier, SelfSimilarity, FeatureNetwork, LocalModel]


@pytest.mark.parametrize("known", [False, True], ids=["unknown type", "known type"])
@pytest.mark.parametrize("number", range(5))
def test_a_verifiers_model_runs_no_code(number, known, tmp_path, marker, monkeypatch):
    folder = tmp_path / "judge"
    shutil.copytree(registry.MODELS / "shapes-clip", folder)
    every = ("Config", "Model", "ModelForImageClassification", "ModelForImageTextToText", "Tokenizer", "Processor",
             "ImageProcessor", "ImageProcessorFast")  # fmt: skip
    auto = {f"Auto{name}": "look.score" for name in every}
    more = {"auto_map": auto} if known else {"auto_map": auto, "model_type": "look", "architectures": ["score"]}
    for file in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        edit(folder / file, lambda held: held.update(more))
        edit(folder / file, lambda held: held.update({"tokenizer_class": "score", "image_processor_type": "score"}))
    (folder / "look.py").write_text(code(marker))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    with contextlib.suppress(ValueError):  # some load, since they are CLIP models after all
        verifier_classes()[number](str(folder))
    assert not marker.exists()
