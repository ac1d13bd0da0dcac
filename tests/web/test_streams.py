import signal
import subprocess
import sys
import threading
import time

import httpx

from serving import events, served

SECONDS = 60


def test_events_follow_a_run_that_another_process_makes(tmp_path, saved):
    """A run from its start to its end: each candidate comes once, and the end comes too."""
    runs = tmp_path / "runs"
    runs.mkdir()
    command = [sys.executable, "-P", "-m", "noisewright", "generate", "any", "--model", saved, "--verifier",
               "brightness", "--judge", "none", "--budget", "6 images", "--steps", "2", "--batch-size", "1", "--out",
               runs / "live"]  # fmt: skip
    with served(runs) as (address, _):
        maker = subprocess.Popen([str(one) for one in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rows, head = [], {}
        ends = time.monotonic() + SECONDS
        while head.get("status") != "done" and time.monotonic() < ends:
            with httpx.stream("GET", f"{address}/api/events", params={"run": "live"}, timeout=SECONDS) as answer:
                if answer.status_code == 404:  # not begun yet
                    time.sleep(0.1)
                    continue
                text = ""
                for piece in answer.iter_text():
                    text += piece
                    whole, _, text = text.rpartition("\n\n")
                    for kind, value in events(whole + "\n\n"):
                        if kind == "run":
                            rows = [] if value["anew"] else rows
                            rows += value.get("rows", [])
                            head = value.get("head", head)
                    if head.get("status") == "done":
                        break
        assert maker.wait(SECONDS) == 0
    assert head["status"] == "done"
    assert [row[3] for row in rows] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_vanishes_is_told_and_streams_are_bounded(runs, tmp_path):
    import shutil

    with served(runs) as (address, process):
        with httpx.stream("GET", f"{address}/api/events", params={"run": "first"}, timeout=SECONDS) as answer:
            pieces, text = answer.iter_text(), ""
            while "event: run" not in text:
                text += next(pieces)
            shutil.rmtree(runs / "first")
            while "event: gone" not in text:
                text += next(pieces)
        assert httpx.get(f"{address}/api/events", params={"run": "first"}).status_code == 404
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130


def test_a_stream_that_nobody_began_to_read_takes_no_place(runs, tmp_path):
    """As where a browser goes away between its request and the answer."""
    import asyncio

    from starlette.requests import Request

    from noisewright.web.settings import Limits
    from noisewright.web.streams import routes
    from serving import settings_of, talking_to

    with talking_to(settings_of(runs, tmp_path, limits=Limits(streams=1))) as client:
        scope = {"type": "http", "method": "GET", "path": "/api/events", "query_string": b"run=first", "headers": []}
        events_of = routes(client.app.state.parts)[0].endpoint
        assert [asyncio.run(events_of(Request(scope))).status_code for _ in range(3)] == [200, 200, 200]


def test_streams_that_come_at_the_same_time_are_bounded(runs, tmp_path):
    """However many were let in before the first began; one that has ended makes room."""
    import asyncio

    from starlette.requests import Request

    from noisewright.web.settings import Limits
    from noisewright.web.streams import routes
    from serving import settings_of, talking_to

    async def at_once(client, number):
        scope = {"type": "http", "method": "GET", "path": "/api/events", "query_string": b"run=first", "headers": []}
        left, said = asyncio.Event(), []

        async def receive():
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            said.extend([message["status"]] if "status" in message else [])

        endpoint = routes(client.app.state.parts)[0].endpoint
        for _ in range(2):
            answers = [await endpoint(Request(scope, receive)) for _ in range(number)]
            tasks = [asyncio.create_task(one(scope, receive, send)) for one in answers]
            while len(said) < number:
                await asyncio.sleep(0.01)
            left.set()
            await asyncio.gather(*tasks)
            assert sorted(said) == [200, 200, 503, 503]
            said.clear()
            left.clear()

    with talking_to(settings_of(runs, tmp_path, limits=Limits(streams=2))) as client:
        asyncio.run(asyncio.wait_for(at_once(client, 4), SECONDS))


def test_the_head_of_a_stream_ends(runs, tmp_path):
    with served(runs) as (address, _), httpx.Client(base_url=address, timeout=SECONDS) as client:
        answer = client.head("/api/events", params={"run": "first"})
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert client.get("/healthz").status_code == 200  # over the same connection


def test_no_event_names_a_place_of_this_machine(runs, tmp_path):
    """Neither of a run with damaged lines, nor of one that cannot be read any more."""
    with (runs / "first" / "journal.jsonl").open("a") as journal:
        journal.write("what is no line\n")
    with served(runs) as (address, _):
        with httpx.stream("GET", f"{address}/api/events", params={"run": "first"}, timeout=SECONDS) as answer:
            pieces, text = answer.iter_text(), ""
            while "event: run" not in text:
                text += next(pieces)
            (runs / "first" / "run.json").write_text('{"schema_version": 99}')
            text += "".join(pieces)
        assert "damaged lines of first/journal.jsonl" in text
        assert "event: wrong" in text
        assert "got 99 in first/run.json" in text
        assert str(runs) not in text
        assert str(runs) not in httpx.get(f"{address}/api/run", params={"run": "first"}).text


def test_ten_pages_read_a_journal_once(runs, monkeypatch):
    """However many look, one reader reads."""
    from noisewright.run.reading import JournalReader
    from noisewright.web.live import Lives

    read = []
    before = JournalReader.read
    monkeypatch.setattr(JournalReader, "read", lambda self: (read.append(1), before(self))[1])
    lives = Lives()
    threads = [threading.Thread(target=lives.of, args=(runs / "first", "first")) for _ in range(10)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(read) == 1
