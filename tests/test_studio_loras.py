"""The studio offers the LoRAs that its model was loaded with: in a real browser, over a backbone without a network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledits.backbones.lora import Adapters, Loaded
from ledits.editor import Editor
from serving import Instant, Served, served
from test_studio import DESK, RESULT, browser, pytestmark, studio, until  # noqa: F401

LOADED = (Loaded("detail", "lora_0", 0.5, "0" * 64), Loaded("style", "lora_1", 1.0, "1" * 64))


class Adapted(Instant):
    """With two LoRAs; what is chosen among them is checked as for a real model, and remembered."""

    loras = LOADED

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[str, float]] = []

    def choosing(self, loras: str) -> "Adapted":
        self.asked.append(Adapters(LOADED, _Nothing, ()).choice(loras))
        return self


class _Nothing:
    @staticmethod
    def modules() -> tuple[()]:
        return ()


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[tuple[Any, Served, Adapted]]:  # noqa: F811
    backbone = Adapted()
    with served(tmp_path, editors={"adapted": Editor(backbone)}, page=studio.page) as server:
        tab = browser.new_context(**DESK).new_page()
        tab.set_default_timeout(30_000)
        tab.goto(server.address)
        tab.click("[aria-label='Sample: a cat on a meadow']")
        tab.wait_for_selector("#link:enabled")
        yield tab, server, backbone
        tab.context.close()


def test_loras_are_offered_by_name_and_chosen_by_weight(page: tuple[Any, Served, Adapted]) -> None:
    tab, _, backbone = page
    tab.click("#advanced summary")
    assert tab.eval_on_selector_all("[data-lora]", "fields => fields.map((field) => field.placeholder)") == ["0.5", "1"]
    assert backbone.asked == []

    def fill(name: str, weight: str, asked: str) -> None:
        """Set a weight, and wait until the newest inversion is the one that this asks for; what was shown may stay."""
        before = len(backbone.asked)
        tab.fill(f"[data-lora={name}]", weight)
        tab.press(f"[data-lora={name}]", "Tab")
        tab.click("text='cat → dog'") if not before else None
        newest = "fetch('/v1/inversions').then((answer) => answer.json()).then((all) => all.inversions[0].use_lora)"
        until(tab, f"{newest}.then((said) => said === '{asked}')")
        tab.wait_for_selector(RESULT, state="attached")
        tab.wait_for_selector("#link:enabled")

    fill("detail", "0.8", "detail:0.8, style:1")
    assert backbone.asked[-1] == {"lora_0": 0.8, "lora_1": 1.0}
    fill("style", "0", "detail:0.8")
    # Both out: none at all.
    fill("detail", "0", "none")
    # Undone, the fields say it again.
    tab.click("#undo")
    assert tab.input_value("[data-lora=detail]") == "0.8"
    # Both empty: as they were loaded.
    tab.fill("[data-lora=style]", "")
    tab.fill("[data-lora=detail]", "")
    assert tab.input_value("[data-lora=detail]") == ""
