"""How soon the studio shows a change: a slider is moved in a real browser, and the page's own clock is read.

    python benchmarks/studio.py [--runs 9]

The bundled model on its own sample. `first preview`: from the slider's first event to the first picture of the new
edit. `result`: from the release to the full result, beside what the edit alone takes in this process (`Inversion.edit`,
fastest and median), whose threads wait for each other as the studio's do. Nothing is asserted; figures go to
docs/studio.md. Other work on the machine slows everything.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from playwright.sync_api import sync_playwright

from ledits.cli.openmp import wait_politely

# Times of the events of one change, in the page: the slider's input and release, the first preview, the result.
WATCH = """() => { window.seen = [];
  const note = (name) => window.seen.push([name, performance.now()]);
  new MutationObserver(() => { const a = document.querySelector('#after');
    note(a.classList.contains('preview') ? 'preview' : 'picture'); })
    .observe(document.querySelector('#after'), {attributes: true, attributeFilter: ['src']});
  document.addEventListener('input', (e) => e.target.type === 'range' && note('input'), true);
  document.addEventListener('change', (e) => e.target.type === 'range' && note('release'), true); }"""
# The full result is announced; drafts aren't.
ANNOUNCED = """() => new Promise((done) => { const s = document.querySelector('#status');
  new MutationObserver(() => s.textContent.startsWith('Done') && done(performance.now()))
    .observe(s, {childList: true, characterData: true, subtree: true}); })"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    # Before anything runs here or PyTorch is loaded: the load decides it, in the studio's process too.
    wait_politely()
    with tempfile.TemporaryDirectory() as store:
        process = subprocess.Popen(
            [sys.executable, "-m", "ledits", "studio", "--no-browser", "--port", "0", "--store", store],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            address = process.stderr.readline().split(" is at ")[1].split()[0]
            first, result = in_browser(address, runs)
        finally:
            process.terminate()
            process.wait()
    alone = edit_alone(runs)
    say("edit alone", alone)
    say("first preview", first)
    say("result", result)
    print(f"result / edit alone: {statistics.median(result) / statistics.median(alone):.2f} (medians), "
          f"{min(result) / min(alone):.2f} (fastest)")  # fmt: skip
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def edit_alone(runs: int) -> list[float]:
    """Seconds of an edit at a new scale, where the inversion has seen the edit's words before, as in the studio."""
    from ledits import Editor
    from ledits.scenes.samples import draw

    inversion = Editor().invert(draw("cat"), source="a cat on a meadow")
    inversion.edit("cat->dog")
    seconds: list[float] = []
    for k in range(runs):
        time.sleep(0.9)  # as long as the slider is held: beside other work, who has rested goes first
        began = time.perf_counter()
        inversion.edit(f"cat->dog:{1.5 + k / 10:g}")
        seconds.append(time.perf_counter() - began)
    return seconds


def in_browser(address: str, runs: int) -> tuple[list[float], list[float]]:
    """Seconds until the first preview of a drag, and from its release to the result."""
    first: list[float] = []
    result: list[float] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--headless", "--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        page.click("[aria-label='Sample: a cat on a meadow']")
        page.click("text='cat → dog'")
        page.wait_for_selector("#after[src]:not(.preview)", state="attached")
        page.evaluate(WATCH)
        box = page.locator("input[id^=scale]").bounding_box()
        assert box is not None
        y = box["y"] + box["height"] / 2
        for k in range(runs):
            page.evaluate("window.seen.length = 0")
            start = box["x"] + box["width"] * (0.2 + 0.06 * k)
            page.mouse.move(start, y)
            page.mouse.down()
            page.wait_for_timeout(600)  # held for a moment, as a hand does
            page.mouse.move(start + 5, y)
            page.wait_for_timeout(300)
            done = page.evaluate_handle(f"({{done: ({ANNOUNCED})()}})")
            page.mouse.up()
            ended = page.evaluate("(handle) => handle.done", done)
            seen = page.evaluate("window.seen")
            began = next(at for name, at in seen if name == "input")
            first.append((next(at for name, at in seen if name != "input" and at > began) - began) / 1000)
            released = [at for name, at in seen if name == "release"][-1]
            result.append((ended - released) / 1000)
        browser.close()
    return first, result


def say(name: str, seconds: list[float]) -> None:
    print(f"{name}: fastest {min(seconds):.2f} s, median {statistics.median(seconds):.2f} s, "
          f"slowest {max(seconds):.2f} s, of {len(seconds)}")  # fmt: skip


if __name__ == "__main__":
    main()
