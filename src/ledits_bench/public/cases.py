"""One case of a public benchmark, the same for every suite, and how two prompts become edits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ledits.asked.recipe import Edit

Wording = Literal["words", "prompt", "described", "none"]

# Words that say nothing about what a picture shows: they are cut off both ends of a difference between prompts.
_SMALL = frozenset((
    "a", "an", "the", "and", "or", "of", "to", "in", "on", "at", "by", "with", "from", "for", "as", "is", "are",
    "was", "be", "being", "has", "have", "had", "its", "it", "that", "this", "there", "their", "his", "her", "which",
    "while", "some",
))  # fmt: skip
_PUNCTUATION = ",.;:!?\"'()"


@dataclass(frozen=True)
class Case:
    """A picture and what is asked of it; None leaves a setting to the run, and `problem` says why nothing can be."""

    id: str  # unique in its suite
    picture: Path | bytes = b""  # a file, or the bytes of one
    source: str = ""  # what the picture shows, where the suite says so
    target: str = ""  # what it should show
    group: str = ""  # the suite's own kind of edit
    mask: tuple[int, ...] | None = None  # start and length of runs of pixels that may change, row by row
    scale: float | None = None
    threshold: float | None = None
    steps: int | None = None
    skip: float | None = None
    seed: int | None = None
    problem: str = ""


def edits(case: Case, wording: Wording) -> tuple[Edit, ...]:
    """What is asked for: the words that differ between the prompts, the whole target prompt, what the picture that the
    source prompt describes becomes, or nothing at all.

    Nothing at all gives the model's reconstruction, the ceiling of every score of preservation.
    """
    if wording == "none":
        return ()
    if wording == "described":
        if not case.source:
            raise ValueError("this case has no source prompt that describes its picture")
        return (Edit("become", new=case.target, scale=case.scale, threshold=case.threshold),)
    found = differences(case.source, case.target) if wording == "words" and case.source else ()
    # Where only small words differ, as in "a bird on" and "a bird in", the whole prompt is all there is to say.
    found = found or (Edit("add", new=case.target),)
    return tuple(replace(edit, scale=case.scale, threshold=case.threshold) for edit in found)


def differences(source: str, target: str) -> tuple[Edit, ...]:
    """The edits that lead from one prompt to another, each once: "a cat sits" to "a dog sits" is cat->dog."""
    old, new = source.split(), target.split()
    matcher = SequenceMatcher(None, [_plain(word) for word in old], [_plain(word) for word in new], autojunk=False)
    found: dict[str, Edit] = {}
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag == "equal":
            continue
        gone, come = _content(old[i:j]), _content(new[k:m])
        if gone == come:
            continue
        kind = "swap" if gone and come else "add" if come else "remove"
        edit = Edit(kind, old=gone, new=come)
        found.setdefault(edit.name.lower(), edit)
    return tuple(found.values())


def decode_mask(runs: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """(H W): True where a picture may change. PIE-Bench's runs: start and length in turn, row by row (its evaluate.py).

    A run that goes past the end is cut there, as the published decoder does; one that begins there belongs to a
    picture of another size, and is refused.
    """
    size = height * width
    if len(runs) % 2:
        raise ValueError(f"its mask has {len(runs)} numbers; it needs a start and a length for every run")
    mask = np.zeros(size, dtype=bool)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        if start < 0 or length < 0 or (start >= size and length > 0):
            raise ValueError(f"its mask has a run of {length} from {start}, and the picture has {size} pixels")
        mask[start : start + length] = True
    return mask.reshape(height, width)


def _plain(word: str) -> str:
    return word.strip(_PUNCTUATION).lower()


def _content(words: Sequence[str]) -> str:
    kept = [word.strip(_PUNCTUATION) for word in words]
    kept = [word for word in kept if word]
    while kept and kept[0].lower() in _SMALL:
        kept = kept[1:]
    while kept and kept[-1].lower() in _SMALL:
        kept = kept[:-1]
    return " ".join(kept)
