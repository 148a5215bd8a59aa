"""`ledits serve` as a process: how it starts, how it ends, and what another start finds."""

import base64
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from ledits import cli
from ledits.backbones.latent_unet import LatentUNet
from ledits.editor import Editor
from serving import decoded, png, saved, served

SIGTERMS = int(os.environ.get("LEDITS_SIGTERMS", "2"))
EVENTS = {"accept": "text/event-stream"}


@contextmanager
def process(folder: Path, delay: float = 0.0) -> Generator[tuple[subprocess.Popen[str], httpx2.Client]]:
    """The server of `serving.py` as a process, and a client of it."""
    running = subprocess.Popen(
        [sys.executable, "tests/serving.py", str(folder), str(delay)],
        cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert running.stdout is not None
        address = running.stdout.readline().strip()
        assert address, running.communicate()[1]
        with httpx2.Client(base_url=address, timeout=60) as http:
            yield running, http
    finally:
        running.kill()
        running.communicate()


def test_sigterm_finishes_the_job_in_hand_refuses_others_and_a_new_start_finds_what_was_kept(tmp_path: Path) -> None:
    with process(tmp_path, delay=0.15) as (running, http):
        made = http.post("/v1/inversions", files={"image": png(1)}).json()
        path, asked = f"/v1/inversions/{made['id']}/edits", {"edits": ["+hat"]}
        waiting: list[httpx2.Response] = []
        queued = threading.Thread(target=lambda: waiting.append(http.post(path, json=asked)))
        with http.stream("POST", path, json=asked, headers=EVENTS) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "event: step"
            queued.start()
            while "ledits_jobs_waiting 1.0" not in http.get("/metrics").text:
                time.sleep(0.01)
            running.send_signal(signal.SIGTERM)
            queued.join()
            refused = http.post("/v1/inversions", files={"image": png(2)})
            ready = http.get("/readyz")
            told = "\n".join(lines)
        assert (waiting[0].status_code, refused.status_code, ready.status_code) == (503, 503, 503)
        assert waiting[0].headers["retry-after"] == "5"
        assert refused.json()["error"]["code"] == "shutting_down"
        done = json.loads(told.split("event: done\ndata: ")[1].split("\n")[0])
        assert running.wait(timeout=20) == 0
    left = sorted(path.suffix for path in tmp_path.iterdir() if path.name != "lock")
    assert left == [".json", ".picture", ".safetensors"]
    with process(tmp_path) as (running, http):
        assert http.get("/v1/inversions").json()["inversions"] == [made]
        assert http.post(path, json=asked).json()["image"] == done["image"]
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=20) == 0


@pytest.mark.parametrize("signals", [1, 2])
def test_sigterm_ends_the_process_while_a_step_can_not_be_stopped(tmp_path: Path, signals: int) -> None:
    told: list[httpx2.Response] = []
    with process(tmp_path, delay=60) as (running, http):
        asking = threading.Thread(target=lambda: told.extend(ended(http, png(1))))
        asking.start()
        while "ledits_waited_seconds_count 1.0" not in http.get("/metrics").text:
            time.sleep(0.01)
        for _ in range(signals):
            running.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        assert running.wait(timeout=10) == 0
        asking.join()
        assert running.stderr is not None
        assert "Traceback" not in running.stderr.read()
    if signals == 1:
        assert (told[0].status_code, told[0].json()["error"]["code"]) == (503, "shutting_down")
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_sigterm_gives_a_long_job_some_seconds_and_then_stops_it_between_two_steps(tmp_path: Path) -> None:
    with process(tmp_path, delay=0.5) as (running, http):
        made = http.post("/v1/inversions", files={"image": png(1)}, data={"steps": "60"}).json()
        path, asked = f"/v1/inversions/{made['id']}/edits", {"edits": ["+hat"]}
        told: list[httpx2.Response] = []
        asking = threading.Thread(target=lambda: told.append(http.post(path, json=asked)))
        asking.start()
        while "ledits_waited_seconds_count 2.0" not in http.get("/metrics").text:
            time.sleep(0.01)
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=10) == 0
        asking.join()
    assert (told[0].status_code, told[0].json()["error"]["code"]) == (503, "shutting_down")


def test_sigterm_at_a_random_moment_ends_the_process_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    """LEDITS_SIGTERMS=20 for as many of them, each on the store of the one before."""
    promised, statuses, waited = set[str](), Counter[int](), list[float]()
    for time_of_it in range(SIGTERMS):
        drawn = random.Random(time_of_it)
        with process(tmp_path, delay=drawn.choice([0.005, 0.05, 0.5])) as (running, http):
            found = {each["id"] for each in http.get("/v1/inversions").json()["inversions"]}
            assert found >= promised, "what was promised is lost"

            def ask(number: int, http: httpx2.Client = http) -> None:
                asked = random.Random(number)
                with contextlib.suppress(httpx2.HTTPError):  # the process is gone
                    while True:
                        size = asked.choice([(32, 24), (300, 200)])
                        kept = http.post("/v1/inversions", files={"image": png(number, *size)})
                        statuses[kept.status_code] += 1
                        if kept.status_code == 200:
                            promised.add(id := kept.json()["id"])
                            edited = http.post(f"/v1/inversions/{id}/edits", json={"edits": ["+hat"]})
                            statuses[edited.status_code] += 1
                            if edited.status_code == 200:
                                decoded(edited.json()["image"])

            threads = [threading.Thread(target=ask, args=(10 * time_of_it + k,)) for k in range(6)]
            for thread in threads:
                thread.start()
            time.sleep(drawn.uniform(0, 3))
            running.send_signal(signal.SIGTERM)
            began = time.monotonic()
            assert running.wait(timeout=10) == 0
            waited.append(time.monotonic() - began)
            for thread in threads:
                thread.join()
        endings = defaultdict[str, set[str]](set)
        for path in tmp_path.iterdir():
            endings[path.stem].add(path.suffix)
        assert endings.pop("lock") == {""}
        assert all(there == {".json", ".picture", ".safetensors"} for there in endings.values())
    assert set(statuses) <= {200, 429, 503}
    with process(tmp_path) as (_, http):
        kept = [each["id"] for each in http.get("/v1/inversions").json()["inversions"]]
        assert set(kept) == set(endings) >= promised
        for id in kept:
            assert http.post(f"/v1/inversions/{id}/edits", json={"edits": ["+hat"]}).status_code == 200
    print(f"{SIGTERMS} times SIGTERM: gone after {max(waited):.1f} s at most; {len(kept)} kept; {dict(statuses)}")


def ended(http: httpx2.Client, picture: bytes) -> list[httpx2.Response]:
    """Ask for an inversion that nobody waits for; its answer, where there is one."""
    with contextlib.suppress(httpx2.HTTPError):
        return [http.post("/v1/inversions", files={"image": picture})]
    return []


def test_killed_while_it_keeps_an_inversion_it_starts_again_without_it(tmp_path: Path) -> None:
    with process(tmp_path, delay=0.05) as (running, http):
        made = http.post("/v1/inversions", files={"image": png(1)}).json()
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                try:
                    http.post("/v1/inversions", files={"image": png(2)})
                except httpx2.HTTPError:
                    return

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        running.kill()
        stop.set()
        for thread in threads:
            thread.join()
    (tmp_path / ("c" * 32 + ".safetensors")).write_bytes(b"half of one")
    with process(tmp_path) as (running, http):
        kept = http.get("/v1/inversions").json()["inversions"]
        assert made in kept
        for each in kept:
            assert http.post(f"/v1/inversions/{each['id']}/edits", json={"edits": ["+hat"]}).status_code == 200
        assert len(list(tmp_path.glob("*.safetensors"))) == len(kept)


def test_the_bundled_model_gives_the_command_lines_bytes(
    tmp_path: Path, bundled: LatentUNet, scene_pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(saved(Image.fromarray(scene_pictures[0])))
    with served(tmp_path / "store", editors={"scenes": Editor(bundled)}) as server, server.client() as http:
        form = {"prompt": "+crown", "source": "a cat on a beach", "steps": "4"}
        answer = http.post("/v1/images/edits", files={"image": picture.read_bytes()}, data=form)
        noise = {"image": png(1, 64, 64)}
        refused = [
            http.post("/v1/images/edits", files=files, data=form | more).json()["error"]
            for files, more in (({"image": picture.read_bytes()}, {"prompt": "+rhino"}), (noise, {}))
        ]
        anyway = http.post("/v1/images/edits", files=noise, data=form | {"prompt": "+rhino", "anyway": "true"})
        words = http.get("/v1/words").json()
        parsed = http.post("/v1/parse", json={"text": "make the cat a rhino"}).json()
    # Wherever the command line got its loader from, it ends here.
    monkeypatch.setattr("ledits.editor.loaded", lambda *_, **__: bundled)
    output = str(tmp_path / "out.png")
    with pytest.raises(SystemExit) as ended:
        cli.main(["edit", str(picture), "+crown", "--source", "a cat on a beach", "--steps", "4", "-o", output])
    assert ended.value.code == 0
    assert base64.b64decode(answer.json()["data"][0]["b64_json"]) == Path(output).read_bytes()
    assert [each["code"] for each in refused] == ["unknown_word", "unsuitable_image"]
    assert "does not know the word 'rhino': it knows cat, dog" in refused[0]["message"]
    assert anyway.status_code == 200
    assert {"cat", "crown", "beach"} <= set(words["words"])
    assert {"cat", "red apple", "beach"} <= set(words["things"])
    assert parsed["unknown"] == ["rhino"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--host", "0.0.0.0"], r"set LEDITS_API_KEY"),
        (["--model", "=x"], r"write NAME=MODEL"),
        (["--alias", "gpt"], r"--alias 'gpt': write NAME=MODEL"),
        (["--model", "no/such/folder"], r"no/such/folder"),
        (["--store", "/dev/null/x"], r"can't be kept in /dev/null/x"),
    ],
)
def test_a_start_that_can_not_be_is_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LEDITS_API_KEY", raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", *arguments, "--port", "0"])
    told = capsys.readouterr().err.removeprefix("ledits loads scenes\n")
    assert ended.value.code == 2
    assert re.search(sentence, told)
    assert told.count("\n") == 1


def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(tmp_path) as server, pytest.raises(SystemExit) as ended:
        cli.main(["serve", "--port", server.address.rpartition(":")[2], "--store", str(tmp_path / "other")])
    assert ended.value.code == 2
    assert "can't be listened on" in capsys.readouterr().err


def node(folder: Path, script: str) -> str:
    """What a module prints that may import the official client."""
    modules = Path(__file__).parent.parent / ".venv/js/node_modules"
    if not (modules / "openai").exists():
        pytest.skip("OpenAI's client for JavaScript is not installed: npm install --prefix .venv/js openai")
    (folder / "node_modules").symlink_to(modules)
    (folder / "cat.png").write_bytes(png(1))
    (folder / "script.mjs").write_text(script)
    return subprocess.run(
        ["node", "script.mjs"], cwd=folder, check=True, timeout=60, capture_output=True, text=True
    ).stdout


def test_javascripts_official_client_edits_a_picture(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "docs/serve.md").read_text()
    snippet = text.split("needs: server -->\n```javascript\n")[1].split("```")[0]
    with served(tmp_path / "store") as server:
        node(tmp_path, snippet.replace("http://127.0.0.1:8000", server.address))
        expected = Editor(server.backbone).edit(png(1), "+crown")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "crown.png")), expected.rgb)


def test_javascripts_official_client_streams_and_has_its_own_class_for_each_refusal(tmp_path: Path) -> None:
    with served(tmp_path / "store", keys=("a key of the tests' own",)) as server:
        told = node(
            tmp_path,
            """
            import fs from "node:fs";
            import OpenAI, { toFile } from "openai";
            const at = { baseURL: "ADDRESS/v1", maxRetries: 0 };
            const client = new OpenAI({ ...at, apiKey: "a key of the tests' own" });
            const stranger = new OpenAI({ ...at, apiKey: "another" });
            const image = await toFile(fs.readFileSync("cat.png"), "cat.png", { type: "image/png" });
            const ask = (by, more) => by.images.edit({ image, prompt: "+hat", ...more });
            for await (const event of await ask(client, { stream: true, partial_images: 1 })) console.log(event.type);
            console.log((await ask(client, { mask: undefined, n: 2 })).data.length);
            for (const [by, more] of [[stranger, {}], [client, { model: "gpt" }], [client, { prompt: "make it nice" }]])
              await ask(by, more).catch((e) => console.log(e.constructor.name, e.status, e.code));
            """.replace("ADDRESS", server.address),
        )
    assert told.split("\n")[:-1] == [
        "image_edit.partial_image",
        "image_edit.completed",
        "2",
        "AuthenticationError 401 invalid_api_key",
        "NotFoundError 404 model_not_found",
        "BadRequestError 400 unknown_instruction",
    ]


@pytest.mark.parametrize("language", ["bash", "python"])
def test_the_documentations_snippets_do_what_they_say(tmp_path: Path, language: str) -> None:
    (tmp_path / "cat.png").write_bytes(png(1))
    text = (Path(__file__).parent.parent / "docs/serve.md").read_text()
    snippet = text.split(f"needs: server -->\n```{language}\n")[1].split("```")[0]
    with served(tmp_path / "store") as server:
        snippet = snippet.replace("http://127.0.0.1:8000", server.address)
        command = [sys.executable, "-c", snippet] if language == "python" else ["bash", "-ec", snippet]
        ran = subprocess.run(command, cwd=tmp_path, check=True, timeout=60, capture_output=True, env=os.environ)
    assert b"cat->dog" in ran.stdout
