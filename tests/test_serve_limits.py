"""Each limit of the server: kept at it and under it, refused past it and a thousand times past it, and cheaply."""

import os
import struct
import threading
import time
import zlib
from collections.abc import Generator
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from ledits.server.settings import Limits
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
