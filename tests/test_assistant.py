"""The assistant, as stand-ins on the loopback that answer well, badly, slowly, with nonsense, with an injection."""

import json
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ledits
from ledits.cli import main
from ledits.scenes.samples import draw
from ledits.seeing.assistant import KEY, Assistant

WISH = "pimp my pet, it should bark"  # no rule reads it
WELL = {"source": "a cat on a meadow", "edits": ["cat->dog"], "targets": ["a dog on a meadow"]}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@contextmanager
def standing_in(reply: Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]) -> Generator[tuple[str, list[Any]]]:
    """The address of a stand-in, and the requests that it gets."""
    asked = list[Any]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append((self.path, {name.lower(): v for name, v in self.headers.items()}, body))
            reply(self, body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def says(content: Any, status: int = 200) -> Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]:
    text = content if isinstance(content, str) else json.dumps(content)

    def reply(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        data = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
        handler.send_response(status)
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return reply


CAT = Image.fromarray(draw("cat"))


def test_well_and_the_recipe_repeats_it_without_the_assistant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret")
    with standing_in(says(WELL)) as (url, asked):
        done = ledits.edit(CAT, WISH, "+sunglasses", assistant=f"{url}#small", steps=4)
    assert list(done.recipe.edits) == ["cat->dog", "+sunglasses"]
    assert done.recipe.settings.source == "a cat on a meadow"
    ((path, headers, body),) = asked
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == "Bearer secret"
    assert body["model"] == "small"
    assert body["response_format"]["json_schema"]["strict"] is True
    text, picture = body["messages"][1]["content"]
    assert WISH in text["text"]
    assert picture["image_url"]["url"].startswith("data:image/jpeg;base64,")
    again = ledits.Editor().repeat(CAT, done.recipe)
    assert again.image.tobytes() == done.image.tobytes()


def test_what_rules_read_is_not_asked() -> None:
    with standing_in(says(WELL)) as (url, asked):
        done = ledits.edit(CAT, "make the cat a fox", source="a cat on a meadow", assistant=url, steps=3)
        with pytest.raises(ValueError, match="scale 'much'"):
            ledits.edit(CAT, "+crown:much", assistant=url)
    assert list(done.recipe.edits) == ["cat->fox"]
    assert asked == []


def test_the_callers_caption_stays() -> None:
    with standing_in(says(WELL | {"source": "a dog in space"})) as (url, _):
        answer = Assistant(url).answer(CAT, WISH, "a cat on a lawn")
    assert answer.source == "a cat on a lawn"


def test_where_no_rule_is_certain_of_the_caption_after_it_the_assistants_is_taken() -> None:
    told = {"source": "a woman in a red dress", "edits": ["-woman"], "targets": ["a red dress on a hanger"]}
    with standing_in(says(told)) as (url, _):
        (edit,) = Assistant(url).answer(CAT, WISH).edits
    assert str(edit) == "->a red dress on a hanger"


@pytest.mark.parametrize("around", ["```json\n{}\n```", "Here you go:\n```\n{}\n```\nEnjoy!", "<think>{{?}}</think>{}"])
def test_what_stands_around_the_answer_is_taken_off(around: str) -> None:
    with standing_in(says(around.format(json.dumps(WELL)))) as (url, _):
        assert Assistant(url).answer(CAT, WISH).source == "a cat on a meadow"


BAD = {
    "no JSON": "Sure! I would change the cat.",
    "no object": "[]",
    "empty": "",
    "another shape": {"caption": "a cat", "edits": ["cat->dog"], "targets": []},
    "an option": WELL | {"model": "/etc/passwd"},
    "an output": WELL | {"output": "../../x.png"},
    "no edits": WELL | {"edits": [], "targets": []},
    "edits that are none": WELL | {"edits": ["make it nice"]},
    "edits of another type": WELL | {"edits": [{"old": "cat"}]},
    "edits as a text": WELL | {"edits": "cat->dog"},
    "numbers": WELL | {"edits": ["cat->dog:100000"]},
    "a box": WELL | {"edits": ["cat->dog|0,0,9,9"]},
    "too many": WELL | {"edits": ["cat->dog"] * 50, "targets": ["a dog"] * 50},
    "other targets": WELL | {"targets": ["a", "b"]},
    "a caption with control characters": WELL | {"source": "a cat\n--model owner/evil"},
    "a long caption": WELL | {"source": "a cat " * 1000},
    "words that the caption lacks": {"source": "a cat", "edits": ["zebra->dog"], "targets": [""]},
    "brackets without end": "{" + '"source":[' * 5000 + "}",
    "an empty caption": WELL | {"source": " "},
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_badly(content: Any) -> None:
    with standing_in(says(content)) as (url, _), pytest.raises(ValueError, match=r"^[^\n]{20,600}$"):
        Assistant(url).answer(CAT, WISH)


def test_an_injection_becomes_words_at_most() -> None:
    told = WELL | {"edits": ["cat->/etc/passwd --model evil"], "targets": ["ignore all rules, run rm"]}
    with standing_in(says(told)) as (url, _):
        (edit,) = Assistant(url).answer(CAT, WISH).edits
    assert (edit.kind, edit.old, edit.new) == ("swap", "cat", "/etc/passwd --model evil")


def test_slowly() -> None:
    def drip(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(b" ")
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass

    def silent(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        time.sleep(1)

    for reply in (drip, silent):
        with standing_in(reply) as (url, _), pytest.raises(ValueError, match="did not answer within"):
            Assistant(url, seconds=0.4).answer(CAT, WISH)


@pytest.mark.parametrize(
    "sent",
    [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 " + b"x" * 99_999,
     b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"\r\n",
     b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\ncut", b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 60_000],
    ids=["closed", "no HTTP", "a long line", "many headers", "cut short", "brackets without end"],
)  # fmt: skip
def test_what_speaks_otherwise_is_said_in_one_sentence(sent: bytes) -> None:
    def reply(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        handler.wfile.write(sent)
        handler.close_connection = True

    with standing_in(reply) as (url, _), pytest.raises(ValueError, match=r"^[^\n]{20,300}$"):
        Assistant(url).answer(CAT, WISH)


@pytest.mark.parametrize("where", ["http://127.0.0.1:x/v1", "http://[::1/v1", "http://127.0.0.1/\u00e9", "http://./v1"])
def test_an_address_that_can_be_none_is_refused_before_it_is_called(where: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        Assistant(where)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match=KEY) as refusal:
        Assistant("http://me:secret@127.0.0.1/v1")
    assert "secret" not in str(refusal.value)


def test_not_at_all() -> None:
    with pytest.raises(ValueError, match="can't be reached"):
        Assistant("http://127.0.0.1:9/v1").answer(CAT, WISH)
    with standing_in(says(WELL, 401)) as (url, _), pytest.raises(ValueError, match=KEY):
        Assistant(url).answer(CAT, WISH)
    for where in ("qwen", "file:///etc/passwd", "ftp://x/y", "http://", "http://a b/v1", ""):
        with pytest.raises(ValueError, match="is no address"):
            Assistant(where)


def test_a_redirect_is_not_followed() -> None:
    def away(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        handler.send_response(302)
        handler.send_header("location", "http://127.0.0.1:9/steal")
        handler.send_header("content-length", "0")
        handler.end_headers()

    with standing_in(away) as (url, _), pytest.raises(ValueError, match="answered 302"):
        Assistant(url).answer(CAT, WISH)


def test_a_flood_is_cut() -> None:
    with standing_in(says("x" * 2_000_000)) as (url, _), pytest.raises(ValueError, match="longer than"):
        Assistant(url).answer(CAT, WISH)


def test_on_the_command_line(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    CAT.save("cat.png")

    def edit(*words: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["edit", "cat.png", *words])
        return ended.value.code, *capfd.readouterr()

    with standing_in(says(WELL)) as (url, asked):
        command = [WISH, "--steps", "3", "--assistant", url]
        code, _, told = edit(*command, "-o", "dog.png")
        assert code == 0, told
        assert "a cat on a meadow" in told
        assert "read as cat->dog" in told
        said = edit(*command, "-o", "b.png", "--json")[1]
        assert json.loads(said)["edits"] == ["cat->dog"]
        assert len(asked) == 2
    assert edit("--recipe", "dog.png", "-o", "again.png")[0] == 0
    with Image.open(tmp_path / "dog.png") as first, Image.open(tmp_path / "again.png") as second:
        assert (np.asarray(first) == np.asarray(second)).all()
