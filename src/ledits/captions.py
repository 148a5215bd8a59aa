"""What a caption says, where it is as plain as "a cat and a dog on a beach": things, and the place that they are in.

Only such captions are read. Of any other, such as "a cat on a sofa in front of a window", no thing can be taken to
stand by itself, and nothing here says anything of it.
"""

import re
from collections import Counter
from typing import NamedTuple

# Words that put one thing beside another one, and the things with their place.
_BESIDE = r" (?:to the (?:left|right) of|next to|beside) "
_PLACE = r"(?:on|in|at|under) (?:(an?|the) )?(.+)"
_CAPTION = re.compile(rf"(?:(.+?) )?{_PLACE}", re.IGNORECASE)
_EMPTY = re.compile(r"(?:an )?empty (.+)", re.IGNORECASE)
# What makes a caption more than a list: a second place, an attribute that is something itself, a style.
_MORE = re.compile(r",|\b(?:on|in|at|under|over|by|near|behind|against|inside|with|holding|of|and)\b", re.IGNORECASE)


class Listed(NamedTuple):
    """A plain caption's things, "a cat" and "a dog", and the place without them, "an empty beach"."""

    things: Counter[str]
    empty: str


def listed(caption: str) -> Listed | None:
    """What a caption lists; None where it is no plain list of things in a place."""
    if (empty := _EMPTY.fullmatch(caption)) and not _MORE.search(empty[1]):
        return Listed(Counter(), caption)
    if (found := _CAPTION.fullmatch(caption)) is None or _MORE.search(found[3]):
        return None
    things = re.split(rf",? and |, |{_BESIDE}", found[1]) if found[1] else []
    return None if any(map(_MORE.search, things)) else Listed(Counter(things), _empty(found[2], found[3]))


def emptied(text: str) -> str:
    """What is left of a caption without its things, as a caption: "on a beach" is "an empty beach"."""
    place = re.fullmatch(rf"(|.+ of ){_PLACE}", text, re.IGNORECASE)
    return place[1] + _empty(place[2], place[3]) if place else text


def beside(new: str, caption: str) -> str | None:
    """`caption` with "a star to the left of a dog" where it has "a dog"; None where that is not in it."""
    thing = neighbour(new)
    there = re.search(rf"\b{re.escape(thing)}\b", caption) if thing else None
    return caption[: there.start()] + new + caption[there.end() :] if there else None


def neighbour(new: str) -> str:
    """What `new` is put beside, in its own words: "a dog" of "a star to the left of a dog"; "" where it is nothing."""
    parts = re.split(_BESIDE, new)
    return parts[1] if len(parts) == 2 else ""


def _empty(article: str | None, name: str) -> str:
    return f"empty {name}" if article == "the" else f"an empty {name}"
