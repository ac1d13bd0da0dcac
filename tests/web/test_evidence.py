import json

from noisewright.web.evidence import comparisons

COMPARISON = {
    "samples": 64, "seed": 2_000_000, "prompts": 1, "intervals_over": "noises", "schedules": [
        {"schedule": "pipeline", "solver": "ddim", "steps": 10, "nfe": 10, "end": 0.0, "end_as_made": 0.0,
         "metrics": {"teacher": {"value": 0.5, "interval": [0.4, 0.6], "missing": 0}}},
        {"schedule": "<b>karras</b>", "solver": "ddim", "steps": 10, "nfe": 10, "end": 0.0, "end_as_made": 0.0,
         "metrics": {"teacher": {"value": 0.4, "interval": [0.3, 0.5], "missing": 0, "change": -0.1,
                                 "change_interval": [-0.2, 0.0]}}},
    ],
}  # fmt: skip


def test_comparisons_of_schedules_are_read_and_nothing_else_is(runs):
    (runs / "schedules.json").write_text(json.dumps(COMPARISON))
    (runs / "other.json").write_text('{"a": 1}')
    (runs / "broken.json").write_text("{")
    (runs / "wrong.json").write_text(json.dumps({**COMPARISON, "schedules": [{"schedule": 3}]}))
    (runs / ".hidden.json").write_text(json.dumps(COMPARISON))
    (found,) = comparisons(runs)
    assert found["file"] == "schedules.json"
    assert found["metrics"] == ["teacher"]
    assert [row["metrics"]["teacher"]["change"] for row in found["rows"]] == [None, -0.1]


def test_the_page_gets_the_evidence(client, runs):
    (runs / "schedules.json").write_text(json.dumps(COMPARISON))
    found = client.get("/api/evidence").json()
    assert (found["benchmarks"], len(found["comparisons"])) == ([], 1)


def test_a_report_is_shut_in(client, runs):
    """Whatever a report says, it is in a sandbox: no script but the one that sorts, and no request."""
    (runs / "bench").mkdir()
    (runs / "bench" / "benchmark.json").write_text("{}")
    (runs / "bench" / "report.html").write_text("<script>fetch('/api/runs')</script>")
    answer = client.get("/report", params={"run": "bench"})
    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200
    assert policy.startswith("sandbox allow-scripts;")
    assert "default-src 'none'" in policy
    assert "'self'" not in policy.replace("frame-ancestors 'self'", "")
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    assert client.get("/report", params={"run": "first"}).status_code == 404


def test_a_benchmark_that_cannot_be_read_says_so(client, runs, monkeypatch):
    monkeypatch.setattr("noisewright.web.listing.SCAN_SECONDS", 0.0)
    (runs / "bench").mkdir()
    (runs / "bench" / "benchmark.json").write_text("{}")
    (found,) = client.get("/api/evidence").json()["benchmarks"]
    assert found["status"] == "damaged"
