"""``noisewright schedule`` on a tiny pipeline."""

import json
import math

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionPipeline,
)
from PIL import Image

import noisewright
import tiny
from noisewright import cli, registry
from noisewright.diffusion.schedule import along
from noisewright.diffusion.solvers import Ddim
from noisewright.run.reading import read_run
from noisewright.samplers.pipeline import PipelineSampler, load_pipeline
from noisewright.trajectory.errors import ErrorTable
from noisewright.trajectory.files import load_for, read_schedule_file

FEW = ("--samples", 2, "--teacher-steps", 3, "--prompt", "a cat")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    tiny.sd().save_pretrained(root / "sd", safe_serialization=True)
    tiny.class_flow().save_pretrained(root / "flow", safe_serialization=True)
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return tiny.captioned(tmp_path_factory.mktemp("pictures"), 4)


@pytest.fixture(scope="module")
def errors(models, pictures, tmp_path_factory):
    file = tmp_path_factory.mktemp("errors") / "errors.json"
    argv = ["schedule", "measure", models / "sd", "--images", pictures, "--levels", 5, "--out", file]
    argv += ["--keep", file.parent / "keep"]
    assert cli.main([str(one) for one in argv]) == 0
    return file


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where --keep is, by default


def done(capsys, *argv):
    assert cli.main([str(one) for one in ("schedule", *argv)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys, *argv):
    assert cli.main([str(one) for one in ("schedule", *argv)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("noisewright: ")
    assert err.count("\n") == 1
    return err


def test_measure_writes_a_table_that_fit_reads_and_show_prints(models, errors, tmp_path, capsys):
    table = ErrorTable.load(errors)
    assert table.images == 4
    assert table.levels[0].t == 999
    assert table.levels[-1].t == pytest.approx(0, abs=1e-6)
    file = tmp_path / "s.json"
    fit = ("fit", "--method", "vrg", "--model", models / "sd", "--errors", errors, "--steps", 4, "--from", "uniform")
    out = done(capsys, *fit, "--out", file, "--json")
    found = json.loads(out)
    assert found["figures"]["cpe_after"] <= found["figures"]["cpe_before"]
    assert found["steps"] == 4
    assert len(found["diffusers"]["timesteps"]) == 4
    assert len(found["diffusers"]["sigmas"]) == 5
    made = read_schedule_file(file)
    assert made.identity["prediction"] == "epsilon"
    text = done(capsys, "show", file)
    assert "half log-SNR" in text
    assert "cpe_before" in text


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gits", "dmn"])
def test_other_methods_and_compare(models, method, tmp_path, capsys):
    file = tmp_path / "s.json"
    some = ("--samples", 3, "--nodes", 6) if method == "gits" else ()
    done(capsys, "fit", "--method", method, "--model", models / "flow", "--steps", 3, *some, "--out", file)
    argv = ("compare", file, "uniform", "--model", models / "flow", "--samples", 4, "--teacher-steps", 5)
    found = json.loads(done(capsys, *argv, "--metric", "teacher,brightness", "--plot", tmp_path / "p.png", "--json"))
    assert [one["schedule"] for one in found["schedules"]] == [str(file), "uniform"]
    for one in found["schedules"]:
        held = one["metrics"]["teacher"]
        assert held["interval"][0] <= held["value"] <= held["interval"][1]
    assert math.isfinite(found["schedules"][1]["metrics"]["brightness"]["change"])
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_search_reports_on_other_seeds(models, tmp_path, capsys):
    file = tmp_path / "s.json"
    few = ("--samples", 2, "--evaluations", 3, "--teacher-steps", 4, "--prompt", "cat")
    argv = ("fit", "--method", "search", "--model", models / "flow", "--steps", 2, "--from", "uniform", *few)
    found = json.loads(done(capsys, *argv, "--out", file, "--json"))
    before, best = found["figures"]["tuning"]
    assert best <= before
    assert len(found["figures"]["reported"]) == 2


def test_measure_of_own_samples(models, tmp_path, capsys):
    argv = ("measure", models / "flow", "--levels", 5, "--count", 6, "--out", tmp_path / "e.json", "--json")
    found = json.loads(done(capsys, *argv))
    assert found["source"] == "self"
    assert found["prediction"] == "flow"
    assert all(one["verdict"] for one in found["levels"])


@pytest.mark.slow
def test_wrong_use_is_one_line(models, errors, pictures, tmp_path, capsys):
    fit = ("fit", "--model", models / "sd", "--steps", 4, "--out", tmp_path / "s.json")
    assert "did you mean vrg" in refused(capsys, *fit, "--method", "vgr")
    assert "--errors" in refused(capsys, *fit, "--method", "vrg")
    assert "does not exist" in refused(capsys, *fit, "--method", "vrg", "--errors", tmp_path / "none.json")
    assert "unknown schedule" in refused(capsys, *fit, "--method", "search", "--from", "unifrom")
    assert "unknown solver" in refused(capsys, *fit, "--method", "dmn", "--solver", "dddim")
    (tmp_path / "empty").mkdir()
    measure = ("measure", models / "sd", "--levels", 5)
    assert "expected" in refused(capsys, *measure, "--images", tmp_path / "empty")
    assert "not there" in refused(capsys, *measure, "--images", tmp_path / "nowhere")
    assert "alone" in refused(capsys, *measure, "--images", "self", "--images", pictures)
    assert "--steps" in refused(capsys, "compare", "uniform", "--model", models / "sd")
    held = json.loads(errors.read_text())
    held["fingerprint"] = "0" * 16
    (tmp_path / "other.json").write_text(json.dumps(held))
    assert "--force" in refused(capsys, *fit, "--method", "vrg", "--errors", tmp_path / "other.json")
    assert not (tmp_path / "s.json").exists()
    done(capsys, *fit, "--method", "dmn")
    assert "--force" in refused(capsys, "compare", tmp_path / "s.json", "--model", models / "flow")


@pytest.fixture
def unloaded(monkeypatch):
    """What is refused here is refused before a model is loaded."""

    def load(*given, **more):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("noisewright.trajectory.model.load", load)


@pytest.mark.parametrize(
    ("method", "given", "methods"),
    [
        ("gits", ("--fixed-start",), "vrg or search"),
        ("dmn", ("--from", "uniform"), "vrg or search"),
        ("search", ("--gamma", 0.01), "vrg"),
        ("search", ("--penalty", 100), "vrg"),
        ("gits", ("--target", 0.1), "vrg"),
        ("search", ("--errors", "errors.json"), "vrg"),
        ("vrg", ("--cost", "dev"), "gits"),
        ("search", ("--factor", 1.1), "gits"),
        ("dmn", ("--nodes", 61), "gits"),
        ("dmn", ("--samples", 64), "gits or search"),
        ("vrg", ("--guidance-scale", 2), "gits or search"),
        ("dmn", ("--prompt", "a cat"), "gits or search"),
        ("vrg", ("--prompts", "none.txt"), "gits or search"),
        ("gits", ("--metric", "teacher"), "search"),
        ("gits", ("--evaluations", 5), "search"),
        ("dmn", ("--teacher-steps", 5), "search"),
        ("vrg", ("--features", "x"), "search"),
        ("gits", ("--reference", "x"), "search"),
    ],
)
def test_options_that_a_method_does_not_look_at_are_refused(method, given, methods, errors, unloaded, tmp_path, capsys):
    """Also at their default, if they are given."""
    table = ("--errors", errors) if method == "vrg" else ()
    err = refused(capsys, "fit", "--method", method, "--steps", 4, "--out", tmp_path / "s.json", *table, *given)
    assert f"expected {given[0]} with --method {methods} only, got it with --method {method}" in err


@pytest.mark.parametrize(
    ("method", "given", "word"),
    [
        ("vrg", ("--penalty", "nan"), "finite --penalty"),
        ("vrg", ("--gamma", "nan"), "--gamma in (0, 1), got nan"),
        ("vrg", ("--target", "nan"), "--target abar in (0, 1), got nan"),
        ("gits", ("--factor", "nan"), "finite --factor of later steps above 0, got nan"),
        ("gits", ("--factor", "inf"), "finite --factor"),
        ("gits", ("--cost", "l3"), "dev, l1, l2"),
        ("gits", ("--nodes", 4), "1 to 3 steps on a teacher of 4 nodes, got 4"),
        ("search", ("--metric", "techer"), "did you mean teacher"),
        ("search", ("--metric", "teacher,fid"), "--features"),
        ("search", ("--metric", ","), "expected a metric"),
        ("search", ("--metric", "teacher,brightness"), "one --metric"),
        ("search", ("--metric", "fid", "--features", "x", "--reference", "none"), "does not exist"),
    ],
)
def test_settings_are_refused_before_a_model_is_loaded(method, given, word, errors, unloaded, tmp_path, capsys):
    table = ("--errors", errors) if method == "vrg" else ()
    assert word in refused(
        capsys, "fit", "--method", method, "--steps", 4, "--out", tmp_path / "s.json", *table, *given
    )


def test_measure_and_compare_refuse_before_a_model_is_loaded(unloaded, tmp_path, capsys):
    assert "at least 4 images at stride 2, two at each level, got 3" in refused(capsys, "measure", "x", "--count", 3)
    assert "did you mean brightness" in refused(capsys, "compare", "uniform", "--steps", 4, "--metric", "brightnes")
    one = ("fit", "--steps", 1, "--out", tmp_path / "s.json", "--method")
    assert "at least 2 steps for dmn" in refused(capsys, *one, "dmn")
    assert "at least 2 steps for search" in refused(capsys, *one, "search")


def test_three_images_at_stride_2_are_too_few(models, tmp_path, capsys):
    for n in range(3):
        Image.new("RGB", (32, 32), (60 * n, 10, 90)).save(tmp_path / f"{n}.png")
    argv = ("measure", models / "sd", "--images", tmp_path, "--levels", 5, "--out", tmp_path / "e.json")
    assert "at least 4 images at stride 2, two at each level, got 3" in refused(capsys, *argv)


@pytest.fixture(scope="module")
def fitted(models, tmp_path_factory):
    file = tmp_path_factory.mktemp("fitted") / "s.json"
    argv = ["schedule", "fit", "--method", "dmn", "--model", models / "sd", "--steps", 4, "--out", file]
    assert cli.main([str(one) for one in argv]) == 0
    return file


@pytest.mark.slow
def test_force_does_not_change_the_number_of_steps(errors, fitted, unloaded, tmp_path, capsys):
    argv = ("fit", "--method", "vrg", "--errors", errors, "--steps", 5, "--out", tmp_path / "s.json", "--force")
    assert "schedule of 5 steps, got 4" in refused(capsys, *argv, "--from", fitted)


@pytest.mark.slow
def test_what_is_fitted_ends_where_its_start_does(models, errors, tmp_path, capsys):
    """The pipeline's own levels end above the clean image, named ones and those of gits and dmn at it."""
    fit = ("fit", "--model", models / "sd", "--steps", 3, "--out", tmp_path / "s.json", "--json")
    few = ("--samples", 2, "--evaluations", 3, "--teacher-steps", 4, "--prompt", "a cat")
    vrg = json.loads(done(capsys, *fit, "--method", "vrg", "--errors", errors, "--from", "pipeline"))
    assert vrg["sigma"][-1] == pytest.approx(0.02916, abs=1e-4)
    search = json.loads(done(capsys, *fit, "--method", "search", "--from", "uniform", *few))
    assert search["sigma"][-1] == 0
    for method, some in (("dmn", ()), ("gits", ("--samples", 2, "--nodes", 6, "--prompt", "a cat"))):
        assert json.loads(done(capsys, *fit, "--method", method, *some))["sigma"][-1] == 0


@pytest.mark.slow
def test_compared_schedules_end_at_the_clean_image_unless_they_are_to_keep_their_ends(models, capsys):
    argv = ("compare", "uniform", "pipeline", "--model", models / "sd", *FEW, "--steps", 3)
    rows = {one["schedule"]: one for one in json.loads(done(capsys, *argv, "--json"))["schedules"]}
    assert [rows[name]["end"] for name in ("uniform", "pipeline")] == [0, 0]
    assert rows["uniform"]["end_as_made"] == 0
    assert rows["pipeline"]["end_as_made"] == pytest.approx(0.02917, abs=1e-5)
    kept = {one["schedule"]: one for one in json.loads(done(capsys, *argv, "--keep-ends", "--json"))["schedules"]}
    assert kept["pipeline"]["end"] == rows["pipeline"]["end_as_made"]
    assert kept["uniform"]["metrics"] == rows["uniform"]["metrics"]
    assert kept["pipeline"]["metrics"]["teacher"]["value"] != rows["pipeline"]["metrics"]["teacher"]["value"]
    text = done(capsys, *argv)
    assert (
        "pipeline was brought to the clean image; as made it ends at s = 0.02917 (--keep-ends leaves it there)" in text
    )
    assert "uniform was" not in text


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (
            lambda held: {"alpha": [1e-4, *held["alpha"][1:]], "sigma": [1.0, *held["sigma"][1:]]},
            "[0.0291675, 14.6146]",
        ),
        (lambda held: {"t": [5000, *held["t"][1:]]}, "in [0, 999], got t = 5000"),
        (lambda held: {"t": [*held["t"][:-1], -3]}, "in [0, 999], got t = -3"),
        (lambda held: {"t": held["t"][::-1]}, "in [0, 999], got t = "),
        (lambda held: {name: [3 * one for one in held[name]] for name in ("alpha", "sigma")}, "in [0, 1]"),
        (
            lambda held: {"alpha": [*held["alpha"][:-2], 1.0, 1.0], "sigma": [*held["sigma"][:-2], 0.001, 0.0]},
            "[0.0291675, 14.6146]",
        ),
    ],
    ids=["above", "late", "early", "rising", "scaled", "below"],
)
def test_levels_outside_the_models_range_are_refused(change, word, models, fitted, tmp_path, capsys):
    held = json.loads(fitted.read_text())
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({**held, **change(held)}))
    assert word in refused(capsys, "compare", bad, "--model", models / "sd", *FEW)
    argv = ["generate", "a cat", "--model", models / "sd", "--schedule", bad, "--out", tmp_path / "run"]
    assert cli.main([str(one) for one in (*argv, "--budget", "1 images", "--verifier", "brightness")]) == 2
    err = capsys.readouterr().err
    assert word in err
    assert not list((tmp_path / "run").rglob("*.png"))


@pytest.mark.slow
def test_generate_takes_a_schedule_of_another_model_by_force(models, fitted, tmp_path, capsys):
    run = tmp_path / "run"
    argv = ["generate", "cat", "--model", models / "flow", "--schedule", fitted, "--verifier", "brightness"]
    argv = [str(one) for one in (*argv, "--budget", "2 images", "--out", run)]
    assert cli.main(argv) == 2
    assert "--force takes it all the same" in capsys.readouterr().err
    assert not run.exists()
    assert cli.main([*argv, "--force"]) == 0
    held = read_run(run)
    levels = held["spec"]["sampler"]["levels"]
    assert [a + b for a, b in zip(levels["alpha"], levels["sigma"], strict=True)] == pytest.approx([1] * 5)
    assert held["request"]["force"]
    assert cli.main(["resume", str(run), "--budget", "3 images", "--json"]) == 0
    assert len(list((run / "images").glob("*.png"))) == 3
    found = noisewright.search(
        str(models / "flow"), "cat", schedule=str(fitted), force=True, verifier="brightness", budget="1 images",
        pictures=False,
    )  # fmt: skip
    assert read_run(found.run)["spec"]["sampler"]["levels"] == levels


def test_images_of_another_size_are_resized_with_a_warning(models, tmp_path, capsys):
    for n in range(2):
        Image.new("RGB", (20, 12), (60 * n, 10, 90)).save(tmp_path / f"{n}.png")
    argv = ["schedule", "measure", models / "sd", "--images", tmp_path, "--levels", 5, "--stride", 1, "--out"]
    assert cli.main([str(one) for one in (*argv, tmp_path / "e.json")]) == 0
    assert capsys.readouterr().err.count("resized") == 1


# In plain diffusers, as docs/schedules.md has it, on the bundled model

PIXEL = 2e-3
"""Of images in [0, 1]: two float32 computations of one sampler; other noise is over fifty times as far."""


@pytest.fixture(scope="module")
def bundled():
    return load_pipeline(registry.find_model("noisewright/shapes"), device="cpu")


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """A schedule of the bundled model, and what `show` says diffusers takes."""
    file = tmp_path_factory.mktemp("six") / "s.json"
    assert cli.main(["schedule", "fit", "--method", "dmn", "--steps", "6", "--device", "cpu", "--out", str(file)]) == 0
    return file


def sampled(bundled, schedule, solver):
    """An image of ours (1, 3, 64, 64) in [0, 1], and the noise that it began with."""
    sampler = PipelineSampler(
        bundled,
        "a red circle",
        num_inference_steps=schedule.steps,
        guidance_scale=4.0,
        solver=solver,
        schedule=schedule,
    )
    x = sampler.noise([5])
    return sampler.decode(sampler.denoise(x, 0, schedule.steps, seeds=[5])[0]), x / schedule.start


def plain(bundled, scheduler, noise, **levels):
    """The same by diffusers' own pipeline."""
    pipe = StableDiffusionPipeline(**{**bundled.components, "scheduler": scheduler}, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    given = {"guidance_scale": 4.0, "latents": noise.clone(), "output_type": "pt", **levels}
    return pipe("a red circle", **given).images.float().cpu()


def shown(text, name):
    """The list after ``name =`` in what `show` prints."""
    line = next(one for one in text.splitlines() if one.startswith(name))
    return json.loads(line.partition("=")[2])


@pytest.mark.slow
def test_the_euler_recipe_makes_our_image(bundled, six, capsys):
    schedule = load_for(six, PipelineSampler(bundled, "a red circle", num_inference_steps=6))
    levels = json.loads(six.read_text())["diffusers"]
    ours, noise = sampled(bundled, schedule, Ddim())
    scheduler = EulerDiscreteScheduler.from_config(bundled.scheduler.config)
    torch.testing.assert_close(plain(bundled, scheduler, noise, sigmas=levels["sigmas"]), ours, rtol=0, atol=PIXEL)
    text = done(capsys, "show", six)
    printed = shown(text, "sigmas")
    assert printed == pytest.approx(levels["sigmas"], rel=1e-5)
    assert shown(text, "timesteps") == pytest.approx(levels["timesteps"], rel=1e-5)
    scheduler = EulerDiscreteScheduler.from_config(bundled.scheduler.config)
    torch.testing.assert_close(plain(bundled, scheduler, noise, sigmas=printed), ours, rtol=0, atol=PIXEL)
    other = plain(bundled, scheduler, noise.flip(-1), sigmas=printed)
    assert float((other - ours).abs().max()) > 50 * PIXEL


@pytest.mark.slow
def test_the_recipe_of_rounded_times_makes_our_image_at_those_times(bundled, six):
    schedule = load_for(six, PipelineSampler(bundled, "a red circle", num_inference_steps=6))
    times = [round(t) for t in json.loads(six.read_text())["diffusers"]["timesteps"]]
    clock = PipelineSampler(bundled, "a red circle", num_inference_steps=6).schedule.clock
    rounded = along(clock, [clock.at(t) for t in times], schedule.start)
    ours, noise = sampled(bundled, rounded, registry.make_solver("dpmpp-2m"))
    scheduler = DPMSolverMultistepScheduler.from_config(bundled.scheduler.config)
    torch.testing.assert_close(plain(bundled, scheduler, noise, timesteps=times), ours, rtol=0, atol=PIXEL)


def test_a_flow_schedule_goes_into_diffusers_with_shift_1(models, tmp_path, capsys):
    file = tmp_path / "s.json"
    done(capsys, "fit", "--method", "dmn", "--model", models / "flow", "--steps", 4, "--out", file)
    made = read_schedule_file(file).schedule
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(sigmas=shown(done(capsys, "show", file), "sigmas"))
    assert scheduler.sigmas.tolist() == pytest.approx(made.sigma, rel=1e-5)
    assert scheduler.timesteps.tolist() == pytest.approx(made.t, rel=1e-5)


@pytest.mark.parametrize(
    "argv",
    [
        ("compare", "uniform"),
        ("fit", "--method", "gits", "--out", "s.json"),
        ("fit", "--method", "search", "--out", "s.json"),
    ],
    ids=["compare", "gits", "search"],
)
def test_a_model_of_prompts_must_be_told_what_to_make(argv, models, capsys):
    assert "--prompt" in refused(capsys, *argv, "--model", models / "sd", "--steps", 3)


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_made(models, errors, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for out, word in ((tmp_path, "directory"), (tmp_path / "file" / "e.json", "can be written")):
        assert word in refused(capsys, "measure", models / "sd", "--levels", 5, "--out", out)
        fit = ("fit", "--method", "vrg", "--errors", errors, "--model", models / "sd", "--steps", 3)
        assert word in refused(capsys, *fit, "--out", out)
    compare = ("compare", "uniform", "--model", models / "sd", "--steps", 3, *FEW)
    assert ".png, .pdf, .svg" in refused(capsys, *compare, "--plot", "p.foo")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_prompts_are_dealt_out_to_tuning_and_report(models, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("a cat\na dog\na bird\n")
    few = ("--samples", 4, "--evaluations", 3, "--teacher-steps", 4, "--guidance-scale", 3)
    fit = ("fit", "--method", "search", "--model", models / "sd", "--steps", 3, "--from", "uniform", *few)
    made = json.loads(done(capsys, *fit, "--prompts", "prompts.txt", "--out", "s.json", "--json"))["made"]
    assert (made["prompts"], made["report_prompts"]) == (["a cat", "a bird"], ["a dog"])
    assert (made["guidance_scale"], made["teacher_steps"], made["evaluations"]) == (3, 4, 3)
    assert cli.main([str(one) for one in ("schedule", *fit, "--prompt", "a cat", "--out", "t.json")]) == 0
    assert "name more prompts" in capsys.readouterr().err


@pytest.mark.slow
def test_a_fit_says_what_its_errors_were_measured_on(models, pictures, tmp_path, capsys):
    measure = ("measure", models / "sd", "--images", pictures, "--levels", 5, "--guidance-scale", 5, "--out", "e.json")
    done(capsys, *measure)
    fit = ("schedule", "fit", "--method", "vrg", "--errors", "e.json", "--model", models / "sd", "--steps", 4)
    assert cli.main([str(one) for one in (*fit, "--out", "s.json", "--json")]) == 0
    out, err = capsys.readouterr()
    assert "guidance 5" in err
    about = json.loads(out)["made"]["errors_of"]
    assert (about["images"], about["guidance_scale"], about["source"]) == (4, 5, str(pictures))


VERIFIER = """
import math
calls = []
def {name}(images, prompt):
    calls.append(len(images))
    return [{value} for n in range(len(images))]
"""


@pytest.mark.slow
def test_images_without_a_score_are_told_and_win_nothing(models, tmp_path, capsys):
    (tmp_path / "none.py").write_text(VERIFIER.format(name="score", value="math.nan"))
    (tmp_path / "some.py").write_text(VERIFIER.format(name="score", value="1.0 if n else math.nan"))
    (tmp_path / "later.py").write_text(VERIFIER.format(name="score", value="n + (len(calls) > 1 and math.nan)"))
    few = ("--samples", 3, "--evaluations", 4, "--prompt", "a cat", "--from", "uniform", "--out", "s.json")
    fit = ("fit", "--method", "search", "--model", models / "sd", "--steps", 3, *few)
    for name, lacking in (("none", 3), ("some", 1)):
        assert f"none for {lacking} of 3" in refused(capsys, *fit, "--metric", f"{name}.py:score")
    done(capsys, *fit, "--metric", "later.py:score")
    made = read_schedule_file("s.json")
    assert made.figures["tuning"] == [1.0, 1.0]
    assert made.figures["reported"] == [None, None]
    compare = ("compare", "uniform", "--model", models / "sd", "--steps", 3, "--prompt", "a cat", "--samples", 3)
    assert "(1 of 3 images without)" in done(capsys, *compare, "--metric", "some.py:score")


@pytest.mark.slow
def test_compare_tells_what_each_schedule_costs(models, fitted, capsys):
    argv = ("compare", fitted, "uniform", "--model", models / "sd", *FEW, "--solver", "heun")
    rows = json.loads(done(capsys, *argv, "--json"))["schedules"]
    assert [one["nfe"] for one in rows] == [7, 7]  # four steps, the last one of first order
    assert "differ in NFE" not in done(capsys, *argv)


@pytest.mark.slow
def test_a_search_that_is_interrupted_leaves_its_best(models, monkeypatch, tmp_path, capsys):
    from noisewright.trajectory import tune

    real, tried = tune.metric_values, []

    def stopped(schedule, *given):
        tried.append(schedule)
        if len(tried) == 4:
            raise KeyboardInterrupt
        return real(schedule, *given)

    monkeypatch.setattr(tune, "metric_values", stopped)
    fit = ("schedule", "fit", "--method", "search", "--model", models / "sd", "--steps", 3, "--from", "uniform", *FEW)
    argv = [str(one) for one in (*fit, "--evaluations", 6, "--out", "s.json")]
    assert cli.main(argv) == 130
    assert "after 3 of 6 schedules; the best is in s.json" in capsys.readouterr().err
    made = read_schedule_file("s.json")
    assert made.figures["interrupted"] is True
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert cli.main(argv) == 0
    assert "interrupted" not in read_schedule_file("s.json").figures


@pytest.mark.slow
def test_fid_is_compared_with_the_interval_of_its_change(models, tmp_path, capsys, monkeypatch):
    from noisewright.measures.statistics import FeatureStatistics

    class Network:
        fingerprint = "flat"

        def __init__(self, *given):
            pass

        def __call__(self, images):
            return type("Found", (), {"features": images.mean((2, 3))})

    monkeypatch.setattr("noisewright.trajectory.metric_names.FeatureNetwork", Network)
    FeatureStatistics("flat").add(torch.rand(50, 3, generator=torch.Generator().manual_seed(0))).save("r.safetensors")
    monkeypatch.setattr(registry, "find_model", lambda name: str(name))
    argv = ("compare", "uniform", "quadratic", "--model", models / "sd", "--samples", 12, "--steps", 3, "--prompt")
    argv += ("a cat", "--metric", "fid", "--features", "flat", "--reference", "r.safetensors", "--json")
    first, second = (one["metrics"]["fid"] for one in json.loads(done(capsys, *argv))["schedules"])
    assert "change" not in first
    assert second["change"] == pytest.approx(second["value"] - first["value"])
    low, high = second["change_interval"]
    assert low < second["change"] < high


@pytest.mark.slow
def test_without_a_terminal_lines_say_how_far_a_command_is(models, monkeypatch, capsys):
    """A line in 30 seconds; here they are not waited for."""
    from noisewright import progress

    monkeypatch.setattr("noisewright.cli.progress.lines", lambda write: progress.lines(write, every=0.0))
    fit = ("fit", "--method", "search", "--model", models / "sd", "--steps", 3, "--from", "uniform", *FEW)
    assert cli.main([str(one) for one in ("schedule", *fit, "--evaluations", 4, "--out", "s.json")]) == 0
    err = capsys.readouterr().err
    for words in ("making many-step images: 2 of", "searching: 4 of 4 schedules, best", "reporting: 2 of 2", " left"):
        assert words in err, words
    argv = ("measure", models / "flow", "--levels", 5, "--count", 6, "--out", "e.json")
    assert cli.main([str(one) for one in ("schedule", *argv)]) == 0
    assert "measuring: 6 of 6 images" in capsys.readouterr().err
    argv = ("compare", "uniform", "karras", "--model", models / "sd", "--steps", 3, *FEW)
    assert cli.main([str(one) for one in ("schedule", *argv)]) == 0
    assert "comparing: 1 of 2 schedules, karras" in capsys.readouterr().err
