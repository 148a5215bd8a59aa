"""64 clients at once against `ledits serve` and the bundled model: what it bears, and what it answers.

    python benchmarks/serve.py [SECONDS] > figures.json

Each client loops over what real and hostile ones do: edits of pictures of mixed sizes, one in four of them cancelled,
inversions that are edited, slow uploads, bombs, endless bodies, garbage, names that climb out of folders. Every picture
that comes back is compared with the bytes that `ledits edit` writes for it. At the end the server is killed under load
and started again.
"""

import base64
import io
import json
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
from PIL import Image

from ledits import scenes

CLIENTS = 64
STORE = 1  # MiB: small, so that room has to be made all the time
# (longer side in pixels, edit, seed): few enough to make each with the command line first
CASES = [(48, "cat->dog", 0), (64, "+crown", 1), (64, "cat->fox", 2), (100, "cat->panda", 3), (160, "+crown", 4),
         (320, "cat->dog", 5), (640, "cat->rabbit", 6), (1200, "cat->dog", 7)]  # fmt: skip
SOURCE, STEPS = "a cat on a beach", 8


@dataclass
class Seen:
    """What the clients saw, counted."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list[str])
    waits: list[float] = field(default_factory=list[float])
    rss: list[int] = field(default_factory=list[int])
    store: list[int] = field(default_factory=list[int])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1

    def mistake(self, what: str) -> None:
        with self.lock:
            self.wrong.append(what)


class Server:
    """`ledits serve` as a process."""

    def __init__(self, store: Path) -> None:
        command = [sys.executable, "-m", "ledits", "serve", "--port", "0", "--store", str(store), "--queue", "16",
                   "--store-size", str(STORE), "--upload", "8"]  # fmt: skip
        self.log = (store.parent / "server.log").open("a+")
        self.log.seek(0, 2)
        began = self.log.tell()
        self.process = subprocess.Popen(command, stderr=self.log, stdout=self.log)
        while True:
            time.sleep(0.2)
            self.log.seek(began)
            if found := re.search(r"at (http://\S+)", self.log.read()):
                self.address = found[1]
                return
            if self.process.poll() is not None:
                raise SystemExit("the server did not start")

    def client(self, timeout: float = 120.0) -> httpx2.Client:
        return httpx2.Client(base_url=self.address, timeout=timeout)

    def socket(self) -> socket.socket:
        host, port = self.address.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=30)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 120.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = folder / "store"
        cases = [made(folder, *case) for case in CASES]
        server, seen = Server(store), Seen()
        warm(server, cases)
        idle = psutil.Process(server.process.pid).memory_info().rss
        stop = threading.Event()
        watching = threading.Thread(target=watch, args=(server, store, seen, stop))
        threads = [threading.Thread(target=client, args=(server, cases, seen, stop, k)) for k in range(CLIENTS)]
        for thread in (watching, *threads):
            thread.start()
        time.sleep(seconds)
        stop.set()
        for thread in (watching, *threads):
            thread.join()
        alive = server.process.poll() is None
        with server.client() as http:
            healthy = http.get("/healthz").status_code == 200
            metrics = http.get("/metrics").text
        after = killed(server, store, cases, seen)
        figures = {
            "clients": CLIENTS, "seconds": seconds, "alive": alive, "healthy": healthy,
            "rss_mib": {"idle": idle // 2**20, "peak": max(seen.rss) // 2**20, "end": seen.rss[-1] // 2**20},
            "store_mib": {"bound": STORE, "peak": round(max(seen.store) / 2**20, 2)},
            "answers": dict(sorted(seen.counts.items())), "wrong": seen.wrong,
            "seconds_of_an_accepted_edit": {
                "median": round(float(np.median(seen.waits)), 2), "p95": round(float(np.quantile(seen.waits, 0.95)), 2)
            },
            "jobs": dict(re.findall(r"^(ledits_jobs_total\S+) (\S+)", metrics, re.M)), "after_a_kill": after,
        }  # fmt: skip
        print(json.dumps(figures, indent=1))


def made(folder: Path, side: int, edit: str, seed: int) -> tuple[bytes, str, int, bytes]:
    """A picture, its edit, and what the command line makes of it."""
    rng = np.random.default_rng(seed)
    scene = scenes.Scene((scenes.Placed("cat", 32 + seed, 32, 32),), "beach", seed)
    picture = Image.fromarray(scene.render(128)).resize(
        (side, round(side * rng.uniform(0.7, 1))), Image.Resampling.BICUBIC
    )
    path, output = folder / f"{seed}.png", folder / f"{seed}-edited.png"
    picture.save(path)
    command = [sys.executable, "-m", "ledits", "edit", path, edit, "-o", output, "--source", SOURCE, "--steps",
               str(STEPS), "--seed", str(seed)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return path.read_bytes(), edit, seed, output.read_bytes()


def warm(server: Server, cases: list[Any]) -> None:
    with server.client() as http:
        for picture, edit, seed, expected in cases:
            answer = http.post("/v1/images/edits", files={"image": picture}, data=form(edit, seed))
            assert base64.b64decode(answer.json()["data"][0]["b64_json"]) == expected, "not the command line's bytes"


def form(edit: str, seed: int) -> dict[str, str]:
    return {"prompt": edit, "seed": str(seed), "steps": str(STEPS), "source": SOURCE}


def client(server: Server, cases: list[Any], seen: Seen, stop: threading.Event, number: int) -> None:
    """One client's life; each act is counted by how it ended."""
    rng = random.Random(number)
    acts = [edit] * 6 + [cancel] * 3 + [keep] * 2 + [slow, bomb, zeros, endless, garbage, climb]
    while not stop.is_set():
        act = rng.choice(acts)
        try:
            act(server, rng.choice(cases), seen, rng)
        except (httpx2.HTTPError, OSError) as error:
            seen.count(f"{act.__name__}: {type(error).__name__}")
        except Exception as error:
            seen.mistake(f"{act.__name__}: {error!r}")


def edit(server: Server, case: Any, seen: Seen, rng: random.Random) -> None:
    picture, words, seed, expected = case
    with server.client() as http:
        began = time.monotonic()
        answer = http.post("/v1/images/edits", files={"image": picture}, data=form(words, seed))
    seen.count(f"edit: {answer.status_code}")
    if answer.status_code == 200:
        seen.waits.append(time.monotonic() - began)
        if base64.b64decode(answer.json()["data"][0]["b64_json"]) != expected:
            seen.mistake(f"edit: another picture came back for seed {seed}")
    elif answer.status_code == 429:
        time.sleep(min(int(answer.headers["retry-after"]), 3) * rng.random())
    else:
        seen.mistake(f"edit: {answer.status_code} {answer.text[:200]}")


def cancel(server: Server, case: Any, seen: Seen, rng: random.Random) -> None:
    picture, words, seed, _ = case
    with server.client(timeout=rng.uniform(0.02, 2)) as http:
        answer = http.post("/v1/images/edits", files={"image": picture}, data=form(words, seed))
    seen.count(f"cancel: in time, {answer.status_code}")


def keep(server: Server, case: Any, seen: Seen, rng: random.Random) -> None:
    """Invert, edit what was kept, and compare; it may have made room for others by then."""
    picture, words, seed, expected = case
    fields = {"seed": str(seed), "steps": str(STEPS), "source": SOURCE}
    with server.client() as http:
        answer = http.post("/v1/inversions", files={"image": picture}, data=fields)
        seen.count(f"invert: {answer.status_code}")
        if answer.status_code != 200:
            time.sleep(rng.random())
            return
        id = answer.json()["id"]
        answer = http.post(f"/v1/inversions/{id}/edits", json={"edits": [words], "previews": False})
        seen.count(f"edit kept: {answer.status_code}")
        if answer.status_code == 200 and base64.b64decode(answer.json()["image"]) != expected:
            seen.mistake(f"edit kept: another picture came back for seed {seed}")


def slow(server: Server, case: Any, seen: Seen, rng: random.Random) -> None:
    """An upload that trickles, and is given up half way or finished."""
    picture = case[0][:4000]
    body = b'--x\r\ncontent-disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + picture + b"\r\n--x--\r\n"
    with server.socket() as connection:
        connection.sendall(head(f"content-length: {len(body)}"))
        for k in range(rng.randint(1, 12)):
            connection.sendall(body[k * 300 : (k + 1) * 300])
            time.sleep(0.2)
    seen.count("slow: left")


def bomb(server: Server, case: Any, seen: Seen, rng: random.Random) -> None:
    """A PNG that says it has a thousand million pixels."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 40_000, 25_000, 8, 2, 0, 0, 0)),
             (b"IDAT", zlib.compress(bytes(2_000_000))), (b"IEND", b"")]  # fmt: skip
    packed = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    refused(server, b"\x89PNG\r\n\x1a\n" + packed, 413, "bomb", seen)


def zeros(server: Server, case: Any, seen: Seen, rng: random.Random) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(5_000_000))
    refused(server, rng.choice([buffer.getvalue(), bytes(1_000_000), b""]), 400, "zeros", seen)


def refused(server: Server, picture: bytes, status: int, what: str, seen: Seen) -> None:
    with server.client() as http:
        answer = http.post("/v1/images/edits", files={"image": picture}, data={"prompt": "+crown"})
    seen.count(f"{what}: {answer.status_code}")
    if answer.status_code not in (status, 503):
        seen.mistake(f"{what}: {answer.status_code} {answer.text[:200]}")


def endless(server: Server, case: Any, seen: Seen, rng: random.Random) -> None:
    """A body without an end: it is answered at the limit, and cut off once 64 MiB more were dropped."""
    sent = 0
    with server.socket() as connection:
        connection.sendall(head("transfer-encoding: chunked"))
        try:
            while sent < 256 * 2**20:
                connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
                sent += 65536
        except OSError:
            seen.count("endless: cut off")
            return
    seen.mistake("endless: 256 MiB were taken")


def garbage(server: Server, case: Any, seen: Seen, rng: random.Random) -> None:
    with server.socket() as connection:
        kind = rng.randrange(3)
        body = rng.randbytes(3000)
        connection.sendall([body, head("content-length: 3000") + body, head("content-length: x")][kind])
        connection.settimeout(5)
        answer = connection.recv(100)
    seen.count(f"garbage: {answer[9:12].decode(errors='replace') or 'closed'}")


def climb(server: Server, case: Any, seen: Seen, rng: random.Random) -> None:
    """Names that climb out of the store's folder, in every place that takes one."""
    name = rng.choice(["../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "/etc/passwd", "%00", "." * 2000])
    with server.client() as http:
        answers = [
            http.get(f"/v1/inversions/{name}/file"),
            http.post("/v1/inversions", files={"image": (name, case[0])}, data={"model": name}),
            http.post("/v1/images/edits", files={"image": case[0]}, data={"prompt": "+crown", "inversion": name}),
        ]
    for answer in answers:
        seen.count(f"climb: {answer.status_code}")
        if answer.status_code == 200 or b"root:" in answer.content:
            seen.mistake(f"climb: {name} was answered")


def head(more: str) -> bytes:
    kind = "content-type: multipart/form-data; boundary=x"
    return f"POST /v1/inversions HTTP/1.1\r\nhost: localhost\r\n{kind}\r\n{more}\r\n\r\n".encode()


def watch(server: Server, store: Path, seen: Seen, stop: threading.Event) -> None:
    process = psutil.Process(server.process.pid)
    while not stop.wait(0.25):
        seen.rss.append(process.memory_info().rss)
        sizes = 0
        for path in (*store.glob("*.safetensors"), *store.glob("*.picture")):
            try:
                sizes += path.stat().st_size
            except FileNotFoundError:
                continue
        seen.store.append(sizes)


def killed(server: Server, store: Path, cases: list[Any], seen: Seen) -> dict[str, Any]:
    """Kill the server while it works, start it again, and use everything that it kept."""
    stop = threading.Event()
    threads = [threading.Thread(target=client, args=(server, cases, Seen(), stop, 100 + k)) for k in range(16)]
    for thread in threads:
        thread.start()
    time.sleep(5)
    server.process.kill()
    server.process.wait()
    stop.set()
    for thread in threads:
        thread.join()
    again = Server(store)
    with again.client() as http:
        kept = http.get("/v1/inversions").json()["inversions"]
        usable = 0
        for each in kept:
            expected = next(case for case in cases if case[2] == each["seed"])
            answer = http.post(f"/v1/inversions/{each['id']}/edits", json={"edits": [expected[1]], "previews": False})
            usable += answer.status_code == 200 and base64.b64decode(answer.json()["image"]) == expected[3]
    files = Counter(path.suffix for path in store.iterdir() if path.suffix)
    again.process.terminate()
    return {"kept": len(kept), "usable": usable, "files": files, "exit_after_sigterm": again.process.wait(60)}


if __name__ == "__main__":
    main()
