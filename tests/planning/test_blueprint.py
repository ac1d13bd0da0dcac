"""What a worker on another machine is built from: pickled, it gives the same worker, or one line."""

import pickle
import shutil

import pytest

import noisewright as nw
from noisewright.executors.by_value import ByValue
from noisewright.executors.protocol import Worker
from noisewright.executors.worker import ModelWorker, ScoringWorker
from noisewright.planning.blueprint import PIPE
from noisewright.request import Request

SETTINGS = {"prompt": "a cat", "num_inference_steps": 3, "budget": "4 images", "no_check": True}


def bright(images, prompt):
    return images.mean((1, 2, 3))


class Weighed:
    name = "weighed"

    def __init__(self, fingerprint):
        self.fingerprint = fingerprint

    def __call__(self, images, prompt):
        return images.mean((1, 2, 3))


def planned(**more):
    given = {name: more.pop(name) for name in ("pipe", "verifiers", "judges", "arguments") if name in more}
    named = {} if "verifiers" in given else {"verifier": ["brightness"], "judge": ["sharpness"]}
    return nw.plan(Request(**{**SETTINGS, **named, **more}), **given)


def sent(plan):
    """A blueprint as it comes elsewhere, and what was given with it."""
    blueprint = plan.blueprint()
    given = {name: pickle.dumps(one) for name, one in blueprint.given.items()}
    return pickle.loads(pickle.dumps(blueprint)), given


def test_a_worker_of_a_model_by_name(model):
    plan = planned(model=model)
    blueprint, given = sent(plan)
    assert given == {}
    worker = blueprint.build("all", given, {})
    assert isinstance(worker, ModelWorker)
    assert isinstance(worker, Worker)
    assert worker.samplers["final"].description == plan.final.description
    assert (list(worker.verifiers), list(worker.judges)) == (["brightness"], ["sharpness"])


def test_parts_have_what_they_need_alone(model):
    blueprint, given = sent(planned(model=model))
    scorer = blueprint.build("verifiers", given, {})
    assert isinstance(scorer, ScoringWorker)
    assert (list(scorer.verifiers), list(scorer.judges)) == (["brightness"], ["sharpness"])
    maker = blueprint.build("model", given, {})
    assert (maker.verifiers, maker.judges) == ({}, {})


def test_drafts_have_their_own_sampler(model):
    plan = planned(model=model, search_steps=2)
    blueprint, given = sent(plan)
    worker = blueprint.build("all", given, {})
    assert worker.samplers["search"].description == plan.sampler.description
    assert worker.samplers["search"].schedule.steps == 2


def test_what_is_loaded_stays_from_run_to_run(model):
    kept = {}
    workers = []
    for prompt in ("a cat", "a red dog"):
        blueprint, given = sent(planned(model=model, prompt=prompt))
        workers.append(blueprint.build("all", given, kept))
    one, other = workers
    assert one.samplers["final"].pipe is other.samplers["final"].pipe
    assert one.verifiers["brightness"] is other.verifiers["brightness"]
    assert [worker.prompt for worker in workers] == ["a cat", "a red dog"]


def test_a_pipeline_and_a_verifier_by_value(pipe):
    plan = planned(pipe=pipe, verifiers=[bright], judges=[])
    blueprint, given = sent(plan)
    assert set(given) == {"the verifier bright", PIPE}
    assert blueprint.given == {}, "which is sent once, for many"
    kept = {}
    worker = blueprint.build("all", given, kept)
    assert list(worker.verifiers) == ["bright"]
    assert worker.samplers["final"].description == plan.final.description
    again = blueprint.build("all", given, kept)
    assert again.samplers["final"].pipe is worker.samplers["final"].pipe


def test_another_model_is_refused(model, tmp_path):
    import tiny

    place = shutil.copytree(model, tmp_path / "model")
    blueprint, given = sent(planned(model=place))
    other = tiny.sd(seed=1)
    shutil.rmtree(place)
    other.save_pretrained(place, safe_serialization=True)
    with pytest.raises(ValueError, match=r"^expected fingerprint .* as the driver has it, got ") as caught:
        blueprint.build("all", given, {})
    assert "\n" not in str(caught.value)


def test_a_model_that_is_not_there_is_refused(model, tmp_path):
    place = shutil.copytree(model, tmp_path / "model")
    blueprint, given = sent(planned(model=place))
    shutil.rmtree(place)
    with pytest.raises(ValueError, match="model") as caught:
        blueprint.build("all", given, {})
    assert "\n" not in str(caught.value)


def test_another_verifier_is_refused(model):
    blueprint, given = sent(planned(model=model, verifiers=[Weighed("2")], judges=[]))
    given = {name: pickle.dumps(Weighed("3")) for name in given}
    with pytest.raises(ValueError, match="expected verifier weighed with fingerprint 2, got 3"):
        blueprint.build("all", given, {})


def test_a_worker_as_a_value(model):
    from runs import sde

    worker = ModelWorker(sde(), sde(), [])
    blueprint = ByValue.of(worker)
    given = {name: pickle.dumps(one) for name, one in blueprint.given.items()}
    alone = pickle.loads(pickle.dumps(blueprint))
    assert isinstance(alone.build("all", given, {}), ModelWorker)
    assert isinstance(alone.build("verifiers", given, {}), ScoringWorker)
