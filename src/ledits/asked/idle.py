"""Edits that change nothing, and why: said before anybody looks for a difference that is not there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ledits.asked.recipe import Edit
from ledits.asked.regions import Mask

Why = Literal["same_words", "no_strength", "contradicts", "outside", "no_region"]

_SAID: dict[Why, str] = {
    "same_words": "both of its words are the same",
    "no_strength": "its scale is 0",
    "contradicts": "'{other}' wants the same thing to change differently, and only one of them can win",
    "outside": "what it is about lies outside its region: choose another region, or leave it out",
    "no_region": "no place for it was found: give it a region, or name the thing as it is seen in the picture",
}


@dataclass(frozen=True)
class Idle:
    """Why an edit changes nothing; with "contradicts", one of the two may still show."""

    why: Why
    other: str = ""  # the edit that it contradicts

    def __str__(self) -> str:
        return _SAID[self.why].format(other=self.other)


def of(edits: Sequence[Edit], regions: Sequence[Mask | None], used: Sequence[NDArray[np.float32]]) -> list[Idle | None]:
    """The reason for each edit, None for one that did something; `used` is where each acted, its mean over steps."""
    return [
        _by_words(edit) or _contradicted(k, edits, regions) or _nowhere(edit, regions[k], used[k])
        for k, edit in enumerate(edits)
    ]


def _by_words(edit: Edit) -> Idle | None:
    if edit.kind == "swap" and _thing(edit.old) == _thing(edit.new):
        return Idle("same_words")
    return Idle("no_strength") if edit.scale == 0 else None


def _contradicted(k: int, edits: Sequence[Edit], regions: Sequence[Mask | None]) -> Idle | None:
    """The other edit that takes the same thing away, or adds what this one removes."""
    for other, edit in enumerate(edits):
        same = bool(edits[k].old) and _thing(edits[k].old) == _thing(edit.old)
        undone = {edits[k].kind, edit.kind} == {"add", "remove"} and (
            _thing(edits[k].old or edits[k].new) == _thing(edit.old or edit.new)
        )
        if other != k and (same or undone) and _meet(regions[k], regions[other]):
            return Idle("contradicts", str(edit))
    return None


def _nowhere(edit: Edit, region: Mask | None, used: NDArray[np.float32]) -> Idle | None:
    if used.max(initial=0) > 0.5 / 255:
        return None
    return Idle("no_region" if region is None else "outside")


def _meet(one: Mask | None, other: Mask | None) -> bool:
    return one is None or other is None or bool(np.minimum(one, other).any())


def _thing(words: str) -> str:
    article, _, rest = words.strip().lower().partition(" ")
    return rest if article in ("a", "an", "the") and rest else words.strip().lower()
