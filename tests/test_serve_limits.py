"""Each limit of the server: kept at it and under it, refused past it and a thousand times past it, and cheaply."""

import asyncio
import base64
import contextlib
import errno
import io
import json
import logging
import os
import re
import select
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from ledits.server import jobs, store
from ledits.server.answers import PIECE, pieces
from ledits.server.run import OneLine, Seldom
from ledits.server.settings import Limits
from ledits.studio.page import page
from serving import Served, png, saved, served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    limits = Limits(pixels=1_000_000, decode_seconds=3, jobs=64)
    with served(tmp_path_factory.mktemp("store"), limits=limits) as s:
        yield s


@pytest.fixture
def http(server: Served) -> Generator[httpx2.Client]:
    """Whatever the test did, the server still answers after it."""
    with server.client() as client:
        yield client
        assert client.post("/v1/images/edits", files={"image": png(1)}, data={"prompt": "+hat"}).status_code == 200


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(number: int) -> bytes:
    """A PNG of `number` chunks."""
    whole = png(1)
    extra = chunk(b"teSt", b"") * (number - 3)
    return whole[:33] + extra + whole[33:]


def pages(number: int) -> bytes:
    """A TIFF of so many grey pages of 16x16 pixels, which share their pixels."""
    tags = [(256, 3, 1, 16), (257, 3, 1, 16), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
            (277, 3, 1, 1), (278, 3, 1, 16), (279, 4, 1, 256)]  # fmt: skip
    size, first = 2 + 12 * len(tags) + 4, 8 + 256
    page = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    links = [struct.pack("<I", first + size * (k + 1) if k + 1 < number else 0) for k in range(number)]
    return struct.pack("<2sHI", b"II", 42, first) + bytes(256) + b"".join(page + link for link in links)


def frames(number: int) -> bytes:
    """A GIF of so many frames."""
    still = saved(Image.new("P", (16, 16)), "GIF")
    start = still.index(b",")
    return still[:start] + still[start:-1] * number + b";"


def answered(http: httpx2.Client, picture: bytes) -> tuple[int, str, float]:
    """What both ways in say of a picture, and how long they took."""
    began = time.monotonic()
    told = [
        http.post("/v1/inversions", files={"image": picture}),
        http.post("/v1/images/edits", files={"image": picture}, data={"prompt": "+hat"}),
    ]
    seconds = time.monotonic() - began
    assert told[0].status_code == told[1].status_code, [each.text for each in told]
    said = "" if told[0].status_code == 200 else told[0].json()["error"]["message"]
    return told[0].status_code, said, seconds


def test_a_second_frame_is_enough_to_know_however_many_there_are(http: httpx2.Client) -> None:
    assert answered(http, pages(1))[0] == answered(http, frames(1))[0] == 200
    for many in (pages(2), pages(60_000), frames(2), frames(500_000)):
        status, said, _ = answered(http, many)
        assert (status, "several frames" in said) == (400, True)


def test_a_png_of_millions_of_chunks_is_counted_and_refused(http: httpx2.Client) -> None:
    most = Limits().chunks
    assert answered(http, with_chunks(most - 1))[0] == answered(http, with_chunks(most))[0] == 200
    for many in (most + 1, 1_000_000):
        status, said, _ = answered(http, with_chunks(many))
        assert (status, f"more than {most:,} parts" in said) == (400, True)


@pytest.mark.parametrize(
    ("width", "height", "status"),
    [
        (1000, 1000, 200), (1000, 1001, 413), (1, 10**6 + 1, 413), (24 * 8, 8, 200), (8, 24 * 8, 200),
        (24 * 8 + 1, 8, 400), (10**5, 8, 413), (30_001, 30, 413), (65_000, 65_000, 413),
    ],
)  # fmt: skip
def test_pixels_sides_and_shape_are_read_from_the_header(
    http: httpx2.Client, width: int, height: int, status: int
) -> None:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    row = zlib.compress(bytes((1 + (width + 7) // 8) * min(height, 2000)), 1)
    picture = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", row) + chunk(b"IEND", b"")
    assert answered(http, picture)[0] == status


SLOW = """
import sys
import time

if "ledits.server.decoding" in " ".join(sys.orig_argv):
    from PIL import Image

    first = Image.open

    def slow(*given, **named):
        found = first(*given, **named)
        time.sleep(60 if found.size == (40, 40) else 0)
        return found

    Image.open = slow
"""


def test_a_picture_that_takes_too_long_to_open_is_given_up_and_its_process_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that is slow is stood in for by one that sleeps: `sitecustomize` is read by the new process alone."""
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    before = children()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with served(tmp_path / "store", limits=Limits(decode_seconds=1)) as server, server.client() as http:
        assert answered(http, png(1))[0] == 200
        slow = [None, None]

        def ask(k: int) -> None:
            slow[k] = answered(http, png(1, 40, 40))

        threads = [threading.Thread(target=ask, args=(k,)) for k in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(each[0] == 400 and "takes longer than 1 s to open" in each[1] for each in slow)
        assert answered(http, png(1))[0] == 200
        processes = children() - before
    assert 2 <= len(processes) <= 3
    assert not children() & processes


def test_a_picture_that_takes_too_much_memory_to_open_is_refused_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that asks for 8 GiB is stood in for; none of them is there once it is answered."""
    (tmp_path / "sitecustomize.py").write_text(
        SLOW.replace("time.sleep(60 if", "numpy.empty(2**30 if").replace("import time", "import numpy")
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with served(tmp_path / "store", limits=Limits(pixels=1_000_000)) as server, server.client() as http:
        assert answered(http, png(1))[0] == 200
        status, said, _ = answered(http, png(1, 40, 40))
        assert (status, "takes longer" in said) == (400, False)
        assert answered(http, png(1))[0] == 200


def children() -> set[str]:
    """The decoders that this process started and that are still there."""
    found = set[str]()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"ledits.server.decoding" in (path / "cmdline").read_bytes():
                found.add(path.name)
        except (OSError, ValueError):
            continue
    return found


def test_a_size_that_is_asked_for_has_the_pictures_own_limit(http: httpx2.Client) -> None:
    square = saved(Image.new("RGB", (64, 64)))

    def asked(size: str, n: int = 1) -> int:
        form = {"prompt": "+hat", "size": size, "n": str(n)}
        return http.post("/v1/images/edits", files={"image": square}, data=form).status_code

    assert asked("999x999") == asked("1000x1000") == asked("500x500", 4) == 200
    assert asked("1001x1001") == asked("501x501", 4) == asked("40000x40000") == asked("99999x99999") == 400


def posted(http: httpx2.Client, path: str, body: bytes) -> tuple[int, str]:
    answer = http.post(path, content=body, headers={"content-type": "application/json"})
    error = answer.json().get("error")
    return answer.status_code, error["message"] if error else ""


def test_json_of_millions_of_values_is_counted_before_it_is_built(http: httpx2.Client) -> None:
    made = http.post("/v1/inversions", files={"image": png(1)}).json()["id"]
    most = Limits().json_values
    edits, sheets = f"/v1/inversions/{made}/edits", f"/v1/inversions/{made}/sheets"
    for number, status in ((100, 400), (most // 2 - 10, 400), (most + 1, 413), (800_000, 413)):
        for path, field in ((edits, b"edits"), (sheets, b"scales"), (sheets, b"thresholds"), ("/v1/parse", b"text")):
            for element in (b"1", b"[]", b"{}", b'"+"', b"null"):
                listed = b",".join([element] * number)
                assert posted(http, path, b'{"%b":[%b]}' % (field, listed))[0] == status
    fields = b",".join(b'"f%d":1' % k for k in range(most - 10))
    assert posted(http, edits, b"{%b}" % fields)[0] == 400
    assert posted(http, "/v1/parse", b'{"text":"%b"}' % (rb"\u0041" * 600_000))[0] == 413
    sixteen = b",".join(b'"+hat number %d"' % k for k in range(16))
    assert posted(http, edits, b'{"edits":[%b]}' % sixteen)[0] == 200
    assert posted(http, edits, b'{"edits":[%b,"+hat"]}' % sixteen) == (400, "17 edits: this server allows 16")


def test_bytes_of_json_have_a_limit_of_their_own(http: httpx2.Client) -> None:
    most = Limits().json_bytes
    body = b'{"text":"+hat"}'
    assert posted(http, "/v1/parse", body + b" " * (most - len(body)))[0] == 200
    for more in (most + 1, 2 * most):
        assert posted(http, "/v1/parse", body + b" " * (more - len(body)))[0] == 413


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"text":"+hat","text":"-hat"}', "text is given more than once"),
        (b'{"text":"\\ud800"}', "half a character"),
        (b'{"\\udfff":1}', "half a character"),
        (b'{"text":"+hat","\\u000a":1}', "\\n is not a field of this request"),
        (b'{"text":NaN}', "which is no number of JSON"),
        (b'{"text":' + b"9" * 5000 + b"}", "no JSON"),
        (b'{"text":' + b"[" * 900 + b"]" * 900 + b"}", "text is [["),
        (b'{"text":' + b"[" * 5000 + b"]" * 5000 + b"}", "nested too deeply"),
        (b"\xff\xfe", "no JSON"),
        (b"", "the body is missing"),
    ],
)
def test_strange_json_is_one_sentence(http: httpx2.Client, body: bytes, sentence: str) -> None:
    status, said = posted(http, "/v1/parse", body)
    assert status in (400, 413)
    assert sentence in said
    assert "\n" not in said
    assert len(said) < 1100


@pytest.mark.parametrize("charset", ["punycode", "unicode_escape", "utf-7", "idna", "raw_unicode_escape", "utf-16"])
def test_a_form_is_utf_8_and_nothing_else(http: httpx2.Client, charset: str) -> None:
    def asked(charset: str) -> int:
        text = "a" * 200_000
        body = f'--x\r\ncontent-disposition: form-data; name="prompt"\r\n\r\n{text}\r\n--x--\r\n'.encode()
        head = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
        return http.post("/v1/images/edits", content=body, headers=head).status_code

    assert asked(charset) == asked(charset.upper()) == asked(f'"{charset}"') == 415
    assert asked("utf-8") == asked("UTF-8") == 400


def test_a_form_has_so_many_fields_and_files_and_each_of_them_once(http: httpx2.Client) -> None:
    limits = Limits()

    def asked(fields: list[tuple[str, object]]) -> tuple[int, str]:
        parts = "".join(f'--x\r\ncontent-disposition: form-data; name="{n}"\r\n\r\n{t}\r\n' for n, t in fields).encode()
        file = b'--x\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n%b\r\n--x--\r\n' % png(1)
        head = {"content-type": "multipart/form-data; boundary=x"}
        answer = http.post("/v1/inversions", content=parts + file, headers=head)
        return answer.status_code, answer.json().get("error", {}).get("message", "")

    for many in (limits.fields + 1, 100 * limits.fields):
        assert asked([(f"f{k}", 1) for k in range(many)])[0] == 400
    assert asked([("source", "a" * (limits.text_bytes + 1))])[0] == 400
    assert asked([("source", "a" * 1000)])[0] == 200
    assert asked([("source", "a" * 1001)])[0] == 400
    assert asked([("seed", 1), ("seed", 2)]) == (400, "seed is given more than once")
    for name in ("image", "mask"):
        files = [("image", png(1)), (name, png(1, alpha=True)), (name, png(2, alpha=True))]
        answer = http.post("/v1/images/edits", files=files, data={"prompt": "+hat"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
    many = http.post("/v1/images/edits", files=[("image[]", png(1))] * (limits.files + 1), data={"prompt": "+hat"})
    assert many.status_code == 400


def opened(server: Served, *sent: bytes) -> socket.socket:
    """A connection on which this was sent, one piece after the other's answer."""
    host, port = server.address.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    for piece in sent[:-1]:
        connection.sendall(piece)
        answer = b""
        while not answer.endswith(b'{"status":"ok"}'):
            answer += connection.recv(65536)
    connection.sendall(sent[-1])
    return connection


def rest(connection: socket.socket) -> bytes:
    """What comes until the other side hangs up."""
    answer = b""
    with connection, contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            answer += data
    return answer


WHOLE = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "sent", [(b"",), (b"GET /",), (WHOLE, b"GET /hea"), (WHOLE, WHOLE, b"GET / HTTP/1.1\r\nx: y\r\n")]
)
def test_a_head_has_a_deadline_on_every_connection_old_or_new(tmp_path: Path, sent: tuple[bytes, ...]) -> None:
    with served(tmp_path, limits=Limits(head_seconds=0.3)) as server:
        assert rest(opened(server, *sent)) == b""


def test_a_deadline_for_heads_lets_long_jobs_and_bodies_be(tmp_path: Path) -> None:
    with served(tmp_path, limits=Limits(head_seconds=0.2)) as server:
        server.backbone.delay = 0.2
        with server.client() as http:
            for _ in range(2):
                assert http.post("/v1/inversions", files={"image": png(1)}).status_code == 200


def test_connections_are_so_many_and_the_next_is_told_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with served(tmp_path, limits=Limits(connections=5)) as server:
        held = [opened(server, WHOLE, b"G") for _ in range(5)]
        refused = [rest(opened(server, b"")) for _ in range(20)]
        assert all(answer.startswith(b"HTTP/1.1 503") and b'"code": "busy"' in answer for answer in refused)
        for each in held:
            each.close()
        with server.client() as http:
            assert http.get("/healthz").status_code == 200
    assert "more connections than the 5" in caplog.text


def test_what_is_no_http_is_told_so_in_the_documented_form(server: Served) -> None:
    for noise in (b"\0\0\0\r\n\r\n", b"GET / HTTP/x\r\n\r\n", b"A" * 70_000):
        answer = rest(opened(server, noise))
        assert answer.startswith(b"HTTP/1.1 400")
        assert b'"error"' in answer


def test_a_log_line_can_not_be_forged_and_the_same_complaint_is_not_repeated() -> None:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(OneLine("%(levelname)s %(message)s"))
    handler.addFilter(Seldom())
    logger = logging.Logger("forged")
    logger.addHandler(handler)
    for _ in range(1000):
        logger.error("the same")
    logger.error("a %s", "b\nERROR c\x1b[31m\u2028ERROR d")
    assert said.getvalue().splitlines() == ["ERROR the same", "ERROR a b", "    ERROR c\\x1b[31m", "    ERROR d"]


def test_an_inversion_with_half_a_character_is_refused_and_one_on_the_disk_left_out(tmp_path: Path) -> None:
    with served(tmp_path) as server, server.client() as http:
        made = http.post("/v1/inversions", files={"image": png(1)}, data={"source": "a cat"}).json()
        file = http.get(f"/v1/inversions/{made['id']}/file").content
        sent = http.post("/v1/inversions/file", files={"image": png(1), "inversion": changed(file, source="a \ud800")})
        assert sent.status_code == 400
        assert http.get("/v1/inversions").json()["inversions"] == [made]
    whole = json.loads((tmp_path / f"{made['id']}.json").read_text())
    damaged = [json.dumps(whole | {"id": "a" * 32, "source": "\ud800"}), "[" * 100_000, "{", "[]", "1" * 5000]
    damaged += [json.dumps(whole | {"id": "a" * 32, "created": value}) for value in (None, "x", [], {})]
    for k, text in enumerate(damaged):
        for ending in (".safetensors", ".picture"):
            (tmp_path / f"{k:032x}{ending}").write_bytes(b"kept")
        (tmp_path / f"{k:032x}.json").write_text(text)
    with served(tmp_path) as server, server.client() as http:
        assert http.get("/v1/inversions").json()["inversions"] == [made]
        assert http.get("/readyz").status_code == 200
    assert len(list(tmp_path.iterdir())) == 1 + 3 * (1 + len(damaged))


def changed(file: bytes, **settings: object) -> bytes:
    """An inversion's file with other settings in its header."""
    length = struct.unpack("<Q", file[:8])[0]
    header = json.loads(file[8 : 8 + length])
    about = json.loads(header["__metadata__"]["ledits"])
    for name, value in settings.items():
        (about if name in about else about["settings"])[name] = value
    header["__metadata__"]["ledits"] = json.dumps(about)
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + file[8 + length :]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"area": 10**12}, "it works at 1000000000000 pixels"),
        ({"area": None}, "it works at all pixels"),
        ({"area": 64 * 64 + 1}, "it works at 4097 pixels"),
        ({"steps": 201}, "201 steps"),
        ({"steps": 200_000}, "200000 steps"),
        ({"source": "a" * 1001}, "longer than 1,000 letters"),
        ({"alpha": [1e308] * 7}, "noise levels are not those"),
        ({"skip": 0.3}, "noise levels are not those"),
        ({"order": 1}, "noise levels are not those"),
    ],
)
def test_an_inversion_that_is_sent_costs_no_more_than_one_that_is_made_here(
    server: Served, http: httpx2.Client, settings: dict[str, object], sentence: str
) -> None:
    made = http.post("/v1/inversions", files={"image": png(1)}).json()
    file = http.get(f"/v1/inversions/{made['id']}/file").content
    assert http.post("/v1/inversions/file", files={"image": png(1), "inversion": changed(file)}).status_code == 200
    answer = http.post("/v1/inversions/file", files={"image": png(1), "inversion": changed(file, **settings)})
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]["message"]


def test_a_store_that_fails_is_the_servers_fault_and_readyz_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "store"
    with served(folder) as server, server.client() as http:
        made = http.post("/v1/inversions", files={"image": png(1)}).json()
        assert http.get("/readyz").json() == {"status": "ready"}
        server.service.store._open.clear()
        (folder / f"{made['id']}.safetensors").write_bytes(b"damaged")
        answers = [http.post(f"/v1/inversions/{made['id']}/edits", json={"edits": ["+hat"]})]
        folder.rename(tmp_path / "away")
        answers += [
            http.post("/v1/inversions", files={"image": png(1)}),
            http.post("/v1/inversions/file", files={"image": png(1), "inversion": b"x"}),
        ]
        assert http.get("/readyz").status_code == 503
        assert http.get(f"/v1/inversions/{made['id']}/file").status_code == 404
        (tmp_path / "away").rename(folder)
        assert http.get("/readyz").status_code == 200
    assert [each.status_code for each in answers] == [503, 503, 503]
    assert not any(str(tmp_path) in each.text for each in answers)


def test_a_full_disk_is_507_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with served(tmp_path) as server, server.client() as http:
        monkeypatch.setattr(Path, "write_bytes", full)
        answer = http.post("/v1/inversions", files={"image": png(1)})
        monkeypatch.undo()
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "store_full")
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_readyz_knows_a_job_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_LATE", 0.0)
    with served(tmp_path, limits=Limits(job_seconds=0.3)) as server, server.client() as http:
        server.service.warm()
        with server.backbone.hold:
            asking = threading.Thread(target=http.post, args=["/v1/inversions"], kwargs={"files": {"image": png(1)}})
            asking.start()
            with server.client() as other:
                while other.get("/readyz").status_code == 200:
                    time.sleep(0.05)
                assert other.get("/readyz").json() == {"status": "stuck"}
        asking.join()
        assert http.get("/readyz").status_code == 200


def test_every_refusal_is_a_line_in_the_log_with_its_request(
    server: Served, http: httpx2.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ledits.serve")
    answers = [
        http.get("/nothing/here%0AINFO forged"),
        http.post("/v1/parse", json={"text": "make it nice\nINFO forged"}),
        http.post("/v1/images/edits", files={"image": png(1)}, data={"prompt": "+hat", "model": "gpt-image-2"}),
        http.get("/healthz", headers={"host": "evil.example"}),
    ]
    lines = {
        line["request"]: line for line in map(json.loads, caplog.messages) if "request" in line and "status" in line
    }
    for answer in answers:
        line = lines[answer.headers["x-request-id"]]
        assert (line["status"], line["said"]) == (answer.status_code, answer.json()["error"]["message"])
    assert not any("\n" in message for message in caplog.messages)
    assert "--alias gpt-image-2=instant" in answers[2].json()["error"]["message"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:80", 200), ("127.0.0.1:1", 200), ("[::1]:8000", 200), ("[::1]", 200), ("", 421),
        ("localhost:80:80", 421), ("localhost:x", 421), ("[::1]x", 421), ("[::1", 421), ("localhost]:80", 421),
        ("evil.example:80", 421), ("localhost:evil.example", 421), ("localhost:123456", 421), ("localhost:", 421),
    ],
)  # fmt: skip
def test_a_host_is_a_name_and_perhaps_a_port(server: Served, host: str, status: int) -> None:
    sent = f"GET /healthz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode()
    assert f" {status} ".encode() in rest(opened(server, sent))[:20]


def test_a_key_may_have_any_letters(tmp_path: Path) -> None:
    key = "schlüssel für alle Türen"
    with served(tmp_path, keys=(key,)) as server, server.client() as http:
        for given, status in ((key, 200), (key + "x", 401)):
            headers = {"authorization": f"Bearer {given}".encode()}
            assert http.get("/v1/models", headers=headers).status_code == status


def test_a_failure_that_nobody_foresaw_is_documented_json(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("at /secret/path")

    monkeypatch.setattr(server.service.metrics, "page", fail)
    with server.client() as http:
        answer = http.get("/metrics")
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]


def test_the_documentation_has_every_limit_with_its_value() -> None:
    text = (Path(__file__).parent.parent / "docs/serve.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| .+ \|$", text.split("## Limits")[1].split("\n## ")[0], re.MULTILINE)
    assert {name: float(value.replace(",", "")) for name, value in rows} == asdict(Limits())


def test_requests_open_at_once_are_so_many_and_the_next_is_told_so(tmp_path: Path) -> None:
    head = (
        b"POST /v1/parse HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
    )
    with served(tmp_path, limits=Limits(requests=4)) as server:
        held = [opened(server, head) for _ in range(4)]
        with server.client() as http:
            while (answer := http.get("/v1/models")).status_code == 200:
                time.sleep(0.01)  # until all four are open
        for each in held:
            each.close()
        with server.client() as http:
            while http.get("/v1/models").status_code != 200:
                time.sleep(0.01)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "busy")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("cat.png", "image/png"), ("page.html", "application/octet-stream"), ("a.svg", "application/octet-stream")],
)
def test_a_picture_that_is_called_a_page_is_served_as_none(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(png(1))
    given = tmp_path / name
    with served(tmp_path / "store", page=lambda e: page(e, given)) as server, server.client() as http:
        answer = http.get("/opened")
    assert (answer.content, answer.headers["content-type"]) == (png(1), kind)


def test_large_answers_are_put_into_json_in_pieces_and_away_from_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By structure, not by a clock: which thread puts how much into JSON or into base64 at once."""
    seen = list[tuple[int, int]]()  # thread, letters

    def watched(owner: Any, name: str, size: Callable[[Any, Any], int]) -> None:
        first = getattr(owner, name)

        def wrapped(given: Any, *args: Any, **named: Any) -> Any:
            result = first(given, *args, **named)
            seen.append((threading.get_ident(), size(given, result)))
            return result

        monkeypatch.setattr(owner, name, wrapped)

    watched(json, "dumps", lambda given, result: len(result))
    watched(base64, "b64encode", lambda given, result: len(result))
    watched(base64, "b64decode", lambda given, result: len(result))
    watched(json, "loads", lambda given, result: len(given))
    big, listed = png(1, 900, 600), list[int]()
    with served(tmp_path) as server, server.client() as http:
        first = server.service.store.listed
        monkeypatch.setattr(
            server.service.store, "listed", lambda owner: (listed.append(threading.get_ident()), first(owner))[1]
        )
        seen.clear()
        made = http.post("/v1/inversions", files={"image": big}).json()["id"]
        form = {"prompt": "+hat"}
        sent = {"prompt": "+hat", "images": [{"image_url": "data:image/png;base64," + base64.b64encode(big).decode()}]}
        seen.clear()
        answers = [
            http.post("/v1/images/edits", files={"image": big}, data=form),
            http.post("/v1/images/edits", files={"image": big}, data=form | {"stream": "true", "partial_images": "1"}),
            http.post("/v1/images/edits", content=str(sent).replace("'", '"'), headers=JSON),
            http.post(f"/v1/inversions/{made}/edits", json={"edits": ["+hat"]}),
            http.post(
                f"/v1/inversions/{made}/edits", json={"edits": ["+hat"]}, headers={"accept": "text/event-stream"}
            ),
            http.post(f"/v1/inversions/{made}/sheets", json={"edits": ["+hat"], "scales": [2]}),
            http.get(f"/v1/inversions/{made}/reconstruction"),
            http.get("/v1/inversions"),
            http.post("/v1/keep", files={"before": big, "after": big}),
        ]
        worked = list(seen)
        loop = asyncio.run_coroutine_threadsafe(_thread(), server.loop).result()
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert max(letters for _, letters in worked) > 500_000
    assert max((letters for thread, letters in worked if thread == loop), default=0) < 10_000
    assert listed
    assert loop not in listed


JSON = {"content-type": "application/json"}


async def _thread() -> int:
    return threading.get_ident()


@pytest.mark.parametrize(
    "value",
    [
        {}, [], {"a": []}, "", {"a": {"b": [1, 2.5, None, True, "\u00e9\n\"\\"]}}, "x" * (2 * PIECE),
        {"e\u0301": ["\U0001f98a\"\\\n" * PIECE, 1], "b": "y" * (PIECE + 1)}, [{"k": k} for k in range(60_000)],
    ],
    ids=["{}", "[]", "empty", "nothing", "kinds", "long", "long, other letters", "many"],
)  # fmt: skip
def test_json_in_pieces_is_json(value: Any) -> None:
    written = pieces(value)
    assert json.loads(b"".join(written)) == value
    assert max(map(len, written)) < 14 * PIECE


def test_inversions_at_hand_have_so_many_bytes_and_edits_are_the_same_without_them(tmp_path: Path) -> None:
    def edited(folder: str, limits: Limits) -> tuple[list[str], list[int], int]:
        """Pictures of edits of three inversions in turn; how many are at hand after each; the bytes of one."""
        images, held, sizes = list[str](), list[int](), set[int]()
        with served(tmp_path / folder, limits=limits) as server, server.client() as http:
            ids = [http.post("/v1/inversions", files={"image": png(k)}).json()["id"] for k in range(3)]
            for id in ids * 2:
                images.append(http.post(f"/v1/inversions/{id}/edits", json={"edits": ["+hat"]}).json()["image"])
                held.append(len(server.service.store._open))
                sizes |= {store._size(inversion) for inversion, _ in server.service.store._open.values()}
        return images, held, max(sizes, default=0)

    images, held, size = edited("free", Limits())
    assert held[-3:] == [3, 3, 3]
    for most, expected in ((3 * size, 3), (3 * size - 1, 2), (size, 1), (size - 1, 0), (size // 1000, 0), (0, 0)):
        same, held, _ = edited(f"most-{most}", Limits(memory_bytes=most))
        assert same == images
        assert held[-3:] == [expected] * 3


def test_a_body_that_would_take_a_thousand_times_its_seconds_is_given_up_at_them(tmp_path: Path) -> None:
    body = b'{"text":"+hat"}'
    head = b"POST /v1/parse HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n"
    with served(tmp_path / "fair") as server:
        fair = opened(server, head + b"content-length: %d\r\n\r\n" % len(body))
        for k in range(len(body)):
            time.sleep(0.01)
            fair.sendall(body[k : k + 1])
        assert b" 200 " in rest(fair)[:20]
    with served(tmp_path / "slow", limits=Limits(upload_seconds=0.3)) as server:
        slow, sent = opened(server, head + b"content-length: 6000\r\n\r\n"), 0
        while sent < 6000 and not select.select([slow], [], [], 0.05)[0]:  # 300 s of it
            slow.sendall(b" ")
            sent += 1
        answer = rest(slow)
    assert b" 408 " in answer[:20]
    assert b"longer than 0.3 s to arrive" in answer
    assert sent < 6000
