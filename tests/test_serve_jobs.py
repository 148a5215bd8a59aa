"""Jobs that outlive a connection: asked with `Prefer: respond-async`, told from a record, given again by a key."""

import json
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from ledits.server.settings import Limits
from serving import Served, png, served
from test_serve_process import process

KEYS = ("first-key-of-two-users", "second-key-of-two-users")
LATER = {"prefer": "respond-async"}
EDIT = {"prompt": "+hat"}


@pytest.fixture
def server(tmp_path: Path) -> Generator[Served]:
    with served(tmp_path) as running:
        yield running


def ask(http: httpx2.Client, headers: dict[str, str], seed: int = 1, **fields: str) -> httpx2.Response:
    return http.post("/v1/images/edits", files={"image": png(seed)}, data=EDIT | fields, headers=headers)


def ended(http: httpx2.Client, id: str) -> dict[str, Any]:
    """A job once it is over."""
    while (job := http.get(f"/v1/jobs/{id}").raise_for_status().json())["status"] == "running":
        time.sleep(0.02)
    return job


def test_a_job_is_asked_polled_and_has_the_answer_that_a_connection_would_have_had(server: Served) -> None:
    with server.client() as http:
        directly = ask(http, {})
        with server.backbone.hold:
            asked = ask(http, LATER)
            job = asked.json()
            assert asked.status_code == 202
            assert asked.headers["preference-applied"] == "respond-async"
            assert asked.headers["location"] == f"/v1/jobs/{job['id']}"
            assert (job["status"], job["code"]) == ("running", None)
            waits = http.get(job["result"])
            assert waits.status_code == 202
            assert int(waits.headers["retry-after"]) >= 1
        assert ended(http, job["id"])["status"] == "done"
        result = http.get(job["result"])
        assert result.json()["data"] == directly.json()["data"]
        assert result.headers["x-ledits-job"] == job["id"]
        assert [each["id"] for each in http.get("/v1/jobs").json()["jobs"]] == [job["id"]]
        assert http.delete(f"/v1/jobs/{job['id']}").json() == {"deleted": job["id"]}
        assert http.get(job["result"]).status_code == 404


def test_our_own_endpoints_can_be_asked_so_and_tell_of_their_steps(server: Served) -> None:
    with server.client() as http:
        made = http.post("/v1/inversions", files={"image": png(1)}, headers=LATER).json()
        ended(http, made["id"])
        id = http.get(made["result"]).json()["id"]
        server.backbone.delay = 0.1
        job = http.post(f"/v1/inversions/{id}/edits", json={"edits": ["+hat"]}, headers=LATER).json()
        told = http.get(f"/v1/jobs/{job['id']}/events").text
        names = [line.removeprefix("event: ") for line in told.splitlines() if line.startswith("event: ")]
        assert set(names) == {"step", "end"}
        last = json.loads(told.rsplit("data: ", 1)[1])
        assert (last["status"], last["latest"]["i"] > 0, "preview" in last["latest"]) == ("done", True, False)
        assert "recipe" in http.get(job["result"]).json()


def test_a_job_is_cancelled_and_what_is_refused_is_refused_at_once(server: Served) -> None:
    with server.client() as http:
        assert ask(http, LATER, prompt="make it nice, whatever").status_code == 400
        assert http.get("/v1/jobs").json() == {"jobs": []}
        with server.backbone.hold:
            job = ask(http, LATER).json()
            assert http.delete(f"/v1/jobs/{job['id']}").json() == {"cancelled": job["id"]}
        assert ended(http, job["id"])["status"] == "cancelled"
        assert http.get(job["result"]).json()["error"]["code"] == "cancelled"


def test_a_stream_whose_job_is_cancelled_is_no_result(server: Served) -> None:
    with server.client() as http:
        id = http.post("/v1/inversions", files={"image": png(1)}).json()["id"]
        server.backbone.delay = 0.1
        headers = LATER | {"accept": "text/event-stream"}
        job = http.post(f"/v1/inversions/{id}/edits", json={"edits": ["+hat"]}, headers=headers).json()
        while not http.get(f"/v1/jobs/{job['id']}").json()["latest"]:
            time.sleep(0.02)
        http.delete(f"/v1/jobs/{job['id']}")
        assert ended(http, job["id"])["status"] == "cancelled"
        assert "event: error" in http.get(job["result"]).text


def test_the_same_key_gives_the_same_answer_and_another_request_under_it_is_422(server: Served) -> None:
    with server.client() as http:
        key = {"idempotency-key": "order-17"}
        first, calls = ask(http, key), server.backbone.calls
        again = ask(http, key)  # its form has a boundary of its own
        assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
        assert again.headers["x-ledits-job"] == first.headers["x-ledits-job"]
        assert server.backbone.calls == calls
        other = ask(http, key, seed=2)
        assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
        assert ask(http, key | LATER).json()["status"] == "done"
        assert ask(http, {"idempotency-key": "x" * 256}).status_code == 400
        assert ask(http, {"idempotency-key": ""}).status_code == 400


def test_openais_client_sends_the_key(server: Served) -> None:
    client = openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0)
    answers = [
        client.images.edit(image=png(1), prompt="+hat", extra_headers={"Idempotency-Key": "order-18"}) for _ in range(2)
    ]
    assert answers[0] == answers[1]


def test_who_leaves_finds_the_job_going_on_under_the_key_and_a_refusal_is_tried_anew(server: Served) -> None:
    with server.client() as http:
        key = {"idempotency-key": "order-19"}
        with server.backbone.hold:
            with pytest.raises(httpx2.TimeoutException):
                http.post("/v1/images/edits", files={"image": png(1)}, data=EDIT, headers=key, timeout=0.5)
            joined: list[httpx2.Response] = []
            waiting = threading.Thread(target=lambda: joined.append(ask(http, key)))
            waiting.start()
            time.sleep(0.2)
        waiting.join()
        assert joined[0].json()["data"][0]["revised_prompt"] == "+hat"
        assert len(http.get("/v1/jobs").json()["jobs"]) == 1
        refused = ask(http, {"idempotency-key": "order-20"}, background="transparent")
        assert refused.status_code == 400
        assert "idempotent-replayed" not in ask(http, {"idempotency-key": "order-20"}, background="transparent").headers


def test_two_keys_have_quotas_and_jobs_of_their_own(tmp_path: Path) -> None:
    with (
        served(tmp_path, keys=KEYS, limits=Limits(key_jobs=2)) as server,
        server.client(KEYS[0]) as first,
        server.client(KEYS[1]) as second,
    ):
        with server.backbone.hold:
            jobs = [ask(first, LATER).json() for _ in range(2)]
            full = ask(first, LATER)
            assert (full.status_code, full.json()["error"]["code"]) == (429, "key_busy")
            assert int(full.headers["retry-after"]) >= 1
            other = ask(second, LATER | {"idempotency-key": "mine"})
            assert other.status_code == 202
            for path in ("", "/result", "/events"):
                assert second.get(f"/v1/jobs/{jobs[0]['id']}{path}").status_code == 404
            assert second.delete(f"/v1/jobs/{jobs[0]['id']}").status_code == 404
        assert ended(first, jobs[1]["id"])["status"] == "done"
        mine = ask(first, {"idempotency-key": "mine"}, seed=3)
        assert (mine.status_code, "idempotent-replayed" in mine.headers) == (200, False)


def test_answers_are_kept_within_their_number_their_bytes_and_their_time(tmp_path: Path) -> None:
    def kept(limits: Limits) -> int:
        with served(tmp_path / str(limits.answers), limits=limits) as server, server.client() as http:
            for _ in range(3):
                ended_or_gone(http, ask(http, LATER).json()["id"])
            return len(http.get("/v1/jobs").json()["jobs"])

    def ended_or_gone(http: httpx2.Client, id: str) -> None:
        while http.get(f"/v1/jobs/{id}").json().get("status") == "running":
            time.sleep(0.02)

    assert kept(Limits(answers=2)) == 2
    assert kept(Limits(answers=3, answers_bytes=100)) == 0
    assert kept(Limits(answers=4, answers_seconds=0.0)) == 0
    assert [path for path in tmp_path.rglob("*") if path.suffix == ".answer" and path.parts[-3] in "34"] == []


def test_jobs_survive_a_restart_and_one_that_was_running_is_stopped(tmp_path: Path) -> None:
    key = {"idempotency-key": "order-21"}
    with process(tmp_path) as (running, http):
        done = ask(http, LATER | key).json()
        ended(http, done["id"])
        before = http.get(done["result"])
        running.terminate()
        assert running.wait(timeout=20) == 0
    with process(tmp_path, delay=60) as (running, http):
        late = ask(http, LATER | {"idempotency-key": "order-22"}, seed=2).json()
        running.kill()
        running.wait()
    with process(tmp_path) as (running, http):
        assert ask(http, key).content == http.get(done["result"]).content == before.content
        assert http.get(f"/v1/jobs/{late['id']}").json()["status"] == "stopped"
        gone = http.get(late["result"])
        assert (gone.status_code, gone.json()["error"]["code"]) == (410, "stopped")
        anew = ask(http, {"idempotency-key": "order-22"}, seed=2)
        assert (anew.status_code, anew.headers["x-ledits-job"] != late["id"]) == (200, True)


def test_a_damaged_record_hinders_no_start(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    folder.mkdir()
    for name, text in (("a" * 32, "{"), ("b" * 32, '{"id": "../../x"}'), ("c" * 32, "[" * 10_000)):
        (folder / f"{name}.json").write_text(text)
    with served(tmp_path) as server, server.client() as http:
        assert http.get("/v1/jobs").json() == {"jobs": []}
