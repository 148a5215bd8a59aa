"""The pages that we write beside the studio, in a real browser: light and dark, on a desk and on a phone."""

import gzip
import io
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ledits.batch.report import Sheet
from ledits.batch.work import preview
from ledits.doctor.checks import Check, Report
from ledits.doctor.page import page as doctors
from ledits_bench.report import write

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test installs it")
server = pytest.importorskip("ledits.server.manual")
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ROOT = Path(__file__).parent.parent
AXE = ROOT / ".venv/axe/node_modules/axe-core/axe.min.js"
SITE = ROOT / "docs/assets"
browsed = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no chromium: apt-get install chromium")

LONG = "photos/a_very-long_name.of-a_picture_that_somebody_has_exported_from_a_camera_2026-11-29_09-30-12_final.png"


def batch_page() -> str:
    """One picture under two names, and a row that failed."""
    sheet = Sheet({"a1": ".ledits/previews/a1.webp"})
    done: dict[str, Any] = {"status": "done", "id": "a1", "output": "photos/a-a1.png", "edits": ["cat->dog"], "row": 1}
    sheet.see(done | {"picture": LONG})
    sheet.see(done | {"picture": "photos/cat.png", "row": 2})
    failed = {"status": "failed", "id": None, "output": None, "edits": ["cat->dog"], "row": 3, "picture": LONG}
    sheet.see(failed | {"error": f"{LONG} is not a picture that ledits can open: save it as PNG"})
    return sheet.page("ledits batch: photos", ["results.jsonl"])


def doctors_page() -> str:
    checks = [
        Check("weights", "ok", "558 tensors are finite"),
        Check("attention", "wrong", "'fox' is attended to nowhere", {"a_figure_with_a_very_long_name_of_its_own": 0.2}),
    ]
    return doctors(Report("hub/a-model-with-a-name-that-is-long", checks, {"drawn": Image.new("RGB", (64, 64))}))


def server_page() -> str:
    told = json.loads((ROOT / "tests/openapi.json").read_text())
    page = server.manual(told | {"info": {"title": "ledits", "version": "1.0", "description": "Edits of pictures."}})
    return page.replace('<link rel="stylesheet" href="/docs/style.css">', f"<style>{server.STYLE}</style>")


def test_a_picture_under_two_names_is_shown_once_and_named_twice() -> None:
    page = batch_page()
    assert page.count("<img") == 1
    assert "Results (2)" in page
    assert "photos/<wbr>cat.<wbr>png" in page
    assert "cat<span class=whole>-&gt;</span>dog" in page  # an arrow is not broken at its hyphen


def test_nothing_is_drawn_between_the_pictures_of_a_preview() -> None:
    grey = np.full((40, 60, 3), 90, np.uint8)
    edited: Any = SimpleNamespace(rgb=grey, overlay=Image.fromarray(grey))
    sheet = Image.open(io.BytesIO(preview(grey, edited)))
    alpha = np.asarray(sheet.convert("RGBA"))[..., 3]
    assert sheet.size == (188, 40)
    assert set(np.flatnonzero(alpha[0] == 0)) == {60, 61, 62, 63, 124, 125, 126, 127}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    texts = {"batch": batch_page(), "doctor": doctors_page(), "server": server_page()}
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text)
    with gzip.open(ROOT / "docs/scenes/rows.jsonl.gz") as rows, gzip.open(folder / "rows.jsonl.gz", "wb") as some:
        some.writelines(itertools.islice(rows, 16))
    write(folder / "rows.jsonl.gz", out=folder / "bench")
    return {name: folder / f"{name}.html" for name in texts} | {"bench": folder / "bench/report.html"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--headless", "--no-sandbox"])
        yield browser
        browser.close()


@browsed
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("name", ["batch", "doctor", "server", "bench"])
def test_a_page_fits_and_can_be_read(pages: dict[str, Path], browser: Any, name: str, look: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=look, is_mobile=width == 390)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(pages[name].as_uri())
    assert page.evaluate("document.scrollingElement.scrollWidth") == width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(24, 24, 24)"}[look]
    if AXE.exists():
        page.add_script_tag(path=AXE)
        check = "async () => (await axe.run()).violations.filter(v => ['serious', 'critical'].includes(v.impact))" \
                ".map(v => [v.id, ...v.nodes.map(n => n.html.slice(0, 120))])"  # fmt: skip
        assert page.evaluate(check) == []
    context.close()


@browsed
def test_wide_parts_of_the_site_are_scrolled_by_the_keyboard(browser: Any) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_content(
        "<style>p { overflow-x: auto }</style><article class=md-typeset><p id=wide><img width=900 height=9 alt=''></p>"
        "<p id=narrow><img width=90 height=9 alt=''></p></article>"
    )
    page.add_script_tag(path=SITE / "tables.js", type="module")
    # The script may not have run yet.
    page.wait_for_function("dispatchEvent(new Event('resize')), document.getElementById('wide').tabIndex === 0")
    assert page.get_attribute("#narrow", "tabindex") is None
    page.close()
