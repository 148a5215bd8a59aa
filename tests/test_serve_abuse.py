"""Hostile and broken requests over real sockets: each is one sentence, none costs memory, and the server goes on."""

import io
import re
import shutil
import socket
import struct
import subprocess
import threading
import zipfile
import zlib
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from ledits.editor import Editor
from ledits.server.settings import Limits
from serving import Served, decoded, png, saved, served

LIMITS = Limits(upload_bytes=300_000, json_bytes=50_000, upload_seconds=0.5, pixels=50_000, jobs=64)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    with served(tmp_path_factory.mktemp("store"), limits=LIMITS) as s:
        yield s


@pytest.fixture
def http(server: Served) -> Generator[httpx2.Client]:
    """Whatever the test did, the server still answers after it."""
    with server.client() as client:
        yield client
    with server.client() as client:
        assert client.post("/v1/images/edits", files={"image": png(1)}, data={"prompt": "+hat"}).status_code == 200


def bomb(width: int, height: int) -> bytes:
    """A PNG of so many black pixels, in few bytes."""
    row = b"\0" * (1 + (width + 7) // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(min(height, 2000))) + packer.flush()
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    packed = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(50_000_000))
    return buffer.getvalue()


def raw(server: Served, *parts: bytes, wait: float = 5.0) -> bytes:
    """What a server answers to bytes sent as they are."""
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        answer = b""
        try:
            for part in parts:
                connection.sendall(part)
            while data := connection.recv(65536):
                answer += data
        except (ConnectionError, TimeoutError):
            pass
        return answer


@pytest.mark.parametrize(
    ("picture", "status", "sentence"),
    [
        (bomb(40_000, 25_000), 413, "this server takes 50,000 at most"),
        (bomb(300, 300), 413, "300x300 pixels"),
        (zipped(), 400, "no picture that this server can read"),
        (b"", 400, "no picture that this server can read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", 400, "no picture that this server can read"),
        (png(1)[:-40], 400, "damaged or incomplete"),
        (bomb(200, 200)[:60], 400, "damaged or incomplete"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 500, 400, "no picture that this server can read"),
        (saved(Image.new("RGB", (4, 4))), 400, "at least 8x8"),
    ],
    ids=["bomb", "large", "zip", "empty", "eps", "cut", "cut early", "noise", "tiny"],
)  # fmt: skip
def test_a_file_that_is_no_fair_picture_is_refused(
    http: httpx2.Client, picture: bytes, status: int, sentence: str
) -> None:
    for path, data in (("/v1/images/edits", {"prompt": "+hat"}), ("/v1/inversions", {})):
        answer = http.post(path, files={"image": picture}, data=data)
        assert answer.status_code == status, answer.text
        assert sentence in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "\x00", "%00", "." * 3000]
)
def test_no_name_that_a_client_gives_reaches_the_disk(server: Served, http: httpx2.Client, name: str) -> None:
    folder = server.service.settings.folder
    before = {path.name for path in folder.parent.rglob("*") if "store" not in str(path)}
    quoted = name.replace("\x00", "%00")
    for path in ("", "/file", "/picture", "/reconstruction"):
        assert http.get(f"/v1/inversions/{quoted}{path}").status_code in (200, 404)
        assert "root:" not in http.get(f"/v1/inversions/{quoted}{path}").text
    assert http.post("/v1/inversions", files={"image": (name, png(1))}).status_code == 200
    assert http.post("/v1/inversions", files={"image": png(1)}, data={"model": name}).status_code in (400, 404)
    answer = http.post("/v1/images/edits", files={"image": (name, png(1))}, data={"prompt": "+hat", "inversion": name})
    assert answer.status_code in (400, 404)
    assert http.post("/v1/inversions", files={name: png(1)}).status_code == 400
    assert {path.name for path in folder.parent.rglob("*") if "store" not in str(path)} == before
    assert all(re.fullmatch(r"[0-9a-f]{32}\.(json|safetensors|picture)|lock", path.name) for path in folder.iterdir())


def test_a_damaged_inversion_file_is_refused_and_leaves_nothing(server: Served, http: httpx2.Client) -> None:
    folder = server.service.settings.folder
    made = http.post("/v1/inversions", files={"image": png(1)}).json()
    whole = http.get(f"/v1/inversions/{made['id']}/file").content
    before = sorted(folder.iterdir())
    huge = struct.pack("<Q", 2**62) + whole[8:]
    for damaged in (b"", b"x" * 100, whole[:-9], huge, zipped(), whole.replace(b"format", b"tamrof")):
        answer = http.post("/v1/inversions/file", files={"image": png(1), "inversion": damaged})
        assert answer.status_code == 400, answer.text
        assert str(folder) not in answer.text
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("content-type: multipart/form-data", b"--x\r\n\r\n"),
        ("content-type: multipart/form-data; boundary=x", b"\xff" * 3000),
        ("content-type: multipart/form-data; boundary=x", b"--x\r\ncontent-disposition: form-data\r\n\r\nx\r\n--x--"),
        ("content-type: multipart/form-data; boundary=x", b"--x\r\ncontent-disposition: form-data; name=image"),
        ("content-type: text/plain", b"hello"),
        ("x: y", b"hello"),
    ],
)  # fmt: skip
def test_a_garbled_form_is_a_client_error(server: Served, http: httpx2.Client, head: str, body: bytes) -> None:
    request = f"POST /v1/images/edits HTTP/1.1\r\nhost: localhost\r\n{head}\r\ncontent-length: {len(body)}\r\n"
    answer = raw(server, f"{request}connection: close\r\n\r\n".encode() + body)
    assert re.match(rb"HTTP/1.1 4(00|15) ", answer), answer
    assert b'{"error":{"message":' in answer


def test_thousands_of_fields_and_deep_json_are_refused(http: httpx2.Client) -> None:
    files = {"image": png(1)}
    assert http.post("/v1/images/edits", files=files, data={f"f{i}": "x" for i in range(500)}).status_code == 400
    headers = {"content-type": "application/json"}
    for body in (b"[" * 40_000, b"{", b"\xff", b"null", b'{"edits": 1e999999}'):
        assert http.post("/v1/parse", content=body, headers=headers).status_code in (400, 413)


def test_an_endless_body_is_cut_off(server: Served, http: httpx2.Client) -> None:
    head = b"POST /v1/inversions HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=x\r\n"
    head += b"transfer-encoding: chunked\r\n\r\n"
    part = b'--x\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n'
    chunks = [b"%x\r\n%s\r\n" % (len(each), each) for each in (part, *[bytes(50_000)] * 40)]
    assert b"HTTP/1.1 413 " in raw(server, head, *chunks)


@pytest.mark.parametrize("expect", [b"", b"expect: 100-continue\r\n"])
def test_who_sends_all_before_reading_still_reads_the_refusal(
    server: Served, http: httpx2.Client, expect: bytes
) -> None:
    size = 20_000_000
    head = b"POST /v1/inversions HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=x\r\n"
    answer = raw(server, head + expect + b"content-length: %d\r\n\r\n" % size, bytes(size))
    assert b"HTTP/1.1 413 " in answer
    assert b"connection: close" in answer.lower()
    assert answer.endswith(b'"code":"too_large"}}')


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("more", [[], ["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked"]])
def test_curl_prints_the_refusal_of_what_is_too_large(
    server: Served, http: httpx2.Client, tmp_path: Path, more: list[str]
) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(bytes(20_000_000))
    command = ["curl", "-sS", *more, "-F", f"image=@{large}", f"{server.address}/v1/inversions"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert '"code":"too_large"' in done.stdout


def test_what_says_that_it_is_too_large_is_refused_before_it_is_sent(server: Served, http: httpx2.Client) -> None:
    head = "POST /v1/{} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n"
    assert b" 413 " in raw(server, head.format("inversions", "multipart/form-data; boundary=x", 10**12).encode())
    assert b" 413 " in raw(server, head.format("parse", "application/json", 60_000).encode())


def test_a_body_that_trickles_in_is_given_up(server: Served, http: httpx2.Client) -> None:
    head = b"POST /v1/inversions HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=x\r\n"
    answer = raw(server, head + b"content-length: 1000\r\n\r\n--x\r\n")
    assert b"HTTP/1.1 408 " in answer
    assert b"longer than 0.5 s to arrive" in answer


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example"]
)
def test_a_foreign_name_for_this_machine_is_refused(server: Served, http: httpx2.Client, host: str) -> None:
    assert http.get("/v1/inversions", headers={"host": host}).status_code == 421
    assert http.get("/v1/inversions", headers={"host": "localhost:99"}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1"])
def test_pages_of_other_sites_may_not_call(server: Served, http: httpx2.Client, origin: str) -> None:
    answer = http.post("/v1/inversions", files={"image": png(1)}, headers={"origin": origin})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    assert http.get("/v1/models", headers={"origin": server.address}).status_code == 200


def test_a_site_that_was_allowed_may_call_and_no_other(tmp_path: Path) -> None:
    with served(tmp_path, origins=("https://a.example",)) as server, server.client() as http:
        answer = http.get("/v1/models", headers={"origin": "https://a.example"})
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        asked = {"origin": "https://a.example", "access-control-request-method": "POST"}
        assert http.options("/v1/inversions", headers=asked).status_code == 200
        assert http.get("/v1/models", headers={"origin": "https://b.example"}).status_code == 403


def test_clients_at_once_get_their_own_pictures(server: Served) -> None:
    editor = Editor(server.backbone)
    hats = [editor.edit(png(k), "+hat", seed=k).rgb for k in range(24)]
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            raw(server, b"POST /v1/inversions HTTP/1.1\r\nhost: x\r\n\r\n" + bytes(100), wait=0.1)

    def ask(k: int) -> bool:
        with server.client() as http:
            if k % 4 == 3:
                with pytest.raises(httpx2.ReadTimeout):
                    http.post("/v1/images/edits", files={"image": png(99)}, data={"prompt": "+cat"}, timeout=0.001)
            form = {"prompt": "+hat", "seed": str(k), "response_format": "b64_json"}
            answer = http.post("/v1/images/edits", files={"image": png(k)}, data=form)
            assert answer.status_code == 200, answer.text
            return np.array_equal(decoded(answer.json()["data"][0]["b64_json"]), hats[k])

    noise = threading.Thread(target=disturb)
    noise.start()
    with ThreadPoolExecutor(24) as pool:
        right = list(pool.map(ask, range(24)))
    stop.set()
    noise.join()
    assert right == [True] * 24


def test_a_failure_inside_is_a_500_that_tells_nothing_and_is_noted(
    server: Served, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("at /secret/path")

    monkeypatch.setattr(server.backbone, "encode", fail)
    answer = http.post("/v1/inversions", files={"image": png(1)})
    monkeypatch.undo()
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "at /secret/path" in caplog.text
