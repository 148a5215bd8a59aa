"""GIMP's plug-in in the real GIMP 3, without a screen, and its plain parts without GIMP.

    GIMP=gimp-console-3.0 pytest tests/test_gimp.py

`GIMP` is how it is started, with other words before it if need be: "chroot /trixie gimp-console-3.0". Such a place must
see this checkout and the folder for temporary files under the names that they have here.
"""

import importlib.util
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serving import served

ROOT = Path(__file__).parent.parent
PLUGIN = ROOT / "integrations/gimp/ledits"
GIMP = shlex.split(os.environ.get("GIMP", shutil.which("gimp-console-3.0") or ""))
WIDTH, HEIGHT = 40, 32


def loaded() -> Any:
    """The plug-in's module that asks the server."""
    spec = importlib.util.spec_from_file_location("gimp_client", PLUGIN / "client.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


client = loaded()


def picture(channels: int = 3) -> Any:
    pixels = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, channels), np.uint8)
    return client.Picture(WIDTH, HEIGHT, pixels.tobytes())


def pixels(png: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_png_has_the_pixels_that_were_given(channels):
    given = picture(channels)
    assert pixels(client.png(given)).tobytes() == given.pixels


def test_what_changed_is_white_to_the_pixel():
    before = np.random.default_rng(2).integers(0, 256, (HEIGHT * WIDTH, 3), np.uint8)
    after, there = before.copy(), np.random.default_rng(3).random(HEIGHT * WIDTH) < 0.3
    after[there, np.arange(there.sum()) % 3] ^= 1  # the least of changes, in one colour
    assert client.changed(before.tobytes(), after.tobytes()) == (there * np.uint8(255)).tobytes()
    assert not any(client.changed(before.tobytes(), before.tobytes()))


def test_an_edit_is_told_of_as_it_goes_and_the_next_one_needs_no_inversion(tmp_path):
    told: list[tuple[str, float]] = []
    region = np.zeros((HEIGHT, WIDTH), np.uint8)
    region[8:24, 8:24] = 255
    with served(tmp_path) as server, server.client() as other:
        asked = client.Server(server.address)
        first = asked.edit(picture(), "add a crown", "", region.tobytes(), {}, lambda *each: told.append(each))
        assert first.understood == "+crown"
        before, after = pixels(client.png(picture())), pixels(first.image)
        assert (before == after)[region == 0].all()
        assert (before != after).any()
        assert [share for _, share in told] == sorted(share for _, share in told)
        assert told[-1][0] == "Editing"
        assert "Taking the picture apart" in dict(told)
        kept = {"key": first.key, "inversion": first.inversion}
        told.clear()
        second = asked.edit(picture(), "+hat", "", None, kept, lambda *each: told.append(each))
        assert second.inversion == first.inversion
        assert "Taking the picture apart" not in dict(told)
        # One that is gone, and one of another picture or caption, are made again.
        other.delete(f"/v1/inversions/{first.inversion}")
        third = asked.edit(picture(), "+hat", "", None, kept, lambda *_: None)
        assert third.image == second.image
        assert asked.edit(picture(4), "+hat", "", None, kept, lambda *_: None).inversion != third.inversion
        fourth = asked.edit(picture(), "cat->dog", "a cat", None, kept, lambda *_: None)
        assert fourth.inversion != third.inversion


def test_a_key_is_sent_and_a_wrong_one_is_said_to_be_wrong(tmp_path):
    with served(tmp_path, keys=("k" * 16,)) as server:
        ask = lambda key: client.Server(server.address, key).edit(picture(), "+hat", "", None, {}, lambda *_: None)  # noqa: E731
        assert ask("k" * 16).understood == "+hat"
        for wrong in ("", "another"):
            with pytest.raises(client.Failed, match="wants its key"):
                ask(wrong)
        with pytest.raises(client.Failed, match="copy it again"):
            ask("k\n")


READ = {"edits": [{"kind": "add", "new": "hat"}], "grammar": "+hat", "unknown": []}


@contextmanager
def answering(**answers: tuple[int, bytes]) -> Generator[str]:
    """The address of a server that says what it is told to say, by the last word of a path."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status, body = answers[self.path.rpartition("/")[2]]
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"parse": (200, b"<html>")}, "is no server of ledits"),
        ({"parse": (404, b"<html>")}, "is no server of ledits"),
        ({"parse": (302, b"")}, "is no server of ledits"),
        ({"parse": (200, json.dumps({**READ, "unknown": ["zebra"]}).encode())}, "does not know the word 'zebra'"),
        (
            {"inversions": (200, event("done", {"inversion": {"id": "1", "suits": False}}))},
            "can't draw pictures like this one",
        ),
        ({"inversions": (200, event("progress", {"done": 1, "total": 2}))}, "ended before the edit was done"),
        ({"inversions": (200, b"event: done\ndata: {")}, "is no server of ledits"),
        ({"inversions": (413, b'{"error": {"message": "it is too large"}}')}, "The server refused: it is too large."),
        ({"edits": (200, event("step", {"i": 1, "n": 2}))}, "ended before the edit was done"),
        ({"edits": (404, b'{"error": {"message": "", "code": "not_found"}}')}, "did not keep the picture"),
        (
            {"edits": (200, event("error", {"error": {"message": "no", "code": "cancelled"}}))},
            "The edit was cancelled.",
        ),
    ],
)
def test_whatever_answers_one_sentence_is_said(answers, said):
    usual = {
        "parse": (200, json.dumps(READ).encode()),
        "inversions": (200, event("done", {"inversion": {"id": "1", "suits": True}})),
    }
    with answering(**{**usual, **answers}) as address, pytest.raises(client.Failed, match=said) as failed:
        client.Server(address).edit(picture(), "+hat", "", None, {}, lambda *_: None)
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize("address", ["", "here", "ftp://127.0.0.1", "http://", "http://127.0.0.1:port", "http://[::1"])
def test_what_is_no_address_is_said_to_be_none(address):
    with pytest.raises(client.Failed, match="is no address of a server"):
        client.Server(address)


class Outcomes:
    """What tests/gimp_script.py wrote down."""

    def __init__(self, folder: Path, inversions: int, said: str) -> None:
        self._folder, self.inversions, self.said = folder, inversions, said
        self.notes: dict[str, dict[str, Any]] = json.loads((folder / "notes.json").read_text())

    def seen(self, case: str, when: str) -> np.ndarray[Any, Any]:
        """The image as it looks, 16-bit RGBA."""
        return np.fromfile(self._folder / f"{case}.{when}", np.uint16).reshape(HEIGHT, WIDTH, 4)

    def bytes(self, case: str, what: str) -> np.ndarray[Any, Any]:
        """A mask, a selection, or a layer's 8-bit RGBA."""
        width, height = self.notes[case].get("size", (WIDTH, HEIGHT)) if what != "selection" else (WIDTH, HEIGHT)
        return np.fromfile(self._folder / f"{case}.{what}", np.uint8).reshape(height, width, -1).squeeze()


@pytest.fixture(scope="module")
def gimp(tmp_path_factory: pytest.TempPathFactory) -> Generator[Outcomes]:
    if not GIMP:
        pytest.skip("GIMP names no GIMP 3, and there is no gimp-console-3.0")
    home, folder = tmp_path_factory.mktemp("gimp"), tmp_path_factory.mktemp("outcomes")
    shutil.copytree(PLUGIN, home / "plug-ins/ledits", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "noise").write_bytes(np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH, 4), np.uint16).tobytes())
    script = f"exec(open({str(ROOT / 'tests/gimp_script.py')!r}).read())"
    command = [*GIMP, "-idf", "--batch-interpreter=python-fu-eval", "-b", script, "--quit"]
    with served(tmp_path_factory.mktemp("store")) as server, server.client() as client:
        more = {"GIMP3_DIRECTORY": str(home), "LEDITS_TEST_FOLDER": str(folder), "LEDITS_TEST_ADDRESS": server.address}

        def hold() -> None:
            """Cancel the one job that comes while the network is held."""
            while not (folder / "hold").exists():
                if over.wait(0.05):
                    return
            jobs = server.service.jobs
            with server.backbone.hold:
                (folder / "held").touch()
                while jobs.idle and not over.wait(0.05):
                    pass
                for job in list(jobs._known.values()):
                    jobs.cancel(job)

        over = threading.Event()
        watching = threading.Thread(target=hold)
        watching.start()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **more})
        finally:
            over.set()
            watching.join()
        assert (folder / "notes.json").exists(), (done.stdout + done.stderr)[-5000:]
        yield Outcomes(folder, len(client.get("/v1/inversions").json()["inversions"]), done.stdout + done.stderr)


EDITED = (
    "rgb",
    "rgba",
    "grey",
    "16",
    "float",
    "selected",
    "again",
    "captioned",
    "selected-16",
    "visible",
    "profile",
    "grouped",
)


@pytest.mark.parametrize("case", EDITED)
def test_gimp_makes_a_layer_named_after_the_edit_and_outside_its_mask_not_one_bit_changes(case, gimp):
    note = gimp.notes[case]
    assert note["done"], note
    named = {"again": "+hat", "captioned": "cat->dog"}.get(case, "+crown:30")
    assert note["name"].removesuffix(" #1") == named  # as GIMP tells two of one name apart
    before, after, mask = gimp.seen(case, "before"), gimp.seen(case, "after"), gimp.bytes(case, "mask")
    assert mask.any()
    assert (before != after).any()
    assert (before == after)[mask == 0].all()


@pytest.mark.parametrize("case", ["rgb", "grey", "16", "float", "rgba", "visible"])
def test_inside_of_its_mask_the_image_looks_as_the_server_drew_it_and_keeps_its_shape(case, gimp):
    before, after, mask = gimp.seen(case, "before"), gimp.seen(case, "after"), gimp.bytes(case, "mask")
    drawn = gimp.bytes(case, "layer").astype(np.float64) * 257
    off = np.abs(after - drawn)[..., :3][(mask == 255) & (before[..., 3] > 0)]
    assert off.max() <= 257  # of 65535: 8 bits of precision
    assert (before[..., 3] == after[..., 3]).all()


@pytest.mark.parametrize("case", ["selected", "again", "captioned", "selected-16"])
def test_outside_of_a_selection_nothing_changes_and_at_its_soft_edge_a_part(case, gimp):
    selection, mask = gimp.bytes(case, "selection"), gimp.bytes(case, "mask")
    assert (mask[selection == 0] == 0).all()
    assert selection[mask > 0].min() < 255 or case == "selected-16"


def test_the_layer_lies_on_the_one_that_was_edited_and_has_its_place_and_transparency(gimp):
    note = gimp.notes["among"]
    assert note["layers"][0] == "above"
    assert note["layers"][2:] == ["small", "ground"]
    assert note["offsets"] == [20, 10]
    assert note["size"] == [16, 16]
    before, after = gimp.seen("among", "before"), gimp.seen("among", "after")
    outside = np.ones((HEIGHT, WIDTH), bool)
    outside[10:26, 20:36] = False
    assert (before == after)[outside].all()
    assert len(np.unique(gimp.bytes("among", "layer")[..., 3])) > 100


def test_what_lies_in_a_group_is_edited_in_it(gimp):
    assert gimp.notes["grouped"]["parent"] == "group"
    assert gimp.notes["grouped"]["layers"] == ["group", "ground"]


def test_a_picture_is_taken_apart_once(gimp):
    """Five kinds; the selected one and its result; a profile, a group, 16 bits; small, visible, small again."""
    assert gimp.inversions == 5 + 2 + 3 + 3


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("beside", "The selection lies beside the layer: select a part of the layer, or nothing."),
        ("two", "Select one layer, and not its mask or a channel; or choose to edit what is visible."),
        (
            "nothing-asked",
            'Say what to change: a sentence such as "make the cat a dog", or an edit such as +sunglasses.',
        ),
        ("unread", "The server refused: "),
        ("nobody", "No server of ledits is at http://127.0.0.1:9: start one with `ledits serve`, or set its address."),
        ("no-address", "'here' is no address of a server: one such as http://127.0.0.1:8000 is needed."),
        ("idle", "Edit 1 of +crown:0 changed nothing: its scale is 0."),
        ("cancelled", "The edit was cancelled."),
        ("indexed", "A picture with a colormap can't take an edit: choose Image > Mode > RGB first."),
    ],
)
def test_what_gimp_is_refused_is_one_sentence_and_leaves_the_image_alone(case, said, gimp):
    note = gimp.notes[case]
    assert not note["done"]
    assert said in note["said"]
    assert "\n" not in note["said"]
    assert "Traceback" not in gimp.said
    assert (gimp.seen(case, "before") == gimp.seen(case, "after")).all()
