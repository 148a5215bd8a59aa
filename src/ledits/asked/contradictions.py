"""Edits that can't both be: one of them would win, and the other's scale would move nothing."""

from collections.abc import Sequence
from itertools import combinations

from ledits.asked.recipe import Edit
from ledits.asked.regions import Mask
from ledits.errors import LeditsError


def check(edits: Sequence[Edit], masks: Sequence[Mask | None]) -> None:
    """Raise ValueError for two edits that contradict each other in one place and one step; `masks` are their regions.

    An edit of scale 0 guides nothing, and so contradicts nothing.
    """
    heard = [(edit, mask) for edit, mask in zip(edits, masks, strict=True) if edit.scale != 0]
    for (one, here), (other, there) in combinations(heard, 2):
        if (why := _why(one, other)) and _together(one, other) and _meet(here, there):
            raise LeditsError(
                f"edits '{one.name}' and '{other.name}' contradict each other, as {why}",
                "leave one of them out, or give each a region of its own", given=(str(one), str(other)),
            )  # fmt: skip


def _why(one: Edit, other: Edit) -> str:
    old, new = (one.old.casefold(), other.old.casefold()), (one.new.casefold(), other.new.casefold())
    if old[0] and old[0] == old[1] and new[0] != new[1]:
        return f"both change {one.old!r}"
    for a, b in ((one, other), (other, one)):
        if a.kind == "add" and b.kind == "remove" and a.new.casefold() == b.old.casefold():
            return f"one adds {a.new!r} and the other removes it"
    return ""


def _together(one: Edit, other: Edit) -> bool:
    """Whether there is a step in which both act."""
    ends = [edit.cooldown for edit in (one, other) if edit.cooldown is not None]
    return not ends or max(one.warmup or 0, other.warmup or 0) < min(ends)


def _meet(here: Mask | None, there: Mask | None) -> bool:
    return here is None or there is None or bool(((here > 0) & (there > 0)).any())
