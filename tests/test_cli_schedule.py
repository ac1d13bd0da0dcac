"""``noisewright schedule`` on a tiny pipeline."""

import json
import math

import pytest
from PIL import Image

import tiny
from noisewright import cli
from noisewright.trajectory.errors import ErrorTable
from noisewright.trajectory.files import read_schedule_file


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    tiny.sd().save_pretrained(root / "sd", safe_serialization=True)
    tiny.class_flow().save_pretrained(root / "flow", safe_serialization=True)
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    for n in range(4):
        Image.new("RGB", (32, 32), (60 * n, 10, 90)).save(root / f"{n}.png")
        (root / f"{n}.txt").write_text("a cat\n" if n % 2 else "a dog\n")
    return root


@pytest.fixture(scope="module")
def errors(models, pictures, tmp_path_factory):
    file = tmp_path_factory.mktemp("errors") / "errors.json"
    argv = ["schedule", "measure", models / "sd", "--images", pictures, "--levels", 5, "--out", file]
    assert cli.main([str(one) for one in argv]) == 0
    return file


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


def test_wrong_use_is_one_line(models, errors, pictures, tmp_path, capsys):
    fit = ("fit", "--model", models / "sd", "--steps", 4, "--out", tmp_path / "s.json")
    assert "did you mean vrg" in refused(capsys, *fit, "--method", "vgr")
    assert "--errors" in refused(capsys, *fit, "--method", "vrg")
    assert "does not exist" in refused(capsys, *fit, "--method", "vrg", "--errors", tmp_path / "none.json")
    assert "unknown schedule" in refused(capsys, *fit, "--method", "dmn", "--from", "unifrom")
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


def test_images_of_another_size_are_resized_with_a_warning(models, tmp_path, capsys):
    for n in range(2):
        Image.new("RGB", (20, 12), (60 * n, 10, 90)).save(tmp_path / f"{n}.png")
    argv = ["schedule", "measure", models / "sd", "--images", tmp_path, "--levels", 5, "--stride", 1, "--out"]
    assert cli.main([str(one) for one in (*argv, tmp_path / "e.json")]) == 0
    assert capsys.readouterr().err.count("resized") == 1
