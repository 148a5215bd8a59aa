"""The Space of gradio's kind: what it does with a picture, and its page in a real browser.

    GRADIO_PYTHON=/path/to/python pytest tests/test_gradio_space.py

`GRADIO_PYTHON` is a Python that has gradio, spaces and what ledits needs (`make test-gradio` makes one); without it the
page is not opened. The other tests stand in for gradio.
"""

import importlib.util
import io
import os
import shutil
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hosts import ROOT, free_port, running
from ledits.editor import Editor
from ledits.files import checkpoints
from ledits.language import sentences
from ledits.scenes.samples import draw
from ledits.testing import ToyBackbone

from conftest import BUNDLED_FOLDER

SPACE = ROOT / "integrations/gradio_space"
PYTHON = os.environ.get("GRADIO_PYTHON", "")
CHROMIUM = os.environ.get("LEDITS_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"


class Error(Exception):
    """As gradio's."""

    def __init__(self, said: str, **_: Any) -> None:
        super().__init__(said)


@pytest.fixture
def app(monkeypatch):
    """The Space's program over a toy, with stand-ins for gradio and spaces."""
    gradio, spaces = ModuleType("gradio"), ModuleType("spaces")
    warned: list[str] = []
    vars(gradio).update(Error=Error, Warning=warned.append, Progress=lambda: lambda *_, **__: None, Blocks=object)
    vars(spaces).update(GPU=lambda duration: lambda function: function)
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    monkeypatch.setattr("ledits.Editor", lambda model: Editor(ToyBackbone(model)))
    spec = importlib.util.spec_from_file_location("gradio_app", SPACE / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.warned = warned
    return module


def drawn(*layers: Image.Image) -> dict[str, Any]:
    return {"background": Image.fromarray(draw("pair")).convert("RGBA"), "layers": list(layers), "composite": None}


def header() -> dict[str, str]:
    _, head, _ = (SPACE / "README.md").read_text().split("---\n", 2)
    return dict(line.split(": ", 1) for line in head.splitlines())


def test_the_header_names_the_program_and_the_version_that_is_tried():
    said = header()
    assert said["sdk"] == "gradio"
    assert (SPACE / said["app_file"]).is_file()
    assert len(said["short_description"]) <= 60  # the hub cuts it
    assert f"gradio=={said['sdk_version']}" in (ROOT / "Makefile").read_text()


def test_outside_of_what_is_painted_nothing_changes(app):
    layer = Image.new("RGBA", (128, 128))
    layer.paste((255, 0, 0, 255), (0, 0, 64, 128))
    (before, after), where, understood = app.edit(drawn(layer, Image.new("RGBA", (128, 128))), "", "+owl:40", 6, 0)
    assert understood == "+owl:40"
    assert where.size == before.size == after.size
    assert np.array_equal(np.asarray(before)[:, 64:], np.asarray(after)[:, 64:])
    assert not np.array_equal(before, after)
    # A layer without paint is nobody's wish.
    assert app.region(drawn(Image.new("RGBA", (128, 128)))) is None


@pytest.mark.parametrize(
    ("given", "text", "said"),
    [
        (None, "+owl", "Open a picture first"),
        ({"background": None, "layers": [], "composite": None}, "+owl", "Open a picture first"),
        (drawn(), " ", "Say what to change"),
        (drawn(), "make it nice", "'make it nice' is not understood"),
        ({**drawn(), "background": Image.new("RGBA", (5000, 4000))}, "+owl", "16,000,000 are the most here"),
    ],
)
def test_what_can_not_be_done_is_one_sentence(given, text, said, app):
    with pytest.raises(Error, match=said) as refused:
        app.edit(given, "", text, 6, 0)
    assert "\n" not in str(refused.value)
    assert not str(refused.value).endswith("..")


def test_an_edit_that_changes_nothing_is_told_of(app):
    app.edit(drawn(), "", "+owl:0", 6, 0)
    assert app.warned == ["+owl:0 changed nothing: its scale is 0."]


def test_the_examples_are_within_the_bundled_models_world(app):
    world = checkpoints.world(BUNDLED_FOLDER)
    assert world is not None
    for _, caption, text in app.EXAMPLES:
        words = [caption, *(part for edit in sentences.read(text, caption) for part in (edit.old, edit.new))]
        assert set(" ".join(words).split()) <= world.words


@pytest.mark.skipif(not PYTHON, reason="GRADIO_PYTHON names no Python with gradio: make test-gradio makes one")
def test_the_page_edits_an_example_inside_of_what_is_painted(tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api")
    port = free_port()
    more = {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False", "LEDITS_MODEL": "scenes"}
    address = f"http://127.0.0.1:{port}"
    with (
        running([PYTHON, SPACE / "app.py"], tmp_path, tmp_path / "log", address, more),
        sync_api.sync_playwright() as play,
    ):
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--headless", "--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.goto(address)
        page.get_by_role("button", name="Edit", exact=True).click(timeout=60_000)
        page.get_by_text("Open a picture first").wait_for()
        page.get_by_text("a fox and a star").click()
        page.wait_for_function("document.querySelector('input[type=text], textarea').value.includes('fox')")
        page.wait_for_timeout(1000)  # the picture lies on the canvas then
        # From top to bottom over the fox's half.
        box = page.locator("canvas").first.bounding_box()
        assert box is not None
        left, top = box["x"] + box["width"] / 2 - 70, box["y"] + 30
        page.mouse.move(left, top)
        page.mouse.down()
        for down in range(0, 220, 10):
            page.mouse.move(left + (down // 10 % 2) * 40, top + down)
        page.mouse.up()
        page.get_by_label("What to change").fill("fox->owl")
        page.get_by_role("button", name="Edit", exact=True).click()
        page.wait_for_function(
            "[...document.querySelectorAll('textarea, input')].filter(e => e.value === 'fox->owl').length === 2",
            timeout=120_000,
        )
        before, after = (pictured(page, page.locator(".slider-wrap img, .image-container img").nth(k)) for k in (0, 1))
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        browser.close()
    assert before.shape == after.shape
    half = before.shape[1] // 2
    assert np.array_equal(before[:, half + 40 :], after[:, half + 40 :])
    assert not np.array_equal(before[:, :half], after[:, :half])


def pictured(page: Any, image: Any) -> np.ndarray[Any, Any]:
    answer = page.request.get(image.get_attribute("src"))
    return np.asarray(Image.open(io.BytesIO(answer.body())).convert("RGB"))
