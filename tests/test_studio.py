"""The studio in a real browser, at the sizes of a desk and of a phone, in light and in dark.

The server is the real one over a backbone that answers at once; nothing here looks at how good an edit is.
Every action is tried in two looks; LEDITS_LOOKS="desk-dark phone-light" pytest tests/test_studio.py tries the others.
"""

import base64
import importlib
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ledits import scenes
from ledits.editor import Editor
from ledits.files.checkpoints import World
from ledits.scenes import suits
from ledits.seeing import weights
from ledits.server import errors
from ledits.server.settings import Settings
from serving import Instant, Served, png, served

CI = bool(os.environ.get("GITHUB_ACTIONS"))  # whose machine has all that is needed: .github/workflows/tests.yml
sync_api: Any = (
    importlib.import_module("playwright.sync_api")
    if CI
    else pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test installs it")
)
studio = pytest.importorskip("ledits.studio.page")
CHROMIUM = os.environ.get("LEDITS_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
ROOT = Path(__file__).parent.parent
AXE = ROOT / ".venv/axe/node_modules/axe-core/axe.min.js"

# Under CI the pages are tested or the tests fail: a skipped page is one that nobody has looked at.
pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists() and not CI,
    reason="no chromium: apt-get install chromium, or name one in LEDITS_CHROMIUM",
)

DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
LOOKS = {
    "desk-light": {**DESK, "color_scheme": "light"},
    "phone-dark": {**PHONE, "color_scheme": "dark"},
    "desk-dark": {**DESK, "color_scheme": "dark"},
    "phone-light": {**PHONE, "color_scheme": "light"},
}
RESULT = "#after[src^='blob:']:not(.preview)"
Page = Any


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    with served(tmp_path_factory.mktemp("store"), page=studio.page) as running:
        known = " ".join([*scenes.OBJECTS, *map(scenes.noun, scenes.BACKGROUNDS), "a an and in on the under at"])
        running.service.worlds["instant"] = World(words=frozenset(known.split()), least_psnr=0.0)
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--headless", "--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=os.environ.get("LEDITS_LOOKS", "desk-light phone-dark").split())
def tab(request: pytest.FixtureRequest, browser: Any, server: Served) -> Iterator[Page]:
    """A tab for all tests of one look; what it asked for and what it complained of is judged at the end."""
    context = browser.new_context(**LOOKS[request.param], permissions=["clipboard-read", "clipboard-write"])
    asked, complaints = list[str](), list[str]()
    context.on("request", lambda sent: asked.append(sent.url))
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
    page.set_default_timeout(30_000)  # another process may have the cores
    yield page
    context.close()
    assert asked
    assert [url for url in asked if not url.startswith((server.address, "blob:", "data:"))] == []
    assert complaints == []


@pytest.fixture
def page(tab: Page, server: Served) -> Iterator[Page]:
    """The studio as it opens."""
    server.backbone.delay = 0
    tab.goto("about:blank")
    tab.goto(server.address)
    tab.wait_for_selector(".sample img")
    yield tab
    server.backbone.delay = 0


@pytest.fixture
def cat(page: Page) -> Page:
    """The studio with the sample of a cat, inverted."""
    page.click("[aria-label='Sample: a cat on a meadow']")
    page.wait_for_selector("#link:enabled")
    return page


@pytest.fixture
def dog(cat: Page) -> Page:
    """... and edited into a dog."""
    cat.click("text='cat → dog'")
    cat.wait_for_selector(RESULT, state="attached")
    return cat


def pixels(page: Page, selector: str) -> np.ndarray[Any, Any]:
    """What an image of the page shows, by its file."""
    encoded = page.eval_on_selector(
        selector,
        """async (image) => {
            await image.decode();
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            canvas.getContext('2d').drawImage(image, 0, 0);
            return canvas.toDataURL('image/png').split(',')[1]; }""",
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))


def another_picture(page: Page, before: str) -> None:
    """Wait for another picture than the one of this address."""
    page.wait_for_selector(f"#before[src^='blob:']:not([src='{before}'])", state="attached")


def shown(page: Page) -> str:
    return str(page.get_attribute("#after", "src") or "")


def changed(page: Page, before: str) -> str:
    """Wait for another result than `before`; its address."""
    page.wait_for_selector(f"#after[src]:not(.preview):not([src='{before}'])", state="attached")
    return shown(page)


def until(page: Page, expression: str) -> None:
    """Wait until it is true; the page's own policy allows no wait_for_function."""
    for _ in range(600):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


def drag(page: Page, selector: str, *points: tuple[float, float]) -> None:
    """Press, move and release, at shares of an element's size."""
    box = page.locator(selector).bounding_box()
    place = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*place[0])
    page.mouse.down()
    for point in place[1:]:
        page.mouse.move(*point, steps=4)
    page.mouse.up()


def slide(page: Page, label: str, share: float) -> None:
    """Drag a slider of the first card to a share of its length, once it stands still: a result may still move it."""
    slider = f"input[type=range][id^={label}]"
    page.locator(slider).first.hover()
    drag(page, slider, (0.3, 0.5), (0.5, 0.5), (share, 0.5))


def open_file(page: Page, name: str, data: bytes, kind: str = "image/png") -> None:
    page.set_input_files("#file", [{"name": name, "mimeType": kind, "buffer": data}])


def download(page: Page, what: str) -> bytes:
    page.click("#save")
    with page.expect_download() as coming:
        page.click(f"[data-save={what}]")
    return Path(coming.value.path()).read_bytes()


def test_a_chosen_picture_is_shown_and_prepared_once_when_its_caption_is_there(page: Page, server: Served) -> None:
    data, inversions = png(1, 48, 32), len(server.service.store.listed(""))
    open_file(page, "noise.png", data)
    page.wait_for_selector("#before[src^='blob:']", state="attached")
    page.wait_for_timeout(200)
    assert len(server.service.store.listed("")) == inversions
    page.fill("#caption", "a cat on a meadow")
    page.keyboard.press("Enter")
    page.wait_for_selector("#link:enabled")
    assert len(server.service.store.listed("")) == inversions + 1
    np.testing.assert_array_equal(pixels(page, "#before"), np.asarray(Image.open(io.BytesIO(data))))
    if page.viewport_size["width"] > 860:
        assert page.inner_text("#name") == "noise.png · 48 × 32"


def test_who_goes_on_without_a_caption_finds_the_picture_prepared(page: Page) -> None:
    open_file(page, "noise.png", png(2, 48, 32))
    page.wait_for_selector("#before[src^='blob:']", state="attached")
    page.click("#instruction")
    page.wait_for_selector("#link:enabled")


def test_the_first_edit_is_two_clicks_away_with_progress_and_previews(page: Page, server: Served) -> None:
    server.backbone.delay = 0.15
    page.click("[aria-label='Sample: a cat on a meadow']")
    page.wait_for_selector("#progress:visible >> text=Preparing the picture")
    page.click("text='cat → dog'")
    page.wait_for_selector("#progress:visible >> text=Finding where")
    page.wait_for_selector("#after.preview", state="attached")
    page.wait_for_selector("#progress:visible >> text=/Drawing [1-6] of 6/")
    page.wait_for_selector(RESULT, state="attached")
    page.wait_for_selector("#progress", state="hidden")
    assert page.locator(".card").count() == 1
    assert (pixels(page, "#after") != pixels(page, "#before")).any()


def test_a_new_result_is_shown_whole(dog: Page) -> None:
    whole = "image => image.style.clipPath"
    assert dog.eval_on_selector("#after", whole) == "none"
    assert dog.is_hidden("#divider")
    dog.click("[data-view=before]")
    old = shown(dog)
    dog.fill("[aria-label='What comes']", "fox")
    dog.keyboard.press("Enter")
    changed(dog, old)
    assert dog.is_visible("#after")
    assert dog.eval_on_selector("#after", whole) == "none"


def test_before_and_after_slide(dog: Page) -> None:
    dog.click("[data-view=compare]")
    clip = "image => parseFloat(image.style.clipPath.match(/([\\d.]+)%\\)/)[1])"
    middle = dog.eval_on_selector("#after", clip)
    stage = dog.locator("#stage").bounding_box()
    drag(dog, "#divider", (0.5, 0.5), (0.5 - 0.2 * stage["width"] / 44, 0.5))
    assert dog.eval_on_selector("#after", clip) < middle - 10
    value = int(dog.get_attribute("#divider", "aria-valuenow"))
    dog.focus("#divider")
    dog.keyboard.press("ArrowRight")
    assert int(dog.get_attribute("#divider", "aria-valuenow")) > value
    dog.click("[data-view=before]")
    assert dog.is_hidden("#after")
    dog.click("[data-view=rebuilt]")
    dog.wait_for_selector("#after:visible")


def test_plain_words_and_the_grammar_become_cards(cat: Page) -> None:
    cat.fill("#instruction", "make the cat a dog")
    cat.keyboard.press("Enter")
    before = changed(cat, "")
    cat.fill("#instruction", "+crown:5")
    cat.keyboard.press("Enter")
    changed(cat, before)
    labels = [card.get_attribute("aria-label") for card in cat.locator(".card").all()]
    assert labels == ["Swap cat→dog", "Add +crown"]
    assert "5.0" in cat.locator(".card").nth(1).locator("output").first.inner_text()
    cat.fill("#instruction", "frobnicate it sideways unless it rains")
    cat.keyboard.press("Enter")
    cat.wait_for_selector("#compose-note:visible")
    assert cat.locator(".card").count() == 2


def test_a_slider_edits_again_without_inverting_again(dog: Page, server: Served) -> None:
    inversions = len(server.service.store.listed(""))
    before = shown(dog)
    slide(dog, "scale", 0.9)
    changed(dog, before)
    dog.wait_for_selector("#progress", state="hidden")
    assert len(server.service.store.listed("")) == inversions
    dog.click("#undo")
    dog.wait_for_selector(f"#after[src='{before}']", state="attached")  # one step back over the whole drag, from memory


def test_the_latest_change_wins(dog: Page, server: Served) -> None:
    server.backbone.delay = 0.05
    first = shown(dog)
    for words in ("fox", "owl", "pig"):
        dog.fill("[aria-label='What comes']", words)
        dog.keyboard.press("Enter")
    changed(dog, first)
    dog.wait_for_selector("#progress", state="hidden")
    server.backbone.delay = 0
    got = pixels(dog, "#after")
    other = dog.evaluate(
        """async () => {
            const id = (await (await fetch('/v1/inversions')).json()).inversions[0].id;
            const answer = await fetch(`/v1/inversions/${id}/edits`, {method: 'POST',
              headers: {'content-type': 'application/json'}, 
              body: JSON.stringify({edits: ['cat->pig'], composite: true})});
            return (await answer.json()).image; }"""
    )
    np.testing.assert_array_equal(got, np.asarray(Image.open(io.BytesIO(base64.b64decode(other))).convert("RGB")))


def test_a_brushed_region_keeps_the_edit_inside_it(dog: Page) -> None:
    before = shown(dog)
    dog.click("text=Paint where")
    dog.click("[data-tool=brush]")
    drag(dog, "#paper", (0.25, 0.3), (0.25, 0.6))
    changed(dog, before)
    before = shown(dog)
    dog.click("[data-tool=box]")
    drag(dog, "#paper", (0.2, 0.6), (0.4, 0.75))
    changed(dog, before)
    dog.click("#region-done")
    dog.wait_for_selector("#progress", state="hidden")
    dog.wait_for_selector("#after[src]:not(.preview)", state="attached")
    different = (pixels(dog, "#after") != pixels(dog, "#before")).any(-1)
    assert different[:, : different.shape[1] // 2].any()
    assert not different[:, -different.shape[1] // 4 :].any()
    assert dog.is_visible("[alt='Region of this edit']")
    dog.click("[aria-label='Let this edit act everywhere']")
    dog.wait_for_selector("[alt='Region of this edit']", state="hidden")


def test_nothing_is_wider_than_the_window(dog: Page) -> None:
    dog.fill("[aria-label='What comes']", "a very long name of a thing that does not fit into a line")
    dog.keyboard.press("Enter")
    dog.click("summary >> text=Fine-tune")
    width = dog.viewport_size["width"]
    assert dog.evaluate("document.documentElement.scrollWidth") <= width
    for selector in (".card", "#view-bar", ".bar", "#panel"):
        box = dog.locator(selector).first.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


def test_an_edit_is_muted_moved_and_deleted(dog: Page) -> None:
    old = shown(dog)
    dog.fill("#instruction", "+crown")
    dog.keyboard.press("Enter")
    both = changed(dog, old)
    dog.click("[aria-label='Mute this edit'] >> nth=0")
    changed(dog, both)
    dog.focus(".handle >> nth=1")
    dog.keyboard.press("ArrowUp")
    assert dog.locator(".card").first.get_attribute("aria-label") == "Add +crown"
    dog.click("[aria-label='Delete this edit'] >> nth=0")
    assert dog.locator(".card").count() == 1
    dog.wait_for_selector("#after:not([src])", state="attached")  # all that is left is muted


def test_undo_and_redo_go_over_everything(dog: Page) -> None:
    dog.uncheck("#composite", force=True)
    dog.fill("#caption", "a cat on a beach")
    dog.keyboard.press("Enter")
    dog.wait_for_selector("#undo:enabled")
    for _ in range(3):
        dog.click("#undo")
    assert dog.input_value("#caption") == "a cat on a meadow"
    assert dog.is_checked("#composite")
    assert dog.locator(".card").count() == 0
    assert dog.is_disabled("#undo")
    for _ in range(3):
        dog.click("#redo")
    assert dog.input_value("#caption") == "a cat on a beach"
    assert not dog.is_checked("#composite")


def test_history_goes_back_to_an_earlier_result(dog: Page) -> None:
    first = shown(dog)
    dog.fill("[aria-label='What comes']", "fox")
    dog.keyboard.press("Enter")
    changed(dog, first)
    dog.click("#history [aria-label='Go back to cat→dog']")
    dog.wait_for_selector(f"#after[src='{first}']", state="attached")
    assert dog.input_value("[aria-label='What comes']") == "dog"


def test_history_is_there_after_a_reload(dog: Page) -> None:
    made = pixels(dog, "#after")
    dog.fill("[aria-label='What comes']", "fox")
    dog.keyboard.press("Enter")
    fox = "#history [aria-label='Go back to cat→fox']"
    dog.wait_for_selector(fox)
    dog.reload()
    dog.wait_for_selector(f"{fox}[aria-pressed='true'] img")
    again = changed(dog, "")
    dog.click("#history [aria-label='Go back to cat→dog']")
    changed(dog, again)
    assert (pixels(dog, "#after") == made).all()
    assert dog.locator("#history [aria-pressed='true']").get_attribute("aria-label") == "Go back to cat→dog"


def test_a_strength_is_taken_from_the_sheet(dog: Page) -> None:
    before = shown(dog)
    dog.click("#sheet-button")
    dog.wait_for_selector(".sheet-row:last-child .cell:last-child:enabled")
    assert dog.locator(".cell img").count() == 15
    dog.click(".cell[aria-label='strength 3, Focus 0.75']")
    changed(dog, before)
    assert dog.locator(".card output").first.inner_text() == "3.0"


def test_a_sheet_counts_what_is_made(dog: Page, server: Served) -> None:
    server.backbone.delay = 0.05
    dog.click("#sheet-button")
    dog.wait_for_selector("#sheet-made >> text=0 of 15")
    server.backbone.delay = 0
    until(dog, "document.querySelector('#sheet-made').textContent === ''")
    dog.keyboard.press("Escape")


def test_four_variations_differ_and_one_is_taken(dog: Page) -> None:
    old, before = shown(dog), pixels(dog, "#after")
    dog.click("#variations-button")
    dog.wait_for_selector("#sheet .cell:last-child:enabled")
    assert dog.locator("#sheet .cell img").count() == 4
    np.testing.assert_array_equal(pixels(dog, "#sheet .cell:nth-child(1) img"), before)
    third = pixels(dog, "#sheet .cell:nth-child(3) img")
    assert (third != before).any()
    dog.click("#sheet .cell:nth-child(3)")
    dog.wait_for_selector("#sheet", state="hidden")
    taken = changed(dog, old)
    np.testing.assert_array_equal(pixels(dog, "#after"), third)
    dog.click("#undo")
    changed(dog, taken)
    np.testing.assert_array_equal(pixels(dog, "#after"), before)


def test_a_result_becomes_the_new_start_and_that_can_be_undone(dog: Page) -> None:
    result, start = pixels(dog, "#after"), str(dog.get_attribute("#before", "src"))
    dog.click("#continue")
    dog.wait_for_selector("#pictures .thumb >> nth=2")
    another_picture(dog, start)
    np.testing.assert_array_equal(pixels(dog, "#before"), result)
    assert dog.locator(".card").count() == 0
    dog.wait_for_selector(".toast >> text=The result is the picture now")
    until(dog, "document.activeElement.id === 'instruction'")
    dog.click("#undo")
    dog.wait_for_selector(RESULT, state="attached")
    assert dog.locator(".card").count() == 1
    np.testing.assert_array_equal(pixels(dog, "#after"), result)


def test_the_history_says_what_each_result_is(dog: Page) -> None:
    assert dog.inner_text("#history .earlier") == "cat→dog"
    before = shown(dog)
    dog.fill("#instruction", "add sunglasses")
    dog.keyboard.press("Enter")
    changed(dog, before)
    label = "#history .earlier >> nth=0 >> span"
    dog.wait_for_selector(f"{label} >> text=sunglasses")
    assert dog.eval_on_selector(
        label, "(span) => span.scrollHeight <= span.clientHeight && span.scrollWidth <= span.clientWidth"
    )


def test_before_and_after_are_exported_as_one_picture_and_as_a_video(dog: Page) -> None:
    before, after = pixels(dog, "#before"), pixels(dog, "#after")
    pair = np.asarray(Image.open(io.BytesIO(download(dog, "pair"))).convert("RGB"))
    height, width, _ = before.shape
    assert pair.shape[0] == height
    np.testing.assert_array_equal(pair[:, :width], before)
    np.testing.assert_array_equal(pair[:, -width:], after)
    assert download(dog, "video")[:4] == b"\x1aE\xdf\xa3"  # a WebM file's first bytes


def test_a_result_is_copied_and_pasted(dog: Page) -> None:
    result, start = pixels(dog, "#after"), str(dog.get_attribute("#before", "src"))
    dog.evaluate("document.activeElement.blur()")
    dog.keyboard.press("Control+c")
    dog.wait_for_selector("text=Picture copied")
    kinds = dog.evaluate("navigator.clipboard.read().then((items) => items.flatMap((item) => item.types))")
    assert kinds == ["image/png"]
    dog.evaluate(
        """async () => {
            const [item] = await navigator.clipboard.read();
            const transfer = new DataTransfer();
            transfer.items.add(new File([await item.getType('image/png')], 'pasted.png', {type: 'image/png'}));
            document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: transfer})); }"""
    )
    dog.wait_for_selector("#pictures .thumb >> nth=2")
    another_picture(dog, start)
    np.testing.assert_array_equal(pixels(dog, "#before"), result)


def test_a_result_is_dragged_out_as_a_file_and_not_taken_in_again(dog: Page) -> None:
    given = dog.evaluate(
        """() => {
            const transfer = new DataTransfer();
            const thumb = document.querySelector('#pictures .thumb');
            thumb.dispatchEvent(new DragEvent('dragstart', {dataTransfer: transfer, bubbles: true}));
            transfer.items.add(new File(['x'], 'x.png', {type: 'image/png'}));
            document.dispatchEvent(new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true}));
            document.dispatchEvent(new DragEvent('dragend'));
            return transfer.getData('DownloadURL'); }"""
    )
    assert re.match(r"image/png:cat-edited\.png:blob:", given)
    assert dog.locator("#pictures .thumb:not(.new)").count() == 1


def test_a_click_selects_what_looks_alike(cat: Page) -> None:
    cat.fill("#instruction", "cat->dog")
    cat.keyboard.press("Enter")
    before = changed(cat, "")
    cat.click("text=Paint where")
    cat.click("[data-tool=wand]")
    box = cat.locator("#paper").bounding_box()
    cat.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 0.15 * box["height"])  # the sky
    changed(cat, before)
    region = pixels(cat, "[alt='Region of this edit']")[..., 0]
    assert region[: region.shape[0] // 6].mean() > 250
    assert region[-region.shape[0] // 6 :].mean() < 5  # the meadow


def test_a_click_on_a_thing_selects_what_lies_within_it_with_a_soft_edge(cat: Page) -> None:
    cat.fill("#instruction", "cat->dog")
    cat.keyboard.press("Enter")
    before = changed(cat, "")
    cat.click("text=Paint where")
    assert cat.is_visible("text='Size'")
    cat.click("[data-tool=wand]")
    assert cat.is_visible("text='Tolerance'")
    box = cat.locator("#paper").bounding_box()
    cat.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])  # the cat's nose bridge
    changed(cat, before)
    region = pixels(cat, "[alt='Region of this edit']")[..., 0]
    height, width = region.shape
    for x, y in [(0.5, 0.5), (0.385, 0.58), (0.6, 0.58), (0.5, 0.68)]:  # brow, eyes, mouth
        assert region[round(y * height), round(x * width)] > 200, (x, y)
    assert region[:, :4].max() < 5
    assert ((region > 40) & (region < 215)).any()
    cat.click("#region-done")


def test_what_is_shown_while_painting_is_not_called_the_result(dog: Page) -> None:
    dog.click("text=Paint where")
    assert dog.is_hidden("[data-view=after]")
    dog.click("#region-done")
    assert dog.is_visible("[data-view=after]")


def test_escape_closes_a_menu(dog: Page) -> None:
    for menu in ("menu-button", "save"):
        dog.click(f"#{menu}")
        assert dog.locator(".menu:popover-open").count() == 1
        dog.keyboard.press("Escape")
        until(dog, "!document.querySelector(':popover-open')")


def test_nothing_but_the_welcome_is_there_while_the_model_is_loaded(browser: Any, server: Served) -> None:
    context = browser.new_context(**PHONE)
    page = context.new_page()

    def loading(route: Any) -> None:
        route.fulfill(json={"loading": True})

    page.route("**/studio.json", loading)
    page.goto(server.address)
    page.wait_for_selector("#loading:visible")
    assert page.is_hidden("#panel")
    context.close()


def test_why_an_edit_was_refused_is_in_sight(dog: Page) -> None:
    """... however many edits there are."""
    for words in ("+hat", "+sunglasses", "rocket->sunflower"):
        dog.fill("#instruction", words)
        dog.keyboard.press("Enter")
    dog.wait_for_selector("#stack-note:visible >> text=“rocket” is not in what you said the picture shows")
    until(
        dog,
        """(() => { const note = document.querySelector('#stack-note').getBoundingClientRect();
            return note.bottom <= innerHeight && note.top >= 0 &&
                document.elementFromPoint(note.x + 4, note.y + 4).closest('#stack-note') !== null; })()""",
    )


def test_the_command_for_photographs_is_not_cut(browser: Any, server: Served) -> None:
    context = browser.new_context(**PHONE)
    page = context.new_page()
    page.goto(server.address)
    page.wait_for_selector("#small-model:visible")
    assert page.eval_on_selector("#small-model code", "(code) => code.scrollWidth <= code.clientWidth")
    context.close()


def test_where_the_server_sees_it_describes_a_picture_and_selects_the_thing_under_a_click(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clicked = list[Any]()

    def thing(self: Editor, picture: Any, *points: tuple[int, int], **_: Any) -> Any:
        clicked.append(points)
        mask = np.zeros((24, 32), bool)
        mask[:12] = True
        return mask

    monkeypatch.setattr(weights, "found", lambda *_: Path("there"))
    monkeypatch.setattr(Editor, "caption", lambda *_, **__: "a cat on a hill")
    monkeypatch.setattr(Editor, "select", thing)
    with served(tmp_path, page=studio.page) as server:
        page = browser.new_page(**DESK)
        page.goto(server.address)
        page.wait_for_selector("body.ready")
        page.set_input_files("#file", {"name": "cat.png", "mimeType": "image/png", "buffer": png(1)})
        page.click("#describe")
        sync_api.expect(page.locator("#caption")).to_have_value("a cat on a hill")
        page.fill("#instruction", "cat->dog")
        page.keyboard.press("Enter")
        page.wait_for_selector(RESULT)
        page.click("text=Paint where")
        page.click("[data-tool=wand]")
        box = page.locator("#paper").bounding_box()
        page.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 0.25 * box["height"])
        page.wait_for_selector("[alt='Region of this edit']")
        region = pixels(page, "[alt='Region of this edit']")[..., 0]
        assert region[: len(region) // 3].mean() > 250
        assert region[-len(region) // 3 :].mean() < 5
        ((x, y),) = clicked[0]
        assert (len(clicked), abs(x - 16) <= 1, abs(y - 6) <= 1) == (1, True, True)
        page.close()


def test_the_page_is_an_app_that_says_how_it_is_started(page: Page, server: Served) -> None:
    manifest = page.evaluate("fetch('manifest.webmanifest').then((answer) => answer.json())")
    assert manifest["display"] == "standalone"
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    until(page, "caches.keys().then((keys) => keys.length)")
    page.reload()
    page.wait_for_selector(".sample img")
    page.context.set_offline(True)
    try:
        page.reload()
        page.wait_for_selector("text=The studio isn't running")
        assert page.inner_text("code") == "ledits studio"
    finally:
        page.context.set_offline(False)


TEXTS = {path.stem: json.loads(path.read_text()) for path in (studio.STATIC / "texts").iterdir()}


def test_every_language_says_everything_and_nothing_is_said_by_nobody() -> None:
    code = "".join(path.read_text() for path in studio.STATIC.iterdir() if path.suffix in (".js", ".html"))
    assert len(TEXTS) == 6
    for language, texts in TEXTS.items():
        assert texts.keys() == TEXTS["en"].keys(), language
        for name, text in texts.items():
            assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", TEXTS["en"][name])), name
    made = {f"{stem}_why" for stem in ("strengths", "variations")} | {
        name for name in TEXTS["en"] if name.startswith(("idle_", "error_"))
    }
    assert [name for name in TEXTS["en"] if name not in made and not re.search(rf"[\"' `]{name}[\"']", code)] == []
    used = set(re.findall(r"\bt\(\"(\w+)\"", code)) | set(re.findall(r"data-(?:t|label|t-\w+)=\"(\w+)\"", code))
    assert used - TEXTS["en"].keys() == set()


def test_codes_that_the_page_translates_are_the_servers() -> None:
    sources = "".join(path.read_text() for path in Path(errors.__file__).parent.glob("*.py"))
    same = re.search(r"SAME = {(.*)}", (studio.STATIC / "api.js").read_text())
    assert same is not None
    codes = dict(pair.split(": ") for pair in same[1].replace('"', "").strip().split(", "))
    texts = {name.removeprefix("error_") for name in TEXTS["en"] if name.startswith("error_")}
    assert [code for code in {*codes, *texts} if f'"{code}"' not in sources] == []
    assert set(codes.values()) <= texts


def test_what_the_server_refuses_is_said_in_the_pages_language(browser: Any, server: Served) -> None:
    context = browser.new_context(**DESK, locale="fr")
    page = context.new_page()
    page.set_default_timeout(30_000)  # another process may have the cores
    page.goto(server.address)
    page.wait_for_selector(f"text={TEXTS['fr']['welcome']}")
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"})
    told = page.inner_text(".toast span")
    assert told.startswith(f"a.png : {TEXTS['fr']['error_invalid_image'].split('(')[0]}(image ")
    refused = "([path, body]) => import('/api.js').then((api) => api.post(path, body)).catch((error) => error.message)"
    told = page.evaluate(refused, ["/v1/parse", {"text": 3}])
    assert told.startswith(TEXTS["fr"]["server_said"].removesuffix("{message}") + "text is 3")
    context.close()


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_the_page_speaks(browser: Any, server: Served, language: str) -> None:
    context = browser.new_context(**DESK, locale=language)
    page = context.new_page()
    page.set_default_timeout(30_000)  # another process may have the cores
    page.goto(server.address)
    texts = TEXTS[language]
    page.wait_for_selector(f"text={texts['welcome']}")
    page.click(".sample:first-child")
    page.click("text='cat → dog'")
    page.wait_for_selector(RESULT, state="attached")
    assert page.inner_text(".card .where") == texts["paint"]
    assert page.get_attribute("html", "dir") == ("rtl" if language == "ar" else "ltr")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert page.eval_on_selector("#panel", "(panel) => panel.scrollWidth <= panel.clientWidth")
    left = page.locator("#panel").bounding_box()["x"]
    assert (left == 0) == (language == "ar")
    # Another language is taken at once, with the work as it is.
    page.click("#menu-button")
    page.select_option("#language", "de" if language != "de" else "en")
    page.wait_for_selector(f".card .where >> text={TEXTS['de' if language != 'de' else 'en']['paint']}")
    context.close()


@pytest.mark.parametrize("size", [(640, 400), (320, 640)])
def test_everything_is_there_at_twice_the_size(browser: Any, server: Served, size: tuple[int, int]) -> None:
    """A window of 1280 by 800 at 200 %, and the narrowest one that WCAG asks for."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(30_000)  # another process may have the cores
    page.goto(server.address)
    page.click(".sample:first-child")
    page.click("text='cat → dog'")
    page.wait_for_selector(RESULT, state="attached")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    for wanted in ("#instruction", ".card .where", "#sheet-button", "#continue", "#menu-button"):
        page.locator(wanted).scroll_into_view_if_needed()
        page.click(wanted, trial=True)
    moving = "document.getAnimations().filter((each) => each.playState === 'running').length"
    assert page.evaluate(moving) == 0
    context.close()


def test_after_its_own_draft_an_edit_asks_for_no_previews(dog: Page) -> None:
    asked = list[Any]()

    def note(request: Any) -> None:
        if request.url.endswith("/edits"):
            asked.append(request.post_data_json)

    dog.on("request", note)
    before = dog.get_attribute("#after", "src")
    slider = dog.locator("input[id^=scale]")
    slider.evaluate("(slider) => { slider.value = 3; slider.dispatchEvent(new Event('input', {bubbles: true})); }")
    dog.wait_for_selector(f"#after[src]:not(.preview):not([src='{before}'])", state="attached")
    slider.evaluate("(slider) => slider.dispatchEvent(new Event('change', {bubbles: true}))")
    until(dog, "document.querySelector('#history').children.length === 2")
    # Another edit, which no draft was made of, has them again.
    dog.fill("#instruction", "+hat")
    dog.keyboard.press("Enter")
    until(dog, "document.querySelector('#history').children.length === 3")
    assert [(each["draft"] is not None, each["previews"]) for each in asked] == [
        (True, True), (False, False), (False, True)
    ]  # fmt: skip


def test_the_mask_of_each_edit_is_laid_over_the_picture(dog: Page) -> None:
    dog.click("#masks")
    dog.wait_for_selector("#overlay:visible")
    painted = "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v, k) => k % 4 == 3 && v)"
    until(dog, f"((c) => c.width > 0 && {painted})(document.querySelector('#overlay'))")


def test_zoom_goes_down_to_pixels_and_back(dog: Page) -> None:
    wide = dog.locator("#paper").bounding_box()["width"]
    dog.focus("#stage")
    for _ in range(3):
        dog.keyboard.press("+")
    assert dog.locator("#paper").bounding_box()["width"] == pytest.approx(wide * 1.5**3, rel=0.01)
    assert dog.eval_on_selector("#before", "image => getComputedStyle(image).imageRendering") == "pixelated"
    dog.keyboard.press("0")
    assert dog.locator("#paper").bounding_box()["width"] == pytest.approx(wide, rel=0.01)


def test_two_fingers_zoom_and_move(dog: Page) -> None:
    box = dog.locator("#paper").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = dog.context.new_cdp_session(dog)
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80), ("touchEnd", 0)):
        points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}] if apart else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    touch.detach()
    assert dog.locator("#paper").bounding_box()["width"] > 1.5 * box["width"]


def test_a_result_is_downloaded_and_opened_again_with_its_recipe(dog: Page, server: Served) -> None:
    picture, recipe = download(dog, "png"), json.loads(download(dog, "recipe"))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")), pixels(dog, "#after"))
    assert recipe["edits"] == ["cat->dog"]
    assert json.loads(Image.open(io.BytesIO(picture)).text["ledits"]) == recipe
    assert Image.open(io.BytesIO(download(dog, "webp"))).format == "WEBP"
    inversion = download(dog, "inversion")

    dog.goto("about:blank")
    dog.goto(server.address)
    dog.wait_for_selector(".sample img")
    open_file(dog, "cat-edited.png", picture)
    dog.click("text='Open its edits'")
    dog.wait_for_selector("text=Now choose the original")
    dog.click("[aria-label='Sample: a cat on a meadow']")
    dog.wait_for_selector(RESULT, state="attached")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")), pixels(dog, "#after"))

    calls = server.backbone.calls
    open_file(dog, "cat.safetensors", inversion, "application/octet-stream")
    dog.wait_for_selector("text=nothing is prepared again")
    assert server.backbone.calls - calls <= 2 * 6  # at most an edit's


def test_the_address_reopens_the_work(dog: Page) -> None:
    dog.click("#link")
    dog.wait_for_selector("text=Link copied")
    link, before = dog.evaluate("navigator.clipboard.readText()"), pixels(dog, "#after")
    dog.goto("about:blank")
    dog.goto(link)
    dog.wait_for_selector(RESULT, state="attached")
    np.testing.assert_array_equal(pixels(dog, "#after"), before)
    assert dog.input_value("#caption") == "a cat on a meadow"


def test_a_picture_never_lies_under_the_result_of_another(dog: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("no such picture")

    monkeypatch.setattr(suits, "check_picture", refuse)
    open_file(dog, "photo.png", png(5, 64, 64))
    dog.wait_for_selector("#blocked:visible")
    assert shown(dog) == ""
    assert dog.get_attribute("#stage", "hidden") is None
    dog.click("#pictures .thumb >> nth=0")
    dog.wait_for_selector(RESULT, state="attached")


def test_several_pictures_share_one_stack(dog: Page) -> None:
    open_file(dog, "other.png", png(2, 32, 32))
    dog.wait_for_selector("#pictures .thumb >> nth=2")
    dog.fill("#caption", "a cat in the snow")
    dog.keyboard.press("Enter")
    dog.wait_for_selector(RESULT, state="attached")
    dog.click("#edit-all")
    dog.wait_for_selector("text=All pictures are edited")
    assert dog.locator(".card").count() == 1


def test_an_unknown_word_is_said_with_the_known_ones(cat: Page) -> None:
    cat.fill("#instruction", "+sunglasses")
    cat.keyboard.press("Enter")
    cat.wait_for_selector(".card .note:visible >> text=doesn't know “sunglasses”")
    cat.click(".card .word >> text='sunflower'")
    assert cat.input_value("[aria-label='What comes']") == "sunflower"
    cat.wait_for_selector(".card .note", state="hidden")


def test_a_photograph_that_the_small_model_can_not_draw_is_said_so(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("no such picture")

    monkeypatch.setattr(suits, "check_picture", refuse)
    open_file(page, "photo.png", png(8, 64, 64))
    page.wait_for_selector("#before[src^='blob:']", state="attached")
    page.fill("#instruction", "+crown")
    page.keyboard.press("Enter")
    page.wait_for_selector("#blocked:visible >> text=a photograph would become a smear")
    page.click("#blocked [aria-label='Copy this command']")
    page.wait_for_selector("text=Command line copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith("ledits studio --model ")
    page.wait_for_selector("#progress", state="hidden")
    assert shown(page) == ""
    page.click("#anyway")
    page.wait_for_selector("#blocked", state="hidden")
    page.wait_for_selector(RESULT, state="attached")
    monkeypatch.undo()
    open_file(page, "scene.png", png(9, 64, 64))
    page.wait_for_selector("#pictures .thumb >> nth=2")
    assert page.is_hidden("#blocked")


def test_a_picture_that_is_none_gets_one_sentence(page: Page) -> None:
    open_file(page, "broken.png", b"not a picture")
    page.wait_for_selector(".toast.error >> text=broken.png")
    assert re.search(r"picture", page.inner_text(".toast.error"))
    assert page.is_visible("#welcome")


def test_of_several_files_the_one_that_failed_is_named_and_the_others_are_there(page: Page) -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    page.set_input_files(
        "#file",
        [
            {"name": name, "mimeType": "image/png", "buffer": data}
            for name, data in (("one.png", png(1, 32, 32)), ("phone.heic", heic), ("two.png", png(2, 32, 32)))
        ],
    )
    page.wait_for_selector("#pictures .thumb >> nth=2")
    assert page.locator("#pictures .thumb:not(.new)").count() == 2
    assert re.search(r"phone\.heic: .*HEIC", page.inner_text(".toast.error"))


def test_an_edit_that_changed_nothing_says_why_and_no_sheet_is_made_of_it(dog: Page) -> None:
    dog.fill("[aria-label='What comes']", "cat")
    dog.keyboard.press("Enter")
    dog.wait_for_selector(".card .note:visible >> text=both words are the same")
    dog.click("#sheet-button")
    dog.wait_for_selector("#sheet:visible >> text=Nothing would differ")
    assert dog.locator(".cell").count() == 0


def test_edits_that_contradict_each_other_are_told(dog: Page) -> None:
    dog.fill("#instruction", "cat->fox")
    dog.keyboard.press("Enter")
    dog.wait_for_selector("#stack-note:visible >> text=change the same words")
    dog.click("[aria-label='Mute this edit'] >> nth=0")
    dog.wait_for_selector("#stack-note", state="hidden")


def test_a_card_shows_the_caption_after_its_edit_and_takes_another(dog: Page) -> None:
    target = "[aria-label='The caption after this edit']"
    until(dog, "document.querySelector('.target').value === 'a dog on a meadow'")
    before = shown(dog)
    dog.fill(target, "a dog on a beach")
    dog.keyboard.press("Enter")
    changed(dog, before)
    assert dog.locator(".card").first.get_attribute("aria-label") == "Rewrite →a dog on a beach"
    dog.click("#continue")
    until(dog, "document.querySelector('#caption').value === 'a dog on a beach'")


def test_a_long_caption_after_an_edit_is_shown_whole(dog: Page) -> None:
    dog.fill("#caption", "a cat on a meadow and a star and a heart and a rocket and a tree and a gift")
    dog.keyboard.press("Enter")
    until(dog, "document.querySelector('.target').value.startsWith('a dog on a meadow and')")
    until(dog, "document.querySelector('.target').clientHeight > 40")
    assert dog.evaluate("(e => e.scrollHeight <= e.clientHeight && e.scrollWidth <= e.clientWidth)"
                        "(document.querySelector('.target'))")  # fmt: skip


def test_what_is_typed_while_a_sentence_is_read_is_not_lost(cat: Page) -> None:
    held = list[Any]()
    cat.route("**/v1/parse", lambda route: held.append(route) if not held else route.fallback())
    cat.fill("#instruction", "cat->pig")
    cat.keyboard.press("Enter")
    cat.keyboard.press("Enter")
    cat.fill("#instruction", "and then")
    held[0].fallback()
    cat.wait_for_selector(".card")
    cat.unroute("**/v1/parse")
    assert cat.input_value("#instruction") == "and then"
    assert cat.locator(".card").count() == 1


def test_four_variations_are_all_in_sight(dog: Page) -> None:
    dog.click("#variations-button")
    dog.wait_for_selector(".sheet-row:last-child .cell:last-child:enabled")
    last = dog.locator(".cell >> nth=3").bounding_box()
    assert last["x"] + last["width"] <= dog.viewport_size["width"]


def test_everything_is_reached_by_the_keyboard(page: Page) -> None:
    page.focus("[aria-label='Sample: a cat on a meadow']")
    page.keyboard.press("Enter")
    page.wait_for_selector("#link:enabled")
    until(page, "document.activeElement.id === 'stage'")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("n")
    page.keyboard.type("cat->dog")
    page.keyboard.press("Enter")
    page.wait_for_selector(RESULT, state="attached")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("b")
    assert page.is_visible("#brush-bar")
    page.keyboard.press("Escape")
    assert page.is_hidden("#brush-bar")
    page.keyboard.down(" ")
    assert page.is_hidden("#after")
    page.keyboard.up(" ")
    assert page.is_visible("#after")
    page.keyboard.press("Control+z")
    page.wait_for_selector(".card", state="detached")


@pytest.mark.skipif(
    not AXE.exists() and not CI, reason="axe-core is not installed: make test installs it where there is npm"
)
@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_serious(browser: Any, server: Served, look: str) -> None:
    context = browser.new_context(**LOOKS[look], bypass_csp=True)
    page = context.new_page()
    page.goto(server.address)
    page.add_script_tag(path=AXE)
    check = "async () => (await axe.run()).violations.filter(v => ['serious', 'critical'].includes(v.impact))" \
            ".map(v => [v.id, ...v.nodes.map(n => n.html.slice(0, 120))])"  # fmt: skip
    page.wait_for_selector(".sample img")
    assert page.evaluate(check) == []
    page.click("[aria-label='Sample: a cat on a meadow']")
    page.click("text='cat → dog'")
    page.wait_for_selector(RESULT, state="attached")
    page.click("summary >> text=Fine-tune")
    page.click("summary >> text=Advanced")
    page.click("text=Paint where")
    page.wait_for_timeout(250)
    assert page.evaluate(check) == []
    page.click("#region-done")
    page.click("#sheet-button")
    page.wait_for_selector(".sheet-row:last-child .cell:last-child:enabled")
    assert page.evaluate(check) == []
    context.close()


def test_the_page_stays_small() -> None:
    lines = sum(len(path.read_text().splitlines()) for path in studio.STATIC.iterdir() if path.is_file())
    assert lines < 3000


def test_the_command_opens_the_browser_on_the_picture(browser: Any, tmp_path: Path) -> None:
    picture, told = png(3, 64, 64), tmp_path / "address"
    (tmp_path / "x.png").write_bytes(picture)
    opener = tmp_path / "open"
    opener.write_text(f'#!/bin/sh\nprintf %s "$1" > {told}.part && mv {told}.part {told}\n')
    opener.chmod(0o755)
    command = [sys.executable, "-m", "ledits", "studio", str(tmp_path / "x.png"), "--port", "0"]
    running = subprocess.Popen(
        [*command, "--store", str(tmp_path / "store"), "--source", "a cat"],
        env={**os.environ, "BROWSER": str(opener)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while not told.exists() and time.monotonic() < end:
            assert running.poll() is None
            time.sleep(0.1)
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(told.read_text())
        page.wait_for_selector("#before[src^='blob:']", state="attached")
        np.testing.assert_array_equal(pixels(page, "#before"), np.asarray(Image.open(io.BytesIO(picture))))
        assert page.input_value("#caption") == "a cat"
        page.close()
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0
    finally:
        running.kill()
        running.wait()


def test_the_command_refuses_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no")
    done = subprocess.run(
        [sys.executable, "-m", "ledits", "studio", str(tmp_path / "x.png"), "--no-browser"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "not a picture" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_edit_in_the_studio_may_take_as_long_as_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's five minutes are over before a real model has edited a picture on a CPU."""
    from ledits.cli import main
    from ledits.cli import studio as command
    from ledits.server import run

    made = list[Settings]()
    monkeypatch.setattr(command, "loaded", lambda *_: {"instant": Editor(Instant())})
    monkeypatch.setattr(run, "serve", lambda settings, *_, **__: made.append(settings))
    with pytest.raises(SystemExit):
        main(["studio", "--no-browser", "--port", "0", "--store", str(tmp_path / "store")])
    assert made[0].limits.job_seconds == math.inf
