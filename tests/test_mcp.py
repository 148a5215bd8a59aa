"""`ledits mcp` by the official client, over standard input and over HTTP."""

import base64
import io
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from hosts import ROOT
from ledits.backbones import load
from ledits.editor import Editor
from ledits.mcp.folders import Folders
from ledits.scenes.samples import draw
from serving import served

KEY = "a key of more than sixteen"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(draw("cat")).save(folder / "cat.png")
    (tmp_path / "secret.png").write_bytes((folder / "cat.png").read_bytes())
    return folder


@asynccontextmanager
async def over_standard_input(photos: Path) -> AsyncGenerator[Client]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "ledits", "mcp", str(photos), "--device", "cpu"], env=environment
    )
    async with Client(command) as client:
        yield client


@asynccontextmanager
async def over_http(photos: Path) -> AsyncGenerator[Client]:
    editors = {"scenes": Editor(load(device="cpu", dtype="float32"))}
    with served(photos.parent / "store", editors=editors, keys=(KEY,), tools=(photos,)) as server:
        headers = {"authorization": f"Bearer {KEY}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            Client(streamable_http_client(f"{server.address}/mcp", http_client=http)) as client,
        ):
            yield client


TRANSPORTS = {"standard input": over_standard_input, "HTTP": over_http}


async def ask(client: Client, tool: str, **arguments: Any) -> tuple[dict[str, Any], Image.Image | None]:
    """The words and the picture of an answer; AssertionError with its sentence where it is a refusal."""
    answer = await client.call_tool(tool, arguments)
    text = answer.content[0].text
    assert not answer.is_error, text
    size = sum(len(part.model_dump_json()) for part in answer.content)
    assert size < 40_000, "hosts refuse more"
    pictures = [part for part in answer.content if part.type == "image"]
    shown = Image.open(io.BytesIO(base64.b64decode(pictures[0].data))) if pictures else None
    return json.loads(text), shown


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    answer = await client.call_tool(tool, arguments)
    assert answer.is_error
    (part,) = answer.content
    assert "\n" not in part.text
    assert len(part.text) < 900
    return part.text


@pytest.mark.parametrize("transport", TRANSPORTS.values(), ids=TRANSPORTS)
def test_a_cat_becomes_a_dog_is_judged_undone_and_kept(transport, photos: Path) -> None:
    async def play() -> None:
        async with transport(photos) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert set(tools) == {"look", "models", "invert", "edit", "sheet", "undo", "redo", "keep"}
            assert all(tool.description and len(tool.description) < 400 for tool in tools.values())
            told, shown = await ask(client, "look", picture="cat.png")
            assert (told["width"], told["height"], shown.size) == (128, 128, (128, 128))
            told, _ = await ask(client, "models")
            assert "cat" in told["models"]["scenes"]["words"]
            assert told["folders"] == [str(photos)]
            opened, _ = await ask(client, "invert", picture="cat.png", caption="a cat on a meadow")
            assert opened["mode"] == "caption"
            dog, shown = await ask(client, "edit", inversion=opened["id"], edits=["make the cat a dog"])
            assert dog["edits"] == ["cat->dog"]
            assert dog["targets"] == ["a dog on a meadow"]
            assert 0.02 < dog["shares"][0] < 0.6
            assert shown.size == (128, 128)
            assert Path(dog["path"]) == photos / "cat-edited.png"
            back, _ = await ask(client, "undo", inversion=opened["id"])
            assert back["path"] == str(photos / "cat.png")
            again, _ = await ask(client, "redo", inversion=opened["id"])
            assert again["path"] == dog["path"]
            await ask(client, "undo", inversion=opened["id"])
            worn, _ = await ask(
                client,
                "edit",
                inversion=opened["id"],
                edits=["+sunglasses"],
                output="worn.png",
                region=[20, 20, 90, 90],
            )
            assert worn["position"] == "1 of 1"
            assert (photos / "worn.png").is_file()
            _, sheet = await ask(client, "sheet", inversion=opened["id"], edits=["+sunglasses"], scales=[1, 3])
            assert sheet.width > sheet.height
            kept, _ = await ask(client, "keep", before="cat.png", after="worn.png")
            assert Path(kept["path"]) == photos / "cat-kept.png"

    anyio.run(play)


@pytest.mark.parametrize("transport", TRANSPORTS.values(), ids=TRANSPORTS)
def test_bad_calls_get_one_sentence_and_nothing_outside_is_touched(transport, photos: Path) -> None:
    (photos / "link.png").symlink_to(photos.parent / "secret.png")
    (photos / "text.png").write_text("no picture")
    before = {path: path.read_bytes() for path in photos.parent.rglob("*.png")}

    async def play() -> None:
        async with transport(photos) as client:
            for path in ("../secret.png", str(photos.parent / "secret.png"), "/etc/passwd", "link.png", "~/x.png"):
                assert "lies outside" in await refused(client, "look", picture=path)
            for path in ("", "\0", "missing.png", "x" * 5000, "text.png", ".", "photos"):
                assert await refused(client, "look", picture=path)
            opened, _ = await ask(client, "invert", picture="cat.png", caption="a cat on a meadow")
            id = opened["id"]
            for output in ("../new.png", "/tmp/new.png", "cat.png", "new.txt", "no/where.png", "link.png"):
                assert await refused(client, "edit", inversion=id, edits=["cat->dog"], output=output)
            assert "there is no inversion" in await refused(client, "edit", inversion="nope", edits=["cat->dog"])
            assert "not understood" in await refused(client, "edit", inversion=id, edits=["make it nice"])
            assert await refused(client, "edit", inversion=id, edits=["zebra->dog"])
            assert "+WORDS" in await refused(client, "edit", inversion=id, edits=[""])
            assert await refused(client, "edit", inversion=id, edits=[])
            assert await refused(client, "edit", inversion=id, edits="cat->dog" * 10_000)
            assert await refused(client, "edit", inversion=id, edits=["cat->dog"] * 100)
            assert await refused(client, "edit", inversion=id, edits=["cat->dog"], region=[1, 2])
            assert await refused(client, "edit", inversion=id, edits=["cat->dog"], region=[500, 0, 1, 1])
            assert "no argument" in await refused(client, "edit", inversion=id, edits=["cat->dog"], model="/etc")
            assert await refused(client, "edit", edits=["cat->dog"])
            assert "nothing to undo" in await refused(client, "undo", inversion=id)
            assert "no model" in await refused(client, "invert", picture="cat.png", model="owner/other")
            assert await refused(client, "sheet", inversion=id, edits=["cat->dog"], scales=[1.0] * 99)
            assert await refused(client, "keep", before="cat.png", after="/etc/passwd")
            assert "no tool" in await refused(client, "delete", picture="cat.png")
            edited, _ = await ask(client, "edit", inversion=id, edits=["cat->dog"])
            assert edited["edits"] == ["cat->dog"]

    anyio.run(play)
    made = photos / "cat-edited.png"
    assert {path: path.read_bytes() for path in photos.parent.rglob("*.png") if path != made} == before


def test_a_link_in_a_circle_is_no_file_and_one_that_leads_nowhere_no_free_name(photos: Path) -> None:
    (photos / "loop.png").symlink_to(photos / "loop.png")
    (photos / "cat-edited.png").symlink_to(photos.parent / "nowhere.png")
    folders = Folders([photos])
    with pytest.raises(ValueError, match=r"'loop\.png' leads to no file"):
        folders.picture("loop.png")
    assert folders.beside(photos / "cat.png", "edited") == photos / "cat-edited-2.png"


def test_pictures_of_any_size_and_kind_are_small_in_an_answer(photos: Path) -> None:
    from ledits.mcp import shown

    noise = Image.effect_noise((3000, 2000), 90)
    for picture in (noise, noise.convert("RGBA"), Image.new("LA", (9, 4000))):
        found = shown.content(picture)
        assert len(base64.b64encode(found.data)) < 32_001


def test_without_a_key_nobody_asks(photos: Path) -> None:
    with served(photos.parent / "store", keys=(KEY,), tools=(photos,)) as server:
        assert httpx2.post(f"{server.address}/mcp", json={}).status_code == 401


def test_without_folders_there_are_no_tools(tmp_path: Path) -> None:
    with served(tmp_path) as server, server.client() as http:
        assert http.post("/mcp", json={}).status_code == 404
