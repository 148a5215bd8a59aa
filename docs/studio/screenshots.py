"""Make the pictures of docs/studio.md, with the bundled model in Debian's chromium.

python docs/studio/screenshots.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
RESULT = "#after[src]:not(.preview)"


def main() -> None:
    with tempfile.TemporaryDirectory() as store:
        process = subprocess.Popen(
            [sys.executable, "-m", "ledits", "studio", "--no-browser", "--port", "0", "--store", store],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            address = process.stderr.readline().split(" is at ")[1].split()[0]
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path="/usr/bin/chromium", args=["--headless", "--no-sandbox"]
                )
                desk(browser, address)
                phone(browser, address)
                browser.close()
        finally:
            process.terminate()
            process.wait()


def opened(browser: Any, address: str, **look: Any) -> Any:
    page = browser.new_context(**look).new_page()
    page.set_default_timeout(120_000)
    page.goto(address)
    page.wait_for_selector(".sample:last-child img")
    page.wait_for_timeout(300)
    return page


def desk(browser: Any, address: str) -> None:
    size = {"width": 1280, "height": 800}
    page = opened(browser, address, viewport=size, color_scheme="light")
    page.screenshot(path=HERE / "welcome.png")
    page.click("[aria-label='Sample: a cat on a meadow']")
    page.click("text='cat → dog'")
    page.wait_for_selector(RESULT, state="attached")
    page.mouse.move(5, 400)
    page.wait_for_timeout(300)
    page.screenshot(path=HERE / "edit.png")
    page.click("#sheet-button")
    page.wait_for_selector(".sheet-row:last-child .cell:last-child:enabled")
    page.wait_for_timeout(200)
    page.screenshot(path=HERE / "sheet.png")
    page.context.close()

    page = opened(browser, address, viewport=size, color_scheme="dark")
    page.click("[aria-label='Sample: a fox and a star on a blue background']")
    page.click("text='fox → owl'")
    page.wait_for_selector(RESULT, state="attached")
    page.click("text=Paint where")
    box = page.locator("#paper").bounding_box()
    place = [
        (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in ((0.12, 0.5), (0.36, 0.5), (0.25, 0.68))
    ]
    page.mouse.move(*place[0])
    page.mouse.down()
    for point in place[1:]:
        page.mouse.move(*point, steps=10)
    page.mouse.up()
    page.wait_for_timeout(300)
    page.screenshot(path=HERE / "region.png")
    page.context.close()


def phone(browser: Any, address: str) -> None:
    page = opened(
        browser, address, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True, device_scale_factor=2,
        color_scheme="dark",
    )  # fmt: skip
    page.click("[aria-label='Sample: a red heart on a white background']")
    page.click("text='red heart → blue heart'")
    page.wait_for_selector(RESULT, state="attached")
    page.wait_for_timeout(500)
    page.screenshot(path=HERE / "phone.png")
    page.context.close()


if __name__ == "__main__":
    main()
