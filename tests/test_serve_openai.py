"""OpenAI's own client against a real server."""

import base64
import functools
import io
import json
import time
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image, features

from ledits.editor import Editor
from ledits.picture import image
from ledits.server import decoding
from ledits.server.settings import Limits
from serving import Instant, Served, png, saved, served
from test_assistant import WELL, WISH, says, standing_in

KEY = "a key of the tests' own"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    limits = Limits(upload_bytes=200_000, pixels=100_000)
    with served(tmp_path_factory.mktemp("store"), keys=(KEY,), aliases={"gpt-image-2": "instant"}, limits=limits) as s:
        yield s


@pytest.fixture(scope="module")
def client(server: Served) -> Generator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def opened(b64: str | None) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(b64 or "")))


def test_an_edit_is_the_editors_own_to_the_byte(server: Served, client: openai.OpenAI) -> None:
    answer = client.images.edit(image=png(1), prompt="make the cat a dog and add a crown", extra_body={"seed": 3})
    expected = Editor(server.backbone).edit(png(1), "cat->dog", "+crown", seed=3)
    data = image.encode(Path("x.png"), expected.rgb, None, expected.recipe.to_json())
    assert base64.b64decode(answer.data[0].b64_json) == data
    assert answer.data[0].revised_prompt == "cat->dog, +crown"
    assert answer.usage.output_tokens == expected.network_evaluations + 6


def test_with_a_source_the_caption_is_rewritten(server: Served, client: openai.OpenAI) -> None:
    answer = client.images.edit(image=("a.png", png(1)), prompt="a dog", extra_body={"source": "a cat"})
    expected = Editor(server.backbone).edit(png(1), "->a dog", source="a cat")
    assert np.array_equal(np.asarray(opened(answer.data[0].b64_json)), expected.rgb)


def test_n_pictures_have_seeds_of_their_own(server: Served, client: openai.OpenAI) -> None:
    answer = client.images.edit(image=png(1), prompt="+hat", n=3, extra_body={"seed": 5})
    editor = Editor(server.backbone)
    for k, data in enumerate(answer.data):
        assert np.array_equal(np.asarray(opened(data.b64_json)), editor.edit(png(1), "+hat", seed=5 + k).rgb)


def test_what_is_opaque_in_the_mask_is_outside_the_region(client: openai.OpenAI) -> None:
    mask = np.full((24, 32, 4), 255, np.uint8)
    mask[:, 16:, 3] = 0
    answer = client.images.edit(
        image=png(1),
        mask=saved(Image.fromarray(mask)),
        prompt="+hat:30",
        input_fidelity="high",
        extra_body={"edits": []},
    )
    before, after = np.asarray(Image.open(io.BytesIO(png(1)))), np.asarray(opened(answer.data[0].b64_json))
    changed = (before != after).any(2)
    assert not changed[:, :8].any()
    assert changed[:, 20:].any()


def test_partial_images_come_before_the_last(client: openai.OpenAI) -> None:
    stream = client.images.edit(image=png(1), prompt="+hat", stream=True, partial_images=2, output_format="webp")
    events = list(stream)
    assert [event.type for event in events] == ["image_edit.partial_image"] * 2 + ["image_edit.completed"]
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    assert all(opened(event.b64_json).format == "WEBP" for event in events)
    assert events[2].usage.total_tokens > 0
    plain = client.images.edit(image=png(1), prompt="+hat", output_format="webp")
    assert plain.data[0].b64_json == events[2].b64_json


def test_a_stream_says_what_an_answer_says_and_its_partial_images_have_the_size_too(server: Served) -> None:
    form = {"prompt": "+hat", "size": "64x64", "stream": "true", "partial_images": "2"}
    with server.client(KEY) as http:
        answer = http.post("/v1/images/edits", data=form, files={"image": png(1)})
    assert answer.headers["x-ledits-size"] == "64x48; asked for 64x64, of another shape"
    assert answer.headers["x-ledits-model"] == "instant"
    told = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert [each["size"] for each in told] == ["64x48"] * 3
    assert [opened(each["b64_json"]).size for each in told] == [(64, 48)] * 3


def test_quality_is_a_number_of_steps(client: openai.OpenAI) -> None:
    cost = [
        client.images.edit(image=png(1), prompt="+hat@0.9[3..5]", quality=quality).usage.output_tokens
        for quality in ("low", "medium")
    ]
    assert cost[1] - cost[0] >= 15


def test_a_size_of_the_same_shape_is_scaled_to(client: openai.OpenAI) -> None:
    answer = client.images.edit(image=png(1), prompt="+hat", size="64x48", output_format="jpeg", output_compression=40)
    picture = opened(answer.data[0].b64_json)
    assert (picture.size, picture.format, answer.size) == ((64, 48), "JPEG", "64x48")


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
@pytest.mark.parametrize(("asked", "written"), [(0, 1), (40, 40), (100, 100)])
def test_a_compression_gives_the_bytes_of_the_command_lines_quality(
    server: Served, client: openai.OpenAI, kind: Any, asked: int, written: int
) -> None:
    answer = client.images.edit(image=png(1), prompt="+hat", output_format=kind, output_compression=asked)
    expected = Editor(server.backbone).edit(png(1), "+hat")
    data = image.encode(Path(f"x.{kind}"), expected.rgb, None, expected.recipe.to_json(), quality=written)
    assert base64.b64decode(answer.data[0].b64_json) == data


def test_transparency_stays(client: openai.OpenAI) -> None:
    answer = client.images.edit(image=png(1, alpha=True), prompt="+hat", background="transparent")
    assert opened(answer.data[0].b64_json).mode == "RGBA"
    answer = client.images.edit(image=png(1, alpha=True), prompt="+hat", background="opaque", output_format="jpeg")
    assert opened(answer.data[0].b64_json).mode == "RGB"


def test_a_kept_inversion_can_be_edited_by_its_id(server: Served, client: openai.OpenAI) -> None:
    with server.client(KEY) as http:
        made = http.post("/v1/inversions", files={"image": png(2)}, data={"source": "a cat", "seed": "4"}).json()
    answer = client.images.edit(image=png(2), prompt="cat->dog", extra_body={"inversion": made["id"]})
    expected = Editor(server.backbone).edit(png(2), "cat->dog", source="a cat", seed=4)
    assert np.array_equal(np.asarray(opened(answer.data[0].b64_json)), expected.rgb)
    with pytest.raises(openai.BadRequestError, match="not the picture of that inversion"):
        client.images.edit(image=png(3), prompt="cat->dog", extra_body={"inversion": made["id"]})
    with pytest.raises(openai.BadRequestError, match="an inversion fixes seed"):
        client.images.edit(image=png(2), prompt="cat->dog", extra_body={"inversion": made["id"], "seed": 1})


def test_the_model_that_is_named_is_the_one_of_the_inversion(tmp_path: Path) -> None:
    editors = {name: Editor(Instant()) for name in ("one", "two")}
    with served(tmp_path, editors=editors, aliases={"gpt": "two"}) as server, server.client() as http:
        made = http.post("/v1/inversions", files={"image": png(1)}, data={"model": "two"}).json()
        for model, status in (("two", 200), ("gpt", 200), ("one", 400), ("nonsense", 404)):
            form = {"prompt": "+hat", "inversion": made["id"], "model": model}
            answer = http.post("/v1/images/edits", data=form, files={"image": png(1)})
            assert answer.status_code == status, answer.text
            assert status != 200 or answer.json()["model"] == "two"


def test_models_are_listed_and_an_alias_is_one_of_them(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["instant", "gpt-image-2"]
    assert client.models.retrieve("gpt-image-2").id == "gpt-image-2"
    assert client.models.retrieve("instant").owned_by == "ledits"
    assert client.images.edit(image=png(1), prompt="+hat", model="gpt-image-2").data


@pytest.mark.parametrize(
    ("given", "kind", "sentence"),
    [
        ({"prompt": "make it nice"}, openai.BadRequestError, "not understood: write \\+WORDS"),
        ({"prompt": ""}, openai.BadRequestError, "the instruction is empty"),
        ({"prompt": "+hat:much"}, openai.BadRequestError, "'much' is no number"),
        ({"model": "gpt-image-9"}, openai.NotFoundError, "no model 'gpt-image-9' here: instant"),
        ({"image": b"GIF89a of nothing"}, openai.BadRequestError, "no picture that this server can read"),
        ({"image": png(1, 400, 400)}, openai.APIStatusError, "larger than the 200,000 bytes"),
        ({"image": saved(Image.new("1", (500, 500)))}, openai.APIStatusError, "500x500 pixels and this server takes"),
        ({"image": [png(1), png(2)]}, openai.BadRequestError, "one file is needed as image"),
        ({"size": "../../etc"}, openai.BadRequestError, "is '../../etc': auto, or a size such as 1024x768, is"),
        ({"n": 3, "image": png(1, 200, 200)}, openai.BadRequestError, "3 pictures of 200x200 pixels are more"),
        ({"n": 11}, openai.BadRequestError, "n is '11'"),
        ({"output_format": "gif"}, openai.BadRequestError, "png, jpeg and webp"),
        ({"output_compression": 50}, openai.BadRequestError, "PNG is lossless"),
        ({"response_format": "url", "stream": True}, openai.BadRequestError, "events carry the pictures themselves"),
        ({"background": "transparent"}, openai.BadRequestError, "an edit adds none"),
        ({"markup": png(1)}, openai.BadRequestError, "markup: drawings"),
        ({"svg": {"precision": 1}}, openai.BadRequestError, "svg: there are no vectors"),
        ({"frame_count": 2}, openai.BadRequestError, "frame_count: there is one frame"),
        ({"mask": png(1)}, openai.BadRequestError, "opaque everywhere"),
        ({"mask": png(1, 16, 16, alpha=True)}, openai.BadRequestError, "16x16 pixels for a picture of 32x24"),
        ({"partial_images": 2}, openai.BadRequestError, "partial_images: they are events of a stream"),
        ({"quality": "high", "extra_body": {"steps": 4}}, openai.BadRequestError, "it says 50 steps, and steps says 4"),
        ({"extra_body": {"guidance": 3}}, openai.BadRequestError, "guidance is not a field"),
        ({"extra_body": {"steps": 0}}, openai.BadRequestError, "steps is '0'"),
        ({"extra_body": {"steps": 1000}}, openai.BadRequestError, "1000 steps: this server allows 200"),
        ({"extra_body": {"inversion": "../../../etc/passwd"}}, openai.NotFoundError, "no such inversion"),
        ({"extra_body": {"image_url": "http://127.0.0.1/"}}, openai.BadRequestError, "image_url is not a field"),
    ],
)  # fmt: skip
def test_what_can_not_be_done_is_refused_with_the_clients_own_error(
    client: openai.OpenAI, given: dict[str, object], kind: type[openai.APIStatusError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence) as caught:
        client.images.edit(**{"image": png(1), "prompt": "+hat", **given})
    assert caught.value.status_code == {openai.NotFoundError: 404, openai.BadRequestError: 400}.get(kind, 413)
    assert caught.value.type == "invalid_request_error"


def test_a_refusal_while_streaming_has_its_own_class_too(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="opaque everywhere"):
        client.images.edit(image=png(1), mask=png(1), prompt="+hat", stream=True)


@pytest.mark.parametrize("key", ["wrong", KEY + "x", ""])
def test_a_wrong_key_is_an_authentication_error(server: Served, key: str) -> None:
    with (
        openai.OpenAI(base_url=f"{server.address}/v1", api_key=key or "none", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="the API key is wrong") as caught,
    ):
        client.images.edit(image=png(1), prompt="+hat")
    assert caught.value.code == "invalid_api_key"


def test_a_full_line_is_a_rate_limit_error_that_says_when(tmp_path: Path) -> None:
    with served(tmp_path, limits=Limits(jobs=1)) as server, server.backbone.hold:
        server.service.warm()
        client = openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0, timeout=0.4)
        for _ in range(2):  # one on the device, one waiting; neither is answered in time
            with pytest.raises(openai.APITimeoutError):
                client.images.edit(image=png(1), prompt="+hat", timeout=0.05)
        with pytest.raises(openai.RateLimitError) as caught:
            client.images.edit(image=png(1), prompt="+hat")
        client.close()
        assert int(caught.value.response.headers["retry-after"]) >= 1


def data_url(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def test_json_with_pictures_as_data_urls_gives_the_forms_bytes(server: Served, client: openai.OpenAI) -> None:
    """As gateways and OpenAI's own JSON form send it, fields that are null among them."""
    mask = np.full((24, 32, 4), 255, np.uint8)
    mask[:, 16:, 3] = 0
    masked = saved(Image.fromarray(mask))
    form = client.images.edit(image=png(1), mask=masked, prompt="+hat", extra_body={"seed": 3})
    asked = {"images": [{"image_url": data_url(png(1))}], "mask": {"image_url": data_url(masked)}, "prompt": "+hat",
             "model": "gpt-image-2", "seed": 3, "n": 1, "moderation": "auto", "user": None}  # fmt: skip
    with server.client(KEY) as http:
        answer = http.post("/v1/images/edits", json=asked)
        refused = [
            http.post("/v1/images/edits", json=asked | more).json()["error"]["message"]
            for more in ({"images": [{"image_url": "http://127.0.0.1/x.png"}]}, {"images": [{"file_id": "x"}]},
                         {"images": []}, {"images": "x"}, {"images": asked["images"] * 2}, {"svg": {}}, {"n": "x"},
                         {"n": True}, {"image": data_url(png(1))}, {"output_format": "gif"})
        ]  # fmt: skip
    assert answer.json()["data"][0]["b64_json"] == form.data[0].b64_json
    assert answer.headers["x-ledits-model"] == "instant"
    said = ["nothing is fetched here", "nothing is fetched here", "image is missing", "a list is needed", "one file is",
            "there are no vectors", "n is 'x'", "n is True", "in JSON the field is images: [{",
            "output_format is 'gif'"]  # fmt: skip
    assert all(part in message for part, message in zip(said, refused, strict=True)), refused


def test_the_forms_field_is_named_where_jsons_is_sent(server: Served) -> None:
    with server.client(KEY) as http:
        answer = http.post("/v1/images/edits", data={"prompt": "+hat"}, files={"images": png(1)})
    assert answer.json()["error"]["message"] == "images: in a form the picture's field is image"


def test_open_webuis_request(tmp_path: Path) -> None:
    """As its routers/images.py builds it: one `image`, or a list of one as `image[]`, and a fixed size."""
    fields = {"model": "gpt-image-2", "prompt": "make the cat a dog", "n": "1", "size": "1024x1024"}
    fields["response_format"] = "b64_json"
    with served(tmp_path, aliases={"gpt-image-2": "instant"}) as server, server.client() as http:
        for name in ("image", "image[]"):
            files = {name: ("0b7e.png", png(1), "image/png")}
            answer = http.post("/v1/images/edits?api-version=2025-04-01", data=fields, files=files)
            assert answer.status_code == 200, answer.text
            picture = opened(answer.json()["data"][0]["b64_json"])
            # Of the picture's own shape, inside what was asked for; the answer says so.
            assert picture.size == (1024, 768)
            assert answer.json()["size"] == "1024x768"
            assert answer.headers["x-ledits-size"].startswith("1024x768")


def test_librechats_request(server: Served) -> None:
    """As its OpenAIImageTools.js builds it: a fixed model, quality and size, and the picture as `image[]`."""
    fields = {"model": "gpt-image-2", "prompt": "add a hat", "quality": "auto", "size": "auto"}
    with server.client(KEY) as http:
        answer = http.post("/v1/images/edits", data=fields, files={"image[]": ("cat.png", png(1), "image/png")})
    assert opened(answer.json()["data"][0]["b64_json"]).size == (32, 24)


def test_litellms_request(server: Served) -> None:
    """As litellm 1.110 sends `image_edit(model="openai/gpt-image-2", ...)`, captured: `image[]` and a bare mask."""
    fields = {"model": "gpt-image-2", "n": "1", "quality": "low", "size": "1024x1024", "prompt": "add a hat"}
    mask = np.full((24, 32, 4), 255, np.uint8)
    mask[:, 16:, 3] = 0
    files = {"image[]": ("image.png", png(1), "image/png")}
    masked = {**files, "mask": ("mask.png", saved(Image.fromarray(mask)), "image/png")}
    with server.client(KEY) as http:
        for sent in (files, masked):
            answer = http.post("/v1/images/edits", data=fields | {"size": "auto"}, files=sent)
            assert opened(answer.json()["data"][0]["b64_json"]).size == (32, 24)
        # A size that is more than this server gives is refused, whoever asks.
        assert http.post("/v1/images/edits", data=fields, files=files).json()["error"]["param"] == "size"


def test_auto_is_no_caption_here(server: Served) -> None:
    with server.client(KEY) as http:
        form = {"prompt": "add a hat", "source": "auto"}
        answer = http.post("/v1/images/edits", data=form, files={"image": png(1)})
    assert answer.status_code == 400
    assert "/v1/captions" in answer.json()["error"]["message"]


def test_a_photo_that_was_held_upright_is_fitted_upright(server: Served) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png(1))).save(buffer, "JPEG", exif=exif)
    with server.client(KEY) as http:
        form = {"prompt": "+hat", "size": "100x100"}
        answer = http.post("/v1/images/edits", data=form, files={"image": buffer.getvalue()})
    assert opened(answer.json()["data"][0]["b64_json"]).size == (75, 100)


def test_a_size_with_its_sides_swapped_is_of_another_shape(tmp_path: Path) -> None:
    """Clients that send 1536x1024 with every picture send it with portraits too."""
    portrait, form = {"image": png(1, 24, 36)}, {"prompt": "+hat", "size": "72x48"}
    with served(tmp_path / "a") as server, server.client() as http:
        answer = http.post("/v1/images/edits", data=form, files=portrait)
    assert opened(answer.json()["data"][0]["b64_json"]).size == (32, 48)
    assert answer.headers["x-ledits-size"] == "32x48; asked for 72x48, of another shape"
    with served(tmp_path / "b", strict=True) as server, server.client() as http:
        assert http.post("/v1/images/edits", data=form, files=portrait).status_code == 400


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_the_size_in_a_header_is_the_upright_pictures(kind: str, orientation: int) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png(1))).save(buffer, kind, exif=exif)
    told = decoding.look(buffer.getvalue(), asdict(Limits()))
    height, width, _ = image.read(buffer.getvalue()).rgb.shape
    assert told["size"] == [width, height] == ([24, 32] if orientation > 4 else [32, 24])


def test_a_png_that_says_behind_its_pixels_how_it_was_held_is_not_decoded_to_know() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png(1))).save(buffer, "PNG", exif=exif)
    data = buffer.getvalue()
    at = data.index(b"eXIf") - 4
    end = at + 12 + int.from_bytes(data[at : at + 4], "big")
    behind = data[:at] + data[end:-12] + data[at:end] + data[-12:]
    assert image.read(behind).rgb.shape == (32, 24, 3)
    assert decoding.look(behind, asdict(Limits())) == {"size": [24, 32]}
    pixels = behind.index(b"IDAT") + 4
    broken = behind[:pixels] + bytes(20) + behind[pixels + 20 :]
    assert decoding.look(broken, asdict(Limits())) == {"size": [24, 32]}


def test_a_strict_server_refuses_a_size_of_another_shape(tmp_path: Path) -> None:
    with served(tmp_path, strict=True) as server, server.client() as http:
        answer = http.post("/v1/images/edits", data={"prompt": "+hat", "size": "32x32"}, files={"image": png(1)})
    assert answer.status_code == 400
    assert "of another shape than the picture, 32x24" in answer.json()["error"]["message"]


def test_an_address_holds_the_very_picture_for_a_short_time_and_needs_no_key(tmp_path: Path) -> None:
    limits = Limits(addresses=2, address_seconds=1.5)
    with served(tmp_path, keys=(KEY,), limits=limits) as server:
        with openai.OpenAI(base_url=f"{server.address}/v1", api_key=KEY, max_retries=0) as client:
            asked: Any = {"image": png(1), "prompt": "+hat", "output_format": "jpeg"}
            itself = client.images.edit(**asked).data[0]
            addresses = [client.images.edit(**asked, response_format="url").data[0].url for _ in range(3)]
        with server.client() as http:
            assert len(set(addresses)) == 3
            assert all(each.startswith(f"{server.address}/pictures/") for each in addresses)
            head = http.head(addresses[2])
            assert (head.status_code, head.headers["content-type"], head.content) == (200, "image/jpeg", b"")
            assert [http.get(each).status_code for each in addresses] == [404, 200, 200]
            shown = http.get(addresses[2])
            assert (shown.content, shown.headers["content-type"]) == (base64.b64decode(itself.b64_json), "image/jpeg")
            assert http.get("/pictures/..%2f..%2fetc%2fpasswd").status_code == 404
            time.sleep(1.6)
            assert http.get(addresses[2]).status_code == 404


def test_an_alias_for_any_name_and_an_answer_that_says_which_model_drew(tmp_path: Path) -> None:
    with served(tmp_path, aliases={"*": "instant", "gpt-image-1": "instant"}) as server, server.client() as http:
        for name in ("gpt-image-9", "gpt-image-1", "instant"):
            form = {"prompt": "+hat", "model": name}
            answer = http.post("/v1/images/edits", data=form, files={"image": png(1)})
            assert (answer.json()["model"], answer.headers["x-ledits-model"]) == ("instant", "instant")
        listed = http.get("/v1/models").json()["data"]
        assert [(each["id"], each["root"]) for each in listed] == [("instant", "instant"), ("gpt-image-1", "instant")]
        assert http.get("/v1/models/anything").json()["root"] == "instant"


def test_free_sentences_go_to_the_assistant_and_the_answer_says_what_was_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with (
        standing_in(says(WELL)) as (address, asked),
        served(tmp_path, assistant=f"{address}#m") as server,
        server.client() as http,
    ):
        edit = functools.partial(http.post, "/v1/images/edits", files={"image": png(1)})
        ruled = edit(data={"prompt": "make the cat a dog", "source": "a cat"})
        assert (ruled.json()["source"], ruled.json()["edits"], len(asked)) == ("a cat", ["cat->dog"], 0)
        free = edit(data={"prompt": WISH})
        assert (free.json()["source"], free.json()["edits"]) == (WELL["source"], WELL["edits"])
        plain = edit(data={"prompt": "cat->dog", "source": WELL["source"]})
        assert free.json()["data"] == plain.json()["data"]
        assert len(asked) == 1
        # A text of the grammar that has a mistake is nothing to ask about.
        assert edit(data={"prompt": "+hat:much"}).status_code == 400
        assert len(asked) == 1
        made = http.post("/v1/inversions", files={"image": png(1)}, data={"source": "my cat"}).json()
        kept = edit(data={"prompt": WISH, "inversion": made["id"]})
        assert kept.json()["source"] == "my cat"


@pytest.mark.parametrize(
    ("reply", "status", "sentence"),
    [
        (says("a dog, I think"), 400, "it is no JSON"),
        (says({"source": "a cat", "edits": ["cat->dog:9"]}), 400, "which are not for it to choose"),
        (says({"source": "a cat", "edits": ["cat->dog"], "path": "/etc/passwd"}), 400, "nothing else"),
        (says("", 500), 502, "the assistant that reads free sentences does not answer"),
        (None, 400, "start the server with --assistant URL#MODEL"),
    ],
)  # fmt: skip
def test_what_the_assistant_answers_is_checked_and_its_address_is_nobodys_to_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: Any, status: int, sentence: str
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with (
        standing_in(reply or says(WELL)) as (address, _),
        served(tmp_path, assistant=address if reply else "") as server,
        server.client() as http,
    ):
        answer = http.post("/v1/images/edits", files={"image": png(1)}, data={"prompt": WISH})
    assert answer.status_code == status
    assert sentence in answer.json()["error"]["message"]
    assert address not in answer.text
