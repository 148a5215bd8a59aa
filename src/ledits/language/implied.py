"""The caption that edits by words imply: "cat->dog, fox->owl" says that there are a cat and a fox.

A model that keeps edits by words in place, as with a caption, finds their regions by it. Which words name a place, and
which something that is worn, a model of a small world says itself.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from ledits.asked.recipe import Edit
from ledits.files.checkpoints import World
from ledits.language import words


class Implied(NamedTuple):
    """The caption before any edit, and after each of them alone."""

    source: str
    targets: list[str]


def implied(edits: Sequence[Edit], world: World | None) -> Implied:
    """What edits by words say of the picture; "" where that is nothing."""
    return Implied(_caption(edits, (), world), [_caption(edits, {k}, world) for k in range(len(edits))])


def _caption(edits: Sequence[Edit], done: Collection[int], world: World | None) -> str:
    """What is there after the edits of these numbers: what went is there no more, and what came is."""
    things, worn, place = list[str](), list[str](), ""
    old, move = [_named(edit.old) for edit in edits], _move(edits, world)
    for k, edit in enumerate(edits):
        # What something is put beside is there, if no edit says more of it.
        there = old[k] or words.join(words.related(words.split(edit.new)))
        if world and k == move:
            stays, after = _in_a_place(edit.new, world)
            things += [stays] if len(edits) == 1 else []
            place = after if k in done else world.place(edit.old)
        elif old[k] or there not in old or k in done:
            (worn if world and _is_worn(edit, world) else things).append(_named(edit.new) if k in done else there)
    things, worn = list(filter(None, things)), [name.removeprefix("wearing ") for name in worn if name]
    parts = [_listed(things), f"wearing {_listed(worn)}" if worn else "", place]
    return " ".join(filter(None, parts))


def _move(edits: Sequence[Edit], world: World | None) -> int | None:
    """The number of the one edit that puts everything in another place."""
    found = [k for k, edit in enumerate(edits) if world and edit.kind == "swap" and world.place(edit.old)]
    return found[0] if world and len(found) == 1 and _in_a_place(edits[found[0]].new, world)[1] else None


def _in_a_place(new: str, world: World) -> tuple[str, str]:
    """What new words say is in a place, and the place: "a cat", "in the snow"; nothing where they name none."""
    given = words.split(new)
    for i, word in enumerate(given):
        tail = words.join(given[i:])
        if word.key in words.PREPOSITIONS and world.place(words.join(given[i + 1 :])) == tail:
            return words.join(given[:i]), tail
    return "", world.place(new)


def _is_worn(edit: Edit, world: World) -> bool:
    """Whether an edit is of something worn: "a top hat" that becomes "a crown" is no crown by itself."""
    named = [words.split(part) for part in (edit.old, edit.new) if part]
    # "A cat wearing a hat" is no hat.
    alone = all(len(words.head(each)) == len(each) and not words.related(each) for each in named)
    return alone and all(world.is_worn(words.join(each)) for each in named)


def _named(said: str) -> str:
    """Words as a caption has them: "a cat", "an owl", "sunglasses"; "in the snow" stays as it is."""
    given = words.split(said)
    if (
        not given
        or given[0].key == "wearing"
        or given[0].key in words.PREPOSITIONS
        or words.is_determiner(given[0].key)
    ):
        return said
    return said if words.is_plural(given) else f"{words.article(given[0].text)} {said}"


def _listed(names: Sequence[str]) -> str:
    """A list in words: "a cat, a dog and a fox"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
