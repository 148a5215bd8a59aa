"""Requests drawn at random from what the server takes and from what nobody should send: each is answered as documented.

LEDITS_HOSTILE=SECONDS draws for as long, LEDITS_HOSTILE_REQUESTS=N so many at least, and LEDITS_SEED=N draws others; a
failure names its seed and its number.
"""

import asyncio
import json
import logging
import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from ledits.server.settings import Limits
from serving import Served, png, served

SECONDS = float(os.environ.get("LEDITS_HOSTILE", "0"))
SEED = int(os.environ.get("LEDITS_SEED", "1"))
FEWEST = int(os.environ.get("LEDITS_HOSTILE_REQUESTS", "600"))
MEANT = {503, 507}  # of those from 500 on
MIB = 2**20

TEXTS = [
    "", " ", "+hat", "cat->dog", "-hat:6", "make the cat a dog", "->a dog", "+" * 3000, "a" * 40_000, "+hat:1e309",
    "+hat:nan", "+hat@-0", "+hat[9..1]", "+hat|0,0,0,0", "+hat|9999999,1,1,1", "\x00", "\n\r", "\u2028", "\u202e",
    "{}", "'\";--",
    "../../etc/passwd", "%s%n", "<script>", "🦊" * 200, "e\u0301" * 500, "[" * 900, ",".join(["+a"] * 50), "true",
    "9" * 400,
]  # fmt: skip
NUMBERS: list[Any] = [0, 1, -1, 2, 3, 0.5, 1e308, -1e308, 1e-308, 2**31, 2**63, 2**64, 10**400, True, None]
FIELDS = [
    "prompt", "model", "n", "size", "quality", "background", "output_format", "output_compression", "input_fidelity",
    "partial_images", "stream", "response_format", "user", "source", "edits", "edits[]", "steps", "skip", "seed",
    "inversion",
    "composite", "anyway", "image", "mask", "images", "svg[x]", "moderation", "text", "region", "scales",
    "thresholds", "draft",
    "previews", "format", "\u0000", "a" * 3000,
]  # fmt: skip
SENSIBLE = {
    "n": ["1", "2", "10", "11"], "size": ["auto", "32x24", "64x48", "0x0", "99999x1", "1024x1024"],
    "quality": ["low", "max", "x"],
    "output_format": ["png", "jpeg", "webp", "gif"], "stream": ["true", "false", "2"], "steps": ["1", "2", "0", "201"],
    "response_format": ["b64_json", "url"], "model": ["instant", "gpt-image-2", ""], "background": ["opaque",
    "transparent"],
}  # fmt: skip


class Drawn:
    """One request after the other, from a seed."""

    def __init__(self, seed: int, ids: list[str]) -> None:
        self.r, self.ids = random.Random(seed), ids

    def value(self, depth: int = 0) -> Any:
        kind = self.r.randrange(8 if depth < 4 else 5)
        if kind < 3:
            return self.r.choice(TEXTS)
        if kind < 5:
            return self.r.choice(NUMBERS)
        if kind < 7:
            return [self.value(depth + 1) for _ in range(self.r.choice([0, 1, 2, 17, 120]) if depth < 2 else 2)]
        return {self.r.choice(FIELDS): self.value(depth + 1) for _ in range(self.r.randrange(4))}

    def path(self) -> str:
        id = self.r.choice([*self.ids, "0" * 32, "..%2f..", "%00", "x"])
        return self.r.choice([
            "/v1/images/edits", "/v1/images/edits", "/v1/inversions", "/v1/inversions/file", "/v1/recipes", "/v1/parse",
            f"/v1/inversions/{id}/edits", f"/v1/inversions/{id}/sheets", f"/v1/inversions/{id}",
            f"/v1/inversions/{id}/picture",
            f"/v1/jobs/{id}", "/v1/models", "/v1/models/x", "/v1/words?model=%ff", "/v1/keep", "/healthz", "/readyz",
            "/metrics",
            "/docs", "/openapi.json", "/", "//", "/v1/%2e%2e/x", "/v1/images/generations",
        ])  # fmt: skip

    def body(self) -> tuple[bytes, str]:
        if self.r.random() < 0.45:
            edit = self.r.choice(["+hat", "cat->dog", {"kind": "add", "new": "hat"}, self.value()])
            asked: dict[str, Any] = {"edits": [edit], "scales": [2], "text": "+hat"}
            for _ in range(self.r.randrange(3)):
                asked[self.r.choice(FIELDS)] = self.value()
            for name in self.r.sample(sorted(asked), self.r.randrange(len(asked))):
                del asked[name]
            data = json.dumps(asked).encode()
            return self.spoilt(data), self.r.choice(
                ["application/json"] * 6 + ["text/plain", "application/json; charset=x", ""]
            )
        parts = b""
        fields = [
            (name, self.r.choice(SENSIBLE.get(name, TEXTS))) for name in self.r.sample(FIELDS, self.r.randrange(4))
        ]
        for name, text in [("prompt", "+hat"), *fields][self.r.randrange(2) :]:
            parts += b'--x\r\ncontent-disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (
                name.encode(),
                str(text).encode(),
            )
        for name in self.r.choice(
            [["image"], ["image"], ["image"], ["image[]"], ["image", "mask"], ["inversion", "image"], []]
        ):
            file = png(self.r.randrange(3), *self.r.choice([(32, 24), (8, 8), (300, 9), (4, 4)]), alpha=name == "mask")
            parts += b'--x\r\ncontent-disposition: form-data; name="%b"; filename="a"\r\n\r\n%b\r\n' % (
                name.encode(), self.spoilt(file)
            )  # fmt: skip
        charset = self.r.choice([""] * 6 + ["; charset=punycode", "; charset=utf-7"])
        return self.spoilt(parts + b"--x--\r\n", 0.1), f"multipart/form-data; boundary=x{charset}"

    def spoilt(self, data: bytes, share: float = 0.3) -> bytes:
        if self.r.random() > share or not data:
            return data
        at = self.r.randrange(len(data))
        junk = self.r.choice([b"", b"\0", b"\xff\xfe", b"\\ud800", b"[" * 2000, b'"a":1,' * 500, self.r.randbytes(40)])
        return self.r.choice([data[:at], data[:at] + junk + data[at:], data[:at] + junk + data[at + len(junk) :], junk])

    def headers(self) -> dict[str, str | bytes]:
        return self.r.choice([{}] * 30 + [
            {"accept": "text/event-stream"}, {"host": "evil.example"}, {"origin": "null"},
            {"authorization": b"Bearer \xff"}, {"x-forwarded-for": "1.1.1.1"}, {"cookie": "a" * 9000},
            {"prefer": "respond-async"},
        ])  # fmt: skip


class Pulse:
    """How long the event loop stood still: CPU time of its own, and as a clock has it."""

    def __init__(self, server: Served) -> None:
        self.own = self.clock = 0.0
        self._beating = asyncio.run_coroutine_threadsafe(self._beat(), server.loop)

    async def _beat(self) -> None:
        while True:
            own, clock = time.thread_time(), time.monotonic()
            await asyncio.sleep(0.005)
            self.own = max(self.own, time.thread_time() - own)
            self.clock = max(self.clock, time.monotonic() - clock - 0.005)

    def end(self) -> None:
        self._beating.cancel()


def resident() -> int:
    """Bytes of this process and of those that it started."""
    process = psutil.Process()
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))


# Starlette closes a file whose part never ended when it is collected, and not before.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_hostile_requests_are_answered_as_documented_without_stopping_the_loop_or_filling_the_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, record_property: Any
) -> None:
    caplog.set_level(logging.WARNING, "ledits.serve")
    limits = Limits(
        pixels=200_000, decode_seconds=5, job_seconds=5, upload_seconds=2, store_bytes=8 * MIB, memory_bytes=8 * MIB
    )
    counts, wrong, lock = Counter[int](), list[str](), threading.Lock()
    with served(tmp_path, limits=limits) as server:
        server.service.warm()
        with server.client() as http:
            ids = [http.post("/v1/inversions", files={"image": png(1)}).json()["id"] for _ in range(2)]
        before, pulse, ends = resident(), Pulse(server), time.monotonic() + SECONDS

        def ask(seed: int) -> None:
            drawn = Drawn(seed, ids)
            path, headers, (body, kind) = drawn.path(), drawn.headers(), drawn.body()
            asks = path.endswith(("edits", "sheets", "inversions", "file", "recipes", "parse", "keep"))
            method = drawn.r.choice(["POST" if asks else "GET"] * 12 + ["GET", "DELETE", "PUT", "HEAD"])
            with server.client() as http:
                try:
                    answer = http.request(method, path, content=body, headers={**headers, "content-type": kind})
                except httpx2.HTTPError as error:
                    answer = None
                    said = f"no answer ({error!r})"
            with lock:
                if answer is not None:
                    counts[answer.status_code] += 1
                    said = fault(answer, method)
                if said:
                    wrong.append(f"request {seed}: {method} {path[:80]} {body[:200]!r}: {said}")

        def draw(first: int) -> None:
            seed = first
            while seed < 10**6 * SEED + FEWEST or time.monotonic() < ends:
                ask(seed)
                seed += 8

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(draw, 10**6 * SEED + k) for k in range(8)]:
                done.result()
        grown = resident() - before
        pulse.end()
        with server.client() as http:
            answer = http.post("/v1/images/edits", files={"image": png(1)}, data={"prompt": "+hat"})
            assert answer.status_code == 200
    told = f"{dict(sorted(counts.items()))}; the loop stood still for {pulse.own:.3f} s of its own"
    told += f", {pulse.clock:.3f} by the clock"
    record_property("told", f"{told}; {grown / MIB:.0f} MiB more than idle")
    print(told, f"{grown / MIB:.0f} MiB more than idle")
    assert not wrong, "\n".join(wrong[:10])
    assert not [record for record in caplog.records if record.exc_info], caplog.text[-3000:]
    assert pulse.own < 0.1, told
    assert grown < 256 * MIB, told


def fault(answer: httpx2.Response, method: str) -> str:
    """What is not as documented; "" for nothing."""
    if answer.status_code >= 500 and answer.status_code not in MEANT:
        return f"status {answer.status_code}: {answer.text[:300]}"
    if answer.status_code < 400 or method == "HEAD":
        return ""
    try:
        error = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} is not in the documented form: {answer.text[:300]}"
    if (
        set(error) != {"message", "type", "param", "code"}
        or not error["message"].isprintable()
        or len(error["message"]) > 1100
    ):
        return f"a strange error: {error}"
    return "a traceback" if "Traceback" in answer.text else ""
