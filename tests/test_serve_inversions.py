"""Inversions as resources: made once, kept, edited, cancelled; by plain HTTP against a real server."""

import base64
import json
import re
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from ledits.editor import Editor
from ledits.picture import image
from ledits.scenes import suits
from ledits.server.settings import Limits, Settings, folder
from serving import Served, decoded, png, saved, served

EVENTS = {"accept": "text/event-stream"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    with served(tmp_path_factory.mktemp("store")) as s:
        yield s


@pytest.fixture(scope="module")
def http(server: Served) -> Generator[httpx2.Client]:
    with server.client() as client:
        yield client


def inverted(http: httpx2.Client, **fields: str) -> dict[str, Any]:
    answer = http.post("/v1/inversions", files={"image": png(1)}, data=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(answer: httpx2.Response) -> list[tuple[str, dict[str, Any]]]:
    found = re.findall(r"event: (.*)\ndata: (.*)\n\n", answer.text)
    return [(name, json.loads(data)) for name, data in found]


def test_an_inversion_says_what_it_is_and_is_listed(http: httpx2.Client) -> None:
    made = inverted(http, source="a cat", steps="5", seed="9")
    assert made | {"width": 32, "height": 24, "source": "a cat", "mode": "caption", "steps": 5, "seed": 9} == made
    assert made["network_evaluations"] == 5
    assert http.get(f"/v1/inversions/{made['id']}").json() == made
    assert http.get("/v1/inversions").json()["inversions"][0] == made
    assert inverted(http)["mode"] == "words"


def test_an_inversion_says_whether_the_model_can_draw_the_picture(
    http: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("no such picture")

    assert inverted(http)["suits"] is True
    monkeypatch.setattr(suits, "check_picture", refuse)
    made = inverted(http)
    assert made["suits"] is False
    monkeypatch.undo()
    assert http.get(f"/v1/inversions/{made['id']}").json()["suits"] is False


def test_progress_comes_as_events(http: httpx2.Client) -> None:
    told = events(http.post("/v1/inversions", files={"image": png(1)}, headers=EVENTS))
    assert [name for name, _ in told] == ["progress", "done"]
    assert told[0][1]["done"] == told[0][1]["total"] == 6
    assert told[1][1]["inversion"]["id"]


def test_edits_are_the_editors_own_with_steps_masks_and_recipe(server: Served, http: httpx2.Client) -> None:
    made = inverted(http)
    region = np.zeros((24, 32), np.uint8)
    region[:, :16] = 255
    sent = base64.b64encode(saved(Image.fromarray(region))).decode()
    asked = {
        "edits": ["+hat:9", {"kind": "swap", "old": "cat", "new": "dog", "scale": 7, "region": sent}],
        "composite": True,
    }
    told = events(http.post(f"/v1/inversions/{made['id']}/edits", json=asked, headers=EVENTS))
    # Steps that follow each other faster than anybody sees are not all told of.
    assert [name for name, _ in told] == ["step"] * (len(told) - 1) + ["done"]
    steps = [data["i"] for _, data in told[:-1]]
    assert steps[0] == 1
    assert steps == sorted(set(steps))
    assert steps[-1] <= 6
    assert sum(data["preview"] is not None for _, data in told[:-1]) >= 1
    expected = (
        Editor(server.backbone).invert(png(1)).edit("+hat:9", "cat->dog:7", region=[None, region], composite=True)
    )
    done = told[-1][1]
    assert base64.b64decode(done["image"]) == image.encode(Path("x.png"), expected.rgb, None, expected.recipe.to_json())
    assert [decoded(mask).tolist() for mask in done["masks"]] == [np.asarray(m).tolist() for m in expected.masks]
    assert done["recipe"] == json.loads(json.dumps(expected.recipe.to_json()))
    one = http.post(f"/v1/inversions/{made['id']}/edits", json=asked)
    assert one.json()["image"] == done["image"]


def test_a_muted_edit_is_left_out_and_all_muted_is_the_reconstruction(http: httpx2.Client) -> None:
    made = inverted(http)
    hat, dog = {"kind": "add", "new": "hat"}, {"kind": "add", "new": "dog"}

    def edited(*edits: dict[str, Any]) -> dict[str, Any]:
        return http.post(f"/v1/inversions/{made['id']}/edits", json={"edits": edits}).json()

    both = edited(hat, dog | {"muted": True})
    assert both["image"] == edited(hat)["image"]
    assert both["masks"][1] is None
    nothing = edited(hat | {"muted": True})
    rebuilt = http.get(f"/v1/inversions/{made['id']}/reconstruction")
    assert base64.b64decode(nothing["image"]) == rebuilt.content
    assert nothing["recipe"] is None


def test_a_text_is_read_as_the_command_line_reads_it(server: Served, http: httpx2.Client) -> None:
    made = inverted(http, source="a cat in a hat")
    asked = ["+sunglasses, -hat", "make the cat a dog"]
    told = http.post(f"/v1/inversions/{made['id']}/edits", json={"edits": asked}).json()
    expected = Editor(server.backbone).invert(png(1), source="a cat in a hat").edit(*asked)
    assert told["recipe"]["edits"] == ["+sunglasses", "-hat", "cat->dog"]
    assert len(told["masks"]) == len(told["idle"]) == len(told["targets"]) == 3
    assert np.array_equal(decoded(told["image"]), expected.rgb)
    answer = http.post("/v1/images/edits", files={"image": png(1)}, data={"edits": asked, "source": "a cat in a hat"})
    assert answer.json()["edits"] == told["recipe"]["edits"]


def test_a_draft_takes_fewer_steps_of_the_same_inversion(server: Served, http: httpx2.Client) -> None:
    made = inverted(http)
    told = events(http.post(f"/v1/inversions/{made['id']}/edits", json={"edits": ["+hat"], "draft": 3}, headers=EVENTS))
    assert {data["n"] for name, data in told if name == "step"} == {3}
    expected = Editor(server.backbone).invert(png(1)).draft(3).edit("+hat")
    assert np.array_equal(decoded(told[-1][1]["image"]), expected.rgb)


def test_no_preview_is_made_that_the_result_would_replace_at_once(server: Served, http: httpx2.Client) -> None:
    made = inverted(http)
    server.backbone.delay = 0.1
    try:
        told = events(http.post(f"/v1/inversions/{made['id']}/edits", json={"edits": ["+hat"]}, headers=EVENTS))
    finally:
        server.backbone.delay = 0.0
    shown = [data["i"] for name, data in told if name == "step" and data["preview"] is not None]
    assert shown
    assert max(shown) < told[-2][1]["n"]


def test_a_changed_scale_asks_less_of_the_network(server: Served, http: httpx2.Client) -> None:
    made = inverted(http, source="a cat")
    before = server.backbone.calls
    cost = [
        http.post(f"/v1/inversions/{made['id']}/edits", json={"edits": [f"cat->dog:{scale}"]}).json()
        for scale in (1, 2)
    ]
    assert cost[0]["network_evaluations"] > cost[1]["network_evaluations"]
    assert server.backbone.calls > before


def test_a_sheet_has_a_cell_for_each_scale_and_threshold(server: Served, http: httpx2.Client) -> None:
    made = inverted(http)
    asked = {"edits": ["+hat"], "scales": [2, 8], "thresholds": [0.3, None], "format": "png"}
    told = events(http.post(f"/v1/inversions/{made['id']}/sheets", json=asked))
    cells = {(data["row"], data["column"]): decoded(data["image"]) for name, data in told if name == "cell"}
    assert sorted(cells) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    inversion = Editor(server.backbone).invert(png(1))
    assert np.array_equal(cells[0, 1], inversion.edit("+hat:8@0.3").rgb)
    assert np.array_equal(cells[1, 0], inversion.edit("+hat:2").rgb)
    assert told[-1] == ("done", told[-1][1] | {"rows": 2, "columns": 2})


@pytest.mark.parametrize(
    "more",
    [{"scales": [1, -1e308]}, {"scales": [1], "thresholds": [None, 0.5, 2]}, {"scales": [1], "thresholds": [-0.5]}],
)
def test_a_sheet_is_checked_before_its_first_cell_is_drawn(
    server: Served, http: httpx2.Client, more: dict[str, Any]
) -> None:
    made = inverted(http)
    before = server.backbone.calls
    answer = http.post(f"/v1/inversions/{made['id']}/sheets", json={"edits": ["cat->dog"], **more})
    assert answer.status_code == 400, answer.text
    assert server.backbone.calls == before


@pytest.mark.parametrize(("path", "more"), [("edits", {"format": "jpeg"}), ("sheets", {"scales": [1]})])
def test_transparency_that_jpeg_can_not_hold_is_refused_before_an_edit_is_drawn(
    server: Served, http: httpx2.Client, path: str, more: dict[str, Any]
) -> None:
    made = http.post("/v1/inversions", files={"image": png(1, alpha=True)}).json()
    before = server.backbone.calls
    answer = http.post(f"/v1/inversions/{made['id']}/{path}", json={"edits": ["+hat"], **more})
    assert answer.status_code == 400
    assert "JPEG can't hold the picture's transparency" in answer.json()["error"]["message"]
    assert server.backbone.calls == before


def test_a_file_comes_down_and_goes_up_again(server: Served, http: httpx2.Client, tmp_path: Path) -> None:
    made = inverted(http, source="a cat", seed="3")
    file = http.get(f"/v1/inversions/{made['id']}/file")
    (tmp_path / "kept.safetensors").write_bytes(file.content)
    opened = Editor(server.backbone).open_inversion(tmp_path / "kept.safetensors", png(1))
    assert opened.settings.seed == 3
    assert image.read(http.get(f"/v1/inversions/{made['id']}/picture").content).sha256 == image.read(png(1)).sha256
    sent = http.post("/v1/inversions/file", files={"image": png(1), "inversion": file.content}).json()
    assert sent["id"] != made["id"]
    assert (sent["source"], sent["seed"]) == ("a cat", 3)
    edits = {"edits": ["cat->dog"]}
    answers = [http.post(f"/v1/inversions/{id}/edits", json=edits).json() for id in (made["id"], sent["id"])]
    assert answers[0]["image"] == answers[1]["image"]
    refused = http.post("/v1/inversions/file", files={"image": png(2), "inversion": file.content})
    assert refused.status_code == 400
    assert "the inversion is the inversion of another picture" in refused.json()["error"]["message"]


def test_what_is_deleted_is_gone(http: httpx2.Client) -> None:
    made = inverted(http)
    assert http.delete(f"/v1/inversions/{made['id']}").json() == {"deleted": made["id"]}
    for path in ("", "/file", "/picture", "/reconstruction"):
        assert http.get(f"/v1/inversions/{made['id']}{path}").status_code == 404
    assert http.post(f"/v1/inversions/{made['id']}/edits", json={"edits": ["+hat"]}).status_code == 404


def test_parsing_says_what_is_understood_and_shows_the_grammar_where_nothing_is(http: httpx2.Client) -> None:
    told = http.post("/v1/parse", json={"text": "make it a dog, and add a crown", "source": "a cat"}).json()
    assert told["grammar"] == "cat->dog, +crown"
    assert told["edits"][0] | {"kind": "swap", "old": "cat", "new": "dog", "muted": False} == told["edits"][0]
    refused = http.post("/v1/parse", json={"text": "make it nice"})
    assert refused.status_code == 400
    assert "'cat->dog'" in refused.json()["error"]["message"]


def test_a_recipe_comes_back_out_of_a_result(http: httpx2.Client) -> None:
    made = inverted(http)
    done = http.post(f"/v1/inversions/{made['id']}/edits", json={"edits": ["+hat"], "format": "webp"}).json()
    told = http.post("/v1/recipes", files={"image": base64.b64decode(done["image"])})
    assert told.json() == {"recipe": done["recipe"]}
    assert http.post("/v1/recipes", files={"image": png(1)}).json() == {"recipe": None}
    assert http.post("/v1/recipes", files={"image": b"no picture"}).status_code == 400


def test_a_job_is_cancelled_by_its_id_and_stops_between_steps(server: Served, http: httpx2.Client) -> None:
    made = inverted(http)
    before = server.backbone.calls
    server.backbone.delay = 0.1
    with (
        server.client() as other,
        http.stream("POST", f"/v1/inversions/{made['id']}/edits", json={"edits": ["+hat"]}, headers=EVENTS) as answer,
    ):
        lines = answer.iter_lines()
        assert next(lines) == "event: step"
        assert other.delete(f"/v1/jobs/{answer.headers['x-ledits-job']}").status_code == 200
        rest = "\n".join(lines)
    server.backbone.delay = 0.0
    assert rest.count("event: step") < 5
    assert '"code": "cancelled"' in rest
    assert server.backbone.calls - before < 6
    assert http.delete("/v1/jobs/ffff").status_code == 404


def test_a_client_that_leaves_stops_its_job_and_frees_its_place(server: Served) -> None:
    with server.client() as http:
        made = inverted(http)
    server.backbone.hold.acquire()
    before = server.backbone.calls
    threads: list[threading.Thread] = []

    def leave() -> None:
        with server.client() as http, pytest.raises(httpx2.ReadTimeout):
            http.post(f"/v1/inversions/{made['id']}/edits", json={"edits": ["+hat"]}, timeout=0.3)

    for _ in range(3):  # one on the device, two in line
        threads.append(threading.Thread(target=leave))
        threads[-1].start()
    for thread in threads:
        thread.join()
    patience = time.monotonic() + 5
    with server.client() as http:
        while "ledits_jobs_waiting 0.0" not in http.get("/metrics").text:
            assert time.monotonic() < patience
    server.backbone.hold.release()
    while not server.service.jobs.idle:
        assert time.monotonic() < patience
        time.sleep(0.02)
    assert server.backbone.calls - before <= 1


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("edits", {"edits": ["hat"]}, "not understood: write +WORDS"),
        ("edits", {"edits": ["+a, +b, +c"] * 6}, "18 edits: this server allows 16"),
        ("edits", {"edits": []}, "no edit is given: add one"),
        ("sheets", {"edits": [], "scales": [1]}, "no edit is given: add one"),
        ("edits", {"edits": [{"kind": "add", "new": "hat", "sacle": 3}]}, "edits.0.sacle is not a field"),
        ("edits", {"edits": [{"kind": "add", "new": "a:3"}]}, "leave signs and numbers out"),
        ("edits", {"edits": [{"kind": "swap", "new": "hat"}]}, "an edit of kind 'swap' needs old, which is missing"),
        ("edits", {"edits": [{"kind": "become", "old": "cat", "new": "dog", "scale": 3}]},
         "an edit of kind 'become' has new alone, and old is 'cat': leave old out, or choose the kind 'swap'"),
        ("edits", {"edits": [{"kind": "remove", "old": "hat", "new": "cap"}]}, "and new is 'cap': leave new out"),
        ("edits", {"edits": [5]}, "edits.0 is 5: a text such as '+hat', or an object such as"),
        ("edits", {"edits": "+hat"}, "edits is '+hat': a list is needed"),
        ("edits", ["+hat"], "the body is ['+hat']: a JSON object with named fields is needed"),
        ("edits", {"edits": ["+hat"], "draft": "x"}, "draft is 'x': a whole number is needed"),
        ("edits", {"edits": ["+hat"], "composite": "x"}, "composite is 'x': true or false is needed"),
        ("sheets", {"edits": ["+hat"], "scales": ["x"]}, "scales.0 is 'x': a number is needed"),
        ("edits", {"edits": [{"kind": "add", "new": "hat", "region": "!!"}]}, "edits.0.region is no base64"),
        ("edits", {"edits": ["+hat"], "region": base64.b64encode(png(1, 9, 9)).decode()}, "9x9 pixels for a picture"),
        ("edits", {"edits": ["+hat"] * 17}, "17 edits: this server allows 16"),
        ("edits", {"edits": ["+hat"], "draft": 99}, "a draft of 99 steps: 1 to 6"),
        ("edits", {"edits": ["+hat"], "format": "tiff"}, "format is 'tiff'"),
        ("edits", {"edits": ["+hat[90..]"]}, "past the end"),
        ("edits", {"edits": ["+hat"], "draft": True}, "draft is True: true and false are only for switches"),
        ("edits", {"edits": [{"kind": "add", "new": "a", "first": True}]}, "edits.0.first is True: true and false"),
        ("edits", {"edits": [{"kind": "add", "new": "a", "box": [True, 0, 9, 9]}]}, "edits.0.box is [True, 0"),
        ("sheets", {"edits": ["+hat"], "scales": [True]}, "scales is [True]: true and false"),
        ("edits", {}, "edits is missing"),
        ("sheets", {"edits": ["+hat"], "scales": [1.0] * 65}, "65 cells: this server allows 64"),
        ("sheets", {"edits": ["+hat"], "scales": []}, "scales is"),
        ("sheets", {"edits": ["+hat"], "scales": [1], "thresholds": [2]}, "threshold 2"),
    ],
)  # fmt: skip
def test_a_request_that_can_not_be_done_is_one_sentence(
    http: httpx2.Client, path: str, body: Any, sentence: str
) -> None:
    made = inverted(http)
    answer = http.post(f"/v1/inversions/{made['id']}/{path}", json=body)
    assert answer.status_code == 400, answer.text
    assert sentence in answer.json()["error"]["message"]


def test_keys_see_their_own_inversions_only_and_whoever_holds_an_id_may_use_it(tmp_path: Path) -> None:
    keys = ("the first key, long", "the second key, long")
    with served(tmp_path, keys=keys) as server, server.client(keys[0]) as one, server.client(keys[1]) as two:
        made = inverted(one)
        assert [each["id"] for each in one.get("/v1/inversions").json()["inversions"]] == [made["id"]]
        assert two.get("/v1/inversions").json()["inversions"] == []
        assert two.get(f"/v1/inversions/{made['id']}").status_code == 200
        with server.client() as nobody:
            assert nobody.get("/v1/inversions").status_code == 401
            assert nobody.get("/metrics").status_code == 401
            assert nobody.get("/docs").status_code == 401
            assert nobody.get("/healthz").status_code == nobody.get("/readyz").status_code == 200


def test_the_store_keeps_within_its_bytes_and_lets_the_longest_unused_go(tmp_path: Path) -> None:
    with served(tmp_path) as server, server.client() as http:
        size = inverted(http)["bytes"]
    limits = Limits(store_bytes=3 * size + size // 2)
    with served(tmp_path / "small", limits=limits) as server, server.client() as http:
        made = [inverted(http)["id"] for _ in range(3)]
        http.get(f"/v1/inversions/{made[0]}/picture")
        made.append(inverted(http)["id"])
        assert {each["id"] for each in http.get("/v1/inversions").json()["inversions"]} == {made[0], *made[2:]}
        on_disk = sum(path.stat().st_size for path in (tmp_path / "small").glob("*.[sp]*"))
        assert on_disk <= limits.store_bytes
        with server.client() as http:
            refused = http.post("/v1/inversions", files={"image": png(1)}, data={"steps": "60"})
        assert refused.status_code == 413
        assert len(list((tmp_path / "small").glob("*.safetensors"))) == 3


def test_a_new_start_finds_what_was_kept_and_clears_what_was_not_finished(tmp_path: Path) -> None:
    with served(tmp_path) as server, server.client() as http:
        made = inverted(http, source="a cat")
        before = http.post(f"/v1/inversions/{made['id']}/edits", json={"edits": ["cat->dog"]}).json()["image"]
    half = ("a" * 32 + ".safetensors", "b" * 32 + ".json", ".ledits-0123")
    for name in half:
        (tmp_path / name).write_text("{")
    (tmp_path / "notes.txt").write_text("somebody's own")
    with served(tmp_path) as server, server.client() as http:
        assert http.get("/v1/inversions").json()["inversions"] == [made]
        after = http.post(f"/v1/inversions/{made['id']}/edits", json={"edits": ["cat->dog"]}).json()["image"]
        # What is damaged is left out, and stays for whoever mends it.
        assert [(tmp_path / name).exists() for name in half] == [False, True, False]
        assert (tmp_path / "notes.txt").exists()
    assert after == before


def test_two_servers_never_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = folder()
    with served(first), pytest.raises(ValueError, match="another server keeps its inversions"), served(first):
        pass
    with served(first):
        assert folder() == first.with_name("serve-2")
    assert folder() == first


def test_a_job_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    with served(tmp_path, limits=Limits(job_seconds=0.2)) as server, server.client() as http:
        server.service.warm()
        made = inverted(http)
        server.backbone.hold.acquire()
        threading.Timer(0.4, server.backbone.hold.release).start()
        answer = http.post(f"/v1/inversions/{made['id']}/edits", json={"edits": ["+hat"]})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "too_long"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"host": "0.0.0.0"}, "set LEDITS_API_KEY"),
        ({"host": "192.168.1.7"}, "set LEDITS_API_KEY"),
        ({"host": "example.org"}, "set LEDITS_API_KEY"),
        ({"keys": ("short",)}, "shorter than 16"),
    ],
)
def test_a_set_up_that_is_not_safe_does_not_start(tmp_path: Path, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Settings(folder=tmp_path, **settings)


def test_any_loopback_address_is_fine_without_a_key(tmp_path: Path) -> None:
    assert all(Settings(folder=tmp_path, host=host).loopback for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost"))


def test_metrics_count_what_was_done(http: httpx2.Client) -> None:
    inverted(http)
    text = http.get("/metrics").text
    assert re.search(r'ledits_jobs_total\{kind="invert",outcome="done"\} [1-9]', text)
    assert re.search(r"ledits_network_evaluations_total [1-9]", text)
    assert re.search(r"ledits_store_bytes [1-9]", text)


def test_the_documentation_needs_no_other_host_and_names_every_path(http: httpx2.Client) -> None:
    page, described = http.get("/docs").text, http.get("/openapi.json").json()
    assert not re.search(r"(src|href)=\"(https?:)?//", page)
    assert "<script" not in page
    assert all(path in page for path in described["paths"])
    assert "default-src 'self'" in http.get("/docs").headers["content-security-policy"]


def test_an_inversion_takes_all_that_the_editor_takes(server: Served, http: httpx2.Client) -> None:
    """A negative prompt, guidance by the source and a size give what the editor makes of them, to the last bit."""
    options = {"source": "a cat", "source_scale": 2.5, "negative": "a dog", "size": 16, "steps": 5}
    own = Editor(server.backbone).invert(png(1), **options).edit("+hat")  # pyright: ignore[reportArgumentType]
    made = inverted(http, **{name: str(value) for name, value in options.items()})
    assert made["mode"] == "words"
    assert {name: made[name] for name in options} == options
    got = http.post(f"/v1/inversions/{made['id']}/edits", json={"edits": ["+hat"]}).json()
    assert np.array_equal(decoded(got["image"]), own.rgb)
    assert got["targets"] == [None]


@pytest.mark.parametrize(("size", "status"), [(127, 200), (128, 200), (129, 400), (128_000, 400)])
def test_a_picture_is_worked_at_twice_the_models_side_at_most(http: httpx2.Client, size: int, status: int) -> None:
    answer = http.post("/v1/inversions", files={"image": png(1)}, data={"size": str(size), "steps": "2"})
    assert answer.status_code == status, answer.text
    if status == 400:
        assert answer.json()["error"]["message"] == f"size {size}: this server works at 128 at most"


def test_a_wrong_method_is_told_the_right_ones(http: httpx2.Client) -> None:
    answer = http.post("/healthz")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert answer.json()["error"]["message"] == "this address takes GET and no POST"
