"""What a network is told of a captioned edit: captions, and whether a thing goes. Text or prompts, without torch."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

CAPTIONS = ("target", "early", "late", "away", "clear", "own", "bare")


class Told(NamedTuple):
    """The captions of one edit: texts, or what they are embedded as; one for all pictures, or a tuple with one each.

    Where an entry does not apply to an edit it is the caption of the picture itself, the inversion's base prompt.
    """

    target: Hashable  # after the edit alone: where it and the caption predict different things is the edit's region
    early: Hashable  # what the first third of the edit's steps moves towards; away from the picture's own caption
    late: Hashable  # what the later steps move towards ...
    away: Hashable  # ... and away from
    clear: Hashable  # the region keeps clear of where this and the picture's caption predict different things
    own: Hashable  # of the thing that the edit changes and nothing else: it shares out regions
    bare: Hashable  # without what the edit puts another thing in the place of, which may have its place elsewhere
    goes: Hashable = False  # whether a thing goes, and what was behind it is drawn anew
    wide: Hashable = False  # whether the region takes its edge along, one cell on each side: the light of what goes
    thing: Hashable = False  # whether the caption lists what changes as a thing, so that it is no background
    ground: Hashable = False  # whether the caption calls what changes a background
    comes: Hashable = False  # whether a thing comes, where nothing was that could show how large it will be
    stays: tuple[Hashable, ...] = ()  # each of a thing beside it that no edit changes, and nothing else
    parts: "tuple[Told, ...]" = ()  # in its place where a region is found: one of each thing that it changes

    @classmethod
    def of(cls, target: Hashable, base: Hashable) -> "Told":
        """What is told of an edit of which nothing is known but the caption after it."""
        return cls(target, target, target, base, base, base, base)


def for_pictures(each: Sequence[Sequence[Told]], base: Sequence[Hashable]) -> list[Told]:
    """What is told of each edit of many pictures at once, of what is told of each picture's edits.

    `base` are the pictures' own captions: of a thing more than a picture has they say nothing.
    """
    result = list[Told]()
    for edit in zip(*each, strict=True):
        parts = [told.parts or (told,) for told in edit]
        count = max(map(len, parts))
        padded = [[*found, *[Told.of(own, own)] * (count - len(found))] for found, own in zip(parts, base, strict=True)]
        whole = _together([told._replace(parts=()) for told in edit], base)
        result.append(
            whole._replace(parts=tuple(for_pictures(padded, base))) if any(told.parts for told in edit) else whole
        )
    return result


def _together(edit: Sequence[Told], base: Sequence[Hashable]) -> Told:
    """One edit of many pictures."""
    most = max(len(told.stays) for told in edit)
    stays = [[*told.stays, *[own] * (most - len(told.stays))] for told, own in zip(edit, base, strict=True)]
    fields = [tuple(each) for each in zip(*(told[:-2] for told in edit), strict=True)]
    return Told(*fields, stays=tuple(zip(*stays, strict=True)))
